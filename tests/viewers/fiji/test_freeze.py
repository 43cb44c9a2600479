"""Plugins ▸ scopecast ▸ Freeze: ImageJ's picture stands while frames go on into the stacks."""

from __future__ import annotations

import numpy as np
import pytest

from fiji_live import pixels_of
from scopecast_viewers.fiji.awt import java

SHAPE = (64, 48)


def frame(value):
    plane = np.full(SHAPE, value, "uint8")
    plane[0, :2] = 0, 255
    return plane


def middle(image) -> int:
    """Return how bright the middle of ImageJ's picture is; to be called on the window thread."""
    return int(pixels_of(java("ij.process.ColorProcessor")(image.imp.getImage()))[32, 24, 0])


def switch(live, on):
    def fire():
        menu = live.display.menu.menu
        (box,) = [menu.getItem(at) for at in range(menu.getItemCount()) if str(menu.getItem(at).getLabel()) == "Freeze"]
        box.setState(on)
        event = java("java.awt.event.ItemEvent")
        box.dispatchEvent(event(box, event.ITEM_STATE_CHANGED, "Freeze", event.SELECTED if on else event.DESELECTED))

    live.on_awt(fire)


@pytest.mark.parametrize("axis", ["t", ""], ids=["series", "live mode"])
def test_frozen_the_picture_stands_and_what_came_meanwhile_is_in_the_stack(live, axis):
    with live.publisher(SHAPE, "uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")

            def publish(*values):
                for value in values:
                    publisher.publish(frame(value), axes={"t": value} if axis else {})
                assert publisher.flush(30)

            publish(100, 110)
            live.settled(publisher)
            image = live.until(lambda run=run: next((i for i in live.images if f"run {run}" in i.title), None))

            def show_values(image=image):
                image.imp.setDisplayRange(0, 255)
                return True

            live.on_awt(show_values)
            live.until(lambda image=image: middle(image) == 110)
            switch(live, True)
            publish(200, 210)
            live.until(lambda image=image: image.stack.version >= 4)
            # Whatever makes ImageJ ask for the pixels anew, and paint.
            live.on_awt(lambda image=image: image.imp.setSlice(image.imp.getCurrentSlice()))
            live.on_awt(lambda image=image: image.imp.updateAndRepaintWindow())
            assert live.on_awt(lambda image=image: middle(image)) == 110
            live.until(lambda image=image: "frozen" in image.strip.text)
            switch(live, False)
            live.until(lambda image=image: middle(image) == 210)
            live.until(lambda image=image: "frozen" not in image.strip.text)
            if axis:
                assert int(live.pixels(image.imp, frame=101)[32, 24]) == 200
