# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari,pymmcore]", "pyqt6"]
# ///
"""Watch a pymmcore-plus acquisition in napari while it runs; the camera is Micro-Manager's simulated one."""

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

    sequence = MDASequence(
        time_plan={"interval": 0.1, "loops": 5},
        channels=[{"config": "DAPI", "exposure": 10}, {"config": "FITC", "exposure": 10}],
        z_plan={"range": 4, "step": 2},
    )
    with LiveView(title="live_mda") as live:
        # Not needed: without it the window opens while frames come, and shows the newest and those that follow.
        live.publisher.open((512, 512), "uint16", wait=60)
        core.run_mda(sequence, output=live).join()
        live.flush()
        print(live.stats().frames)


if __name__ == "__main__":
    main()
