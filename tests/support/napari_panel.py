"""The plugin's panel in a napari window of the test's own process."""

from __future__ import annotations

from qtpy.QtCore import Qt

from napari_live import sliced
from scopecast import Publisher

__all__ = ["Opened", "rows_of", "words"]

SHAPE = (64, 48)


class Opened:
    """The panel in a window, opened as the Plugins menu does, and publishers for it."""

    def __init__(self, viewer, qtbot):
        self.viewer, self.qtbot = viewer, qtbot
        self.dock, self.panel = viewer.window.add_plugin_dock_widget("scopecast", "Live streams")
        self.until(lambda: self.panel.session is not None and self.receiver.running)

    @property
    def receiver(self):
        return self.panel.session.receiver

    @property
    def view(self):
        return self.panel.session.view

    def until(self, condition, timeout=20.0):
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=int(timeout * 1000))

    def publisher(self, title="cells", shape=SHAPE, dtype="uint16", *, attached=True, **arguments):
        publisher = Publisher(
            "napari", title=title, **{"policy": "every", "budget": 8 * 2**20, "linger": 0.0, **arguments}
        )
        publisher.open(shape, dtype, wait=10.0)
        if attached:
            self.until(lambda: rows_of(publisher))
        return publisher

    def row(self, name):
        return {row.name.text(): row for row in self.panel._rows.values()}.get(name)

    def until_row(self, name, text):
        """Wait until a row says something, in any of its lines."""
        self.until(lambda: (row := self.row(name)) is not None and text in words(row))

    def click(self, button):
        self.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)

    def shown(self, publisher):
        """Wait until all that was published is on the layers."""
        self.until(lambda: publisher.flush(0))
        self.until(lambda: not self.view._changed and not self.view.layers.incomplete and not self._behind())
        assert not self.view.problems

    def _behind(self):
        layers = self.view.layers
        versions = {key: live.version for key, live in layers._layers.items()}
        if any(stream.newest is not None and not self.view.scene.knows(stream) for stream in self.receiver.streams):
            return True
        parts = (part for stream in self.view.scene.streams for part in layers.tiling.parts(stream))
        return any(versions.get((stack, *at)) != stack.version for stack, *at in parts)

    def pixels(self, name):
        """Return what the layer has sliced for the canvas."""
        return sliced(self.viewer.layers[name])

    def end(self):
        """End the session and its panel; a window that others use later must know nothing of them."""
        session = self.panel.session
        self.viewer.layers.clear()
        session.display.close()
        session.receiver.close()
        if self.viewer.window.dock_widgets.get("Live streams (scopecast)") is not None:
            self.viewer.window.remove_dock_widget(self.dock)
        session.setParent(None)
        session.view.setParent(None)
        session.deleteLater()
        session.view.deleteLater()


def rows_of(publisher):
    return [row for row in publisher.stats().receivers if row.attached]


def words(row):
    labels = (row.name, row.figures, row.problem, row.counts, row.source)
    return " ".join(label.text() for label in labels).replace("\N{NO-BREAK SPACE}", " ")
