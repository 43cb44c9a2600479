"""Where on the canvas a frame lies that was taken at a place of the stage.

The stage's coordinates are those of the frame's centre, in µm; on the canvas y points down.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["corner_of_frame", "usable_affine"]


def corner_of_frame(
    stage: Sequence[float],
    pixel: Sequence[float],
    plane_shape: Sequence[int],
    affine: Sequence[float] | None = None,
) -> tuple[float, float]:
    """Return where a frame belongs on the canvas.

    Parameters
    ----------
    stage
        (x, y) of the stage, in µm.
    pixel
        Size (y, x) of a pixel, in µm.
    plane_shape
        (y, x, …) of the frame, in pixels.
    affine
        As from `usable_affine`.

    Returns
    -------
    tuple of float
        (y, x) of the middle of the frame's first pixel, in µm.

    Notes
    -----
    An affine A takes a step in pixels (x, y) to the step of the stage that moves the image as far, so A⁻¹ takes the
    stage's coordinates to pixels of the canvas. Without one, the stage's y points up, as useq's grids have it, whose
    first row has the largest y.

    Examples
    --------
    >>> corner_of_frame((100.0, 50.0), (2.0, 2.0), (5, 3))
    (-54.0, 98.0)
    """
    x, y = stage[0], -stage[1]
    if affine is not None:
        a, b, _, d, e, _ = affine
        determinant = a * e - b * d
        x, y = (
            pixel[1] * (e * stage[0] - b * stage[1]) / determinant,
            pixel[0] * (a * stage[1] - d * stage[0]) / determinant,
        )
    return (y - (plane_shape[0] - 1) * pixel[0] / 2, x - (plane_shape[1] - 1) * pixel[1] / 2)


def usable_affine(affine: Sequence[float] | None, pixel_um: float | None) -> tuple[float, ...] | None:
    """Return an affine from pixels to µm of the stage that says how the camera sits; None if it says nothing.

    Parameters
    ----------
    affine
        (a, b, tx, d, e, ty), as ``CMMCore.getPixelSizeAffine`` gives it.
    pixel_um
        Size of a pixel in µm, if it is known.

    Returns
    -------
    tuple of float or None
        None where it is not set, or cannot be inverted.
    """
    if affine is None or len(affine) != 6 or not all(map(math.isfinite, affine)):
        return None
    a, b, _, d, e, _ = affine
    if a == e > 0 and b == d == 0 and (a == int(a) or a != pixel_um):
        return None  # the identity of an affine that nobody has set, which the core multiplies by the binning
    return tuple(float(value) for value in affine) if a * e - b * d else None
