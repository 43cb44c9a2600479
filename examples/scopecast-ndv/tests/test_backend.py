"""scopecast's contract of a streaming backend."""

from scopecast_ndv import NdvStreamingBackend

from scopecast.testing import StreamingBackendContract


class TestNdv(StreamingBackendContract):
    """The backend of this package."""

    backend_type = NdvStreamingBackend
