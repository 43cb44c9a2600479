"""A receiver for tests: attaches to every publisher of a kind, and keeps a copy of each frame and all it came with."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
import numpy as np
import numpy.typing as npt
import zmq

from scopecast.errors import SharedMemoryError
from scopecast.link import messages
from scopecast.link.transport import KeyPair, connect
from scopecast.memory.ring import RingReader
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """

    pixels: npt.NDArray[Any]
    axes: dict[str, int | str]
    stream: messages.Stream
    path: str
    translate: tuple[float, ...]
    metadata: Any
    kind: str


class _Line:
    """The connection to one publisher."""

    def __init__(
        self, entry: Entry, context: zmq.Context[zmq.Socket[bytes]], hello: messages.Hello, keys: KeyPair | None
    ) -> None:
        self.entry, self.hello = entry, hello
        self.greeting = True
        self.reader: RingReader | None = None
        self.streams: dict[int, messages.Stream] = {}
        self.axes: dict[int, dict[int, list[str]]] = {}  # those that a stream had when it had so many
        self.ended = False
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES)
        connect(self.socket, entry, keys)
        self.send(hello)

    def send(self, message: messages.FromReceiver) -> None:
        with suppress(zmq.ZMQError):
            self.socket.send(messages.encode(message), zmq.NOBLOCK)

    def close(self) -> None:
        self.ended = True
        self.socket.close(200)
        if self.reader is not None:
            self.reader.close()
            self.reader = None


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
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scopecast-observer", daemon=True)

    @property
    def attached(self) -> int:
        """To how many publishers it is attached now."""
        return sum(line.reader is not None for line in self._lines)

    def wait_for(self, predicate: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Wait until `predicate` returns something true, and return that.

        Raises
        ------
        AssertionError
            If that does not come about within `timeout` seconds, or what came is no message of the protocol.
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
                    self._scan(context, hello, keys, poller)
                    next_scan = time.monotonic() + _SCAN_S
                ready = dict(poller.poll(_POLL_MS))
                for line in self._lines:
                    if line.socket in ready:
                        self._drain(line)
                        if line.ended:
                            poller.unregister(line.socket)
                            line.close()
                with self._news:
                    self._news.notify_all()
        except Exception as error:  # noqa: BLE001 - told by wait_for
            self.error = error
        finally:
            for line in self._lines:
                if not line.ended:
                    line.send(messages.Bye("the observer was closed"))
                line.close()
            context.term()
            member.close()

    def _scan(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        hello: messages.Hello,
        keys: KeyPair | None,
        poller: zmq.Poller,
    ) -> None:
        known = {line.entry.token for line in self._lines}
        for entry in self._directory.entries("publisher", self.kind):
            if entry.token not in known and entry.state == "ready" and self._directory.alive(entry.token):
                line = _Line(entry, context, hello, keys)
                self._lines.append(line)
                poller.register(line.socket, zmq.POLLIN)

    def _drain(self, line: _Line) -> None:
        with suppress(zmq.Again):
            while not line.ended:
                self._handle(line, messages.decode_from_publisher(line.socket.recv(zmq.NOBLOCK)))

    def _handle(self, line: _Line, message: messages.FromPublisher) -> None:
        token = line.entry.token
        if isinstance(message, messages.Frame):
            line.send(messages.Ack(message.epoch, message.slot, message.generation, self._take(line, message)))
        elif isinstance(message, messages.Ping):
            line.send(messages.Pong(message.number))
        elif isinstance(message, messages.Stream):
            line.streams[message.id] = self.streams[token, message.id] = message
            line.axes.setdefault(message.id, {})[len(message.axes)] = message.axes
        elif isinstance(message, messages.Welcome):
            line.greeting = False
            if line.reader is not None:
                line.reader.close()
                line.reader = None
            with suppress(SharedMemoryError):  # the next epoch's Welcome is on its way
                line.reader = RingReader(message.segment, message.token, message.epoch)
        elif isinstance(message, messages.End):
            self.ended.add((token, message.stream))
        elif isinstance(message, messages.Bye):
            line.send(messages.Bye())
            line.ended = True
        elif isinstance(message, messages.Reject) and message.again:
            if not line.greeting:  # it was given up for dead, on a machine that gave it no time: it is here again
                line.greeting = True
                line.send(line.hello)
        elif isinstance(message, messages.Reject):
            raise AssertionError(f"{line.entry.title} refused the observer: {message.reason}")

    def _take(self, line: _Line, frame: messages.Frame) -> Any:
        reader, stream = line.reader, line.streams.get(frame.stream)
        if reader is None or stream is None or reader.epoch != frame.epoch:
            return "skipped"
        pixels = reader.view(frame.slot, frame.shape, np.dtype(frame.dtype)).copy()
        if reader.generation(frame.slot) != frame.generation:
            return "skipped"
        axes: dict[str, int | str] = {}
        for name, index in zip(line.axes[frame.stream][len(frame.index)], frame.index, strict=True):
            labels = stream.labels.get(name, [])
            axes[name] = labels[index] if index < len(labels) else index
        metadata = msgspec.msgpack.decode(frame.metadata)
        self.seen.append(Seen(pixels, axes, stream, frame.path, tuple(frame.translate), metadata, frame.kind))
        return "delivered"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(20.0)
