"""Frames of another machine in a real ImageJ: a preview says that it is one, until the exact pixels have come."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fiji_live import LiveFiji, painted_picture
from receivers import stamped
from scopecast.link import messages as local
from scopecast.remote import codec, messages
from scopecast.remote.companding import Companding
from scopecast.remote.mirror import Mirror
from scopecast.remote.quality import EXACT, LADDER
from scopecast_viewers.fiji.awt import java

PREVIEW = "preview: the exact pixels are still on their way"
SHAPE = (64, 48)


def piece(pixels: np.ndarray, quality: int, *, late: bool, run: int = 1) -> messages.Piece:
    companding = None if LADDER[quality] is EXACT else Companding.covering(pixels)
    data = memoryview(codec.encode(pixels, LADDER[quality], companding))
    numbers = [] if companding is None else list(companding.wire)
    return messages.Piece(
        run, run, 1, quality, "image", "", "<u2", list(SHAPE), [3], data, companding=numbers, late=late
    )  # fmt: skip


def test_a_preview_is_called_one_above_the_image_and_below_it_until_it_is_exact(live):
    sent = stamped(7, shape=SHAPE)
    mirror = Mirror(messages.Source(1, "abcd2345", "camera 1"), "lab-pc", ["fiji"], launch=False)
    try:
        mirror.announce(local.Stream(0, "run", ["t"], {}, [0], [1.0, 1.0], [0.0], "pixel"))
        assert mirror.take(0, piece(sent, 4, late=False))
        image = live.until(lambda: live.images and live.images[0])
        live.until(lambda: PREVIEW in image.strip.text)
        assert str(image.imp.getStack().getSliceLabel(1)).startswith("t 3, preview")
        assert not np.array_equal(live.pixels(image.imp), sent)
        coarse = painted_picture(image)
        assert mirror.take(0, piece(sent, 0, late=True))
        live.until(lambda: PREVIEW not in image.strip.text)
        assert str(image.imp.getStack().getSliceLabel(1)) == "t 3"
        np.testing.assert_array_equal(live.pixels(image.imp), sent)
        live.until(lambda: not np.array_equal(painted_picture(image), coarse))
    finally:
        mirror.close()


def test_previews_are_not_saved_and_the_exact_pixels_are(live, tmp_path):
    mirror = Mirror(messages.Source(1, "abcd2345", "camera 1"), "lab-pc", ["fiji"], launch=False)
    path = tmp_path / "run.tif"
    try:
        for run in range(2):
            sent = stamped(7 + run, shape=SHAPE)
            mirror.announce(local.Stream(run, f"run {run}", ["t"], {}, [0], [1.0, 1.0], [0.0], "pixel"))
            assert mirror.take(run, piece(sent, 4, late=False, run=run))
            image = live.until(lambda run=run: len(live.images) == run + 1 and live.images[run])
            live.until(lambda image=image: PREVIEW in image.strip.text)
            live.on_awt(lambda image=image: java("ij.WindowManager").setCurrentWindow(image.window))
            after = tmp_path / "after"
            macro = f'run("Tiff...", "save=[{path}]"); File.saveString("", "{after}");'
            for save in (
                lambda: java("ij.IJ").doCommand("Tiff..."),
                lambda macro=macro: java("ij.macro.MacroRunner")(macro),
            ):
                save()
                live.until(dialogs)
                other = java("ij.IJ").createImage("other", "8-bit black", 8, 8, 1)
                finished(live, other, "Invert", "")  # whoever has not closed the dialog yet is not waited for
                assert dialogs()
                live.on_awt(lambda: [window.dispose() for window in dialogs()])
                live.until(lambda: not dialogs())
            live.until(lambda: not any(str(each.getName()).endswith("Macro$") for each in threads()))
            assert not path.exists()
            assert not after.exists(), "the macro has ended"
            assert mirror.take(run, piece(sent, 0, late=True, run=run))
            live.until(lambda image=image: PREVIEW not in image.strip.text)
            assert live.display.gallery.why_not_saved(image.imp) == ""
            finished(live, image.imp, "Tiff...", f"save=[{path}]")
            np.testing.assert_array_equal(live.pixels(java("ij.IJ").openImage(str(path))), sent)
            path.unlink()
    finally:
        mirror.close()


def finished(live: LiveFiji, imp: Any, command: str, options: str) -> None:
    """Run a command, on a thread of its own: a dialog, which there must not be, would wait for ever."""
    running = threading.Thread(target=java("ij.IJ").run, args=(imp, command, options), daemon=True)
    running.start()
    live.until(lambda: not running.is_alive(), what=command, instead=titles)


def titles() -> list[str]:
    return [str(window) for window in java("java.awt.Window").getWindows() if window.isShowing()]


def dialogs() -> list[Any]:
    """Return those that say that something is not saved."""
    shown = [each for each in java("java.awt.Dialog").getWindows() if each.isShowing()]
    return [each for each in shown if isinstance(each, java("java.awt.Dialog")) and each.getTitle() == "Not saved"]


def threads() -> list[Any]:
    return list(java("java.lang.Thread").getAllStackTraces().keySet())


def test_imagej_tells_what_is_looked_at_while_it_is_a_preview(live):
    mirror = Mirror(messages.Source(1, "abcd2345", "camera 1"), "lab-pc", ["fiji"], launch=False)
    try:
        mirror.announce(local.Stream(0, "run", ["t"], {}, [0], [1.0, 1.0], [0.0], "pixel"))
        assert mirror.take(0, piece(stamped(7, shape=SHAPE), 4, late=False))
        image = live.until(lambda: live.images and live.images[0])

        def told() -> tuple[list[int], list[int]] | None:
            receivers = mirror.publishers[0].session.receivers
            looks = [receiver.look for receiver in receivers.attached.values() if receiver.look is not None]
            return (looks[0].index, looks[0].region) if looks else None

        live.until(lambda: told() == ([3], []), what="all of it is looked at")
        live.on_awt(lambda: image.window.getCanvas().zoomIn(24, 32))
        live.on_awt(lambda: image.window.getCanvas().zoomIn(24, 32))
        seen = image.window.getCanvas().getSrcRect()
        region = [int(seen.y), int(seen.x), int(seen.height), int(seen.width)]
        assert 0 < region[2] < SHAPE[0], "a part of it is visible"
        live.until(lambda: told() == ([3], region), what="that part is looked at")
    finally:
        mirror.close()
