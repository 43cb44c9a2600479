"""What a layer shows: a channel of a stack at its place on the canvas, and what it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from scopecast_viewers.look.colors import channel_colormap
from scopecast_viewers.napari.data import LayerData
from scopecast_viewers.napari.limits import Box
from scopecast_viewers.napari.mosaic import Mosaic
from scopecast_viewers.napari.units import canvas_spacing, corner_on_canvas, pixel_on_canvas
from scopecast_viewers.stacks.plane import Tag
from scopecast_viewers.stacks.view import NOTHING_FIXED

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from cmap import Colormap

    from scopecast_viewers.napari.stage_layout import Place, StageLayout
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Shown"]


class Shown:
    """One channel of a stack; of stacks with positions or cameras, one of these.

    Parameters
    ----------
    stream, stack, channel
        The channel.
    axes
        Of the sliders.
    place
        The index along each axis that is no slider.
    layout
        Where its positions lie, if they are one picture.

    Attributes
    ----------
    data : LayerData
        Its planes as napari takes them.
    shown : Tag or None
        The frame that is shown.
    """

    #: Layers of a stream lie in this order, the lowest first.
    rank: ClassVar[int] = 0

    def __init__(
        self,
        stream: LiveStream,
        stack: Stack,
        channel: int,
        axes: tuple[str, ...],
        place: Place = (),
        layout: StageLayout | None = None,
    ) -> None:
        self.layout = layout
        self._steps: Mapping[str, float] = {}  # along axes that only others have
        self.stream, self.stack, self.channel, self.place = stream, stack, channel, dict(place)
        self.data = self._make_data(axes)
        self.shown: Tag | None = None

    def _make_data(self, axes: tuple[str, ...]) -> LayerData:
        fixed = {"c": self.channel, **self.place} if "c" in self.stack.axes else self.place
        about = self.stream.about
        sizes = dict(zip(about.axes, about.sizes, strict=True))
        if self.layout is not None:
            return Mosaic(self.stack, fixed, axes, sizes, self.layout, self.stream.pixel)
        return LayerData(self.stack, fixed, axes, sizes)

    def lay_out(self, layout: StageLayout | None) -> bool:
        """Take over where the positions lie. Return whether that is new."""
        if layout is self.layout or layout is None or not isinstance(self.data, Mosaic):
            return False
        self.layout = layout
        self.data.lay_out(layout, self.stream.pixel)
        return True

    def stretch(self, reach: Mapping[str, tuple[int, int]], steps: Mapping[str, float]) -> bool:
        """Reach at least so far, in indices that are `steps` apart. Return whether the extent has changed."""
        changed = self._steps != steps
        self._steps = steps
        return self.data.stretch(reach) or changed

    @property
    def every(self) -> int:
        """1 if all pixels are shown, 2 if every second one along y and x is, and so on."""
        return self.data.every if isinstance(self.data, Mosaic) else 1

    @property
    def channel_name(self) -> str:
        """What the channel is called; "" where the run has no channels."""
        return self.stream.label("c", self.channel) if "c" in self.stack.axes else ""

    @property
    def identity(self) -> tuple[Any, ...]:
        """What stays the same of live mode when the size of its images changes."""
        places = tuple((axis, self.stream.label(axis, index)) for axis, index in self.place.items())
        title = (self.stream.source, self.stream.about.title)
        return (*title, self.rank, self.stack.sent.name, self.channel_name, places)

    @property
    def look_of(self) -> tuple[Any, ...]:
        """Whose look it has: that of a channel by its name, else of its source; of each camera and each reply."""
        camera = self.stream.label("cam", self.place["cam"]) if "cam" in self.place else ""
        source = "" if self.channel_name else self.stream.title
        return (self.rank, self.stack.sent.name, self.channel_name, source, camera)

    @property
    def name(self) -> str:
        """What the layer is called: the channel, the place, and the run."""
        title = self._title
        if "c" in self.stack.axes:
            title = f"{self.stream.label('c', self.channel)} · {title}"
        if self.stack.sent.name:
            title = f"{self.stack.sent.name} · {title}"
        sent = self.stack.sent.kind, self.stack.sent.name
        shapes = [s for s, c in self.stream.parts if c == self.channel and (s.sent.kind, s.sent.name) == sent]
        if len(shapes) > 1 and not self.stream.about.preview:  # live mode has one for each channel and camera
            size = "x".join(str(extent) for extent in self.stack.plane_shape[::-1][-2:])
            title += f" ({size} {self.stack.dtype})"
        return f"|{title}|" if self.stack.sent.magnitude else title

    @property
    def _title(self) -> str:
        """The place, where there are several, and the run."""
        sizes = dict(zip(self.stream.about.axes, self.stream.about.sizes, strict=True))
        where = [
            name if (name := self.stream.label(axis, index)) != str(index) else f"{axis}{index}"
            for axis, index in self.place.items()
            if sizes.get(axis) != 1
        ]
        return " · ".join([" ".join(where), self.stream.about.title] if where else [self.stream.about.title])

    def geometry(self) -> dict[str, Any]:
        """Return scale, translation and axis labels, as `add_image` takes them."""
        spacing = {**self._steps, **canvas_spacing(self.stream)}
        steps = [spacing.get(name, 1.0) for name in self.data.axes]
        y, x = (size * self.every for size in pixel_on_canvas(self.stream))
        return {
            "scale": (*steps, y, x),
            "translate": (*(at * by for at, by in zip(self.data.origin, steps, strict=True)), *self._corner()),
            "axis_labels": (*self.data.axes, "y", "x"),
        }

    @property
    def box(self) -> Box:
        """Where the layer reaches on the canvas: as of the data, and of the frame that is shown."""
        geometry = self.geometry()
        lows, steps = geometry["translate"], geometry["scale"]
        ends = [
            low + (size - 1) * step for low, size, step in zip(lows, self.data.shape[: len(lows)], steps, strict=True)
        ]
        return Box(geometry["axis_labels"], lows, ends, steps)

    @property
    def world(self) -> tuple[float, ...]:
        """Corner and size of the plane on the canvas."""
        y, x = pixel_on_canvas(self.stream)
        height, width = self.data.plane_shape[:2]
        return (*self._corner(), self.every * y * height, self.every * x * width)

    def _corner(self) -> tuple[float, float]:
        """Return where the frame lies that is shown; before that, the newest one."""
        if self.layout is not None and isinstance(self.data, Mosaic):
            low = corner_on_canvas(self.stream, self.layout.origin)
            # A pixel that stands for several lies in their middle.
            first = [at + (self.every - 1) / 2 for at in self.data.window.low]
            y, x = (start + at * by for start, at, by in zip(low, first, pixel_on_canvas(self.stream), strict=True))
            return (y, x)
        tag: object = self.shown
        if tag is None:
            newest = self.newest_index()
            tag = self.stack.tag(newest) if newest is not None else None
        corner = corner_on_canvas(self.stream, tag.translate) if isinstance(tag, Tag) else ()
        return (float(corner[0]), float(corner[1])) if corner else (0.0, 0.0)

    @property
    def _wanted_blending(self) -> str:
        # The first of a run lies under the others, and hides what is under it: added to the canvas of napari's light
        # theme, which is white, nothing could be seen.
        lowest = next(channel for stack, channel in self.stream.parts if stack is self.stack)
        return "translucent_no_depth" if self.channel == lowest else "additive"

    def _wanted_color(self) -> Colormap:
        return channel_colormap(self.stream.about, self.channel, len({channel for _, channel in self.stream.parts}))

    def holds(self, stack: Stack | None, index: tuple[int, ...]) -> bool:
        """Whether a plane of a stack is one of this channel's."""
        fixed = [(axis, at) for axis, at in enumerate(map(self.data.fixed.get, self.stack.axes)) if at is not None]
        return stack is self.stack and all(index[axis] == at for axis, at in fixed)

    def newest_index(self) -> tuple[int, ...] | None:
        """Return where the newest frame of this layer is, as far as that is known."""
        return self.stack.latest_at(self.data.fixed) if self.place else self.stack.latest(self.channel)

    def newest_plane(self) -> npt.NDArray[Any]:
        """Return the newest plane of this layer; zeros if it was forgotten."""
        index = self.newest_index()
        plane = None if index is None else self.stack.plane(index)
        return self.stack.zero if plane is None else np.asarray(plane)

    def stand_in(self, stands_in: bool, *, always: bool = False, where: Mapping[str, int] = NOTHING_FIXED) -> bool:
        """Show the newest plane wherever none has come, or everywhere; or no more. Return whether that is new.

        `where` is the place that the sliders go to.
        """
        new = (stands_in, always) != (self.data.stand_in is not None, self.data.always)
        if new:
            self.shown = None  # whatever napari has sliced, it was by the other rule
        self.data.always = always
        self.data.stand_in = self._to_stand_in(where) if stands_in else None
        return new

    def _to_stand_in(self, _where: Mapping[str, int]) -> tuple[int, ...] | None:
        return self.newest_index()

    def earlier_at(self, where: Mapping[str, int]) -> int | None:
        """Return of which t the plane is that is shown at a position along the viewer's axes, if of an earlier one."""
        own = self.data.place(where)
        shown = self.data.shown_at(own)
        if shown is None or shown == own or "t" not in self.stack.axes:
            return None
        return shown[self.stack.axes.index("t")]

    def tag_at(self, where: Mapping[str, int]) -> Tag | None:
        """Return the tag of the frame that is shown at absolute positions along the viewer's axes; None at a gap."""
        frame = self.frame_at(where)
        return None if frame is None else frame[1]

    def frame_at(self, where: Mapping[str, int]) -> tuple[tuple[int, ...], Tag] | None:
        """Return the index in the stack of that frame, too."""
        place = self.data.shown_at(self.data.place(where))
        # What napari can't slice yet is not shown, even if it is in the stack already.
        tag = None if place is None else self.stack.tag(place)
        return (place, tag) if place is not None and isinstance(tag, Tag) else None
