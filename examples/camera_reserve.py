# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari]", "pyqt6"]
# ///
"""Let a camera write its frames where the viewer reads them: nothing is copied."""

import os

import numpy as np

from scopecast import Publisher

VIEWER = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")
SHAPE = (512, 512)


class Camera:
    """A camera whose driver fills a buffer that it is given."""

    def __init__(self) -> None:
        self.y, self.x = np.mgrid[: SHAPE[0], : SHAPE[1]]
        self.frame = 0

    def read_into(self, buffer: np.ndarray) -> None:
        """Write the next frame into `buffer`, (y, x) uint16."""
        self.frame += 1
        buffer[:] = 2000 + 1500 * np.sin((self.x + 8 * self.frame) / 30) * np.cos(self.y / 40)


def main() -> None:
    camera = Camera()
    with Publisher(VIEWER, title="camera", launch=True) as publisher:
        publisher.open(SHAPE, "uint16", wait=60)
        for t in range(50):
            with publisher.reserve(SHAPE, "uint16", axes={"t": t}) as slot:
                camera.read_into(slot.array)
        publisher.flush()
        print(publisher.stats().frames)


if __name__ == "__main__":
    main()
