"""The virtual screen, with real Xvfb servers."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from scopecast.demo.virtual_screen import VirtualScreen, ensure_screen, has_screen
from scopecast.errors import ScopecastError, ScreenError
from scopecast.publishing.screen import connect_to_x

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

    def test_yes_under_wayland_as_long_as_it_answers(self, no_screen: pytest.MonkeyPatch, tmp_path: Path) -> None:
        no_screen.chdir(tmp_path)  # the paths of sockets are short
        no_screen.setenv("XDG_RUNTIME_DIR", ".")
        no_screen.setenv("WAYLAND_DISPLAY", "wayland-0")
        assert not has_screen()
        with socket.socket(socket.AF_UNIX) as compositor:
            compositor.bind("wayland-0")
            compositor.listen()
            assert has_screen()
        assert not has_screen()

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

    def test_has_the_size_asked_for(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen((640, 360)):
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
                    [sys.executable, "-c", "from scopecast.demo.virtual_screen import *; assert has_screen()"]
                )
                assert client.returncode == 0
            assert has_screen()

    def test_nobody_connects_without_the_cookie(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen, contextlib.closing(connect_to_x(screen.display)) as stranger:
            stranger.sendall(struct.pack("<BxHHHHxx", ord("l"), 11, 0, 0, 0))  # a client that shows no cookie
            assert stranger.recv(1) == b"\x00", "the server let a client without a cookie in"

    def test_several_start_at_once(self, no_screen: pytest.MonkeyPatch) -> None:
        with ThreadPoolExecutor(4) as pool:
            screens = list(pool.map(lambda _: VirtualScreen((320, 200)), range(4)))
        assert len({screen.display for screen in screens}) == 4
        for screen in reversed(screens):
            screen.close()

    def test_a_leak_is_reported_and_ended(self, no_screen: pytest.MonkeyPatch) -> None:
        screen = VirtualScreen()
        server = psutil.Process(screen.pid)
        with pytest.warns(ResourceWarning):
            del screen  # CPython ends it here, without a collection
        _, alive = psutil.wait_procs([server], timeout=DEADLINE)
        assert not alive

    def test_ends_with_the_interpreter(self, no_screen: pytest.MonkeyPatch) -> None:
        with _owner("sys.stdin.readline()") as owner:
            assert owner.stdout is not None
            server = psutil.Process(int(owner.stdout.readline()))
            _, errors = owner.communicate("\n", timeout=DEADLINE)
            assert owner.returncode == 0, errors
        _, alive = psutil.wait_procs([server], timeout=DEADLINE)
        assert not alive

    def test_ctrl_c_in_the_terminal_is_not_for_the_screen(self, no_screen: pytest.MonkeyPatch) -> None:
        with VirtualScreen() as screen:
            for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTSTP):
                os.kill(screen.pid, number)
            code = "from qtpy.QtWidgets import QApplication; QApplication([])"
            no_screen.delenv("QT_QPA_PLATFORM", raising=False)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
            assert psutil.pid_exists(screen.pid)
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set(), "the program itself gets them"

    @pytest.mark.fault("P7")
    def test_ends_when_its_process_is_killed_and_leaves_nothing(
        self, no_screen: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        no_screen.setenv("TMPDIR", str(tmp_path))
        before = set(Path("/tmp").glob(".X*"))
        with _owner("import time; time.sleep(600)") as owner:
            assert owner.stdout is not None
            server = psutil.Process(int(owner.stdout.readline()))
            number = server.cmdline()[1].removeprefix(":")
            owner.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs([server], timeout=DEADLINE)
        assert not alive
        assert list(tmp_path.iterdir()) == []
        assert not any(str(path.name).startswith(f".X{number}-") for path in set(Path("/tmp").glob(".X*")) - before)

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

    def test_says_how_to_find_out_why_the_server_refused(self, no_screen: pytest.MonkeyPatch, tmp_path: Path) -> None:
        _program(tmp_path / "Xvfb", "exit 1")
        no_screen.setenv("PATH", str(tmp_path))
        with pytest.raises(ScreenError, match=r"To see why, run: Xvfb -screen 0 1600x1000x24 :99"):
            VirtualScreen(timeout=0.2)
        assert "DISPLAY" not in os.environ

    def test_says_which_package_is_missing(self, no_screen: pytest.MonkeyPatch) -> None:
        no_screen.setitem(sys.modules, "xvfbwrapper", None)
        with pytest.raises(ScreenError, match="pip install xvfbwrapper"):
            VirtualScreen()

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
    start = "import sys; from scopecast.demo.virtual_screen import VirtualScreen; s = VirtualScreen()"
    owned = f"{start}; print(s.pid, flush=True)"
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", f"{owned}; {then}"]
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
