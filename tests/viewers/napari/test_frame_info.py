"""When, where and how the shown frame was taken: on the canvas, and as a table."""

from __future__ import annotations

import numpy as np
from qtpy.QtCore import QObject
from qtpy.QtGui import QGuiApplication

from receivers import stamped
from scopecast_viewers.napari.frame_info import FrameButton
from scopecast_viewers.receiving.metadata import read_recorded

SHAPE = (240, 320)


def publish_run(publisher, title, *, level):
    publisher.new_stream(title, channels=("DAPI", "FITC"), positions=("A1",), sizes={"t": 3, "p": 1, "c": 2})
    for t in range(3):
        for c, exposure in (("DAPI", 10), ("FITC", 200)):
            image = np.maximum(stamped(t, ("DAPI", "FITC").index(c), 0, SHAPE) % 50, level)
            said = {
                "elapsed_s": 60.0 * t + 1.25,
                "exposure_ms": exposure,
                "x_um": 5.0,
                "y_um": -2.5,
                "z_um": 100.25 + t,
            }
            said |= {"time": f"2026-11-29T12:0{t}:01+00:00", "camera": {"gain": 2}}
            publisher.publish(image.astype("uint16"), axes={"t": t, "p": 0, "c": c}, metadata=said)


def go(live, t):
    live.viewer.dims.set_point(list(live.viewer.dims.axis_labels).index("t"), t)


def corner(live):
    """Return the part of the canvas where the text is, as levels of gray."""
    return live.viewer.screenshot(canvas_only=True, flash=False)[-60:, :330, :3].astype(int).mean(axis=2)


def told(live):
    return str(live.viewer.canvas.overlays.text.text)


def rows(live):
    table = live.view.frame_info.table
    return {table.item(row, 0).text(): table.item(row, 1).text() for row in range(table.rowCount())}


def test_time_and_place_are_on_the_canvas_also_when_scrolling_back(live):
    """They are legible on a bright picture as on a dark one, the same whenever one comes back to a frame."""
    with live.publisher(shape=SHAPE, budget=32 * 2**20) as publisher:
        for run, level in enumerate((0, 60000)):
            publish_run(publisher, f"run {run}", level=level)
            live.settled(publisher)
            live.viewer.layers.selection.select_only(live.viewer.layers[f"DAPI · run {run}"])
            live.view.set_following(False)
            live.viewer.scene.camera.zoom *= 2  # the picture is under the text
            for layer in live.viewer.layers:
                layer.contrast_limits = (0, 60) if level else (0, 5000)
            pictures = {}
            for t, elapsed in ((2, "0:02:01.25"), (0, "1.25 s"), (1, "0:01:01.25"), (2, "0:02:01.25")):
                go(live, t)
                live.until(lambda elapsed=elapsed: told(live).startswith(elapsed))
                first, second = told(live).split("\n")
                assert first.endswith("10 ms")
                assert second == f"A1   x 5.0 y -2.5 z {100.25 + t:.1f} µm"
                seen = corner(live)
                assert np.ptp(seen) > 150, "the text can't be told from what it is on"
                assert np.percentile(seen[4:52, 8:120], 25) < 100, "no dark box is under the text"
                if t in pictures:
                    assert not (np.abs(seen - pictures[t]) > 60).any()
                assert all((np.abs(seen - each) > 60).sum() > 20 for at, each in pictures.items() if at != t)
                pictures[t] = seen
            live.view.frame_info.on_canvas = False
            live.until(lambda: not live.viewer.canvas.overlays.text.visible)
            assert np.abs(corner(live) - pictures[2]).mean() > 3
            live.view.frame_info.on_canvas = True


def test_what_is_told_comes_onto_the_canvas_with_its_picture(live):
    seen = []
    with live.publisher(shape=SHAPE, budget=32 * 2**20) as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            for t in range(4):
                image = stamped(t, 0, 0, SHAPE)
                publisher.publish(image, axes={"t": t}, metadata={"elapsed_s": 10.0 * run + t})
                live.until(lambda text=f"{10 * run + t}.": told(live).startswith(text))
                (mine,) = [each for each in live.view.layers if each.stream.about.title == f"run {run}"]
                live.until(lambda mine=mine: mine.painted == mine.shown.sequence)
                if not (run or t):
                    canvas = next(
                        child for child in live.view.window.findChildren(QObject) if hasattr(child, "frameSwapped")
                    )
                    canvas.frameSwapped.connect(
                        lambda: seen.extend((told(live), each.shown) for each in live.view.layers if each.shown)
                    )
        assert len(seen) >= 6
        for text, tag in seen:
            assert read_recorded(tag.metadata).elapsed == text.split("   ", 1)[0]
        publisher.new_stream("of frames that say nothing, the time of publishing is told")
        for t in range(2):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        live.settled(publisher)
        live.until(lambda: told(live).count(":") == 2 and " s   " in told(live))


def test_all_that_is_known_of_the_shown_frame_is_a_table(live):
    button = FrameButton(live.view)
    button.fill()
    button.choices.actions()[1].trigger()
    with live.publisher(shape=SHAPE, budget=32 * 2**20) as publisher:
        for run in range(2):
            publish_run(publisher, f"run {run}", level=0)
            live.settled(publisher)
            live.view.set_following(False)
            for layer, exposure, t in (("DAPI", "10 ms", 1), ("FITC", "200 ms", 1), ("FITC", "200 ms", 0)):
                name = f"{layer} · run {run}"
                live.viewer.layers.selection.select_only(live.viewer.layers[name])
                go(live, t)
                live.until(lambda name=name, t=t: rows(live).get("layer") == name and rows(live).get("t") == str(t))
                seen = rows(live)
                assert (seen["exposure"], seen["position"], seen["camera.gain"]) == (exposure, "A1", "2")
                assert seen["stage z"] == f"{100.25 + t:.3f} µm"
                assert seen["time"].endswith(("+00:00", "Z")) or seen["time"][:10] in ("2026-11-29", "2026-11-30")
    table = live.view.frame_info.table
    assert table.isVisible()
    table.clearSelection()
    row = next(row for row in range(table.rowCount()) if table.item(row, 0).text() == "exposure")
    table.item(row, 1).setSelected(True)
    table.copy()
    assert QGuiApplication.clipboard().text() == "200 ms"
    table.selectRow(row)
    table.copy()
    assert QGuiApplication.clipboard().text() == "exposure\t200 ms"
    button.fill()
    button.choices.actions()[1].trigger()
    assert not table.isVisible()
    live.view.frame_info.as_table = True
    assert table.isVisible(), "it comes back after it was closed"
