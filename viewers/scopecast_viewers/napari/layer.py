"""A layer of napari that shows a channel live, and keeps whatever the user has set of it."""

from __future__ import annotations

import time
from contextlib import nullcontext
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.colormaps import Colormap

from scopecast_viewers.look.colors import GRAY, table_of
from scopecast_viewers.look.contrast import Contrasts
from scopecast_viewers.napari.channel import Shown
from scopecast_viewers.napari.layer_axes import take_in_axes
from scopecast_viewers.napari.layer_contrast import LayerContrast
from scopecast_viewers.napari.mosaic import Mosaic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cmap import Colormap as ChannelColormap
    from napari.layers import Image
    from napari.viewer import Viewer

    from scopecast_viewers.napari.mosaic import Window
    from scopecast_viewers.napari.stage_layout import Place, StageLayout
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LiveLayer"]

#: What a new field of a channel takes over from the others.
_KEPT = ("colormap", "gamma", "opacity", "blending", "visible")
#: What belongs to a channel, whichever run it is of, once the user has set it; beside its contrast.
_LOOK = ("colormap", "gamma", "opacity", "blending", "interpolation2d", "visible")


def _colormap(color: ChannelColormap) -> Colormap | str:
    """Return a colormap as napari's."""
    return "gray" if color.name == GRAY else Colormap(table_of(color) / 255, name=color.name)


def _setting(layer: Image, attribute: str) -> Any:
    """Return how a layer is set, as something that can be compared."""
    value = getattr(layer, attribute)
    return value.name if attribute == "colormap" else str(value)


class LiveLayer(Shown):
    """A layer that shows one channel of a stack; parameters as of `Shown`.

    Attributes
    ----------
    layer : napari.layers.Image
        The layer.
    shown : Tag or None
        The frame that it shows since its last slicing.
    made_ms : float
        How long napari took to make the layer, in milliseconds.
    parked : bool
        It is not among the viewer's layers, as its run is not in the scene.
    contrast : LayerContrast or None
        Its contrast; None for colour images and labels.
    aside, gray : bool
        It is hidden, or gray, for a while; see `Solo`.
    """

    def __init__(
        self,
        stream: LiveStream,
        stack: Stack,
        channel: int,
        axes: tuple[str, ...],
        place: Place = (),
        layout: StageLayout | None = None,
    ) -> None:
        super().__init__(stream, stack, channel, axes, place, layout)
        self.layer: Image = None
        self.made_ms = 0.0
        self.painted = -1
        self.version = -1
        self.sliced = -1  # the stack's version when the layer was last sliced
        self.stale = False  # it has grown while it was hidden, and napari does not know yet
        self.parked = self.aside = self.gray = False
        self._translate: tuple[float, ...] = ()  # what we have set; what the user has added to it stays
        self._scale: dict[str, float] = {}  # the same by axis; the user's stays
        self._ours: dict[str, Any] = {}  # the look that we have given it
        self._style: dict[str, str] = {}  # name and blending as we have set them, and the user has not since
        self.contrast: LayerContrast | None = None
        self._color: ChannelColormap | None = None

    def add(self, viewer: Viewer, units: tuple[str, ...], contrasts: Contrasts | None = None) -> None:
        """Make the layer, with the colour and the contrast of its channel."""
        rgb = len(self.stack.plane_shape) == 3
        about: dict[str, Any] = {"name": self.name, "rgb": rgb, "multiscale": False, "cache": False}
        # The default projection takes the mean over an axis of one plane: 7 ms for 2048 x 2048.
        about["projection_mode"] = "none"
        about["metadata"] = {"scopecast": {"source": self.stream.title, "stream": self.stream.about.title}}
        if self.stack.sent.magnitude:
            about["metadata"]["scopecast"]["pixels"] = "magnitude of complex values"
        if not rgb:
            self.contrast = LayerContrast(contrasts or Contrasts(), self)
            self._color = self._wanted_color()
            about.update(contrast_limits=self.contrast.begin(), colormap=_colormap(self._color))
            about["blending"] = self._wanted_blending
        self._make(viewer.add_image, **about, **self._placed(), units=units)
        self._style = {"name": self.layer.name, "blending": str(self.layer.blending)}
        self._note_look()
        if self.contrast is not None:
            self.contrast.keep()

    def _make(self, make: Callable[..., Image], **about: Any) -> None:
        """Have napari make the layer, and note how long it takes."""
        began = time.perf_counter_ns()
        self.layer = make(self.data, **about)
        self.made_ms = (time.perf_counter_ns() - began) / 1e6
        _ignore_outdated_slices(self.layer)
        _refuse_previews(self.layer)

    @property
    def visible_region(self) -> tuple[int, ...]:
        """y, x, rows and columns of what is visible of a frame, in pixels; () for all of it, or if it is not known."""
        height, width = self.stack.plane_shape[:2]
        shape = tuple(self.layer.data.shape)[: -1 if self.layer.rgb else None]
        if shape[-2:] != (height, width):  # positions that are one picture, or fewer pixels
            return ()
        corners = np.clip(self.layer.corner_pixels[:, -2:], 0, (height, width)).astype(int)
        (top, left), (bottom, right) = corners.tolist()
        rows, columns = min(bottom + 1, height) - top, min(right + 1, width) - left
        return () if (rows, columns) == (height, width) or min(rows, columns) < 1 else (top, left, rows, columns)

    def _placed(self) -> dict[str, Any]:
        """Return the geometry, and remember it as what we have set."""
        geometry = self.geometry()
        self._translate = geometry["translate"]
        self._scale = dict(zip(geometry["axis_labels"], geometry["scale"], strict=True))
        return geometry

    def _note_look(self) -> None:
        """Remember the look as ours: what differs from it later is the user's."""
        self._ours = {attribute: _setting(self.layer, attribute) for attribute in self._look_attributes}

    @property
    def _look_attributes(self) -> tuple[str, ...]:
        if self.rank:
            return ("opacity", "visible")
        return tuple(name for name in _LOOK if not (self.layer.rgb and name == "colormap"))

    @property
    def look(self) -> dict[str, Any]:
        """What the user has set of it, and may be the next run's."""
        chosen = {
            attribute: getattr(self.layer, attribute)
            for attribute in self._look_attributes
            if _setting(self.layer, attribute) != self._ours.get(attribute)
        }
        if self.contrast is not None and self.contrast.unmarked is not None:
            chosen.pop("colormap", None)
            if self.contrast.unmarked.name != self._ours["colormap"]:
                chosen["colormap"] = self.contrast.unmarked
        if self.layer.name != self._style.get("name", self.layer.name) and not self.place.keys() - {"cam"}:
            chosen["name"] = self.layer.name
        if not self.channel_name or self.aside:
            chosen.pop("visible", None)  # a run without channels would begin with nothing to be seen
        return chosen

    def take_look(self, look: Mapping[str, Any]) -> None:
        """Look as the user has set the same channel of another run."""
        for attribute, value in look.items():
            if attribute in ("name", *self._look_attributes):
                setattr(self.layer, attribute, value)

    def index_at(self, point: Sequence[float]) -> dict[str, int]:
        """Return the absolute index along each slider at which a point of the viewer lies in this layer.

        By the layer's own scale and translation, which may be the user's.
        """
        layer, axes = self.layer, self.data.axes
        places = np.asarray(point[-layer.ndim :])[: len(axes)]
        counted = np.round((places - layer.translate[: len(axes)]) / layer.scale[: len(axes)])
        return {name: int(at) + low for name, at, low in zip(axes, counted, self.data.origin, strict=True)}

    def point_at(self, where: Mapping[str, int]) -> dict[str, float]:
        """Return where an absolute index lies along each slider of the viewer; the reverse of `index_at`."""
        layer, data = self.layer, self.data
        return {
            # Along an axis that only others have, it is at 0, or as near to that as they reach.
            name: float((where.get(name, min(max(0, low), low + size - 1)) - low) * step + start)
            for name, low, size, step, start in zip(
                data.axes, data.origin, data.shape, layer.scale, layer.translate, strict=False
            )
        }

    def settle(self, here: bool) -> None:
        """Go on with contrast and colour where the user has set nothing; with `here`, there is a frame to be seen."""
        if self.contrast is not None:
            self.contrast.keep(new=here)
            if self.contrast.unmarked is not None:
                return
        if self._color is not None and (color := self._wanted_color()).name != self._color.name:
            # A second channel has come: the first is not gray any more, unless the user chose its colour.
            if self.layer.colormap.name == self._ours["colormap"]:
                self.layer.colormap = _colormap(color)
                self._ours["colormap"] = self.layer.colormap.name
            self._color = color

    @property
    def own_colormap(self) -> Colormap | str:
        """The colormap of its channel."""
        return _colormap(self._wanted_color())

    @property
    def outgrown(self) -> bool:
        """Whether it shows another stack than it is to."""
        return self.data.stack is not self.stack

    def can_succeed(self, other: LiveLayer) -> bool:
        """Whether another is of the same live mode, and can be shown by the same layer of napari."""
        same = self.stream is other.stream or (self.stream.about.preview and other.stream.about.preview)
        return same and (self.rank > 0 or self.layer.rgb == (len(other.stack.plane_shape) == 3))

    def succeed(self, other: LiveLayer) -> bool:
        """Show what another was made to show, as the same layer. Return whether that lies elsewhere on the canvas.

        `widen` is to follow.
        """
        before = self.world
        self.stream, self.stack, self.channel, self.place = other.stream, other.stack, other.channel, other.place
        self.shown, self.version, self.layout = None, -1, other.layout
        return before != other.world

    def widen(self, axes: tuple[str, ...], units: tuple[str, ...]) -> None:
        """Take in axes that have joined. The layer stays the same, with everything that the user has set of it."""
        layer, before = self.layer, (*self.data.axes, "y", "x")
        scale = dict(zip(before, layer.scale, strict=True))
        moved = dict(zip(before, layer.translate - np.asarray(self._translate), strict=True))
        scale = {name: at for name, at in scale.items() if not np.isclose(at, self._scale.get(name, nan))}  # the user's
        self.data = self._make_data(axes)
        after = (*axes, "y", "x")
        geometry = self._placed()
        wide = [scale.get(name, ours) for name, ours in zip(after, geometry["scale"], strict=True)]
        there = [ours + moved.get(name, 0.0) for name, ours in zip(after, self._translate, strict=True)]
        take_in_axes(layer, self.data, before, after, wide, there, units)
        self.shown, self.sliced, self.stale = None, -1, False
        self.restyle()
        if self.contrast is not None:
            self.contrast.keep(new=True)

    def restyle(self) -> None:
        """Give the layer the name and the blending that belong to it now, unless the user chose others."""
        wanted = {"name": self.name}
        if len(self.stack.plane_shape) == 2:
            wanted["blending"] = self._wanted_blending
        for attribute, value in wanted.items():
            if str(getattr(self.layer, attribute)) == self._style.get(attribute):
                setattr(self.layer, attribute, value)
                self._style[attribute] = str(getattr(self.layer, attribute))
                if attribute in self._ours:
                    self._ours[attribute] = self._style[attribute]

    def grow(self) -> None:
        """Tell napari how far the stack reaches now; the sliders' ranges follow in `LiveLayers.update`."""
        geometry = self.geometry()
        translate = geometry["translate"]
        moves = self._translate != translate
        self.stale = False
        scale, before = np.array(self.layer.scale), dict(self._scale)
        for axis, name in enumerate(geometry["axis_labels"]):
            scale[axis] *= geometry["scale"][axis] / self._scale[name]
            self._scale[name] = geometry["scale"][axis]
        if self._scale != before:  # more or fewer pixels of a picture are shown, or another run has an axis
            # If it moves, too, the viewer is told once for both.
            with self.layer.events.scale.blocker() if moves else nullcontext():
                self.layer.scale = scale
        if moves:
            moved = self.layer.translate - np.asarray(self._translate)
            self._translate = translate
            self.layer.translate = moved + translate  # which does all that refresh() would
            return
        # Of a layer whose extent is to be read anew, napari's public way slices the plane, too, which the sliders' next
        # step does again; and setting layer.data slices it three times.
        if callable(forget := getattr(self.layer, "_clear_extent", None)):
            forget()
        else:
            self.layer.refresh(data_displayed=False, thumbnail=False, highlight=False, extent=True)

    @property
    def window(self) -> Window | None:
        """The part that is shown of a picture of many fields; None if it is none."""
        return self.data.window if isinstance(self.data, Mosaic) else None

    def look_at(self, window: Window) -> None:
        """Show another part of a picture of many fields, or all of it."""
        if not isinstance(self.data, Mosaic) or not self.data.look_at(window):
            return
        before = self._translate, tuple(self._scale.values())
        self.grow()
        if before == (self._translate, tuple(self._scale.values())):  # napari has not read it anew
            self.layer.refresh(thumbnail=False, highlight=False)

    def go_along(self) -> tuple[float, float]:
        """Move to where the frame that is shown lies. Return how far, (y, x) in the stream's unit."""
        before = self._translate[-2:]
        self.grow()
        return (self._translate[-2] - before[0], self._translate[-1] - before[1])

    def share(self, sibling: LiveLayer) -> None:
        """Look as another field of the same channel does, from now on: what is set of one is set of all."""
        for attribute in _KEPT:
            setattr(self.layer, attribute, getattr(sibling.layer, attribute))
        self._ours = dict(sibling._ours)

    @property
    def moved(self) -> bool:
        """Whether the frame that is shown lies elsewhere on the canvas than the layer."""
        return bool(self._translate != self.geometry()["translate"])


def _refuse_previews(layer: Image) -> None:
    """Have napari's own *Save* fail before there is a file, if what it would write is not exact."""
    take = layer.as_layer_data_tuple

    def take_if_exact() -> Any:
        layer.data.check_exact()  # of now: an axis that joins, or live mode in another size, brings other data
        return take()

    layer.as_layer_data_tuple = take_if_exact


def _ignore_outdated_slices(layer: Image) -> None:
    """Have a layer leave out slices of data that had fewer axes than those of now.

    With napari's asynchronous slicing a slice may be delivered after its layer has taken in an axis. napari takes over
    the transform that comes with it, whose axes don't fit the others', and the canvas can't place the layer any more.
    The slice of the new data follows.
    """
    state = getattr(layer, "_slicing_state", None)
    if not callable(take_over := getattr(state, name := "_update_slice_response", None)):
        return

    def take_over_if_current(response: Any) -> None:
        if response.slice_input.ndim == layer.ndim:
            take_over(response)

    setattr(state, name, take_over_if_current)
