"""The display: all that a new viewer implements. Attaching, validation, stacks and accounts belong to the receiver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from scopecast.link.messages import KEPT_STREAMS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.stacks.plane import Plane

__all__ = ["Display"]


class Display(ABC):
    """Shows the streams of a receiver.

    `run` is called on the main thread; every other method is called from the receiver's thread and must return at once.
    """

    #: The kind of frames that it is sent, and the name of its entry point.
    kind: ClassVar[str]
    #: How many runs of a publisher, and how many publishers that have gone, are kept with their frames.
    kept_streams: ClassVar[int] = KEPT_STREAMS
    kept_sources: ClassVar[int] = 8

    @abstractmethod
    def run(self, receiver: Receiver) -> None:
        """Open the window, call ``receiver.start()``, and show ``receiver.streams`` until the window is closed."""

    @abstractmethod
    def quit(self) -> None:
        """Make `run` return soon; called from any thread or a signal handler."""

    @abstractmethod
    def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> Plane:
        """Copy a frame out of shared memory; only called from the receiver's thread.

        Parameters
        ----------
        view
            The slot, read-only; (y, x) or (y, x, 3 or 4).
        magnitude
            Whether the pixels are complex and their magnitude is to be taken.

        Returns
        -------
        Plane
            A plane of the display's own, which the stack keeps: a numpy array, or anything that can become one.
        """

    def take_labels(self, view: npt.NDArray[Any]) -> Plane:
        """Copy a frame of labels out of shared memory, see `take`; by default as any other frame.

        Parameters
        ----------
        view
            The slot, read-only; (y, x), integers.
        """
        return self.take(view, magnitude=False)

    def shows(self, dtype: np.dtype[Any], kind: str) -> bool:
        """Whether frames of this dtype and kind can be shown; the others are acknowledged as skipped.

        Parameters
        ----------
        dtype
            Of the pixels; uint8 for documents.
        kind
            ``"image"``, ``"labels"``, or one of `scopecast.frames.documents.DOCUMENTS`. What a display accepts, it
            finds in its streams: labels among the ``stacks``, which say so (`Stack.sent`); documents in
            ``annotations``.
        """
        return kind == "image"

    def changed(self) -> None:  # noqa: B027 - a display that looks by itself need not be told
        """Something is new in the receiver's streams. Called after every burst of frames."""

    def report(self, stream_source: str) -> dict[str, float]:
        """Return fields of the PONG that the display knows.

        They are ``drain_p50_ms``, ``drain_p99_ms``, ``paint_p50_ms`` and ``layer_ms``.
        """
        return {}

    def capture(self, path: str, done: Any) -> None:
        """Save a picture of the window as PNG, then call ``done("")``, or ``done(reason)`` if that failed."""
        done(f"a {self.kind} viewer has no window")
