with TemporaryBackend() as backend:
    registry = {'temp': backend}
    fm = FileManager(registry)
    fm.save(data, "temp_file.npy", backend="temp")
# Files automatically cleaned up on exit
