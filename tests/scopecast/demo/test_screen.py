"""The virtual screen, with real Xvfb servers."""

import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from scopecast.demo.screen import VirtualScreen, _connect, ensure_screen, has_screen
from scopecast.demo.xauthority import clean_authorities, write_authority
from scopecast.errors import ScopecastError, ScreenError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Xvfb is used on Linux only")

DEADLINE = 20.0  # seconds, for another process to start or end


@pytest.fixture(autouse=True)
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
        if not os.environ[name]:
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.fixture
def no_screen(restored_environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    restored_environment.delenv("DISPLAY", raising=False)
    restored_environment.delenv("WAYLAND_DISPLAY", raising=False)
    return restored_environment


class TestHasScreen:
    def test_no_without_a_display(self, no_screen: pytest.MonkeyPatch) -> None:
        assert not has_screen()

    @pytest.mark.parametrize("display", [":98765", "nonsense", "", ":", "localhost:59999", "localhost:99999", ":0/etc"])
    def test_no_with_a_display_that_leads_nowhere(self, no_screen: pytest.MonkeyPatch, display: str) -> None:
        no_screen.setenv("DISPLAY", display)
        assert not has_screen()

    def test_yes_under_wayland(self, no_screen: pytest.MonkeyPatch) -> None:
        no_screen.setenv("WAYLAND_DISPLAY", "wayland-0")
        assert has_screen()

    def test_yes_with_a_server(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen:
            assert has_screen()
            number = screen.display.removeprefix(":")
            for name in (f":{number}.0", f"unix:{number}", f"unix/:{number}"):
                no_screen.setenv("DISPLAY", name)
                assert has_screen(), name
            no_screen.setenv("DISPLAY", screen.display)

    def test_yes_with_a_server_over_tcp(self, no_screen: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            number = server.getsockname()[1] - 6000
            if number < 0:
                pytest.skip("the system gave a port below 6000")
            no_screen.setenv("DISPLAY", f"localhost:{number}.0")
            assert has_screen()
        assert not has_screen()


class TestVirtualScreen:
    def test_is_the_display_while_it_lives(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen:
            assert os.environ["DISPLAY"] == screen.display
            assert has_screen()
            assert not screen.closed
        assert screen.closed
        assert "DISPLAY" not in os.environ
        assert not psutil.pid_exists(screen.pid)

    def test_hides_wayland_and_restores_both(self, no_screen: pytest.MonkeyPatch) -> None:
        no_screen.setenv("DISPLAY", ":12345")
        no_screen.setenv("WAYLAND_DISPLAY", "wayland-7")
        with VirtualScreen() as screen:
            assert os.environ["DISPLAY"] == screen.display
            assert "WAYLAND_DISPLAY" not in os.environ
        assert os.environ["DISPLAY"] == ":12345"
        assert os.environ["WAYLAND_DISPLAY"] == "wayland-7"

    def test_nests(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as outer:
            with VirtualScreen() as inner:
                assert inner.display != outer.display
            assert os.environ["DISPLAY"] == outer.display

    def test_leaves_a_display_alone_that_was_chosen_later(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen():
            no_screen.setenv("DISPLAY", ":12345")
        assert os.environ["DISPLAY"] == ":12345"

    def test_closes_once(self, no_screen: pytest.MonkeyPatch) -> None:
        screen = VirtualScreen()
        screen.close()
        no_screen.setenv("DISPLAY", screen.display)
        screen.close()
        assert os.environ["DISPLAY"] == screen.display
        assert "closed" in repr(screen)

    def test_has_the_size_asked_for(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen((640, 360)) as screen:
            assert "640x360" in repr(screen)
            code = (
                "from qtpy.QtWidgets import QApplication; app = QApplication([]);"
                "size = app.primaryScreen().size(); print(size.width(), size.height())"
            )
            no_screen.delenv("QT_QPA_PLATFORM", raising=False)
            shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert shown.stdout.split() == ["640", "360"], shown.stderr

    def test_clients_come_and_go(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen():
            for _ in range(3):
                client = subprocess.run(
                    [sys.executable, "-c", "from scopecast.demo.screen import *; assert has_screen()"]
                )
                assert client.returncode == 0
            assert has_screen()

    def test_nobody_connects_without_the_cookie(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen, contextlib.closing(_connect(screen.display)) as stranger:
            authority = Path(os.environ["XAUTHORITY"])
            assert stat.S_IMODE(authority.stat().st_mode) == 0o600
            stranger.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))  # a client that shows no cookie
            assert stranger.recv(1) == b"\x00", "the server let a client without a cookie in"
        assert not authority.parent.exists()

    def test_several_start_at_once(self, no_screen: pytest.MonkeyPatch) -> None:
        with ThreadPoolExecutor(4) as pool:
            screens = list(pool.map(lambda _: VirtualScreen((320, 200)), range(4)))
        assert len({screen.display for screen in screens}) == 4
        for screen in reversed(screens):
            screen.close()

    def test_a_leak_is_reported_and_ended(self, no_screen: pytest.MonkeyPatch) -> None:
        screen = VirtualScreen()
        pid = screen.pid
        with pytest.warns(ResourceWarning, match="never closed"):
            del screen  # CPython ends it here, without a collection
        assert not psutil.pid_exists(pid)
        assert "DISPLAY" not in os.environ

    def test_ends_with_the_interpreter(self, no_screen: pytest.MonkeyPatch) -> None:
        owner = _owner("")
        output, errors = owner.communicate(timeout=DEADLINE)
        assert owner.returncode == 0, errors
        assert "never closed" in errors
        assert not psutil.pid_exists(int(output))

    def test_ends_when_its_process_is_killed(self, no_screen: pytest.MonkeyPatch) -> None:
        with _owner("import time; time.sleep(600)") as owner:
            assert owner.stdout is not None
            server = psutil.Process(int(owner.stdout.readline()))
            owner.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs([server], timeout=DEADLINE)
        assert not alive

    def test_a_forked_child_leaves_it_alone(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # other tests may have left threads
                child = os.fork()
            if child == 0:
                screen.close()
                os._exit(0)
            os.waitpid(child, 0)
            assert has_screen()

    def test_says_what_to_install(self, no_screen: pytest.MonkeyPatch) -> None:
        no_screen.setenv("PATH", "")
        with pytest.raises(ScreenError, match="apt-get install xvfb") as failure:
            VirtualScreen()
        assert isinstance(failure.value, ScopecastError)
        assert "DISPLAY" not in os.environ

    def test_says_why_the_server_refused(self, no_screen: pytest.MonkeyPatch, tmp_path: Path) -> None:
        _program(tmp_path / "Xvfb", "echo 'Fatal server error:' >&2; echo 'no more colours' >&2; exit 1")
        no_screen.setenv("PATH", str(tmp_path))
        with pytest.raises(ScreenError, match=r"refused .*It said: Fatal server error: / no more colours"):
            VirtualScreen()
        assert "DISPLAY" not in os.environ

    def test_gives_up_on_a_server_that_hangs(self, no_screen: pytest.MonkeyPatch, tmp_path: Path) -> None:
        _program(tmp_path / "Xvfb", "exec /bin/sleep 600")
        no_screen.setenv("PATH", str(tmp_path))
        with pytest.raises(ScreenError, match=r"within 0\.2 s"):
            VirtualScreen(timeout=0.2)

    @pytest.mark.parametrize("size", [(0, 100), (100, -1), (40_000, 100)], ids=str)
    def test_refuses_sizes_that_no_server_can_have(self, no_screen: pytest.MonkeyPatch, size: tuple[int, int]) -> None:
        with pytest.raises(ValueError, match="pixels per side"):
            VirtualScreen(size)


class TestEnsureScreen:
    def test_starts_one_where_there_is_none(self, no_screen: pytest.MonkeyPatch) -> None:
        with ensure_screen((320, 200)) as started:
            assert started
            assert has_screen()
        assert not has_screen()

    def test_uses_the_one_that_is_there(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen:
            with ensure_screen() as started:
                assert not started
                assert os.environ["DISPLAY"] == screen.display
            assert has_screen()


def _owner(then: str) -> subprocess.Popen[str]:
    """Start a process that owns a screen, prints its server's pid, goes on with `then`, and never closes it."""
    code = f"from scopecast.demo.screen import VirtualScreen; s = VirtualScreen(); print(s.pid, flush=True); {then}"
    command = [sys.executable, "-W", "default::ResourceWarning", "-c", code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# ---- what a screen leaves whose owner was killed -----------------------------------------------------------------


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("scopecast-screen-*"))


@pytest.mark.fault("P7")
def test_the_folder_of_a_killed_owner_is_removed_when_its_server_has_gone_and_not_before(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    code = (
        "import os, sys\n"
        "from scopecast.demo.screen import VirtualScreen\n"
        "screen = VirtualScreen((64, 64))\n"
        "print(screen.pid, screen.display, os.environ['XAUTHORITY'], flush=True)\n"
        "sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        server, _, authority = owner.stdout.readline().split()
        (folder,) = folders()
        assert Path(authority).parent == folder
        assert clean_authorities() == [], "its server lives"
        process = psutil.Process(int(server))
        process.suspend()  # it can't notice that its last client has gone
        owner.kill()
        owner.wait(20)
        assert clean_authorities() == [], "its server lives"
        process.resume()
        psutil.wait_procs([process], 20)
        assert clean_authorities() == [folder]
        assert folders() == set()


def test_a_screen_that_starts_removes_what_others_left(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path, _, held = write_authority()
    with VirtualScreen((64, 64)):
        assert path.exists(), "held"
        os.close(held)
    with VirtualScreen((64, 64)):
        assert len(folders()) == 1
        assert not path.exists()
    assert folders() == set()


@pytest.mark.parametrize("what", ["new", "file", "link"])
def test_folders_that_are_not_known_to_be_abandoned_stay(tmp_path, monkeypatch, what):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    path = tmp_path / "scopecast-screen-abc"
    if what == "new":
        path.mkdir()
    elif what == "file":
        path.touch()
    else:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "Xauthority").touch()
        path.symlink_to(tmp_path / "other")
    assert clean_authorities() == []
    assert path.exists()
    assert what != "link" or (tmp_path / "other" / "Xauthority").exists()
