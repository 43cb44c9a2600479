"""An ImageJ that notes when each frame's pixels were in its Java array, for the benchmark.

``python -m benchmarks.fiji_timing fiji --token …`` writes what `benchmarks.timing` writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.timing import Arrivals, measure
from scopecast_viewers.fiji.display import FijiDisplay

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast_viewers.stacks.plane import Plane

__all__ = ["TimedFiji"]


class TimedFiji(FijiDisplay):
    """Shows what it is sent, and keeps when that came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Arrivals()

    def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> Plane:
        """Copy a frame into its Java array, and note when that was done."""
        plane = super().take(view, magnitude=magnitude)
        self.arrivals.copied()
        return plane

    def changed(self) -> None:
        """Note the frame that came last, then show it."""
        self.arrivals.note(self._receiver)
        super().changed()


if __name__ == "__main__":
    timed = TimedFiji()
    measure(timed, timed.arrivals)
