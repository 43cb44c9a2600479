"""How the axes of a stack become ImageJ's three: channels, slices and frames.

ImageJ's hyperstacks have c, z and t. Every other axis (positions, a grid, the files of a batch) is folded into the
frames: the frame slider runs through all of their combinations, time point after time point, and the slice labels say
which one it is. Everything is arithmetic on one `StackLayout`: a stack of a million planes costs what one of ten does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopecast_viewers.stacks.history import StackLayout

__all__ = ["Folding"]


class _Extent(NamedTuple):
    low: int  # lowest index
    size: int


class Folding(NamedTuple):
    """Where the planes of a stack are in a hyperstack.

    Attributes
    ----------
    axes
        The stack's, slowest first.
    extents
        For each of them the lowest index, and how many there are.
    """

    axes: tuple[str, ...]
    extents: tuple[_Extent, ...]

    @classmethod
    def of(cls, layout: StackLayout, announced: Mapping[str, int]) -> Folding:
        """Return the folding for a layout.

        Parameters
        ----------
        layout
            The stack's, with at least one plane.
        announced
            How many positions an axis will have in the end, where that is known. The time points are not there before
            their frames are; the positions of the other axes are, so that a hyperstack need not be laid out anew with
            every plane of its first time point.

        Examples
        --------
        >>> from scopecast_viewers.stacks.history import StackLayout
        >>> folding = Folding.of(StackLayout(("t", "c", "z"), (2, 0, 0), (3, 1, 2), {}), {"c": 2, "z": 5, "t": 100})
        >>> folding.dimensions
        (2, 5, 3)
        >>> folding.number((4, 1, 2)), folding.place(26)
        (26, (4, 1, 2))
        """
        extents = []
        growing = _growing(layout.axes)
        for name, low, size in zip(layout.axes, layout.origin, layout.shape, strict=True):
            first, count = low, max(1, size)
            if name != growing and announced.get(name, 0) > 1:
                count = max(low + size, announced[name])
                first = 0
            elif name == "c":
                first, count = 0, low + size
            extents.append(_Extent(first, count))
        return cls(layout.axes, tuple(extents))

    @property
    def dimensions(self) -> tuple[int, int, int]:
        """Number of channels, of slices and of frames."""
        sizes = {name: extent.size for name, extent in zip(self.axes, self.extents, strict=True)}
        channels, slices = sizes.pop("c", 1), sizes.pop("z", 1)
        return channels, slices, math.prod(sizes.values())

    def holds(self, where: Mapping[str, int]) -> bool:
        """Whether a place has slices, along those of its axes that the stack has."""
        return all(
            low <= where[name] < low + size
            for name, (low, size) in zip(self.axes, self.extents, strict=True)
            if name in where
        )

    def position(self, place: tuple[int, ...]) -> tuple[int, int, int]:
        """Return channel, slice and frame, from 1, of an index of the stack; clipped to what there is."""
        channel = slice_ = frame = 0
        for axis in _slowest_first(self.axes):
            name, (low, size) = self.axes[axis], self.extents[axis]
            number = min(max(place[axis] - low, 0), size - 1)
            if name == "c":
                channel = number
            elif name == "z":
                slice_ = number
            else:
                frame = frame * size + number
        return channel + 1, slice_ + 1, frame + 1

    def number(self, place: tuple[int, ...]) -> int:
        """Return which of the hyperstack's slices, from 1, is the plane at an index of the stack."""
        channels, slices, _ = self.dimensions
        channel, slice_, frame = self.position(place)
        return ((frame - 1) * slices + slice_ - 1) * channels + channel

    def place(self, number: int) -> tuple[int, ...]:
        """Return the stack's index of slice `number` of the hyperstack, from 1."""
        channels, slices, _ = self.dimensions
        rest, channel = divmod(number - 1, channels)
        frame, slice_ = divmod(rest, slices)
        place = [0] * len(self.axes)
        for axis in reversed(_slowest_first(self.axes)):
            name, (low, size) = self.axes[axis], self.extents[axis]
            if name == "c":
                at = channel
            elif name == "z":
                at = slice_
            else:
                frame, at = divmod(frame, size)
            place[axis] = low + at
        return tuple(place)

    def only_longer(self, older: Folding) -> bool:
        """Whether this is `older` with more frames at its end, so that every slice has kept its number."""
        if self.axes != older.axes:
            return False
        growing = _growing(self.axes)
        return all(
            new == old or (name == growing and new.low == old.low and new.size > old.size)
            for name, new, old in zip(self.axes, self.extents, older.extents, strict=True)
        )


def _slowest_first(axes: tuple[str, ...]) -> list[int]:
    """Return the positions of the axes in the order in which the frame slider runs through them."""
    return sorted(range(len(axes)), key=lambda axis: axes[axis] != "t")


def _growing(axes: tuple[str, ...]) -> str | None:
    """Return the axis along which a hyperstack grows at its end."""
    return next((axes[axis] for axis in _slowest_first(axes) if axes[axis] not in ("c", "z")), None)
