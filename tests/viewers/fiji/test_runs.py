"""A run that several processes share, in ImageJ's windows."""

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
