"""A live stream as a viewer sees it: its announcement, and the stacks that hold its frames."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Literal

import numpy as np

from scopecast.protocol import clock_ns
from scopecast_viewers.look.annotation_sets import Annotation, Annotations
from scopecast_viewers.stacks.plane import Sent, Tag
from scopecast_viewers.stacks.stack import Stack

if TYPE_CHECKING:
    from scopecast.frames.documents import Document
    from scopecast.link.messages import Frame, Stream
    from scopecast_viewers.stacks.history import History
    from scopecast_viewers.stacks.plane import Plane

__all__ = ["LiveStream", "PaintLog"]

StreamState = Literal["live", "detached", "ended", "lost", "removed"]
_RATE_WINDOW = 60
_RESTS_S = 2.0
#: A rate is told of no shorter time: a few frames that were sent together say nothing of how many come in a second.
_SHORTEST_S = 0.5
_MARK_S = 0.05  # how often the count is noted
_NEWS_S = 10.0  # a frame that another machine has sent later is no news
#: Two clocks are compared over a link whose round trip may be long.
_SAME_NS = 250_000_000
_Signature = tuple[tuple[int, ...], str, str, str, str]
_NIL = b"\xc0"  # of MessagePack


class PaintLog:
    """What a window has painted of one publisher's frames: how many, and how old they were then."""

    def __init__(self) -> None:
        self.painted = 0
        self.ages_ms: deque[float] = deque(maxlen=4096)
        self.first_ms = 0.0
        self._lock = threading.Lock()

    def paint(self, tags: list[Tag], *, first: bool = False) -> None:
        """Count frames that are on the screen now for the first time."""
        now = clock_ns()
        with self._lock:
            self.painted += len(tags)
            self.ages_ms.extend((now - tag.sent_ns) / 1e6 for tag in tags if tag.news)
            if first and tags and tags[0].news:
                self.first_ms = (now - min(tag.sent_ns for tag in tags)) / 1e6

    def percentiles(self) -> tuple[float, float]:
        """Return the median and the 99th percentile of the ages, in milliseconds."""
        with self._lock:
            ages = list(self.ages_ms)
        return (float(np.percentile(ages, 50)), float(np.percentile(ages, 99))) if ages else (0.0, 0.0)


class LiveStream:
    """The frames of one run, in as many stacks as they have shapes and dtypes.

    The receiver's thread puts frames in; the viewer's thread reads `stacks` and the counts.

    Parameters
    ----------
    source
        The token of the publisher; of a run that several share, its name.
    title
        What the publisher calls itself.
    about
        The announcement.
    history
        Which planes stay in memory; shared by all streams of a viewer.

    Attributes
    ----------
    about : scopecast.link.messages.Stream
        The newest announcement.
    stacks : tuple of Stack
        In order of their first frame.
    state : str
        ``"live"``, ``"detached"`` (by us), ``"ended"`` (in good order), ``"lost"`` (its publisher died), or
        ``"removed"``.
    began : float
        When its first frame was published, in seconds since the epoch: of the clock on the wall. When it was announced
        to this viewer, where its publisher does not tell.
    alive : bool
        Its publisher is there, whether this run has ended or not.
    parts : tuple of (Stack, channel)
        The channels that each stack has, by their index on the axis ``"c"`` (0 without one), in order of their first
        frame: what a viewer with a layer per channel shows.
    annotations : Annotations
        Its points, shapes, tracks and regions of interest.
    received : int
        Images that were put into the stacks.
    superseded, dropped : int
        Frames that a newer one replaced before this viewer took them, and for which there was no room.
    first_sent_ns : int
        When the first of the run was published, CLOCK_MONOTONIC in nanoseconds; 0 before. Of those that came here,
        where the publisher does not tell.
    holders : set
        Why its frames are kept though others come: what the user does with it.
    newest : tuple of (Stack or None, index, Tag) or None
        The image that came last. Labels, documents and replies of programs count only while there is no image: they
        usually tell of an earlier one, and a viewer that follows would jump back and forth.
    log : PaintLog
        What was painted of this publisher's frames.
    publishers : frozenset of str
        The tokens of those whose frames it has: several in a run that they share (`scopecast_viewers.receiving.runs`).
    """

    def __init__(self, source: str, title: str, about: Stream, history: History, log: PaintLog) -> None:
        self.source, self.title, self.about = source, title, about
        self.publishers = frozenset((source,))
        self.log = log
        self.stacks: tuple[Stack, ...] = ()
        self.parts: tuple[tuple[Stack, int], ...] = ()
        self.state: StreamState = "live"
        self.alive = True
        now_ns = clock_ns()
        self._began_ns = about.began_ns or now_ns
        self.began = time.time() - (now_ns - self._began_ns) / 1e9
        self.received = self.superseded = self.dropped = 0
        self.first_sent_ns = about.began_ns
        self.holders: set[object] = set()
        self.annotations = Annotations()
        self.newest: tuple[Stack | None, tuple[int, ...], Tag] | None = None
        self._history = history
        self._by_signature: dict[_Signature, Stack] = {}
        self._arrivals: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._marks: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)  # when how many images had come
        # Axes only ever join, so that the length of a frame's index tells which there were when it was published.
        self._axes_of_length = {len(about.axes): tuple(about.axes)}

    @property
    def key(self) -> tuple[str, int]:
        """The publisher's token and the stream's number: unique among all streams."""
        return (self.source, self.about.id)

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes of the stacks."""
        return tuple(self.about.axes)

    @property
    def pixel(self) -> tuple[float, float]:
        """The size (y, x) of a pixel, in the unit of the pixels; 1 where it is not known."""
        y, x = (*self.about.scale, 1.0, 1.0)[:2]
        return float(y), float(x)

    @property
    def spacing(self) -> dict[str, float]:
        """Distance of the planes along each axis on a canvas, in the unit of the pixels; 1 where there is none.

        Time has none: its steps are seconds, and a slider over time counts time points.
        """
        return {
            name: step if step and name != "t" else 1.0
            for name, step in zip(self.about.axes, self.about.steps, strict=True)
        }

    @property
    def delivers(self) -> bool:
        """Whether images come: two at least, and the last of them not two seconds ago."""
        arrivals = list(self._arrivals)
        return len(arrivals) > 1 and time.monotonic() - arrivals[-1] <= _RESTS_S

    @property
    def rate(self) -> float:
        """Frames per second over the last seconds; 0 when none came for two, and before it can be told."""
        marks = list(self._marks)
        # None, too, while the first frames come: the receiver's thread adds to both at any moment.
        if not marks or not self.delivers or marks[-1][0] - marks[0][0] < _SHORTEST_S:
            return 0.0
        (began, first), (ended, last) = marks[0], marks[-1]
        return (last - first) / (ended - began)

    @property
    def pace_s(self) -> float:
        """Longest time between two of the last images in seconds; 0 before the second."""
        arrivals = list(self._arrivals)
        return max((after - before for before, after in itertools.pairwise(arrivals)), default=0.0)

    @property
    def age_s(self) -> float | None:
        """Seconds since the newest frame was published; None before the first."""
        newest = self.newest
        return None if newest is None else (clock_ns() - newest[2].sent_ns) / 1e9

    def update(self, about: Stream) -> None:
        """Take a newer announcement: axes and labels may have joined."""
        old = self.axes
        if "c" in about.axes and "c" not in old:
            self.parts = tuple((stack, 0) for stack in self.stacks)
        self.about = about
        self._axes_of_length[len(about.axes)] = tuple(about.axes)
        for position, name in enumerate(about.axes):
            if name not in old:
                for stack in self.stacks:
                    stack.add_axis(name, position)
                if self.newest is not None:
                    newest, index, tag = self.newest
                    self.newest = (newest, (*index[:position], 0, *index[position:]), tag)
        if not {*old} - {"c"} and {*about.axes} - {"c"}:
            self._outgrow_preview()

    def _outgrow_preview(self) -> None:
        """Put the planes of a preview into stacks that keep to the budget: from now on they grow."""
        for old in self.stacks:
            new = Stack(self.axes, old.plane_shape, old.dtype, self._history, sent=old.sent)
            for place in sorted(old.layout.planes):
                if (plane := old.plane(place)) is not None:
                    new.put(place, plane, old.tag(place))
            self.stacks = tuple(new if stack is old else stack for stack in self.stacks)
            self.parts = tuple((new if stack is old else stack, channel) for stack, channel in self.parts)
            self._by_signature = {key: new if stack is old else stack for key, stack in self._by_signature.items()}
            if self.newest is not None and self.newest[0] is old:
                self.newest = (new, *self.newest[1:])
            old.clear()

    def place(self, index: list[int]) -> list[int] | None:
        """Return a frame's index along `axes`, some of which may have joined since it was published."""
        if len(index) == len(self.about.axes):
            return index
        axes = self._axes_of_length.get(len(index))
        if axes is None:
            return None
        where = dict(zip(axes, index, strict=True))
        return [where.get(name, 0) for name in self.about.axes]

    @property
    def held(self) -> bool:
        """Whether the user works with it."""
        return bool(self.holders)

    def has(self, frame: Frame, *, exact: bool = False) -> bool:
        """Return whether a frame, with an index along `axes`, has come before: by when it was published.

        With `exact`, whether its exact pixels have.
        """
        tags = [
            tag
            for stack in self.stacks
            if (stack.sent.kind, stack.sent.name) == (frame.kind, frame.name)
            and len(stack.axes) == len(frame.index)
            and isinstance(tag := stack.tag(frame.index), Tag)
        ]
        same = [tag for tag in tags if abs(tag.sent_ns - frame.published_ns) < _SAME_NS]
        return any(not (exact and tag.preview) for tag in same) and not self.about.preview

    def put(self, frame: Frame, plane: Plane, *, magnitude: bool = False, source: str = "") -> None:
        """Put a frame's plane where it belongs; with `magnitude`, say that its pixels were complex.

        `source` is the token of its publisher, where there are several.
        """
        signature = (plane.shape, plane.dtype.str, frame.dtype, frame.kind, frame.name)
        stack = self._by_signature.get(signature)
        if stack is None:
            preview = not any(name != "c" for name in self.axes)
            sent = Sent(frame.kind, frame.name, np.dtype(frame.dtype).name, magnitude)
            stack = Stack(self.axes, plane.shape, plane.dtype, self._history, preview=preview, sent=sent)
            self._by_signature[signature] = stack
        index = tuple(frame.index)
        tag = self._tag(frame, source)
        channel = self._channel(index)
        is_first = stack.latest(channel) is None
        adds = index not in stack.layout.planes
        own = frame.kind == "image" and not frame.name  # and not what a program has replied to one
        goes_on = own and adds and self.newest is not None and tag.sent_ns > self.newest[2].sent_ns
        late = frame.late and not goes_on  # what came while the connection was broken
        stack.put(index, plane, tag, late=late)
        if is_first:
            self._add(stack, channel, signature, index)
        elif self.about.preview and len(self._by_signature) > 1:
            self._add(None, channel, signature, index)
        if late and self.newest is not None:  # nobody follows it; it may have the exact pixels of the newest
            if self.newest[:2] == (stack, index):
                self.newest = (stack, index, tag)
            self.received += own and adds
            if own:
                self._note_first(tag)
            return
        if own:
            self.received += 1
            self._note_first(tag)
            self._note_arrival(time.monotonic())
        if own or not self.received:
            self.newest = (stack, index, tag)

    def _note_first(self, tag: Tag) -> None:
        self.first_sent_ns = min(self.first_sent_ns or tag.sent_ns, tag.sent_ns)

    def _note_arrival(self, now: float) -> None:
        if self._arrivals and now - self._arrivals[-1] > _RESTS_S:
            self._marks.clear()  # a pause is no part of the rate
        self._arrivals.append(now)
        if not self._marks or now - self._marks[-1][0] >= _MARK_S:
            self._marks.append((now, self.received))

    def _add(self, stack: Stack | None, channel: int, signature: _Signature, index: tuple[int, ...]) -> None:
        """Add a channel of a stack, in the place of the image of another shape or dtype that live mode has shown there.

        A viewer that looks meanwhile sees the one or the other: never both, never none.
        """
        stacks, parts = self.stacks, self.parts
        if stack is not None:
            stacks = stacks if stack in stacks else (*stacks, stack)
            parts = (*parts, (stack, channel))
        replaced = []
        for other, old in tuple(self._by_signature.items()) if self.about.preview else ():
            if other == signature or other[3:] != signature[3:] or index not in (planes := old.layout.planes):
                continue
            replaced.append(old)
            left = {self._channel(place) for place in planes if place != index}
            if len(planes) == 1:
                del self._by_signature[other]
                stacks = tuple(kept for kept in stacks if kept is not old)
            parts = tuple(part for part in parts if part[0] is not old or part[1] in left)
        self.stacks, self.parts = stacks, parts
        for old in replaced:
            old.discard(index)

    def _channel(self, index: tuple[int, ...]) -> int:
        return index[self.axes.index("c")] if "c" in self.axes else 0

    def clock_s(self, sent_ns: int) -> float:
        """Return when a frame was published, in seconds since 1970, by the clock as it went when the run began."""
        return self.began + (sent_ns - self._began_ns) / 1e9

    def _tag(self, frame: Frame, source: str) -> Tag:
        metadata = bytes(frame.metadata)
        said = b"" if metadata == _NIL else metadata
        return Tag(
            frame.sequence,
            frame.published_ns,
            frame.path,
            tuple(frame.translate),
            said,
            source or self.source,
            frame.preview,
            not frame.late and frame.sent_ns - frame.published_ns < _NEWS_S * 1e9,
        )

    def annotate(self, frame: Frame, document: Document, *, source: str = "") -> bool:
        """Put a document where it belongs. Return False if the stream has no room for another name."""
        tag = self._tag(frame, source)
        places = dict(zip(self.axes, frame.index, strict=True))
        where = {axis: places[axis] for axis in document.fixed if axis in places}
        channel = where.pop("c", None)
        annotation = Annotation(where, document, tag, math.prod(frame.shape))
        if not self.annotations.put(frame.kind, frame.name, annotation, channel):
            return False
        if not self.received:
            before = dict(zip(self.axes, self.newest[1], strict=True)) if self.newest else {}
            self.newest = (None, tuple(where.get(axis, before.get(axis, 0)) for axis in self.axes), tag)
        return True

    def label(self, axis: str, index: int) -> str:
        """Return the label at an index of an axis, or the index itself."""
        labels = self.about.labels.get(axis, [])
        return labels[index] if index < len(labels) else str(index)

    def remove(self) -> None:
        """Let go of all planes for good."""
        self.state = "removed"
        for stack in self.stacks:
            stack.clear()
        self.annotations.clear()

    def clear(self) -> None:
        """Discard all that has arrived; what comes next starts afresh. For the receiver's thread."""
        stacks, self.stacks, self.newest = self.stacks, (), None
        self.parts, self._by_signature, self.received, self.first_sent_ns = (), {}, 0, self.about.began_ns
        self._arrivals.clear()
        self._marks.clear()
        for stack in stacks:
            stack.clear()
        self.annotations.clear()
