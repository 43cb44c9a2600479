"""Take the picture of a mosaic over time, with its clock: ``python docs/pictures/timelapse.py FILE``."""

from __future__ import annotations

import sys

from _cells import cells, napari_window

TIMES, SHAPE, PIXEL_UM = 4, (256, 256), 0.65


def main(path: str) -> None:
    step = SHAPE[0] * PIXEL_UM * 0.97
    with napari_window("time lapse", path) as publisher:
        sizes = {"t": TIMES, "g": 9, "c": 2}
        publisher.new_stream("mosaic", sizes=sizes, channels=("DAPI", "GFP"), scale=PIXEL_UM, units="um")
        for t in range(TIMES):
            for g in range(9):
                row, column = divmod(g, 3)
                images = cells(SHAPE, 18, g, drift=2.0 * t)
                for c, (channel, image) in enumerate(zip(("DAPI", "GFP"), images, strict=True)):
                    publisher.publish(
                        image,
                        axes={"t": t, "g": g, "c": channel},
                        translate=(row * step, column * step),
                        metadata={
                            "elapsed_s": 600.0 * t + 1.5 * g,
                            "exposure_ms": (20, 100)[c],
                            "x_um": 5000 + column * step,
                            "y_um": -3000 - row * step,
                            "z_um": 1204.5,
                        },
                    )


if __name__ == "__main__":
    main(sys.argv[1])
