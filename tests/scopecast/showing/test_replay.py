"""Recordings: where their times come from, and that each frame is shown when it is due."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from children import wait_until
from imagefiles import hyperstack, write_imagej, write_ome
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import FileError
from scopecast.images.micromanager import read_metadata
from scopecast.rundir.directory import RunDirectory
from scopecast.showing.replay import Recording, parse_speed, play

if TYPE_CHECKING:
    from pathlib import Path

    from scopecast.images.base import FilePlane, ImageFile


def times(recording: Recording) -> list[float]:
    return [moment.time_s for moment in recording.moments]


# ---- where the times come from ---------------------------------------------------------------------------------------


def test_the_times_of_an_ome_tiff_are_its_planes(tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif")
    recording = Recording(tmp_path / "a.ome.tif")
    assert recording.source == "recorded times"
    assert times(recording) == pytest.approx([0, 0.1, 0.2, 1, 1.1, 1.2, 10, 10.1, 10.2, 11, 11.1, 11.2])
    assert [moment.number for moment in recording.moments] == list(range(12))


def test_an_imagej_stack_has_an_interval(tmp_path: Path):
    write_imagej(tmp_path / "a.tif")
    assert times(Recording(tmp_path / "a.tif")) == [0.0] * 6 + [5.0] * 6


def test_frames_per_second_go_before_recorded_times(tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif")
    recording = Recording(tmp_path / "a.ome.tif", fps=4)
    assert times(recording) == [number / 4 for number in range(12)]
    assert recording.source == "4 frames/s, as requested"


def test_a_stack_without_times_says_so(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", hyperstack(1, 1, 5)[0, 0])
    recording = Recording(tmp_path / "a.tif")
    assert times(recording) == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert "no times are recorded" in recording.source


def test_a_folder_of_images_has_the_files_dates(tmp_path: Path):
    for t, date in ((0, 1000.0), (1, 1002.5), (10, 1007.0), (2, 1005.0)):
        tifffile.imwrite(tmp_path / f"img_t{t}.tif", stamped(t))
        os.utime(tmp_path / f"img_t{t}.tif", (date, date))
    recording = Recording(tmp_path)
    assert [moment.path.name for moment in recording.moments] == [f"img_t{t}.tif" for t in (0, 1, 2, 10)]
    assert times(recording) == [0.0, 2.5, 5.0, 7.0]
    assert "the files' dates" in recording.source


@pytest.mark.parametrize("version", ["1.4", "2.0"])
@pytest.mark.parametrize("broken_off", [False, True])
def test_micromanagers_metadata_beside_the_images(tmp_path: Path, version: str, broken_off: bool):
    about: dict[str, Any] = {"Summary": {"Prefix": "run"}}
    for t in range(3):
        name = f"img_{t:09d}_DAPI_000.tif" if version == "1.4" else f"img_channel000_position000_time{t:09d}_z000.tif"
        key = f"FrameKey-{t}-0-0" if version == "1.4" else f"Metadata-Default/{name}"
        tifffile.imwrite(tmp_path / name, stamped(t))
        about[key] = {"ElapsedTime-ms": 700.0 + 250 * t, "FileName": name, "PixelSizeUm": 0.325}
    text = json.dumps(about)
    (tmp_path / "metadata.txt").write_text(text.rstrip("}") + "}," if broken_off else text)
    recording = Recording(tmp_path)
    assert recording.source == "recorded times, from metadata.txt"
    assert times(recording) == pytest.approx([0.0, 0.25, 0.5])
    assert read_metadata(tmp_path).scale_um == 0.325


def test_files_whose_clocks_begin_anew_follow_each_other(tmp_path: Path):
    for number in range(2):
        write_imagej(tmp_path / f"{number}.tif", t=3, c=1, z=1)
    assert times(Recording(tmp_path)) == [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]


def test_what_cannot_be_played_says_why(tmp_path: Path):
    for what, text in ((tmp_path / "none", "no file or folder"), (tmp_path, "no images in")):
        with pytest.raises(FileError, match=text):
            Recording(what)
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    with pytest.raises(FileError, match=r"a\.tif: not a TIFF file"):
        Recording(tmp_path)
    for speed in ("0", "-1", "fast", "nan", "inf"):
        with pytest.raises(ValueError, match="is not a valid speed"):
            parse_speed(speed)


# ---- when each is due ------------------------------------------------------------------------------------------------


class Stage:
    """Stands in for a viewer and for time: what is shown when, with a clock that only waiting moves."""

    dims = None

    def __init__(self, reading_s: float = 0.0) -> None:
        self.now, self.reading_s = 100.0, reading_s
        self.shown: list[tuple[float, int]] = []

    def plane(self, image: ImageFile, plane: FilePlane) -> int:
        self.now += self.reading_s
        self.shown.append((self.now - 100.0, check_stamp(plane.array)[0]))
        return 1

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def play(self, recording: Recording, **options: Any) -> list[Any]:
        return list(play(recording, self, clock=lambda: self.now, wait=self.wait, **options))  # type: ignore[arg-type]


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    write_imagej(tmp_path / "a.tif", t=4, c=1, z=1)
    return Recording(tmp_path / "a.tif")


@pytest.mark.parametrize(("speed", "step"), [(1.0, 5.0), (10.0, 0.5), (0.5, 10.0), (math.inf, 0.0)])
def test_frames_are_shown_when_they_are_due(recording: Recording, speed: float, step: float):
    stage = Stage()
    played = stage.play(recording, speed=speed)
    assert stage.shown == [(pytest.approx(t * step), t) for t in range(4)]
    assert all(it.behind_s == pytest.approx(0.0) for it in played)
    assert played[-1].frames == 4


def test_what_is_late_is_shown_at_once_and_nothing_is_left_out(recording: Recording):
    stage = Stage(reading_s=7.0)
    played = stage.play(recording)
    assert stage.shown == [(7.0 * (t + 1), t) for t in range(4)]
    assert [it.behind_s for it in played if it.moment] == [7.0, 9.0, 11.0, 13.0]


def test_a_loop_begins_anew_as_long_after_the_end_as_frames_are_apart(recording: Recording):
    stage = Stage()
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        stage.wait(seconds)

    for played in play(recording, stage, loop=True, clock=lambda: stage.now, wait=wait):  # type: ignore[arg-type]
        if played.frames == 6:
            break
    assert stage.shown == [(pytest.approx(5.0 * at), at % 4) for at in range(6)]
    assert max(waits) <= 0.5, "one hears of it, and can stop it, also between two rounds"


def test_a_file_that_is_damaged_is_told_once_and_the_others_go_on(tmp_path: Path):
    for number in range(2):
        write_imagej(tmp_path / f"{number}.tif", t=3, c=1, z=1)
    recording = Recording(tmp_path)
    (tmp_path / "0.tif").write_bytes(b"gone")
    failed: list[str] = []
    stage = Stage()
    stage.play(recording, failed=lambda path, error: failed.append(f"{path.name}: {error}"))
    assert [t for _, t in stage.shown] == [0, 1, 2]
    (text,) = failed
    assert text.startswith("0.tif: not a TIFF file")


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_plays_a_recording_into_the_viewer(tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif")
    command = [sys.executable, "-P", "-m", "scopecast", "replay", str(tmp_path / "a.ome.tif"), "--speed", "max"]
    with Viewer() as viewer:
        done = subprocess.run([*command, "--viewer", "headless"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        first, last = done.stdout.splitlines()
        assert first.endswith("as fast as possible: 12 frames. Times: recorded times.")
        assert last == "Replayed in headless: 12 frames, 12 delivered, 0 superseded."
        (stream,) = viewer.streams
        assert {index: check_stamp(plane) for index, plane in planes_of(stream).items()} == {
            index: index for index in np.ndindex(2, 2, 3)
        }
    assert RunDirectory().living() == []


def test_the_command_tells_how_many_of_the_files_it_has_played(tmp_path: Path):
    for number in range(3):
        write_imagej(tmp_path / f"{number}.tif", t=3, c=1, z=1)
    (tmp_path / "1.tif").write_bytes(b"II*\0")
    command = [sys.executable, "-P", "-m", "scopecast", "replay", str(tmp_path), "--speed", "max"]
    with Viewer():
        done = subprocess.run([*command, "--viewer", "headless"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("Replayed in headless: 6 frames of 2 of 3 files, ")


@pytest.mark.parametrize("when", ["while the viewer starts", "while frames come", "between two frames"])
def test_an_interrupted_replay_leaves_nothing_behind(when: str, tmp_path: Path, runtime_dir: Path):
    write_imagej(tmp_path / "a.tif", finterval=0.001 if when == "while frames come" else 3600.0)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "scopecast", "replay", str(tmp_path / "a.tif"), "--viewer", "headless", "--loop"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, Viewer() if when != "while the viewer starts" else contextlib.nullcontext() as viewer:
        try:
            if viewer is None:
                wait_until(lambda: list(runtime_dir.glob("launch-*")), timeout=60)
            else:  # those of the first time point; then the next is due in an hour, or the second round begins
                frames = 6 if when == "between two frames" else 13
                viewer.wait_for(lambda: sum(stream.received for stream in viewer.streams) >= frames, timeout=60)
            process.send_signal(signal.SIGINT)
            printed, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    began = when != "while the viewer starts"
    assert [line.split(":")[0] for line in printed.splitlines()][1:] == (["Replayed in headless"] if began else [])
    assert not list(runtime_dir.glob("*.json"))
    assert not list(runtime_dir.glob("*.sock"))
