"""Contracts of backends and viewers, as tests to inherit; and an observer of what a backend sends.

For authors of backends and viewers. Needs pytest, which ``import scopecast`` does not::

    from scopecast.testing import StreamingBackendContract

    class TestMyBackend(StreamingBackendContract):
        backend_type = MyBackend
"""

from scopecast.testing.display_contract import DisplayContract, OpenViewer
from scopecast.testing.observer import Observer, Seen
from scopecast.testing.storage_contract import StorageBackendContract
from scopecast.testing.streaming_contract import StreamingBackendContract

__all__ = ["DisplayContract", "Observer", "OpenViewer", "Seen", "StorageBackendContract", "StreamingBackendContract"]
