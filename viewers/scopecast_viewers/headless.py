"""A viewer without a window: receives and keeps every frame, for tests, benchmarks and machines without a screen."""

from __future__ import annotations

from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar

from scopecast.frames.annotations import KINDS
from scopecast_viewers.display import Display
from scopecast_viewers.stacks.pool import PlanePool

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from scopecast_viewers.receiver import Receiver

__all__ = ["HeadlessDisplay"]


class HeadlessDisplay(Display):
    """Keeps what it is sent, and shows nothing."""

    kind: ClassVar[str] = "headless"

    def __init__(self) -> None:
        self.pool = PlanePool()
        # Unlike an Event, a SimpleQueue can be put to by a signal's handler in the middle of a get.
        self._end: SimpleQueue[None] = SimpleQueue()

    def run(self, receiver: Receiver) -> None:
        """Receive until `quit` is called."""
        receiver.start()
        # Windows handles Ctrl-C between two waits only.
        while True:
            with suppress(Empty):
                self._end.get(timeout=1.0)
                break
        self.pool.close()

    def quit(self) -> None:
        """Make `run` return."""
        self._end.put(None)

    def shows(self, dtype: np.dtype[Any], kind: str) -> bool:
        """Whether it is of a kind that is known."""
        return kind in KINDS

    def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> npt.NDArray[Any]:
        """Copy a frame into a pooled plane."""
        return self.pool.take(view, magnitude=magnitude)
