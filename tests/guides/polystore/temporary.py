from scopecast import StorageBackend
import tempfile
import shutil

class TemporaryBackend(StorageBackend):
    """Backend with automatic cleanup."""

    _backend_type = 'temporary'

    def __init__(self):
        self.temp_dir = None

    def __enter__(self):
        self.temp_dir = tempfile.mkdtemp()
        return self

    def __exit__(self, exc_type, exc_val, exc_tb):
        if self.temp_dir:
            shutil.rmtree(self.temp_dir)

    # Implement required methods...
