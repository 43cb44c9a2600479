"""Which axes of a stream are layers of their own: positions lie beside each other on the canvas, cameras on each other.

A layer has one place on the canvas. Where frames say where on the stage they were taken, each position (``p``) and
each field of a grid (``g``) therefore is a layer, so that a grid is seen as a whole; so is each camera (``cam``), which
has a contrast of its own. Past `MOST_LAYERS` napari would be slow: positions are a slider then, and the layer moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["MOST_LAYERS", "Place", "Tiling", "corner_of_image"]

MOST_LAYERS: Final = 64
_POSITIONS: Final = ("p", "g")

Place = tuple[tuple[str, int], ...]
"""The index along each axis that is no slider, such as ``(("p", 0), ("g", 3))``."""


def corner_of_image(stream: LiveStream, where: Mapping[str, int]) -> tuple[float, ...]:
    """Return where the images of a position or field lie: what is published for them lies there too.

    Parameters
    ----------
    stream
        The run.
    where
        Index along each axis; only positions and fields count.

    Returns
    -------
    tuple of float
        (y, x) of the first pixel in the stream's unit; () if no position is named, or no image of it has come that says
        where it lies.
    """
    position = {name: where[name] for name in _POSITIONS if name in where}
    for stack in stream.stacks if position else ():
        axes = stack.layout.axes
        if stack.is_labels or not position.keys() <= set(axes):
            continue
        at = [(axes.index(name), index) for name, index in position.items()]
        for index in reversed(list(stack.layout.planes)):
            tag = stack.tag(index) if all(index[axis] == here for axis, here in at) else None
            if isinstance(tag, Tag) and len(tag.translate) == 2:
                return tag.translate
    return ()


@dataclass
class _Known:
    """The places that a stack has planes at, as far as its planes were looked through."""

    planes: Any
    axes: tuple[str, ...]
    looked: int = 0
    places: dict[tuple[int, Place], None] = field(default_factory=dict)  # by channel, in order of appearance


class Tiling:
    """Divides the stacks of streams into layers."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Stack, _Known] = WeakKeyDictionary()
        self._crowded: set[tuple[str, int]] = set()  # streams that have too many positions for layers of their own

    def axes(self, stream: LiveStream) -> tuple[str, ...]:
        """Return the axes of a stream that are layers; of one without any frame yet, all that could be."""
        newest = stream.newest
        split = tuple(name for name in (*_POSITIONS, "cam") if name in stream.axes)
        if newest is None:
            return split
        if stream.key in self._crowded or len(newest[2].translate) != 2:
            return tuple(name for name in split if name not in _POSITIONS)
        return split

    def parts(self, stream: LiveStream) -> list[tuple[Stack, int, Place]]:
        """Return what is a layer each: a stack, the channel's index, and the place along `axes`."""
        while True:
            axes = self.axes(stream)
            if not axes:
                return [(stack, channel, ()) for stack, channel in stream.parts]
            found = [
                (stack, channel, place)
                for stack in stream.stacks
                for channel, place in self._places(stack, axes)
                if (stack, channel) in stream.parts
            ]
            if len(found) <= MOST_LAYERS or not set(axes) & set(_POSITIONS):
                return found
            self._crowded.add(stream.key)

    def _places(self, stack: Stack, axes: tuple[str, ...]) -> Iterator[tuple[int, Place]]:
        layout = stack.layout
        known = self._known.get(stack)
        if known is None or known.planes is not layout.planes or known.axes != axes:
            known = self._known[stack] = _Known(layout.planes, axes)
        if len(layout.planes) > known.looked:
            new = list(layout.planes)[known.looked :]
            known.looked += len(new)
            channel = layout.axes.index("c") if "c" in layout.axes else None
            at = [(name, layout.axes.index(name)) for name in axes if name in layout.axes]
            for index in new:
                place = tuple((name, index[position]) for name, position in at)
                known.places[0 if channel is None else index[channel], place] = None
        return iter(tuple(known.places))

    def forget(self, streams: tuple[LiveStream, ...]) -> None:
        """Let go of what is known of streams that are gone."""
        self._crowded &= {stream.key for stream in streams}
