"""Starting viewers: one for a kind, whoever asks, and a reason when it fails."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from importlib.metadata import EntryPoint
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from receivers import Viewer, viewer_process
from scopecast.errors import ViewerStartError, ViewerUnavailable
from scopecast.publishing import launch
from scopecast.publishing.launch import Launch, find_or_start_viewer, known_viewers
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scopecast.rundir.directory import Entry


@pytest.fixture
def directory(runtime_dir: Path) -> Iterator[RunDirectory]:
    made = RunDirectory()
    yield made
    for entry in made.living("receiver"):
        if entry.pid != os.getpid():
            process = psutil.Process(entry.pid)
            process.terminate()
            process.wait(20)


def install(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Make a kind of viewer known that starts no window."""
    entry = EntryPoint(kind, "scopecast_viewers.headless:HeadlessDisplay", "scopecast.viewers")
    monkeypatch.setattr(launch.importlib.metadata, "entry_points", lambda group: [entry])


def run_instead(monkeypatch: pytest.MonkeyPatch, *command: str) -> list[list[str]]:
    """Have another command started than the viewer's; return the commands that were asked for."""
    asked: list[list[str]] = []
    popen = launch.subprocess.Popen

    def start(arguments: list[str], **options: Any) -> Any:
        asked.append(arguments)
        return popen(command, **options)

    monkeypatch.setattr(launch.subprocess, "Popen", start)
    return asked


@pytest.fixture
def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A vendor's program that Python is part of, and its folder."""
    program = tmp_path / "Vendor" / "Imaging.exe"
    program.parent.mkdir()
    program.touch()
    before = spawn.get_executable()
    monkeypatch.setattr("sys.executable", str(program))
    multiprocessing.set_executable(str(program))
    monkeypatch.setattr("sys.prefix", str(program.parent))
    monkeypatch.setattr("sys.base_prefix", str(program.parent))
    yield program
    multiprocessing.set_executable(before)


def test_a_program_that_embeds_python_is_not_started_in_its_place(embedded: Path, directory: RunDirectory):
    with pytest.raises(ViewerUnavailable, match=r"Python is embedded in .*Imaging\.exe here"):
        find_or_start_viewer(directory, "headless", timeout=60)
    python = embedded.parent / ("python.exe" if os.name == "nt" else "bin/python3")
    python.parent.mkdir(exist_ok=True)
    python.touch()
    assert launch.python() == str(python)
    chosen = embedded.with_name("python3.12")
    chosen.touch()
    multiprocessing.set_executable(str(chosen))
    assert launch.python() == str(chosen)


def test_the_viewers_that_are_installed_are_known():
    assert {"headless", "napari"} <= known_viewers()


@pytest.mark.needs("sessions")
def test_one_is_started_and_then_found(directory: RunDirectory):
    entry = find_or_start_viewer(directory, "headless", timeout=30, environment={"SCOPECAST_FIJI": "one of ours"})
    assert (entry.kind, entry.role, entry.state) == ("headless", "receiver", "ready")
    assert psutil.Process(entry.pid).environ()["SCOPECAST_FIJI"] == "one of ours"
    assert directory.alive(entry.token)
    assert entry.pid != os.getpid()
    assert find_or_start_viewer(directory, "headless", timeout=0) == entry
    assert len(directory.living("receiver")) == 1
    assert psutil.Process(entry.pid).terminal() is None or os.getsid(entry.pid) != os.getsid(0), "it is detached"


@pytest.mark.needs("sessions")
def test_it_outlives_a_ctrl_c_in_our_terminal(directory: RunDirectory):
    entry = find_or_start_viewer(directory, "headless", timeout=120)
    assert os.getpgid(entry.pid) != os.getpgid(0)


def test_one_that_runs_is_found_without_starting_any(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    asked = run_instead(monkeypatch, "false")
    with Viewer() as viewer:
        assert find_or_start_viewer(directory, "headless", timeout=0).token == viewer.token
    assert asked == []


def test_those_who_ask_at_once_share_one(directory: RunDirectory):
    barrier = threading.Barrier(6)
    found: list[Entry] = []

    def ask() -> None:
        barrier.wait()
        found.append(find_or_start_viewer(directory, "headless", timeout=60))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 6
    assert len({entry.token for entry in found}) == 1
    assert len(directory.living("receiver")) == 1


def test_one_that_died_is_not_found(directory: RunDirectory):
    with viewer_process() as viewer:
        viewer.process.kill()
        viewer.process.wait(20)
        assert directory.file(viewer.token, "json").exists()
        assert find_or_start_viewer(directory, "headless", timeout=120).token != viewer.token


# ---- why there is none -------------------------------------------------------------------------------------------


def test_a_kind_that_is_not_installed(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    asked = run_instead(monkeypatch, "false")
    with pytest.raises(ViewerStartError, match=r"there is no viewer of the kind 'holograph' .installed: .*headless"):
        find_or_start_viewer(directory, "holograph", timeout=120)
    assert asked == []


def test_without_a_screen_nothing_is_tried(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    install(monkeypatch, "windowed")
    asked = run_instead(monkeypatch, "false")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(launch.sys, "platform", "linux")
    with pytest.raises(ViewerStartError, match=r"there is no screen .neither DISPLAY nor WAYLAND_DISPLAY is set"):
        find_or_start_viewer(directory, "windowed", timeout=120)
    assert asked == []


@pytest.mark.parametrize("variable", ["DISPLAY", "WAYLAND_DISPLAY"])
@pytest.mark.needs("unix sockets")
def test_with_a_screen_that_answers_it_is_tried(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch, variable: str, tmp_path: Path
):
    install(monkeypatch, "windowed")
    asked = run_instead(monkeypatch, "false")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.chdir(tmp_path)  # the path of a socket has 107 characters at most
    with socket.create_server(("127.0.0.1", 0)) as x_server, socket.socket(socket.AF_UNIX) as compositor:
        if variable == "DISPLAY":
            monkeypatch.setenv(variable, f"localhost:{x_server.getsockname()[1] - 6000}")
        else:
            compositor.bind("wayland-7")
            compositor.listen()
            monkeypatch.setenv("XDG_RUNTIME_DIR", ".")
            monkeypatch.setenv(variable, "wayland-7")
        with pytest.raises(ViewerStartError, match=r"the windowed viewer ended at once .exit code 1."):
            find_or_start_viewer(directory, "windowed", timeout=120)
    (command,) = asked
    assert command[1:5] == ["-P", "-m", "scopecast_viewers", "windowed"]


def test_napari_that_is_not_installed(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    asked = run_instead(monkeypatch, "false")
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ViewerStartError, match="napari is not installed; install it with: pip install"):
        find_or_start_viewer(directory, "napari", timeout=120)
    assert asked == []


@pytest.mark.needs("a shell")
def test_one_that_crashes_is_told_with_the_last_lines_of_its_log(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    run_instead(monkeypatch, "sh", "-c", "seq 1 40; echo 'ImportError: no Qt' >&2; exit 3")
    with pytest.raises(ViewerStartError) as caught:
        find_or_start_viewer(directory, "headless", timeout=120)
    first, *log = str(caught.value).splitlines()
    assert first == "the headless viewer ended at once (exit code 3): ImportError: no Qt"
    assert [line.strip() for line in log] == [*map(str, range(30, 41)), "ImportError: no Qt"]


@pytest.mark.needs("a shell")
def test_one_that_never_becomes_ready_is_ended(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    run_instead(monkeypatch, "sh", "-c", "echo starting; exec sleep 600")
    with pytest.raises(ViewerStartError, match=r"the headless viewer was not ready after \d s: starting"):
        find_or_start_viewer(directory, "headless", timeout=1.5)
    # What is left running fails the test, see `nothing_left`.


@pytest.mark.needs("a shell")
def test_the_waiting_ends_when_it_is_cancelled(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    asked = run_instead(monkeypatch, "sleep", "600")
    before = set(psutil.Process().children())
    with pytest.raises(ViewerStartError, match="the headless viewer was not ready"):
        find_or_start_viewer(directory, "headless", timeout=600, cancelled=lambda: bool(asked))
    # It is not ended: a window that opens a little late harms nobody.
    (child,) = set(psutil.Process().children()) - before
    child.kill()
    child.wait(20)


@pytest.mark.fault("V6")
@pytest.mark.needs("a shell")
def test_an_interrupted_wait_ends_what_was_started(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    asked = run_instead(monkeypatch, "sleep", "600")

    def strike() -> bool:
        if asked:
            raise KeyboardInterrupt
        return False

    with pytest.raises(KeyboardInterrupt):
        find_or_start_viewer(directory, "headless", timeout=600, cancelled=strike)
    # What is left running fails the test, see `nothing_left`.


@pytest.mark.fault("V6")
def test_each_pause_is_twice_as_long_as_the_one_before(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    asked = run_instead(monkeypatch, "false")
    pauses: list[float] = []
    monkeypatch.setattr(Launch, "_pause", lambda self, seconds: pauses.append(seconds))
    made = Launch(directory, "headless")
    made.run()
    assert made.attempts == len(asked) == 3
    assert pauses == [1.0, 2.0]


def test_one_that_another_process_has_been_starting_for_too_long(directory: RunDirectory):
    lock = directory.launch_lock("headless")
    with (
        lock.acquire(timeout=0),
        pytest.raises(ViewerStartError, match="another process has been starting a headless viewer"),
    ):
        find_or_start_viewer(directory, "headless", timeout=0.3)


def test_what_another_process_starts_is_found(directory: RunDirectory):
    lock = directory.launch_lock("headless")
    found: list[Entry] = []
    with lock.acquire(timeout=0):
        thread = threading.Thread(target=lambda: found.append(find_or_start_viewer(directory, "headless", timeout=60)))
        thread.start()
        with Viewer() as viewer:
            thread.join(30)
            assert [entry.token for entry in found] == [viewer.token]


@pytest.mark.needs("/dev/shm")  # only Linux tells of another process's limits
def test_a_viewer_takes_the_descriptors_that_it_may_have(directory: RunDirectory):
    """macOS gives a process 256, unless it asks for more."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        entry = find_or_start_viewer(directory, "headless", timeout=60)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert psutil.Process(entry.pid).rlimit(psutil.RLIMIT_NOFILE)[0] >= min(soft, 4096)
