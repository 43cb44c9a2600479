"""How many frames per second arrive when nothing may be lost, with other libraries too; and how old frames are."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import msgspec

from benchmarks.peers import PEERS, frames_per_second
from scopecast.benchmarks.figures import LARGE, Memcpy, Row, Timing, median, name_of, spread
from scopecast.benchmarks.processes import Viewer
from scopecast.benchmarks.publish import PACE
from scopecast.benchmarks.sustained import sustained
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Bench

__all__ = ["measure", "times_to_arrive"]

#: How the other libraries are called in the table, and how many times as fast streaming large frames is to be.
_TITLES = {
    "pyzmq": ("pyzmq PUSH/PULL, copy=False", 3.0),
    "imagezmq": ("imagezmq REQ/REP", 4.0),
    "polystore": ("polystore 0.6.3 save_batch", 100.0),
    "polystore-unslept": ("polystore 0.6.3 without its sleep", 12.0),
}
#: Frames per second at which latencies are measured: that of all paced figures, and a camera's with a longer exposure.
#: The caches, and a virtual machine's idle processors, are colder then.
_RATES = (PACE, 50.0)


def measure(bench: Bench) -> Iterator[Row]:
    """Measure sustained streaming, the other libraries, and the latency."""
    for side in bench.effort.sides:
        memcpy = Memcpy(side)
        yield from _sustained(bench, memcpy)
        for rate in _RATES:
            yield _latency(bench, memcpy, side, rate)


def _sustained(bench: Bench, memcpy: Memcpy) -> Iterator[Row]:
    """Stream with scopecast and the others in turns, so that the machine's ups and downs strike all of them."""
    side = memcpy.side
    rates: dict[str, list[float]] = {peer: [] for peer in PEERS}
    failed: dict[str, str] = {}

    def let_the_others(count: int) -> None:
        for peer in (name for name in PEERS if name not in failed):
            bench.say(f"sustained streaming, {name_of(side)}, {_TITLES[peer][0]}")
            frames = bench.effort.slow if peer.startswith("polystore") else count
            try:
                rates[peer].append(frames_per_second(peer, side, frames))
            except (RuntimeError, TimeoutError) as error:
                failed[peer] = f"not measured: {error}"

    row, rounds = sustained(bench, memcpy, let_the_others)
    yield row
    for peer in PEERS:
        row = Row(figure="sustained", frame=name_of(side), mode=_TITLES[peer][0], note=failed.get(peer, ""))
        if not row.note:
            row.per_s = statistics.median(rates[peer])
            row.ratio = statistics.median(own.per_s / rate for own, rate in zip(rounds, rates[peer], strict=True))
            if side == LARGE:
                factor = _TITLES[peer][1]
                row.target, row.met = f"scopecast ≥ {factor:g} times as fast", row.ratio >= factor
        yield row


def _latency(bench: Bench, memcpy: Memcpy, side: int, rate: float) -> Row:
    """Measure from the call of publish() to the pixels in the viewer's stack, by the clock that processes share."""
    bench.say(f"latency, {name_of(side)}, {rate:g}/s")
    timings: list[Timing] = []
    plain: list[Timing] = []
    for _ in range(bench.effort.rounds):
        plain.append(memcpy.measure(bench.effort.latency, rate))
        with (
            Viewer(bench.directory, program="benchmarks.timing") as viewer,
            Publisher("headless", linger=5.0) as publisher,
        ):
            publisher.open((side, side), "uint16", wait=10.0)
            viewer.wait_until_attached(publisher)
            timings.append(times_to_arrive(publisher, viewer, memcpy, bench.effort.latency, rate))
    timing, base = median(timings), median(plain)
    limit = 3 * base.p50 + 0.2
    return Row(
        figure="latency",
        frame=name_of(side),
        mode=f"{rate:g}/s, publish() to the viewer's array",
        p50_ms=timing.p50,
        p99_ms=timing.p99,
        memcpy_p50_ms=base.p50,
        memcpy_p99_ms=base.p99,
        ratio=timing.p50 / base.p50,
        target="p50 ≤ 3 memcpy + 0.2 ms",
        met=timing.p50 <= limit,
    )


def times_to_arrive(publisher: Publisher, viewer: Viewer, memcpy: Memcpy, count: int, rate: float) -> Timing:
    """Publish frames one by one to a timing viewer; return how long they took, by the clock that processes share.

    Parameters
    ----------
    publisher, viewer
        Attached to each other; the viewer runs ``timing``, and is ended.
    memcpy
        Has the frames.
    count
        How many frames.
    rate
        Frames per second.
    """
    sent: dict[int, int] = {}
    begin = time.monotonic_ns()
    for i in range(count):
        time.sleep(max(0.0, (begin - time.monotonic_ns()) / 1e9 + i / rate))
        now = time.monotonic_ns()
        sent[publisher.publish(memcpy.frames[i % len(memcpy.frames)])] = now
    publisher.flush(10.0)
    viewer.process.terminate()
    output = viewer.process.communicate(timeout=10.0)[0]
    arrived = msgspec.json.decode(output, type=list[tuple[int, int]])
    return spread([time_ns - sent[number] for number, time_ns in arrived])
