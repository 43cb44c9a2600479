"""The contrast that channels are shown in, as it is in ImageJ's picture."""

from __future__ import annotations

import numpy as np
import pytest

from cells import CELL_SHAPE, cell, dark
from fiji_live import pixels_of
from scopecast_viewers.fiji.awt import java


def painted(image) -> np.ndarray:
    """Return ImageJ's picture, (y, x, 3); to be called on the window thread."""
    return pixels_of(java("ij.process.ColorProcessor")(image.imp.getImage())).astype(int)


def middle(image, colors: slice = slice(None)) -> int:
    """Return how bright the middle of the picture is; `colors` are the parts of red, green and blue that count."""
    return int(painted(image)[64, 64, colors].max())


def border(image) -> float:
    return float(painted(image)[:20, :20].max(axis=-1).mean())


def publish(live, publisher, *frames, channel=""):
    for t, frame in enumerate(frames):
        publisher.publish(frame, axes={"t": t} | ({"c": channel} if channel else {}))
        live.settled(publisher)


def choose(live, text: str) -> None:
    """Choose an entry of Plugins ▸ scopecast."""

    def fire():
        menu = live.display.menu.menu
        items = {str(menu.getItem(at).getLabel()): menu.getItem(at) for at in range(menu.getItemCount())}
        event = java("java.awt.event.ActionEvent")(items[text], 1001, text)
        items[text].dispatchEvent(event)

    live.on_awt(fire)


@pytest.mark.parametrize("channels", [0, 2], ids=["plain", "composite"])
@pytest.mark.parametrize("closed", [dark(), np.full(CELL_SHAPE, 100, "uint16")], ids=["noise", "flat"])
def test_cells_are_seen_and_the_background_is_dark_after_a_shutter_was_closed(live, closed, channels):
    names = ["DAPI", "FITC"][:channels]
    with live.publisher(CELL_SHAPE) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=names)
            for name in names or [""]:
                publish(live, publisher, closed, closed, closed, cell(), cell(), channel=name)
            image = live.image(run)
            live.until(lambda image=image: middle(image) > 200)
            assert live.on_awt(lambda image=image: border(image)) < 25


def test_a_signal_that_grows_does_not_saturate(live):
    with live.publisher(CELL_SHAPE) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            frame = cell(int(500 * 1.3**9))
            frame[60:68, 60:68] = 300 * 1.3**9
            publish(live, publisher, *(cell(int(500 * 1.3**t)) for t in range(10)), frame)
            image = live.image(run)
            live.until(lambda image=image: 100 < middle(image) < 200)
            assert live.on_awt(lambda image=image: border(image)) < 15


@pytest.mark.parametrize("set_by", ["display range", "Brightness/Contrast"])
def test_what_the_user_sets_is_the_channel_s_until_auto(live, set_by):
    dapi = slice(2, 3)  # it is blue, and FITC, whose newest frame stays in the picture, green
    with live.publisher(CELL_SHAPE) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=["DAPI", "FITC"])
            publish(live, publisher, dark(), channel="FITC")
            publish(live, publisher, cell(), cell(), channel="DAPI")
            image = live.image(2 * run)
            if run == 0:
                live.until(lambda image=image: middle(image, dapi) > 200)
                live.on_awt(lambda image=image: set_range(image.imp, set_by))
            publish(live, publisher, *[cell(9000)] * 3, channel="DAPI")
            live.until(lambda image=image: abs(middle(image, dapi) - 9000 / 16000 * 255) <= 3, what="the user's range")
            publisher.publish(cell(9000)[32:96, 32:96], axes={"t": 9, "c": "DAPI"})  # another shape
            live.settled(publisher)
            lut = live.on_awt(lambda run=run: live.image(2 * run + 1).imp.getChannelLut(1))
            assert (float(lut.min), float(lut.max)) == (0, 16000)
        choose(live, "Auto contrast")
        live.until(lambda: middle(live.image(2), dapi) > 200)
        publisher.new_stream("run 2", channels=["DAPI", "FITC"])
        publish(live, publisher, dark(), cell(2000), channel="DAPI")
        live.until(lambda: middle(live.image(4), dapi) > 200)


def set_range(imp, by: str) -> None:
    imp.setPosition(1, 1, imp.getNFrames())
    if by == "display range":
        imp.setDisplayRange(0, 16000)
        imp.updateAndDraw()
    else:
        java("ij.IJ").setMinAndMax(imp, 0, 16000)


def test_saturated_pixels_are_counted_and_marked(live):
    with live.publisher(CELL_SHAPE) as publisher:
        publish(live, publisher, cell())
        live.until(lambda: "frame" in live.image().strip.text)
        assert "saturated" not in live.image().strip.text
        for run in range(2):
            publisher.new_stream(f"run {run}")
            frame = cell()
            frame[60:68, 60:68] = 65535
            publish(live, publisher, frame)
            image = live.image(1 + run)
            live.until(lambda image=image: "saturated: 0.4 %" in image.strip.text)
            live.on_awt(lambda: live.display.gallery.mark_saturation(True))
            live.until(lambda image=image: painted(image)[64, 64].tolist() == [255, 0, 0])
            seen = live.on_awt(lambda image=image: painted(image))
            assert ((seen[..., 0] > 200) & (seen[..., 1] < 50)).sum() == 64, "and nothing else"
            live.on_awt(lambda: live.display.gallery.mark_saturation(False))
            live.until(lambda image=image: len(set(painted(image)[64, 64].tolist())) == 1)
            live.until(lambda image=image: painted(image)[64, 40].max() > 10)


def windows(kind: str, title: str = "") -> list:
    """Return the windows of a class that are on the screen."""
    every = java("java.awt.Window").getWindows()
    return [
        each for each in every if each.isShowing() and isinstance(each, java(kind)) and title in str(each.getTitle())
    ]


def press(live, button) -> None:
    event = java("java.awt.event.ActionEvent")
    live.on_awt(lambda: button.dispatchEvent(event(button, event.ACTION_PERFORMED, button.getActionCommand())))


def buttons(container):
    for each in container.getComponents():
        if isinstance(each, java("java.awt.Button")):
            yield each
        elif isinstance(each, java("java.awt.Container")):
            yield from buttons(each)


@pytest.fixture
def adjuster(live):
    """ImageJ's own window Brightness/Contrast."""
    java("ij.IJ").doCommand("Brightness/Contrast...")
    window = live.until(lambda: next(iter(windows("ij.plugin.frame.ContrastAdjuster")), None))
    yield window
    live.on_awt(window.close)


def set_by_window(live, adjuster, imp, text: str) -> tuple[float, float]:
    """Press a button of that window, and return the range that ImageJ has given the first channel."""
    live.until(lambda: int(imp.getC()) == 1, what="the first channel, which came last, is the one whose range is set")
    before = live.on_awt(lambda: limits(imp))
    live.on_awt(lambda: java("ij.WindowManager").setCurrentWindow(imp.getWindow()))
    press(live, next(each for each in buttons(adjuster) if str(each.getLabel()) == text))
    if text == "Set":
        dialog = live.until(lambda: next(iter(windows("ij.gui.GenericDialog")), None))
        low, high = list(dialog.getNumericFields())[:2]
        live.on_awt(lambda: (low.setText("0"), high.setText("16000")))
        press(live, dialog.getButtons()[0])
    return live.until(lambda: limits(imp) != before and limits(imp), what="limits that ImageJ has set")


def limits(imp) -> tuple[float, float]:
    """Return the range of the first channel."""
    shown = imp.getChannelLut(1) if imp.isComposite() else imp.getProcessor().getLut()
    return float(shown.min), float(shown.max)


@pytest.mark.parametrize("names", [[""], ["DAPI", "FITC"]], ids=["plain", "composite"])
@pytest.mark.parametrize("button", ["Auto", "Reset", "Set"])
@pytest.mark.parametrize("more", [True, False], ids=["during a run", "after its last frame"])
def test_the_buttons_of_imagej_s_window_are_the_user_s_choice_for_the_channel(live, adjuster, button, names, more):
    """As its sliders are: for what comes next, and in the next run."""
    with live.publisher(CELL_SHAPE) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=[name for name in names if name])
            for name in reversed(names):
                publish(live, publisher, cell(), cell(), channel=name)
            image = live.image(run)
            if run == 0:
                live.until(lambda image=image: middle(image) > 30)
                low, high = set_by_window(live, adjuster, image.imp, button)
                assert button != "Set" or (low, high) == (0, 16000)
            if run or more:
                publish(live, publisher, *[cell(9000)] * 3, channel=names[0])
            peak = 9000 if run or more else 4200
            wanted = float(np.clip((peak - low) / (high - low), 0, 1) * 255)
            live.until(
                lambda image=image, wanted=wanted: abs(middle(image, slice(2, 3)) - wanted) <= 3,
                what=f"{wanted} in the picture in the range from {low} to {high}",
            )
            assert live.on_awt(lambda image=image: limits(image.imp)) == (low, high)
