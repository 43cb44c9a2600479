"""Where live windows stand on the screen, and how far they are zoomed."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Final, NamedTuple

import jpype

from scopecast_viewers.fiji.awt import java

__all__ = ["WindowPlace"]

#: Small images are zoomed in as long as their longer side has no more pixels of the screen than this.
_LEGIBLE: Final = 512
_SLIDERS: Final = 60  # pixels of the screen below an image, for sliders that join
_GAP: Final = 4
_CASCADE: Final = 24


class WindowPlace(NamedTuple):
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
    def of(cls, window: Any, canvas: Any, image: tuple[int, int]) -> WindowPlace:
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
    def take(cls, former: WindowPlace | None, window: Any, canvas: Any, image: tuple[int, int]) -> None:
        """Put a new window at the place of a former one; without one, where it covers no other window.

        An image as large as the former one is zoomed as that was. Another one is seen as a whole: zoomed out if the
        screen is smaller, zoomed in if it is small.

        The window system tells later how large the window was, and where, after each change, and AWT takes that for the
        present: so the new window, which is not shown yet, is given its place and its size in one step; roughly before
        the window system knows of it, as what is below the image has no height before that.
        """
        if former is not None and former.image == image:
            size, zoom, part = former.canvas, former.zoom, former.part
        else:
            zoom = _fitting_zoom(image, _room(window, canvas))
            size, part = (int(image[0] * zoom), int(image[1] * zoom)), (0, 0, *image)
        canvas.setSize(*size)
        canvas.setSourceRect(java("java.awt.Rectangle")(*part))
        canvas.setMagnification(zoom)
        stand = partial(cls.stand_beside, window) if former is None else partial(cls.pack, window, (former.x, former.y))
        stand()
        window.addNotify()
        stand()

    @classmethod
    def stand_beside(cls, window: Any) -> None:
        """Give a window its size, and put it where it covers no other, if there is room."""
        cls.pack(window, _free_corner(window, window.getPreferredSize()))

    @staticmethod
    def pack(window: Any, corner: tuple[int, int] | None = None) -> None:
        """Give a window the size of what is in it, where it is or at another corner, and all of it on the screen."""
        x, y = (int(window.getX()), int(window.getY())) if corner is None else corner
        size = window.getPreferredSize()
        window.setBounds(*_on_screen(window, size, x, y), size.width, size.height)
        window.validate()


def _on_screen(window: Any, size: Any, x: int, y: int) -> tuple[int, int]:
    """Return where a window of a size is all on the screen, as near as can be to a corner."""
    screen = _screen(window)
    return (
        max(int(screen.x), min(x, int(screen.x + screen.width - size.width))),
        max(int(screen.y), min(y, int(screen.y + screen.height - size.height))),
    )


def _screen(window: Any) -> Any:
    return java("ij.gui.GUI").getMaxWindowBounds(jpype.JObject(window, java("java.awt.Component")))


def _room(window: Any, canvas: Any) -> tuple[int, int]:
    """Return how large the canvas may become, below ImageJ's own window."""
    screen, insets = _screen(window), window.getInsets(False)
    main = java("ij.IJ").getInstance()
    high = int(screen.height) - (int(main.getHeight()) + _GAP if main is not None and main.isShowing() else 0)
    beside = int(insets.left + insets.right) + 2 * 5  # the margins of ij.gui.ImageLayout
    below = sum(int(part.getPreferredSize().height) for part in window.getComponents() if part != canvas)
    return int(screen.width) - beside, high - int(insets.top + insets.bottom) - below - _SLIDERS


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


def _free_corner(window: Any, size: Any) -> tuple[int, int]:
    """Return where a window covers no other, as near as can be to the current one; else a little aside of that."""
    screen, main = _screen(window), java("ij.IJ").getInstance()
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
    corners += [_on_screen(window, size, *corner) for corner in corners]
    rectangle = java("java.awt.Rectangle")
    for corner in sorted(corners, key=lambda at: math.dist(at, (x, y))):
        area = rectangle(*corner, wide, high)
        if screen.contains(area) and not any(area.intersects(each) for each in others):
            return corner
    aside = [(x + right * _CASCADE, y + down * _CASCADE) for down in (1, -1) for right in (1, -1)]
    if main is not None and main.isShowing():  # its tools and messages are needed more than a corner of an image
        bar = main.getBounds()
        below = int(bar.y + bar.height) + _GAP
        aside += [(x - step * _CASCADE, below + step * _CASCADE) for step in range(len(others))]
        areas = {at: rectangle(*_on_screen(window, size, *at), wide, high) for at in aside}
        aside = [at for at, area in areas.items() if not area.intersects(bar)] or aside
    taken = {(int(each.x), int(each.y)) for each in others}
    free = (corner for corner in (_on_screen(window, size, *at) for at in aside) if corner not in taken)
    return next(free, aside[0])
