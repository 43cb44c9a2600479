import my_package  # Imports and registers backend
from scopecast import BackendRegistry, FileManager

registry = BackendRegistry()
assert 'mybackend' in registry  # Auto-registered!
