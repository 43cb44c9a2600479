"""Colours as people give them, and what a ramp from 0 to 255 has to look like in them on a screen."""

from __future__ import annotations

import numpy as np
import pytest
from cmap import Colormap

__all__ = ["COLORS", "VALUES", "ramp"]

VALUES = (0, 64, 128, 192, 255)


def _to(*rgb: int) -> np.ndarray:
    return np.array(VALUES)[:, None] / 255 * np.array(rgb)


#: What is given for a channel called DAPI, and the colour of each of `VALUES`.
COLORS = [
    pytest.param("hotpink", _to(255, 105, 180), id="CSS"),
    pytest.param("#ff00aa", _to(255, 0, 170), id="hex"),
    pytest.param("GFP", _to(0, 255, 0), id="dye"),
    pytest.param("green", _to(0, 255, 0), id="both a colour and a colormap"),
    pytest.param("viridis", np.array(Colormap("viridis")(np.array(VALUES) / 255))[:, :3] * 255, id="colormap"),
    pytest.param("Fire", np.array(Colormap("imagej:fire")(np.array(VALUES) / 255))[:, :3] * 255, id="ImageJ's"),
    pytest.param("mangenta", _to(64, 128, 255), id="unknown"),
]


def ramp() -> np.ndarray:
    """Return a plane that has a column of 20 pixels for each of `VALUES`."""
    return np.repeat(np.array(VALUES, "uint8"), 20)[None].repeat(60, axis=0)
