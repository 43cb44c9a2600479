"""Programs that run beside the benchmark, and what they have in common.

``python -m scopecast.benchmarks.programs SIDE RATE`` copies frames in memory of its own until its standard input
closes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from scopecast.benchmarks.figures import Memcpy
from scopecast.benchmarks.processes import Program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["copying_elsewhere", "end_with_parent", "leave_in_peace", "report"]


def report(what: Any) -> None:
    """Write a line of JSON for the process that started this one."""
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def leave_in_peace() -> None:
    """Do not be disturbed by the parent any more: the work is done, and the process ends by itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def end_with_parent() -> None:
    """Exit in good order on SIGTERM, and when the standard input closes."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: a second one would disturb the clearing up
        raise SystemExit(1)

    signal.signal(signal.SIGTERM, leave)
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while os.read(0, 4096):
            pass
        if sys.platform != "win32":  # where the benchmark does not even begin
            signal.pthread_kill(main, signal.SIGTERM)  # to the main thread: it may be waiting in a system call

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def copying_elsewhere(side: int, rate: float | None) -> Iterator[None]:
    """Have another process copy frames at a rate: what a viewer costs the memory, and nothing else of it.

    Parameters
    ----------
    side
        Pixels along each side of a frame.
    rate
        Frames per second; None for one after the other.
    """
    with Program("scopecast.benchmarks.programs", str(side), str(rate or 0.0)) as program:
        program.report()
        yield


def _main(side: int, rate: float) -> None:
    end_with_parent()
    memcpy = Memcpy(side)
    report("ready")
    begin, copied = time.monotonic(), 0
    while True:
        if rate:
            time.sleep(max(0.0, begin + copied / rate - time.monotonic()))
        memcpy.copy(copied)
        copied += 1


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]))
