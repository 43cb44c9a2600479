"""What a relay keeps: the sources, their runs, and the frames of these within a budget.

It knows publishers and planes; to whom they are sent is known to `scopecast_viewers.relaying.desk`. Used under the
relay's lock, but for `Kept.pixels`, which may wait for the disk.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.errors import ProtocolError
from scopecast.frames.documents import DOCUMENTS
from scopecast_viewers.stacks.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    import numpy.typing as npt

    from scopecast.link import messages
    from scopecast_viewers.stacks.history import History

__all__ = ["Kept", "RelayedRun", "RelayedSource", "Shelf"]

#: Bytes of documents that a run keeps: the newest; and runs and ended sources that are kept with their frames.
_MOST_DOCUMENT_BYTES: Final = 64 * 2**20
_KEPT_RUNS: Final = 3
_KEPT_SOURCES: Final = 3


class Kept:
    """A frame that the relay has, or had.

    Parameters
    ----------
    serial
        Its number among all frames of the relay.
    run
        The run that it is part of.
    message
        Its publisher's announcement.
    place
        Where its plane is; None for a document, whose bytes are `document`.

    Attributes
    ----------
    gone : bool
        Whether another frame has taken its place, or it is not kept any more.
    pinned : ndarray or None
        Its pixels, if they are held whatever takes its place: as many desks as `pins` says are to have each frame.
    """

    __slots__ = ("document", "gone", "message", "pinned", "pins", "run", "serial", "stack")

    def __init__(self, serial: int, run: RelayedRun, message: messages.Frame) -> None:
        self.serial, self.run, self.message = serial, run, message
        self.stack: Stack | None = None
        self.document: npt.NDArray[np.uint8] | None = None
        self.gone = False
        self.pinned: npt.NDArray[Any] | None = None
        self.pins = 0

    @property
    def channel(self) -> Hashable:
        """What is the same for all frames of which a desk is sent the newest."""
        axes = self.run.about.axes
        where = self.run.place(self.message.index)
        at = where[axes.index("c")] if where is not None and "c" in axes else 0
        return self.run.number, at, self.message.kind, self.message.name

    def pixels(self) -> npt.NDArray[Any] | None:
        """Return its plane, or its bytes; None once it is gone."""
        if (pinned := self.pinned) is not None:
            return pinned
        if self.stack is None:
            return self.document
        index = self.run.place(self.message.index)
        plane = None if index is None else self.stack.plane(index)
        return None if plane is None or self.gone else np.asarray(plane)

    def give_up(self) -> None:
        """Take note that it is not kept any more."""
        self.gone, self.document = True, None


class RelayedRun:
    """A run of a source: what its publisher has announced, and the frames that are kept of it."""

    def __init__(self, number: int, source: RelayedSource, about: messages.Stream, history: History) -> None:
        self.number, self.source, self.about = number, source, about
        self.ended = False
        self._history = history
        self._axes = {len(about.axes): about.axes}
        self._stacks: dict[Hashable, Stack] = {}
        self._documents: OrderedDict[Hashable, Kept] = OrderedDict()
        self._document_bytes = 0

    def take(self, about: messages.Stream) -> bool:
        """Take in a newer announcement; return whether it says something new.

        Raises
        ------
        ProtocolError
            If an axis is missing that was there.
        """
        if about == self.about:
            return False
        if not set(self.about.axes) <= set(about.axes):
            msg = f"stream {about.id} lost an axis: {self.about.axes} became {about.axes}"
            raise ProtocolError(msg)
        for position, name in enumerate(about.axes):
            if name not in self.about.axes:
                for stack in self._stacks.values():
                    stack.add_axis(name, position)
        self.about = about
        self._axes[len(about.axes)] = about.axes
        return True

    def place(self, index: list[int]) -> list[int] | None:
        """Return a frame's index along the axes that there are now; None if it fits none that there were."""
        if len(index) == len(self.about.axes):
            return index
        axes = self._axes.get(len(index))
        if axes is None:
            return None
        where = dict(zip(axes, index, strict=True))
        return [where.get(name, 0) for name in self.about.axes]

    def put(self, kept: Kept, pixels: npt.NDArray[Any]) -> Kept | None:
        """Keep a frame, and return the one whose place it takes."""
        message = kept.message
        place = self.place(message.index)
        if place is None:
            msg = f"a frame with {len(message.index)} indices, in a stream with the axes {self.about.axes}"
            raise ProtocolError(msg)
        if message.kind in DOCUMENTS:
            kept.document = pixels
            key = (message.kind, message.name, tuple(place))
            former = self._documents.pop(key, None)
            self._documents[key] = kept
            self._document_bytes += pixels.nbytes - (
                former.document.nbytes if former and former.document is not None else 0
            )
            while self._document_bytes > _MOST_DOCUMENT_BYTES and len(self._documents) > 1:
                _, oldest = self._documents.popitem(last=False)
                self._document_bytes -= 0 if oldest.document is None else oldest.document.nbytes
                oldest.give_up()
        else:
            signature = (pixels.shape, pixels.dtype.str, message.kind, message.name)
            stack = self._stacks.get(signature)
            if stack is None:
                stack = self._stacks[signature] = Stack(
                    tuple(self.about.axes), pixels.shape, pixels.dtype, self._history
                )
            tag = stack.tag(place)
            former = tag if isinstance(tag, Kept) else None
            kept.stack = stack
            stack.put(place, pixels, kept)
        if former is not None:
            former.give_up()
        return former

    def frames(self) -> Iterator[Kept]:
        """Yield the frames that are kept, in no particular order."""
        for stack in self._stacks.values():
            for held in tuple(stack.layout.planes.values()):
                if isinstance(held.tag, Kept) and not held.tag.gone:
                    yield held.tag
        yield from self._documents.values()

    def at(self, index: list[int]) -> list[Kept]:
        """Return the frames at a place, of all channels."""
        c = self.about.axes.index("c") if "c" in self.about.axes else None
        found = []
        for stack in self._stacks.values():
            for channel in stack.channels if c is not None else (0,):
                place = [*index]
                if c is not None:
                    place[c] = channel
                if len(place) == len(stack.axes) and isinstance(tag := stack.tag(place), Kept) and not tag.gone:
                    found.append(tag)
        return found

    def clear(self) -> None:
        """Let go of all frames."""
        for kept in tuple(self.frames()):
            kept.give_up()
        for stack in self._stacks.values():
            stack.clear()
        self._stacks.clear()
        self._documents.clear()


class RelayedSource:
    """A program that publishes, or has published.

    Attributes
    ----------
    number : int
        The relay's number of it.
    token, origin, title, host : str
        Of its entry in the run directory; the origin is its token, unless it shows what comes from another machine.
    listens : bool
        Whether it takes marks.
    over, died : bool
        Whether nothing comes any more, and whether that is because it was killed.
    """

    def __init__(self, number: int, token: str, origin: str, title: str, host: str) -> None:
        self.number, self.token, self.origin, self.title, self.host = number, token, origin, title, host
        self.listens = self.over = self.died = False
        self.runs: dict[int, RelayedRun] = {}  # by the publisher's numbers


class Shelf:
    """The sources that a relay has, with their runs and frames.

    Parameters
    ----------
    history
        The memory for the planes.
    """

    def __init__(self, history: History) -> None:
        self.sources: list[RelayedSource] = []
        self._history = history
        self._source_numbers, self._run_numbers, self._serials = (
            itertools.count(1),
            itertools.count(1),
            itertools.count(1),
        )

    def source(self, token: str, origin: str, title: str, host: str) -> tuple[RelayedSource, bool]:
        """Return the source with a token, and whether it is new."""
        for source in self.sources:
            if source.token == token:
                return source, False
        source = RelayedSource(next(self._source_numbers), token, origin, title, host)
        self.sources.append(source)
        return source, True

    def run(self, source: RelayedSource, about: messages.Stream) -> tuple[RelayedRun, bool]:
        """Return the run that is announced so, and whether its announcement is new; older runs are let go of."""
        run = source.runs.get(about.id)
        if run is not None:
            return run, run.take(about)
        run = source.runs[about.id] = RelayedRun(next(self._run_numbers), source, about, self._history)
        for number in list(source.runs)[:-_KEPT_RUNS]:
            source.runs.pop(number).clear()
        return run, True

    def put(self, run: RelayedRun, message: messages.Frame, pixels: npt.NDArray[Any]) -> tuple[Kept, Kept | None]:
        """Keep a frame; return it, and the one whose place it takes."""
        kept = Kept(next(self._serials), run, message)
        return kept, run.put(kept, pixels)

    def tidy(self) -> list[RelayedSource]:
        """Let go of the sources that ended first, but for the last; return those."""
        gone = [source for source in self.sources if source.over][:-_KEPT_SOURCES]
        for source in gone:
            self.sources.remove(source)
            for run in source.runs.values():
                run.clear()
            source.runs.clear()
        return gone

    def run_of(self, number: int) -> RelayedRun | None:
        """Return the run with the relay's number of it."""
        return next((run for source in self.sources for run in source.runs.values() if run.number == number), None)
