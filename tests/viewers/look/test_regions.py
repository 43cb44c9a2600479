"""ImageJ's regions of interest, written by roifile, as shapes and points on a canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from scopecast.frames.rois import rois_document
from scopecast_viewers.look.regions import Region, read_regions


def read(*rois: Any) -> tuple[Region, ...]:
    regions, problem, *_ = read_regions(rois_document(list(rois), []))
    assert problem == ""
    return regions


def outline(kind: ROI_TYPE, xy: Any, **more: Any) -> ImagejRoi:
    roi = ImagejRoi.frompoints(xy, name="it")
    roi.roitype = kind
    for name, value in more.items():
        setattr(roi, name, value)
    return roi


SQUARE = [[10, 20], [14, 20], [14, 26]]  # x, y
CORNERS = [[19.5, 9.5], [19.5, 13.5], [25.5, 13.5]]  # y, x: areas count from the corner of a pixel
CENTRES = [[20, 10], [20, 14], [26, 14]]  # lines and points from its middle
BOX = [[1.5, 2.5], [1.5, 8.5], [5.5, 8.5], [5.5, 2.5]]
IN_BOX = {"left": 3, "top": 2, "right": 9, "bottom": 6}
SUBPIXEL = {"options": ROI_OPTIONS.SUB_PIXEL_RESOLUTION, "xd": 3.25, "yd": 2.5, "widthd": 6.5, "heightd": 4.0}
FINE_BOX = [[2.0, 2.75], [2.0, 9.25], [6.0, 9.25], [6.0, 2.75]]

CASES: dict[str, tuple[ImagejRoi, str, Any]] = {
    "polygon": (outline(ROI_TYPE.POLYGON, SQUARE), "polygon", CORNERS),
    "freehand": (outline(ROI_TYPE.FREEHAND, SQUARE), "polygon", CORNERS),
    "traced": (outline(ROI_TYPE.TRACED, SQUARE), "polygon", CORNERS),
    "subpixel polygon": (
        outline(ROI_TYPE.POLYGON, np.array(SQUARE) + 0.25),
        "polygon",
        np.array(CORNERS) + 0.25,
    ),
    "fitted ellipse": (outline(ROI_TYPE.FREEHAND, SQUARE, subtype=ROI_SUBTYPE.ELLIPSE), "polygon", CORNERS),
    "polyline": (outline(ROI_TYPE.POLYLINE, SQUARE), "path", CENTRES),
    "freehand line": (outline(ROI_TYPE.FREELINE, SQUARE), "path", CENTRES),
    "angle": (outline(ROI_TYPE.ANGLE, SQUARE), "path", CENTRES),
    "points": (outline(ROI_TYPE.POINT, SQUARE), "points", CENTRES),
    "line": (ImagejRoi(roitype=ROI_TYPE.LINE, x1=1.5, y1=2.0, x2=7.0, y2=9.25), "line", [[2.0, 1.5], [9.25, 7.0]]),
    "arrow": (
        ImagejRoi(roitype=ROI_TYPE.LINE, subtype=ROI_SUBTYPE.ARROW, x1=1, y1=2, x2=7, y2=9),
        "line",
        [[2, 1], [9, 7]],
    ),
    "rectangle": (ImagejRoi(roitype=ROI_TYPE.RECT, **IN_BOX), "rectangle", BOX),
    "subpixel rectangle": (ImagejRoi(roitype=ROI_TYPE.RECT, **IN_BOX, **SUBPIXEL), "rectangle", FINE_BOX),
    "oval": (ImagejRoi(roitype=ROI_TYPE.OVAL, **IN_BOX), "ellipse", BOX),
    "subpixel oval": (ImagejRoi(roitype=ROI_TYPE.OVAL, **IN_BOX, **SUBPIXEL), "ellipse", FINE_BOX),
    "text": (ImagejRoi(roitype=ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT, text="Zelle", **IN_BOX), "rectangle", BOX),
    "a polygon of two": (outline(ROI_TYPE.POLYGON, SQUARE[:2]), "line", CORNERS[:2]),
    "a path of one": (outline(ROI_TYPE.POLYLINE, SQUARE[:1]), "points", CENTRES[:1]),
}


@pytest.mark.parametrize(("roi", "kind", "vertices"), CASES.values(), ids=CASES)
def test_every_type_lies_where_imagej_draws_it(roi: ImagejRoi, kind: str, vertices: Any):
    (region,) = read(roi)
    assert region.type == kind
    np.testing.assert_array_equal(region.vertices, vertices)
    assert region.text == roi.text


def test_a_composite_is_its_outlines():
    path = [0, 0, 0, 1, 8, 0, 1, 8, 8, 4, 0, 2, 2, 1, 4, 2, 1, 4, 4, 4]  # two triangles, closed
    roi = ImagejRoi(roitype=ROI_TYPE.RECT, shape_roi_size=len(path), multi_coordinates=np.array(path, "f4"))
    outer, inner = read(roi)
    assert (outer.type, inner.type) == ("polygon", "polygon")
    np.testing.assert_array_equal(outer.vertices, [[-0.5, -0.5], [-0.5, 7.5], [7.5, 7.5]])
    np.testing.assert_array_equal(inner.vertices, [[1.5, 1.5], [1.5, 3.5], [3.5, 3.5]])


def test_names_colours_widths_and_groups_are_kept():
    roi = outline(ROI_TYPE.POLYGON, SQUARE, stroke_color=b"\xff\x11\x22\x33", fill_color=b"\x80\x44\x55\x66")
    roi.stroke_width, roi.group = 3, 5
    (region,) = read(roi)
    assert (region.name, region.edge_color, region.face_color, region.width, region.group) == (
        *("it", "#112233", "#44556680", 3.0),
        5,
    )
    (plain,) = read(outline(ROI_TYPE.POLYGON, SQUARE))
    assert (plain.edge_color, plain.face_color, plain.width) == ("", "", 0.0)


def test_a_file_gives_its_name_to_a_region_without_one():
    roi = outline(ROI_TYPE.POLYGON, SQUARE)
    roi.name = ""
    regions, *_ = read_regions(rois_document([roi.tobytes()], [], names=["cell 7"]))
    assert [region.name for region in regions] == ["cell 7"]


POSITIONS: list[tuple[dict[str, int], str, dict[str, int], bool]] = [
    ({}, "", {"z": 4, "t": 9}, True),
    ({"z_position": 3}, "", {"z": 2, "t": 9}, True),
    ({"z_position": 3}, "", {"z": 3, "t": 9}, False),
    ({"z_position": 3}, "", {"t": 9}, True),
    ({"z_position": 3, "t_position": 1}, "", {"z": 2, "t": 1}, False),
    ({"z_position": 3, "t_position": 1}, "", {"z": 2, "t": 0}, True),
    ({"c_position": 2}, "", {"z": 0}, True),
    ({"position": 5}, "t", {"t": 4}, True),
    ({"position": 5}, "t", {"t": 5}, False),
    ({"position": 5}, "", {"t": 5, "z": 1}, True),
]


@pytest.mark.parametrize(("positions", "axis", "where", "there"), POSITIONS)
def test_position_0_means_all(positions: dict[str, int], axis: str, where: dict[str, int], there: bool):
    (region,) = read(outline(ROI_TYPE.POLYGON, SQUARE, **positions))
    assert region.is_at(where, axis) is there


@given(st.data())
def test_damaged_regions_are_left_out_and_said(data: st.DataObject):
    whole = outline(ROI_TYPE.POLYGON, SQUARE)
    content = bytearray(whole.tobytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    regions, problem, *_ = read_regions(rois_document([bytes(content), whole], []))
    assert regions[-1].name == "it"
    assert np.isfinite(regions[0].vertices).all()
    if problem:
        assert problem.startswith("1 of 2 regions of interest can't be read (")
        assert len(regions) == 1
