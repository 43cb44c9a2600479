"""A camera, for what is measured between two machines.

``python -m benchmarks.camera SIDE RATE SECONDS`` publishes frames from when somebody receives them, each with the time
at which it was, and its number; then it reports `Published`, and stays until its standard input closes.
"""

from __future__ import annotations

import sys
import threading
import time

import msgspec
import numpy as np

from benchmarks.codecs import camera_frames
from benchmarks.programs import end_with_parent, report
from scopecast import Publisher
from scopecast.benchmarks.processes import wait_for

__all__ = ["Published", "Stamp"]


class Stamp(msgspec.Struct):
    """The metadata of a frame: when it was published (CLOCK_MONOTONIC, ns), and which of the camera's frames it is."""

    at: int
    source: int


class Published(msgspec.Struct):
    """How many frames were published, when the last one was, and what `publish` took, in milliseconds."""

    frames: int
    last_at: int
    p50_ms: float
    p99_ms: float


def _publish(side: int, rate: float, seconds: float) -> None:
    frames = camera_frames(side)
    count = max(1, round(rate * seconds))
    took = np.zeros(count)
    with Publisher("headless", title="camera", linger=1.0) as camera:
        camera.open(frames[0].shape, wait=30.0)
        report("ready")
        wait_for(lambda: any(row.attached for row in camera.stats().receivers), "the attachment of a receiver", 120.0)
        begin, at = time.perf_counter(), 0
        for i in range(count):
            time.sleep(max(0.0, begin + i / rate - time.perf_counter()))
            at = time.monotonic_ns()
            camera.publish(frames[i % len(frames)], metadata={"at": at, "source": i % len(frames)})
            took[i] = time.monotonic_ns() - at
        settled = took[count // 5 :]  # the first ones touch memory that is new
        p50, p99 = np.percentile(settled, (50, 99)) / 1e6
        report(Published(count, at, float(p50), float(p99)))
        threading.Event().wait()


if __name__ == "__main__":
    end_with_parent()
    _publish(int(sys.argv[1]), *map(float, sys.argv[2:]))
