"""What a real ImageJ shows of live streams: every plane in its place, as the user wants it."""

from __future__ import annotations

import itertools
import re

import jpype
import numpy as np
import pytest
import useq

from fiji_live import painted_picture, pixels_of, seen
from receivers import check_stamp, stamped
from scopecast.backends.acquisition import recorded_with
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.scratch import Scratch

SHAPE = (64, 48)


def place(t, c, z, **more):
    return {"t": t, "c": f"ch{c}", "z": z, **more}


def test_a_sparse_run_out_of_order_shows_the_right_planes_and_says_where_none_is(live):
    came = [(5, 0, 2), (1, 1, 0), (3, 0, 0), (0, 1, 3), (5, 1, 1), (1, 0, 0)]
    with live.publisher() as publisher:
        for t, c, z in came:
            publisher.publish(stamped(t, c, z, SHAPE), axes=place(t, c, z))
        live.settled(publisher)
        (image,) = live.images
        imp = image.imp
        assert list(imp.getDimensions()) == [48, 64, 2, 4, 6]
        for t, z, c in itertools.product(range(6), range(4), range(2)):
            pixels = live.pixels(imp, c + 1, z + 1, t + 1)
            label = str(imp.getStack().getSliceLabel(imp.getStackIndex(c + 1, z + 1, t + 1)))
            if (t, c, z) in came:
                assert check_stamp(pixels) == (t, c, z)
                assert label == f"ch{c}, t {t}, z {z}"
            else:
                assert not pixels.any(), f"something at {(t, c, z)}, where nothing has come"
                assert label.endswith("no frame here yet")


def test_slices_of_positions_are_called_by_their_names(live):
    with live.publisher() as publisher:
        publisher.new_stream("run", positions=("left", ""))
        for p in range(2):
            publisher.publish(stamped(0, 0, p, SHAPE), axes={"t": 0, "p": p})
        live.settled(publisher)
        (image,) = live.images
        stack = image.imp.getStack()
        assert {str(stack.getSliceLabel(number + 1)) for number in range(2)} == {"left, t 0", "p 1, t 0"}


def test_slices_tell_when_and_where_they_were_recorded(live):
    event = useq.MDAEvent(index={"t": 1, "p": 0}, pos_name="left", exposure=20)
    said = {"runner_time_ms": 1500.0, "exposure_ms": 10.0, "position": {"x": 5.0, "y": -2.5, "z": 0.25}}
    with live.publisher() as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0}, metadata=recorded_with(None, said))
            publisher.publish(stamped(1, 0, 0, SHAPE), axes={"t": 1}, metadata=recorded_with(event, None))
            publisher.publish(
                stamped(2, 0, 0, SHAPE), axes={"t": 2}, metadata={"ElapsedTime-ms": 250, "Exposure-ms": 5}
            )
            publisher.publish(stamped(3, 0, 0, SHAPE), axes={"t": 3}, metadata=["whatever"])
            live.settled(publisher)
            imp = live.images[-1].imp
            labels = [str(imp.getStack().getSliceLabel(t + 1)) for t in range(4)]
            told = [label.split("\n")[0] for label in labels]
            clock = r"\d\d:\d\d:\d\d"
            since = r"\d+\.\d\d s"  # the frame was published, as it says nothing itself
            for text, pattern in zip(
                told,
                (
                    rf"t 0, 1\.50 s, 10 ms, x 5\.0 y -2\.5 z 0\.2 µm, {clock}",
                    rf"t 1, left, {since}, 20 ms, {clock}",
                    rf"t 2, 0\.25 s, 5 ms, {clock}",
                    rf"t 3, {since}, {clock}",
                ),
                strict=True,
            ):
                assert re.fullmatch(pattern, text), told
            assert labels[0].split("\n")[1] == "elapsed: 1.50 s"
            assert re.fullmatch(r"time: \d{4}-\d\d-\d\d " + clock + r"\.\d{3}[+-]\d\d:\d\d", labels[0].split("\n")[2])
            assert labels[0].split("\n")[-6:] == [
                "elapsed_s: 1.5",
                "exposure_ms: 10.0",
                "x_um: 5.0",
                "y_um: -2.5",
                "z_um: 0.25",
                "",
            ]
            live.move(imp, 1, 1, 1)
            live.until(lambda: "1.50 s, " in str(imp.getWindow().createSubtitle()))  # noqa: B023
            assert "10 ms, x 5.0" in str(java("ij.plugin.ImageInfo")().getImageInfo(imp))


def test_the_window_grows_in_place_and_its_sliders_follow(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        imp = live.image().imp
        window = imp.getWindow()
        for t in range(1, 6):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            live.settled(publisher)
            live.until(lambda t=t: live.position(imp) == (1, 1, t + 1))
            assert check_stamp(shown(live)) == (t, 0, 0)
        publisher.publish(stamped(6, 0, 2, SHAPE), axes={"t": 6, "z": 2})  # z joins
        live.settled(publisher)
        assert list(imp.getDimensions()) == [48, 64, 1, 3, 7]
        assert live.position(imp) == (1, 3, 7)
        assert check_stamp(shown(live)) == (6, 0, 2)
        assert check_stamp(live.pixels(imp, 1, 1, 3)) == (2, 0, 0)
        for t, z in ((7, 0), (7, 4), (8, 1)):
            publisher.publish(stamped(t, 0, z, SHAPE), axes={"t": t, "z": z})
            live.settled(publisher)
            assert live.position(imp) == (1, z + 1, t + 1)
            assert check_stamp(shown(live)) == (t, 0, z)
        assert list(imp.getDimensions()) == [48, 64, 1, 5, 9]
        assert imp.getWindow() == window, "the window must stay the same one"
        assert bars(live) == {"z": (3 - 1, 6), "t": (9, 10)}
        assert java("ij.WindowManager").getImageCount() == 1


def brightest(lut):
    return int(lut.getRGB(jpype.JInt(255)))


def shown(live, number=0):
    """Return the pixels that the window shows."""
    return pixels_of(live.image(number).imp.getProcessor())


def bars(live):
    """Return value and maximum of the sliders in the window."""

    def read():
        found = {}
        for part in live.image().imp.getWindow().getComponents():
            if part.getClass().getSimpleName() == "ScrollbarWithLabel":
                found[len(found)] = (int(part.getValue()), int(part.getMaximum()))
        return found

    return dict(zip(("z", "t"), live.on_awt(read).values(), strict=False))


def test_sliders_follow_until_the_user_moves_one_and_again_on_follow(live):
    with live.publisher() as publisher:

        def publish(t):
            publisher.publish(stamped(t, 0, t % 3, SHAPE), axes=place(t, 0, t % 3))
            live.settled(publisher)

        for t in range(4):
            publish(t)
            assert live.position(live.image().imp) == (1, t % 3 + 1, t + 1)
        image = live.image()
        live.move(image.imp, 1, 2, 2)
        publish(4)
        publish(5)
        live.until(lambda: not image.following)
        assert not image.strip.box.getState()
        assert live.position(image.imp) == (1, 2, 2)
        assert int(image.imp.getNFrames()) == 6, "the slider grows even where it does not follow"
        live.on_awt(live.display.gallery.follow)
        live.until(lambda: live.position(image.imp) == (1, 3, 6))
        assert check_stamp(shown(live)) == (5, 0, 2)


def test_what_the_user_sets_survives_growth_and_axes_that_join(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0, "c": "ch0"})
        live.settled(publisher)
        imp = live.image().imp

        def set_by_user():
            fire = java("ij.process.LUT").createLutFromColor(java("java.awt.Color").orange)
            fire.min, fire.max = 11.0, 222.0
            imp.setChannelLut(fire, 1)
            imp.updateAndDraw()
            imp.setRoi(3, 4, 5, 6)
            imp.getCanvas().zoomIn(10, 10)

        live.on_awt(set_by_user)
        zoom = float(imp.getCanvas().getMagnification())
        for t in range(1, 4):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t, "c": "ch0"})
        publisher.publish(stamped(0, 1, 0, SHAPE), axes={"t": 0, "c": "ch1"})
        publisher.publish(stamped(4, 0, 2, SHAPE), axes=place(4, 0, 2))  # z joins
        live.settled(publisher)
        assert list(imp.getDimensions()) == [48, 64, 2, 3, 5]
        lut = imp.getChannelLut(1)
        assert (float(lut.min), float(lut.max)) == (11, 222)
        assert brightest(lut) == int(java("java.awt.Color").orange.getRGB())
        assert str(imp.getRoi().getBounds()) == "java.awt.Rectangle[x=3,y=4,width=5,height=6]"
        assert float(imp.getCanvas().getMagnification()) == zoom
        assert (float(imp.getChannelLut(2).min), float(imp.getChannelLut(2).max)) != (11, 222)


def test_a_preview_shows_the_newest_frame_in_one_plane(live):
    with live.publisher(policy="latest") as publisher:
        for t in range(60):
            publisher.publish(stamped(t, 0, 0, SHAPE))
        live.settled(publisher)
        imp = live.image().imp
        assert int(imp.getStackSize()) == 1
        assert check_stamp(shown(live)) == (59, 0, 0)
        live.until(lambda: live.receiver.sources[0].log.painted >= 1)


DTYPES = [
    *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_lands_right_pixel_by_pixel(live, name):
    dtype = np.dtype(name)
    random = np.random.default_rng(0)
    if name == "bool":
        picture = random.integers(0, 2, SHAPE).astype(bool)
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        picture = random.integers(info.min, info.max, SHAPE, dtype=dtype, endpoint=True)
        picture[0, :2] = info.min, info.max
    else:
        picture = random.normal(0, 1000, SHAPE).astype(dtype)
        picture[0, :3] = np.nan, np.inf, 0
        if dtype.kind == "c":
            picture = (picture + 1j * random.normal(0, 1000, SHAPE)).astype(dtype)
    with live.publisher(dtype=name) as publisher:
        publisher.publish(picture, axes={"t": 0})
        live.settled(publisher)
        image = live.image()
        got = live.pixels(image.imp)
    expected = {
        "bool": lambda: picture.astype(np.uint8) * 255,
        "int8": lambda: picture.astype(np.int16),
        "complex64": lambda: np.abs(picture),
        "complex128": lambda: np.abs(picture).astype(np.float32),
    }.get(name, lambda: picture if name in ("uint8", "int16", "uint16") else picture.astype(np.float32))()
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    info = str(image.imp.getProperty("Info"))
    assert name in info
    assert ("as they were sent" in info) == (name in ("uint8", "uint16", "int16", "float32"))


@pytest.mark.parametrize("samples", [3, 4])
def test_colour_frames_are_colour(live, samples):
    picture = np.random.default_rng(1).integers(0, 256, (*SHAPE, samples), dtype="uint8")
    with live.publisher((*SHAPE, samples), "uint8") as publisher:
        for t in range(3):
            publisher.publish(picture + np.uint8(t), axes={"t": t})
        live.settled(publisher)
        imp = live.image().imp
        assert int(imp.getBitDepth()) == 24
        for t in range(3):
            np.testing.assert_array_equal(live.pixels(imp, frame=t + 1), (picture + np.uint8(t))[..., :3])


def test_calibration_title_and_labels_are_those_of_the_stream(live):
    with live.publisher() as publisher:
        stream = publisher.new_stream(
            "cells",
            channels=["DAPI", "FITC"],
            scale=(0.5, 0.25),
            units="um",
            steps={"z": 2.0, "t": 1.0},
            sizes={"z": 3, "c": 2},
        )
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0, "c": "DAPI", "z": 0}, stream=stream)
        live.settled(publisher)
        imp = live.image().imp
        calibration = imp.getCalibration()
        assert str(imp.getTitle()) == "cells"
        assert str(calibration.getUnit()) == "µm"
        assert (calibration.pixelHeight, calibration.pixelWidth, calibration.pixelDepth) == (0.5, 0.25, 2.0)
        assert (calibration.frameInterval, str(calibration.getTimeUnit())) == (1.0, "sec")
        assert list(imp.getDimensions()) == [48, 64, 2, 3, 1]
        assert str(imp.getStack().getSliceLabel(1)) == "DAPI, t 0, z 0"
        assert brightest(imp.getChannelLut(2)) & 0xFFFFFF == 0x00FF00


def test_what_is_above_the_image_is_whole_and_the_info_tells_of_conversions(live):
    told = {"exposure_ms": 123.5, "x_um": -12345.5, "y_um": 2345.6, "z_um": -0.0001, "position": "well A1 left"}
    with live.publisher(dtype="bool") as publisher:
        publisher.new_stream("run", channels=["Widefield DAPI"])
        publisher.publish(np.zeros(SHAPE, bool), axes={"t": 0, "c": 0, "z": 0}, metadata=told)
        live.settled(publisher)
        stack = live.images[-1].imp.getStack()
        short, lines = str(stack.getShortSliceLabel(1)), str(stack.getSliceLabel(1)).split("\n")
        assert lines[0].startswith(short.removesuffix("\n"))
        assert short == lines[0], "nothing is cut"
        assert short == "Widefield DAPI, t 0, z 0, well A1 left, 0.00 s, 123.5 ms"
        assert "stage z: 0.000 µm" in lines
        assert any(line.startswith("pixels: ") and "bool" in line for line in lines)


def test_metadata_is_in_imagejs_info_and_not_in_the_line_above_the_image(live):
    with live.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0}, metadata={"camera": {"gain": 2}, "exposure_ms": 10})
        publisher.publish(stamped(1, 0, 0, SHAPE), axes={"t": 1})
        live.settled(publisher)
        imp = live.image().imp
        live.move(imp, 1, 1, 1)
        said = live.on_awt(lambda: str(java("ij.plugin.ImageInfo")().getImageInfo(imp)))
        assert re.search(r"t 0, 0\.00 s, 10 ms, \d\d:\d\d:\d\d\nelapsed: 0\.00 s\ntime: .*\nexposure: 10 ms\n", said)
        assert "\ncamera.gain: 2\nexposure_ms: 10\n" in said
        assert "gain" not in live.on_awt(lambda: str(imp.getWindow().createSubtitle()))
        live.move(imp, 1, 1, 2)
        assert "gain" not in live.on_awt(lambda: str(java("ij.plugin.ImageInfo")().getImageInfo(imp)))


def test_a_stack_beyond_its_budget_can_be_scrolled_through_and_projected(live_with, tmp_path):
    nbytes = 64 * 48 * 2
    live = live_with(History(40 * nbytes, Scratch(200 * nbytes, tmp_path)))
    with live.publisher() as publisher:
        for t in range(120):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            if t % 5 == 0:
                live.settled(publisher)
        live.settled(publisher)
        live.until(lambda: live.receiver.history.stats().resident <= 40)
        imp = live.image().imp
        for t in range(120):
            assert check_stamp(live.pixels(imp, frame=t + 1)) == (t, 0, 0)
        live.move(imp, 1, 1, 2)
        live.until(lambda: check_stamp(shown(live)) == (1, 0, 0))
        assert live.receiver.history.stats().forgotten == 0


# ---- what the user does ----------------------------------------------------------------------------------------------


def test_a_closed_image_stays_closed_the_others_go_on_and_the_list_opens_it_again(live):
    with live.publisher(title="one") as one, live.publisher(title="two") as two:
        one.new_stream("one")
        two.new_stream("two")
        for t in range(2):
            one.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            two.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(one)
        live.settled(two)
        (closed,) = [image for image in live.images if image.stream.title == "one"]
        live.on_awt(lambda: closed.imp.getWindow().close())  # the user's hand
        live.until(lambda: len(live.images) == 1)
        for t in range(2, 5):
            one.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            two.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(one)
        live.settled(two)
        (other,) = live.images
        assert other.stream.title == "two"
        assert int(other.imp.getNFrames()) == 5
        assert one.stats().receivers[0].frames.delivered == 5, "what is not shown is received all the same"

        item = menu_item("Live streams")
        live.on_awt(lambda: click(item))
        rows = live.until(lambda: dict(zip(("one", "two"), rows_of(live), strict=True)))
        assert [bool(rows[name].getState()) for name in ("one", "two")] == [False, True]
        assert str(rows["one"].getLabel()).startswith("one  (")

        def tick():
            rows["one"].setState(True)
            event = java("java.awt.event.ItemEvent")
            rows["one"].dispatchEvent(event(rows["one"], event.ITEM_STATE_CHANGED, rows["one"], event.SELECTED))

        live.on_awt(tick)
        live.until(lambda: len(live.images) == 2)
        live.settled(one)
        (again,) = [image for image in live.images if image.stream.title == "one"]
        assert [check_stamp(live.pixels(again.imp, frame=t + 1))[0] for t in range(5)] == list(range(5))


def menu_item(label):
    bar = java("ij.Menus").getMenuBar()
    plugins = next(bar.getMenu(n) for n in range(bar.getMenuCount()) if str(bar.getMenu(n).getLabel()) == "Plugins")
    ours = [
        plugins.getItem(n) for n in range(plugins.getItemCount()) if str(plugins.getItem(n).getLabel()) == "scopecast"
    ]
    assert len(ours) == 1, "one entry, however often a view was opened"
    return next(
        ours[0].getItem(n) for n in range(ours[0].getItemCount()) if str(ours[0].getItem(n).getLabel()) == label
    )


def click(item):
    event = java("java.awt.event.ActionEvent")
    item.dispatchEvent(event(item, event.ACTION_PERFORMED, item.getActionCommand()))


def rows_of(live):
    return list(live.display.menu._rows.values())


def test_frames_of_two_shapes_and_of_two_dtypes_get_an_image_each(live):
    with live.publisher((64, 64), "float64") as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        publisher.publish(stamped(1, 0, 0, (32, 32)), axes={"t": 1})
        publisher.publish(np.full(SHAPE, 2.5), axes={"t": 2})
        publisher.publish(np.full(SHAPE, 3, "int32"), axes={"t": 3})
        live.settled(publisher)
        infos = [str(image.imp.getProperty("Info")).split("Pixels: ")[1].split("\n")[0] for image in live.images]
        assert [int(image.imp.getBitDepth()) for image in live.images] == [16, 16, 32, 32]
        assert infos[2].startswith("float64")
        assert infos[3].startswith("int32")
        assert len({str(image.imp.getTitle()) for image in live.images}) == 4


def test_a_new_frame_in_a_stack_of_a_thousand_planes_touches_no_other_plane(live):
    with live.publisher((16, 16)) as publisher:
        for t in range(1000):
            publisher.publish(stamped(t, 0, 0, (16, 16)), axes={"t": t})
        live.settled(publisher)
        image = live.image()
        slices = image._slices
        asked = []
        original = slices._stack.plane
        slices._stack.plane = lambda place: asked.append(place) or original(place)
        publisher.publish(stamped(1000, 0, 0, (16, 16)), axes={"t": 1000})
        live.settled(publisher)
        live.until(lambda: live.position(image.imp)[2] == 1001)
        assert image._slices is slices, "growing at the end must not make the stack anew"
        assert set(asked) <= {(1000,)}


def test_channels_that_join_make_a_composite_image_in_the_same_window(live):
    with live.publisher() as publisher:
        for t in range(3):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        image = live.image()
        window, old = image.imp.getWindow(), image.imp
        assert not old.isComposite()

        def set_by_user():
            old.getProcessor().setMinAndMax(11, 222)
            old.updateAndDraw()
            old.setRoi(3, 4, 5, 6)
            old.getCanvas().zoomIn(10, 10)

        live.on_awt(set_by_user)
        zoom = float(old.getCanvas().getMagnification())
        live.move(old, 1, 1, 2)
        live.until(lambda: not image.following)
        for t in range(3):
            publisher.publish(stamped(t, 1, 0, SHAPE), axes={"t": t, "c": 1})
        live.settled(publisher)
        imp = image.imp
        assert imp.isComposite()
        assert list(imp.getDimensions()) == [48, 64, 2, 1, 3]
        assert live.position(imp)[2] == 2
        assert window.isShowing()
        assert imp.getWindow() == window
        assert window.getImagePlus() == imp
        assert java("ij.WindowManager").getImageCount() == 1
        for t, c in itertools.product(range(3), range(2)):
            assert check_stamp(live.pixels(imp, c + 1, 1, t + 1)) == (t, c, 0)
        lut = imp.getChannelLut(1)
        assert (float(lut.min), float(lut.max)) == (11, 222)
        colors = [brightest(imp.getChannelLut(channel)) & 0xFFFFFF for channel in (1, 2)]
        assert colors == [0x00FF00, 0xFF00FF]
        assert str(imp.getRoi().getBounds()) == "java.awt.Rectangle[x=3,y=4,width=5,height=6]"
        assert float(imp.getCanvas().getMagnification()) == zoom
        live.on_awt(live.display.gallery.follow)
        publisher.publish(stamped(3, 1, 0, SHAPE), axes={"t": 3, "c": 1})
        live.settled(publisher)
        live.until(lambda: live.position(imp)[2] == 4)
        live.on_awt(old.close)  # whoever has kept it
        assert window.isShowing()
        live.on_awt(lambda: imp.getWindow().close())
        live.until(lambda: len(live.images) == 0)


def test_a_preview_whose_channels_join_is_a_composite_image(live):
    with live.publisher(policy="every") as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE))
        live.settled(publisher)
        for t in range(1, 4):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"c": 0})
            publisher.publish(stamped(t, 1, 0, SHAPE), axes={"c": 1})
            live.settled(publisher)
        imp = live.image().imp
        assert imp.isComposite()
        assert [check_stamp(live.pixels(imp, c + 1)) for c in range(2)] == [(3, 0, 0), (3, 1, 0)]
        live.until(lambda: [check_stamp(pixels_of(imp.getProcessor(c))) for c in (1, 2)] == [(3, 0, 0), (3, 1, 0)])


# ---- what is on the screen ------------------------------------------------------------------------------------------


def bar(channel, t, shape=(72, 90), dtype="uint16"):
    """Return a frame with a bright square whose place tells channel (row) and time point (column)."""
    frame = np.full(shape, 10, dtype)
    frame[8 * channel : 8 * channel + 8, 10 * t : 10 * t + 10] = 120
    return frame


def places(picture):
    """Return at which (channel, t) a picture is bright."""
    bright = picture.max(axis=-1) > 100
    return {(int(y) // 8, int(x) // 10) for y, x in np.argwhere(bright)}


@pytest.mark.parametrize("look", [painted_picture, seen], ids=["getImage", "screen"])
def test_the_picture_is_the_newest_frames_whatever_the_image_becomes(live, look):
    """From one channel to nine, in two runs, in the first of which the axis itself joins."""
    with live.publisher((72, 90)) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            for t in range(9):  # a channel more at each time point
                for c in range(t + 1):
                    publisher.publish(bar(c, t), axes={"t": t} if run == t == 0 else {"t": t, "c": c})
                live.settled(publisher)
                (image,) = [each for each in live.images if each.stream.about.title == f"run {run}"]
                composite = bool(image.imp.isComposite()) and int(image.imp.getMode()) == 1 and t > 0
                wanted = {(c, t) for c in range(t + 1)} if composite else {(t, t)}  # beyond 8, one at a time
                live.until(lambda: places(look(image)) == wanted, what=f"{wanted} in the picture of run {run}")  # noqa: B023


@pytest.mark.parametrize("first", [1_700_000_000, 2**31 - 3])
def test_places_as_far_away_as_a_clock_are_seen_beside_numbers_that_make_no_sense(live, first):
    with live.publisher((72, 90)) as publisher:
        clock = publisher.new_stream("clock", scale=0.65, units="um")
        odd = publisher.new_stream("odd", scale=(1e-9, 1e300), units="um", steps={"z": 1e300})
        for at in (0, 2, 1):
            publisher.publish(bar(1, at), axes={"t": first + at}, stream=clock)
            publisher.publish(bar(2, at), axes={"t": at, "z": at}, stream=odd, translate=(1e30, 1e30))
            live.settled(publisher)
            for number, row in ((0, 1), (1, 2)):
                image = live.image(number)
                live.until(lambda: places(seen(image)) == places(painted_picture(image)) == {(row, at)})  # noqa: B023
        # Whoever looks back finds what lies where: the label of a slice tells the exact place.
        imp = live.image(0).imp
        labels = [str(imp.getStack().getSliceLabel(at + 1)) for at in range(imp.getStackSize())]
        assert [label for label in labels if str(first + 2) in label], labels[:3]


def test_the_newest_frame_is_seen_at_any_index_and_what_imagej_can_not_count_is_told(live):
    with live.publisher((72, 90)) as publisher:
        for start in (1_000_000, 1_700_000_000):
            publisher.new_stream(f"from {start}")
            publisher.publish(bar(0, 0), axes={"t": 0, "c": 0})
            for t in range(1, 4):
                publisher.publish(bar(0, t), axes={"t": start + t, "c": 0})
                live.settled(publisher)
                live.until(lambda: live.images and live.images[-1].stream.about.title == f"from {start}")  # noqa: B023
                image = live.images[-1]
                live.until(lambda: places(painted_picture(image)) == {(0, t)} == places(seen(image)))  # noqa: B023
                assert live.position(image.imp)[2] == start + t + 1
        publisher.publish(bar(1, 1), axes={"t": start + 1, "c": 1})  # twice as many slices
        live.until(lambda: publisher.flush(0))
        live.until(lambda: "ImageJ counts up to 2147483647 slices" in image.strip.text)
        assert places(seen(image)) == {(0, 3)}
        publisher.new_stream("next")
        publisher.publish(bar(0, 1), axes={"t": 0})
        live.until(lambda: len(live.images) == 3 and places(seen(live.images[-1])) == {(0, 1)})


@pytest.mark.parametrize("look", [painted_picture, seen], ids=["getImage", "screen"])
def test_a_channel_shows_its_newest_frame_until_its_next_and_scrubbing_shows_the_place_alone(live, look):
    with live.publisher((72, 90)) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=["often", "seldom", "late"], sizes={"c": 3})

            def shows(*wanted):
                (image,) = [each for each in live.images if each.stream.about.title == f"run {run}"]  # noqa: B023
                live.until(lambda: places(look(image)) == {*wanted}, what=f"{wanted} in the picture")
                return image

            for t in range(4):
                publisher.publish(bar(0, t), axes={"t": t, "c": "often"})
                live.settled(publisher)
                if t % 2 == 0:
                    publisher.publish(bar(1, t), axes={"t": t, "c": "seldom"})
                    live.settled(publisher)
                image = shows((0, t), (1, t - t % 2))
            live.until(lambda: "shows seldom, t 2" in image.strip.text)  # noqa: B023
            publisher.publish(bar(2, 3), axes={"t": 3, "c": "late"})
            live.settled(publisher)
            shows((0, 3), (1, 2), (2, 3))
            assert not live.pixels(image.imp, 2, 1, 4).any(), "whoever asks for the slice gets what is there: nothing"
            live.on_awt(lambda: image.follow(False))  # noqa: B023
            shows((0, 3), (2, 3))
            live.move(image.imp, 1, 1, 3)
            shows((0, 2), (1, 2))
            live.move(image.imp, 2, 1, 2)
            shows((0, 1))
            live.until(lambda: "no frame here yet" in image.strip.text)  # noqa: B023
            live.on_awt(live.display.gallery.follow)
            shows((0, 3), (1, 2), (2, 3))
            assert live.pixels(image.imp, 2, 1, 3)[8, 20] == 120, "no frame is written into"


def state_of(image):
    """Return where an image stands, what it was given, and what is in its processor."""
    imp = image.imp
    given = {at: (known.slice, known.tag and known.tag.sequence) for at, known in image._pixels.items()}
    shown = np.argwhere(pixels_of(imp.getProcessor()) == 120)[0] // (8, 10)
    limits = [(float(lut.min), float(lut.max)) for lut in imp.getLuts()]
    return image._number, image._selected, image.following, image.waits_for, image.due, given, shown, limits


@pytest.mark.parametrize("mode", ["GRAYSCALE", "COLOR"])
@pytest.mark.parametrize("look", [painted_picture, seen], ids=["getImage", "screen"])
def test_a_channel_that_is_chosen_to_be_seen_alone_stays_chosen_and_follows(live, look, mode):
    """Without a frame of its own at the newest place, it goes on showing its newest."""
    with live.publisher((72, 90)) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=["often", "seldom"], sizes={"c": 2})
            for c in range(2):
                publisher.publish(bar(c, 0), axes={"t": 0, "c": ["often", "seldom"][c]})
            live.settled(publisher)
            (image,) = [each for each in live.images if each.stream.about.title == f"run {run}"]
            imp = image.imp
            live.on_awt(lambda imp=imp: imp.setMode(getattr(java("ij.IJ"), mode)))
            for chosen, times in ((1, range(1, 4)), (0, range(4, 7))):
                live.on_awt(lambda imp=imp, chosen=chosen: imp.setC(chosen + 1))
                for t in times:
                    publisher.publish(bar(0, t), axes={"t": t, "c": "often"})
                    live.settled(publisher)
                    if t % 2 == 0:
                        publisher.publish(bar(1, t), axes={"t": t, "c": "seldom"})
                        live.settled(publisher)
                    wanted = {(1, t - t % 2)} if chosen else {(0, t)}
                    live.until(
                        lambda image=image, wanted=wanted: places(look(image)) == wanted,
                        what=f"{wanted} in the picture",
                        instead=lambda image=image: (places(look(image)), state_of(image)),
                    )
                    assert live.position(imp) == (chosen + 1, 1, t + 1)
            assert image.following


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "rgb"])
def test_the_picture_of_a_second_channel_is_seen_in_every_dtype(live, dtype):
    def pixels(c, t):
        return np.repeat(bar(c, t, dtype="uint8")[..., None], 3, axis=-1) if dtype == "rgb" else bar(c, t, dtype=dtype)

    with live.publisher((72, 90), "float32") as publisher:
        publisher.publish(bar(3, 3), axes={"t": 0})  # of another dtype: another window
        for t in range(3):
            for c in range(2):
                publisher.publish(pixels(c, t), axes={"t": t, "c": c})
                live.settled(publisher)
        image = live.images[-1]
        wanted = {(1, 2)} if dtype == "rgb" else {(0, 2), (1, 2)}
        live.until(lambda: places(painted_picture(image)) == places(seen(image)) == wanted)


def test_a_channel_that_is_switched_off_is_not_counted_as_painted(live):
    with live.publisher((72, 90)) as publisher:
        for c in range(2):
            publisher.publish(bar(c, 0), axes={"t": 0, "c": c})
            live.settled(publisher)
        image = live.image()
        live.until(lambda: image.stream.log.painted == 2)
        live.on_awt(lambda: image.imp.setActiveChannels("10"))
        for t in range(1, 4):
            for c in (1, 0):
                publisher.publish(bar(c, t), axes={"t": t, "c": c})
            live.settled(publisher)
            live.until(lambda: image.stream.log.painted == 2 + t, what="the channel that is on")  # noqa: B023
        live.until(lambda: places(seen(image)) == {(0, 3)})
        assert image.stream.log.painted == 5
        live.on_awt(lambda: image.imp.setActiveChannels("11"))
        live.until(lambda: places(seen(image)) == {(0, 3), (1, 3)})
        live.until(lambda: image.stream.log.painted == 6, what="the channel that is on again")
