"""ndv as a viewer of scopecast: the side of the frames."""

from scopecast import StreamingBackend

__all__ = ["NdvStreamingBackend"]


class NdvStreamingBackend(StreamingBackend):
    """Streams to ndv. See `scopecast.StreamingBackend`."""

    _backend_type = "ndv_stream"
    VIEWER_TYPE = "ndv"
    SHM_PREFIX = "ndv_"
