"""An ImageJ that notes when each frame's pixels were in its Java array, for the benchmark.

``python -m scopecast_viewers.fiji.timing fiji --token …`` writes what `scopecast_viewers.timing` writes.
"""

from __future__ import annotations

from scopecast_viewers.fiji.display import FijiDisplay
from scopecast_viewers.timing import Arrivals, measure

__all__ = ["TimedFiji"]


class TimedFiji(FijiDisplay):
    """Shows what it is sent, and keeps when that came."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Arrivals()

    def changed(self) -> None:
        """Note the frame that came last, then show it."""
        self.arrivals.note(self._receiver)
        super().changed()


if __name__ == "__main__":
    timed = TimedFiji()
    measure(timed, timed.arrivals)
