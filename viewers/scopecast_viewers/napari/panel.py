"""Plugins > Live streams (scopecast): the streams of this machine inside the user's own napari."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

import psutil
from napari.utils.theme import get_theme
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QCheckBox,
    QDockWidget,
    QDoubleSpinBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from scopecast_viewers.listing import Listing
from scopecast_viewers.napari.buttons import follow_button
from scopecast_viewers.napari.contrast_button import ContrastButton
from scopecast_viewers.napari.embedded import EmbeddedReceiver
from scopecast_viewers.napari.frame_info import FrameButton
from scopecast_viewers.napari.rows import StreamRow
from scopecast_viewers.napari.runs_button import RunsButton
from scopecast_viewers.napari.snapshot import size_text
from scopecast_viewers.stacks.pages import GiB

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["LiveStreams"]

REFRESH_MS = 250
NOBODY = (
    "No program on this machine is streaming to napari.<br><br>"
    "Try <b>File ▸ Open Sample ▸ Simulated live stream (scopecast)</b>, "
    "or run <code>scopecast demo</code> in a terminal."
)


class LiveStreams(QWidget):  # type: ignore[misc]  # qtpy has no types
    """The panel: who streams, what comes of it, and what is to be done with it.

    It attaches to the streams while it is open. Closed, it detaches from all of them, and leaves the layers as they
    are; opened again, it attaches again.

    Parameters
    ----------
    napari_viewer
        The viewer; napari passes it by this name, as a proxy that lets only public attributes through.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        self.session: EmbeddedReceiver | None = None
        super().__init__()
        # Layers are told apart by identity, and each look through the proxy costs; only public attributes are used.
        self.viewer = getattr(napari_viewer, "__wrapped__", napari_viewer)
        self._attached = False  # or it is tried again
        self._listing: Listing | None = None
        self._rows: dict[str, StreamRow] = {}
        self._expected: set[int] = set()  # processes whose streams are attached whatever the user has chosen
        self._build()
        self._restyle()
        napari_viewer.events.theme.connect(self._restyle)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.refresh)

    def _build(self) -> None:
        self._nobody = QLabel(NOBODY)
        self._nobody.setTextFormat(Qt.TextFormat.RichText)
        self._nobody.setWordWrap(True)
        self._nobody.setAlignment(Qt.AlignmentFlag.AlignTop)
        self._nobody.setContentsMargins(4, 8, 4, 8)
        listed = QWidget()
        self._list = QVBoxLayout(listed)
        self._list.setContentsMargins(0, 0, 0, 0)
        self._list.setSpacing(6)
        self._list.addWidget(self._nobody)
        self._list.addStretch(1)
        area = QScrollArea()
        area.setWidget(listed)
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

        self.attach_to_new = QCheckBox("attach to new streams")
        self.attach_to_new.setChecked(True)
        self.attach_to_new.setToolTip("Show every new stream automatically.")
        self.attach_to_new.toggled.connect(self._set_attach_to_new)
        self.follow = follow_button()
        self.follow.clicked.connect(self._set_following)
        self._buttons = QGridLayout()
        self._buttons.addWidget(self.follow, 0, 0)
        for column in range(3):
            self._buttons.setColumnStretch(column, 1)

        self.budget = QDoubleSpinBox()
        self.budget.setDecimals(2)
        self.budget.setSingleStep(0.25)
        self.budget.setSuffix(" GiB")
        self.budget.setMaximum(max(0.25, psutil.virtual_memory().total / GiB))
        self.budget.setKeyboardTracking(False)
        self.budget.setEnabled(False)
        self.budget.setToolTip("Memory for the planes of all streams. Older ones go to a file on the disk.")
        self.budget.valueChanged.connect(self._set_budget)
        self._memory = QLabel("")
        self._memory.setWordWrap(True)
        history = QHBoxLayout()
        history.addWidget(QLabel("history"))
        history.addWidget(self.budget)
        history.addStretch(1)
        self._note = QLabel("")
        self._note.setTextFormat(Qt.TextFormat.PlainText)
        self._note.setWordWrap(True)
        self._note.hide()

        column = QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.addWidget(area, 1)
        column.addWidget(self._note)
        column.addWidget(self.attach_to_new)
        column.addLayout(self._buttons)
        column.addLayout(history)
        column.addWidget(self._memory)
        self.setMinimumWidth(240)

    # ---- opened and closed ---------------------------------------------------------------------------------------

    def showEvent(self, event: Any) -> None:
        """Attach."""
        super().showEvent(event)
        window = self._main_window()
        if window is None or event.spontaneous():
            return
        self._timer.start(REFRESH_MS)
        self.refresh()

    def _attach(self, window: QMainWindow) -> bool:
        """Attach, if it is not; where that can't be done, say why. Return whether it is attached."""
        if self._attached:
            return True
        try:
            self._open(window)
        except OSError as error:  # the run directory can't be used, or there are no descriptors left
            self._nobody.setText(f"{html.escape(str(error))}<br><br>This is tried again.")
            self._nobody.show()
            return False
        self._attached = True
        return True

    def _open(self, window: QMainWindow) -> None:
        if self.session is None:
            session = self.session = EmbeddedReceiver.of(self.viewer, window)
            self._nobody.setText(NOBODY)
            session.view.following_changed.connect(self.follow.setChecked)
            tools = session.view.tools
            self.freeze, self.snapshot, self.runs = (
                tools.freeze_button(),
                tools.snapshot_button(),
                RunsButton(session.view),
            )
            self.contrast = ContrastButton(session.view)
            self._buttons.addWidget(self.freeze, 0, 1)
            self._buttons.addWidget(self.snapshot, 0, 2)
            for place, button in enumerate((self.runs, tools.view_button(), FrameButton(session.view))):
                self._buttons.addWidget(button, 1, place)
            self._buttons.addWidget(self.contrast.with_menu(), 2, 0, 1, 3)
            self._buttons.addWidget(tools.send_button(), 3, 0, 1, 3)
            self._buttons.addWidget(tools.keep_button(), 4, 0, 1, 3)
            tools.bind_keys(self)
            window.destroyed.connect(self._timer.stop)
            self._listing = Listing(session.receiver)
            self.budget.setValue(session.receiver.history.budget / GiB)
            self.budget.setEnabled(True)
            self.attach_to_new.setChecked(session.receiver.attach_to_new)
            self.follow.setChecked(session.view.follower.following)
        self.session.start()

    def hideEvent(self, event: Any) -> None:
        """Detach, if the panel was hidden; not if another one lies over it, or the window is minimised or closed."""
        super().hideEvent(event)
        dock = self._dock()
        if dock is not None and dock.isHidden() and not event.spontaneous():
            self._leave()

    def changeEvent(self, event: Any) -> None:
        """Detach, if the panel was taken out of the window."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ParentChange and self._main_window() is None:
            self._leave()

    def _leave(self) -> None:
        self._timer.stop()
        self._attached = False
        if self.session is not None:
            self.session.view.set_paused(False)
            self.session.stop()

    def _dock(self) -> QDockWidget | None:
        above = self.parentWidget()
        while above is not None and not isinstance(above, QDockWidget):
            above = above.parentWidget()
        return above

    def _main_window(self) -> QMainWindow | None:
        above = self.parentWidget()
        while above is not None and not isinstance(above, QMainWindow):
            above = above.parentWidget()
        return above

    def expect(self, pid: int) -> None:
        """Attach to the streams of a process, whatever the user has chosen; the user has just asked for them."""
        self._expected.add(pid)

    # ---- what is shown -------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Bring the list and the figures up to date."""
        window = self._main_window()
        if window is None or not self._attach(window):
            return
        session, listing = self.session, self._listing
        if session is None or listing is None:
            return
        listed = listing.look()
        for entry in session.receiver.publishers:
            if entry.pid in self._expected:
                self._expected.discard(entry.pid)
                session.receiver.attach(entry.token)
        for token in set(self._rows) - {each.token for each in listed}:
            self._rows.pop(token).deleteLater()
        for place, each in enumerate(listed, 1):  # below the words for nobody
            row = self._rows.get(each.token)
            if row is None:
                row = self._rows[each.token] = StreamRow(self._colors)
                row.attach_clicked.connect(session.receiver.attach)
                row.detach_clicked.connect(session.receiver.detach)
            if self._list.indexOf(row) != place:
                self._list.insertWidget(place, row)
            row.show_stream(each)
        self._nobody.setVisible(not listed)
        stats = session.receiver.history.stats()
        parts = [f"{size_text(stats.resident_bytes + stats.pinned_bytes)} in memory"]
        if stats.spilled_bytes:
            parts.append(f"{size_text(stats.spilled_bytes)} on disk")
        if stats.forgotten:
            parts.append(f"{stats.forgotten} frames forgotten")
        self._memory.setText(", ".join(parts))
        self.snapshot.setEnabled(len(session.view.layers) > 0)
        self.contrast.refresh()
        note = "; ".join(filter(None, (session.view.hint(), *session.view.notes)))
        self._note.setText(note)
        self._note.setVisible(bool(note))

    def _restyle(self, _event: Any = None) -> None:
        theme = get_theme(self.viewer.theme)
        self._colors = {
            "text": theme.text.as_hex(),
            "background": theme.background.as_hex(),
            "card": theme.foreground.as_hex(),
            "error": "#ff8080" if theme.type == "dark" else "#b00020",
            "faint": "#b4b8be" if theme.type == "dark" else "#50555c",
        }
        faint = f"color: {self._colors['faint']};"
        self._memory.setStyleSheet(faint)
        self._nobody.setStyleSheet(faint)
        self._note.setStyleSheet(f"color: {self._colors['error']};")
        for row in self._rows.values():
            row.restyle(self._colors)

    # ---- what the user does --------------------------------------------------------------------------------------

    def _set_attach_to_new(self, on: bool) -> None:
        if self.session is not None:
            self.session.receiver.attach_to_new = on

    def _set_following(self, on: bool) -> None:
        if self.session is not None:
            self.session.view.set_following(on)

    def _set_budget(self, gib: float) -> None:
        if self.session is not None:
            self.session.receiver.history.budget = round(gib * GiB)
