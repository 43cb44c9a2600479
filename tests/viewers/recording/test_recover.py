"""``scopecast recover``: what a killed acquisition has left in its ring, and in viewers, becomes files."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import tifffile
from typer.testing import CliRunner

from launched import ending_viewers
from receivers import Viewer, check_stamp
from scopecast.cli.main import app
from scopecast.memory.ring import CAPTION_BYTES, RingReader
from scopecast.rundir import directory as rundir
from scopecast.rundir.directory import Rescue, Rescued, RunDirectory
from scopecast_viewers.recording.remains import read_ring

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("/dev/shm")

SHM = Path("/dev/shm")
BEGIN = """
import os, sys
from receivers import stamped
from scopecast import Publisher
publisher = Publisher(KIND, title="camera 1", policy="every", budget=8 * 2**20)
publisher.open((64, 48), wait=100)
"""
RUN = """
publisher.new_stream("run 7", sizes={"t": 9, "c": 2}, channels=["DAPI", "GFP"], colors=["blue", "lime"], scale=0.65)
for t in range(9):
    for c, name in enumerate(("DAPI", "GFP")):
        publisher.publish(stamped(t, c), axes={"t": t, "c": name}, metadata={"exposure": 20.0 + t})
"""
#: Each frame has a channel of its own, and so all are kept, also where there is no viewer.
KEPT = "for c in range(5): publisher.publish(stamped(3, c), axes={'t': 3, 'c': c})\n"
KILLED = "publisher.flush(30)\nos.kill(os.getpid(), 9)"


@pytest.fixture(autouse=True)
def _leave_nothing() -> Iterator[None]:
    yield
    RunDirectory().clean(everything=True)


def killed(code: str, kind: str = "'headless'") -> None:
    paths = os.pathsep.join((str(Path(__file__).parents[2] / "support"), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(
        [sys.executable, "-c", BEGIN.replace("KIND", kind) + code + KILLED],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -9, done.stderr


def recover(folder: Path, *options: str, code: int = 0) -> list[str]:
    done = CliRunner().invoke(app, ["recover", str(folder), *options])
    assert done.exit_code == code, done.output
    return done.output.splitlines()


def has_lost(viewer: Viewer, programs: int) -> bool:
    """Whether it has frames of so many programs, and has noticed that they have gone."""
    return [source.state for source in viewer.sources if source.streams] == ["lost"] * programs


def stamps(folder: Path, number: int = 0) -> set[tuple[int, int, int]]:
    """Return the stamps (t, c, z) of the planes that are not empty in a file."""
    pixels = tifffile.imread(sorted(folder.glob("*.ome.tiff"))[number]).reshape(-1, 64, 48)
    return {check_stamp(plane) for plane in pixels if plane.any()}


@pytest.mark.fault("P15")
def test_the_last_frames_of_an_acquisition_that_was_killed_become_a_file_with_all_that_is_known_of_them(tmp_path):
    killed(RUN)
    killed(KEPT)
    told = CliRunner().invoke(app, ["clean"]).output
    assert told.count("Not removed: the last frames of camera 1, which has crashed or was killed, are kept until") == 2
    lines = recover(tmp_path / "new")
    assert [line.split(":")[0] for line in lines] == ["Recovered the last frames of camera 1"] * 2
    found = sorted((tmp_path / "new").iterdir())
    assert [path.suffix for path in found] == [".tiff", ".tiff"], "and no folder of a file that is not complete"
    live, run = sorted(range(2), key=lambda number: "run 7" in found[number].name)
    assert stamps(tmp_path / "new", live) == {(3, c, 0) for c in range(5)}
    assert stamps(tmp_path / "new", run) >= {(8, 0, 0), (8, 1, 0)}, "the newest of each channel"
    with tifffile.TiffFile(found[run]) as file:
        about = file.ome_metadata
        assert all(f'Name="{name}"' in about for name in ("DAPI", "GFP"))
        assert 'PhysicalSizeX="0.65"' in about
        assert "28.0" in about, "the exposure of the last time point"
    assert recover(tmp_path) == ["There was nothing to recover."]
    assert not RunDirectory().entries()


@pytest.mark.fault("P15")
def test_a_frame_that_was_being_written_and_one_without_a_caption_are_left_out(tmp_path):
    killed(KEPT)
    (leftover,) = RunDirectory().leftovers()
    with RingReader(leftover.segment, leftover.entry.token, None) as ring:
        layout = ring.layout
        used = [slot for slot in range(layout.slots) if ring.caption(slot)]
    with (SHM / leftover.segment).open("r+b") as file:
        file.seek(layout.table + used[0] * 64)
        file.write(struct.pack("=Q", 7))  # odd
        file.seek(layout.total + used[1] * CAPTION_BYTES + 8)
        file.write(b"\xc1" * 50)  # what MessagePack never has
        file.seek(layout.total + used[2] * CAPTION_BYTES)
        file.write(bytes(8))
    with RingReader(leftover.segment, leftover.entry.token, None) as ring:
        ((about, frames, _),) = read_ring(ring)
        assert len(frames) == 2
        assert [stream.axes for stream in about] == [["t", "c"]]
        del frames
    recover(tmp_path)
    assert len(stamps(tmp_path)) == 2


@pytest.mark.fault("P15")
def test_long_metadata_is_left_out_and_long_labels_too(tmp_path):
    killed(
        "names = [f'{number:04} ' + 'x' * 40 for number in range(200)]\n"
        "publisher.new_stream('a', channels=names)\n"
        "publisher.publish(stamped(1), axes={'t': 1, 'c': 0}, metadata={'note': 'y' * 12_000})\n"
        "publisher.new_stream('b', channels=['DAPI'])\n"
        "publisher.publish(stamped(2), axes={'t': 0, 'c': 'DAPI'}, metadata={'note': 'y' * 12_000})\n"
    )
    recover(tmp_path)
    assert stamps(tmp_path, 0) == {(1, 0, 0)}
    with tifffile.TiffFile(sorted(tmp_path.glob("*.ome.tiff"))[1]) as file:
        assert check_stamp(file.asarray().reshape(64, 48)) == (2, 0, 0)
        assert "yyyy" not in file.ome_metadata
        assert "DAPI" in file.ome_metadata


def test_copies_of_frames_of_another_machine_are_not_kept():
    """That machine has them, exact; and copies that are previews could not be saved."""
    killed(KEPT)
    directory = RunDirectory()
    (leftover,) = directory.leftovers()
    path = directory.file(leftover.entry.token, "json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"origin": "abcdefgh"}))
    cleaned = directory.clean()
    assert (cleaned.segments, cleaned.kept) == ([leftover.segment], ())


@pytest.mark.fault("P15")
def test_they_are_kept_for_a_while_within_a_bound_and_only_where_no_viewer_has_them(monkeypatch):
    directory = RunDirectory()
    for _ in range(3):
        killed(KEPT)
    first, second, third = (leftover.segment for leftover in reversed(directory.leftovers()))
    monkeypatch.setattr(rundir, "MAX_KEPT_BYTES", 2 * directory.leftovers()[0].bytes)
    cleaned = directory.clean()
    assert (cleaned.segments, {each.segment for each in cleaned.kept}) == ([first], {second, third})
    assert [each.is_new for each in cleaned.kept] == [True, False], "of the one before the publisher after it has told"
    assert [each.is_new for each in directory.clean().kept] == [False, False]
    with Viewer():  # this process is older than the frames: it may have them
        assert set(directory.clean().segments) == {second, third}
    killed(KEPT)
    monkeypatch.setattr(rundir, "KEEP_S", 0.0)
    assert len(directory.clean().segments) == 1


@pytest.mark.fault("P15")
def test_none_are_kept_where_memory_is_short(monkeypatch):
    killed(KEPT)
    (leftover,) = RunDirectory().leftovers()
    monkeypatch.setattr(rundir, "free_bytes", lambda: 4 * leftover.bytes - 8)
    assert RunDirectory().clean().segments == [leftover.segment]


def test_clean_removes_them_where_that_is_wanted():
    killed(KEPT)
    (kept,) = json.loads(CliRunner().invoke(app, ["clean", "--json"]).output)["kept"]
    assert kept["title"] == "camera 1"
    assert kept["until"] == pytest.approx(time.time() + 600, abs=60)
    assert "Removed the leftovers of 1 crashed program" in CliRunner().invoke(app, ["clean", "--all"]).output
    assert not RunDirectory().entries()


@pytest.mark.fault("P15")
def test_what_viewers_have_of_killed_programs_becomes_files_once(tmp_path):
    with Viewer() as viewer:
        killed(RUN)
        viewer.wait_for(lambda: has_lost(viewer, 1))
        (line,) = recover(tmp_path)
        assert line.startswith("Recovered from headless: run 7: 18 frames in ")
        assert stamps(tmp_path) == {(t, c, 0) for t in range(9) for c in range(2)}
        assert recover(tmp_path) == ["There was nothing to recover."]
        killed(KEPT)
        viewer.wait_for(lambda: has_lost(viewer, 2))
        (line,) = recover(tmp_path)
        assert "live: 5 frames" in line
        assert not RunDirectory().leftovers(), "the viewer has had all that was in the ring"


@pytest.mark.fault("P15")
def test_what_a_viewer_can_not_write_it_still_has(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError("there is no room")

    with Viewer() as viewer:
        killed(RUN)
        viewer.wait_for(lambda: has_lost(viewer, 1))
        with monkeypatch.context() as full:
            full.setattr("scopecast_viewers.receiving.rescue.save_all", refuse)
            lines = recover(tmp_path, code=1)
        assert "headless could not write it: camera 1 run 7: there is no room" in lines
        assert list(tmp_path.iterdir()) == [], "nor its last frames alone"
        recover(tmp_path)
        assert len(stamps(tmp_path)) == 18


def test_a_viewer_that_does_not_answer_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("scopecast.cli.recover._ANSWER_S", 0.3)
    member = RunDirectory().join("receiver", "headless", title="a viewer that hangs")
    killed(KEPT)
    lines = recover(tmp_path, code=1)
    assert any("a viewer that hangs does not answer" in line for line in lines)
    assert any("Recovered the last frames of camera 1" in line for line in lines)
    member.close()
    assert list(RunDirectory().path.iterdir()) == []


@pytest.mark.parametrize("kind", ["napari", "fiji"])
def test_a_window_that_the_program_had_opened_is_asked(tmp_path, kind):
    with ending_viewers():
        killed(RUN, f"'{kind}', launch=True")
        (line,) = recover(tmp_path, "--to", str(tmp_path / "there"))
        assert re.match(f"Recovered from .*{kind}.*: run 7: 18 frames in camera 1 run 7", line)
    assert len(stamps(tmp_path / "there")) == 18


def recovering(folder: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "scopecast", "recover", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.fault("P15")
def test_of_three_that_recover_at_once_one_does_and_the_others_say_so(tmp_path):
    with Viewer() as viewer:
        killed(RUN)
        viewer.wait_for(lambda: has_lost(viewer, 1))
        with RunDirectory().hold("recover") as held:  # a fourth, which keeps them until all are there
            assert held
            RunDirectory().file("recover", "txt").write_text("/fourth")
            started = [recovering(tmp_path / str(number)) for number in range(3)]
            waiting = "Another `scopecast recover` is writing files to /fourth: waiting until it is done.\n"
            for each in started:
                assert each.stdout is not None
                assert each.stdout.readline() == waiting
        told = [each.communicate(timeout=60)[0] for each in started]
    assert [each.returncode for each in started] == [0] * 3
    assert sorted(text.count("Recovered from headless: run 7: 18 frames") for text in told) == [0, 0, 1]
    assert sorted(text.count("There was nothing else to recover: what there was is in /") for text in told) == [0, 1, 1]
    (file,) = tmp_path.rglob("*.ome.tiff")
    assert len(stamps(file.parent)) == 18
    assert list(tmp_path.iterdir()) == [file.parent], "and no empty folders"


@pytest.mark.parametrize("ends", [True, False])
def test_a_viewer_that_takes_the_request_and_never_answers_is_not_waited_for_for_ever(tmp_path, monkeypatch, ends):
    monkeypatch.setattr("scopecast.cli.recover._WORK_S", 0.5)
    directory = RunDirectory()
    member = directory.join("receiver", "headless", title="a viewer")
    taken = threading.Event()

    def take() -> None:
        while directory.asked_to_rescue(member.token) is None:
            time.sleep(0.01)
        directory.work_on_rescue(member.token)
        taken.set()
        if ends:
            member.close()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        lines = recover(tmp_path, code=1)
    finally:
        thread.join(10)
        member.close()
    assert taken.is_set()
    assert any(f"a viewer {'has ended' if ends else 'does not answer'}: what it has can't be" in line for line in lines)


def test_an_answer_to_somebody_who_has_given_up_is_not_taken_for_ones_own():
    directory = RunDirectory()
    with directory.join("receiver", "headless") as member:
        directory.ask_to_rescue(member.token, Rescue("/a", ".ome.tiff", "first"))
        directory.ask_to_rescue(member.token, Rescue("/a", ".ome.tiff", "second"))
        directory.tell_of_rescue(member.token, Rescued(["run"], name="first"))
        assert directory.rescued(member.token, "second") is None
        directory.tell_of_rescue(member.token, Rescued(["run"], name="second"))
        assert directory.rescued(member.token, "second") == Rescued(["run"], name="second")


def test_where_nothing_is_left_a_folder_that_is_not_there_is_told_and_none_is_made(tmp_path):
    (line,) = recover(tmp_path / "new")
    assert line.startswith(f"There was nothing to recover: there is no folder {tmp_path / 'new'}")
    recover(tmp_path, "--to", str(tmp_path / "elsewhere"))
    assert list(tmp_path.iterdir()) == []
