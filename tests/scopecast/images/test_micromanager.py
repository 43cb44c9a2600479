"""Folders that Micro-Manager and its kin write: NDTiff datasets, and single images with a metadata.txt."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from ndstorage import NDTiffDataset

import scopecast
from receivers import Viewer, check_stamp, planes_of, stamped, viewer_process
from scopecast import FileError, IncompleteFileError
from scopecast.images.ndtiff import NdtiffDataset
from scopecast.images.open import find_files, open_image
from scopecast.showing.replay import Recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# ndstorage leaves the files of a finished dataset to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*NDTiff:ResourceWarning")

SUMMARY = {"PixelSize_um": 0.325, "z-step_um": 1.5}


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def write_dataset(folder: Path, places: list[dict[str, Any]], summary: dict[str, Any] = SUMMARY) -> Path:
    """Write an NDTiff dataset with ndstorage: plane n is stamped n, and was recorded 0.25 s after the one before."""
    dataset = NDTiffDataset(str(folder), name="run", writable=True)
    dataset.initialize(summary)
    for number, place in enumerate(places):
        dataset.put_image(place, stamped(number), {"ElapsedTime-ms": 700 + 250 * number})
    dataset.finish()
    dataset.close()
    return folder / "run_1"


def stamps(stream: Any) -> dict[tuple[int, ...], int]:
    return {index: check_stamp(plane)[0] for index, plane in planes_of(stream).items()}


def places(t: int, channels: list[Any], z: int) -> list[dict[str, Any]]:
    return [{"time": it, "channel": c, "z": iz} for it in range(t) for c in channels for iz in range(z)]


def test_a_dataset_is_shown_with_its_axes_channels_and_sizes(viewer: Viewer, tmp_path: Path):
    folder = write_dataset(tmp_path, places(2, ["DAPI", "FITC"], 3))
    receipt = scopecast.show(folder, viewer="headless")
    assert (receipt.sent, receipt.frames) == ((str(folder),), 12)
    (stream,) = viewer.streams
    assert (stream.about.title, stream.axes) == ("run_1", ("t", "c", "z"))
    assert list(stream.about.labels["c"]) == ["DAPI", "FITC"]
    assert (list(stream.about.scale), stream.about.units) == ([0.325, 0.325], "um")
    assert dict(zip(stream.axes, stream.about.steps, strict=True))["z"] == 1.5
    assert stamps(stream) == {(t, c, z): 6 * t + 3 * c + z for t in range(2) for c in range(2) for z in range(3)}


def test_what_an_exploration_and_a_list_of_positions_call_their_places(tmp_path: Path):
    wanted = [{"z": -2, "position": "A1-Site_0"}, {"z": 1, "position": "A1-Site_0"}, {"z": -2, "position": "B2-Site_1"}]
    with NdtiffDataset(write_dataset(tmp_path, wanted, {})) as dataset:
        assert dataset.about.sizes == {"p": 2, "z": 4}
        assert dataset.about.units == "pixel"
        found = [(plane.axes, check_stamp(plane.array)[0]) for plane in dataset.planes()]
    assert found == [
        ({"p": "A1-Site_0", "z": 0}, 0),
        ({"p": "A1-Site_0", "z": 3}, 1),
        ({"p": "B2-Site_1", "z": 0}, 2),
    ]


@pytest.mark.parametrize("labels", [[" "], ["", "\0"]], ids=repr)
def test_places_without_a_name_are_shown(tmp_path: Path, labels: list[str]):
    with NdtiffDataset(write_dataset(tmp_path, [{"position": label} for label in labels], {})) as dataset:
        assert [check_stamp(plane.array)[0] for plane in dataset.planes()] == list(range(len(labels)))


def test_the_full_resolution_of_a_pyramid_is_shown(tmp_path: Path):
    folder = write_dataset(tmp_path, [{"row": 0, "column": 0}, {"row": 0, "column": 1}])
    (tmp_path / "pyramid").mkdir()
    folder.rename(tmp_path / "pyramid" / "Full resolution")
    assert find_files([tmp_path / "pyramid"]) == ([tmp_path / "pyramid"], 0)
    with open_image(tmp_path / "pyramid") as dataset:
        assert dataset.about.sizes == {"column": 2}
        assert len(dataset) == 2


def test_an_index_that_is_being_written_counts_as_far_as_it_goes(tmp_path: Path):
    folder = write_dataset(tmp_path, places(3, [0], 1))
    index = (folder / "NDTiff.index").read_bytes()
    entry = len(index) // 3
    (folder / "NDTiff.index").write_bytes(index[: 2 * entry + 50])
    with NdtiffDataset(folder) as dataset:
        assert [check_stamp(plane.array)[0] for plane in dataset.planes()] == [0, 1]
    (folder / "NDTiff.index").write_bytes(b"")
    with pytest.raises(IncompleteFileError, match="lists no image"):
        NdtiffDataset(folder)


def entry(axes: bytes = b'{"time": 0}', file: bytes = b"a.tif", *numbers: int) -> bytes:
    made = numbers or (0, 4, 4, 1, 0, 0, 0, 0)
    return struct.pack("<I", len(axes)) + axes + struct.pack("<I", len(file)) + file + struct.pack("<8I", *made)


@pytest.mark.parametrize(
    ("index", "text"),
    [
        (entry(file=b"../../secret"), "names a file outside of it"),
        (entry(file=b"none.tif"), "none.tif: No such file"),
        (entry(axes=b"[]"), "can't be read"),
        (entry(axes=b'{"time": 1.5}'), "can't be read: the axis 'time' is 1.5"),
        (entry(b'{"z": 0}', b"a.tif", 0, 4, 4, 9, 0, 0, 0, 0), "of a kind .9, 0. that is not known"),
        (entry(b'{"z": 0}', b"a.tif", 0, 2**31, 2**31, 1, 0, 0, 0, 0), "claims to have"),
        (entry(b'{"z": 0}', b"a.tif", 90, 4, 4, 1, 0, 0, 0, 0), "ends 22 bytes too early"),
    ],
    ids=[
        "outside",
        "no such file",
        "no axes",
        "a fraction",
        "unknown kind",
        "too large",
        "cut short",
    ],
)
def test_an_index_is_not_trusted(tmp_path: Path, index: bytes, text: str):
    (tmp_path / "NDTiff.index").write_bytes(index)
    (tmp_path / "a.tif").write_bytes(bytes(100))
    with pytest.raises(FileError, match=text), open_image(tmp_path) as dataset:
        list(dataset.planes())


def test_a_dataset_is_replayed_at_its_recorded_times(tmp_path: Path):
    folder = write_dataset(tmp_path, places(4, ["DAPI"], 1))
    recording = Recording(folder)
    assert recording.source == "recorded times"
    assert [moment.time_s for moment in recording.moments] == pytest.approx([0, 0.25, 0.5, 0.75])
    command = [sys.executable, "-P", "-m", "scopecast", "replay", str(folder), "--speed", "max"]
    with viewer_process():
        done = subprocess.run([*command, "--viewer", "headless"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Replayed in headless: 4 frames, 4 delivered, 0 superseded."


def test_colour_images_are_colour(tmp_path: Path):
    picture = np.arange(8 * 9 * 3, dtype="uint8").reshape(8, 9, 3)  # ndstorage itself fails to write one
    (tmp_path / "a.tif").write_bytes(bytes(100) + picture.tobytes())
    (tmp_path / "NDTiff.index").write_bytes(entry(b'{"time": 0}', b"a.tif", 100, 9, 8, 2, 0, 0, 0, 0))
    with NdtiffDataset(tmp_path) as dataset:
        np.testing.assert_array_equal(dataset.read(0).array, picture)


def test_single_images_take_sizes_and_channels_from_the_metadata_beside_them(viewer: Viewer, tmp_path: Path):
    about: dict[str, Any] = {"Summary": {"ChNames": ["DAPI", "FITC"], "z-step_um": -0.5}}
    for c in range(2):
        for z in range(2):
            name = f"img_channel{c:03d}_position000_time000000000_z{z:03d}.tif"
            tifffile.imwrite(tmp_path / name, stamped(0, c, z))
            about[f"Metadata-Default/{name}"] = {"PixelSizeUm": 0.325}
    (tmp_path / "metadata.txt").write_text(json.dumps(about))
    scopecast.show(tmp_path, viewer="headless")
    (stream,) = viewer.streams
    assert list(stream.about.labels["c"]) == ["DAPI", "FITC"]
    assert (list(stream.about.scale), stream.about.units) == ([0.325, 0.325], "um")
    assert dict(zip(stream.axes, stream.about.steps, strict=True))["z"] == 0.5
    assert {check_stamp(plane) for plane in planes_of(stream).values()} == {(0, c, z) for c in (0, 1) for z in (0, 1)}
