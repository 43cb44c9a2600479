"""What a real napari window shows of live streams: every plane in its place, at its time, as the user wants it."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_live import Live, sliced
from receivers import Viewer, check_stamp, stamped
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.scratch import Scratch

SHAPE = (64, 48)


def place(t, c, z, **more):
    return {"t": t, "c": f"ch{c}", "z": z, **more}


def test_a_sparse_run_out_of_order_shows_the_right_planes_and_zeros_elsewhere(live):
    came = [(5, 0, 2), (1, 1, 0), (3, 0, 0), (0, 1, 3), (5, 1, 1), (1, 0, 0)]
    with live.publisher() as publisher:
        for t, c, z in came:
            publisher.publish(stamped(t, c, z, SHAPE), axes=place(t, c, z))
        live.settled(publisher)
        assert {layer.name for layer in live.viewer.layers} == {"ch0 · live", "ch1 · live"}
        live.view.set_following(False)
        for t, z in itertools.product(range(6), range(4)):
            live.viewer.dims.set_point([0, 1], [t, z])
            for c in range(2):
                shown = live.shown(f"ch{c} · live")
                if (t, c, z) in came:
                    assert check_stamp(shown) == (t, c, z)
                else:
                    assert not shown.any(), f"something at {(t, c, z)}, where nothing has come"
        live.viewer.dims.set_point([0, 1], [2, 2])
        live.until(lambda: "no frame here yet" in live.view.status.text)
        whole = np.asarray(live.layer("ch0 · live").data)
        assert whole.shape == (6, 4, *SHAPE)


def test_sliders_grow_with_the_frames_and_begin_at_the_lowest_index(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(7, 0, 3, SHAPE), axes=place(7, 0, 3))
        live.settled(publisher)
        for t in range(8, 12):
            publisher.publish(stamped(t, 0, 4, SHAPE), axes=place(t, 0, 4))
            live.settled(publisher)
            assert tuple(live.viewer.dims.range[0])[:2] == pytest.approx((7, t), abs=1e-3)
        publisher.publish(stamped(5, 0, 3, SHAPE), axes=place(5, 0, 3))
        live.settled(publisher)
        ranges = [value for axis in (0, 1) for value in tuple(live.viewer.dims.range[axis])[:2]]
        assert ranges == pytest.approx([5, 11, 3, 4], abs=1e-3)
        assert tuple(live.viewer.dims.axis_labels) == ("t", "z", "y", "x")
        assert check_stamp(live.shown("ch0 · live")) == (5, 0, 3)


def test_sliders_follow_until_the_user_moves_one_and_again_on_follow(live):
    with live.publisher() as publisher:

        def publish(t):
            publisher.publish(stamped(t, 0, t % 3, SHAPE), axes=place(t, 0, t % 3))
            live.settled(publisher)

        for t in range(4):
            publish(t)
            live.until(lambda t=t: live.point()[:2] == (t, t % 3))
        live.viewer.dims.set_point(0, 1)  # the user's hand
        assert not live.view.follower.following
        assert not live.view.status.follow.isChecked()
        publish(4)
        publish(5)
        assert live.point()[0] == 1
        assert live.viewer.dims.range[0].stop == pytest.approx(5, abs=1e-3), (
            "sliders grow even where they do not follow"
        )
        live.qtbot.mouseClick(live.view.status.follow, _left())
        live.until(lambda: live.point()[:2] == (5, 2))
        assert live.view.follower.following
        publish(6)
        live.until(lambda: live.point()[:2] == (6, 0))


def _left():
    from qtpy.QtCore import Qt

    return Qt.MouseButton.LeftButton


def test_what_the_user_sets_survives_frames_and_axes_that_join(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0, "c": "ch0"})
        live.settled(publisher)
        layer = live.layer("ch0 · live")
        layer.contrast_limits = (11, 222)
        layer.colormap = "viridis"
        layer.gamma = 0.7
        for t in range(1, 4):
            publisher.publish(stamped(t, 0, 0, SHAPE) + 3, axes={"t": t, "c": "ch0"})
        publisher.publish(stamped(0, 1, 0, SHAPE), axes={"t": 0, "c": "ch1"})
        publisher.publish(stamped(4, 0, 2, SHAPE), axes=place(4, 0, 2))  # z joins
        live.settled(publisher)
        layer = live.layer("ch0 · live")
        assert tuple(layer.contrast_limits) == (11, 222)
        assert layer.colormap.name == "viridis"
        assert layer.gamma == 0.7
        assert layer.data.shape == (5, 3, *SHAPE)
        live.view.set_following(False)
        live.viewer.dims.set_point([0, 1], [0, 0])
        assert check_stamp(live.shown("ch0 · live")) == (0, 0, 0)
        live.viewer.dims.set_point([0, 1], [4, 2])
        assert check_stamp(live.shown("ch0 · live")) == (4, 0, 2)


def test_each_channel_has_a_colour_and_contrast_of_its_own_and_the_scale_is_in_um(live):
    with live.publisher(dtype="uint16") as publisher:
        publisher.new_stream("cells", scale=(0.5, 0.5), units="um", steps={"z": 2.0}, channels=["DAPI", "FITC"])
        for c, name in enumerate(["DAPI", "FITC"]):
            publisher.publish(np.tile(np.arange(48, dtype="uint16") * (c + 1), (64, 1)), axes={"z": 3, "c": name})
        live.settled(publisher)
        dapi, fitc = live.layer("DAPI · cells"), live.layer("FITC · cells")
        assert dapi.colormap.name != fitc.colormap.name
        assert dapi.contrast_limits[1] < fitc.contrast_limits[1]
        assert tuple(dapi.scale) == (2.0, 0.5, 0.5)
        assert [str(unit) for unit in dapi.units] == ["micrometer"] * 3
        assert live.viewer.canvas.overlays.scale_bar.visible
        assert live.point()[0] == 6.0


def test_a_viewer_opened_in_the_middle_of_a_run_shows_the_newest_of_every_channel_at_once(window, qtbot):
    with Publisher("napari", policy="latest") as publisher:
        publisher.open(SHAPE, "uint16")
        qtbot.waitUntil(lambda: publisher.stats().segment_bytes > 0, timeout=10_000)
        for t in range(5):
            for c in range(3):
                publisher.publish(stamped(t, c, 0, SHAPE), axes={"t": t, "c": f"ch{c}"})
        late = Live(window, qtbot)
        try:
            late.until(lambda: len(late.view.layers) == 3)
            for c in range(3):
                late.until(lambda c=c: check_stamp(late.shown(f"ch{c} · live")) == (4, c, 0))
            # It attached to what was there; nothing was published since.
            assert publisher.stats().frames.published == 15
        finally:
            late.close()


def test_two_viewers_on_one_stream_both_get_every_frame(live):
    with Viewer(kind="napari") as other, live.publisher() as publisher:
        other.wait_for(lambda: other.attached)
        for t in range(30):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        assert [row.frames.delivered for row in publisher.stats()] == [30, 30]
        assert live.layer("live").data.shape[0] == 30
        (stream,) = other.streams
        assert stream.received == 30


@pytest.mark.usefixtures("unhurried")
def test_two_streams_in_one_viewer_keep_their_frames_apart(live):
    with live.publisher(title="one") as one, live.publisher(title="two") as two:
        for t in range(3):
            one.publish(stamped(t, 1, 0, SHAPE), axes={"t": t})
            two.publish(stamped(t, 2, 0, (32, 32)), axes={"t": t, "z": 1})
        live.settled(one)
        live.settled(two)
        live.until(lambda: len(live.viewer.layers) == 2)
        live.view.set_following(False)
        for t in (2, 1):
            live.viewer.dims.set_point([0, 1], [t, 1])
            shown = {layer.data._stack.plane_shape: sliced(layer) for layer in live.viewer.layers}
            assert check_stamp(shown[(32, 32)]) == (t, 2, 0)
            assert check_stamp(shown[SHAPE]) == (t, 1, 0), "a stream without z is everywhere along it"


def test_a_second_run_gets_layers_of_its_own_and_the_fourth_ends_the_first(live):
    with live.publisher() as publisher:
        for run in range(4):
            publisher.new_stream(f"run {run}")
            for t in range(2):
                publisher.publish(stamped(t, run, 0, SHAPE), axes={"t": t})
            live.settled(publisher)
            live.until(lambda run=run: f"run {run}" in live.viewer.layers)
            assert live.layer(f"run {run}").visible
            assert check_stamp(live.shown(f"run {run}")) == (1, run, 0)
        assert [layer.name for layer in live.viewer.layers] == ["run 3"]
        kept = live.view.scene.runs
        assert [stream.about.title for stream in kept] == ["run 1", "run 2", "run 3"], "the last three runs are kept"
        for stream in kept[:2]:
            live.view.show_run(stream)
        live.until(lambda: {layer.name for layer in live.viewer.layers} == {"run 1", "run 2", "run 3"})
        for run in range(1, 4):
            assert check_stamp(live.shown(f"run {run}")) == (1, run, 0)


def test_axes_join_while_a_former_run_is_hidden(live):
    with live.publisher() as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            publisher.publish(stamped(3, run, 0, SHAPE), axes={"t": 3})
            live.settled(publisher)
        assert "run 0" not in live.viewer.layers
        publisher.publish(stamped(4, 1, 2, SHAPE), axes={"m": 1, "t": 4, "z": 2})
        live.settled(publisher)
        assert live.view.problems == ()
        assert check_stamp(live.shown("run 1")) == (4, 1, 2)
        live.view.show_run(live.receiver.streams[0])
        live.until(lambda: "run 0" in live.viewer.layers)
        live.view.set_following(False)
        labels = tuple(live.viewer.dims.axis_labels)
        live.viewer.dims.set_point([labels.index(name) for name in "mtz"], [0, 3, 0])
        assert check_stamp(live.shown("run 0")) == (3, 0, 0)
        assert live.layer("run 0").extent.world.shape == (2, 5)


def test_a_layer_that_the_user_deleted_does_not_come_back(live):
    with live.publisher() as publisher:
        for c in range(2):
            publisher.publish(stamped(0, c, 0, SHAPE), axes=place(0, c, 0))
        live.settled(publisher)
        del live.viewer.layers["ch0 · live"]
        for c in range(2):
            publisher.publish(stamped(1, c, 0, SHAPE), axes=place(1, c, 0))
        live.settled(publisher)
        live.until(lambda: live.point()[0] == 1)
        assert [layer.name for layer in live.viewer.layers] == ["ch1 · live"]
        assert check_stamp(live.shown("ch1 · live")) == (1, 1, 0)


@pytest.mark.fault("D6")
def test_shape_and_dtype_that_change_in_a_stream_get_layers_of_their_own(live):
    kinds = [((64, 48), "uint16"), ((32, 40), "uint16"), ((64, 48), "float32")]
    with live.publisher((64, 48), "float32") as publisher:
        for t in range(9):
            shape, dtype = kinds[t % 3]
            publisher.publish(stamped(t, 0, 0, shape, dtype), axes={"t": t})
        live.settled(publisher)
        live.until(lambda: len(live.viewer.layers) == 3)
        live.view.set_following(False)
        for t in range(9):
            live.viewer.dims.set_point(0, t)
            shown = [sliced(layer) for layer in live.viewer.layers]
            stamps = [check_stamp(plane) for plane in shown if plane.any()]
            assert stamps == [(t, 0, 0)]


DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)


def test_every_dtype_is_painted(live):
    with live.publisher(dtype="complex128") as publisher:
        for dtype in DTYPES:
            picture = (np.arange(64 * 48).reshape(SHAPE) % 100).astype(dtype)
            if picture.dtype.kind == "c":
                picture = picture * np.asarray(0.6 + 0.8j, dtype)
            publisher.new_stream(dtype)
            publisher.publish(picture, axes={"t": 0})
            live.settled(publisher)
            (layer,) = live.viewer.layers
            expected = np.abs(picture) if picture.dtype.kind == "c" else picture
            np.testing.assert_array_equal(np.asarray(layer.data)[0], expected, dtype)
            named = f"|{dtype}|" if picture.dtype.kind == "c" else dtype
            assert layer.name == named, "a magnitude must say that it is one"
            (mine,) = live.view.layers
            live.until(lambda mine=mine: mine.painted >= 0)


@pytest.mark.fault("D4")
def test_contrast_comes_from_the_finite_pixels(live):
    with live.publisher(dtype="float32") as publisher:
        for case, special, limits in (
            ("some", {(0, 0): np.nan, (1, 1): np.inf, (2, 2): -np.inf}, (0.0, 99.0)),
            ("all nan", np.nan, (0, 1)),
            ("all inf", np.inf, (0, 1)),
        ):
            picture = (np.arange(64 * 48).reshape(SHAPE) % 100).astype("float32")
            if isinstance(special, dict):
                for place, value in special.items():
                    picture[place] = value
            else:
                picture[:] = special
            publisher.new_stream(case)
            publisher.publish(picture, axes={"t": 0})
            live.settled(publisher)
            (layer,) = live.viewer.layers
            assert tuple(layer.contrast_limits) == pytest.approx(limits, abs=1), case
            np.testing.assert_array_equal(np.asarray(layer.data)[0], picture)
            (mine,) = live.view.layers
            live.until(lambda mine=mine: mine.painted >= 0)


def test_colour_frames_are_shown_as_colour(live):
    picture = np.zeros((*SHAPE, 3), "uint8")
    picture[..., 1] = 200
    with live.publisher((*SHAPE, 3), "uint8") as publisher:
        publisher.publish(picture, axes={"t": 0})
        live.settled(publisher)
        (layer,) = live.viewer.layers
        assert layer.rgb
        np.testing.assert_array_equal(np.asarray(layer.data)[0], picture)


def test_contrast_waits_for_a_frame_that_has_some(live):
    with live.publisher() as publisher:
        publisher.publish(np.full(SHAPE, 7, "uint16"), axes={"t": 0})
        live.settled(publisher)
        (layer,) = live.viewer.layers
        assert tuple(layer.contrast_limits) == (7, 8)
        publisher.publish(np.tile(np.arange(48, dtype="uint16") * 50, (64, 1)), axes={"t": 1})
        live.settled(publisher)
        live.until(lambda: layer.contrast_limits[1] > 2000)
        assert layer.contrast_limits_range[1] == 4095, "the slider reaches as far as the camera's bits"


@pytest.mark.fault("V3")
def test_a_hung_window_is_not_evicted_and_catches_up_with_the_newest(live):
    """The GUI's thread hangs for longer than the heartbeat allows a dead receiver."""
    with live.publisher(policy="latest") as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        ended = threading.Event()

        def feed():
            for t in itertools.count(1):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                if ended.wait(0.01):
                    return

        (stream,) = live.receiver.streams
        feeder = threading.Thread(target=feed)
        feeder.start()
        before = stream.received
        time.sleep(3.0)  # the GUI's thread, in a modal dialog or a long repaint
        ended.set()
        feeder.join()
        assert stream.received > before + 50, "the receiver's thread must go on beside a hung window"
        row = publisher.stats().receivers[0]
        assert row.attached
        assert row.frames.dropped == 0
        live.settled(publisher)
        newest = publisher.stats().frames.published - 1
        live.until(lambda: live.point()[0] == newest)
        assert check_stamp(live.shown("live")) == (newest, 0, 0)


def test_a_stack_beyond_its_budget_can_be_scrolled_through(live_with, tmp_path):
    nbytes = 64 * 48 * 2
    live = live_with(History(20 * nbytes, Scratch(100 * nbytes, tmp_path)))
    with live.publisher() as publisher:
        for t in range(50):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            if t % 5 == 0:
                live.settled(publisher)
        live.settled(publisher)
        live.until(lambda: live.receiver.history.stats().resident <= 20)
        live.view.set_following(False)
        for t in range(50):
            live.viewer.dims.set_point(0, t)
            assert check_stamp(live.shown("live")) == (t, 0, 0)
        assert live.receiver.history.stats().forgotten == 0


def test_a_lost_source_is_said_and_its_last_frames_stay(live):
    program = (
        "import numpy as np, os, signal\n"
        "from scopecast import Publisher\n"
        "p = Publisher('napari', policy='every', title='doomed')\n"
        "p.open((64, 48)); [p.publish(np.full((64, 48), 9, 'uint16'), axes={'t': t}) for t in range(3)]\n"
        "p.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", program])
    live.until(lambda: process.poll() is not None)
    live.until(lambda: any(stream.state == "lost" for stream in live.receiver.streams))
    live.until(lambda: [layer.data.shape for layer in live.viewer.layers] == [(3, *SHAPE)])
    live.until(lambda: "source lost" in live.view.status.text)
    assert len(RunDirectory().clean().segments) == 1


def test_restarts_of_a_producer_leak_nothing(live):
    """P9, with a window: descriptors and maps of the viewer stay as many as they were."""

    def restart(run):
        with live.publisher(title=f"take {run}") as publisher:
            publisher.publish(stamped(run, 0, 0, SHAPE), axes={"t": 0})
            live.settled(publisher)
        live.until(lambda: all(source.state == "ended" for source in live.receiver.sources))

    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    def segments():
        return Path("/proc/self/maps").read_text().count("/dev/shm/napari_")

    for run in range(4):  # more than are kept on the canvas
        restart(run)
    open_before, mapped_before = descriptors(), segments()
    for run in range(4, 8):
        restart(run)
    live.until(lambda: descriptors() <= open_before + 2)
    assert segments() <= mapped_before
    assert len(live.viewer.layers) <= 9


def canvas(live):
    """Return the brightness of the middle of the canvas, as it is on the screen."""
    picture = live.viewer.screenshot(canvas_only=True, flash=False)
    height, width = picture.shape[:2]
    return picture[height // 2 - 5 : height // 2 + 5, width // 2 - 5 : width // 2 + 5, :3].mean(axis=(0, 1))


def test_at_rest_every_channel_of_a_fast_run_is_on_the_canvas(live):
    """Layers grow and sliders move while frames come: none may end up sliced where it had not grown to yet."""
    ramp = np.tile(np.arange(48, dtype="uint16"), (64, 1))
    with live.publisher() as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=["FITC", "Rhodamine", "DAPI"])
            for t in range(8):
                for channel in ("FITC", "Rhodamine", "DAPI"):
                    publisher.publish(ramp + 100 * t, axes={"t": t, "c": channel})
                live.qtbot.wait(5)
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 7)
            for live_layer in live.view.layers:
                if live_layer.layer.visible:
                    live_layer.layer.contrast_limits = (0, 800)
            live.qtbot.wait(50)
            assert (canvas(live) > 100).all(), f"a channel of run {run} is black: {canvas(live)}"


def test_streams_with_different_steps_are_each_shown_in_their_place(live):
    with live.publisher(title="fine") as fine, live.publisher(title="coarse") as coarse:
        fine.new_stream("fine", steps={"z": 0.3}, units="um", scale=(1, 1))
        coarse.new_stream("coarse", steps={"z": 2.0}, units="um", scale=(1, 1))
        coarse.publish(stamped(0, 0, 1, (32, 32)), axes={"z": 1})
        live.settled(coarse)
        coarse.close()
        live.until(lambda: any(stream.state == "ended" for stream in live.receiver.streams))
        for z in (7, 8, 9, 10, 10):
            fine.publish(stamped(0, 0, z, SHAPE), axes={"z": z})
            live.settled(fine)
            live.until(lambda z=z: live.point()[0] == pytest.approx(0.3 * z))
            (mine,) = [each for each in live.view.layers if each.stream.about.title == "fine"]
            assert check_stamp(sliced(mine.layer)) == (0, 0, z)
            assert mine.shown is not None


def test_a_layer_that_grew_while_it_was_hidden_reaches_as_far_when_it_is_shown(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        (layer,) = live.viewer.layers
        layer.visible = False
        for t in range(1, 5):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        layer.visible = True
        live.view.notify()
        live.until(lambda: live.point()[0] == 4)
        assert check_stamp(live.shown("live")) == (4, 0, 0)


def test_a_preview_that_becomes_a_time_series_keeps_to_the_budget(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(7, 0, 0, SHAPE))
        publisher.publish(stamped(8, 0, 0, SHAPE))
        live.settled(publisher)
        assert check_stamp(live.shown("live")) == (8, 0, 0)
        for t in range(1, 4):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        live.until(lambda: live.point()[0] == 3)
        assert check_stamp(live.shown("live")) == (3, 0, 0)
        stats = live.receiver.history.stats()
        assert (stats.pinned_bytes, stats.resident) == (0, 4)


def test_deleting_a_layer_does_not_end_following(live):
    with live.publisher(title="short") as short, live.publisher(title="long") as long:
        for t in range(3):
            short.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(short)
        short.close()  # one that goes on would be followed for two more seconds
        for t in range(9):
            long.publish(stamped(t, 0, 0, (32, 32)), axes={"t": t})
        live.settled(long)
        live.until(lambda: live.point()[0] == 8)
        (doomed,) = [each.layer for each in live.view.layers if each.stream.title == "long"]
        live.viewer.layers.remove(doomed)
        assert live.view.follower.following


@pytest.mark.usefixtures("unhurried")
def test_what_napari_can_hardly_show_does_not_stop_the_other_streams(live):
    cases = {
        "unknown colour": ({"colors": ["mangenta"], "channels": ["x"]}, np.ones(SHAPE, "uint16")),
        "flat and huge": ({}, np.full(SHAPE, 1e17, "float32")),
        "flat beyond int64": ({}, np.full(SHAPE, 2**63, "uint64")),
        "flat at the end of float64": ({}, np.full(SHAPE, 1.7e308)),
    }
    with live.publisher(title="odd", shape=SHAPE, dtype="float64") as odd, live.publisher(title="even") as even:

        def newest_is_shown(t):
            return any(
                check_stamp(sliced(each.layer)) == (t, 0, 0)
                for each in live.view.layers
                if each.stream.title == "even" and each.shown
            )

        for number, (case, (about, picture)) in enumerate(cases.items()):
            odd.new_stream(case, **about)
            for t in (2 * number, 2 * number + 1):  # both go on: one that rests would leave the canvas to the other
                odd.publish(picture, axes={"c": "x", "t": t})
                live.settled(odd)
                even.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                live.settled(even)
            live.until(lambda t=t: newest_is_shown(t))
            assert len(live.viewer.layers) == len(live.view.layers), "nothing stays of a layer that can't be shown"
            seen = [each for each in live.view.layers if each.stream.about.title == case]
            live.until(lambda seen=seen, case=case: seen or f"{case} can't be shown" in live.view.status.text)


def test_the_active_layer_of_the_user_stays_active(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0, "c": "a"})
        live.settled(publisher)
        mine = live.viewer.add_points(np.zeros((1, 2)), name="mine")
        publisher.publish(stamped(0, 1, 0, SHAPE), axes={"t": 0, "c": "b"})
        live.settled(publisher)
        assert live.viewer.layers.selection.active is mine


def test_a_channel_that_joins_late_gives_the_layer_its_name_and_colour(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        (layer,) = live.viewer.layers
        assert (layer.name, layer.colormap.name) == ("live", "gray")
        for c, name in enumerate(("FITC", "DAPI")):
            publisher.publish(stamped(1, c, 0, SHAPE), axes={"t": 1, "c": name})
            live.settled(publisher)
        assert [each.name for each in live.viewer.layers] == ["FITC · live", "DAPI · live"]
        assert live.viewer.layers[0] is layer
        live.until(lambda: layer.colormap.name == "#00ff00")
        # The lowest hides what is under it, for the sake of the light theme; the others are added to it.
        assert [each.blending for each in live.viewer.layers] == ["translucent_no_depth", "additive"]


def test_whatever_the_user_sets_of_a_layer_survives_an_axis_that_joins(live):
    with live.publisher() as publisher:
        publisher.new_stream("run", scale=(0.5, 0.5), units="um", steps={"z": 2.0})
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        (layer,) = live.viewer.layers
        layer.rotate, layer.name, layer.blending, layer.opacity = 30, "mine", "minimum", 0.5
        layer.affine = [[1, 0, 0, 0], [0, 1, 0.1, 5], [0, 0, 1, 2], [0, 0, 0, 1]]
        layer.shear = [0, 0, 0.2]
        layer.translate = layer.translate + np.array([0, 7, 0])
        layer.metadata["mine"] = 1
        layer.bounding_box.visible = True
        layer.editable = False
        layer.colormap, layer.contrast_limits = "viridis", (3, 33)
        rotate, shear, affine = layer.rotate[1:, 1:], layer.shear[-1], layer.affine.affine_matrix[1:, 1:]
        publisher.publish(stamped(1, 0, 3, SHAPE), axes={"t": 1, "c": "DAPI", "z": 3})
        live.settled(publisher)
        assert list(live.viewer.layers) == [layer], "the layer itself stays, and all that refers to it"
        assert layer.ndim == 4
        np.testing.assert_allclose(layer.rotate[2:, 2:], rotate)
        np.testing.assert_allclose(layer.affine.affine_matrix[2:, 2:], affine)
        np.testing.assert_allclose(layer.shear[-1], shear)
        np.testing.assert_allclose(layer.translate, [0, 0, 7, 0])
        np.testing.assert_allclose(layer.scale, [1, 2, 0.5, 0.5])
        assert (layer.name, layer.blending, layer.opacity, layer.editable) == ("mine", "minimum", 0.5, False)
        assert layer.metadata["mine"] == 1
        assert layer.bounding_box.visible
        assert (layer.colormap.name, tuple(layer.contrast_limits)) == ("viridis", (3, 33))
        assert tuple(layer.axis_labels) == ("t", "z", "y", "x")


def test_what_is_counted_as_painted_is_what_was_on_its_way_to_the_screen(live):
    """A frame that comes between the beginning of a paint and its end is not on the screen yet."""
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        live.until(lambda: sum(stream.log.painted for stream in live.receiver.streams) == 1)
        (layer,) = live.view.layers
        live.view._about_to_paint()
        layer.shown = layer.shown._replace(sequence=1)
        live.view._swapped()
        assert layer.painted == 0


def test_what_napari_takes_to_make_a_layer_is_told_apart_from_our_own_work(live, monkeypatch):
    kind = type(live.viewer)
    made = kind.add_image

    def slowly(viewer, *arguments, **about):
        time.sleep(1.0)
        return made(viewer, *arguments, **about)

    monkeypatch.setattr(kind, "add_image", slowly)
    with live.publisher() as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        live.settled(publisher)
        figures = live.view.report()
        assert figures["layer_ms"] >= 1000
        assert max(live.view.updates_ms) < 1000


def test_the_picture_fits_a_window_that_gets_its_size_later_until_the_user_looks_elsewhere(live):
    viewer = live.viewer

    def filled():
        """Return how much of the canvas the picture takes, along the side that it takes more of."""
        (height, width), (y, x) = viewer.canvas.size, (200 * 0.5, 300 * 0.5)
        return viewer.scene.camera.zoom * max(y / height, x / width)

    def resize(width, height):
        before = viewer.canvas.size
        viewer.window.resize(width, height)
        live.until(lambda: viewer.canvas.size != before)

    try:
        resize(700, 560)
        with live.publisher(shape=(200, 300)) as publisher:
            publisher.new_stream("run", scale=(0.5, 0.5), units="um")
            publisher.publish(stamped(0, 0, 0, (200, 300)), axes={"t": 0})
            live.settled(publisher)
            assert filled() == pytest.approx(0.95, abs=0.05)
            resize(1200, 900)
            live.until(lambda: filled() == pytest.approx(0.95, abs=0.05))
            viewer.scene.camera.zoom *= 2  # the user's
            center, zoom = viewer.scene.camera.center, viewer.scene.camera.zoom
            resize(800, 600)
            publisher.publish(stamped(1, 0, 0, (200, 300)), axes={"t": 1})
            live.settled(publisher)
            assert (viewer.scene.camera.center, viewer.scene.camera.zoom) == (center, zoom)
    finally:
        viewer.window.resize(900, 700)


def test_channels_and_times_of_single_images_are_all_on_the_canvas(live, tmp_path):
    """Of six files, each has a bright field of its own: (channel, time) is where it is seen, at its time only."""
    side = 60
    for c, name in enumerate(("DAPI", "GFP")):
        for t in range(3):
            picture = np.zeros((2 * side, 3 * side), "uint16")
            picture[c * side : (c + 1) * side, t * side : (t + 1) * side] = 1000
            tifffile.imwrite(tmp_path / f"exp1_w_{name}_T{t:02d}.tif", picture)
    command = [sys.executable, "-P", "-m", "scopecast", "show", str(tmp_path), "--viewer", "napari"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            live.until(lambda: process.poll() is not None, timeout=120)
            printed, errors = process.communicate()
        finally:
            process.kill()
    assert printed == "Shown in napari: 6 files, 6 planes.\n", errors
    live.until(lambda: len(live.viewer.layers) == 2 and not live.view._changed and not live.view.layers.incomplete)
    assert [layer.name.partition(" ")[0] for layer in live.viewer.layers] == ["DAPI", "GFP"]
    live.view.set_following(False)
    live.viewer.reset_view()
    for layer in live.viewer.layers:
        layer.contrast_limits = (0, 1000)
    for t in range(3):
        live.viewer.dims.set_point(0, t)
        live.qtbot.wait(50)
        picture = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=2).astype(int)
        rows, columns = np.nonzero(picture > 100)
        # One column of fields is bright: both channels, one below the other.
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert 2.8 < height / width * 2 < 5.2, (t, height, width)
        middle = (columns.min() + columns.max()) / 2 / picture.shape[1]
        assert [middle < 0.45, 0.45 <= middle <= 0.55, middle > 0.55] == [t == 0, t == 1, t == 2]
        upper = picture[rows.min() + height // 4, int(middle * picture.shape[1])]
        lower = picture[rows.min() + 3 * height // 4, int(middle * picture.shape[1])]
        assert min(upper, lower) > 100
