"""The canvas of a napari window: when it paints, and what must be so when a layer goes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

__all__ = ["CanvasWatch"]


class CanvasWatch(QObject):  # type: ignore[misc]  # qtpy has no types
    """Listens to the canvas of a window.

    It also makes the canvas's OpenGL context current whenever a layer is being removed. napari then has vispy delete
    the layer's buffers at once, whichever context happens to be current; if it was another one, the canvas's kept its
    vertex arrays over deleted buffers, and its next paint at another size read from there: the process ended with a
    segmentation fault (always, with Mesa's software renderer and napari 0.9.2; compare napari's issues 6472 and 8471).

    Parameters
    ----------
    viewer
        The napari viewer.
    window
        Its main window; the canvas is found among its children.
    painting
        Called when the canvas is about to be painted.
    painted
        Called when what was painted is on the screen.
    """

    def __init__(
        self, viewer: Viewer, window: QWidget, painting: Callable[[], None], painted: Callable[[], None]
    ) -> None:
        super().__init__()
        self._viewer, self._painting, self._painted = viewer, painting, painted
        self._canvas: Any = next(
            (child for child in window.findChildren(QObject) if hasattr(child, "frameSwapped")), None
        )
        if self._canvas is not None:
            self._canvas.installEventFilter(self)
            self._canvas.frameSwapped.connect(self._painted)
            viewer.layers.events.removing.connect(self._make_current)

    def eventFilter(self, watched: Any, event: Any) -> bool:
        """Note that the canvas is about to be painted."""
        if event.type() == QEvent.Type.Paint:
            self._painting()
        return False

    def _make_current(self, _event: Any = None) -> None:
        if self._canvas is not None:
            with suppress(RuntimeError):  # the window may be gone already
                self._canvas.makeCurrent()

    def stop(self) -> None:
        """Listen to paints no more. Idempotent."""
        canvas, self._canvas = self._canvas, None
        if canvas is not None:
            self._viewer.layers.events.removing.disconnect(self._make_current)
            with suppress(RuntimeError, TypeError):
                canvas.removeEventFilter(self)
                canvas.frameSwapped.disconnect(self._painted)
