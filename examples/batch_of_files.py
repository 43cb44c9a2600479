# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari]", "pyqt6"]
# ///
"""Show the results of a pipeline, placed by their file names."""

import os

import numpy as np

from scopecast import NapariStreamingBackend


class LiveView(NapariStreamingBackend):
    """NapariStreamingBackend itself will do; this one lets the environment choose another viewer."""

    VIEWER_TYPE = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")


def main() -> None:
    names: list[str] = []
    images: list[np.ndarray] = []
    y, x = np.mgrid[:400, :600]
    for t in range(6):
        for channel in ("DAPI", "GFP"):
            names.append(f"results/well_A01_t{t:03d}_{channel}.tif")
            centre = (150 + 20 * t, 200) if channel == "DAPI" else (200, 150 + 50 * t)
            distance = np.hypot(y - centre[0], x - centre[1])
            images.append((4000 * np.exp(-((distance / 60) ** 2))).astype(np.uint16))
    names.append("results/measurements.csv")
    images.append(np.zeros((1, 1)))

    with LiveView(title="batch") as live:
        receipt = live.save_batch(images, names)  # waits for the window, and loses nothing
        print(receipt)
        live.flush()
        print(live.stats().frames)


if __name__ == "__main__":
    main()
