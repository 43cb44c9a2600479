"""Keeps the layers of a napari viewer in step with live streams: a layer for each stream and channel."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from napari.utils.notifications import show_warning
from qtpy.QtCore import QTimer

from scopecast.frames.axes import sort_axes
from scopecast_viewers.look.colors import color_problem
from scopecast_viewers.look.contrast import Contrasts, saturation_text
from scopecast_viewers.napari.copies import Copies
from scopecast_viewers.napari.data import LayerData
from scopecast_viewers.napari.kept import KeptLayers
from scopecast_viewers.napari.layer import LiveLayer
from scopecast_viewers.napari.limits import MOST_STEPS, Box, CantShowError
from scopecast_viewers.napari.scene import Scene
from scopecast_viewers.napari.sliders import Sliders, agreed_units
from scopecast_viewers.napari.steady import all_or_nothing, take_out
from scopecast_viewers.napari.tiles import Tiling
from scopecast_viewers.napari.units import canvas_spacing, canvas_unit

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping

    from napari.viewer import Viewer

    from scopecast_viewers.napari.stage_layout import Place
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.history import StackLayout
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LiveLayers"]

#: What all fields of a channel share; the user sets it of any of them.
_LINKED = ("colormap", "gamma", "opacity", "blending", "visible", "contrast_limits", "interpolation2d")
_Key = tuple["Stack", int, "Place"]
_Reach = dict[str, tuple[int, int]]
#: Parts of a step that are none, but come of rounding.
_SAME = 1e-6
#: The least step of an axis that a stack without it takes over, in the axis's unit; the largest is its inverse.
_FINEST = 1e-6
#: From this opacity on, what lies under an image can't be made out.
_OPAQUE = 0.8
_MOST = f"a slider has at most {MOST_STEPS:,} steps"


def _hides(image: Image) -> bool:
    """Whether nothing is to be seen of what lies under an image."""
    return image.opacity > _OPAQUE and image.blending in ("opaque", "translucent", "translucent_no_depth")


class LiveLayers(KeptLayers[_Key, LiveLayer]):
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
    axes, units : tuple of str
        Of all layers: the sliders; and the unit of each and of y and x.
    sliders : Sliders
        How far they reach.
    contrasts : Contrasts
        In which range of values each channel is shown.
    making_ms, longest_ms : float
        How long napari took to make the layers, all of them together and the one that took longest, in milliseconds.
    """

    def __init__(
        self,
        viewer: Viewer,
        kind_of: Callable[[LiveStream, Stack], type[LiveLayer]] = lambda *_: LiveLayer,
        scene: Scene | None = None,
    ) -> None:
        super().__init__(viewer, scene or Scene())
        self._kind_of = kind_of
        self.sliders = Sliders(viewer)
        self.contrasts = Contrasts()
        self.making_ms = self.longest_ms = 0.0
        self.axes: tuple[str, ...] = ()
        self.units: tuple[str, ...] = ("pixel", "pixel")
        self.copies = Copies(viewer)
        self.tiling = Tiling()
        self.incomplete = False  # more layers are to be made at the next update
        self._began: dict[tuple[str, int], int] = {}  # in which order the streams have come
        self.spread = False  # a run has come to another place on the canvas
        self._looks: dict[tuple[Any, ...], dict[str, Any]] = {}  # what the user has set of channels
        self._order: list[tuple[Any, ...]] = []  # in which order the user has put the channels, the lowest first
        self._floor: int | None = None  # where the layers of the run lay that has just left
        self._active: tuple[Any, ...] | None = None  # whose layer the user worked on when it left
        self._selected: Any = None  # what is selected since, and was not by the user
        self._making = False
        self._leaving: list[Image] = []  # that stay until the first layer of the next run is there; see `leave`
        viewer.layers.events.inserted.connect(self._leave_live)

    def update(self, streams: Iterable[LiveStream], *, grow: bool = True) -> list[LiveLayer]:
        """Add what is new, remove what is gone, and let what has grown grow, unless `grow` is false.

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
        self._keep_contrast()  # what the user has set is to be that of the layers to come
        composed = self.tiling.composed
        divided = [(stream, *part) for stream in streams for part in self.tiling.parts(stream)]
        self.spread = self.spread or self.tiling.composed > composed  # the fields have become one layer
        self._hand_on(divided)
        worked_on = self.viewer.layers.selection.active
        self._remove_gone({(stack, channel, place) for _, stack, channel, place in divided})
        before = self.axes, self.units
        self.leave()
        self._widen(self.scene.streams)
        if (self.axes, self.units) != before:
            self._let_leave()
        self._come_back()
        new: list[LiveLayer] = []
        grown = False
        followed, everywhere = self._reach(), self._extents()
        layouts: dict[Stack, StackLayout] = {}  # one moment of each stack for all of its layers
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
            if not grow:
                continue
            version = stack.version
            if live.lay_out(self.tiling.layout(stream)):
                live.stale = self.spread = True
            self._stretch(live, followed, everywhere)
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
        self._let_leave()  # if no layer has come
        self.tiling.forget(streams)
        self.contrasts.forget({stream.key for stream in streams})
        shown = {live.stream.key for live in self._layers.values()}
        failed = {of.key for of, stack, channel, place in divided if (stack, channel, place) in self._failed}
        self.scene.unshown = failed - shown
        if grown:
            self.sliders.stretch(self.axes)
        if worked_on is not None and self.viewer.layers.selection.active is None:  # it has left, and nothing has come
            mine = [live.layer for live in self if live.stream is self.scene.on_top and not live.rank]
            if mine:
                self.viewer.layers.selection.select_only(mine[0])
        return new

    def refresh(self, live: LiveLayer) -> None:
        """Show another plane; neither the extent of the layer nor anything else has changed."""
        # Whatever happens to a layer, napari's list of layers paints itself anew. For that the window is composed once
        # more, which is as much work as the picture.
        with self.viewer.layers.events.blocker():
            live.layer.refresh(thumbnail=False, highlight=False, extent=False)

    def _new(self, stream: LiveStream, stack: Stack, channel: int, place: Place) -> LiveLayer:
        kind = self._kind_of(stream, stack)
        return kind(stream, stack, channel, self.axes, place, self.tiling.layout(stream))

    def show_one_by_one(self, on: bool) -> None:
        """Make the positions that are one picture a slider, or a picture again."""
        if on == self.tiling.one_by_one:
            return
        self.tiling.one_by_one = on
        for key, live in tuple(self._layers.items()):
            if self.tiling.is_composed(live.stream):
                if not live.parked:
                    self._take_out(live)
                del self._layers[key]
        self.spread = True

    def _make(self, stream: LiveStream, stack: Stack, channel: int, place: Place) -> LiveLayer | None:
        """Make a layer; one that can't be made is noted, see `Unshown`."""
        key, version = (stack, channel, place), stack.version
        live = self._new(stream, stack, channel, place)
        self._stretch(live, self._reach(), self._extents())
        try:
            if self._leaving and (live.rank or self._objection(live.box)):
                self._let_leave()
            self.check(live)  # which may remove others
            selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
            if self._leaving:  # which are all that there is
                selected, active = set(), None
            self._making = True
            with all_or_nothing(self.viewer):
                live.add(self.viewer, self.units, self.contrasts)
            if self._leaving:
                self._let_leave()
                live.restyle()  # one that has left may have had its name
        except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
            self._failed.note(key, version, live.name, error)
            return None
        finally:
            self._making = False
        self._failed.clear(key)
        self.making_ms += live.made_ms
        self.longest_ms = max(self.longest_ms, live.made_ms)
        self._hand_down(live)
        self._put_in_order(live)
        self._select(live, selected, active)
        if place:
            self._join(live)
        self._layers[key] = live
        return live

    def _stretch(self, live: LiveLayer, followed: _Reach, everywhere: Mapping[str, tuple[float, float, float]]) -> None:
        """Let a layer reach where what it shows is to be seen, too.

        Another program's run is to be seen wherever the one is that is followed, of which `followed` is the reach in
        indices, and so are labels; and a stack that lacks an axis wherever others are along it: `everywhere`, see
        `_extents`.
        """
        of_followed = live.rank > 0 and live.stream is self.scene.followed
        reach = dict(followed) if of_followed or self.scene.is_beside(live.stream) else {}
        steps = dict(canvas_spacing(live.stream))
        for name, (low, high, step) in everywhere.items():
            if live.data.lacks(name) and _FINEST <= abs(step) <= 1 / _FINEST:  # others may have steps of no sense
                step = steps.setdefault(name, step)
                first, last = sorted((low / step, high / step))
                reach[name] = (math.floor(first + _SAME), math.ceil(last - _SAME))
        if live.data.reach != reach:
            live.stale = live.stretch(reach, steps) or live.stale

    def _reach(self) -> _Reach:
        """Return the indices along each axis that the run which is followed has."""
        followed = self.scene.followed
        if followed is None:
            return {}
        reach = {name: (0, 0) for name in self.axes if name not in followed.axes}  # where its sliders then are
        for stack in followed.stacks:
            layout = stack.layout
            for name, low, size in zip(layout.axes, layout.origin, layout.shape, strict=True):
                if name in self.axes:
                    lowest, highest = reach.get(name, (low, low))
                    reach[name] = (min(low, lowest), max(low + size - 1, highest))
        return reach

    def _extents(self) -> dict[str, tuple[float, float, float]]:
        """Return the lowest and the highest place along each axis of the runs in the scene, in its unit, and a step."""
        places: list[tuple[str, float, float, float]] = []
        for stream in self.scene.streams:
            spacing = canvas_spacing(stream)
            for stack in stream.stacks:
                layout = stack.layout
                for name, low, size in zip(layout.axes, layout.origin, layout.shape, strict=True):
                    if name in self.axes and layout.planes:
                        step = spacing.get(name, 1.0)
                        places.append((name, low * step, (low + size - 1) * step, step))
        extents: dict[str, tuple[float, float, float]] = {}
        for name, first, last, step in (*places, *self.copies.extents):
            lowest, highest, step = extents.get(name, (first, last, step))
            extents[name] = (min(lowest, first, last), max(highest, first, last), step)
        return extents

    def _leave_live(self, event: Any) -> None:
        """Give a layer that a command of napari's has made of a live one a copy of the pixels of now.

        "Convert to Labels" takes the live layer away, and makes another one of its data: the live one is made again.
        """
        layer = event.value
        data = getattr(layer, "data", None)
        mine = any(live.layer is layer for live in self._layers.values())
        if self._making or mine or not isinstance(data, LayerData):
            return
        for key, live in tuple(self._layers.items()):
            if live.data is data and live.layer not in self.viewer.layers:
                self._looks[live.look_of] = live.look
                del self._layers[key]
        try:
            layer.data = copy.deepcopy(data)
        except MemoryError as error:
            show_warning(f"{layer.name}: {error}")
            QTimer.singleShot(0, lambda: take_out(self.viewer, layer))  # napari has to finish first

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        self.viewer.layers.events.inserted.disconnect(self._leave_live)

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

    def _hand_down(self, new: LiveLayer) -> None:
        """Give a new layer what the user has set of its channel: of a layer that is there, or of one that was."""
        there = [live for live in self if live.look_of == new.look_of]
        look = dict(there[-1].look if there else self._looks.get(new.look_of, {}))
        if there:
            look.pop("name", None)  # that is the other's
        new.take_look(look)

    def _put_in_order(self, new: LiveLayer) -> None:
        """Move the layer that was added last to where it belongs among the others."""
        layers = self.viewer.layers
        mine = [live for live in self if live.stream is new.stream and live is not new]
        ordered = self._order if new.look_of in self._order else []
        over = ordered[ordered.index(new.look_of) :] if ordered else []
        above = [layers.index(live.layer) for live in mine if live.rank == new.rank and live.look_of in over]
        below = [layers.index(live.layer) for live in mine if live.rank <= new.rank and live.look_of not in over]
        top = self.scene.on_top
        if above and not new.place:
            position = min(above)
        elif below:
            position = max(below) + 1
        elif top not in (None, new.stream) and not new.rank:
            position = min((layers.index(live.layer) for live in self if live.stream is top), default=len(layers))
        else:
            position = len(layers) if self._floor is None else max(self._floor, self._over_pictures(new))
            self._floor = None
        if position < len(layers) - 1:
            layers.move(len(layers) - 1, position)

    def _over_pictures(self, new: LiveLayer) -> int:
        """Return the position over all of the user's own that would hide a run, such as a snapshot that is shown."""
        live = {new.layer, *(each.layer for each in self)}
        own = [(at, layer) for at, layer in enumerate(self.viewer.layers) if layer not in live and layer.visible]
        return 1 + max((at for at, layer in own if isinstance(layer, Image) and _hides(layer)), default=-1)

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
        return (*self._failed.reasons, *self.sliders.problems, *dict.fromkeys(colors))

    # ---- contrast ------------------------------------------------------------------------------------------------

    def _keep_contrast(self) -> None:
        """Take over what the user has set of any layer, for all layers of that channel."""
        mine = [live.contrast for live in self if live.contrast is not None and live.layer in self.viewer.layers]
        if sum(contrast.keep() for contrast in mine):
            for contrast in mine:  # now that it is known whatever was set of any
                contrast.keep()

    def look_for_saturation(self, where: Callable[[LiveStream], Mapping[str, int]]) -> None:
        """Look at the frames that are shown; `where` gives the places of the sliders, for a stream."""
        self._keep_contrast()
        for live in self:
            if live.contrast is not None and live.layer.visible:
                at = where(live.stream)
                live.contrast.measure(live.data.shown_at(live.data.place(at)), live.tag_at(at))

    @property
    def saturation(self) -> str:
        """How much of what is shown is saturated, or ``""``."""
        found: dict[str, tuple[int, int]] = {}
        for live in self:
            if live.contrast is not None and live.layer.visible and live.contrast.saturated:
                count, total = found.get(live.channel_name, (0, 0))
                found[live.channel_name] = (count + live.contrast.saturated, total + math.prod(live.stack.plane_shape))
        return saturation_text(found)

    @property
    def channels(self) -> dict[Hashable, tuple[str, bool]]:
        """The channels that have a contrast: their name, and whether the user has set it."""
        mine = [live for live in self if live.contrast is not None]
        return {
            live.look_of: (live.channel_name or live.stream.title, live.contrast.of_channel.by_hand)
            for live in mine
            if live.contrast is not None
        }

    def automatic_contrast(self, channel: Hashable = None) -> None:
        """Choose the contrast of a channel, or of all, from the frames again."""
        self.contrasts.automatic(channel)
        for live in self:
            if live.contrast is not None and channel in (None, live.look_of):
                live.layer.auto_contrast = False
                live.contrast.keep()

    def mark_saturation(self, on: bool) -> None:
        """Show saturated pixels in red, or do not any more."""
        self.contrasts.marking = on
        self._keep_contrast()

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
            made = self._new(stream, stack, channel, place)
            if made.identity in deleted:
                self._closed[key] = made.identity
            elif (former := orphans.get(made.identity)) is not None and self._layers[former].can_succeed(made):
                live = self._layers[key] = self._layers.pop(former)
                try:
                    self.spread = live.succeed(made) or self.spread
                except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                    self.give_up(live, error)

    def leave(self) -> None:
        """Take the layers of runs that have left the scene out of the viewer, and remember the user's order."""
        gone = [live for live in self if live.stream not in self.scene and not live.rank and not live.place]
        for stream in dict.fromkeys(live.stream for live in gone):
            made = [live for live in gone if live.stream is stream]
            now = sorted(made, key=lambda live: self.viewer.layers.index(live.layer))
            if len(made) > 1:
                self._order = [live.look_of for live in now] if now != made else []
        going = [live.layer for live in self if live.stream not in self.scene]
        dims = self.viewer.dims
        as_ever = dims.ndisplay == 2 and list(dims.order) == sorted(dims.order)
        self._leaving = going if as_ever and len(going) == len(self.viewer.layers) else []
        super().leave()

    def _let_leave(self) -> None:
        """Take out what was to stay until something else is there.

        Without any layer napari takes its sliders away, which is as much work as a layer, and the canvas, which gets
        their room, is laid out and painted twice.
        """
        leaving, self._leaving = self._leaving, []
        for layer in leaving:
            take_out(self.viewer, layer)

    # ---- in the scene and out of it ------------------------------------------------------------------------------

    def _take_out(self, live: LiveLayer) -> None:
        """Remove a layer from the viewer, and remember what the user has set of it."""
        layers = self.viewer.layers
        self._looks[live.look_of] = live.look
        position = layers.index(live.layer)
        self._floor = position if self._floor is None else min(self._floor, position)
        active = layers.selection.active
        if active is live.layer and (self._active is None or active is not self._selected):
            self._active = live.look_of
        if live.layer in self._leaving:
            live.parked, live.shown, self._selected = True, None, None
            return
        super()._take_out(live)
        self._selected = layers.selection.active  # napari's choice, not the user's

    def _put_back(self, live: LiveLayer) -> None:
        """Put a layer into the viewer again; `_widen` has made it fit."""
        self._let_leave()
        selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
        self.check(live)
        live.layer.units = self.units
        super()._put_back(live)
        self._put_in_order(live)
        live.stale, live.sliced = True, -1
        self._select(live, selected, active)

    def _version(self, live: LiveLayer) -> int:
        return live.version

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
        axes = sort_axes([*had, *self.copies.axes, *(name for stream in streams for name in self._sliders(stream))])
        units = agreed_units(streams, axes)
        told = {name for stream in streams for name in stream.about.axes}
        # Of an axis that only copies have, the unit is theirs.
        own = {name: unit for name, unit in self.copies.units.items() if name not in told}
        units = (*(own.get(name, unit) for name, unit in zip(axes, units, strict=False)), *units[len(axes) :])
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
        self.copies.fit(axes, units)

    def _sliders(self, stream: LiveStream) -> Iterable[str]:
        divided = {"c", *self.tiling.left_out(stream)}
        return (name for name in stream.axes if name not in divided)

    @staticmethod
    def _lost_channel(live: LiveLayer) -> bool:
        return "c" in live.stack.axes and "c" not in live.data.fixed
