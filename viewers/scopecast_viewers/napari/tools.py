"""The tools of the live view, as actions that have buttons and keys: freeze, snapshots, saving, and what is seen."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QMenu, QPushButton

from scopecast_viewers.napari.buttons import with_menu
from scopecast_viewers.napari.guides import Guides
from scopecast_viewers.napari.measures import Measures
from scopecast_viewers.napari.saver import Saver
from scopecast_viewers.napari.sending import Sending
from scopecast_viewers.napari.snapshot import ShownLayers, Snapshots
from scopecast_viewers.napari.solo import Solo
from scopecast_viewers.receiving.formats import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable

    from qtpy.QtWidgets import QWidget

    from scopecast_viewers.napari.follow import Follower

__all__ = ["LiveTools"]


class _Shows(ShownLayers, Protocol):
    """What the tools need of a `LiveView`."""

    annotations: Any
    follower: Follower
    paused: bool
    following_changed: Any
    paused_changed: Any

    def set_following(self, following: bool) -> None: ...

    def set_paused(self, paused: bool) -> None: ...

    def notify(self) -> None: ...

    def mark(self) -> None: ...


class LiveTools(QObject):  # type: ignore[misc]  # qtpy has no types
    """What the user does with the picture of a live view; the buttons of the status line and of the panel do the same.

    Parameters
    ----------
    view
        The live view.

    Attributes
    ----------
    follow, freeze, snap, snap_file, copy_run, save_tiff, save_zarr, stop_saving : QAction
        What can be done with the frames.
    alone, gray, crosshair, grid, measure : QAction
        What can be seen.
    snapshots : Snapshots
        Copies frames and runs to layers of their own.
    send : QAction
        Send the selected points or shapes to the acquisition; seen only while that takes them.
    sending : Sending
        Does so.
    keep : QAction
        Have the last seconds written; seen only while a recorder keeps them.
    saver : Saver
        Saves frames and runs.
    solo : Solo
        Shows a channel alone, or channels in gray.
    guides : Guides
        The crosshair and the grid.
    measures : Measures
        Measures the shapes that the user has drawn.
    """

    def __init__(self, view: _Shows) -> None:
        super().__init__(view)
        self._view = view
        self.snapshots, self.saver = Snapshots(view), Saver(view)
        self._keys: list[QAction] = []
        self.follow = self._action(
            "follow", "Keep the sliders at the newest frame. Moving a slider stops that.", "F6", view.set_following
        )
        self.freeze = self._action(
            "freeze",
            "Hold the picture still. Frames go on into the stack; afterwards you see the newest.",
            "F7",
            view.set_paused,
        )
        self.snap = self._action(
            "This frame as a layer",
            "Copy the frame of each channel that is shown to a layer of its own, which stays as it is.",
            "F8",
            self.snapshots.take_frame,
            checkable=False,
        )
        self.copy_run = self._action(
            "The whole run as layers",
            "Copy the selected live layers, or those of the run that is followed, to ordinary layers in memory.",
            "",
            self.snapshots.take_run,
            checkable=False,
        )
        self.snap_file = self._action(
            "This frame as a file …",
            "Save the frame of each channel that is shown as OME-TIFF or OME-Zarr, with scale, channels and metadata.",
            "Shift+F8",
            self.saver.save_frame,
            checkable=False,
        )
        tip = "Save what has arrived of the run that is followed. More frames may arrive meanwhile."
        self.save_tiff, self.save_zarr = (
            self._action(f"The run as {name} …", tip, "", partial(self.saver.save_run, form), checkable=False)
            for form, name in FORMATS.items()
        )
        self.stop_saving = self._action(
            "Stop saving", "The unfinished file is deleted.", "", self.saver.stop, checkable=False
        )
        self.stop_saving.setVisible(False)
        self.saver.busy_changed.connect(self.stop_saving.setVisible)
        self.solo = Solo(view.viewer, view.layers, lambda: self.alone.setChecked(False))
        self.alone = self._action(
            "One channel alone",
            "Show the channel of the selected layer, and no other; selecting another one shows that.",
            "F9",
            self._look(self.solo.set_alone),
        )
        self.gray = self._action(
            "In gray", "Show the channels in gray instead of their colours.", "Shift+F9", self._look(self.solo.set_gray)
        )
        self.guides = Guides(view.viewer, self._unmark)
        self.crosshair = self._action(
            "Crosshair", "Mark the middle of the image.", "F5", lambda on: self._mark("crosshair", on)
        )
        self.grid = self._action(
            "Grid", "Lay lines over the image; the name of their layer says how far apart they are.", "Shift+F5",
            lambda on: self._mark("grid", on),
        )  # fmt: skip
        self.measures = Measures(view)
        self.measure = self._action(
            "Measure shapes",
            "Measure what is in the shapes that you draw, live: mean, min, max, area, the mean over time, the profile "
            "of a line.",
            "F4",
            self.measures.show,
        )
        self.measures.shown_changed.connect(self.measure.setChecked)
        self.sending = Sending(view)
        self.send = self._action(
            "send to acquisition",
            "Send the selected items of the selected points or shapes layer, or all of them, to the program that "
            "acquires the images. What is done with them is up to that program.",
            "F3",
            self.sending.send,
            checkable=False,
        )
        self.send.setVisible(False)
        self.keep = self._action(
            "keep the last seconds",
            "Have the recorder write the last seconds, which it has in memory; it says to which files.",
            "",
            self._keep,
            checkable=False,
        )
        self.keep.setVisible(False)
        view.viewer.layers.selection.events.active.connect(self._select)
        view.following_changed.connect(self.follow.setChecked)
        view.paused_changed.connect(self.freeze.setChecked)
        self.follow.setChecked(view.follower.following)

    def _action(self, text: str, tip: str, key: str, done: Callable[..., object], *, checkable: bool = True) -> QAction:
        action: Any = QAction(text, self)
        action.setToolTip(f"{tip} ({key})" if key else tip)
        action.setCheckable(checkable)
        if checkable:
            action.triggered.connect(done)
        else:
            action.triggered.connect(lambda _on: done())
        if key:
            action.setShortcut(key)
            self._keys.append(action)
        return action

    def _look(self, done: Callable[[bool], None]) -> Callable[[bool], None]:
        """Return what does a thing to the layers, and has the view note what it shows since."""

        def do(on: bool) -> None:
            done(on)
            self._view.notify()

        return do

    def _select(self, _event: Any = None) -> None:
        if self.solo.alone and not self._view.follower.moves:  # else it is no choice of the user's
            self._look(lambda _: self.solo.apply())(True)

    def _mark(self, what: str, on: bool) -> None:
        setattr(self.guides, what, on)
        self._view.mark()

    def _unmark(self) -> None:
        self.crosshair.setChecked(False)
        self.grid.setChecked(False)

    def bind_keys(self, widget: QWidget) -> None:
        """Have the keys work in the window of a widget, while the widget is shown."""
        widget.addActions(self._keys)

    def stop(self) -> None:
        """Do nothing more, and stop saving. Idempotent."""
        self.saver.stop()
        self.guides.stop()
        self._view.viewer.layers.selection.events.active.disconnect(self._select)
        with suppress(RuntimeError):  # the window has gone, and its actions with it
            for action in self.findChildren(QAction):
                action.setEnabled(False)

    def look_who_listens(self) -> None:
        """Offer what another program does, while there is one: to take marks, to keep the last seconds."""
        self.send.setVisible(self.sending.offered)
        if keepers := self._view.receiver.keepers:
            self.keep.setText(f"keep the last {keepers[-1].host}")
        self.keep.setVisible(bool(keepers))
        for told in self._view.receiver.kept():
            show_info(told)

    def _keep(self) -> None:
        kept, told = self._view.receiver.keep()
        (show_info if kept else show_warning)(told)

    def keep_button(self) -> QPushButton:
        """Return a button that has the last seconds written, and is seen while a recorder keeps them."""
        return _Offer(self.keep)

    def send_button(self) -> QPushButton:
        """Return a button that sends marks, and is seen while a program takes them."""
        return _Offer(self.send)

    def freeze_button(self) -> QPushButton:
        """Return a button that is down while the picture stands."""
        return _Toggle(self.freeze)

    def snapshot_button(self) -> QWidget:
        """Return a button that takes a snapshot of this frame, with a menu of what else can be kept."""
        button = QPushButton("snapshot")
        button.setToolTip(self.snap.toolTip())
        button.clicked.connect(self.snap.trigger)
        menu = QMenu(button)
        menu.setToolTipsVisible(True)
        menu.addActions([self.snap, self.snap_file])
        menu.addSeparator()
        menu.addActions([self.copy_run, self.save_tiff, self.save_zarr, self.stop_saving])
        return with_menu(button, menu)

    def view_button(self) -> QPushButton:
        """Return a button with a menu of what is seen of the picture, and over it."""
        button = QPushButton("view")
        button.setToolTip("A channel alone, or in gray; a crosshair and a grid; live measures.")
        menu = QMenu(button)
        menu.setToolTipsVisible(True)
        menu.addActions([self.alone, self.gray])
        menu.addSeparator()
        menu.addActions([self.crosshair, self.grid])
        menu.addSeparator()
        menu.addActions([self.measure])
        button.setMenu(menu)
        return button


class _Offer(QPushButton):  # type: ignore[misc]  # qtpy has no types
    """A button that triggers an action, and is seen while the action is."""

    def __init__(self, action: QAction) -> None:
        super().__init__(action.text())
        self._action = action
        self.setToolTip(action.toolTip())
        if not action.isVisible():  # to show it here would make a window of it
            self.hide()
        self.clicked.connect(action.trigger)
        action.changed.connect(self._update)

    def _update(self) -> None:
        self.setText(self._action.text())
        self.setVisible(self._action.isVisible())


class _Toggle(QPushButton):  # type: ignore[misc]  # qtpy has no types
    """A button that shows whether an action is checked, and triggers it."""

    def __init__(self, action: QAction) -> None:
        super().__init__(action.text())
        self.setCheckable(True)
        self.setChecked(action.isChecked())
        self.setToolTip(action.toolTip())
        self.clicked.connect(action.trigger)
        action.toggled.connect(self.setChecked)
