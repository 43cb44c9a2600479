"""A stack as an array: what a viewer is given to show.

A `StackView` has a shape and answers to numpy's basic indexing. It reads only the planes that it is asked for, from
memory or from the scratch file, and fills the places where nothing has come with zeros. It knows nothing of locks:
every call takes one `StackLayout` of the stack and keeps to it, so that the extent cannot grow in the middle.
"""

from __future__ import annotations

import math
import operator
from itertools import product
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import EllipsisType

    import numpy.typing as npt

    from scopecast_viewers.stacks.history import History, StackLayout
    from scopecast_viewers.stacks.plane import Plane

NOTHING_FIXED: Final[Mapping[str, int]] = {}


class _Planes(Protocol):
    """What a view needs of a `Stack`."""

    @property
    def history(self) -> History: ...

    @property
    def plane_shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def zero(self) -> npt.NDArray[Any]: ...

    @property
    def layout(self) -> StackLayout: ...

    def latest_at(self, fixed: Mapping[str, int]) -> tuple[int, ...] | None: ...

    def read(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None: ...


class StackView:
    """A stack as an array, with some axes fixed: what napari takes as a layer's data.

    Its leading axes are those of the stack that are not fixed, counted from the stack's `origin`; then come the
    plane's. All views of a stack share its extent, so that the layers of all channels have the same sliders. It grows
    while others put planes; every single call is consistent in itself. Made by `Stack.view`.

    Parameters
    ----------
    stack : Stack
        What it shows.
    fixed : mapping of str to int
        Absolute index on the axes that are left out.
    """

    def __init__(self, stack: _Planes, fixed: Mapping[str, int] = NOTHING_FIXED) -> None:
        self._stack = stack
        self._fixed = dict(fixed)

    @property
    def stack(self) -> _Planes:
        """What it shows."""
        return self._stack

    @property
    def fixed(self) -> dict[str, int]:
        """Absolute index on the axes that are left out."""
        return dict(self._fixed)

    @property
    def left_out(self) -> frozenset[str]:
        """Axes of the stack that the array does not have."""
        return frozenset(self._fixed)

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """(y, x), or (y, x, 3 or 4), of what it has at each index of the leading axes."""
        return self._stack.plane_shape

    @property
    def layout(self) -> StackLayout:
        """Axes, extent and planes that it goes by: the stack's of now."""
        return self._stack.layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of the leading axes, then the plane's."""
        layout = self.layout
        free = (size for name, size in zip(layout.axes, layout.shape, strict=True) if name not in self.left_out)
        return (*free, *self.plane_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels, native byte order."""
        return self._stack.dtype

    @property
    def ndim(self) -> int:
        """Number of axes, the plane's included."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of pixels."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        """Return a part of the array; may wait for the disk.

        Parameters
        ----------
        key : int, slice, Ellipsis or a tuple of these
            As numpy's basic indexing. Anything else numpy knows is applied to the whole array, which must then fit into
            memory.

        Returns
        -------
        ndarray or scalar
            A read-only view of the plane if the leading axes select exactly one, a new array otherwise; zeros where
            nothing has come or planes were forgotten.

        Raises
        ------
        IndexError
            As numpy's.
        """
        basic = _basic(key if isinstance(key, tuple) else (key,))
        if basic is None:
            return np.asarray(self)[key]
        return self._select(basic)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return the whole array; may wait for the disk.

        Parameters
        ----------
        dtype : dtype-like, optional
            Of the result, default that of the stack.
        copy : bool, optional
            True: always a copy. False: never; an error if there is more than one plane. Default: where needed.

        Returns
        -------
        ndarray
            Of the view's shape.

        Raises
        ------
        ValueError
            If `copy` is False and a copy is needed.
        """
        whole: npt.NDArray[Any] = self[...]
        if copy is False and (whole.flags.owndata or (dtype is not None and np.dtype(dtype) != whole.dtype)):
            raise ValueError("several planes, or another dtype, cannot be had without a copy")
        return whole.astype(whole.dtype if dtype is None else dtype, copy=bool(copy))

    def astype(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return the whole array with another dtype, as numpy does; may wait for the disk."""
        return np.asarray(self).astype(dtype)

    def _select(self, given: tuple[int | slice | EllipsisType, ...]) -> Any:
        stack, fixed, layout = self._stack, self._fixed, self.layout
        free = [at for at, name in enumerate(layout.axes) if name not in self.left_out]
        key = _padded(given, len(free) + len(self.plane_shape))
        # As on numpy's arrays: what is out of range is an error even where another axis selects nothing.
        plane_key = (*key[len(free) :], ...)
        part_shape = np.broadcast_to(np.zeros((), stack.dtype), self.plane_shape)[plane_key].shape
        choices: list[Sequence[int]] = [(fixed.get(name, 0),) for name in layout.axes]
        lead: list[int] = []  # extents of what is sliced
        for at, chosen in zip(free, key, strict=False):
            low, size = layout.origin[at], layout.shape[at]
            if isinstance(chosen, slice):
                start, stop, step = chosen.indices(size)
                choices[at] = range(start + low, stop + low, step)
                lead.append(len(choices[at]))
            elif -size <= chosen < size:
                choices[at] = (chosen % size + low,)
            else:
                raise IndexError(f"index {chosen} is out of bounds for axis {free.index(at)} with size {size}")

        if math.prod(lead) == 1:
            plane = self._read_alone(layout, tuple(choice[0] for choice in choices))
            part = (stack.zero if plane is None else np.asarray(plane))[plane_key]
            part = part[(None,) * len(lead)]
            return part if part.ndim else part[()]
        several = np.zeros((*lead, *part_shape), stack.dtype)
        rows = several.reshape((math.prod(lead), *part_shape))
        for row, index in enumerate(product(*choices)):
            plane = self._read(layout, index)
            if plane is not None:
                rows[row] = np.asarray(plane)[plane_key]
        return several

    def _read(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        """Return the plane at an absolute index of the stack; None where there is none."""
        return self._stack.read(layout, index)

    def _read_alone(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        """Do the same where nothing but this plane is asked for."""
        return self._read(layout, index)

    def __repr__(self) -> str:
        return f"StackView(shape={self.shape}, dtype={self.dtype}, fixed={self._fixed})"


def _basic(key: tuple[Any, ...]) -> tuple[int | slice | EllipsisType, ...] | None:
    """Return the key with plain ints; None if it is not one of numpy's basic indexing."""
    plain: list[int | slice | EllipsisType] = []
    for part in key:
        if part is Ellipsis or isinstance(part, slice):
            plain.append(part)
        elif isinstance(part, (bool, np.bool_)) or (isinstance(part, np.ndarray) and part.ndim > 0):
            return None
        else:
            try:
                plain.append(operator.index(part))
            except TypeError:
                return None
    return tuple(plain)


def _padded(key: tuple[int | slice | EllipsisType, ...], ndim: int) -> tuple[int | slice, ...]:
    """Return a key of exactly `ndim` parts, with slices for an Ellipsis and for what is left out."""
    given = [part for part in key if part is not Ellipsis]
    if len(key) - len(given) > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    if len(given) > ndim:
        raise IndexError(f"too many indices for array: array is {ndim}-dimensional, but {len(given)} were indexed")
    at = key.index(Ellipsis) if len(given) < len(key) else len(given)
    rest = (slice(None),) * (ndim - len(given))
    return (*given[:at], *rest, *given[at:])
