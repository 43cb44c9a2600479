"""Which axes of a stream are layers of their own: positions lie beside each other on the canvas, cameras on each other.

A layer has one place on the canvas. Where frames say where on the stage they were taken, each position (``p``) and
each field of a grid (``g``) therefore is a layer, so that a grid is seen as a whole; so is each camera (``cam``), which
has a contrast of its own. Positions far from each other, and more than `MOST_LAYERS`, are one picture instead (see
`scopecast_viewers.napari.mosaic`), or, if the user wishes, a slider along which the layer moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scopecast_viewers.napari.stage_layout import Field, Place, StageLayout, arrange
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["MOST_LAYERS", "Place", "Tiling", "corner_of_image"]

MOST_LAYERS: Final = 64
_POSITIONS: Final = ("p", "g")


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
    """Divides the stacks of streams into layers.

    Attributes
    ----------
    one_by_one : bool
        Positions that are one picture are a slider instead, as the user wishes.
    """

    def __init__(self) -> None:
        self.one_by_one = False
        self._composed: set[tuple[str, int]] = set()  # streams whose positions are one picture, or a slider
        self._layouts: dict[tuple[str, int], tuple[object, StageLayout]] = {}  # and what each was made of

    def is_composed(self, stream: LiveStream) -> bool:
        """Whether the positions of a stream are too many, or too far apart, for layers of their own."""
        return stream.key in self._composed

    @property
    def composed(self) -> int:
        """Of how many streams that is so."""
        return len(self._composed)

    def layout(self, stream: LiveStream) -> StageLayout | None:
        """Return where the positions of a stream lie in its picture; None if they are no picture."""
        return self._layout(stream) if self.is_composed(stream) and not self.one_by_one else None

    def left_out(self, stream: LiveStream) -> tuple[str, ...]:
        """Return the axes of a stream that are no sliders: those of its layers, and those within a layer."""
        within = _POSITIONS if self.layout(stream) is not None else ()
        return (*self.axes(stream), *within)

    def shift(self, stream: LiveStream, where: Mapping[str, int]) -> tuple[float, float]:
        """Return how far from where the stage was a position or field lies, (y, x) in the stream's unit."""
        layout = self.layout(stream)
        place = tuple((name, where[name]) for name in stream.axes if name in _POSITIONS and name in where)
        return (0.0, 0.0) if layout is None else layout.shifts.get(place, (0.0, 0.0))

    def _layout(self, stream: LiveStream) -> StageLayout:
        names = stream.about.labels.get("p", [])
        stacks = [stack for stack in stream.stacks if not stack.is_labels]
        made_of = (tuple(len(stack.places) for stack in stacks), tuple(stream.axes), len(names))
        known = self._layouts.get(stream.key)
        if known is not None and known[0] == made_of:
            return known[1]
        y, x = stream.pixel
        fields: dict[Place, Field] = {}
        for stack in stacks:
            axes = stack.axes
            at = [(name, axes.index(name)) for name in axes if name in _POSITIONS]
            for index in stack.places:
                tag = stack.tag(index) if len(index) == len(axes) else None
                if not isinstance(tag, Tag) or len(tag.translate) != 2:
                    continue
                place = tuple((name, index[axis]) for name, axis in at)
                called = dict(place).get("p")
                name = names[called] if called is not None and called < len(names) else ""
                name = "" if name == str(called) else name  # it has none
                corner = (tag.translate[0], tag.translate[1])
                fields.setdefault(place, Field(corner, (y * stack.plane_shape[0], x * stack.plane_shape[1]), name))
        sizes = dict(zip(stream.about.axes, stream.about.sizes, strict=True))
        layout = arrange(fields, names, sizes.get("p", 0))
        if known is not None and known[1] == layout:
            layout = known[1]
        self._layouts[stream.key] = (made_of, layout)
        return layout

    def axes(self, stream: LiveStream) -> tuple[str, ...]:
        """Return the axes of a stream that are layers; of one without any frame yet, all that could be."""
        newest = stream.newest
        split = tuple(name for name in (*_POSITIONS, "cam") if name in stream.axes)
        if newest is None:
            return split
        if stream.key in self._composed or len(newest[2].translate) != 2:
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
            if not set(axes) & set(_POSITIONS) or (len(found) <= MOST_LAYERS and not self._layout(stream).sparse):
                return found
            self._composed.add(stream.key)

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
        known = {stream.key for stream in streams}
        self._composed &= known
        self._layouts = {key: made for key, made in self._layouts.items() if key in known}
