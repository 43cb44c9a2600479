"""The lines below an image: how its stream comes in, and whether the sliders follow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import jpype

from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.receiving.status import figures_of, state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Strip"]

_COLORS: Final = {"live": (26, 127, 55), "idle": (154, 103, 0), "lost": (207, 34, 46)}
_OTHER: Final = (87, 96, 106)


class Strip:
    """A panel with figures and a checkbox. Used on ImageJ's window thread only.

    Parameters
    ----------
    canvas
        The image's canvas, which it is as wide as.
    follow
        Called with whether the sliders are to follow, when the user has decided.

    Attributes
    ----------
    panel : scopecast.LiveStrip
        To be added to the image's window.
    text : str
        What is written; a narrow panel may show less.
    """

    def __init__(self, canvas: Any, follow: Callable[[bool], None]) -> None:
        self.panel = java("scopecast.LiveStrip")(canvas)
        self.text = ""
        self.box = java("java.awt.Checkbox")("follow", True)
        font = java("java.awt.Font")("SansSerif", 0, 12)
        for part in (self.panel, self.box):
            part.setFont(font)
        self.box.setFocusable(False)  # the keys are ImageJ's
        self.box.addItemListener(
            listener("java.awt.event.ItemListener", itemStateChanged=lambda _: follow(bool(self.box.getState())))
        )
        self.panel.add(self.box, "East")
        self._put(["waiting for frames"], _OTHER)

    def _put(self, parts: Sequence[str], color: tuple[int, int, int]) -> None:
        self.text = "   ".join(parts)
        self.panel.write(jpype.JArray(jpype.JString)(parts), java("java.awt.Color")(*color))

    def set_following(self, following: bool) -> None:
        """Show whether the sliders follow."""
        self.box.setState(following)

    def end(self, text: str) -> None:
        """Say that the image is live no more; nothing can be followed."""
        self.text = text
        self.panel.end(text, java("java.awt.Color")(*_COLORS["idle"]))

    def write(
        self,
        stream: LiveStream,
        sources: Sequence[Source],
        hints: Sequence[str] = (),
        notes: Sequence[str] = (),
        age_s: float | None = None,
        of: Stack | None = None,
    ) -> None:
        """Write the figures of a stream, and what is special about what is shown.

        Parameters
        ----------
        stream, sources
            What the figures are of.
        hints, notes
            What is special about what is shown: before the figures, and after them.
        age_s
            How old the newest frame is that the window has painted, in seconds; None where it follows none.
        of
            Labels, or what a program has replied, of which the window is, among the images of the stream.
        """
        parts = [*hints, *figures_of(stream, sources, age_s, of), *notes]
        if "   ".join(parts) != self.text:
            self._put(parts, _COLORS.get(state_of(stream), _OTHER))
