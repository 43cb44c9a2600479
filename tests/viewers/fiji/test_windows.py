"""Where ImageJ's live windows stand, which is in front, what stays open, and what stands below the images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fiji_live import on_screen, painted_picture
from receivers import stamped
from scopecast_viewers.fiji import display, gallery
from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.fiji.window_places import WindowPlace
from scopecast_viewers.stacks.history import History

if TYPE_CHECKING:
    from fiji_live import LiveFiji

SHAPE = (64, 96)


def square(number: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return a frame with a bright square that tells a number up to 5."""
    frame = np.full(shape, 10, "uint16")
    side = shape[1] // 6
    frame[:side, number * side : (number + 1) * side] = 1000
    return frame


def number_in(picture: np.ndarray) -> int:
    """Return the number of the square in a picture of the whole image, of any size."""
    bright = picture.max(axis=-1) > 128
    assert bright.any()
    return int(np.argwhere(bright)[:, 1].mean() * 6 / picture.shape[1])


def run(live: LiveFiji, publisher: Any, name: str, numbers: range, shape: tuple[int, int] = SHAPE, **about: Any) -> Any:
    """Publish a run, end it, and return its image."""
    stream = publisher.new_stream(name, **about)
    for t, number in enumerate(numbers):
        publisher.publish(square(number, shape), axes={"t": t}, stream=stream)
    live.settled(publisher)
    publisher.end_stream(stream)
    (image,) = [each for each in live.images if each.stream.about.title == name]
    live.until(lambda: number_in(painted_picture(image)) == numbers[-1])
    live.until(lambda: image.is_over)
    return image


def bounds(image: Any) -> tuple[int, int, int, int]:
    area = image.window.getBounds()
    return int(area.x), int(area.y), int(area.width), int(area.height)


def test_ten_runs_stand_one_behind_the_other_at_the_place_and_zoom_that_the_user_chose(live: LiveFiji):
    with live.publisher() as publisher:
        first = run(live, publisher, "run 0", range(2))

        def arrange() -> None:
            first.imp.getCanvas().zoomOut(0, 0)
            first.window.setLocation(321, 234)

        live.on_awt(arrange)
        live.until(lambda: bounds(first)[:2] == (321, 234))
        zoom = first.place.zoom
        for number in range(1, 10):
            image = run(live, publisher, f"run {number}", range(number % 4, number % 4 + 3))
            # (Its height may be another: the figures below it have one line, or two.)
            live.until(lambda: bounds(image)[:2] == (321, 234))  # noqa: B023
            assert image.place.zoom == zoom
            live.until(lambda: number_in(on_screen(image.imp.getCanvas())) == number % 4 + 2)  # noqa: B023
            assert java("ij.WindowManager").getCurrentImage() == image.imp
        assert int(java("ij.WindowManager").getImageCount()) == 10, "a run's window stays"
        assert number_in(painted_picture(first)) == 1


def test_the_screen_knows_of_a_window_when_that_has_its_place_and_size(live: LiveFiji):
    """What the window system tells of earlier ones may come last, and would stay: the window was cut at a corner."""
    with live.publisher() as publisher:
        image = run(live, publisher, "run", range(1))

        def make() -> Any:
            imp = java("ij.ImagePlus")("another", image.imp.getStack())
            canvas = java("scopecast.LiveCanvas")(imp, listener("java.util.function.Consumer"))
            window = java("scopecast.LiveWindow")(imp, canvas)
            assert not window.isVisible()
            assert not window.isDisplayable()  # no window of the window system's belongs to it
            WindowPlace.take(image.place, window, canvas, (SHAPE[1], SHAPE[0]))
            assert not window.isVisible()
            window.setVisible(True)
            return window

        window = live.on_awt(make)
        # That of a run that has just begun may be brought to the front once more.
        live.until(lambda: window.isShowing() and (window.isActive() or image.window.isActive()))
        place = image.place
        assert bounds(SimpleNamespace(window=window))[:2] == place[:2]
        assert WindowPlace.of(window, window.getCanvas(), place.image) == place


def test_a_window_that_is_narrow_for_a_moment_shows_all_of_the_image_again(live: LiveFiji):
    """As when the answer of the screen to a former size comes late."""
    with live.publisher() as publisher:
        image = run(live, publisher, "run", range(3))
        canvas, (_, _, width, height) = image.imp.getCanvas(), bounds(image)
        size = canvas.getSize()
        for narrow in (330, 200):
            live.on_awt(lambda: image.window.setSize(narrow, height))  # noqa: B023
            live.on_awt(image.window.validate)
            live.on_awt(lambda: image.window.setSize(width, height))
            live.on_awt(image.window.validate)
            live.until(lambda: bounds(image)[2:] == (width, height))
            assert canvas.getSize() == size
            assert image.place.part == (0, 0, SHAPE[1], SHAPE[0])
            live.until(lambda: number_in(on_screen(canvas)) == 2)


def test_streams_of_one_program_that_go_on_side_by_side_are_both_seen(live: LiveFiji):
    with live.publisher() as publisher:
        for pair in range(2):
            streams = [publisher.new_stream(f"{name} {pair}") for name in ("raw", "processed")]
            for t in range(3):
                for number, stream in enumerate(streams):
                    publisher.publish(square(t + number), axes={"t": t}, stream=stream)
                live.settled(publisher)
            images = live.images[-2:]
            # The second stood where the first does until it was clear that frames come in both.
            live.until(lambda: bounds(images[0])[:2] != bounds(images[1])[:2])  # noqa: B023
            for number, image in enumerate(images):
                live.until(lambda: number_in(on_screen(image.imp.getCanvas())) == 2 + number)  # noqa: B023
            for stream in streams:
                publisher.end_stream(stream)


def test_of_very_many_runs_the_oldest_are_closed_with_a_reason_but_none_that_the_user_has_touched(
    live: LiveFiji, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gallery, "MOST_KEPT", 2)
    touches = [
        lambda imp: imp.setRoi(3, 4, 5, 6),
        lambda imp: imp.setTitle("mine"),
        lambda imp: imp.setDisplayRange(3, 1500),
    ]
    with live.publisher() as publisher:
        touched = []
        for number, touch in enumerate(touches):
            image = run(live, publisher, f"touched {number}", range(3))
            live.on_awt(lambda: touch(image.imp))  # noqa: B023
            touched.append(image)
        live.until(lambda: all(image.stream.held for image in touched))
        others = [run(live, publisher, f"run {number}", range(3)) for number in range(4)]
        live.until(lambda: len(live.images) == 5)
        live.until(lambda: any("run 1 was closed: 2 newer runs are open" in text for text in live.told))
        assert live.images == [*touched, *others[-2:]]
        assert [number_in(painted_picture(image)) for image in live.images] == [2] * 5
        live.on_awt(lambda: live.display.gallery.reopen(others[0].stream.key))
        live.until(lambda: any(image.stream is others[0].stream for image in live.images))


def test_what_the_user_has_just_touched_is_not_closed_to_make_room(live: LiveFiji, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gallery, "MOST_KEPT", 0)
    monkeypatch.setattr(display, "STATUS_S", 1e9)  # room is made when the test says so
    with live.publisher() as publisher:
        for number in range(2):
            image = run(live, publisher, f"run {number}", range(3))
            live.on_awt(lambda: image.imp.setRoi(3, 4, 5, 6))  # noqa: B023
            live.on_awt(live.display.gallery.make_room)
            assert live.images[-1] is image
            assert image.stream.held
        other = run(live, publisher, "other", range(3))
        live.on_awt(live.display.gallery.make_room)
        assert other not in live.images
        assert len(live.images) == 2


def test_a_run_of_which_nothing_is_left_in_memory_is_closed_with_the_reason(live_with: Any):
    live = live_with(History(4 * 2 * SHAPE[0] * SHAPE[1], None))
    with live.publisher() as publisher:
        touched = run(live, publisher, "touched", range(1, 3))
        live.on_awt(lambda: touched.imp.setRoi(3, 4, 5, 6))
        live.until(lambda: touched.stream.held)
        run(live, publisher, "former", range(2))
        now = run(live, publisher, "now", range(5))
        live.until(lambda: any("former was closed: newer frames" in text for text in live.told))
        assert live.images == [touched, now]
        assert number_in(painted_picture(now)) == 4


def test_after_a_command_that_changes_the_image_the_new_live_window_is_seen_beside_it(live: LiveFiji):
    for number in range(2):  # runs in a row
        with live.publisher() as publisher:
            stream = publisher.new_stream(f"run {number}")
            for t in range(3):
                publisher.publish(square(t), axes={"t": t}, stream=stream)
            live.settled(publisher)
            former = live.images[-1]
            live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(former.window))  # noqa: B023
            java("ij.IJ").run(former.imp, "8-bit", "")
            live.until(lambda: former not in live.images)  # noqa: B023
            publisher.publish(square(3), axes={"t": 3}, stream=stream)
            live.settled(publisher)
            image = live.images[-1]
            for each, wanted in ((image, 3), (former, 2)):
                canvas = each.imp.getCanvas()
                live.until(lambda: number_in(on_screen(canvas)) == wanted)  # noqa: B023
            # The next command is for what was changed.
            live.until(lambda: java("ij.WindowManager").getCurrentImage() == former.imp)  # noqa: B023
            publisher.end_stream(stream)


def test_a_live_window_does_not_stand_exactly_behind_one_as_large_as_the_screen(live: LiveFiji):
    with live.publisher((2400, 3000), budget=128 << 20) as publisher:
        for number in range(2):
            stream = publisher.new_stream(f"run {number}")
            for t in range(2):
                publisher.publish(square(t, (2400, 3000)), axes={"t": t}, stream=stream)
            live.settled(publisher)
            former = live.images[-1]
            live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(former.window))  # noqa: B023
            java("ij.IJ").run(former.imp, "8-bit", "")
            live.until(lambda: former not in live.images)  # noqa: B023
            publisher.publish(square(3, (2400, 3000)), axes={"t": 2}, stream=stream)
            live.settled(publisher)
            image = live.images[-1]
            live.until(lambda: bounds(image)[:2] != bounds(former)[:2])  # noqa: B023
            publisher.end_stream(stream)


@pytest.mark.parametrize("shape", [(12, 18), (64, 96), (600, 600), (2400, 3000), (3000, 300), (24, 3000)], ids=str)
def test_a_window_fits_the_screen_and_small_images_are_legible(live: LiveFiji, shape: tuple[int, int]):
    screen = java("ij.gui.GUI").getMaxWindowBounds()
    with live.publisher(shape, budget=128 << 20) as publisher:
        for name in ("first", "second"):
            image = run(live, publisher, name, range(3), shape)
            live.until(lambda: screen.contains(image.window.getBounds()))  # noqa: B023
            toolbar = java("ij.IJ").getInstance().getBounds()
            assert not toolbar.intersects(image.window.getBounds())
            zoom, canvas = image.place.zoom, image.imp.getCanvas().getSize()
            assert (int(canvas.width), int(canvas.height)) == (int(shape[1] * zoom), int(shape[0] * zoom)), "all of it"
            if max(shape) <= 256:
                assert 256 < max(shape) * zoom <= 512
            live.until(lambda: number_in(on_screen(image.imp.getCanvas())) == 2)  # noqa: B023


def test_a_program_that_delivers_gets_the_front_window_from_one_that_has_stopped(live: LiveFiji):
    current = java("ij.WindowManager").getCurrentImage
    with live.publisher(title="one") as one, live.publisher(title="two") as two:
        for number in range(2):
            one.publish(square(number), axes={"t": number})
            live.settled(one)
        for number in range(3):
            two.publish(square(number), axes={"t": number})
            live.settled(two)
        (first, second) = live.images
        live.until(lambda: current() == second.imp)
        for t, publisher, image in ((2, one, first), (3, two, second), (3, one, first)):
            live.until(lambda: not any(each.delivers for each in live.images), what="both idle")
            publisher.publish(square(t), axes={"t": t})
            live.settled(publisher)
            live.until(lambda: current() == image.imp, what=f"{image.imp.getTitle()} in front")  # noqa: B023
            live.until(lambda: number_in(on_screen(image.imp.getCanvas())) == t)  # noqa: B023
        live.move(first.imp, 1, 1, 1)  # the user looks at a former frame
        live.until(lambda: not first.following)
        live.until(lambda: not first.delivers)
        two.publish(square(4), axes={"t": 4})
        live.settled(two)
        live.on_awt(lambda: live.display.gallery.write_status(live.receiver.sources))
        assert current() == first.imp


def test_what_stands_below_an_image_is_not_cut_and_tells_of_losses_only_where_there_are_some(
    live: LiveFiji,
):
    with live.publisher((40, 8)) as publisher:
        publisher.publish(stamped(0, 0, 0, (40, 8)), axes={"t": 0})
        live.settled(publisher)
        image = live.image()
        live.until(lambda: "1 frame" in image.strip.text)
        assert "dropped" not in image.strip.text
        image.stream.superseded, image.stream.dropped = 123456, 7

        def lines() -> list[str]:
            return [str(line) for line in image.strip.panel.lines()]

        live.until(lambda: "123456 superseded 7 dropped" in " ".join(" ".join(lines()).split()))
        assert int(image.strip.panel.getWidth()) == 300
        live.until(lambda: " ".join(lines()).split() == image.strip.text.split())


@pytest.mark.parametrize(("height", "width"), [(200, 200), (30, 20), (20, 400)])
def test_a_window_fits_what_a_command_has_left_of_its_image(live: LiveFiji, height: int, width: int):
    """As wide as the image, or as what stands below it, all of which is seen."""
    with live.publisher((600, 900), budget=32 << 20) as publisher:
        for t in range(3):
            publisher.publish(square(t, (600, 900)), axes={"t": t})
        live.settled(publisher)
        image = live.image()
        live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(image.window))
        image.imp.setRoi(0, 0, width, height)
        java("ij.IJ").run(image.imp, "Crop", "")
        live.until(lambda: image not in live.images)
        panel, canvas, window = image.strip.panel, image.imp.getCanvas(), image.window
        live.until(lambda: window.getSize().equals(window.getPreferredSize()) and window.isValid())
        assert list(panel.lines()) == ["not live: changed by Crop"], "not cut"
        assert 0 < int(panel.getX()) <= int(window.getWidth()) - int(panel.getWidth())
        if width > 128:  # ImageJ's windows are a little wider than narrower images
            assert int(window.getWidth()) == width + 10
            assert int(canvas.getX()) == int(panel.getX()) == 5
        else:
            assert int(window.getWidth()) < 300
        live.on_awt(window.toFront)
        live.until(lambda: (on_screen(panel).min(axis=-1) < 64).sum() > 20, what="the text on the screen")
        publisher.publish(square(3, (600, 900)), axes={"t": 3})
        live.settled(publisher)
        live.until(lambda: number_in(painted_picture(live.image())) == 3)  # (the user's image may lie over it)


def test_a_narrow_image_has_all_that_stands_below_it_in_its_window(live: LiveFiji):
    with live.publisher((600, 30)) as publisher:
        publisher.publish(np.zeros((600, 30), "uint16"), axes={"t": 0})
        live.settled(publisher)
        image = live.image()
        panel = image.strip.panel
        assert 0 <= int(panel.getX()) <= int(image.window.getWidth()) - int(panel.getWidth())
        at = image.strip.box.getLocationOnScreen()
        assert image.window.getBounds().contains(at.x + image.strip.box.getWidth() - 1, at.y)


def test_live_mode_stays_one_window_in_its_place_with_the_new_size_and_pixel_size(live: LiveFiji):
    """After binning, a region of the camera, or another objective; twice."""
    with live.publisher((96, 144)) as publisher:
        at = None
        for turn in range(2):
            for number, (shape, scale) in enumerate(
                [((96, 144), 0.5), ((48, 72), 1.0), ((48, 72), 0.25), ((24, 96), 0.25)]
            ):
                stream = publisher.new_stream("live", scale=(scale, scale), units="um")
                for _ in range(2):
                    publisher.publish(square(number, shape), stream=stream)
                    live.settled(publisher)
                image = live.until(lambda: len(live.images) == 1 and live.images[0])
                live.until(lambda: int(java("ij.WindowManager").getImageCount()) == 1)
                canvas = image.imp.getCanvas()
                live.until(lambda: number_in(on_screen(canvas)) == number)  # noqa: B023
                assert (int(image.imp.getHeight()), int(image.imp.getWidth())) == shape
                assert float(image.imp.getCalibration().pixelWidth) == scale
                assert str(image.imp.getTitle()) == "live"
                if at is None:
                    live.on_awt(lambda: image.window.setLocation(150, 220))  # noqa: B023
                    live.until(lambda: bounds(image)[:2] == (150, 220))  # noqa: B023
                    at = bounds(image)[:2]
                assert bounds(image)[:2] == at, turn
            # A region of the camera within one stream, too.
            publisher.publish(square(5, (30, 60)), stream=stream)
            live.settled(publisher)
            live.until(lambda: len(live.images) == 1 and int(live.images[0].imp.getWidth()) == 60)
            image = live.images[0]
            live.until(lambda: number_in(on_screen(image.imp.getCanvas())) == 5)  # noqa: B023
            assert bounds(image)[:2] == at


@pytest.mark.parametrize("about", [{}, {"scale": (0.5, 0.5), "units": "um"}], ids=["uncalibrated", "calibrated"])
def test_labels_and_their_image_agree_whether_they_have_a_pixel_size_or_not(live: LiveFiji, about: dict[str, Any]):
    labels = np.zeros(SHAPE, "uint8")
    with live.publisher() as publisher:
        for run_number in range(2):
            stream = publisher.new_stream(f"run {run_number}", **about)
            for t in range(3):
                frame = square(t)
                publisher.publish(frame, axes={"t": t}, stream=stream)
                publisher.publish((frame > 500).astype(labels.dtype), kind="labels", axes={"t": t}, stream=stream)
            live.settled(publisher)
            image, overlaid = live.images[-2:]
            assert image.imp.getCalibration().equals(overlaid.imp.getCalibration())

            def masks() -> list[np.ndarray]:
                return [on_screen(each.imp.getCanvas()).max(axis=-1) > 128 for each in (image, overlaid)]  # noqa: B023

            live.until(lambda: np.array_equal(*masks()))
            assert number_in(on_screen(image.imp.getCanvas())) == 2
            # Image > Overlay > Add Image... lays them exactly over each other.
            roi = java("ij.gui.ImageRoi")(0, 0, overlaid.imp.getProcessor().convertToRGB())
            flat = image.imp.duplicate()
            flat.setOverlay(java("ij.gui.Overlay")(roi))
            flattened = np.array(memoryview(flat.flatten().getProcessor().getPixels())).view(np.uint8)
            assert ((flattened.reshape(*SHAPE, 4)[..., :3].max(axis=-1) > 128) == (square(2) > 500)).all()
            publisher.end_stream(stream)


def test_the_menu_stays_where_imagej_makes_its_menus_anew(live):
    def entries():
        bar = java("ij.Menus").getMenuBar()
        (plugins,) = [menu for menu in map(bar.getMenu, range(bar.getMenuCount())) if str(menu.getLabel()) == "Plugins"]
        return [str(plugins.getItem(number).getLabel()) for number in range(plugins.getItemCount())]

    live.until(lambda: entries().count("scopecast") == 1)
    for _ in range(2):
        before = java("ij.Menus").getMenuBar()
        java("ij.IJ").run("Refresh Menus")
        live.until(lambda before=before: java("ij.Menus").getMenuBar() != before)
        live.until(lambda: entries().count("scopecast") == 1, what="the entries in the new menu")


def test_the_window_of_a_short_run_is_not_put_behind_the_snap_before_it(live: LiveFiji):
    with live.publisher() as publisher:
        for number in range(2):
            snap = publisher.new_stream("snaps")
            publisher.publish(square(0), stream=snap)
            made = publisher.new_stream(f"run {number}")
            publisher.publish(square(number + 1), axes={"t": 0}, stream=made)
            publisher.end_stream(made)
            live.settled(publisher)
            image = live.images[-1]
            assert image.stream.about.title == f"run {number}"
            live.until(lambda: java("ij.WindowManager").getCurrentImage() == image.imp)  # noqa: B023
            live.until(lambda: number_in(on_screen(image.imp.getCanvas())) == number + 1)  # noqa: B023


def test_a_status_that_is_written_while_a_macro_moves_the_slider_is_of_what_is_shown(live: LiveFiji):
    with live.publisher() as publisher:
        publisher.new_stream("run", channels=["DAPI", "FITC"])
        for t in range(6):
            for channel in ("DAPI", "FITC"):
                publisher.publish(np.full(SHAPE, 65535, "uint16"), axes={"t": t, "c": channel})
        live.settled(publisher)
        image = live.image()
        live.until(lambda: "saturated: DAPI 100.0 %, FITC 100.0 %" in image.strip.text)

        def move_and_write() -> None:
            for t in (1, 5, 2):
                image.imp.setPositionWithoutUpdate(1, 1, t)
                image.write_status(live.receiver.sources)

        live.on_awt(move_and_write)
        assert "saturated: DAPI 100.0 %, FITC 100.0 %" in image.strip.text


def test_below_the_window_of_labels_are_their_own_figures(live: LiveFiji):
    with live.publisher() as publisher:
        for number in range(2):
            publisher.new_stream(f"run {number}")
            for t in range(8):
                publisher.publish(square(t % 6), axes={"t": t})
            publisher.publish(np.ones(SHAPE, "uint8"), kind="labels", name="cells", axes={"t": 3})
            live.settled(publisher)
            images, labels = live.images[-2:]
            live.until(lambda: "8 frames" in images.strip.text)  # noqa: B023
            live.until(lambda: "1 frame " in labels.strip.text)  # noqa: B023
            assert "frames/s" not in labels.strip.text
