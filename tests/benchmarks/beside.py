"""Beside ndv's own viewer, the usual one of pymmcore-plus: the same acquisitions, in turns, on the same screen.

``python -m benchmarks.beside VIEWER SIDE CHANNELS TIMES`` runs one acquisition of Micro-Manager's demo camera, and
reports what came of it. ndv runs in the acquisition's process, as is usual, and shows an array in memory that was
touched beforehand; it is told of the newest frame only. scopecast shows in a napari that runs already.
"""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
import warnings
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec
import numpy as np

from benchmarks.acquisition import microscope
from benchmarks.programs import Program, end_with_parent, leave_in_peace, report
from scopecast.benchmarks.figures import Row, name_of
from scopecast.benchmarks.processes import Viewer, wait_for
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.errors import ScreenError, ViewerStartError
from scopecast.hosts.pymmcore import live

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from useq import MDAEvent, MDASequence

    from benchmarks.effort import Bench

__all__ = ["Seen", "measure", "see"]

_FIGURE = "beside ndv"
_CHANNELS = ("DAPI", "FITC", "Cy5")
_SLICES = 3
_EXPOSURE_MS = 10.0
_WINDOW = (1280, 860)
_REPORT_S = 0.7  # seconds between two reports of a viewer, and a little more
_LAST_S = 20.0  # seconds that the last frame may take to come on the screen
#: How much older the pictures of a napari may be, of one channel and of a composite, in an application of its own.
_OLDER = {1: 1.2, 3: 2.0}
_FEWER = 0.9
_LONGER = 1.05


class Seen(msgspec.Struct):
    """How long an acquisition took; how many frames came on the screen, and how old they were then."""

    seconds: float
    pictures: int
    p50_ms: float
    p99_ms: float


def measure(bench: Bench) -> Iterator[Row]:
    """Measure pairs of acquisitions, with one viewer and the other."""
    if not bench.effort.beside:
        return
    if lacking := [name for name in ("ndv", "napari", "pymmcore_plus", "mm_test_adapters") if find_spec(name) is None]:
        yield Row(figure=_FIGURE, frame="", mode="", note=f"not measured: {', '.join(lacking)} is not installed")
        return
    try:
        settings = {"NAPARI_CONFIG": str(bench.directory.path / "napari.yaml")}
        with ensure_screen(), mock.patch.dict(os.environ, settings), Viewer(bench.directory, "napari"):
            for side in bench.effort.sides:
                for channels in _OLDER:
                    yield from _rows(bench, side, channels)
    except (ScreenError, ViewerStartError, TimeoutError, RuntimeError) as error:
        yield Row(figure=_FIGURE, frame="", mode="", note=f"not measured: {str(error).splitlines()[0]}")


def see(viewer: str, side: int, channels: int, times: int) -> Seen:
    """Run one acquisition in a program of its own, seen in ``"ndv"`` or in the ``"napari"`` that runs; on a screen."""
    with Program("benchmarks.beside", viewer, str(side), str(channels), str(times)) as program:
        return msgspec.convert(program.report(timeout=300.0), Seen)


def _rows(bench: Bench, side: int, channels: int) -> Iterator[Row]:
    ours: list[Seen] = []
    theirs: list[Seen] = []
    for number in range(bench.effort.beside):
        for viewer, seen in (("ndv", theirs), ("napari", ours))[:: 1 if number % 2 else -1]:
            bench.say(f"an acquisition of {name_of(side)}, {channels} channels, in {viewer}")
            seen.append(see(viewer, side, channels, bench.effort.times))
    mode = "one gray channel" if channels == 1 else f"{channels} channels, composite"
    age, pictures, seconds = (
        statistics.median(
            getattr(own, name) / max(getattr(other, name), 1e-3) for own, other in zip(ours, theirs, strict=True)
        )
        for name in ("p50_ms", "pictures", "seconds")
    )
    for viewer, seen in (("ndv", theirs), ("scopecast, napari", ours)):
        row = Row(
            figure=_FIGURE,
            frame=name_of(side),
            mode=f"{mode}: age of a frame on the screen, {viewer}",
            p50_ms=statistics.median(each.p50_ms for each in seen),
            p99_ms=statistics.median(each.p99_ms for each in seen),
            note=f"{statistics.median(each.pictures for each in seen):.0f} frames on the screen, "
            f"{statistics.median(each.seconds for each in seen):.2f} s",
        )
        if seen is ours:
            row.ratio = age
            row.target = f"p50 ≤ {_OLDER[channels]:g} times ndv's"
            row.met = age <= _OLDER[channels]
        yield row
    if channels == 1:
        yield Row(
            figure=_FIGURE,
            frame=name_of(side),
            mode=f"{mode}: frames on the screen",
            ratio=pictures,
            target=f"≥ {_FEWER:g} times ndv's",
            met=pictures >= _FEWER,
        )
    yield Row(
        figure=_FIGURE,
        frame=name_of(side),
        mode=f"{mode}: time of the acquisition",
        ratio=seconds,
        target=f"≤ {_LONGER:g} times that with ndv",
        met=seconds <= _LONGER,
    )


# ---- the acquiring program -----------------------------------------------------------------------------------------


def _acquire(viewer: str, side: int, channels: int, times: int) -> None:
    from useq import MDASequence

    sequence = MDASequence(
        axis_order="tzc",
        time_plan={"interval": 0, "loops": times},
        z_plan={"range": _SLICES - 1, "step": 1.0},
        channels=[{"config": name, "exposure": _EXPOSURE_MS} for name in _CHANNELS[:channels]],
    )
    with microscope(side, _EXPOSURE_MS) as core:
        seen = (_in_ndv if viewer == "ndv" else _in_napari)(core, sequence, side)
    leave_in_peace()
    report(seen)


def _in_napari(core: Any, sequence: MDASequence, side: int) -> Seen:
    with live(core, "napari", launch=False, linger=5.0) as backend:
        publisher = backend.publisher
        publisher.open((side, side), "uint16", wait=20.0)
        wait_for(lambda: any(row.attached for row in publisher.stats().receivers), "the attachment of napari")
        began = time.perf_counter()
        core.mda.run(sequence)
        seconds = time.perf_counter() - began
        publisher.flush(30.0)
        deadline, painted = time.monotonic() + _LAST_S, -1
        while time.monotonic() < deadline:  # what it has painted last is reported
            row = publisher.stats().receivers[-1]
            if 0 < row.painted == painted:
                break
            painted = row.painted
            time.sleep(_REPORT_S)
    return Seen(seconds, row.painted, *row.age_ms)


def _in_ndv(core: Any, sequence: MDASequence, side: int) -> Seen:
    import ndv
    from qtpy.QtCore import QEvent, QObject, QTimer, Signal
    from qtpy.QtWidgets import QApplication

    sizes = {axis: sequence.sizes[axis] for axis in sequence.axis_order if axis != "c" or len(sequence.channels) > 1}

    class Acquired(ndv.DataWrapper):  # type: ignore[misc]
        """The frames as ndv takes its data, and which of them it has read last."""

        def __init__(self) -> None:
            self.newest: dict[tuple[int, int], int] = {}  # (t, z) -> when the last frame there came
            self.read = 0
            super().__init__(np.ones((*sizes.values(), side, side), np.uint16))

        @classmethod
        def supports(cls, obj: object) -> bool:
            return False

        @property
        def dims(self) -> tuple[str, ...]:
            return (*sizes, "y", "x")

        @property
        def coords(self) -> Mapping[str, Any]:
            return dict(zip(self.dims, map(range, self.data.shape), strict=True))

        def isel(self, index: Mapping[int, int | slice]) -> np.ndarray:
            at = [index.get(axis, 0) for axis in (0, 1)]
            self.read = self.newest.get(tuple(part.start if isinstance(part, slice) else part for part in at), 0)
            return super().isel(index)

    class Messenger(QObject):  # type: ignore[misc]
        came = Signal()
        over = Signal()

    ndv.set_gui_backend("qt")
    ndv.set_canvas_backend("vispy")
    app = QApplication.instance() or QApplication([])
    data, messenger = Acquired(), Messenger()
    viewer = ndv.ArrayViewer(
        data, channel_axis="c" if "c" in sizes else None, channel_mode="composite" if "c" in sizes else "grayscale"
    )
    window = viewer.widget()
    window.resize(*_WINDOW)
    viewer.show()

    newest: list[Mapping[str, int]] = []  # of which ndv has not been told
    ages: list[float] = []
    in_canvas = in_paint = painted = 0

    def arrive(frame: np.ndarray, event: MDAEvent) -> None:
        """Keep a frame; on the acquisition's thread."""
        now = time.monotonic_ns()
        data.data[tuple(event.index[axis] for axis in sizes)] = frame
        data.newest[event.index["t"], event.index["z"]] = now
        told = bool(newest)
        newest[:] = [event.index]
        if not told:
            messenger.came.emit()

    def show() -> None:
        index = {axis: at for axis, at in newest.pop().items() if axis in sizes and axis != "c"}
        before = dict(viewer.display_model.current_index)
        viewer.display_model.current_index.update(index)
        if dict(viewer.display_model.current_index) == before:
            data.data_changed.emit()

    def given_to_canvas() -> None:
        nonlocal in_canvas
        in_canvas = data.read

    class Paints(QObject):  # type: ignore[misc]
        """Notes what the canvas paints: a window is composed anew, and swapped, for a slider or a label, too."""

        def eventFilter(self, watched: Any, event: Any) -> bool:
            nonlocal in_paint
            if event.type() == QEvent.Type.Paint:
                in_paint = in_canvas
            return False

    def swapped() -> None:
        nonlocal painted
        if in_paint > painted:
            painted = in_paint
            ages.append((time.monotonic_ns() - painted) / 1e6)

    messenger.came.connect(show)
    viewer.stats_updated.connect(given_to_canvas)
    paints = Paints()
    for canvas in [child for child in window.findChildren(QObject) if hasattr(child, "frameSwapped")]:
        canvas.installEventFilter(paints)
        canvas.frameSwapped.connect(swapped)
    core.mda.events.frameReady.connect(arrive)
    spans: list[float] = []

    def acquire() -> None:
        began = time.perf_counter()
        core.mda.run(sequence)
        spans.append(time.perf_counter() - began)
        time.sleep(_REPORT_S)  # the last frame comes on the screen
        messenger.over.emit()

    messenger.over.connect(app.quit)
    thread = threading.Thread(target=acquire, daemon=True)
    QTimer.singleShot(1000, thread.start)  # the window is there
    app.exec()
    thread.join()
    viewer.close()
    p50, p99 = np.percentile(ages, (50, 99)) if ages else (0.0, 0.0)
    return Seen(spans[0], len(ages), float(p50), float(p99))


if __name__ == "__main__":
    end_with_parent()
    warnings.filterwarnings("ignore", "Error fetching icon")
    os.environ["PYMM_SIGNALS_BACKEND"] = "psygnal"  # frames are kept on the acquisition's thread
    viewer, *numbers = sys.argv[1:]
    _acquire(viewer, *map(int, numbers))
