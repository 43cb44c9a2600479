"""A channel of a stack as the data of a napari layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from scopecast.errors import ScopecastError
from scopecast_viewers.napari.limits import MOST_STEPS
from scopecast_viewers.receiving.exporting import is_preview
from scopecast_viewers.stacks.moment import Moment
from scopecast_viewers.stacks.pages import GiB
from scopecast_viewers.stacks.view import NOTHING_FIXED, StackView

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from scopecast_viewers.stacks.history import StackLayout
    from scopecast_viewers.stacks.plane import Plane
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LayerData"]

#: An axis that is said to be longer is not believed before its frames come.
_LARGEST_SIZE = 100_000


class LayerData(StackView):
    """A view of a stack that grows only when the GUI's thread says so, with a place for every axis of the viewer.

    napari reads a layer's shape once and slices it many times; if the stack grew downwards in between, the same index
    would mean another plane. So the extent is that of the last `advance`. napari also aligns the layers' axes from the
    last one: a layer without z beside one with (t, z) would have its t on the slider of z. So all layers have the same
    axes, and those that a stream lacks have an extent of 1, or that of `reach`, with the same plane everywhere.

    Parameters
    ----------
    stack
        What it shows.
    fixed
        Absolute index on the axes that are left out.
    axes
        The leading axes of all layers, in order.
    sizes
        The final extent of each axis where that is known: the sliders reach there from the start.

    Attributes
    ----------
    reach : mapping of str to (low, high)
        Indices that the extent includes, whether planes have come there or not; see `stretch`.
    always : bool
        The stand-in is read wherever a single plane is asked for.
    stand_in : tuple of int or None
        Whose plane is read at a place where none has come: while the sliders follow, a channel shows its newest until
        its own has come. Only where a single plane is asked for, so that nobody who copies the whole finds it there.
    ahead : mapping of str to int, or None
        The absolute positions along the viewer's axes of the frame that is shown, while the sliders are still on their
        way there. It is read wherever a single plane is asked for.
    """

    def __init__(
        self, stack: Stack, fixed: Mapping[str, int], axes: tuple[str, ...], sizes: Mapping[str, int] = NOTHING_FIXED
    ) -> None:
        super().__init__(stack, fixed)
        self.axes = axes
        self.reach: Mapping[str, tuple[int, int]] = {}
        self._sizes = {name: size for name, size in sizes.items() if 0 < size <= _LARGEST_SIZE}
        self._came = stack.layout
        self._frozen = self._announced(self._came)
        self._kept: dict[tuple[int, ...], Plane | None] = {}
        self.stand_in: tuple[int, ...] | None = None
        self.always = False
        self.ahead: Mapping[str, int] | None = None

    @property
    def layout(self) -> StackLayout:
        """Axes, extent and planes as of the last `advance`."""
        return self._frozen

    def advance(self, layout: StackLayout) -> bool:
        """Take over how far the stack has grown, as of `layout`. Return whether the extent has changed."""
        if not set(layout.axes) - self.left_out <= set(self.axes):
            return False  # an axis joined a moment ago: the layer is made anew for it at the next update
        old = (self.origin, self.shape)
        self._came, self._frozen = layout, self._announced(layout)
        return old != (self.origin, self.shape)

    def stretch(self, reach: Mapping[str, tuple[int, int]]) -> bool:
        """Reach at least so far, so that napari slices it there. Return whether the extent has changed."""
        self.reach = reach
        return self.advance(self._came)

    def _announced(self, layout: StackLayout) -> StackLayout:
        """Return a layout that reaches, where the final extent is known, from 0 to there."""
        if not self._sizes and not self.reach:
            return layout
        sizes = [self._sizes.get(name, 0) for name in layout.axes]
        # A run whose numbers begin past its announced end, such as seconds since 1970, does not count from 0.
        known = [size if low < size else 0 for size, low in zip(sizes, layout.origin, strict=True)]
        origin = tuple(0 if size else low for size, low in zip(known, layout.origin, strict=True))
        came = (low + size for low, size in zip(layout.origin, layout.shape, strict=True))
        ends = tuple(max(end, size) for end, size in zip(came, known, strict=True))
        if layout.planes:
            extents = list(zip(layout.axes, origin, ends, strict=True))
            wide = [self._stretched(self.reach.get(name), low, end) for name, low, end in extents]
            origin, ends = (tuple(each) for each in zip(*wide, strict=True)) if wide else (origin, ends)
        shape = tuple(end - low for end, low in zip(ends, origin, strict=True))
        return layout._replace(origin=origin, shape=shape)

    @staticmethod
    def _stretched(reach: tuple[int, int] | None, low: int, end: int) -> tuple[int, int]:
        """Return an extent that reaches so far, too, unless no slider would."""
        if reach is None:
            return low, end
        lowest, highest = min(low, reach[0]), max(end, reach[1] + 1)
        return (lowest, highest) if highest - lowest <= MOST_STEPS else (low, end)

    def keep(self, place: tuple[int, ...]) -> None:
        """Show the plane that is at a place of the stack now, even if another comes there, until `let_go`."""
        self._kept[place] = self._read_alone(self._frozen, place)

    def let_go(self) -> None:
        """Show what the stack has again, everywhere."""
        self._kept = {}

    @property
    def kept(self) -> dict[tuple[int, ...], Plane | None]:
        """The planes that `keep` was called for, by place."""
        return dict(self._kept)

    def moment(self) -> Moment:
        """Return what it shows now, to be copied; its axes are those of the stack, without what is fixed.

        It begins where the layer does and ends where frames have come to, not where the run is announced to end: of a
        run that has just begun, that would be hundreds of times what there is.
        """
        stack, frozen, came = self._stack, self._frozen, self._came
        ends = (low + size for low, size in zip(came.origin, came.shape, strict=True))
        shape = tuple(
            max(1, min(size, end - low)) for low, size, end in zip(frozen.origin, frozen.shape, ends, strict=True)
        )
        layout = frozen._replace(shape=shape)
        return Moment(layout, self._fixed, self._kept, stack.plane_shape, stack.dtype, stack.history)

    def shape_of(self, moment: Moment) -> tuple[int, ...]:
        """Return the shape of a copy: that of the moment, with an extent of 1 along the axes that the stack lacks."""
        return (*(moment.extent.get(name, 1) for name in self.axes), *self.plane_shape)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return all of it, as napari saves a layer; see `StackView`.

        Raises
        ------
        ScopecastError
            If there are previews, whose exact pixels are still on their way from another machine.
        """
        self.check_exact()
        return super().__array__(dtype, copy)

    def check_exact(self) -> None:
        """Raise ScopecastError if there are previews, whose exact pixels are still on their way."""
        layout = self._stack.layout
        planes = tuple(layout.planes.items())
        fixed = [(at, self._fixed[name]) for at, name in enumerate(layout.axes) if name in self._fixed]
        mine = (held.tag for place, held in planes if all(place[at] == index for at, index in fixed))
        if previews := sum(map(is_preview, mine)):
            raise ScopecastError(
                f"neither saved nor copied: {previews} of its planes are previews, whose exact pixels are still on "
                f"their way; try again in a while"
            )

    def __deepcopy__(self, _memo: dict[int, Any]) -> npt.NDArray[Any]:
        """Return what it shows now as an array of numpy's, which no stream changes: so napari duplicates a layer.

        Raises
        ------
        MemoryError
            If there is not enough memory.
        ScopecastError
            If there are previews, whose exact pixels are still on their way from another machine.
        """
        self.check_exact()
        moment = self.moment()
        free = int(psutil.virtual_memory().available)
        if moment.nbytes > free:
            raise MemoryError(
                f"a copy of this layer takes {moment.nbytes / GiB:.1f} GiB of memory, and {free / GiB:.1f} are free"
            )
        return moment.copy().pixels.reshape(self.shape_of(moment))

    def _read(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        return self._kept[index] if index in self._kept else super()._read(layout, index)

    def _read_alone(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        return self._read(layout, index if index in self._kept else self._instead_of(index))

    def _instead_of(self, place: tuple[int, ...]) -> tuple[int, ...]:
        """Return of which place of the stack the plane is that is shown at another one."""
        place = place if self.ahead is None else self.place(self.ahead)
        if self.stand_in is None or len(self.stand_in) != len(place):
            return place
        return self.stand_in if self.always or place not in self._frozen.planes else place

    def shown_at(self, place: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return of which place of the stack a plane is shown at another one; None where there is none."""
        return self._instead_of(place) if self.contains(place) else None

    def contains(self, place: tuple[int, ...]) -> bool:
        """Whether a place of the stack lies within the extent as of the last `advance`."""
        _, origin, shape, _ = self._frozen
        return len(place) == len(origin) and all(
            low <= at < low + size for at, low, size in zip(place, origin, shape, strict=True)
        )

    @property
    def origin(self) -> tuple[int, ...]:
        """The absolute index at which each of `axes` begins."""
        lowest = dict(zip(self._frozen.axes, self._frozen.origin, strict=True))
        return tuple(self._lacked(name)[0] if self.lacks(name) else lowest[name] for name in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each of `axes`, then the plane's."""
        extent = dict(zip(self._frozen.axes, self._frozen.shape, strict=True))
        free = (self._lacked(name)[1] if self.lacks(name) else extent[name] for name in self.axes)
        return (*free, *self.plane_shape)

    def lacks(self, name: str) -> bool:
        """Whether the stack does not know one of `axes`: the same plane is everywhere along it, as far as `reach`."""
        return name in self._fixed or name not in self._frozen.axes

    def _lacked(self, name: str) -> tuple[int, int]:
        """Return where an axis that the stack lacks begins, and its extent."""
        low, high = self.reach.get(name, (0, 0))
        return (low, high - low + 1) if high - low < MOST_STEPS else (0, 1)

    def place(self, where: Mapping[str, int]) -> tuple[int, ...]:
        """Return the stack's index for absolute positions along the viewer's axes."""
        return tuple(self._fixed.get(name, where.get(name, 0)) for name in self._frozen.axes)

    def __getitem__(self, key: Any) -> Any:
        """Return a part of the array, as numpy does; see `StackView.__getitem__`."""
        lacking = [at for at, name in enumerate(self.axes) if self.lacks(name)]
        if not lacking:
            return super().__getitem__(key)
        shape = self.shape
        key = key if isinstance(key, tuple) else (key,)
        if Ellipsis in [part for part in key if part is Ellipsis]:
            at = next(position for position, part in enumerate(key) if part is Ellipsis)
            key = (*key[:at], *(slice(None),) * (self.ndim - len(key) + 1), *key[at + 1 :])
        key = (*key, *(slice(None),) * (self.ndim - len(key)))
        part = super().__getitem__(tuple(chosen for at, chosen in enumerate(key) if at not in lacking))
        # Put those axes back where they are sliced: the same planes at each of their indices.
        inserted = 0
        for at, chosen in enumerate(key):
            if isinstance(chosen, slice):
                if at in lacking:
                    part = part[(slice(None),) * inserted + (None,)]
                    times = len(range(*chosen.indices(shape[at])))
                    part = np.broadcast_to(part, (*part.shape[:inserted], times, *part.shape[inserted + 1 :]))
                inserted += 1
            elif at in lacking and not -shape[at] <= chosen < shape[at]:
                msg = f"index {chosen} is out of bounds for axis {at} with size {shape[at]}"
                raise IndexError(msg)
        return part

    def __repr__(self) -> str:
        return f"LayerData(shape={self.shape}, dtype={self.dtype}, axes={self.axes}, fixed={self._fixed})"
