from scopecast import StorageBackend
from functools import lru_cache

class CachedBackend(StorageBackend):
    """Backend with LRU cache."""

    _backend_type = 'cached'

    def __init__(self, wrapped_backend, cache_size=128):
        self.backend = wrapped_backend
        self._cached_load = lru_cache(maxsize=cache_size)(
            self._do_load
        )

    def _do_load(self, file_path):
        """Actual load operation."""
        return self.backend.load(file_path)

    def load(self, file_path, **kwargs):
        """Load with caching."""
        return self._cached_load(file_path)

    def save(self, data, file_path, **kwargs):
        """Save (invalidates cache)."""
        self.backend.save(data, file_path, **kwargs)
        # Clear cache entry if it exists
        try:
            self._cached_load.cache_clear()
        except AttributeError:
            pass

    # Delegate other methods to wrapped backend...
