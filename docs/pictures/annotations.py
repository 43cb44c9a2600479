"""Take the picture of labels, points and tracks over images: ``python docs/pictures/annotations.py FILE``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
from _cells import napari_window

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "segmentation_overlay.py"


def main(path: str) -> None:
    example = runpy.run_path(str(EXAMPLE))
    acquire, segment, cells_count = example["acquire"], example["segment"], example["CELLS"]
    with napari_window("segmentation", path) as publisher:
        for t in range(16):
            image, places = acquire(t)
            cells = segment(image, places)
            at = {"t": t}
            publisher.publish(image, axes=at)
            publisher.publish(cells, kind="labels", name="cells", axes=at)
            publisher.publish(places, kind="points", name="centres", axes=at, style={"size": 5, "symbol": "ring"})
            publisher.publish(np.column_stack([range(cells_count), places]), kind="tracks", name="tracks", axes=at)


if __name__ == "__main__":
    main(sys.argv[1])
