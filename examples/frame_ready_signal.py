# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari,pymmcore]", "pyqt6"]
# ///
"""Add a live view to an existing acquisition program: connect one signal."""

import os
from pathlib import Path

import mm_test_adapters
from pymmcore_plus import CMMCorePlus
from useq import MDASequence

from scopecast import NapariStreamingBackend


class LiveView(NapariStreamingBackend):
    """NapariStreamingBackend itself will do; this one lets the environment choose another viewer."""

    VIEWER_TYPE = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")


def main() -> None:
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(adapters)])
    core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))

    with LiveView(title="frame_ready") as live:
        live.publisher.open((512, 512), "uint16", wait=60)  # not needed, see live_mda.py
        core.mda.events.frameReady.connect(live.frame_ready)

        # The program's own acquisition, as before. Each run gets layers of its own.
        for run in range(2):
            core.mda.run(MDASequence(time_plan={"interval": 0.05, "loops": 10}))
            live.flush()
            print(f"run {run}: {live.stats().frames}")

        core.mda.events.frameReady.disconnect(live.frame_ready)


if __name__ == "__main__":
    main()
