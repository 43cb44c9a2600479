"""The tools of the live view: what its buttons and keys do to the picture on napari's canvas."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import tifffile
import zarr
from napari.utils.notifications import notification_manager
from qtpy.QtCore import Qt
from qtpy.QtGui import QImage
from qtpy.QtWidgets import QFileDialog

from scopecast_viewers.napari.measures import COLORS
from two_channels import CHANNELS, frame


def picture(live):
    return live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def middle(live):
    """Return the colour in the middle of the canvas, (r, g, b)."""
    seen = picture(live)
    return tuple(int(part) for part in seen[seen.shape[0] // 2, seen.shape[1] // 2])


def plain(live):
    """Show the values of pixels as they are: the first channel in green, the second in red."""
    for each in live.view.layers:
        layer = each.layer
        layer.contrast_limits, layer.gamma = (0, 255), 1.0
        if each.channel_name in CHANNELS:
            layer.colormap = ("green", "red")[CHANNELS.index(each.channel_name)]


def near(*expected):
    return pytest.approx(expected, abs=3)


def press(live, key, modifier=Qt.KeyboardModifier.NoModifier):
    window = live.view.window
    window.activateWindow()
    live.until(window.isActiveWindow)
    live.qtbot.keyClick(window, key, modifier)


def test_frozen_the_picture_stands_while_frames_go_on_into_the_stack(live, tmp_path):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}")
            for t in range(2):
                publisher.publish(frame(100 + 10 * t), axes={"t": t})
            live.settled(publisher)
            plain(live)
            press(live, Qt.Key.Key_F7)
            assert live.view.paused
            live.until(lambda: "frozen" in live.view.status.text)
            for t in range(2, 5):
                publisher.publish(frame(200 + 10 * t), axes={"t": t})
            live.until(lambda: publisher.flush(0))
            live.until(lambda: live.view.followed.received == 5)
            live.viewer.layers[-1].refresh()  # whatever makes napari slice anew
            assert middle(live) == near(110, 110, 110)
            done = []
            live.view.capture(str(tmp_path / "window.png"), done.append)
            assert done == [""]
            assert middle(live) == near(110, 110, 110), "that others ask for a picture of the window changes nothing"
            if run:  # following ends it as well
                live.view.set_following(False)
                live.view.status.follow.click()
            else:
                press(live, Qt.Key.Key_F7)
            live.until(lambda: not live.view.paused)
            live.settled(publisher)
            assert middle(live) == near(240, 240, 240)
            live.until(lambda: "frozen" not in live.view.status.text)
            live.viewer.dims.set_point(0, 3)
            assert middle(live) == near(230, 230, 230), "what came meanwhile is in the stack"
            live.view.set_following(True)


def publish_runs(live, publisher, numbers):
    for number in numbers:
        stream = publisher.new_stream(f"run {number}")
        for t in range(3):
            publisher.publish(frame(10 * number + t), axes={"t": t}, stream=stream)
    live.until(lambda: publisher.flush(0))


def test_a_run_that_is_frozen_stays_however_many_come_after_it(live, tmp_path, monkeypatch):
    with live.publisher(dtype="uint8") as publisher:
        for first in (1, 11):
            publish_runs(live, publisher, [first])
            live.settled(publisher)
            live.view.set_paused(True)
            publish_runs(live, publisher, range(first + 1, first + 6))
            plain(live)
            for t in range(3):
                live.viewer.dims.set_point(0, t)
                assert middle(live) == near(*[10 * first + t] * 3)
            path = tmp_path / f"run {first}.ome.tiff"
            chosen(monkeypatch, path)
            live.view.tools.save_tiff.trigger()
            live.until(lambda: not live.view.tools.saver.busy)
            assert tifffile.imread(path)[:, 32, 32].tolist() == [10 * first + t for t in range(3)]
            live.view.set_paused(False)
            live.settled(publisher)
            assert f"run {first}" in [stream.about.title for stream in live.view.scene.runs], "it can be brought back"
            publish_runs(live, publisher, [first + 6])
            live.settled(publisher)
            assert f"run {first}" not in [stream.about.title for stream in live.view.scene.runs]


def test_a_run_stays_while_the_user_looks_for_a_folder_for_it(live, tmp_path, monkeypatch):
    with live.publisher(dtype="uint8") as publisher:
        publish_runs(live, publisher, [1])
        live.settled(publisher)

        def choose(*_):
            publish_runs(live, publisher, range(2, 8))
            live.settled(publisher)
            return str(tmp_path / "run.ome.tiff"), ""

        monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
        live.view.tools.save_tiff.trigger()
        live.until(lambda: not live.view.tools.saver.busy)
        assert tifffile.imread(tmp_path / "run.ome.tiff")[:, 32, 32].tolist() == [10, 11, 12]
        publish_runs(live, publisher, [8])
        live.until(lambda: "run 1" not in [stream.about.title for stream in live.receiver.streams])


def test_a_snapshot_is_a_layer_of_the_frame_that_is_shown(live):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=CHANNELS, scale=0.5, steps={"z": 2.0})
            for t in range(2):
                for at, channel in enumerate(CHANNELS):
                    about = {"exposure_ms": 10 + t}
                    publisher.publish(frame(50 + 100 * at + t), axes={"t": t, "c": channel, "z": 3}, metadata=about)
            live.settled(publisher)
            plain(live)
            expected = middle(live)
            live.viewer.layers.selection = {live.layer(f"FITC · run {run}")}
            before = set(live.viewer.layers)
            if run:
                live.view.set_paused(True)
            else:
                press(live, Qt.Key.Key_F8)
            if run:
                publisher.publish(frame(9), axes={"t": 2, "c": "DAPI", "z": 3})
                live.until(lambda: publisher.flush(0))
                live.view.tools.snap.trigger()
            made = [layer for layer in live.viewer.layers if layer not in before]
            assert [layer.name for layer in made] == [f"{channel} · run {run} (t 1, z 3)" for channel in CHANNELS]
            assert live.viewer.layers.selection.active.name == f"FITC · run {run}"
            live.view.set_paused(False)
            publisher.publish(frame(255), axes={"t": 1, "c": "DAPI", "z": 3})
            live.settled(publisher)
            for layer in live.viewer.layers:
                layer.visible = layer in made
            assert middle(live) == pytest.approx(expected, abs=3)
            assert tuple(made[0].scale) == (0.5, 0.5)
            assert "exposure_ms: 11" in made[0].metadata["frame"]
            for layer in made:
                live.viewer.layers.remove(layer)
            for layer in live.viewer.layers:
                layer.visible = True


def chosen(monkeypatch, path, kind=""):
    asked = []

    def choose(_parent, title, default, kinds):
        asked.append((title, default, kinds))
        return str(path), kind or kinds.split(";;")[0]

    monkeypatch.setattr(QFileDialog, "getSaveFileName", choose)
    return asked


def test_the_frame_that_is_shown_is_saved_with_scale_channels_and_metadata(live, tmp_path, monkeypatch):
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=CHANNELS, scale=0.5, colors=["blue", "#ff0000"])
            for t in range(3):
                for at, channel in enumerate(CHANNELS):
                    about = {"exposure_ms": 10 + t}
                    publisher.publish(frame(50 + 100 * at + t), axes={"t": t, "c": channel}, metadata=about)
            live.settled(publisher)
            live.viewer.dims.set_point(0, 1)
            plain(live)
            assert middle(live) == near(151, 51, 0)
            asked = chosen(monkeypatch, tmp_path / f"frame {run}")
            press(live, Qt.Key.Key_F8, Qt.KeyboardModifier.ShiftModifier)
            assert "OME-TIFF (*.ome.tiff);;OME-Zarr (*.ome.zarr)" in asked[0]
            live.until(lambda: not live.view.tools.saver.busy)
            with tifffile.TiffFile(tmp_path / f"frame {run}.ome.tiff") as file:
                pixels, about = file.asarray(), tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            assert [int(plane[32, 32]) for plane in pixels] == [51, 151]
            assert (about["PhysicalSizeX"], about["PhysicalSizeXUnit"]) == (0.5, "µm")
            assert [each["Name"] for each in about["Channel"]] == CHANNELS
            assert [each["ExposureTime"] for each in about["Plane"]] == [11.0, 11.0]
            live.view.set_following(True)


def test_a_run_is_saved_while_frames_go_on_coming(live, tmp_path, monkeypatch):
    tools = live.view.tools
    with live.publisher(dtype="uint8") as publisher:
        for run, form in enumerate((".ome.tiff", ".ome.zarr")):
            publisher.new_stream(f"run: {run}", scale=0.5)
            for t in range(20):
                publisher.publish(frame(100 + t), axes={"t": t})
            live.settled(publisher)
            asked = chosen(monkeypatch, tmp_path / f"run {run}{form}")
            (tools.save_tiff if form == ".ome.tiff" else tools.save_zarr).trigger()
            assert asked[0][1].endswith(f"run_ {run}{form}")
            for t in range(20, 30):
                publisher.publish(frame(100 + t), axes={"t": t})
            live.until(lambda: not tools.saver.busy)
            live.settled(publisher)
            plain(live)
            assert middle(live) == near(129, 129, 129)
            path = tmp_path / f"run {run}{form}"
            pixels = tifffile.imread(path) if form == ".ome.tiff" else zarr.open_group(path, mode="r")["0"][:]
            pixels = pixels.reshape(-1, 64, 64)
            assert 20 <= len(pixels) <= 30
            assert [int(plane[32, 32]) for plane in pixels] == [100 + t for t in range(len(pixels))]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["run 0.ome.tiff", "run 1.ome.zarr"]


def test_saving_tells_how_far_it_is_can_be_stopped_and_says_why_it_failed(live, tmp_path, monkeypatch):
    tools, told = live.view.tools, []
    monkeypatch.setattr(notification_manager, "dispatch", lambda each: told.append(str(each)))
    going, waiting = threading.Event(), threading.Event()
    read = live.receiver.history.read

    def slowly(held):
        waiting.set()
        assert going.wait(60)
        return read(held)

    with live.publisher(dtype="uint8") as publisher:
        for t in range(3):
            publisher.publish(frame(100 + t), axes={"t": t})
        live.settled(publisher)
        live.view.set_paused(True)  # so that nobody but the saving reads
        monkeypatch.setattr(live.receiver.history, "read", slowly)
        chosen(monkeypatch, tmp_path / "run.ome.tiff")
        tools.save_tiff.trigger()
        assert waiting.wait(60)
        live.until(lambda: "saving run.ome.tiff: 0 %" in live.view.status.text)
        assert tools.stop_saving.isVisible()
        tools.save_tiff.trigger()
        assert "wait until that is done, or stop it" in told[-1]
        tools.stop_saving.trigger()
        going.set()
        live.until(lambda: not tools.saver.busy)
        assert "nothing was saved" in told[-1]
        assert not tools.stop_saving.isVisible()
        assert list(tmp_path.iterdir()) == []
        live.until(lambda: "saving" not in live.view.status.text)
        chosen(monkeypatch, tmp_path / "no such folder" / "run.ome.tiff")
        tools.save_tiff.trigger()
        live.until(lambda: not tools.saver.busy)
        assert "run.ome.tiff was not saved: [Errno 2] No such file or directory" in told[-1]
        live.view.set_paused(False)


def test_one_channel_is_seen_alone_in_gray_and_what_the_user_has_set_comes_back(live):
    tools, expected = live.view.tools, {"DAPI": (0, 60, 0), "FITC": (160, 0, 0)}
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", channels=CHANNELS)
            for t in range(2):
                for at, channel in enumerate(CHANNELS):
                    publisher.publish(frame(59 + 100 * at + t), axes={"t": t, "c": channel})
            live.settled(publisher)
            for each in live.view.layers:
                each.layer.contrast_limits = (0, 255)
            if run:
                assert tools.alone.isChecked()
                assert middle(live) == near(160, 160, 160), "the next run is seen in the same way"
                press(live, Qt.Key.Key_F9, Qt.KeyboardModifier.ShiftModifier)
                assert middle(live) == near(*expected["FITC"])
                live.layer("DAPI · run 1").visible = True  # by the eye in the list of layers
                live.until(lambda: not tools.alone.isChecked())
                publisher.publish(frame(60), axes={"t": 2, "c": "DAPI"})
                publisher.publish(frame(160), axes={"t": 2, "c": "FITC"})
                live.settled(publisher)
                assert middle(live) == near(160, 60, 0)
                continue
            plain(live)
            assert middle(live) == near(160, 60, 0)
            for channel in ("DAPI", "FITC"):
                live.viewer.layers.selection = {live.layer(f"{channel} · run 0")}
                if not tools.alone.isChecked():
                    press(live, Qt.Key.Key_F9)
                assert middle(live) == near(*expected[channel])
            press(live, Qt.Key.Key_F9, Qt.KeyboardModifier.ShiftModifier)
            assert middle(live) == near(160, 160, 160)
            press(live, Qt.Key.Key_F9)
            assert middle(live) == near(220, 220, 220)
            press(live, Qt.Key.Key_F9, Qt.KeyboardModifier.ShiftModifier)
            assert middle(live) == near(160, 60, 0)
            tools.alone.trigger()
            tools.gray.trigger()
            for t in range(2, 4):
                publisher.publish(frame(160), axes={"t": t, "c": "FITC"})
                live.settled(publisher)
                assert middle(live) == near(160, 160, 160)


def yellow(live):
    """Return where the canvas is yellow: the rows and columns of the crosshair's lines, and how thick these are."""
    seen = picture(live)
    mask = (seen[..., 0] > 180) & (seen[..., 1] > 140) & (seen[..., 2] < 110)
    rows, columns = (np.flatnonzero(mask.sum(axis=axis) > 100) for axis in (1, 0))
    return rows, columns, seen.shape


def test_a_crosshair_marks_the_middle_of_the_image_of_every_run_however_closely_one_looks(live):
    tools, viewer = live.view.tools, live.viewer
    with live.publisher(shape=(64, 48), dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", scale=0.5 + run)
            for t in range(2):
                publisher.publish(frame(30, (64, 48)), axes={"t": t}, translate=(100.0 * run, 0.0))
            live.settled(publisher)
            active = viewer.layers.selection.active
            if not run:
                press(live, Qt.Key.Key_F5)
            assert viewer.layers.selection.active is active is live.layer(f"run {run}")
            assert viewer.layers[-1].name == "crosshair"
            for zoom in (1.0, 3.0):
                viewer.scene.camera.zoom *= zoom
                rows, columns, (height, width, _) = yellow(live)
                assert 1 <= len(rows) <= 4
                assert 1 <= len(columns) <= 4
                assert abs(np.mean(rows) - height / 2) < 3, "the fitted picture is in the middle"
                assert abs(np.mean(columns) - width / 2) < 3
            viewer.reset_view()
        tools.crosshair.trigger()
        assert len(viewer.layers) == 1
        assert len(yellow(live)[0]) == 0
        tools.crosshair.trigger()
        tools.grid.trigger()
        assert viewer.layers[-1].name == "crosshair, grid of 10 µm"
        plain(live)
        seen = picture(live)
        left = seen[:, seen.shape[1] // 2 - 150 : seen.shape[1] // 2 - 10, 2]  # beside the scale bar
        brighter = np.flatnonzero((left > 60).sum(axis=1) > 100)
        groups = np.split(brighter, np.flatnonzero(np.diff(brighter) > 3) + 1)
        distances = np.diff([np.mean(group) for group in groups])
        assert len(distances) >= 4
        steps = distances / (10 * viewer.scene.camera.zoom)
        assert np.allclose(steps, np.round(steps), atol=0.1), "multiples of 10 µm"
        viewer.layers.remove(viewer.layers[-1])  # the user's way to be rid of it
        publisher.publish(frame(30, (64, 48)), axes={"t": 2})
        live.settled(publisher)
        assert not tools.crosshair.isChecked()
        assert len(viewer.layers) == 1


def square(value, inside):
    plane = frame(value)
    plane[16:32, 16:32] = inside
    return plane


def colours_of(widget):
    """Return how many pixels of a widget, as it is on the screen, have each of the curves' colours."""
    image = widget.grab().toImage().convertToFormat(QImage.Format.Format_RGB32)
    seen = np.frombuffer(image.constBits().asstring(image.sizeInBytes()), "uint32").reshape(image.height(), -1)
    seen = seen[:, : image.width()] & 0xFFFFFF
    return {color: int((seen == int(color[1:], 16)).sum()) for color in COLORS}


def test_shapes_are_measured_live_and_over_time_and_a_line_has_its_profile(live):
    tools, viewer = live.view.tools, live.viewer
    measures = tools.measures
    with live.publisher(dtype="uint8") as publisher:
        for run in range(2):
            publisher.new_stream(f"run {run}", scale=0.5, steps={"z": 1.0})
            for t in range(5):
                publisher.publish(square(20, 100 + 10 * t), axes={"t": t})
            live.settled(publisher)
            if not run:
                press(live, Qt.Key.Key_F4)
                shapes = viewer.layers["measure"]
                assert shapes.mode == "add_rectangle"
                shapes.add(np.array([(17.5, 17.5), (27.5, 27.5)]), shape_type="rectangle")
            live.until(lambda: "140" in measures.table.text())
            assert "25&nbsp;µm²" in measures.table.text()
            live.until(lambda: len(measures.over_time.curves) == 1 and len(measures.over_time.curves[0].y) == 5)
            assert list(measures.over_time.curves[0].y) == [100, 110, 120, 130, 140]
            publisher.publish(square(20, 250), axes={"t": 5})
            live.settled(publisher)
            live.until(lambda: "250" in measures.table.text())
            assert colours_of(measures.over_time)[COLORS[0]] > 20
            viewer.dims.set_point(0, 1)
            live.until(lambda: "110" in measures.table.text())
            live.view.set_following(True)
        assert not measures.profile.isVisible()
        shapes.add(np.array([(20.0, 8.0), (20.0, 40.0)]), shape_type="line")
        live.until(measures.profile.isVisible)
        profile = measures.profile.curves[0]
        assert list(profile.y) == [20.0] * 8 + [250.0] * 16 + [20.0] * 9
        assert profile.x[-1] == 16.0, "in µm"
        assert colours_of(measures.profile)[COLORS[1]] > 20
        shapes.data = [shapes.data[0] + 30.0, shapes.data[1]]  # moved, it measures the frames anew
        live.until(lambda: ">20&nbsp;" in measures.table.text())
        tools.measure.trigger()
        assert not measures.table.isVisible()
        viewer.layers.remove(shapes)
