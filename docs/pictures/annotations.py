"""Take the picture of labels, points and tracks over images: ``python docs/pictures/annotations.py FILE``."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np

from scopecast import Publisher
from scopecast.demo.screen import ensure_screen
from scopecast.publishing.launch import end_viewers, viewers_started_here
from scopecast.rundir.directory import RunDirectory

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "segmentation_overlay.py"


def main(path: str) -> None:
    example = runpy.run_path(str(EXAMPLE))
    acquire, segment, cells_count = example["acquire"], example["segment"], example["CELLS"]
    with (
        ensure_screen(),
        Publisher("napari", title="segmentation", launch=True, policy="every", timeout=90) as publisher,
    ):
        publisher.open(example["SHAPE"], "uint16", wait=90)
        try:
            for t in range(16):
                image, places = acquire(t)
                cells = segment(image, places)
                at = {"t": t}
                publisher.publish(image, axes=at)
                publisher.publish(cells, kind="labels", name="cells", axes=at)
                publisher.publish(places, kind="points", name="centres", axes=at, style={"size": 5, "symbol": "ring"})
                publisher.publish(np.column_stack([range(cells_count), places]), kind="tracks", name="tracks", axes=at)
            publisher.flush(60)
            publisher.capture(path, 60)
        finally:
            end_viewers(viewers_started_here(), RunDirectory(), 10.0)


if __name__ == "__main__":
    main(sys.argv[1])
