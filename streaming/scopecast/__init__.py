"""scopecast: the live view of microscopes and imaging pipelines, in napari and Fiji.

>>> from scopecast import NapariStreamingBackend
>>> NapariStreamingBackend.VIEWER_TYPE
'napari'
"""

from scopecast.backends.filemanager import FileManager
from scopecast.backends.storage import BackendRegistry, ReadOnlyBackend, StorageBackend
from scopecast.backends.stores import DiskBackend, MemoryBackend
from scopecast.backends.streaming import FijiStreamingBackend, NapariStreamingBackend, StreamingBackend
from scopecast.errors import (
    ClosedError,
    FileError,
    ForkedError,
    FrameGoneError,
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
from scopecast.frames.marks import Mark, Marks
from scopecast.frames.streams import FrameStream
from scopecast.hosts.pymmcore import live
from scopecast.publishing.accounts import FrameCounts, Outcome, Reason, Receipt, ReceiverStats, Skipped, Stats
from scopecast.publishing.listening import Listener
from scopecast.publishing.publisher import Publisher, Reservation
from scopecast.showing.show import show
from scopecast.subscribing.frame import Frame
from scopecast.subscribing.subscription import Subscription, SubscriptionStats, subscribe

__version__ = "0.1.0"

__all__ = [
    "BackendRegistry",
    "ClosedError",
    "DiskBackend",
    "FijiStreamingBackend",
    "FileError",
    "FileManager",
    "ForkedError",
    "Frame",
    "FrameCounts",
    "FrameGoneError",
    "FrameStream",
    "IncompleteFileError",
    "Listener",
    "Mark",
    "Marks",
    "MemoryBackend",
    "NapariStreamingBackend",
    "Outcome",
    "ProtocolError",
    "Publisher",
    "ReadOnlyBackend",
    "Reason",
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
    "Subscription",
    "SubscriptionStats",
    "UnsupportedDtypeError",
    "ViewerLagging",
    "ViewerStartError",
    "live",
    "show",
    "subscribe",
]
