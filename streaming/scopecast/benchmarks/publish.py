"""What publish() costs its caller, whatever becomes of the viewer."""

from __future__ import annotations

import threading
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Literal

from scopecast.benchmarks.copier import copying_elsewhere
from scopecast.benchmarks.figures import LARGE, Memcpy, Row, busy_thread, median, name_of, timed
from scopecast.benchmarks.processes import Viewer
from scopecast.memory.copying import fence
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.benchmarks.figures import Bench, Timing

__all__ = ["PACE", "fill", "measure"]

Mode = Literal["absent", "healthy", "stopped", "killed", "busy"]
MODES: tuple[Mode, ...] = ("absent", "healthy", "stopped", "killed", "busy")
#: Frames per second of the paced figures; other programs have the caches to themselves in between.
PACE = 200.0
#: Times the memcpy that a large frame may cost; and any, while the producer's own Python is busy, of a memcpy under the
#: same load.
_LARGE_FACTOR, _BUSY_FACTOR = 1.25, 1.3
#: Milliseconds that a small frame may cost beyond the memcpy: in a loop, and at a pace, where the caches are cold.
_LOOP_EXTRA, _PACED_EXTRA = 0.060, 0.200
_TAIL_EXTRA = 1.0
#: Copies and frames take turns in smaller portions than rounds, so that the machine's ups and downs strike both.
_PORTIONS = 3


def measure(bench: Bench) -> Iterator[Row]:
    """Measure `publish` with viewers of every state."""
    for side in bench.effort.sides:
        memcpy = Memcpy(side)
        for rate in (None, PACE):
            with _Viewers(bench) as viewers:
                for mode in MODES:
                    bench.say(f"publish(), {name_of(side)}, {_pace(rate)}, viewer {mode}")
                    yield _publish(bench, memcpy, rate, mode, viewers)
    yield _fence(bench)


class _Viewers(ExitStack):
    """The viewer that runs, and those that were killed before it."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self._directory = bench.directory
        self._newest: Viewer | None = None

    def living(self) -> Viewer:
        """Return the viewer that runs; start one if there is none."""
        if self._newest is None or self._newest.process.poll() is not None:
            self._newest = self.enter_context(Viewer(self._directory))
        return self._newest


def _fence(bench: Bench) -> Row:
    """Measure what keeps the processor from mixing up a slot's generation and its pixels; a frame has three of them."""

    def thousand(_: int) -> None:
        for _ in range(1000):
            fence()

    timing = median(timed(thousand, 20) for _ in range(bench.effort.rounds))
    row = Row(figure="publish()", frame="", mode="1,000 memory fences", p50_ms=timing.p50, p99_ms=timing.p99)
    row.target, row.met = "p50 ≤ 1 ms", timing.p50 <= 1.0
    return row


def _pace(rate: float | None) -> str:
    return f"{rate:g}/s" if rate else "loop"


def _publish(bench: Bench, memcpy: Memcpy, rate: float | None, mode: Mode, viewers: _Viewers) -> Row:
    effort, side = bench.effort, memcpy.side
    portions = min(_PORTIONS, effort.rounds)
    count = max(1, (effort.paced if rate else effort.loop) // portions)
    ours, plain, beside = [], [], []
    with Publisher("headless", policy="latest", linger=5.0) as publisher:
        publisher.open((side, side), "uint16", wait=10.0)
        for _ in range(effort.rounds * portions):
            viewer = None if mode == "absent" else viewers.living()
            with busy_thread() if mode == "busy" else nullcontext():
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
    if mode == "busy":
        row.target, row.met = f"p50 ≤ {_BUSY_FACTOR} memcpy", timing.p50 <= _BUSY_FACTOR * base.p50
    else:
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
