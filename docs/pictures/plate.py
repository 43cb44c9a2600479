"""Take the picture of a plate of 96 wells: ``python docs/pictures/plate.py FILE``."""

from __future__ import annotations

import sys

from _cells import cells, napari_window

ROWS, COLUMNS, SHAPE = 8, 12, (192, 192)
WELL_UM = 9000.0


def main(path: str) -> None:
    names = [f"{'ABCDEFGH'[row]}{column + 1}" for row in range(ROWS) for column in range(COLUMNS)]
    with napari_window("screen", path) as publisher:
        publisher.new_stream("Plate 7", positions=names, channels=("DAPI", "GFP"), scale=0.65, units="um")
        for p, name in enumerate(names):
            row, column = divmod(p, COLUMNS)
            count = max(0, round(14 - column * (0.4 + 0.12 * row)))
            said = {"elapsed_s": 2.4 * p, "x_um": WELL_UM * column, "y_um": -WELL_UM * row, "z_um": 1204.5}
            for c, (channel, image) in enumerate(zip(("DAPI", "GFP"), cells(SHAPE, count, p), strict=True)):
                publisher.publish(
                    image,
                    axes={"p": p, "c": channel},
                    translate=(WELL_UM * row, WELL_UM * column),
                    metadata={**said, "exposure_ms": (20, 100)[c], "position": name},
                )


if __name__ == "__main__":
    main(sys.argv[1])
