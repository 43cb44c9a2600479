"""The text on the canvas: the box under it, and how often the canvas is painted for a text."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QObject
from qtpy.QtWidgets import QApplication

from scopecast_viewers.napari.canvas_text import CanvasText


class Paints(QObject):
    """Counts how often the canvas is painted."""

    def __init__(self):
        super().__init__()
        self.count = 0
        for widget in QApplication.topLevelWidgets():
            for canvas in [child for child in widget.findChildren(QObject) if hasattr(child, "frameSwapped")]:
                canvas.installEventFilter(self)

    def eventFilter(self, watched, event):
        self.count += event.type() == QEvent.Type.Paint
        return False


@pytest.fixture
def text(window, qtbot):
    """The text of a viewer whose canvas is white all over."""
    layer = window.add_image(np.full((64, 64), 255, "uint8"), contrast_limits=(0, 255), name="white")
    window.scene.camera.zoom = 100
    overlay = window.canvas.overlays.text
    overlay.color, overlay.box, overlay.box_color, overlay.position = "white", True, "#000000b0", "bottom_left"
    made = CanvasText(window)
    made.write("begin")  # its visual is made when it is first seen
    qtbot.wait(100)
    yield made
    made.write("")
    window.layers.remove(layer)


def dark(viewer):
    """Return how many rows and columns of the canvas's lower left part have something dark."""
    seen = viewer.screenshot(canvas_only=True, flash=False)[-120:, :400, :3].astype(int).mean(axis=2) < 150
    return int(seen.any(axis=1).sum()), int(seen.any(axis=0).sum())


def test_for_a_text_the_canvas_is_painted_once(window, text, qtbot):
    window.canvas.overlays.scale_bar.visible = True
    paints, before = Paints(), -1
    while paints.count > before:  # a window that has just been opened is painted for reasons of its own
        before = paints.count
        qtbot.wait(300)
    paints.count = 0
    for number in range(1, 6):
        text.write(f"0:00:0{number}\nx 5.{number}" + " µm" * (number % 2))
        qtbot.waitUntil(lambda number=number: paints.count >= number, timeout=10_000)
        qtbot.wait(100)
        assert paints.count == number
    window.canvas.overlays.scale_bar.visible = False


def test_the_box_fits_the_text_whatever_it_is_and_goes_with_it(window, text):
    seen = {}
    for said in (
        "9 s",
        "0:02:01.25   exposure 200 ms",
        "9 s\nA1",
        "9 s",
        "",
        "9 s",
        "",
        "0:02:01.25   exposure 200 ms",
    ):
        text.write(said)
        rows, columns = dark(window)
        assert seen.setdefault(said, (rows, columns)) == (rows, columns)
    assert seen[""] == (0, 0)
    height, width = seen["9 s"]
    assert height > 8
    assert seen["0:02:01.25   exposure 200 ms"][1] > 3 * width
    assert seen["9 s\nA1"][0] > 1.5 * height
    window.canvas.overlays.text.box = False  # what the user sets of it holds
    assert dark(window) == (0, 0)
    window.canvas.overlays.text.box = True
    assert dark(window) == seen["0:02:01.25   exposure 200 ms"]
