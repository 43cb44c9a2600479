"""Sets of files that are one recording: each OME-TIFF lists the planes of all."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

import scopecast
from scopecast.errors import IncompleteFileError
from scopecast.images.open import open_image
from scopecast.showing.replay import Recording
from scopecast.testing import Observer

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def write_set(folder: Path, files: int, *, positions: int = 1) -> list[Path]:
    """Write a file for each time point, or for each position with all time points; a pixel says which plane it is."""
    folder.mkdir()
    times = files if positions == 1 else 3
    count = files if positions == 1 else positions
    names = [f"run_{at:03d}.ome.tif" for at in range(count)]
    ids = [uuid.UUID(int=at + 1).urn for at in range(count)]

    def blocks(p: int) -> str:
        places = [(p, t) if positions > 1 else (t, 0) for t in range(times)]
        return "".join(
            f'<TiffData IFD="{page}" FirstT="{t}" PlaneCount="1">'
            f'<UUID FileName="{names[at]}">{ids[at]}</UUID></TiffData>'
            for t, (at, page) in enumerate(places)
        )

    images = "".join(
        f'<Image ID="Image:{p}" Name="Pos{p}"><Pixels ID="Pixels:{p}" DimensionOrder="XYCZT" Type="uint16" SizeX="32" '
        f'SizeY="24" SizeC="1" SizeZ="1" SizeT="{times}">{blocks(p)}</Pixels></Image>'
        for p in range(positions)
    )
    for at, name in enumerate(names):
        xml = f'<?xml version="1.0"?><OME xmlns="{_SCHEMA}" UUID="{ids[at]}">{images}</OME>'.encode()
        with tifffile.TiffWriter(folder / name) as file:
            for t in range(times) if positions > 1 else (at,):
                plane = np.full((24, 32), 100 * at + t if positions > 1 else t, "uint16")
                file.write(plane, description=xml, metadata=None, contiguous=False)
                xml = b""
    return [folder / name for name in names]


def places_of(observer: Observer) -> list[tuple[tuple[tuple[str, int], ...], int]]:
    return sorted((tuple(seen.axes.items()), int(seen.pixels[0, 0])) for seen in observer.seen)


def test_a_file_for_each_time_point_is_one_stack_along_time(tmp_path: Path):
    write_set(tmp_path / "run", 6)
    with Observer("headless") as observer:
        receipt = scopecast.show(tmp_path / "run", viewer="headless")
        assert (len(receipt.sent), receipt.frames) == (6, 6)
        assert places_of(observer) == [((("t", t),), t) for t in range(6)]
        assert len({seen.stream.id for seen in observer.seen}) == 1


def test_a_file_for_each_position_is_one_stack_of_positions(tmp_path: Path):
    write_set(tmp_path / "run", 0, positions=3)
    with Observer("headless") as observer:
        scopecast.show(tmp_path / "run", viewer="headless")
        expected = [((("t", t), ("p", p)), 100 * p + t) for p in range(3) for t in range(3)]
        found = [(dict(axes), value) for axes, value in places_of(observer)]
        assert sorted(found, key=lambda each: each[1]) == [(dict(axes), value) for axes, value in expected]
        assert len({seen.stream.id for seen in observer.seen}) == 1


def test_a_part_of_a_set_is_shown_at_its_places(tmp_path: Path):
    files = write_set(tmp_path / "run", 6)
    files[2].unlink()
    with Observer("headless") as observer:
        assert scopecast.show(tmp_path / "run", viewer="headless").frames == 5
        assert places_of(observer) == [((("t", t),), t) for t in (0, 1, 3, 4, 5)]


def test_a_replay_plays_each_plane_once(tmp_path: Path):
    files = write_set(tmp_path / "run", 12)
    recording = Recording(tmp_path / "run")
    assert [moment.path for moment in recording.moments] == files


def test_the_work_grows_with_the_planes_and_not_with_their_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is parsed of each file is what tells of this one."""
    parsed: list[int] = []
    parse = ElementTree.fromstring

    def counting(text: str) -> ElementTree.Element:
        parsed.append(len(text))
        return parse(text)

    monkeypatch.setattr(ElementTree, "fromstring", counting)
    work = []
    for files in (20, 80):
        parsed.clear()
        for file in write_set(tmp_path / f"run{files}", files):
            open_image(file).close()
        work.append(sum(parsed))
    assert 0 < work[1] < 5 * work[0]


@pytest.mark.parametrize("there", [0, 1, 60, 99])
def test_an_imagej_stack_with_one_directory_that_is_cut_is_not_complete(tmp_path: Path, there: int):
    """As ImageJ writes stacks above 4 GB: one directory, and all planes behind each other."""
    path = tmp_path / "one.tif"
    about = "ImageJ=1.53c\nimages=100\nframes=100\nhyperstack=true\nloop=false\n"
    tifffile.imwrite(path, np.zeros((64, 48), "uint16"), description=about, metadata=None, byteorder=">")
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    os.truncate(path, start + 100 * 64 * 48 * 2)
    with open_image(path) as image:
        assert (len(image), image.about.sizes) == (100, {"t": 100})
    os.truncate(path, start + there * 64 * 48 * 2)
    with pytest.raises(IncompleteFileError):
        open_image(path)
