"""``python -m benchmarks.remote``: what a desk sees of a camera on another machine, over links of several rates.

The camera and `scopecast relay` are on one side of the link, `scopecast connect` on the other, all as users start them;
a viewer without a window measures there. The clocks are the same machine's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from benchmarks import documentation, remote_load
from benchmarks.camera import Published, Stamp
from benchmarks.codecs import camera_frames
from benchmarks.links import ROUND_TRIP_MS, TwoMachines
from scopecast.benchmarks.figures import LARGE, SMALL, Row, name_of
from scopecast.benchmarks.processes import wait_for
from scopecast.cli import bench
from scopecast_viewers.headless import HeadlessDisplay
from scopecast_viewers.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from benchmarks.programs import Program
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["FULL", "QUICK", "Effort", "measure"]

_FIGURE: Final = "another machine"
_EXACT_S: Final = 60.0
_FIRST_S: Final = 60.0


@dataclass(frozen=True)
class Effort:
    """How much to measure.

    Attributes
    ----------
    side
        Pixels along each side of a frame.
    seconds, long_s
        Of the camera at 50/s, and at 200/s over 20 Mbit/s.
    settle_s
        Until the quality fits the link, which is not counted.
    desks
        That watch at a time.
    """

    side: int
    seconds: float
    long_s: float
    settle_s: float
    desks: int
    links: tuple[float, ...]


FULL = Effort(LARGE, 20.0, 600.0, 4.0, 8, (1000.0, 100.0, 20.0, 5.0))
QUICK = Effort(SMALL, 1.0, 0.0, 0.0, 0, (100.0,))


class Goal(NamedTuple):
    """What is asked for at a link of so many Mbit/s; 0: nothing."""

    per_s: float
    age_p50_ms: float
    exact_s: float
    quality: str
    region_s: float = 0.0


GOALS: Final = {
    1000.0: Goal(20, 0, 0, "exact"),
    100.0: Goal(25, 120, 0.6, "full size"),
    20.0: Goal(18, 150, 2.5, "", 0.3),
    5.0: Goal(15, 0, 9.0, "half size or quarter size"),
}
_LONG_P99_MS: Final = 500.0


class Arrival(NamedTuple):
    """When a frame was published, when it was in the viewer's array, and whether that was a preview."""

    at: int
    came: int
    preview: bool


class _Watching(HeadlessDisplay):
    """Notes when each frame came, and when exact pixels took the place of its preview."""

    def __init__(self) -> None:
        super().__init__()
        self.arrivals: list[Arrival] = []
        self.receiver: Receiver | None = None
        self._seen: Tag | None = None

    def changed(self) -> None:
        """Note the newest frame, if it, or its quality, is new."""
        now = time.monotonic_ns()
        found = self.newest()
        if found is not None and found[0] is not self._seen:
            self._seen = found[0]
            stamp = _stamp(found[0])
            self.arrivals.append(Arrival(stamp.at, now, found[0].preview))

    def newest(self) -> tuple[Tag, npt.NDArray[Any]] | None:
        """Return the newest frame with what is known of it."""
        for stream in reversed(self.receiver.streams if self.receiver is not None else ()):
            for stack in stream.stacks:
                index = (0,) * len(stack.axes)
                tag, plane = stack.tag(index), stack.plane(index)
                if tag is not None and plane is not None:
                    return tag, np.asarray(plane)
        return None


def _stamp(tag: Tag) -> Stamp:
    return msgspec.msgpack.decode(tag.metadata, type=Stamp)


class _Seen(NamedTuple):
    """What a desk saw of the camera."""

    published: Published
    per_s: float
    exact: float  # the part of the frames that came exact at once
    ages_ms: npt.NDArray[np.float64]
    qualities: Counter[str]  # by how often they were chosen when the relay was asked
    first_s: float  # from the start of connect
    exact_s: float | None  # from the last frame's publishing
    identical: bool


def measure(bench: Any) -> Iterator[Row]:
    """Measure each link, then what many desks cost."""
    effort: Effort = bench.effort
    with TwoMachines() as machines:
        for mbit in effort.links:
            bench.say(f"a link of {mbit:g} Mbit/s")
            seen = _watch(machines, effort, mbit, 50.0, effort.seconds)
            yield from _rows(machines, effort, mbit, seen)
            bench.say(f"a region, by a link of {mbit:g} Mbit/s")
            yield _region_row(machines, effort, mbit)
        if effort.long_s:
            bench.say("a link of 20 Mbit/s, and 200 frames/s")
            yield _long_row(effort, _watch(machines, effort, 20.0, 200.0, effort.long_s))
        if effort.desks:
            yield from remote_load.measure(bench, machines)


def _watch(machines: TwoMachines, effort: Effort, mbit: float, rate: float, seconds: float) -> _Seen:
    machines.limit(mbit)
    display = _Watching()
    with ExitStack() as stack:
        receiver = stack.enter_context(Receiver(display, title="timing"))
        display.receiver = receiver
        stack.callback(display.pool.close)
        camera: Program = stack.enter_context(
            machines.program_there("benchmarks.camera", str(effort.side), str(rate), str(seconds))
        )
        camera.report()
        began = time.monotonic_ns()
        stack.enter_context(machines.program_here(*remote_load.connect_command(machines.ssh())))
        receiver.start()
        wait_for(lambda: display.arrivals, "the arrival of a frame", _FIRST_S)
        first_at = display.arrivals[0].came
        qualities: Counter[str] = Counter()
        with remote_load.Listing(machines.there) as listing:
            until = time.monotonic() + seconds - 0.5
            while time.monotonic() < until:
                time.sleep(min(0.5, seconds / 4))
                if (time.monotonic_ns() - first_at) / 1e9 >= effort.settle_s:
                    qualities.update(row.quality for row in listing.ask())
        published = msgspec.convert(camera.report(seconds + 60.0), Published)
        try:
            wait_for(lambda: _is_exact(display, published), "the exact pixels of the last frame", _EXACT_S)
        except TimeoutError:
            exact_s, identical = None, False
        else:
            exact_s = (display.arrivals[-1].came - published.last_at) / 1e9
            identical = _is_identical(display, effort.side)
        arrivals = list(display.arrivals)
    remote_load.relay_ends(machines)
    settled = [a for a in _first_of_each(arrivals) if a.came - first_at >= effort.settle_s * 1e9 or not effort.settle_s]
    ages = np.array([(a.came - a.at) / 1e6 for a in settled])
    span = (settled[-1].came - settled[0].came) / 1e9 if len(settled) > 1 else 0.0
    return _Seen(
        published,
        (len(settled) - 1) / span if span else 0.0,
        sum(not a.preview for a in settled) / max(1, len(settled)),
        ages,
        qualities,
        (first_at - began) / 1e9,
        exact_s,
        identical,
    )


def _first_of_each(arrivals: Sequence[Arrival]) -> list[Arrival]:
    seen: dict[int, Arrival] = {}
    for arrival in arrivals:
        seen.setdefault(arrival.at, arrival)
    return list(seen.values())


def _is_exact(display: _Watching, published: Published) -> bool:
    last = display.arrivals[-1]
    return last.at == published.last_at and not last.preview


def _is_identical(display: _Watching, side: int) -> bool:
    found = display.newest()
    return found is not None and np.array_equal(found[1], camera_frames(side)[_stamp(found[0]).source])


def _rows(machines: TwoMachines, effort: Effort, mbit: float, seen: _Seen) -> Iterator[Row]:
    goal = GOALS[mbit]
    link = _name(machines, mbit)
    p50, p99 = (float(value) for value in np.percentile(seen.ages_ms, (50, 99)))
    common = ", ".join(name for name, _ in seen.qualities.most_common(2)) or "not asked"
    per_s = seen.per_s * seen.exact if goal.quality == "exact" else seen.per_s
    asked = [f"≥ {goal.per_s:g}{' exact' if goal.quality == 'exact' else ''} frames/s"]
    asked += [goal.quality] if goal.quality not in ("", "exact") else []
    asked += [f"age p50 ≤ {goal.age_p50_ms:g} ms"] if goal.age_p50_ms else []
    met = per_s >= goal.per_s and (not goal.age_p50_ms or p50 <= goal.age_p50_ms)
    met = met and (goal.quality != "full size" or common.startswith(("exact", "full size")))
    yield Row(
        figure=_FIGURE,
        frame=name_of(effort.side),
        mode=f"{link}: age of a frame in the viewer",
        p50_ms=p50,
        p99_ms=p99,
        per_s=per_s,
        target=", ".join(asked),
        met=met,
        note=f"mostly {common}; {100 * seen.exact:.0f} % exact; round trip {ROUND_TRIP_MS:g} ms; first picture "
        f"{seen.first_s:.1f} s after `scopecast connect` was started, with a relay; publish() "
        f"{seen.published.p50_ms:.2f} / {seen.published.p99_ms:.2f} ms"
        + ("" if machines.real else f"; no link of its own could be made: {machines.why_not}"),
    )
    yield Row(
        figure=_FIGURE,
        frame=name_of(effort.side),
        mode=f"{link}: pause to bit-identical",
        p50_ms=None if seen.exact_s is None else 1000 * seen.exact_s,
        p99_ms=None if seen.exact_s is None else 1000 * seen.exact_s,
        target=f"≤ {goal.exact_s:g} s" if goal.exact_s else "",
        met=(seen.identical and seen.exact_s is not None and seen.exact_s <= goal.exact_s) if goal.exact_s else None,
        note="" if seen.identical else "NOT bit-identical" if seen.exact_s else f"not exact after {_EXACT_S:g} s",
    )


def _region_row(machines: TwoMachines, effort: Effort, mbit: float) -> Row:
    goal, side = GOALS[mbit], effort.side // 4
    took = remote_load.region_seconds(machines, effort, side)
    return Row(
        figure=_FIGURE,
        frame=name_of(effort.side),
        mode=f"{_name(machines, mbit)}: exact pixels of a region of {name_of(side)} of a paused camera",
        p50_ms=1000 * took,
        p99_ms=1000 * took,
        target=f"≤ {goal.region_s:g} s" if goal.region_s else "",
        met=took <= goal.region_s if goal.region_s else None,
        note="asked for by the protocol's VIEW and FETCH",
    )


def _name(machines: TwoMachines, mbit: float) -> str:
    return f"{mbit:g} Mbit/s" + ("" if machines.real else ", throttled by a program")


def _long_row(effort: Effort, seen: _Seen) -> Row:
    p50, p99 = (float(value) for value in np.percentile(seen.ages_ms, (50, 99)))
    tenth = len(seen.ages_ms) // 10
    begin, end = np.median(seen.ages_ms[:tenth]), np.median(seen.ages_ms[-tenth:])
    return Row(
        figure=_FIGURE,
        frame=name_of(effort.side),
        mode=f"20 Mbit/s, camera at 200/s for {effort.long_s:g} s: age of a frame in the viewer",
        p50_ms=p50,
        p99_ms=p99,
        per_s=seen.per_s,
        target=f"≥ 18 frames/s, age p50 ≤ 150 ms, p99 ≤ {_LONG_P99_MS:g} ms",
        met=seen.per_s >= 18 and p50 <= 150 and p99 <= _LONG_P99_MS,
        note=f"median age {begin:.0f} ms in the first tenth and {end:.0f} ms in the last one; oldest "
        f"{max(seen.ages_ms):.0f} ms",
    )


def main(arguments: list[str] | None = None) -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(prog="make bench-remote", description="Measure views on another machine.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing, to see that it runs")
    parser.add_argument("--write-docs", action="store_true", help="write the tables into docs/performance.md")
    parser.add_argument("--long", type=float, metavar="SECONDS", default=FULL.long_s, help="of the long run; 0: none")
    parser.add_argument("--links", type=float, nargs="+", default=FULL.links, help="Mbit/s, of the table's links")
    parser.add_argument("--desks", type=int, default=FULL.desks, help="that watch at a time; 0: do not measure that")
    options = parser.parse_args(arguments)
    if options.quick and options.write_docs:
        parser.error("the figures of a quick run mean little, and are not written into docs/performance.md")
    full = Effort(FULL.side, FULL.seconds, options.long, FULL.settle_s, options.desks, tuple(options.links))
    rows = run(options.json, QUICK if options.quick else full)
    if options.write_docs:
        documentation.write_documentation(documentation.PAGE, rows, "make bench-remote", documentation.REMOTE)


def run(json_path: Path | None, effort: Effort) -> list[Row]:
    """Measure, and show the figures as tables."""
    return bench.run(json_path, effort, [sys.modules[__name__]], documentation.PACKAGES)


if __name__ == "__main__":
    sys.exit(main())
