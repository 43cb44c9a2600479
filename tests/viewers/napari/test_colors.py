"""Colours that are given by name, as they are on napari's canvas."""

from __future__ import annotations

import logging

import numpy as np

from colors_given import COLORS, ramp


def canvas(live):
    return live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def test_the_colours_that_are_given_for_runs_are_on_the_canvas(live):
    with live.publisher(shape=(60, 100), dtype="uint8") as publisher:
        for given, expected in (case.values for case in COLORS):
            publisher.new_stream(given, channels=["DAPI"], colors={"DAPI": given})
            publisher.publish(ramp(), axes={"c": "DAPI", "t": 0})
            live.settled(publisher)
            live.qtbot.wait(20)
            picture = canvas(live)
            for color in expected:
                assert (np.abs(picture - color).max(axis=-1) < 8).sum() > 500, f"{given}: {color} is not on the canvas"
            live.view._write_status()  # noqa: SLF001 - at its pace otherwise
            told = "the colour 'mangenta' is not known: did you mean 'magenta'?" in live.view.status.text
            assert told == (given == "mangenta"), given


def test_marks_of_an_unknown_colour_have_the_usual_one(live, caplog):
    with live.publisher(shape=(60, 100), dtype="uint8") as publisher, caplog.at_level(logging.WARNING):
        publisher.publish(np.zeros((60, 100), "uint8"), axes={"t": 0})
        for name, color, x in (("known", "hotpink", 25), ("not", "hottpink", 75)):
            style = {"color": color, "size": 20}
            publisher.publish([[30, x]], kind="points", name=name, style=style)
        live.settled(publisher)
        live.until(lambda: len(live.view.annotations) == 2)
        live.qtbot.wait(20)
        picture = canvas(live)
        for color in ((255, 105, 180), (255, 212, 0)):
            assert (np.abs(picture - color).max(axis=-1) < 8).sum() > 200, f"{color} is not on the canvas"
        assert not live.view.problems
    assert "the colour 'hottpink' is not known" in caplog.text
