"""Streaming backends: what is sent of a batch, and where the frames of a running acquisition go."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import useq

from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import (
    BackendRegistry,
    ClosedError,
    FileManager,
    MemoryBackend,
    NapariStreamingBackend,
    Outcome,
    Publisher,
    Reason,
    Receipt,
    Skipped,
    StreamingBackend,
    UnsupportedDtypeError,
)
from scopecast.rundir.directory import new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

SHM = Path("/dev/shm")
PREFIX = f"t{new_token()}_"  # of these tests alone


class Headless(StreamingBackend):
    """Streams to a viewer without a window."""

    VIEWER_TYPE = "headless"
    SHM_PREFIX = PREFIX
    SUPPORTED_EXTENSIONS = {".tif", ".TIFF", ".roi.zip"}  # noqa: RUF012 - as users write it


@pytest.fixture
def backend() -> Iterator[Headless]:
    with Headless(launch=False, linger=10) as made:
        yield made


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def segments() -> set[str]:
    return {path.name for path in SHM.iterdir() if path.name.startswith(PREFIX)}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged for the user to see; other libraries may have set any level for the rest."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def stamps(viewer: Viewer, stream: int = 0) -> dict[tuple[int, ...], tuple[int, int, int]]:
    return {index: check_stamp(plane) for index, plane in planes_of(viewer.streams[stream]).items()}


# ---- construction -------------------------------------------------------------------------------------------------


def test_constructing_one_makes_nothing(runtime_dir: Path):
    with Headless() as backend:
        assert backend.stats().frames.published == 0
        assert backend.flush(1)
        backend.save_batch([], [])
        backend.save_batch(["a"], ["a.csv"])
        assert list(runtime_dir.iterdir()) == []
        assert segments() == set()


# ---- registration ------------------------------------------------------------------------------------------------


def body(**attributes: Any) -> dict[str, Any]:
    return {"__module__": __name__, "VIEWER_TYPE": "headless", "SHM_PREFIX": "t_", **attributes}


def test_only_a_name_in_the_classs_own_body_registers():
    name = f"own_{new_token()}"
    registry = BackendRegistry()
    parent = type("Parent", (StreamingBackend,), body(_backend_type=name))
    type("Child", (parent,), body())
    type("Nameless", (StreamingBackend,), body())
    assert type(registry[name]) is parent
    assert registry[name] is registry[name]


def test_the_same_class_defined_again_takes_its_place():
    name = f"again_{new_token()}"
    type("Cell", (StreamingBackend,), body(_backend_type=name))
    newer = type("Cell", (StreamingBackend,), body(_backend_type=name))
    assert type(BackendRegistry()[name]) is newer


@pytest.mark.parametrize(
    ("qualname", "module"), [("Other", __name__), ("Mine", "elsewhere")], ids=["another class", "another module"]
)
def test_two_backends_of_one_name_are_an_error_that_names_both(qualname: str, module: str):
    name = f"twice_{new_token()}"
    first = type("Mine", (StreamingBackend,), body(_backend_type=name))
    with pytest.raises(ValueError, match=rf"called '{name}': {__name__}\.Mine and {module}\.{qualname};"):
        type(qualname, (StreamingBackend,), body(_backend_type=name, __module__=module))
    assert type(BackendRegistry()[name]) is first


@pytest.mark.parametrize("name", ["", 5, ("a",)], ids=repr)
def test_a_name_is_a_text(name: Any):
    with pytest.raises(ValueError, match="the name that the backend is found under"):
        type("Mine", (StreamingBackend,), body(_backend_type=name))


def test_a_registry_holds_what_is_put_in_and_names_what_there_is():
    registry = BackendRegistry()
    registry["disk"] = disk = object()
    assert registry["disk"] is disk
    assert {"disk", "napari_stream", "fiji_stream"} <= set(registry)
    assert len(registry) == len(set(registry))
    registry["tape"] = disk
    del registry["tape"]
    assert "tape" not in registry
    with pytest.raises(KeyError, match=r"there is no backend .tape.; the known ones: .*napari_stream"):
        registry["tape"]


def test_a_backend_that_needs_arguments_says_so():
    name = f"needy_{new_token()}"

    def init(self: Any, base: str) -> None:
        raise AssertionError

    type("Needy", (StreamingBackend,), body(_backend_type=name, __init__=init))
    with pytest.raises(TypeError, match=rf"Needy can't be made without .*registry\[\"{name}\"\] = Needy\(base\)"):
        BackendRegistry()[name]


@pytest.mark.parametrize(
    "prefix", ["napari", "Napari_", "a" * 15 + "_", "1_", "_", "a-b_", "a_b_", "a_\n", "ä_", "../_"], ids=repr
)
def test_a_prefix_that_does_not_fit_is_an_error_of_the_class(prefix: str):
    with pytest.raises(ValueError, match=r"Mine\.SHM_PREFIX is .*; it must be a lower-case letter"):
        type("Mine", (StreamingBackend,), body(SHM_PREFIX=prefix))


@pytest.mark.parametrize("prefix", ["a_", "a" * 14 + "_", "m2_"])
def test_a_prefix_that_fits_makes_a_name_that_fits(prefix: str):
    made = type("Mine", (StreamingBackend,), body(SHM_PREFIX=prefix))
    with made(launch=False) as backend:
        backend.save(np.zeros((4, 4), "uint8"), "a.tif")
        assert backend.stats().segment_bytes > 0
        assert [path.name for path in SHM.iterdir() if path.name.startswith(prefix)]


def test_a_backend_without_a_viewer_cannot_be_made():
    with pytest.raises(TypeError, match="StreamingBackend has no viewer; set VIEWER_TYPE"):
        StreamingBackend()


# ---- batches -----------------------------------------------------------------------------------------------------


def test_a_batch_goes_where_its_file_names_say(viewer: Viewer, backend: Headless):
    paths = [f"run/img_t{t:03}_c{c}_z{z:02}.tif" for t in range(3) for c in (1, 2) for z in range(2)]
    receipt = backend.save_batch(
        [stamped(t, c, z) for t in range(3) for c in (1, 2) for z in range(2)], [Path(path) for path in paths]
    )
    assert receipt == Receipt(tuple(paths), (), 12)
    assert backend.flush(10)
    (stream,) = viewer.streams
    assert stream.axes == ("t", "c", "z")
    assert stream.about.labels["c"] == ["1", "2"]
    assert stamps(viewer) == {(t, c, z): (t, c + 1, z) for t in range(3) for c in range(2) for z in range(2)}


def test_where_and_a_pattern_say_more(viewer: Viewer, backend: Headless):
    backend.save(stamped(4), "DAPI-7.tif", axes={"Time": 4}, pattern=r"(?P<c>\w+)-(?P<z>\d+)")
    assert backend.flush(10)
    (stream,) = viewer.streams
    assert (stream.axes, stream.about.labels) == (("t", "c", "z"), {"c": ["DAPI"]})
    assert stamps(viewer) == {(4, 0, 7): (4, 0, 0)}


def test_what_the_file_name_says_comes_on_top(viewer: Viewer, backend: Headless):
    backend.save(stamped(4), "t0004.tif", axes={"Time": 9, "z": 1})
    assert backend.flush(10)
    assert list(stamps(viewer)) == [(4, 1)]


FOREIGN = {
    **dict.fromkeys(("path", "inner", "given", "array", "stream", "policy", "file_path", "where_from"), 1),
    "plate_path": "/x",
    "data_list": 3,
    "zarr_config": object(),
    "chunk": 3,
}


@pytest.mark.parametrize("name", FOREIGN)
def test_options_for_other_backends_are_ignored(viewer: Viewer, backend: Headless, name: str):
    """A host hands on what it was given to each of several backends."""
    backend.publisher.open((64, 48), "uint16", wait=20)
    files = FileManager({"live": backend, "memory": MemoryBackend()})
    option = {name: FOREIGN[name]}
    assert files.save(stamped(0), "a.tif", "live", **option).frames == 1
    if name not in ("file_path", "data_list"):  # which a method of the other has
        assert files.save_batch([stamped(0)], ["a.tif"], ["memory", "live"], **option)["live"].frames == 1
    if name != "path":
        backend._stream_data(stamped(0), "a.tif", **option)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pixel_size", "did you mean 'scale'?"),
        ("axis", "did you mean 'axes'?"),
        ("colours", "did you mean 'colors'?"),
        ("dimensions", "did you mean 'dims'?"),
        ("meta", "did you mean 'metadata'?"),
        ("regex", "did you mean 'pattern'?"),
        ("qqqq", "it has data_list, file_paths, axes, pattern"),
    ],
)
def test_an_option_that_there_is_not_is_an_error_with_the_one_that_was_meant(backend: Headless, name: str, said: str):
    for call in (backend.save, lambda image, path, **how: backend.save_batch([image], [path], **how)):
        with pytest.raises(TypeError, match=rf"save_batch\(\) has no argument '{name}': {re.escape(said)}"):
            call(stamped(0), "a.tif", **{name: 1})
    assert backend.stats().frames.published == 0


def test_a_backend_says_what_it_takes():
    with pytest.raises(
        TypeError, match=r"StreamingBackend\(\) has no argument 'pixel_size_um': did you mean 'scale'\?"
    ):
        Headless(pixel_size_um=0.3)
    with pytest.raises(TypeError, match=r"StreamingBackend\(\) has no argument 'titel': did you mean 'title'\?"):
        NapariStreamingBackend(titel="x")
    with pytest.raises(ValueError, match="scale must be above 0"):
        Headless(scale=0)
    with pytest.raises(ValueError, match="not a valid regular expression"):
        Headless(pattern="((")


def test_scale_steps_channels_and_colours_are_those_of_the_backend_or_of_the_batch(viewer: Viewer):
    with Headless(launch=False, scale=0.3, steps={"z": 2}, channels="DAPI", colors={"DAPI": "blue"}) as backend:
        backend.publisher.open((64, 48), "uint16", wait=20)
        backend.save(stamped(0), "t0_c0.tif")
        backend.save(stamped(1), "t1_c0.tif", scale=(0.5, 0.25), units="mm", colors=["red"])
        backend.save(stamped(2), "t2_c0.tif")  # goes on
        backend.save(stamped(3), "t3_c0.tif", scale=(0.5, 0.25), units="mm", colors=["red"])
        assert backend.flush(10)
        first, second = (stream.about for stream in viewer.streams)
    assert (first.scale, first.units, first.labels["c"][0], first.colors) == ([0.3, 0.3], "um", "DAPI", ["blue", ""])
    assert (second.scale, second.units, second.colors) == ([0.5, 0.25], "mm", ["red"])
    assert [stream.received for stream in viewer.streams] == [1, 3]


def test_a_volume_of_which_a_part_is_shown_is_told_as_such(backend: Headless, monkeypatch: pytest.MonkeyPatch):
    """43 of 48 planes are on the screen: that is what is said, wherever it is."""
    backend.publisher.open((64, 48), "uint16", wait=20)
    publisher, answers = (
        backend.publisher,
        iter([Outcome(n, 1) for n in range(43)] + [Outcome(-1, 1, Reason.NO_ROOM, "", 1)] * 5),
    )
    monkeypatch.setattr(publisher, "_publish_plane", lambda *_: next(answers))
    receipt = backend.save(np.zeros((48, 64, 48), "uint16"), "vol.tif")
    assert (receipt.frames, receipt.sent, receipt.skipped) == (43, ("vol.tif",), ())
    assert str(receipt) == "1 sent (43 frames), 1 only in part: vol.tif (43 of 48 planes shown; the others: no room)"


def test_files_whose_names_tell_nothing_have_places_of_their_own(viewer: Viewer, backend: Headless):
    names = ["nucleus.tif", "membrane.tif", "caf\udce9.tif", "\U0001f52c.tif", "m" * 200 + ".tif"]
    receipt = backend.save_batch([stamped(t) for t in range(5)], names)
    assert receipt.frames == 5
    backend.save(stamped(9), "elsewhere/nucleus.tif")  # another image
    backend.save(stamped(8), "nucleus.tif")  # the first one, taken again
    assert backend.flush(10)
    shown = {index: stamp[0] for index, stamp in stamps(viewer).items()}
    assert shown == {(0,): 8, (1,): 1, (2,): 2, (3,): 3, (4,): 4, (5,): 9}
    labels = viewer.streams[0].about.labels["file"]
    assert labels[:3] == ["nucleus.tif", "membrane.tif", r"caf\udce9.tif"]
    assert labels[5] == "elsewhere/nucleus.tif"


def test_more_files_than_a_message_has_room_for_labels(viewer: Viewer, backend: Headless):
    image = np.zeros((4, 4), "uint8")
    names = [f"{'n' * 50}{chr(97 + number % 26)}{number}x.tif" for number in range(1100)]
    assert backend.save_batch([image] * 1100, names).frames == 1100
    assert backend.flush(10)
    assert backend.stats().frames.delivered == 1100
    assert viewer.streams[0].stacks[0].shape == (1100,)


def test_a_volume_is_one_item_of_several_frames(viewer: Viewer, backend: Headless):
    volume = np.stack([stamped(3, 0, z) for z in range(5)])
    receipt = backend.save(volume, "t3.tif")
    assert (receipt.sent, receipt.frames) == (("t3.tif",), 5)
    assert backend.flush(10)
    assert stamps(viewer) == {(3, z): (3, 0, z) for z in range(5)}


def test_a_file_that_is_on_the_disk_already_is_read(viewer: Viewer, backend: Headless, tmp_path: Path):
    for t in range(2):
        tifffile.imwrite(tmp_path / f"img_t{t}.tif", np.stack([stamped(t, 0, z) for z in range(5)]))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "img_t0.tif").read_bytes()[:-100])
    paths = [tmp_path / name for name in ("img_t0.tif", "cut.tif", "img_t1.tif")]
    receipt = backend.save_batch([None] * 3, paths)
    assert (receipt.sent, receipt.frames) == ((str(paths[0]), str(paths[2])), 10)
    assert "bytes" in receipt.skipped[0].reason
    assert backend.flush(10)
    assert stamps(viewer) == {(t, z): (t, 0, z) for t in range(2) for z in range(5)}


@pytest.mark.parametrize("difference", [-1, 1], ids=["too few paths", "too many"])
def test_lists_that_differ_in_length_send_nothing(backend: Headless, difference: int):
    paths = [f"t{t}.tif" for t in range(3 + difference)]
    with pytest.raises(ValueError, match=f"3 items, but {3 + difference} paths"):
        backend.save_batch([stamped(0)] * 3, paths)
    with pytest.raises(ValueError, match=f"3 items, but {3 + difference} paths"):
        backend._filter_streamable_files([stamped(0)] * 3, paths)
    assert backend.stats().frames.published == 0
    assert segments() == set()


EXTENSIONS = {
    "a.tif": True,
    "A.TIF": True,
    "b.Tiff": True,
    "rois.roi.zip": True,
    "ROIS.ROI.ZIP": True,
    "dir.tif/x.csv": False,
    "x.zip": False,
    "roi.zip.txt": False,
    "tif": False,
    "": False,
    "x.tif ": False,
}


@pytest.mark.parametrize("as_path", [str, Path], ids=["str", "Path"])
def test_the_filter_knows_compound_extensions_in_any_case(backend: Headless, as_path: type):
    paths = [as_path(path) for path in EXTENSIONS]
    items = [object() for _ in paths]
    data, kept, skipped = backend._filter_streamable_files(items, paths)
    wanted = list(EXTENSIONS.values())
    assert kept == [path for path, want in zip(paths, wanted, strict=True) if want]
    assert data == [item for item, want in zip(items, wanted, strict=True) if want]
    assert skipped == [os.fspath(path) for path, want in zip(paths, wanted, strict=True) if not want]


def test_what_is_skipped_is_logged_once_a_batch_and_in_the_receipt(backend: Headless, caplog: pytest.LogCaptureFixture):
    paths = ["t0.tif", *(f"table{number}.CSV" for number in range(10)), "README"]
    with caplog.at_level(logging.INFO, logger="scopecast.backends.streaming"):
        receipt = backend.save_batch([stamped(0)] * 12, paths)
        backend.save_batch([stamped(0)], ["t1.tif"])
    (record,) = [
        record
        for record in caplog.records
        if record.name == "scopecast.backends.streaming" and record.levelno >= logging.INFO
    ]
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("scopecast: 11 of 12 files are not images and are not shown: table0.CSV, ")
    assert record.getMessage().endswith("table4.CSV …")
    reasons = [Skipped(path, "extension '.csv'") for path in paths[1:-1]] + [Skipped("README", "extension ''")]
    assert list(receipt.skipped[:11]) == reasons
    assert receipt.skipped[11] == Skipped("t0.tif", "no viewer")
    assert str(receipt).startswith("0 sent (0 frames), 12 skipped: table0.CSV (extension '.csv'), ")
    assert str(receipt).endswith(" …")


def test_an_empty_item_is_skipped(viewer: Viewer, backend: Headless):
    receipt = backend.save_batch([stamped(0), np.zeros((0, 5))], ["t0.tif", "t1.tif"])
    assert receipt == Receipt(("t0.tif",), (Skipped("t1.tif", "empty"),), 1)
    assert str(receipt) == "1 sent (1 frame), 1 skipped: t1.tif (empty)"


def test_an_item_that_cannot_be_shown_is_an_error_and_those_before_it_are_sent(viewer: Viewer, backend: Headless):
    with pytest.raises(UnsupportedDtypeError, match="object"):
        backend.save_batch([stamped(0), np.array([[None]]), stamped(2)], ["t0.tif", "t1.tif", "t2.tif"])
    assert backend.flush(10)
    assert backend.stats().frames == (1, 1, 0, 0, 0, 0)


def test_batches_share_a_stream_and_lose_nothing(viewer: Viewer):
    with Headless(title="plate 3", launch=False, budget=2**16, linger=10) as backend:  # eight slots
        for t in range(20):
            backend.save_batch([stamped(t, c) for c in range(3)], [f"t{t}_c{c}.tif" for c in range(3)])
            assert backend.stats().balanced
        assert backend.flush(10)
        assert backend.stats().frames == (60, 60, 0, 0, 0, 0)
        (stream,) = viewer.streams
        assert (stream.title, stream.about.title) == ("plate 3", "plate 3")
        assert len(stamps(viewer)) == 60


def test_what_is_closed_says_so(backend: Headless):
    backend.save(stamped(0), "t0.tif")
    backend.cleanup()
    backend.close()
    with pytest.raises(ClosedError, match="this Headless is closed; make a new one"):
        backend.save(stamped(0), "t0.tif")
    with pytest.raises(ClosedError):
        backend.reserve((4, 4), "uint8")
    assert backend.stats().frames.published == 1
    assert segments() == set()


# ---- a running acquisition ---------------------------------------------------------------------------------------


def sequence(times: int = 2) -> useq.MDASequence:
    return useq.MDASequence(
        channels=["DAPI", "FITC"], time_plan={"interval": 0, "loops": times}, z_plan={"range": 2, "step": 1}
    )


def acquire(backend: Headless, events: Any, *, offset: int = 0) -> None:
    for number, event in enumerate(events):
        backend.frame_ready(stamped(offset + number), event, {"pixel_size_um": 0.5})


@pytest.fixture
def lossless() -> Iterator[Headless]:
    """Under the policy that waits, so that the tests can tell where each frame went."""
    with Headless(title="scope", launch=False, policy="every", linger=10) as made:
        yield made


def test_the_frames_of_a_sequence_go_where_its_events_say(viewer: Viewer, lossless: Headless):
    run = sequence()
    lossless.sequenceStarted(run, {"image_infos": [{"plane_shape": (64, 48), "dtype": "uint16", "pixel_size_um": 0.5}]})
    for number, event in enumerate(run):
        lossless.frameReady(stamped(number), event, {})
    lossless.sequenceFinished(run)
    assert lossless.flush(10)
    viewer.wait_for(lambda: viewer.streams and viewer.streams[0].state == "ended")
    (stream,) = viewer.streams
    assert stream.axes == ("t", "c", "z")
    assert stream.about.labels == {"c": ["DAPI", "FITC"]}
    assert (stream.about.sizes, stream.about.scale, stream.about.units) == ([2, 2, 3], [0.5, 0.5], "um")
    expected = {tuple(event.index[axis] for axis in "tcz"): number for number, event in enumerate(run)}
    assert {index: stamp[0] for index, stamp in stamps(viewer).items()} == expected
    assert lossless.errors == 0


def test_a_new_sequence_is_a_new_stream(viewer: Viewer, lossless: Headless):
    acquire(lossless, sequence())
    acquire(lossless, sequence(), offset=100)
    assert lossless.flush(10)
    assert [stream.about.title for stream in viewer.streams] == ["scope", "scope 2"]
    assert {stamp[0] for stamp in stamps(viewer, 0).values()} == set(range(12))
    assert {stamp[0] for stamp in stamps(viewer, 1).values()} == set(range(100, 112))
    viewer.wait_for(lambda: [stream.state for stream in viewer.streams] == ["ended", "live"])


@pytest.mark.parametrize("told", [True, False], ids=["sequenceStarted", "frames only"])
def test_the_same_sequence_run_again_is_a_new_stream(viewer: Viewer, lossless: Headless, told: bool):
    run = sequence()
    for offset in (0, 100):
        if told:
            lossless.sequenceStarted(run, {})
        acquire(lossless, run, offset=offset)
    assert lossless.flush(10)
    assert [len(stamps(viewer, number)) for number in range(len(viewer.streams))] == [12, 12]


@pytest.mark.parametrize("retaken", [(0,), (0, 2, 0)], ids=["the first", "several"])
def test_a_place_that_is_taken_again_stays_in_its_run(viewer: Viewer, lossless: Headless, retaken: tuple[int, ...]):
    times = itertools.count(10.0, 10.0)

    def take(t: int, stamp: int) -> None:
        lossless.frame_ready(stamped(stamp), useq.MDAEvent(index={"t": t}), {"runner_time_ms": next(times)})

    for offset in (0, 100):
        for t in range(3):
            take(t, offset + t)
        for t in retaken:
            take(t, offset + 50 + t)
        times = itertools.count(10.0, 10.0)  # of the next run
    assert lossless.flush(10)
    assert [{stamp[0] for stamp in stamps(viewer, number).values()} for number in range(len(viewer.streams))] == [
        {offset + t + 50 * (t in retaken) for t in range(3)} for offset in (0, 100)
    ]


@pytest.mark.parametrize("how", ["save", "frame_ready"])
def test_threads_that_are_the_first_to_publish_share_one_source_and_one_stream(
    viewer: Viewer, how: str, monkeypatch: pytest.MonkeyPatch
):
    threads = 4
    constructing = threading.Barrier(threads)

    class Late(Publisher):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            with contextlib.suppress(threading.BrokenBarrierError):
                constructing.wait(0.5)  # for the others to get as far, if they may
            super().__init__(*arguments, **keywords)

    monkeypatch.setattr("scopecast.backends.streaming.Publisher", Late)
    with Headless(launch=False, policy="every", linger=10) as backend, ThreadPoolExecutor(threads) as pool:

        def publish(t: int) -> None:
            if how == "save":
                backend.save(stamped(t), f"img_t{t}.tif")
            else:
                backend.frame_ready(stamped(t), useq.MDAEvent(index={"t": t}, channel="DAPI"))

        list(pool.map(publish, range(threads)))
        assert backend.flush(20)
        assert {stamp[0] for stamp in stamps(viewer).values()} == set(range(threads))
        assert len(viewer.streams) == 1


@pytest.mark.parametrize("told", [True, False], ids=["sequenceStarted", "frames only"])
def test_a_generator_of_events_that_begins_again_is_a_new_stream(viewer: Viewer, lossless: Headless, told: bool):
    for offset in (0, 100, 200):
        if told:
            lossless.sequenceStarted(None)
        acquire(lossless, (useq.MDAEvent(index={"t": t}, channel="DAPI") for t in range(4)), offset=offset)
    assert lossless.flush(10)
    assert [{stamp[0] for stamp in stamps(viewer, number).values()} for number in range(3)] == [
        {offset + t for t in range(4)} for offset in (0, 100, 200)
    ]


def test_frames_without_an_event_are_a_preview_which_is_used_again(viewer: Viewer, lossless: Headless):
    lossless.frame_ready(stamped(1))
    acquire(lossless, sequence())
    lossless.frame_ready(stamped(2), useq.MDAEvent())
    assert lossless.flush(10)
    preview, run = viewer.streams
    assert (preview.about.title, preview.axes, preview.about.preview) == ("live", (), True)
    assert [check_stamp(plane)[0] for plane in planes_of(preview).values()] == [2]
    assert len(planes_of(run)) == 12


class Broken:
    """Fails whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


BAD_FRAMES: dict[str, tuple[Any, ...]] = {
    "dtype": (np.array([[None]]),),
    "no image": (None,),
    "text": ("image.tif",),
    "no event": (stamped(0), Broken()),
    "index": (stamped(0), useq.MDAEvent(index={"t": -1})),
    "shape": (np.zeros((2,) * 9, "uint8"),),
}


@pytest.mark.fault("D3")
@pytest.mark.parametrize("arguments", BAD_FRAMES.values(), ids=BAD_FRAMES)
def test_a_bad_frame_is_counted_with_one_warning_and_never_raised(
    viewer: Viewer, lossless: Headless, arguments: tuple[Any, ...], caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            lossless.frame_ready(*arguments)
    assert lossless.errors == 3
    (record,) = warnings_in(caplog)
    assert record.getMessage().startswith("scopecast: a frame could not be shown: ")
    lossless.frame_ready(stamped(5))
    assert lossless.flush(10)
    assert lossless.stats().frames.delivered == 1
    assert lossless.errors == 3


def test_a_live_view_that_is_closed_during_a_run_has_nothing_to_say_at_its_end(backend: Headless):
    backend.sequenceStarted(sequence(), {})
    backend.close()
    backend.sequenceFinished(None)
    assert backend.errors == 0


def test_after_close_the_acquisition_goes_on(backend: Headless, caplog: pytest.LogCaptureFixture):
    backend.close()
    with caplog.at_level(logging.WARNING):
        backend.sequenceStarted(sequence(), {})
        backend.frame_ready(stamped(0))
        backend.sequenceFinished(None)
    assert backend.errors == 2
    (record,) = warnings_in(caplog)
    assert "is closed; make a new one" in record.getMessage()


GARBAGE = {
    "a list": [1],
    "a broken object": Broken(),
    "no infos": {"image_infos": []},
    "infos of nothing": {"image_infos": [{}]},
    "infos that are None": {"image_infos": None, "pixel_size_um": None},
    "sizes": {"pixel_size_um": float("nan")},
    "infinite": {"pixel_size_um": float("inf")},
    "text": {"pixel_size_um": "0.5"},
}


@pytest.mark.parametrize("metadata", GARBAGE.values(), ids=GARBAGE)
def test_metadata_that_makes_no_sense_loses_no_frame(viewer: Viewer, lossless: Headless, metadata: Any):
    lossless.sequenceStarted(sequence(), metadata)
    lossless.frame_ready(stamped(0), next(iter(sequence())), metadata)
    assert lossless.flush(10)
    assert lossless.stats().frames.delivered == 1
    assert lossless.errors == 0
    assert viewer.streams[-1].about.scale == [1.0, 1.0]


def test_a_reserved_slot_is_shown(viewer: Viewer, lossless: Headless):
    with lossless.reserve((64, 48), "uint16", axes={"t": 0}) as slot:
        slot.array[:] = stamped(3)
    assert lossless.flush(10)
    assert stamps(viewer) == {(0,): (3, 0, 0)}


# ---- processes ---------------------------------------------------------------------------------------------------


@pytest.mark.fault("P4")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_streams_for_itself_and_its_parent_goes_on(viewer: Viewer):
    code = f"""
import os, sys, numpy as np
from scopecast import StreamingBackend
class Forking(StreamingBackend):
    VIEWER_TYPE, SHM_PREFIX = "headless", "{PREFIX}"
frame = np.zeros((8, 8), "uint8")
backend = Forking(launch=False, title="forking", linger=10)
backend.save(frame, "t0.tif")
backend.frame_ready(frame)
if os.fork() == 0:
    assert backend.stats().frames.published == 0
    assert backend.flush(1)
    backend.save(frame, "t1.tif")
    backend.save(frame, "t2.tif")
    assert backend.flush(10)
    print("child", *backend.stats().frames, flush=True)
    backend.close()
    sys.exit(0)
assert os.wait()[1] == 0
backend.save(frame, "t3.tif")
assert backend.flush(10)
print("parent", *backend.stats().frames)
backend.close()
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert child.stdout == "child 2 2 0 0 0 0\nparent 3 3 0 0 0 0\n", child.stderr
    assert {source.entry.title for source in viewer.sources} == {"forking"}
    assert len(viewer.sources) == 2


def test_the_module_can_be_imported_again():
    """As a re-run notebook cell does; the registered names are the same classes, newly made."""
    module = importlib.import_module("scopecast.backends.streaming")
    code = (
        "import importlib, scopecast.backends.streaming as b; importlib.reload(b)"
        "; print(b.NapariStreamingBackend._backend_type)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert child.stdout == f"{module.NapariStreamingBackend._backend_type}\n", child.stderr
