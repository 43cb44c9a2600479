"""Which range of values a channel is shown in, for every viewer: chosen from its frames until the user chooses.

What is chosen from a frame is the range of what has an extent in it. Single pixels that are far above or below their
neighbours (hot, dead) don't count, unless there are many of them. The range widens at once when a frame has more, and
narrows only when none of the last `_MEMORY` frames has needed it: so a stack along z doesn't flicker.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Iterator, Mapping

    import numpy.typing as npt

__all__ = ["Contrast", "Contrasts", "Limits", "contrast_range", "saturation", "saturation_text"]

Limits = tuple[float, float]

_LARGEST: Final = 1e300
#: Pixels that a frame is judged by, and the sides of the tiles in which they lie.
_PIXELS: Final = 1 << 15
_TILE: Final = 16
#: Part of the pixels that may lie above the range, and below it: of all, and of those with neighbours like them.
_OUTSIDE: Final = 0.005
_OUTSIDE_SMOOTH: Final = 0.0002
#: Where fewer of the pixels than these differ from the rest, all that do are looked at.
_FEW: Final = 1024
#: How many of the last frames keep the range from narrowing, and what part of it they must leave unused.
_MEMORY: Final = 64
_UNUSED: Final = 0.2
#: Part of the range that is added where it widens, so that a signal that grows does not move it with each frame; above,
#: and below, where it would make the background gray.
_SPARE: Final = 0.05
_SPARE_BELOW: Final = 0.01
#: A range this many times as wide as the one before has nothing to do with it: a shutter has opened.
_ANOTHER: Final = 4.0
#: Bits of cameras whose pixels come in a wider type, and how many pixels must be exactly at their limit to believe it.
_CAMERA_BITS: Final = (10, 12, 14)
_AT_LIMIT: Final = 3


def contrast_range(limits: Limits, dtype: np.dtype[Any], plane: npt.NDArray[Any]) -> Limits:
    """Return how far the contrast sliders reach: for integers, the bit depth that the camera seems to have."""
    if dtype.kind == "b":
        return (0.0, 1.0)
    if dtype.kind in "iu":
        bits = max(8, int(max(int(plane.max()), 1)).bit_length())
        if dtype.kind == "u":
            return (0.0, float(min(2**bits - 1, int(np.iinfo(dtype).max))))
        return (float(min(int(plane.min()), 0)), float(2**bits - 1))
    return (min(limits[0], 0.0), limits[1] + (limits[1] - limits[0]))


def saturation(plane: npt.NDArray[Any]) -> tuple[int, float]:
    """Return how many pixels are saturated, and the value of those.

    That is the largest of the dtype, or of a camera of 10, 12 or 14 bits if pixels lie exactly there and none above.

    Parameters
    ----------
    plane
        The pixels, (y, x).

    Returns
    -------
    count : int
        0 for dtypes that have no largest value.
    value : float
        0 if there are none.

    Examples
    --------
    >>> saturation(np.array([[255, 255, 3]], "uint8")), saturation(np.array([[255, 255, 3]], "uint16"))
    ((2, 255.0), (0, 0.0))
    """
    if plane.dtype.kind not in "iu" or not plane.size:
        return (0, 0.0)
    highest, full = int(plane.max()), int(np.iinfo(plane.dtype).max)
    if highest != full and (plane.dtype.itemsize == 1 or highest not in [2**bits - 1 for bits in _CAMERA_BITS]):
        return (0, 0.0)
    count = int(np.count_nonzero(plane == highest))
    return (count, float(highest)) if highest == full or count >= _AT_LIMIT else (0, 0.0)


def saturation_text(channels: Mapping[str, tuple[int, int]]) -> str:
    """Return what is said of saturated pixels, ``""`` if there are none.

    Parameters
    ----------
    channels
        How many, of how many pixels, by the name of the channel.

    Examples
    --------
    >>> saturation_text({"DAPI": (3, 10_000), "FITC": (300, 10_000), "Cy5": (0, 10_000)})
    'saturated: DAPI 3 pixels, FITC 3.0 %'
    """
    parts = []
    for name, (count, total) in channels.items():
        if count:
            much = f"{100 * count / total:.1f} %" if count >= 0.001 * total else f"{count} pixel{'s'[: count > 1]}"
            parts.append(f"{name} {much}".strip())
    return f"saturated: {', '.join(parts)}" if parts else ""


class Contrast:
    """The range that one channel of a run is shown in.

    Parameters
    ----------
    dtype
        Of its pixels.
    channel
        Whose contrast it is, whatever the run.

    Attributes
    ----------
    by_hand : bool
        The user has chosen it.
    known : bool
        It was chosen, by the user or from a frame.
    reach : tuple of float
        How far sliders for it reach; it only grows.
    full : float
        The value of saturated pixels, if there were any; else 0.
    marking : bool
        Whether the range is to end there, so that a colour marks them.
    """

    def __init__(self, dtype: np.dtype[Any], channel: Hashable = None) -> None:
        self.dtype, self.channel = dtype, channel
        self.marking = False
        self.automatic()

    def automatic(self) -> None:
        """Begin anew, with the next frame."""
        self.by_hand = self.known = False
        self._limits: Limits = (0.0, 1.0)
        self.reach: Limits = (0.0, 1.0)
        self.full = 0.0
        self._recent: deque[Limits] = deque(maxlen=_MEMORY)
        self._random = np.random.default_rng(0)

    @property
    def limits(self) -> Limits:
        """The lowest and the highest value that can be told apart; ``low < high`` always."""
        low, high = self._limits
        return (low, self.full) if self.marking and self.full > low else (low, high)

    def choose(self, limits: Limits) -> None:
        """Take over what the user has chosen; it stays, whatever comes."""
        self.by_hand = self.known = True
        self._limits = limits
        self.reach = (min(limits[0], self.reach[0]), max(limits[1], self.reach[1]))

    def look(self, plane: npt.NDArray[Any]) -> None:
        """Take a new frame into account, unless the user has chosen.

        Parameters
        ----------
        plane
            Its pixels, (y, x).
        """
        if not self.known:
            self.known, self._limits = True, _between(0.0, 0.0, self.dtype)
            self._look(plane)
            self.reach = contrast_range(self._limits, self.dtype, plane)
        elif not self.by_hand:
            before = self._limits
            self._look(plane)
            if self._limits != before:
                self.measure(plane)

    def _look(self, plane: npt.NDArray[Any]) -> None:
        now = _robust_range(plane, self._random)
        if now is None or self.dtype.kind == "b":
            return
        if now[0] == now[1]:  # it tells how dark it is, and nothing of how bright others are
            if not self._recent:
                bright = self.dtype.kind == "u" and now[0] > np.iinfo(self.dtype).max / 2
                self._limits = _between(now[0] - bright, now[1], self.dtype)
            return
        (low, high), width = self._limits, self._limits[1] - self._limits[0]
        if not self._recent or now[1] - now[0] > _ANOTHER * width:
            self._recent.clear()
            low, high = now
        else:
            reach = max(high, now[1]) - min(low, now[0])
            least, most = min(each[0] for each in self._recent), max(each[1] for each in self._recent)
            least, most = min(least, now[0]), max(most, now[1])
            full = len(self._recent) == _MEMORY
            if now[1] > high or (full and most < high - _UNUSED * width):
                high = most + _SPARE * reach
            if now[0] < low or (full and least > low + _UNUSED * width):
                low = least - _SPARE_BELOW * reach
        self._recent.append(now)
        self._limits = _between(low, high, self.dtype)

    def measure(self, plane: npt.NDArray[Any]) -> int:
        """Let the sliders reach as far as a frame does. Return how many of its pixels are saturated."""
        low, high = contrast_range(self._limits, self.dtype, plane)
        self.reach = (min(low, self.reach[0]), max(high, self.reach[1]))
        count, value = saturation(plane)
        self.full = max(self.full, value)
        return count


class Contrasts:
    """The contrast of all channels that a viewer shows.

    What the user chooses holds for the channel, in all its runs; what is chosen from the frames, for one run.
    """

    def __init__(self) -> None:
        self._all: dict[tuple[Hashable, Hashable, np.dtype[Any]], Contrast] = {}  # by run and channel
        self._chosen: dict[tuple[Hashable, np.dtype[Any]], Limits] = {}  # by channel
        self._marking = False

    def __iter__(self) -> Iterator[Contrast]:
        return iter(tuple(self._all.values()))

    def of(self, run: Hashable, channel: Hashable, dtype: np.dtype[Any]) -> Contrast:
        """Return the contrast of a channel.

        Parameters
        ----------
        run
            Which run.
        channel
            Which channel of all runs: its name.
        dtype
            Of the pixels; those of another are shown in a range of their own.
        """
        contrast = self._all.get((run, channel, dtype))
        if contrast is None:
            contrast = self._all[run, channel, dtype] = Contrast(dtype, channel)
            contrast.marking = self._marking
            if (limits := self._chosen.get((channel, dtype))) is not None:
                contrast.choose(limits)
        return contrast

    def choose(self, contrast: Contrast, limits: Limits) -> None:
        """Note that the user has chosen limits, also for the next runs and those where nothing was chosen."""
        key = (contrast.channel, contrast.dtype)
        self._chosen[key] = limits
        contrast.choose(limits)
        for other in self:
            if (other.channel, other.dtype) == key and not other.by_hand:
                other.choose(limits)

    def automatic(self, channel: Hashable = None) -> None:
        """Choose from the frames again: of a channel, or of all."""
        self._chosen = {key: limits for key, limits in self._chosen.items() if channel not in (None, key[0])}
        for each in self:
            if channel in (None, each.channel):
                each.automatic()

    @property
    def marking(self) -> bool:
        """Whether saturated pixels are marked."""
        return self._marking

    @marking.setter
    def marking(self, on: bool) -> None:
        self._marking = on
        for each in self:
            each.marking = on

    def forget(self, runs: Container[Hashable]) -> None:
        """Keep only what belongs to `runs`, and what the user has chosen."""
        self._all = {key: each for key, each in self._all.items() if key[0] in runs}


def _between(low: float, high: float, dtype: np.dtype[Any]) -> Limits:
    """Return limits that a viewer can take: whole numbers for integers, never beyond the dtype, never equal."""
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = max(np.floor(low), info.min), min(np.ceil(high), info.max)
        if low >= info.max:  # all are saturated, which is bright
            low = high - 1
    # Beyond 2**53 a float plus one is itself; and what napari adds to the limits must not overflow.
    low = min(max(float(low), -_LARGEST), math.nextafter(_LARGEST, 0))
    high = min(float(high), _LARGEST)
    return (low, high if high > low else max(low + 1.0, math.nextafter(low, math.inf)))


def _robust_range(plane: npt.NDArray[Any], random: np.random.Generator) -> Limits | None:
    """Return the range of what has an extent; twice the same value if there is no other; None if none is finite."""
    tiles = _tiles(plane, random)
    if tiles.dtype.kind == "f" and not (finite := np.isfinite(tiles)).all():
        tiles = np.where(finite, tiles, tiles.dtype.type(np.nan))
    pixels = _sorted(tiles)
    count = pixels.size
    if not count:
        return None
    smooth = _sorted(_without_lone(tiles))
    usual = pixels[count // 2]
    if pixels[count // 4] == usual == pixels[3 * count // 4]:
        # Zeros, and few molecules: what differs is what is to be seen.
        others = smooth[smooth != usual]
        if others.size < _FEW:
            others = _others(plane, usual)
        if not others.size:
            return (float(usual), float(usual))
        low, high = _ends(_sorted(others), _OUTSIDE)
        return (min(low, float(usual)), max(high, float(usual)))
    low, high = _ends(pixels, _OUTSIDE)
    if smooth.size:
        inner = _ends(smooth, _OUTSIDE_SMOOTH)
        low, high = min(low, inner[0]), max(high, inner[1])
    return (low, high)


def _tiles(plane: npt.NDArray[Any], random: np.random.Generator) -> npt.NDArray[Any]:
    """Return square pieces of a plane, (n, y, x): one at random in each cell of a grid; all of a small plane.

    Pixels at regular distances would see a regular pattern as flat, or miss it.
    """
    height, width = plane.shape
    if plane.size <= _PIXELS:
        return plane[None]
    tall, wide = min(height, _TILE), min(width, _TILE)
    count = _PIXELS / (tall * wide)
    rows = int(np.clip(round(np.sqrt(count * height / width)), 1, max(1, height // tall)))
    columns = int(np.clip(round(count / rows), 1, max(1, width // wide)))
    y = (np.arange(rows)[:, None] + random.random((rows, columns))) / rows * (height - tall + 1)
    x = (np.arange(columns) + random.random((rows, columns))) / columns * (width - wide + 1)
    return np.ascontiguousarray(sliding_window_view(plane, (tall, wide))[y.astype(int), x.astype(int)]).reshape(
        -1, tall, wide
    )


def _without_lone(tiles: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the inner pixels of tiles, none beyond its highest and lowest neighbour (conservative smoothing)."""
    if min(tiles.shape[1:]) < 3:
        return tiles
    inner = tiles[:, 1:-1, 1:-1]
    around = (tiles[:, :-2, 1:-1], tiles[:, 2:, 1:-1], tiles[:, 1:-1, :-2], tiles[:, 1:-1, 2:])
    return _limited(inner, *around)


def _limited(pixels: npt.NDArray[Any], *around: npt.NDArray[Any]) -> npt.NDArray[Any]:
    above, below, left, right = around
    most = np.fmax(np.fmax(above, below), np.fmax(left, right))
    least = np.fmin(np.fmin(above, below), np.fmin(left, right))
    limited: npt.NDArray[Any] = np.fmax(np.fmin(pixels, most), least)
    return limited


def _others(plane: npt.NDArray[Any], usual: Any) -> npt.NDArray[Any]:
    """Return what differs from the usual value in a whole plane: without lone pixels, if anything else does."""
    differs = plane != usual
    if plane.dtype.kind == "f":
        differs &= np.isfinite(plane)
    height, width = plane.shape
    rows = np.flatnonzero(differs.any(axis=1))
    y, x = np.divmod(np.flatnonzero(differs[rows])[:_PIXELS], width)
    y = rows[y]
    around = (
        plane[np.maximum(y - 1, 0), x],
        plane[np.minimum(y + 1, height - 1), x],
        plane[y, np.maximum(x - 1, 0)],
        plane[y, np.minimum(x + 1, width - 1)],
    )
    pixels = plane[y, x]
    limited = _limited(pixels, *around)
    limited = limited[limited != usual]
    if plane.dtype.kind == "f":
        limited = limited[np.isfinite(limited)]
    return limited if limited.size else pixels


def _sorted(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the values in order, without NaN."""
    # Of small integers this is a radix sort, 30 times as fast as the default.
    ordered = np.sort(pixels, axis=None, kind="stable" if pixels.dtype.itemsize <= 2 else None)
    return ordered[: ordered.size - np.count_nonzero(np.isnan(ordered))] if ordered.dtype.kind == "f" else ordered


def _ends(ordered: npt.NDArray[Any], outside: float) -> Limits:
    """Return the lowest and the highest of values in order, but for a part of them at both ends."""
    skipped = int(outside * ordered.size)
    return (float(ordered[skipped]), float(ordered[-1 - skipped]))
