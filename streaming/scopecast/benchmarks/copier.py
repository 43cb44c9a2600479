"""A process that copies frames beside a measurement: what a viewer costs the memory, and nothing else of it.

``python -m scopecast.benchmarks.copier SIDE RATE`` does so until its standard input closes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scopecast.benchmarks.figures import Memcpy
from scopecast.benchmarks.processes import Process

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["copying_elsewhere"]


@contextmanager
def copying_elsewhere(side: int, rate: float | None) -> Iterator[None]:
    """Have another process copy frames at a rate.

    Parameters
    ----------
    side
        Pixels along each side of a frame.
    rate
        Frames per second; None for one after the other.
    """
    arguments = ("scopecast.benchmarks.copier", str(side), str(rate or 0.0))
    with Process(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as copier:
        assert copier.process.stdout is not None
        if not copier.process.stdout.readline():
            msg = f"python -m {' '.join(arguments)} ended at once"
            raise RuntimeError(msg)
        yield


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _main(side: int, rate: float) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    memcpy = Memcpy(side)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    begin, copied = time.monotonic(), 0
    while True:
        if rate:
            time.sleep(max(0.0, begin + copied / rate - time.monotonic()))
        memcpy.copy(copied)
        copied += 1


if __name__ == "__main__":
    _main(int(sys.argv[1]), float(sys.argv[2]))
