"""The errors of scopecast, by cause: what you passed, what you closed, what a peer did, what the machine lacks."""

__all__ = [
    "ClosedError",
    "DemoError",
    "FileError",
    "ForkedError",
    "FrameGoneError",
    "IncompleteFileError",
    "ProtocolError",
    "RuntimeDirectoryError",
    "ScopecastError",
    "ScreenError",
    "SharedMemoryError",
    "TransportError",
    "UnreadableFileError",
    "UnsupportedDtypeError",
    "ViewerLagging",
    "ViewerStartError",
    "ViewerUnavailable",
]


class ScopecastError(Exception):
    """Base of all errors that scopecast itself raises."""


class UnsupportedDtypeError(ScopecastError, TypeError):
    """You passed an array whose dtype no viewer can show."""


class ClosedError(ScopecastError, RuntimeError):
    """You used a publisher, a backend or a reservation after it was closed."""


class ForkedError(ClosedError):
    """You used a publisher in a process that was forked from the one that opened it."""


class FrameGoneError(ScopecastError, RuntimeError):
    """You looked at a frame after the next one was asked for, or after it was taken away."""


class FileError(ScopecastError, ValueError):
    """A file can't be shown; the text says why, without the path."""


class IncompleteFileError(FileError):
    """A file ends before its contents do: it is being written, or was cut short."""


class UnreadableFileError(FileError):
    """The system refuses a file at the moment: permissions, too many open files, a missing drive. Try again later."""


class ViewerLagging(ScopecastError, TimeoutError):  # noqa: N818 - reads as the event that it is, like StopIteration
    """A viewer took longer than the timeout to free a slot, under the policy that loses nothing (``every``)."""


class ViewerStartError(ScopecastError, RuntimeError):
    """A viewer could not be started: the first line says why, the following ones are the last of its log."""


class ViewerUnavailable(ViewerStartError):  # noqa: N818 - reads as the state that it is
    """A viewer can't be started here at all: it is not installed, or there is no screen. Nothing was tried."""


class SharedMemoryError(ScopecastError, OSError):
    """The shared memory that a ring needs is not available, or a segment is not what it should be."""


class TransportError(ScopecastError, RuntimeError):
    """The publisher and its receivers can't reach each other safely, or not by the transport that you named."""


class ProtocolError(ScopecastError, ValueError):
    """A peer sent something that the protocol does not allow."""


class RuntimeDirectoryError(ScopecastError, OSError):
    """The run directory is not safe to use: a link, another user's, or open to others."""


class ScreenError(ScopecastError, RuntimeError):
    """There is no screen, and a virtual one could not be started."""


class DemoError(ScopecastError, ValueError):
    """The demo can't be run as it was asked for; the text says what to change."""
