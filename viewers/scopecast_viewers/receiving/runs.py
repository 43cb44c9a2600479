"""Runs that several publishers share: the frames of all of them are in one stream.

Each publisher counts the labels of an axis in its own order. Here they are placed once more, by their names, as if one
publisher had sent them all.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from scopecast.frames.streams import FrameStream
from scopecast_viewers.receiving.live import LiveStream, PaintLog

if TYPE_CHECKING:
    from scopecast.frames.axes import AxisValue
    from scopecast.frames.documents import Document
    from scopecast.link.messages import Frame, Stream
    from scopecast_viewers.receiving.live import StreamState
    from scopecast_viewers.stacks.history import History
    from scopecast_viewers.stacks.plane import Plane, Tag

__all__ = ["Run", "Runs", "SharedStream"]

_Key = tuple[str, tuple[float, ...], str]


class _RunLog(PaintLog):
    """What a window has painted of a shared run, also told to the publisher of each frame."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, PaintLog] = {}

    def paint(self, tags: list[Tag], *, first: bool = False) -> None:
        super().paint(tags, first=first)
        for tag in tags:
            if (log := self.logs.get(tag.source)) is not None:
                log.paint([tag], first=first)


class Run:
    """A run that is shared.

    Parameters
    ----------
    number
        Tells it from earlier runs of the same name.
    about
        The first announcement; the size of a pixel, the steps and the unit are taken from it.
    history
        Which planes stay in memory.

    Attributes
    ----------
    stream : LiveStream
        Its frames.
    shares : list of SharedStream
        Those of the publishers that have frames in it.
    """

    def __init__(self, number: int, about: Stream, history: History) -> None:
        self._frames = FrameStream(
            number,
            about.run,
            scale=about.scale,
            units=about.units,
            steps={axis: step for axis, step in zip(about.axes, about.steps, strict=True) if step},
            run=about.run,
        )
        self._numbers = itertools.count()
        self.log = _RunLog()
        self._frames.join(about)
        self._frames.began_ns = about.began_ns
        self.stream = LiveStream(f"run {about.run}", about.run, self._frames.message(), history, self.log)
        self.shares: list[SharedStream] = []

    @property
    def is_live(self) -> bool:
        """Whether any of its publishers may send more."""
        return any(share.state == "live" for share in self.shares)

    def take(self, about: Stream) -> None:
        """Take what another publisher announces of it."""
        self._frames.join(about)
        self._update()

    def _update(self) -> None:
        if not self._frames.announced:
            self._frames.announced = True
            self.stream.update(self._frames.message())

    def place(self, where: dict[str, AxisValue]) -> list[int]:
        """Return the index of a place along the axes of the stream, to which new ones are added."""
        index = self._frames.place(where)
        self._update()
        return index

    def holds(self, where: dict[str, AxisValue]) -> bool:
        """Whether an image has come for a place."""
        index = tuple(self._frames.place(where))
        return any(index in stack.layout.planes for stack in self.stream.stacks if len(stack.axes) == len(index))

    def number(self) -> int:
        """Return the number of the next frame, over all publishers."""
        return next(self._numbers)

    def settle(self, state: StreamState) -> None:
        """Take note that the state of a share has changed."""
        self.stream.publishers = frozenset(share.key[0] for share in self.shares)
        self.stream.alive = any(share.alive for share in self.shares)
        if self.shares:
            self.stream.state = "live" if self.is_live else state


class Runs:
    """The shared runs of a receiver, by their names. Used by the receiver's thread alone."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._newest: dict[_Key, Run] = {}
        self._numbers = itertools.count()

    def join(self, share: SharedStream, where: dict[str, AxisValue]) -> Run:
        """Return the run that a share belongs to, whose first frame has come.

        A run is open as long as one of its publishers is. After that it goes on (workers may come one after the other)
        until a place comes again: that is the same pipeline, run once more, and the two must not be mixed. Pixels of
        different sizes can't be in one run either.
        """
        about = share.about
        key = (about.run, tuple(about.scale), about.units)
        run = self._newest.get(key)
        if run is None or not (run.is_live or (run.shares and not run.holds(where))):
            run = self._newest[key] = Run(next(self._numbers), about, self._history)
        else:
            run.take(about)
        run.shares.append(share)
        return run

    def drop(self, run: Run) -> None:
        """Let go of a run that no publisher has frames in any more."""
        self._newest = {key: kept for key, kept in self._newest.items() if kept is not run}


class SharedStream:
    """What one publisher sends of a shared run; its `Source` uses it as it uses a `LiveStream`.

    Parameters
    ----------
    token
        The publisher's.
    about
        Its announcement.
    log
        Told what is painted of this publisher's frames.
    runs
        Knows the run, which is chosen with the first frame.

    Attributes
    ----------
    stream : LiveStream or None
        Where its frames go; None before the first.
    received : int
        Images that it has put there.
    """

    def __init__(self, token: str, about: Stream, log: PaintLog, runs: Runs) -> None:
        self.key = (token, about.id)
        self.about = about
        self.received = 0
        self._log, self._runs = log, runs
        self._run: Run | None = None
        self._state: StreamState = "live"
        self._alive = True
        self._axes_of_length = {len(about.axes): tuple(about.axes)}
        self._labels: dict[tuple[str, int], AxisValue] = {}

    @property
    def stream(self) -> LiveStream | None:
        """Where its frames go; None before the first."""
        return None if self._run is None else self._run.stream

    @property
    def held(self) -> bool:
        """Whether the user wants its frames kept."""
        return self._run is not None and self._run.stream.held

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that the publisher has announced."""
        return tuple(self.about.axes)

    @property
    def state(self) -> StreamState:
        """As that of a stream."""
        return self._state

    @state.setter
    def state(self, state: StreamState) -> None:
        self._state = state
        if self._run is not None:
            self._run.settle(state)

    @property
    def alive(self) -> bool:
        """Whether its publisher is there."""
        return self._alive

    @alive.setter
    def alive(self, alive: bool) -> None:
        self._alive = alive
        if self._run is not None:
            self._run.settle(self._state)

    def update(self, about: Stream) -> None:
        """Take a newer announcement."""
        self.about = about
        self._axes_of_length[len(about.axes)] = tuple(about.axes)
        if self._run is not None:
            self._run.take(about)

    def place(self, index: list[int]) -> list[int] | None:
        """Return a frame's index along the axes of the run."""
        axes = self._axes_of_length.get(len(index))
        if axes is None:
            return None
        where = {axis: self._label(axis, at) for axis, at in zip(axes, index, strict=True)}
        if self._run is None:
            self._run = self._runs.join(self, where)
            self._run.log.logs[self.key[0]] = self._log
            self._run.settle(self._state)
        return self._run.place(where)

    def _label(self, axis: str, at: int) -> AxisValue:
        """Return what the publisher calls a place, as it did when the first frame came for it."""
        value = self._labels.get((axis, at))
        if value is None:
            labels = self.about.labels.get(axis, ())
            value = self._labels[axis, at] = labels[at] if at < len(labels) else at
        return value

    def put(self, frame: Frame, plane: Plane, *, magnitude: bool = False) -> None:
        """Put a frame's plane where it belongs; its index is one that `place` has returned."""
        assert self._run is not None
        frame.sequence = self._run.number()
        self._run.stream.put(frame, plane, magnitude=magnitude, source=self.key[0])
        self.received += frame.kind == "image" and not frame.name

    def annotate(self, frame: Frame, document: Document) -> bool:
        """Put a document where it belongs; see `LiveStream.annotate`."""
        assert self._run is not None
        frame.sequence = self._run.number()
        return self._run.stream.annotate(frame, document, source=self.key[0])

    def clear(self) -> None:
        """Discard all that has arrived in the run."""
        if self._run is not None:
            self._run.stream.clear()

    def remove(self) -> None:
        """Leave the run; it is removed with the last."""
        self._state = "removed"
        run, self._run = self._run, None
        if run is not None:
            run.shares.remove(self)
            if run.shares:
                run.settle("ended" if run.stream.state == "live" else run.stream.state)
            else:
                run.stream.remove()
                self._runs.drop(run)
