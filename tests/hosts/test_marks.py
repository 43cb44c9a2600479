"""Marks as positions, grids and regions of a real core with its demo camera, and as events that it consumes."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scopecast import Mark, Marks, live
from scopecast.frames.marks import on_stage
from scopecast.testing import Observer

pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
pytest.importorskip("mm_test_adapters", reason="needs the extra 'pymmcore'")

import mm_test_adapters
import useq
from pymmcore_plus import CMMCorePlus
from useq import MDASequence

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, COLUMNS = 48, 64
BOX = np.array([[10.0, 20.0], [10.0, 40.0], [30.0, 40.0], [30.0, 20.0]])


def marks(*items: Mark, position: tuple[float, ...] = (100.0, 50.0, 3.0), affine: Any = None) -> Marks:
    """Return marks in a frame of 0.5 µm pixels that was taken at a position."""
    shape = (ROWS, COLUMNS)
    placed = [each._replace(stage=on_stage(each.vertices, shape, position, (0.5, 0.5), affine)) for each in items]
    return Marks(placed, axes={}, shape=shape, position=position)


# ---- what they become --------------------------------------------------------------------------------------------


def test_the_middle_of_each_is_a_position():
    made = marks(Mark("point", np.array([[23.5, 31.5]])), Mark("polygon", BOX, name="cell 2")).positions()
    assert made == [
        useq.AbsolutePosition(x=100, y=50, z=3),
        useq.AbsolutePosition(x=99.25, y=51.75, z=3, name="cell 2"),
    ]
    flat = marks(Mark("point", np.array([[23.5, 31.5]])), position=(1.0, 2.0)).positions()
    assert flat == [useq.AbsolutePosition(x=1, y=2)]


def test_a_grid_covers_the_box_around_each():
    grids = marks(Mark("ellipse", BOX), Mark("rectangle", BOX + 5)).grid(overlap=10, fov=(6, 6))
    assert [each.z for each in grids] == [3, 3]
    plan = grids[0].sequence.grid_plan
    assert (plan.left, plan.right, plan.bottom, plan.top, plan.overlap) == (94.25, 104.25, 46.75, 56.75, (10, 10))
    point = marks(Mark("point", np.array([[23.5, 31.5]])))
    assert point.grid() == point.positions()
    places = np.array([(event.x_pos, event.y_pos) for event in MDASequence(stage_positions=grids[:1])])
    assert (places.min(axis=0) - 3 <= (plan.left, plan.bottom)).all()
    assert (places.max(axis=0) + 3 >= (plan.right, plan.top)).all()


def test_a_box_is_a_region_of_the_camera_within_the_frame():
    made = marks(Mark("rectangle", BOX), Mark("ellipse", BOX + 25), Mark("point", np.array([[3.2, 4.9]])))
    assert made.rois() == [(20, 10, 21, 21), (45, 35, 19, 13), (5, 3, 1, 1)]
    with pytest.raises(ValueError, match="this rectangle is not a region of the camera"):
        marks(Mark("rectangle", BOX + 100)).rois()


def test_the_events_of_marks_go_on_counting():
    one = list(marks(Mark("point", np.zeros((1, 2)))).events(MDASequence(channels=["DAPI", "FITC"]), first=7))
    assert [dict(event.index) for event in one] == [{"p": 7, "c": 0}, {"p": 7, "c": 1}]
    assert [event.channel.config for event in one] == ["DAPI", "FITC"]
    assert {event.sequence for event in one} == {None}


# ---- a real core -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def microscope() -> Iterator[CMMCorePlus]:
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(adapters)])
    core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
    core.setProperty("Camera", "OnCameraCCDXSize", COLUMNS)
    core.setProperty("Camera", "OnCameraCCDYSize", ROWS)
    yield core
    core.unloadAllDevices()
    del core
    gc.collect()


@pytest.fixture
def core(microscope: CMMCorePlus) -> CMMCorePlus:
    microscope.setConfig("Objective", "10X")
    microscope.setProperty("Camera", "Binning", "1")
    microscope.clearROI()
    microscope.setXYPosition(200, 100)
    microscope.waitForSystem()
    return microscope


@pytest.fixture
def user() -> Iterator[Observer]:
    with Observer("headless") as made:
        yield made


def stage_of(seen: Any) -> tuple[float, float]:
    return round(seen.metadata["x_um"], 1), round(seen.metadata["y_um"], 1)


def test_a_run_goes_on_with_whatever_is_marked(core: CMMCorePlus, user: Observer):
    with live(core, "headless", launch=False, policy="every", linger=10.0) as backend:
        backend.publisher.open((ROWS, COLUMNS), "uint16")
        user.wait_for(lambda: user.attached)
        core.run_mda(MDASequence(stage_positions=[(200, 100, 0)])).join()
        (overview,) = user.wait_for(lambda: user.seen)
        listener = backend.marks()
        run = core.run_mda(listener.events(MDASequence(channels=["DAPI", "FITC"])))
        first = user.mark([(23.5, 31.5), (3.5, 1.5)], overview)
        user.wait_for(lambda: len(user.seen) == 5 and first == ["taken"])
        second = user.mark([(43.5, 61.5)], overview)
        user.wait_for(lambda: len(user.seen) == 7 and second == ["taken"])
        listener.close()
        run.join(60)
        assert not run.is_alive()
        acquired = user.seen[1:]
        assert [stage_of(each) for each in acquired[::2]] == [(200, 100), (170, 120), (230, 80)]
        assert [(each.axes["p"], each.axes["c"]) for each in acquired] == [
            (p, channel) for p in range(3) for channel in ("DAPI", "FITC")
        ]
        assert len({each.stream.id for each in acquired}) == 1
        assert backend.errors == 0


def test_frames_whose_place_is_not_known_are_refused_by_the_run(core: CMMCorePlus, user: Observer):
    with live(core, "headless", launch=False, policy="every", scale=1.0, units="pixel", linger=10.0) as backend:
        backend.publisher.open((ROWS, COLUMNS), "uint16")
        user.wait_for(lambda: user.attached)
        core.run_mda(MDASequence(stage_positions=[(200, 100, 0)])).join()
        (overview,) = user.wait_for(lambda: user.seen)
        listener = backend.marks()
        run = core.run_mda(listener.events())
        fates = user.mark([(1, 1)], overview)
        user.wait_for(lambda: len(fates) == 2)
        assert fates[0] == "taken"
        assert fates[1].startswith("refused: it is not known where on the stage the marks are")
        listener.close()
        run.join(60)
        assert len(user.seen) == 1


@pytest.mark.fault("H12")
def test_nothing_moves_unless_the_program_asks(core: CMMCorePlus, user: Observer, monkeypatch: pytest.MonkeyPatch):
    asked: list[Any] = []
    with live(core, "headless", launch=False, policy="every", linger=10.0) as backend:
        backend.publisher.open((ROWS, COLUMNS), "uint16")
        user.wait_for(lambda: user.attached)
        core.run_mda(MDASequence(stage_positions=[(200, 100, 0)])).join()
        user.wait_for(lambda: user.seen)
        where = core.getXYPosition()
        assert where == pytest.approx((200, 100), abs=1)
        # Its signals are no sign of it: those of the run may come later.
        monkeypatch.setattr(core, "setXYPosition", lambda *position: asked.append(position))
        with backend.marks(timeout=40) as listener:
            user.mark([(1, 1)])
            next(listener).positions()
        assert (asked, core.getXYPosition()) == ([], where)


@pytest.mark.parametrize("binning", ["1", "2"])
def test_live_mode_tells_where_the_stage_is(core: CMMCorePlus, user: Observer, binning: str):
    core.setProperty("Camera", "Binning", binning)
    size, side = (ROWS // int(binning), COLUMNS // int(binning)), float(binning)
    with live(core, "headless", launch=False, policy="every", linger=10.0) as backend:
        backend.publisher.open(size, "uint16")
        user.wait_for(lambda: user.attached)
        core.snap()
        user.wait_for(lambda: user.seen)
        assert user.seen[0].metadata["x_um"] == pytest.approx(200, abs=0.1)
        with backend.marks(timeout=40) as listener:
            core.snap()
            user.wait_for(lambda: len(user.seen) == 2)
            user.mark([(0, 0)])
            (mark,) = next(listener)
    assert mark.stage is not None
    corner = [200 - (size[1] - 1) / 2 * side, 100 + (size[0] - 1) / 2 * side]
    assert mark.stage.tolist() == [pytest.approx(corner, abs=0.1)]


def test_a_callback_may_acquire(core: CMMCorePlus, user: Observer):
    done = threading.Event()

    def acquire(marks: Marks) -> None:
        core.run_mda(MDASequence(stage_positions=marks.grid(overlap=5))).join()
        done.set()

    with live(core, "headless", launch=False, policy="every", linger=10.0) as backend:
        backend.publisher.open((ROWS, COLUMNS), "uint16")
        user.wait_for(lambda: user.attached)
        core.run_mda(MDASequence(stage_positions=[(200, 100, 0)])).join()
        listener = backend.on_marks(acquire)
        core.setConfig("Objective", "40X")
        user.mark([(23.5, 31.5)])
        assert done.wait(60)
        user.wait_for(lambda: len(user.seen) == 2)
        assert stage_of(user.seen[1]) == (200, 100)
        listener.close()
        assert listener.errors == 0
