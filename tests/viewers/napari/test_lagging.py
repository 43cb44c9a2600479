"""What lies on images and comes later than they do: while the sliders follow, the last of it is seen, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scopecast import subscribe

if TYPE_CHECKING:
    from napari_live import Live

SHAPE = (64, 48)
WINDOW = (900, 700)


def cells() -> np.ndarray:
    labels = np.zeros(SHAPE, "int64")
    labels[24:40, 16:32] = 1
    return labels


def told(live: Live) -> str:
    return live.viewer.canvas.overlays.text.text


def test_replies_that_lag_are_seen_on_the_newest_image_and_where_they_belong_when_one_scrubs(live: Live):
    with live.publisher() as publisher, subscribe(policy="every") as frames:
        live.until(lambda: frames.sources)
        for name in ("first", "second"):
            publisher.new_stream(name)
            for t in range(4):
                publisher.publish(np.full(SHAPE, 500 + t, "uint16"), axes={"t": t})
            live.settled(publisher)
            live.until(lambda: live.point()[0] == 3)
            assert not live.is_colored
            for t in range(4):
                frame = next(frames)
                if t in (0, 2):
                    frame.reply(cells(), name="cells")
                    live.until(lambda: not frames.stats().on_the_way)
                    live.until(lambda: live.is_colored)
                    live.until(lambda t=t: f"cells of t {t}" in told(live))
                    assert live.point()[0] == 3
            frame.release()
            live.settled(publisher)
            live.viewer.dims.set_point(0, 1)
            live.until(lambda: not live.is_colored)
            live.until(lambda: "cells" not in told(live))
            live.viewer.dims.set_point(0, 2)
            live.until(lambda: live.is_colored)
            assert "cells" not in told(live), "it is of this frame"
            live.view.set_following(True)
            live.until(lambda: live.point()[0] == 3 and live.is_colored)


def test_labels_and_points_of_another_program_that_lag_are_seen_too_but_not_at_another_z(live: Live):
    with live.publisher() as publisher, live.publisher() as other:
        publisher.new_stream("run")
        other.new_stream("analysis")

        def image(t: int, z: int) -> None:
            publisher.publish(np.full(SHAPE, 500 + t, "uint16"), axes={"t": t, "z": z})
            live.settled(publisher)

        for t in range(3):
            for z in range(2):
                image(t, z)
        other.publish(cells(), kind="labels", name="cells", axes={"t": 1, "z": 1})
        live.settled(other)
        live.until(lambda: live.is_colored)
        live.until(lambda: "cells of t 1" in told(live))
        image(3, 0)
        live.until(lambda: live.point()[:2] == (3, 0) and not live.is_colored)
        image(3, 1)
        live.until(lambda: live.point()[:2] == (3, 1) and live.is_colored)
        # What has come for other planes since is not of this one.
        for t, z in ((3, 0), (4, 0)):
            other.publish(cells(), kind="labels", name="cells", axes={"t": t, "z": z})
        live.settled(other)
        live.until(lambda: "cells of t 1" in told(live))
        assert live.is_colored
        live.view.frame_info.on_canvas = False  # as in a napari of the user's own
        live.until(lambda: "cells of t 1" in live.view.status.text)
        live.view.frame_info.on_canvas = True
        live.layer("cells · analysis").visible = False
        live.until(lambda: not live.is_colored)
        spot = {"kind": "points", "name": "spots", "style": {"size": 12, "color": "#ff0000"}}
        other.publish([[32.0, 24.0]], axes={"t": 2, "z": 1}, **spot)
        live.settled(other)
        live.until(lambda: live.is_colored)
        live.until(lambda: "spots of t 2" in told(live))
        image(4, 0)
        live.until(lambda: live.point()[:2] == (4, 0) and not live.is_colored)
        image(4, 1)
        live.until(lambda: live.point()[:2] == (4, 1) and live.is_colored)
        other.publish(np.empty((0, 2)), axes={"t": 4, "z": 1}, **spot)
        live.settled(other)
        live.until(lambda: not live.is_colored)
        live.viewer.dims.set_point(0, 3)
        live.until(lambda: live.shown("run").max() == 503)
        assert not live.is_colored, "there are none of this frame"
        live.viewer.dims.set_point(0, 2)
        live.until(lambda: live.is_colored)
