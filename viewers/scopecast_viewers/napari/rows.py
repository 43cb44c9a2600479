"""A stream in the panel's list: its name, its figures, and the button that attaches or detaches it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QVBoxLayout
from superqt import QElidingLabel

from scopecast_viewers.napari.status_line import DOTS
from scopecast_viewers.receiving.status import format_age

if TYPE_CHECKING:
    from scopecast_viewers.listing import Listed

__all__ = ["StreamRow", "counts_text", "figures_text"]

_WORDS = {
    "attaching": "attaching …",
    "refused": "refused",
    "detached": "not attached",
    "ended": "ended",
    "lost": "source lost · its last frames stay",
}
_DOT_OF = {"live": "live", "idle": "idle", "attaching": "idle", "refused": "lost", "lost": "lost"}


def figures_text(listed: Listed) -> str:
    """Return how fast frames come and how old the newest is, or why none do."""
    if listed.state == "live":
        parts = [f"{listed.rate:.1f} frames/s"] if listed.rate else []
    elif listed.state == "idle":
        parts = ["waiting for frames" if listed.age_s is None else "no new frames"]
    else:
        parts = [_WORDS[listed.state]]
    if listed.age_s is not None and listed.state in ("live", "idle"):
        parts.append(f"{format_age(listed.age_s)} old")
    return _joined(parts)


def counts_text(listed: Listed) -> str:
    """Return what became of its frames, or ``""`` before the first."""
    if not (listed.delivered or listed.superseded or listed.dropped):
        return ""
    counts = {"delivered": listed.delivered, "superseded": listed.superseded, "dropped": listed.dropped}
    return _joined([f"{count:,} {what}".replace(",", "\N{NARROW NO-BREAK SPACE}") for what, count in counts.items()])


def _joined(parts: list[str]) -> str:
    """Return the parts as a line that breaks between them, and not within one."""
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)


class StreamRow(QFrame):  # type: ignore[misc]  # qtpy has no types
    """Shows one publisher.

    Parameters
    ----------
    colors
        Of the theme: ``text``, ``faint``, ``card``, ``error``.
    """

    attach_clicked = Signal(str)
    detach_clicked = Signal(str)

    def __init__(self, colors: dict[str, str]) -> None:
        super().__init__()
        self.listed: Listed | None = None
        self.setObjectName("stream")
        self._dot = QLabel("●")
        self.name = QElidingLabel()
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        self.name.setElideMode(Qt.TextElideMode.ElideMiddle)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.button = QPushButton("Detach")
        self.button.clicked.connect(self._clicked)
        self.figures, self.counts, self.source, self.problem = (QLabel() for _ in range(4))
        top = QHBoxLayout()
        top.addWidget(self._dot)
        top.addWidget(self.name, 1)
        top.addWidget(self.button)
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 6, 8, 6)
        column.setSpacing(2)
        column.addLayout(top)
        for label in (self.figures, self.problem, self.counts, self.source):
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setWordWrap(True)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            column.addWidget(label)
        self.restyle(colors)

    def restyle(self, colors: dict[str, str]) -> None:
        """Take the colours of a theme."""
        self.setStyleSheet(f"#stream {{ background: {colors['card']}; border-radius: 4px; }}")
        clear = "background: transparent;"
        self.name.setStyleSheet(f"{clear} color: {colors['text']}; font-weight: bold;")
        self.figures.setStyleSheet(f"{clear} color: {colors['text']};")
        for label in (self.counts, self.source):
            label.setStyleSheet(f"{clear} color: {colors['faint']};")
        self.problem.setStyleSheet(f"{clear} color: {colors['error']};")

    def show_stream(self, listed: Listed) -> None:
        """Write the figures of now."""
        self.listed = listed
        self._dot.setStyleSheet(f"background: transparent; color: {DOTS[_DOT_OF.get(listed.state, 'ended')]};")
        self.name.setText(listed.name)
        parts = (html.escape(part) for part in (listed.name, listed.run, f"process {listed.pid}") if part)
        self.setToolTip(f"<qt>{'<br>'.join(parts)}</qt>")  # else Qt would take a name with tags for markup
        self.button.setVisible(listed.alive)
        self.button.setText("Detach" if listed.attached else "Attach")
        host = f"{listed.host or 'process ' + str(listed.pid)} · {listed.kind}"
        for label, text in (
            (self.figures, figures_text(listed)),
            (self.counts, counts_text(listed)),
            (self.source, host),
            (self.problem, listed.problem),
        ):
            if label.text() != text:
                label.setText(text)
            label.setVisible(bool(text))

    def _clicked(self) -> None:
        if self.listed is not None:
            (self.detach_clicked if self.listed.attached else self.attach_clicked).emit(self.listed.token)
