"""The napari viewer as a process of its own: started by a backend, killed, stopped, closed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from receivers import stamped, viewer_process
from scopecast import NapariStreamingBackend, Publisher
from scopecast.runs import RunDirectory

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


def test_a_batch_starts_a_window_shows_its_frames_and_the_window_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    frames = [stamped(t, c, 0, SHAPE) for t in range(3) for c in range(2)]
    paths = [f"run/img_t{t:03}_c{c}.tif" for t in range(3) for c in range(2)]
    with NapariStreamingBackend(title="batch", timeout=120) as live:
        receipt = live.save_batch([*frames, {"a": 1}], [*paths, "run/notes.csv"])
        assert receipt.sent == tuple(paths)
        assert [(item.path, item.reason) for item in receipt.skipped] == [("run/notes.csv", "extension '.csv'")]
        assert live.flush(60)
        (row,) = live.stats().receivers
        assert row.frames.delivered == 6
        live.publisher.capture(tmp_path / "window.png", timeout=60)
        assert (tmp_path / "window.png").read_bytes().startswith(b"\x89PNG")
        until(lambda: live.stats().receivers[0].painted >= 2)
        # The sliders follow from the start: what comes later is painted as well.
        before = live.stats().receivers[0].painted
        live.save_batch([stamped(3, c, 0, SHAPE) for c in range(2)], [f"run/img_t003_c{c}.tif" for c in range(2)])
        until(lambda: live.stats().receivers[0].painted >= before + 2)

        # V5: the window is closed while frames come: the producer goes on, and opens no other.
        caplog.clear()
        with caplog.at_level("INFO", "scopecast"):
            os.kill(row.pid, signal.SIGTERM)
            until(lambda: not live.stats().receivers[0].attached)
        assert [record.message for record in caplog.records if "has left" in record.message] == [
            f"scopecast: napari (process {row.pid}) has left: the viewer was closed"
        ]
        again = live.save_batch(frames, paths)
        assert {item.reason for item in again.skipped} == {"no viewer"}
        assert live.stats().balanced
        assert {entry.token for entry in RunDirectory().living("receiver")} <= {row.token}, "another was started"


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
