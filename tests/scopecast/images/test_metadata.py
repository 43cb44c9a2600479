"""Metadata that makes no sense: it is left out with a note, and the pixels are shown; the other files in any case."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import example, given
from hypothesis import strategies as st
from ndstorage import NDTiffDataset

from imagefiles import hyperstack
from receivers import Viewer, check_stamp, planes_of, stamped, viewer_process
from scopecast import FileError
from scopecast.frames.streams import FrameStream
from scopecast.images.about import About, unique_names
from scopecast.images.micromanager import METADATA, read_metadata
from scopecast.images.ome import own_part
from scopecast.images.open import open_image
from scopecast.showing.replay import Recording

# ndstorage leaves the files of a finished dataset to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*NDTiff:ResourceWarning")

COMMAND = [sys.executable, "-P", "-m", "scopecast"]
STACK = hyperstack(1, 1, 3)[0, 0]
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1e-9, 1e300, 2_000_000_000, 0.65, math.nan, math.inf, -math.inf, 10**400]),
    st.floats(),
    st.integers(),
)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=80), st.just("x" * 300), st.just("\x1b[2J")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
    '<Pixels ID="P:0" {attributes}>{inside}</Pixels></Image></OME>'
)
OME_SIZES = {"SizeX": 48, "SizeY": 64, "SizeC": 1, "SizeZ": 1, "SizeT": 3}
OME_USUAL = {**OME_SIZES, "Type": "uint16", "DimensionOrder": "XYCZT"}


def write(path: Path, description: str) -> Path:
    tifffile.imwrite(path, STACK, description=description.encode(), metadata=None, photometric="minisblack")
    return path


def ome(inside: str = "<TiffData/>", **attributes: object) -> str:
    made = " ".join(f'{name}="{value}"' for name, value in {**OME_USUAL, **attributes}.items())
    return OME.format(attributes=made, inside=inside)


def shown(path: Path) -> tuple[list[int], About]:
    """Open a file as a stream is made of it: the stamps of its planes (z), and what it says."""
    with open_image(path) as image:
        stream = FrameStream(0, "run", sizes=image.about.sizes, **image.about.stream())
        stamps = []
        for number in range(len(image)):
            image.time_s(number)
            if (plane := image.read(number)) is not None:
                stream.place(plane.axes)
                stamps.append(check_stamp(plane.array)[2])
        return stamps, image.about


# ---- named cases -----------------------------------------------------------------------------------------------------

CASES = {
    "a spacing that is no number": ("ImageJ=1.53c\nimages=3\nslices=3\nspacing=NaN\n", "z step nan"),
    "a spacing that is text": ("ImageJ=1.53c\nimages=3\nslices=3\nspacing=wide\n", "z step 'wide'"),
    "an infinite interval": ("ImageJ=1.53c\nimages=3\nframes=3\nfinterval=1e999\n", "time interval inf"),
    "counts that are text": ("ImageJ=1.53c\nimages=three\nframes=x\n", "its metadata can't be read"),
    "more images than there are": ("ImageJ=1.53c\nimages=2000000000\nframes=2000000000\n", ""),
    "a pixel size that is no number": (ome(PhysicalSizeX="nan", PhysicalSizeY="0.3"), "pixel size nan"),
    "a pixel size of text": (ome(PhysicalSizeX="small", PhysicalSizeY="0.3"), "pixel size nan"),
    "a huge pixel size": (ome(PhysicalSizeX="1e300", PhysicalSizeY="1e300"), "pixel size 1e+300"),
    "a tiny pixel size": (ome(PhysicalSizeX="1e-9", PhysicalSizeY="1e-9"), "pixel size 1e-09"),
    "a negative pixel size": (ome(PhysicalSizeX="-1", PhysicalSizeY="-1"), "pixel size -1.0"),
    "a pixel size of 0": (ome(PhysicalSizeX="0", PhysicalSizeY="0"), ""),
    "two thousand million times": (ome(SizeT=2_000_000_000), "describes 2e+09 planes"),
    "as many of all": (ome(SizeT=2_000_000_000, SizeZ=2_000_000_000, SizeC=2_000_000_000), "planes"),
    "other pixels": (ome(SizeX=2_000_000_000), "describes 2000000000 x 64 pixels"),
    "planes counted as Python writes numbers": (ome(SizeT="1_000_000_000"), "describes 1e+09 planes"),
    "pixels counted so": (ome(SizeX="1_000_000_000", SizeC=" 5"), "describes 1000000000 x 64 pixels"),
    "sizes that are text": (ome(SizeT="three"), "its metadata can't be read"),
    "no such order": (ome(DimensionOrder="abc"), "its metadata can't be read"),
    "a block of planes without end": (ome('<TiffData IFD="0" PlaneCount="7777777777"/>'), ""),
    "numbers of 5000 digits": (ome(f'<TiffData/><Plane TheT="{"1" * 5000}" TheC="0" TheZ="0" DeltaT="1"/>'), ""),
    "a colour that is none": (ome('<Channel Color="red"/><TiffData/>'), ""),
    "cut short": (ome()[:200], ""),
    "garbage": ("<OME \x01\x02 PhysicalSizeX=", ""),
    "nested deeply": (OME.format(attributes="", inside="<a>" * 20_000 + "</a>" * 20_000), "its metadata can't be read"),
    "a set whose other file is a pipe": (
        ome(
            '<TiffData FirstT="0" IFD="0"/><TiffData FirstT="1"><UUID FileName="pipe.tif">urn:uuid:1</UUID></TiffData>'
        ),
        "it has 1 of 3 planes",
    ),
    "entities that expand to gigabytes": (
        '<!DOCTYPE OME [<!ENTITY a "lol">'
        + "".join(f'<!ENTITY {after} "{f"&{before};" * 10}">' for before, after in pairwise("abcdefghij"))
        + f"]>{ome(inside='&j;<TiffData/>')}",
        "entities",
    ),
    "100 MB of elements": (ome("<A/>" * 25_000_000), "more than is read"),
    "not closed": (ome("<TiffData><A>"), "its OME-XML is damaged"),
}


@pytest.mark.parametrize(("description", "note"), CASES.values(), ids=CASES)
def test_the_pixels_are_shown_and_what_makes_no_sense_is_noted(tmp_path: Path, description: str, note: str):
    os.mkfifo(tmp_path / "pipe.tif")
    stamps, about = shown(write(tmp_path / "a.ome.tif", description))
    assert stamps[0] == 0
    assert stamps == [0, 1, 2] or "pipe" in description
    notes = [line for line in about.notes if "no name in the file" not in line]
    assert len(notes) == bool(note), notes
    assert note in "".join(notes)


def test_names_of_channels_that_cannot_be_labels():
    names = unique_names(["GFP", "", "GFP", "x" * 300, "x" * 301, "\x1b[2J\n", None, {"a": 1}, 7, "GFP 2"])
    assert len(set(names)) == len(names) == 10
    assert all(0 < len(name) <= 64 and name.isprintable() for name in names)
    assert names[:2] == ("GFP", "channel 2")
    assert unique_names(["", None]) == ()


def test_colours_that_are_none_are_left_out():
    about = About(sizes={"c": 3}, colors=["#ff0000", "red", 7])
    assert about.colors == ("#ff0000", "", "")
    assert about.notes == ("implausible values in its metadata are ignored: colour 'red', colour 7",)


# ---- any metadata ----------------------------------------------------------------------------------------------------

ATTRIBUTES = st.fixed_dictionaries(
    {},
    optional={
        name: NUMBERS.map(lambda value: repr(value)[:30])
        | st.sampled_from(["", "abc", "-0", "1e-9", "99999999999", "1_000_000_000", " 5"])
        for name in (*OME_SIZES, "PhysicalSizeX", "PhysicalSizeY", "PhysicalSizeZ", "TimeIncrement", "DimensionOrder")
    },
)


@given(ATTRIBUTES, st.lists(st.text("abc \u20ac", max_size=5) | st.just("n" * 300), max_size=4))
def test_any_ome_xml(attributes: dict[str, str], names: list[str]):
    channels = "".join(f'<Channel Name="{name}" Color="{name}"/>' for name in names)
    with tempfile.TemporaryDirectory() as folder:
        stamps, _ = shown(write(Path(folder, "a.ome.tif"), ome(f"{channels}<TiffData/>", **attributes)))
    assert set(stamps) <= {0, 1, 2}
    assert 0 in stamps


@given(
    st.dictionaries(
        st.sampled_from(["images", "channels", "slices", "frames", "spacing", "finterval", "unit", "mode", "order"]),
        NUMBERS.map(lambda value: repr(value)[:30]) | st.text("abc um", max_size=5),
    )
)
def test_any_description_of_imagejs(about: dict[str, str]):
    lines = "".join(f"{name}={value}\n" for name, value in about.items())
    with tempfile.TemporaryDirectory() as folder:
        stamps, _ = shown(write(Path(folder, "a.tif"), f"ImageJ=1.53c\n{lines}"))
    assert set(stamps) <= {0, 1, 2}
    assert 0 in stamps


SUMMARIES = st.dictionaries(st.sampled_from(["PixelSize_um", "z-step_um", "ChNames", "Other"]), JUNK)
FRAMES = st.dictionaries(st.sampled_from(["PixelSizeUm", "ElapsedTime-ms", "FileName", "PixelSize_um"]), JUNK)


@given(SUMMARIES, FRAMES)
@example({}, {"ElapsedTime-ms": 10**400})
def test_any_metadata_of_ndtiff(summary: dict[str, Any], frame: dict[str, Any]):
    with tempfile.TemporaryDirectory() as folder:
        dataset = NDTiffDataset(folder, name="run", summary_metadata=summary, writable=True)
        for z in range(3):
            dataset.put_image({"z": z, "view-angle": 0, "x": 0}, stamped(0, 0, z), frame)
        dataset.finish()
        dataset.close()
        stamps, _ = shown(Path(folder, "run_1"))
    assert stamps == [0, 1, 2]


@given(SUMMARIES | JUNK, FRAMES | JUNK, st.integers(0, 200))
@example({}, {"ElapsedTime-ms": 10**400}, 0)
def test_any_metadata_beside_the_images(summary: Any, frame: Any, cut: int):
    text = json.dumps({"Summary": summary, "Metadata-a/b.tif": frame, "FrameKey-0-0-0": frame})
    with tempfile.TemporaryDirectory() as folder:
        for content in (text, text[: max(0, len(text) - cut)]):
            Path(folder, METADATA).write_text(content)
            beside = read_metadata(Path(folder))
            FrameStream(0, "run", **beside.complete(About().stream()))
            assert all(map(math.isfinite, beside.times.values()))


# ---- what is no file -------------------------------------------------------------------------------------------------


def odd_files(folder: Path) -> list[str]:
    """Make files that can't be shown, each in its way; return their names."""
    (folder / "folder.tif").mkdir()
    os.mkfifo(folder / "pipe.tif")
    (folder / "empty.tif").touch()
    (folder / "dangling.tif").symlink_to("nowhere.tif")
    (folder / "circle.tif").symlink_to("circle.tif")
    (folder / "pipe.png").symlink_to("pipe.tif")
    (folder / "text.npy").write_text("no array")
    (folder / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket.tif"))
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["folder.tif", "pipe.tif", "empty.tif", "dangling.tif", "circle.tif", "pipe.png",
                                  "text.npy", "device.png", "socket.tif"])  # fmt: skip
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is short
    assert name in odd_files(Path())
    with pytest.raises(FileError) as caught:
        open_image(name)
    told = {"folder": "a folder", "pipe": "a named pipe", "dangling": "a link to a file that is not there",
            "device": "a device", "socket": "a socket", "empty": "it is empty"}  # fmt: skip
    assert told.get(name.partition(".")[0], "") in str(caught.value)


@pytest.fixture
def odd_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two good files, one with odd metadata between them, and all that can't be shown."""
    monkeypatch.chdir(tmp_path)
    odd_files(Path())
    for t, description in enumerate(("", CASES["a spacing that is no number"][0], "")):
        write(tmp_path / f"good_t{t}.tif", description)
    return tmp_path


def test_show_goes_on_after_every_odd_file(odd_folder: Path):
    with Viewer() as viewer:
        done = subprocess.run(
            [*COMMAND, "show", str(odd_folder), "--viewer", "headless"], capture_output=True, text=True, timeout=60
        )
        planes = [check_stamp(plane) for stream in viewer.streams for plane in planes_of(stream).values()]
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert done.stdout == "Shown in headless: 3 of 11 files, 9 planes; 8 files not shown.\n", done.stderr
    assert len(planes) == 9
    assert "good_t1.tif: implausible values in its metadata are ignored: z step nan" in done.stderr


def test_replay_goes_on_after_every_odd_file(odd_folder: Path):
    with viewer_process():
        done = subprocess.run(
            [*COMMAND, "replay", str(odd_folder), "--viewer", "headless", "--speed", "max"],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert "Traceback" not in done.stderr
    assert "Replayed in headless: 9 frames" in done.stdout, done.stderr


def test_what_is_parsed_of_a_text_grows_with_the_pages_of_its_file_and_not_with_what_it_lists(tmp_path: Path):
    count = 50_000
    blocks = "".join(f'<TiffData IFD="{t}" FirstT="{t}" PlaneCount="1"/>' for t in range(count))
    planes = "".join(f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{t / 2}"><Hash/></Plane>' for t in range(count))
    text = ome(blocks + planes, SizeT=count)
    parsed = own_part(text, "a.ome.tif", pages=3).xml
    assert parsed.count("<") < count / 4
    assert "<Plane" not in parsed
    with open_image(write(tmp_path / "a.ome.tif", text)) as image:
        assert (len(image), image.about.sizes, image.about.missing) == (3, {"t": count}, count - 3)
        assert [image.time_s(number) for number in range(3)] == [0.0, 0.5, 1.0]
    annotations = "<StructuredAnnotations>" + "<XMLAnnotation/>" * ((1 << 20) + 100) + "</StructuredAnnotations>"
    with pytest.raises(ValueError, match=r"has \d+ tags, more than is read"):
        own_part(ome().replace("</OME>", f"{annotations}</OME>"), "a.ome.tif", pages=3)


def test_times_that_are_none_are_not_waited_for(tmp_path: Path):
    planes = "".join(
        f'<Plane TheT="{t}" TheC="0" TheZ="0" DeltaT="{at}"/>' for t, at in enumerate(("0", "1e300", "nan"))
    )
    path = write(tmp_path / "a.ome.tif", ome(f"<TiffData/>{planes}", TimeIncrement="1e300"))
    recording = Recording(path)
    assert math.isfinite(recording.seconds)
    assert recording.seconds < 10


def test_watch_goes_on_after_every_odd_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    command = [*COMMAND, "watch", str(tmp_path), "--viewer", "headless"]
    with (
        Viewer() as viewer,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"Watching {tmp_path}; stop with Ctrl-C.\n"
            odd_files(Path())
            for t, description in enumerate(("", CASES["a spacing that is no number"][0], "")):
                write(tmp_path / "new.part", description).rename(tmp_path / f"good_t{t}.tif")
            viewer.wait_for(lambda: sum(len(planes_of(it)) for it in viewer.streams if it.stacks) == 9)
            assert process.stderr is not None
            lines = iter(process.stderr.readline, "")
            told = next(line for line in lines if line.startswith("given up: ") and "pipe.tif" in line)
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    summary = printed.splitlines()[-1]
    assert summary.startswith(("Shown in headless: 2 of ", "Shown in headless: 3 of "))  # the last one just came
    assert "pipe.tif: it is a named pipe, not a file" in told


def test_a_batch_reads_past_what_cannot_be_read(odd_folder: Path):
    from scopecast import NapariStreamingBackend

    class Headless(NapariStreamingBackend):
        VIEWER_TYPE = "headless"

    names = sorted(path.name for path in odd_folder.iterdir())
    with Viewer() as viewer, Headless(launch=False) as backend:
        receipt = backend.save_batch([None] * len(names), names)
        assert backend.flush(10)
        assert len(planes_of(viewer.streams[0])) == 9
    assert [Path(path).name for path in receipt.sent] == ["good_t0.tif", "good_t1.tif", "good_t2.tif"]
    assert len(receipt.skipped) == len(names) - 3


def test_a_decoder_never_gets_more_than_there_is_memory(tmp_path: Path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(1 << 42)
    with pytest.raises(FileError, match="more than fits into this machine's memory"):
        open_image(path)
    np.save(tmp_path / "a.npy", np.zeros((1, 4, 4), "uint8"))
    header = (tmp_path / "a.npy").read_bytes().replace(b"(1, 4, 4)", b"(1, 4194304, 1048576)".ljust(9))
    padded = header.replace(b"            \n", b"\n", 1)
    (tmp_path / "b.npy").write_bytes(padded)
    with (tmp_path / "b.npy").open("r+b") as file:
        file.truncate(len(padded) + (1 << 42))
    with open_image(tmp_path / "b.npy") as image, pytest.raises(FileError, match="fits into"):
        image.read(0)
