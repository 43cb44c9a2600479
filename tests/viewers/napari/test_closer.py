"""A plate of more pixels than are shown: where one looks closely, all of them are, while frames come."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from napari.settings import get_settings

from napari_live import sliced
from scopecast_viewers.napari import closer, mosaic
from scopecast_viewers.napari.closer import window_for
from scopecast_viewers.napari.mosaic import Mosaic, Window
from scopecast_viewers.napari.stage_layout import Field, arrange
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.stack import Stack

SHAPE = (256, 192)
PIXEL_UM = 0.5
WELL_UM = 9000.0
NAMES = [f"{row}{column}" for row in "ABC" for column in (1, 2, 3)]
LEVEL = 40000
MOST = 256  # pixels along a side of what is shown, in these tests


def stripes(t, c, p):
    """Return a plane of stripes of one pixel, which every second pixel would not show, under a row that says whose."""
    rows, columns = np.indices(SHAPE)
    made = (((rows + columns + t) % 2) * LEVEL).astype("uint16")
    made[0] = 1000 * p + 100 * t + 10 * c
    return made


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(mosaic, "MOST_PIXELS", MOST)
    monkeypatch.setattr(closer, "MOST_PIXELS", MOST)


def publish(publisher, title, times, wells=range(9)):
    for t, p, c in itertools.product(times, wells, range(2)):
        if t == p == c == 0:
            sizes = {"t": 3, "p": 9, "c": 2}
            publisher.new_stream(
                title, positions=NAMES, channels=["DAPI", "FITC"], sizes=sizes, scale=PIXEL_UM, units="um"
            )
        place = (WELL_UM * (p // 3), WELL_UM * (p % 3))
        publisher.publish(stripes(t, c, p), axes={"t": t, "p": p, "c": c}, translate=place)


def picture(data, t, c):
    """Return all pixels of a plate."""
    made = np.zeros(data.whole.high, "uint16")
    for ((_, p),), corner in data.stage_layout.corners.items():
        y, x = (round(at / PIXEL_UM) for at in corner)
        made[y : y + SHAPE[0], x : x + SHAPE[1]] = stripes(t, c, p)
    return made


def part_of(whole, window):
    return whole[tuple(slice(low, high, window.every) for low, high in zip(*window[:2], strict=True))]


def look_at(live, data, p, zoom, *, away=(0.5, 0.5)):
    """Look at a place in a well, so many pixels of the screen wide for each pixel of the frame."""
    corner = np.array(data.stage_layout.corners[(("p", p),)])
    camera = live.viewer.scene.camera
    camera.zoom = zoom / PIXEL_UM
    camera.center = tuple(corner + np.array(SHAPE) * PIXEL_UM * away)


def brightness_of_pixels(live, layer, pixels):
    """Return what is on the screen in the middle of pixels (y, x) of a layer."""
    camera = live.viewer.scene.camera
    seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int).max(axis=2)
    world = np.array([layer.data_to_world((0, *pixel))[-2:] for pixel in pixels])
    at = np.round((world - camera.center[-2:]) * camera.zoom + np.array(seen.shape) / 2 - 0.5).astype(int)
    return seen[tuple(at.T)]


def test_every_pixel_of_what_is_looked_at_is_shown(live, small):
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        for run in range(2):
            title = f"plate {run}"
            publish(publisher, title, [0])
            live.settled(publisher)
            layers = [live.layer(f"{channel} · {title}") for channel in ("DAPI", "FITC")]
            (dapi, fitc), (data, other) = layers, [layer.data for layer in layers]
            for layer in layers:
                layer.contrast_limits = (0, LEVEL)
            home = (*live.viewer.scene.camera.center, live.viewer.scene.camera.zoom)
            extent = np.array(live.viewer.layers.extent.world)
            assert data.window == data.whole
            assert data.every == 4
            np.testing.assert_array_equal(sliced(dapi), picture(data, 0, 0)[::4, ::4])

            look_at(live, data, 4, 6)
            for c, (layer, shown) in enumerate(((dapi, data), (fitc, other))):
                assert shown.every == 1
                np.testing.assert_array_equal(sliced(layer), part_of(picture(shown, 0, c), shown.window))
            assert live.view.follower.following, "it was not a slider that the user moved"
            # On the screen, and under the mouse.
            corner = np.array([round(at / PIXEL_UM) for at in data.stage_layout.corners[(("p", 4),)]])
            pixels = [
                corner - data.window.low + (128 + down, 96 + right) for down in range(-9, 9) for right in (-5, 0, 7)
            ]
            expected = np.array([sliced(dapi)[tuple(pixel)] for pixel in pixels])
            assert set(expected) == {0, LEVEL}
            fitc.visible = False
            np.testing.assert_array_equal(brightness_of_pixels(live, dapi, pixels) > 128, expected > 0)
            fitc.visible = True
            for pixel, value in zip(pixels, expected, strict=True):
                assert dapi.get_value(dapi.data_to_world((0, *pixel)), world=True) == value

            # The next time point of this well, and of another one.
            publish(publisher, title, [1], [3, 4])
            live.settled(publisher)
            live.until(lambda dapi=dapi, value=LEVEL - expected[0], at=tuple(pixels[0]): sliced(dapi)[at] == value)
            assert live.point()[0] == 1
            assert data.every == 1

            # Elsewhere, beyond what was read around it.
            live.view.set_following(False)
            live.viewer.dims.set_point(0, 0)
            look_at(live, data, 8, 6, away=(0.9, 0.9))
            np.testing.assert_array_equal(sliced(dapi), part_of(picture(data, 0, 0), data.window))
            assert sliced(dapi).any()
            live.until(lambda: "pixels is shown" not in live.view.status.text)

            live.viewer.reset_view()
            assert data.window == data.whole
            np.testing.assert_array_equal(sliced(dapi), picture(data, 0, 0)[::4, ::4])
            assert (*live.viewer.scene.camera.center, live.viewer.scene.camera.zoom) == pytest.approx(home)
            np.testing.assert_allclose(live.viewer.layers.extent.world, extent)
            live.view.set_following(True)


def test_a_frozen_picture_can_be_looked_at_closely(live, small):
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        publish(publisher, "plate", [0])
        live.settled(publisher)
        data = live.layer("DAPI · plate").data
        live.view.set_paused(True)
        publish(publisher, "plate", [1])
        live.until(lambda: publisher.flush(0))
        look_at(live, data, 2, 6)
        np.testing.assert_array_equal(sliced(live.layer("DAPI · plate")), part_of(picture(data, 0, 0), data.window))
        live.view.set_paused(False)
        live.settled(publisher)
        live.until(lambda: (sliced(live.layer("DAPI · plate")) == part_of(picture(data, 1, 0), data.window)).all())


def test_labels_are_as_exact_as_their_images(live, small):
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        publish(publisher, "plate", [0])
        numbers = np.arange(SHAPE[0] * SHAPE[1], dtype="int32").reshape(SHAPE)
        place = (WELL_UM, WELL_UM)
        publisher.publish(numbers, axes={"t": 0, "p": 4}, translate=place, kind="labels", name="cells")
        live.settled(publisher)
        labels = live.layer("cells · plate")
        look_at(live, labels.data, 4, 6)
        assert labels.data.window == live.layer("DAPI · plate").data.window
        corner = [round(at / PIXEL_UM) for at in labels.data.stage_layout.corners[(("p", 4),)]]
        whole = np.zeros(labels.data.whole.high, "int32")
        whole[tuple(slice(at, at + extent) for at, extent in zip(corner, SHAPE, strict=True))] = numbers
        np.testing.assert_array_equal(sliced(labels), part_of(whole, labels.data.window))
        assert live.view.problems == ()


def test_asynchronous_slicing_shows_the_whole(live, small, monkeypatch):
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        publish(publisher, "plate", [0])
        live.settled(publisher)
        data = live.layer("DAPI · plate").data
        monkeypatch.setattr(get_settings().experimental, "async_", True)
        look_at(live, data, 4, 6)
        assert data.window == data.whole


def test_a_layer_that_the_user_has_turned_is_shown_whole(live, small):
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        publish(publisher, "plate", [0])
        live.settled(publisher)
        layer = live.layer("DAPI · plate")
        layer.rotate = 30
        look_at(live, layer.data, 4, 6)
        assert layer.data.window == layer.data.whole
        assert live.layer("FITC · plate").data.every == 1
        live.until(lambda: "one of 4 x 4 pixels is shown" in live.view.status.text)


def test_the_crosshair_stays_in_the_middle_of_the_plate(live, small):
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        publish(publisher, "plate", [0])
        live.settled(publisher)
        data = live.layer("DAPI · plate").data
        live.view.tools.crosshair.trigger()
        live.until(lambda: live.view.tools.guides.layer is not None)
        before = live.view.tools.guides.layer
        where = np.array(before.extent.world)[:, -2:].mean(axis=0)
        look_at(live, data, 4, 6)
        live.view.mark()
        assert data.every == 1
        assert live.view.tools.guides.layer is before
        np.testing.assert_allclose(np.array(before.extent.world)[:, -2:].mean(axis=0), where)


def test_a_shape_is_measured_with_all_of_its_pixels_wherever_one_looks(live, small):
    """Its mean is that of all pixels of the frames, also where not all are shown, or another well is looked at."""
    with live.publisher(SHAPE, budget=64 * 2**20) as publisher:
        publish(publisher, "plate", [0])
        live.settled(publisher)
        data = live.layer("DAPI · plate").data
        measures = live.view.tools.measures
        live.view.tools.measure.trigger()
        drawn = live.viewer.layers["measure"]
        corner = np.array(data.stage_layout.corners[(("p", 4),)])
        box = [(99.5, 49.5), (99.5, 149.5), (139.5, 149.5), (139.5, 49.5)]  # in pixels of the well
        vertices = [drawn.world_to_data(tuple(corner + np.array(at) * PIXEL_UM)) for at in box]
        drawn.data = []
        drawn.add(np.array(vertices), shape_type="polygon")
        rows, columns = np.indices(SHAPE)
        inside = (rows >= 100) & (rows <= 139) & (columns >= 50) & (columns <= 149)
        area = f"{inside.sum() * PIXEL_UM**2:.0f}"
        for look in (lambda: None, lambda: look_at(live, data, 4, 6), lambda: look_at(live, data, 8, 6)):
            look()
            measures.refresh()
            text = measures.table.text()
            assert f"{stripes(0, 0, 4)[inside].mean():.5g}" in text
            assert str(LEVEL) in text
            assert area in text
        publish(publisher, "plate", [1], [4])
        live.settled(publisher)
        live.viewer.reset_view()
        measures.refresh()
        assert len(measures.over_time.curves[0].y) == 2


@pytest.fixture
def plate():
    with History(1 << 20, None) as history:
        fields = {(("p", p),): Field((WELL_UM * (p // 12), WELL_UM * (p % 12)), (1024.0, 1024.0)) for p in range(96)}
        stack = Stack(("p",), (2048, 2048), "uint16", history)
        yield Mosaic(stack, {}, (), {}, arrange(fields), (0.5, 0.5))


@pytest.mark.parametrize(
    ("size", "screen_pixel", "every", "all_of_it"),
    [
        pytest.param(800, 0.3, 1, False, id="closely"),
        pytest.param(800, 1.0, 1, False, id="a pixel for a pixel"),
        pytest.param(1500, 1.9, 1, False, id="nearly two"),
        pytest.param(2000, 2.5, 2, False, id="every second, of a few fields"),
        pytest.param(9000, 3.5, 7, True, id="every third, of too many fields"),
        pytest.param(9000, 7.0, 7, True, id="as much as the whole has"),
        pytest.param(4500, 1.0, 7, True, id="a screen that is too large"),
    ],
)
def test_how_much_of_a_plate_is_shown(plate, size, screen_pixel, every, all_of_it):
    assert plate.whole.every == 7
    low = np.array([2000.0, 3000.0])
    window = window_for(plate, low, low + size, screen_pixel)
    assert (window == plate.whole) == all_of_it
    assert window.every == every
    if not all_of_it:
        assert all(window.low <= low)
        assert all(np.array(window.high) >= low + size)
        assert max(np.subtract(window.high, window.low)) <= every * mosaic.MOST_PIXELS
        plate.look_at(window)
        assert window_for(plate, low + 5, low + size - 5, screen_pixel) is plate.window, (
            "it stays as long as it will do"
        )


@pytest.mark.parametrize("low", [(-5000.0, 0.0), (1e6, 1e6)])
def test_beside_a_plate_nothing_is_looked_at(plate, low):
    assert window_for(plate, np.array(low), np.array(low) + 500, 0.5) == plate.whole


def test_at_the_edge_of_a_plate_only_what_it_has_is_read(plate):
    assert window_for(plate, np.array([-100.0, -100.0]), np.array([200.0, 200.0]), 0.5) == Window((0, 0), (251, 251), 1)
