"""What a new picture makes napari do, and that the picture is the right one when the sliders come after it."""

from __future__ import annotations

import time
from math import inf

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QApplication, QDockWidget, QListView

from scopecast_viewers.napari.data import LayerData
from two_channels import CHANNELS, colours, frame, near


class Paints(QObject):
    """Counts how often the list of layers is painted."""

    def __init__(self, live):
        super().__init__()
        self.count = 0
        dock = live.view.window.findChild(QDockWidget, "layer list")
        (self._view,) = dock.findChildren(QListView)
        self._view.viewport().installEventFilter(self)

    def eventFilter(self, watched, event):
        self.count += event.type() == QEvent.Type.Paint
        return False


@pytest.fixture
def reads(monkeypatch):
    """The layers' data of which napari has read something, in order."""
    seen = []
    read = LayerData.__getitem__

    def counted(self, key):
        seen.append(self)
        return read(self, key)

    monkeypatch.setattr(LayerData, "__getitem__", counted)
    return seen


def test_of_a_new_picture_only_the_canvas_is_painted(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.publish(frame(100))
        live.settled(publisher)
        (mine,) = live.view.layers
        live.until(lambda: mine.painted >= 0)
        QApplication.processEvents()
        paints, swaps = Paints(live), []
        canvas = next(child for child in live.view.window.findChildren(QObject) if hasattr(child, "frameSwapped"))
        canvas.frameSwapped.connect(lambda: swaps.append(1))
        for number in range(5):
            painted = mine.painted
            publisher.publish(frame(100 + number))
            live.until(lambda painted=painted: mine.painted > painted)
            QApplication.processEvents()
        assert len(swaps) >= 5
        assert paints.count == 0


def test_a_step_of_the_sliders_has_napari_paint_no_list_of_layers(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run", sizes={"t": 7})
        for t in range(2):
            publisher.publish(frame(100), axes={"t": t})
            live.settled(publisher)
        (mine,) = live.view.layers
        live.until(lambda: mine.painted >= 0)
        live.qtbot.wait(300)
        paints = Paints(live)
        for t in range(2, 7):
            live.view.sliders_due = 0.0
            painted = mine.painted
            publisher.publish(frame(100), axes={"t": t})
            live.until(lambda t=t, painted=painted: mine.painted > painted and live.point()[0] == t)
            live.qtbot.wait(100)  # a list is painted a moment later
        assert paints.count == 0


def test_a_frame_waits_for_no_timer(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.publish(frame(100))
        live.settled(publisher)
        (mine,) = live.view.layers
        live.until(lambda: mine.painted >= 0)
        for timer in live.view.findChildren(QTimer):
            timer.setInterval(3_600_000)
        for number in range(5):
            painted = mine.painted
            publisher.publish(frame(100 + number))
            live.until(lambda painted=painted: mine.painted > painted)


def test_napari_slices_each_layer_once_for_a_step_of_the_sliders(live, reads):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run", channels=CHANNELS)
        for t in range(4):
            for at, channel in enumerate(CHANNELS):
                reads.clear()
                live.view.sliders_due = 0.0
                publisher.publish(frame(40 + 10 * t + 100 * at), axes={"t": t, "c": channel})
                live.settled(publisher)
                live.until(lambda t=t: live.point()[:1] in ((t,), ()))
                first, *other = [live.layer(f"{name} · run").data for name in CHANNELS if t or name == "DAPI" or at]
                if t > 1:
                    (second,) = other
                    expected = [first, second] if channel == "DAPI" else [second]
                    assert sorted(map(id, reads)) == sorted(map(id, expected)), (t, channel)


def test_the_picture_goes_on_while_the_sliders_rest_and_is_exact_wherever_they_go(live, reads):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=CHANNELS)
            for t in range(3):
                for at, channel in enumerate(CHANNELS):
                    publisher.publish(frame(40 + 10 * t + 100 * at + run), axes={"t": t, "c": channel})
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 2)
            live.view.sliders_due = inf
            for t in range(3, 6):
                reads.clear()
                publisher.publish(frame(40 + 10 * t + run), axes={"t": t, "c": "DAPI"})
                live.until(lambda t=t, run=run: colours(live) == near(DAPI=40 + 10 * t + run, FITC=130 + 10 * t + run))
                dapi = live.layer(f"DAPI · run {run}").data
                assert [data for data in reads if data is not dapi] == [], "the other channel is as it was"
                publisher.publish(frame(140 + 10 * t + run), axes={"t": t, "c": "FITC"})
                live.until(lambda t=t, run=run: colours(live) == near(DAPI=40 + 10 * t + run, FITC=140 + 10 * t + run))
                assert live.point()[0] == 2
            if run:  # frozen, it is the frame that is seen
                live.view.paused = True
                assert live.point()[0] == 5
                assert colours(live) == near(DAPI=91, FITC=191)
                live.view.paused = False
                live.settled(publisher)
            else:  # the user moves a slider before they have come after
                live.viewer.dims.set_point(0, 1)
                assert not live.view.follower.following
                assert colours(live) == near(DAPI=50, FITC=150)
                live.view.sliders_due = 0.0
                live.settled(publisher)
            for t in range(6):
                live.viewer.dims.set_point(0, t)
                assert colours(live) == near(DAPI=40 + 10 * t + run, FITC=140 + 10 * t + run)
            live.view.set_following(True)
            live.view.sliders_due = 0.0
            live.until(lambda: live.point()[0] == 5)


def test_while_the_sliders_rest_each_channel_shows_its_own_plane_of_where_they_are_to_go(live):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("stack", channels=CHANNELS)
        for at, channel in enumerate(CHANNELS):
            for z in range(3):
                publisher.publish(frame(100 * at + 5 * z), axes={"t": 0, "c": channel, "z": z})
        live.settled(publisher)
        live.until(lambda: live.point()[:2] == (0, 2))
        live.view.sliders_due = inf
        for at, channel in enumerate(CHANNELS):
            for z in range(3):
                publisher.publish(frame(30 + 100 * at + 5 * z), axes={"t": 1, "c": channel, "z": z})
                fitc = 110 if channel == "DAPI" else 130 + 5 * z
                live.until(lambda z=z, fitc=fitc: colours(live) == near(DAPI=30 + 5 * z, FITC=fitc))
        assert live.point()[:2] == (0, 2)
        live.view.set_following(False)  # to stay where one is, which is what is seen
        assert live.point()[:2] == (1, 2)
        assert colours(live) == near(DAPI=40, FITC=140)


@pytest.mark.parametrize("of", ["the stream", "the user"])
def test_the_sliders_come_along_where_something_else_that_is_seen_depends_on_them(live, of):
    with live.publisher(dtype="uint8") as publisher:
        publisher.new_stream("run")
        for t in range(5):
            if t == 2 and of == "the user":
                live.viewer.add_image(np.zeros((9, 4, 4), "uint8"), name="mine", opacity=0.1)
            if of == "the stream":
                cells = np.full((64, 64), t + 1, "uint8")
                publisher.publish(cells, kind="labels", name="cells", axes={"t": t})
            publisher.publish(frame(40 + t), axes={"t": t})
            live.settled(publisher)
            if t >= 2:
                live.view.sliders_due = time.monotonic() + 1e6
        assert live.point()[0] == 4
        if of == "the user":
            live.viewer.layers.remove("mine")
