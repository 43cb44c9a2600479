"""What ImageJ's own commands make of a live image is what they make of any other, and the stream goes on."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from fiji_live import pixels_of
from receivers import check_stamp, stamped
from scopecast_viewers.fiji.awt import java

if TYPE_CHECKING:
    from collections.abc import Callable

    from fiji_live import LiveFiji

SHAPE = (64, 48)
FRAMES = 5

#: Commands, their options, and whether they leave the live image as it is.
GRAY = [
    ("8-bit", "", False),
    ("32-bit", "", False),
    ("RGB Color", "", False),
    ("Crop", "", False),
    ("Size...", "width=24 height=32 depth=5 interpolation=None", False),
    ("Size...", "width=48 height=64 depth=10 interpolation=None", False),
    ("Scale...", "x=0.5 y=0.5 interpolation=None process", False),
    ("Canvas Size...", "width=60 height=70 position=Center zero", False),
    ("Rotate 90 Degrees Right", "", False),
    ("Rotate 90 Degrees Left", "", False),
    ("Rotate... ", "angle=15 grid=1 interpolation=None stack", False),
    ("Flip Horizontally", "stack", False),
    ("Flip Vertically", "stack", False),
    ("Invert", "stack", False),
    ("Gaussian Blur...", "sigma=2 stack", False),
    ("Add...", "value=7 slice", False),
    ("Fill", "slice", False),
    ("Reverse", "", False),
    ("Delete Slice", "", False),
    ("Add Slice", "", False),
    ("Make Substack...", "slices=2-4 delete", False),
    ("Reduce...", "reduction=2", False),
    ("Stack to Images", "", False),
    ("Stack to Hyperstack...", "order=xyczt(default) channels=1 slices=5 frames=1 display=Grayscale", False),
    ("Make Substack...", "slices=2-4", True),
    ("Reslice [/]...", "output=1.000 start=Top avoid", True),
    ("Scale...", "x=0.5 y=0.5 interpolation=None process create title=scaled", True),
    ("Z Project...", "projection=[Max Intensity]", True),
    ("Measure", "", True),
    ("Properties...", "channels=1 slices=1 frames=5 pixel_width=0.5 pixel_height=0.5 voxel_depth=2", True),
    ("16-bit", "", True),
    ("Subtract Background...", "rolling=20 stack", False),
    ("Enhance Contrast...", "saturated=0.35 normalize process_all", False),
    ("Median...", "radius=1 stack", False),
    ("Translate...", "x=3 y=2 interpolation=None stack", False),
    ("Bin...", "x=2 y=2 z=1 bin=Average", False),
    ("Set Label...", "label=mine", False),
    ("Make Montage...", "columns=5 rows=1 scale=1", True),
    ("3D Project...", "projection=[Brightest Point] axis=Y-Axis slice=1 initial=0 total=20 rotation=10", True),
    ("Plot Z-axis Profile", "", True),
    ("Duplicate...", "title=copy duplicate", True),
    ("Set Slice...", "slice=2", True),
    ("Rename...", "title=mine", True),
    ("Fire", "", True),
    ("Set Scale...", "distance=2 known=1 unit=um", True),
    ("Undo", "", True),
    ("Histogram", "stack", True),
]
RGB = [("8-bit Color", "number=64", False), ("8-bit", "", False), ("RGB Stack", "", False), ("Crop", "", False)]
COLOR = [
    ("8-bit", "", False),
    ("32-bit", "", False),
    ("RGB Color", "frames", False),
    ("Crop", "", False),
    ("Size...", "width=24 height=32 time=5 interpolation=None", False),
    ("Canvas Size...", "width=60 height=70 position=Center zero", False),
    ("Rotate 90 Degrees Right", "", False),
    ("Flip Horizontally", "stack", False),
    ("Invert", "stack", False),
    ("Delete Slice", "delete=frame", False),
    ("Delete Slice", "delete=channel", False),
    ("Add Slice", "add=frame", False),
    ("Reduce...", "reduction=2", False),
    ("Stack to Images", "", False),
    ("Hyperstack to Stack", "", False),
    ("Split Channels", "", False),
    ("Make Substack...", "channels=1 frames=2-4", True),
    ("Reslice [/]...", "output=1.000 start=Top avoid", True),
    ("Z Project...", "projection=[Max Intensity] all", True),
    ("Subtract Background...", "rolling=20 stack", False),
]


def run_of(live: LiveFiji, publisher: Any, channels: int, times: range) -> None:
    """Publish frames of so many channels, of 0 if they are RGB."""
    for t, c in itertools.product(times, range(channels or 1)):
        pixels = stamped(t, c, 0, SHAPE) if channels else stamped(t, c, 0, (*SHAPE, 3), "uint8")
        publisher.publish(pixels, axes={"t": t, **({"c": f"ch{c}"} if channels > 1 else {})})
    live.until(lambda: publisher.flush(0))


def images() -> dict[int, Any]:
    manager = java("ij.WindowManager")
    return {int(number): manager.getImage(int(number)) for number in manager.getIDList() or ()}


def read(imp: Any) -> tuple[list[int], int, list[Any]]:
    """Return dimensions, bits and all pixels of an image."""
    stack = imp.getImageStack()
    every = [np.array(memoryview(stack.getProcessor(n).getPixels())) for n in range(1, int(stack.getSize()) + 1)]
    return [int(size) for size in imp.getDimensions()], int(imp.getBitDepth()), every


def assert_same(got: Any, wanted: Any) -> None:
    (dimensions, bits, _), count = got, len(got[2])
    assert (bits, dimensions[:2], count) == (wanted[1], wanted[0][:2], len(wanted[2]))
    # ImageJ makes a plain stack of any image, live or not, whose window is painted while slices are being deleted.
    plain = [*dimensions[:2], 1, count, 1]
    assert dimensions == wanted[0] or plain in (dimensions, wanted[0])
    for n, (one, other) in enumerate(zip(got[2], wanted[2], strict=True)):
        np.testing.assert_array_equal(one, other, err_msg=f"slice {n + 1}")


def results(live: LiveFiji, imp: Any, command: str, options: str, ended: Callable[[], bool]) -> list[Any]:
    """Return what a command makes of an image: that itself, if it is still open, and the new ones."""
    live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(imp.getWindow()))
    if command in ("Crop", "Fill"):
        imp.setRoi(6, 8, 20, 30)
    for _ in range(2):
        live.on_awt(lambda: None)  # what is painted while slices are being deleted is another story, and ImageJ's own
    before = images()
    worker = threading.Thread(target=lambda: java("ij.IJ").run(imp, command, options))
    worker.start()
    dialogs = []
    deadline = time.monotonic() + 60
    while worker.is_alive():
        assert time.monotonic() < deadline, f"{command} has not ended"
        for window in [each for each in java("java.awt.Window").getWindows() if is_dialog(each)]:
            dialogs.append(str(window.getTitle()))
            # On the window thread, where the command, too, has it disposed of: it may be gone by now.
            live.on_awt(lambda window=window: window.isDisplayable() and window.dispose())
        worker.join(0.02)
    imp.deleteRoi()
    live.until(ended, what="an image that is left to the user")
    assert len(dialogs) <= 1, "one dialog for each slice"
    made = [new for number, new in sorted(images().items(), reverse=True) if number not in before]
    return [read(each) for each in ([imp] if imp.getWindow() is not None else []) + made]


def is_dialog(window: Any) -> bool:
    return window.isShowing() and isinstance(window, java("java.awt.Dialog"))


@pytest.mark.parametrize(
    ("channels", "command", "options", "stays"),
    [
        pytest.param(channels, *case, id=f"{('RGB', 'gray', 'channels')[channels]} {case[0]} {case[1]}".strip())
        for channels, cases in enumerate((RGB, GRAY, COLOR))
        for case in cases
    ],
)
def test_a_command_makes_of_a_live_image_what_it_makes_of_any_other_and_the_stream_goes_on(
    live: LiveFiji, channels: int, command: str, options: str, stays: bool
):
    with live.publisher() as publisher:
        run_of(live, publisher, channels, range(FRAMES))
        live.settled(publisher)
        image = live.image()
        imp = image.imp
        plain = java("ij.plugin.Duplicator")().run(imp)
        live.on_awt(plain.show)
        if channels < 2:
            plain.setDimensions(*list(imp.getDimensions())[2:])
        live.move(plain, *live.position(imp))
        plain.setDisplayRange(imp.getDisplayRangeMin(), imp.getDisplayRangeMax())
        live.paint()
        wanted = results(live, plain, command, options, lambda: True)
        got = results(live, imp, command, options, lambda: stays or image not in live.images)
        assert len(got) == len(wanted) > 0
        for one, other in zip(got, wanted, strict=True):
            assert_same(one, other)
        assert not any(is_dialog(window) for window in java("java.awt.Window").getWindows())
        if not stays:
            assert len(live.images) == 0, "the stream goes on with its next frame"
            assert str(image.strip.text).startswith("not live: changed by")
        run_of(live, publisher, channels, range(FRAMES, FRAMES + 2))
        live.settled(publisher)
        (now,) = live.images
        live.on_awt(live.display.gallery.follow)  # some commands move the sliders
        assert (now.imp == imp) == stays
        live.until(lambda: live.position(now.imp)[2] == FRAMES + 2)
        if imp.getWindow() is not None and not stays:
            assert_same(read(imp), wanted[0])
        for t, c in itertools.product(range(FRAMES + 2), range(channels or 1)):
            assert check_stamp(live.pixels(now.imp, c + 1, 1, t + 1)) == (t, c, 0), "a frame has been written into"
        assert check_stamp(pixels_of(now.imp.getProcessor())) == (FRAMES + 1, 0, 0)


def extents_of(imp: Any) -> list[int]:
    """Return channels, slices and frames without ImageJ's repairing them, as its getters do."""
    fields = [java("ij.ImagePlus").class_.getDeclaredField(name) for name in ("nChannels", "nSlices", "nFrames")]
    for field in fields:
        field.setAccessible(True)
    return [int(field.getInt(imp)) for field in fields]


def test_nothing_of_an_image_is_painted_or_moved_while_a_command_is_deleting_its_slices(live: LiveFiji):
    """ImageJ would repair the extents, move the sliders, and write the plane that is shown into another slice."""
    with live.publisher() as publisher:
        run_of(live, publisher, 2, range(FRAMES))
        live.settled(publisher)
        image, growth = live.image(), java("scopecast.Growth")
        imp = image.imp
        shown, extents = live.on_awt(lambda: growth.slice(imp)), [2, 1, FRAMES]
        said = []
        assert imp.lock()  # as commands do
        for _ in range(2 * FRAMES - 1):
            imp.getStack().deleteSlice(1)
            for part in (image.window, imp.getCanvas()):  # as when another window has lain over them
                live.on_awt(lambda: part.paint(part.getGraphics()))  # noqa: B023
            for _ in range(3):
                live.on_awt(lambda: live.display.gallery.update(live.receiver.streams))
                live.on_awt(lambda: live.display.gallery.write_status(live.receiver.sources))
            said.append(image.strip.text)
            assert growth.slice(imp) == shown
            assert extents_of(imp) == extents
        assert not any(text.startswith("not live") for text in said)
        imp.getStack().deleteSlice(1)
        stack = java("ij.ImageStack")(SHAPE[1], SHAPE[0])
        for _ in range(2 * FRAMES):
            stack.addSlice(java("ij.process.ByteProcessor")(SHAPE[1], SHAPE[0]))
        imp.setStack(stack)
        imp.unlock()
        live.until(lambda: image.strip.text.startswith("not live"))


WAYS = {
    "menu": lambda imp: java("ij.IJ").doCommand("8-bit"),
    "macro": lambda imp: java("ij.IJ").runMacro(
        f'selectImage({int(imp.getID())}); run("8-bit"); run("Invert", "stack");'
    ),
    "plug-in": lambda imp: java("ij.IJ").runPlugIn(imp, "ij.plugin.Converter", "8-bit"),
    "script": lambda imp: java("ij.process.StackConverter")(imp).convertToGray8(),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_is_changed_while_frames_come_is_whole_and_the_stream_goes_on_elsewhere(live: LiveFiji, way: str):
    """By a command of the menu, a macro of several, the search bar's way, and a script that asks nobody."""
    with live.publisher() as publisher:
        run_of(live, publisher, 1, range(FRAMES))
        live.settled(publisher)
        image = live.image()
        imp = image.imp
        ranges = []  # in which it was shown, of which one is that of all slices: contrast adapts to what comes
        update = image.update

        def update_and_note() -> None:
            update()
            shown = float(imp.getDisplayRangeMin()), float(imp.getDisplayRangeMax())
            if int(imp.getBitDepth()) == 16 and shown not in ranges:
                ranges.append(shown)

        live.on_awt(update_and_note)
        image.update = update_and_note
        live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(imp.getWindow()))
        stop = threading.Event()

        def feed() -> None:
            for t in itertools.count(FRAMES):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                if stop.wait(0.01):
                    return

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            WAYS[way](imp)
            live.until(lambda: int(imp.getBitDepth()) == 8 and not imp.isLocked(), what="the image in 8 bits")
            live.until(lambda: live.images and image not in live.images, what="the stream in another window")
        finally:
            stop.set()
            feeder.join()
        live.settled(publisher)
        dimensions, bits, slices = read(imp)
        assert (bits, dimensions[:3]) == (8, [48, 64, 1])
        assert len(slices) >= FRAMES
        got = np.array(slices).view(np.uint8)
        frames = np.array([stamped(t, 0, 0, SHAPE).ravel() for t in range(len(slices))], float)
        off = []
        for low, high in ranges:
            scaled = np.clip((frames - low) * 256.0 / (high - low + 1), 0, 255)
            wanted = 255 - scaled if way == "macro" else scaled
            off.append(np.abs(got - wanted).max())
        assert min(off) <= 1.0, (ranges, off)
        (now,) = live.images
        last = int(now.imp.getNFrames()) - 1
        live.until(lambda: live.position(now.imp)[2] == last + 1)
        for t in range(last + 1):
            assert check_stamp(live.pixels(now.imp, frame=t + 1)) == (t, 0, 0)
        assert int(now.imp.getBitDepth()) == 16
