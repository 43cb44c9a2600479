"""How many frames per second arrive when nothing may be lost, here and with other libraries; and how old they are."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from scopecast.benchmarks.figures import LARGE, SMALL, Memcpy, Row, Timing, median, name_of, spread
from scopecast.benchmarks.peers import PEERS, frames_per_second
from scopecast.benchmarks.processes import Viewer
from scopecast.benchmarks.programs import copying_elsewhere
from scopecast.benchmarks.publish import PACE
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.benchmarks.figures import Bench

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
    for side in (LARGE, SMALL):
        memcpy = Memcpy(side)
        yield from _sustained(bench, memcpy, side)
        for rate in _RATES:
            yield _latency(bench, memcpy, side, rate)


def _sustained(bench: Bench, memcpy: Memcpy, side: int) -> Iterator[Row]:
    """Stream with scopecast and the others in turns, so that the machine's ups and downs strike all of them."""
    count = bench.effort.large if side == LARGE else bench.effort.small
    rounds: list[_Round] = []
    rates: dict[str, list[float]] = {peer: [] for peer in PEERS}
    failed: dict[str, str] = {}
    with Viewer(bench.directory) as viewer, Publisher("headless", policy="every", linger=5.0) as publisher:
        publisher.open((side, side), "uint16", wait=10.0)
        viewer.wait_until_attached(publisher)
        for i in range(8):  # the viewer's planes of this size are prepared, the stream is known
            publisher.publish(memcpy.frames[i % len(memcpy.frames)])
        publisher.flush(30.0)
        for _ in range(bench.effort.rounds):
            bench.say(f"sustained streaming, {name_of(side)}")
            rounds.append(_stream(publisher, memcpy, count))
            for peer in (name for name in PEERS if name not in failed):
                bench.say(f"sustained streaming, {name_of(side)}, {_TITLES[peer][0]}")
                frames = bench.effort.slow if peer.startswith("polystore") else count
                try:
                    rates[peer].append(frames_per_second(peer, side, frames))
                except (RuntimeError, TimeoutError) as error:
                    failed[peer] = f"not measured: {error}"  # not installed, as it is no dependency of ours
    yield _ours(bench, memcpy, side, rounds, count)
    for peer in PEERS:
        row = Row(figure="sustained", frame=name_of(side), mode=_TITLES[peer][0], note=failed.get(peer, ""))
        if not row.note:
            row.per_s = statistics.median(rates[peer])
            row.ratio = statistics.median(own.per_s / rate for own, rate in zip(rounds, rates[peer], strict=True))
            if side == LARGE:
                factor = _TITLES[peer][1]
                row.target, row.met = f"scopecast ≥ {factor:g} times as fast", row.ratio >= factor
        yield row


class _Round(NamedTuple):
    """Frames per second, what publish() took, and how many frames were lost."""

    per_s: float
    cost: Timing
    lost: int


def _stream(publisher: Publisher, memcpy: Memcpy, count: int) -> _Round:
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
    return _Round(count / seconds, spread(durations), lost)


def _ours(bench: Bench, memcpy: Memcpy, side: int, rounds: list[_Round], count: int) -> Row:
    """Return the row of scopecast, beside a plain copy at its rate, while another process copies as much."""
    rate = statistics.median(each.per_s for each in rounds)
    with copying_elsewhere(side, rate):
        base = median([memcpy.measure(count, rate) for _ in rounds])
    cost, lost = median(each.cost for each in rounds), sum(each.lost for each in rounds)
    return Row(
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


def _latency(bench: Bench, memcpy: Memcpy, side: int, rate: float) -> Row:
    """Measure from the call of publish() to the pixels in the viewer's stack, by the clock that processes share."""
    bench.say(f"latency, {name_of(side)}, {rate:g}/s")
    timings: list[Timing] = []
    plain: list[Timing] = []
    for _ in range(bench.effort.rounds):
        plain.append(memcpy.measure(bench.effort.latency, rate))
        with (
            Viewer(bench.directory, program="scopecast_viewers.timing") as viewer,
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
    arrived = msgspec.json.decode(viewer.finish(), type=list[tuple[int, int]])
    return spread([time_ns - sent[number] for number, time_ns in arrived])
