"""Where live windows stand on the screen, and how far they are zoomed."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import jpype

from scopecast_viewers.fiji.awt import java

__all__ = ["Place"]

#: Small images are zoomed in as long as their longer side has no more pixels of the screen than this.
_LEGIBLE: Final = 512
_SLIDERS: Final = 60  # pixels of the screen below an image, for sliders that join
_GAP: Final = 4
_CASCADE: Final = 24


class Place(NamedTuple):
    """Where a window stands, and what its canvas shows of the image.

    Attributes
    ----------
    x, y
        Of the window's corner on the screen.
    image
        Width and height of the image.
    zoom
        Pixels of the screen for one of the image.
    part
        The part of the image that is seen: x, y, width and height.
    canvas
        Width and height of the canvas.
    """

    x: int
    y: int
    image: tuple[int, int]
    zoom: float
    part: tuple[int, int, int, int]
    canvas: tuple[int, int]

    @classmethod
    def of(cls, window: Any, canvas: Any, image: tuple[int, int]) -> Place:
        """Return the place of a window, which may have been closed since."""
        part = canvas.getSrcRect()
        return cls(
            int(window.getX()),
            int(window.getY()),
            image,
            float(canvas.getMagnification()),
            (int(part.x), int(part.y), int(part.width), int(part.height)),
            (int(canvas.getWidth()), int(canvas.getHeight())),
        )

    @classmethod
    def take(cls, former: Place | None, window: Any, canvas: Any, image: tuple[int, int]) -> None:
        """Put a new window at the place of a former one; without one, where it covers no other window.

        An image as large as the former one is zoomed as that was. Another one is seen as a whole: zoomed out if the
        screen is smaller, zoomed in if it is small.
        """
        if former is not None and former.image == image:
            size, zoom, part = former.canvas, former.zoom, former.part
        else:
            zoom = _fitting_zoom(image, _room(window, canvas))
            size, part = (int(image[0] * zoom), int(image[1] * zoom)), (0, 0, *image)
        canvas.setSize(*size)
        canvas.setSourceRect(java("java.awt.Rectangle")(*part))
        canvas.setMagnification(zoom)
        window.pack()
        if former is not None:
            window.setLocation(former.x, former.y)
            cls.keep_on_screen(window)
        else:
            cls.stand_beside(window)

    @classmethod
    def stand_beside(cls, window: Any) -> None:
        """Move a window to where it covers no other, if there is room."""
        window.setLocation(*_free_corner(window))
        cls.keep_on_screen(window)

    @staticmethod
    def keep_on_screen(window: Any) -> None:
        """Move a window that is cut by the edge of the screen, so that all of it is seen if it fits."""
        screen, at = _screen(window), window.getBounds()
        x = max(int(screen.x), min(int(at.x), int(screen.x + screen.width - at.width)))
        y = max(int(screen.y), min(int(at.y), int(screen.y + screen.height - at.height)))
        if (x, y) != (int(at.x), int(at.y)):
            window.setLocation(x, y)


def _screen(window: Any) -> Any:
    return java("ij.gui.GUI").getMaxWindowBounds(jpype.JObject(window, java("java.awt.Component")))


def _room(window: Any, canvas: Any) -> tuple[int, int]:
    """Return how large the canvas may become."""
    screen, insets = _screen(window), window.getInsets(False)
    beside = int(insets.left + insets.right) + 2 * 5  # the margins of ij.gui.ImageLayout
    below = sum(int(part.getPreferredSize().height) for part in window.getComponents() if part != canvas)
    return int(screen.width) - beside, int(screen.height) - int(insets.top + insets.bottom) - below - _SLIDERS


def _fitting_zoom(image: tuple[int, int], room: tuple[int, int]) -> float:
    """Return the zoom at which all of an image is seen: of ImageJ's steps, and whole numbers above 1."""
    canvas, zoom = java("ij.gui.ImageCanvas"), 1.0
    while any(side * zoom > most for side, most in zip(image, room, strict=True)):
        lower = float(canvas.getLowerZoomLevel(zoom))
        if lower == zoom:
            return zoom
        zoom = lower
    best, most = zoom, min(_LEGIBLE, *room)
    while 1 <= zoom < 32 and max(image) * (zoom := float(canvas.getHigherZoomLevel(zoom))) <= most:
        if zoom.is_integer():
            best = zoom
    return best


def _free_corner(window: Any) -> tuple[int, int]:
    """Return where a window covers no other, as near as can be to the current one; else a little aside of that."""
    screen, size, main = _screen(window), window.getSize(), java("ij.IJ").getInstance()
    wide, high = int(size.width), int(size.height)
    current = java("ij.WindowManager").getCurrentWindow()
    current = (main or window) if current in (None, window) else current
    x, y = int(current.getX()), int(current.getY())
    others = [each.getBounds() for each in java("java.awt.Window").getWindows() if each.isShowing() and each != window]
    corners = []
    for at in others:
        corners += [(int(at.x), int(at.y + at.height) + _GAP), (int(at.x), int(at.y) - high - _GAP)]
        if main is None or at != main.getBounds():
            corners += [(int(at.x + at.width) + _GAP, int(at.y)), (int(at.x) - wide - _GAP, int(at.y))]
    rectangle = java("java.awt.Rectangle")
    for corner in sorted(corners, key=lambda at: math.dist(at, (x, y))):
        area = rectangle(*corner, wide, high)
        if screen.contains(area) and not any(area.intersects(each) for each in others):
            return corner
    return x + _CASCADE, y + _CASCADE
