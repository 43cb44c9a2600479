"""What is on napari's canvas when runs follow each other and sources stand beside each other, down to its pixels."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.utils.notifications import notification_manager

from run_workers import WELLS, workers
from run_workers import frame as frame_of
from scopecast import NapariStreamingBackend
from two_channels import frame

UM = {"scale": (0.1, 0.1), "units": "um"}

WINDOW = (900, 700)


def picture(live):
    """Return the canvas as it is on the screen, one number a pixel, with values shown as they are."""
    for each in live.view.layers:
        plain = not each.rank and not each.layer.rgb and each.channel_name == ""
        if plain and tuple(each.layer.contrast_limits) != (0, 255):
            each.layer.contrast_limits = (0, 255)
    return screen(live)


def screen(live):
    return live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=-1).astype(int)


def middle(live):
    return look(live)[1]


def brightness(seen):
    """Return how bright the middle of a picture of the canvas is."""
    height, width = seen.shape
    return float(np.median(seen[height // 2 - 3 : height // 2 + 3, width // 2 - 3 : width // 2 + 3]))


def filled(live):
    return look(live)[0]


def look(live):
    """Return how much of the canvas the picture takes, along the side that it takes more of; and how bright it is."""
    seen = picture(live)
    lit = seen > 20
    height, width = seen.shape
    return max(lit[:, width // 2].sum() / height, lit[height // 2].sum() / width), brightness(seen)


def run(live, publisher, values, *, title="", shape=(64, 64), **about):
    where = about.pop("translate", ())
    publisher.new_stream(title, **about)
    for t, value in enumerate(values):
        publisher.publish(frame(value, shape), axes={"t": t}, translate=where)
    live.settled(publisher)
    live.until(lambda: live.point()[0] == len(values) - 1)


def names(live):
    return [layer.name for layer in live.viewer.layers]


def test_each_run_is_fitted_by_itself_whatever_size_and_place_the_former_ones_had(live):
    with live.publisher((256, 256), "uint8") as publisher:
        run(live, publisher, [100], title="large", shape=(256, 256), **UM)
        assert filled(live) == pytest.approx(0.95, abs=0.04)
        run(live, publisher, [150], title="region", shape=(32, 32), **UM)
        assert look(live) == (pytest.approx(0.95, abs=0.04), pytest.approx(150, abs=2))
        run(live, publisher, [200], title="elsewhere", shape=(32, 32), translate=(5000.0, 9000.0), **UM)
        assert look(live) == (pytest.approx(0.95, abs=0.04), pytest.approx(200, abs=2))


def test_a_run_is_fitted_although_the_user_has_looked_closer_at_the_former_one_and_the_window_changes(live):
    viewer = live.viewer
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, [100], title="one")
        viewer.scene.camera.zoom *= 5
        run(live, publisher, [150], title="two")
        assert filled(live) == pytest.approx(0.95, abs=0.04)
        try:
            for size in ((700, 560), (900, 900)):
                before = viewer.canvas.size
                viewer.window.resize(*size)
                live.until(lambda before=before: viewer.canvas.size != before)
                live.until(lambda: filled(live) == pytest.approx(0.95, abs=0.04))
        finally:
            viewer.window.resize(900, 700)


def test_the_layers_of_a_run_stay_until_the_next_run_s_are_there(live):
    """Without a layer napari takes its sliders away, and lays the canvas out anew: the picture would jump."""
    viewer, left, axes = live.viewer, [], []
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, [100, 110], title="run 0")

        def note(_event):
            left.append(len(viewer.layers))

        viewer.layers.events.removed.connect(note)
        viewer.dims.events.ndim.connect(axes.append)
        try:
            for number in (1, 2):
                run(live, publisher, [120 + number, 130 + number], title=f"run {number}")
                assert look(live) == (pytest.approx(0.95, abs=0.04), pytest.approx(130 + number, abs=2))
                assert names(live) == [f"run {number}"]
        finally:
            viewer.layers.events.removed.disconnect(note)
            viewer.dims.events.ndim.disconnect(axes.append)
    assert left == [1, 1]
    assert axes == []


def test_marks_of_a_former_run_are_gone_before_images_of_other_axes_and_units_come(live):
    """napari tells of layers whose units differ, and fails to fit those that have fewer axes than the canvas."""
    told = len(notification_manager.records)
    with live.publisher(dtype="uint8") as publisher:
        for number in range(2):
            publisher.new_stream(f"flat {number}")
            publisher.publish(frame(100))
            publisher.publish([[[5, 5], [20, 30]]], kind="shapes", shape_type="rectangle", name="field")
            live.settled(publisher)
            live.until(lambda: len(live.viewer.layers) == 2)
            live.viewer.window.resize(880 + number, 700)  # as sliders that come and go do
            run(live, publisher, [150, 160, 170], title=f"series {number}", **UM)
            assert names(live) == [f"series {number}"]
            assert look(live) == (pytest.approx(0.95, abs=0.04), pytest.approx(170, abs=2))
        assert live.view.problems == ()
    live.viewer.window.resize(900, 700)
    assert [record.message for record in list(notification_manager.records)[told:]] == []


def test_a_run_is_seen_beside_an_image_of_the_user_that_has_more_axes(live):
    own = live.viewer.add_image(np.zeros((3, 4, 5, 8, 8), "uint8"), name="own")
    try:
        with live.publisher(dtype="uint8") as publisher:
            publisher.new_stream("plain")
            publisher.publish(frame(140))
            live.settled(publisher)
            live.until(lambda: middle(live) == pytest.approx(140, abs=2))
            live.viewer.window.resize(881, 700)
            live.until(lambda: filled(live) == pytest.approx(0.95, abs=0.04))
            assert live.view.problems == ()
    finally:
        live.viewer.layers.remove(own)
        live.viewer.window.resize(900, 700)


def test_the_layer_that_is_worked_on_is_one_that_is_seen_and_the_same_channel_of_the_next_run(live):
    with live.publisher(dtype="uint8") as publisher:
        for number in range(3):
            publisher.new_stream(f"run {number}", channels=["DAPI", "FITC"])
            for channel in ("DAPI", "FITC"):
                publisher.publish(frame(60 + 20 * number), axes={"t": 0, "c": channel})
            live.settled(publisher)
            active = live.viewer.layers.selection.active
            if not number:
                active = live.viewer.layers.selection.active = live.layer("FITC · run 0")
            live.until(lambda number=number: live.viewer.layers.selection.active.name == f"FITC · run {number}")
            active = live.viewer.layers.selection.active
            live.layer(f"DAPI · run {number}").contrast_limits = (250, 255)
            active.contrast_limits = (0, 255)
            assert middle(live) == pytest.approx(60 + 20 * number, abs=2), "its contrast is what one sees"
            active.contrast_limits = (0, 30)
            assert middle(live) > 250


def test_sliders_reach_as_far_as_the_run_does_and_follow_it_although_the_user_has_looked_back(live):
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, range(50, 80), title="long")
        live.viewer.dims.set_point(0, 10)
        assert middle(live) == pytest.approx(60, abs=2)
        for number in range(2):
            run(live, publisher, range(200, 204), title=f"short {number}")
            assert live.view.follower.following
            assert live.viewer.dims.range[0].stop == pytest.approx(3, abs=1e-3)
            assert middle(live) == pytest.approx(203, abs=2)


@pytest.mark.usefixtures("unhurried")
def test_a_picture_of_another_program_leaves_the_view_the_selection_and_the_scale_bar_of_a_run_alone(live):
    viewer = live.viewer
    bar = viewer.canvas.overlays.scale_bar
    with live.publisher(dtype="uint8", title="microscope") as source, live.publisher(title="notebook") as other:
        run(live, source, [50, 100], title="run", **UM)
        before = viewer.scene.camera.zoom
        other.publish(np.full((300, 400), 7, "uint16"))
        source.publish(frame(150), axes={"t": 2})
        live.settled(other)
        live.settled(source)
        live.until(lambda: middle(live) == pytest.approx(150, abs=2))
        assert (viewer.scene.camera.zoom, bar.visible, names(live)) == (before, True, ["run"])
        # Labels of a program that knows no pixel size: they are seen, and nothing else changes.
        other.new_stream("cells")
        other.publish(np.ones((64, 64), "uint8"), kind="labels", name="cells", axes={"t": 2})
        live.settled(other)
        live.until(lambda: len(names(live)) == 2)
        assert (viewer.layers.selection.active.name, bar.visible) == ("run", True)
        # Brought in and sent out again by the user.
        (notebook,) = [stream for stream in live.view.scene.runs if stream.received == 1]
        live.view.show_run(notebook)
        live.until(lambda: len(names(live)) == 3)
        live.view.show_run(notebook, False)
        live.until(lambda: len(names(live)) == 2)
        live.until(lambda: filled(live) == pytest.approx(0.95, abs=0.04))
        assert (viewer.layers.selection.active.name, bar.visible) == ("run", True)


def test_a_run_that_is_brought_back_is_seen_although_it_is_shorter_than_the_one_that_is_followed(live):
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, [90, 110], title="short")
        run(live, publisher, range(200, 220), title="long")
        (short,) = [stream for stream in live.view.scene.runs if stream.about.title == "short"]
        live.view.show_run(short)
        live.until(lambda: "short" in names(live))
        live.until(lambda: middle(live) == pytest.approx(110, abs=2))
        assert live.viewer.layers.selection.active.name == "short"
        assert live.point()[0] == 1
        live.until(lambda: "short" in live.view.status.text)
        assert "2 frames" in live.view.status.text, "the status is of what one looks at"
        live.view.set_following(True)
        live.until(lambda: live.point()[0] == 19)
        live.until(lambda: "long" in live.view.status.text)
        live.until(lambda: middle(live) == pytest.approx(219, abs=2))


def test_a_run_without_z_is_seen_at_every_z_of_a_stack_that_is_brought_back_beside_it(live):
    with live.publisher(dtype="uint8") as publisher:
        for number in range(2):
            publisher.new_stream(f"stack {number}", steps={"z": 2.0}, **UM)
            for z in range(5):
                publisher.publish(frame(100 + z, (64, 64)), axes={"z": z})
            live.settled(publisher)
            run(live, publisher, range(200, 204), title=f"series {number}", **UM)
            live.view.show_run(next(each for each in live.view.scene.runs if each.about.title == f"stack {number}"))
            live.until(lambda number=number: f"stack {number}" in names(live))
            live.caught_up()
            assert live.viewer.dims.axis_labels == ("t", "z", "y", "x")
            assert live.viewer.dims.range[1].stop == pytest.approx(8, abs=1e-3), "the stack's planes, and no more"
            live.viewer.dims.set_point([0, 1], [2, 8])
            live.until(lambda number=number: live.shown(f"series {number}")[32, 32] == 202)
            live.until(lambda number=number: live.shown(f"stack {number}")[32, 32] == 104)
            live.view.set_side_by_side(True)
            live.caught_up()
            lit = picture(live)
            height, width = lit.shape
            halves = (lit[height // 2, width // 4], lit[height // 2, 3 * width // 4])
            assert sorted(halves) == [pytest.approx(104, abs=2), pytest.approx(202, abs=2)], "neither is black"
            live.view.set_side_by_side(False)
            live.view.set_following(True)


@pytest.mark.parametrize("units", ["um", ""])
def test_a_copy_lies_on_the_sliders_of_the_next_runs_by_the_names_of_its_axes(live, units):
    about = {"scale": (0.1, 0.1), "units": units} if units else {}
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("stack", steps={"z": 2.0}, **UM)
        for z in range(5):
            publisher.publish(frame(100 + z, (64, 64)), axes={"z": z})
        live.settled(publisher)
        live.view.tools.snapshots.take_run()
        live.until(lambda: "stack (snapshot)" in names(live) and not live.view.tools.snapshots.busy)
        live.view.tools.snapshots.take_frame()
        for number in range(2):
            run(live, publisher, range(200, 210), title=f"series {number}", **about)
            assert live.viewer.dims.axis_labels == ("t", "z", "y", "x")
            assert live.viewer.dims.range[0].stop == pytest.approx(9, abs=1e-3)
            assert live.viewer.dims.range[1].stop == pytest.approx(8, abs=1e-3)
            assert middle(live) == pytest.approx(209, abs=2)
            assert live.viewer.layers.extent.units is not None, "all layers are in one unit"
            live.viewer.dims.set_point([0, 1], [5, 4])
            assert middle(live) == pytest.approx(205, abs=2)
            live.layer("stack (snapshot)").visible = True
            assert live.shown("stack (snapshot)")[32, 32] == 102
            live.layer("stack (snapshot)").visible = False
            live.view.set_following(True)
        publisher.new_stream("both", steps={"z": 2.0}, **about)
        for t in range(2):
            for z in range(3):
                publisher.publish(frame(20 + 10 * t + z, (64, 64)), axes={"t": t, "z": z})
        live.settled(publisher)
        live.view.tools.snapshots.take_run()
        live.until(lambda: "both (snapshot)" in names(live) and not live.view.tools.snapshots.busy)
        run(live, publisher, [90, 91], title="last", **about)
        live.layer("both (snapshot)").visible = True
        live.viewer.dims.set_point([0, 1], [1, 4])
        assert live.shown("both (snapshot)")[32, 32] == 32
        assert live.shown("last")[32, 32] == 91


@pytest.mark.usefixtures("unhurried")
def test_a_program_that_is_idle_takes_neither_the_picture_nor_the_status(live):
    with live.publisher(dtype="uint8", title="microscope") as source, live.publisher(title="notebook") as idle:
        run(live, source, [50, 51], title="run")
        for turn in range(2):  # a picture, then labels: neither is what one wants to see of the microscope
            source.publish(frame(52), axes={"t": 1})
            if turn:
                idle.publish(np.zeros((64, 64), "uint8"), kind="labels", name="cells", axes={"t": 0})
            else:
                idle.publish(np.full((64, 64), 7, "uint16"), axes={"t": 0})
            live.settled(idle)
            for t in range(2 + 3 * turn, 5 + 3 * turn):
                source.publish(frame(100 + t), axes={"t": t})
                live.settled(source)
                live.until(lambda t=t: live.point()[0] == t)
            assert live.view.followed.title == "microscope"
            live.until(lambda: "microscope" in live.view.status.text)
            assert middle(live) == pytest.approx(100 + t, abs=2)


@pytest.mark.usefixtures("unhurried")
def test_of_two_programs_that_both_deliver_both_are_seen_and_one_is_followed(live):
    with live.publisher(dtype="uint8", title="left") as left, live.publisher(dtype="uint8", title="right") as right:
        followed = set()
        for t in range(6):
            for publisher, value, at in ((left, 90, (0.0, 0.0)), (right, 160, (0.0, 64.0))):
                publisher.publish(frame(value + t), axes={"t": t}, translate=at)
                if not t:
                    live.settled(publisher)  # the left one is the first
            for publisher in (left, right):
                live.settled(publisher)
                followed.add(live.view.followed.title)
        assert followed == {"left"}
        seen = picture(live)
        height, width = seen.shape
        assert seen[height // 2, width // 4] == pytest.approx(95, abs=2)
        assert seen[height // 2, 3 * width // 4] == pytest.approx(165, abs=2)


@pytest.mark.usefixtures("unhurried")
def test_a_program_whose_images_lie_under_those_of_the_run_is_named_and_seen_side_by_side(live):
    with live.publisher(dtype="uint8", title="left") as left, live.publisher(dtype="uint8", title="right") as right:
        for number in range(2):
            left.new_stream(f"run {number}")
            for t in range(3):
                left.publish(frame(90 + t), axes={"t": t})
                live.settled(left)
                right.publish(frame(160 + t), axes={"t": t})
                live.settled(right)
            sources = live.view.scene.sources.items()
            live.view.follow(next(token for token, stream in sources if stream.title == "left"))
            live.caught_up()
            assert live.view.followed.title == "left"
            assert middle(live) == pytest.approx(92, abs=2)
            live.until(lambda: "right lies under it; runs ▸ Side by side shows both" in live.view.status.text)
            live.view.set_side_by_side(True)
            live.caught_up()
            seen = picture(live)
            height, width = seen.shape
            halves = (seen[height // 2, width // 4], seen[height // 2, 3 * width // 4])
            assert sorted(halves) == [pytest.approx(92, abs=2), pytest.approx(162, abs=2)]
            live.until(lambda: "lies under" not in live.view.status.text)
            live.view.set_side_by_side(False)


def test_when_the_one_that_is_followed_falls_silent_the_other_is(live):
    with live.publisher(dtype="uint8", title="first") as first, live.publisher(dtype="uint8", title="second") as second:
        run(live, first, [50, 51])
        t = 0
        while live.view.followed is None or live.view.followed.title != "second":
            second.publish(frame(100 + t % 100), axes={"t": t})
            live.settled(second)
            t += 1
        live.until(lambda: live.point()[0] == t - 1)
        assert middle(live) == pytest.approx(100 + (t - 1) % 100, abs=2), "and it is not hidden by the other"


def test_live_mode_is_one_image_whatever_its_size_with_all_that_the_user_has_set(live):
    with live.publisher((128, 128), "uint8") as publisher:
        publisher.publish(frame(100, (128, 128)))
        live.settled(publisher)
        (layer,) = live.viewer.layers
        layer.colormap, layer.gamma, layer.name, layer.contrast_limits = "green", 0.9, "my camera", (0, 200)
        layer.gamma = 1.0
        points = live.viewer.add_points(np.zeros((0, 2)), name="mine")
        live.viewer.layers.move(1, 0)
        for value, shape in ((120, (64, 64)), (140, (16, 32)), (160, (128, 128))):
            publisher.publish(frame(value, shape))
            live.settled(publisher)
            assert list(live.viewer.layers) == [points, layer]
            assert (layer.name, layer.colormap.name, tuple(layer.contrast_limits)) == ("my camera", "green", (0, 200))
            seen = live.viewer.screenshot(canvas_only=True, flash=False)
            height, width = seen.shape[:2]
            assert seen[height // 2, width // 2][:2].tolist() == pytest.approx([0, value * 255 / 200], abs=3)
            lit = seen[..., 1] > 20
            assert lit.sum() == pytest.approx(lit[:, width // 2].sum() * lit[height // 2].sum(), rel=0.02), "alone"
        layer.visible = False
        publisher.publish(frame(90, (64, 64)))
        live.settled(publisher)
        assert not layer.visible
        assert live.receiver.history.stats().pinned_bytes == 64 * 64, "the former ones are in memory no more"


def test_two_cameras_of_live_mode_change_their_size_one_after_the_other(live):
    with live.publisher((64, 64), "uint8") as publisher:
        for left, right in (((64, 64), (64, 64)), ((32, 32), (64, 64)), ((32, 32), (32, 32))):
            for camera, shape in (("left", left), ("right", right)):
                publisher.publish(frame(100, shape), axes={"cam": camera})
            live.settled(publisher)
            shapes = {layer.name: layer.data.shape[-2:] for layer in live.viewer.layers}
            assert shapes == {"left · live": left, "right · live": right}


def test_another_pixel_size_in_live_mode_takes_the_place_of_the_former_one(live):
    with NapariStreamingBackend(launch=False, policy="every") as backend:
        backend.publisher.open((64, 64), "uint8")
        live.attach(backend.publisher)
        layer = None
        for value, (size, pixels) in enumerate(((1.0, 64), (2.0, 32), (0.25, 64))):
            backend.frame_ready(frame(100 + value, (pixels, pixels)), None, {"pixel_size_um": size})
            live.settled(backend.publisher)
            live.until(lambda size=size: [each.scale[-1] for each in live.viewer.layers] == [size])
            layer = layer or live.viewer.layers[0]
            assert list(live.viewer.layers) == [layer]
            assert look(live) == (pytest.approx(0.95, abs=0.04), pytest.approx(100 + value, abs=2))
            across = live.viewer.scene.camera.zoom * size * pixels  # what the scale bar goes by
            assert across == pytest.approx(0.95 * min(live.viewer.canvas.size), rel=0.02)
        assert len(live.view.scene.runs) == 1


def test_live_mode_after_a_run_is_seen_again_and_does_not_push_out_the_runs(live):
    with NapariStreamingBackend(launch=False, policy="every") as backend:
        for number in range(3):
            backend.frame_ready(frame(50 + number))
            live.attach(backend.publisher)
            live.settled(backend.publisher)
            live.until(lambda: names(live) == ["live"])
            assert middle(live) == pytest.approx(50 + number, abs=2)
            backend.sequenceStarted(None)
            for t in range(2):
                event = type("Event", (), {"index": {"t": t}})()
                backend.frame_ready(frame(100 + 10 * number + t), event)
            backend.sequenceFinished(None)
            live.settled(backend.publisher)
            live.until(lambda: live.viewer.dims.ndim == 3)
            assert middle(live) == pytest.approx(101 + 10 * number, abs=2)
            assert sum(not each.about.preview for each in live.view.scene.runs) == number + 1


def test_a_former_run_is_brought_back_with_what_the_user_has_set_and_removed_for_good(live):
    button = live.view.runs
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, [50, 51, 52, 53], title="one")
        live.layer("one").colormap = "magenta"
        run(live, publisher, [150, 151], title="two")
        assert names(live) == ["two"]

        def entry(text):
            button.fill()
            found = [action for action in button.runs.actions() if text in action.text()]
            return found[0] if found else None

        assert not entry("two").isEnabled(), "the run that is followed stays"
        assert not entry("one").isChecked()
        entry("one").trigger()
        live.until(lambda: names(live) == ["two", "one"])
        live.until(lambda: live.viewer.dims.range[0].stop == pytest.approx(3, abs=1e-3))
        assert live.viewer.layers.selection.active is live.layer("one")
        assert live.layer("one").colormap.name == "magenta"
        live.viewer.dims.set_point(0, 3)
        assert middle(live) == pytest.approx(53, abs=2)
        run(live, publisher, [200], title="three")
        assert names(live) == ["three"], "the next run has the scene for itself"
        live.until(lambda: entry("Remove") is not None)
        removal = entry("Remove").menu().actions()
        next(action for action in removal if "one" in action.text()).trigger()
        live.until(lambda: entry("one") is None)
        assert entry("two") is not None
        assert middle(live) == pytest.approx(200, abs=2)


def test_an_earlier_run_is_shown_alone_until_a_new_one_begins_though_another_goes_on(live):
    with live.publisher(dtype="uint8") as publisher:

        def only(title):
            live.view.runs.fill()
            menu = next(each for each in live.view.runs.runs.actions() if each.text() == "Show only").menu()
            next(action for action in menu.actions() if title in action.text()).trigger()

        run(live, publisher, [100, 101], title="first")
        run(live, publisher, [200], title="second")
        only("first")
        live.until(lambda: names(live) == ["first"])
        assert middle(live) == pytest.approx(101, abs=2)
        publisher.publish(frame(210), axes={"t": 1})
        live.settled(publisher)
        assert names(live) == ["first"]
        assert middle(live) == pytest.approx(101, abs=2)
        only("second")
        live.until(lambda: names(live) == ["second"] and live.point()[0] == 1)
        assert middle(live) == pytest.approx(210, abs=2)
        only("first")
        live.until(lambda: names(live) == ["first"])
        run(live, publisher, [50], title="third")
        assert names(live) == ["third"]
        assert middle(live) == pytest.approx(50, abs=2)


def test_what_the_user_has_set_of_a_channel_is_set_of_it_in_the_next_runs(live):
    with live.publisher(dtype="uint8") as publisher:
        for number in range(3):
            publisher.new_stream(f"run {number}", channels=["DAPI", "FITC"])
            for channel in ("DAPI", "FITC"):
                publisher.publish(frame(100), axes={"t": 0, "c": channel})
            live.settled(publisher)
            dapi, fitc = (live.layer(f"{name} · run {number}") for name in ("DAPI", "FITC"))
            if not number:
                dapi.contrast_limits, dapi.colormap, fitc.visible = (0, 200), "gray", False
            assert (tuple(dapi.contrast_limits), dapi.colormap.name, fitc.visible) == ((0, 200), "gray", False)
            seen = live.viewer.screenshot(canvas_only=True, flash=False)
            height, width = seen.shape[:2]
            assert seen[height // 2, width // 2][:3].tolist() == pytest.approx([127] * 3, abs=2)


def test_the_user_s_own_layer_stays_where_it_is_selected_and_above_the_images(live):
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, [50, 51], title="one")
        mine = live.viewer.add_shapes([[[10, 10], [10, 50], [50, 50], [50, 10]]], face_color="white", name="mine")
        run(live, publisher, [150], title="two")
        run(live, publisher, [160], title="three")
        assert names(live) == ["three", "mine"]
        assert live.viewer.layers.selection.active is mine
        assert middle(live) > 200, "it lies on the image"


def test_a_run_is_seen_over_a_snapshot_that_is_shown_and_under_what_adds_to_it(live):
    with live.publisher(dtype="uint8") as publisher:
        run(live, publisher, [60], title="first")
        live.view.tools.snapshots.take_frame()
        (snapshot,) = [layer for layer in live.viewer.layers if layer not in [each.layer for each in live.view.layers]]
        snapshot.visible = True
        light = live.viewer.add_image(np.full((64, 64), 20, "uint8"), contrast_limits=(0, 255), blending="additive")
        for number, value in enumerate((100, 180)):
            run(live, publisher, [value, value], title=f"next {number}")
            live.until(lambda value=value: middle(live) == pytest.approx(value + 20, abs=3))
            order = list(live.viewer.layers)
            assert order.index(snapshot) < order.index(live.layer(f"next {number}")) < order.index(light)
        live.viewer.layers.move(order.index(snapshot), len(order))  # over the run, as the user wants it
        assert middle(live) == pytest.approx(60, abs=3)
        publisher.publish(frame(200), axes={"t": 2})
        live.settled(publisher)
        assert middle(live) == pytest.approx(60, abs=3), "within a run it stays where the user has put it"
        for layer in (snapshot, light):
            live.viewer.layers.remove(layer)


def test_six_workers_of_a_pipeline_are_one_run_on_the_canvas_and_so_are_three_after_them(live):
    """Each is a process of its own, with a well of its own."""
    for number, wells in ((1, WELLS), (2, WELLS[:3])):
        frames = 2 * len(wells)
        with workers("napari", wells) as made:
            for each in made:
                each.done()
            live.until(lambda: len(live.view.scene.runs) == number and live.view.followed.received == frames)  # noqa: B023
        live.until(lambda: all(source.state == "ended" for source in live.receiver.sources))
        assert names(live) == ["plate 7"], "one layer, one run"
        stream = live.view.followed
        axes = stream.axes
        live.layer("plate 7").contrast_limits = (0, 65535)
        for well in wells:
            for t in range(2):
                at = {"well": stream.about.labels["well"].index(well), "t": t}
                live.viewer.dims.current_step = [at[axis] for axis in axes] + [32, 32]
                wanted = float(frame_of(well, t)[-1, -1]) / 65535 * 255
                live.until(lambda: brightness(screen(live)) == pytest.approx(wanted, abs=3))  # noqa: B023


def test_the_status_tells_the_metadata_of_the_frames_that_are_shown(live):
    with live.publisher() as publisher:
        for t in range(2):
            for c in ("DAPI", "<b>"):
                publisher.publish(frame(99, (64, 48)), axes={"t": t, "c": c}, metadata={"camera": {"gain": t}, "of": c})
        live.settled(publisher)
        for t in (1, 0):
            live.viewer.dims.current_step = (t, 32, 24)
            lines = (f"    camera.gain: {t}", "    of: DAPI", f"    camera.gain: {t}", "    of: &lt;b&gt;")
            live.until(
                lambda: all(line in live.view.status.toolTip() for line in lines)  # noqa: B023
            )


def test_the_layers_of_runs_that_have_left_the_list_are_freed(live):
    """However many runs a day has, those in the list are what is kept of them."""
    with live.publisher(dtype="uint8") as publisher:
        layers = []
        for number in range(4):
            run(live, publisher, [100], title=f"run {number}")
            layers.append(weakref.ref(live.viewer.layers[0]))
        kept = len(live.view.scene.runs)
        assert kept == 3

        def there():
            gc.collect()
            return [number for number, layer in enumerate(layers) if layer() is not None]

        live.until(lambda: there() == [1, 2, 3])
