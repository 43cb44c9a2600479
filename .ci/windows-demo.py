"""Show a simulated run in a viewer and save a picture of its window: what `make windows-demo` runs in Windows."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable

from scopecast import Publisher
from scopecast.demo.simulation import CHANNELS, publish
from scopecast.rundir.directory import RunDirectory

KIND, FRAMES = "napari", 30
START_S = 900.0  # Wine reads every library of napari's for the first time
path = sys.argv[1]


def wait_until(condition: Callable[[], bool], what: str, timeout: float) -> None:
    """End the program unless something is so within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"{what}: not within {timeout:.0f} s")
        time.sleep(0.2)


def is_ready() -> bool:
    """Whether a viewer can show frames."""
    return any(entry.state == "ready" for entry in RunDirectory().living("receiver"))


with tempfile.TemporaryDirectory(prefix="sc-", ignore_cleanup_errors=True) as folder:
    os.environ["SCOPECAST_RUNTIME_DIR"] = folder
    began = time.monotonic()
    viewer = subprocess.Popen([sys.executable, "-P", "-m", "scopecast_viewers", KIND])
    try:
        wait_until(lambda: viewer.poll() is not None or is_ready(), f"{KIND} is up", START_S)
        print(f"{KIND} was up after {time.monotonic() - began:.0f} s", flush=True)
        with Publisher(KIND, title="Simulated cells", linger=30.0) as publisher:
            publisher.open((512, 512), "uint16", wait=60.0)
            publish(publisher, title="cells", size=512, timepoints=FRAMES, rate=5.0, ended=threading.Event())
            wait_until(lambda: any(row.painted for row in publisher.stats().receivers), "frames are painted", 120.0)
            publisher.flush(60.0)
            publisher.capture(path, timeout=60.0)
            (row,) = publisher.stats().receivers
            print(f"{len(CHANNELS) * FRAMES} frames, {row.frames.delivered} delivered, {row.painted} painted")
    finally:
        viewer.kill()
        viewer.wait(60.0)
