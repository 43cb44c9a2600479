"""Frames as of a cell on a dark ground, and as of a shutter that is closed."""

from __future__ import annotations

import numpy as np

__all__ = ["CELL_SHAPE", "cell", "dark"]

CELL_SHAPE = (128, 128)
_random = np.random.default_rng(3)


def dark() -> np.ndarray:
    """Return the noise of a camera, 100 ± 2."""
    return _random.normal(100, 2, CELL_SHAPE).astype("uint16")


def cell(peak: int = 4200) -> np.ndarray:
    """Return a picture with a bright disc that fills a quarter, and noise around it."""
    picture = dark()
    y, x = np.mgrid[: CELL_SHAPE[0], : CELL_SHAPE[1]]
    picture[(y - 64) ** 2 + (x - 64) ** 2 < 32**2] = peak
    return picture
