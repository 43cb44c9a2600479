"""The napari viewer as a process of its own: started by a backend, killed, stopped, closed."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from receivers import stamped, viewer_process
from scopecast import Publisher

if TYPE_CHECKING:
    from collections.abc import Callable

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
