"""How pixels of any depth become the 8 bits of a preview, and values of their own depth again.

This module knows the table and how a plane is made smaller and larger. Codecs and sockets are others' business.

A camera's noise grows with the square root of the signal. After the square root of the signal it is the same at all
intensities (Anscombe, Biometrika 35, 1948, 246-254), and 256 levels cover 16 bits in steps of about the noise or less:
what a preview loses is below what the camera has added. Viewers get values of the stream's own dtype and range, so that
contrast limits mean the same for previews and exact pixels.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from scopecast.errors import ProtocolError
from scopecast.frames.arrays import native

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    # A target, a source and a table; then height, width, samples of a pixel, and step.
    Kernel = Callable[[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], int, int, int, int], None]

__all__ = ["Companding", "compand", "expand", "how", "small_shape"]

_compand: Kernel | None
_expand: Kernel | None
try:
    from scopecast.remote._companding import compand as _compand
    from scopecast.remote._companding import expand as _expand
except ImportError:  # installed from source without a C compiler
    _compand = _expand = None

_LEVELS: Final = 256
#: Pixels that are looked at for the range of a plane, about: whole rows, which are read fastest.
_SAMPLED: Final = 2**20
#: What a range has above and below what was seen, as fractions of it: the next frame shall need no other one.
_ABOVE, _BELOW = 1 / 4, 1 / 64
#: A range is replaced once the pixels fill less of it than this.
_FILLED: Final = 1 / 16
#: Larger ones are cut off there: differences and squares stay finite.
_LARGEST: Final = 1e300


def how() -> Literal["compiled", "by numpy"]:
    """Return how pixels of 8 and 16 bits are companded here."""
    return "by numpy" if _compand is None else "compiled"


@dataclass(frozen=True, slots=True)
class Companding:
    """The range of values that the 256 levels of a preview stand for. Each preview names its own.

    Level 0 stands for `offset` and 255 for `top`; between them the level is proportional to the square root of what a
    value has above the offset. Integers over a range of at most 255 keep their values: the level is what they have
    above the offset. Values outside of the range get its ends, and NaN gets the offset.

    Parameters
    ----------
    offset, top : float
        In the units of the pixels.

    Raises
    ------
    ValueError
        Unless both are finite, not beyond ±1e300, and the top is above the offset.
    """

    offset: float
    top: float

    def __post_init__(self) -> None:
        if not -_LARGEST <= self.offset < self.top <= _LARGEST:  # also not if one is NaN
            raise ValueError(
                f"no companding from {self.offset} to {self.top}: the offset must be below the top, and neither beyond "
                f"±{_LARGEST:g}"
            )

    @property
    def wire(self) -> tuple[float, float]:
        """The two numbers that stand for it in a message."""
        return self.offset, self.top

    @classmethod
    def from_wire(cls, numbers: Sequence[float]) -> Companding:
        """Return what a peer's two numbers stand for.

        Raises
        ------
        ProtocolError
            If they are none, with what is wrong.
        """
        try:
            offset, top = numbers
            return cls(float(offset), float(top))
        except (TypeError, ValueError, OverflowError) as error:
            raise ProtocolError(f"a preview's companding is wrong: {error}") from error

    @classmethod
    def covering(cls, plane: npt.NDArray[Any], last: Companding | None = None) -> Companding:
        """Return a companding for a plane: that of the frame before if it fits, so that it rarely changes.

        Parameters
        ----------
        plane : numpy.ndarray
            (y, x) or (y, x, samples), integers or floats. Planes of more than a million pixels are sampled by rows: a
            few pixels may be brighter than the range, and are cut off in previews.
        last : Companding, optional
            That of the frame before, of the same stream and channel.

        Returns
        -------
        Companding
            `last` if the plane lies in it and fills a sixteenth of it; otherwise one that has a quarter of the range to
            spare at the top, and a little at the bottom.
        """
        dtype = plane.dtype
        if dtype.kind in "iu" and dtype.itemsize == 1:
            return cls(float(np.iinfo(dtype).min), float(np.iinfo(dtype).max))
        lowest, highest = _range(plane)
        if last is not None and last.offset <= lowest and highest <= last.top:
            span = last.top - last.offset
            if highest - lowest >= _FILLED * span or (dtype.kind in "iu" and span < _LEVELS):
                return last
        above, below = _ABOVE * (highest - lowest), _BELOW * (highest - lowest)
        if dtype.kind in "iu":
            if highest - lowest < _LEVELS:  # as many values as there are levels: none is lost
                below = (_LEVELS - 1 - (highest - lowest)) // 4
                above = _LEVELS - 1 - (highest - lowest) - below
            info = np.iinfo(dtype)
            # Those of 64 bits are no longer exact as floats; the range is, and that is all it has to be.
            last_value = min(math.ceil(highest + above), int(info.max))
            first_value = max(min(math.floor(lowest - below), last_value - _LEVELS + 1), int(info.min))
            offset, top = float(first_value), float(min(max(last_value, first_value + _LEVELS - 1), int(info.max)))
        else:
            offset, top = lowest - below, highest + above
        offset, top = max(offset, -_LARGEST), min(top, _LARGEST)
        if offset >= top:  # floats that are all the same, or nearly
            offset, top = offset - (abs(offset) / 2 or 1.0), offset + (abs(offset) / 2 or 1.0)
        return cls(max(offset, -_LARGEST), min(top, _LARGEST))

    def is_linear(self, dtype: npt.DTypeLike) -> bool:
        """Whether pixels of a dtype keep their values: integers over a range of at most 255."""
        return np.dtype(dtype).kind in "iu" and self.top - self.offset < _LEVELS

    def levels(self, values: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[np.uint8]:
        """Return the level of each value, as uint8 in the shape of the values.

        Parameters
        ----------
        values : numpy.ndarray
            Integers or floats, of any shape.
        dtype : dtype-like
            That of the plane, of which the values may be means.
        """
        linear = self.is_linear(dtype)
        short = values.dtype.kind == "f" and values.dtype.itemsize <= 4
        with np.errstate(over="ignore", invalid="ignore"):
            above: npt.NDArray[Any] = values.astype(np.float32 if short else np.float64)
            above -= self.offset
            if not linear:
                np.multiply(above, (_LEVELS - 1) ** 2 / (self.top - self.offset), out=above)
            # Unlike np.clip these take the number where there is a NaN.
            most = _LEVELS - 1 if linear else (_LEVELS - 1) ** 2
            above = np.fmin(np.fmax(above, 0, out=above), most, out=above)
            if not linear:
                np.sqrt(above, out=above)
            above += 0.5
        return above.astype(np.uint8)

    def values(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return what each of the 256 levels stands for, in a dtype of integers or floats."""
        made = native(dtype)
        level = np.arange(_LEVELS, dtype=np.float64)
        if self.is_linear(made):
            values = self.offset + level
        else:
            values = self.offset + (self.top - self.offset) * (level / (_LEVELS - 1)) ** 2
        if made.kind == "f":
            most = float(np.finfo(made).max)
            return np.clip(values, -most, most).astype(made)
        info = np.iinfo(made)
        # As Python's integers: float64 has no room for the largest of 64 bits.
        return np.array([min(max(round(value), int(info.min)), int(info.max)) for value in values.tolist()], made)


def _range(plane: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the lowest and the highest of the finite values, or of a sample of them; (0, 0) if there is none."""
    sample = plane[:: max(1, plane.size // _SAMPLED)]
    if sample.dtype.kind == "f":
        sample = sample[np.isfinite(sample)]
        if not sample.size:
            return 0.0, 0.0
    lowest, highest = float(sample.min()), float(sample.max())
    return max(lowest, -_LARGEST), min(highest, _LARGEST)


def small_shape(shape: tuple[int, ...], step: int) -> tuple[int, ...]:
    """Return the shape of a plane of which blocks of `step` x `step` pixels have become one.

    >>> small_shape((5, 8, 3), 2)
    (3, 4, 3)
    """
    return (-(-shape[0] // step), -(-shape[1] // step), *shape[2:])


@functools.lru_cache(maxsize=32)
def _level_table(companding: Companding, dtype: np.dtype[Any]) -> npt.NDArray[np.uint8]:
    """Return the level of each value that a dtype of 8 or 16 bits has, the lowest first."""
    info = np.iinfo(dtype)
    return companding.levels(np.arange(info.min, info.max + 1, dtype=np.int32), dtype)


@functools.lru_cache(maxsize=32)
def _value_table(companding: Companding, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    return companding.values(dtype)


def compand(plane: npt.NDArray[Any], companding: Companding, step: int = 1) -> npt.NDArray[np.uint8]:
    """Average blocks of a plane and return the level of each.

    Parameters
    ----------
    plane : numpy.ndarray
        (y, x) or (y, x, 3 or 4), integers or floats in any byte order and with any strides.
    companding : Companding
    step : int
        Pixels along each side of a block: 1, 2 or 4. Those at the end may be smaller. Means of 8 and 16 bits are
        rounded to whole numbers, halves upwards.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape that `small_shape` gives, without gaps.
    """
    dtype = native(plane.dtype)
    if dtype.kind not in "iu" or dtype.itemsize > 2:
        return companding.levels(_means(plane.astype(dtype, copy=False), step), dtype)
    pixels = np.ascontiguousarray(plane, dtype)
    table = _level_table(companding, dtype)
    if dtype.kind == "i":  # the table's order: the lowest is 0
        unsigned = np.dtype(f"u{dtype.itemsize}")
        pixels = pixels.view(unsigned) ^ unsigned.type(1 << 8 * dtype.itemsize - 1)
    if _compand is None:
        looked_up: npt.NDArray[np.uint8] = table[_means(pixels, step)]
        return looked_up
    target = np.empty(small_shape(plane.shape, step), np.uint8)
    _compand(target, pixels, table, plane.shape[0], plane.shape[1], math.prod(plane.shape[2:]), step)
    return target


def _means(plane: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
    """Return the mean of each block; integers of 8 and 16 bits stay integers."""
    if step == 1:
        return plane
    height, width = plane.shape[:2]
    whole = plane.dtype.kind == "u" and plane.dtype.itemsize <= 2
    wide = np.uint32 if whole else np.float32 if plane.dtype.kind == "f" and plane.dtype.itemsize <= 4 else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        beyond = ((0, -height % step), (0, -width % step), *((0, 0),) * (plane.ndim - 2))
        padded = np.pad(plane, beyond) if height % step or width % step else plane
        sums = np.zeros(small_shape(plane.shape, step), wide)
        for y in range(step):
            for x in range(step):
                sums += padded[y::step, x::step]
        high = np.minimum(step, height - np.arange(0, height, step))
        long = np.minimum(step, width - np.arange(0, width, step))
        counts = np.multiply.outer(high, long).astype(wide).reshape(*sums.shape[:2], *(1,) * (plane.ndim - 2))
        means: npt.NDArray[Any] = (sums + counts // 2) // counts if whole else sums / counts
        return means


def expand(
    levels: npt.NDArray[np.uint8],
    companding: Companding,
    shape: tuple[int, ...],
    dtype: npt.DTypeLike,
    step: int = 1,
) -> npt.NDArray[Any]:
    """Return a plane in which each level has become the pixels of its block.

    Parameters
    ----------
    levels : numpy.ndarray
        uint8, of the shape that `small_shape` gives for the plane's.
    companding : Companding
        What the levels stand for.
    shape : tuple of int
        That of the plane: (y, x) or (y, x, 3 or 4).
    dtype : dtype-like
        That of the plane, integers or floats of up to 64 bits, in any byte order.
    step : int
        Pixels along each side of a block: 1, 2 or 4.

    Returns
    -------
    numpy.ndarray
        A new array of that shape and dtype.
    """
    made = np.dtype(dtype)
    table = _value_table(companding, native(made)).astype(made, copy=False)
    levels = np.ascontiguousarray(levels)
    if levels.shape != small_shape(shape, step):
        raise ValueError(f"levels of shape {levels.shape} are not those of a plane of {shape} in blocks of {step}")
    plane = np.empty(shape, made)
    if _expand is None:
        small = table[levels]
        plane[:] = small.repeat(step, axis=0)[: shape[0]].repeat(step, axis=1)[:, : shape[1]] if step > 1 else small
    else:
        # A dtype of the other byte order has no buffer that C knows: as bytes.
        _expand(plane.view(np.uint8), levels, table.view(np.uint8), shape[0], shape[1], math.prod(shape[2:]), step)
    return plane
