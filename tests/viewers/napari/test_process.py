"""The napari viewer as a process of its own: started by a backend, killed, stopped, closed."""

from __future__ import annotations

import itertools
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
from receivers import stamped
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHAPE = (64, 48)
pytestmark = pytest.mark.timeout(300)


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not so after {timeout} s"
        time.sleep(0.01)


@pytest.mark.fault("V1", "V2")
def test_open_opens_one_window_and_neither_stopped_nor_killed_it_costs_the_producer_anything():
    """That it stands still, or is gone, is noticed, and its leases freed; when it comes back it is served again."""
    command = [sys.executable, "-P", "-m", "scopecast", "open"]
    with ending_viewers(), Publisher("napari", policy="latest") as publisher:
        for said in ("napari is open.", "napari is already open."):
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert (done.returncode, done.stdout.strip()) == (0, said), done.stderr
        (window,) = RunDirectory().living("receiver", "napari")
        times = itertools.count()

        def publish(number):
            for t in itertools.islice(times, number):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})

        def served():
            return [row for row in publisher.stats() if row.attached]

        def strike(number):
            os.kill(window.pid, number)
            publish(200)
            until(lambda: not served())
            assert publisher.flush(0)
            assert publisher.stats().balanced

        publisher.open(SHAPE, "uint16", wait=30)
        assert [row.token for row in publisher.stats()] == [window.token]
        strike(signal.SIGSTOP)
        os.kill(window.pid, signal.SIGCONT)
        until(served)
        publish(1)
        assert publisher.flush(30)
        (back,) = served()
        assert back.token == window.token
        assert back.frames.delivered >= 1
        strike(signal.SIGKILL)
        assert publisher.stats().balanced


#: A program that opens one window after the other, as ``python -m scopecast_viewers napari`` opens one. Each is closed
#: by a signal, as a user does, or as a console does. Without what is known of napari's limits, napari raises.
WINDOWS = """
import signal, sys
import scopecast_viewers.look.annotation_sets as annotations
import scopecast_viewers.napari.limits as limits
from scopecast_viewers.__main__ import main

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
annotations.FAR = float("inf")
limits.Box.check = lambda *_: None
limits.Box.objection = lambda *_: ""
for token in sys.argv[1:]:
    code = main(["napari", "--token", token])
    print("window", token, "ended with", code, flush=True)
"""


def test_a_window_in_which_napari_raised_shows_the_rest_and_closes(tmp_path):
    """Terminated, by its button, and by its console."""
    ends = [(new_token(), number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        command = [sys.executable, "-P", "-c", WINDOWS, *(token for token, _ in ends)]
        program = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        for token, number in ends:
            with Publisher("napari", policy="every", timeout=10) as publisher:
                publisher.open(SHAPE, "uint16")
                until(lambda: program.poll() is not None or any(row.attached for row in publisher.stats()), 120)
                assert [row.token for row in publisher.stats()] == [token], log.read_text()
                send_what_cannot_be_shown(publisher, tmp_path / "window.png")
                os.kill(program.pid, number)
                ended = f"window {token} ended with 0"
                until(lambda ended=ended: program.poll() is not None or ended in log.read_text())
        assert program.wait(60) == 0, log.read_text()
        assert "an update of the window failed" not in log.read_text()
    finally:
        program.kill()
        program.wait(10)


def send_what_cannot_be_shown(publisher, taken):
    """Publish that, and then a picture; return when that is on the window."""
    frame = np.zeros(SHAPE, "uint16")

    def publish(title, *each, **about):
        stream = publisher.new_stream(title, **about)
        for data, more in each:
            publisher.publish(data, stream=stream, **more)
        assert publisher.flush(60)
        publisher.capture(taken, 60)  # all of it is on the window, or can't be

    publish("first", (frame, {"axes": {"t": 0}}))
    publish(
        "far",
        (frame, {"axes": {"t": 0}, "translate": (1e15, 0)}),
        (frame, {"axes": {"t": 0}, "translate": (0, 1e300), "kind": "labels", "name": "farther"}),
    )
    publish("tiny", (frame, {"axes": {"t": 0, "z": 1}}), scale=(1e-12, 1e-12), steps={"z": 1e-12})
    publish(
        "marks",
        (frame, {"axes": {"t": 1}}),
        ([[1e9, 5.0]], {"kind": "points"}),
        ([[1e30, 5.0]], {"kind": "points", "name": "b"}),
        ([[1, 0, 3e9, 5], [1, 1, 4, 5]], {"kind": "tracks"}),
        ([np.array([[0, 0], [0, 1e12], [1e12, 9]])], {"kind": "shapes"}),
    )
    picture = np.zeros(SHAPE, "uint16")
    picture[16:48, 12:36] = 1000
    publish("last", (picture, {"axes": {"t": 3}}))

    def is_shown():
        seen = imageio.imread(taken)[..., :3]
        return (seen[100:-100, 300:-50] > 250).all(axis=-1).sum() > 10_000

    until(lambda: is_shown() or publisher.capture(taken, 60), 120)


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
