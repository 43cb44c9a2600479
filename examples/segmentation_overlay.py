# /// script
# requires-python = ">=3.11"
# dependencies = ["scopecast[napari]", "pyqt6"]
# ///
"""Show a segmentation on the images as they arrive: cells as labels, their centres as points, their tracks."""

import os

import numpy as np

from scopecast import Publisher

VIEWER = os.environ.get("SCOPECAST_EXAMPLE_VIEWER", "napari")
SHAPE = (256, 320)
CELLS = 12
y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]


def acquire(t: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a simulated image, (y, x) uint16, and where its cells are, (CELLS, 2) y, x."""
    rng = np.random.default_rng(7)
    places = rng.uniform((40, 40), (216, 280), (CELLS, 2)) + t * rng.normal(0, 0.8, (CELLS, 2))
    image = sum(900 * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 150) for at in places)
    return np.uint16(image + np.random.default_rng(t).normal(120, 12, SHAPE)), places


def segment(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return labels, (y, x) uint8: bright pixels belong to the nearest cell."""
    nearest = np.argmin([(y - at[0]) ** 2 + (x - at[1]) ** 2 for at in places], axis=0)
    return np.where(image > 500, nearest + 1, 0).astype("uint8")


def main() -> None:
    with Publisher(VIEWER, title="segmentation", launch=True, policy="every") as publisher:
        publisher.open(SHAPE, "uint16", wait=60)
        for t in range(20):
            (image, places), at = acquire(t), {"t": t}
            cells = segment(image, places)
            area = np.bincount(cells.ravel(), minlength=CELLS + 1)[1:]
            publisher.publish(image, axes=at)
            publisher.publish(cells, kind="labels", name="cells", axes=at)
            publisher.publish(places, kind="points", name="centres", axes=at, properties={"area": area})
            publisher.publish(np.column_stack([range(CELLS), places]), kind="tracks", name="tracks", axes=at)
        publisher.flush()
        print(publisher.stats().frames)


if __name__ == "__main__":
    main()
