"""Each image has a place of its own: whatever names agree in, nothing takes the place of another without a word."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import scopecast
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher, StreamingBackend
from scopecast.frames.axes import MAX_LABEL, axes_from_path, check_axes, rest_of_name, short_label, spell_axis
from scopecast.frames.places import Places
from scopecast.frames.streams import FrameStream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "scopecast"]


class Headless(StreamingBackend):
    VIEWER_TYPE = "headless"
    SHM_PREFIX = "hpl_"


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def places_in(stream: FrameStream) -> Places:
    def place(axes: Any) -> dict[str, int]:
        index = stream.place(axes)
        return dict(zip(stream.axes, index, strict=True))

    return Places(place)


def stamps(stream: Any) -> list[int]:
    return sorted(check_stamp(plane)[0] for plane in planes_of(stream).values())


SETS = {
    "channels in words": ["exp1_w_DAPI_T00.tif", "exp1_w_GFP_T00.tif", "exp1_w_DAPI_T01.tif", "exp1_w_GFP_T01.tif"],
    "MetaMorph": ["a_w1DAPI_t1.tif", "a_w2GFP_t1.tif", "a_w1DAPI_t2.tif", "a_w2GFP_t2.tif"],
    "another word": ["mouse_t0.tif", "control_t0.tif", "mouse_t1.tif", "control_t1.tif"],
    "sites without a well": ["a_s1_t1.tif", "a_s2_t1.tif"],
    "upper and lower case": ["img_t0.tif", "IMG_t0.tif", "Img_T0.tif"],
    "extensions": ["img_t0.tif", "img_t0.png", "img_t0.ome.tif"],
    "zeros": ["img_t1.tif", "img_t01.tif", "img_t001.tif"],
    "with a channel and without": ["img_t0.tif", "img_t0_c1.tif", "img_t0_c2.tif"],
    "letters with accents": ["Zürich.tif", "Zu\u0308rich.tif"],
    "letters with accents, and places": ["Zürich_t1.tif", "Zu\u0308rich_t1.tif"],
    "large and small letters": ["A_t1.tif", "a_t1.tif"],
    "folders": ["a/img_t0.tif", "b/img_t0.tif", "a/img_t1.tif", "b/img_t1.tif"],
    "nothing, and folders": ["a/cell.tif", "b/cell.tif", "cell.tif"],
    "long names": ["n" * 90 + "1.tif", "n" * 90 + "2.tif", "1" + "n" * 90 + ".tif", "2" + "n" * 90 + ".tif"],
    "named and unnamed": ["cell.tif", "img_t0.tif", "img_t1.tif"],
}


@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
def test_every_image_of_a_batch_is_there(viewer: Viewer, names: list[str]):
    with Headless(launch=False) as backend:
        for round_ in range(2):  # a retake replaces each where it is
            receipt = backend.save_batch([stamped(10 * round_ + at) for at in range(len(names))], names)
            assert receipt.frames == len(names)
            assert backend.flush(10)
            (stream,) = viewer.streams
            assert stamps(stream) == [10 * round_ + at for at in range(len(names))]


@pytest.mark.parametrize("names", SETS.values(), ids=SETS)
def test_every_file_of_a_folder_is_there(viewer: Viewer, tmp_path: Path, names: list[str]):
    for at, name in enumerate(names):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith(".png"):
            pytest.importorskip("imageio").v3.imwrite(tmp_path / name, stamped(at))
        else:
            tifffile.imwrite(tmp_path / name, stamped(at), metadata=None)
    receipt = scopecast.show([tmp_path / name for name in names], viewer="headless")
    assert receipt.frames == len(names)
    assert sorted(stamp for stream in viewer.streams for stamp in stamps(stream)) == list(range(len(names)))


def test_names_that_look_alike_have_labels_that_do_not(viewer: Viewer, tmp_path: Path):
    for name in ("Zürich.tif", "Zu\u0308rich.tif"):  # one letter, and two
        tifffile.imwrite(tmp_path / name, stamped(0))
    scopecast.show(tmp_path, viewer="headless")
    (stream,) = viewer.streams
    assert sorted(stream.about.labels["file"]) == ["Zürich.tif", "Zürich.tif (2)"]
    pattern = "_(?P<c>.+)[.]"
    assert axes_from_path("a_rosé.tif", pattern) == axes_from_path("a_rose\u0301.tif", pattern)


def test_channels_in_words_are_channels(viewer: Viewer, tmp_path: Path):
    for c, name in enumerate(("DAPI", "GFP")):
        for t in range(3):
            tifffile.imwrite(tmp_path / f"exp1_w_{name}_T{t:02d}.tif", stamped(t, c))
    done = subprocess.run(
        [*COMMAND, "show", str(tmp_path), "--viewer", "headless"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "Shown in headless: 6 files, 6 planes.\n"), done.stderr
    (stream,) = viewer.streams
    assert stream.about.labels["c"] == ["DAPI", "GFP"]
    shown = {index: check_stamp(plane) for index, plane in planes_of(stream).items()}
    assert shown == {(t, c): (t, c, 0) for t in range(3) for c in range(2)}


def test_what_no_name_tells_is_said_with_both_names(viewer: Viewer, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for t, name in enumerate(("mouse_t0.tif", "control_t0.tif")):
        tifffile.imwrite(tmp_path / name, stamped(t))
    done = subprocess.run(
        [*COMMAND, "show", str(tmp_path), "--viewer", "headless"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    note = "note: mouse_t0.tif: its name gives it the same place as control_t0.tif: both are shown, side by side on the"
    assert note in done.stderr
    (stream,) = viewer.streams
    assert stream.about.labels["file"] == ["control", "mouse"]
    with caplog.at_level(logging.WARNING), Headless(launch=False) as backend:
        backend.save_batch([stamped(0), stamped(1)], ["mouse_t0.tif", "control_t0.tif"])
    assert "control_t0.tif: its name gives it the same place as mouse_t0.tif" in caplog.text


def test_a_series_stays_together_and_a_name_that_changes_with_time_makes_no_axis():
    settled = places_in(FrameStream(0, "run"))
    names = [f"{kind}_t{t}.tif" for t in range(3) for kind in ("a", "b")]
    where = [settled.settle(name, axes_from_path(name)).axes for name in names]
    assert where == [
        {"t": 0}, {"t": 0, "file": "b"}, {"t": 1, "file": "a"}, {"t": 1, "file": "b"},
        {"t": 2, "file": "a"}, {"t": 2, "file": "b"},
    ]  # fmt: skip
    settled = places_in(FrameStream(0, "run"))
    dated = [f"img_t{t}_2024-0{t + 1}-11.tif" for t in range(5)]
    assert [settled.settle(name, axes_from_path(name)).axes for name in dated] == [{"t": t} for t in range(5)]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a/", "b/", ""]),
            st.sampled_from(["img", "IMG", "x", ""]),
            st.sampled_from(["_t0", "_t1", "_t01", "_c1", "_c01", "_t1_c1", ""]),
            st.sampled_from(["", "_e1", "-" + "n" * 70, "-" + "n" * 71]),
            st.sampled_from([".tif", ".png"]),
        ),
        max_size=12,
    )
)
def test_two_paths_never_have_one_place(parts: list[tuple[str, ...]]):
    stream = FrameStream(0, "run")
    settled = places_in(stream)
    held: dict[tuple[Any, ...], str] = {}
    given_: dict[str, dict[str, Any]] = {}
    for name in ("".join(each) for each in parts):
        axes = axes_from_path(name) or {"file": short_label(name.rpartition("/")[2], keep_end=True)}
        where = settled.settle(name, axes).axes
        assert given_.setdefault(name, where) == where
        index = stream.place(check_axes(where))
        seat = tuple(sorted((axis, at) for axis, at in zip(stream.axes, index, strict=True) if at))
        assert held.setdefault(seat, name) == name


# ---- names and numbers -----------------------------------------------------------------------------------------------


def test_a_channels_number_is_the_same_said_either_way(viewer: Viewer):
    with Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), wait=10)
        publisher.publish(stamped(1), channel=1)
        publisher.publish(stamped(2), axes={"c": 1})
        publisher.publish(stamped(3), channel="DAPI")
        assert publisher.flush(10)
        shown = {index: check_stamp(plane)[0] for index, plane in planes_of(viewer.streams[0]).items()}
    assert shown == {(1,): 2, (2,): 3}, "a name takes no place that was given by number"


def test_a_name_behind_numbers_is_announced_at_its_place():
    stream = FrameStream(0, "run")
    assert [stream.place({"c": c}) for c in (0, 1, "DAPI", "GFP", "DAPI", 7, "Cy5")] == [
        [0],
        [1],
        [2],
        [3],
        [2],
        [7],
        [8],
    ]
    assert stream.message().labels["c"] == ["0", "1", "DAPI", "GFP", "4", "5", "6", "7", "Cy5"]
    named = FrameStream(0, "run", channels=["DAPI", "GFP"])
    assert [named.place({"c": c}) for c in (0, "GFP", 1, "DAPI", "Cy5")] == [[0], [1], [1], [0], [2]]


def test_channels_that_are_named_alike_keep_their_numbers():
    stream = FrameStream(0, "run", channels=["GFP", "GFP", "DAPI"])
    assert stream.place({"c": "DAPI"}) == [2]
    assert stream.message().labels["c"] == ["GFP", "GFP (1)", "DAPI"]


@pytest.mark.parametrize("axes", [{"t": -1}, {"time point": 1}, {"y": 1}, {"t": 1.5}, {f"a{n}": 0 for n in range(9)}])
@pytest.mark.parametrize("attached", [False, True], ids=["no viewer", "a viewer"])
@pytest.mark.parametrize("policy", ["every", "latest"])
def test_a_mistake_is_one_with_and_without_a_viewer(axes: dict[str, Any], attached: bool, policy: Any, request: Any):
    if attached:
        request.getfixturevalue("viewer")
    with Publisher("headless", policy=policy) as publisher:
        if attached:
            publisher.open((64, 48), wait=10)
        with pytest.raises((ValueError, TypeError)):
            publisher.publish(stamped(0), axes=axes)
        with pytest.raises((ValueError, TypeError)):
            publisher.reserve((64, 48), "uint16", axes=axes)
        publisher.publish(stamped(0), axes={"t": 0})
        assert not publisher.stats().frames.delivered or attached


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=200), st.booleans())
def test_texts_that_differ_are_labels_that_differ(one: str, other: str, keep_end: bool):
    labels = [short_label(text, keep_end=keep_end) for text in (one, other)]
    assert max(map(len, labels)) <= MAX_LABEL
    assert (labels[0] == labels[1]) == (one == other)


@given(st.text(max_size=50))
def test_any_name_of_an_axis_can_be_spelled(name: str):
    assert check_axes({spell_axis(name): 0})


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("exp_w_wt_t1.tif", {"t": 1, "c": "wt"}),
        ("a_wt_t1.tif", {"t": 1}),
        ("c_elegans_t1.tif", {"t": 1}),
        ("a_w_t1.tif", {"t": 1}),
        ("a_ch1_final_t1.tif", {"t": 1, "c": "1"}),
        ("channel_GFP_z3.tif", {"z": 3, "c": "GFP"}),
        ("with_w_DAPI.tif", {}),
    ],
)
def test_a_channel_in_words_is_read_with_care(name: str, axes: dict[str, Any]):
    assert axes_from_path(name) == axes


def test_the_rest_of_a_name_by_a_pattern_of_ones_own():
    assert rest_of_name("DAPI after 12 h.png", r"after (?P<t>\d+) h") == "DAPI after_h"
    assert np.unique([rest_of_name(f"x_t{t}.tif") for t in range(3)]).tolist() == ["x"]


def test_what_is_in_a_name_steers_no_terminal(viewer: Viewer, tmp_path: Path):
    for name in ("x\x1b[2J_t1.tif", "y\x9b2J_t1.tif"):
        tifffile.imwrite(tmp_path / name, stamped(1))
    (tmp_path / "z\x1b]0;title.tif").touch()
    done = subprocess.run([*COMMAND, "show", str(tmp_path), "--viewer", "headless"], capture_output=True, timeout=60)
    printed = done.stdout.decode() + done.stderr.decode()
    assert "y\\x9b2J_t1.tif: its name gives it the same place as x\\x1b[2J_t1.tif" in printed
    assert "z\\x1b]0;title.tif: it is empty" in printed
    assert all(letter.isprintable() or letter == "\n" for letter in printed)
    assert len(stamps(viewer.streams[0])) == 2
