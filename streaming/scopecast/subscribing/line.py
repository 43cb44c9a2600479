"""A line: a receiver's end of the connection to one publisher. Greets, answers, and notices who has gone.

What is done with the frames is up to who extends it: a viewer's source copies them into stacks
(`scopecast_viewers.receiving.source`), a subscription hands them to a program.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import zmq

from scopecast.errors import ProtocolError, SharedMemoryError, TransportError
from scopecast.frames.arrays import check_plane
from scopecast.frames.documents import DOCUMENTS, check_document
from scopecast.link import descriptors, messages, transport
from scopecast.memory.ring import RingReader

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy.typing as npt

    from scopecast.link.transport import KeyPair
    from scopecast.link.wakeup import WakeUp
    from scopecast.rundir.directory import Entry, RunDirectory

__all__ = ["DRAIN_LIMIT", "Line", "LinePoller", "LineState"]

logger = logging.getLogger(__name__)

LineState = Literal["greeting", "attached", "refused", "detached", "ended", "lost"]
#: Messages and seconds after which others get their turn, although there may be more: where memory is slow, a frame
#: takes long enough for the others of a burst to keep a window waiting.
DRAIN_LIMIT = 64
DRAIN_S = 0.01
#: A connection that broke is tried again at most this often.
RETRY_S = 0.2
#: A publisher that says nothing for this long (its PINGs come every 0.45 s) is asked whether it still knows us.
SILENCE_S = 3.0
#: Streams that are remembered: no frames come of older ones without another announcement.
_KEPT_STREAMS = 8
#: Milliseconds that a last message may take to leave; the socket closes in the background meanwhile.
_PARTING_MS = 200


class Line:
    """A receiver's end of the connection to one publisher.

    Used by the receiver's thread alone; other threads read its attributes.

    Parameters
    ----------
    entry
        The publisher's entry in the run directory.
    directory
        The run directory, which knows whether the publisher lives.
    hello
        What the receiver says of itself.
    context
        The receiver's ZeroMQ context.
    keys
        The receiver's, for publishers that are reached by tcp; the public one is in its entry.

    Attributes
    ----------
    state : str
        ``"greeting"``, ``"attached"``, ``"refused"`` (see `problem`), ``"detached"`` (by us; see `attach`), ``"ended"``
        or ``"lost"``.
    problem : str
        Why frames of this publisher can't be taken, or ``""``.
    reader : RingReader or None
        Its memory, while it is attached.
    errors : int
        Messages that were ignored, as they were none of the protocol; and what failed otherwise.
    superseded, dropped, published : int
        What the publisher says of the frames that did not come, over all the times that we were attached; and of those
        published in the last of them.
    listens : bool
        Its program takes marks now.
    looks : bool
        It wants to know what is looked at.
    last_heard : float
        When it said something last, by ``time.monotonic()``.
    """

    def __init__(
        self,
        entry: Entry,
        directory: RunDirectory,
        hello: messages.Hello,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyPair | None,
    ) -> None:
        self.entry = entry
        self.state: LineState = "greeting"
        self.problem = ""
        self.errors = 0
        self.superseded = self.dropped = self.published = 0
        self.listens = self.looks = False
        self.last_heard = time.monotonic()
        self.reader: RingReader | None = None
        self._streams: dict[int, messages.Stream] = {}
        self._axes: dict[int, dict[int, list[str]]] = {}  # those that a stream had when it had so many
        self._settled = (0, 0)  # superseded and dropped in the times before this one
        self._directory, self._hello, self._context, self._keys = directory, hello, context, keys
        self._broken = self._dead = self._greeting = False
        self._next_try = self._last_asked = 0.0
        self._connect()

    @property
    def connected(self) -> bool:
        """Whether it has a socket: it is attached, or tries to be."""
        return self.state in ("greeting", "attached", "refused")

    # ---- what those who extend it do -----------------------------------------------------------------------------

    def _take(self, frame: messages.Frame) -> None:
        """Do something with a frame, and see to it that it is acknowledged."""
        self.acknowledge(frame, "skipped")

    def _announce(self, about: messages.Stream) -> None:
        """Take in the announcement of a stream, whose fields agree with each other; `place` knows it from now on."""
        self._streams[about.id] = about
        self._axes.setdefault(about.id, {})[len(about.axes)] = about.axes
        for number in list(self._streams)[:-_KEPT_STREAMS]:
            del self._streams[number], self._axes[number]

    def _end_stream(self, number: int) -> None:
        """Take note that a stream has ended."""

    def _pong(self, number: int) -> messages.Pong:
        """Return the answer to a PING."""
        return messages.Pong(number)

    def _forgotten(self) -> None:
        """Take note that the publisher had given us up: what it had leased to us is ours no more."""

    def _left(self) -> None:
        """Take note of the new `state`, which is no longer that of a connection."""

    # ---- coming --------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        self.state, self._broken = "greeting", False
        self._next_try = time.monotonic() + RETRY_S
        descriptors.check()
        socket = self._context.socket(zmq.DEALER)
        try:
            self._open(socket)
        except BaseException:
            socket.close(0)
            raise
        try:
            transport.connect(self.socket, self.entry, self._keys)
        except TransportError as error:
            self.state, self.problem = "refused", str(error)
            return
        except BaseException:
            self._close_socket(0)
            raise
        self._greet()

    def _open(self, socket: zmq.Socket[bytes]) -> None:
        transport.limit(socket)
        # A reconnected DEALER is unknown to the publisher, so this one never reconnects: it is made again.
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        monitor.setsockopt(zmq.LINGER, 0)
        self.socket, self.monitor = socket, monitor

    def _greet(self) -> None:
        self._greeting = True
        self.send(self._hello)

    # ---- what comes in -------------------------------------------------------------------------------------------

    def attend(self, ready: Collection[object]) -> bool:
        """Read what has come, if these sockets are those that can be read. Return whether there may be more."""
        more = self.socket in ready and self.drain()
        if self.connected and self.monitor in ready:
            self.check()
        return more

    def drain(self) -> bool:
        """Handle up to 64 messages, and none once 10 ms are over. Return whether there may be more."""
        until = time.monotonic() + DRAIN_S
        for _ in range(DRAIN_LIMIT):
            try:
                data = self.socket.recv(zmq.NOBLOCK)
                while self.socket.getsockopt(zmq.RCVMORE):
                    data = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.last_heard = time.monotonic()
            try:
                self._handle(messages.decode_from_publisher(data))
            except ProtocolError as error:
                self.errors += 1
                logger.debug("ignored a message of %s: %s", self.entry.title, error)
            if not self.connected:
                return False
            if time.monotonic() > until:
                break
        return True

    def _handle(self, message: messages.FromPublisher) -> None:
        if isinstance(message, messages.Frame):
            self._take(message)
        elif isinstance(message, messages.Ping):
            self.superseded = self._settled[0] + message.superseded
            self.dropped = self._settled[1] + message.dropped
            self.published, self.listens, self.looks = message.published, message.listens, message.looks
            self.send(self._pong(message.number))
        elif isinstance(message, messages.Stream):
            if not len(message.axes) == len(message.steps) == len(message.sizes) == len(set(message.axes)):
                msg = (
                    f"stream {message.id} has {len(message.axes)} axes, {len(message.steps)} steps, "
                    f"{len(message.sizes)} sizes"
                )
                raise ProtocolError(msg)
            self._announce(message)
        elif isinstance(message, messages.Welcome):
            self._attach(message)
        elif isinstance(message, messages.Reject):
            if message.again:
                # We were given up for dead, and are not. Each message that we had sent is answered so; greet once.
                if not self._greeting:
                    self._forgotten()
                    self._greet()
            else:
                self._greeting = False
                self.state, self.problem = "refused", message.reason
        elif isinstance(message, messages.End):
            self._end_stream(message.stream)
        elif isinstance(message, messages.Bye):
            self.send(messages.Bye())
            self._end("ended")

    def _attach(self, welcome: messages.Welcome) -> None:
        if welcome.token != self.entry.token:
            msg = f"the publisher calls itself {welcome.token}, its entry says {self.entry.token}"
            raise ProtocolError(msg)
        if self._greeting:  # a new row in the publisher's accounts
            self._settled = (self.superseded, self.dropped)
        self._greeting = False
        if self.reader is not None and self.reader.epoch == welcome.epoch:
            self.state = "attached"
            return
        self._let_go()
        try:
            self.reader = RingReader(welcome.segment, welcome.token, welcome.epoch)
        except SharedMemoryError as error:
            self.problem = str(error)
            logger.warning("frames of %s can't be shown: %s", self.entry.title, error)
            return
        self.state, self.problem = "attached", ""

    def place(self, frame: messages.Frame) -> tuple[messages.Stream, dict[str, int | str]] | None:
        """Return the stream of a frame and where it belongs, labels in the place of indices that have one.

        None if the stream, or one with so many axes, was not announced.
        """
        about, axes = self._streams.get(frame.stream), self._axes.get(frame.stream, {}).get(len(frame.index))
        if about is None or axes is None:
            return None
        where: dict[str, int | str] = {}
        for name, index in zip(axes, frame.index, strict=True):
            labels = about.labels.get(name, ())
            where[name] = labels[index] if index < len(labels) else index
        return about, where

    def view(self, frame: messages.Frame) -> npt.NDArray[Any] | None:
        """Return the pixels of a frame in their slot, read-only; None if they are not there any more.

        The generation is right when this returns; it is to be compared again (`intact`) once they were looked at.

        Raises
        ------
        ValueError, TypeError, UnsupportedDtypeError
            If they are no plane or document that could be shown.
        SharedMemoryError
            If another program has truncated the segment.
        """
        reader = self.reader
        if reader is None or reader.epoch != frame.epoch:
            return None
        dtype = np.dtype(frame.dtype)
        if frame.kind in DOCUMENTS:
            check_document(frame.shape, dtype)
        else:
            check_plane(frame.shape, dtype)
        view = reader.view(frame.slot, frame.shape, dtype)
        return view if self.intact(frame) else None

    def intact(self, frame: messages.Frame) -> bool:
        """Whether a frame has not been overwritten so far."""
        reader = self.reader
        return reader is not None and reader.epoch == frame.epoch and reader.generation(frame.slot) == frame.generation

    def acknowledge(self, frame: messages.Frame, fate: messages.AckFate) -> None:
        """Give the slot of a frame back."""
        self.send(messages.Ack(frame.epoch, frame.slot, frame.generation, fate))

    def send(self, message: messages.FromReceiver) -> bool:
        """Send a message, without waiting; return False if there was no room for it."""
        # A publisher that does not read is its own problem: it counts what is not acknowledged as dropped.
        try:
            self.socket.send(messages.encode(message), zmq.NOBLOCK)
        except zmq.ZMQError:
            return False
        return True

    # ---- going ---------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the connection: notice a publisher that has gone, or that has forgotten us."""
        if not self.connected:
            return
        with suppress(zmq.ZMQError):
            while True:
                self.monitor.recv_multipart(zmq.NOBLOCK)
                self._broken = True
        if not self._directory.alive(self.entry.token):
            # What it sent before it died may still be on its way, until the connection breaks; a child that it forked
            # may keep that open for ever.
            if self.drain() or not (self._broken or self._dead):
                self._dead = True
            elif self.connected:
                self._end("lost")
        elif self._broken and not self._directory.path.is_dir():
            # With the directory all locks and sockets went: there is no way back to it, and nothing tells of its life.
            self._end("lost")
        elif self._broken and time.monotonic() >= self._next_try:
            self._next_try = time.monotonic() + RETRY_S
            self._reconnect()
        elif (now := time.monotonic()) - max(self.last_heard, self._last_asked) > SILENCE_S:
            # Attached, we should have heard a PING: it has given us up, and its answer will say so. Refused, ask again:
            # another viewer may have left.
            self._last_asked = now
            if self.state == "attached":
                self.send(self._pong(0))
            elif self.state == "refused":
                self._greet()

    def _reconnect(self) -> None:
        """Connect again; if that fails, the broken socket stays until the next attempt."""
        broken, monitor = self.socket, self.monitor
        self._forgotten()
        try:
            self._connect()
        except BaseException:
            self.socket, self.monitor, self._broken = broken, monitor, True
            raise
        broken.disable_monitor()
        monitor.close(0)
        broken.close(0)

    def _end(self, state: LineState) -> None:
        self.state, self.listens = state, False
        self._left()
        self._let_go()
        self._close_socket(0 if state == "lost" else _PARTING_MS)

    def _let_go(self) -> None:
        if self.reader is not None:
            self.reader.close()
            self.reader = None

    def leave(self, reason: str) -> None:
        """Say goodbye, and let go of the publisher's memory. Idempotent."""
        if self.connected:
            self.send(messages.Bye(reason))
            self.problem = ""
            self._end("detached")

    def attach(self) -> None:
        """Greet a publisher again that we have left.

        Raises
        ------
        OSError
            If there are no descriptors left for a socket; the line stays detached.
        """
        if self.state == "detached":
            self._dead = False
            self.last_heard = time.monotonic()
            try:
                self._connect()
            except BaseException:
                self.state = "detached"
                raise

    def _close_socket(self, linger: int) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger)


class LinePoller:
    """Waits until publishers have sent something. Used by the receiver's thread alone.

    Parameters
    ----------
    wake
        What any other thread ends a wait by.
    """

    def __init__(self, wake: WakeUp) -> None:
        self._wake = wake
        self._poller = zmq.Poller()
        self._watched: set[zmq.Socket[bytes]] | None = None

    def wait(self, lines: Iterable[Line], until: float | None) -> Collection[object]:
        """Wait until one of these lines, which are connected, can be read; return the sockets that can be.

        Parameters
        ----------
        lines
            All that are waited for.
        until
            When to give up, by ``time.monotonic()``; None not to wait at all.
        """
        sockets = {socket for line in lines for socket in (line.socket, line.monitor)}
        if sockets != self._watched:
            self._poller = zmq.Poller()
            self._poller.register(self._wake, zmq.POLLIN)
            for socket in sockets:
                self._poller.register(socket, zmq.POLLIN)
            self._watched = sockets
        timeout = 0 if until is None else int(max(0.0, until - time.monotonic()) * 1000) + 1
        ready = dict(self._poller.poll(timeout))
        if self._wake in ready or self._wake.fileno() in ready:
            self._wake.clear()
        return ready
