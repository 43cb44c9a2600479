"""The contrast that channels are shown in, as it is on napari's canvas."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt

from cells import CELL_SHAPE, cell, dark


def middle(live) -> float:
    """Return how bright the middle of the canvas is, 0 to 255."""
    return float(np.max(picture(live)[0]))


def border(live) -> float:
    """Return how bright the picture is beside the cell, on average."""
    return float(np.mean(np.max(picture(live)[1], axis=-1)))


def picture(live):
    live.qtbot.wait(20)
    seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
    height, width = seen.shape[:2]
    reach = min(height, width) // 2
    corner = int(0.7 * reach)
    return seen[height // 2, width // 2], seen[
        height // 2 - corner - 20 : height // 2 - corner + 20, width // 2 - corner - 20 : width // 2 - corner + 20
    ]


def publish(live, publisher, *frames, channel=None):
    for t, frame in enumerate(frames):
        publisher.publish(frame, axes={"t": t} | ({"c": channel} if channel else {}))
        live.settled(publisher)
    live.qtbot.wait(20)


def test_cells_are_seen_and_the_background_is_dark_after_a_shutter_was_closed(live):
    with live.publisher(CELL_SHAPE) as publisher:
        for behind, closed in (("noise", dark()), ("flat", np.full(CELL_SHAPE, 100, "uint16"))):
            publisher.new_stream(behind)
            publish(live, publisher, closed, closed, closed, cell(), cell())
            assert middle(live) > 200, behind
            assert border(live) < 15, behind
            layer = live.layer(behind)
            live.until(lambda layer=layer: layer.contrast_limits_range[1] >= 4200)
            assert layer.contrast_limits_range[1] == 8191, "the slider reaches as far as the camera's bits"


def test_a_signal_that_grows_does_not_saturate(live):
    with live.publisher(CELL_SHAPE) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            publish(live, publisher, *(cell(int(500 * 1.6**t)) for t in range(6)))
            frame = cell(int(500 * 1.6**5))
            frame[60:68, 60:68] = 300 * 1.6**5
            publish(live, publisher, *(cell(int(500 * 1.6**t)) for t in range(6)), frame)
            assert 100 < middle(live) < 200, "what is darker than the cell is shown so"
            assert border(live) < 15
            assert live.layer(f"run {run}").contrast_limits_range[1] >= frame.max()


def test_what_the_user_sets_is_the_channel_s_until_auto_of_all_or_of_one_by_the_menu(live):
    with live.publisher(CELL_SHAPE) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=["DAPI", "FITC"])
            publish(live, publisher, cell(), cell(), channel="DAPI")
            publish(live, publisher, cell(), channel="FITC")
            dapi, fitc = (live.layer(f"{name} · run {run}") for name in ("DAPI", "FITC"))
            fitc.visible = False
            if run == 0:
                assert middle(live) > 200
                dapi.contrast_limits = (0, 16000)
            live.until(lambda: not live.view.contrast.isChecked())
            assert middle(live) == pytest.approx(4200 / 16000 * 255, abs=4)
            publish(live, publisher, *[cell(9000)] * 3, channel="DAPI")
            assert middle(live) == pytest.approx(9000 / 16000 * 255, abs=4), "it stays, whatever comes"
            publisher.publish(cell()[:64, :64], axes={"t": 9, "c": "DAPI"})  # another shape
            live.settled(publisher)
            (other,) = [layer for layer in live.viewer.layers if "(64x64" in layer.name and "DAPI" in layer.name]
            assert tuple(other.contrast_limits) == tuple(dapi.contrast_limits) == (0, 16000)
            assert tuple(fitc.contrast_limits) != (0, 16000)
        live.qtbot.mouseClick(live.view.contrast, Qt.MouseButton.LeftButton)
        assert dapi.contrast_limits[1] < 16000
        assert live.view.contrast.isChecked()
        publisher.new_stream("run 2", channels=["DAPI", "FITC"])
        publish(live, publisher, dark(), cell(2000), channel="DAPI")
        assert middle(live) > 200
        publish(live, publisher, cell(), channel="FITC")
        for channel in ("DAPI", "FITC"):
            live.layer(f"{channel} · run 2").contrast_limits = (0, 60000)
        live.until(lambda: not live.view.contrast.isChecked())
        live.view.contrast.fill()
        entries = {action.text(): action for action in live.view.contrast.channels.actions()}
        assert not entries["Auto: DAPI"].isChecked()
        entries["Auto: DAPI"].trigger()
        assert live.layer("DAPI · run 2").contrast_limits[1] < 5000
        assert tuple(live.layer("FITC · run 2").contrast_limits) == (0, 60000)


def test_saturated_pixels_are_counted_and_marked(live):
    with live.publisher(CELL_SHAPE) as publisher:
        publish(live, publisher, cell())
        live.until(lambda: "frame" in live.view.status.text)
        assert "saturated" not in live.view.status.text
        for run in range(2):
            publisher.new_stream(f"run {run}")
            frame = cell()
            frame[60:68, 60:68] = 65535
            publish(live, publisher, frame)
            live.until(lambda: "saturated: 0.4 %" in live.view.status.text)
            layer = live.layer(f"run {run}")
            limits = tuple(layer.contrast_limits)
            live.view.contrast.fill()
            mark = live.view.contrast.channels.actions()[-1]
            mark.trigger()
            live.until(lambda layer=layer: layer.colormap.name == "saturation")
            assert picture(live)[0].tolist() == [255, 0, 0]
            red = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            red = (red[..., 0] > 200) & (red[..., 1] < 50)
            assert red.mean() < 0.02, "and nothing else"
            assert live.view.contrast.isChecked(), "it is no contrast of the user's"
            mark.trigger()
            assert (layer.colormap.name, tuple(layer.contrast_limits)) == ("gray", limits)
            assert len(set(picture(live)[0].tolist())) == 1
