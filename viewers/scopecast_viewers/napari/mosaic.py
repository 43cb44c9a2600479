"""All fields of a channel as one picture: the data of one layer of napari, however many fields there are.

A layer for each field costs napari some ten milliseconds for each move of a slider; a plate has hundreds. So the fields
are put into one array, each at its place in a `StageLayout`. Only what has changed since is put there anew.

Of a picture that is too large, every second, third, … pixel is shown; of a part of it, a `Window`, all are.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from scopecast_viewers.napari.data import LayerData
from scopecast_viewers.stacks.moment import Copied
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from scopecast_viewers.napari.stage_layout import Place, StageLayout
    from scopecast_viewers.stacks.history import StackLayout
    from scopecast_viewers.stacks.plane import Plane
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["MOST_PIXELS", "Mosaic", "Window"]

#: Pixels along a side of the picture; of larger ones every second, third, … pixel is shown.
MOST_PIXELS: Final = 4096
_SPREAD: Final = frozenset("pg")
_NOTHING: Final = object()  # in place of the tag where no frame is
_UNKNOWN: Final = object()


class Window(NamedTuple):
    """A part of a picture.

    Attributes
    ----------
    low, high
        (y, x) of its first pixel, and behind its last one, in pixels of the frames.
    every
        1 if all of its pixels are shown, 2 for every second, …
    """

    low: tuple[int, int]
    high: tuple[int, int]
    every: int


_NO_WINDOW: Final = Window((0, 0), (0, 0), 1)


class Mosaic(LayerData):
    """A view of a stack whose positions and fields lie beside each other in one plane.

    Parameters
    ----------
    stack, fixed, axes, sizes
        As of `LayerData`; positions and fields are neither fixed nor among the axes.
    layout
        Where the fields lie.
    pixel
        Size (y, x) of a pixel in the unit of the layout.

    Attributes
    ----------
    window, whole : Window
        The part that is shown, and all of it. The array has the pixels of `window`.
    """

    def __init__(
        self,
        stack: Stack,
        fixed: Mapping[str, int],
        axes: tuple[str, ...],
        sizes: Mapping[str, int],
        layout: StageLayout,
        pixel: tuple[float, float],
    ) -> None:
        super().__init__(stack, fixed, axes, sizes)
        self._held: dict[Place, tuple[int, ...]] | None = None  # which frame of each field is to stay
        self._index: tuple[int, ...] = ()  # what was read last of a single plane
        self._lead: tuple[int, ...] = ()  # and that without positions and fields
        self.whole = self.window = _NO_WINDOW
        self.stage_layout = layout
        self.lay_out(layout, pixel)

    def lay_out(self, layout: StageLayout, pixel: tuple[float, float]) -> None:
        """Put the fields elsewhere, and new ones beside them. What is looked at closely stays where it is."""

        def pixels(point: tuple[float, float]) -> tuple[int, int]:
            y, x = (round((at - low) / by) for at, low, by in zip(point, layout.origin, pixel, strict=True))
            return y, x

        height, width = self._stack.plane_shape[:2]
        starts = {place: pixels(corner) for place, corner in layout.corners.items()}
        size = [max((at[axis] for at in starts.values()), default=0) + (height, width)[axis] for axis in (0, 1)]
        planned = [round(extent / by) for extent, by in zip(layout.extent, pixel, strict=True)]
        rows, columns = (max(sizes) for sizes in zip(size, planned, strict=True))
        window, is_part = self.window, self.window != self.whole
        self.whole = Window((0, 0), (rows, columns), max(1, math.ceil(max(rows, columns) / MOST_PIXELS)))
        if is_part and (moved := pixels(self.stage_layout.origin)) != (0, 0):
            low, high = ((at[0] + moved[0], at[1] + moved[1]) for at in window[:2])
            window = Window(low, high, window.every)
        self.stage_layout, self._starts = layout, starts
        self._cut(window if is_part else self.whole)

    def look_at(self, window: Window) -> bool:
        """Show another part of the picture. Return whether that is new."""
        if window == self.window:
            return False
        self._cut(window)
        return True

    @property
    def every(self) -> int:
        """Return 1 if all pixels are shown, 2 for every second, and so on."""
        return self.window.every

    def fields_in(self, window: Window) -> int:
        """Return how many fields lie in a part of the picture, or partly."""
        height, width = self._stack.plane_shape[:2]
        (top, left), (bottom, right) = window.low, window.high
        return sum(top - height < y < bottom and left - width < x < right for y, x in self._starts.values())

    def cut_out(self, window: Window) -> tuple[npt.NDArray[Any], Tag | None]:
        """Return the pixels of a part, of the frames that are shown, and the tag of the newest of these."""
        part = copy.copy(self)
        part.look_at(window)
        return part._shown_last()  # noqa: SLF001 - its own

    def _shown_last(self) -> tuple[npt.NDArray[Any], Tag | None]:
        pixels = self._read_alone(self._frozen, self._index) if self._index else self._sheet
        tags = [tag for tag in self._put.values() if isinstance(tag, Tag)]
        return np.asarray(pixels), max(tags, key=lambda tag: tag.sequence, default=None)

    def _cut(self, window: Window) -> None:
        self.window, every = window, window.every
        rows, columns = (math.ceil((high - low) / every) for low, high in zip(window.low, window.high, strict=True))
        self._sheet = np.zeros((rows, columns, *self._stack.plane_shape[2:]), self._stack.dtype)
        self._parts: dict[Place, tuple[Any, Any]] = {}  # where each lies in the picture, and which pixels of it
        for place, start in self._starts.items():
            pixels, at = [], []
            for first, extent, low, high in zip(start, self._stack.plane_shape, window.low, window.high, strict=False):
                behind = max(0, low - first)  # pixels of the field that lie before the window
                behind += (low - first - behind) % every
                count = len(range(behind, min(extent, high - first), every))
                pixels.append(slice(behind, None if first + extent <= high else high - first, every))
                at.append(slice((first + behind - low) // every, (first + behind - low) // every + count))
            if all(each.stop > each.start for each in at):
                self._parts[place] = (tuple(at), tuple(pixels))
        self._over = self._overlaps({place: (at[0], at[1]) for place, (at, _) in self._parts.items()})
        self._put: dict[Place, object] = {}  # the tag of what was put there
        self._copied: npt.NDArray[Any] | None = None  # of the picture as it is

    def _overlaps(self, parts: Mapping[Place, tuple[slice, slice]]) -> dict[Place, list[tuple[Place, Any, Any]]]:
        """Return which later fields lie over each: where in the picture, and which of their pixels."""
        height, width = (max(1, -(-extent // self.every)) for extent in self._stack.plane_shape[:2])
        boxes: dict[tuple[int, int], list[Place]] = {}
        over: dict[Place, list[tuple[Place, Any, Any]]] = {}
        order = {place: number for number, place in enumerate(parts)}
        for place, (rows, columns) in reversed(list(parts.items())):
            row, column = rows.start // height, columns.start // width
            found = []
            for box in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                for other in boxes.get(box, ()):
                    theirs, pixels = parts[other], self._parts[other][1]
                    low = [max(a.start, b.start) for a, b in zip((rows, columns), theirs, strict=True)]
                    high = [min(a.stop, b.stop) for a, b in zip((rows, columns), theirs, strict=True)]
                    if low[0] < high[0] and low[1] < high[1]:
                        at = tuple(map(slice, low, high))
                        starts = [
                            p.start + (n - b.start) * self.every for p, n, b in zip(pixels, low, theirs, strict=True)
                        ]
                        stops = [n + (b - a) * self.every for n, a, b in zip(starts, low, high, strict=True)]
                        found.append(
                            (other, at, tuple(slice(a, b, self.every) for a, b in zip(starts, stops, strict=True)))
                        )
            over[place] = sorted(found, key=lambda each: order[each[0]])
            boxes.setdefault((row, column), []).append(place)
        return over

    @property
    def plane_shape(self) -> tuple[int, ...]:
        """Of the picture."""
        return tuple(map(int, self._sheet.shape))

    @property
    def picture(self) -> npt.NDArray[Any]:
        """A copy of what was read last of a single plane: what is on the canvas, while the layer is visible."""
        return self._sheet.copy()

    @property
    def left_out(self) -> frozenset[str]:
        """Axes of the stack that the array does not have."""
        return super().left_out | _SPREAD

    def keep(self, place: tuple[int, ...]) -> None:
        """Show what is shown now, until `let_go`."""
        planes = self._frozen.planes
        if self._index:
            self._held = {part: self._at(planes, self._index, part, alone=True) for part in self._starts}

    def let_go(self) -> None:
        """Show what the stack has again."""
        self._held = None

    # ---- which frame is where --------------------------------------------------------------------------------------

    def _at(self, planes: Mapping[tuple[int, ...], Any], index: tuple[int, ...], place: Place, *, alone: bool) -> Any:
        """Return the index of the frame that a field shows, where the others' is `index`; it may have none."""
        axes, where = self._frozen.axes, dict(place)
        at = tuple(where.get(name, number) for name, number in zip(axes, index, strict=True))
        if alone and self.stand_in is not None and (self.always or at not in planes):
            return self._stack.latest_at({**self._fixed, **where}) or at
        return at

    def place(self, where: Mapping[str, int]) -> tuple[int, ...]:
        """Return the stack's index of the newest of the frames that are shown."""
        index, planes = super().place(where), self._frozen.planes
        shown = [(held.tag, at) for part in self._parts
                 if (held := planes.get(at := self._at(planes, index, part, alone=True))) is not None]  # fmt: skip
        tagged = [(tag.sequence, at) for tag, at in shown if isinstance(tag, Tag)]
        return max(tagged)[1] if tagged else index

    def shown_at(self, place: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return that place if there is a frame."""
        return place if place in self._frozen.planes else None

    def field_under(
        self, where: Mapping[str, int], pixel: npt.NDArray[np.float64]
    ) -> tuple[tuple[int, ...], Tag, tuple[int, int]] | None:
        """Return the frame under a pixel of the picture.

        Parameters
        ----------
        where
            The absolute positions along the viewer's axes.
        pixel
            y, x in pixels of the picture.

        Returns
        -------
        tuple or None
            The frame's index in the stack, its tag, and where in the picture its first pixel is (y, x), were all of
            the picture's pixels shown; None where there is none.
        """
        index, planes = super().place(where), self._frozen.planes
        height, width = self._stack.plane_shape[:2]
        top, left = self.window.low
        full = pixel * self.every + (top, left)
        for place, (y, x) in reversed(self._starts.items()):
            if y - 0.5 <= full[0] < y + height - 0.5 and x - 0.5 <= full[1] < x + width - 0.5:
                at = self._at(planes, index, place, alone=True)
                held = planes.get(at)
                if held is not None and isinstance(held.tag, Tag):
                    return at, held.tag, (y - top, x - left)
        return None

    # ---- the picture -----------------------------------------------------------------------------------------------

    def _read(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        sheet = np.zeros_like(self._sheet)
        for place, (at, pixels) in self._parts.items():
            plane = super()._read(layout, self._at(layout.planes, index, place, alone=False))
            if plane is not None:
                sheet[at] = np.asarray(plane)[pixels]
        return sheet

    def _read_alone(self, layout: StackLayout, index: tuple[int, ...]) -> Plane | None:
        if self.ahead is not None:
            index = LayerData.place(self, self.ahead)
        lead = tuple(at for name, at in zip(layout.axes, index, strict=True) if name not in _SPREAD)
        held = self._held if lead == self._lead else None
        if held is not None and self._put:
            return self._copy()
        self._lead, self._index = lead, index
        changed: dict[Place, tuple[int, ...]] = {}
        for place in self._parts:
            here = held.get(place, index) if held else self._at(layout.planes, index, place, alone=True)
            there = layout.planes.get(here)
            tag = _NOTHING if there is None else there.tag
            if self._put.get(place, _UNKNOWN) is not tag:
                changed[place], self._put[place] = here, tag
        for place, here in changed.items():
            self._paste(layout, here, *self._parts[place])
            for other, at, pixels in self._over[place]:  # whatever came first, they lie over it
                if other not in changed:
                    here = held.get(other, index) if held else self._at(layout.planes, index, other, alone=True)
                    self._paste(layout, here, at, pixels)
        if changed:
            self._copied = None
        return self._copy()

    def _copy(self) -> npt.NDArray[Any]:
        """Return the picture as napari may keep it; napari reads it several times for one change."""
        if self._copied is None:
            self._copied = self._sheet.copy()
        return self._copied

    def _paste(self, layout: StackLayout, index: tuple[int, ...], at: Any, pixels: Any) -> None:
        plane = super()._read(layout, index)
        self._sheet[at] = 0 if plane is None else np.asarray(plane)[pixels]

    def moment(self) -> Any:
        """Return what it shows now, to be copied; see `LayerData.moment`."""
        came, origin = self._came, self.origin
        ends = {name: low + size for name, low, size in zip(came.axes, came.origin, came.shape, strict=True)}
        sizes = [max(1, min(n, ends.get(name, n) - low)) for name, low, n in zip(self.axes, origin, self.shape)]  # noqa: B905
        return _Whole(self, dict(zip(self.axes, sizes, strict=True)))


class _Whole:
    """The pictures that a mosaic has now; what comes while they are copied may be among them."""

    def __init__(self, mosaic: Mosaic, extent: dict[str, int]) -> None:
        self._mosaic, self.extent = mosaic, extent
        self.shape = (*extent.values(), *mosaic.plane_shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self._mosaic.dtype.itemsize

    def copy(self, copied: Callable[[int, int], None] = lambda done, of: None) -> Copied:
        pixels = np.zeros(self.shape, self._mosaic.dtype)
        leads: list[tuple[int, ...]] = list(np.ndindex(*self.extent.values()))
        layout, axes = self._mosaic.layout, self._mosaic.axes
        for done, lead in enumerate(leads):
            where = dict(zip(axes, np.add(lead, self._mosaic.origin), strict=True))
            index = LayerData.place(self._mosaic, where)
            plane: npt.NDArray[Any] = np.asarray(self._mosaic._read(layout, index))  # noqa: SLF001 - its own
            pixels[lead] = plane
            copied(done + 1, len(leads))
        return Copied(pixels, 0)
