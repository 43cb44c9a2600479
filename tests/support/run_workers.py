"""The workers of a pipeline, as processes of their own: each publishes what it has to do with one run."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["WELLS", "frame", "worker", "workers"]

WELLS = ("A01", "A02", "A03", "B01", "B02", "B03")
SHAPE = (64, 64)


def frame(well: str, t: int) -> np.ndarray:
    """Return a frame whose value tells where it belongs, 1000 to 44000, and the place of its brighter mark."""
    row = WELLS.index(well)
    plane = np.full(SHAPE, 1000 + 8000 * row + 3000 * t, "uint16")
    plane[8 * row : 8 * row + 8, 8 * t : 8 * t + 8] = 65535
    return plane


class worker:  # noqa: N801 - used as a function
    """A worker that publishes two time points of a well; it stays until `end`.

    Attributes
    ----------
    process : subprocess.Popen
    """

    def __init__(self, kind: str, well: str, run: str = "plate 7") -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, kind, well, run],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent,
        )

    def done(self) -> None:
        """Wait until its frames are in the viewer."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "delivered 2 of 2\n"

    def end(self) -> None:
        """Let it close its publisher and exit."""
        self.process.communicate(timeout=60)


@contextlib.contextmanager
def workers(kind: str, wells: Sequence[str] = WELLS, run: str = "plate 7") -> Iterator[list[worker]]:
    """Run a worker for each well, all at once; they end with the context."""
    made = [worker(kind, well, run) for well in wells]
    try:
        yield made
    finally:
        for each in made:
            each.end()


def main(kind: str, well: str, run: str) -> None:
    """Publish a well, tell of it, and stay until standard input ends."""
    from scopecast import Publisher

    with Publisher(kind, run=run, policy="every", title=f"worker {well}", budget=2**20) as publisher:
        publisher.open(SHAPE, "uint16", wait=60)
        for t in range(2):
            publisher.publish(frame(well, t), axes={"well": well, "t": t}, metadata={"worker": well})
        publisher.flush(60)
        counts = publisher.stats().frames
        print(f"delivered {counts.delivered} of {counts.published}", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
