"""Micro-Manager's real core with its demo camera, acquiring by pymmcore-plus, seen from the viewer's side."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from receivers import Viewer, viewer_process
from scopecast import StreamingBackend, live
from scopecast.backends.acquisition import describe_sequence
from scopecast.hosts import pymmcore
from scopecast.testing import Observer

pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
pytest.importorskip("mm_test_adapters", reason="needs the extra 'pymmcore'")

import mm_test_adapters
import useq
from pymmcore_plus import CMMCorePlus
from pymmcore_plus.experimental.unicore import CameraDevice, UniMMCore
from pymmcore_plus.mda import MDAEngine, SkipEvent
from useq import MDAEvent, MDASequence

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 64


class Headless(StreamingBackend):
    VIEWER_TYPE = "headless"
    SHM_PREFIX = "hmm_"


@pytest.fixture(scope="module")
def microscope() -> Iterator[CMMCorePlus]:
    # Never a global one: an event that is emitted while the interpreter ends aborts the process.
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(adapters)])
    core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
    yield core
    core.unloadAllDevices()
    del core
    gc.collect()


@pytest.fixture
def core(microscope: CMMCorePlus) -> Iterator[CMMCorePlus]:
    microscope.setProperty("Camera", "PixelType", "16bit")
    microscope.setProperty("Camera", "OnCameraCCDXSize", SIDE)
    microscope.setProperty("Camera", "OnCameraCCDYSize", SIDE)
    microscope.setConfig("Objective", "10X")
    microscope.setExposure(1)
    microscope.setXYPosition(0, 0)
    microscope.waitForSystem()
    yield microscope
    microscope.clearROI()


@pytest.fixture
def observer() -> Iterator[Observer]:
    with Observer("headless") as made:
        yield made


def ready(backend: StreamingBackend, observer: Observer) -> StreamingBackend:
    """Have the observer attached, so that it sees every frame."""
    backend.publisher.open((SIDE, SIDE), "uint16", wait=20)
    observer.wait_for(lambda: any(row.attached for row in backend.stats()))
    return backend


@contextlib.contextmanager
def all_live(core: CMMCorePlus, observer: Observer) -> Iterator[StreamingBackend]:
    # `every`: these tests look at each frame, and a machine under load may hold the observer up.
    with live(core, "headless", launch=False, policy="every", linger=10.0) as backend:
        yield ready(backend, observer)


@contextlib.contextmanager
def as_output(core: CMMCorePlus, observer: Observer, sequences: list[Any]) -> Iterator[StreamingBackend]:
    with Headless(launch=False, policy="every", linger=10.0) as backend:
        ready(backend, observer)
        for sequence in sequences:
            core.run_mda(sequence, output=backend).join(60)
        yield backend


@contextlib.contextmanager
def by_signal(core: CMMCorePlus, observer: Observer, sequences: list[Any]) -> Iterator[StreamingBackend]:
    with Headless(launch=False, policy="every", linger=10.0) as backend:
        ready(backend, observer)
        core.mda.events.frameReady.connect(backend.frame_ready)
        for sequence in sequences:
            core.mda.run(sequence)
        core.mda.events.frameReady.disconnect(backend.frame_ready)
        yield backend


@contextlib.contextmanager
def by_live(core: CMMCorePlus, observer: Observer, sequences: list[Any]) -> Iterator[StreamingBackend]:
    with all_live(core, observer) as backend:
        for sequence in sequences:
            core.mda.run(sequence)
        yield backend


EVERYTHING = MDASequence(
    axis_order="tpgcz",
    time_plan={"interval": 0, "loops": 2},
    stage_positions=[(0, 0, 0), (1000, 500, 0)],
    grid_plan={"rows": 1, "columns": 2, "fov_width": SIDE, "fov_height": SIDE},
    channels=["DAPI", "FITC"],
    z_plan={"range": 2, "step": 1},
)


@pytest.mark.parametrize("way", [by_live, as_output, by_signal])
def test_every_axis_of_a_sequence_has_its_place_and_its_end(core: CMMCorePlus, observer: Observer, way: Any):
    with way(core, observer, [EVERYTHING]) as backend:
        assert backend.errors == 0
        assert backend.stats().frames.published == 48
        seen = observer.wait_for(lambda: len(observer.seen) == 48 and observer.seen)
    stream = seen[-1].stream
    assert stream.axes == ["p", "g", "t", "c", "z"]
    assert stream.sizes == [2, 2, 2, 2, 3]
    assert stream.labels == {"c": ["DAPI", "FITC"]}
    assert (stream.scale, stream.units) == ([1.0, 1.0], "um")
    places = [tuple(each.axes[name] for name in "pgtcz") for each in seen]
    asked = [
        tuple(event.channel.config if name == "c" else event.index[name] for name in "pgtcz") for event in EVERYTHING
    ]
    assert places == asked
    assert len(set(places)) == 48


def test_positions_are_called_by_their_names(core: CMMCorePlus, observer: Observer):
    positions = [(0, 0, 0), {"x": 10, "y": 0, "name": "left"}, {"x": 20, "y": 0, "name": "left"}]
    with by_live(core, observer, [MDASequence(stage_positions=positions)]):
        seen = observer.wait_for(lambda: len(observer.seen) == 3 and observer.seen)
    assert seen[0].stream.labels["p"] == ["0", "left", "left (2)"]
    assert [each.axes["p"] for each in seen] == ["0", "left", "left (2)"]


def test_wells_are_called_by_their_names():
    wells = useq.WellPlatePlan(plate="96-well", a1_center_xy=(0, 0), selected_wells=([0, 0, 1], [0, 1, 1]))
    about = describe_sequence(MDASequence(stage_positions=wells, channels=["DAPI"]))
    assert about["positions"] == ["A1", "A2", "B2"]
    assert "positions" not in describe_sequence(MDASequence(stage_positions=[(0, 0), (1, 1)]))


def test_fields_of_a_grid_lie_beside_each_other_as_on_the_stage(core: CMMCorePlus, observer: Observer):
    grid = {"rows": 2, "columns": 2, "fov_width": SIDE, "fov_height": SIDE, "mode": "row_wise_snake"}
    with by_live(core, observer, [MDASequence(stage_positions=[(100, 50, 0)], grid_plan=grid)]):
        seen = observer.wait_for(lambda: len(observer.seen) == 4 and observer.seen)
    corners = {each.axes["g"]: each.translate for each in seen}
    # The first row has the largest y of the stage, and lies at the top: y of the canvas points down. A frame lies where
    # the middle of its first pixel does.
    top, left = -50 - SIDE + 0.5, 100 - SIDE + 0.5
    assert corners == {
        0: pytest.approx((top, left)),
        1: pytest.approx((top, left + SIDE)),
        2: pytest.approx((top + SIDE, left + SIDE)),
        3: pytest.approx((top + SIDE, left)),
    }


def test_a_camera_that_is_turned_places_its_frames_by_its_affine(core: CMMCorePlus, observer: Observer):
    config = core.getCurrentPixelSizeConfig()
    before = core.getPixelSizeAffineByID(config)
    core.setPixelSizeAffine(config, [0.0, -1.0, 0.0, 1.0, 0.0, 0.0])  # a step to the right moves the stage up
    try:
        with by_live(core, observer, [MDASequence(stage_positions=[(0, 0, 0), (0, 100, 0), (100, 0, 0)])]):
            seen = observer.wait_for(lambda: len(observer.seen) == 3 and observer.seen)
    finally:
        core.setPixelSizeAffine(config, before)
    half = (SIDE - 1) / 2
    assert [each.translate for each in seen] == [
        pytest.approx((-half, -half)),
        pytest.approx((-half, 100 - half)),
        pytest.approx((-100 - half, -half)),
    ]


def test_frames_without_positions_are_not_placed_on_the_stage(core: CMMCorePlus, observer: Observer):
    core.setXYPosition(300, 400)
    core.waitForSystem()
    with by_live(core, observer, [MDASequence(time_plan={"interval": 0, "loops": 2})]):
        seen = observer.wait_for(lambda: len(observer.seen) == 2 and observer.seen)
    assert [each.translate for each in seen] == [(), ()]


def test_runs_in_a_row_and_generators_have_streams_of_their_own(core: CMMCorePlus, observer: Observer):
    def events() -> Iterator[MDAEvent]:
        for t in (0, 2, 5):  # gaps are normal
            yield MDAEvent(index={"t": t})

    sequence = MDASequence(time_plan={"interval": 0, "loops": 3})
    with by_live(core, observer, [sequence, sequence, events(), events()]) as backend:
        seen = observer.wait_for(lambda: len(observer.seen) == 12 and observer.seen)
        observer.wait_for(lambda: len(observer.ended) == 4)
        assert backend.errors == 0
    streams = [each.stream.id for each in seen]
    assert [streams.count(stream) for stream in dict.fromkeys(streams)] == [3, 3, 3, 3]
    assert [each.axes["t"] for each in seen] == [0, 1, 2, 0, 1, 2, 0, 2, 5, 0, 2, 5]
    assert [each.stream.sizes for each in seen[::3]] == [[3], [3], [0], [0]]


def test_events_of_the_autofocus_make_no_frames(core: CMMCorePlus, observer: Observer):
    sequence = MDASequence(
        stage_positions=[(0, 0, 0), (10, 10, 0)],
        autofocus_plan={"autofocus_motor_offset": 1.0, "axes": ("p",)},
        time_plan={"interval": 0, "loops": 2},
    )
    with by_live(core, observer, [sequence]) as backend:
        observer.wait_for(lambda: len(observer.ended) == 1)
        assert backend.flush(10)
        assert backend.errors == 0
        assert backend.stats().balanced
    assert len(observer.seen) == sum(event.action.type == "acquire_image" for event in sequence)


def test_colour_and_another_region_of_interest_come_in_one_stream(core: CMMCorePlus, observer: Observer):
    def events() -> Iterator[MDAEvent]:
        yield MDAEvent(index={"t": 0})
        core.setROI(8, 8, 32, 16)
        yield MDAEvent(index={"t": 1})
        core.clearROI()
        core.setProperty("Camera", "PixelType", "32bitRGB")
        yield MDAEvent(index={"t": 2})

    with by_live(core, observer, [events()]) as backend:
        seen = observer.wait_for(lambda: len(observer.seen) == 3 and observer.seen)
        assert backend.errors == 0
    assert [each.pixels.shape for each in seen] == [(SIDE, SIDE), (16, 32), (SIDE, SIDE, 3)]
    assert len({each.stream.id for each in seen}) == 1


def test_several_cameras_are_told_apart_by_name(core: CMMCorePlus, observer: Observer):
    with all_live(core, observer) as backend:
        for t in range(2):
            for cam, name in enumerate(("Left", "Right")):
                event = MDAEvent(index={"t": t, "cam": cam})
                image = np.full((SIDE, SIDE), cam, "uint16")
                core.mda.events.frameReady.emit(image, event, {"camera_device": name, "pixel_size_um": 0.5})
        seen = observer.wait_for(lambda: len(observer.seen) == 4 and observer.seen)
        assert backend.errors == 0
    assert [each.axes for each in seen] == [{"cam": cam, "t": t} for t in range(2) for cam in ("Left", "Right")]


@pytest.fixture
def two_cameras(core: CMMCorePlus) -> Iterator[CMMCorePlus]:
    """Micro-Manager's own device for several cameras, with two real (simulated) ones."""
    before = core.getCameraDevice()
    for name in ("Left", "Right"):
        core.loadDevice(name, "DemoCamera", "DCam")
        core.setParentLabel(name, "DHub")
        core.initializeDevice(name)
        for item, value in {"PixelType": "16bit", "OnCameraCCDXSize": SIDE, "OnCameraCCDYSize": SIDE}.items():
            core.setProperty(name, item, value)
    core.loadDevice("Both", "Utilities", "Multi Camera")
    core.initializeDevice("Both")
    core.setProperty("Both", "Physical Camera 1", "Left")
    core.setProperty("Both", "Physical Camera 2", "Right")
    core.setCameraDevice("Both")
    core.setExposure(1)
    yield core
    core.setCameraDevice(before)
    for name in ("Both", "Right", "Left"):
        core.unloadDevice(name)


@pytest.mark.parametrize("sequenced", [False, True], ids=["one by one", "by the hardware"])
def test_two_real_cameras_come_side_by_side(two_cameras: CMMCorePlus, observer: Observer, sequenced: bool):
    engine = two_cameras.mda.engine
    assert engine is not None
    before, engine.use_hardware_sequencing = engine.use_hardware_sequencing, sequenced
    try:
        with by_live(two_cameras, observer, [MDASequence(time_plan={"interval": 0, "loops": 3})]) as backend:
            seen = observer.wait_for(lambda: len(observer.seen) == 6 and observer.seen)
            assert backend.errors == 0
    finally:
        engine.use_hardware_sequencing = before
    assert {(each.axes["t"], each.axes["cam"]) for each in seen} == {
        (t, c) for t in range(3) for c in ("Left", "Right")
    }
    assert seen[-1].stream.labels == {"cam": ["Left", "Right"]}
    assert len({each.stream.id for each in seen}) == 1


def test_the_preview_of_two_cameras_has_both(two_cameras: CMMCorePlus, observer: Observer):
    def of(camera: str) -> int:
        return sum(each.axes == {"cam": camera} for each in observer.seen)

    with all_live(two_cameras, observer) as backend:
        two_cameras.snap()
        observer.wait_for(lambda: of("Left") == of("Right") == 1)
        two_cameras.startContinuousSequenceAcquisition(0)
        observer.wait_for(lambda: min(of("Left"), of("Right")) >= 4)
        two_cameras.stopSequenceAcquisition()
        assert backend.errors == 0
    assert len({each.stream.id for each in observer.seen}) == 1
    assert observer.seen[-1].stream.preview


class Skipping(MDAEngine):
    """An engine that skips every other event, as pymmcore-plus offers it to engines."""

    def setup_event(self, event: MDAEvent) -> None:
        if event.index["t"] % 2:
            raise SkipEvent(reason="the stage says no")
        super().setup_event(event)


def test_events_that_the_engine_skips_are_gaps(core: CMMCorePlus, observer: Observer):
    engine = core.mda.engine
    skipping = Skipping(core)
    skipping.use_hardware_sequencing = False
    core.mda.set_engine(skipping)
    try:
        with by_live(core, observer, [MDASequence(time_plan={"interval": 0, "loops": 5})]) as backend:
            observer.wait_for(lambda: len(observer.ended) == 1)
            assert backend.flush(10)
            assert (backend.errors, backend.stats().frames.published) == (0, 3)
    finally:
        core.mda.set_engine(engine)
    assert [each.axes["t"] for each in observer.seen] == [0, 2, 4]
    assert observer.seen[0].stream.sizes == [5], "the slider reaches the end all the same"


def test_a_run_that_is_paused_goes_on_and_one_that_is_cancelled_ends_its_stream(core: CMMCorePlus, observer: Observer):
    with all_live(core, observer) as backend:
        thread = core.run_mda(MDASequence(time_plan={"interval": 0.02, "loops": 1000}))
        observer.wait_for(lambda: len(observer.seen) >= 3)
        core.mda.set_paused(True)
        paused = len(observer.seen)
        core.mda.set_paused(False)
        observer.wait_for(lambda: len(observer.seen) > paused + 2)
        core.mda.cancel()
        thread.join(60)
        assert not thread.is_alive()
        observer.wait_for(lambda: len(observer.ended) == 1)
        core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 2}))
        observer.wait_for(lambda: len(observer.ended) == 2)
        assert backend.flush(10)
        assert (backend.errors, backend.stats().balanced) == (0, True)
    assert observer.seen[0].stream.sizes == [1000]
    assert len(observer.seen) < 1000


# ---- live mode and snaps -----------------------------------------------------------------------------------------


def test_live_mode_and_snaps_are_a_preview(core: CMMCorePlus, observer: Observer):
    with all_live(core, observer) as backend:
        core.snap()
        observer.wait_for(lambda: len(observer.seen) == 1)
        core.startContinuousSequenceAcquisition(0)
        observer.wait_for(lambda: len(observer.seen) >= 5)
        core.stopSequenceAcquisition()
        assert backend.flush(10)
        count = len(observer.seen)
        core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 2}))
        core.snap()
        observer.wait_for(lambda: len(observer.seen) == count + 3)
        assert backend.errors == 0
    previews = observer.seen[:count] + observer.seen[-1:]
    assert {each.stream.id for each in previews} == {previews[0].stream.id}
    assert previews[0].stream.preview
    assert (previews[0].stream.scale, previews[0].stream.units) == ([1.0, 1.0], "um")
    assert all(each.axes == {} for each in previews)
    assert not observer.seen[count].stream.preview


def test_live_mode_has_the_pixel_size_of_each_of_its_frames(core: CMMCorePlus, observer: Observer):
    with all_live(core, observer) as backend:

        def pixel_size_of_a_snap() -> tuple[float, ...]:
            count = len(observer.seen)
            core.snap()
            observer.wait_for(lambda: len(observer.seen) == count + 1)
            seen = observer.seen[-1]
            assert seen.stream.preview
            assert seen.stream.title == "live"
            return tuple(seen.stream.scale)

        assert pixel_size_of_a_snap() == (1.0, 1.0)
        core.setProperty("Camera", "Binning", "2")
        assert pixel_size_of_a_snap() == (2.0, 2.0)
        core.setProperty("Camera", "Binning", "1")
        core.setConfig("Objective", "40X")
        core.waitForSystem()
        assert pixel_size_of_a_snap() == pixel_size_of_a_snap() == (0.25, 0.25)
        assert len({each.stream.id for each in observer.seen}) == 3
        assert backend.errors == 0


def test_live_mode_and_snaps_tell_exposure_and_stage_position_without_a_stage_being_asked_for_each_frame(
    core: CMMCorePlus, observer: Observer, monkeypatch: pytest.MonkeyPatch
):
    asked = []
    position = core.getPosition
    monkeypatch.setattr(core, "getPosition", lambda: (asked.append(1), position())[1])
    core.setExposure(5)
    with all_live(core, observer) as backend:
        for number in range(2):
            core.setXYPosition(100 + number, -50)
            core.setZPosition(7)
            core.waitForSystem()
            count = len(observer.seen)
            core.snap()
            observer.wait_for(lambda count=count: len(observer.seen) == count + 1)
            told = observer.seen[-1].metadata
            assert (told["exposure_ms"], round(told["x_um"]), round(told["y_um"])) == (5, 100 + number, -50)
            assert round(told["z_um"]) == 7
        assert len(asked) == 2
        monkeypatch.setattr(pymmcore, "STAGE_S", 1e9)
        core.startContinuousSequenceAcquisition(0)
        count = len(observer.seen)
        observer.wait_for(lambda: len(observer.seen) >= count + 10)
        core.stopSequenceAcquisition()
        assert len(asked) == 2
        assert observer.seen[-1].metadata["exposure_ms"] == 5
        assert backend.errors == 0


@pytest.mark.parametrize("way", ["snaps", "live mode"])
def test_a_region_of_the_sensor_lies_where_it_is_on_the_whole_of_it(core: CMMCorePlus, observer: Observer, way: str):
    with all_live(core, observer) as backend:

        def seen_at(corner: tuple[float, ...], extent: tuple[float, float]) -> bool:
            each = observer.seen[-1] if observer.seen else None
            if each is None or each.translate != corner:
                return False
            (y, x), (height, width) = each.stream.scale, each.pixels.shape
            return bool(each.stream.preview and (height * y, width * x) == extent)

        def check(corner: tuple[float, ...], extent: tuple[float, float]) -> None:
            if way == "snaps":
                core.snap()
            else:
                core.startContinuousSequenceAcquisition(0)
            try:
                observer.wait_for(lambda: seen_at(corner, extent))
            finally:
                core.stopSequenceAcquisition()

        check((), (SIDE, SIDE))
        core.setROI(16, 8, 32, 24)
        check((8.0, 16.0), (24.0, 32.0))
        core.setProperty("Camera", "Binning", "2")  # the demo camera has its region count the binned pixels then
        check((8.0, 16.0), (24.0, 32.0))
        core.setProperty("Camera", "Binning", "1")
        core.setConfig("Objective", "40X")
        core.waitForSystem()
        check((2.0, 4.0), (6.0, 8.0))
        core.clearROI()
        check((), (SIDE / 4, SIDE / 4))
        assert backend.errors == 0


def test_a_run_of_a_region_lies_where_live_mode_has_shown_it(core: CMMCorePlus, observer: Observer):
    with all_live(core, observer) as backend:
        core.setROI(16, 8, 32, 24)
        core.snap()
        core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 2}))
        seen = observer.wait_for(lambda: len(observer.seen) == 3 and observer.seen)
        assert {each.translate for each in seen} == {(8.0, 16.0)}
        assert backend.errors == 0


def test_live_mode_that_runs_already_is_shown_and_left_running(core: CMMCorePlus, observer: Observer):
    core.startContinuousSequenceAcquisition(0)
    try:
        with all_live(core, observer):
            observer.wait_for(lambda: len(observer.seen) >= 3)
        assert core.isSequenceRunning()
    finally:
        core.stopSequenceAcquisition()


class Unsteady(CameraDevice):
    """A camera whose first sequence ends by itself, as after a hiccup of its cable."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.ending = threading.Event()

    def get_exposure(self) -> float:
        return 1.0

    def set_exposure(self, exposure: float) -> None: ...

    def shape(self) -> tuple[int, int]:
        return (SIDE, SIDE)

    def dtype(self) -> str:
        return "uint16"

    def start_sequence(self, n: int, get_buffer: Any) -> Iterator[dict[str, Any]]:
        self.runs += 1
        for number in itertools.count():
            if self.runs == 1 and self.ending.is_set():
                return
            get_buffer(self.shape(), self.dtype())[:] = self.runs
            yield {"ImageNumber": str(number)}
            threading.Event().wait(0.005)  # the exposure


class UnsteadyCore(UniMMCore):
    """A core that can't be asked for a while."""

    failing = 0

    def isSequenceRunning(self, *label: str) -> bool:
        if self.failing:
            self.failing -= 1
            raise RuntimeError("the camera does not answer")
        return bool(super().isSequenceRunning(*label))


@pytest.fixture
def unsteady() -> Iterator[tuple[UnsteadyCore, Unsteady]]:
    core, camera = UnsteadyCore(), Unsteady()
    core.loadPyDevice("camera", camera)
    core.initializeDevice("camera")
    core.setCameraDevice("camera")
    yield core, camera
    core.unloadAllDevices()


def previewing() -> bool:
    return any(thread.name == "scopecast-preview" for thread in threading.enumerate())


def test_live_mode_is_shown_again_after_the_camera_stopped_by_itself(unsteady: Any, observer: Observer):
    core, camera = unsteady
    with all_live(core, observer) as backend:
        core.startContinuousSequenceAcquisition(0)
        observer.wait_for(lambda: observer.seen)
        camera.ending.set()
        observer.wait_for(lambda: not previewing())
        for run in (2, 3):  # 3: it is started anew after it was stopped
            core.startContinuousSequenceAcquisition(0)
            observer.wait_for(lambda run=run: sum(seen.pixels[0, 0] == run for seen in observer.seen) >= 3)
            core.stopSequenceAcquisition()
        assert not previewing()
        assert backend.errors == 0


def test_live_mode_goes_on_after_the_core_could_not_be_asked(
    unsteady: Any, observer: Observer, caplog: pytest.LogCaptureFixture
):
    core, _ = unsteady
    with all_live(core, observer) as backend:
        core.startContinuousSequenceAcquisition(0)
        observer.wait_for(lambda: observer.seen)
        core.failing = 3
        observer.wait_for(lambda: not core.failing)
        count = len(observer.seen)
        observer.wait_for(lambda: len(observer.seen) >= count + 3)
        core.stopSequenceAcquisition()
        assert backend.errors == 3
    assert "the live mode could not be shown: RuntimeError: the camera does not answer" in caplog.text


def test_presets_of_one_name_in_two_groups_are_two_channels(core: CMMCorePlus, observer: Observer):
    sequence = MDASequence(
        channels=[{"group": "Channel", "config": "DAPI"}, {"group": "Channel-Multiband", "config": "DAPI"}]
    )
    with all_live(core, observer) as backend:
        core.mda.run(sequence)
        assert backend.flush(10)
    assert [seen.axes for seen in observer.seen] == [{"c": "DAPI"}, {"c": "DAPI (Channel-Multiband)"}]


# ---- the acquisition comes first ---------------------------------------------------------------------------------


def test_nothing_of_the_live_view_reaches_the_runner(core: CMMCorePlus, caplog: pytest.LogCaptureFixture):
    came: list[int] = []

    def close_it(image: Any, event: MDAEvent) -> None:
        came.append(event.index["t"])
        if event.index["t"] == 1:
            backend.close()

    with live(core, "headless", launch=False) as backend:
        core.mda.events.frameReady.connect(close_it)
        try:
            core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 4}))
            core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 2}))
            core.snap()
        finally:
            core.mda.events.frameReady.disconnect(close_it)
        assert came == [0, 1, 2, 3, 0, 1]
        assert backend.errors >= 5
    assert "ClosedError" in caplog.text
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert {record.name for record in told} == {"scopecast.backends.streaming"}


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_run_goes_on_when_its_viewer_does_not(core: CMMCorePlus, end: signal.Signals):
    came: list[int] = []

    def at_the_fifth(image: Any, event: MDAEvent) -> None:
        came.append(event.index["t"])
        if event.index["t"] == 5:
            os.kill(viewer.pid, end)

    with viewer_process() as viewer, live(core, "headless", launch=False, linger=1.0) as backend:
        backend.publisher.open((SIDE, SIDE), "uint16", wait=20)
        core.mda.events.frameReady.connect(at_the_fifth)
        try:
            core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 100}))
        finally:
            core.mda.events.frameReady.disconnect(at_the_fifth)
        stats = backend.stats()
        assert came == list(range(100))
        assert stats.frames.published == 100
        assert stats.balanced
        assert backend.errors == 0
        if end == signal.SIGSTOP:
            os.kill(viewer.pid, signal.SIGCONT)


def test_afterwards_nothing_is_connected(core: CMMCorePlus, observer: Observer):
    signals = (core.mda.events.frameReady, core.mda.events.sequenceStarted, core.events.imageSnapped)
    before = [len(each) for each in signals]
    with live(core, "headless", launch=False) as backend:
        assert [len(each) for each in signals] == [count + 1 for count in before]
    assert [len(each) for each in signals] == before
    core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 1}))
    assert (backend.errors, backend.stats().frames.published) == (0, 0)


def test_a_core_that_has_no_camera_yet_waits_for_the_viewer_like_any(observer: Observer):
    core = CMMCorePlus()
    with live(core, "headless", launch=False, wait=20) as backend:
        assert any(row.attached for row in backend.stats())
        adapters = Path(mm_test_adapters.device_adapter_path())
        core.setDeviceAdapterSearchPaths([str(adapters)])
        core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
        core.snap()
        observer.wait_for(lambda: len(observer.seen) == 1)
        assert backend.errors == 0
    core.unloadAllDevices()


def test_what_live_does_not_take_is_an_error_at_once(core: CMMCorePlus):
    with pytest.raises(TypeError, match="has no argument 'titel': did you mean 'title'"), live(core, titel="x"):  # type: ignore[call-arg]
        pass


def test_what_is_no_core_is_an_error():
    with pytest.raises(TypeError, match=r"live\(\) takes a pymmcore_plus.CMMCorePlus, which has \.mda; object has"):
        live(object()).__enter__()


def test_two_viewers_see_one_run(core: CMMCorePlus, observer: Observer):
    with Viewer() as viewer, all_live(core, observer) as backend:
        viewer.wait_for(lambda: viewer.attached)
        core.mda.run(MDASequence(time_plan={"interval": 0, "loops": 5}))
        assert backend.flush(10)
        assert viewer.streams[0].received == 5
        assert len(observer.seen) == 5
