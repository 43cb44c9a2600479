"""A picture of ImageJ's windows as PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scopecast_viewers.fiji.awt import java, listener

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["save_picture"]

_MARGIN = 8
_SETTLE_MS = 300


def save_picture(path: str, done: Callable[[str], None]) -> None:
    """Save what the screen shows where ImageJ's windows are, then call ``done("")`` or ``done(reason)``.

    To be called on the window thread. The windows are brought to the front first, and painted before the picture is
    taken, which is why that happens a moment later.
    """
    windows = [window for window in java("java.awt.Window").getWindows() if window.isShowing()]
    for window in windows:
        window.toFront()

    def take(_: object) -> None:
        try:
            _take([window for window in windows if window.isShowing()], path)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is told to whoever asked for the picture
            done(f"{type(error).__name__}: {error}")
        else:
            done("")

    timer = java("javax.swing.Timer")(_SETTLE_MS, listener("java.awt.event.ActionListener", actionPerformed=take))
    timer.setRepeats(False)
    timer.start()


def _take(windows: list[Any], path: str) -> None:
    if not windows:
        raise RuntimeError("no window of ImageJ is open")
    toolkit = java("java.awt.Toolkit").getDefaultToolkit()
    toolkit.sync()
    area = None
    for window in windows:
        bounds = window.getBounds()
        area = bounds if area is None else area.union(bounds)
    assert area is not None
    area.grow(_MARGIN, _MARGIN)
    screen = java("java.awt.Rectangle")(toolkit.getScreenSize())
    picture = java("java.awt.Robot")().createScreenCapture(area.intersection(screen))
    if not java("javax.imageio.ImageIO").write(picture, "png", java("java.io.File")(path)):
        raise RuntimeError("Java can't write PNG files")
