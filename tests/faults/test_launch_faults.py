"""Viewers that are started, by one or by many at once, or can't be."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import venv
from typing import TYPE_CHECKING

import psutil
import pytest

from children import Child, wait_until
from launched import ending_viewers
from receivers import Viewer, stamped
from scopecast import Publisher, StreamingBackend
from scopecast.link import messages as wire
from scopecast.publishing import launch
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def viewers() -> Iterator[RunDirectory]:
    """Ends the viewers that were started, which outlive the producers that started them."""
    with ending_viewers() as directory:
        yield directory


@pytest.mark.fault("P13")
def test_workers_that_open_at_once_start_one_viewer_which_shows_all(viewers):
    workers = [Child("produce", 10, "--launch", "--go", "--ending", "wait", "--title", f"w{n}") for n in range(8)]
    try:
        for worker in workers:
            assert worker.line() == "ready"
        for worker in workers:  # all of them wait at the same barrier
            worker.tell()
        rows = [row for worker in workers for row in worker.line(60)]
        (viewer,) = viewers.living("receiver")
        assert rows == [[viewer.token, 10]] * 8
        assert len(list(viewers.path.glob("*.log"))) == 1, "no other was even started"
        for worker in workers:
            frames = worker.ask()["frames"]
            assert (frames["published"], frames["delivered"]) == (10, 10)
            assert worker.wait() == 0
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.parametrize("ending", ["close", "none"])
def test_a_short_script_that_starts_a_viewer_loses_nothing(viewers, ending):
    with Child("produce", 5, "--launch", "--ending", ending) as child:
        frames = child.line(60)["frames"]
        assert (frames["published"], frames["delivered"]) == (5, 5)
        assert child.wait() == 0, child.errors
        assert "Traceback" not in child.errors


def test_close_waits_for_the_viewer_that_a_publisher_is_starting(viewers):
    """Under "latest" publish() returns at once, long before the viewer is there."""
    with Publisher("headless", launch=True) as publisher:
        publisher.open((64, 48))
        wait_until(lambda: publisher.publish(stamped(3), axes={"t": 3}) >= 0, "the ring is made")
        assert not list(publisher.stats()), "the viewer is not there yet"
    (row,) = publisher.stats()
    assert row.frames.delivered >= 1
    assert publisher.stats().balanced


def test_who_does_not_wait_is_told_and_the_newest_frame_is_the_first_to_be_delivered(viewers, go, caplog):
    with Publisher("headless", launch=True) as publisher:
        for t in range(50):
            for c in range(2):
                publisher.publish(stamped(t, c), axes={"t": t, "c": c})
        wait_until(lambda: STARTING in caplog.messages, "it is said")
        publisher.publish(stamped(50, 0), axes={"t": 50, "c": 0})
        go.touch()
        wait_until(lambda: [row.attached for row in publisher.stats()] == [True])
        assert publisher.flush(30)
        (row,) = publisher.stats()
        assert row.frames == (2, 2, 0, 0, 0, 0), "the newest of each channel"
        assert publisher.stats().frames.balanced
    assert caplog.messages.count(STARTING) == 1
    assert not warnings_of(caplog)


#: The rest of a viewer's program that runs after all.
REAL = """
import os, sys
del os.environ["PYTHONPATH"]
os.execv(sys.executable, [sys.executable, "-P", "-m", "scopecast_viewers", *sys.argv[1:]])
"""


def broken_viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Path:
    """Put a package before the real one that runs `program`; return the file where it notes each start."""
    package = tmp_path / "scopecast_viewers"
    package.mkdir()
    starts = tmp_path / "starts"
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"STARTS = {str(starts)!r}\nopen(STARTS, 'a').write('x')\n{program}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return starts


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that viewers wait for before they start; there at the end in any case."""
    path = tmp_path / "go"
    broken_viewer(
        tmp_path, monkeypatch, f"import os, time\nwhile not os.path.exists({str(path)!r}): time.sleep(0.01)" + REAL
    )
    yield path
    path.touch()


#: What is said while frames do not wait for the viewer that is being started.
STARTING = "scopecast: starting headless; until it is up the newest frame of each channel is kept"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the user was told, beside that a viewer is being started."""
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [text for text in told if not text.startswith(STARTING.partition(";")[0])]


@pytest.fixture
def impatient(monkeypatch):
    """Attempts follow one another almost at once."""
    monkeypatch.setattr(launch, "PAUSE_S", 0.01)


@pytest.mark.fault("V6")
@pytest.mark.parametrize("policy", ["latest", "every"])
def test_a_viewer_that_ends_at_once_is_tried_three_times_and_costs_one_warning(
    tmp_path, monkeypatch, caplog, impatient, policy
):
    starts = broken_viewer(tmp_path, monkeypatch, "import sys\nsys.exit('ImportError: this viewer lacks its Qt')")
    with Publisher("headless", launch=True, policy=policy) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        wait_until(lambda: warnings_of(caplog))
        sequences = [publisher.publish(stamped(t), axes={"t": t}, policy="every") for t in range(1, 50)]
        assert sequences == sorted(sequences)
        assert -1 not in sequences
        stats = publisher.stats()
        assert stats.frames.skipped == stats.frames.published == 50
        assert stats.balanced
        assert set(stats.skipped) <= {"no viewer", "opening"}
        assert starts.read_text() == "xxx", "under 'every' all attempts were waited for"
        why = "the headless viewer ended at once (exit code 1): ImportError: this viewer lacks its Qt (tried 3 times)"
        assert publisher.problem == why
        assert publisher.offer(stamped(50), axes={"t": 50}).cause == why
    (text,) = warnings_of(caplog)
    assert "exit code 1" in text
    assert "ImportError: this viewer lacks its Qt" in text
    assert starts.read_text() == "xxx"


@pytest.mark.fault("V6")
def test_a_viewer_that_never_says_hello_is_ended_each_time(tmp_path, monkeypatch, caplog, impatient):
    monkeypatch.setattr(launch, "START_TIMEOUT_S", 3.0)  # on a busy machine Python alone takes more than one
    program = "print('waiting for a licence', flush=True)\nimport time; time.sleep(99)"
    starts = broken_viewer(tmp_path, monkeypatch, program)
    with Publisher("headless", launch=True, policy="every", timeout=60) as publisher:
        for t in range(20):
            assert publisher.publish(stamped(t), axes={"t": t}) == t
        assert "waiting for a licence" in publisher.problem
    (text,) = warnings_of(caplog)
    assert "not ready" in text
    assert "waiting for a licence" in text
    assert starts.read_text() == "xxx"
    # What is left running fails the test, see `nothing_left`.


@pytest.mark.fault("V6")
def test_publish_waits_for_a_viewer_no_longer_than_its_timeout(viewers, go):
    """The viewer may be ready after that; it is not ended because a frame could not wait for it."""
    with Publisher("headless", launch=True, policy="every", timeout=0.2) as publisher:
        publisher.open((64, 48))
        wait_until(lambda: publisher.session.slot_bytes)  # which a busy machine does not have in 0.2 s
        assert publisher.publish(stamped(0), axes={"t": 0}) == 0
        assert publisher.stats().skipped == {"no viewer": 1}
        wait_until(lambda: publisher.problem == "headless is still being started")
        go.touch()
        wait_until(lambda: [row.attached for row in publisher.stats()] == [True])
        publisher.timeout = 30.0
        assert publisher.publish(stamped(1), axes={"t": 1}) == 1
        assert publisher.flush(30)
        assert publisher.stats().frames.delivered == 2, "the newest waited in the ring"


@pytest.mark.fault("V6")
def test_who_ends_before_the_viewer_is_up_says_that_its_frames_are_not_shown(viewers, go, caplog):
    with Publisher("headless", launch=True, linger=0.2) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        wait_until(lambda: publisher.problem == "headless is still being started")
    (text,) = warnings_of(caplog)
    assert "headless was not up in time" in text
    assert "linger" in text
    assert publisher.stats().balanced
    go.touch()
    wait_until(lambda: viewers.living("receiver"))  # `viewers` ends it


@pytest.mark.fault("V6")
def test_a_viewer_that_starts_at_the_second_attempt_gets_every_frame(viewers, tmp_path, monkeypatch, caplog, impatient):
    starts = broken_viewer(tmp_path, monkeypatch, "import sys\nif open(STARTS).read() == 'x': sys.exit(3)" + REAL)
    with Publisher("headless", launch=True, policy="every") as publisher:
        for t in range(10):
            publisher.publish(stamped(t), axes={"t": t})
        assert publisher.flush(30)
        assert publisher.stats().frames.delivered == 10
        assert publisher.problem == ""
    assert starts.read_text() == "xx"
    assert len(warnings_of(caplog)) == 1


@pytest.mark.fault("V6")
def test_a_viewer_whose_packages_are_missing(tmp_path, monkeypatch, caplog, impatient):
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    monkeypatch.setattr("multiprocessing.spawn._python_exe", str(tmp_path / "bare" / "bin" / "python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    with Publisher("headless", launch=True, policy="every") as publisher:
        assert publisher.publish(stamped(0)) == 0
        assert "No module named scopecast_viewers" in publisher.problem
    (text,) = warnings_of(caplog)
    assert "No module named scopecast_viewers" in text
    assert len(list(RunDirectory().path.glob("*.log"))) == 3


@pytest.mark.fault("V6")
def test_close_waits_for_no_attempt_that_is_yet_to_come(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(launch, "PAUSE_S", 3600.0)
    starts = broken_viewer(tmp_path, monkeypatch, "raise SystemExit(3)")
    with Publisher("headless", launch=True, linger=3600.0) as publisher:
        publisher.open((64, 48))
        wait_until(lambda: warnings_of(caplog))
    # That we come here is the test.
    assert starts.read_text() == "x"


@pytest.mark.fault("V6", "P11")
def test_ctrl_c_while_a_viewer_starts_ends_that_viewer(tmp_path, monkeypatch):
    program = "import time; print('up', flush=True); time.sleep(99)"
    starts = broken_viewer(tmp_path, monkeypatch, program)
    monkeypatch.delenv("PYTHONPATH")
    with Child("produce", 5, "--launch", "--viewer-path", tmp_path) as child:
        wait_until(lambda: starts.exists() and any(log.read_text() for log in RunDirectory().path.glob("*.log")))
        child.process.send_signal(signal.SIGINT)
        assert child.wait() in (-signal.SIGINT, 130)
        assert child.errors.count("Traceback") == 1, child.errors
    assert starts.read_text() == "x"
    # The viewer that is left running fails the test, see `nothing_left`.


@pytest.mark.fault("V6", "P11")
@pytest.mark.parametrize(
    "program",
    [
        ("run_until_interrupted",),
        ("produce", 5, "--policy", "latest", "--launch", "--ending", "wait", "--viewer-path"),
    ],
    ids=["in a with block", "without close"],
)
def test_ctrl_c_also_ends_the_viewer_that_a_script_does_not_wait_for(program, tmp_path, monkeypatch):
    told = tmp_path / "pid"
    starts = broken_viewer(
        tmp_path,
        monkeypatch,
        f"import os, time\nwith open({str(told)!r}, 'w') as file: print(os.getpid(), file=file)\ntime.sleep(999)",
    )
    monkeypatch.delenv("PYTHONPATH")
    with Child(*program, tmp_path) as child:
        child.line()
        wait_until(lambda: told.exists() and told.read_text().endswith("\n"))
        child.process.send_signal(signal.SIGINT)
        assert child.wait() in (-signal.SIGINT, 130)
        assert child.errors.count("Traceback") == 1, child.errors
    assert starts.read_text() == "x"
    assert not psutil.pid_exists(int(told.read_text()))
    assert {path.suffix for path in RunDirectory().path.iterdir()} <= {".lock", ".log"}


@pytest.mark.fault("V6", "P11")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_viewer_that_is_told_to_end_while_it_is_loading_ends_in_order(kind, tmp_path, monkeypatch):
    loading = tmp_path / "loading"
    (tmp_path / "zmq.py").write_text(f"import time; open({str(loading)!r}, 'w').close(); time.sleep(999)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    command = [sys.executable, "-P", "-m", "scopecast_viewers", "headless"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as viewer:
        wait_until(loading.exists)
        viewer.send_signal(kind)
        _, errors = viewer.communicate(timeout=60)
    assert (viewer.returncode, errors) == (0, "")


@pytest.mark.fault("V6")
def test_without_a_screen_no_viewer_is_started(monkeypatch, caplog):
    pytest.importorskip("napari")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with Publisher("napari", launch=True, policy="every") as publisher:
        for t in range(20):
            assert publisher.publish(stamped(t), axes={"t": t}) == t
        assert publisher.stats().skipped == {"no viewer": 20}
        assert publisher.problem.startswith("there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set); ")
        assert publisher.session.viewers._launch.attempts == 1, "looked for once, and not tried again"
    (text,) = warnings_of(caplog)
    assert "no screen" in text
    assert not list(RunDirectory().path.glob("*.log"))


@pytest.mark.fault("V6")
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the desktop is part of the system")
@pytest.mark.parametrize(("kind", "package"), [("napari", "napari"), ("fiji", "jpype")])
def test_a_screen_that_is_gone_is_told_without_starting_any_viewer(kind, package, monkeypatch):
    pytest.importorskip(package)
    monkeypatch.setenv("DISPLAY", ":98765")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with Publisher(kind, launch=True, policy="every") as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        assert publisher.problem.startswith("there is no screen (DISPLAY is :98765, where nothing answers); ")
    assert not list(RunDirectory().path.glob("*.log"))


@pytest.mark.fault("V6")
def test_a_viewer_that_nobody_has_installed_is_said_in_the_receipt(caplog):
    class Telescope(StreamingBackend):
        VIEWER_TYPE = "telescope"
        SHM_PREFIX = "telescope_"

    with Telescope() as backend:
        receipt = backend.save(stamped(0), "a.tif")
        assert receipt.skipped[0].reason.startswith("no viewer: there is no viewer of the kind 'telescope' (installed:")
        assert receipt.skipped[0].reason == f"no viewer: {backend.problem}"
    (text,) = warnings_of(caplog)
    assert "no viewer of the kind 'telescope'" in text


def test_a_viewer_whose_protocol_is_refused_is_not_waited_for():
    """An "every" publisher waits for the viewers that are ready; one that it can't serve is none of them."""
    viewer = Viewer()
    viewer.receiver._hello = wire.Hello(9, 9, viewer.token, "headless", os.getpid())
    with viewer, Publisher("headless", timeout=3600.0) as publisher:
        assert publisher.publish(stamped(0), policy="every") == 0
        assert publisher.stats().skipped == {"no viewer": 1}
