"""The microscope of the demo: Micro-Manager's core with its simulated devices, and a sample that looks like one."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.demo.options import Options

__all__ = ["demo_microscope", "demo_sequence"]

#: Where the simulated sample fills a large field: beads lie in squares of 1024 pixels, and four of them meet here.
_STAGE_UM: Final = (256.0, 256.0)
#: From there to the next such place, where other beads lie.
_NEXT_UM: Final = 512.0
_DRIFT_UM: Final = (3.0, 2.0)


class _Beads(NamedTuple):
    """What the simulated camera shows in a channel: beads per square, and their radius in pixels."""

    density: int
    size: float


_BEADS: Final = {"DAPI": _Beads(60, 10), "FITC": _Beads(120, 7), "Rhodamine": _Beads(90, 8), "Cy5": _Beads(60, 9)}


@contextlib.contextmanager
def demo_microscope(options: Options) -> Iterator[Any]:
    """Load the demo configuration of Micro-Manager, with a sample that looks like one."""
    import mm_test_adapters
    from pymmcore_plus import CMMCorePlus

    for handler in logging.getLogger("pymmcore-plus").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)  # it writes across the progress bar; errors are raised by Demo.run
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus()
    try:
        core.setDeviceAdapterSearchPaths([str(adapters)])
        core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
        for name, value in (
            ("PixelType", "16bit"),
            ("BitDepth", "16"),
            ("OnCameraCCDXSize", options.width),
            ("OnCameraCCDYSize", options.height),
            ("Mode", "Fluorescent Beads"),
            ("BeadBrightness", 8),
        ):
            core.setProperty("Camera", name, value)
        # The simulated camera knows nothing of filters: each channel's preset also sets what it shows.
        for channel, beads in _BEADS.items():
            core.defineConfig("Channel", channel, "Camera", "BeadDensity", str(beads.density))
            core.defineConfig("Channel", channel, "Camera", "BeadSize", str(beads.size))
        core.setProperty("XY", "Velocity", 100)  # mm/s
        core.waitForSystem()
        core.mda.events.eventStarted.connect(lambda event: _move(core, event))
        yield core
    finally:
        # The core tells of its events in a thread of its own. One that is told while the interpreter ends aborts the
        # process ("exception not rethrown"), so nobody listens any more.
        super(CMMCorePlus, core).registerCallback(None)
        core.unloadAllDevices()


def _move(core: Any, event: Any) -> None:
    """Move the stage, so that there is more to be seen than the focus.

    The simulated beads lie still, and show in all channels. Each time point moves on a little, as a sample that drifts,
    and each channel looks at another place of the sample.
    """
    t, channel = event.index.get("t", 0), event.index.get("c", 0)
    x, y = (start + t * step for start, step in zip(_STAGE_UM, _DRIFT_UM, strict=True))
    core.setXYPosition(x + channel * _NEXT_UM, y)
    core.waitForDevice(core.getXYStageDevice())


def demo_sequence(options: Options) -> Any:
    """Return the ``useq.MDASequence``: for each time point and channel a z stack around the focus at 0 µm."""
    from useq import MDASequence

    plans: dict[str, Any] = {}
    if options.z > 1:
        half = options.z_step * (options.z - 1) / 2
        plans["z_plan"] = {"bottom": -half, "top": half, "step": options.z_step}
    return MDASequence(
        time_plan={"interval": options.interval, "loops": options.timepoints},
        channels=[{"config": channel, "exposure": options.exposure} for channel in options.channels],
        **plans,
    )
