"""Commands that take several images, or parts of one, while the live image goes on: two runs in a row."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from fiji_live import pixels_of
from receivers import check_stamp, stamped
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.fiji.look import channel_of
from scopecast_viewers.fiji.planes import to_java

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fiji_live import LiveFiji

SHAPE = (64, 48)
FRAMES = 5


class Case(NamedTuple):
    """A command of ImageJ's on a live image.

    Attributes
    ----------
    channels
        How many the image has.
    command, options
        As a macro records them; ``{live}`` and ``{other}`` are the titles of the live image and of a plain one of the
        same size.
    stays
        Whether the live image goes on; if not, it is the user's, and the stream goes on in another.
    plain
        Another option with which a plain image gives the same: of a virtual stack, as a live one is, ImageJ makes a new
        image, whether or not that was asked for.
    """

    channels: int
    command: str
    options: str
    stays: bool
    plain: str = ""

    @property
    def other(self) -> bool:
        """Whether it takes another image, too."""
        return "{other}" in self.options


CASES = [
    Case(1, "Convert to Mask", "method=Default background=Dark calculate", True, " create"),
    Case(1, "Convert to Mask", "method=Default background=Dark", True, " create"),
    Case(1, "Subtract Background...", "rolling=20 stack", False),
    Case(1, "Z Project...", "projection=[Average Intensity]", True),
    Case(1, "Make Montage...", "columns=3 rows=2 scale=1 first=1 last=5", True),
    Case(1, "Duplicate...", "title=copy duplicate range=2-4", True),
    Case(1, "Concatenate...", "title=both image1=[{live}] image2=[{other}]", False),
    Case(1, "Concatenate...", "title=both keep image1=[{live}] image2=[{other}]", True),
    Case(1, "Combine...", "stack1=[{live}] stack2=[{other}]", False),
    Case(1, "Image Calculator...", "image1=[{live}] operation=Add image2=[{other}] create stack", True),
    Case(1, "Image Calculator...", "image1=[{live}] operation=Subtract image2=[{other}] stack", True, " create"),
    Case(1, "Image Calculator...", "image1=[{other}] operation=XOR image2=[{live}] stack", True),
    Case(1, "Merge Channels...", "c1=[{live}] c2=[{other}] create", False),
    Case(1, "Merge Channels...", "c1=[{live}] c2=[{other}] create keep", True),
    Case(2, "Convert to Mask", "method=Default background=Dark calculate", True, " create"),
    Case(2, "Arrange Channels...", "new=21", False),
    Case(2, "Arrange Channels...", "new=2", False),
    Case(2, "Duplicate...", "title=copy duplicate channels=2 frames=2-4", True),
    Case(2, "Z Project...", "projection=[Max Intensity] all", True),
    Case(2, "Make Montage...", "columns=3 rows=2 scale=1 first=1 last=5", True),
    Case(2, "Concatenate...", "title=both image1=[{live}] image2=[{other}]", False),
    Case(2, "Image Calculator...", "image1=[{live}] operation=Add image2=[{other}] create stack", True),
    Case(2, "Subtract Background...", "rolling=20 stack", False),
]


class Run:
    """A run that goes on: frames that grow the image, or such as take the place of those that were there."""

    def __init__(self, live: LiveFiji, publisher: Any, case: Case) -> None:
        self._publisher, self._channels, self._grows = publisher, case.channels, not case.other
        self._stop = threading.Event()
        self._feeder = threading.Thread(target=self._feed)
        self.length = FRAMES
        for t in range(FRAMES):
            self.publish(t)
        live.settled(publisher)
        self.image = live.images[-1]
        for channel in range(case.channels):  # automatic contrast goes on, too, and conversions depend on it
            name = channel_of(self.image.stream, self.image.stack, channel)
            contrast = live.display.gallery.contrasts.of(self.image.stream.key, name, self.image.stack.dtype)
            live.display.gallery.contrasts.choose(contrast, (0.0, 2000.0))
        live.on_awt(self.image.look_again)
        live.settled(publisher)
        self._feeder.start()

    def publish(self, t: int) -> None:
        for c in range(self._channels):
            axes = {"t": t, **({"c": f"ch{c}"} if self._channels > 1 else {})}
            self._publisher.publish(stamped(t, c, 0, SHAPE), axes=axes)
        self.length = max(self.length, t + 1)

    def _feed(self) -> None:
        for t in itertools.count(FRAMES):
            self.publish(t if self._grows else t % FRAMES)
            if self._stop.wait(0.05):
                return

    def end(self) -> None:
        self._stop.set()
        self._feeder.join()


def images() -> dict[int, Any]:
    manager = java("ij.WindowManager")
    return {int(number): manager.getImage(int(number)) for number in manager.getIDList() or ()}


class Look(NamedTuple):
    """How an image looks, before a command changes that."""

    luts: Any
    mode: int
    calibration: Any
    limits: tuple[float, float]

    @classmethod
    def of(cls, imp: Any) -> Look:
        limits = float(imp.getDisplayRangeMin()), float(imp.getDisplayRangeMax())
        return cls(imp.getLuts(), imp.getMode() if imp.isComposite() else 0, imp.getCalibration().copy(), limits)


def plain(live: LiveFiji, title: str, channels: int, times: int, look: Look) -> Any:
    """Open a plain stack of as many frames of a run, which looks like another image."""
    stack = java("ij.ImageStack")(SHAPE[1], SHAPE[0])
    for t, c in itertools.product(range(times), range(channels)):
        pixels = to_java(np.ascontiguousarray(stamped(t, c, 0, SHAPE)), 16)
        stack.addSlice("", java("ij.process.ShortProcessor")(SHAPE[1], SHAPE[0], pixels, None))
    imp = java("ij.ImagePlus")(title, stack)
    imp.setDimensions(channels, 1, times)
    if channels > 1:
        imp = java("ij.CompositeImage")(imp, look.mode)
        imp.setLuts(look.luts)
    else:
        imp.setDisplayRange(*look.limits)
    imp.setOpenAsHyperStack(True)
    imp.setCalibration(look.calibration)
    live.on_awt(imp.show)
    return imp


def read(imp: Any) -> tuple[list[int], int, list[np.ndarray]]:
    """Return dimensions, bits and all pixels of an image."""
    stack = imp.getImageStack()
    every = [np.array(memoryview(stack.getProcessor(n).getPixels())) for n in range(1, int(stack.getSize()) + 1)]
    return [int(size) for size in imp.getDimensions()], int(imp.getBitDepth()), every


def is_same(got: Any, wanted: Any) -> bool:
    (dimensions, bits, slices), (others, other_bits, other_slices) = got, wanted
    return (
        (bits, dimensions[:2], len(slices)) == (other_bits, others[:2], len(other_slices))
        and dimensions in (others, [*others[:2], 1, len(slices), 1])  # see test_changed
        and all(np.array_equal(one, other) for one, other in zip(slices, other_slices, strict=True))
    )


def run_command(live: LiveFiji, imp: Any, case: Case, other: Any, more: str = "") -> list[Any]:
    """Run a command on an image; return it, the other, and what was made, as far as they are open."""
    live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(imp.getWindow()))
    live.paint()  # what is painted while slices are being deleted is another story, and ImageJ's own
    before = set(images())
    options = case.options.format(live=imp.getTitle(), other=other.getTitle()) + more
    worker = threading.Thread(target=lambda: java("ij.IJ").run(imp, case.command, options))
    worker.start()
    deadline = time.monotonic() + 60
    while worker.is_alive():
        assert time.monotonic() < deadline, f"{case.command} has not ended"
        windows = java("java.awt.Window").getWindows()
        shown = [each for each in windows if each.isShowing() and isinstance(each, java("java.awt.Dialog"))]
        titles = [str(each.getTitle()) for each in shown if each.getTitle() is not None]
        for each in shown:
            live.on_awt(each.dispose)
        assert not titles
        worker.join(0.02)
    ours, now = live.on_awt(lambda: ({int(image.imp.getID()) for image in live.images}, images()))  # between two ticks
    made = [new for number, new in sorted(now.items(), reverse=True) if number not in before | ours]
    return [*(each for each in (imp, other) if each.getWindow() is not None), *made]


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case.channels} {case.command} {case.options}") for case in CASES]
)
def test_a_command_during_a_run(live: LiveFiji, case: Case):
    """Its results are those of the frames that the live image had when it began, and the stream goes on."""
    with live.publisher() as publisher:
        for number in range(2):
            publisher.new_stream(f"run {number}")
            run = Run(live, publisher, case)
            image, imp = run.image, run.image.imp
            try:
                look = live.on_awt(lambda: Look.of(imp))  # noqa: B023
                other = plain(live, "other", case.channels, FRAMES, look)
                least = live.on_awt(lambda: int(imp.getNFrames()))  # noqa: B023 - not while it grows
                opened = run_command(live, imp, case, other)
                got = [read(each) for each in opened if each != imp or not case.stays]
                most = live.on_awt(lambda: int(imp.getNFrames())) if case.stays else run.length  # noqa: B023
                live.until(lambda: (image in live.images) == case.stays, what="an image that is left, or goes on")  # noqa: B023
            finally:
                run.end()
            for times in range(least, most + 1):  # with as many frames the image was when the command began
                twin = plain(live, "twin", case.channels, times, look)
                another = plain(live, "another", case.channels, FRAMES, look)
                live.move(twin, 1, 1, times)
                expected = run_command(live, twin, case, another, case.plain)
                wanted = [read(each) for each in expected if each != twin or not case.stays]
                live.on_awt(close_all(twin, another, *expected))
                if len(got) == len(wanted) > 0 and all(map(is_same, got, wanted)):
                    break
            else:
                raise AssertionError([[each[:2] for each in got], [each[:2] for each in wanted], least, most])
            run.publish(run.length)
            live.settled(publisher)
            live.on_awt(live.display.gallery.follow)  # some commands move the sliders
            now = live.images[-1]
            assert (now is image) == case.stays
            if not case.stays:
                assert str(image.strip.text).startswith("not live: changed by")
            live.until(lambda: live.position(now.imp)[2] == run.length)  # noqa: B023
            for t, c in itertools.product(range(run.length), range(case.channels)):
                assert check_stamp(live.pixels(now.imp, c + 1, 1, t + 1)) == (t, c, 0)
            channel = live.position(now.imp)[0] - 1
            assert check_stamp(pixels_of(now.imp.getProcessor())) == (run.length - 1, channel, 0)
            kept = [each for each in opened if each.getWindow() is not None and (each != imp or not case.stays)]
            assert all(map(is_same, map(read, kept), got)), "written into after the command"
            live.on_awt(close_all(*kept))


def test_a_macro_of_several_commands_and_a_file_during_a_run(live: LiveFiji, tmp_path: Path):
    """It duplicates, projects, calculates, filters, undoes, saves and opens; frames take the place of those before."""
    with live.publisher() as publisher:
        for number in range(2):
            publisher.new_stream(f"run {number}")
            run = Run(live, publisher, Case(2, "", "{other}", True))
            imp, path = run.image.imp, tmp_path / f"live {number}.tif"
            try:
                macro = f"""
                    selectImage({int(imp.getID())});
                    run("Duplicate...", "title=copy duplicate");
                    run("Z Project...", "projection=[Sum Slices] all");
                    rename("sum");
                    imageCalculator("Add create 32-bit stack", "copy", "{imp.getTitle()}");
                    rename("twice");
                    selectImage({int(imp.getID())});
                    run("Duplicate...", "title=last duplicate channels=2 frames=3-4");
                    run("Gaussian Blur...", "sigma=3 stack");
                    run("Undo");
                    selectImage({int(imp.getID())});
                    saveAs("Tiff", "{path}");
                    open("{path}");
                    rename("opened");
                    return "" + nSlices;
                """
                assert str(java("ij.IJ").runMacro(macro)) == str(2 * FRAMES)
            finally:
                run.end()
            made = {title: java("ij.WindowManager").getImage(title) for title in ("copy", "twice", "last", "opened")}
            for t, c in itertools.product(range(FRAMES), range(2)):
                frame = stamped(t, c, 0, SHAPE)
                for title in ("copy", "opened"):
                    np.testing.assert_array_equal(live.pixels(made[title], c + 1, 1, t + 1), frame)
                np.testing.assert_array_equal(live.pixels(made["twice"], c + 1, 1, t + 1), frame * 2.0)
            assert list(made["last"].getDimensions()) == [48, 64, 1, 1, 2]
            run.publish(run.length)
            live.settled(publisher)
            assert live.images[-1] is run.image
            for t, c in itertools.product(range(run.length), range(2)):
                assert check_stamp(live.pixels(imp, c + 1, 1, t + 1)) == (t, c, 0)
            live.on_awt(close_all(*(each for each in images().values() if each != imp)))


def close_all(*every: Any) -> Callable[[], None]:
    def close() -> None:
        for each in every:
            each.changes = False
            each.close()

    return close
