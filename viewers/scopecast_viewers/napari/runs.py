"""The button "Runs": brings former runs back into the scene, or removes them for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from qtpy.QtGui import QAction
from qtpy.QtWidgets import QMenu, QPushButton

from scopecast_viewers.receiving.status import state_of

if TYPE_CHECKING:
    from scopecast_viewers.napari.scene import Scene
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["RunsButton"]


class _Runs(Protocol):
    """What the button needs of a `LiveView`."""

    @property
    def scene(self) -> Scene: ...

    @property
    def followed(self) -> LiveStream | None: ...

    def show_run(self, stream: LiveStream, shown: bool) -> None: ...

    def remove_runs(self, *streams: LiveStream) -> None: ...


class RunsButton(QPushButton):  # type: ignore[misc]  # qtpy has no types
    """A button with a menu of the runs that the viewer keeps; those in the scene are checked.

    Parameters
    ----------
    view
        Whose runs they are.
    """

    def __init__(self, view: _Runs) -> None:
        super().__init__("Runs")
        self._view = view
        self.setToolTip("The runs that are kept: show earlier ones again, or remove them.")
        self.runs = QMenu(self)
        self.runs.setToolTipsVisible(True)
        self.runs.aboutToShow.connect(self.fill)
        self.setMenu(self.runs)

    def fill(self) -> None:
        """Make the menu's entries: a run each, the newest first, then what removes those that are not shown."""
        view, menu = self._view, self.runs
        menu.clear()
        runs = view.scene.runs[::-1]
        for stream in runs:
            action = QAction(_words(stream), menu)
            action.setCheckable(True)
            action.setChecked(stream in view.scene)
            action.setEnabled(stream is not view.followed)
            action.triggered.connect(lambda on, stream=stream: view.show_run(stream, on))
            menu.addAction(action)
        if not runs:
            menu.addAction("no run yet").setEnabled(False)
        if former := [stream for stream in runs if stream not in view.scene]:
            menu.addSeparator()
            removal = menu.addMenu("Remove")
            for stream in former:
                removal.addAction(_words(stream), lambda stream=stream: view.remove_runs(stream))
            if len(former) > 1:
                removal.addSeparator()
                removal.addAction("all that are not shown", lambda: view.remove_runs(*former))


def _words(stream: LiveStream) -> str:
    """Return what a run is called in the menu, with what tells it from others of this name."""
    names = dict.fromkeys(name for name in (stream.title, stream.about.title) if name)
    count = stream.received or len(stream.annotations)
    text = f"{' · '.join(names)}: {count} {'frame' if stream.received else 'document'}{'' if count == 1 else 's'}"
    return f"{text}, {state_of(stream)}".replace("&", "&&")  # Qt would take a single one for a shortcut
