"""Keeps points, shapes, tracks and regions of interest in step with the streams and the sliders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from scopecast.frames.documents import Points, Rois, Shapes
from scopecast_viewers.napari.contents import (
    Content,
    Viewpoint,
    points_content,
    regions_content,
    shapes_content,
    tracks_content,
)
from scopecast_viewers.napari.limits import Box, CantShowError, Unshown
from scopecast_viewers.napari.overlays import Overlay, PointsOverlay, ShapesOverlay, TracksOverlay
from scopecast_viewers.napari.steady import all_or_nothing, take_out
from scopecast_viewers.napari.tiles import corner_of_image
from scopecast_viewers.napari.units import canvas_spacing, canvas_unit, corner_on_canvas, pixel_on_canvas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from napari.viewer import Viewer

    from scopecast_viewers.look.annotations import Annotation, AnnotationSet
    from scopecast_viewers.napari.layers import LiveLayer, LiveLayers
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["LiveAnnotation", "LiveAnnotations"]

_Key = tuple["AnnotationSet", str]
_OVERLAYS: Mapping[str, type[Overlay]] = {"points": PointsOverlay, "shapes": ShapesOverlay, "tracks": TracksOverlay}


class _Part(NamedTuple):
    """What a layer shows of a set: regions of interest become shapes and points."""

    stream: LiveStream
    annotations: AnnotationSet
    kind: str

    @property
    def key(self) -> _Key:
        return (self.annotations, self.kind)


class LiveAnnotation:
    """A layer that shows a part of a set of annotations.

    Attributes
    ----------
    layer
        The napari layer; None before it is made.
    shown : Tag or None
        The newest document that it shows.
    painted
        The number of the newest one that was painted.
    version
        The set's, when it was last shown.
    parked : bool
        The layer is not among the viewer's, as its run is not in the scene.
    """

    rank: ClassVar[int] = 2  # above images and labels

    def __init__(self, part: _Part) -> None:
        self.stream, self.annotations, self.kind = part.stream, part.annotations, part.kind
        self.overlay = _OVERLAYS[part.kind]()
        self.shown: Tag | None = None
        self.painted = -1
        self.version = -1
        self.parked = False
        self.far = ""  # what of it lies too far away to be shown
        self._seen: Any = None  # what is on the layer
        self._made: Any = None  # axes, scale, translation and units that the layer was made with
        self._corners: dict[tuple[int | None, ...], tuple[float, ...]] = {}  # of the images of each position

    @property
    def layer(self) -> Any:
        """The layer, or None."""
        return self.overlay.layer

    @property
    def name(self) -> str:
        """What the layer is called: the annotations, their channel, and the run."""
        called = self.annotations.name or self.annotations.kind
        if self.annotations.kind == "rois" and self.kind == "points":
            called += " (points)"
        if self.annotations.channel is not None:
            called += f" ({self.stream.label('c', self.annotations.channel)})"
        return f"{called} · {self.stream.about.title}"

    # ---- what is to be seen ------------------------------------------------------------------------------------

    def _axes(self, axes: tuple[str, ...], viewpoint: Viewpoint) -> tuple[str, ...]:
        """Return the leading axes that the layer needs, those of the viewer being `axes`."""
        if self.kind != "tracks":
            return viewpoint.axes
        if "t" not in axes or len(axes) - axes.index("t") > 2:
            msg = f"napari shows tracks over (t) or (t, z), and the streams have ({', '.join(axes)})"
            raise CantShowError(msg)
        return axes[axes.index("t") :]

    def _content(self, items: Sequence[Annotation], viewpoint: Viewpoint) -> Content:
        if self.annotations.kind == "rois":
            return regions_content(items, viewpoint, self.kind, self._stack_axis)
        make = {"points": points_content, "shapes": shapes_content, "tracks": tracks_content}[self.kind]
        return make(items, viewpoint)

    @property
    def _stack_axis(self) -> str:
        axes = [name for name in self.stream.axes if name != "c"]
        return axes[0] if len(axes) == 1 else ""

    def _choosing(self, items: Sequence[Annotation], viewpoint: Viewpoint) -> tuple[tuple[str, int], ...]:
        """Return the places of the sliders that choose among what is in the documents."""
        axes: set[str] = set()
        for item in items:
            if isinstance(item.document, Points | Shapes):
                axes.update(item.document.dims[:-2])
            elif isinstance(item.document, Rois):
                axes.update(item.regions.axes, [self._stack_axis])
        return tuple(sorted((axis, at) for axis, at in viewpoint.where.items() if axis in axes))

    # ---- the layer ---------------------------------------------------------------------------------------------

    def is_outdated(self, axes: tuple[str, ...], units: tuple[str, ...], viewpoint: Viewpoint) -> bool:
        """Whether `update` would make the layer anew; parameters as there."""
        leading = self._axes(axes, viewpoint)
        return bool((leading, *self._geometry(leading).values(), units) != self._made)

    def update(self, viewer: Viewer, axes: tuple[str, ...], units: tuple[str, ...], viewpoint: Viewpoint) -> bool:
        """Show what is to be seen; make the layer, or make it anew where its axes have changed.

        Parameters
        ----------
        viewer
            The napari viewer.
        axes, units
            Of all its layers; units for the plane too.
        viewpoint
            Where it looks, and the axes that the layer is to have.

        Returns
        -------
        bool
            Whether the layer shows something else than before.

        Raises
        ------
        ValueError
            If napari has no way to show it.
        """
        self.version = self.annotations.version
        leading = self._axes(axes, viewpoint)
        # napari fades tracks by itself: all of their times are on the layer.
        over = leading if self.kind == "tracks" else ()
        viewpoint = Viewpoint(leading, {axis: at for axis, at in viewpoint.where.items() if axis not in over})
        geometry = self._geometry(leading)
        made = (leading, *geometry.values(), units)
        items = self.annotations.at(viewpoint.where)
        moving = tuple(viewpoint.where.get(axis) for axis in leading)
        viewpoint = viewpoint._replace(offset=self._offsets(items, geometry))
        seen = (made, items, moving, self._choosing(items, viewpoint), viewpoint.offset)
        if seen == self._seen:
            return False
        content, self.far = self._content(items, viewpoint).without_far()
        if self.kind == "tracks" and not len(content.coordinates):  # napari has no such layer
            take_out(viewer, self.layer)
            self.overlay.layer = self._made = None
        elif made != self._made:
            about: dict[str, Any] = {"name": self.name, "axis_labels": (*leading, "y", "x")}
            about["metadata"] = {"scopecast": {"source": self.stream.title, "stream": self.stream.about.title}}
            self.overlay.add(viewer, content, units=units[len(units) - len(leading) - 2 :], **about, **geometry)
            self._made = made
        else:
            self.overlay.show(content)
        self._seen = seen
        self.shown = max((item.tag for item in items), key=lambda tag: tag.sequence, default=None)
        return True

    def _geometry(self, leading: tuple[str, ...]) -> dict[str, tuple[float, ...]]:
        spacing = canvas_spacing(self.stream)
        corner: tuple[float, ...] = next(filter(None, map(self._corner_of, self.annotations)), ())
        if not corner and self.stream.newest is not None:
            corner = corner_on_canvas(self.stream, self.stream.newest[2].translate)
        scale = (*(spacing.get(name, 1.0) for name in leading), *pixel_on_canvas(self.stream))
        places = (*(0.0 for _ in leading), *(corner or (0.0, 0.0)))
        Box((*leading, "y", "x"), places, places, scale).check(canvas_unit(self.stream))
        return {"scale": scale, "translate": places}

    def _offsets(
        self, items: Sequence[Annotation], geometry: Mapping[str, tuple[float, ...]]
    ) -> dict[int, tuple[float, float]]:
        """Return how far from the layer's corner documents lie, by their numbers, (y, x) in pixels."""
        offsets: dict[int, tuple[float, float]] = {}
        (y, x), (by_y, by_x) = geometry["translate"][-2:], geometry["scale"][-2:]
        for item in items:
            corner = self._corner_of(item)
            if corner and (corner[0], corner[1]) != (y, x):
                offsets[item.tag.sequence] = ((corner[0] - y) / by_y, (corner[1] - x) / by_x)
        return offsets

    def _corner_of(self, item: Annotation) -> tuple[float, ...]:
        """Return where a document lies: where it says, else with the images of its position; () if neither is known."""
        if own := corner_on_canvas(self.stream, item.tag.translate):
            return own
        place = tuple(item.where.get(name) for name in "pg")
        if place not in self._corners and (corner := corner_of_image(self.stream, item.where)):
            self._corners[place] = corner_on_canvas(self.stream, corner)
        return self._corners.get(place, ())


class LiveAnnotations:
    """The layers of all annotations in one viewer. Used on the GUI's thread only.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        The layers of the images, whose axes and units hold for these too.
    """

    def __init__(self, viewer: Viewer, layers: LiveLayers) -> None:
        self.viewer, self._layers = viewer, layers
        self._live: dict[_Key, LiveAnnotation] = {}
        self._closed: set[_Key] = set()  # layers that the user has deleted
        self._failed = Unshown()
        self._unread: tuple[str, ...] = ()  # why regions of interest could not be read
        self._parts: dict[_Key, _Part] = {}
        self._showing = False

    def __iter__(self) -> Iterator[LiveAnnotation]:
        """Iterate over those in the scene."""
        return iter([live for live in self._live.values() if live.layer is not None and not live.parked])

    def __len__(self) -> int:
        return len(list(iter(self)))

    @property
    def problems(self) -> tuple[str, ...]:
        """Why some can't be shown."""
        far = (f"{live.name}: {live.far}" for live in self._live.values() if live.far)
        return (*self._failed.reasons, *far, *self._unread)

    def update(self, streams: Iterable[LiveStream], new: Sequence[LiveLayer]) -> None:
        """Take in what has come, and let the sliders reach it; `show` is to follow.

        Parameters
        ----------
        streams
            All that the viewer shows.
        new
            The layers of images that were made just now.
        """
        streams = tuple(streams)
        parts = {part.key: part for stream in streams for part in self._parts_of(stream)}
        self._parts = {key: part for key, part in parts.items() if part.stream in self._layers.scene}
        self._remove_gone(set(parts))
        self._come_back()
        self._put_in_order(new)
        items = (item for stream in streams for each in stream.annotations if each.kind == "rois" for item in each)
        self._unread = tuple(dict.fromkeys(item.regions.problem for item in items if item.regions.problem))
        reach: dict[str, tuple[float, float]] = {}
        for part in self._parts.values():
            spacing = canvas_spacing(part.stream)
            for axis, ends in part.annotations.reach.items():
                low, high = sorted(end * spacing.get(axis, 1.0) for end in ends)
                known = reach.get(axis, (low, high))
                reach[axis] = (min(low, known[0]), max(high, known[1]))
        self._layers.reach = reach
        self._stretch()

    def _parts_of(self, stream: LiveStream) -> Iterator[_Part]:
        for each in stream.annotations:
            kinds = {each.kind}
            if each.kind == "rois":
                kinds = {kind for item in each for kind in item.regions.kinds}
            for kind in sorted(kinds, reverse=True):
                yield _Part(stream, each, kind)

    def _remove_gone(self, wanted: set[_Key]) -> None:
        self._closed &= wanted
        self._failed.keep_only(wanted)
        for key, live in tuple(self._live.items()):
            if live.layer is not None and not live.parked and live.layer not in self.viewer.layers:
                del self._live[key]  # the user deleted it
                self._closed |= {key} & wanted
            elif key not in wanted:
                del self._live[key]
                take_out(self.viewer, live.layer)

    def leave(self) -> None:
        """Take the layers of runs that have left the scene out of the viewer."""
        for live in self:
            if live.stream not in self._layers.scene:
                live.parked, live.shown = True, None
                take_out(self.viewer, live.layer)

    def _come_back(self) -> None:
        """Put the layers of runs that are in the scene again into the viewer."""
        for key, live in tuple(self._live.items()):
            if not live.parked or key not in self._parts:
                continue
            live.parked = False
            try:
                with all_or_nothing(self.viewer):
                    self.viewer.layers.append(live.layer)
            except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                self._failed.note(key, (live.annotations.version, self._layers.axes), live.name, error)
                del self._live[key]

    def _put_in_order(self, new: Sequence[LiveLayer]) -> None:
        """Keep new images and labels below what lies on them."""
        for made in new:
            above = [live for live in (*self._layers, *self) if live.stream is made.stream and live.rank > made.rank]
            layers = list(self.viewer.layers)
            lowest = min((layers.index(live.layer) for live in above if live.layer in layers), default=len(layers))
            if layers.index(made.layer) > lowest:
                self.viewer.layers.move(layers.index(made.layer), lowest)

    def _stretch(self) -> None:
        """Let the sliders reach all places, if they do not."""
        dims, axes = self.viewer.dims, self._layers.axes
        first = dims.ndim - 2 - len(axes)
        for at, name in enumerate(axes):
            if name in self._layers.reach and first + at >= 0:
                low, high = self._layers.reach[name]
                reaches = dims.range[first + at]
                if low < reaches.start - 1e-9 or high > reaches.stop + 1e-9:
                    self._layers.stretch_sliders()
                    return

    def show(self, where: Callable[[LiveStream], dict[str, int]], *, make: bool = True, remake: bool = True) -> bool:
        """Show what belongs under the sliders.

        Parameters
        ----------
        where
            Returns the sliders' places for a stream, by axis.
        make
            Whether a new layer may be made; at most one is.
        remake
            Whether layers may be made anew; not while napari itself changes its layers. See `LiveLayers.incomplete`
            for what was put off.

        Returns
        -------
        bool
            Whether any layer shows something else than before.
        """
        if self._showing:  # a layer that is being made moved something
            self._layers.incomplete = True
            return False
        self._showing = True
        try:
            return self._show_all(where, make, remake)
        finally:
            self._showing = False

    def _show_all(self, where: Callable[[LiveStream], dict[str, int]], make: bool, remake: bool) -> bool:
        changed = False
        for key, part in self._parts.items():
            live = self._live.get(key)
            if key in self._closed or (
                live is None and self._failed.blocks(key, (part.annotations.version, self._layers.axes))
            ):
                continue
            if live is None:
                if not make:
                    self._layers.incomplete = True
                    continue
                make = False
                live = self._live[key] = LiveAnnotation(part)
            elif live.layer is not None and not live.layer.visible:
                live.shown = None
                live.version = part.annotations.version
                continue
            changed = self._show(key, live, where(part.stream), remake) or changed
        return changed

    def _show(self, key: _Key, live: LiveAnnotation, where: dict[str, int], remake: bool) -> bool:
        first, axes, dims = live.layer is None, self._layers.axes, self.viewer.dims
        lead = dims.ndim - 2 - len(axes)
        displayed = [name for at, name in enumerate(axes) if lead + at in dims.displayed]
        # Without any layer that has the sliders' axes, these have to have them.
        needed = axes if not len(self._layers) else axes[axes.index(displayed[0]) :] if displayed else ()
        viewpoint = Viewpoint(needed, {name: at for name, at in where.items() if name not in displayed})
        selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
        try:
            if not remake and live.is_outdated(axes, self._layers.units, viewpoint):
                self._layers.incomplete = True
                return False
            changed = live.update(self.viewer, axes, self._layers.units, viewpoint)
        except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
            self._failed.note(key, (live.annotations.version, axes), live.name, error)
            del self._live[key]
            take_out(self.viewer, live.layer)
            return False
        self._failed.clear(key)
        if first and live.layer is not None:
            if active is not None:
                self.viewer.layers.selection = selected  # the user goes on with the layer that they work on
            self._stretch()
        return changed
