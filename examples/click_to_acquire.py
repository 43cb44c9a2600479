# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari,pymmcore]", "pyqt6"]
# ///
"""Acquire an overview, then whatever the user points at in it, at high magnification."""

import os
from pathlib import Path

import mm_test_adapters
from pymmcore_plus import CMMCorePlus
from useq import MDASequence

import scopecast

VIEWER = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")
WAIT_S = 600 if VIEWER == "napari" else 1  # without a mark


def click_to_acquire(core: CMMCorePlus, live: scopecast.StreamingBackend, wait_s: float) -> None:
    core.setConfig("Objective", "10X")
    core.run_mda(MDASequence(stage_positions=[(0, 0, 0)], channels=["DAPI"])).join()
    print("Draw points in napari, and press F3 (send to acquisition).")
    for marks in live.marks(timeout=wait_s):
        core.setConfig("Objective", "40X")
        core.run_mda(MDASequence(stage_positions=marks.positions(), channels=["DAPI", "FITC"])).join()


def main() -> None:
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(adapters)])
    core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
    with scopecast.live(core, VIEWER, wait=60, title="click to acquire") as live:
        click_to_acquire(core, live, WAIT_S)
        live.flush()
        print(live.stats().frames)


if __name__ == "__main__":
    main()
