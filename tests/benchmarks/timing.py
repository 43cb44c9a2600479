"""A viewer that notes when each frame had arrived, for the benchmark.

``python -m benchmarks.timing headless --token …`` writes, when it is ended, a line of JSON: for each frame its
sequence number, and the time (CLOCK_MONOTONIC, nanoseconds) at which its pixels were in the viewer's array.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from scopecast_viewers.__main__ import when_told_to_end
from scopecast_viewers.headless import HeadlessDisplay
from scopecast_viewers.receiver import SWITCH_INTERVAL_S, Receiver

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast_viewers.display import Display
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["Arrivals", "TimedDisplay", "measure"]


class Arrivals:
    """When each frame arrived at a receiver; meant for one publisher whose frames come one by one.

    Attributes
    ----------
    times : list of (int, int)
        The sequence number and the time, in nanoseconds, of each.
    """

    def __init__(self) -> None:
        self.times: list[tuple[int, int]] = []
        self._seen: Tag | None = None
        self._copied_at = 0

    def copied(self) -> None:
        """Hear that the pixels of a frame have just been copied."""
        self._copied_at = time.monotonic_ns()

    def note(self, receiver: Receiver | None) -> None:
        """Note the frame that came last, if it is new."""
        streams = receiver.streams if receiver is not None else ()
        newest = streams[-1].newest if streams else None
        if newest is not None and newest[2] is not self._seen:
            self._seen = newest[2]
            self.times.append((newest[2].sequence, self._copied_at))


class TimedDisplay(HeadlessDisplay):
    """Keeps what it is sent, and when that was."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals = Arrivals()
        self._receiver: Receiver | None = None

    def run(self, receiver: Receiver) -> None:
        """Receive until `quit` is called."""
        self._receiver = receiver
        super().run(receiver)

    def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> npt.NDArray[Any]:
        """Copy a frame, and note when that was done."""
        plane = super().take(view, magnitude=magnitude)
        self.arrivals.copied()
        return plane

    def changed(self) -> None:
        """Note the frame that came last."""
        self.arrivals.note(self._receiver)


def measure(display: Display, arrivals: Arrivals) -> None:
    """Receive until SIGTERM, under the token of the command line, then write the times."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    token = sys.argv[sys.argv.index("--token") + 1]
    with Receiver(display, token=token, title="timing") as receiver:
        when_told_to_end(display.quit)
        display.run(receiver)
    sys.stdout.write(json.dumps(arrivals.times) + "\n")


if __name__ == "__main__":
    timed = TimedDisplay()
    measure(timed, timed.arrivals)
