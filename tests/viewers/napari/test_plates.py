"""Positions far from each other are put together on the canvas: a plate as a plate, with its names."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from napari_live import sliced
from receivers import stamped
from scopecast_viewers.napari import closer, mosaic, tiles
from scopecast_viewers.napari.frame_info import FrameButton

SHAPE = (64, 48)
WELL_UM = 9000.0
PIXEL_UM = 0.5
CHANNELS = ("DAPI", "FITC")
LEVEL = 20000


def wells(rows, columns):
    return [f"{'ABCDEFGH'[row]}{column + 1}" for row in range(rows) for column in range(columns)]


def plane(t, c, p, *, bright):
    """Return a plane whose first rows are stamped, and whose others are of one level."""
    made = stamped(t, c, p, SHAPE)
    made[8:] = LEVEL if bright else 0
    return made


def publish(publisher, title, places, *, t=0, bright=(), names=(), channels=CHANNELS):
    """Publish a frame of each channel at each place (y, x) of the stage; those `bright` are so in the first channel."""
    if t == 0:
        sizes = {"t": 2, "p": len(places), "c": len(channels)}
        publisher.new_stream(title, positions=names, channels=channels, sizes=sizes, scale=PIXEL_UM, units="um")
    for p, place in enumerate(places):
        for c, channel in enumerate(channels):
            frame = plane(t, c, p, bright=c == 0 and p in bright)
            publisher.publish(frame, axes={"t": t, "p": p, "c": channel}, translate=place)


def plate(rows, columns):
    return [(WELL_UM * row, WELL_UM * column) for row in range(rows) for column in range(columns)]


def live_layer(live, name):
    return next(each for each in live.view.layers if each.layer.name == name)


def field(live, name, p):
    """Return the pixels of a position that a layer has sliced."""
    data = live_layer(live, name).data
    corner = data.stage_layout.corners[(("p", p),)]
    y, x = (round((at - low) / PIXEL_UM) for at, low in zip(corner, data.stage_layout.origin, strict=True))
    return sliced(live.layer(name))[y : y + SHAPE[0], x : x + SHAPE[1]]


def levels(live, name):
    """Return how bright the canvas is in the lower part of each position, where no name is written."""
    live.viewer.layers.selection.select_only(live.layer(name))
    layout, camera = live_layer(live, name).data.stage_layout, live.viewer.scene.camera
    seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int).max(axis=2)
    middle = np.array(seen.shape) / 2
    found = {}
    for ((_, p),), corner in layout.corners.items():
        spots = [np.add(corner, (SHAPE[0] * PIXEL_UM * down, SHAPE[1] * PIXEL_UM * 0.6)) for down in (0.6, 0.75, 0.9)]
        at = [np.round((spot - camera.center[-2:]) * camera.zoom + middle).astype(int) for spot in spots]
        assert all((spot >= 0).all() and (spot < seen.shape).all() for spot in at), f"position {p} is out of sight"
        found[p] = float(np.mean([seen[tuple(spot)] for spot in at]))
    return found


def test_a_plate_of_96_wells_is_seen_as_a_plate(live):
    """Each well is where its name says, as large as 96 of them can be, with all channels in one layer each."""
    names = wells(8, 12)
    with live.publisher(budget=64 * 2**20) as publisher:
        for run, bright in enumerate(({0, 95, 28}, {13, 82})):
            title = f"plate {run}"
            publish(publisher, title, plate(8, 12), names=names, bright=bright)
            live.settled(publisher)
            assert len(live.viewer.layers) == 3, "two channels, and the names of the wells"
            assert list(live.viewer.dims.axis_labels) == ["t", "y", "x"], "positions are no slider"
            texts = next(layer for layer in live.viewer.layers if layer.name == f"positions · {title}")
            assert list(texts.features["name"]) == names
            for p in range(96):
                for c, channel in enumerate(CHANNELS):
                    expected = plane(0, c, p, bright=c == 0 and p in bright)
                    np.testing.assert_array_equal(field(live, f"{channel} · {title}", p), expected)
            assert bright_positions(live, title) == bright
            corners = live_layer(live, f"DAPI · {title}").data.stage_layout.corners
            a1, b1, a2 = (corners[(("p", p),)] for p in (0, 12, 1))
            assert (a1[0], a1[1]) == (a2[0], b1[1]), "rows and columns"
            assert b1[0] > a1[0]
            assert a2[1] > a1[1]
            zoom = live.viewer.scene.camera.zoom
            publish(publisher, title, plate(8, 12)[:5], t=1, bright={2})
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 1)
            # Wells whose own has not come stand in with their newest; looked back at, all is as it was.
            live.until(lambda title=title: (field(live, f"DAPI · {title}", 2) == plane(1, 0, 2, bright=True)).all())
            np.testing.assert_array_equal(field(live, f"DAPI · {title}", 95), plane(0, 0, 95, bright=95 in bright))
            live.view.set_following(False)
            live.until(lambda title=title: not field(live, f"DAPI · {title}", 95).any())
            live.viewer.dims.set_point(0, 0)
            live.until(
                lambda title=title, bright=bright: (
                    field(live, f"DAPI · {title}", 2) == plane(0, 0, 2, bright=2 in bright)
                ).all()
            )
            assert live.viewer.scene.camera.zoom == zoom, "the view stays calm"


def test_positions_are_put_together_by_wells_and_in_order_run_after_run(live):
    """Fields within a well keep their places on the stage; what is far from all else comes next to it."""
    with live.publisher(budget=32 * 2**20) as publisher:
        for run, check in enumerate((check_wells, check_far_positions, check_wells)):
            check(live, publisher, f"run {run}")


def bright_positions(live, title):
    return {p for p, level in levels(live, f"DAPI · {title}").items() if level > 150}


def check_wells(live, publisher, title):
    names = [f"{well}_000{number}" for well in ("B03", "B01", "D01") for number in range(4)]
    corners = {"B03": (0.0, 18000.0), "B01": (0.0, 0.0), "D01": (18000.0, 0.0)}
    height, width = SHAPE[0] * PIXEL_UM, SHAPE[1] * PIXEL_UM
    places = [
        (corners[name[:3]][0] + height * (number // 2), corners[name[:3]][1] + width * (number % 2))
        for name, number in zip(names, [0, 1, 2, 3] * 3, strict=True)
    ]
    publish(publisher, title, places, names=names, bright={0, 7, 9}, channels=CHANNELS[:1])
    live.settled(publisher)
    assert bright_positions(live, title) == {0, 7, 9}
    layout = live_layer(live, f"DAPI · {title}").data.stage_layout
    at = {names[p]: layout.corners[(("p", p),)] for p in range(12)}
    for well in corners:
        y, x = at[f"{well}_0000"]
        assert at[f"{well}_0003"] == pytest.approx((y + height, x + width))
    assert at["B01_0000"][1] < at["B03_0000"][1], "columns by their names"
    assert at["B01_0000"][0] < at["D01_0000"][0]
    assert [text for _, text in layout.names] == ["B03", "B01", "D01"]


def check_far_positions(live, publisher, title):
    places = [(0.0, 0.0), (5000.0, 900.0), (-7000.0, 3000.0), (200.0, -4000.0), (200.0, -4024.0)]
    names = ("cell", "", "edge", "far", "")
    publish(publisher, title, places, names=names, bright={2}, channels=CHANNELS[:1])
    live.settled(publisher)
    assert bright_positions(live, title) == {2}
    layout = live_layer(live, f"DAPI · {title}").data.stage_layout
    assert [text for _, text in layout.names] == ["cell", "p1", "edge", "far"]
    last, before = layout.corners[(("p", 4),)], layout.corners[(("p", 3),)]
    assert np.subtract(before, last) == pytest.approx((0, 24)), "these two adjoin on the stage"


def test_a_mosaic_of_more_fields_than_layers_stays_as_it_lies_on_the_stage(live, monkeypatch):
    monkeypatch.setattr(tiles, "MOST_LAYERS", 8)
    for module in (mosaic, closer):
        monkeypatch.setattr(module, "MOST_PIXELS", 100)  # so that not every pixel is shown
    height, width = SHAPE[0] * PIXEL_UM, SHAPE[1] * PIXEL_UM
    places = [(height * (p // 3), 1000 + width * (p % 3)) for p in range(9)]
    with live.publisher() as publisher:
        for run in range(2):
            publish(publisher, f"run {run}", places, bright={4, 6}, channels=CHANNELS[:1])
            live.settled(publisher)
            name = f"DAPI · run {run}"
            assert len(live.viewer.layers) == 1, "no names: nothing is elsewhere than on the stage"
            layer = live.layer(name)
            layer.contrast_limits = (0, LEVEL)  # not of the pixels that came first
            assert bright_positions(live, f"run {run}") == {4, 6}
            low, high = np.array(layer.extent.world)[:, -2:]
            assert low == pytest.approx((0, 1000), abs=PIXEL_UM * 2)
            assert high - low == pytest.approx((3 * height, 3 * width), abs=PIXEL_UM * 4)
            whole = np.zeros((3 * SHAPE[0], 3 * SHAPE[1]), "uint16")
            for p in range(9):
                y, x = SHAPE[0] * (p // 3), SHAPE[1] * (p % 3)
                whole[y : y + SHAPE[0], x : x + SHAPE[1]] = plane(0, 0, p, bright=p in (4, 6))
            np.testing.assert_array_equal(sliced(layer), whole[::2, ::2])
            live.until(lambda: "one of 2 x 2 pixels is shown" in live.view.status.text)
            zoom, live.viewer.scene.camera.zoom = live.viewer.scene.camera.zoom, 0.5
            live.until(lambda: "pixels" not in live.view.status.text)  # the screen has no room for more
            live.viewer.scene.camera.zoom = zoom


def test_what_the_user_set_stays_when_the_fields_become_one_picture(live, monkeypatch):
    monkeypatch.setattr(tiles, "MOST_LAYERS", 8)
    height = SHAPE[0] * PIXEL_UM
    with live.publisher() as publisher:
        for run in range(2):
            title = f"run {run}"
            publisher.new_stream(title, channels=CHANNELS, scale=PIXEL_UM, units="um")
            for p in range(6):
                for c, channel in enumerate(CHANNELS):
                    frame = plane(0, c, p, bright=True)
                    publisher.publish(frame, axes={"p": p, "c": channel}, translate=(height * p, 0.0))
                if p == 3 and run == 0:
                    live.settled(publisher)
                    assert len(live.viewer.layers) == 8
                    live.layer(f"DAPI · p1 · {title}").contrast_limits = (5, 2 * LEVEL)
                    live.layer(f"DAPI · p1 · {title}").colormap = "magenta"
                    live.layer(f"FITC · p2 · {title}").visible = False
            live.settled(publisher)
            dapi, fitc = live.layer(f"DAPI · {title}"), live.layer(f"FITC · {title}")
            assert tuple(dapi.contrast_limits) == (5, 2 * LEVEL)
            assert not fitc.visible
            seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            red, green, blue = seen[seen.shape[0] // 2 + 20, seen.shape[1] // 2]
            assert red > 100
            assert abs(red - blue) < 10
            assert green < 20


def test_positions_one_by_one_stay_in_sight(live, monkeypatch):
    """Two channels of a mosaic, then of wells, as a slider: wherever one scrolls, the picture is seen."""
    monkeypatch.setattr(tiles, "MOST_LAYERS", 4)
    every = set(range(12))
    button = FrameButton(live.view)
    with live.publisher(budget=32 * 2**20) as publisher:
        for title, apart in (("mosaic", 0.5), ("wells", WELL_UM / SHAPE[0])):
            places = [(apart * SHAPE[0] * (p // 4), apart * SHAPE[1] * (p % 4)) for p in range(12)]
            publish(publisher, title, places, bright=every)
            live.settled(publisher)
            if title == "mosaic":
                button.fill()
                button.choices.actions()[-1].trigger()
                assert live.view.layers.tiling.one_by_one
            live.settled(publisher)
            live.until(lambda: "p" in live.viewer.dims.axis_labels)
            publish(publisher, title, places, t=1, bright=every)
            live.settled(publisher)
            axis = list(live.viewer.dims.axis_labels).index("p")
            for p in (None, 3, 0, 11):
                if p is not None:
                    live.view.set_following(False)
                    live.viewer.dims.set_point(axis, p)
                    expected = plane(1, 0, p, bright=True)
                    live.until(lambda title=title, e=expected: np.array_equal(live.shown(f"DAPI · {title}"), e))
                    live.until(lambda title=title: not live_layer(live, f"DAPI · {title}").moved)
                    live.settled(publisher)
                seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=2)
                middle = seen[seen.shape[0] // 3 : 2 * seen.shape[0] // 3, seen.shape[1] // 3 : 2 * seen.shape[1] // 3]
                assert (middle > 100).mean() > 0.5, (title, p)
            live.view.set_following(True)
    live.view.show_one_by_one(False)


def test_what_is_found_in_a_well_lies_on_its_picture(live):
    places = plate(2, 3)
    with live.publisher() as publisher:
        for title, placed in (("with a place of their own", True), ("without", False)):
            publish(publisher, title, places, names=wells(2, 3), bright={1}, channels=CHANNELS[:1])
            for p in (4, 1):
                more = {"axes": {"t": 0, "p": p}, "translate": places[p] if placed else ()}
                publisher.publish(np.full(SHAPE, p + 1), kind="labels", name="cells", **more)
                publisher.publish([[3.0, 4.0]], kind="points", name="spots", **more)
            live.settled(publisher)
            corners = live_layer(live, f"DAPI · {title}").data.stage_layout.corners
            expected = sorted((y + 1.5, x + 2.0) for y, x in (corners[(("p", p),)] for p in (4, 1)))
            spots = live.layer(f"spots · {title}")
            live.until(lambda spots=spots: len(spots.data) == 2)
            assert np.ravel(sorted(tuple(spots.data_to_world(at)) for at in spots.data)) == pytest.approx(
                np.ravel(expected)
            )
            for p in range(6):
                found = set(np.unique(field(live, f"cells · {title}", p)))
                assert found == {p + 1 if p in (4, 1) else 0}
            assert live.view.problems == ()


def test_a_plate_is_copied_measured_and_marked_as_one_image(live):
    """Drawn on a well it is measured in that well; copy and snapshot are the plate; the crosshair marks its middle."""
    tools = live.view.tools
    with live.publisher(budget=64 * 2**20) as publisher:
        for run, well in enumerate((2, 1)):
            title = f"plate {run}"
            for t in range(2):
                publish(publisher, title, plate(2, 2), t=t, names=wells(2, 2), bright={well + t}, channels=CHANNELS[:1])
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 1)
            name = f"DAPI · {title}"
            data, shown = live_layer(live, name).data, sliced(live.layer(name))
            made = copy.deepcopy(data)
            assert made.shape == data.shape
            np.testing.assert_array_equal(made[1], shown)
            np.testing.assert_array_equal(made, np.asarray(data))
            assert (made[0] == LEVEL).sum() == (made[1] == LEVEL).sum() == (SHAPE[0] - 8) * SHAPE[1]

            if not run:
                tools.measure.trigger()
                tools.crosshair.trigger()
            drawn = live.viewer.layers["measure"]
            corner = np.array(data.stage_layout.corners[(("p", well + 1),)])
            box = [(20, 10), (20, 30), (40, 30), (40, 10)]  # in pixels of the well
            drawn.data = []
            drawn.add(
                np.array([drawn.world_to_data(tuple(corner + np.array(at) * PIXEL_UM)) for at in box]),
                shape_type="polygon",
            )
            live.until(lambda: f"{LEVEL}" in tools.measures.table.text())
            tools.snap.trigger()
            copied = next(layer for layer in live.viewer.layers if layer.name.startswith(f"{name} ("))
            np.testing.assert_array_equal(copied.data, shown)
            assert "p" not in copied.metadata["index"]

            seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            yellow = (seen[..., 0] > 180) & (seen[..., 1] > 140) & (seen[..., 2] < 110)
            for axis, extent in enumerate(seen.shape[:2]):
                (lines,) = np.nonzero(yellow.sum(axis=1 - axis) > 100)
                assert len(lines)
                assert abs(lines.mean() - extent / 2) < 3
