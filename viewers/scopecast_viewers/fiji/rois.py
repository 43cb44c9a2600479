"""Regions of interest of a stream: in ImageJ's ROI Manager, and as the overlay of the image they belong to.

The bytes are decoded by ImageJ itself, so what is shown is what ImageJ reads from the same file.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import jpype

from scopecast_viewers.fiji.awt import java

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopecast_viewers.annotations import Annotation
    from scopecast_viewers.fiji.folding import Folding
    from scopecast_viewers.live import LiveStream

__all__ = ["RoiOverlay"]

logger = logging.getLogger(__name__)

#: Regions that are put into the ROI Manager; its table takes long to fill.
MOST_MANAGED: Final = 2000


class RoiOverlay:
    """The regions of a stream on one of its images. Used on the window thread only.

    Attributes
    ----------
    wrong : int
        Regions that ImageJ could not read.
    """

    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream
        self._versions: tuple[object, ...] = ()
        self._ours: list[Any] = []  # what this has put on the overlay
        self._managed: set[int] = set()  # ids of the documents that are in the ROI Manager
        self.wrong = 0

    def update(self, imp: Any, folding: Folding) -> None:
        """Bring the overlay in step with the stream; regions that the user has added stay."""
        sets = [each for each in self._stream.annotations if each.kind == "rois"]
        versions = (*((id(each), each.version) for each in sets), folding)
        if versions == self._versions or not sets:
            return
        self._versions = versions
        self.wrong = 0
        overlay = imp.getOverlay() or java("ij.gui.Overlay")()
        for roi in self._ours:
            overlay.remove(roi)
        self._ours = []
        for each in sets:
            where = {} if each.channel is None else {"c": each.channel}
            for annotation in each:
                rois = self._decode(annotation)
                for roi in rois:
                    _place(roi, {**where, **annotation.where}, imp, folding)
                    overlay.add(roi)
                self._ours += rois
                self._manage(annotation, rois)
        imp.setOverlay(overlay)

    def _decode(self, annotation: Annotation) -> list[Any]:
        document: Any = annotation.document
        names = document.names or [""] * len(document.items)
        rois = []
        for data, name in zip(document.items, names, strict=False):
            # Only a name that is given replaces the one in the bytes.
            array = jpype.JArray(jpype.JByte)(data)
            decoder = java("ij.io.RoiDecoder")
            try:
                roi = (decoder(array, name.removesuffix(".roi")) if name else decoder(array, None)).getRoi()
            except jpype.JException as error:
                roi = None
                logger.debug("a region could not be read: %s", error)
            if roi is None:
                self.wrong += 1
            else:
                rois.append(roi)
        return rois

    def _manage(self, annotation: Annotation, rois: list[Any]) -> None:
        if id(annotation.document) in self._managed or not rois:
            return
        self._managed.add(id(annotation.document))
        manager_class = java("ij.plugin.frame.RoiManager")
        manager = manager_class.getInstance() or manager_class()
        for roi in rois[: max(0, MOST_MANAGED - int(manager.getCount()))]:
            manager.addRoi(roi.clone())


def _place(roi: Any, where: Mapping[str, int], imp: Any, folding: Folding) -> None:
    """Let a region be seen where its document is fixed; along the other axes, it keeps the position of its own."""
    place = tuple(where.get(name, low) for name, (low, _) in zip(folding.axes, folding.extents, strict=True))
    channel, slice_, frame = folding.position(place)
    fixed = {name for name in where if name in folding.axes}
    if not fixed:
        return
    along_frames = bool(fixed - {"c", "z"})
    position = (
        channel if "c" in fixed else int(roi.getCPosition()),
        slice_ if "z" in fixed else int(roi.getZPosition()),
        frame if along_frames else int(roi.getTPosition()),
    )
    if imp.isDisplayedHyperStack() or imp.isHyperStack():
        roi.setPosition(*position)
    else:
        roi.setPosition(folding.number(place))
