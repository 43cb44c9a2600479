"""Commands of ImageJ's menus and their dialogs, at work on an image while its stream goes on."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from fiji_live import pixels_of
from receivers import check_stamp, stamped
from scopecast_viewers.fiji.awt import invoke_later, java

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fiji_live import LiveFiji
    from scopecast import Publisher

SHAPE = (64, 48)


def place(t: int, c: int, z: int) -> dict[str, int | str]:
    return {"t": t, "c": f"ch{c}", "z": z}


@contextlib.contextmanager
def growing(live: LiveFiji, publisher: Publisher, channels: int = 2, slices: int = 3) -> Iterator[Any]:
    """A run of some frames that goes on while the block lasts; yields its image."""

    def publish(t: int) -> None:
        for c, z in itertools.product(range(channels), range(slices)):
            publisher.publish(stamped(t, c, z, SHAPE), axes=place(t, c, z))

    for t in range(4):
        publish(t)
    live.settled(publisher)
    image = live.image()
    live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(image.imp.getWindow()))
    stop = threading.Event()

    def feed() -> None:
        for t in itertools.count(4):
            publish(t)
            if stop.wait(0.01):
                return

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield image
    finally:
        stop.set()
        feeder.join()
    live.settled(publisher)


def dialog(live: LiveFiji) -> Any:
    """Wait for a dialog, and return it."""

    def showing() -> Any:
        windows = [window for window in java("java.awt.Window").getWindows() if window.isShowing()]
        return next((window for window in windows if isinstance(window, java("java.awt.Dialog"))), None)

    return live.until(showing, what="a dialog")


def press(live: LiveFiji, button: Any) -> None:
    event = java("java.awt.event.ActionEvent")
    live.on_awt(lambda: button.dispatchEvent(event(button, event.ACTION_PERFORMED, button.getActionCommand())))


def ended(live: LiveFiji, imp: Any) -> None:
    """Wait until no command is at work on an image."""
    live.until(lambda: java("scopecast.Commands").on(imp) is None, what="the end of the command")


def test_a_file_that_is_saved_by_the_menu_during_a_run_is_whole(live: LiveFiji, tmp_path: Path):
    path = tmp_path / "live.tif"
    prefs = java("ij.Prefs")
    prefs.useJFileChooser = True
    try:
        with live.publisher() as publisher, growing(live, publisher) as image:
            stream = image.stream
            java("ij.IJ").doCommand("Tiff...")
            window = dialog(live)
            frames, received = int(image.imp.getNFrames()), stream.received
            live.until(lambda: stream.received > received + 60, what="frames that come while the dialog is open")
            assert int(image.imp.getNFrames()) == frames
            live.until(lambda: "waits for Tiff" in image.strip.text)
            chooser = find(window, java("javax.swing.JFileChooser"))
            live.on_awt(lambda: chooser.setSelectedFile(java("java.io.File")(str(path))))
            live.on_awt(chooser.approveSelection)
            ended(live, image.imp)
            live.until(lambda: int(image.imp.getNFrames()) > frames, what="the image that goes on")
    finally:
        prefs.useJFileChooser = False
    with tifffile.TiffFile(path) as file:
        about = file.imagej_metadata
        assert len(file.pages) == about["images"] == len(about["Labels"]) == frames * 6
        assert (about["frames"], about["slices"], about["channels"]) == (frames, 3, 2)
        pixels = file.asarray()
    for t, z, c in itertools.product(range(frames), range(3), range(2)):
        assert check_stamp(pixels[t, z, c]) == (t, c, z)


def find(window: Any, kind: Any) -> Any:
    """Return the first component of a kind in a window."""
    for part in window.getComponents():
        if isinstance(part, kind):
            return part
        if isinstance(part, java("java.awt.Container")) and (found := find(part, kind)):
            return found
    return None


def test_a_command_that_asks_first_gets_the_image_that_it_asked_about(live: LiveFiji):
    """Duplicate… locks no image; its dialog says how many frames there are."""
    with live.publisher() as publisher, growing(live, publisher) as image:
        java("ij.IJ").doCommand("Duplicate...")
        window = dialog(live)
        frames, received = int(image.imp.getNFrames()), image.stream.received
        live.until(lambda: image.stream.received > received + 60, what="frames that come while the dialog is open")
        assert int(image.imp.getNFrames()) == frames
        stack = next(box for box in window.getCheckboxes() if "hyperstack" in str(box.getLabel()).lower())
        live.on_awt(lambda: stack.setState(True))
        press(live, window.getButtons()[0])
        copy = live.until(lambda: java("ij.WindowManager").getImage(str(image.imp.getTitle()) + "-1"))
        ended(live, image.imp)
        live.until(lambda: int(image.imp.getNFrames()) > frames, what="the image that goes on")
    assert list(copy.getDimensions()) == [48, 64, 2, 3, frames]
    for t, c, z in itertools.product(range(frames), range(2), range(3)):
        assert check_stamp(live.pixels(copy, c + 1, z + 1, t + 1)) == (t, c, z)


@pytest.mark.fault("V3")
def test_the_contrast_stays_while_a_command_is_at_work_and_adapts_afterwards(live: LiveFiji):
    """Duplicate… locks no image, and the image need not grow: what comes is shown at once."""
    dim = np.arange(64 * 48, dtype="uint16").reshape(SHAPE)
    with live.publisher() as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            publisher.publish(dim, axes={"t": 0})
            live.settled(publisher)
            imp = live.images[-1].imp
            live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(imp.getWindow()))  # noqa: B023

            def limits() -> tuple[float, float]:
                return float(imp.getDisplayRangeMin()), float(imp.getDisplayRangeMax())  # noqa: B023

            before = live.on_awt(limits)
            java("ij.IJ").doCommand("Duplicate...")
            window = dialog(live)
            publisher.publish(dim * 10, axes={"t": 0})
            live.settled(publisher)
            assert pixels_of(imp.getProcessor()).max() == 10 * int(dim.max())
            assert live.on_awt(limits) == before
            live.on_awt(window.dispose)
            ended(live, imp)
            live.until(lambda: limits()[1] > 25000, what="contrast for what has come")
            live.settled(publisher)


def test_frames_go_on_below_a_modal_dialog_that_holds_the_window_thread(live: LiveFiji):
    with live.publisher() as publisher:
        for t in range(3):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        (stream,) = live.receiver.streams
        (peer,) = publisher.session.receivers.attached.values()
        answered = threading.Event()

        def ask() -> None:
            question = java("ij.gui.GenericDialog")("A question")
            question.addMessage("Which stage is it?")
            question.showDialog()  # returns when it is closed
            answered.set()

        invoke_later(ask)
        window = dialog(live)
        assert window.isModal()
        first, painted = peer.pong.number, stream.log.painted
        for t in range(3, 43):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        assert publisher.flush(30)
        live.until(lambda: live.position(live.image().imp)[2] == 43, what="the newest frame, below the dialog")
        live.until(lambda: stream.log.painted > painted)
        # Three heartbeats without an answer would have ended it.
        live.until(lambda: peer.pong.number >= first + 5)
        assert not answered.is_set()
        (row,) = publisher.stats().receivers
        assert row.attached
        assert (row.frames.delivered, row.frames.dropped) == (43, 0)
        press(live, window.getButtons()[1])
        assert answered.wait(10)


@pytest.mark.fault("V3")
def test_an_image_that_a_command_with_a_modal_dialog_has_locked_catches_up_afterwards(live: LiveFiji):
    with live.publisher() as publisher, growing(live, publisher) as image:
        java("ij.IJ").doCommand("Gaussian Blur...")
        window = dialog(live)
        assert image.imp.isLocked()
        where, received = live.position(image.imp), image.stream.received
        before = np.array(live.pixels(image.imp, *where))
        live.until(lambda: image.stream.received > received + 60, what="frames that come while the dialog is open")
        assert live.position(image.imp) == where
        np.testing.assert_array_equal(live.pixels(image.imp, *where), before)
        live.until(lambda: "waits for Gaussian Blur" in image.strip.text)
        assert publisher.stats().receivers[0].attached
        press(live, window.getButtons()[1])  # Cancel
        ended(live, image.imp)
        live.until(lambda: live.position(image.imp)[2] > where[2], what="the image that goes on")
    assert publisher.stats().balanced


def test_sliders_stay_while_a_macro_is_interpreted_and_follow_again_after_it(live: LiveFiji):
    with live.publisher() as publisher, growing(live, publisher) as image:
        file = java("java.io.File").createTempFile("scopecast", ".go")
        text = f'path = "{file.getPath()}"; n = 0; while (File.exists(path)) {{ wait(5); n++; }} return "" + n;'
        where: list[Any] = []
        macro = threading.Thread(target=lambda: where.append(java("ij.IJ").runMacro(text)))
        macro.start()
        try:
            live.until(lambda: image.waits_for == "a macro")
            at, received, frames = live.position(image.imp), image.stream.received, int(image.imp.getNFrames())
            live.until(lambda: image.stream.received > received + 60)
            live.until(lambda: int(image.imp.getNFrames()) > frames, what="the image that grows all the same")
            assert live.position(image.imp) == at
        finally:
            file.delete()
            macro.join(30)
        assert not macro.is_alive()
        live.until(lambda: live.position(image.imp)[2] > at[2], what="sliders that follow again")
        assert image.following


# ---- commands of scripts and macros, and a window thread that hangs --------------------------------------------------


def streaming(live, publisher, channels=2, slices=3, frames=4):
    """Publish a small run, and return its image."""
    for t, c, z in itertools.product(range(frames), range(channels), range(slices)):
        publisher.publish(stamped(t, c, z, SHAPE), axes=place(t, c, z))
    live.settled(publisher)
    return live.image().imp


def test_duplicate_project_save_and_macro_work_on_the_live_image_during_a_run(live, tmp_path):
    run = java("ij.IJ").run
    with live.publisher() as publisher:
        imp = streaming(live, publisher)
        stop = threading.Event()

        def feed():
            for t in itertools.count(4):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes=place(t, 0, 0))
                if stop.wait(0.01):
                    return

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            run(imp, "Duplicate...", "title=copy duplicate channels=1-2 slices=1-3 frames=1-4")
            copy = java("ij.WindowManager").getImage("copy")
            assert list(copy.getDimensions()) == [48, 64, 2, 3, 4]
            for t, c, z in itertools.product(range(4), range(2), range(3)):
                assert check_stamp(live.pixels(copy, c + 1, z + 1, t + 1)) == (t, c, z)

            run(imp, "Z Project...", "projection=[Max Intensity] all")
            projected = java("ij.WindowManager").getImage("MAX_" + str(imp.getTitle()))
            expected = np.max([stamped(2, 1, z, SHAPE) for z in range(3)], axis=0)
            np.testing.assert_array_equal(live.pixels(projected, 2, 1, 3), expected)

            path = tmp_path / "live.tif"
            run(imp, "Tiff...", f"save=[{path}]")  # IJ.saveAs is no command, and reads an image while it grows
            saved = java("ij.IJ").openImage(str(path))
            assert list(saved.getDimensions())[:4] == [48, 64, 2, 3]
            assert check_stamp(live.pixels(saved, 2, 3, 4)) == (3, 1, 2)

            macro = f'selectImage({int(imp.getID())}); Stack.setPosition(2, 3, 2); return "" + getPixel(3, 0);'
            assert float(str(java("ij.IJ").runMacro(macro))) == stamped(1, 1, 2, SHAPE)[0, 3]
        finally:
            stop.set()
            feeder.join()
        live.settled(publisher)
        live.until(lambda: not live.image().following)
        assert live.position(imp) == (2, 3, 2), "the macro has moved the sliders, so they stay"
        assert publisher.stats().receivers[0].attached


def test_a_locked_image_keeps_its_plane_until_the_command_has_ended(live):
    with live.publisher() as publisher:
        imp = streaming(live, publisher, frames=2)
        before = live.position(imp)
        assert imp.lock()
        publisher.publish(stamped(5, 0, 0, SHAPE), axes=place(5, 0, 0))
        live.until(lambda: publisher.flush(0))
        stream = live.receiver.streams[0]
        live.until(lambda: stream.received == 13)
        for _ in range(5):
            live.on_awt(live.display._tick)
        assert live.position(imp) == before
        imp.unlock()
        live.until(lambda: live.position(imp)[2] == 6)


@pytest.mark.fault("V3")
def test_a_hung_window_is_not_evicted_and_catches_up_with_the_newest(live):
    """V3: Java's window thread hangs for longer than the heartbeat allows a dead receiver."""
    with live.publisher(policy="latest") as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        live.settled(publisher)
        (stream,) = live.receiver.streams
        release, hung = threading.Event(), threading.Event()

        def hang():
            hung.set()
            release.wait(60)

        invoke_later(hang)
        assert hung.wait(10)
        painted, before, began = stream.log.painted, stream.received, time.monotonic()
        for t in itertools.count(1):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            time.sleep(0.01)  # a camera's pace
            if time.monotonic() - began > 3.0 and stream.received > before + 50:
                break
            assert time.monotonic() - began < 60, "the receiver's thread must go on beside a hung window"
        row = publisher.stats().receivers[0]
        assert row.attached
        assert row.frames.dropped == 0
        assert stream.log.painted == painted
        release.set()
        live.settled(publisher)
        assert live.position(live.image().imp)[2] == t + 1
        assert check_stamp(pixels_of(live.image().imp.getProcessor())) == (t, 0, 0)
        live.until(lambda: stream.log.painted > painted)
