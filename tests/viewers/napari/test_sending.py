"""Send to acquisition: what is clicked and drawn on napari's canvas reaches the program that listens."""

from __future__ import annotations

import gc
import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest
from qtpy.QtCore import QPoint, Qt
from qtpy.QtWidgets import QWidget

from receivers import stamped

SHAPE = (64, 48)
PIXEL_UM = 0.5
EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "click_to_acquire.py"


def offered(live):
    return live.view.tools.send.isVisible()


def press_f3(live):
    live.view.window.activateWindow()
    live.until(live.view.window.isActiveWindow)
    live.qtbot.keyClick(live.view.window, Qt.Key.Key_F3)


def on_canvas(live, world):
    """Return where a place (y, x) of the world is on the canvas, in pixels from its upper left corner."""
    camera = live.viewer.scene.camera
    return (np.array(world) - camera.center[-2:]) * camera.zoom + np.array(live.viewer.canvas.size) / 2


def click(live, world):
    """Click on the canvas as a user does, and wait until the points layer has one more."""
    layer = live.viewer.layers.selection.active
    native = next(child for child in live.view.window.findChildren(QWidget) if hasattr(child, "frameSwapped"))
    before = len(layer.data)
    y, x = np.round(on_canvas(live, world)).astype(int).tolist()
    live.qtbot.mouseMove(native, QPoint(x, y))
    live.qtbot.mouseClick(native, Qt.MouseButton.LeftButton, pos=QPoint(x, y))
    live.until(lambda: len(layer.data) == before + 1)
    return layer.data_to_world(layer.data[-1])[-2:]


def told(live, text):
    live.until(lambda: live.view.tools.sending.told == text)


def near(place, others):
    """Whether any of others is where a place is, to what the stage's motor resolves."""
    return min(np.abs(np.subtract(other, place)).max() for other in others) < 0.05


def field(number, corner, publisher):
    about = {"x_um": 100.0 * number, "y_um": -50.0, "z_um": 2.0}
    publisher.publish(stamped(number, shape=SHAPE), axes={"p": number}, translate=corner, metadata=about)


def test_points_and_shapes_reach_the_program_only_while_it_listens(live):
    with live.publisher(title="camera 1") as publisher:
        publisher.new_stream("overview", scale=PIXEL_UM)
        publisher.publish(stamped(0, shape=SHAPE), metadata={"x_um": 10.0, "y_um": 20.0})
        live.settled(publisher)
        points = live.viewer.add_points(ndim=2, size=2, name="cells")
        points.mode = "add"
        where = click(live, (12.0, 6.0))
        assert not offered(live)
        press_f3(live)  # nobody listens: nothing happens
        assert live.view.tools.sending.told == ""

        with publisher.marks(timeout=60) as listener:
            live.until(lambda: offered(live))
            button = next(
                each for each in live.view.status.children() if getattr(each, "text", str)() == "send to acquisition"
            )
            live.until(button.isVisible)
            press_f3(live)
            (mark,) = marks = next(listener)
            told(live, "camera 1 has taken the mark")
            assert (marks.layer, marks.shape, marks.axes) == ("cells", SHAPE, {})
            assert mark.kind == "point"
            # Half a pixel of the image is four of the canvas and more.
            assert mark.vertices == pytest.approx(np.array([where]) / PIXEL_UM)
            assert mark.vertices == pytest.approx(np.array([[24.0, 12.0]]), abs=0.5)
            ((y, x),) = mark.vertices
            assert mark.stage == pytest.approx(np.array([[10 + (x - 23.5) * PIXEL_UM, 20 - (y - 31.5) * PIXEL_UM]]))

            box = np.array([[4, 4], [4, 14], [24, 14], [24, 4]], float)
            shapes = live.viewer.add_shapes(name="boxes", scale=(PIXEL_UM,) * 2)
            shapes.add([box, box + 8, box[:2], box[:3]], shape_type=["rectangle", "ellipse", "line", "polygon"])
            live.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
            marks = next(listener)
            told(live, "camera 1 has taken the 4 marks")
            assert [mark.kind for mark in marks] == ["rectangle", "ellipse", "line", "polygon"]
            assert marks[0].vertices == pytest.approx(box)
            assert marks.rois()[:1] == [(4, 4, 11, 21)]
            shapes.mode = "select"
            shapes.selected_data = {1}
            press_f3(live)
            (mark,) = marks = next(listener)
            assert mark.vertices == pytest.approx(box + 8)
            marks.refuse("no such objective")
            told(live, "camera 1 has not taken the mark: no such objective")

            # What can't be sent is said, and stays as it is.
            for spoil, problem in (
                (lambda: setattr(points, "data", np.zeros((5000, 2))), "5,000 items are too many"),
                (lambda: setattr(points, "data", [[500.0, 5.0], [5.0, 5.0]]), "1 of 2 items is"),
                (lambda: setattr(points, "data", np.empty((0, 2))), "nothing is marked"),
                (lambda: live.viewer.layers.selection.select_only(live.viewer.layers[0]), "select the layer of points"),
            ):
                live.viewer.layers.selection.select_only(points)
                spoil()
                number = len(points.data)
                live.view.tools.send.trigger()
                live.until(lambda problem=problem: live.view.tools.sending.told.startswith(f"not sent: {problem}"))
                assert len(points.data) == number
            assert listener.waiting == 0
            live.viewer.layers.selection.select_only(shapes)
            press_f3(live)
            live.until(lambda: listener.waiting == 1)
        live.until(lambda: not offered(live))
        told(live, "camera 1 has not taken the mark: the program no longer takes marks")
        assert not button.isVisible()


@pytest.mark.parametrize("apart", [24.0, 9000.0], ids=["layers of fields", "one picture"])
def test_each_mark_is_of_the_field_that_it_lies_on(live, apart):
    with live.publisher() as publisher, publisher.marks(timeout=60) as listener:
        publisher.new_stream("plate", scale=PIXEL_UM, sizes={"p": 2})
        for number in range(2):
            field(number, (0.0, apart * number), publisher)
        live.settled(publisher)
        live.until(lambda: offered(live))
        shown = [live.layer(each.layer.name).extent.world for each in live.view.layers]
        assert len(shown) == (2 if apart < 100 else 1)
        # One on the first field, two on the second, wherever that lies on the canvas.
        if apart < 100:
            corners = [(0.0, 0.0), (0.0, apart)]
        else:
            (pictured,) = live.view.layers
            layout = pictured.data.stage_layout
            corners = [layout.corners[(("p", number),)] for number in range(2)]
        spots = [(corners[0], (10, 20)), (corners[1], (30, 40)), (corners[1], (5, 6))]
        world = [np.add(corner, np.multiply(pixel, PIXEL_UM)) for corner, pixel in spots]
        live.viewer.add_points(world, size=2)
        press_f3(live)
        one, two = sorted((next(listener) for _ in range(2)), key=len)
        assert (one.axes, two.axes) == ({"p": 0}, {"p": 1})
        # In the one picture, fields lie at whole pixels.
        near = {"abs": 0.01 if apart < 100 else 0.51}
        assert one[0].vertices == pytest.approx(np.array([[10.0, 20.0]]), **near)
        assert np.concatenate([mark.vertices for mark in two]) == pytest.approx(np.array([[30, 40], [5, 6]]), **near)
        assert (one.position, two.position) == ((0.0, -50.0, 2.0), (100.0, -50.0, 2.0))


def test_what_is_clicked_in_an_overview_is_acquired_there_and_lies_there(live):
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
    mm_test_adapters = pytest.importorskip("mm_test_adapters", reason="needs the extra 'pymmcore'")
    from pymmcore_plus import CMMCorePlus

    import scopecast

    about = importlib.util.spec_from_file_location("click_to_acquire", EXAMPLE)
    example = importlib.util.module_from_spec(about)
    about.loader.exec_module(example)
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = CMMCorePlus()
    core.setDeviceAdapterSearchPaths([str(adapters)])
    core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
    core.setProperty("Camera", "OnCameraCCDXSize", 64)
    core.setProperty("Camera", "OnCameraCCDYSize", 48)
    try:
        with scopecast.live(core, "napari", launch=False, policy="every", title="scope", linger=10.0) as backend:
            backend.publisher.open((48, 64), "uint16")
            live.attach(backend.publisher)
            moved = []
            core.events.XYStagePositionChanged.connect(lambda *at: moved.append(at))
            acquiring = threading.Thread(target=example.click_to_acquire, args=(core, backend, 600.0))
            acquiring.start()
            live.until(lambda: offered(live))
            live.settled(backend.publisher)
            before = len(moved)
            points = live.viewer.add_points(ndim=2, size=1.5, face_color="red", border_width=0, name="cells")
            points.mode = "add"
            clicked = [click(live, at) for at in ((-4.0, -9.0), (5.0, 9.0))]
            assert len(moved) == before  # pointing moves nothing
            press_f3(live)
            live.until(lambda: sum(stream.received for stream in live.receiver.streams) == 1 + 2 * 2)
            live.settled(backend.publisher)
            told(live, "scope has taken the 2 marks")
            overview, second = live.receiver.streams
            assert (overview.about.scale, second.about.scale) == ([1.0, 1.0], [0.25, 0.25])
            # The stage was where the clicks are: x to the right, y up, to what its motor resolves.
            stage = [(-event[-1], event[-2]) for event in moved[before:]]
            assert all(near(at, stage) for at in clicked)
            # The layers lie there, and on the screen each point is in the middle of what was acquired of it.
            layers = [each for each in live.view.layers if each.stream is second]
            assert len(layers) == 4
            middles = [each.layer.extent.world[:, -2:].mean(axis=0) for each in layers]
            assert all(near(at, middles) for at in clicked)
            assert all(near(at, clicked) for at in middles)
            live.viewer.layers.move(live.viewer.layers.index(points), len(live.viewer.layers))
            seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)
            for at in clicked:
                y, x = np.round(on_canvas(live, at)).astype(int)
                assert seen[y, x].tolist() == pytest.approx([255, 0, 0], abs=40)
            backend.close()
            acquiring.join(60)
            assert not acquiring.is_alive()
    finally:
        core.unloadAllDevices()
        del core, example
        gc.collect()
