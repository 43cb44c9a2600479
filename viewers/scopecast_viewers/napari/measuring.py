"""What a shape that the user has drawn measures of a plane: mean, least and most, area; and the profile of a line."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import skimage  # loads its parts when they are used: at the start of a window they would take half a second

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["DrawnRegion", "Measured", "pixels_under"]


def pixels_under(layer: Any, image: Any) -> Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]:
    """Return what tells over which pixels of an image something lies.

    Parameters
    ----------
    layer, image
        The layer of napari that it is in, and that of the image.

    Returns
    -------
    callable
        Takes (n, 2) y, x in the layer's own pixels to those in pixels of the image, from the middle of the first.
    """
    # Where three points come to tells where all do: one call for each vertex of a shape drawn by hand takes long.
    rest, behind = (0.0,) * (layer.ndim - 2), (0.0,) * (image.ndim - 2)
    probes = [layer.data_to_world((*rest, *probe))[-2:] for probe in ((0, 0), (1, 0), (0, 1))]
    origin, *ends = (np.array(image.world_to_data((*behind, *probe))[-2:], float) for probe in probes)
    steps = np.array([end - origin for end in ends])
    return lambda vertices: origin + vertices @ steps


class Measured(NamedTuple):
    """What has been measured of a plane; the area in pixels, of a line its length.

    `profile` is along a line, a value for each pixel of its length; else None.
    """

    mean: float
    low: float
    high: float
    area: float
    profile: npt.NDArray[np.float64] | None = None


class DrawnRegion:
    """A shape over planes of one size: the pixels whose middles are in it, or the way of a line.

    Parameters
    ----------
    kind
        napari's type of the shape.
    vertices
        (n, 2) y, x in pixels, counted from the middle of the first one, as napari has them.
    shape
        (y, x) of the planes.
    """

    def __init__(self, kind: str, vertices: npt.NDArray[np.float64], shape: tuple[int, int]) -> None:
        self._line = vertices if kind in ("line", "path") else None
        last_pixel = np.array(shape) - 1.0
        low, high = np.ceil(vertices.min(0)), np.floor(vertices.max(0))
        low, high = np.clip(low, 0.0, last_pixel), np.clip(high, 0.0, last_pixel)
        self._box = tuple(slice(int(first), int(last) + 1) for first, last in zip(low, high, strict=True))
        size = tuple(max(0, int(last - first) + 1) for first, last in zip(low, high, strict=True))
        if self._line is None:
            self._mask = (
                _ellipse(vertices - low, size) if kind == "ellipse" else skimage.draw.polygon2mask(size, vertices - low)
            )
            self._full = bool(self._mask.all())

    def measure(self, plane: npt.NDArray[np.generic]) -> Measured | None:
        """Return what it measures of a plane, of colours their mean; None if it lies outside."""
        if self._line is not None:
            return self._along(plane, self._line)
        part = plane[self._box]
        inside = part.mean(axis=-1) if plane.ndim == 3 else part
        inside = inside if self._full else inside[self._mask]  # which would copy it
        if not inside.size:
            return None
        return Measured(float(inside.mean()), float(inside.min()), float(inside.max()), float(inside.size))

    @staticmethod
    def _along(plane: npt.NDArray[np.generic], line: npt.NDArray[np.float64]) -> Measured | None:
        last_pixel = np.array(plane.shape[:2]) - 1
        if (line.max(0) < -0.5).any() or (line.min(0) > last_pixel + 0.5).any():
            return None
        # Only what is around it: the whole of a camera's frame would be converted to floating point otherwise.
        low = np.clip(np.floor(line.min(0)).astype(int) - 1, 0, last_pixel)
        high = np.clip(np.ceil(line.max(0)).astype(int) + 1, 0, last_pixel)
        part = plane[low[0] : high[0] + 1, low[1] : high[1] + 1]
        part = part.mean(axis=-1) if plane.ndim == 3 else part
        pieces = [
            skimage.measure.profile_line(part, start - low, end - low, order=1, mode="nearest")
            for start, end in itertools.pairwise(line)
        ]
        values = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])]).astype(float)
        length = float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())
        return Measured(float(values.mean()), float(values.min()), float(values.max()), length, values)


def _ellipse(corners: npt.NDArray[np.float64], size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Return which pixels are in the ellipse within four corners, which may be turned."""
    middle, half = corners.mean(0), np.stack([corners[1] - corners[0], corners[3] - corners[0]]) / 2
    if abs(np.linalg.det(half)) < 1e-9:
        return np.zeros(size, bool)
    steps = (np.moveaxis(np.indices(size), 0, -1) - middle) @ np.linalg.inv(half)
    return np.asarray((steps**2).sum(-1) <= 1)
