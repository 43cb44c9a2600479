"""How the buttons of a widget look on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QPoint
from qtpy.QtWidgets import QAbstractButton, QCheckBox

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

__all__ = ["odd_buttons"]

_INSIDE = 3  # pixels from a button's edge, where neither its rounded corner nor its text is


def odd_buttons(widget: QWidget, backgrounds: set[str]) -> list[str]:
    """Return the texts of buttons that are cut off, or whose background is none of those (``#rrggbb``)."""
    picture = widget.grab().toImage()
    odd = []
    for button in widget.findChildren(QAbstractButton):
        if button.isVisible() and button.isEnabled() and not isinstance(button, QCheckBox):
            at = button.mapTo(widget, QPoint(_INSIDE, button.height() // 2))
            cut = button.text() and button.width() < button.sizeHint().width()
            if cut or picture.pixelColor(at).name() not in backgrounds:
                odd.append(button.text())
    return odd
