"""A stack as it is at one moment, to be copied while frames go on coming."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scopecast_viewers.stacks.history import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from scopecast_viewers.stacks.history import History, StackLayout
    from scopecast_viewers.stacks.plane import Plane

__all__ = ["Copied", "Moment"]


class Copied(NamedTuple):
    """What came of copying.

    Attributes
    ----------
    pixels
        The copy: the free axes, then the plane's; zeros where nothing had come.
    lost
        Planes that were forgotten, or unreadable, before they could be copied.
    """

    pixels: npt.NDArray[Any]
    lost: int


class Moment:
    """The planes that a stack has now. Planes in memory stay until the moment is gone; those on disk may be forgotten.

    Parameters
    ----------
    layout
        The stack's, of now.
    fixed
        Absolute index on the axes that the copy is not to have.
    instead
        Planes to take instead of the stack's, by absolute index.
    plane_shape, dtype
        Of the stack.
    history
        Reads the planes that are on disk.

    Attributes
    ----------
    extent : dict of str to int
        Of each free axis, in order.
    shape : tuple of int
        Of the copy: the free axes, then the plane's.
    """

    def __init__(
        self,
        layout: StackLayout,
        fixed: Mapping[str, int],
        instead: Mapping[tuple[int, ...], Plane | None],
        plane_shape: tuple[int, ...],
        dtype: np.dtype[Any],
        history: History,
    ) -> None:
        self._history, self._dtype, self._plane_shape = history, dtype, plane_shape
        self._ranges = [
            range(fixed[name], fixed[name] + 1) if name in fixed else range(low, low + size)
            for name, low, size in zip(layout.axes, layout.origin, layout.shape, strict=True)
        ]
        planes = layout.planes.copy()  # in one step of the interpreter, while the receiver's thread may add to it
        self._planes: dict[tuple[int, ...], Plane | Held | None] = {}
        for index, held in planes.items():
            if all(at in numbers for at, numbers in zip(index, self._ranges, strict=True)):
                plane = held.plane
                self._planes[index] = held if plane is None else plane
        self._planes |= instead
        self.extent = {
            name: len(numbers) for name, numbers in zip(layout.axes, self._ranges, strict=True) if name not in fixed
        }
        self.shape = (*self.extent.values(), *plane_shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the copy."""
        return math.prod(self.shape) * self._dtype.itemsize

    def copy(self, copied: Callable[[int, int], None] = lambda done, of: None) -> Copied:
        """Return a copy of all planes; may wait for the disk. Called from any thread, once.

        Parameters
        ----------
        copied
            Told after each plane how many of how many are done.

        Raises
        ------
        MemoryError
            If there is not enough memory.
        """
        pixels = np.zeros(self.shape, self._dtype)
        rows = pixels.reshape((*(len(numbers) for numbers in self._ranges), *self._plane_shape))
        lost, of = 0, len(self._planes)
        while self._planes:
            index, held = self._planes.popitem()  # let go of one after the other
            plane = self._history.read(held) if isinstance(held, Held) else held
            if plane is None:
                lost += held is not None
            else:
                where = tuple(at - numbers[0] for at, numbers in zip(index, self._ranges, strict=True))
                rows[where] = np.asarray(plane)
            copied(of - len(self._planes), of)
        return Copied(pixels, lost)
