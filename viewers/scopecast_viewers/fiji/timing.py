"""An ImageJ that notes when each frame's pixels were in its Java array, for the benchmark.

``python -m scopecast_viewers.fiji.timing fiji --token …`` writes what `scopecast_viewers.timing` writes.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from typing import TYPE_CHECKING

from scopecast_viewers.fiji.display import FijiDisplay
from scopecast_viewers.process import SWITCH_INTERVAL_S, Receiver

if TYPE_CHECKING:
    from scopecast_viewers.live import Tag

__all__ = ["TimedFiji"]


class TimedFiji(FijiDisplay):
    """Shows what it is sent, and keeps when that came; meant for one publisher whose frames come one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[tuple[int, int]] = []
        self._seen: Tag | None = None

    def changed(self) -> None:
        """Note the frame that came last, if it is new."""
        now = time.monotonic_ns()
        streams = self._receiver.streams if self._receiver is not None else ()
        newest = streams[-1].newest if streams else None
        if newest is not None and newest[2] is not self._seen:
            self._seen = newest[2]
            self.arrivals.append((newest[2].sequence, now))
        super().changed()


def main(token: str) -> None:
    """Receive until SIGTERM, then write the times."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    display = TimedFiji()
    with Receiver(display, token=token, title="timing") as receiver:
        signal.signal(signal.SIGTERM, lambda *_: display.quit())
        display.run(receiver)
    sys.stdout.write(json.dumps(display.arrivals) + "\n")


if __name__ == "__main__":
    main(sys.argv[sys.argv.index("--token") + 1])
