"""The growing array that a viewer shows.

A `Stack` holds planes by index, as they come: in any order, with gaps, from any number upwards, even with an axis
more than it began with. A `StackView` is what a viewer takes for an array: it has a shape and answers to basic
indexing, reads the planes it is asked for and gives zeros where nothing has come.

Threads: one thread (the receiver's) usually puts, another (the GUI's) reads. Readers take no lock at all, so nothing
that a GUI does can hold up the receiver. They read one `StackLayout`, which is replaced as a whole whenever the extent
changes; its planes are added to in place, each before the extent that includes it. What puts, adds an axis or clears
holds the stack's lock; `History`'s is taken under it, never the other way round, and no lock is held during I/O. A
call that is under way while an axis is added or the stack is cleared may find gaps where planes have gone since. Do
not call a stack from a destructor: the garbage collector may run it while its own thread holds the lock.
"""

from __future__ import annotations

import operator
import threading
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from scopecast.frames.arrays import COLOUR_LENGTHS
from scopecast_viewers.stacks.history import Held, Share, StackLayout
from scopecast_viewers.stacks.plane import Sent
from scopecast_viewers.stacks.view import NOTHING_FIXED, StackView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from scopecast_viewers.stacks.history import History
    from scopecast_viewers.stacks.plane import Plane


#: Channels, positions, fields and cameras: there are few of each, and for each one wants to know the newest plane.
_PLACED = frozenset("cpg") | {"cam"}


class Stack:
    """Planes by index, some in memory, some in the scratch file, some forgotten.

    Parameters
    ----------
    axes : tuple of str
        Names of the leading axes, slowest first, such as ``("t", "c", "z")``. May be empty.
    plane_shape : tuple of int
        (y, x), or (y, x, 3 or 4) for colour.
    dtype : dtype-like
        Of the pixels; taken in native byte order.
    history : History
        Decides what stays in memory; shared by all stacks of a viewer.
    preview : bool
        The planes stay in memory whatever the budget, since a preview shows only the newest at each index. For streams
        without a growing axis.
    sent : Sent
        What the frames were, as they were published.

    Attributes
    ----------
    plane_shape, dtype, history, sent
        As above; the dtype in native byte order.
    zero : ndarray
        The plane that is shown where nothing has come; one for all such places, read-only.
    version : int
        Grows with every plane put, axis added and clear.
    newest : tuple of int or None
        Index of the plane put last, None before the first.

    Raises
    ------
    ValueError
        If an axis is named twice or the plane's shape is neither of the two forms.
    """

    def __init__(
        self,
        axes: tuple[str, ...],
        plane_shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        history: History,
        *,
        preview: bool = False,
        sent: Sent | None = None,
    ) -> None:
        if len(set(axes)) != len(axes):
            raise ValueError(f"an axis is named twice in {axes}")
        if len(plane_shape) != 2 and not (len(plane_shape) == 3 and plane_shape[2] in COLOUR_LENGTHS):
            raise ValueError(f"a plane is (y, x), (y, x, 3) or (y, x, 4), not {plane_shape}")
        self.plane_shape = tuple(plane_shape)
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.sent = sent or Sent(dtype=self.dtype.name)
        self.history = history
        self._share = Share(self.plane_shape, self.dtype, pinned=preview)
        # Zeros of the system: no memory is used until somebody reads them, and nobody can write them.
        self.zero: npt.NDArray[Any] = np.zeros(self.plane_shape, self.dtype)
        self.zero.flags.writeable = False
        nowhere = (0,) * len(axes)
        self._layout = StackLayout(tuple(axes), nowhere, nowhere, {})
        self.newest: tuple[int, ...] | None = None
        self._latest: dict[int, tuple[int, ...]] = {}  # the same of each channel
        self._places: dict[tuple[int, ...], tuple[int, tuple[int, ...]]] = {}  # of each place: when, and the index
        self.version = 0
        self._lock = threading.Lock()

    @property
    def layout(self) -> StackLayout:
        """Axes, extent and planes of one moment."""
        return self._layout

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the leading axes, slowest first."""
        return self._layout.axes

    @property
    def origin(self) -> tuple[int, ...]:
        """Lowest index seen on each leading axis; zeros before the first plane."""
        return self._layout.origin

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent of each leading axis, from the lowest to the highest index seen; zeros before the first plane."""
        return self._layout.shape

    @property
    def full_shape(self) -> tuple[int, ...]:
        """Extent of the leading axes, then the plane's."""
        return self._layout.shape + self.plane_shape

    @property
    def is_labels(self) -> bool:
        """Whether its planes are labels; else they are images."""
        return self.sent.kind == "labels"

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels that have planes, by their index on the axis ``"c"`` (0 without one), in order of the first."""
        return tuple(self._latest)

    def latest(self, channel: int) -> tuple[int, ...] | None:
        """Return the index of the plane of a channel put last, None before the first."""
        return self._latest.get(channel)

    def latest_at(self, fixed: Mapping[str, int]) -> tuple[int, ...] | None:
        """Return the index of the plane put last at a channel, position, field or camera.

        How long that takes grows with the number of places, not with that of planes; where all of these axes are fixed,
        with neither.

        Parameters
        ----------
        fixed : mapping of str to int
            Absolute index along some of ``"c"``, ``"p"``, ``"g"`` and ``"cam"``; axes that the stack lacks do not
            count.

        Returns
        -------
        tuple of int or None
            None before the first.
        """
        axes = self.axes
        there = [name for name in axes if name in _PLACED]
        if fixed.keys() >= set(there):
            last = self._places.get(tuple(fixed[name] for name in there))
            return last[1] if last is not None and len(last[1]) == len(axes) else None
        wanted = [(axes.index(name), at) for name, at in fixed.items() if name in axes]
        found = [
            (when, index)
            for when, index in list(self._places.values())
            if len(index) == len(axes) and all(index[axis] == at for axis, at in wanted)
        ]
        return max(found)[1] if found else None

    @property
    def places(self) -> tuple[tuple[int, ...], ...]:
        """The index of the plane put last at each channel, position, field and camera, in order of the first there."""
        return tuple(index for _, index in list(self._places.values()))

    @property
    def count(self) -> int:
        """Planes that can be read, from memory or from the scratch file."""
        return self._share.count

    @property
    def nbytes(self) -> int:
        """Bytes of those."""
        return self._share.nbytes

    @property
    def forgotten(self) -> int:
        """Planes that came, but read as gaps now because neither memory nor disk had room."""
        return self._share.forgotten

    def put(self, index: Sequence[int], plane: Plane, tag: object = None, *, late: bool = False) -> None:
        """Put a plane in its place, over what was there; never waits for the disk.

        Parameters
        ----------
        index : sequence of int
            One for each leading axis, not negative.
        plane : Plane
            Of the stack's plane shape and dtype. It is kept, not copied, and must not change afterwards.
        tag : object
            Kept with the plane, see `tag`.
        late : bool
            It is no news: what was put last, there and in the stack, stays so if there is any.

        Raises
        ------
        ValueError
            If the index has a wrong length or a negative number, or the plane another shape or dtype.
        """
        place = tuple(operator.index(number) for number in index)
        if plane.shape != self.plane_shape or plane.dtype != self.dtype:
            raise ValueError(
                f"a plane of shape {plane.shape} and dtype {plane.dtype} does not fit a stack of "
                f"{self.plane_shape}, {self.dtype}"
            )
        if isinstance(plane, np.ndarray) and plane.flags.writeable:
            plane = plane.view()
            plane.flags.writeable = False
        held = Held(plane, self._share, tag)
        with self._lock:
            layout = self._layout
            if len(place) != len(layout.axes) or any(number < 0 for number in place):
                raise ValueError(f"{place} is not an index into the axes {layout.axes}")
            replaced = layout.planes.get(place)
            # First the plane, then the extent that includes it: a reader never finds an unfilled border. First the
            # new plane, then the end of the old one (in `keep`): a reader never finds a gap in between.
            layout.planes[place] = held
            self._extend(layout, place)
            dropped = self.history.keep(held, replaced)
            channel, at = _channel(layout.axes, place), _place(layout.axes, place)
            if not (late and self.newest is not None):
                self.newest = place
            if not (late and channel in self._latest):
                self._latest[channel] = place
            if not (late and at in self._places):
                self._places[at] = (self.version + 1, place)
            self.version += 1  # last: who reads it first, and then what is newest, has not missed that
        del dropped, replaced  # outside the lock, since freeing memory takes its time

    def add_axis(self, name: str, position: int) -> None:
        """Insert a leading axis; the planes that are there get index 0 on it.

        Parameters
        ----------
        name : str
            Of the new axis.
        position : int
            Its place among the leading axes, 0 for the slowest.

        Raises
        ------
        ValueError
            If there is an axis of this name, or the position is not between 0 and the number of axes.
        """
        with self._lock:
            axes, origin, shape, planes = self._layout
            if name in axes:
                raise ValueError(f"there is an axis {name!r} already among {axes}")
            if not 0 <= position <= len(axes):
                raise ValueError(f"position {position} is not between 0 and {len(axes)}, the number of axes")

            def insert(numbers: tuple[int, ...], number: int = 0) -> tuple[int, ...]:
                return (*numbers[:position], number, *numbers[position:])

            self._layout = StackLayout(
                (*axes[:position], name, *axes[position:]),
                insert(origin),
                insert(shape, 1 if planes else 0),
                {insert(index): held for index, held in planes.items()},
            )
            if self.newest is not None:
                self.newest = insert(self.newest)
            self._latest = {channel: insert(index) for channel, index in self._latest.items()}
            there = [(when, insert(index)) for when, index in self._places.values()]
            self._places = {_place(self.axes, index): (when, index) for when, index in there}
            self.version += 1

    def plane(self, index: Sequence[int]) -> Plane | None:
        """Return the plane at an index; may wait for the disk.

        Parameters
        ----------
        index : sequence of int
            Absolute: as it was put, not counted from `origin`.

        Returns
        -------
        Plane or None
            As it was put if it is in memory, else a read-only array. None if nothing has come or it was forgotten.
        """
        return self.read(self._layout, tuple(index))

    def state(self, index: Sequence[int]) -> Literal["here", "missing", "forgotten"]:
        """Return what there is at an index.

        Parameters
        ----------
        index : sequence of int
            Absolute: as it was put.

        Returns
        -------
        str
            "here" (in memory or in the scratch file), "missing" (nothing has come) or "forgotten".
        """
        held = self._layout.planes.get(tuple(index))
        if held is None:
            return "missing"
        return "forgotten" if held.lost else "here"

    def tag(self, index: Sequence[int]) -> object:
        """Return what was put with the plane at an index.

        Parameters
        ----------
        index : sequence of int
            Absolute: as it was put.

        Returns
        -------
        object
            The tag; None if nothing has come, or it was forgotten.
        """
        held = self._layout.planes.get(tuple(index))
        return None if held is None else held.tag

    def discard(self, index: Sequence[int]) -> bool:
        """Give up the plane at an index, without it counting as forgotten; the extent remains.

        Parameters
        ----------
        index : sequence of int
            Absolute: as it was put.

        Returns
        -------
        bool
            Whether there was one.
        """
        place = tuple(index)
        with self._lock:
            layout = self._layout
            held = layout.planes.get(place)
            if held is None:
                return False
            planes = {at: kept for at, kept in layout.planes.items() if at != place}
            self._layout = layout._replace(planes=planes)
            if self.newest == place:
                self.newest = None
            if self._latest.get(channel := _channel(layout.axes, place)) == place:
                before = [(channel, at) for at in planes if _channel(layout.axes, at) == channel]
                others = {c: at for c, at in self._latest.items() if c != channel}
                self._latest = {**others, **dict(before[-1:])}
            if self._places.get(at_place := _place(layout.axes, place), (0, ()))[1] == place:
                left = [at for at in planes if _place(layout.axes, at) == at_place]
                self._places = {key: last for key, last in self._places.items() if key != at_place}
                if left:
                    self._places[at_place] = (self.version, left[-1])
            self.version += 1
        self.history.release([held])
        return True

    def clear(self) -> None:
        """Give up all planes and the extent; the axes remain."""
        with self._lock:
            axes, _, _, planes = self._layout
            nowhere = (0,) * len(axes)
            self._layout = StackLayout(axes, nowhere, nowhere, {})
            self.newest, self._latest, self._places = None, {}, {}
            self.version += 1
        self.history.release(planes.values())  # nobody adds to these any more: they belong to the old layout

    def read(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        """Return the plane at an index of a layout; may wait for the disk.

        Parameters
        ----------
        layout : StackLayout
            This stack's, of now or of a moment ago.
        index : tuple of int
            Absolute: as it was put.

        Returns
        -------
        Plane or None
            As `plane`.
        """
        planes = layout.planes
        held = planes.get(index)
        while held is not None:
            plane = self.history.read(held)
            if plane is not None:
                return plane
            # Either it was forgotten, or another plane took its place while it was read.
            found = planes.get(index)
            if found is held:
                return None
            held = found
        return None

    def view(self, fixed: Mapping[str, int] = NOTHING_FIXED) -> StackView:
        """Return the stack as an array, with some axes fixed.

        Parameters
        ----------
        fixed : mapping of str to int
            Absolute index on the axes that the array is not to have, such as ``{"c": 1}`` for the layer of a channel.

        Returns
        -------
        StackView
            Grows with the stack.

        Raises
        ------
        ValueError
            If the stack has no such axis.
        """
        unknown = sorted(set(fixed) - set(self.axes))
        if unknown:
            raise ValueError(f"the stack has axes {self.axes}, not {', '.join(unknown)}")
        return StackView(self, fixed)

    def _extend(self, layout: StackLayout, place: tuple[int, ...]) -> None:
        axes, origin, shape, planes = layout
        if len(planes) == 1:
            # The only plane, whether the first of all or one more at the same place.
            origin, shape = place, (1,) * len(place)
        elif all(low <= at < low + size for low, at, size in zip(origin, place, shape, strict=True)):
            return
        else:
            ends = tuple(max(low + size, at + 1) for low, at, size in zip(origin, place, shape, strict=True))
            origin = tuple(map(min, origin, place))
            shape = tuple(map(operator.sub, ends, origin))
        self._layout = StackLayout(axes, origin, shape, planes)


def _place(axes: tuple[str, ...], index: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(at for name, at in zip(axes, index, strict=True) if name in _PLACED)


def _channel(axes: tuple[str, ...], index: tuple[int, ...]) -> int:
    return index[axes.index("c")] if "c" in axes else 0
