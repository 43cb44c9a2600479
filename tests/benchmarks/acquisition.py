"""What a live view costs a real acquisition: sequences of Micro-Manager's demo camera, with scopecast and without."""

from __future__ import annotations

import gc
import statistics
import time
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from scopecast.benchmarks.figures import Row, name_of
from scopecast.benchmarks.processes import Viewer
from scopecast.hosts.pymmcore import live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.effort import Bench

__all__ = ["measure", "microscope"]

Mode = Literal["healthy", "stopped", "killed"]
SIDE = 512
#: How much longer a run with a live view may take.
_LIMIT = 1.02


def measure(bench: Bench) -> Iterator[Row]:
    """Measure runs at the camera's highest rate, by turns with a live view and without."""
    frame = name_of(SIDE)
    if any(find_spec(name) is None for name in ("pymmcore_plus", "mm_test_adapters")):
        yield Row(figure="acquisition", frame=frame, mode="pymmcore-plus", note="pymmcore-plus is not installed")
        return
    with microscope() as core:
        for mode in ("healthy", "stopped", "killed"):
            bench.say(f"an acquisition, {frame}, viewer {mode}")
            yield _row(bench, core, mode, frame)


@contextmanager
def microscope(side: int = SIDE, exposure_ms: float = 0.1) -> Iterator[Any]:
    """Load the demo camera, of 16 bit, and its microscope; at the end all devices are unloaded."""
    import logging

    import mm_test_adapters
    from pymmcore_plus import CMMCorePlus

    logger = logging.getLogger("pymmcore-plus")
    level = logger.level
    logger.setLevel(logging.ERROR)
    core = CMMCorePlus()
    try:
        core.setDeviceAdapterSearchPaths([str(mm_test_adapters.device_adapter_path())])
        core.loadSystemConfiguration(str(mm_test_adapters.device_adapter_path()) + "/MMConfig_demo.cfg")
        core.setProperty("Camera", "PixelType", "16bit")
        core.setProperty("Camera", "OnCameraCCDXSize", side)
        core.setProperty("Camera", "OnCameraCCDYSize", side)
        core.setExposure(exposure_ms)
        yield core
    finally:
        core.unloadAllDevices()
        logger.setLevel(level)
        del core
        gc.collect()


def _row(bench: Bench, core: Any, mode: Mode, frame: str) -> Row:
    count = max(1, bench.effort.loop // 2)
    ratios, rates, plain = [], [], []
    with ExitStack() as viewers:
        viewer = viewers.enter_context(Viewer(bench.directory))
        _run(core, count // 4 or 1)  # the first one is slower
        # Runs in pairs, by turns first: the machine's own ups and downs are larger than what is looked for.
        for number in range(bench.effort.pairs):
            if mode == "killed" and viewer.process.poll() is not None:
                viewer = viewers.enter_context(Viewer(bench.directory))
            alone = _run(core, count) if number % 2 else 0.0
            beside = _with_a_live_view(core, viewer, mode, count)
            alone = alone or _run(core, count)
            ratios.append(beside / alone)
            rates.append(count / beside)
            plain.append(count / alone)
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return Row(
        figure="acquisition",
        frame=frame,
        mode=f"pymmcore-plus, demo camera's highest rate, viewer {mode}",
        per_s=statistics.median(rates),
        ratio=ratio,
        target=f"time of a run ≤ {_LIMIT} of one without",
        met=ratio <= _LIMIT,
        note=f"{statistics.median(plain):.0f} frames/s without; half of the ratios lie from {low:.3f} to {high:.3f}",
    )


def _with_a_live_view(core: Any, viewer: Viewer, mode: Mode, count: int) -> float:
    with live(core, "headless", launch=False, linger=2.0) as backend:
        backend.publisher.open((SIDE, SIDE), "uint16", wait=10.0)
        viewer.wait_until_attached(backend.publisher)
        if mode == "stopped":
            viewer.suspend()
        elif mode == "killed":
            viewer.kill()
        try:
            return _run(core, count)
        finally:
            if mode == "stopped":
                viewer.resume()


def _run(core: Any, count: int) -> float:
    """Return how long a run takes, in seconds."""
    from useq import MDASequence

    sequence = MDASequence(time_plan={"interval": 0, "loops": count})
    began = time.perf_counter()
    core.mda.run(sequence)
    return time.perf_counter() - began
