"""The napari viewer as a process of its own: started by a backend, killed, stopped, closed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from launched import ending_viewers
from receivers import stamped, viewer_process
from scopecast import Publisher

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
