"""Buttons as napari's own look, some with a menu of more beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

if TYPE_CHECKING:
    from qtpy.QtWidgets import QMenu

__all__ = ["follow_button", "with_menu"]

#: Pixels; of the part with the arrow, and between both parts.
_ARROW_WIDTH, _GAP = 18, 1


def follow_button() -> QPushButton:
    """Return a button that is down while the sliders follow."""
    button = QPushButton("follow")
    button.setCheckable(True)
    button.setChecked(True)
    button.setToolTip("Keep the sliders at the newest frame. Moving a slider stops that; this resumes it.")
    return button


def with_menu(button: QPushButton, menu: QMenu) -> QWidget:
    """Return a widget of a button and, joined to it, a narrow one that opens a menu.

    It does what a QToolButton would; but napari's themes give that neither a background, nor room for its arrow, nor
    show whether it is down.
    """
    more = QPushButton()
    more.setMenu(menu)
    more.setFixedWidth(_ARROW_WIDTH)
    more.setToolTip("more")
    joined = QWidget()
    row = QHBoxLayout(joined)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(_GAP)
    row.addWidget(button, 1)
    row.addWidget(more)
    return joined
