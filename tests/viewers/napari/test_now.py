"""What is now: which plane of which channel is on napari's canvas, while it follows and while the user looks back."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
from napari._app_model import get_app_model
from napari.settings import get_settings
from napari.utils.theme import get_theme

from napari_buttons import odd_buttons
from two_channels import CHANNELS, colours, frame, near


def test_each_channel_shows_its_newest_until_its_own_has_come_and_gaps_where_the_user_looks(live):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=CHANNELS)
            for t in range(3):
                for at, channel in enumerate(CHANNELS):
                    publisher.publish(frame(50 * run + 100 * at + 10 * t), axes={"t": t, "c": channel})
                    live.settled(publisher)
                    live.until(lambda t=t: live.point()[:1] in ((t,), ()))
                    dapi = 50 * run + 10 * t
                    if channel == "FITC":
                        assert colours(live) == near(DAPI=dapi, FITC=50 * run + 100 + 10 * t)
                    elif t:
                        assert colours(live) == near(DAPI=dapi, FITC=50 * run + 90 + 10 * t)
            publisher.publish(frame(77), axes={"t": 3, "c": "DAPI"})
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 3)
            assert colours(live) == near(DAPI=77, FITC=50 * run + 120)
            live.viewer.dims.set_point(0, 2)
            assert colours(live) == near(DAPI=50 * run + 20, FITC=50 * run + 120)
            live.viewer.dims.set_point(0, 3)
            assert not live.view.follower.following
            assert colours(live) == near(DAPI=77, FITC=0), "a gap is a gap where the user looks"
            live.view.set_following(True)
            live.until(lambda run=run: colours(live) == near(DAPI=77, FITC=50 * run + 120))
            copied = np.asarray(live.layer(f"FITC · run {run}").data)
            assert not copied[3].any(), "what is saved has the gap too"


def test_with_planes_of_a_volume_each_channel_keeps_its_newest(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("stack", channels=CHANNELS)
        for t in range(2):
            for at, channel in enumerate(CHANNELS):
                for z in range(3):
                    publisher.publish(frame(100 * at + 30 * t + 5 * z), axes={"t": t, "c": channel, "z": z})
                    live.settled(publisher)
                    live.until(lambda t=t, z=z: live.point()[:2] == (t, z))
                    if t:
                        fitc = 110 if channel == "DAPI" else 130 + 5 * z
                        assert colours(live) == near(DAPI=30 + 5 * z, FITC=fitc)
        live.viewer.dims.ndisplay = 3
        try:
            publisher.publish(frame(200), axes={"t": 2, "c": "DAPI", "z": 0})
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 2)
            volume = live.shown("FITC · stack")
            assert not volume.any(), "a volume has nothing but its own planes"
        finally:
            live.viewer.dims.ndisplay = 2


def test_paused_the_picture_keeps_what_stands_in(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run", channels=CHANNELS)
        for t, channel in ((0, "DAPI"), (0, "FITC"), (1, "DAPI")):
            publisher.publish(frame(40 + 10 * t + 100 * (channel == "FITC")), axes={"t": t, "c": channel})
            live.settled(publisher)
        live.until(lambda: live.point()[0] == 1)
        live.view.paused = True
        assert colours(live) == near(DAPI=50, FITC=140)
        publisher.publish(frame(250), axes={"t": 1, "c": "FITC"})
        live.until(lambda: publisher.flush(0))
        assert colours(live) == near(DAPI=50, FITC=140)
        live.view.paused = False
        live.until(lambda: colours(live) == near(DAPI=50, FITC=250))


@pytest.mark.parametrize("command", ["napari.layer.duplicate", "napari.layer.convert_to_labels"])
def test_what_a_command_of_napari_s_makes_of_a_live_layer_stays_as_it_is_and_the_stream_goes_on(live, command):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run", channels=CHANNELS[:1])
        for t in range(2):
            publisher.publish(frame(40 + t), axes={"t": t, "c": "DAPI"})
        live.settled(publisher)
        live.viewer.layers.selection = {live.layer("DAPI · run")}
        get_app_model().commands.execute_command(command).result(timeout=5)
        (other,) = [each for each in live.viewer.layers if each not in [mine.layer for mine in live.view.layers]] or [
            None
        ]
        for t in range(2, 4):
            publisher.publish(frame(40 + t), axes={"t": t, "c": "DAPI"})
        live.settled(publisher)
        assert isinstance(other.data, np.ndarray)
        assert np.array_equal(other.data[:, 5, 5], [40, 41])
        (mine,) = live.view.layers
        other.visible = False
        live.until(lambda: colours(live)["DAPI"] == pytest.approx(43, abs=2))
        assert mine.layer in live.viewer.layers
        assert live.view.problems == ()
        live.viewer.layers.remove(other)


def test_a_layer_that_was_deleted_is_had_back(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run", channels=CHANNELS)
        for channel, value in zip(CHANNELS, (40, 140), strict=True):
            publisher.publish(frame(value), axes={"t": 0, "c": channel})
        live.settled(publisher)
        live.viewer.layers.remove(live.layer("FITC · run"))
        publisher.publish(frame(50), axes={"t": 1, "c": "DAPI"})
        live.settled(publisher)
        assert colours(live) == near(DAPI=50, FITC=0)
        live.view.runs.fill()
        next(each for each in live.view.runs.runs.actions() if "deleted" in each.text()).trigger()
        live.until(lambda: len(live.viewer.layers) == 2)
        live.until(lambda: colours(live) == near(DAPI=50, FITC=140))


def test_of_two_sources_the_user_chooses_whom_to_follow(live):
    with live.publisher(dtype="uint8", title="left") as left, live.publisher(dtype="uint8", title="right") as right:

        def both(t):
            for publisher, value, at in ((left, 90, (0.0, 0.0)), (right, 160, (0.0, 64.0))):
                publisher.publish(frame(value + t), axes={"t": t + (100 if publisher is right else 0)}, translate=at)
            for publisher in (left, right):
                live.settled(publisher)

        def choose(name):
            live.view.runs.fill()
            follow = next(each for each in live.view.runs.runs.actions() if each.text() == "Follow")
            next(each for each in follow.menu().actions() if each.text() == name).trigger()

        for t in range(3):
            both(t)
        assert live.view.followed.title == "left"
        choose("right")
        for run in range(2):
            for t in range(3, 5):
                both(t)
                live.until(lambda t=t: live.point()[0] == 100 + t)
                assert live.view.followed.title == "right"
            live.until(lambda: "right" in live.view.status.text)
            left.new_stream(f"next {run}")  # of the other one: it takes nothing over
        right.new_stream("next")
        both(0)
        both(1)
        live.until(lambda: (live.view.followed.title, live.view.followed.about.title) == ("right", "next"))
        choose("left")
        both(2)
        live.until(lambda: live.view.followed.title == "left" and live.point()[0] == 2)


def test_a_former_run_is_seen_beside_the_newest(live):
    with live.publisher(dtype="uint8") as publisher:
        for value in (100, 200):
            publisher.new_stream("same name")
            publisher.publish(frame(value), axes={"t": 0})
            live.settled(publisher)
        live.view.runs.fill()
        newest, former = live.view.runs.runs.actions()[:2]
        assert newest.text() != former.text(), "runs of one name carry their time"
        former.trigger()
        live.until(lambda: len(live.viewer.layers) == 2)
        live.view.runs.fill()
        next(each for each in live.view.runs.runs.actions() if each.text() == "Side by side").trigger()
        for layer in live.viewer.layers:
            layer.contrast_limits = (0, 255)

        def halves():
            seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., 0].astype(int)
            middle = seen[seen.shape[0] // 2]
            return {int(np.median(half[half > 20])) for half in np.array_split(middle, 2) if (half > 20).any()}

        def named():
            """Return in which halves of the canvas something is written at the top."""
            seen = live.viewer.screenshot(canvas_only=True, flash=False)[:40, :, :3].max(axis=-1)
            return [bool((half > 180).any()) for half in np.array_split(seen, 2, axis=1)]

        live.until(lambda: halves() == {100, 200})
        assert named() == [True, True]
        live.view.set_side_by_side(False)
        live.settled(publisher)
        assert named() == [False, False]
        live.view.set_side_by_side(True)
        publisher.new_stream("next")
        publisher.publish(frame(150), axes={"t": 0})
        live.settled(publisher)
        assert not live.viewer.canvas.grid.enabled
        for layer in live.viewer.layers:
            layer.contrast_limits = (0, 255)
        assert halves() == {150}, "the next run has the canvas for itself"


def test_labels_alone_are_counted_as_frames(live):
    with live.publisher() as publisher:
        publisher.new_stream("cells")
        for t in range(2):
            publisher.publish(np.ones((64, 64), "uint8"), kind="labels", name="cells", axes={"t": t})
        live.settled(publisher)
        live.view.runs.fill()
        assert ": 2 frames" in live.view.runs.runs.actions()[0].text()


def test_the_status_line_tells_of_losses_only_where_there_are_some_and_comes_back(live):
    with live.publisher(dtype="uint8") as publisher:
        for t in range(4):
            publisher.publish(frame(100), axes={"t": t})
        live.settled(publisher)
        live.until(lambda: "4 frames" in live.view.status.text)
        text = live.view.status.text
        assert "dropped" not in text
        assert "superseded" not in text
        assert "frames/s" not in text, "four frames at once are no rate"
        theme = get_theme(live.viewer.theme)
        assert (
            odd_buttons(live.view.status, {each.as_hex(format="long") for each in (theme.primary, theme.current)}) == []
        )
        dock = live.view.dock
        dock.title.close_button.click()
        live.until(lambda: not live.view.status.isVisible())
        actions = [each for each in live.viewer.window.window_menu.actions() if each.text() == "scopecast live"]
        actions[-1].trigger()
        live.until(live.view.status.isVisible)
        live.viewer.dims.set_point(0, 0)
        assert not live.view.follower.following
        live.view.status.follow.click()
        live.until(lambda: live.point()[0] == 3)


def test_a_scale_of_the_user_s_along_time_changes_neither_what_is_followed_nor_what_is_shown(live):
    cases = ((0, 0.7), (0, 3600.0), (1_700_000_000, 0.001), (1_700_000_000, 3600.0))
    with live.publisher(dtype="uint8") as publisher:
        for run, (start, scale) in enumerate(cases):
            publisher.new_stream(f"run {run}", channels=CHANNELS[:1], sizes={"t": 20})
            for t in range(5):
                publisher.publish(frame(50 + 10 * t), axes={"t": start + t, "c": "DAPI"})
                live.settled(publisher)
                layer = live.layer(f"DAPI · run {run}")
                if t == 1:
                    layer.scale = (scale, *layer.scale[1:])
                live.until(lambda t=t: colours(live)["DAPI"] == pytest.approx(50 + 10 * t, abs=2))
                assert live.view.follower.following
            live.viewer.dims.set_point(0, live.point()[0] - 2 * scale)
            assert colours(live)["DAPI"] == pytest.approx(70, abs=2), (start, scale)
            assert live.view.where(live.view.followed)["t"] == start + 2
            assert live.view.hint() == ""


def test_names_and_order_of_the_user_s_are_those_of_the_next_runs(live):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(3):
            publisher.new_stream(f"run {run}", channels=CHANNELS)
            for channel, value in zip(CHANNELS, (40, 140), strict=True):
                publisher.publish(frame(value), axes={"t": 0, "c": channel})
            live.settled(publisher)
            if not run:
                dapi, fitc = live.layer("DAPI · run 0"), live.layer("FITC · run 0")
                dapi.name, fitc.blending, dapi.blending = "nuclei", "translucent_no_depth", "additive"
                live.viewer.layers.move(0, 2)
            assert [layer.name for layer in live.viewer.layers] == [f"FITC · run {run}", "nuclei"]
            assert [str(layer.blending) for layer in live.viewer.layers] == ["translucent_no_depth", "additive"]
            assert colours(live) == near(DAPI=40, FITC=140)


def test_what_the_user_has_set_of_a_channel_is_that_of_its_images_of_another_shape(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run", channels=CHANNELS)
        publisher.publish(frame(40), axes={"t": 0, "c": "DAPI"})
        live.settled(publisher)
        (layer,) = live.viewer.layers
        layer.colormap, layer.gamma = "magenta", 0.5
        publisher.publish(np.full((32, 32), 90, "uint8"), axes={"t": 1, "c": "DAPI"})
        live.settled(publisher)
        assert [(each.colormap.name, each.gamma) for each in live.viewer.layers] == [("magenta", 0.5)] * 2


def test_with_napari_s_asynchronous_slicing_axes_join_while_a_slice_is_on_its_way_and_volumes_grow(live):
    experimental = get_settings().experimental
    experimental.async_ = True
    try:
        with live.publisher(dtype="uint8") as publisher:
            for run in range(2):
                publisher.new_stream(f"run {run}", channels=CHANNELS[:1])
                for value, where in ((40, {}), (60, {"t": 1}), (80, {"t": 1, "z": 1}), (100, {"t": 2, "z": 1})):
                    with live.slice_on_its_way():
                        publisher.publish(frame(value), axes={"c": "DAPI", **where})
                        live.until(lambda: publisher.flush(0))
                    live.settled(publisher)
                    live.until(lambda value=value: colours(live)["DAPI"] == pytest.approx(value, abs=2))
                live.viewer.dims.ndisplay = 3
                for z in range(2, 5):
                    publisher.publish(frame(100 + z), axes={"c": "DAPI", "t": 2, "z": z})
                    live.settled(publisher)
                live.until(lambda run=run: live.shown(f"DAPI · run {run}").shape[0] == 5)
                assert live.view.problems == ()
                live.viewer.dims.ndisplay = 2
    finally:
        live.viewer.dims.ndisplay = 2
        experimental.async_ = False


def test_a_live_layer_is_saved_as_what_has_come_and_played_through(live, tmp_path):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            for t in range(5):
                publisher.publish(frame(40 + 10 * t), axes={"t": t})
            live.settled(publisher)
            layer = live.layer(f"run {run}")
            (written,) = layer.save(str(tmp_path / f"run{run}.tif"))
            assert np.array_equal(tifffile.imread(written)[:, 5, 5], [40, 50, 60, 70, 80])
            live.viewer.dims.set_point(0, 0)
            for t in (1, 2):
                live.viewer.dims.set_current_step(0, t)
                layer.contrast_limits = (0, 255)
                seen = live.viewer.screenshot(canvas_only=True, flash=False)
                assert seen[seen.shape[0] // 2, seen.shape[1] // 2, 0] == pytest.approx(40 + 10 * t, abs=2)
            assert not live.view.follower.following


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("axes", [{}, {"t": 0}, {"t": 7, "z": 1}], ids=["live mode", "a time series", "a stack"])
def test_what_another_program_delivers_is_seen_at_its_newest_whatever_its_places_are(live, axes):
    with live.publisher(dtype="uint8", title="left") as left, live.publisher(dtype="uint8", title="right") as right:

        def seen():
            for each in live.view.layers:
                if tuple(each.layer.contrast_limits) != (0, 255):
                    each.layer.contrast_limits = (0, 255)
            picture = live.viewer.screenshot(canvas_only=True, flash=False)[..., 0].astype(int)
            height, width = picture.shape
            return picture[height // 2, width // 4], picture[height // 2, 3 * width // 4]

        for run in range(2):
            left.new_stream(f"run {run}")
            if not run or axes:
                right.new_stream(f"beside {run}")
            for step in range(4):
                left.publish(frame(40 + 10 * step), axes={"t": 20 + step}, translate=(0.0, 0.0))
                live.settled(left)
                where = {name: at + step if name == "t" else at for name, at in axes.items()}
                right.publish(frame(150 + 10 * step), axes=where, translate=(0.0, 64.0))
                live.settled(right)
                if not run + step:  # a busy machine may take longer from frame to frame than a program may rest
                    followed = [each for each in live.view.scene.sources.values() if each.title == "left"]
                    live.view.follow(followed[0].source)
                assert live.view.followed.title == "left"
                if step > 2:
                    expected = (40 + 10 * step, 150 + 10 * step)
                    live.until(lambda expected=expected: seen() == pytest.approx(expected, abs=2))
            assert live.view.problems == ()
        live.viewer.dims.set_point(0, 22)
        live.until(lambda: seen()[0] == pytest.approx(60, abs=2))
