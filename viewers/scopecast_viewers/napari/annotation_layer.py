"""A layer of napari that shows points, shapes or tracks: what belongs to the place of the sliders."""

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
from scopecast_viewers.napari.limits import Box, CantShowError
from scopecast_viewers.napari.overlays import Overlay, PointsOverlay, ShapesOverlay, TracksOverlay
from scopecast_viewers.napari.steady import take_out
from scopecast_viewers.napari.tiles import corner_of_image
from scopecast_viewers.napari.units import canvas_spacing, canvas_unit, corner_on_canvas, pixel_on_canvas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from napari.viewer import Viewer

    from scopecast_viewers.look.annotation_sets import Annotation, AnnotationSet
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["AnnotationKey", "AnnotationPart", "LiveAnnotation"]

AnnotationKey = tuple["AnnotationSet", str]
"""A set, and the kind of layer that shows it or a part of it."""
_OVERLAYS: Mapping[str, type[Overlay]] = {"points": PointsOverlay, "shapes": ShapesOverlay, "tracks": TracksOverlay}


class AnnotationPart(NamedTuple):
    """What a layer shows of a set: regions of interest become shapes and points."""

    stream: LiveStream
    annotations: AnnotationSet
    kind: str

    @property
    def key(self) -> AnnotationKey:
        """What its layer is known by."""
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

    def __init__(
        self, part: AnnotationPart, shift: Callable[[LiveStream, Mapping[str, int]], tuple[float, float]]
    ) -> None:
        self._shift = shift
        self.stream, self.annotations, self.kind = part.stream, part.annotations, part.kind
        self.overlay = _OVERLAYS[part.kind]()
        self.shown: Tag | None = None
        self.painted = -1
        self.version = -1
        self.parked = False
        self.earlier: int | None = None  # of which t is what it shows, if that is earlier than the images
        self.far = ""  # what of it lies too far away to be shown
        self._seen: Any = None  # what is on the layer
        self._made: Any = None  # axes, scale, translation and units that the layer was made with
        self._corners: dict[tuple[int | None, ...], tuple[float, ...]] = {}  # of the images of each position

    @property
    def layer(self) -> Any:
        """The layer, or None."""
        return self.overlay.layer

    @property
    def identity(self) -> tuple[Any, ...]:
        """What stays the same of it; nothing takes its place."""
        return ()

    @property
    def name(self) -> str:
        """What the layer is called: the annotations, their channel, and the run."""
        return f"{self.called} · {self.stream.about.title}"

    @property
    def called(self) -> str:
        """The annotations, and their channel."""
        called = self.annotations.name or self.annotations.kind
        if self.annotations.kind == "rois" and self.kind == "points":
            called += " (points)"
        if self.annotations.channel is not None:
            called += f" ({self.stream.label('c', self.annotations.channel)})"
        return called

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
            first = content
            if not items and (any_of := max(self.annotations, key=lambda item: item.tag.sequence, default=None)):
                # It looks as those do that are elsewhere; with none, it would never take over their colours.
                first = self._content((any_of,), Viewpoint(leading, {}))
            self.overlay.add(viewer, first, units=units[len(units) - len(leading) - 2 :], **about, **geometry)
            if first is not content:
                self.overlay.show(content)
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
        away = corner_on_canvas(self.stream, self._shift(self.stream, item.where))
        if own := corner_on_canvas(self.stream, item.tag.translate):
            return (own[0] + away[0], own[1] + away[1])
        place = tuple(item.where.get(name) for name in "pg")
        if place not in self._corners and (corner := corner_of_image(self.stream, item.where)):
            self._corners[place] = corner_on_canvas(self.stream, corner)
        return tuple(at + by for at, by in zip(self._corners.get(place, ()), away, strict=False))
