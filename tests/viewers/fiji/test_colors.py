"""Colours that are given by name, as they are on ImageJ's screen."""

from __future__ import annotations

import numpy as np
import pytest

from colors_given import COLORS, VALUES, ramp
from fiji_live import pixels_of
from scopecast_viewers.fiji.awt import java


def painted(imp):
    return pixels_of(java("ij.process.ColorProcessor")(imp.getImage()))


@pytest.mark.parametrize("channels", [1, 2], ids=["alone", "composite"])
@pytest.mark.parametrize(("given", "expected"), COLORS)
def test_a_colour_that_is_given_is_on_the_screen(live, given, expected, channels):
    with live.publisher(shape=(60, 100), dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=["DAPI", "other"][:channels], colors={"DAPI": given})
            for c, name in enumerate(["DAPI", "other"][:channels]):
                publisher.publish(ramp() if c == 0 else np.zeros_like(ramp()), axes={"c": name, "t": 0})
            live.settled(publisher)
            image = live.image(run)
            picture = live.on_awt(lambda image=image: painted(image.imp))[30, 10::20].astype(int)
            assert np.abs(picture - expected).max() <= 2, f"{picture.tolist()} for {VALUES}"
        live.on_awt(lambda: live.display.gallery.write_status(live.receiver.sources))
        told = "the colour 'mangenta' is not known: did you mean 'magenta'?" in live.image(1).strip.text
        assert told == (given == "mangenta")


def test_marks_have_the_colours_of_css_and_an_unknown_one_is_yellow(live):
    with live.publisher(shape=(60, 100), dtype="uint8") as publisher:
        publisher.publish(np.zeros((60, 100), "uint8"), axes={"t": 0})
        for name, color, x in (("known", "hotpink", 25), ("clear", "#ff69b480", 50), ("not", "hotpnk", 75)):
            square = np.array([[20.0, x], [20, x + 12], [40, x + 12], [40, x]])
            publisher.publish([square], kind="shapes", name=name, style={"edge_color": color, "edge_width": 3})
        live.settled(publisher)
        imp = live.image().imp
        live.until(lambda: imp.getOverlay() is not None and imp.getOverlay().size() == 3)
        flat = live.on_awt(imp.flatten)
        picture = live.on_awt(lambda: painted(flat))
        assert picture[30, 25].tolist() == [255, 105, 180]
        assert np.abs(picture[30, 50].astype(int) - (128, 53, 90)).max() <= 2
        assert picture[30, 75].tolist() == [255, 255, 0]
