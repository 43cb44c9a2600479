"""What publish() costs its caller, whatever becomes of the viewer; and reserve(), which copies nothing."""

from __future__ import annotations

import statistics
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal

from scopecast.benchmarks.figures import LARGE, SMALL, Memcpy, Row, busy_thread, median, name_of, timed
from scopecast.benchmarks.processes import Viewer
from scopecast.benchmarks.programs import copying_elsewhere
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.benchmarks.figures import Bench, Timing

__all__ = ["measure"]

Mode = Literal["absent", "healthy", "stopped", "killed", "busy"]
MODES: tuple[Mode, ...] = ("absent", "healthy", "stopped", "killed", "busy")
#: Frames per second of the paced figures; other programs have the caches to themselves in between.
PACE = 200.0
#: Times the memcpy that a large frame may cost.
_LARGE_FACTOR = 1.25
#: Milliseconds that a small frame may cost beyond the memcpy: in a loop, and at a pace, where the caches are cold.
_LOOP_EXTRA, _PACED_EXTRA = 0.060, 0.250
_TAIL_EXTRA = 1.0
_RESERVE_LIMIT = 0.060
#: Frames per second at which a camera begins, and milliseconds of it that a viewer may miss.
_BEGINNING, _BEGINNING_LIMIT = (50.0, 100.0), 50.0
#: Copies and frames take turns in smaller portions than rounds, so that the machine's ups and downs strike both.
_PORTIONS = 3


def measure(bench: Bench) -> Iterator[Row]:
    """Measure `publish` with viewers of every state, and `reserve`."""
    for side in (LARGE, SMALL):
        memcpy = Memcpy(side)
        for rate in (None, PACE):
            for mode in MODES:
                bench.say(f"publish(), {name_of(side)}, {_pace(rate)}, viewer {mode}")
                yield _publish(bench, memcpy, side, rate, mode)
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


def _pace(rate: float | None) -> str:
    return f"{rate:g}/s" if rate else "loop"


def _publish(bench: Bench, memcpy: Memcpy, side: int, rate: float | None, mode: Mode) -> Row:
    effort = bench.effort
    portions = min(_PORTIONS, effort.rounds)
    count = (effort.paced if rate else effort.loop) // portions
    ours, plain, beside = [], [], []
    with Publisher("headless", policy="latest", linger=5.0) as publisher, ExitStack() as viewers:
        publisher.open((side, side), "uint16", wait=10.0)
        viewer = None if mode == "absent" else viewers.enter_context(Viewer(bench.directory))
        for _ in range(effort.rounds * portions):
            if mode == "killed" and viewer is not None and viewer.process.poll() is not None:
                viewer = viewers.enter_context(Viewer(bench.directory))
            with ExitStack() as stack:
                if mode == "busy":
                    stack.enter_context(busy_thread())
                plain.append(memcpy.measure(count, rate))
                if viewer is not None:
                    viewer.wait_until_attached(publisher)
                ours.append(_round(publisher, memcpy, viewer, mode, count, rate))
            publisher.flush(10.0)
            if mode == "healthy":
                # How fast plain copies are while another process copies as much, as the viewer does.
                with copying_elsewhere(side, rate):
                    beside.append(memcpy.measure(count, rate))
    timing, base = median(ours), median(plain)
    row = Row(figure="publish()", frame=name_of(side), mode=f"{_pace(rate)}, viewer {mode}")
    if mode == "busy":
        row.mode = f"{_pace(rate)}, producer's Python busy"
    if beside and rate is None:
        # As fast as they can, both processes copy all the time, and share the memory's bandwidth.
        alone, base = base, median(beside)
        row.note = (
            f"memcpy beside another process that copies as much; alone it takes {alone.p50:.3f} / {alone.p99:.3f} ms"
        )
    elif beside:
        contended = median(beside)
        row.note = f"a memcpy beside another process that copies as much: {contended.p50:.3f} / {contended.p99:.3f} ms"
    fill(row, timing, base)
    if mode != "busy":
        if side == LARGE:
            limit, text = _LARGE_FACTOR * base.p50, f"p50 ≤ {_LARGE_FACTOR} memcpy"
        else:
            extra = _PACED_EXTRA if rate else _LOOP_EXTRA
            limit, text = base.p50 + extra, f"p50 ≤ memcpy + {extra * 1000:.0f} µs"
        row.target = f"{text}; p99 ≤ memcpy's + {_TAIL_EXTRA:g} ms"
        row.met = timing.p50 <= limit and timing.p99 <= base.p99 + _TAIL_EXTRA
    return row


def _round(
    publisher: Publisher, memcpy: Memcpy, viewer: Viewer | None, mode: Mode, count: int, rate: float | None
) -> Timing:
    if viewer is not None and mode == "stopped":
        viewer.suspend()
    killer: threading.Thread | None = None
    now = threading.Event()

    def publish(i: int) -> None:
        if i == count // 3:
            now.set()
        publisher.publish(memcpy.frames[i % len(memcpy.frames)])

    if viewer is not None and mode == "killed":
        # From another thread, as the call is the kernel's work and none of publish()'s.
        killer = threading.Thread(target=_kill, args=(viewer, now))
        killer.start()
    try:
        return timed(publish, count, rate)
    finally:
        if killer is not None:
            killer.join()
        if viewer is not None and mode == "stopped":
            viewer.resume()


def _kill(viewer: Viewer, now: threading.Event) -> None:
    if now.wait(60.0):
        viewer.kill()


def fill(row: Row, timing: Timing, base: Timing) -> None:
    """Enter a timing, and that of the memcpy beside it."""
    row.p50_ms, row.p99_ms = timing
    row.memcpy_p50_ms, row.memcpy_p99_ms = base
    row.ratio = timing.p50 / base.p50


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
