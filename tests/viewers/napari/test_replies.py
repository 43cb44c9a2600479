"""What a real napari window shows of a program that looks at the frames and replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from receivers import check_stamp, stamped
from scopecast import subscribe

if TYPE_CHECKING:
    from napari_live import Live

SHAPE = (64, 48)

WINDOW = (900, 700)


def test_a_reply_is_seen_on_its_frame_and_the_window_stays_where_it_is(live: Live):
    with live.publisher() as publisher, subscribe(policy="every") as frames:
        live.until(lambda: frames.sources)
        publisher.new_stream("run", sizes={"t": 4})
        cells = np.zeros(SHAPE, "int64")
        cells[24:40, 16:32] = 1
        for t in range(3):
            publisher.publish(stamped(t), axes={"t": t})
        live.settled(publisher)
        camera, limits = live.viewer.scene.camera.zoom, live.layer("run").contrast_limits
        assert not live.is_colored
        for t in range(3):
            frame = next(frames)
            if t != 1:
                frame.reply(cells, name="cells")
            frame.reply(frame.array * 1000.0, kind="image", name="bright")
        frame.release()
        live.until(lambda: not frames.stats().on_the_way)
        live.settled(publisher)
        assert [layer.name for layer in live.viewer.layers] == ["run", "bright · run", "cells · run"]
        live.layer("bright · run").visible = False
        assert live.point()[0] == 2, "the newest frame, as before"
        live.until(lambda: live.is_colored)
        live.viewer.dims.set_point([0], [1])
        live.until(lambda: not live.is_colored)
        assert check_stamp(live.shown("run")) == (1, 0, 0)
        live.viewer.dims.set_point([0], [0])
        live.until(lambda: live.is_colored)
        assert check_stamp(live.shown("run")) == (0, 0, 0)
        live.layer("bright · run").visible = True
        live.until(lambda: np.array_equal(live.shown("bright · run"), stamped(0) * 1000.0))
        np.testing.assert_array_equal(live.shown("bright · run"), stamped(0) * 1000.0)
        assert live.layer("run").contrast_limits == limits
        assert live.viewer.scene.camera.zoom == camera
        assert live.receiver.streams[0].received == 3
