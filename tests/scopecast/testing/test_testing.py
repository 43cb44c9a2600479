"""The contract suites find what is wrong with a backend, and nothing of them is imported with scopecast."""

from __future__ import annotations

import contextlib
import inspect
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from children import Child
from receivers import Viewer, planes_of, stamped, viewer_process
from scopecast import MemoryBackend, Publisher, Receipt, StreamingBackend
from scopecast.errors import ProtocolError
from scopecast.rundir.directory import RunDirectory
from scopecast.testing import DisplayContract, Observer, OpenViewer, StorageBackendContract, StreamingBackendContract

if TYPE_CHECKING:
    from pathlib import Path

_FAILED = (AssertionError, pytest.fail.Exception, Exception)


class KeepsTheCallersArray(MemoryBackend):
    def save(self, data: Any, file_path: Any, **options: Any) -> None:
        self._files[str(file_path)] = data


class KeyErrors(MemoryBackend):
    def load(self, file_path: Any, **options: Any) -> Any:
        return self._files[str(file_path)]


class ForgetsTheOrder(MemoryBackend):
    def load_batch(self, file_paths: Any, **options: Any) -> list[Any]:
        return [self.load(path) for path in sorted(file_paths)]


class ShortensBatches(MemoryBackend):
    def save_batch(self, data_list: Any, file_paths: Any, **options: Any) -> None:
        for data, path in zip(data_list, file_paths, strict=False):
            self.save(data, path)


class ListsNothing(MemoryBackend):
    def list_files(self, directory: Any, **options: Any) -> list[str]:
        return []


STORES = {
    KeepsTheCallersArray: "test_what_is_kept_is_not_the_callers_own",
    KeyErrors: "test_what_is_not_there_is_a_file_not_found_error",
    ForgetsTheOrder: "test_batches_keep_their_order",
    ShortensBatches: "test_lists_of_different_lengths_save_nothing",
    ListsNothing: "test_files_and_directories_are_listed",
}


@pytest.mark.parametrize(("backend", "test"), STORES.items(), ids=[store.__name__ for store in STORES])
def test_a_store_with_a_mistake_fails(backend: type, test: str):
    getattr(StorageBackendContract(), test)(MemoryBackend())
    with pytest.raises(_FAILED):
        getattr(StorageBackendContract(), test)(backend())


class Live(StreamingBackend):
    VIEWER_TYPE = "headless"
    SHM_PREFIX = "mine_"


class SendsEverything(Live):
    def _filter_streamable_files(self, data_list: Any, file_paths: Any) -> Any:
        return list(data_list), list(file_paths), []


class ChangesPixels(Live):
    def _stream(self, data: Any, path: str, **where: Any) -> Any:
        return super()._stream(data + 1, path, **where)


class LosesFrames(Live):
    def save_batch(self, data_list: Any, file_paths: Any, **where: Any) -> Any:
        return super().save_batch(data_list[:150], file_paths[:150])


class RaisesAtTheAcquisition(Live):
    def frameReady(self, image: Any, event: Any = None, metadata: Any = None) -> None:
        self.publisher.publish(image)


class AllocatesWhenMade(Live):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**arguments, "launch": False})
        self.publisher.open((9, 9), wait=1.0)


class ForgetsTheEnd(Live):
    def close(self, linger: float | None = None) -> None: ...

    def __exit__(self, *_: object) -> None:
        super().close()


class OneStreamForAll(Live):
    def sequenceStarted(self, sequence: Any, metadata: Any = None) -> None:
        if self._run is None:
            super().sequenceStarted(sequence, metadata)

    def sequenceFinished(self, sequence: Any) -> None: ...

    def _stream_of(self, *arguments: Any) -> Any:
        return self._run


STREAMS = {
    SendsEverything: "test_files_that_cannot_be_shown_are_skipped",
    ChangesPixels: "test_a_batch_arrives_as_it_is_where_its_names_say",
    LosesFrames: "test_a_batch_loses_nothing_however_long_it_is",
    RaisesAtTheAcquisition: "test_what_cannot_be_shown_never_ends_the_acquisition",
    AllocatesWhenMade: "test_making_one_allocates_and_launches_nothing",
    ForgetsTheEnd: "test_the_end_leaves_nothing_behind",
    OneStreamForAll: "test_the_frames_of_two_runs_come_in_streams_of_their_own",
}


@pytest.mark.parametrize(("backend", "test"), STREAMS.items(), ids=[backend.__name__ for backend in STREAMS])
def test_a_streaming_backend_with_a_mistake_fails(backend: type[StreamingBackend], test: str, runtime_dir: Path):
    made: list[StreamingBackend] = []

    class Contract(StreamingBackendContract):
        backend_type = backend
        patience = 1.0  # what is lost does not come by waiting

        def make(self, **arguments: Any) -> StreamingBackend:
            made.append(super().make(**arguments))
            return made[-1]

    method = getattr(Contract(), test)
    with contextlib.ExitStack() as stack:
        given: dict[str, Any] = {}
        if "private_run_directory" in inspect.signature(method).parameters:
            given["private_run_directory"] = runtime_dir
        if "observer" in inspect.signature(method).parameters:
            given["observer"] = stack.enter_context(Observer("headless"))
        with pytest.raises(_FAILED):
            method(**given)
        for each in made:
            each.__exit__()


def test_a_viewer_that_shows_nothing_fails(tmp_path: Path):
    class Contract(DisplayContract):
        kind = "headless"  # which has no window, and paints nothing
        patience = 2.0

    with viewer_process(), Publisher("headless", launch=False) as publisher:
        publisher.open((8, 8), wait=20)
        deadline = time.monotonic() + 20
        while not (rows := publisher.stats().receivers):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        viewer = OpenViewer(Receipt(), rows[0], tmp_path)
        with pytest.raises(AssertionError, match="not so after 2 s: the newest frame is painted"):
            Contract().test_the_first_frame_is_shown(viewer, tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [
        pytest.param((0, 0), (1, 1), True, id="down and right"),
        pytest.param((0, 0), (0, 1), False, id="right: y and x are exchanged, or one of them is missing"),
        pytest.param((1, 1), (0, 0), False, id="upside down"),
        pytest.param((0, 0), (0, 0), False, id="nothing new"),
    ],
)
def test_two_pictures_tell_where_the_bright_quarter_went(before: Any, after: Any, moved: bool):
    window = np.full((200, 220), 30.0)  # whatever else there is to see
    pictures = [window.copy(), window.copy()]
    for picture, quarter in zip(pictures, (before, after), strict=True):
        picture[40:168, 20:180] = DisplayContract.bright_in(*quarter) / 4000 * 255
    assert DisplayContract._moved_down_right(*pictures) == moved


def test_the_observer_sees_what_a_viewer_sees():
    with Observer("headless") as observer, Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), wait=20)
        observer.wait_for(lambda: sum(row.attached for row in publisher.stats()) == 2)
        stream = publisher.new_stream("cells", channels=["DAPI"], scale=(0.5, 0.5), units="um")
        for t in range(50):
            axes = {"t": t, "c": "DAPI"}
            publisher.publish(stamped(t), axes=axes, path=f"{t}.tif", translate=(t, 1.5), metadata={"t": t})
        publisher.publish(stamped(9), axes={"t": 1, "c": "GFP", "z": 2})
        publisher.end_stream(stream)
        seen = observer.wait_for(lambda: len(observer.seen) == 51 and observer.ended and observer.seen)
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received == 51)
        planes = planes_of(viewer.streams[0])
    assert [each.axes for each in seen[:50]] == [{"t": t, "c": "DAPI"} for t in range(50)]
    assert seen[50].axes == {"t": 1, "c": "GFP", "z": 2}
    assert (seen[7].path, seen[7].translate, seen[7].metadata) == ("7.tif", (7.0, 1.5), {"t": 7})
    assert (seen[7].stream.title, seen[7].stream.scale, seen[7].kind) == ("cells", [0.5, 0.5], "image")
    for t in range(50):
        np.testing.assert_array_equal(seen[t].pixels, planes[t, 0, 0])


@pytest.mark.parametrize("point", [(float("nan"), 0), (0, float("inf")), (1e9, 0)], ids=str)
def test_an_observer_sends_no_marks_that_no_viewer_would(point: tuple[float, float]):
    with Observer("headless") as user, Publisher("headless", launch=False) as publisher, publisher.marks() as marks:
        publisher.open((64, 48), "uint16", wait=30)
        publisher.publish(stamped(0))
        with pytest.raises(ProtocolError):
            user.mark([point])
        user.mark([(1, 2)])
        assert next(marks)[0].vertices.tolist() == [[1, 2]]


def test_an_observer_knows_the_fate_of_marks_whose_program_ends_without_a_word():
    with Observer("headless") as user:
        with Child("mark") as program:
            fates = user.mark([(1, 2)])
            assert program.line() == 1
            program.process.kill()
        assert user.wait_for(lambda: fates) == ["refused: it ended before it took them"]
    RunDirectory().clean(everything=True)


def test_an_observer_that_waits_in_vain_says_what_it_has():
    with Observer("headless") as observer, pytest.raises(AssertionError, match=r"not so after 0\.1 s; 0 publishers"):
        observer.wait_for(lambda: observer.seen, timeout=0.1)


def test_scopecast_imports_no_pytest():
    code = "import sys, scopecast; assert 'pytest' not in sys.modules and 'scopecast.testing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_observer_sees_what_comes_by_tcp(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPECAST_TRANSPORT", "tcp")
    with Observer("headless") as observer, Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), wait=20)
        for t in range(3):
            publisher.publish(stamped(t), axes={"t": t})
        observer.wait_for(lambda: len(observer.seen) == 3)
        assert publisher.flush(20)
