"""Show the frames without background, as evenly lit as they should be.

    scopecast pipe examples/analyse/flat_field.py:flat_field --kind image

The background is the camera's offset; the flat field is the blurred mean of the last frames. With images taken in the
dark and of an empty field, put these in their place: ``(image - dark) / (flat - dark) * (flat - dark).mean()``.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scopecast import Frame

DARK = 100.0  # counts of a pixel that gets no light
FRAMES = 16  # that the flat field is taken from
PARTS = 8  # of each side, over which the light is taken to be even
_last: dict[str, deque[np.ndarray]] = {}  # of each channel


def flat_field(frame: Frame) -> np.ndarray:
    """Return the corrected image, (y, x) float32."""
    last = _last.setdefault(frame.channel, deque(maxlen=FRAMES))
    image = frame.array.astype(np.float32) - DARK
    if last and last[0].shape != image.shape:
        last.clear()
    last.append(image)
    light = _blurred(np.mean(last, axis=0))
    return image / np.maximum(light, light.mean() / 100) * light.mean()


def _blurred(image: np.ndarray) -> np.ndarray:
    """Return the means of squares, enlarged to the image again, with smooth transitions."""
    height, width = image.shape
    rows, columns = min(PARTS, height), min(PARTS, width)
    cut = image[: height // rows * rows, : width // columns * columns]
    coarse = cut.reshape(rows, height // rows, columns, width // columns).mean((1, 3))
    ys, xs = np.linspace(0, rows - 1, height), np.linspace(0, columns - 1, width)
    across = np.stack([np.interp(xs, range(columns), row) for row in coarse])
    return np.stack([np.interp(ys, range(rows), column) for column in across.T]).T.astype(np.float32)
