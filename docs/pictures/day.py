"""Take the pictures of a microscopist's day, FILE and others beside it: ``python docs/pictures/day.py FILE``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from _cells import napari_viewer
from _microscope import microscope


def main(path: str) -> None:
    with napari_viewer(), microscope("microscope", 512) as scope:
        scope.wait()
        scope.do("objective", "20X")
        scope.do("watch", True)
        for step in range(20):  # the stage is moved, as one does to look for cells
            scope.do("move", 12.0 * step, -6.0 * step)
            time.sleep(0.1)
        scope.do("capture", str(Path(path).with_stem("day-live")))
        scope.do("watch", False)
        scope.do("run", "time lapse")
        scope.do("run", "mosaic")
        scope.do("capture", str(Path(path).with_stem("day-mosaic")))
        scope.do("objective", "40X")
        scope.do("run", "wells")
        scope.do("capture", path)


if __name__ == "__main__":
    main(sys.argv[1])
