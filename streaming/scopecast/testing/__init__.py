"""What every backend must do, as tests to inherit; and a viewer without a window to see what one sends.

For whoever writes a backend, ours included. Needs pytest, which ``import scopecast`` does not::

    from scopecast.testing import StreamingBackendContract

    class TestMyBackend(StreamingBackendContract):
        backend_type = MyBackend
"""

from scopecast.testing.observer import Observer, Seen
from scopecast.testing.storage import StorageBackendContract
from scopecast.testing.streaming import StreamingBackendContract

__all__ = ["Observer", "Seen", "StorageBackendContract", "StreamingBackendContract"]
