"""The plugin's panel opened and closed, and napari closed with it, each in a window of its own."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading

import pytest
from napari._qt.qt_viewer import QtViewer
from qtpy.QtWidgets import QLabel

from napari_panel import Opened, rows_of
from receivers import check_stamp, stamped
from scopecast import Publisher
from scopecast.runs import RunDirectory
from scopecast_viewers.napari import session as session_module

SHAPE = (64, 48)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def collected():
    """Forget the windows of other modules: `make_napari_viewer` refuses to begin beside one."""
    gc.collect()
    QtViewer._instances.clear()


def test_closed_it_detaches_and_its_layers_stay_and_reopened_it_attaches_again(make_napari_viewer, qtbot, caplog):
    viewer = make_napari_viewer(show=True)
    opened = Opened(viewer, qtbot)
    interval = sys.getswitchinterval()
    with opened.publisher() as publisher, caplog.at_level("INFO", "scopecast"):
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        opened.shown(publisher)
        for turn, close in enumerate(
            (
                lambda: opened.click(opened.dock.title.hide_button),  # the eye
                lambda: opened.dock.destroyOnClose(),  # the cross
            )
        ):
            caplog.clear()
            session = opened.panel.session
            close()
            opened.until(lambda: not rows_of(publisher))
            left = [record for record in caplog.records if "has left" in record.message]
            assert [record.levelname for record in left] == ["INFO"]
            assert session_module.CLOSED in left[0].message
            assert RunDirectory().entries("receiver") == []
            assert check_stamp(opened.pixels("live")) == (turn, 0, 0)
            viewer.layers["live"].refresh()  # from the stack, not only from the canvas
            assert check_stamp(opened.pixels("live")) == (turn, 0, 0)
            assert sys.getswitchinterval() > interval

            opened.dock, opened.panel = viewer.window.add_plugin_dock_widget("scopecast", "Live streams")
            opened.dock.show()
            opened.until(lambda: rows_of(publisher))
            assert opened.panel.session is session, "one session for a window, however often its panel is opened"
            publisher.publish(stamped(turn + 1, 0, 0, SHAPE), axes={"t": turn + 1})
            opened.shown(publisher)
            assert check_stamp(opened.pixels("live")) == (turn + 1, 0, 0)
            assert len(viewer.layers) == 1

        # Behind another panel's tab it is not closed.
        other = viewer.window.add_dock_widget(QLabel("another"), name="another", area="right", tabify=True)
        other.raise_()
        opened.until(lambda: not opened.panel.visibleRegion().isEmpty() or other.isVisible())
        assert opened.panel.session.receiver.running
        assert rows_of(publisher)
        # And napari itself is closed while frames come.
        ended = threading.Event()

        def feed():
            for t in itertools.count(3):
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t}, policy="latest")
                if ended.wait(0.005):
                    return

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            opened.until(lambda: viewer.layers["live"].data.shape[0] > 10)
            caplog.clear()
            session = opened.panel.session
            receiver = session.receiver
            del session
            viewer.close()
            opened.until(lambda: not rows_of(publisher))
            assert feeder.is_alive()
        finally:
            ended.set()
            feeder.join()
        left = [record for record in caplog.records if "has left" in record.message]
        assert [(record.levelname, record.message.rpartition(": ")[2]) for record in left] == [
            ("INFO", "napari was closed")
        ]
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        assert not receiver.running
        assert publisher.stats().balanced


def test_napari_that_is_closed_while_streaming_ends_without_a_word():
    program = (
        "import napari, sys\n"
        "from qtpy.QtCore import QTimer\n"
        "viewer = napari.Viewer()\n"
        "dock, panel = viewer.window.add_plugin_dock_widget('scopecast', 'Live streams')\n"
        "timer = QTimer()\n"
        "def look():\n"
        "    if viewer.layers and viewer.layers[0].data.shape[0] > 10:\n"
        "        timer.stop(); viewer.close()\n"
        "timer.timeout.connect(look); timer.start(20)\n"
        "napari.run()\n"
        "print('napari has ended')\n"
    )
    with Publisher("napari", title="goes on", budget=8 * 2**20, linger=0.0) as publisher:
        publisher.open(SHAPE, "uint16", wait=10.0)
        viewer = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            for t in itertools.count():
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                try:
                    viewer.wait(0.01)
                    break
                except subprocess.TimeoutExpired:
                    continue
            said, errors = viewer.communicate(timeout=30)
        finally:
            viewer.kill()
        assert viewer.returncode == 0, errors
        assert said == "napari has ended\n"
        assert "Traceback" not in errors
        assert "Warning" not in errors
        assert not rows_of(publisher)
        assert publisher.stats().balanced


def test_the_sample_opens_the_panel_and_streams_until_napari_ends(make_napari_viewer, qtbot):
    viewer = make_napari_viewer(show=True)
    viewer.open_sample("scopecast", "simulated")
    panel = viewer.window.dock_widgets["Live streams (scopecast)"]
    qtbot.waitUntil(lambda: len(viewer.layers) == 3, timeout=60_000)
    (entry,) = RunDirectory().living("publisher")
    assert (entry.title, entry.host) == ("Simulated cells", "scopecast simulation")
    names = [layer.name for layer in viewer.layers]
    assert names == ["simulated field of view", "DAPI · cells", "FITC · cells"]
    qtbot.waitUntil(lambda: viewer.dims.point[0] >= 3, timeout=20_000)
    assert panel.session.view.follower.following
    assert not panel.session.view.problems
    assert [str(unit) for unit in viewer.layers[1].units] == ["pixel", "micrometer", "micrometer"]
    viewer.close()
    qtbot.waitUntil(lambda: not RunDirectory().living("publisher"), timeout=20_000)
