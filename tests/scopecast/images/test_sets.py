"""Sets of files that are one recording: each OME-TIFF lists the planes of all."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

import scopecast
from children import wait_until
from corpus import write_good
from imagefiles import hyperstack
from receivers import check_stamp
from scopecast import StreamingBackend
from scopecast.errors import IncompleteFileError
from scopecast.images.ome import planes_told
from scopecast.images.open import open_image
from scopecast.showing.replay import Recording, play
from scopecast.showing.stacks import Showing
from scopecast.testing import Observer


class StreamingOnly(StreamingBackend):
    VIEWER_TYPE = "headless"


_SCHEMA = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def write_set(folder: Path, files: int, *, positions: int = 1, apart_um: float = 0.0) -> list[Path]:
    """Write a file for each time point, or for each position with all time points; a pixel says which plane it is.

    With `apart_um`, pixels have 2 µm, and positions lie that far from each other along y of the stage.
    """
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

    sizes = 'PhysicalSizeX="2" PhysicalSizeY="2" ' if apart_um else ""

    def told(p: int) -> str:
        stage = f'PositionX="7" PositionXUnit="µm" PositionY="{p * apart_um}" PositionYUnit="µm" ' if apart_um else ""
        return "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{2 * t}" {stage}/>' for t in range(times))

    images = "".join(
        f'<Image ID="Image:{p}" Name="Pos{p}"><Pixels ID="Pixels:{p}" DimensionOrder="XYCZT" Type="uint16" SizeX="32" '
        f'SizeY="24" SizeC="1" SizeZ="1" SizeT="{times}" {sizes}>{blocks(p)}{told(p)}</Pixels></Image>'
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
        expected = [((("t", t), ("p", f"Pos{p}")), 100 * p + t) for p in range(3) for t in range(3)]
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


@pytest.mark.parametrize("positions", [1, 12])
def test_what_is_told_of_the_planes_is_read_once_for_the_set(tmp_path: Path, positions: int):
    files = write_set(tmp_path / "run", 12, positions=positions)
    planes_told.cache_clear()
    for at, path in enumerate(files):
        with open_image(path) as image:
            for number in range(len(image)):
                plane = image.read(number)
                assert plane is not None
                assert plane.metadata["elapsed_s"] == 2 * (at if positions == 1 else number)
    assert planes_told.cache_info().misses == positions, "each image of the set once, and not all of them for each file"


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


def refer(files: list[Path]) -> None:
    """Have all files but the first refer to it, as Micro-Manager writes them."""
    first = files[0].name
    xml = f'<OME xmlns="{_SCHEMA}"><BinaryOnly MetadataFile="{first}" UUID="{uuid.UUID(int=1).urn}"/></OME>'
    for file in files[1:]:
        planes = tifffile.TiffFile(file).pages
        with tifffile.TiffWriter(file.with_suffix(".new")) as made:
            for at, page in enumerate(planes):
                text = None if at else xml.encode()
                made.write(page.asarray(), description=text, metadata=None, contiguous=False)
        planes.parent.close()
        file.with_suffix(".new").rename(file)


def test_files_that_refer_to_the_first_one_are_one_stack_with_it(tmp_path: Path):
    refer(write_set(tmp_path / "run", 0, positions=3))
    with Observer("headless") as observer:
        assert scopecast.show(tmp_path / "run", viewer="headless").frames == 9
        places = {(seen.axes["p"], seen.axes["t"]): int(seen.pixels[0, 0]) for seen in observer.seen}
        assert places == {(f"Pos{p}", t): 100 * p + t for p in range(3) for t in range(3)}
        assert len({seen.stream.id for seen in observer.seen}) == 1


@pytest.mark.parametrize("by_reference", [False, True])
def test_the_positions_of_a_set_lie_where_the_stage_was(tmp_path: Path, by_reference: bool):
    files = write_set(tmp_path / "run", 0, positions=3, apart_um=48.0)
    if by_reference:
        refer(files)
    with Observer("headless") as observer:
        scopecast.show(tmp_path / "run", viewer="headless")
        found = {(seen.axes["p"], seen.translate) for seen in observer.seen}
        assert found == {(f"Pos{p}", (-48.0 * p - 23.0, 7.0 - 31.0)) for p in range(3)}


@pytest.mark.parametrize("what", ["removed", "renamed", "a pipe", "outside"])
def test_a_file_whose_reference_leads_nowhere_is_shown_as_it_is(tmp_path: Path, what: str):
    files = write_set(tmp_path / "run", 0, positions=2)
    if what == "outside":
        files[0] = files[0].rename(tmp_path / files[0].name)
        refer([Path("../" + files[0].name), files[1]])
    else:
        refer(files)
    if what == "renamed":
        files[1] = files[1].rename(tmp_path / "run" / "other.tif")
    elif what != "outside":
        files[0].unlink()
    if what == "a pipe":
        os.mkfifo(files[0])
    with open_image(files[1]) as image:
        assert [int(plane.array[0, 0]) for plane in image.planes()] == [100, 101, 102]
        assert "its metadata can't be read" in image.about.notes[0]


def test_a_copy_of_a_member_is_told_to_replace_it(tmp_path: Path):
    files = write_set(tmp_path / "run", 3)
    shutil.copy(files[1], tmp_path / "run" / "zcopy.ome.tif")
    with Showing("headless") as showing, Observer("headless"):
        for file in sorted((tmp_path / "run").iterdir()):
            showing.file(file)
        ((note, names),) = showing.notes.items()
        assert "run_001.ome.tif" in note
        assert names == ["zcopy.ome.tif"]


# ---- fewer planes than the file tells of -----------------------------------------------------------------------------


def write_short(path: Path, kind: str, there: int = 43) -> Path:
    """Write the first planes of 48 (2 time points, 3 channels, 8 slices); the metadata tells of all."""
    blocks = {
        "ome": "<TiffData/>",
        "blocks": "".join(_block(at) for at in range(48)),
        "left out": "".join(_block(at) for at in range(there)),
        "counted": '<TiffData IFD="0" PlaneCount="48"/>',
    }.get(kind, "")
    xml = (
        f'<OME xmlns="{_SCHEMA}"><Image ID="Image:0"><Pixels ID="P:0" DimensionOrder="XYZCT" Type="uint16" SizeX="48" '
        f'SizeY="64" SizeC="3" SizeZ="8" SizeT="2">{blocks}</Pixels></Image></OME>'
    )
    imagej = "ImageJ=1.53c\nimages=48\nchannels=3\nslices=8\nframes=2\nhyperstack=true\n"
    stack = hyperstack(2, 3, 8)
    if kind == "imagej":
        stack = stack.transpose(0, 2, 1, 3, 4)
    with tifffile.TiffWriter(path, byteorder=">" if kind == "imagej" else "<") as file:
        for at, plane in enumerate(stack.reshape(48, 64, 48)[:there]):
            text = None if at else (xml if blocks else imagej).encode()
            file.write(plane, description=text, metadata=None, contiguous=False)
    return path


def _block(at: int) -> str:
    return f'<TiffData IFD="{at}" FirstZ="{at % 8}" FirstC="{at // 8 % 3}" FirstT="{at // 24}" PlaneCount="1"/>'


SHORT = ["ome", "blocks", "left out", "counted", "imagej"]


@pytest.mark.parametrize("kind", SHORT)
def test_the_planes_that_are_there_are_at_their_places_and_counted(tmp_path: Path, kind: str):
    path = write_short(tmp_path / "a.tif", kind)
    with open_image(path) as image:
        places = [(plane.axes["t"], plane.axes["c"], plane.axes["z"]) for plane in image.planes()]
        assert places == [check_stamp(plane.array) for plane in image.planes()]
        assert (len(image), image.about.missing, image.about.notes) == (43, 5, ("it has 43 of 48 planes",))
        assert image.about.complete == (kind == "left out")
    assert len(Recording(path).moments) == 43
    with open_image(write_short(tmp_path / "whole.tif", kind, 48)) as image:
        assert (len(image), image.about.missing, image.about.notes, image.about.complete) == (48, 0, (), True)


@pytest.mark.parametrize("kind", ["ome", "left out", "imagej"])
def test_show_says_how_many_of_the_planes_it_shows(tmp_path: Path, kind: str):
    path = write_short(tmp_path / "a.tif", kind)
    with Observer("headless") as observer:
        command = [sys.executable, "-P", "-m", "scopecast", "show", str(path), "--viewer", "headless"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout == "Shown in headless: 1 file, 43 of 48 planes.\n"
        assert done.stderr.strip() == "note: a.tif: it has 43 of 48 planes"
        assert len(observer.seen) == 43


def test_a_short_file_waits_for_its_planes_if_it_may_be_written(tmp_path: Path):
    path = write_short(tmp_path / "a.tif", "ome")
    with Observer("headless") as observer, Showing("headless") as showing:
        with pytest.raises(IncompleteFileError, match="it has 43 of 48 planes"):
            showing.file(path, settled=False)
        assert not observer.seen
        write_short(path, "ome", 48)
        assert showing.file(path, settled=False) == 48


def test_watch_waits_for_the_planes_and_shows_what_there_is_when_they_do_not_come(tmp_path: Path):
    command = [sys.executable, "-P", "-m", "scopecast", "watch", str(tmp_path), "--viewer", "headless"]
    with (
        Observer("headless") as observer,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            lines = iter(process.stdout.readline, "")
            assert next(lines).startswith("Watching")
            write_short(tmp_path / "new.part", "ome").rename(tmp_path / "comes.tif")
            write_short(tmp_path / "new.part", "imagej").rename(tmp_path / "stays.tif")
            told = sorted(line.strip() for line in (next(lines), next(lines)))
            assert [line.rpartition("/")[2] for line in told] == [
                "comes.tif: it has 43 of 48 planes", "stays.tif: it has 43 of 48 planes"
            ]  # fmt: skip
            write_short(tmp_path / "new.part", "ome", 48).rename(tmp_path / "comes.tif")
            told = [next(line for line in lines if word in line) for word in ("shown: ", "shown in part: ")]
            assert told[0].endswith("comes.tif\n")
            assert told[1].endswith("stays.tif: it has 43 of 48 planes\n")
            wait_until(lambda: len(observer.seen) == 48 + 43)
            process.send_signal(signal.SIGINT)
            assert "Shown in headless: 2 files" in "".join(lines)
        finally:
            process.kill()


def test_a_damaged_plane_keeps_none_of_the_others_from_being_shown(tmp_path: Path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, hyperstack(1, 1, 8)[0, 0], compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[5].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + 16] = b"\xff" * 16
    path.write_bytes(content)
    with Observer("headless") as observer:
        receipt = scopecast.show(path, viewer="headless")
        assert sorted(check_stamp(seen.pixels)[2] for seen in observer.seen) == [0, 1, 2, 3, 4, 6, 7]
    assert (len(receipt.sent), receipt.frames) == (1, 7)
    (skipped,) = receipt.partly
    assert skipped.reason.startswith("7 of its 8 planes are shown: it can't be decoded")
    with Observer("headless") as observer, StreamingOnly(launch=False) as backend:
        receipt = backend.save_batch([None], [str(path)])
        (partly,) = receipt.partly
        assert partly.reason.startswith("7 of 8 planes shown; the others: ")
        assert "it can't be decoded" in partly.reason
    with Observer("headless") as observer, Showing("headless", policy="latest") as showing:
        failed = []
        for _ in play(Recording(path), showing, speed=math.inf, failed=lambda *told: failed.append(told)):
            showing.finish()
        assert len(observer.seen) == 7
        assert len(failed) == 1


@pytest.mark.filterwarnings("ignore:unclosed file .*NDTiff:ResourceWarning")  # ndstorage's
def test_an_index_of_ndtiff_that_breaks_off_is_told(tmp_path: Path):
    folder = write_good(tmp_path, "ndtiff")
    index = folder / "NDTiff.index"
    with open_image(folder) as image:
        assert (len(image), image.about.notes) == (5, ())
    os.truncate(index, index.stat().st_size - 10)
    with open_image(folder) as image:
        assert len(image) == 4
        assert "breaks off after 4 images" in image.about.notes[0]
