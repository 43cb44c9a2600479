"""Plugins ▸ scopecast ▸ Send to acquisition: ImageJ's regions reach the program that listens."""

from __future__ import annotations

import jpype
import numpy as np
import pytest

from scopecast_viewers.fiji.awt import java

SHAPE = (64, 48)
STAGE = {"x_um": 10.0, "y_um": 20.0}


def frame(*spots):
    plane = np.full(SHAPE, 100, "uint16")
    for spot in spots:
        plane[spot] = 5000
    return plane


def entry(live):
    menu = live.display.menu.menu
    items = (menu.getItem(number) for number in range(menu.getItemCount()))
    return next(item for item in items if str(item.getLabel()) == "Send to acquisition")


def offered(live):
    return bool(entry(live).isEnabled())


def send(live):
    event = java("java.awt.event.ActionEvent")
    live.on_awt(lambda: entry(live).dispatchEvent(event(entry(live), event.ACTION_PERFORMED, "send")))


def told(live, text):
    live.until(lambda: live.display.menu.sending.told == text, what=text)


def test_regions_reach_the_program_only_while_it_listens(live):
    with live.publisher(SHAPE, title="camera 1") as publisher:
        publisher.new_stream("overview", scale=0.5)
        for t, spot in enumerate([(5, 7), (40, 30)]):
            publisher.publish(frame(spot), axes={"t": t, "c": "DAPI"}, metadata=STAGE)
        live.settled(publisher)
        imp = live.image().imp
        live.move(imp, 1, 1, 1)
        live.until(lambda: not live.image().following)
        assert not live.on_awt(lambda: offered(live))

        with publisher.marks(timeout=60) as listener:
            live.until(lambda: offered(live))
            send(live)
            told(live, "not sent: nothing is marked: draw points or shapes on the image first")

            # What ImageJ itself finds in the frame under the sliders: the pixel that is bright there.
            java("ij.IJ").run(imp, "Find Maxima...", "prominence=1000 output=[Point Selection]")
            send(live)
            (mark,) = marks = next(listener)
            told(live, "camera 1 has taken the mark")
            assert (mark.kind, mark.vertices.tolist()) == ("point", [[5.0, 7.0]])
            assert mark.stage.tolist() == [[10 + (7 - 23.5) * 0.5, 20 - (5 - 31.5) * 0.5]]
            assert marks.axes == {"t": 0, "c": "DAPI"}
            assert marks.shape == SHAPE

            # A rectangle around whole pixels reaches from the middle of the first, less half a pixel.
            live.on_awt(lambda: imp.setRoi(java("ij.gui.Roi")(10, 20, 4, 6)))
            send(live)
            (mark,) = marks = next(listener)
            assert mark.kind == "rectangle"
            assert mark.vertices.tolist() == [[19.5, 9.5], [19.5, 13.5], [25.5, 13.5], [25.5, 9.5]]
            assert marks.rois() == [(10, 20, 4, 6)]

            # Several in the ROI Manager, of all kinds.
            floats = jpype.JArray(jpype.JFloat)
            polygon = java("ij.gui.PolygonRoi")
            triangle = (floats([1, 9, 1]), floats([1, 1, 9]))
            rois = [
                java("ij.gui.OvalRoi")(2, 4, 10, 20),
                java("ij.gui.Line")(1.0, 2.0, 11.0, 12.0),
                polygon(*triangle, polygon.POLYGON),
                polygon(*triangle, polygon.POLYLINE),
                java("ij.gui.ShapeRoi")(java("ij.gui.Roi")(0, 0, 4, 4)).or_(
                    java("ij.gui.ShapeRoi")(java("ij.gui.Roi")(20, 20, 4, 4))
                ),
            ]
            rois[0].setName("cell 1")
            manager = live.on_awt(java("ij.plugin.frame.RoiManager"))
            try:
                live.on_awt(lambda: [manager.addRoi(roi) for roi in rois])
                live.on_awt(lambda: manager.setSelectedIndexes(jpype.JArray(jpype.JInt)([0, 1, 2, 3, 4])))
                send(live)
                marks = next(listener)
            finally:
                live.on_awt(manager.close)
            assert [mark.kind for mark in marks] == ["ellipse", "line", "polygon", "path", *["rectangle"] * 2] or [
                mark.kind for mark in marks
            ] == ["ellipse", "line", "polygon", "path", *["polygon"] * 2]
            assert marks[0].name == "cell 1"
            assert marks[0].vertices.tolist() == [[3.5, 1.5], [3.5, 11.5], [23.5, 11.5], [23.5, 1.5]]
            assert marks[1].vertices.tolist() == [[2.0, 1.0], [12.0, 11.0]]
            assert marks[2].vertices.tolist() == [[0.5, 0.5], [0.5, 8.5], [8.5, 0.5]]
            assert marks[3].vertices.tolist() == [[1.0, 1.0], [1.0, 9.0], [9.0, 1.0]]
            told(live, "camera 1 has taken the 6 marks")
            marks.refuse("no such objective")
            told(live, "camera 1 has not taken the 6 marks: no such objective")

            many = np.random.default_rng(1).uniform(0, 40, (2, 2000)).astype("float32")
            live.on_awt(lambda: imp.setRoi(java("ij.gui.PointRoi")(floats(many[0]), floats(many[1]))))
            send(live)
            told(live, "not sent: 2,000 items are too many: at most 1,024 are sent at once; select fewer")
            assert int(imp.getRoi().getFloatPolygon().npoints) == 2000  # nothing is lost
        live.until(lambda: not offered(live))


@pytest.mark.fault("P14")
def test_what_was_sent_to_a_program_that_ends_is_told(live):
    with live.publisher(SHAPE, title="camera 1") as publisher:
        publisher.publish(frame(), axes={"t": 0})
        live.settled(publisher)
        listener = publisher.marks()
        live.until(lambda: offered(live))
        live.on_awt(lambda: live.image().imp.setRoi(java("ij.gui.Roi")(10, 20, 4, 6)))
        send(live)
        live.until(lambda: listener.waiting)
    told(live, "camera 1 has not taken the mark: the acquisition has ended")
    assert list(listener) == []
