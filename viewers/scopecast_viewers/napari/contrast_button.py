"""The button "auto contrast": makes the contrast of all channels, or of one, automatic again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtGui import QAction
from qtpy.QtWidgets import QMenu, QPushButton

from scopecast_viewers.napari.buttons import with_menu

if TYPE_CHECKING:
    from qtpy.QtWidgets import QWidget

    from scopecast_viewers.napari.layers import LiveLayers

__all__ = ["ContrastButton"]


class _Shows(Protocol):
    """What the button needs of a `LiveView`."""

    @property
    def layers(self) -> LiveLayers: ...


class ContrastButton(QPushButton):  # type: ignore[misc]  # qtpy has no types
    """A button that is down while the contrast of all channels is automatic, and makes it so.

    Parameters
    ----------
    view
        Whose contrast it is.
    """

    def __init__(self, view: _Shows) -> None:
        super().__init__("auto contrast")
        self._view = view
        self.setCheckable(True)
        self.setChecked(True)
        self.setToolTip(
            "Choose the contrast of all channels from the frames, as they arrive. A channel whose contrast you have "
            "set keeps it until you press this; the menu does the same for single channels."
        )
        self.channels = QMenu(self)
        self.channels.aboutToShow.connect(self.fill)
        self.clicked.connect(self._clicked)

    def with_menu(self) -> QWidget:
        """Return it together with its menu of the single channels."""
        return with_menu(self, self.channels)

    def _clicked(self, _down: bool) -> None:
        self._view.layers.automatic_contrast()
        self.refresh()

    def refresh(self) -> None:
        """Be down while all channels are automatic."""
        self.setChecked(not any(by_hand for _, by_hand in self._view.layers.channels.values()))

    def fill(self) -> None:
        """Make the menu's entries: a channel each, checked while it is automatic; and the mark."""
        menu = self.channels
        menu.clear()
        for channel, (name, by_hand) in self._view.layers.channels.items():
            action = QAction(f"Auto: {name}".replace("&", "&&"), menu)
            action.setCheckable(True)
            action.setChecked(not by_hand)
            action.triggered.connect(lambda _on, channel=channel: self._view.layers.automatic_contrast(channel))
            menu.addAction(action)
        if menu.isEmpty():
            menu.addAction("no channels yet").setEnabled(False)
        menu.addSeparator()
        mark: Any = QAction("Mark saturated pixels red", menu)
        mark.setCheckable(True)
        mark.setChecked(self._view.layers.contrasts.marking)
        mark.triggered.connect(self._view.layers.mark_saturation)
        menu.addAction(mark)
