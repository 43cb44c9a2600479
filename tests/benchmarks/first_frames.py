"""What publish() does not show: frames that a camera writes in place, and the first ones of a camera."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from scopecast.benchmarks.figures import Memcpy, Row, median, name_of, timed
from scopecast.benchmarks.processes import Viewer
from scopecast.benchmarks.publish import fill
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Bench

__all__ = ["measure"]

_RESERVE_LIMIT = 0.060
#: Frames per second at which a camera begins, and milliseconds of it that a viewer may miss.
_BEGINNING, _BEGINNING_LIMIT = (50.0, 100.0), 50.0


def measure(bench: Bench) -> Iterator[Row]:
    """Measure `reserve`, and how soon a stream is shown that was not announced."""
    for side in bench.effort.sides:
        memcpy = Memcpy(side)
        bench.say(f"reserve() and commit, {name_of(side)}")
        yield _reserve(bench, memcpy, side)
        for rate in _BEGINNING:
            bench.say(f"the first frames, {name_of(side)}, {rate:g}/s")
            yield _beginning(bench, memcpy, side, rate)


def _beginning(bench: Bench, memcpy: Memcpy, side: int, rate: float) -> Row:
    """How much of a camera's first frames a viewer that runs does not get: those that come before there is a slot."""
    lost, first = [], []
    with Viewer(bench.directory):
        for _ in range(bench.effort.rounds):
            with Publisher("headless", policy="latest", linger=5.0) as publisher:
                began = time.perf_counter()
                for i in range(int(20 * rate)):
                    time.sleep(max(0.0, began + i / rate - time.perf_counter()))
                    publisher.publish(memcpy.frames[i % len(memcpy.frames)], axes={"t": i})
                    frames = publisher.stats().frames
                    if frames.delivered:
                        break
                lost.append(frames.superseded + frames.skipped + frames.dropped)
                first.append(1000.0 * (time.perf_counter() - began))
    missed = statistics.median(lost)
    row = Row(figure="first frames", frame=name_of(side), mode=f"{rate:g}/s, not shown at the start, viewer healthy")
    row.p50_ms = 1000.0 * missed / rate
    row.target, row.met = f"p50 ≤ {_BEGINNING_LIMIT:.0f} ms of frames", row.p50_ms <= _BEGINNING_LIMIT
    row.note = f"{missed:g} frames; the first one is delivered after {statistics.median(first):.0f} ms"
    return row


def _reserve(bench: Bench, memcpy: Memcpy, side: int) -> Row:
    """Measure a reservation that is committed as it is: what remains of `publish` without the copy."""
    ours, plain = [], []
    with Publisher("headless", policy="latest", linger=5.0) as publisher:
        publisher.open((side, side), "uint16", wait=10.0)

        def reserve(i: int) -> None:
            publisher.reserve((side, side), "uint16").commit()

        with Viewer(bench.directory) as viewer:
            viewer.wait_until_attached(publisher)
            for _ in range(bench.effort.rounds):
                plain.append(memcpy.measure(bench.effort.loop))
                ours.append(timed(reserve, bench.effort.loop))
                publisher.flush(10.0)
    row = Row(figure="reserve() + commit", frame=name_of(side), mode="loop, viewer healthy")
    fill(row, median(ours), median(plain))
    row.target = f"p50 ≤ {_RESERVE_LIMIT * 1000:.0f} µs"
    row.met = row.p50_ms is not None and row.p50_ms <= _RESERVE_LIMIT
    return row
