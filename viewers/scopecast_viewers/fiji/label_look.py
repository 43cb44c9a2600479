"""How labels look: a colour for each, black for none, until the user chooses other ones."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast_viewers.fiji.look import to_lut

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LabelLook", "categorical_colors"]

_DARKEST: Final = 35.0  # CIE lightness of 100; what is darker is hard to see on black
_LEVELS: Final = 17  # of each of red, green and blue that the colours are chosen from


class LabelLook:
    """Gives an image of labels its colours, and a display range that follows the highest label.

    Up to 255 every label has a colour of its own; ImageJ shows any image in 256 colours, so that beyond, neighbouring
    numbers share one. The pixels are the labels in any case. Used on the window thread only.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._range: tuple[float, float] | None = None  # what we have set
        self._seen: object = None
        self._highest = 255

    def settle(self, imp: Any, channels: int, *, at_work: bool = False) -> bool:
        """Set what is still to be set. Return whether something has changed; parameters as in `Look.settle`."""
        if at_work and self._range is not None:
            return False
        newest = self._stack.newest
        plane = None if newest is None else self._stack.plane(newest)
        if plane is None or plane is self._seen:
            return False
        self._seen = plane
        if self._range is None:
            imp.getProcessor().setLut(_lut())
        elif self._range != (float(imp.getDisplayRangeMin()), float(imp.getDisplayRangeMax())):
            return False  # the user's
        self._highest = max(self._highest, int(np.max(np.asarray(plane), initial=0)))
        wanted = (0.0, float(self._highest))
        if wanted == self._range:
            return False
        imp.setDisplayRange(*wanted)
        self._range = wanted
        return True


@cache
def _lut() -> Any:
    """Return a LUT of the categorical colours, with black for 0."""
    return to_lut(np.vstack([np.zeros((1, 3), np.uint8), categorical_colors()]))


@cache
def categorical_colors(count: int = 255) -> npt.NDArray[np.uint8]:
    """Return colours that are as unlike each other, and black, as can be: each the farthest from all before it.

    The method is that of Glasbey, van der Heijden, Toh and Gray, "Colour displays for categorical images", Color
    Research and Application 32 (2007), by distances in CIELAB.

    Parameters
    ----------
    count
        How many.

    Returns
    -------
    numpy.ndarray
        (count, 3), red, green, blue.
    """
    levels = np.linspace(0, 255, _LEVELS).round()
    every = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = _lab(every)
    bright = lab[:, 0] >= _DARKEST
    every, lab = every[bright], lab[bright]
    distance = np.linalg.norm(lab - _lab(np.zeros((1, 3))), axis=1)
    chosen = []
    for _ in range(count):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(lab - lab[farthest], axis=1))
    return every[chosen].astype(np.uint8)


def _lab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the CIELAB coordinates (D65) of sRGB colours of 0 to 255."""
    linear = np.where(rgb <= 0.04045 * 255, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    scaled = xyz / (0.9505, 1.0, 1.089)
    f = np.where(scaled > (6 / 29) ** 3, np.cbrt(scaled), scaled / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
