"""When, where and how the frame that is shown was taken: on the canvas, and all that is known of it as a table."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from psygnal import EmitLoopError
from qtpy.QtCore import Qt
from qtpy.QtGui import QAction, QGuiApplication, QKeySequence
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QMenu, QPushButton, QTableWidget, QTableWidgetItem

from scopecast_viewers.napari.canvas_text import CanvasText
from scopecast_viewers.receiving.metadata import metadata_rows, recorded_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.napari.layers import LiveLayers
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["BOX", "TEXT", "FrameButton", "FrameInfo", "FrameTable"]

TITLE: Final = "shown frame"
#: Legible on any picture: white on a box that lets little of it through.
TEXT, BOX = "#f2f2f2", "#000000b0"
_SIZE: Final = 9.0


class FrameTable(QTableWidget):  # type: ignore[misc]  # qtpy has no types
    """Names and values, to be read and copied."""

    def __init__(self) -> None:
        super().__init__(0, 2)
        self.setHorizontalHeaderLabels(["name", "value"])
        self.verticalHeader().hide()
        self.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        self.horizontalHeader().setStretchLastSection(True)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setWordWrap(False)
        self.setMinimumWidth(240)
        copy = QAction("Copy", self)
        copy.setShortcut(QKeySequence.StandardKey.Copy)
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy)
        self.addAction(copy)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)

    def show_rows(self, rows: list[tuple[str, str]]) -> None:
        """Show other values; what is selected stays so."""
        self.setRowCount(len(rows))
        for row, texts in enumerate(rows):
            for column, text in enumerate(texts):
                item = self.item(row, column)
                if item is None:
                    self.setItem(row, column, item := QTableWidgetItem())
                if item.text() != text:
                    item.setText(text)
                    item.setToolTip(text if len(text) > 40 else "")

    def copy(self) -> None:
        """Copy what is selected, or all: a row each, the columns with a tab between them."""
        chosen = {(index.row(), index.column()) for index in self.selectedIndexes()}
        lines = []
        for row in range(self.rowCount()):
            texts = [self.item(row, column).text() for column in (0, 1) if not chosen or (row, column) in chosen]
            if texts:
                lines.append("\t".join(texts))
        QGuiApplication.clipboard().setText("\n".join(lines))


class FrameInfo:
    """Tells of the frame that is shown. Used on the GUI's thread only.

    Parameters
    ----------
    viewer
        The napari viewer; its text overlay is used where `on_canvas` is set.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._text = CanvasText(viewer)
        self._on_canvas = False
        self._before: dict[str, Any] = {}  # the overlay as the user had it
        self._told: tuple[object, ...] = ()
        self.table = FrameTable()
        self._dock: Any = None

    @property
    def on_canvas(self) -> bool:
        """Whether time and place are written on the canvas."""
        return self._on_canvas

    @on_canvas.setter
    def on_canvas(self, on: bool) -> None:
        if on == self._on_canvas:
            return
        self._on_canvas = on
        overlay, ours = self._viewer.canvas.overlays.text, {"color": TEXT, "box": True, "box_color": BOX}
        ours |= {"font_size": _SIZE, "position": "bottom_left"}  # where no position has its name
        if on:
            self._before = {name: getattr(overlay, name) for name in (*ours, "text", "visible")}
            ours["text"] = ""
        for name, value in (ours if on else self._before).items():
            setattr(overlay, name, value)
        self._told = ()

    @property
    def as_table(self) -> bool:
        """Whether the table is shown."""
        return self._dock is not None and not self._dock.isHidden()

    @as_table.setter
    def as_table(self, on: bool) -> None:
        if self._dock is None and on:
            window = self._viewer.window
            self._dock = window.add_dock_widget(self.table, area="right", name=TITLE, menu=window.window_menu)
            self._dock.destroyOnClose = self._dock.hide
        if self._dock is not None:
            self._dock.setVisible(on)
        self._told = ()

    def tell(self, frame: tuple[LiveLayer, tuple[int, ...], Tag] | None, late: Sequence[tuple[str, str]] = ()) -> bool:
        """Tell of a frame: its layer, its index in the stack, its tag; None where there is none.

        `late` is what lies on it and is of an earlier one: its name, and of which.

        Returns
        -------
        bool
            Whether that is another one than before.
        """
        told = () if frame is None else (frame[0].layer.name, frame[1], frame[2], *late, self.as_table)
        if told == self._told and told:
            return False
        self._told = told
        rows: list[tuple[str, str]] = []
        text = ""
        if frame is not None:
            live, index, tag = frame
            recorded = recorded_of(live.stream, index, tag)
            when = (recorded.elapsed, recorded.clock, recorded.exposure)
            behind = [f"{name} of {earlier}" for name, earlier in late]
            lines = ("   ".join(filter(None, parts)) for parts in (when, (recorded.position, recorded.stage), behind))
            text = "\n".join(filter(None, lines))
            rows = [("layer", live.layer.name)]
            rows += [(axis, live.stream.label(axis, at)) for axis, at in zip(live.stack.axes, index, strict=True)]
            rows += [*metadata_rows(recorded, tag), *((name, f"of {earlier}") for name, earlier in late)]
        if self.as_table:
            self.table.show_rows(rows)
        if self._on_canvas:
            self._text.write(text)
        return True

    def close(self) -> None:
        """Let the overlay be as it was. Idempotent."""
        with suppress(RuntimeError, EmitLoopError):  # the window is gone, and the canvas with it
            self.on_canvas = False


class _View(Protocol):
    """What the button needs of a `LiveView`."""

    @property
    def frame_info(self) -> FrameInfo: ...

    @property
    def layers(self) -> LiveLayers: ...

    def show_one_by_one(self, on: bool) -> None: ...


class FrameButton(QPushButton):  # type: ignore[misc]  # qtpy has no types
    """A button whose menu chooses where is told of the frame that is shown, and whether all positions are.

    Parameters
    ----------
    view
        Whose frames they are.
    """

    def __init__(self, view: _View) -> None:
        super().__init__("frame")
        self._view = view
        self.setToolTip("Time, exposure and stage position of the frame that is shown, and all of its metadata.")
        self.choices = QMenu(self)
        self.choices.aboutToShow.connect(self.fill)
        self.setMenu(self.choices)

    def fill(self) -> None:
        """Make the menu's entries."""
        self.choices.clear()
        for name, attribute in (("Time and place on the picture", "on_canvas"), ("Metadata as a table", "as_table")):
            action = QAction(name, self.choices)
            action.setCheckable(True)
            action.setChecked(getattr(self._view.frame_info, attribute))
            action.triggered.connect(lambda on, attribute=attribute: setattr(self._view.frame_info, attribute, on))
            self.choices.addAction(action)
        tiling = self._view.layers.tiling
        if tiling.composed:
            action = QAction("Positions one by one", self.choices)
            action.setCheckable(True)
            action.setChecked(tiling.one_by_one)
            action.triggered.connect(self._view.show_one_by_one)
            self.choices.addAction(action)
