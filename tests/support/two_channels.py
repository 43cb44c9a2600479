"""Frames of two channels, and what napari's canvas shows of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

__all__ = ["CHANNELS", "colours", "frame", "near"]

CHANNELS = ["DAPI", "FITC"]


def frame(value: int, shape: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Return a frame of one value, with two pixels by which its contrast is that of all 8 bits."""
    plane = np.full(shape, value, "uint8")
    plane[0, :2] = 0, 255
    return plane


def colours(live: Any) -> dict[str, int]:
    """Return what is in the middle of the canvas, with the channels in green and red as they are."""
    for channel, colour in zip(CHANNELS, ("green", "red"), strict=True):
        for each in live.view.layers:
            if each.channel_name == channel:
                _set(each.layer, colour)
    seen = live.viewer.screenshot(canvas_only=True, flash=False)
    height, width = seen.shape[:2]
    return {"DAPI": int(seen[height // 2, width // 2, 1]), "FITC": int(seen[height // 2, width // 2, 0])}


def _set(layer: Any, colour: str) -> None:
    """Set how a layer looks, unless it looks so: napari builds its shader anew whatever it is set to."""
    if layer.colormap.name != colour:
        layer.colormap = colour
    if tuple(layer.contrast_limits) != (0, 255):
        layer.contrast_limits = (0, 255)
    if layer.gamma != 1.0:
        layer.gamma = 1.0


def near(**expected: int) -> Any:
    """Return what `colours` is to be, within what a canvas rounds."""
    return pytest.approx(expected, abs=2)
