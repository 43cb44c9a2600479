"""The live view inside a napari window of the user's own: it receives while its panel is open, and keeps its frames."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from qtpy.QtCore import QObject, Qt
from qtpy.QtWidgets import QApplication

from scopecast_viewers.napari.display import NapariDisplay
from scopecast_viewers.napari.live_view import LiveView
from scopecast_viewers.receiver import SWITCH_INTERVAL_S, Receiver

if TYPE_CHECKING:
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

__all__ = ["EmbeddedReceiver"]

CLOSED = "the panel in napari was closed"


class _Switching:
    """How soon the interpreter switches threads: sooner from the first session's start to the last one's end.

    napari's Python would else keep it from a receiver's thread for 5 ms at a time.
    """

    def __init__(self) -> None:
        self._before = 0.0
        self._receivers: set[str] = set()

    def shorten(self, receiver: str) -> None:
        """Switch sooner for a receiver, named by its token."""
        if not self._receivers:
            self._before = sys.getswitchinterval()
            sys.setswitchinterval(min(self._before, SWITCH_INTERVAL_S))
        self._receivers.add(receiver)

    def restore(self, receiver: str) -> None:
        """Have the receiver end; with the last one, switch as before. Idempotent."""
        if receiver in self._receivers:
            self._receivers.remove(receiver)
            if not self._receivers:
                sys.setswitchinterval(self._before)


_switching = _Switching()


class EmbeddedReceiver(QObject):  # type: ignore[misc]  # qtpy has no types
    """A receiver and its live view in one window; there is one for each window, however often the panel is opened.

    Parameters
    ----------
    viewer
        The napari viewer, or napari's public proxy of it.
    window
        Its main window, which owns the session.

    Attributes
    ----------
    receiver : Receiver
        Attaches to the streams.
    view : LiveView
        Shows them.
    """

    def __init__(self, viewer: Viewer, window: QWidget) -> None:
        shown = window.findChild(LiveView, options=Qt.FindChildOption.FindDirectChildrenOnly)
        if shown is not None:  # the window of a receiver process, which receives already
            super().__init__(window)
            self.display: NapariDisplay | None = None
            self.view: LiveView = shown
            self.receiver: Receiver = shown.receiver
            return
        display = NapariDisplay()
        try:  # before this is the window's child, which half an object would be for good
            receiver = Receiver(display, title="napari")
        except BaseException:
            display.close()
            raise
        super().__init__(window)
        self.display, self.receiver = display, receiver
        self.view = display.show_in(viewer, receiver, window)

        def end() -> None:
            _switching.restore(receiver.token)
            try:
                display.close()
            finally:
                receiver.close("napari was closed")

        # When the window is destroyed, all that is left of this object may be what the function above holds.
        window.destroyed.connect(end)
        QApplication.instance().aboutToQuit.connect(end)

    @classmethod
    def of(cls, viewer: Viewer, window: QWidget) -> EmbeddedReceiver:
        """Return the session of a window; a new one, which is not started, if it has none."""
        known = window.findChild(cls, options=Qt.FindChildOption.FindDirectChildrenOnly)
        return cls(viewer, window) if known is None else known

    def start(self) -> None:
        """Attach to the streams. Idempotent."""
        if self.display is None or self.receiver.running:
            return
        self.receiver.start()
        _switching.shorten(self.receiver.token)

    def stop(self) -> None:
        """Detach from all streams; the layers stay as they are. Idempotent."""
        if self.display is None or not self.receiver.running:
            return
        self.receiver.stop(CLOSED)
        _switching.restore(self.receiver.token)
