"""A receiver for tests: attaches to every publisher of a kind, and keeps a copy of each frame and all it came with."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
import zmq

from scopecast.link import messages
from scopecast.link.transport import KeyPair
from scopecast.rundir.directory import RunDirectory
from scopecast.subscribing.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopecast.rundir.directory import Entry

__all__ = ["Observer", "Seen"]

_POLL_MS = 20
_SCAN_S = 0.05


class Seen(NamedTuple):
    """A frame as it arrived.

    Attributes
    ----------
    pixels : numpy.ndarray
        A copy, (y, x) or (y, x, 3 or 4).
    axes : dict
        Where it belongs: an index along each axis, or the label where one is announced.
    stream : scopecast.link.messages.Stream
        The announcement that it came under.
    path, translate, metadata
        As they were published.
    kind
        ``"image"``, …
    source
        The token of its publisher.
    sent_ns
        When it was published, CLOCK_MONOTONIC in nanoseconds.
    """

    pixels: npt.NDArray[Any]
    axes: dict[str, int | str]
    stream: messages.Stream
    path: str
    translate: tuple[float, ...]
    metadata: Any
    kind: str
    source: str = ""
    sent_ns: int = 0


class _Line(Line):
    """The connection to one publisher."""

    def __init__(
        self,
        observer: Observer,
        entry: Entry,
        directory: RunDirectory,
        hello: messages.Hello,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyPair | None,
    ) -> None:
        self._observer = observer
        self.unanswered: set[int] = set()  # marks
        super().__init__(entry, directory, hello, context, keys)

    def _handle(self, message: messages.FromPublisher) -> None:
        super()._handle(message)
        if isinstance(message, messages.Marked):
            self.unanswered.discard(message.number)
            self._observer.fates[message.number].append(f"{message.fate}{message.reason and ': '}{message.reason}")
        if self.state == "refused":
            raise AssertionError(f"{self.entry.title} refused the observer: {self.problem}")

    def _left(self) -> None:
        for number in sorted(self.unanswered):
            self._observer.fates[number].append("refused: it ended before it took them")
        self.unanswered.clear()

    def _announce(self, about: messages.Stream) -> None:
        super()._announce(about)
        self._observer.streams[self.entry.token, about.id] = about

    def _end_stream(self, number: int) -> None:
        self._observer.ended.add((self.entry.token, number))

    def _take(self, frame: messages.Frame) -> None:
        seen = self._seen(frame)
        if seen is not None:
            self._observer.seen.append(seen)
        self.acknowledge(frame, "skipped" if seen is None else "delivered")

    def _seen(self, frame: messages.Frame) -> Seen | None:
        reader, placed = self.reader, self.place(frame)
        if placed is None and (self.entry.token, frame.stream) in self._observer.streams:
            raise AssertionError(
                f"a frame of {self.entry.title} has {len(frame.index)} axes, its stream never had so many"
            )
        if reader is None or placed is None or reader.epoch != frame.epoch:
            return None
        pixels = reader.view(frame.slot, frame.shape, np.dtype(frame.dtype)).copy()
        if not self.intact(frame):
            return None
        stream, axes = placed
        metadata = msgspec.msgpack.decode(frame.metadata)
        about = (frame.path, tuple(frame.translate), metadata, frame.kind, self.entry.token, frame.sent_ns)
        return Seen(pixels, axes, stream, *about)


class Observer:
    """A viewer of a kind, without a window and without the viewers' code.

    Parameters
    ----------
    kind
        The kind of viewer that it stands in for: a backend's ``VIEWER_TYPE``.

    Attributes
    ----------
    seen : list of Seen
        The frames, in the order in which they came.
    streams : dict
        The newest announcement of every stream, by (publisher's token, number).
    ended : set
        The streams whose end was announced.

    Examples
    --------
    >>> from scopecast import Publisher
    >>> with Observer("headless") as observer, Publisher("headless", policy="every") as publisher:
    ...     publisher.open((4, 4), wait=10)
    ...     _ = publisher.publish(np.ones((4, 4), "uint8"), axes={"t": 3, "c": "DAPI"})
    ...     seen, = observer.wait_for(lambda: observer.seen)
    ...     seen.axes
    {'t': 3, 'c': 'DAPI'}
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seen: list[Seen] = []
        self.streams: dict[tuple[str, int], messages.Stream] = {}
        self.ended: set[tuple[str, int]] = set()
        self.error: Exception | None = None
        self._directory = RunDirectory()
        self._lines: list[_Line] = []
        self._marks: deque[messages.Marks] = deque()  # to be sent
        self.fates: dict[int, list[str]] = {}  # of those that were, by their number
        self._numbers = itertools.count(1)
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scopecast-observer", daemon=True)

    @property
    def attached(self) -> int:
        """To how many publishers it is attached now."""
        return sum(line.state == "attached" for line in self._lines)

    def wait_for(self, predicate: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Wait until `predicate` returns something true, and return that.

        Raises
        ------
        AssertionError
            If that does not happen within `timeout` seconds, or what came is not a message of the protocol.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while not (found := predicate()):
                left = deadline - time.monotonic()
                if self.error is not None or left <= 0:
                    raise AssertionError(
                        f"not so after {timeout:g} s; {self.attached} publishers, {len(self.seen)} frames"
                    ) from self.error
                self._news.wait(min(left, 0.1))
        return found

    def mark(self, points: Sequence[Sequence[float]], seen: Seen | None = None) -> list[str]:
        """Point at a frame, and send that to its program, as a user does from a viewer.

        Waits until the program takes marks.

        Parameters
        ----------
        points
            (N, 2) y, x in pixels of the frame.
        seen
            The frame; by default the newest.

        Returns
        -------
        list of str
            It fills with what becomes of them: ``"taken"``, ``"refused: …"``; see `wait_for`.

        Raises
        ------
        ProtocolError
            If these can't be marks (NaN, too many, too far away): no viewer sends such.
        AssertionError
            If the program takes none within 20 s.
        """
        frame = self.wait_for(lambda: self.seen)[-1] if seen is None else seen
        self.wait_for(lambda: any(line.listens for line in self._lines if line.entry.token == frame.source))
        said = frame.metadata if isinstance(frame.metadata, dict) else {}
        stage = [said[key] for key in ("x_um", "y_um", "z_um") if key in said]
        axes = frame.stream.axes
        labels = {name: at for name, at in frame.axes.items() if isinstance(at, str)}
        index = {name: frame.stream.labels[name].index(at) for name, at in labels.items()}
        number = next(self._numbers)
        marks = messages.Marks(
            number=number,
            token=frame.source,
            stream=frame.stream.id,
            sent_ns=frame.sent_ns,
            axes={name: int(index.get(name, frame.axes.get(name, 0))) for name in axes},
            labels=labels,
            shape=list(frame.pixels.shape[:2]),
            position=stage if len(stage) > 1 else [],
            types=["point"] * len(points),
            lengths=[1] * len(points),
            vertices=[float(at) for point in points for at in point],
            layer="points",
        )
        messages.decode_from_receiver(messages.encode(marks))  # as the program will
        self.fates[number] = []
        self._marks.append(marks)
        return self.fates[number]

    def _run(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        keys = KeyPair.if_possible()
        member = self._directory.join("receiver", self.kind, title="observer", key=keys.public if keys else "")
        hello = messages.Hello(messages.PROTOCOL, messages.PROTOCOL, member.token, self.kind, os.getpid(), "observer")
        member.entry.state = "ready"
        member.write()
        next_scan = 0.0
        poller = zmq.Poller()
        try:
            while not self._stopping.is_set():
                if time.monotonic() >= next_scan:
                    poller = self._scan(context, hello, keys)
                    next_scan = time.monotonic() + _SCAN_S
                ready = dict(poller.poll(_POLL_MS))
                for line in self._lines:
                    if line.connected and (socket := line.socket) in ready:
                        line.drain()
                        if not line.connected:
                            poller.unregister(socket)
                        if line.errors:
                            raise AssertionError(f"{line.entry.title} sent something that is no message")
                while self._marks:
                    marks = self._marks.popleft()
                    line = next(line for line in self._lines if line.entry.token == marks.token)
                    if line.send(marks):
                        line.unanswered.add(marks.number)
                    else:
                        self.fates[marks.number].append("refused: it ended before it took them")
                with self._news:
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - told by wait_for
            self.error = error
        finally:
            for line in self._lines:
                line.leave("the observer was closed")
            context.term()
            member.close()

    def _scan(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        hello: messages.Hello,
        keys: KeyPair | None,
    ) -> zmq.Poller:
        known = {line.entry.token for line in self._lines}
        for entry in self._directory.entries("publisher", self.kind):
            if entry.token not in known and entry.state == "ready" and self._directory.alive(entry.token):
                self._lines.append(_Line(self, entry, self._directory, hello, context, keys))
        for line in self._lines:
            line.check()
        poller = zmq.Poller()
        for line in self._lines:
            if line.connected:
                poller.register(line.socket, zmq.POLLIN)
        return poller

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(20.0)
