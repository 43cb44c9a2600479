"""What a layer of annotations is to show at a position of the sliders: documents become coordinates and features."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scopecast.frames.documents import Points, Shapes, Style, Tracks
from scopecast_viewers.look.annotation_sets import FAR
from scopecast_viewers.look.colors import YELLOW, known_style

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from scopecast_viewers.look.annotation_sets import Annotation
    from scopecast_viewers.look.regions import Region

__all__ = ["Content", "Viewpoint", "points_content", "regions_content", "shapes_content", "tracks_content"]

_Features = dict[str, "npt.NDArray[Any]"]


class Viewpoint(NamedTuple):
    """Where a viewer looks.

    Attributes
    ----------
    axes
        The leading axes that the layer is to have; mostly none.
    where
        The sliders' absolute index along each axis that is not on the canvas.
    offset
        How far from the layer's corner the documents lie, each by its number, (y, x) in pixels: each position of a run
        has a place of its own on the canvas, and one layer has them all.
    """

    axes: tuple[str, ...]
    where: Mapping[str, int]
    offset: Mapping[int, tuple[float, float]] = {}


class Content(NamedTuple):
    """What a layer is to show.

    Attributes
    ----------
    coordinates
        (N, D) for points and tracks, a list of (n, D) for shapes; the leading columns are `Viewpoint.axes`.
    features
        The properties: a value for each point or shape.
    style
        How it wishes to be shown.
    types
        Of shapes.
    edge_colors, face_colors, widths
        Of shapes that have some of their own; else empty.
    ids, graph
        Of tracks.
    """

    coordinates: Any
    features: dict[str, npt.NDArray[Any]]
    style: Style
    types: Sequence[str] = ()
    edge_colors: Sequence[str] = ()
    face_colors: Sequence[str] = ()
    widths: Sequence[float] = ()
    ids: npt.NDArray[np.int64] | None = None
    graph: Mapping[int, list[int]] = {}

    def without_far(self) -> tuple[Content, str]:
        """Return what of it a canvas can place, and what is left out as a phrase, or ``""``.

        One coordinate that is far away, as of a fit that has diverged, must not keep the others from being seen.
        """
        each = self.coordinates if isinstance(self.coordinates, list) else self.coordinates[:, None, :]
        if not len(each):
            return self, ""
        stacked = np.concatenate(list(each))
        # Along an axis such as time it may begin anywhere.
        middle = np.median(stacked, axis=0)
        middle[-2:] = 0
        if np.abs(stacked - middle).max() <= FAR:
            return self, ""
        near = np.array([bool((np.abs(one - middle) <= FAR).all()) for one in each])

        def kept(values: Sequence[Any]) -> list[Any]:
            return [value for value, stays in zip(values, near, strict=True) if stays] if len(values) else []

        coordinates = kept(self.coordinates) if isinstance(self.coordinates, list) else self.coordinates[near]
        ids = None if self.ids is None else self.ids[near]
        graph = (
            self.graph
            if ids is None
            else {
                track: [parent for parent in parents if parent in ids]
                for track, parents in self.graph.items()
                if track in ids and any(parent in ids for parent in parents)
            }
        )
        left_out = (
            f"{int((~near).sum())} of {len(near)} can't be shown: they lie more than {FAR:,} pixels from the images"
        )
        rest = self._replace(
            coordinates=coordinates,
            features={name: values[near] for name, values in self.features.items()},
            types=kept(self.types),
            edge_colors=kept(self.edge_colors),
            face_colors=kept(self.face_colors),
            widths=kept(self.widths),
            ids=ids,
            graph=graph,
        )
        return rest, left_out


def points_content(items: Sequence[Annotation], viewpoint: Viewpoint) -> Content:
    """Return the points of some documents."""
    tables: list[npt.NDArray[np.float64]] = []
    columns: list[tuple[int, _Features]] = []
    for item in items:
        points = item.document
        assert isinstance(points, Points)
        chosen = _under(points.coordinates, points.dims, viewpoint)
        tables.append(_placed(points.coordinates[chosen], points.dims, item, viewpoint))
        columns.append((int(chosen.sum()), {column.name: column.values[chosen] for column in points.properties}))
    return Content(_joined(tables, viewpoint), _features(columns), _style(items))


def shapes_content(items: Sequence[Annotation], viewpoint: Viewpoint) -> Content:
    """Return the shapes of some documents."""
    vertices: list[npt.NDArray[np.float64]] = []
    types: list[str] = []
    columns: list[tuple[int, _Features]] = []
    for item in items:
        shapes = item.document
        assert isinstance(shapes, Shapes)
        each = shapes.vertices
        # A shape lies in one plane: that of its first vertex.
        chosen = np.array([_under(one[:1], shapes.dims, viewpoint)[0] for one in each], bool)
        vertices += [_placed(each[at], shapes.dims, item, viewpoint) for at in np.flatnonzero(chosen)]
        types += [shapes.types[at] for at in np.flatnonzero(chosen)]
        features = {column.name: column.values[chosen] for column in shapes.properties}
        if shapes.names:
            features["name"] = np.array(shapes.names, object)[chosen]
        columns.append((int(chosen.sum()), features))
    return Content(vertices, _features(columns), _style(items), types)


def tracks_content(items: Sequence[Annotation], viewpoint: Viewpoint) -> Content:
    """Return the tracks of some documents, in the order in which napari sorts them."""
    tables: list[npt.NDArray[np.float64]] = []
    ids: list[npt.NDArray[np.int64]] = []
    columns: list[tuple[int, _Features]] = []
    graph: dict[int, list[int]] = {}
    for item in items:
        tracks = item.document
        assert isinstance(tracks, Tracks)
        tables.append(_placed(tracks.coordinates, tracks.dims, item, viewpoint))
        ids.append(tracks.ids)
        columns.append((len(tracks), {column.name: column.values for column in tracks.properties}))
        graph.update(tracks.graph)
    numbers = np.concatenate(ids) if ids else np.empty(0, np.int64)
    together = _joined(tables, viewpoint)
    order = np.lexsort((together[:, 0], numbers))
    features = {name: values[order] for name, values in _features(columns).items()}
    return Content(together[order], features, _style(items), ids=numbers[order], graph=graph)


def regions_content(items: Sequence[Annotation], viewpoint: Viewpoint, kind: str, stack_axis: str) -> Content:
    """Return the regions of interest of some documents that are shapes, or those that are points.

    Parameters
    ----------
    items, viewpoint
        The documents, and where the viewer looks.
    kind
        ``"shapes"`` or ``"points"``.
    stack_axis
        The only axis of the stream; ``""`` if it has none or more than one.
    """
    found: list[Region] = []
    vertices: list[npt.NDArray[np.float64]] = []
    for item in items:
        where = {axis: at for axis, at in viewpoint.where.items() if axis not in item.where}
        for region in item.regions.regions:
            if (region.type == "points") == (kind == "points") and region.is_at(where, stack_axis):
                placed = replace(item, where={**region.place(stack_axis), **item.where})
                found.append(region)
                vertices.append(_placed(region.vertices, ("y", "x"), placed, viewpoint))
    repeat = [len(each) if kind == "points" else 1 for each in vertices]
    features: _Features = {
        "name": np.repeat(np.array([region.name for region in found], object), repeat),
        "text": np.repeat(np.array([region.text for region in found], object), repeat),
        "group": np.repeat(np.array([region.group for region in found], int), repeat),
        "channel": np.repeat(np.array([region.where.get("c", -1) + 1 for region in found], int), repeat),
    }
    if kind == "points":
        color = next((region.edge_color for region in found if region.edge_color), YELLOW)
        return Content(_joined(vertices, viewpoint), features, Style(color=color))
    return Content(
        vertices,
        features,
        Style(text="text"),
        [region.type for region in found],
        [region.edge_color or YELLOW for region in found],
        [region.face_color or "#00000000" for region in found],
        [region.width or 1.0 for region in found],
    )


def _under(table: npt.NDArray[np.float64], dims: Sequence[str], viewpoint: Viewpoint) -> npt.NDArray[np.bool_]:
    """Tell which rows lie under the sliders."""
    chosen = np.ones(len(table), bool)
    for column, axis in enumerate(dims[:-2]):
        if axis in viewpoint.where:
            chosen &= np.round(table[:, column]) == viewpoint.where[axis]
    return chosen


def _placed(
    table: npt.NDArray[np.float64],
    dims: Sequence[str],
    item: Annotation,
    viewpoint: Viewpoint,
) -> npt.NDArray[np.float64]:
    """Return rows where they lie on the layer, with its leading columns: the sliders' places, else their own."""
    leading: list[npt.NDArray[np.float64]] = []
    for axis in viewpoint.axes:
        if axis in viewpoint.where:
            leading.append(np.full(len(table), float(viewpoint.where[axis])))
        elif axis in dims:
            leading.append(table[:, dims.index(axis)])
        else:
            leading.append(np.full(len(table), float(item.where.get(axis, 0))))
    plane = table[:, len(dims) - 2 :]
    if offset := viewpoint.offset.get(item.tag.sequence):
        plane = plane + offset
    return np.column_stack([*leading, plane])


def _joined(tables: Sequence[npt.NDArray[np.float64]], viewpoint: Viewpoint) -> npt.NDArray[np.float64]:
    return np.concatenate(tables) if tables else np.empty((0, len(viewpoint.axes) + 2))


def _features(columns: Sequence[tuple[int, _Features]]) -> _Features:
    """Join the properties of several documents, each with its number of items; what one lacks is NaN or ``""``."""
    texts = {name: values.dtype == object for _, some in columns for name, values in some.items()}
    table: _Features = {}
    for name, text in texts.items():
        parts: list[npt.NDArray[Any]] = []
        for count, some in columns:
            values = some.get(name)
            if values is None or (values.dtype == object) != text:
                values = np.full(count, "", object) if text else np.full(count, np.nan)
            parts.append(values)
        table[name] = np.concatenate(parts)
    return table


def _style(items: Sequence[Annotation]) -> Style:
    """Return the wishes of the newest of some documents."""
    newest = max(items, key=lambda item: item.tag.sequence, default=None)
    style = getattr(newest.document, "style", None) if newest is not None else None
    return known_style(style or Style())
