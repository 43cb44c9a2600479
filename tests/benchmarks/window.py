"""200 frames per second into the real napari window, on the machine's screen or a virtual one."""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from typing import TYPE_CHECKING
from unittest import mock

from scopecast.benchmarks.figures import LARGE, Row, name_of, source_frames, spread
from scopecast.benchmarks.processes import Viewer, wait_for
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.errors import ScreenError, ViewerStartError
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Bench
    from scopecast.publishing.accounts import ReceiverStats

__all__ = ["measure"]

_RATE = 200.0
_DRAIN_LIMIT_MS = 50.0
_FIRST_LIMIT_MS = 500.0
_OLDER_P50, _OLDER_P99 = 2.0, 3.0
_FIGURE = "napari window"
#: Seconds between two reports of a viewer, and a little more.
_REPORT_S = 0.7


def measure(bench: Bench) -> Iterator[Row]:
    """Measure a real napari, or say why there is none."""
    bench.say("napari")
    if importlib.util.find_spec("napari") is None:
        yield _skipped("napari is not installed")
        return
    try:
        # The user's settings of napari neither change the figures nor are changed.
        settings = {"NAPARI_CONFIG": str(bench.directory.path / "napari.yaml")}
        with ensure_screen(), mock.patch.dict(os.environ, settings):
            with (
                Viewer(bench.directory, "napari") as viewer,
                Publisher("napari", title="live view", linger=5.0) as publisher,
            ):
                yield from (live := _stream(bench, viewer, publisher, "live view", bench.effort.window_s, grow=False))
                yield from _first(bench, publisher)
            with (
                Viewer(bench.directory, "napari") as viewer,
                Publisher("napari", title="time series", linger=5.0) as publisher,
            ):
                series = _stream(bench, viewer, publisher, "time series", bench.effort.series_s, grow=True)
                _compare(series[-1], live[-1])
                yield from series
    except (ScreenError, ViewerStartError, TimeoutError) as error:
        yield _skipped(str(error).splitlines()[0])


def _skipped(why: str) -> Row:
    return Row(figure=_FIGURE, frame=name_of(LARGE), mode=f"{_RATE:g}/s", note=f"not measured: {why}")


def _row(publisher: Publisher, viewer: Viewer) -> ReceiverStats:
    # The last of its rows: one that was given up, and has attached anew, has an older row too.
    return next(row for row in reversed(publisher.stats().receivers) if row.token == viewer.token)


def _stream(bench: Bench, viewer: Viewer, publisher: Publisher, what: str, seconds: float, *, grow: bool) -> list[Row]:
    bench.say(f"napari, {what}, {_RATE:g} frames/s of {name_of(LARGE)}")
    frames = source_frames(LARGE)
    publisher.open(frames[0].shape, "uint16", wait=15.0)
    viewer.wait_until_attached(publisher)
    count = max(1, round(_RATE * seconds))
    durations = []
    begin = time.perf_counter_ns()
    for i in range(count):
        time.sleep(max(0.0, (begin - time.perf_counter_ns()) / 1e9 + i / _RATE))
        start = time.perf_counter_ns()
        publisher.publish(frames[i % len(frames)], axes={"t": i} if grow else {})
        durations.append(time.perf_counter_ns() - start)
    elapsed = (time.perf_counter_ns() - begin) / 1e9
    flushed = publisher.flush(30.0)
    time.sleep(_REPORT_S)  # the viewer's report of what it has painted by now is on its way
    stats, row = publisher.stats(), _row(publisher, viewer)
    counts = row.frames
    cost = spread(durations)
    mode = f"{what}, {_RATE:g}/s"
    published = Row(
        figure=_FIGURE,
        frame=name_of(LARGE),
        mode=f"{mode}: publish()",
        p50_ms=cost.p50,
        p99_ms=cost.p99,
        per_s=count / elapsed,
        target="every frame accounted for",
        met=row.attached and flushed and stats.balanced and counts.in_flight == 0,
        note=(
            f"{'' if row.attached else 'the viewer left; '}{counts.delivered} delivered, "
            f"{counts.superseded} superseded, {counts.dropped} dropped, {counts.skipped} skipped, "
            f"{row.painted} painted, {row.forgotten} forgotten"
        ),
    )
    drained = Row(
        figure=_FIGURE,
        frame=name_of(LARGE),
        mode=f"{mode}: our work on the Qt thread",
        p50_ms=row.drain_ms[0],
        p99_ms=row.drain_ms[1],
        target=f"p99 ≤ {_DRAIN_LIMIT_MS:g} ms",
        met=0.0 < row.drain_ms[1] <= _DRAIN_LIMIT_MS,
        note=f"napari takes {row.paint_ms:.0f} ms more to paint; to make the layer it took {row.layer_ms:.0f} ms",
    )
    painted = Row(
        figure=_FIGURE,
        frame=name_of(LARGE),
        mode=f"{mode}: age of a frame when it is painted",
        p50_ms=row.age_ms[0],
        p99_ms=row.age_ms[1],
    )
    return [published, drained, painted]


def _compare(series: Row, live: Row) -> None:
    """Say how much older the frames of a series are on the screen than those of a live view."""
    p50, p99 = (ours / max(other, 1e-3) for ours, other in ((series.p50_ms, live.p50_ms), (series.p99_ms, live.p99_ms)))
    series.ratio = p50
    series.target = f"p50 ≤ {_OLDER_P50:g} times that of the live view, p99 ≤ {_OLDER_P99:g} times"
    series.met = p50 <= _OLDER_P50 and p99 <= _OLDER_P99
    series.note = f"p99 is {p99:.2f} times that of the live view"


def _first(bench: Bench, publisher: Publisher) -> Iterator[Row]:
    """Begin new streams in a running viewer, and ask it how old their first frames were on the screen."""
    bench.say("napari, the first frame of a new stream")
    frame = source_frames(LARGE)[0]
    ages: list[float] = []
    for number in range(bench.effort.first):
        seen = {row.first_ms for row in publisher.stats().receivers}
        publisher.new_stream(f"first {number}")
        publisher.publish(frame)
        wait_for(
            lambda seen=seen: any(row.first_ms not in seen for row in publisher.stats().receivers),
            "the first frame of a new stream on napari's screen",
        )
        ages.append(max(row.first_ms for row in publisher.stats().receivers if row.first_ms not in seen))
    worst = max(ages)
    yield Row(
        figure=_FIGURE,
        frame=name_of(LARGE),
        mode="first frame of a new stream, in a running viewer",
        p50_ms=statistics.median(ages),
        p99_ms=worst,
        target=f"all ≤ {_FIRST_LIMIT_MS:g} ms",
        met=worst <= _FIRST_LIMIT_MS,
    )
