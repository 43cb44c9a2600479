# my_package/__init__.py
from scopecast import StorageBackend

class MyBackend(StorageBackend):
    _backend_type = 'mybackend'
    # Implementation...

__all__ = ['MyBackend']
