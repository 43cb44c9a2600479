"""What a real napari window shows beside the images: labels, points, shapes, tracks, regions of interest."""

from __future__ import annotations

import numpy as np
import pytest
import roifile

from imagefiles import write_imagej
from napari_live import Live
from receivers import check_stamp, stamped
from scopecast import NapariStreamingBackend, Publisher
from scopecast.showing.pairing import pair_up
from scopecast.showing.stacks import Showing

SHAPE = (64, 48)


def cells(t):
    """Labels whose numbers tell the time."""
    made = np.zeros(SHAPE, "uint16")
    made[10:20, 5 + t : 15 + t] = t + 1
    return made


def image(publisher, t, z=None):
    publisher.publish(stamped(t, 0, z or 0, SHAPE), axes={"t": t} if z is None else {"t": t, "z": z})


def points_of(live, name):
    return np.asarray(live.layer(name).data).tolist()


def move(live, *places):
    """The user's hand on the sliders."""
    live.viewer.dims.set_point(list(range(len(places))), list(places))


def test_labels_lie_beside_the_images_and_follow_a_moving_slider(live):
    with live.publisher() as publisher:
        publisher.new_stream("run", scale=(0.5, 0.25), units="um")
        for t in range(4):
            image(publisher, t)
            publisher.publish(cells(t), kind="labels", name="cells", axes={"t": t})
            live.settled(publisher)
        labels = live.layer("cells · run")
        assert type(labels).__name__ == "Labels"
        assert [layer.name for layer in live.viewer.layers] == ["run", "cells · run"]
        assert live.viewer.dims.range[0].stop == pytest.approx(3, abs=1e-3)
        assert tuple(labels.scale) == tuple(live.layer("run").scale) == (1, 0.5, 0.25)
        assert tuple(labels.units) == tuple(live.layer("run").units)
        assert live.point()[0] == 3
        for t in (3, 0, 2):
            move(live, t)
            np.testing.assert_array_equal(live.shown("cells · run"), cells(t))
            assert check_stamp(live.shown("run")) == (t, 0, 0)
        assert live.layer("run").contrast_limits != (0, 4), "labels are no image"
        live.until(lambda: all(each.painted >= 0 for each in live.view.layers))


def test_points_have_the_colour_they_were_published_with_although_there_were_none_where_one_looked_first(live):
    with live.publisher() as publisher:
        for number in range(2):
            publisher.new_stream(f"run {number}")
            for t in range(3):
                image(publisher, t)
            live.settled(publisher)
            move(live, 0)
            publisher.publish([[9, 9]], kind="points", axes={"t": 2}, style={"color": "#ff00ff", "size": 5})
            live.settled(publisher)
            layer = live.layer(f"points · run {number}")
            assert len(layer.data) == 0
            move(live, 2)
            live.until(lambda layer=layer: len(layer.data) == 1)
            assert (layer.face_color[0].tolist(), layer.size[0]) == ([1, 0, 1, 1], 5)
            live.view.set_following(True)


def test_who_looks_at_points_while_they_are_replaced_is_told_afterwards(live):
    """napari looks what is under the pointer on a thread of its own."""
    with live.publisher() as publisher:
        image(publisher, 0)
        publisher.publish([[9, 9]], kind="points", axes={"t": 0})
        live.settled(publisher)
        layer = live.layer("points · live")
        place, looks = tuple(layer.data_to_world((9, 9))), []
        first = layer.world_to_data

        def halfway(*where):
            looks.append(where)
            if len(looks) < 3:
                raise IndexError("index 0 is out of bounds for axis 0 with size 0")
            return first(*where)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(layer, "world_to_data", halfway)
            assert layer.get_value(place, world=True) == 0
        assert len(looks) == 3


def test_labels_that_come_later_do_not_call_the_sliders_back(live):
    with live.publisher() as publisher:
        for t in range(6):
            image(publisher, t)
        publisher.publish(cells(2), kind="labels", axes={"t": 2})
        publisher.publish([[1, 1]], kind="points", axes={"t": 2})
        live.settled(publisher)
        live.until(lambda: live.point()[0] == 5)
        assert live.view.follower.following
        # What has come last for this place is seen meanwhile, and told to be earlier.
        np.testing.assert_array_equal(live.shown("labels · live"), cells(2))
        assert points_of(live, "points · live") == [[1, 1]]
        live.until(lambda: "labels of t 2   points of t 2" in live.viewer.canvas.overlays.text.text)
        move(live, 3)
        assert not live.shown("labels · live").any()
        assert points_of(live, "points · live") == []
        move(live, 2)
        np.testing.assert_array_equal(live.shown("labels · live"), cells(2))
        assert points_of(live, "points · live") == [[1, 1]]


def test_bool_and_64_bit_labels_are_shown_and_what_the_user_sets_survives_an_axis(live):
    with live.publisher() as publisher:
        image(publisher, 0)
        publisher.publish(cells(0) > 0, kind="labels", name="mask", axes={"t": 0})
        publisher.publish(cells(0).astype("uint64") * 2**40, kind="labels", name="big", axes={"t": 0})
        live.settled(publisher)
        assert np.unique(live.shown("mask · live")).tolist() == [0, 1]
        assert np.unique(np.asarray(live.layer("big · live").data)).tolist() == [0, 2**40]
        live.layer("mask · live").contour = 2
        live.layer("mask · live").opacity = 0.3
        image(publisher, 1, z=1)  # z joins
        live.settled(publisher)
        mask = live.layer("mask · live")
        assert (mask.contour, mask.opacity, mask.data.ndim) == (2, 0.3, 4)


def test_points_grow_with_time_follow_and_are_replaced(live):
    with live.publisher() as publisher:
        for t in range(4):
            image(publisher, t)
            spots = [[t, 1.5], [t, 2.5], [9.25, t]][: t + 1]
            area = np.arange(len(spots)) + 10.0 * t
            publisher.publish(spots, kind="points", name="spots", axes={"t": t}, properties={"area": area})
            live.settled(publisher)
            assert live.point()[0] == t
            assert points_of(live, "spots · live") == spots, "they follow the sliders that follow"
            assert live.layer("spots · live").features["area"].tolist() == area.tolist()
        move(live, 1)
        assert points_of(live, "spots · live") == [[1, 1.5], [1, 2.5]]
        publisher.publish([[30, 31]], kind="points", name="spots", axes={"t": 1}, properties={"area": [7.0]})
        live.settled(publisher)
        assert points_of(live, "spots · live") == [[30, 31]], "the same place: replaced"
        assert live.layer("spots · live").features["area"].tolist() == [7.0]
        publisher.publish(np.empty((0, 2)), kind="points", name="spots", axes={"t": 1})
        live.settled(publisher)
        assert points_of(live, "spots · live") == []
        move(live, 3)
        assert len(points_of(live, "spots · live")) == 3
        assert [layer.name for layer in live.viewer.layers] == ["live", "spots · live"]


def test_nothing_is_done_where_nothing_changes(live):
    with live.publisher() as publisher:
        publisher.publish([np.array([[0, 0], [0, 9], [9, 9]])], kind="shapes", name="field")
        image(publisher, 0)
        live.settled(publisher)
        live.until(lambda: "live" in live.viewer.layers)
        image(publisher, 1)
        live.settled(publisher)
        changes = []
        live.layer("field · live").events.set_data.connect(lambda _event: changes.append(1))
        for t in range(2, 6):
            image(publisher, t)
            live.settled(publisher)
            assert live.point()[0] == t
        assert changes == [], "shapes that belong to all of the run cost nothing when a slider moves"
        assert len(live.layer("field · live").data) == 1


def test_points_of_a_volume_are_seen_in_their_planes_and_in_3d_where_they_are(live):
    with live.publisher() as publisher:
        for z in range(4):
            image(publisher, 0, z)
        spots = [[0.0, 5, 6], [1.4, 7, 8], [3.0, 9, 10]]
        publisher.publish(spots, kind="points", name="spots", axes={"t": 0})
        live.settled(publisher)
        for z, seen in ((0, [[5, 6]]), (1, [[7, 8]]), (2, []), (3, [[9, 10]])):
            move(live, 0, z)
            assert points_of(live, "spots · live") == seen
        live.viewer.dims.ndisplay = 3
        live.until(lambda: points_of(live, "spots · live") == spots)
        image(publisher, 1, 0)
        live.settled(publisher)
        move(live, 1)
        live.until(lambda: points_of(live, "spots · live") == [])
        live.viewer.dims.ndisplay = 2
        move(live, 0, 3)
        live.until(lambda: points_of(live, "spots · live") == [[9, 10]])


def test_shapes_of_every_type_are_where_they_were_published(live):
    box = np.array([[10, 4], [10, 14], [20, 14], [20, 4]])
    each = [box, box + 5, np.array([[1, 1], [1, 9], [9, 9.5]]), np.array([[1, 2], [3, 4], [5, 1]]), box[:2]]
    types = ["rectangle", "ellipse", "polygon", "path", "line"]
    with live.publisher() as publisher:
        publisher.new_stream("run", scale=(2.0, 2.0), units="um")
        image(publisher, 0)
        publisher.publish(
            each,
            kind="shapes",
            shape_type=types,
            names=list("abcde"),
            axes={"t": 0},
            translate=(3, 4),
            properties={"n": range(5)},
            style={"edge_color": "#00ff00", "edge_width": 2, "text": "name"},
        )
        live.settled(publisher)
        layer = live.layer("shapes · run")
        assert list(layer.shape_type) == types
        for found, wanted in zip(layer.data, each, strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert (tuple(layer.scale), tuple(layer.translate)) == ((2, 2), (3, 4))
        assert layer.features["name"].tolist() == list("abcde")
        assert layer.edge_color[:, 1].tolist() == [1.0] * 5
        assert set(layer.edge_width) == {2}
        publisher.publish(each[:1], kind="shapes", shape_type="ellipse", axes={"t": 0}, translate=(3, 4))
        live.settled(publisher)
        assert list(live.layer("shapes · run").shape_type) == ["ellipse"]


def test_tracks_grow_step_by_step_and_keep_their_properties_and_graph(live):
    with live.publisher() as publisher:
        for t in range(5):
            image(publisher, t)
            rows = [(1, 10 + t, 5.0), (2, 30 - t, 7.5)]
            publisher.publish(rows, kind="tracks", name="paths", axes={"t": t}, properties={"speed": [t, -t]})
        live.settled(publisher)
        layer = live.layer("paths · live")
        assert type(layer).__name__ == "Tracks"
        wanted = [[1, t, 10 + t, 5.0] for t in range(5)] + [[2, t, 30 - t, 7.5] for t in range(5)]
        assert np.asarray(layer.data).tolist() == wanted
        assert layer.features["speed"].tolist() == [0, 1, 2, 3, 4, 0, -1, -2, -3, -4]
        whole = [(number, t, 1, 2, 3) for number in (1, 2, 3) for t in range(3)]
        publisher.publish(whole, kind="tracks", name="tree", graph={2: [1], 3: [1]})
        live.settled(publisher)
        live.until(lambda: "tree · live" in live.viewer.layers)
        tree = live.layer("tree · live")
        assert np.asarray(tree.data).tolist() == [list(row) for row in whole]
        assert {child: list(parents) for child, parents in tree.graph.items()} == {2: [1], 3: [1]}
        live.until(lambda: np.asarray(live.layer("paths · live").data).shape == (10, 5))
        assert tuple(live.viewer.dims.axis_labels)[:2] == ("t", "z")
        publisher.publish(np.empty((0, 4)), kind="tracks", name="tree")
        live.settled(publisher)
        live.until(lambda: "tree · live" not in live.viewer.layers)


def region(kind, xy, **more):
    roi = roifile.ImagejRoi.frompoints(np.array(xy), name=more.pop("name", "it"))
    roi.roitype = kind
    for name, value in more.items():
        setattr(roi, name, value)
    return roi


def test_an_archive_of_regions_is_shown_in_place_with_its_colours_and_positions(live, tmp_path):
    kind = roifile.ROI_TYPE
    rois = [
        region(kind.POLYGON, [[4, 10], [12, 10], [12, 20]], name="everywhere"),
        roifile.ImagejRoi(roitype=kind.RECT, left=3, top=2, right=9, bottom=6, name="box", z_position=2),
        region(kind.POLYLINE, [[1, 2], [3, 4], [5, 4]], name="axon", z_position=3, stroke_color=b"\xff\x00\xff\x00"),
        region(kind.POINT, [[7, 8], [9, 10]], name="spots", z_position=2),
    ]
    roifile.roiwrite(tmp_path / "img_t000.roi.zip", rois)
    with NapariStreamingBackend(launch=False, policy="every", budget=8 * 2**20) as backend:
        backend.publisher.open(SHAPE, "uint16")
        live.attach(backend.publisher)
        planes = [stamped(0, 0, z, SHAPE) for z in range(4)]
        backend.save_batch([*planes, None], [*(f"img_t000_z{z}.tif" for z in range(4)), tmp_path / "img_t000.roi.zip"])
        live.settled(backend.publisher)
        live.until(lambda: len(live.viewer.layers) == 3)
        shapes, points = live.layer("rois · files"), live.layer("rois (points) · files")
        triangle, box = [[9.5, 3.5], [9.5, 11.5], [19.5, 11.5]], [[1.5, 2.5], [1.5, 8.5], [5.5, 8.5], [5.5, 2.5]]
        axon = [[2, 1], [4, 3], [4, 5]]
        for z, names, outlines, spots in (
            (0, ["everywhere"], [triangle], []),
            (1, ["everywhere", "box"], [triangle, box], [[8, 7], [10, 9]]),
            (2, ["everywhere", "axon"], [triangle, axon], []),
        ):
            move(live, 0, z)
            assert shapes.features["name"].tolist() == names
            assert [np.asarray(each).tolist() for each in shapes.data] == outlines
            assert np.asarray(points.data).tolist() == spots
        assert list(shapes.shape_type) == ["polygon", "path"]
        assert shapes.edge_color.tolist() == [[1, 1, 0, 1], [0, 1, 0, 1]]
        assert shapes.face_color[:, 3].tolist() == [0, 0]


def test_regions_that_cannot_be_read_are_named_in_the_status(live):
    good = region(roifile.ROI_TYPE.POLYGON, [[4, 10], [12, 10], [12, 20]])
    with live.publisher() as publisher:
        image(publisher, 0)
        publisher.publish([good, b"Iout" + bytes([0, 227, 99]) + bytes(100)], kind="rois")
        live.settled(publisher)
        live.until(lambda: "1 of 2 regions of interest can't be read" in live.view.status.text)
        assert len(live.layer("rois · live").data) == 1


def test_files_of_regions_lie_on_the_image_file_of_their_name(live, tmp_path):
    write_imagej(tmp_path / "cells.tif", t=1, c=1)
    box = region(roifile.ROI_TYPE.POLYGON, [[4, 10], [12, 10], [12, 20]], z_position=2)
    roifile.roiwrite(tmp_path / "cells.roi.zip", [box])
    with Showing("napari", lone=True) as showing:
        for path in pair_up([tmp_path / "cells.roi.zip", tmp_path / "cells.tif"]):
            showing.file(path)
        live.settled(showing.publisher)
        assert [layer.name for layer in live.viewer.layers] == ["cells.tif", "rois · cells.tif"]
        assert tuple(live.layer("rois · cells.tif").scale) == tuple(live.layer("cells.tif").scale)[-2:]
        for z, shapes in ((1, 1), (0, 0)):
            live.viewer.dims.set_point(live.viewer.dims.axis_labels.index("z"), z * 2.0)
            live.until(lambda shapes=shapes: len(live.layer("rois · cells.tif").data) == shapes)


def test_annotations_without_any_image_have_sliders_and_are_followed(live):
    with live.publisher() as publisher:
        for t in (2, 3, 7):
            publisher.publish([[t, t]], kind="points", axes={"t": t})
            live.settled(publisher)
            live.until(lambda t=t: live.point()[:1] == (t,))
            assert points_of(live, "points · live") == [[t, t, t]]
        assert tuple(live.viewer.dims.range[0])[:2] == pytest.approx((2, 7), abs=1e-3)
        move(live, 5)
        assert live.point()[0] == 5
        assert points_of(live, "points · live") == []
        move(live, 3)
        assert points_of(live, "points · live") == [[3, 3, 3]]
        image(publisher, 3)
        live.settled(publisher)
        live.until(lambda: points_of(live, "points · live") == [[3, 3]])
        assert live.viewer.dims.range[0].stop == pytest.approx(7, abs=1e-3), "the sliders reach further than the images"


def test_a_deleted_layer_stays_away_a_hidden_one_catches_up_and_a_new_run_clears_the_canvas(live):
    with live.publisher() as publisher:

        def publish(t):
            image(publisher, t)
            for name in ("kept", "deleted"):
                publisher.publish([[t, t]], kind="points", name=name, axes={"t": t})
            live.settled(publisher)

        publish(0)
        live.until(lambda: len(live.viewer.layers) == 3)
        del live.viewer.layers["deleted · live"]
        live.layer("kept · live").visible = False
        publish(1)
        assert [layer.name for layer in live.viewer.layers] == ["live", "kept · live"]
        live.layer("kept · live").visible = True
        live.until(lambda: points_of(live, "kept · live") == [[1, 1]])
        publisher.new_stream("second")
        image(publisher, 0)
        live.settled(publisher)
        live.until(lambda: "second" in live.viewer.layers)
        assert [layer.name for layer in live.viewer.layers] == ["second"]
        live.view.show_run(live.receiver.streams[0])
        live.until(lambda: "kept · live" in live.viewer.layers)
        # The sliders go to the newest image of what was brought back, and its points with them.
        live.until(lambda: points_of(live, "kept · live") == [[1, 1]])
        for number in range(3):
            publisher.new_stream(f"run {number}")
            image(publisher, 0)
            live.settled(publisher)
        live.until(lambda: {layer.name for layer in live.viewer.layers} == {"run 2"})


def test_an_image_that_comes_after_lies_below(live):
    with live.publisher() as publisher:
        publisher.publish([[5, 5]], kind="points", axes={"t": 0})
        publisher.publish(cells(0), kind="labels", axes={"t": 0})
        live.settled(publisher)
        for c in ("DAPI", "FITC"):
            publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0, "c": c})
            live.settled(publisher)
        live.until(lambda: len(live.viewer.layers) == 4)
        kinds = [type(layer).__name__ for layer in live.viewer.layers]
        assert kinds == ["Image", "Image", "Labels", "Points"]


def test_who_opens_a_window_late_finds_the_newest_of_every_kind(window, qtbot):
    with Publisher("napari", policy="latest") as publisher:
        publisher.open(SHAPE, "uint16")
        qtbot.waitUntil(lambda: publisher.stats().segment_bytes > 0, timeout=10_000)
        for t in range(5):
            image(publisher, t)
            publisher.publish(cells(t), kind="labels", axes={"t": t})
            publisher.publish([[t, t]], kind="points", axes={"t": t})
        late = Live(window, qtbot)
        try:
            late.until(lambda: len(late.viewer.layers) == 3)
            late.settled(publisher)
            np.testing.assert_array_equal(late.shown("labels · live"), cells(4))
            assert points_of(late, "points · live") == [[4, 4]]
        finally:
            late.close()
