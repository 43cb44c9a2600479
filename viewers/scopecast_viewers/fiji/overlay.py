"""What lies on the images of a stream, as the overlay of each; regions of interest also in ImageJ's ROI Manager.

The bytes of regions of interest are decoded by ImageJ itself, so what is shown is what ImageJ reads from the same file.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import jpype

from scopecast.frames.documents import Points, Rois, Shapes
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.fiji.marks import Mark, draw, draw_tracks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from scopecast_viewers.fiji.folding import Folding
    from scopecast_viewers.look.annotation_sets import AnnotationSet
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["LiveOverlay"]

logger = logging.getLogger(__name__)

#: Regions that are put into the ROI Manager; its table takes long to fill.
MOST_MANAGED: Final = 2000


_HEADER: Final = 64  # bytes of a region before its coordinates
_WITHOUT_COORDINATES: Final = (1, 2, 3)  # types of regions: rectangle, oval, line


class _Drawn(NamedTuple):
    """What is on the overlay of one document, or of all documents of a set of tracks.

    Attributes
    ----------
    of, version
        The document, and 0; or the set, and its version.
    marks
        What was drawn.
    problem
        What could not be drawn, or ``""``.
    """

    of: object
    version: int
    marks: list[Mark]
    problem: str


class LiveOverlay:
    """The annotations of a stream on one of its images. Used on the window thread only.

    A document that has come is drawn once; those that were there before are not touched.

    Parameters
    ----------
    stream
        What is to be drawn.
    managed
        Whether regions of interest go into the ROI Manager, too: it has one list for all images.
    """

    def __init__(self, stream: LiveStream, *, managed: bool = True) -> None:
        self._stream, self._is_managed = stream, managed
        self._versions: tuple[object, ...] = ()
        self._folding: Folding | None = None
        self._drawn: dict[object, _Drawn] = {}

    @property
    def problem(self) -> str:
        """What is not drawn of the annotations, and why; or ``""``."""
        return next((drawn.problem for drawn in self._drawn.values() if drawn.problem), "")

    def update(self, imp: Any, folding: Folding) -> None:
        """Bring the overlay in step with the stream; regions that the user has added stay."""
        sets = self._stream.annotations.sets
        versions = tuple((each, each.version) for each in sets)
        if not sets or (versions == self._versions and folding == self._folding):
            return
        before, self._versions, self._folding = self._folding, versions, folding
        # More frames at the end move nothing but what waits for them, unless the image becomes a hyperstack by them,
        # which counts differently.
        longer = before is not None and folding.only_longer(before) and _plain(folding) == _plain(before)
        keeps = before.holds if before is not None and longer else _nothing
        overlay = imp.getOverlay() or java("ij.gui.Overlay")()
        drawn: dict[object, _Drawn] = {}
        for key, of, version, where in self._wanted(sets):
            old = self._drawn.get(key)
            kept = old is not None and old.of is of and old.version == version
            new = drawn[key] = self._drawn.pop(key) if kept else self._draw(of, version)
            stays = kept and keeps(where)
            for mark in new.marks:
                if not (stays and (not mark.where or keeps(mark.where))):
                    _place(mark.roi, {**where, **mark.where}, imp, folding)
                if not kept:
                    overlay.add(mark.roi)
        for gone in self._drawn.values():
            for mark in gone.marks:
                overlay.remove(mark.roi)
        self._drawn = drawn
        imp.setOverlay(overlay)

    @staticmethod
    def _wanted(sets: Iterable[AnnotationSet]) -> Iterator[tuple[object, Any, int, Mapping[str, int]]]:
        """Yield a key, what is to be drawn and its version, and where, for each document; for tracks for the set."""
        for each in sets:
            channel = {} if each.channel is None else {"c": each.channel}
            if each.kind == "tracks":
                yield each, each, each.version, channel
                continue
            for annotation in each:
                where = {**channel, **annotation.where}
                yield (each, *sorted(annotation.where.items())), annotation.document, 0, where

    def _draw(self, of: Any, version: int) -> _Drawn:
        try:
            return self._try_to_draw(of, version)
        except Exception as error:  # the image and what else lies on it go on
            logger.exception("%s can't be drawn", type(of).__name__)
            return _Drawn(of, version, [], f"some marks can't be drawn: {type(error).__name__}: {error}")

    def _try_to_draw(self, of: Any, version: int) -> _Drawn:
        if isinstance(of, Rois):
            marks, unread = _decode(of)
            if self._is_managed:
                _manage(marks)
            return _Drawn(of, version, marks, f"{unread} regions can't be read" if unread else "")
        marks, left_out = draw(of) if isinstance(of, Points | Shapes) else draw_tracks(of)
        return _Drawn(of, version, marks, f"{left_out} marks not drawn: too many, or too far away" if left_out else "")


def _manage(marks: list[Mark]) -> None:
    """Put regions into the ROI Manager, which is opened for them."""
    if marks:
        manager_class = java("ij.plugin.frame.RoiManager")
        manager = manager_class.getInstance() or manager_class()
        for mark in marks[: max(0, MOST_MANAGED - int(manager.getCount()))]:
            manager.addRoi(mark.roi.clone())


def _decode(document: Rois) -> tuple[list[Mark], int]:
    """Return the regions of a document, and how many ImageJ could not read."""
    names = document.names or [""] * len(document.items)
    marks = []
    for data, name in zip(document.items, names, strict=True):
        if _claims_more_than_it_has(data):
            continue
        # Only a name that is given replaces the one in the bytes.
        array = jpype.JArray(jpype.JByte)(data)
        decoder = java("ij.io.RoiDecoder")
        try:
            roi = (decoder(array, name.removesuffix(".roi")) if name else decoder(array, None)).getRoi()
        except jpype.JException as error:
            roi = None
            logger.debug("a region could not be read: %s", error)
        if roi is not None:
            marks.append(Mark(roi, {}))
    return marks, len(document.items) - len(marks)


def _claims_more_than_it_has(data: bytes) -> bool:
    """Whether a region says that it has more than its bytes can hold: the decoder makes arrays as large as it says.

    Offsets: ``ij.io.RoiDecoder`` of ImageJ 1.54p.
    """

    def number(at: int) -> int:
        return int.from_bytes(data[at : at + 4], "big", signed=True)

    if len(data) < _HEADER:
        return True
    header2 = number(60)
    claims = [4 * number(36)]  # of composite regions
    if data[6] not in _WITHOUT_COORDINATES:
        claims.append(4 * (int.from_bytes(data[16:18], "big") or number(18)))
    if data[48:50] == b"\0\1":  # a text
        claims += [2 * number(_HEADER + 8), 2 * number(_HEADER + 12)]
    if 0 < header2 < len(data):
        claims += [2 * number(header2 + 20), number(header2 + 32), 2 * number(header2 + 44)]  # name, image, properties
    return max(claims) > len(data)


def _nothing(_where: Mapping[str, int]) -> bool:
    """Say of each place that what is there has moved."""
    return False


def _plain(folding: Folding) -> bool:
    """Whether the slices are numbered one after the other, as those of a stack with one slider are."""
    return sum(extent > 1 for extent in folding.dimensions) < 2


def _place(roi: Any, where: Mapping[str, int], imp: Any, folding: Folding) -> None:
    """Let a region be seen where its document is fixed; along the other axes, it keeps the position of its own.

    One whose frame has not come is put behind the last, where it is not seen.
    """
    place = tuple(where.get(name, low) for name, (low, _) in zip(folding.axes, folding.extents, strict=True))
    channel, slice_, frame = folding.position(place)
    fixed = {name for name in where if name in folding.axes}
    if not fixed:
        return
    here = folding.holds(where)
    if not here:
        frame = folding.dimensions[2] + 1
    along_frames = not here or bool(fixed - {"c", "z"})
    position = (
        channel if "c" in fixed else int(roi.getCPosition()),
        slice_ if "z" in fixed else int(roi.getZPosition()),
        frame if along_frames else int(roi.getTPosition()),
    )
    if imp.isDisplayedHyperStack() or imp.isHyperStack():
        roi.setPosition(*position)
    else:
        roi.setPosition(folding.number(place) if here else math.prod(folding.dimensions) + 1)
