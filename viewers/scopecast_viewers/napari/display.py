"""The napari receiver process: a window of its own that shows every napari stream of this user."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qtpy.QtWidgets import QApplication

from scopecast.frames.annotations import KINDS
from scopecast_viewers.display import Display
from scopecast_viewers.stacks.pool import PlanePool

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from scopecast_viewers.napari.live_view import LiveView
    from scopecast_viewers.receiver import Receiver

__all__ = ["NapariDisplay"]

WINDOW = (1280, 860)
#: Of which time and place of a frame are written on the canvas.
_LETTERS = "0123456789 .:-xyzpmsµ"


class NapariDisplay(Display):
    """A napari window."""

    kind: ClassVar[str] = "napari"

    def __init__(self) -> None:
        self.pool = PlanePool()
        self._view: LiveView | None = None
        self._quitting = False

    def run(self, receiver: Receiver) -> None:
        """Open the window, attach, and show until the window is closed."""
        gc.disable()  # nearly all that is made until the window is open stays: it would look through it in vain
        import napari

        viewer = napari.Viewer(title="scopecast")
        viewer.window.resize(*WINDOW)
        view = self.show_in(viewer, receiver)
        # What there is by now stays for good. Without this the garbage collector looks through all of it every now and
        # then, and whenever napari removes a layer: 150 ms in which nothing is shown.
        gc.collect()
        gc.freeze()
        with view.follower.moving():
            _warm_up(viewer)
        gc.freeze()
        gc.enable()
        receiver.start()
        try:
            if not self._quitting:
                napari.run()
        finally:
            self.close()

    def show_in(self, viewer: Viewer, receiver: Receiver, window: QWidget | None = None) -> LiveView:
        """Show the streams of `receiver` in a viewer that is open already; with `window`, one of the user's own.

        See `LiveView`.
        """
        from scopecast_viewers.napari.live_view import LiveView

        self._view = LiveView(viewer, receiver, window)
        return self._view

    def quit(self) -> None:
        """Close the window."""
        self._quitting = True
        if (view := self._view) is not None:
            view.ask(lambda: self._end(view))

    @staticmethod
    def _end(view: LiveView) -> None:
        view.close()
        QApplication.quit()  # `run` ends, even if another window is open or this one is not closed in good order

    def close(self) -> None:
        """Show nothing new any more. Idempotent."""
        view, self._view = self._view, None
        if view is not None:
            view.stop()
        self.pool.close()

    def shows(self, dtype: np.dtype[Any], kind: str) -> bool:
        """Whether napari has a layer for it."""
        return kind in KINDS

    def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> npt.NDArray[Any]:
        """Copy a frame into a pooled plane."""
        return self.pool.take(view, magnitude=magnitude)

    def changed(self) -> None:
        """Have the window brought up to date at its next tick."""
        if (view := self._view) is not None:
            view.notify()

    def report(self, stream_source: str) -> dict[str, float]:
        """Return how long updates and painting take."""
        view = self._view
        return {} if view is None else view.report()

    def capture(self, path: str, done: Callable[[str], None]) -> None:
        """Save a picture of the window."""
        if (view := self._view) is None:
            done("the window is not open")
        else:
            view.ask(lambda: view.capture(path, done))


def _warm_up(viewer: Viewer) -> None:
    """Show a layer, a scale bar and a text, and take them away again.

    The first ones import much, build shaders, and draw each letter; for that no frame should wait.
    """
    planes = np.zeros((2, 16, 16), np.uint16)
    bar, text = viewer.canvas.overlays.scale_bar, viewer.canvas.overlays.text
    before = [(overlay, overlay.visible) for overlay in (bar, text)]
    layer = viewer.add_image(planes, contrast_limits=(0, 1), units=("pixel", "um", "um"), axis_labels=("t", "y", "x"))
    viewer.dims.set_point(0, 1)
    text.text, bar.visible, text.visible = _LETTERS, True, True
    QApplication.processEvents()
    text.text = ""
    for overlay, visible in before:
        overlay.visible = visible
    viewer.layers.remove(layer)
