"""A source: the receiver's end of the connection to one publisher. Validates, copies out, acknowledges."""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

import numpy as np
import zmq

from scopecast.errors import ProtocolError, SharedMemoryError, TransportError, UnsupportedDtypeError
from scopecast.frames.arrays import check_dtype
from scopecast.frames.documents import DOCUMENTS, MAX_DOCUMENT_BYTES, decode
from scopecast.link import messages, transport
from scopecast.memory.ring import RingReader
from scopecast_viewers.receiving.live import LiveStream, PaintLog
from scopecast_viewers.receiving.runs import Share

if TYPE_CHECKING:
    from scopecast.link.transport import KeyPair
    from scopecast.rundir.directory import Entry, RunDirectory
    from scopecast_viewers.display import Display
    from scopecast_viewers.receiving.runs import Runs
    from scopecast_viewers.stacks.history import History

__all__ = ["Source"]

logger = logging.getLogger(__name__)

State = Literal["greeting", "attached", "refused", "detached", "ended", "lost"]
#: Messages and seconds after which the display is notified of new frames, although there may be more: where memory is
#: slow, a frame takes long enough for the others of a burst to keep the window waiting.
DRAIN_LIMIT = 64
DRAIN_S = 0.01
#: A connection that broke is tried again at most this often.
RETRY_S = 0.2
#: A publisher that says nothing for this long (its PINGs come every 0.45 s) is asked whether it still knows us.
SILENCE_S = 3.0
#: Milliseconds that a last message may take to leave; the socket closes in the background meanwhile.
_PARTING_MS = 200


class Source:
    """One publisher that a receiver is attached to, or tries to be.

    Used by the receiver's thread alone; other threads read its attributes.

    Parameters
    ----------
    entry
        The publisher's entry in the run directory.
    directory
        The run directory, which knows whether the publisher lives.
    hello
        What this receiver says of itself.
    display
        Takes the planes.
    history
        Keeps them.
    context
        The receiver's ZeroMQ context.
    keys
        The receiver's, for publishers that are reached by tcp; the public one is in its entry.
    runs
        The receiver's, which several publishers have parts of.

    Attributes
    ----------
    state : str
        ``"greeting"``, ``"attached"``, ``"refused"`` (see `problem`), ``"detached"`` (by us; see `attach`), ``"ended"``
        or ``"lost"``.
    problem : str
        Why frames of this publisher can't be shown, or ``""``; what was wrong with one frame is over with the next.
    delivered, rejected : int
        Frames put into a stack; frames that were overwritten before they were copied, and so never shown.
    superseded, dropped : int
        What the publisher says of the others, over all the times that we were attached.
    wanted : bool
        Whether it is to be attached again when the receiver starts again; False once the user has detached it.
    """

    def __init__(
        self,
        entry: Entry,
        directory: RunDirectory,
        hello: messages.Hello,
        display: Display,
        history: History,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyPair | None,
        runs: Runs,
    ) -> None:
        self.entry = entry
        self.state: State = "greeting"
        self.problem = ""
        self.streams: tuple[LiveStream, ...] = ()
        self.delivered = self.rejected = self.errors = 0
        self.superseded = self.dropped = self.published = 0
        self.wanted = True
        self._settled = (0, 0)  # superseded and dropped in the times before this one
        self.last_heard = time.monotonic()
        self.log = PaintLog()
        self.answers: list[tuple[int, str]] = []
        self._directory, self._hello, self._display = directory, hello, display
        self._history, self._context, self._keys, self._runs = history, context, keys, runs
        self._reader: RingReader | None = None
        self._by_id: dict[int, LiveStream | Share] = {}
        self._broken = self._dead = self._complained = self._greeting = False
        self._next_try = self._last_asked = 0.0
        self._connect()

    @property
    def connected(self) -> bool:
        """Whether it has a socket: it is attached, or tries to be."""
        return self.state in ("greeting", "attached", "refused")

    @property
    def held(self) -> bool:
        """Whether the user works with one of its streams."""
        return any(stream.held for stream in self.streams)

    def _connect(self) -> None:
        self.state, self._broken = "greeting", False
        self._next_try = time.monotonic() + RETRY_S
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
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.SNDTIMEO, 0),
            (zmq.RCVTIMEO, 0),
            (zmq.SNDHWM, 2000),
            (zmq.RCVHWM, 2000),
            (zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES),
            # A reconnected DEALER is unknown to the publisher, so this one never reconnects: it is made again.
            (zmq.RECONNECT_IVL, -1),
        ):
            socket.setsockopt(option, value)
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED)
        monitor.setsockopt(zmq.LINGER, 0)
        self.socket, self.monitor = socket, monitor

    def _greet(self) -> None:
        self._greeting = True
        self._send(self._hello)

    # ---- what comes in -------------------------------------------------------------------------------------------

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
            try:
                fate = self._receive(message)
                if fate == "delivered" and self.problem:
                    self.problem = ""
            except Exception as error:  # noqa: BLE001 - a display's mistake; unanswered, the slot would be lost
                self.failed("a frame", error)
                fate = "skipped"
            self._send(messages.Ack(message.epoch, message.slot, message.generation, fate))
        elif isinstance(message, messages.Ping):
            self.superseded = self._settled[0] + message.superseded
            self.dropped = self._settled[1] + message.dropped
            self.published = message.published
            self._send(self._pong(message.number))
        elif isinstance(message, messages.Stream):
            self._announce(message)
        elif isinstance(message, messages.Welcome):
            self._attach(message)
        elif isinstance(message, messages.Reject):
            if message.again:
                # We were given up for dead, and are not. Each message that we had sent is answered so; greet once.
                if not self._greeting:
                    self._greet()
            else:
                self._greeting = False
                self.state, self.problem = "refused", message.reason
        elif isinstance(message, messages.End):
            if stream := self._by_id.get(message.stream):
                stream.state = "ended"
        elif isinstance(message, messages.Capture):
            # The display calls back from its own thread; the answer is sent from this one, by `check`.
            number = message.number
            self._display.capture(message.path, lambda error: self.answers.append((number, error)))
        elif isinstance(message, messages.Bye):
            self._send(messages.Bye())
            self._end("ended")

    def _attach(self, welcome: messages.Welcome) -> None:
        if welcome.token != self.entry.token:
            msg = f"the publisher calls itself {welcome.token}, its entry says {self.entry.token}"
            raise ProtocolError(msg)
        if self._greeting:  # a new row in the publisher's accounts
            self._settled = (self.superseded, self.dropped)
        self._greeting = False
        if self._reader is not None and self._reader.epoch == welcome.epoch:
            self.state = "attached"
            return
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        try:
            self._reader = RingReader(welcome.segment, welcome.token, welcome.epoch)
        except SharedMemoryError as error:
            self.problem = str(error)
            logger.warning("frames of %s can't be shown: %s", self.entry.title, error)
            return
        self.state, self.problem = "attached", ""

    def _announce(self, about: messages.Stream) -> None:
        if not len(about.axes) == len(about.steps) == len(about.sizes) == len(set(about.axes)):
            msg = f"stream {about.id} has {len(about.axes)} axes, {len(about.steps)} steps, {len(about.sizes)} sizes"
            raise ProtocolError(msg)
        if stream := self._by_id.get(about.id):
            if not set(stream.axes) <= set(about.axes):
                msg = f"stream {about.id} lost an axis: {stream.axes} became {about.axes}"
                raise ProtocolError(msg)
            stream.update(about)
            if stream.state == "detached":
                stream.state = "live"
            return
        if about.run:
            stream = Share(self.entry.token, about, self.log, self._runs)
        else:
            stream = LiveStream(self.entry.token, self.entry.title, about, self._history, self.log)
        replaced = {each.key for each in self._replaced_by(stream)}
        self._by_id[about.id] = stream
        kept = [number for number, each in self._by_id.items() if each.key not in replaced]
        # Live mode goes on between any number of runs, in one stream.
        live = next((number for number in reversed(kept) if self._by_id[number].about.preview), None)
        old = [number for number in kept if number != live and not self._by_id[number].held]
        for number in old[: max(0, len(kept) - self._display.kept_streams)]:
            self._by_id.pop(number).remove()
        self._list_streams()

    def _list_streams(self) -> None:
        """Bring `streams` up to date; a share has none before its first frame."""
        found = (each.stream if isinstance(each, Share) else each for each in self._by_id.values())
        self.streams = tuple(dict.fromkeys(stream for stream in found if stream is not None))

    def _replaced_by(self, stream: LiveStream | Share) -> list[LiveStream | Share]:
        """Return the streams whose place in the viewer another takes with its first image.

        Live mode is one image, whatever becomes of its pixel size: with another one a stream of the same title begins.
        """
        if not stream.about.preview:
            return []
        return [
            each
            for number, each in self._by_id.items()
            if number < stream.about.id and each.about.preview and each.about.title == stream.about.title
        ]

    def _replace(self, stream: LiveStream | Share) -> None:
        if former := self._replaced_by(stream):
            for each in former:
                del self._by_id[each.about.id]
            self._list_streams()  # one that is gone and one that is there: never both, never none
            for each in former:
                each.remove()

    def _receive(self, frame: messages.Frame) -> Literal["delivered", "skipped"]:
        """Copy a frame out of its slot into its stack."""
        reader, stream = self._reader, self._by_id.get(frame.stream)
        if reader is None or reader.epoch != frame.epoch or stream is None:
            return "skipped"
        index = stream.place(frame.index)
        if index is None:
            return "skipped"
        frame.index = index
        if isinstance(stream, Share) and stream.stream not in self.streams:
            self._list_streams()
        if frame.kind in DOCUMENTS:
            return self._receive_document(frame, stream, reader)
        try:
            dtype = np.dtype(frame.dtype)
            check_dtype(dtype)
            if len(frame.shape) not in (2, 3) or (len(frame.shape) == 3 and frame.shape[2] not in (3, 4)):
                return "skipped"
            if frame.kind == "labels" and (dtype.kind not in "biu" or len(frame.shape) != 2):
                return "skipped"
            view = reader.view(frame.slot, frame.shape, dtype)
        except (TypeError, ValueError, UnsupportedDtypeError) as error:
            self.errors += 1
            logger.debug("ignored a frame of %s: %s", self.entry.title, error)
            return "skipped"
        if not self._display.shows(dtype, frame.kind):
            return "skipped"
        if reader.generation(frame.slot) != frame.generation:
            self.rejected += 1
            return "skipped"
        if frame.kind == "labels" and dtype.kind == "b":
            view = view.view(np.uint8)  # what viewers take for labels
        magnitude = dtype.kind == "c"
        if frame.kind == "labels":
            plane = self._display.take_labels(view)
        else:
            plane = self._display.take(view, magnitude=magnitude)
        # A lease that was taken back (this process was stopped for too long) lets the slot be overwritten any time.
        if reader.generation(frame.slot) != frame.generation:
            self.rejected += 1
            return "skipped"
        stream.put(frame, plane, magnitude=magnitude)
        if stream.received == 1:
            self._replace(stream)
        self.delivered += 1
        return "delivered"

    def _receive_document(
        self, frame: messages.Frame, stream: LiveStream | Share, reader: RingReader
    ) -> Literal["delivered", "skipped"]:
        """Copy a document out of its slot, decode it, and put it beside the stacks."""
        dtype = np.dtype(np.uint8)
        if frame.dtype != dtype.str or len(frame.shape) != 1 or frame.shape[0] > MAX_DOCUMENT_BYTES:
            return "skipped"
        if not self._display.shows(dtype, frame.kind):
            return "skipped"
        try:
            view = reader.view(frame.slot, frame.shape, dtype)
            data = view.tobytes() if reader.generation(frame.slot) == frame.generation else b""
            if reader.generation(frame.slot) != frame.generation:
                self.rejected += 1
                return "skipped"
            document = decode(frame.kind, data)
        except ValueError as error:  # ProtocolError is one
            self.errors += 1
            logger.debug("ignored %s of %s: %s", frame.kind, self.entry.title, error)
            return "skipped"
        if not stream.annotate(frame, document):
            return "skipped"
        self.delivered += 1
        return "delivered"

    def _pong(self, number: int) -> messages.Pong:
        p50, p99 = self.log.percentiles()
        return messages.Pong(
            number=number,
            painted=self.log.painted,
            age_p50_ms=p50,
            age_p99_ms=p99,
            first_ms=self.log.first_ms,
            rejected=self.rejected,
            forgotten=sum(stack.forgotten for stream in self.streams for stack in stream.stacks)
            + sum(stream.annotations.forgotten for stream in self.streams),
            **self._display.report(self.entry.token),
        )

    # ---- coming and going ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the connection: answer what the display has finished, notice a publisher that has gone."""
        while self.answers:
            number, error = self.answers.pop(0)
            self._send(messages.Captured(number, error[:2000]))
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
                self._send(self._pong(0))
            elif self.state == "refused":
                self._greet()

    def _reconnect(self) -> None:
        """Connect again; if that fails, the broken socket stays until the next attempt."""
        broken, monitor = self.socket, self.monitor
        try:
            self._connect()
        except BaseException:
            self.socket, self.monitor, self._broken = broken, monitor, True
            raise
        broken.disable_monitor()
        monitor.close(0)
        broken.close(0)

    def failed(self, what: str, error: Exception) -> None:
        """Count a mistake, and say the first one."""
        self.errors += 1
        self.problem = f"{what} could not be shown: {type(error).__name__}: {error}"
        level = logging.DEBUG if self._complained else logging.WARNING
        self._complained = True
        logger.log(level, "%s: %s", self.entry.title, self.problem, exc_info=error)

    def _end(self, state: State) -> None:
        self.state = state
        for stream in self._by_id.values():
            stream.alive = state == "detached"
            if stream.state == "live":
                stream.state = "lost" if state == "lost" else "detached" if state == "detached" else "ended"
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._close_socket(0 if state == "lost" else _PARTING_MS)

    def leave(self, reason: str) -> None:
        """Say goodbye, and let go of the publisher's memory; its frames stay. Idempotent."""
        if self.connected:
            self._send(messages.Bye(reason))
            self.problem = ""
            self._end("detached")

    def attach(self) -> None:
        """Greet a publisher again that we have left; what it sends goes on in the same stacks.

        Raises
        ------
        zmq.ZMQError
            If there are no descriptors left for a socket; the source stays detached.
        """
        if self.state == "detached":
            self._dead = False
            self.last_heard = time.monotonic()
            try:
                self._connect()
            except BaseException:
                self.state = "detached"
                raise

    def end(self) -> None:
        """Note that a publisher that we have left is gone."""
        if self.state == "detached":
            self.state = "ended"
            for stream in self._by_id.values():
                stream.alive = False
                if stream.state == "detached":
                    stream.state = "ended"

    def forget(self, stream: LiveStream) -> None:
        """Let go of what a stream has; and of the stream, if nothing can come any more."""
        for number, each in tuple(self._by_id.items()):
            if (each.stream if isinstance(each, Share) else each) is stream:
                each.clear()
                if each.state != "live":
                    del self._by_id[number]
                    if isinstance(each, Share):
                        each.remove()
        self._list_streams()

    def remove(self) -> None:
        """Let go of all planes of its streams."""
        for stream in self._by_id.values():
            stream.remove()
        self._by_id.clear()
        self.streams = ()

    def _send(self, message: messages.FromReceiver) -> None:
        # A publisher that does not read is its own problem: it counts what is not acknowledged as dropped.
        with suppress(zmq.ZMQError):
            self.socket.send(messages.encode(message), zmq.NOBLOCK)

    def _close_socket(self, linger: int) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger)
