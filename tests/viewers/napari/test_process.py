"""The napari viewer as a process of its own: started by a backend, killed, stopped, closed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from launched import ending_viewers
from receivers import stamped, viewer_process
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (64, 48)
pytestmark = pytest.mark.timeout(180)


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so after {timeout} s"
        time.sleep(0.01)


def test_open_opens_a_window_once_and_it_stays():
    command = [sys.executable, "-P", "-m", "scopecast", "open"]
    with ending_viewers():
        for said in ("napari is open.", "napari is open already."):
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
        (entry,) = RunDirectory().living("receiver", "napari")
        with Publisher("napari", policy="every") as publisher:
            publisher.open(SHAPE, "uint16", wait=30)
            publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
            assert publisher.flush(30)
            assert [row.token for row in publisher.stats()] == [entry.token]


@pytest.mark.fault("V1", "V2")
def test_a_killed_and_a_stopped_window_cost_the_producer_nothing():
    """With a real window: noticed, their leases freed; one that comes back is served again."""
    with (
        viewer_process("napari", timeout=120) as killed,
        viewer_process("napari", timeout=120) as stopped,
        Publisher("napari", policy="latest") as publisher,
    ):
        publisher.open(SHAPE, "uint16")
        until(lambda: sum(row.attached for row in publisher.stats()) == 2)
        assert {row.token for row in publisher.stats()} == {killed.token, stopped.token}
        os.kill(stopped.pid, signal.SIGSTOP)
        os.kill(killed.pid, signal.SIGKILL)
        for t in range(200):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        until(lambda: not any(row.attached for row in publisher.stats()))
        assert publisher.flush(0)
        assert publisher.stats().balanced
        os.kill(stopped.pid, signal.SIGCONT)
        until(lambda: any(row.attached and row.token == stopped.token for row in publisher.stats()))
        publisher.publish(stamped(200, 0, 0, SHAPE), axes={"t": 200})
        assert publisher.flush(30)
        (back,) = [row for row in publisher.stats() if row.attached]
        assert back.frames.delivered >= 1
        assert publisher.stats().balanced


#: Read by each Python that has its folder on the path: it closes the window as a user does, and as a console does; and
#: without what is known of napari's limits, napari raises.
CUSTOM = """
import os, signal

def soon(work):  # the window's own loop calls it, as it does for a click
    from qtpy.QtCore import QTimer
    QTimer.singleShot(0, work)

def close_windows():
    from qtpy.QtWidgets import QApplication, QMainWindow
    for window in QApplication.topLevelWidgets():
        if isinstance(window, QMainWindow):
            window.close()

def close_viewer():
    import napari
    napari.current_viewer().close()

signal.signal(signal.SIGUSR1, lambda *_: soon(close_windows))
signal.signal(signal.SIGUSR2, lambda *_: soon(close_viewer))
if os.environ.get("WITHOUT_LIMITS"):
    import scopecast_viewers.look.annotations as annotations
    import scopecast_viewers.napari.limits as limits
    annotations.FAR = float("inf")
    limits.Box.check = lambda *_: None
    limits.Box.objection = lambda *_: ""
"""


@pytest.mark.parametrize(
    ("number", "limits"),
    [
        pytest.param(signal.SIGTERM, True, id="terminated"),
        pytest.param(signal.SIGTERM, False, id="terminated after napari raised"),
        pytest.param(signal.SIGUSR1, False, id="by its button after napari raised"),
        pytest.param(signal.SIGUSR2, False, id="by its console after napari raised"),
    ],
)
def test_a_window_that_was_sent_what_it_cannot_show_shows_the_rest_and_closes(tmp_path, number, limits):
    (tmp_path / "sitecustomize.py").write_text(CUSTOM)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    environment["WITHOUT_LIMITS"] = "" if limits else "1"
    with (
        viewer_process("napari", timeout=120, environment=environment) as viewer,
        Publisher("napari", policy="every", timeout=10) as publisher,
    ):
        publisher.open(SHAPE, "uint16")
        until(lambda: any(row.attached for row in publisher.stats()))
        frame = np.zeros(SHAPE, "uint16")
        taken = tmp_path / "window.png"

        def publish(title, *each, **about):
            stream = publisher.new_stream(title, **about)
            for data, more in each:
                publisher.publish(data, stream=stream, **more)
            assert publisher.flush(60)
            publisher.capture(taken, 60)  # all of it is on the window, or can't be

        publish("first", (frame, {"axes": {"t": 0}}))
        publish("far", (frame, {"axes": {"t": 0}, "translate": (1e15, 0)}))
        publish("farther", (frame, {"axes": {"t": 0}, "translate": (0, 1e300), "kind": "labels"}))
        publish("tiny", (frame, {"axes": {"t": 0, "z": 1}}), scale=(1e-12, 1e-12), steps={"z": 1e-12})
        publish(
            "points", (frame, {}), ([[1e9, 5.0]], {"kind": "points"}), ([[1e30, 5.0]], {"kind": "points", "name": "b"})
        )
        publish("tracks", (frame, {"axes": {"t": 1}}), ([[1, 0, 3e9, 5], [1, 1, 4, 5]], {"kind": "tracks"}))
        publish("shapes", (frame, {}), ([np.array([[0, 0], [0, 1e12], [1e12, 9]])], {"kind": "shapes"}))
        picture = np.zeros(SHAPE, "uint16")
        picture[16:48, 12:36] = 1000
        publish("last", (picture, {"axes": {"t": 3}}))

        def is_shown():
            publisher.capture(taken, 60)
            seen = imageio.imread(taken)[..., :3]
            return (seen[100:-100, 300:-50] > 250).all(axis=-1).sum() > 10_000

        until(is_shown, 120)
        os.kill(viewer.pid, number)
        assert viewer.process.wait(60) == 0, viewer.log
        assert "far can't be shown" in viewer.log or not limits
        assert "an update of the window failed" not in viewer.log


def halves(upright: bool) -> np.ndarray:
    """Return a square frame, one half of which is bright: the left one, or the upper one."""
    frame = np.zeros((128, 128), "uint16")
    bright = frame[:, :64] if upright else frame[:64]
    bright[:] = 40_000
    return frame


def bright_extent(picture: Path) -> tuple[int, int]:
    """Return height and width of what is white in the middle of a window's picture, where the canvas is."""
    grey = np.asarray(Image.open(picture).convert("L"))
    height, width = grey.shape
    middle = grey[height // 5 : -height // 5, width * 2 // 5 : -width // 10] > 240
    return int(middle.any(axis=1).sum()), int(middle.any(axis=0).sum())


def test_the_newest_frame_before_the_window_was_up_is_the_first_on_its_screen(tmp_path: Path):
    with ending_viewers(), Publisher("napari", launch=True) as publisher:
        for t in range(20):
            publisher.publish(halves(upright=t == 19), axes={"t": t})
        until(lambda: any(row.attached and row.painted for row in publisher.stats()), 120)
        (row,) = publisher.stats()
        assert (row.frames.published, row.frames.delivered) == (1, 1)
        picture = tmp_path / "window.png"
        publisher.capture(picture, timeout=60)
        height, width = bright_extent(picture)
        assert height > 1.5 * width > 0, "its left half is bright, as in the newest; the others' is the upper one"
