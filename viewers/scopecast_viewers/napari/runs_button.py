"""The button "runs": brings former runs back into the scene or removes them, and chooses whom the sliders follow."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from qtpy.QtGui import QAction, QActionGroup
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

    @property
    def side_by_side(self) -> bool: ...

    @property
    def deleted(self) -> int: ...

    def show_run(self, stream: LiveStream, shown: bool) -> None: ...

    def show_alone(self, stream: LiveStream) -> None: ...

    def remove_runs(self, *streams: LiveStream) -> None: ...

    def follow(self, source: str | None) -> None: ...

    def set_side_by_side(self, on: bool) -> None: ...

    def undelete(self) -> None: ...


class RunsButton(QPushButton):  # type: ignore[misc]  # qtpy has no types
    """A button with a menu of the runs that the viewer keeps; those in the scene are checked.

    Parameters
    ----------
    view
        Whose runs they are.
    """

    def __init__(self, view: _Runs) -> None:
        super().__init__("runs")
        self._view = view
        self.setToolTip("The runs that are kept: show earlier ones again, compare or remove them; and what to follow.")
        self.runs = QMenu(self)
        self.runs.setToolTipsVisible(True)
        self.runs.aboutToShow.connect(self.fill)
        self.setMenu(self.runs)

    def fill(self) -> None:
        """Make the menu's entries: a run each, the newest first, then what is to be done with them."""
        view, menu = self._view, self.runs
        menu.clear()
        runs = tuple(sorted(view.scene.runs, key=lambda stream: stream.began, reverse=True))
        words = _words(runs)
        for stream in runs:
            action = QAction(words[stream.key], menu)
            action.setCheckable(True)
            action.setChecked(stream in view.scene)
            action.setEnabled(stream is not view.followed)
            action.triggered.connect(lambda on, stream=stream: view.show_run(stream, on))
            menu.addAction(action)
        if not runs:
            menu.addAction("no runs yet").setEnabled(False)
        menu.addSeparator()
        if len(runs) > 1:
            only = menu.addMenu("Show only")
            for stream in runs:
                only.addAction(words[stream.key], lambda stream=stream: view.show_alone(stream))
        self._add_choice()
        if view.side_by_side or len(view.scene.streams) > 1:
            action = menu.addAction("Side by side")
            action.setCheckable(True)
            action.setChecked(view.side_by_side)
            action.setToolTip("Show the runs beside each other; otherwise they overlap, the upper one on top.")
            action.triggered.connect(view.set_side_by_side)
        if view.deleted:
            menu.addAction("Show deleted layers again", view.undelete)
        if former := [stream for stream in runs if stream not in view.scene]:
            removal = menu.addMenu("Remove")
            for stream in former:
                removal.addAction(words[stream.key], lambda stream=stream: view.remove_runs(stream))
            if len(former) > 1:
                removal.addSeparator()
                removal.addAction("all that are not shown", lambda: view.remove_runs(*former))

    def _add_choice(self) -> None:
        """Let the user choose whom to follow, where there are several."""
        view, sources = self._view, self._view.scene.sources
        if len(sources) < 2:
            return
        choice = self.runs.addMenu("Follow")
        group = QActionGroup(choice)
        titles = [stream.title for stream in sources.values()]
        names = {
            source: stream.title if titles.count(stream.title) == 1 else f"{stream.title} ({source[:4]})"
            for source, stream in sources.items()
        }
        for source, name in [(None, "whichever delivers images"), *names.items()]:
            action = QAction(name.replace("&", "&&"), group)
            action.setCheckable(True)
            action.setChecked(view.scene.chosen == source)
            action.triggered.connect(lambda _on, source=source: view.follow(source))
            choice.addAction(action)


def _words(runs: tuple[LiveStream, ...]) -> dict[tuple[str, int], str]:
    """Return what each run is called in the menu, by its key; those of one name are told apart by when they began."""
    names = {
        stream.key: " · ".join(dict.fromkeys(name for name in (stream.title, stream.about.title) if name))
        for stream in runs
    }
    called = Counter(names.values())
    seconds = Counter((names[stream.key], int(stream.began)) for stream in runs)
    words = {}
    for stream in runs:
        name = names[stream.key]
        if called[name] > 1:
            began = datetime.fromtimestamp(stream.began).astimezone()
            within_a_second = seconds[name, int(stream.began)] > 1
            name += f", {began:%H:%M:%S}" + (f".{began.microsecond // 1000:03}" if within_a_second else "")
        planes = stream.received or sum(len(stack.layout.planes) for stack in stream.stacks)
        count, noun = (planes, "frame") if planes else (len(stream.annotations), "document")
        lost = stream.superseded + stream.dropped
        told = (f"{count} {noun}{'' if count == 1 else 's'}", f"{lost} not shown" * bool(lost), state_of(stream))
        text = f"{name}: {', '.join(filter(None, told))}"
        words[stream.key] = text.replace("&", "&&")  # Qt would take a single one for a shortcut
    return words
