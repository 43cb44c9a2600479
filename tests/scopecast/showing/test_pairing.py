"""Regions of interest from files: which image each lies on, and what is said of those that can't be shown."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import roifile
import tifffile

import scopecast
from imagefiles import write_imagej
from receivers import Viewer, stamped, viewer_process
from scopecast import FileError
from scopecast.rundir.directory import RunDirectory
from scopecast.showing.stacks import Showing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def write_roi(path: Path, *names: str) -> Path:
    """Write regions as ImageJ does: one as .roi, several as an archive of those."""
    rois = [roifile.ImagejRoi.frompoints([[1, 2], [9, 2], [9, 8]], name=name) for name in names or ("cell",)]
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for roi in rois:
                archive.writestr(f"{roi.name}.roi", roi.tobytes())
    else:
        path.write_bytes(rois[0].tobytes())
    return path


def write_images(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        tifffile.imwrite(folder / name, stamped(number))


def show(*what: Path, **options: Any) -> scopecast.Receipt:
    return scopecast.show(list(what), viewer="headless", **options)


def regions_of(viewer: Viewer) -> list[tuple[str, str, dict[str, Any], Sequence[str]]]:
    """Return what lies where: the stream's title, the name of the set, its place with labels, the regions' names."""
    found = []
    for stream in viewer.streams:
        for each in stream.annotations:
            where = {} if each.channel is None else {"c": stream.label("c", each.channel)}
            found += [
                (
                    stream.about.title,
                    each.name,
                    {**where, **{axis: stream.label(axis, at) for axis, at in item.where.items()}},
                    list(item.document.names),  # type: ignore[union-attr]
                )
                for item in each
            ]
    return found


def test_regions_lie_on_the_image_of_their_name(viewer: Viewer, tmp_path: Path):
    write_images(tmp_path, "a.tif", "b.ome.tif", "c.tif")
    rois = [write_roi(tmp_path / name, name) for name in ("a.roi", "c.tif.roi")]
    rois.append(write_roi(tmp_path / "b.roi.zip", "b1", "b2"))
    receipt = show(*rois, *(tmp_path / name for name in ("a.tif", "b.ome.tif", "c.tif")))  # before their images
    assert (receipt.skipped, receipt.frames) == ((), 3)
    (stream,) = viewer.streams
    assert stream.axes == ("file",)
    assert regions_of(viewer) == [
        (tmp_path.name, "", {"file": "a.tif"}, ["a"]),
        (tmp_path.name, "", {"file": "b.ome.tif"}, ["b1", "b2"]),
        (tmp_path.name, "", {"file": "c.tif"}, ["c.tif"]),
    ]


def test_regions_of_another_name_lie_on_the_only_image(viewer: Viewer, tmp_path: Path):
    write_imagej(tmp_path / "cells.tif")
    show(tmp_path / "cells.tif", write_roi(tmp_path / "RoiSet.zip", "one", "two"), write_roi(tmp_path / "b.roi"))
    assert regions_of(viewer) == [("cells.tif", "RoiSet", {}, ["one", "two"]), ("cells.tif", "b", {}, ["b"])]
    assert len(viewer.streams[0].stacks[0].layout.planes) == 12


def test_two_files_of_regions_for_one_image_do_not_replace_each_other(viewer: Viewer, tmp_path: Path):
    write_images(tmp_path, "a.tif")
    write_roi(tmp_path / "a.roi", "first")
    write_roi(tmp_path / "a.roi.zip", "second", "third")
    show(tmp_path)
    assert [(name, names) for _, name, _, names in regions_of(viewer)] == [
        ("", ["a"]),
        ("a.roi.zip", ["second", "third"]),
    ]


def test_regions_in_a_stack_of_files_lie_where_their_name_says_or_on_all_of_it(viewer: Viewer, tmp_path: Path):
    write_images(tmp_path, *(f"img_t{t:03d}_c{c}.tif" for t in range(3) for c in (1, 2)))
    for name in ("img_t001_c2.roi", "img_t002.roi", "RoiSet.roi"):
        write_roi(tmp_path / name)
    show(tmp_path)
    assert viewer.streams[0].axes == ("t", "c")
    assert {name: where for _, name, where, _ in regions_of(viewer)} == {
        "": {"t": "1", "c": "2"},
        "img_t002": {"t": "2"},
        "RoiSet": {},
    }


def test_regions_of_several_folders_lie_in_their_own(viewer: Viewer, tmp_path: Path):
    for folder in ("Pos0", "Pos1"):
        (tmp_path / folder).mkdir()
        write_images(tmp_path / folder, "img_t0.tif", "img_t1.tif")
        write_roi(tmp_path / folder / f"of {folder}.roi")
    show(tmp_path / "Pos0", tmp_path / "Pos1")
    assert [(name, where) for _, name, where, _ in regions_of(viewer)] == [
        ("of Pos0", {"folder": "Pos0"}),
        ("of Pos1", {"folder": "Pos1"}),
    ]


def test_regions_find_their_image_where_there_are_more_kinds_than_a_publisher_has_streams(
    viewer: Viewer, tmp_path: Path
):
    for number in range(5):
        write_imagej(tmp_path / f"{number}.tif", spacing=1.0 + number)
        write_roi(tmp_path / f"{number}.roi")
    receipt = show(tmp_path)
    assert receipt.skipped == ()
    assert [names for _, _, _, names in regions_of(viewer)] == [[str(number)] for number in range(5)]
    assert all(len(stream.annotations) == 1 for stream in viewer.streams)


def test_while_files_come_regions_wait_for_their_image(viewer: Viewer, tmp_path: Path):
    with Showing("headless") as showing:
        showing.file(write_roi(tmp_path / "a.roi"), settled=False)  # before any image
        assert list(showing.notes.values()) == [["a.roi"]]
        write_images(tmp_path, "a.tif", "b.tif")
        showing.file(tmp_path / "b.tif", settled=False)
        assert showing.regions == 0, "its own image lies there, and is not shown yet"
        showing.file(tmp_path / "a.tif", settled=False)
        assert showing.regions == 1
        write_roi(tmp_path / "a.roi", "again")
        showing.file(tmp_path / "a.roi", settled=False)
        showing.finish()
    assert [(name, where) for _, name, where, _ in regions_of(viewer)] == [("", {"file": "a.tif"})], "replaced"


def test_regions_of_an_image_that_cannot_be_shown_lie_on_no_other(viewer: Viewer, tmp_path: Path):
    write_images(tmp_path, "a.tif")
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    write_roi(tmp_path / "b.roi")
    receipt = show(tmp_path)
    assert receipt.sent == (str(tmp_path / "a.tif"),)
    assert receipt.skipped[-1].reason == "its image, b.tif, is not shown, or was shown too long ago: show both together"
    assert regions_of(viewer) == []


def test_what_is_no_region_of_interest_is_told_in_a_line(viewer: Viewer, tmp_path: Path):
    write_images(tmp_path, "a.tif")
    (tmp_path / "a.roi").write_bytes(b"GIF89a" + bytes(100))
    (tmp_path / "b.roi.zip").write_bytes(b"PK, but no archive")
    (tmp_path / "c.roi").write_bytes(b"")
    receipt = show(tmp_path / "none.roi", tmp_path)
    assert receipt.sent == (str(tmp_path / "a.tif"),)
    reasons = {skipped.path.removeprefix(str(tmp_path) + "/"): skipped.reason for skipped in receipt.skipped}
    assert reasons == {
        "a.roi": "not an ImageJ region of interest: it has 106 bytes that begin with b'GIF8'",
        "b.roi.zip": "it is not an archive of regions of interest: File is not a zip file",
        "c.roi": "not an ImageJ region of interest: it has 0 bytes that begin with b''",
        "none.roi": "No such file or directory",
    }
    assert regions_of(viewer) == []
    with Showing("headless") as showing, pytest.raises(FileError, match="name their image, too"):
        showing.file(write_roi(tmp_path / "d.roi"))


def test_the_command_counts_regions(tmp_path: Path):
    write_images(tmp_path, "a.tif")
    write_roi(tmp_path / "a.roi.zip", "one", "two")
    (tmp_path / "b.roi").write_bytes(b"nothing")
    command = [sys.executable, "-P", "-m", "scopecast", "show", str(tmp_path), "--viewer", "headless"]
    with viewer_process():
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout == "Shown in headless: 2 of 3 files, 1 plane, 2 regions of interest; 1 file not shown.\n"
    (line,) = [line for line in done.stderr.splitlines() if "not shown" in line]
    assert line.startswith(f"not shown: {tmp_path / 'b.roi'}: not an ImageJ region of interest: it has 7 bytes")
    assert RunDirectory().living("publisher") == []
