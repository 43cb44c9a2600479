"""The line below an image: how its stream comes in, and whether the sliders follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.receiving.status import figures_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source

__all__ = ["Strip"]

_COLORS: Final = {"live": (26, 127, 55), "idle": (154, 103, 0), "lost": (207, 34, 46)}


class Strip:
    """A panel with a line of figures and a checkbox. Used on ImageJ's window thread only.

    Parameters
    ----------
    canvas
        The image's canvas, which it is as wide as.
    follow
        Called with whether the sliders are to follow, when the user has decided.

    Attributes
    ----------
    panel : java.awt.Panel
        To be added to the image's window.
    """

    def __init__(self, canvas: Any, follow: Callable[[bool], None]) -> None:
        self.panel = java("scopecast.LiveStrip")(canvas)
        self._label = java("java.awt.Label")("waiting for frames")
        self.box = java("java.awt.Checkbox")("follow", True)
        font = java("java.awt.Font")("SansSerif", 0, 12)
        for part in (self.panel, self._label, self.box):
            part.setFont(font)
        self.box.setFocusable(False)  # the keys are ImageJ's
        self.box.addItemListener(
            listener("java.awt.event.ItemListener", itemStateChanged=lambda _: follow(bool(self.box.getState())))
        )
        self.panel.add(self._label, "Center")
        self.panel.add(self.box, "East")

    @property
    def text(self) -> str:
        """What the line says."""
        return str(self._label.getText())

    def set_following(self, following: bool) -> None:
        """Show whether the sliders follow."""
        self.box.setState(following)

    def end(self, text: str) -> None:
        """Say that the image is live no more; nothing can be followed."""
        self.panel.remove(self.box)
        self._label.setText(text)
        self._label.setForeground(java("java.awt.Color")(*_COLORS["idle"]))
        self.panel.validate()

    def write(self, stream: LiveStream, sources: Sequence[Source], hint: str = "") -> None:
        """Write the figures of a stream, and what is special about the slice that is shown."""
        state = state_of(stream)
        text = "   ".join([*([hint] if hint else []), *figures_of(stream, sources)])
        if text != self.text:
            self._label.setText(text)
            self._label.setForeground(java("java.awt.Color")(*_COLORS.get(state, (87, 96, 106))))
