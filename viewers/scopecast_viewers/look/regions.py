"""ImageJ's regions of interest as shapes and points on a canvas whose origin is the middle of the first pixel.

ImageJ has two conventions. Areas (rectangles, ovals, polygons) count from the upper left corner of the first pixel,
lines and points from its middle (``Roi.useLineSubpixelConvention`` in ImageJ 1.54p): areas are therefore moved by half
a pixel.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from scopecast.frames.documents import Rois, ShapeType

__all__ = ["Region", "Regions", "read_regions"]

logger = logging.getLogger(__name__)


class Region(NamedTuple):
    """A region of interest, as a viewer draws it.

    Attributes
    ----------
    name, text
        What it is called; what it says, if it is a text.
    type
        The shape, or ``"points"``.
    vertices : numpy.ndarray
        (n, 2) y, x in pixels; rectangles and ellipses have the four corners of their box.
    where
        Its index along ``"c"``, ``"z"`` and ``"t"`` where it is at one position only.
    position
        Its number in a stack, from 1, where only that is known; else 0.
    edge_color, face_color, width
        How it is drawn, ``#rrggbb`` or ``#rrggbbaa``, and pixels; ``""`` and 0 where it has none.
    group
        Its group in ImageJ; 0 for none.
    """

    name: str
    type: ShapeType | Literal["points"]
    vertices: npt.NDArray[np.float64]
    where: Mapping[str, int]
    position: int
    edge_color: str
    face_color: str
    width: float
    text: str
    group: int

    def is_at(self, where: Mapping[str, int], stack_axis: str) -> bool:
        """Whether it belongs to a position of the sliders.

        Parameters
        ----------
        where
            The index along each axis that is to count.
        stack_axis
            The only axis of the stack, which `position` counts along; ``""`` if there is none or more than one.
        """
        return all(where.get(axis, index) == index for axis, index in self.place(stack_axis).items())

    def place(self, stack_axis: str) -> dict[str, int]:
        """Return its index along the axes at which it is at one position only; `stack_axis` as in `is_at`."""
        if self.position and stack_axis and not self.where:
            return {stack_axis: self.position - 1}
        return dict(self.where)


class Regions(NamedTuple):
    """The regions of a document, and what could not be read of it.

    Attributes
    ----------
    regions
        In the document's order; a composite one has several.
    problem
        Why some could not be read, or ``""``.
    kinds
        Which of ``"shapes"`` and ``"points"`` they are.
    axes
        The axes at which any is at one position only.
    """

    regions: tuple[Region, ...]
    problem: str
    kinds: frozenset[str] = frozenset()
    axes: frozenset[str] = frozenset()


def read_regions(document: Rois) -> Regions:
    """Read the regions of interest of a document; what can't be read is left out, and said."""
    try:
        import roifile
    except ImportError:
        return Regions((), "regions of interest need roifile: pip install 'scopecast[rois]'")
    found: list[Region] = []
    failed: list[str] = []
    for at, item in enumerate(document.items):
        name = document.names[at] if at < len(document.names) else ""
        try:
            found += _regions(roifile.ImagejRoi.frombytes(item), name, roifile)
        except Exception as error:  # whatever roifile does with bytes of anybody's making; told below
            failed.append(f"{name or at}: {type(error).__name__}: {error}")
            logger.debug("cannot read a region of interest", exc_info=error)
    problem = (
        f"{len(failed)} of {len(document)} regions of interest can't be read ({failed[0][:100]})" if failed else ""
    )
    kinds = frozenset("points" if region.type == "points" else "shapes" for region in found)
    return Regions(tuple(found), problem, kinds, frozenset(axis for region in found for axis in region.where))


def _regions(roi: Any, name: str, roifile: Any) -> Iterator[Region]:
    kind, subtype = roifile.ROI_TYPE, roifile.ROI_SUBTYPE
    positions = {"c": roi.c_position, "z": roi.z_position, "t": roi.t_position}
    area = roi.roitype not in (kind.LINE, kind.FREELINE, kind.POLYLINE, kind.ANGLE, kind.POINT)
    for shape, xy in _outlines(roi, kind):
        vertices = np.asarray(xy, np.float64)[:, ::-1] - (0.5 if area else 0.0)
        if not len(vertices) or not np.isfinite(vertices).all() or np.abs(vertices).max() > 1e7:
            raise ValueError(f"{len(vertices)} vertices, or some that are not on any image")
        yield Region(
            name=roi.name or name,
            type=_possible(shape, len(vertices)),
            vertices=vertices,
            where={axis: index - 1 for axis, index in positions.items() if index > 0},
            position=max(0, roi.position),
            edge_color=_color(roi.stroke_color, roi.byteorder),
            face_color=_color(roi.fill_color, roi.byteorder),
            width=float(roi.float_stroke_width or (0 if roi.roitype == kind.POINT else roi.stroke_width)),
            text=roi.text if roi.subtype == subtype.TEXT else "",
            group=int(roi.group),
        )


def _outlines(roi: Any, kind: Any) -> Iterator[tuple[str, Any]]:
    """Return the type and the vertices (x, y) of each outline, in ImageJ's own coordinates."""
    if roi.composite:
        for path in roi.coordinates(multi=True):
            closed = len(path) > 1 and (path[0] == path[-1]).all()
            yield "polygon", path[:-1] if closed else path
    elif roi.roitype in (kind.RECT, kind.OVAL):
        x0, y0, x1, y1 = roi.left, roi.top, roi.right, roi.bottom
        if roi.subpixelrect:
            x0, y0, x1, y1 = roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd
        box = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        yield "rectangle" if roi.roitype == kind.RECT else "ellipse", box
    elif roi.roitype == kind.LINE:
        yield "line", [(roi.x1, roi.y1), (roi.x2, roi.y2)]
    elif roi.roitype == kind.POINT:
        yield "points", roi.coordinates()
    elif roi.roitype in (kind.POLYLINE, kind.FREELINE, kind.ANGLE):
        yield "path", roi.coordinates()
    elif roi.roitype in (kind.POLYGON, kind.FREEHAND, kind.TRACED):
        yield "polygon", roi.coordinates()
    else:
        raise ValueError(f"a region of type {roi.roitype} is not known")


def _possible(shape: Any, vertices: int) -> Any:
    """Return the type that so few vertices can be drawn as."""
    if shape in ("polygon", "path") and vertices < 3:
        return "points" if vertices == 1 else "line"
    return shape


def _color(argb: bytes, byteorder: str) -> str:
    """Return ``#rrggbb`` or ``#rrggbbaa``; ``""`` for no colour."""
    if len(argb) != 4 or argb == bytes(4):
        return ""
    alpha, red, green, blue = argb if byteorder == ">" else argb[::-1]
    return f"#{red:02x}{green:02x}{blue:02x}" + ("" if alpha == 255 else f"{alpha:02x}")
