"""The flight recorder, as a user starts it: a process of its own; its files are read back, pixel by pixel."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from children import Child, stop, wait_until
from receivers import Viewer, check_stamp, stamped
from scopecast import Publisher
from scopecast.cli.main import app
from scopecast.link import messages as local
from scopecast.remote import codec, messages
from scopecast.remote.mirror import Mirror
from scopecast.remote.quality import EXACT
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.recording import recorder
from scopecast_viewers.recording.journal import read_journal
from scopecast_viewers.recording.tap import Tap
from talking import Lines, Talking

SHAPE = (64, 48)


class Inside(Lines):
    """A recorder in this process, whose lines are read as they come."""

    def __init__(
        self, folder: Path, form: str = ".ome.tiff", memory: int = 2**24, leave_free: int = 0, title: str = ""
    ) -> None:
        super().__init__()
        self.recorder = recorder.Recorder(
            Tap(title=title), folder, form, memory=memory, leave_free=leave_free, tell=self.put
        )

    def __enter__(self) -> Self:
        self.recorder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.close()


class Recorder(Talking):
    """``scopecast record`` in a process of its own, whose lines are read as they come."""

    def __init__(self, folder: Path, *options: str, before: str = "") -> None:
        code = f"{before}\nfrom scopecast.cli.main import main\nmain()"
        super().__init__([sys.executable, "-c", code, "record", str(folder), *options])

    def press_enter(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self) -> Self:
        try:
            self.line("Recording to")
        except BaseException:
            self.close()
            raise
        return self


def opened(**arguments: Any) -> Publisher:
    publisher = Publisher(
        **{"kind": "headless", "title": "camera 1", "budget": 8 * 2**20, "linger": 30.0, "policy": "every", **arguments}
    )
    publisher.open(SHAPE, wait=30.0)
    return publisher


def publish_run(publisher: Publisher, title: str, timepoints: int = 5, first: int = 0) -> None:
    publisher.new_stream(title, sizes={"t": timepoints}, channels=["DAPI", "FITC"], scale=0.65, steps={"t": 2.0})
    for t in range(timepoints):
        for c, channel in enumerate(("DAPI", "FITC")):
            publisher.publish(stamped(first + t, c), axes={"t": t, "c": channel}, metadata={"gain": t})


def stamps(path: Path) -> list[tuple[int, int, int]]:
    """Return (t, c, z) of each frame in a file, in order; every pixel was compared. Where none came there are zeros."""
    with tifffile.TiffFile(path) as file:
        planes = [page.asarray() for page in file.pages]
    return [check_stamp(plane) for plane in planes if plane.any()]


def recover(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "scopecast", "recover", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_each_of_two_runs_is_in_a_file_of_its_own_and_every_pixel_as_it_was_published(tmp_path):
    with Recorder(tmp_path / "out", "--wait", "0.5") as recorder:
        for number in (1, 2):  # two programs, one after the other
            with opened() as publisher:
                publish_run(publisher, f"run {number}", first=10 * number)
        recorder.line("Recorded run 1: 10 frames in .*; every frame")
        recorder.line("Recorded run 2: 10 frames in .*; every frame")
        recorder.line("^20 frames recorded.$")
        assert recorder.process.wait(60) == 0, "it ends by itself, as --wait says"
    first, second = files(tmp_path / "out")
    assert re.fullmatch(r"camera 1 run 1 \d{4}-\d\d-\d\d \d\d-\d\d-\d\d\.ome\.tiff", first)
    for number, name in ((1, first), (2, second)):
        path = tmp_path / "out" / name
        assert stamps(path) == [(10 * number + t, c, 0) for t in range(5) for c in range(2)]
        with tifffile.TiffFile(path) as file:
            assert file.series[0].shape == (5, 2, *SHAPE)
            about = file.ome_metadata
        assert 'Name="DAPI"' in about
        assert 'PhysicalSizeX="0.65"' in about
        assert "&quot;gain&quot;: 4" in about or '"gain": 4' in about
    assert not RunDirectory().living("recorder")


def test_a_run_of_another_machine_is_one_file_though_its_last_frames_come_after_its_end(tmp_path):
    """A slow link: they come when nothing new does, the newest first; its program ends here when all is here."""
    runs = [local.Stream(number, f"run {number}", ["t"], {}, [0], [1.0, 1.0], [0.0], "pixel") for number in (1, 2)]
    with Inside(tmp_path) as recorder:
        mirror = Mirror(messages.Source(1, "abcd2345", "camera 1"), "lab-pc", ["headless"], launch=False)
        (publisher,) = mirror.publishers
        publisher.open(SHAPE, wait=30.0)
        wait_until(lambda: any(row.attached for row in publisher.stats().receivers))
        for run in runs:
            mirror.announce(run)
            for t in (3, 2, 1, 0):
                data = memoryview(codec.encode(stamped(t, run.id, 0, SHAPE), EXACT))
                metadata = msgspec.Raw(b"\xc0")
                piece = messages.Piece(
                    t, t, run.id, 0, "image", "", "<u2", [*SHAPE], [t], data, metadata=metadata, late=t < 3
                )
                assert mirror.take(run.id, piece)
                if t == 3:
                    mirror.end(run.id)
        wait_until(lambda: publisher.stats().receivers[0].frames.delivered == 8)
        mirror.close()
        for number in (1, 2):
            recorder.line(f"Recorded run {number}: 4 frames in .*; every exact frame that came from the other machine")
    assert [stamps(tmp_path / name) for name in files(tmp_path)] == [
        [(t, number, 0) for t in range(4)] for number in (1, 2)
    ]


@pytest.mark.needs("signals")
def test_what_is_not_in_its_file_yet_when_the_user_stops_it_is_finished(tmp_path):
    with Recorder(tmp_path) as recorder, opened() as publisher:
        publish_run(publisher, "run")
        publisher.flush()
        assert recorder.end(signal.SIGINT) == 130
        recorder.line("Recorded run: 10 frames")
        assert len(stamps(tmp_path / files(tmp_path)[0])) == 10


@pytest.mark.needs("signals")
def test_a_killed_recorder_loses_nothing_that_had_come(tmp_path):
    with Recorder(tmp_path) as recorder, opened() as publisher:
        publish_run(publisher, "run")
        wait_until(lambda: publisher.stats().frames.in_flight == 0)
        (folder,) = tmp_path.iterdir()
        # The last frames may be in the memory of the recorder only: wait until they are with the system.
        wait_until(lambda: (folder / "frames").stat().st_size >= 9 * 6144 + 6144)
        assert "nothing to recover" in recover(tmp_path), "it is still being written"
        recorder.process.kill()
        recorder.process.wait(10)
    with (folder / "index").open("ab") as index:
        index.write(b"\x50\x00\x00\x00torn")  # a record that it was about to write
    with Recorder(tmp_path, "--wait", "0.1") as next_one:
        assert "1 recording of a recorder that was killed" in next_one.lines[0]
    told = recover(tmp_path, "--to", str(tmp_path / "disk 2"))
    (name,) = files(tmp_path / "disk 2")
    assert told == f"Recovered run: 10 frames in {name}\n"
    assert stamps(tmp_path / "disk 2" / name) == [(t, c, 0) for t in range(5) for c in range(2)]
    assert not folder.exists()


@pytest.mark.needs("signals")
def test_the_last_seconds_are_written_when_enter_is_pressed_a_program_asks_or_the_acquisition_dies(tmp_path):
    with Recorder(tmp_path, "--last", "10min") as recorder, opened() as publisher:
        publish_run(publisher, "run", timepoints=2)
        assert publisher.keep() == 1
        recorder.line("Kept the last .* of run: 4 frames in ")
        assert len(files(tmp_path)) == 1
        publisher.publish(stamped(2), axes={"t": 2, "c": "DAPI"})
        publisher.flush()
        recorder.press_enter()
        recorder.line("Kept the last .* of run: 5 frames in .*; no frame had arrived for 1 place")
        with Child("produce", 6, "--ending", "wait") as program:
            program.line()
            recorder.press_enter()
            recorder.line("Kept the last .* of live: 6 frames")
            program.process.kill()
            recorder.line("What is in memory of live is in a file already: nothing has come since")
        RunDirectory().clean(everything=True)
        assert recorder.end() == 143
    run = [(t, c, 0) for t in range(2) for c in range(2)]
    kept = {name.split(" 20")[0]: stamps(tmp_path / name) for name in files(tmp_path) if "(2)" not in name}
    assert kept["camera 1 run"][:4] == run
    assert kept["produced live"] == [(t, 0, 0) for t in range(6)]


def test_live_mode_becomes_a_series(tmp_path):
    with Inside(tmp_path) as inside:
        with opened() as publisher:
            for t in range(6):
                publisher.publish(stamped(t))
        inside.line("Recorded live: 6 frames")
    (name,) = files(tmp_path)
    assert stamps(tmp_path / name) == [(t, 0, 0) for t in range(6)]


@pytest.mark.skipif(sys.platform != "linux", reason="another process's limit can be raised on Linux only")
def test_what_the_disk_has_no_room_for_stays_in_memory_and_is_kept_when_it_has(tmp_path):
    import resource

    limit = (
        "import resource, sys; sys.dont_write_bytecode = True  # Python would leave files that were cut short\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))"
    )
    with Recorder(tmp_path, "--last", "10min", before=limit) as recorder, opened() as publisher:
        publish_run(publisher, "run")
        wait_until(lambda: publisher.stats().frames.delivered == 10)
        assert publisher.keep() == 1
        recorder.line("The last .* s of run could not be written: .* keep them again: they stay in memory")
        assert list(tmp_path.iterdir()) == [], "no part of it takes room"
        resource.prlimit(recorder.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        publisher.keep()
        recorder.line("Kept the last .* s of run: 10 frames")
    (name,) = files(tmp_path)
    assert stamps(tmp_path / name) == [(t, c, 0) for t in range(5) for c in range(2)]


@pytest.mark.needs("limits of memory")
@pytest.mark.parametrize("ends", ["", "SIGTERM", "SIGINT"])
def test_a_full_disk_is_told_and_counted_and_the_acquisition_goes_on(tmp_path, ends):
    limit = (
        "import resource, sys; sys.dont_write_bytecode = True  # Python would leave files that were cut short\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))"
    )
    with Recorder(tmp_path, *() if ends else ("--wait", "0.5"), before=limit) as recorder:
        with opened() as publisher:
            publish_run(publisher, "run")
            wait_until(lambda: publisher.stats().frames.delivered == 10)
        recorder.line("A frame of camera 1 could not be written, and is lost: .*File too large")
        recorder.line("stays as it is: .*File too large.* `scopecast recover")
        if ends:
            recorder.process.send_signal(getattr(signal, ends))
        recorder.line("^6 of 10 frames recorded; 4 could not be written.$")
        assert recorder.process.wait(60) == 1
    assert "Recovered run: 6 frames" in recover(tmp_path)
    (name,) = files(tmp_path)
    assert stamps(tmp_path / name) == [(t, c, 0) for t in range(3) for c in range(2)]


@pytest.mark.needs("stopped processes")
def test_an_acquisition_that_waits_for_nobody_goes_on_and_what_is_missing_is_told(tmp_path):
    with Recorder(tmp_path, "--wait", "1") as recorder:
        with opened(policy="latest") as publisher:
            wait_until(lambda: any(row.attached for row in publisher.stats()))
            stop(recorder.process.pid)
            publisher.new_stream("run", sizes={"t": 2000})
            for t in range(2000):
                publisher.publish(stamped(t), axes={"t": t})
            wait_until(lambda: not any(row.attached for row in publisher.stats()), "it is given up for dead")
            recorder.process.send_signal(signal.SIGCONT)
            wait_until(lambda: any(row.attached for row in publisher.stats()), "it comes back")
            assert publisher.flush(30)
        recorder.line("Recorded run: ")
        recorder.line(" did not arrive.$")
    told = recorder.lines
    came = int(re.search(r"run: (\d+) frames", told[-2])[1])
    missed = int(re.search(r"(\d+) were published but did not arrive", told[-2])[1])
    assert came + missed == 2000
    assert re.match(rf"{came} frames recorded; {missed} were published but did not arrive", told[-1])
    (name,) = files(tmp_path)
    with tifffile.TiffFile(tmp_path / name) as file:
        places = file.series[0].asarray()
    there = [t for t, plane in enumerate(places) if plane.any()]
    assert len(there) == came - (stamped(0) == 0).all()
    assert all(check_stamp(places[t])[0] == t for t in there)


def test_labels_axes_that_join_late_and_a_memory_of_two_frames(tmp_path):
    with Inside(tmp_path, memory=13_000) as inside:
        with opened() as publisher:
            publisher.new_stream("run")
            publisher.publish(stamped(0), axes={"t": 0})
            for t in range(1, 40):
                publisher.publish(stamped(t, 0, 1), axes={"t": t, "z": 1})
            publisher.publish(stamped(7, 8), axes={"t": 3, "z": 1}, kind="labels", name="cells")
        line = inside.line("Recorded run: ")
    assert inside.recorder.counts == (41, 41, 0, 0, 0, 0)
    images, labels = (tmp_path / name for name in re.findall(r"camera 1 run [^,;]*ome.tiff", line))
    assert stamps(images) == [(0, 0, 0), *((t, 0, 1) for t in range(1, 40))]
    assert stamps(labels) == [(7, 8, 0)]
    assert "cells" in labels.name


def test_a_program_that_publishes_for_two_viewers_is_recorded_once_and_waits_for_the_recorder(tmp_path):
    with Inside(tmp_path, ".ome.zarr") as inside:
        with opened(kind="napari") as first, opened(kind="fiji") as second:
            for publisher in (first, second):
                assert any(row.attached for row in publisher.stats()), "it has waited"
            for publisher in (first, second):
                publish_run(publisher, "run")
        inside.line("Recorded run: 10 frames")
    assert inside.recorder.counts == (10, 10, 0, 0, 0, 0)
    (name,) = files(tmp_path)
    image = zarr.open_group(tmp_path / name, mode="r")["0"]
    assert [check_stamp(image[t, c]) for t in range(5) for c in range(2)] == [
        (t, c, 0) for t in range(5) for c in range(2)
    ]


def test_only_the_title_that_was_asked_for_is_recorded_and_nobody_else_waits_in_vain(tmp_path):
    with Inside(tmp_path, title="camera 2") as inside:
        with opened() as other, opened(title="camera 2") as publisher:
            assert any(row.attached for row in other.stats()), "else it would have waited for as long as it may"
            publish_run(other, "not wanted")
            publish_run(publisher, "wanted")
        inside.line("Recorded wanted: 10 frames")
    assert inside.recorder.counts.taken == 10
    assert [name.split(" 20")[0] for name in files(tmp_path)] == ["camera 2 wanted"]


def test_a_run_that_was_not_ended_is_in_its_file_soon_after_the_next_has_begun(tmp_path):
    with Inside(tmp_path) as inside, opened() as publisher:
        publish_run(publisher, "run 1")
        publish_run(publisher, "run 2")
        inside.line("Recorded run 1: 10 frames")
        publisher.end_stream(publisher.new_stream("run 3"))  # it has no frames, and gets no file
    inside.line("Recorded run 2: 10 frames")
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--last", "soon"], "--last is a time, such as 30s, 5m or 1h30m; not soon"),
        (["--last", "0s"], "--last is a time, such as 30s, 5m or 1h30m, and 0.01 at least; not 0s"),
        (["--memory", "1KB"], "1048576 at least; not 1KB"),
        (["--memory", "much"], "--memory is a number of bytes, such as 500MB or 2GiB; not much"),
    ],
)
def test_a_mistake_in_an_option_is_told_with_what_is_right(tmp_path, options, told):
    done = CliRunner().invoke(app, ["record", str(tmp_path), *options])
    assert (done.exit_code, told in done.stderr) == (2, True)


@pytest.mark.parametrize("command", ["record", "pipe"])
def test_nobody_waits_for_less_than_no_time(tmp_path, command):
    what = {"record": str(tmp_path), "pipe": "math:sqrt"}[command]
    assert CliRunner().invoke(app, [command, what, "--wait", "-1"]).exit_code == 2


def test_the_help_names_what_zarr_needs():
    assert "scopecast[zarr]" in CliRunner().invoke(app, ["record", "--help"]).stdout


def test_a_frame_for_which_too_little_of_the_disk_would_be_left_is_not_written(tmp_path):
    with Inside(tmp_path, leave_free=9 * 10**15) as inside:
        with opened() as publisher:
            publish_run(publisher, "run", timepoints=1)
        inside.line("could not be written, and is lost: .*9000 TB must stay free")
        inside.line("camera 1 run: nothing could be written; 2 could not be written")
    assert inside.recorder.counts == (2, 0, 0, 2, 0, 0)
    assert [path.suffix for path in tmp_path.iterdir()] == []


def test_what_can_not_be_kept_is_told_where_its_folder_has_gone(tmp_path):
    folder = tmp_path / "on a drive"
    folder.mkdir()
    said: queue.Queue[str] = queue.Queue()
    tap = Tap(keeps="10min")
    with recorder.Recorder(tap, folder, ".ome.tiff", memory=2**24, leave_free=0, last_s=600.0, tell=said.put) as made:
        with opened() as publisher:
            publish_run(publisher, "run")
            wait_until(lambda: made.counts.taken == 10)
        folder.rmdir()
        made.keep()
        assert re.match("The last .* s of run could not be written: No such file", said.get(timeout=60))


def test_an_error_that_lasts_is_told_once_and_the_end_comes_all_the_same(tmp_path, monkeypatch):
    said: list[str] = []
    tap = Tap(wait=0.5)
    monkeypatch.setattr(tap, "next", lambda _: 1 / 0)
    with recorder.Recorder(tap, tmp_path, ".ome.tiff", memory=2**24, leave_free=0, tell=said.append) as made:
        assert made.wait(60)
    assert said == ["A frame could not be taken: ZeroDivisionError: division by zero."]


def test_a_publisher_keeps_its_first_frames_for_a_recorder_that_is_about_to_attach():
    member = RunDirectory().join("recorder", "*")  # one that is too slow to attach
    member.entry.state = "ready"
    member.write()
    with Publisher("headless", budget=8 * 2**20, linger=0.0) as publisher:
        publisher.open(SHAPE, wait=2.0)
        wait_until(lambda: [entry.state for entry in RunDirectory().living("publisher")] == ["ready"])
        for t in range(3):
            publisher.publish(stamped(t), axes={"t": t})
        counts = publisher.stats().frames
        assert (counts.skipped, counts.in_flight) == (0, 3), "they wait for it"
        member.close()


@pytest.mark.needs("signals")
def test_a_run_that_is_recovered_later_has_the_time_of_the_run(tmp_path):
    with Recorder(tmp_path) as recorder, opened() as publisher:
        publish_run(publisher, "run")
        wait_until(lambda: publisher.stats().frames.delivered == 10)
        wait_until(lambda: sum(each.stat().st_size for each in tmp_path.glob("*.unfinished/frames")) == 10 * 6144)
        recorder.process.kill()
        recorder.process.wait(10)
    (journal,) = tmp_path.glob("*.unfinished")
    began = read_journal(journal).began
    recover(tmp_path)
    (name,) = files(tmp_path)
    with tifffile.TiffFile(tmp_path / name) as file:
        date = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["AcquisitionDate"]
    assert datetime.fromisoformat(str(date)).timestamp() == pytest.approx(began, abs=0.01)


def test_images_of_two_sizes_at_one_place_are_both_there_and_nothing_is_said_to_be_missing(tmp_path):
    with Inside(tmp_path) as inside:
        with opened() as publisher:
            publisher.new_stream("run")
            for t in range(6):
                publisher.publish(stamped(t), axes={"t": t})
                publisher.publish(stamped(t)[:32, :32], axes={"t": t})
                if not t % 3:
                    publisher.publish(stamped(t), axes={"t": t}, kind="labels", name="cells")
        line = inside.line("Recorded run: ")
    assert re.fullmatch(r"Recorded run: 14 frames in [^;]*; every frame [^;]*\.", line)


def test_labels_of_live_mode_lie_on_the_image_that_came_before_them(tmp_path):
    with Inside(tmp_path) as inside:
        with opened() as publisher:
            for number in range(6):
                publisher.publish(stamped(number))
                if number in (2, 5):
                    publisher.publish(stamped(number), kind="labels", name="cells")
        inside.line("Recorded ")
    images, labels = sorted(tmp_path.iterdir(), key=lambda path: "cells" in path.name)
    there = tifffile.imread(labels)
    assert [t for t in range(6) if there[t].any()] == [2, 5]
    assert (there[[2, 5]] == tifffile.imread(images)[[2, 5]]).all()


ACQUISITION = """
import os, sys
from children import wait_until
from receivers import stamped
from scopecast import Publisher
with Publisher("headless", title="camera 1", policy="every", budget=8 * 2**20, linger=0.0) as publisher:
    publisher.open((64, 48), wait=60)
    publisher.new_stream("run", sizes={"t": 600})
    publisher.publish(stamped(0), axes={"t": 0})
    wait_until(lambda: publisher.stats().frames.delivered == 1)  # to the recorder
    print("published", flush=True)
    sys.stdin.readline()
    for t in range(1, 600):
        publisher.publish(stamped(t), axes={"t": t})
    ENDS
"""


def acquisition(ends: str) -> subprocess.Popen[str]:
    """Start a program that publishes one frame, and 599 when a line has come, and then ends as is said."""
    support = str(Path(__file__).parents[2] / "support")
    return subprocess.Popen(
        [sys.executable, "-c", ACQUISITION.replace("ENDS", ends)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((support, os.environ.get("PYTHONPATH", "")))},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.needs("stopped processes", "/dev/shm")
@pytest.mark.parametrize(
    ("ends", "how"),
    [("pass", "camera 1 ended while this recorder did not answer"), ("os.kill(os.getpid(), 9)", "camera 1 has died")],
)
def test_a_recorder_that_was_given_up_and_did_not_come_back_in_time_says_what_is_missing(tmp_path, ends, how):
    with Recorder(tmp_path) as recorder, acquisition(ends) as publishing:
        assert publishing.stdout is not None
        assert publishing.stdin is not None
        assert publishing.stdout.readline() == "published\n"
        stop(recorder.process.pid)
        publishing.stdin.write("\n")
        publishing.stdin.flush()
        publishing.wait(60)  # it gives the recorder up meanwhile
        recorder.process.send_signal(signal.SIGCONT)
        line = recorder.line("Recorded run: ")
    RunDirectory().clean(everything=True)
    assert "did not arrive" in line, line
    came, missed = re.search(r"run: (\d+) frames .*; (\d+) were published but did not", line).groups()
    assert int(came) + int(missed) == 600
    assert how in line, line
    assert "every frame" not in line
    (name,) = files(tmp_path)
    assert max(stamps(tmp_path / name)) == (599, 0, 0), "its last frames were in its memory"


@pytest.mark.needs("/dev/shm")
def test_the_last_frames_of_an_acquisition_that_is_killed_are_in_the_recording(tmp_path):
    with Recorder(tmp_path) as recorder, acquisition("os.kill(os.getpid(), 9)") as publishing:
        assert publishing.stdout is not None
        assert publishing.stdin is not None
        assert publishing.stdout.readline() == "published\n"
        publishing.stdin.write("\n")
        publishing.stdin.flush()
        publishing.wait(60)
        line = recorder.line("Recorded run: ")
    RunDirectory().clean(everything=True)
    assert re.search("run: 600 frames in .*; every frame that was published while it ran; camera 1 has died", line)
    (name,) = files(tmp_path)
    assert stamps(tmp_path / name)[-599:] == [(t, 0, 0) for t in range(1, 600)]


def test_the_time_that_is_kept_counts_back_from_when_the_program_asked(tmp_path):
    with Recorder(tmp_path, "--last", "0.5s") as recorder, opened() as publisher:
        for number in range(3):
            publisher.new_stream(f"run {number}")
            publisher.publish(stamped(number), axes={"t": 0})
            assert publisher.keep() == 1
            recorder.line(f"Kept the last .* of run {number}: 1 frame in ")


def test_enter_five_times_writes_one_file(tmp_path):
    with Recorder(tmp_path, "--last", "10min") as recorder, opened() as publisher:
        publish_run(publisher, "run")
        wait_until(lambda: publisher.stats().frames.delivered == 10)
        for _ in range(5):
            recorder.press_enter()
        recorder.line("Kept the last .* of run: 10 frames")
        recorder.press_enter()
        recorder.line("What is in memory of run is in a file already: nothing has come since")
        publish_run(publisher, "run 2")
        publisher.flush()
        recorder.press_enter()
        recorder.line("Kept the last .* of run 2: 10 frames")
        assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    "options", [["--title", "*amera*"], ["--stream", "run"], ["--channel", "DAPI", "--channel", "x"]]
)
def test_what_came_and_was_not_chosen_is_told_where_nothing_was(tmp_path, options):
    with Recorder(tmp_path, "--wait", "0.5", *options) as recorder:
        with opened() as publisher:
            publisher.new_stream("run 7", channels=["GFP"])
            for t in range(3):
                publisher.publish(stamped(t), axes={"t": t, "c": "GFP"})
        recorder.line("^0 frames recorded.$")
        came = {"--title": "camera 1", "--stream": "run 7", "--channel": "GFP"}[options[0]]
        recorder.line(re.escape(f"{options[0]} is {' '.join(options[1::2])}; what came has {came}."))
        recorder.line("^3 frames came that were not chosen.$")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_full_is_told_of_before_a_frame_is_lost(tmp_path):
    with Recorder(tmp_path, "--leave-free", "9000TB") as recorder:
        recorder.line("Nothing can be written as it is: .* are free, of which 9000 TB must stay free")
    with Recorder(tmp_path, "--leave-free", "0", "--wait", "0.1") as recorder:
        recorder.line("^0 frames recorded.$")


@pytest.mark.needs("file modes")
def test_a_run_directory_that_is_open_to_others_is_all_that_is_told(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir(mode=0o755)
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(tmp_path / "run"))
    done = CliRunner().invoke(app, ["record", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "is open to others" in done.stderr
    assert "frames recorded" not in done.stdout


def test_a_viewer_that_asks_to_keep_the_last_seconds_is_told_which_files_there_are(tmp_path):
    with Recorder(tmp_path, "--last", "10min"), Viewer() as viewer, opened() as publisher:
        viewer.wait_for(lambda: viewer.receiver.keepers)
        assert viewer.receiver.keep() == (True, "the recorder writes the last seconds to files")
        (told,) = wait_until(viewer.receiver.kept)
        assert told == f"Nothing to keep: no frame has come within 600 s; the folder is {tmp_path}"
        publish_run(publisher, "run")
        assert publisher.flush()
        viewer.receiver.keep()
        (told,) = wait_until(viewer.receiver.kept)
        (name,) = files(tmp_path)
        assert re.fullmatch(
            f"Kept the last .* s of run: 10 frames in {re.escape(name)}; the folder is {tmp_path}", told
        )
        assert viewer.receiver.kept() == []


def test_what_is_kept_and_can_not_be_a_file_here_is_set_aside_and_recovered_later(tmp_path, monkeypatch):
    said: queue.Queue[str] = queue.Queue()
    tap = Tap(keeps="10min")
    made = recorder.Recorder(tap, tmp_path, ".ome.tiff", memory=2**24, leave_free=0, last_s=600.0, tell=said.put)
    with made, opened() as publisher, monkeypatch.context() as without:
        without.setitem(sys.modules, "ome_writers", None)
        publisher.new_stream("run")
        for t in range(3):
            publisher.publish(stamped(t, dtype="int64"), axes={"t": t})
        wait_until(lambda: made.counts.taken == 3)
        made.keep()
        told = said.get(timeout=60)
    assert "OME-TIFF has no pixels of type int64, and OME-Zarr is written by ome-writers" in told
    assert "pip install 'scopecast[zarr]'. They are in camera 1 run" in told
    assert made.failed
    assert "Recovered run: 3 frames" in recover(tmp_path)
    (name,) = files(tmp_path)
    pixels = zarr.open_group(tmp_path / name, mode="r")["0"]
    assert [check_stamp(pixels[t, 0, 0]) for t in range(3)] == [(t, 0, 0) for t in range(3)]
