"""Keeps the layers of a napari viewer in step with live streams: a layer for each stream and channel."""

from __future__ import annotations

import logging
import time
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from napari.utils.colormaps import Colormap

from scopecast.axes import sort_axes
from scopecast_viewers.colors import GRAY, channel_color
from scopecast_viewers.contrast import contrast_limits, contrast_range
from scopecast_viewers.live import Tag
from scopecast_viewers.napari.data import LayerData
from scopecast_viewers.napari.limits import MOST_STEPS, Box, CantShowError, Unshown
from scopecast_viewers.napari.steady import all_or_nothing, take_out
from scopecast_viewers.napari.tiles import Place, Tiling
from scopecast_viewers.napari.units import canvas_spacing, canvas_unit, corner_on_canvas, pixel_on_canvas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt
    from napari.layers import Image
    from napari.viewer import Viewer

    from scopecast_viewers.live import LiveStream
    from scopecast_viewers.stack import Layout, Stack

__all__ = ["LiveLayer", "LiveLayers"]

logger = logging.getLogger(__name__)

#: What a new field of a channel takes over from the others.
_KEPT = ("colormap", "gamma", "opacity", "blending", "visible", "contrast_limits_range", "contrast_limits")
#: What all fields of a channel share; the user sets it of any of them.
_LINKED = ("colormap", "gamma", "opacity", "blending", "visible", "contrast_limits", "interpolation2d")


def _colormap(color: str) -> Colormap | str:
    """Return napari's colormap for a colour: from black to ``#rrggbb``, or one of its own by name."""
    if color == GRAY:
        return "gray"
    return Colormap(["#000000", color], name=color) if color.startswith("#") else color


def _among(matrix: npt.NDArray[Any], at: list[int], ndim: int) -> npt.NDArray[Any]:
    """Return a transform of `ndim` axes that does to those `at` what `matrix` does, and nothing to the others."""
    wider = np.eye(ndim)
    wider[np.ix_(at, at)] = matrix
    return wider


def _among_sheared(shear: npt.NDArray[Any], at: list[int], ndim: int) -> npt.NDArray[Any]:
    """Do the same for napari's shear: a matrix, or the part of it above the diagonal as a vector."""
    if shear.ndim == 2:
        return _among(shear, at, ndim)
    matrix = np.eye(len(at))
    matrix[np.triu_indices(len(at), 1)] = shear
    return _among(matrix, at, ndim)[np.triu_indices(ndim, 1)]


_Key = tuple[int, int, "Place"]
_MOST = f"a slider has at most {MOST_STEPS:,} steps"


def _key(stack: Stack, channel: int, place: Place) -> _Key:
    """Return what a layer is known by."""
    return (id(stack), channel, place)


class LiveLayer:
    """A layer that shows one channel of a stack; of stacks with positions or cameras, one of these.

    Attributes
    ----------
    layer : napari.layers.Image
        The layer.
    shown : Tag or None
        The frame that it shows since its last slicing.
    made_ms : float
        How long napari took to make the layer, in milliseconds.
    """

    #: Layers of a stream lie in this order, the lowest first.
    rank: ClassVar[int] = 0

    def __init__(
        self, stream: LiveStream, stack: Stack, channel: int, axes: tuple[str, ...], place: Place = ()
    ) -> None:
        self.stream, self.stack, self.channel, self.place = stream, stack, channel, dict(place)
        self.data = self._make_data(axes)
        self.layer: Image = None
        self.made_ms = 0.0
        self.shown: Tag | None = None
        self.painted = -1
        self.version = -1
        self.sliced = -1  # the stack's version when the layer was last sliced
        self.stale = False  # it has grown while it was hidden, and napari does not know yet
        self._translate: tuple[float, ...] = ()  # what we have set; what the user has added to it stays
        self._style: dict[str, str] = {}  # name and blending as we have set them, and the user has not since
        self._auto: tuple[float, float] | None = None  # limits that we chose from a frame without any contrast
        self._color = ""

    def _make_data(self, axes: tuple[str, ...]) -> LayerData:
        fixed = {"c": self.channel, **self.place} if "c" in self.stack.axes else self.place
        about = self.stream.about
        return LayerData(self.stack, fixed, axes, dict(zip(about.axes, about.sizes, strict=True)))

    @property
    def name(self) -> str:
        """What the layer is called: the channel, the place, and the run."""
        title = self._title
        if "c" in self.stack.axes:
            title = f"{self.stream.label('c', self.channel)} · {title}"
        labelled = self.stream.labelled
        shapes = [s for s, c in self.stream.parts if c == self.channel and id(s) not in labelled]
        if len(shapes) > 1:
            size = "x".join(str(extent) for extent in self.stack.plane_shape[::-1][-2:])
            title += f" ({size} {self.stack.dtype})"
        return f"|{title}|" if id(self.stack) in self.stream.magnitudes else title

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

    def add(self, viewer: Viewer, units: tuple[str, ...]) -> None:
        """Make the layer, with contrast and colour from its newest frame."""
        plane = self._newest_plane()
        rgb = len(self.stack.plane_shape) == 3
        about: dict[str, Any] = {"name": self.name, "rgb": rgb, "multiscale": False, "cache": False}
        # The default projection takes the mean over an axis of one plane: 7 ms for 2048 x 2048.
        about["projection_mode"] = "none"
        about["metadata"] = {"scopecast": {"source": self.stream.title, "stream": self.stream.about.title}}
        if id(self.stack) in self.stream.magnitudes:
            about["metadata"]["scopecast"]["pixels"] = "magnitude of complex values"
        if not rgb:
            limits = contrast_limits(plane)
            self._auto = limits if self._flat(plane) else None
            self._color = self._wanted_color()
            about.update(contrast_limits=limits, colormap=_colormap(self._color))
            about["blending"] = self._wanted_blending
        geometry = self.geometry()
        self._translate = geometry["translate"]
        self._make(viewer.add_image, **about, **geometry, units=units)
        self._style = {"name": self.layer.name, "blending": str(self.layer.blending)}
        if not rgb:
            self.layer.contrast_limits_range = contrast_range(limits, self.stack.dtype, plane)
            self.layer.contrast_limits = limits

    def _make(self, make: Callable[..., Image], **about: Any) -> None:
        """Have napari make the layer, and note how long it takes."""
        began = time.perf_counter_ns()
        self.layer = make(self.data, **about)
        self.made_ms = (time.perf_counter_ns() - began) / 1e6

    def geometry(self) -> dict[str, Any]:
        """Return scale, translation and axis labels, as `add_image` takes them."""
        spacing = canvas_spacing(self.stream)
        steps = [spacing.get(name, 1.0) for name in self.data.axes]
        y, x = pixel_on_canvas(self.stream)
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
        height, width = self.stack.plane_shape[:2]
        return (*self._corner(), y * height, x * width)

    def _corner(self) -> tuple[float, float]:
        """Return where the frame lies that is shown; before that, the newest one."""
        tag: object = self.shown
        if tag is None:
            newest = self._newest_index()
            tag = self.stack.tag(newest) if newest is not None else None
        corner = corner_on_canvas(self.stream, tag.translate) if isinstance(tag, Tag) else ()
        return (float(corner[0]), float(corner[1])) if corner else (0.0, 0.0)

    @property
    def _wanted_blending(self) -> str:
        # The first of a run lies under the others, and hides what is under it: added to the canvas of napari's light
        # theme, which is white, nothing could be seen.
        lowest = next(channel for stack, channel in self.stream.parts if stack is self.stack)
        return "translucent_no_depth" if self.channel == lowest else "additive"

    def _newest_index(self) -> tuple[int, ...] | None:
        """Return where the newest frame of this layer is, as far as that is known."""
        index = self.stream.latest.get((id(self.stack), self.channel))
        if index is None or not self.place:
            return index
        wanted = [(at, self.data.fixed[name]) for at, name in enumerate(self.stack.axes) if name in self.data.fixed]
        candidates = (index, *reversed(list(self.stack.layout.planes)))
        return next((each for each in candidates if all(each[at] == here for at, here in wanted)), None)

    def _newest_plane(self) -> npt.NDArray[Any]:
        """Return the newest plane of this layer; zeros if it was forgotten."""
        index = self._newest_index()
        plane = None if index is None else self.stack.plane(index)
        return self.stack.zero if plane is None else np.asarray(plane)

    @staticmethod
    def _flat(plane: npt.NDArray[Any]) -> bool:
        return bool(plane[0, 0] == plane.max() == plane.min())

    def _wanted_color(self) -> str:
        about = self.stream.about
        count = len({channel for _, channel in self.stream.parts})
        announced = about.colors[self.channel] if self.channel < len(about.colors) else ""
        return channel_color(self.stream.label("c", self.channel), self.channel, count, announced)

    def settle(self, here: bool) -> None:
        """Choose contrast and colour again, where the first frame told nothing and the user has set nothing.

        With `here`, there is a frame under the sliders.
        """
        if self._auto is not None and here and not self._flat(plane := self._newest_plane()):
            if tuple(self.layer.contrast_limits) == self._auto:
                limits = contrast_limits(plane)
                self.layer.contrast_limits_range = contrast_range(limits, self.stack.dtype, plane)
                self.layer.contrast_limits = limits
            self._auto = None
        color = self._wanted_color() if self._color else ""
        if color != self._color:
            # A second channel has come: the first is not gray any more, unless the user chose its colour.
            ours = _colormap(self._color)
            if self.layer.colormap.name == (ours if isinstance(ours, str) else ours.name):
                self.layer.colormap = _colormap(color)
            self._color = color

    def widen(self, axes: tuple[str, ...], units: tuple[str, ...]) -> None:
        """Take in axes that have joined. The layer stays the same, with everything that the user has set of it."""
        layer, before = self.layer, (*self.data.axes, "y", "x")
        labels, scale = dict(zip(before, layer.axis_labels, strict=True)), dict(zip(before, layer.scale, strict=True))
        moved = dict(zip(before, layer.translate - np.asarray(self._translate), strict=True))
        editable = layer.editable
        shear, rotate, affine = np.asarray(layer.shear), np.asarray(layer.rotate), layer.affine.affine_matrix
        self.data = self._make_data(axes)
        after = (*axes, "y", "x")
        geometry = self.geometry()
        self._translate = geometry["translate"]
        # Of a hidden layer napari keeps the extent that it had, with too few axes, until its scale is set; whoever is
        # told of the data before that fails, and so does every repaint from then on.
        with layer.events.data.blocker():
            layer.data = self.data
        layer.scale = [scale.get(name, ours) for name, ours in zip(after, geometry["scale"], strict=True)]
        layer.events.data(value=layer.data)
        layer.translate = [ours + moved.get(name, 0.0) for name, ours in zip(after, self._translate, strict=True)]
        layer.axis_labels = [labels.get(name, name) for name in after]
        layer.units = units
        if len(after) > len(before):
            # napari has put the new axes before the old ones, wherever they belong.
            at = [after.index(name) for name in before]
            layer.rotate = _among(rotate, at, len(after))
            if np.any(shear):
                layer.shear = _among_sheared(shear, at, len(after))
            layer.affine = _among(affine, [*at, len(after)], len(after) + 1)
        layer.editable = editable  # napari has decided anew, for the new data
        self.shown, self.sliced, self.stale = None, -1, False
        self._restyle()

    def _restyle(self) -> None:
        """Give the layer the name and the blending that belong to it now, unless the user chose others."""
        wanted = {"name": self.name}
        if len(self.stack.plane_shape) == 2:
            wanted["blending"] = self._wanted_blending
        for attribute, value in wanted.items():
            if str(getattr(self.layer, attribute)) == self._style.get(attribute):
                setattr(self.layer, attribute, value)
                self._style[attribute] = str(getattr(self.layer, attribute))

    def grow(self) -> None:
        """Tell napari how far the stack reaches now; the sliders' ranges follow in `LiveLayers.update`."""
        translate = self.geometry()["translate"]
        self.stale = False
        if self._translate != translate:
            moved = self.layer.translate - np.asarray(self._translate)
            self._translate = translate
            self.layer.translate = moved + translate  # which does all that refresh() would
            return
        # Setting layer.data again would do all of this three times over: 13 ms instead of 6.
        self.layer.refresh(data_displayed=False, thumbnail=False, highlight=False, extent=True)

    def go_along(self) -> tuple[float, float]:
        """Move to where the frame that is shown lies. Return how far, (y, x) in the stream's unit."""
        before = self._translate[-2:]
        self.grow()
        return (self._translate[-2] - before[0], self._translate[-1] - before[1])

    def share(self, sibling: LiveLayer) -> None:
        """Look as another field of the same channel does, from now on: what is set of one is set of all."""
        for attribute in _KEPT:
            setattr(self.layer, attribute, getattr(sibling.layer, attribute))
        self._auto = None

    def tag_at(self, where: Mapping[str, int]) -> Tag | None:
        """Return the tag of the frame at absolute positions along the viewer's axes; None where nothing has come."""
        place = self.data.place(where)
        # What napari can't slice yet is not shown, even if it is in the stack already.
        tag = self.stack.tag(place) if self.data.contains(place) else None
        return tag if isinstance(tag, Tag) else None

    @property
    def moved(self) -> bool:
        """Whether the frame that is shown lies elsewhere on the canvas than the layer."""
        return bool(self._translate != self.geometry()["translate"])


class LiveLayers:
    """The layers of all live streams in one viewer. Used on the GUI's thread only.

    Parameters
    ----------
    viewer
        The napari viewer.
    kind_of
        Chooses the class of the layer for a stack of a stream.

    Attributes
    ----------
    reach : dict of str to (low, high)
        How far the sliders reach along each axis, in its unit, even where no layer does.
    making_ms, longest_ms : float
        How long napari took to make the layers, all of them together and the one that took longest, in milliseconds.
    """

    def __init__(
        self, viewer: Viewer, kind_of: Callable[[LiveStream, Stack], type[LiveLayer]] = lambda *_: LiveLayer
    ) -> None:
        self.viewer = viewer
        self._kind_of = kind_of
        self.reach: dict[str, tuple[float, float]] = {}
        self.making_ms = self.longest_ms = 0.0
        self.axes: tuple[str, ...] = ()
        self.units: tuple[str, ...] = ("pixel", "pixel")
        self.tiling = Tiling()
        self._layers: dict[_Key, LiveLayer] = {}
        self._closed: set[_Key] = set()  # layers that the user has deleted
        self.incomplete = False  # more layers are to be made at the next update
        self._failed = Unshown()
        self._began: dict[tuple[str, int], int] = {}  # in which order the streams have come
        self._short: dict[str, str] = {}  # sliders that can't reach all that is published, and why
        self.moved_on = False  # a new run lies elsewhere on the canvas than the one before it
        self.spread = False  # a run has come to another place on the canvas

    def __iter__(self) -> Any:
        return iter(self._layers.values())

    def __len__(self) -> int:
        return len(self._layers)

    def update(self, streams: Iterable[LiveStream]) -> list[LiveLayer]:
        """Add what is new, remove what is gone, and grow what has grown.

        A layer takes napari a tenth of a second to make, so only one is made at a time: see `incomplete`.

        Returns
        -------
        list of LiveLayer
            Those that are new.
        """
        streams = tuple(streams)
        for stream in streams:
            self._began.setdefault(stream.key, len(self._began))
        self.incomplete = False
        divided = [(stream, *part) for stream in streams for part in self.tiling.parts(stream)]
        self._remove_gone({_key(stack, channel, place) for _, stack, channel, place in divided})
        self._widen(streams)
        new: list[LiveLayer] = []
        grown = False
        layouts: dict[int, Layout] = {}  # one moment of each stack for all of its layers
        for stream, stack, channel, place in divided:
            key = _key(stack, channel, place)
            live = self._layers.get(key)
            if key in self._closed or (live is None and self._failed.blocks(key, stack.version)):
                continue
            if live is None:
                if new:
                    self.incomplete = True
                elif (live := self._make(stream, stack, channel, place)) is not None:
                    new.append(live)
                continue
            version = stack.version
            if live.version != version:
                layout = layouts.setdefault(id(stack), stack.layout)
                live.stale = live.data.advance(layout) or live.moved or live.stale
            live.version = version
            if live.stale and live.layer.visible:  # napari leaves hidden layers as they are
                try:
                    self.check(live)
                    live.grow()
                except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                    self.give_up(live, error)
                grown = True
        self.tiling.forget(streams)
        if grown:
            self.stretch_sliders()
        return new

    def _make(self, stream: LiveStream, stack: Stack, channel: int, place: Place) -> LiveLayer | None:
        """Make a layer; one that can't be made is noted, see `Unshown`."""
        key, version = _key(stack, channel, place), stack.version
        live = self._kind_of(stream, stack)(stream, stack, channel, self.axes, place)
        try:
            self.check(live)  # which may remove others
            selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
            self._make_room(live)
            with all_or_nothing(self.viewer):
                live.add(self.viewer, self.units)
        except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
            self._failed.note(key, version, live.name, error)
            return None
        self._failed.clear(key)
        self.making_ms += live.made_ms
        self.longest_ms = max(self.longest_ms, live.made_ms)
        if active is not None:
            self.viewer.layers.selection = selected  # the user goes on with the layer that they work on
        if place:
            self._join(live)
        self._layers[key] = live
        return live

    def check(self, live: LiveLayer) -> None:
        """Make sure that the window can take a layer as it is now, or is to be.

        Where it can't take it beside others, the oddest has to go: what has ended or is hidden, else whose steps are
        farthest from 1, else the older. So a stream whose numbers are wrong keeps no other from being seen, whichever
        comes first.

        Raises
        ------
        CantShowError
            If it can't.
        """
        box = live.box
        box.check(canvas_unit(live.stream))
        if objection := box.objection(box):
            raise CantShowError(f"{objection}; {_MOST}")
        if not self._objection(box):
            return

        def oddity(each: LiveLayer) -> tuple[bool, float, int]:
            hidden = each.layer is not None and not each.layer.visible
            return hidden or each.stream.state != "live", each.box.oddness(), -self._began[each.stream.key]

        for other in [each for each in self._layers.values() if each is not live and each.box.objection(box)]:
            objection = other.box.objection(box)
            if oddity(other) <= oddity(live):  # of one stream, both are as odd
                raise CantShowError(f"beside {other.name}, {objection}; {_MOST}")
            self.give_up(other, CantShowError(f"beside {live.name}, {objection}; {_MOST}"))
        if objection := self._objection(box):
            raise CantShowError(f"beside other layers, {objection}; {_MOST}")

    def _objection(self, box: Box) -> str:
        """Return why the window can't have a layer there beside all that it has, or ``""``."""
        if not len(self.viewer.layers):
            return ""
        extent = self.viewer.layers.extent
        return box.objection(Box((), tuple(extent.world[0]), tuple(extent.world[1]), tuple(extent.step)))

    def give_up(self, live: LiveLayer, error: Exception) -> None:
        """Take away a layer that can't be shown any more, and note why; it may come back, see `Unshown`."""
        for key, each in tuple(self._layers.items()):
            if each is live:
                del self._layers[key]
                self._failed.note(key, live.version, live.name, error)
        take_out(self.viewer, live.layer)

    def _join(self, new: LiveLayer) -> None:
        """Let a field look as the other fields of its channel and camera do."""
        mine = (id(new.stack), new.channel, new.place.get("cam"))
        fields = [
            live for live in self._layers.values() if (id(live.stack), live.channel, live.place.get("cam")) == mine
        ]
        if fields:
            if not new.rank and not new.layer.rgb:  # labels have no contrast
                new.share(fields[0])
                self.viewer.layers.link_layers([fields[0].layer, new.layer], _LINKED)
            self.spread = True

    @property
    def problems(self) -> tuple[str, ...]:
        """Why some layers could not be made."""
        return (*self._failed.reasons, *self._short.values())

    def stretch_sliders(self) -> None:
        """Let the sliders reach as far as the layers do, and `reach`."""
        dims, extent = self.viewer.dims, self.viewer.layers.extent
        sliders = range(dims.ndim - 2)
        lows, highs = np.array(extent.world)  # a copy: napari keeps its own
        for axis, name in zip(reversed(sliders), reversed(self.axes), strict=False):
            low, high = self.reach.get(name, (inf, -inf))
            wide = (min(lows[axis], low), max(highs[axis], high))
            if wide[1] - wide[0] <= MOST_STEPS * extent.step[axis]:
                lows[axis], highs[axis] = wide
                self._short.pop(name, None)
            else:
                self._short[name] = f"the slider of {name} can't reach from {wide[0]:g} to {wide[1]:g}"
        # napari counts the steps by dividing, and would lose the last one of a step such as 0.7 to rounding.
        more = [max(1e-6 * extent.step[axis], 8 * np.spacing(abs(highs[axis]))) for axis in sliders]
        ranges = [(lows[axis], highs[axis] + more[axis], extent.step[axis]) for axis in sliders]
        if ranges:
            dims.set_range(list(sliders), ranges)

    def _remove_gone(self, wanted: set[_Key]) -> None:
        self._closed &= wanted
        self._failed.keep_only(wanted)
        for key, live in tuple(self._layers.items()):
            if live.layer not in self.viewer.layers:
                del self._layers[key]  # the user deleted it
                if key in wanted:
                    self._closed.add(key)
            elif key not in wanted:
                del self._layers[key]
                take_out(self.viewer, live.layer)

    def _widen(self, streams: tuple[LiveStream, ...]) -> None:
        """Take in the axes of new streams; all layers get them."""
        axes = sort_axes([*self.axes, *(name for stream in streams for name in self._sliders(stream))])
        units = self._agreed_units(streams, axes)
        if units != self.units and axes == self.axes:
            for live in tuple(self._layers.values()):
                try:
                    live.layer.units = units
                except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                    self.give_up(live, error)
        stale = [live for live in self._layers.values() if live.data.axes != axes or self._lost_channel(live)]
        self.axes, self.units = axes, units
        for live in stale:
            try:
                live.widen(axes, units)
            except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                self.give_up(live, error)

    def _sliders(self, stream: LiveStream) -> Iterable[str]:
        divided = {"c", *self.tiling.axes(stream)}
        return (name for name in stream.axes if name not in divided)

    @staticmethod
    def _agreed_units(streams: tuple[LiveStream, ...], axes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the unit of each axis: what all streams say, or "pixel"; napari has one unit for all layers."""
        said: dict[str, set[str]] = {}
        for stream in streams:
            unit = canvas_unit(stream)
            said.setdefault("yx", set()).add(unit)
            for name, step in zip(stream.about.axes, stream.about.steps, strict=True):
                said.setdefault(name, set()).add(unit if name == "z" and step else "pixel")
        agreed = [next(iter(said.get(name, ()))) if len(said.get(name, ())) == 1 else "pixel" for name in axes]
        plane = next(iter(said["yx"])) if len(said.get("yx", ())) == 1 else "pixel"
        return (*agreed, plane, plane)

    @staticmethod
    def _lost_channel(live: LiveLayer) -> bool:
        return "c" in live.stack.axes and "c" not in live.data.fixed

    def _make_room(self, new: LiveLayer) -> None:
        """Clear the canvas for a new run: hide the former runs of its publisher, and look at where it is."""
        others = list(self._layers.values())
        if any(live.stream is new.stream for live in others):
            return
        former = [live for live in others if live.stream.source == new.stream.source or live.stream.state != "live"]
        for live in former:
            live.layer.visible = False
        self.moved_on = not others or bool(former and former[-1].world != new.world)
