"""What `test_plugin_windows` runs in a pytest of its own: a napari window with the plugin's panel.

Two windows of one process share OpenGL's current context, and what one deletes may be the other's (see
docs/decisions/0006): so it has a process for itself.
"""

from __future__ import annotations

import itertools
import sys
import threading

from qtpy.QtWidgets import QAbstractButton, QAbstractSpinBox, QLabel

from napari_panel import Opened, rows_of
from receivers import check_stamp, stamped
from scopecast import Publisher
from scopecast.rundir.directory import ENVIRONMENT, RunDirectory
from scopecast_viewers.napari import embedded

SHAPE = (64, 48)


def test_closed_it_detaches_and_its_layers_stay_and_reopened_it_attaches_again(make_napari_viewer, qtbot, caplog):
    viewer = make_napari_viewer(show=True)
    opened = Opened(viewer, qtbot)
    interval = sys.getswitchinterval()
    with opened.publisher() as publisher, caplog.at_level("INFO", "scopecast"):
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        opened.shown(publisher)
        plugins = viewer.window.plugins_menu.actions()
        assert "Live streams (scopecast)" in [action.text() for action in plugins], "as the manual says"
        panel = opened.panel.contentsRect()
        for widget in opened.panel.findChildren((QAbstractButton, QAbstractSpinBox)):
            if widget.isVisibleTo(opened.panel):
                corner = widget.mapTo(opened.panel, widget.rect().bottomRight())
                assert panel.contains(corner), f"{widget} is cut off"
                assert not widget.text() or widget.width() >= widget.minimumSizeHint().width(), (
                    f"{widget} has no room for its text"
                )
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
            assert embedded.CLOSED in left[0].message
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
            opened.click(opened.panel.freeze)
        opened.view.tools.copy_run.trigger()
        opened.until(lambda: "live (snapshot)" in viewer.layers and not opened.view.tools.snapshots.busy)
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


def test_where_nothing_can_be_received_the_panel_says_why_and_begins_when_it_can(
    make_napari_viewer, qtbot, tmp_path, monkeypatch
):
    place = tmp_path / "runs"
    place.write_text("a file, by mistake")
    viewer = make_napari_viewer(show=True)
    with monkeypatch.context() as context:
        context.setenv(ENVIRONMENT, str(place))
        _, panel = viewer.window.add_plugin_dock_widget("scopecast", "Live streams")

        def said():
            return [label.text() for label in panel.findChildren(QLabel) if label.isVisible()]

        qtbot.waitUntil(lambda: any(str(place) in text and ENVIRONMENT in text for text in said()), timeout=20_000)
        assert panel.session is None
        place.unlink()
        qtbot.waitUntil(lambda: panel.session is not None and panel.session.receiver.running, timeout=20_000)
        qtbot.waitUntil(lambda: any("No program" in text for text in said()), timeout=20_000)
        assert not any(str(place) in text for text in said())
        assert len(viewer.window._qt_window.findChildren(type(panel.session))) == 1
        with Publisher("napari", title="camera", policy="every", budget=8 << 20) as publisher:
            publisher.open(SHAPE, wait=10)
            qtbot.waitUntil(lambda: bool(rows_of(publisher)), timeout=20_000)
            publisher.publish(stamped(0, 0, 0, SHAPE))
            qtbot.waitUntil(lambda: len(viewer.layers) == 1, timeout=20_000)
            viewer.close()
            qtbot.waitUntil(lambda: not rows_of(publisher), timeout=20_000)
