"""A stock Fiji, from the path that the user names to the pixels on the screen; and what the doctor says of one."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import imageio.v3 as imageio
import numpy as np
import pytest

from children import wait_until
from receivers import stamped, viewer_process
from scopecast import FijiStreamingBackend, Publisher
from scopecast.doctor import java
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scopecast.rundir.directory import Entry

SHAPE = (96, 128, 3)  # RGB, which ImageJ shows as it is
COMMAND = [sys.executable, "-P", "-m", "scopecast"]
pytestmark = pytest.mark.timeout(280)


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep ImageJ's preferences out of the home of whoever runs the tests, and their Maven and network out of these."""
    monkeypatch.setenv("SCOPECAST_JAVA_OPTIONS", f"{os.environ['SCOPECAST_JAVA_OPTIONS']} -Duser.home={tmp_path}")
    monkeypatch.setenv("M2_REPO", str(tmp_path / "none"))
    monkeypatch.setenv("SCOPECAST_SCIJAVA_MAVEN", "http://127.0.0.1:9")
    for name in ("FIJI_HOME", "SCOPECAST_FIJI", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)


def frame(t: int) -> np.ndarray:
    return stamped(t, 0, 0, SHAPE, "uint8")


def is_on_screen(picture: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether a frame is somewhere in a picture of the screen, each pixel as it was sent: one, or a square of them."""
    zooms = range(1, 1 + min(picture.shape[0] // wanted.shape[0], picture.shape[1] // wanted.shape[1]))
    return any(is_in(picture, wanted.repeat(zoom, axis=0).repeat(zoom, axis=1)) for zoom in zooms)


def is_in(picture: np.ndarray, wanted: np.ndarray) -> bool:
    height, width = wanted.shape[:2]
    starts = np.ones((picture.shape[0] - height + 1, picture.shape[1] - width + 1), bool)
    for y, x in ((0, 0), (0, width // 2), (height // 2, width // 3), (height - 1, width - 1)):
        starts &= (picture[y : y + starts.shape[0], x : x + starts.shape[1]] == wanted[y, x]).all(axis=-1)
    return any(np.array_equal(picture[y : y + height, x : x + width], wanted) for y, x in np.argwhere(starts))


def wait_for_frame(publisher: Publisher, path: Path, wanted: np.ndarray) -> None:
    """Wait until a frame is on the screen: what the windows show is read back from it. The newest one lies on top."""

    def shown() -> bool:
        publisher.capture(path)
        return is_on_screen(imageio.imread(path)[..., :3], wanted)

    wait_until(shown, f"the frame is on the screen, see {path}", 60)


def the_viewer() -> Entry:
    (entry,) = RunDirectory().living("receiver")
    return entry


def log_of(entry: Entry) -> str:
    return RunDirectory().file(entry.token, "log").read_text()


@contextlib.contextmanager
def ended_afterwards() -> Iterator[None]:
    try:
        yield
    finally:
        for entry in RunDirectory().living("receiver"):
            os.kill(entry.pid, signal.SIGTERM)
        wait_until(lambda: not RunDirectory().living("receiver"), "the process has ended", 60)


def stream(title: str, times: range, **arguments: Any) -> FijiStreamingBackend:
    live = FijiStreamingBackend(title=title, timeout=120, **arguments)
    receipt = live.save_batch([frame(t) for t in times], [f"{title}_t{t}.tif" for t in times])
    assert receipt.skipped == ()
    assert live.flush(60)
    return live


@pytest.mark.parametrize("route", ["FIJI_HOME", "the launcher, as the backend's argument"])
def test_two_runs_in_a_row(route, stock_fiji, tmp_path, monkeypatch):
    argument: dict[str, Any] = {}
    if route == "FIJI_HOME":
        monkeypatch.setenv("FIJI_HOME", str(stock_fiji))
    else:
        monkeypatch.setenv("SCOPECAST_FIJI", "/nowhere/Fiji.app")  # what the backend is told comes first
        shutil.copytree(stock_fiji, tmp_path / "Fiji")
        argument = {"fiji": tmp_path / "Fiji" / "fiji-linux-x64"}
        argument["fiji"].touch()
    with ended_afterwards():
        with stream("first", range(3), **argument) as live:
            wait_for_frame(live.publisher, tmp_path / "first.png", frame(2))
            viewer = the_viewer()
        with stream("second", range(10, 12), **argument) as live:
            wait_for_frame(live.publisher, tmp_path / "second.png", frame(11))
            assert the_viewer().pid == viewer.pid
        log = log_of(viewer)
    assert "is opened by JPype alone" in log
    assert "Traceback" not in log
    assert "WARNING" not in log


def test_the_command_line_twice(stock_fiji, tmp_path):
    with ended_afterwards():
        for t in (5, 6):
            imageio.imwrite(tmp_path / f"picture{t}.png", frame(t))
            command = [
                *COMMAND,
                "show",
                str(tmp_path / f"picture{t}.png"),
                "--viewer",
                "fiji",
                "--fiji",
                str(stock_fiji),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=150)
            assert (done.returncode, done.stdout) == (0, "Shown in fiji: 1 file, 1 plane.\n"), done.stderr
            with Publisher("fiji", launch=False) as publisher:
                publisher.open(SHAPE, "uint8", wait=60)
                wait_until(lambda publisher=publisher: any(row.attached for row in publisher.stats()), "attached")
                wait_for_frame(publisher, tmp_path / f"screen{t}.png", frame(t))


PROGRAM = """
import sys, threading
from scopecast_viewers.fiji.display import FijiDisplay
from scopecast_viewers.receiver import Receiver

def answer():
    from scopecast_viewers.fiji.awt import java
    for line in sys.stdin:
        if line.strip() == "menu":
            bar = java("ij.Menus").getMenuBar()
            menus = list(map(bar.getMenu, range(bar.getMenuCount())))
            (plugins,) = [menu for menu in menus if str(menu.getLabel()) == "Plugins"]
            items = list(map(plugins.getItem, range(plugins.getItemCount())))
            (lab,) = [item for item in items if str(item.getLabel()) == "Of the lab"]
            print([str(lab.getItem(n).getLabel()) for n in range(lab.getItemCount())], flush=True)
        elif line.strip() == "run":
            java("ij.IJ").run("Count frames")
            print(str(java("ij.IJ").getLog()).strip(), flush=True)
        else:
            java("ij.IJ").getInstance().quit()

threading.Thread(target=answer, daemon=True).start()
display = FijiDisplay()
with Receiver(display) as receiver:
    display.run(receiver)
print("ended in order", flush=True)
"""


def test_its_plugins_work_and_quitting_while_frames_come_leaves_no_traceback(stock_fiji, tmp_path, monkeypatch):
    """As ImageJ2 does, the folder's gateway has Quit end the process; `ij.Menus` finds the plugins by itself."""
    monkeypatch.setenv("FIJI_HOME", str(stock_fiji))
    with (
        (tmp_path / "errors").open("w+") as errors,
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
        Publisher("fiji", policy="every", launch=False) as publisher,
    ):
        try:
            publisher.open(SHAPE, "uint8", wait=90)
            wait_until(lambda: any(row.attached for row in publisher.stats()), "attached")
            for t in range(3):
                publisher.publish(frame(t), axes={"t": t})
            wait_for_frame(publisher, tmp_path / "screen.png", frame(2))

            def ask(what: str) -> str:
                process.stdin.write(f"{what}\n")
                process.stdin.flush()
                return process.stdout.readline().strip()

            assert ask("menu") == "['Count frames']"
            assert ask("run") == "frames: 3 counted"
            ended = threading.Event()

            def publish_on() -> None:
                t = 3
                while not ended.is_set():
                    publisher.publish(frame(t), axes={"t": t})
                    t += 1

            going_on = threading.Thread(target=publish_on)
            going_on.start()
            try:
                wait_until(lambda: publisher.stats().frames.delivered > 50, "frames come")
                assert ask("quit") == "ended in order"
                assert process.wait(60) == 0
            finally:
                ended.set()
                going_on.join(60)
            errors.seek(0)
            assert errors.read() == ""
            assert publisher.stats().balanced
        finally:
            process.kill()


# ---- with PyImageJ, and without it -----------------------------------------------------------------------------------


def log_of_a_start(**environment: str) -> str:
    with (
        viewer_process("fiji", timeout=150, environment=environment) as viewer,
        Publisher("fiji", launch=False) as live,
    ):
        live.open(SHAPE, "uint8", wait=60)
        wait_until(lambda: any(row.attached for row in live.stats()), "attached")
        live.publish(frame(1), axes={"t": 1})
        assert live.flush(30)
        return viewer.log


def test_pyimagej_is_used_with_what_maven_has_kept(stock_fiji, maven_repository):
    log = log_of_a_start(FIJI_HOME=str(stock_fiji), M2_REPO=str(maven_repository))
    assert "is opened by PyImageJ" in log
    assert "is out of reach" not in log


def test_pyimagej_is_used_with_what_the_folder_has(stock_fiji, maven_repository, tmp_path):
    folder = shutil.copytree(stock_fiji, tmp_path / "Fiji.app")
    for jar in maven_repository.rglob("*.jar"):
        shutil.copy(jar, folder / "jars")
    assert "is opened by PyImageJ" in log_of_a_start(FIJI_HOME=str(folder))


def test_classes_that_pyimagej_can_not_use_do_not_keep_fiji_shut(stock_fiji, maven_repository, tmp_path):
    repository = shutil.copytree(maven_repository, tmp_path / "repository")
    for jar in repository.rglob("*.jar"):  # jars with something else in them
        shutil.copy(stock_fiji / "plugins" / "Count_Frames.jar", jar)
    log = log_of_a_start(FIJI_HOME=str(stock_fiji), M2_REPO=str(repository))
    assert "PyImageJ does not work with the Fiji in" in log
    assert "is opened by JPype alone" in log
    assert "Traceback" not in log


def test_without_pyimagej_installed(stock_fiji, tmp_path):
    hidden = "import sys\nfor name in ('imagej', 'imglyb', 'scyjava', 'jgo'):\n    sys.modules[name] = None\n"
    (tmp_path / "sitecustomize.py").write_text(hidden)
    log = log_of_a_start(FIJI_HOME=str(stock_fiji), PYTHONPATH=str(tmp_path))
    assert "is opened by JPype alone" in log
    assert "is out of reach" not in log


def test_what_the_repository_has_is_fetched(stock_fiji, maven_repository, tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(maven_repository))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        home = {"HOME": str(tmp_path), "M2_REPO": str(tmp_path / "repository")}
        log = log_of_a_start(FIJI_HOME=str(stock_fiji), SCOPECAST_SCIJAVA_MAVEN=address, **home)
        server.shutdown()
    assert "is opened by PyImageJ" in log


def test_a_network_that_swallows_everything_costs_seconds(stock_fiji):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.listen()  # connections are taken, and nothing is ever answered
        repository = f"http://127.0.0.1:{server.getsockname()[1]}"
        log = log_of_a_start(FIJI_HOME=str(stock_fiji), SCOPECAST_SCIJAVA_MAVEN=repository)
    assert f"{repository} " in log
    assert "is opened by JPype alone" in log


# ---- the doctor ------------------------------------------------------------------------------------------------------


def test_the_doctor_opens_what_it_ticks_and_needs_no_screen(stock_fiji, monkeypatch):
    monkeypatch.setenv("FIJI_HOME", str(stock_fiji))
    if shutil.which("Xvfb"):
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            monkeypatch.delenv(name, raising=False)
    (found,) = java.imagej()
    assert (found.state, found.message) == ("ok", f"the Fiji in {stock_fiji} opens (1.54p)")


@pytest.mark.parametrize(
    ("jar", "whole", "state", "said"),
    [
        pytest.param(
            "jars/imagej-2.17.0.jar", False, "broken", "net.imagej.ImageJ is not found; jars/imagej-2", id="cut"
        ),
        pytest.param("jars/ij-1.54p.jar", False, "broken", "jars/ij-1.54p.jar is damaged", id="ImageJ is cut"),
        pytest.param("jars/imagej-2.17.0.jar", True, "broken", "it is not a complete Fiji", id="missing"),
        pytest.param(
            "plugins/Count_Frames.jar", False, "warning", "Count_Frames.jar can't be read (damaged", id="plugin"
        ),
    ],
)
def test_the_doctor_says_which_part_is_damaged(jar, whole, state, said, stock_fiji, tmp_path, monkeypatch):
    folder = shutil.copytree(stock_fiji, tmp_path / "Fiji")
    content = (folder / jar).read_bytes()
    (folder / jar).unlink()
    if not whole:
        (folder / jar).write_bytes(content[: len(content) // 2])
    monkeypatch.setenv("FIJI_HOME", str(folder))
    (found,) = java.imagej()
    assert found.state == state
    assert said in found.message
    assert found.fix
    assert "\n" not in found.message


def test_the_doctor_gives_up_what_does_not_open(stock_fiji, monkeypatch):
    monkeypatch.setenv("FIJI_HOME", str(stock_fiji))
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("SCOPECAST_SCIJAVA_MAVEN", f"http://127.0.0.1:{server.getsockname()[1]}")
        (found,) = java.imagej(timeout=3)
    assert found.state == "broken"
    assert "did not open within 3 s" in found.message
