"""ExEngine's own data handler and execution engine, with a storage that shows what it stores."""

from __future__ import annotations

import ast
import importlib.util
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from receivers import Viewer, check_stamp, planes_of, stamped

pytest.importorskip("exengine", reason="needs the extra 'exengine'")

from exengine import ExecutionEngine
from exengine.base_classes import DataStorage
from exengine.data import DataCoordinates, DataHandler
from exengine.device_types import Detector
from exengine.events.detector_events import ReadoutData, StartCapture
from exengine.kernel.notification_base import DataStoredNotification

from scopecast import ClosedError
from scopecast.hosts.exengine import LiveViewStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

# ndstorage leaves the file of a finished dataset to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*NDTiffStack:ResourceWarning")


HOOKED_START = threading.Thread.start  # exengine's, as of its import


@pytest.fixture(autouse=True)
def hooked_threads(untouched_by_hosts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have exengine's hook into the start of threads in place, which other tests do without."""
    monkeypatch.setattr(threading.Thread, "start", HOOKED_START)


class Camera(Detector):
    """A camera that has its frames ready when it is started."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._frames: list[Any] = []

    def arm(self, frame_count: int | None = None) -> None:
        self._frames = [stamped(t) for t in range(frame_count or 0)]

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_stopped(self) -> bool:
        return not self._frames

    def pop_data(self, timeout: float | None = None) -> Any:
        return (self._frames.pop(0), {"PixelSizeUm": 0.65}) if self._frames else (None, None)


@pytest.fixture
def engine() -> Iterator[ExecutionEngine]:
    made = ExecutionEngine()
    yield made
    made.shutdown()


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


@pytest.fixture
def storage() -> Iterator[LiveViewStorage]:
    with LiveViewStorage(viewer="headless", launch=False, linger=10.0) as made:
        yield made


@pytest.fixture(params=["none", "NDRAM", "NDTiff"])
def any_storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LiveViewStorage]:
    inner = None
    if request.param != "none":
        backends = pytest.importorskip("exengine.storage_backends.ndtiff_and_ndram.NDTiffandRAM")
        inner = backends.NDRAMStorage() if request.param == "NDRAM" else backends.NDTiffStorage(str(tmp_path), "run")
    with LiveViewStorage(inner, viewer="headless", launch=False, linger=10.0) as made:
        yield made
        made.finish()


# ---- as ExEngine's guide and its own tests of storages expect ---------------------------------------------------


def test_it_is_a_storage(any_storage: LiveViewStorage):
    assert isinstance(any_storage, DataStorage)
    any_storage.finish()
    any_storage.close()


def test_put_and_get_data(any_storage: LiveViewStorage):
    data = np.array([[1, 2, 3], [4, 5, 6]], dtype="uint16")
    metadata = {"key": "value"}
    coordinates = {"time": 0, "channel": "DAPI"}

    any_storage.put(coordinates, data, metadata)

    assert coordinates in any_storage
    assert DataCoordinates(channel="DAPI", time=0) in any_storage
    assert {"time": 1, "channel": "DAPI"} not in any_storage
    np.testing.assert_array_equal(any_storage.get_data(coordinates), data)
    np.testing.assert_array_equal(any_storage[DataCoordinates(coordinates)], data)
    loaded = any_storage.get_metadata(coordinates)
    assert loaded | metadata == loaded, "an inner storage may add keys of its own"
    assert coordinates == {"time": 0, "channel": "DAPI"}, "the caller's dict is the caller's"


def exengines_own_tests() -> Path:
    """The file with the tests that ExEngine has for its own storages, in the installed package."""
    package = importlib.util.find_spec("exengine.storage_backends.ndtiff_and_ndram")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "test" / "test_ndtiff_and_ram.py"


def names_of_exengines_own_tests() -> list[str]:
    """Found without importing them, and so dask: every process that collects tests would take seconds for that."""
    file = exengines_own_tests()
    if importlib.util.find_spec("ndstorage") is None or not file.exists():
        return []
    tree = ast.parse(file.read_text("utf-8"))
    return [it.name for it in tree.body if isinstance(it, ast.FunctionDef) and it.name.startswith("test_")]


@pytest.mark.parametrize("name", names_of_exengines_own_tests())
def test_it_passes_exengines_own_tests_of_storages(storage: LiveViewStorage, name: str):
    spec = importlib.util.spec_from_file_location("exengines_storage_tests", exengines_own_tests())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    getattr(module, name)(storage)


def test_what_is_not_there_is_a_key_error(storage: LiveViewStorage):
    with pytest.raises(KeyError, match=r"there is no frame at \{'time': 5\}"):
        storage.get_data({"time": 5})
    with pytest.raises(KeyError):
        storage.get_metadata({"time": 5})


def test_a_line_of_pixels_is_stored_too(storage: LiveViewStorage):
    storage.put({"time": 0, "channel": "DAPI"}, np.array([1, 2, 3]), {"key": "value"})
    np.testing.assert_array_equal(storage.get_data({"time": 0, "channel": "DAPI"}), [1, 2, 3])


# ---- storing and showing -----------------------------------------------------------------------------------------


def test_every_frame_is_shown_where_it_belongs(viewer: Viewer, any_storage: LiveViewStorage):
    viewer_ready(any_storage, viewer)
    for t in range(4):
        for c, channel in enumerate(("DAPI", "FITC")):
            any_storage.put({"time": t, "channel": channel, "z": 2}, stamped(t, c, 2), {"PixelSizeUm": 0.5})
            assert any_storage.publisher.flush(10)
    any_storage.finish()
    viewer.wait_for(lambda: viewer.streams and viewer.streams[0].state == "ended")
    (stream,) = viewer.streams
    assert (stream.axes, stream.about.labels["c"]) == (("t", "c", "z"), ["DAPI", "FITC"])
    assert (stream.about.scale, stream.about.units) == ([0.5, 0.5], "um")
    stamps = {index: check_stamp(plane) for index, plane in planes_of(stream).items()}
    assert stamps == {(t, c, 2): (t, c, 2) for t in range(4) for c in range(2)}
    assert any_storage.stats().balanced


def test_an_axis_that_exengine_names_freely_is_shown_too(viewer: Viewer, storage: LiveViewStorage):
    viewer_ready(storage, viewer)
    storage.put({"stim phase": 2, "view-angle": 1}, stamped(7), {})
    assert storage.publisher.flush(10)
    (stream,) = viewer.streams
    assert (stream.axes, storage.errors) == (("stim_phase", "view_angle"), 0)
    assert {index: check_stamp(plane)[0] for index, plane in planes_of(stream).items()} == {(2, 1): 7}


def viewer_ready(storage: LiveViewStorage, viewer: Viewer) -> None:
    storage.publisher.open((64, 48), "uint16", wait=20)
    viewer.wait_for(lambda: viewer.attached)


def test_an_error_of_the_storage_is_raised_and_the_frame_not_shown(storage: LiveViewStorage):
    class Full(DataStorage):
        def put(self, coordinates: Any, data: Any, metadata: Any) -> None:
            raise OSError("no space left")

    storage.inner = Full()
    with pytest.raises(OSError, match="no space"):
        storage.put({"time": 0}, stamped(0), {})
    assert storage.stats().frames.published == 0
    storage.inner = None


@pytest.mark.parametrize(
    ("coordinates", "data"),
    [
        ({"time": 0}, np.array([["a", "b"]])),
        ({"time": -1}, stamped(0)),
        ({"my axis": 1, "my_axis": 2}, stamped(0)),
        ({f"a{n}": 0 for n in range(12)}, stamped(0)),
        ({"time": 0}, np.zeros((0, 5))),
    ],
    ids=["text", "a negative time", "two axes that have one name here", "too many axes", "empty"],
)
def test_what_cannot_be_shown_is_stored_and_counted(storage: LiveViewStorage, coordinates: Any, data: Any):
    storage.put(coordinates, data, None)
    assert coordinates in storage
    assert storage.errors + storage.stats().frames.skipped == 1


def test_without_an_inner_storage_the_oldest_are_forgotten_within_the_budget(viewer: Viewer):
    one = stamped(0).nbytes
    with LiveViewStorage(viewer="headless", launch=False, budget=3 * one) as storage:
        viewer_ready(storage, viewer)
        for t in range(5):
            storage.put({"time": t}, stamped(t), {})
            assert storage.publisher.flush(10)
        storage.put({"time": 4}, stamped(4), {"again": 1})
        assert [t for t in range(5) if {"time": t} in storage] == [2, 3, 4]
        assert storage.forgotten == 2
        assert storage.get_metadata({"time": 4}) == {"again": 1}
        with pytest.raises(KeyError, match="2 older frames were discarded"):
            storage.get_data({"time": 0})
        assert storage.publisher.flush(10)
        assert len(planes_of(viewer.streams[0])) == 5, "the viewer has a history of its own"


def test_what_a_storage_is_made_with_is_checked_at_once():
    with pytest.raises(TypeError, match=r"LiveViewStorage\(\) has no argument 'pixel_size_um': did you mean 'scale'"):
        LiveViewStorage(viewer="headless", pixel_size_um=0.3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="scale must be above 0"):
        LiveViewStorage(viewer="headless", scale=0.0)


def test_the_pixel_size_that_a_storage_is_given_goes_before_that_of_the_metadata(viewer: Viewer):
    with LiveViewStorage(viewer="headless", launch=False, linger=10.0, scale=0.25) as storage:
        storage.put({"time": 0}, stamped(0), {"PixelSizeUm": 0.5})
        viewer.wait_for(lambda: viewer.streams)
        assert (viewer.streams[0].about.scale, viewer.streams[0].about.units) == ([0.25, 0.25], "um")


def test_a_camera_may_use_its_buffer_again(storage: LiveViewStorage):
    buffer = stamped(1)
    storage.put({"time": 1}, buffer, {})
    buffer[:] = 0
    assert check_stamp(storage.get_data({"time": 1}))[0] == 1


def test_after_finish_it_can_be_read_and_not_written(storage: LiveViewStorage):
    storage.put({"time": 1}, stamped(1), {})
    storage.finish()
    storage.finish()
    assert {"time": 1} in storage
    with pytest.raises(ClosedError, match="finished"):
        storage.put({"time": 2}, stamped(2), {})


# ---- the real handler and engine ---------------------------------------------------------------------------------


def test_the_data_handler_stores_and_shows(viewer: Viewer, any_storage: LiveViewStorage, engine: ExecutionEngine):
    viewer_ready(any_storage, viewer)
    handler = DataHandler(any_storage, _executor=engine)
    for t in range(5):
        handler.put(DataCoordinates(time=t), stamped(t), {"t": t}, None)
    handler.finish()
    handler.await_completion()
    assert any_storage._finished
    for t in range(5):
        data, metadata = handler.get(DataCoordinates(time=t))
        assert check_stamp(data)[0] == t
        assert metadata["t"] == t
    with pytest.raises(KeyError):
        handler.get(DataCoordinates(time=77))
    assert any_storage.publisher.flush(10)
    frames = any_storage.stats().frames
    assert frames.published == 5
    assert frames.delivered + frames.superseded == 5


def test_an_acquisition_of_the_engine_is_stored_and_shown(
    viewer: Viewer, storage: LiveViewStorage, engine: ExecutionEngine
):
    stored: list[Any] = []
    all_stored = threading.Event()

    def notice(notification: Any) -> None:
        stored.append(notification.payload)
        if len(stored) == 20:
            all_stored.set()

    engine.subscribe_to_notifications(notice, DataStoredNotification)
    viewer_ready(storage, viewer)
    handler = DataHandler(storage, _executor=engine)
    camera = Camera("camera")
    try:
        engine.submit(StartCapture(20, camera)).await_execution(timeout=20)
        coordinates = [DataCoordinates(time=t) for t in range(20)]
        readout = ReadoutData(coordinates, camera, handler, num_blocks=20)
        engine.submit(readout).await_execution(timeout=20)
    finally:
        handler.finish()
        handler.await_completion()
    assert all_stored.wait(20)
    assert all({"time": t} in storage for t in range(20))
    assert storage.publisher.flush(10)
    counts = storage.stats().frames
    assert counts.published == 20
    assert (19,) in planes_of(viewer.streams[0]), "the newest is always delivered"
    assert viewer.streams[0].about.scale == [0.65, 0.65]
    assert storage.errors == 0


def test_a_thread_that_could_not_start_unseen_costs_the_live_view_only(
    storage: LiveViewStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """exengine's hook prints why a thread could not start, and lets whoever started it believe that it runs."""

    def refuse(thread: threading.Thread) -> None:
        if "keeper" not in thread.name:  # as a system does that has no threads left
            HOOKED_START(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    storage.put({"time": 0}, stamped(0), {})
    deadline = time.monotonic() + 20
    while "no thread could be started" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    storage.put({"time": 1}, stamped(1), {})
    storage.finish()
    storage.close()
    assert check_stamp(storage.get_data({"time": 1}))[0] == 1
    assert storage.stats().balanced
    assert sum(storage.stats().skipped.values()) == 2


def test_the_handler_goes_on_without_any_viewer(storage: LiveViewStorage, engine: ExecutionEngine):
    handler = DataHandler(
        storage, process_function=lambda where, data, about: (where, data + 1, about), _executor=engine
    )
    for t in range(50):
        handler.put(DataCoordinates(time=t), np.zeros((8, 8), "uint16"), {}, None)
    handler.finish()
    handler.await_completion()
    assert int(storage.get_data({"time": 49})[0, 0]) == 1
    frames = storage.stats().frames
    assert (frames.published, frames.delivered) == (50, 0)
    assert frames.balanced
