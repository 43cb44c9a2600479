"""Mark the bright spots of each frame, and plot how many there were in the last frames at the bottom of the image.

scopecast pipe examples/analyse/spot_counter.py:count_spots
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scopecast import Frame

ABOVE = 5.0  # standard deviations of the background
REACH = 3  # pixels around a spot that hold no other one
FRAMES = 100  # of the plot
_counts: dict[str, deque[int]] = {}  # of each channel


def count_spots(frame: Frame) -> None:
    """Reply the spots as points, and the plot as a path."""
    spots = find_spots(frame.array)
    frame.reply(
        spots, kind="points", name="spots", style={"size": 4 * REACH, "color": "#00000000", "edge_color": "yellow"}
    )
    counts = _counts.setdefault(frame.channel, deque(maxlen=FRAMES))
    counts.append(len(spots))
    if len(counts) > 1:
        height, width = frame.shape[:2]
        x = np.linspace(0, width - 1, len(counts))
        y = height - 1 - height / 4 * np.array(counts) / max(*counts, 1)
        frame.reply(
            [np.column_stack([y, x])],
            kind="shapes",
            name="number of spots",
            shape_type="path",
            names=[f"{counts[-1]} spots"],
        )


def find_spots(image: np.ndarray) -> np.ndarray:
    """Return the centres of the spots, (N, 2) y, x."""
    pixels = image.astype(np.float32)
    background = np.median(pixels)
    noise = 1.4826 * float(np.median(np.abs(pixels - background))) or 1.0  # the standard deviation, if normal
    highest = pixels
    for axis in (0, 1):
        shifted = [np.roll(highest, by, axis) for by in range(-REACH, REACH + 1)]
        highest = np.max(shifted, axis=0)
    return np.argwhere((pixels == highest) & (pixels > background + ABOVE * noise))
