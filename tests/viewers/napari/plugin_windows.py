"""What `test_plugin_windows` runs, each in a pytest of its own: napari windows with the plugin's panel.

Two windows of one process share OpenGL's current context, and what one deletes may be the other's (see
docs/decisions/0006): so each has a process for itself.
"""

from __future__ import annotations

import itertools
import sys
import threading

from qtpy.QtWidgets import QLabel

from napari_panel import Opened, rows_of
from receivers import check_stamp, stamped
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.napari import session as session_module

SHAPE = (64, 48)


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
        # What the user does with it must not keep the window alive: `make_napari_viewer` looks for it at the end.
        viewer.theme = "light"
        for _ in range(2):
            opened.click(opened.panel.pause)
        opened.panel.take_snapshot()
        opened.until(lambda: "live (snapshot)" in viewer.layers and opened.panel._copying is None)
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
        # "napari was closed; 2 frames dropped": those that were on their way.
        assert [record.levelname for record in left] == ["INFO"]
        assert left[0].message.rpartition(": ")[2].split(";")[0] == "napari was closed"
        assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        assert not receiver.running
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
