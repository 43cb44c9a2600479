"""``make demo``: how old its frames are on napari's screen, the first ones included."""

from __future__ import annotations

import os
import statistics
from typing import TYPE_CHECKING
from unittest import mock

from scopecast.benchmarks.figures import Row
from scopecast.demo.demo import prepare
from scopecast.demo.options import Options
from scopecast.errors import DemoError, ScreenError, ViewerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Bench
    from scopecast.demo.demo import Figures
    from scopecast.publishing.accounts import Stats

__all__ = ["measure", "run"]

_FIGURE = "demo"
_P50_MS, _P99_MS = 150.0, 500.0


class _Silent:
    """Tells nobody."""

    def doing(self, what: str) -> None:
        """Take note of a step."""

    def progress(self, done: int, total: int, stats: Stats) -> None:
        """Take note of the run's progress."""


def run(options: Options) -> Figures:
    """Run the demo once, with a viewer of its own."""
    with prepare(options, _Silent()) as ready:
        return ready.run()


def measure(bench: Bench) -> Iterator[Row]:
    """Run the demo as it is by default, several times."""
    options = Options(keep=False)
    frame = f"{options.width}x{options.height}"
    settings = {"NAPARI_CONFIG": str(bench.directory.path / "napari.yaml")}
    try:
        with mock.patch.dict(os.environ, settings):
            figures = []
            for number in range(bench.effort.demos):
                bench.say(f"make demo, {number + 1} of {bench.effort.demos}")
                figures.append(run(options))
    except (DemoError, ScreenError, ViewerStartError) as error:
        yield Row(figure=_FIGURE, frame=frame, mode="", note=f"not measured: {str(error).splitlines()[0]}")
        return
    if figures:
        p50 = statistics.median(each.age_ms.p50 for each in figures)
        p99 = statistics.median(each.age_ms.p99 for each in figures)
        yield Row(
            figure=_FIGURE,
            frame=frame,
            mode="age of a frame when it is painted",
            p50_ms=p50,
            p99_ms=p99,
            target=f"p50 ≤ {_P50_MS:g} ms, p99 ≤ {_P99_MS:g} ms",
            met=p50 <= _P50_MS and p99 <= _P99_MS,
            note=f"{statistics.median(each.painted for each in figures):g} of {figures[0].published} frames painted",
        )
