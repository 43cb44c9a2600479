"""Keeps the layers of a napari viewer in step with live streams: a layer for each stream and channel."""

from __future__ import annotations

import logging
import time
from math import inf, nan
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from napari.utils.colormaps import Colormap

from scopecast.frames.axes import sort_axes
from scopecast_viewers.look.colors import GRAY, channel_colormap, color_problem, table_of
from scopecast_viewers.look.contrast import contrast_limits, contrast_range
from scopecast_viewers.napari.data import LayerData
from scopecast_viewers.napari.limits import MOST_STEPS, Box, CantShowError, Unshown
from scopecast_viewers.napari.scene import Scene
from scopecast_viewers.napari.steady import all_or_nothing, take_out
from scopecast_viewers.napari.tiles import Place, Tiling
from scopecast_viewers.napari.units import canvas_spacing, canvas_unit, corner_on_canvas, pixel_on_canvas
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import numpy.typing as npt
    from cmap import Colormap as ChannelColormap
    from napari.layers import Image
    from napari.viewer import Viewer

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.history import Layout
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LiveLayer", "LiveLayers"]

logger = logging.getLogger(__name__)

#: What a new field of a channel takes over from the others.
_KEPT = ("colormap", "gamma", "opacity", "blending", "visible", "contrast_limits_range", "contrast_limits")
#: What all fields of a channel share; the user sets it of any of them.
_LINKED = ("colormap", "gamma", "opacity", "blending", "visible", "contrast_limits", "interpolation2d")


def _colormap(color: ChannelColormap) -> Colormap | str:
    """Return a colormap as napari's."""
    return "gray" if color.name == GRAY else Colormap(table_of(color) / 255, name=color.name)


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


#: What belongs to a channel, whichever run it is of, once the user has set it.
_LOOK = ("colormap", "gamma", "opacity", "blending", "interpolation2d", "visible", "contrast_limits")

_Key = tuple["Stack", int, "Place"]
_MOST = f"a slider has at most {MOST_STEPS:,} steps"


def _setting(layer: Image, attribute: str) -> Any:
    """Return how a layer is set, as something that can be compared."""
    value = getattr(layer, attribute)
    if attribute == "colormap":
        return value.name
    return tuple(value) if attribute == "contrast_limits" else str(value)


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
    parked : bool
        It is not among the viewer's layers, as its run is not in the scene.
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
        self.parked = False
        self._translate: tuple[float, ...] = ()  # what we have set; what the user has added to it stays
        self._scale: dict[str, float] = {}  # the same by axis; the user's stays
        self._ours: dict[str, Any] = {}  # the look that we have given it
        self._style: dict[str, str] = {}  # name and blending as we have set them, and the user has not since
        self._auto: tuple[float, float] | None = None  # limits that we chose from a frame without any contrast
        self._color: ChannelColormap | None = None

    def _make_data(self, axes: tuple[str, ...]) -> LayerData:
        fixed = {"c": self.channel, **self.place} if "c" in self.stack.axes else self.place
        about = self.stream.about
        return LayerData(self.stack, fixed, axes, dict(zip(about.axes, about.sizes, strict=True)))

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
        """Whose look it has: that of a channel by its name, else of its source; of each camera."""
        camera = self.stream.label("cam", self.place["cam"]) if "cam" in self.place else ""
        return (self.rank, self.channel_name, "" if self.channel_name else self.stream.title, camera)

    @property
    def name(self) -> str:
        """What the layer is called: the channel, the place, and the run."""
        title = self._title
        if "c" in self.stack.axes:
            title = f"{self.stream.label('c', self.channel)} · {title}"
        shapes = [s for s, c in self.stream.parts if c == self.channel and not s.is_labels]
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

    def add(self, viewer: Viewer, units: tuple[str, ...]) -> None:
        """Make the layer, with contrast and colour from its newest frame."""
        plane = self._newest_plane()
        rgb = len(self.stack.plane_shape) == 3
        about: dict[str, Any] = {"name": self.name, "rgb": rgb, "multiscale": False, "cache": False}
        # The default projection takes the mean over an axis of one plane: 7 ms for 2048 x 2048.
        about["projection_mode"] = "none"
        about["metadata"] = {"scopecast": {"source": self.stream.title, "stream": self.stream.about.title}}
        if self.stack.sent.magnitude:
            about["metadata"]["scopecast"]["pixels"] = "magnitude of complex values"
        if not rgb:
            limits = contrast_limits(plane)
            self._auto = limits if self._flat(plane) else None
            self._color = self._wanted_color()
            about.update(contrast_limits=limits, colormap=_colormap(self._color))
            about["blending"] = self._wanted_blending
        self._make(viewer.add_image, **about, **self._placed(), units=units)
        self._style = {"name": self.layer.name, "blending": str(self.layer.blending)}
        if not rgb:
            self.layer.contrast_limits_range = contrast_range(limits, self.stack.dtype, plane)
            self.layer.contrast_limits = limits
        self._note_look()

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
        return tuple(name for name in _LOOK if not (self.layer.rgb and name in ("colormap", "contrast_limits")))

    @property
    def look(self) -> dict[str, Any]:
        """What the user has set of it, and may be the next run's."""
        chosen = {
            attribute: getattr(self.layer, attribute)
            for attribute in self._look_attributes
            if _setting(self.layer, attribute) != self._ours.get(attribute)
        }
        if "contrast_limits" in chosen:
            chosen["contrast"] = (self.stack.dtype, self.layer.contrast_limits_range, chosen.pop("contrast_limits"))
        if not self.channel_name:
            chosen.pop("visible", None)  # a run without channels would begin with nothing to be seen
        return chosen

    def take_look(self, look: Mapping[str, Any]) -> None:
        """Look as the user has set the same channel of another run."""
        for attribute, value in look.items():
            if attribute == "contrast":
                dtype, reach, limits = value
                if dtype == self.stack.dtype and not self.layer.rgb:
                    self.layer.contrast_limits_range = reach
                    self.layer.contrast_limits = limits
            elif attribute in self._look_attributes:
                setattr(self.layer, attribute, value)

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
        index = self.stack.latest(self.channel)
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

    def _wanted_color(self) -> ChannelColormap:
        return channel_colormap(self.stream.about, self.channel, len({channel for _, channel in self.stream.parts}))

    def settle(self, here: bool) -> None:
        """Choose contrast and colour again, where the first frame told nothing and the user has set nothing.

        With `here`, there is a frame under the sliders.
        """
        if self._auto is not None and here and not self._flat(plane := self._newest_plane()):
            if tuple(self.layer.contrast_limits) == self._auto:
                self._choose_contrast(plane)
            self._auto = None
        if self._color is not None and (color := self._wanted_color()).name != self._color.name:
            # A second channel has come: the first is not gray any more, unless the user chose its colour.
            if self.layer.colormap.name == self._ours["colormap"]:
                self.layer.colormap = _colormap(color)
                self._ours["colormap"] = self.layer.colormap.name
            self._color = color

    def _choose_contrast(self, plane: npt.NDArray[Any]) -> None:
        limits = contrast_limits(plane)
        self.layer.contrast_limits_range = contrast_range(limits, self.stack.dtype, plane)
        self.layer.contrast_limits = limits
        self._ours["contrast_limits"] = _setting(self.layer, "contrast_limits")

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
        self.shown, self.version = None, -1
        return before != self.world

    def widen(self, axes: tuple[str, ...], units: tuple[str, ...]) -> None:
        """Take in axes that have joined. The layer stays the same, with everything that the user has set of it."""
        layer, before = self.layer, (*self.data.axes, "y", "x")
        labels, scale = dict(zip(before, layer.axis_labels, strict=True)), dict(zip(before, layer.scale, strict=True))
        moved = dict(zip(before, layer.translate - np.asarray(self._translate), strict=True))
        scale = {name: at for name, at in scale.items() if not np.isclose(at, self._scale.get(name, nan))}  # the user's
        dtype, succeeds, editable = layer.dtype, self.outgrown, layer.editable
        ours = self._ours.get("contrast_limits")
        automatic = not self.rank and not layer.rgb and _setting(layer, "contrast_limits") == ours
        shear, rotate, affine = np.asarray(layer.shear), np.asarray(layer.rotate), layer.affine.affine_matrix
        self.data = self._make_data(axes)
        after = (*axes, "y", "x")
        geometry = self._placed()
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
        if succeeds and not self.rank and not layer.rgb and (automatic or dtype != self.stack.dtype):
            plane = self._newest_plane()
            self._choose_contrast(plane)
            self._auto = tuple(layer.contrast_limits) if self._flat(plane) else None

    def _restyle(self) -> None:
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
        self._ours = dict(sibling._ours)

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
    scene
        Which runs are on the canvas; the layers of the others are kept outside of the viewer.

    Attributes
    ----------
    reach : dict of str to (low, high)
        How far the sliders reach along each axis, in its unit, even where no layer does.
    making_ms, longest_ms : float
        How long napari took to make the layers, all of them together and the one that took longest, in milliseconds.
    """

    def __init__(
        self,
        viewer: Viewer,
        kind_of: Callable[[LiveStream, Stack], type[LiveLayer]] = lambda *_: LiveLayer,
        scene: Scene | None = None,
    ) -> None:
        self.viewer = viewer
        self.scene = scene or Scene()
        self._kind_of = kind_of
        self.reach: dict[str, tuple[float, float]] = {}
        self.making_ms = self.longest_ms = 0.0
        self.axes: tuple[str, ...] = ()
        self.units: tuple[str, ...] = ("pixel", "pixel")
        self.tiling = Tiling()
        self._layers: dict[_Key, LiveLayer] = {}
        self._closed: dict[_Key, tuple[Any, ...]] = {}  # layers that the user has deleted, and what they were
        self.incomplete = False  # more layers are to be made at the next update
        self._failed = Unshown()
        self._began: dict[tuple[str, int], int] = {}  # in which order the streams have come
        self._short: dict[str, str] = {}  # sliders that can't reach all that is published, and why
        self.spread = False  # a run has come to another place on the canvas
        self._looks: dict[tuple[Any, ...], dict[str, Any]] = {}  # what the user has set of channels
        self._floor: int | None = None  # where the layers of the run lay that has just left
        self._active: tuple[Any, ...] | None = None  # whose layer the user worked on when it left
        self._selected: Any = None  # what is selected since, and was not by the user

    def __iter__(self) -> Iterator[LiveLayer]:
        """Iterate over those in the scene."""
        return iter([live for live in self._layers.values() if not live.parked])

    def __len__(self) -> int:
        return len(list(iter(self)))

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
        self._hand_on(divided)
        worked_on = self.viewer.layers.selection.active
        self._remove_gone({(stack, channel, place) for _, stack, channel, place in divided})
        self._park()
        self._widen(self.scene.streams)
        self._unpark()
        new: list[LiveLayer] = []
        grown = False
        layouts: dict[Stack, Layout] = {}  # one moment of each stack for all of its layers
        for stream, stack, channel, place in divided:
            key = (stack, channel, place)
            live = self._layers.get(key)
            if key in self._closed:
                continue
            if live is None and (stream not in self.scene or self._failed.blocks(key, stack.version)):
                continue
            if live is None:
                if new:
                    self.incomplete = True
                elif (live := self._make(stream, stack, channel, place)) is not None:
                    new.append(live)
                continue
            version = stack.version
            if live.version != version:
                layout = layouts.setdefault(stack, stack.layout)
                live.stale = live.data.advance(layout) or live.moved or live.stale
            live.version = version
            if live.stale and live.layer.visible and not live.parked:  # napari leaves hidden layers as they are
                try:
                    self.check(live)
                    live.grow()
                except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                    self.give_up(live, error)
                grown = True
        self.tiling.forget(streams)
        shown = {live.stream.key for live in self._layers.values()}
        failed = {of.key for of, stack, channel, place in divided if (stack, channel, place) in self._failed}
        self.scene.unshown = failed - shown
        if grown:
            self.stretch_sliders()
        if worked_on is not None and self.viewer.layers.selection.active is None:  # it has left, and nothing has come
            mine = [live.layer for live in self if live.stream is self.scene.on_top and not live.rank]
            if mine:
                self.viewer.layers.selection.select_only(mine[0])
        return new

    def _make(self, stream: LiveStream, stack: Stack, channel: int, place: Place) -> LiveLayer | None:
        """Make a layer; one that can't be made is noted, see `Unshown`."""
        key, version = (stack, channel, place), stack.version
        live = self._kind_of(stream, stack)(stream, stack, channel, self.axes, place)
        try:
            self.check(live)  # which may remove others
            selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
            with all_or_nothing(self.viewer):
                live.add(self.viewer, self.units)
        except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
            self._failed.note(key, version, live.name, error)
            return None
        self._failed.clear(key)
        self.making_ms += live.made_ms
        self.longest_ms = max(self.longest_ms, live.made_ms)
        live.take_look(self._looks.get(live.look_of, {}))
        self._put_in_order(live)
        self._select(live, selected, active)
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

        for other in [each for each in self if each is not live and each.box.objection(box)]:
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

    def _put_in_order(self, new: LiveLayer) -> None:
        """Move the layer that was added last to where it belongs among the others."""
        layers = self.viewer.layers
        below = [layers.index(live.layer) for live in self if live.stream is new.stream and live.rank <= new.rank]
        top = self.scene.on_top
        if below:
            position = max(below) + 1
        elif top not in (None, new.stream) and not new.rank:
            position = min((layers.index(live.layer) for live in self if live.stream is top), default=len(layers))
        else:
            position = len(layers) if self._floor is None else self._floor
            self._floor = None
        if position < len(layers) - 1:
            layers.move(len(layers) - 1, position)

    def _select(self, new: LiveLayer, selected: set[Any], active: Any) -> None:
        """Let the user go on with the layer that they work on; with the same channel, if that has left."""
        if self._active is not None and active is not self._selected:
            self._active = None  # they have chosen another since
        here = any(live.layer is active and live.stream is new.stream for live in self)
        seen = new.stream is self.scene.on_top and not new.rank  # not labels, nor another program's
        if active is None or (seen and (self._active == new.look_of or (self._active is not None and not here))):
            self.viewer.layers.selection.select_only(new.layer)
            self._selected = new.layer
            if self._active == new.look_of:
                self._active = None
        else:
            self.viewer.layers.selection = selected

    def _join(self, new: LiveLayer) -> None:
        """Let a field look as the other fields of its channel and camera do."""
        mine = (new.stack, new.channel, new.place.get("cam"))
        fields = [live for live in self._layers.values() if (live.stack, live.channel, live.place.get("cam")) == mine]
        if fields:
            if not new.rank and not new.layer.rgb:  # labels have no contrast
                new.share(fields[0])
                self.viewer.layers.link_layers([fields[0].layer, new.layer], _LINKED)
            self.spread = True

    @property
    def problems(self) -> tuple[str, ...]:
        """Why some layers could not be made, or look otherwise than was asked for."""
        colors = (problem for each in self.scene.streams if (problem := color_problem(each.about)))
        return (*self._failed.reasons, *self._short.values(), *dict.fromkeys(colors))

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
        self._closed = {key: what for key, what in self._closed.items() if key in wanted}
        self._failed.keep_only(wanted)
        for key, live in tuple(self._layers.items()):
            if not live.parked and live.layer not in self.viewer.layers:
                del self._layers[key]  # the user deleted it
                if key in wanted:
                    self._closed[key] = live.identity
            elif key not in wanted:
                self._take_out(live)
                del self._layers[key]

    def _hand_on(self, divided: list[tuple[LiveStream, Stack, int, Place]]) -> None:
        """Give the layers of live mode to the images of another size, dtype or pixel size that have come instead."""
        wanted = {(stack, channel, place) for _, stack, channel, place in divided}
        orphans = {
            live.identity: key
            for key, live in self._layers.items()
            if key not in wanted and (live.parked or live.layer in self.viewer.layers)
        }
        deleted = {what for key, what in self._closed.items() if key not in wanted}
        for stream, stack, channel, place in divided if orphans or deleted else ():
            key = (stack, channel, place)
            if key in self._layers or key in self._closed:
                continue
            made = self._kind_of(stream, stack)(stream, stack, channel, self.axes, place)
            if made.identity in deleted:
                self._closed[key] = made.identity
            elif (former := orphans.get(made.identity)) is not None and self._layers[former].can_succeed(made):
                live = self._layers[key] = self._layers.pop(former)
                try:
                    self.spread = live.succeed(made) or self.spread
                except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                    self.give_up(live, error)

    # ---- in the scene and out of it ------------------------------------------------------------------------------

    def _park(self) -> None:
        """Take the layers of runs that have left the scene out of the viewer."""
        for live in [live for live in self if live.stream not in self.scene]:
            self._take_out(live)

    def _take_out(self, live: LiveLayer) -> None:
        """Remove a layer from the viewer, and remember what the user has set of it."""
        if live.parked:
            return
        layers = self.viewer.layers
        self._looks[live.look_of] = live.look
        position = layers.index(live.layer)
        self._floor = position if self._floor is None else min(self._floor, position)
        active = layers.selection.active
        if active is live.layer and (self._active is None or active is not self._selected):
            self._active = live.look_of
        live.parked, live.shown = True, None
        take_out(self.viewer, live.layer)
        self._selected = layers.selection.active  # napari's choice, not the user's

    def _unpark(self) -> None:
        """Put the layers of runs that are in the scene again into the viewer; `_widen` has made them fit."""
        for live in [live for live in self._layers.values() if live.parked and live.stream in self.scene]:
            selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
            try:
                self.check(live)
                with all_or_nothing(self.viewer):
                    live.layer.units = self.units
                    self.viewer.layers.append(live.layer)
            except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                self.give_up(live, error)
                continue
            self._put_in_order(live)
            live.parked, live.stale, live.sliced = False, True, -1
            self._select(live, selected, active)

    def bring_back(self, stream: LiveStream) -> None:
        """Prepare for a run to come back: with the layers that the user has deleted, and to be worked on."""
        self._closed = {key: what for key, what in self._closed.items() if key[0] not in stream.stacks}
        active = self.viewer.layers.selection.active
        for live in self:
            if live.layer is active:
                self._active, self._selected = live.look_of, active

    @staticmethod
    def width_of(layers: list[Image]) -> float:
        """Return how far layers reach on the canvas, along y or x, whichever is more."""
        worlds = np.array([layer.extent.world[:, -2:] for layer in layers])
        return float(np.max(worlds[:, 1].max(axis=0) - worlds[:, 0].min(axis=0)))

    def raise_top(self) -> None:
        """Put the images of the run that is to be on top above those of the others, which they hide."""
        layers, top = self.viewer.layers, self.scene.on_top
        mine = [live.layer for live in self if live.stream is top and not live.rank]
        others = [live.layer for live in self if live.stream is not top and not live.rank]
        highest = max(map(layers.index, others), default=-1)
        for layer in sorted(mine, key=layers.index):
            if (at := layers.index(layer)) < highest:
                layers.move(at, highest + 1)

    def _widen(self, streams: tuple[LiveStream, ...]) -> None:
        """Take in the axes of new streams; all layers get them, and keep those that they have."""
        mine = [live for live in self._layers.values() if live.stream in self.scene]
        had = [name for live in mine for name in live.data.axes]
        axes = sort_axes([*had, *(name for stream in streams for name in self._sliders(stream))])
        units = self._agreed_units(streams, axes)
        if units != self.units and axes == self.axes:
            for live in tuple(self):
                try:
                    live.layer.units = units
                except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                    self.give_up(live, error)
        stale = [live for live in mine if live.data.axes != axes or live.outgrown or self._lost_channel(live)]
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
        # Labels and marks whose unit nobody has said change nothing of that of the images.
        for stream in [each for each in streams if each.received] or streams:
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
