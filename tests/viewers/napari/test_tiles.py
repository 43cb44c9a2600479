"""Positions and grids on the canvas of a real napari window, cameras, and sliders that know their end."""

from __future__ import annotations

import numpy as np
import pytest

from receivers import check_stamp, stamped
from scopecast_viewers.napari import tiles

SHAPE = (64, 48)


def publish_grid(publisher, columns, rows=1, *, t=0, channels=("DAPI",)):
    for g in range(columns * rows):
        row, column = divmod(g, columns)
        for c, name in enumerate(channels):
            axes = {"t": t, "p": 0, "g": g, "c": name}
            corner = (row * SHAPE[0] * 0.5, 1000 + column * SHAPE[1] * 0.5)
            publisher.publish(stamped(t, c, g, SHAPE), axes=axes, translate=corner)


def about(t, g, channels=("DAPI",)):
    sizes = {"t": t, "p": 1, "g": g, "c": len(channels)}
    return {"sizes": sizes, "channels": channels, "scale": (0.5, 0.5), "units": "um"}


def test_a_grid_is_seen_as_a_whole_at_its_place_on_the_stage_and_each_channel_of_it_is_set_as_one(live):
    channels = ("DAPI", "FITC")
    with live.publisher() as publisher:
        publisher.new_stream("run", **about(3, 4, channels))
        for t in range(3):
            publish_grid(publisher, 2, 2, t=t, channels=channels)
        live.settled(publisher)
        assert {layer.name for layer in live.viewer.layers} == {f"{c} · g{g} · run" for c in channels for g in range(4)}
        assert tuple(live.viewer.dims.axis_labels) == ("t", "y", "x"), "positions are no sliders"
        live.until(lambda: live.point()[0] == 2)
        for c, name in enumerate(channels):
            for g in range(4):
                layer = live.layer(f"{name} · g{g} · run")
                row, column = divmod(g, 2)
                assert tuple(layer.translate[-2:]) == (row * 32.0, 1000 + column * 24.0)
                live.until(lambda layer=layer: layer.visible)
                assert check_stamp(live.shown(layer.name)) == (2, c, g)
        live.viewer.dims.set_point(0, 1)
        live.until(lambda: check_stamp(live.shown("DAPI · g3 · run")) == (1, 0, 3))
        extent = live.viewer.layers.extent.world
        assert tuple(extent[1][-2:] - extent[0][-2:]) == pytest.approx((63.5, 47.5), abs=0.6)
        # What is set of one field is set of all of its channel.
        live.layer("DAPI · g2 · run").contrast_limits = (5, 55)
        live.layer("DAPI · g0 · run").visible = False
        for g in range(4):
            assert tuple(live.layer(f"DAPI · g{g} · run").contrast_limits) == (5, 55)
            assert not live.layer(f"DAPI · g{g} · run").visible
            assert live.layer(f"FITC · g{g} · run").visible
            assert tuple(live.layer(f"FITC · g{g} · run").contrast_limits) != (5, 55)


def test_layers_of_positions_are_called_by_their_names(live):
    with live.publisher() as publisher:
        publisher.new_stream("run", positions=("left", "", "right"))
        for p in range(3):
            publisher.publish(stamped(0, 0, p, SHAPE), axes={"p": p}, translate=(0.0, 50.0 * p))
        live.settled(publisher)
        assert [layer.name for layer in live.viewer.layers] == ["left · run", "p1 · run", "right · run"]


def test_the_view_goes_out_to_each_new_field_until_the_user_looks_elsewhere(live):
    camera = live.viewer.scene.camera
    with live.publisher() as publisher:
        publisher.new_stream("run", **about(1, 4))
        publish_grid(publisher, 2)
        live.settled(publisher)
        near = camera.zoom
        publish_grid(publisher, 3)
        live.settled(publisher)
        live.until(lambda: camera.zoom < near)
        camera.zoom = 17.0
        publish_grid(publisher, 4)
        live.settled(publisher)
        assert camera.zoom == 17.0


def test_too_many_fields_are_a_slider_along_which_the_picture_moves(live, monkeypatch):
    monkeypatch.setattr(tiles, "MOST_LAYERS", 4)
    live.view.show_one_by_one(True)
    camera = live.viewer.scene.camera
    with live.publisher() as publisher:
        publisher.new_stream("run", **about(1, 6))
        publish_grid(publisher, 6)
        live.settled(publisher)
        assert [layer.name for layer in live.viewer.layers] == ["DAPI · run"]
        labels = list(live.viewer.dims.axis_labels)
        slider = labels.index("g")
        layer = live.layer("DAPI · run")
        live.until(lambda: layer.translate[-1] == 1000 + 5 * 24.0)
        before = camera.center[-1]
        live.viewer.dims.set_point(slider, 2)
        live.until(lambda: layer.translate[-1] == 1000 + 2 * 24.0)
        assert check_stamp(live.shown("DAPI · run")) == (0, 0, 2)
        assert camera.center[-1] == pytest.approx(before - 3 * 24.0), "the picture stays in sight"


def test_what_is_found_on_an_image_lies_on_the_image_of_its_position(live):
    square = np.array([[10, 10], [10, 20], [20, 20]])
    with live.publisher() as publisher:
        for title, placed in (("with a place of their own", True), ("without", False)):
            publisher.new_stream(title, scale=(0.5, 0.5), units="um")
            for p in range(3):
                corner = (32.0 * p, 1000.0 + 24.0 * p)
                publisher.publish(stamped(0, 0, p, SHAPE), axes={"t": 0, "p": p}, translate=corner)
            for p in (2, 0):
                more = {"axes": {"t": 0, "p": p}, "translate": (32.0 * p, 1000.0 + 24.0 * p) if placed else ()}
                publisher.publish(np.full(SHAPE, p + 1), kind="labels", name="cells", **more)
                publisher.publish([[3.0, 4.0]], kind="points", name="spots", **more)
                publisher.publish([square], kind="shapes", name="outlines", **more)
            publisher.publish([[1.0, 2.0]], kind="points", name="everywhere", axes={"t": 0})
            live.settled(publisher)
            for p in (0, 2):
                layer = live.layer(f"cells · p{p} · {title}")
                assert tuple(layer.translate[-2:]) == (32.0 * p, 1000.0 + 24.0 * p)
                assert set(np.unique(live.shown(layer.name))) == {p + 1}
            spots = live.layer(f"spots · {title}")
            world = sorted(tuple(spots.data_to_world(point)) for point in spots.data)
            assert world == [(1.5, 1002.0), (65.5, 1050.0)]
            outlines = live.layer(f"outlines · {title}")
            corners = sorted(tuple(outlines.data_to_world(shape[0])) for shape in outlines.data)
            assert corners == [(5.0, 1005.0), (69.0, 1053.0)]
            assert len(live.layer(f"everywhere · {title}").data) == 1
            assert live.view.problems == ()


def test_positions_that_the_stage_says_nothing_of_are_a_slider(live):
    with live.publisher() as publisher:
        for p in range(3):
            publisher.publish(stamped(0, 0, p, SHAPE), axes={"p": p})
        live.settled(publisher)
        assert len(live.viewer.layers) == 1
        assert live.viewer.dims.axis_labels[0] == "p"
        live.until(lambda: check_stamp(live.shown("live")) == (0, 0, 2))


def test_each_camera_is_a_layer(live):
    with live.publisher() as publisher:
        for t in range(2):
            for c, name in enumerate(("Left", "Right")):
                publisher.publish(stamped(t, c, 0, SHAPE) + 1000 * c, axes={"t": t, "cam": name})
        live.settled(publisher)
        assert {layer.name for layer in live.viewer.layers} == {"Left · live", "Right · live"}
        live.until(lambda: live.point()[0] == 1)
        assert check_stamp(live.shown("Left · live")) == (1, 0, 0)
        assert int(live.shown("Right · live")[0, 0]) >= 1000


def test_sliders_know_their_end_from_the_first_frame(live):
    with live.publisher() as publisher:
        publisher.new_stream("run", sizes={"t": 20, "z": 5}, steps={"z": 2.0}, scale=(1, 1), units="um")
        publisher.publish(stamped(0, 0, 1, SHAPE), axes={"t": 0, "z": 1})
        live.settled(publisher)
        ends = [tuple(live.viewer.dims.range[axis])[:2] for axis in (0, 1)]
        assert np.ravel(ends) == pytest.approx([0, 19, 0, 8], abs=1e-3)
        live.until(lambda: check_stamp(live.shown("run")) == (0, 0, 1))
        live.viewer.dims.set_point([0, 1], [7, 4])
        assert not live.shown("run").any()
        publisher.publish(stamped(25, 0, 1, SHAPE), axes={"t": 25, "z": 1})  # more than was announced
        live.settled(publisher)
        live.until(lambda: live.viewer.dims.range[0].stop == pytest.approx(25, abs=1e-3))
