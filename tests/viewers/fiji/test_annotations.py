"""What lies on the images, in a real ImageJ: labels, points, shapes, tracks and ImageJ's own regions of interest."""

from __future__ import annotations

import itertools
from functools import partial

import jpype
import numpy as np
import pytest
import roifile
import tifffile

from fiji_live import on_screen, pixels_of
from receivers import stamped
from scopecast import subscribe
from scopecast.showing.stacks import Showing
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.fiji.label_look import categorical_colors

SHAPE = (64, 48)


def titles(live):
    return [str(image.imp.getTitle()) for image in live.images]


def overlay_of(live, number=0):
    """Return the regions on an image's overlay as (name, type, x, y, frame), in their order."""
    overlay = live.image(number).imp.getOverlay()
    rois = [] if overlay is None else [overlay.get(n) for n in range(overlay.size())]
    return [(str(roi.getName()), str(roi.getTypeAsString()), roi) for roi in rois]


def frame_of(roi):
    """Return the frame at which a region is seen in an image with one slider, or 0 for all."""
    return int(roi.getPosition()) or int(roi.getTPosition())


# ---- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "highest", "bits"),
    [
        *(("bool", 1, 8), ("uint8", 255, 8), ("int16", 300, 16), ("uint16", 65535, 16), ("int32", 40_000, 16)),
        *(("int64", 7, 16), ("uint32", 70_000, 32), ("int8", -1, 32)),
    ],
)
def test_labels_are_an_image_of_their_own_with_the_same_values(live, dtype, highest, bits):
    labels = np.zeros(SHAPE, dtype)
    labels[10:20, 10:20], labels[30:40, 5:15] = 1, highest
    with live.publisher(dtype="int64") as publisher:
        publisher.new_stream("cells")
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        publisher.publish(labels, kind="labels", axes={"t": 0})
        live.settled(publisher)
        assert titles(live) == ["cells", "cells labels"]
        imp = live.image(1).imp
        assert int(imp.getBitDepth()) == bits
        np.testing.assert_array_equal(live.pixels(imp), labels.astype(np.int64))
        assert (float(imp.getDisplayRangeMin()), float(imp.getDisplayRangeMax())) == (0, max(255, highest))
        assert publisher.stats().receivers[0].frames.delivered == 2


def test_labels_have_a_colour_each_and_none_is_black(live):
    labels = np.arange(256, dtype="uint8").reshape(16, 16)
    with live.publisher((16, 16), "uint8") as publisher:
        publisher.publish(labels, kind="labels", name="all of them", axes={"t": 0})
        live.settled(publisher)
        shown = pixels_of(live.image().imp.getProcessor().convertToRGB())
        assert titles(live)[0].endswith("all of them")
        assert not shown[0, 0].any()
        np.testing.assert_array_equal(shown.reshape(-1, 3)[1:], categorical_colors())
    assert len({tuple(color) for color in categorical_colors().tolist()}) == 255


def test_what_the_user_sets_of_labels_stays_and_labels_grow_beside_their_images(live):
    with live.publisher() as publisher:
        publisher.new_stream("run", channels=["DAPI", "GFP"])
        for t in range(3):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t, "c": "DAPI"})
            publisher.publish(np.full(SHAPE, 300 + 100 * t, "uint16"), kind="labels", axes={"t": t})
            live.settled(publisher)
            labels = live.image(1).imp
            assert live.position(labels)[2] == t + 1
            assert float(labels.getDisplayRangeMax()) == 300 + 100 * t
        assert list(labels.getDimensions()) == [48, 64, 1, 1, 3], "no empty channels"
        live.on_awt(lambda: labels.setDisplayRange(5, 50))
        publisher.publish(np.full(SHAPE, 900, "uint16"), kind="labels", axes={"t": 3})
        live.settled(publisher)
        assert (float(labels.getDisplayRangeMin()), float(labels.getDisplayRangeMax())) == (5, 50)
        assert int(labels.getNFrames()) == 4
        assert int(live.image(0).imp.getNFrames()) == 3


# ---- points, shapes, tracks ------------------------------------------------------------------------------------------


def test_points_and_shapes_lie_where_they_belong_and_the_same_place_replaces(live):
    with live.publisher() as publisher:
        for t in range(3):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            publisher.publish([[10.25, 20.5], [t, 3]], kind="points", name="spots", axes={"t": t})
        shapes = [[[4, 5], [9, 15]], [[10, 10], [20, 30]], [[1, 1], [1, 9], [9, 9]], [[2, 3], [30, 40]]]
        kinds = ["rectangle", "ellipse", "polygon", "line"]
        publisher.publish(shapes, kind="shapes", shape_type=kinds, names=["a", "b", "c", "d"])
        live.settled(publisher)
        found = live.until(lambda: len(overlay_of(live)) == 7 and overlay_of(live))
        spots = [roi for _, kind, roi in found if kind == "Point"]
        assert [frame_of(roi) for roi in spots] == [1, 2, 3]
        assert list(spots[2].getFloatPolygon().xpoints)[:2] == [20.5, 3]
        assert list(spots[2].getFloatPolygon().ypoints)[:2] == [10.25, 2]
        drawn = {name: (kind, roi) for name, kind, roi in found if kind != "Point"}
        assert {name: kind for name, (kind, _) in drawn.items()} == {
            "a": "Rectangle",
            "b": "Oval",
            "c": "Polygon",
            "d": "Straight Line",
        }
        assert {frame_of(roi) for _, roi in drawn.values()} == {0}, "seen at all times"
        box = drawn["a"][1].getFloatBounds()
        # Half a pixel further: ImageJ counts areas from the corner of the first pixel.
        assert (box.x, box.y, box.width, box.height) == (5.5, 4.5, 10, 5)
        line = drawn["d"][1]
        assert (line.x1d, line.y1d, line.x2d, line.y2d) == (3, 2, 40, 30)

        kept = live.image().imp.getOverlay().get(0)
        publisher.publish([[1, 1]], kind="points", name="spots", axes={"t": 1})
        live.until(
            lambda: [roi.getFloatPolygon().npoints for _, k, roi in overlay_of(live) if k == "Point"] == [2, 2, 1]
        )
        assert live.image().imp.getOverlay().get(0) == kept, "what was there is not drawn again"


def test_shapes_that_lean_and_points_with_a_z_of_their_own(live):
    with live.publisher() as publisher:
        for t, z in itertools.product(range(2), range(3)):
            publisher.publish(stamped(t, 0, z, SHAPE), axes={"t": t, "z": z})
        corners = [[[10, 20], [20, 30], [14, 36], [4, 26]]] * 2
        publisher.publish(corners, kind="shapes", shape_type=["rectangle", "ellipse"], names=["box", "round"])
        publisher.publish([[0, 5, 6], [2, 7, 8], [2, 9, 9]], kind="points", dims="zyx", axes={"t": 1})
        live.settled(publisher)
        found = live.until(lambda: len(overlay_of(live)) == 4 and overlay_of(live))
        assert [(name, kind) for name, kind, _ in found[:2]] == [("box", "Polygon"), ("round", "Freehand")]
        round_ = found[1][2].getFloatPolygon()
        xs, ys = np.array(round_.xpoints)[: round_.npoints], np.array(round_.ypoints)[: round_.npoints]
        # Its middle is that of the corners, half a pixel further; its longest extent is the longer side of the box.
        assert np.allclose(((xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2), (28.5, 12.5), atol=0.2)
        assert np.isclose(np.hypot(xs - 28.5, ys - 12.5).max() * 2, np.hypot(10, 10), atol=0.2)
        places = [
            (int(roi.getZPosition()), int(roi.getTPosition()), roi.getFloatPolygon().npoints) for *_, roi in found[2:]
        ]
        assert places == [(1, 2, 1), (3, 2, 2)]


def test_tracks_are_paths_and_a_dot_where_each_is_at_a_time(live):
    with live.publisher() as publisher:
        for t in range(4):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            publisher.publish([[7, 10 + t, 20], [9, 30, 5 + t]], kind="tracks", name="paths", axes={"t": t})
            live.settled(publisher)
        found = live.until(lambda: len(overlay_of(live)) == 6 and overlay_of(live))
        paths = {name: roi.getFloatPolygon() for name, kind, roi in found if kind == "Polyline"}
        assert list(paths["track 7"].ypoints)[:4] == [10, 11, 12, 13]
        assert list(paths["track 9"].xpoints)[:4] == [5, 6, 7, 8]
        dots = [(frame_of(roi), roi.getFloatPolygon()) for _, kind, roi in found if kind == "Point"]
        assert [frame for frame, _ in dots] == [1, 2, 3, 4]
        assert list(dots[2][1].ypoints)[:2] == [12, 30]


def test_too_many_shapes_are_drawn_in_part_and_the_line_below_the_image_says_so(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        lines = np.tile([[1.0, 1.0], [5.0, 5.0]], (2100, 1, 1))
        publisher.publish(lines, kind="shapes", shape_type="line")
        live.settled(publisher)
        live.until(lambda: len(overlay_of(live)) == 2000)
        live.until(lambda: "100 marks not drawn" in live.image().strip.text)


@pytest.mark.parametrize("far", [1e9, -3e9, 1e15, 1e300], ids="{:g}".format)
def test_what_is_far_away_is_told_and_neither_the_images_nor_other_marks_stand_still(live, far):
    with live.publisher() as publisher:
        publisher.new_stream("far")
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0}, translate=(1e15, -1e300))
        live.settled(publisher)
        publisher.publish([[20, 20.5], [far, 5.0]], kind="points", name="spots")
        publisher.publish([[0, 5, 5], [far, 6, 6]], kind="points", name="deep", dims="zyx")
        publisher.publish([[[0, 0], [0, far], [far, far]], [[10, 10], [10, 30], [30, 30]]], kind="shapes")
        publisher.publish([[1, 0, 20, 20.0], [1, 1, 30, 30], [2, far, far, 5]], kind="tracks")
        publisher.publish([[1, 0, 2, 0], [1, abs(far), 30, 30]], kind="tracks", name="late")
        for t in (1, 2):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        assert live.position(live.image().imp) == (1, 1, 3)
        np.testing.assert_array_equal(live.pixels(live.image().imp, frame=3), stamped(2, 0, 0, SHAPE))
        names = [name for name, _, _ in overlay_of(live)]
        assert names.count("points") == 2 + (abs(far) < 2**31)  # as far as ImageJ counts slices, one may be for a slice
        assert "track 1" in names
        boxes = [roi.getBounds() for _, _, roi in overlay_of(live)]
        assert all(abs(value) < 100 for box in boxes for value in (box.x, box.y, box.width, box.height))
        live.until(lambda: "1 marks not drawn: too many, or too far away" in live.image().strip.text)


# ---- what programs reply ---------------------------------------------------------------------------------------------


def test_what_a_program_replies_is_on_the_screen_on_its_frame(live):
    hollow = {"size": 12, "color": "#00000000", "edge_color": "#ff0000"}  # as examples/analyse/spot_counter.py has it
    with live.publisher() as publisher, subscribe(policy="every") as frames:
        live.until(lambda: frames.sources)
        for run in range(2):
            publisher.new_stream(f"run {run}", sizes={"t": 3})
            for t in range(3):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                frame = next(frames)
                labels = np.zeros(SHAPE, int)
                labels[10:20, 4 + 14 * t : 14 + 14 * t] = t + 1
                frame.reply(labels, name="cells")
                frame.reply([[40, 9 + 14 * t]], kind="points", name="spots", style=hollow)
            live.until(lambda number=6 * (run + 1): frames.stats().taken == number, what="replies that are taken")
            live.settled(publisher)
            images, cells = live.images[-2:]
            assert [str(each.imp.getTitle()) for each in (images, cells)] == [f"run {run}", f"run {run} cells"]
            for t in (2, 0, 1):  # the newest, then a look back
                for image in (images, cells):
                    live.move(image.imp, 1, 1, t + 1)
                circle = partial(where_columns, images, slice(32, 49), (255, 0, 0))
                live.until(lambda at=9 + 14 * t, seen_at=circle: near(seen_at(), at, 8), what=f"the circle of t {t}")
                label = partial(where_columns, cells, slice(10, 20), categorical_colors()[t])
                live.until(lambda at=9 + 14 * t, seen_at=label: near(seen_at(), at, 5), what=f"the labels of t {t}")


def test_marks_of_a_frame_that_has_not_come_are_on_the_screen_with_it_and_not_before(live):
    style = {"size": 12, "color": "#ff0000"}
    with live.publisher() as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", sizes={"t": 3})
            for t in (0, 1):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            publisher.publish([[40, 9]], kind="points", name="fixed", axes={"t": 2}, style=style)
            publisher.publish([[2, 40, 37.0]], kind="points", name="own", dims="tyx", style=style)
            live.settled(publisher)
            image = live.images[-1]
            live.until(lambda image=image: int(image.imp.getOverlay().size()) == 2, what="marks")
            for t in (0, 1):
                live.move(image.imp, 1, 1, t + 1)
                live.paint()
                assert not len(live.on_awt(lambda image=image: where_columns(image, slice(32, 49), (255, 0, 0))))
            publisher.publish(stamped(2, 0, 0, SHAPE), axes={"t": 2})
            live.settled(publisher)
            live.move(image.imp, 1, 1, 3)
            red = partial(where_columns, image, slice(32, 49), (255, 0, 0))
            live.until(lambda seen_at=red: {9, 37} <= set(seen_at()), what="both marks on their frame")


def where_columns(image, rows, color):
    """Return the columns of an image in some rows of which the screen has a colour."""
    canvas = image.imp.getCanvas()
    image.imp.getWindow().toFront()
    zoom = int(canvas.getMagnification())
    picture = on_screen(canvas)[rows.start * zoom : rows.stop * zoom]
    return np.flatnonzero((picture == color).all(axis=-1).any(axis=0)) // zoom


def near(columns, middle, half):
    """Whether there are columns, and all within half of the middle, on both sides of it."""
    return len(columns) and middle - half <= columns[0] < middle <= columns[-1] <= middle + half


# ---- regions of interest ---------------------------------------------------------------------------------------------


def region(kind, points, name):
    made = roifile.ImagejRoi.frompoints(points, name=name)
    made.roitype = roifile.ROI_TYPE[kind]
    return made


def box_of(roi):
    return (roi.left, roi.top, roi.right, roi.bottom, roi.xd, roi.yd, roi.widthd, roi.heightd)


def subpixel_oval():
    made = region("OVAL", [[5, 6], [20, 30]], "fine")
    made.options |= roifile.ROI_OPTIONS.SUB_PIXEL_RESOLUTION
    made.xd, made.yd, made.widthd, made.heightd = 5.5, 6.25, 14.75, 24.5
    return made


def test_regions_of_interest_are_what_imagej_reads_itself_and_lie_where_they_belong(live):
    sent = [
        region("FREEHAND", [[1, 1], [10, 2], [8, 12]], "outline"),
        region("POINT", [[3.5, 4.5], [7.5, 8.5]], "spots"),
        region("OVAL", [[5, 6], [20, 30]], "cell"),
        region("RECT", [[1, 2], [3, 4]], "field"),
        region("POLYGON", [[5.5, 6.25], [20.25, 30.5], [7, 20]], "fine outline"),
        subpixel_oval(),
    ]
    with live.publisher() as publisher:
        for t, z in itertools.product(range(4), range(3)):
            publisher.publish(stamped(t, 0, z, SHAPE), axes={"t": t, "z": z})
        live.settled(publisher)
        imp = live.image().imp
        publisher.publish(sent, kind="rois", axes={"t": 2, "z": 1}, name="cells")
        live.until(lambda: publisher.flush(0))
        live.until(lambda: len(overlay_of(live)) == len(sent))
        for (name, _, roi), original in zip(overlay_of(live), sent, strict=True):
            read = java("ij.io.RoiDecoder")(jpype.JArray(jpype.JByte)(original.tobytes()), original.name).getRoi()
            assert name == original.name
            assert int(roi.getType()) == int(read.getType())
            assert str(roi.getFloatBounds()) == str(read.getFloatBounds())
            assert list(roi.getFloatPolygon().xpoints) == list(read.getFloatPolygon().xpoints)
            assert (int(roi.getZPosition()), int(roi.getTPosition())) == (2, 3)
            # The round trip: what ImageJ writes is what was sent.
            back = roifile.ImagejRoi.frombytes(bytes(memoryview(java("ij.io.RoiEncoder").saveAsByteArray(roi))))
            if original.roitype in (roifile.ROI_TYPE.OVAL, roifile.ROI_TYPE.RECT):
                assert box_of(back)[4:] == box_of(original)[4:]
                # A box of fractions has the pixels around it beside them, which ImageJ rounds by itself.
                assert original is sent[-1] or box_of(back) == box_of(original)
            else:
                # Of these, ImageJ takes the vertices and only the corner of the box: roifile's box ends a pixel behind
                # the last vertex, ImageJ's at the vertex.
                np.testing.assert_array_equal(back.coordinates(), original.coordinates())
        manager = java("ij.plugin.frame.RoiManager").getInstance()
        assert [str(roi.getName()) for roi in manager.getRoisAsArray()] == [roi.name for roi in sent]
        live.on_awt(manager.close)
        imp.setRoi(1, 1, 3, 3)
        live.on_awt(lambda: imp.getOverlay().add(imp.getRoi()))
        publisher.publish(sent[:1], kind="rois", axes={"t": 2, "z": 1}, name="cells")  # in the place of the others
        live.until(lambda: imp.getOverlay().size() == 2)
        live.on_awt(java("ij.plugin.frame.RoiManager").getInstance().close)


def test_files_of_regions_lie_on_the_image_file_of_their_name(live, tmp_path):
    for name in ("left", "right"):
        tifffile.imwrite(tmp_path / f"{name}.tif", stamped(0))
    roifile.roiwrite(tmp_path / "right.roi.zip", [roifile.ImagejRoi.frompoints([[1, 1], [10, 2], [8, 12]], name="it")])
    with Showing("fiji", root=tmp_path) as showing:
        for name in ("left.tif", "right.tif", "right.roi.zip"):
            showing.file(tmp_path / name)
        live.settled(showing.publisher)
        overlay = live.until(lambda: live.images and live.image().imp.getOverlay())
        roi = overlay.get(0)
        assert (overlay.size(), str(roi.getName()), live.image().imp.getStackSize()) == (1, "it", 2)
        assert 2 in (int(roi.getPosition()), int(roi.getZPosition()), int(roi.getTPosition()))
    live.on_awt(java("ij.plugin.frame.RoiManager").getInstance().close)
