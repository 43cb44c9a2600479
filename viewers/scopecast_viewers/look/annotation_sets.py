"""What lies on the images of a stream: points, shapes, tracks, regions of interest, each at its place.

The receiver's thread puts documents in, the viewer's thread asks what there is at a place. Neither takes a lock:
documents are never changed, only replaced, and each is added before the version that tells of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from scopecast.frames.documents import Rois
from scopecast_viewers.look.regions import Regions, read_regions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from scopecast.frames.documents import Document
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["FAR", "Annotation", "AnnotationSet", "Annotations"]

#: Pixels between an image and what is published for it, past which no viewer shows it: 32-bit floats, which canvases
#: take, know places to a pixel up to here. It is where a fit has diverged.
FAR: Final = 2**24

#: Bytes of documents that a stream keeps; past that, the oldest are forgotten.
MAX_BYTES: Final = 256 * 2**20
#: Sets (kind and name) that a stream keeps, each a layer or two of the viewer's.
MAX_SETS: Final = 64

_Place = tuple[tuple[str, ...], tuple[int, ...]]  # the axes, sorted, and the index along each


@dataclass(frozen=True, eq=False)
class Annotation:
    """A document and where it belongs.

    Attributes
    ----------
    where
        Its absolute index along the axes at which it is fixed; it belongs to every position of all others.
    document
        What was published. Of regions of interest, ``document.items`` are the bytes of each as ImageJ reads them, in
        order, and ``document.names`` the names of their files, or empty.
    tag
        What is known of its frame.
    nbytes
        Its size.
    """

    where: Mapping[str, int]
    document: Document
    tag: Tag
    nbytes: int

    @cached_property
    def regions(self) -> Regions:
        """The regions of interest of the document, read when they are asked for first; none of another kind."""
        return read_regions(self.document) if isinstance(self.document, Rois) else Regions((), "")


class AnnotationSet:
    """All documents of one kind and name: what a viewer shows as a layer.

    Attributes
    ----------
    kind
        ``"points"``, ``"shapes"``, ``"tracks"`` or ``"rois"``.
    name
        As published; may be ``""``.
    channel
        Their index on the axis ``"c"``, or None if they belong to all channels.
    version : int
        Grows with every change.
    """

    def __init__(self, kind: str, name: str, channel: int | None) -> None:
        self.kind, self.name, self.channel = kind, name, channel
        self.version = 0
        self._last: dict[_Place, int] = {}  # the latest t of each place without it
        # By the axes at which they are fixed, then by place: one look for each group finds all that is at a place.
        self._groups: dict[tuple[str, ...], dict[tuple[int, ...], Annotation]] = {}

    def __len__(self) -> int:
        return sum(map(len, tuple(self._groups.values())))

    def __iter__(self) -> Iterator[Annotation]:
        """Iterate over all of them, in the order in which their places were first published."""
        for group in tuple(self._groups.values()):
            yield from tuple(group.values())

    def at(self, where: Mapping[str, int]) -> tuple[Annotation, ...]:
        """Return those that belong to a position of the sliders.

        Parameters
        ----------
        where
            The absolute index along each axis that is to count. A document that is fixed at any other axis is returned
            for every index on that one: a viewer that shows all of z at once leaves z out.
        """
        found: list[Annotation] = []
        for axes, group in tuple(self._groups.items()):
            if all(axis in where for axis in axes):
                one = group.get(tuple(where[axis] for axis in axes))
                found += [] if one is None else [one]
            else:
                found += [
                    each
                    for each in tuple(group.values())
                    if all(where.get(axis, index) == index for axis, index in each.where.items())
                ]
        return tuple(found)

    def lately(self, where: Mapping[str, int]) -> Mapping[str, int]:
        """Return a position of the sliders as it was at the last time, up to this, for which something was published.

        Whoever publishes needs a while, in which images go on. It is the position itself if something belongs to it, or
        nothing to any earlier time of it.
        """
        earlier: list[int] = []
        for axes, group in tuple(self._groups.items()):
            if "t" not in where or not all(axis in where for axis in axes):
                continue
            if (place := tuple(where[axis] for axis in axes)) in group:
                return where
            if (last := self._last.get(_without_t((axes, place)), where["t"])) < where["t"]:
                earlier.append(last)
        return {**where, "t": max(earlier)} if earlier else where

    @property
    def reach(self) -> dict[str, tuple[int, int]]:
        """The lowest and highest index along each axis at which a document is fixed."""
        reach: dict[str, tuple[int, int]] = {}
        for axes, group in tuple(self._groups.items()):
            places = tuple(group)
            if places:
                lows, highs = map(min, zip(*places, strict=True)), map(max, zip(*places, strict=True))
                for axis, low, high in zip(axes, lows, highs, strict=True):
                    known = reach.get(axis, (low, high))
                    reach[axis] = (min(low, known[0]), max(high, known[1]))
        return reach

    def put(self, place: _Place, annotation: Annotation) -> None:
        """Put a document at its place, over what was there; for `Annotations`."""
        self._groups.setdefault(place[0], {})[place[1]] = annotation
        if "t" in annotation.where:
            anywhen, t = _without_t(place), annotation.where["t"]
            self._last[anywhen] = max(t, self._last.get(anywhen, t))
        self.version += 1

    def remove(self, place: _Place) -> None:
        """Forget what is at a place; for `Annotations`."""
        self._groups[place[0]].pop(place[1], None)
        self.version += 1


def _without_t(place: _Place) -> _Place:
    """Return a place at any time."""
    axes, index = place
    kept = [(axis, at) for axis, at in zip(axes, index, strict=True) if axis != "t"]
    return tuple(axis for axis, _ in kept), tuple(at for _, at in kept)


class Annotations:
    """The documents of a stream, within a budget.

    Iterating gives the sets, in order of their first document, at one moment.

    Attributes
    ----------
    sets : tuple of AnnotationSet
        Replaced as a whole when one joins.
    received, forgotten : int
        Documents that came; documents that were given up because the budget was full.
    """

    def __init__(self, budget: int = MAX_BYTES) -> None:
        self.sets: tuple[AnnotationSet, ...] = ()
        self.received = self.forgotten = 0
        self._budget = budget
        self._nbytes = 0
        self._oldest: dict[tuple[AnnotationSet, _Place], int] = {}  # their bytes, the oldest first

    def __iter__(self) -> Iterator[AnnotationSet]:
        return iter(self.sets)

    def __len__(self) -> int:
        return len(self.sets)

    def put(self, kind: str, name: str, annotation: Annotation, channel: int | None = None) -> bool:
        """Take in a document. Return False if there are too many sets already for a new one."""
        place = self._place(annotation)
        belongs = next((s for s in self.sets if (s.kind, s.name, s.channel) == (kind, name, channel)), None)
        if belongs is None:
            if len(self.sets) >= MAX_SETS:
                return False
            belongs = AnnotationSet(kind, name, channel)
        belongs.put(place, annotation)
        if belongs not in self.sets:
            self.sets = (*self.sets, belongs)
        self.received += 1
        key = (belongs, place)
        self._nbytes += annotation.nbytes - self._oldest.pop(key, 0)
        self._oldest[key] = annotation.nbytes
        while self._nbytes > self._budget and len(self._oldest) > 1:
            old = next(iter(self._oldest))
            self._nbytes -= self._oldest.pop(old)
            old[0].remove(old[1])
            self.forgotten += 1
        return True

    @staticmethod
    def _place(annotation: Annotation) -> _Place:
        axes = tuple(sorted(annotation.where))
        return axes, tuple(annotation.where[axis] for axis in axes)

    def clear(self) -> None:
        """Let go of all documents."""
        self.sets = ()
        self._oldest.clear()
        self._nbytes = 0
