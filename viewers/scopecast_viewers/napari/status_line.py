"""The status line: what comes in, how old it is, what is lost, and whether the sliders follow."""

from __future__ import annotations

import html
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from scopecast_viewers.napari.buttons import follow_button
from scopecast_viewers.receiving.status import figures_of, sources_of, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source

__all__ = ["DOTS", "StatusLine"]

#: Rich text has no attributes here that a quote could end.
_escape = partial(html.escape, quote=False)

DOTS = {"live": "#39d353", "idle": "#d0a000", "ended": "#9aa0a6", "lost": "#ff5c5c"}


class _Room(QWidget):  # type: ignore[misc]  # qtpy has no types
    """All the room that there is, for a label whose text changes often.

    In a layout, each text of a label has the whole window laid out and composed anew.
    """

    def __init__(self, label: QLabel) -> None:
        super().__init__()
        label.setParent(self)
        self._label = label
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)

    def sizeHint(self) -> QSize:
        """As high as the label."""
        return self._label.sizeHint()

    def resizeEvent(self, _event: Any) -> None:
        """Give the label all of the room."""
        self._label.resize(self.size())


class StatusLine(QWidget):  # type: ignore[misc]  # qtpy has no types
    """A line of figures, the button that makes the sliders follow again, and others that are added."""

    follow_clicked = Signal(bool)

    def __init__(self) -> None:
        super().__init__()
        self._text = QLabel("waiting for frames")
        self._text.setTextFormat(Qt.TextFormat.RichText)
        self._text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.follow = follow_button()
        self.follow.clicked.connect(self.follow_clicked)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 2, 8, 2)
        row.addWidget(_Room(self._text), 1)
        row.addWidget(self.follow)
        self.setMaximumHeight(34)

    def add(self, button: QWidget) -> None:
        """Put another button before that which follows."""
        row = self.layout()
        row.insertWidget(row.count() - 1, button)

    @property
    def text(self) -> str:
        """What the line says, as rich text."""
        return str(self._text.text())

    def show_status(
        self, stream: LiveStream | None, sources: tuple[Source, ...], hint: str = "", about: Sequence[str] = ()
    ) -> None:
        """Write the figures of a stream and its source.

        Parameters
        ----------
        stream
            The run that is looked at, or None.
        sources
            The publishers that the viewer is attached to.
        hint
            What is special about the place that is shown, such as "no frame here yet".
        about
            The metadata of the frames that are shown, a line each; seen when the mouse rests on the line.
        """
        text = html.escape("\n".join(about), quote=False)
        self.setToolTip(f"<p style='white-space:pre'>{text}</p>" if text else "")
        self._text.setText(describe(stream, sources, hint))


def describe(stream: LiveStream | None, sources: tuple[Source, ...], hint: str = "") -> str:
    """Return the status as rich text; see `StatusLine.show_status`."""
    parts: list[str] = []
    if stream is None:
        state, text = "idle", "waiting for frames"
    else:
        state = state_of(stream)
        text = f"<b>{_escape(stream.title)}</b>"
        if stream.about.title not in ("", stream.title):
            text += f" &rsaquo; {_escape(stream.about.title)}"
    if hint:  # before what may be cut off
        parts.append(f"<i>{hint}</i>")
    if stream is not None:
        parts += figures_of(stream, sources_of(stream, sources))
    parts += [
        f"<span style='color:{DOTS['lost']}'>{_escape(known.entry.title)}: {_escape(known.problem)}</span>"
        for known in sources
        if known.problem
    ]
    dot = f"<span style='color:{DOTS.get(state, DOTS['ended'])}'>●</span>"
    return "&nbsp;&nbsp;·&nbsp;&nbsp;".join([f"{dot}&nbsp;{text}", *parts])
