"""Runs in ImageJ's windows: one that several processes share, and several of one name."""

from __future__ import annotations

import numpy as np

from fiji_live import pixels_of
from run_workers import WELLS, frame, workers
from scopecast_viewers.fiji.awt import java


def test_six_workers_of_a_pipeline_are_one_window_twice_in_a_row(live):
    for run in range(2):
        with workers("fiji") as six:
            for each in six:
                each.done()
            live.until(lambda: len(live.images) == run + 1 and live.images[run].stream.received == 12)  # noqa: B023
        live.until(lambda: all(source.state == "ended" for source in live.receiver.sources))
        live.until(live._up_to_date)  # noqa: SLF001
        image = live.images[run]
        assert java("ij.WindowManager").getImageCount() == run + 1
        assert image.imp.getImageStackSize() == 12
        labels, seen = image.stream.about.labels["well"], {}
        for number in range(1, 13):
            live.on_awt(lambda: image.follow(False) or image.imp.setSlice(number))  # noqa: B023
            place = dict(zip(image.stream.axes, image._slices.place(number), strict=True))  # noqa: SLF001
            at = WELLS.index(labels[place["well"]]), place["t"]
            live.until(lambda: marked(image) == {at}, what=f"the mark of {at} in the picture")  # noqa: B023
            seen[labels[place["well"]], place["t"]] = int(live.on_awt(lambda: image.imp.getProcessor().get(60, 60)))  # noqa: B023
        assert seen == {(well, t): int(frame(well, t)[60, 60]) for well in WELLS for t in range(2)}


def marked(image):
    """Return at which (well, t) the picture that ImageJ paints has its bright mark."""
    picture = pixels_of(java("ij.process.ColorProcessor")(image.imp.getImage())).max(axis=-1)
    bright = picture > 200
    return {(int(y) // 8, int(x) // 8) for y, x in np.argwhere(bright)}


def test_runs_of_one_name_are_numbered_by_runs_and_not_by_what_the_user_makes_of_them(live):
    with live.publisher() as publisher:
        for run in range(3):
            stream = publisher.new_stream("cells")
            publisher.publish(np.full((64, 48), run, "uint16"), axes={"t": 0}, stream=stream)
            publisher.publish(np.ones((64, 48), "uint16"), axes={"t": 0}, stream=stream, kind="labels")
            live.settled(publisher)
            publisher.end_stream(stream)
            for image in live.images[-2:]:
                copy = image.imp.duplicate()
                copy.setTitle(java("ij.WindowManager").getUniqueName(str(image.imp.getTitle())))  # as Duplicate... does
                live.on_awt(copy.show)
        last = live.images[0]
        live.on_awt(lambda: live.display.gallery.hide(last.stream.key))
        live.on_awt(lambda: live.display.gallery.reopen(last.stream.key))
        live.until(lambda: len(live.images) == 6)
        titles = [f"cells{number}{kind}" for number in ("", " (2)", " (3)") for kind in ("", " labels")]
        assert sorted(str(image.imp.getTitle()) for image in live.images) == sorted(titles)
        opened = {str(java("ij.WindowManager").getImage(int(each)).getTitle()) for each in live.on_awt(open_images)}
        assert opened == {*titles, *(f"{title}-1" for title in titles)}


def test_a_run_goes_on_by_its_name_beside_what_a_command_has_made_of_it_and_the_next_has_the_next_number(live):
    with live.publisher() as publisher:
        stream = publisher.new_stream("cells")
        publisher.publish(np.zeros((64, 48), "uint16"), axes={"t": 0}, stream=stream)
        live.settled(publisher)
        changed = live.image()
        java("ij.IJ").run(changed.imp, "8-bit", "")
        live.until(lambda: changed not in live.images)
        publisher.publish(np.zeros((64, 48), "uint16"), axes={"t": 1}, stream=stream)
        live.settled(publisher)
        publisher.new_stream("cells")
        publisher.publish(np.zeros((64, 48), "uint16"), axes={"t": 0})
        live.settled(publisher)
        assert [str(image.imp.getTitle()) for image in live.images] == ["cells-1", "cells (2)"]
        assert str(changed.imp.getTitle()) == "cells"


def open_images():
    return list(java("ij.WindowManager").getIDList())
