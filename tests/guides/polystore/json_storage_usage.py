from scopecast import BackendRegistry, FileManager

# Backend is auto-registered
registry = BackendRegistry()
fm = FileManager(registry)

# Use the custom backend
data = {"key": "value", "count": 42}
fm.save(data, "config.json", backend="json_storage")

loaded = fm.load("config.json", backend="json_storage")
print(loaded)  # {'key': 'value', 'count': 42}
