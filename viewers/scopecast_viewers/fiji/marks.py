"""Points, shapes and tracks as ImageJ's regions, to be put onto an image as its overlay.

Documents count from the middle of the first pixel. ImageJ does so for points and lines, but counts areas from the
corner of the first pixel (``Roi.useLineSubpixelConvention``): those are moved by half a pixel.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jpype
import numpy as np

from scopecast.frames.documents import Points, Shapes, Tracks
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.fiji.label_look import categorical_colors
from scopecast_viewers.look.annotation_sets import FAR
from scopecast_viewers.look.colors import GRAY, YELLOW, known_style

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from scopecast.frames.documents import Document, Style
    from scopecast_viewers.look.annotation_sets import Annotation

__all__ = ["MOST_POINTS", "MOST_SHAPES", "Mark", "draw", "draw_tracks"]

#: Drawn of one document; ImageJ goes through all of them whenever it paints, and each takes 0.1 ms to make.
MOST_SHAPES: Final = 2000
MOST_POINTS: Final = 50_000
_LAST: Final = 2**31 - 1  # ImageJ's positions are Java's int
_CIRCLE: Final = 3  # PointRoi's types
_DOT: Final = 2
#: PointRoi's sizes in pixels of the screen, in order.
_SIZES: Final = (1, 3, 5, 7, 11, 17, 25)


class Mark(NamedTuple):
    """A region of ImageJ's, and its index along the axes at which it is at one position only."""

    roi: Any
    where: Mapping[str, int]


def draw(document: Document) -> tuple[list[Mark], int]:
    """Return what to draw of a document of points or shapes, and how many items are left out: too many, too far."""
    if isinstance(document, Points):
        return _points(document)
    assert isinstance(document, Shapes)
    return _shapes(document)


def _points(document: Points) -> tuple[list[Mark], int]:
    coordinates = document.coordinates[_near(document.coordinates)][:MOST_POINTS]
    style, marks = known_style(document.style), []
    for where, rows in _places(coordinates, document.dims):
        roi = java("ij.gui.PointRoi")(*_xy(rows))
        roi.setPointType(_CIRCLE)
        wanted = style.size or 7.0
        roi.setSize(int(np.argmin(np.abs(np.array(_SIZES) - wanted))))
        roi.setStrokeColor(_outline(style.color, style.edge_color))
        roi.setName("points")
        marks.append(Mark(roi, where))
    return marks, len(document) - len(coordinates)


def _shapes(document: Shapes) -> tuple[list[Mark], int]:
    style, marks = known_style(document.style), []
    names = document.names or [""] * len(document)
    shapes = [each for each in zip(document.types, document.vertices, names, strict=True) if _near(each[1]).all()]
    for kind, vertices, name in shapes[:MOST_SHAPES]:
        roi = _shape(kind, vertices[:, -1], vertices[:, -2])
        _paint(roi, style)
        if name:
            roi.setName(name)
        leading = np.rint(vertices[:, :-2].mean(axis=0)).astype(int)
        marks.append(Mark(roi, dict(zip(document.dims[:-2], leading.tolist(), strict=True))))
    return marks, len(document) - len(marks)


def _paint(roi: Any, style: Style) -> None:
    roi.setStrokeColor(_outline(style.edge_color, style.color))
    if style.color and style.edge_color:
        fill = _color(style.color)
        roi.setFillColor(
            java("java.awt.Color")(fill.getRed(), fill.getGreen(), fill.getBlue(), min(96, fill.getAlpha()))
        )
    if style.edge_width:
        roi.setStrokeWidth(float(style.edge_width))


def _shape(kind: str, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Any:
    if kind == "line":
        return java("ij.gui.Line")(float(x[0]), float(y[0]), float(x[1]), float(y[1]))
    polygon = java("ij.gui.PolygonRoi")
    if kind == "path":
        return polygon(*_floats(x, y), polygon.POLYLINE)
    x, y = x + 0.5, y + 0.5
    if kind in ("rectangle", "ellipse"):
        width, height = float(np.ptp(x)), float(np.ptp(y))
        upright = np.isclose(x, x.min()) | np.isclose(x, x.max())
        if (upright & (np.isclose(y, y.min()) | np.isclose(y, y.max()))).all():
            roi = java("ij.gui.Roi" if kind == "rectangle" else "ij.gui.OvalRoi")
            return roi(jpype.JDouble(x.min()), jpype.JDouble(y.min()), jpype.JDouble(width), jpype.JDouble(height))
        if kind == "ellipse":
            return _leaning_ellipse(x, y)
    return polygon(*_floats(x, y), polygon.POLYGON)


def _leaning_ellipse(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> Any:
    """Return the ellipse in a box of four corners that is not upright, by its longer axis."""
    sides = [((x[at] + x[at - 1]) / 2, (y[at] + y[at - 1]) / 2) for at in range(4)]  # middles of the box's sides
    axes = [(sides[0], sides[2]), (sides[1], sides[3])]
    short, long = sorted(axes, key=lambda ends: math.dist(*ends))
    ratio = math.dist(*short) / max(math.dist(*long), 1e-9)
    return java("ij.gui.EllipseRoi")(*(float(value) for end in long for value in end), float(ratio))


def draw_tracks(annotations: Iterable[Annotation]) -> tuple[list[Mark], int]:
    """Return the paths of all tracks of a set, and a dot where each is at each time.

    The paths are seen at all times, as ImageJ's overlays know one position or all of them.

    Returns
    -------
    list of Mark
        What to draw.
    int
        Tracks that are left out as too many, and places that are too far away.
    """
    rows: dict[int, list[tuple[float, float, float]]] = {}  # by the track: t, y, x
    far = 0
    for annotation in annotations:
        document = annotation.document
        assert isinstance(document, Tracks)
        columns = document.coordinates
        fixed = float(annotation.where.get("t", 0))
        times = columns[:, document.dims.index("t")] if "t" in document.dims else np.full(len(columns), fixed)
        near = _near(columns) & (np.abs(times) <= _LAST)
        far += int((~near).sum())
        for number, t, (y, x) in zip(
            document.ids[near].tolist(), times[near].tolist(), columns[near, -2:].tolist(), strict=True
        ):
            rows.setdefault(number, []).append((t, y, x))
    polygon, colors = java("ij.gui.PolygonRoi"), categorical_colors()
    marks: list[Mark] = []
    at_time: dict[int, list[tuple[float, float]]] = {}
    for number in sorted(rows)[:MOST_SHAPES]:
        path = np.array(sorted(rows[number]))
        for t, y, x in path.tolist():
            at_time.setdefault(round(t), []).append((x, y))
        if len(path) > 1:
            roi = polygon(*_floats(path[:, 2], path[:, 1]), polygon.POLYLINE)
            roi.setStrokeColor(java("java.awt.Color")(*colors[number % len(colors)].tolist()))
            roi.setName(f"track {number}")
            marks.append(Mark(roi, {}))
    for t, places in at_time.items():
        roi = java("ij.gui.PointRoi")(*_xy(np.array(places)[:, ::-1]))
        roi.setPointType(_DOT)
        roi.setStrokeColor(_color(GRAY))
        roi.setName(f"tracks at t {t}")
        marks.append(Mark(roi, {"t": t}))
    return marks, far + max(0, len(rows) - MOST_SHAPES)


def _near(table: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Tell which rows ImageJ can place: it counts pixels and positions in 32 bits."""
    limits = np.array([*(_LAST,) * (table.shape[1] - 2), FAR, FAR])
    near: npt.NDArray[np.bool_] = np.all(np.abs(table) <= limits, axis=1)
    return near


def _places(
    coordinates: npt.NDArray[np.float64], dims: Sequence[str]
) -> Iterable[tuple[dict[str, int], npt.NDArray[np.float64]]]:
    """Group coordinates by what their leading columns say, rounded. Yield the place, and (y, x) of what is there."""
    if not len(coordinates):
        return
    leading, which = np.unique(np.rint(coordinates[:, :-2]).astype(int), axis=0, return_inverse=True)
    for number, place in enumerate(leading.tolist()):
        yield dict(zip(dims[:-2], place, strict=True)), coordinates[which.reshape(-1) == number, -2:]


def _xy(rows: npt.NDArray[np.float64]) -> tuple[Any, Any]:
    return _floats(rows[:, 1], rows[:, 0])


def _floats(*columns: npt.NDArray[np.float64]) -> tuple[Any, ...]:
    return tuple(jpype.JArray(jpype.JFloat)(np.ascontiguousarray(column, np.float32)) for column in columns)


def _outline(*wanted: str) -> Any:
    """Return the first of some colours that can be seen, as ImageJ draws points and outlines in a single one."""
    given = [color for color in wanted if color] or [YELLOW]
    return _color(next((color for color in given if color[7:] != "00"), given[0]))


def _color(text: str) -> Any:
    """Return a ``java.awt.Color`` of ``#rrggbb`` or ``#rrggbbaa``."""
    return java("java.awt.Color")(*(jpype.JInt(each) for each in bytes.fromhex(text[1:])))
