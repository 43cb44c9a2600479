"""How many frames per second arrive when nothing may be lost."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

from scopecast.benchmarks.copier import copying_elsewhere
from scopecast.benchmarks.figures import LARGE, Memcpy, Row, Timing, median, name_of, spread
from scopecast.benchmarks.processes import Viewer
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopecast.benchmarks.figures import Bench

__all__ = ["Round", "measure", "sustained"]


def measure(bench: Bench) -> Iterator[Row]:
    """Measure sustained streaming."""
    for side in bench.effort.sides:
        yield sustained(bench, Memcpy(side))[0]


class Round(NamedTuple):
    """Frames per second, what publish() took, and how many frames were lost."""

    per_s: float
    cost: Timing
    lost: int


def sustained(
    bench: Bench, memcpy: Memcpy, after_each: Callable[[int], object] = lambda count: None
) -> tuple[Row, list[Round]]:
    """Stream frames of one size to a viewer.

    Parameters
    ----------
    bench
        What every part of the benchmark is given.
    memcpy
        Has the frames.
    after_each
        Called after each round, with its number of frames: what is compared takes turns with it, so that the machine's
        ups and downs strike both.

    Returns
    -------
    row : Row
        The figure, beside a plain copy at its rate, while another process copies as much.
    rounds : list of Round
        What it is the median of.
    """
    side = memcpy.side
    count = bench.effort.large if side == LARGE else bench.effort.small
    rounds: list[Round] = []
    with Viewer(bench.directory) as viewer, Publisher("headless", policy="every", linger=5.0) as publisher:
        publisher.open((side, side), "uint16", wait=10.0)
        viewer.wait_until_attached(publisher)
        for i in range(8):  # the viewer's planes of this size are prepared, the stream is known
            publisher.publish(memcpy.frames[i % len(memcpy.frames)])
        publisher.flush(30.0)
        for _ in range(bench.effort.rounds):
            bench.say(f"sustained streaming, {name_of(side)}")
            rounds.append(_stream(publisher, memcpy, count))
            after_each(count)
    rate = statistics.median(each.per_s for each in rounds)
    with copying_elsewhere(side, rate):
        base = median([memcpy.measure(count, rate) for _ in rounds])
    cost, lost = median(each.cost for each in rounds), sum(each.lost for each in rounds)
    row = Row(
        figure="sustained",
        frame=name_of(side),
        mode="scopecast, policy every",
        p50_ms=cost.p50,
        p99_ms=cost.p99,
        per_s=rate,
        memcpy_p50_ms=base.p50,
        memcpy_p99_ms=base.p99,
        ratio=1000.0 / rate / base.p50,
        target="nothing lost",
        met=lost == 0,
        note=f"{lost} frames lost" if lost else "",
    )
    return row, rounds


def _stream(publisher: Publisher, memcpy: Memcpy, count: int) -> Round:
    """Stream to a viewer that keeps a copy of every frame; the clock stops when it has the last one."""
    before = publisher.stats().frames
    durations = []
    begin = time.perf_counter_ns()
    for i in range(count):
        start = time.perf_counter_ns()
        publisher.publish(memcpy.frames[i % len(memcpy.frames)])
        durations.append(time.perf_counter_ns() - start)
    publisher.flush(60.0)
    seconds = (time.perf_counter_ns() - begin) / 1e9
    lost = count - (publisher.stats().frames.delivered - before.delivered)
    return Round(count / seconds, spread(durations), lost)
