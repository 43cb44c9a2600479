"""Send to acquisition: the region of the live image, or those selected in the ROI Manager, go to its program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast_viewers.fiji.awt import invoke_later, java
from scopecast_viewers.receiving.marks import Drawn, check_number, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

    from scopecast_viewers.fiji.gallery import Gallery
    from scopecast_viewers.receiver import Receiver

__all__ = ["Sending"]


class Sending:
    """Sends the regions that the user has drawn. Used on ImageJ's window thread only.

    Parameters
    ----------
    gallery
        The live images.
    receiver
        The way to their programs.

    Attributes
    ----------
    told : str
        What the user was told last of regions that were sent.
    """

    def __init__(self, gallery: Gallery, receiver: Receiver) -> None:
        self._gallery, self._receiver = gallery, receiver
        self.told = ""

    @property
    def offered(self) -> bool:
        """Whether any program whose frames are shown takes marks."""
        return any(self._receiver.listens(image.stream) for image in self._gallery)

    def send(self) -> None:
        """Send them, and say what becomes of it."""
        imp = java("ij.WindowManager").getCurrentImage()
        image = next((each for each in self._gallery if each.imp == imp), None)
        try:
            if image is None or not self._receiver.listens(image.stream):
                raise ValueError("first select a live image of a program that takes marks")
            if (frame := image.frame_shown()) is None:
                raise ValueError("there is no frame where the sliders are")
            message = message_of(frame, list(_drawn(imp)), str(imp.getTitle()))
        except ValueError as error:
            self._tell(False, f"not sent: {error}")
            return
        self._receiver.send_marks(
            image.stream, message, lambda taken, text: invoke_later(lambda: self._tell(taken, text))
        )

    def _tell(self, taken: bool, text: str) -> None:
        self.told = text
        java("ij.IJ").showStatus(f"scopecast: {text}")
        if not taken:
            java("ij.IJ").log(f"scopecast: {text}")  # the status bar is soon another's


def _drawn(imp: Any) -> Iterator[Drawn]:
    """Yield what is to be sent.

    Raises
    ------
    ValueError
        If it is too much.
    """
    manager = java("ij.plugin.frame.RoiManager").getInstance()
    own = imp.getRoi()
    selected = [] if manager is None or not len(manager.getSelectedIndexes()) else manager.getSelectedRoisAsArray()
    # A single one that is selected there is also on the image, unless the user has drawn another one since.
    for roi in selected if own is None or len(selected) > 1 else [own]:
        yield from _items(roi)


def _items(roi: Any) -> Iterator[Drawn]:
    """Yield the items of a region; ImageJ counts areas from the corner of the first pixel, lines and points do not."""
    kind, name = int(roi.getType()), str(roi.getName() or "")
    if kind == roi.COMPOSITE:
        for part in roi.getRois():
            yield from _items(part)
    elif kind == roi.POINT:
        points = _vertices(roi.getFloatPolygon())
        check_number(len(points))
        for point in points:
            yield Drawn("point", point[None], name)
    elif kind in (roi.RECTANGLE, roi.OVAL):
        box = roi.getFloatBounds()
        x0, y0, x1, y1 = box.getMinX(), box.getMinY(), box.getMaxX(), box.getMaxY()
        corners = np.array([(y0, x0), (y0, x1), (y1, x1), (y1, x0)], float)
        yield Drawn("rectangle" if kind == roi.RECTANGLE else "ellipse", corners - 0.5, name)
    elif kind == roi.LINE:
        yield Drawn("line", np.array([(roi.y1d, roi.x1d), (roi.y2d, roi.x2d)], float), name)
    elif kind in (roi.POLYLINE, roi.FREELINE, roi.ANGLE):
        yield Drawn("path", _vertices(roi.getFloatPolygon()), name)
    else:
        yield Drawn("polygon", _vertices(roi.getFloatPolygon()) - 0.5, name)


def _vertices(polygon: Any) -> npt.NDArray[np.float64]:
    number = int(polygon.npoints)
    columns = (np.asarray(axis[:number], np.float64) for axis in (polygon.ypoints, polygon.xpoints))
    return np.stack([*columns], axis=1)
