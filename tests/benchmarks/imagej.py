"""The benchmark in front of a real ImageJ: how fast pixels reach their Java array, and what a long hyperstack costs."""

from __future__ import annotations

import importlib.util
import time
from typing import TYPE_CHECKING

from benchmarks.streaming import times_to_arrive
from scopecast import Publisher
from scopecast.benchmarks.figures import LARGE, Memcpy, Row, name_of, source_frames, spread
from scopecast.benchmarks.processes import Viewer
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.errors import ScreenError, ViewerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Bench

__all__ = ["measure"]

_FIGURE = "ImageJ window"
_LATENCY_RATE = 50.0  # frames per second
_FEWEST_PER_S = 300.0
_SIDE = 256  # pixels of a plane of the long hyperstack
_SHORT = 10
_REPORT_S = 0.7
_REPORTED = 300  # updates that a viewer's report covers, and some


def measure(bench: Bench) -> Iterator[Row]:
    """Measure a real ImageJ, or say why there is none."""
    if importlib.util.find_spec("jpype") is None:
        yield _skipped("ImageJ's extra is not installed")
        return
    try:
        with ensure_screen():
            yield _latency(bench)
            yield _sustained(bench)
            yield _long(bench)
    except (ScreenError, ViewerStartError, TimeoutError) as error:
        yield _skipped(str(error).splitlines()[0])


def _skipped(why: str) -> Row:
    return Row(figure=_FIGURE, frame=name_of(LARGE), mode="", note=f"not measured: {why}")


def _latency(bench: Bench) -> Row:
    """Measure from the call of publish() to the pixels in the Java array that ImageJ shows."""
    bench.say("ImageJ, latency")
    memcpy = Memcpy(LARGE)
    base = memcpy.measure(bench.effort.latency, _LATENCY_RATE)
    with (
        Viewer(bench.directory, "fiji", program="benchmarks.fiji_timing") as viewer,
        Publisher("fiji", linger=5.0) as publisher,
    ):
        publisher.open((LARGE, LARGE), "uint16", wait=10.0)
        viewer.wait_until_attached(publisher)
        timing = times_to_arrive(publisher, viewer, memcpy, bench.effort.latency, _LATENCY_RATE)
    return Row(
        figure=_FIGURE,
        frame=name_of(LARGE),
        mode=f"{_LATENCY_RATE:g}/s, publish() to the Java array",
        p50_ms=timing.p50,
        p99_ms=timing.p99,
        memcpy_p50_ms=base.p50,
        memcpy_p99_ms=base.p99,
        ratio=timing.p50 / base.p50,
        target="p50 ≤ 4 memcpy + 0.5 ms, p99 ≤ 10 p50",
        met=timing.p50 <= 4 * base.p50 + 0.5 and timing.p99 <= 10 * timing.p50,
    )


def _sustained(bench: Bench) -> Row:
    """Stream into a live window of one plane as fast as every frame can be taken."""
    bench.say("ImageJ, sustained")
    frames = source_frames(LARGE)
    count = bench.effort.large
    with Viewer(bench.directory, "fiji") as viewer, Publisher("fiji", policy="every", linger=5.0) as publisher:
        publisher.open((LARGE, LARGE), "uint16", wait=10.0)
        viewer.wait_until_attached(publisher)
        for i in range(32):
            publisher.publish(frames[i % len(frames)])
        publisher.flush(30.0)
        durations = []
        begin = time.perf_counter_ns()
        for i in range(count):
            start = time.perf_counter_ns()
            publisher.publish(frames[i % len(frames)])
            durations.append(time.perf_counter_ns() - start)
        publisher.flush(60.0)
        rate = count / (time.perf_counter_ns() - begin) * 1e9
        stats = publisher.stats()
    cost = spread(durations)
    lost = stats.frames.published - stats.frames.delivered
    return Row(
        figure=_FIGURE,
        frame=name_of(LARGE),
        mode="sustained, policy every",
        p50_ms=cost.p50,
        p99_ms=cost.p99,
        per_s=rate,
        target=f"≥ {_FEWEST_PER_S:g}/s, nothing lost",
        met=rate >= _FEWEST_PER_S and lost == 0,
        note=f"{lost} frames lost" if lost else "",
    )


def _long(bench: Bench) -> Row:
    """Compare what the window's thread does for a new frame in a long hyperstack and in one of 10 planes."""
    bench.say("ImageJ, a long hyperstack")
    drains = []
    with Viewer(bench.directory, "fiji") as viewer:
        for planes in (_SHORT, bench.effort.planes):
            with Publisher("fiji", policy="every", linger=5.0) as publisher:
                frame = source_frames(LARGE)[0][:_SIDE, :_SIDE]
                publisher.open(frame.shape, "uint16", wait=10.0)
                viewer.wait_until_attached(publisher)
                for t in range(planes):
                    publisher.publish(frame, axes={"t": t})
                publisher.flush(30.0)
                for t in range(planes, planes + min(_REPORTED, bench.effort.loop)):  # all that a report is about
                    publisher.publish(frame, axes={"t": t})
                    time.sleep(1 / 60)
                publisher.flush(30.0)
                time.sleep(_REPORT_S)
                drains.append(next(row for row in publisher.stats().receivers if row.token == viewer.token).drain_ms)
    short, long = drains
    return Row(
        figure=_FIGURE,
        frame=name_of(_SIDE),
        mode=f"our work on the window's thread, {bench.effort.planes} planes",
        p50_ms=long[0],
        p99_ms=long[1],
        ratio=long[0] / max(short[0], 1e-3),
        target=f"p50 ≤ 2 times that of {_SHORT} planes",
        met=long[0] <= 2 * short[0] + 1.0,
        note=f"{_SHORT} planes: {short[0]:.2f} ms",
    )
