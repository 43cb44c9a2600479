from scopecast import StorageBackend
import gzip
import pickle

class CompressedBackend(StorageBackend):
    """Backend with automatic compression."""

    _backend_type = 'compressed'

    def save(self, data, file_path, **kwargs):
        """Save with compression."""
        with gzip.open(file_path, 'wb') as f:
            pickle.dump(data, f)

    def load(self, file_path, **kwargs):
        """Load with decompression."""
        with gzip.open(file_path, 'rb') as f:
            return pickle.load(f)

    # Implement other required methods...
