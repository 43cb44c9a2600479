"""Which axes of a stream are layers of their own: positions lie beside each other on the canvas, cameras on each other.

A layer has one place on the canvas. Where frames say where on the stage they were taken, each position (``p``) and
each field of a grid (``g``) therefore is a layer, so that a grid is seen as a whole; so is each camera (``cam``), which
has a contrast of its own. Past `MOST_LAYERS` napari would be slow: positions are a slider then, and the layer moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        if stack.is_labels or not position.keys() <= set(stack.axes):
            continue
        newest = stack.latest_at(position)
        tag = None if newest is None else stack.tag(newest)
        if isinstance(tag, Tag) and len(tag.translate) == 2:
            return tag.translate
    return ()


class Tiling:
    """Divides the stacks of streams into layers."""

    def __init__(self) -> None:
        self._crowded: set[tuple[str, int]] = set()  # streams that have too many positions for layers of their own

    @property
    def crowded(self) -> int:
        """How many streams have too many positions for layers of their own."""
        return len(self._crowded)

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

    @staticmethod
    def _places(stack: Stack, axes: tuple[str, ...]) -> Iterable[tuple[int, Place]]:
        """Return the channels and places of a stack, in order of their first frame."""
        here = stack.axes
        at = [(name, here.index(name)) for name in axes if name in here]
        channel = here.index("c") if "c" in here else None
        return dict.fromkeys(
            (0 if channel is None else index[channel], tuple((name, index[axis]) for name, axis in at))
            for index in stack.places
            if len(index) == len(here)  # an axis joins just now
        )

    def forget(self, streams: tuple[LiveStream, ...]) -> None:
        """Let go of what is known of streams that are gone."""
        self._crowded &= {stream.key for stream in streams}
