"""Arrays and files into a viewer: which make one stack, what a receipt says, and the command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

import scopecast
from children import wait_until
from imagefiles import hyperstack, write_imagej, write_ome
from receivers import Viewer, check_stamp, planes_of, stamped, viewer_process
from scopecast import Skipped, ViewerStartError
from scopecast.cli import main as cli
from scopecast.rundir.directory import RunDirectory
from scopecast.showing.show import opened_viewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = [sys.executable, "-P", "-m", "scopecast"]


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def show(what: Any, **options: Any) -> scopecast.Receipt:
    return scopecast.show(what, viewer="headless", **options)


def labels(stream: Any, axis: str) -> list[str]:
    return list(stream.about.labels.get(axis, []))


def stamps(stream: Any) -> dict[tuple[int, ...], tuple[int, int, int]]:
    return {index: check_stamp(plane) for index, plane in planes_of(stream).items()}


# ---- arrays ----------------------------------------------------------------------------------------------------------


def test_an_array_is_shown_where_its_axes_say(viewer: Viewer):
    receipt = show(hyperstack(2, 1, 3)[:, 0], dims="tzyx", scale=0.65, steps={"z": 2.0}, title="beads")
    assert (receipt.sent, receipt.skipped, receipt.frames) == (("beads",), (), 6)
    (stream,) = viewer.streams
    assert (stream.about.title, stream.axes, stream.about.units) == ("beads", ("t", "z"), "um")
    assert list(stream.about.scale) == [0.65, 0.65]
    assert dict(zip(stream.axes, stream.about.steps, strict=True)) == {"t": 0.0, "z": 2.0}
    assert stamps(stream) == {(t, z): (t, 0, z) for t in range(2) for z in range(3)}


def test_every_call_makes_a_stream_of_its_own(viewer: Viewer):
    for t in range(2):
        show(stamped(t))
    assert [check_stamp(stream.stacks[0].plane(())) for stream in viewer.streams] == [(0, 0, 0), (1, 0, 0)]
    assert RunDirectory().living("publisher") == []


class Stored:
    """An array in chunks, as zarr's, dask's and h5py's are: it counts what is read at once."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.shape
        self.reads: list[tuple[int, ...]] = []

    def __getitem__(self, key: Any) -> np.ndarray:
        self.reads.append(key)
        return self._array[key]

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise AssertionError("all of it was read at once")


def test_an_array_that_is_stored_in_chunks_is_read_plane_by_plane(viewer: Viewer):
    stored = Stored(hyperstack(2, 1, 3)[:, 0])
    assert show(stored).frames == 6
    assert stored.reads == [(t, z) for t in range(2) for z in range(3)]
    assert stamps(viewer.streams[0]) == {(t, z): (t, 0, z) for t in range(2) for z in range(3)}


def test_an_array_that_cannot_be_shown_starts_no_viewer():
    with pytest.raises(scopecast.UnsupportedDtypeError):
        show(np.array(["a"]))
    with pytest.raises(ValueError, match="are not the names of dimensions"):
        show(stamped(0), dims="((")
    assert RunDirectory().living() == []


@pytest.mark.usefixtures("viewer")
def test_planes_too_large_for_the_shared_memory_are_a_line_of_the_receipt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("scopecast.publishing.budget.free_bytes", lambda: 2**22)
    receipt = show(np.zeros((2**10, 2**10), "uint16"), title="large")
    assert (receipt.sent, receipt.frames) == ((), 0)
    assert [tuple(skipped) for skipped in receipt.skipped] == [
        ("large", "its planes of 2 MiB are too large for the shared memory")
    ]


def test_a_viewer_that_does_not_exist_is_named():
    with pytest.raises(ViewerStartError, match="no viewer 'fijj' here; use"):
        scopecast.show(stamped(0), viewer="fijj")


# ---- files -----------------------------------------------------------------------------------------------------------


def test_an_ome_tiff_comes_with_its_channels_and_sizes(viewer: Viewer, tmp_path: Path):
    write_ome(tmp_path / "cells_t003.ome.tif")
    receipt = show(tmp_path / "cells_t003.ome.tif")
    assert receipt.frames == 12
    (stream,) = viewer.streams
    assert (stream.about.title, stream.axes) == ("cells_t003.ome.tif", ("t", "c", "z"))
    assert labels(stream, "c") == ["DAPI", "GFP"]
    assert stream.about.colors == ["#0000ff", "#00ff00"]
    assert (list(stream.about.scale), stream.about.units) == ([0.3, 0.2], "um")
    assert stamps(stream) == {(t, c, z): (t, c, z) for t in range(2) for c in range(2) for z in range(3)}


def test_files_with_axes_in_their_names_are_one_stack(viewer: Viewer, tmp_path: Path):
    for t in range(3):
        for c in range(2):
            tifffile.imwrite(tmp_path / f"img_t{t:03d}_c{c + 1}.tif", stamped(t, c))
    show(tmp_path)
    (stream,) = viewer.streams
    assert (stream.about.title, stream.axes) == (tmp_path.name, ("t", "c"))
    assert labels(stream, "c") == ["1", "2"]
    assert stamps(stream) == {(t, c): (t, c, 0) for t in range(3) for c in range(2)}


def test_files_of_a_pattern_of_ones_own(viewer: Viewer, tmp_path: Path):
    for c, name in enumerate(("DAPI", "GFP")):
        iio.imwrite(tmp_path / f"{name} after 12 h.png", stamped(12, c))
    show([tmp_path / "DAPI after 12 h.png", tmp_path / "GFP after 12 h.png"], pattern=r"(?P<c>\w+) after (?P<t>\d+) h")
    (stream,) = viewer.streams
    assert stamps(stream) == {(12, 0): (12, 0, 0), (12, 1): (12, 1, 0)}
    assert labels(stream, "c") == ["DAPI", "GFP"]


def test_a_stack_for_each_time_point_is_one_stack_in_all(viewer: Viewer, tmp_path: Path):
    for t in range(2):
        tifffile.imwrite(tmp_path / f"run_t{t}.tif", np.stack([stamped(t, 0, z) for z in range(5)]))
    show(str(tmp_path / "*.tif"))
    assert stamps(viewer.streams[0]) == {(t, z): (t, 0, z) for t in range(2) for z in range(5)}


def test_a_file_whose_name_contradicts_its_axes_has_a_stream_of_its_own(viewer: Viewer, tmp_path: Path):
    for z in range(2):
        tifffile.imwrite(tmp_path / f"run_z{z}.tif", np.stack([stamped(z, 0, at) for at in range(5)]))
    show(tmp_path)
    assert [stream.about.title for stream in viewer.streams] == ["run_z0.tif", "run_z1.tif"]
    assert stamps(viewer.streams[1]) == {(at,): (1, 0, at) for at in range(5)}


def test_files_whose_names_say_nothing_lie_side_by_side(viewer: Viewer, tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "cell.tif", stamped("ab".index(folder)))
    show([tmp_path / "a", tmp_path / "b"])
    (stream,) = viewer.streams
    assert stream.axes == ("file",)
    assert labels(stream, "file") == ["a/cell.tif", "b/cell.tif"]
    assert stamps(stream) == {(0,): (0, 0, 0), (1,): (1, 0, 0)}


def test_files_of_several_folders_differ_by_the_folder(viewer: Viewer, tmp_path: Path):
    for number, folder in enumerate(("Pos0", "Pos1")):
        (tmp_path / folder).mkdir()
        for t in range(2):
            tifffile.imwrite(tmp_path / folder / f"img_t{t}.tif", stamped(t, number))
    show([tmp_path / "Pos0", tmp_path / "Pos1"])
    (stream,) = viewer.streams
    assert (stream.axes, labels(stream, "folder")) == (("folder", "t"), ["Pos0", "Pos1"])
    assert stamps(stream) == {(number, t): (t, number, 0) for number in range(2) for t in range(2)}


def test_more_kinds_of_files_than_a_viewer_keeps_streams_of_a_publisher(viewer: Viewer, tmp_path: Path):
    paths = []
    for number in range(5):
        write_imagej(tmp_path / f"{number}.tif", spacing=1.0 + number)
        paths.append(tmp_path / f"{number}.tif")
    assert show(paths).frames == 5 * 12
    steps = [dict(zip(stream.axes, stream.about.steps, strict=True))["z"] for stream in viewer.streams]
    assert sorted(steps) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert all(len(stamps(stream)) == 12 for stream in viewer.streams)


def test_what_cannot_be_shown_is_in_the_receipt_and_the_others_go_on(viewer: Viewer, tmp_path: Path):
    tifffile.imwrite(tmp_path / "good.tif", stamped(1))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "good.tif").read_bytes()[:-100])
    (tmp_path / "notes.csv").write_text("a,b")
    names = ["cut.tif", "good.tif", "missing.tif", "notes.csv"]
    receipt = show([tmp_path / name for name in names])
    assert receipt.sent == (str(tmp_path / "good.tif"),)
    assert [os.path.basename(skip.path) for skip in receipt.skipped] == ["cut.tif", "missing.tif", "notes.csv"]  # noqa: PTH119
    assert "bytes" in receipt.skipped[0].reason
    assert receipt.skipped[2] == Skipped(str(tmp_path / "notes.csv"), "extension '.csv'")


def test_what_the_user_says_of_a_file_goes_before_what_it_says(viewer: Viewer, tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif")
    show(tmp_path / "a.ome.tif", scale=(1.0, 2.0), units="mm", channels=["red", "green"])
    (stream,) = viewer.streams
    assert (list(stream.about.scale), stream.about.units, labels(stream, "c")) == ([1.0, 2.0], "mm", ["red", "green"])


# ---- a script, and the command ---------------------------------------------------------------------------------------


def test_a_script_that_shows_ends_by_itself():
    code = "import numpy, scopecast; print(scopecast.show(numpy.ones((3, 64, 48), 'uint8'), viewer='headless'))"
    with viewer_process() as other:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "1 sent (3 frames)\n"), done.stderr
        assert [entry.token for entry in RunDirectory().living()] == [other.token]


def test_a_viewer_that_is_started_meanwhile_stays(tmp_path: Path):
    elsewhere = RunDirectory(tmp_path / "run")
    with ExitStack() as stack:
        with opened_viewer("headless"):
            other = stack.enter_context(viewer_process(directory=elsewhere))
        assert RunDirectory().living("receiver") == []
        assert [entry.token for entry in elsewhere.living("receiver")] == [other.token]


def test_the_command_shows_files_and_says_which_it_could_not(viewer: Viewer, tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif")
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    done = subprocess.run(
        [*COMMAND, "show", str(tmp_path / "a.ome.tif"), str(tmp_path / "b.tif"), "--viewer", "headless"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stdout == "Shown in headless: 1 of 2 files, 12 planes; 1 file not shown.\n"
    (line,) = [line for line in done.stderr.splitlines() if "not shown" in line]
    assert line == f"not shown: {tmp_path / 'b.tif'}: not a TIFF file, or not complete yet"
    assert "Traceback" not in done.stderr
    assert len(stamps(viewer.streams[0])) == 12
    assert RunDirectory().living("publisher") == []


@pytest.mark.parametrize("command", ["show", "replay"])
def test_the_command_puts_all_of_it_where_its_axes_say(viewer: Viewer, tmp_path: Path, command: str):
    tifffile.imwrite(tmp_path / "cells.tif", np.stack([stamped(0, z=z) for z in range(2)]), photometric="minisblack")
    done = subprocess.run(
        [*COMMAND, command, str(tmp_path / "cells.tif"), "--dims", "z", "--axes", "t=3,c=DAPI", "--viewer", "headless"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    (stream,) = viewer.streams
    assert stream.about.axes == ["t", "c", "z"]
    assert stream.about.labels["c"] == ["DAPI"]
    assert max(index[0] for index in planes_of(stream)) == 3


@pytest.mark.parametrize("when", ["while the viewer starts", "while planes are shown"])
def test_an_interrupted_show_leaves_nothing_behind(when: str, tmp_path: Path, runtime_dir: Path):
    # Too much to be shown before the signal comes, in a file that is one large hole.
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((1, 1024, 1024), "uint16"))
    header = path.read_bytes()[:128].replace(b"(1, 1024, 1024)", b"(9000, 1024, 1024)").replace(b"   \n", b"\n")
    with path.open("wb") as file:
        file.write(header)
        file.truncate(128 + 9000 * 2**21)
    process = subprocess.Popen(
        [*COMMAND, "show", str(path), "--viewer", "headless"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            if when == "while the viewer starts":
                wait_until(lambda: list(runtime_dir.glob("launch-*")), timeout=40)
            else:
                wait_until(lambda: any(it.state == "ready" for it in RunDirectory().living("publisher")), timeout=60)
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=40)
        finally:
            process.kill()
    assert process.returncode == 130, printed
    assert "Traceback" not in printed
    assert printed.splitlines()[-1] == "interrupted"
    assert not list(runtime_dir.glob("*.json"))
    assert not list(runtime_dir.glob("*.sock"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["a.tif", "--dims", "(("], "are not the names of dimensions"),
        (["a.tif", "--pattern", "(?P<y>.)"], "has a group that is not an axis"),
        (["a.tif", "--viewer", "fijj"], "there is no viewer 'fijj' here"),
        (["a.tif", "--scale", "0"], "--scale is the size of a pixel in µm"),
        (["a.tif", "--axes", "t"], "--axes are places along axes, each once, such as t=3 or t=3,c=DAPI; not t"),
        (["a.tif", "--axes", "t=1,t=2"], "each once"),
        (["a.tif", "--axes", ""], "--axes are places along axes"),
        (["a.tif", "--axes", "t=-1"], "axis 't' is -1: an index is from 0"),
        (["a.tif", "--axes", "y=3"], "axis 'y'"),
    ],
)
def test_a_mistake_of_the_users_is_a_line(arguments: list[str], text: str):
    result = CliRunner().invoke(cli.app, ["show", *arguments])
    assert result.exit_code == 2
    assert text in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["missing.tif"], "not shown: missing.tif: there is no such file"),
        (["*.png"], "not shown: *.png: no file matches"),
        (["a.roi"], "regions of interest belong to an image: name their image, too"),
        (["folder"], "there are no images in folder; subfolders are not searched: add --recursive"),
        (
            ["cut.tif", "empty.tif"],
            "not shown: cut.tif: not a TIFF file, or not complete yet not shown: empty.tif: it is empty",
        ),
    ],
)
def test_no_viewer_is_opened_where_nothing_can_be_shown(
    names: list[str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "folder" / "below").mkdir(parents=True)
    (tmp_path / "cut.tif").write_bytes(b"II*\0")
    (tmp_path / "empty.tif").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "scopecast.publishing.launch.find_or_start_viewer", lambda *_, **__: pytest.fail("a viewer was opened")
    )
    result = CliRunner().invoke(cli.app, ["show", *names])
    assert result.exit_code == 1
    assert text in " ".join(result.stderr.split())
    receipt = scopecast.show(names)
    assert (receipt.sent, receipt.frames) == ((), 0)
    assert len(receipt.skipped) == (0 if names == ["folder"] else len(names))
