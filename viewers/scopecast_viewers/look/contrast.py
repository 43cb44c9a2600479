"""Which range of values shows a plane well, for every viewer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["contrast_limits", "contrast_range", "is_flat"]

_LARGEST: Final = 1e300
_SAMPLE: Final = 256  # pixels along an axis that the contrast is estimated from


def contrast_limits(plane: npt.NDArray[Any]) -> tuple[float, float]:
    """Return limits that show a plane well: the 0.1th and 99.9th percentile of its finite pixels.

    Parameters
    ----------
    plane
        The pixels, (y, x) or (y, x, 3 or 4).

    Returns
    -------
    low, high : float
        (0, 1) if no pixel is finite; ``low < high`` always.

    Examples
    --------
    >>> contrast_limits(np.full((4, 4), np.nan))
    (0.0, 1.0)
    >>> contrast_limits(np.full((4, 4), 7, "uint16"))
    (7.0, 8.0)
    """
    step = [max(1, extent // _SAMPLE) for extent in plane.shape[:2]]
    sample = np.asarray(plane[:: step[0], :: step[1]], dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    if not sample.size:
        return (0.0, 1.0)
    low, high = (float(value) for value in np.percentile(sample, (0.1, 99.9)))
    # Beyond 2**53 a float plus one is itself; and what napari adds to the limits must not overflow.
    low = max(low, -_LARGEST)
    return (
        (low, min(max(high, low + 1.0, float(np.nextafter(low, np.inf))), _LARGEST))
        if high <= low
        else (low, min(high, _LARGEST))
    )


def is_flat(plane: npt.NDArray[Any]) -> bool:
    """Whether all pixels have one value, so that they tell little of how the next ones are to be shown."""
    return bool(plane.flat[0] == plane.max() == plane.min())


def contrast_range(limits: tuple[float, float], dtype: np.dtype[Any], plane: npt.NDArray[Any]) -> tuple[float, float]:
    """Return how far the contrast sliders reach: for integers, the bit depth that the camera seems to have."""
    if dtype.kind == "b":
        return (0.0, 1.0)
    if dtype.kind in "iu":
        bits = max(8, int(max(int(plane.max()), 1)).bit_length())
        if dtype.kind == "u":
            return (0.0, float(min(2**bits - 1, int(np.iinfo(dtype).max))))
        return (float(min(int(plane.min()), 0)), float(2**bits - 1))
    return (min(limits[0], 0.0), limits[1] + (limits[1] - limits[0]))
