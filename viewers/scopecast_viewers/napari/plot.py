"""A small plot of lines, painted by Qt alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from qtpy.QtCore import QPointF, QRectF, Qt
from qtpy.QtGui import QColor, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

__all__ = ["Curve", "Plot"]

_MARGIN = (58, 20, 12, 34)  # left, top, right, bottom, for the numbers


class Curve(NamedTuple):
    """A line of a plot: its points, and its colour, ``#rrggbb``."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    color: str


class Plot(QWidget):  # type: ignore[misc]  # qtpy has no types
    """Shows curves with the least and the greatest number of each axis.

    Parameters
    ----------
    title
        What it shows.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title, self.x_name = title, ""
        self.curves: Sequence[Curve] = ()
        self.at: float | None = None  # where along x the frame is that is shown
        self.setMinimumSize(220, 130)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)

    def show_curves(self, curves: Sequence[Curve], x_name: str, at: float | None = None) -> None:
        """Show other curves; `x_name` names the axis with its unit, and `at` marks a place along it."""
        self.curves, self.x_name, self.at = [curve for curve in curves if len(curve.x)], x_name, at
        self.update()

    def paintEvent(self, _event: Any) -> None:
        """Paint."""
        left, top, right, bottom = _MARGIN
        frame = QRectF(left, top, self.width() - left - right, self.height() - top - bottom)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().windowText().color()
        faint = QColor(text)
        faint.setAlphaF(0.3)
        painter.setPen(text)
        painter.drawText(QRectF(left, 0, frame.width(), top), Qt.AlignmentFlag.AlignVCenter, self.title)
        painter.setPen(faint)
        painter.drawRect(frame)
        if not self.curves:
            return
        x0, x1 = _reach([curve.x for curve in self.curves])
        y0, y1 = _reach([curve.y for curve in self.curves])
        painter.setPen(text)
        for y, flag in ((frame.top(), Qt.AlignmentFlag.AlignTop), (frame.bottom() - 16, Qt.AlignmentFlag.AlignBottom)):
            number = f"{y1 if y == frame.top() else y0:.5g}"
            painter.drawText(QRectF(0, y, left - 6, 16), Qt.AlignmentFlag.AlignRight | flag, number)
        below = QRectF(left, frame.bottom() + 2, frame.width(), bottom - 2)
        painter.drawText(below, Qt.AlignmentFlag.AlignLeft, f"{x0:.4g}")
        painter.drawText(below, Qt.AlignmentFlag.AlignRight, f"{x1:.4g}")
        painter.drawText(below, Qt.AlignmentFlag.AlignHCenter, self.x_name)

        def across(x: Any) -> Any:
            return frame.left() + (x - x0) / (x1 - x0) * frame.width()

        if self.at is not None:
            painter.setPen(QPen(faint, 1, Qt.PenStyle.DashLine))
            painter.drawLine(QPointF(across(self.at), frame.top()), QPointF(across(self.at), frame.bottom()))
        for curve in self.curves:
            painter.setPen(QPen(QColor(curve.color), 1.6))
            points = zip(across(curve.x), frame.bottom() - (curve.y - y0) / (y1 - y0) * frame.height(), strict=True)
            line = [QPointF(x, y) for x, y in points]
            if len(line) == 1:
                painter.drawEllipse(line[0], 2, 2)
            painter.drawPolyline(QPolygonF(line))


def _reach(parts: list[npt.NDArray[np.float64]]) -> tuple[float, float]:
    """Return the least and the greatest of all, apart from each other."""
    low, high = float(min(part.min() for part in parts)), float(max(part.max() for part in parts))
    return (low, high) if high > low else (low - 0.5, high + 0.5)
