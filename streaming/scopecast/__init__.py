"""scopecast: the live view of microscopes and imaging pipelines, in napari and Fiji.

>>> from scopecast import NapariStreamingBackend
>>> NapariStreamingBackend.VIEWER_TYPE
'napari'
"""

from scopecast.accounting import FrameCounts, Receipt, ReceiverStats, Skipped, Stats
from scopecast.backend import FijiStreamingBackend, NapariStreamingBackend, StreamingBackend
from scopecast.errors import (
    ClosedError,
    FileError,
    ForkedError,
    IncompleteFileError,
    ProtocolError,
    RuntimeDirectoryError,
    ScopecastError,
    ScreenError,
    SharedMemoryError,
    UnsupportedDtypeError,
    ViewerLagging,
    ViewerStartError,
)
from scopecast.filemanager import FileManager
from scopecast.live_core import live
from scopecast.publisher import Publisher, Reservation
from scopecast.storage import BackendRegistry, ReadOnlyBackend, StorageBackend
from scopecast.stores import DiskBackend, MemoryBackend
from scopecast.streams import FrameStream
from scopecast.viewing import show

__version__ = "0.1.0"

__all__ = [
    "BackendRegistry",
    "ClosedError",
    "DiskBackend",
    "FijiStreamingBackend",
    "FileError",
    "FileManager",
    "ForkedError",
    "FrameCounts",
    "FrameStream",
    "IncompleteFileError",
    "MemoryBackend",
    "NapariStreamingBackend",
    "ProtocolError",
    "Publisher",
    "ReadOnlyBackend",
    "Receipt",
    "ReceiverStats",
    "Reservation",
    "RuntimeDirectoryError",
    "ScopecastError",
    "ScreenError",
    "SharedMemoryError",
    "Skipped",
    "Stats",
    "StorageBackend",
    "StreamingBackend",
    "UnsupportedDtypeError",
    "ViewerLagging",
    "ViewerStartError",
    "live",
    "show",
]
