"""The terms of the benchmark: rows, how long to measure, timing at a pace, and the plain copy to compare with."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from scopecast.memory.ring import MAX_BYTES, plan_layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from scopecast.rundir.directory import RunDirectory

__all__ = [
    "LARGE",
    "SMALL",
    "Bench",
    "Effort",
    "Memcpy",
    "Row",
    "Timing",
    "busy_thread",
    "median",
    "name_of",
    "source_frames",
    "spread",
    "timed",
]

#: Pixels along each side of the frames that are measured; both are uint16.
LARGE, SMALL = 2048, 512
#: Frames that a producer publishes in turn, as a camera fills its buffers in turn.
_SOURCES = 4


class Row(msgspec.Struct, kw_only=True):
    """One figure of the benchmark. Fields that don't apply to a figure are None.

    Attributes
    ----------
    figure, frame, mode
        What was measured, of which frames, and under which circumstances.
    p50_ms, p99_ms
        Median and 99th percentile of the single calls or frames, in milliseconds.
    per_s
        Frames per second.
    memcpy_p50_ms, memcpy_p99_ms
        The same of a plain copy of such a frame, measured beside it.
    ratio
        `p50_ms` (or the time per frame) over `memcpy_p50_ms`; for another library, our frames per second over its.
    mib
        A size or its growth, in MiB.
    target
        What is asked for, or ``""``.
    met
        Whether that was reached; None without a target, or where nothing could be measured.
    note
        What else is to be said of it, such as why there is no figure.
    """

    figure: str
    frame: str
    mode: str
    p50_ms: float | None = None
    p99_ms: float | None = None
    per_s: float | None = None
    memcpy_p50_ms: float | None = None
    memcpy_p99_ms: float | None = None
    ratio: float | None = None
    mib: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure.

    Attributes
    ----------
    rounds
        Rounds of each figure; the median over them is shown.
    starts
        Interpreters that are started with and without scopecast.
    loop, paced
        Frames in a round of `publish` in a loop, and at a pace.
    large, small
        Large and small frames in a round of sustained streaming.
    growth
        Frames of the round in which memory is watched.
    sides
        Pixels along each side of the frames that are measured.
    """

    rounds: int
    starts: int
    loop: int
    paced: int
    large: int
    small: int
    growth: int
    sides: tuple[int, ...] = (LARGE, SMALL)


@dataclass(frozen=True)
class Bench:
    """What every part of the benchmark is given.

    Attributes
    ----------
    effort
        How long to measure.
    directory
        The benchmark's private run directory.
    say
        Tells the user what is being measured.
    """

    effort: Effort
    directory: RunDirectory
    say: Callable[[str], object]


class Timing(NamedTuple):
    """Median and 99th percentile, in milliseconds."""

    p50: float
    p99: float


def spread(nanoseconds: Sequence[float] | npt.NDArray[Any]) -> Timing:
    """Return the median and the 99th percentile of durations in nanoseconds."""
    p50, p99 = np.percentile(nanoseconds, (50, 99)) / 1e6
    return Timing(float(p50), float(p99))


def median(rounds: Iterable[Timing]) -> Timing:
    """Return the median over rounds, of each figure by itself."""
    p50s, p99s = zip(*rounds, strict=True)
    return Timing(statistics.median(p50s), statistics.median(p99s))


def timed(action: Callable[[int], object], count: int, rate: float | None = None) -> Timing:
    """Time `action(i)` for each i below `count`.

    Parameters
    ----------
    action
        What to time.
    count
        How often.
    rate
        Calls per second; None for one after the other.
    """
    durations = np.zeros(count)
    begin = time.perf_counter_ns()
    for i in range(count):
        if rate is not None:
            time.sleep(max(0.0, (begin - time.perf_counter_ns()) / 1e9 + i / rate))
        before = time.perf_counter_ns()
        action(i)
        durations[i] = time.perf_counter_ns() - before
    return spread(durations)


def name_of(side: int) -> str:
    """Return how frames of this size are called in the table."""
    return f"{side}x{side}"


def source_frames(side: int) -> list[npt.NDArray[np.uint16]]:
    """Return what the producer publishes in turn: frames (y, x) of noise, as a camera's are."""
    random = np.random.default_rng(side)
    return [random.integers(90, 4000, (side, side), np.uint16) for _ in range(_SOURCES)]


class Memcpy:
    """A plain copy of the same frames, through a buffer with the footprint of the ring, touched beforehand.

    Parameters
    ----------
    side
        Pixels along each side of a frame.
    """

    def __init__(self, side: int) -> None:
        self.side = side
        layout = plan_layout(2 * side * side, MAX_BYTES)
        assert layout is not None
        self.frames = source_frames(side)
        self.slots = np.empty((layout.slots, side, side), np.uint16)
        self.slots[:] = 1

    def copy(self, i: int) -> None:
        """Copy the i-th frame into the i-th slot, both counted round."""
        np.copyto(self.slots[i % len(self.slots)], self.frames[i % len(self.frames)])

    def measure(self, count: int, rate: float | None = None) -> Timing:
        """Time `count` copies, as `timed` does."""
        return timed(self.copy, count, rate)


@contextmanager
def busy_thread() -> Iterator[None]:
    """Have another Python thread of this process compute all the time."""
    stop = threading.Event()

    def compute() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(10_000):
                number = (number * 31 + 7) % 65_537

    thread = threading.Thread(target=compute, name="busy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
