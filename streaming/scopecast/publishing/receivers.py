"""The publisher's socket and who is at its other end: greeting, sending, acknowledging, and noticing who has gone.

One ROUTER serves every receiver. It is touched only under the hub's lock: by ``publish()``, which sends each frame
itself (handing messages to another thread was seen to take 333 ms when the producer's own Python is busy), and by the
keeper thread (`Hub.keep`), which in between drains acknowledgements, sends heartbeats and buries the dead.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import zmq

from scopecast.crashpoints import crash_point
from scopecast.errors import ProtocolError
from scopecast.link import messages, transport
from scopecast.link.door import Door
from scopecast.link.wakeup import WakeUp, Watch
from scopecast.publishing.receiver import News, Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopecast.memory.ring import Ring
    from scopecast.publishing.accounts import Account, ReceiverStats
    from scopecast.publishing.slots import Leases
    from scopecast.rundir.directory import Member

__all__ = ["Hub"]

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 0.45
#: This many pings without any word, and the receiver is given up: within 2 s of its stopping.
MISSED_PINGS: Final = 3
#: After a connection broke the locks are looked at every `LOOK_S`, for `SUSPECT_S` (then it is the heartbeat's turn).
LOOK_S: Final = 0.01
SUSPECT_S: Final = 0.3
MAX_RECEIVERS: Final = 16
#: Messages read per turn of the lock, so that a flood of them can't keep a frame waiting.
DRAIN_LIMIT: Final = 64
#: Streams that a receiver which joins late is told of; as many as it keeps.
KEPT_STREAMS: Final = 3
#: While frames are published faster than this, publish() drains the acknowledgements itself, and the keeper keeps out
#: of its way, unless somebody waits: each of its turns would cost the producer a hand-over of the interpreter lock.
_QUIET_S: Final = 0.003
#: As plain integers: pyzmq's enums cost a microsecond each time that two of them are joined.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.SNDMORE | zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_RCVMORE: Final = int(zmq.RCVMORE)


class Hub:
    """The publisher's end of the connections to its receivers.

    Parameters
    ----------
    member
        The publisher's entry in the run directory; its endpoint and key are set here.
    total
        The account of all receivers together.
    lock
        Guards the socket, the leases and the accounts; shared with the publisher. Methods that say "under the lock"
        expect it held.

    Attributes
    ----------
    news : News
        Told when a receiver came or went, or a frame's fate was settled.
    known : frozenset of int
        The streams that receivers which join late are told of; others are to be announced anew.
    refused : deque of str
        Tokens of the receivers that could not be served: nobody needs to wait for them.
    protocol_errors, keeper_errors : int
        Messages that were ignored; turns of the keeper that failed.
    problem : str
        What went wrong in the keeper's last turn; ``""`` if nothing did.
    when_removed : callable
        Called at a heartbeat, by the keeper and without the lock, while the names by which new receivers find the
        publisher are gone.
    """

    def __init__(self, member: Member, total: Account, lock: threading.Lock) -> None:
        self.lock = lock
        self.news = News(self._wake)
        self.total = total
        self.accounts: dict[int, Account] = {}
        self.receivers: dict[bytes, Receiver] = {}
        self.departed: deque[Receiver] = deque(maxlen=MAX_RECEIVERS)
        self.refused: deque[str] = deque(maxlen=MAX_RECEIVERS)
        self.captured: dict[int, str] = {}
        self.streams: list[messages.Stream] = []
        self.known: frozenset[int] = frozenset()
        self.protocol_errors = self.keeper_errors = 0
        self.problem = ""
        self.last_publish_ns = 0
        self.when_removed: Callable[[], None] = lambda: None
        self._leases: list[Leases] = []  # the current ring's first, then those that wind down
        self._rings: dict[int, Ring] = {}
        self._ring: Ring | None = None
        self._member = member
        self._door = Door(member)
        self._pid = os.getpid()
        self._numbers = itertools.count(1)
        self._pings = itertools.count(1)
        self._closing = False
        self._expected: dict[str, int] = {}  # tokens of viewers that are about to attach, and their numbers
        self._ended: set[int] = set()  # streams
        self._keeper: int | None = None
        self._kept = threading.Event()
        self._look_at, self._suspect_until = math.inf, -math.inf
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with ExitStack() as undo:
            undo.callback(self._context.term)
            self._context.set(zmq.MAX_SOCKETS, 64)
            self._socket = self._context.socket(zmq.ROUTER)
            undo.callback(self._socket.close, 0)
            for option, value in (
                (zmq.LINGER, 0),
                (zmq.SNDTIMEO, 0),
                (zmq.RCVTIMEO, 0),
                (zmq.SNDHWM, 2000),
                (zmq.RCVHWM, 2000),
                (zmq.MAXMSGSIZE, messages.MAX_MESSAGE_BYTES),
                (zmq.ROUTER_MANDATORY, 1),
                (zmq.HANDSHAKE_IVL, 2000),
            ):
                self._socket.setsockopt(option, value)
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            undo.callback(self._monitor.close, 0)
            undo.callback(self._socket.disable_monitor)
            crash_point("socket-made")
            self._monitor.getsockopt(_EVENTS)  # its descriptor tells of nothing before it was asked once
            self._gate = transport.bind(self._socket, member)
            if self._gate is not None:
                undo.callback(self._gate.close)
            self._alarm = WakeUp()
            undo.callback(self._alarm.close)
            self._socket_fd, self._monitor_fd = self._socket.fileno(), self._monitor.fileno()
            self._resources = undo.pop_all()

    # ---- under the lock ------------------------------------------------------------------------------------------

    def use(self, ring: Ring, leases: Leases) -> None:
        """Make `ring` the one that frames go through, and tell the receivers. Under the lock."""
        for receiver in tuple(self.receivers.values()) if self._leases else ():
            # What must not be lost goes out before the word of the new ring, with which a receiver lets go of this one.
            for slot in self._leases[0].lease_kept(receiver.number):
                self._tell(receiver, self._leases[0].message(slot))
        for old in self._leases:
            old.retire()
        self._leases.insert(0, leases)
        self._ring = ring
        self._rings[ring.epoch] = ring
        for receiver in tuple(self.receivers.values()):
            self._welcome(receiver)
        self._bury_rings()
        self._look_again()

    def expect(self, tokens: Iterable[str]) -> None:
        """Have frames wait for viewers that are about to attach, as if they had. Under the lock, with a ring.

        A viewer needs a fifth of a second to find a publisher; what is published meanwhile is not lost to it.
        """
        for token in tokens:
            number = self._expected[token] = next(self._numbers)
            self._leases[0].attach(number)

    def expect_nobody(self) -> None:
        """Give up waiting for those who have not attached. Under the lock."""
        for token in tuple(self._expected):
            self._give_up(token)

    def _give_up(self, token: str) -> None:
        if (number := self._expected.pop(token, None)) is not None:
            for leases in self._leases:
                leases.detach(number)
            self.accounts.pop(number, None)
            self.news.tell()

    def bind_anew(self) -> None:
        """Make the socket's file again if another has removed it; who is connected stays so. Under the lock."""
        if self._closing or not self._door.lost:
            return
        # The first listener stays, unseen: to unbind it would end the connections that came through it.
        self._socket.bind(self._member.entry.endpoint)

    def _mind_the_door(self) -> None:
        """Keep new receivers out while few descriptors are left."""
        if self._door.is_right:
            return
        with self.lock:
            if not self._closing:
                self._door.turn()
                logger.info(
                    "scopecast: new viewers are %s", "kept out: no file descriptors" if self._door.shut else "let in"
                )

    def _is_removed(self) -> bool:
        """Whether another has removed what new receivers find this publisher by (logind does, at logout)."""
        ring = self._ring
        return self._member.removed or self._door.lost or (ring is not None and not ring.named)

    def announce(self, stream: messages.Stream) -> None:
        """Tell the receivers what is fixed about a stream's frames. Under the lock, before its first frame."""
        # An announcement with fewer axes is kept too: frames that were published under it may not be sent yet.
        kept = [known for known in self.streams if known.id != stream.id or len(known.axes) < len(stream.axes)]
        newest = {known.id: None for known in (*kept, stream)}
        alive = list(newest)[-KEPT_STREAMS:]
        self.streams = [known for known in (*kept, stream) if known.id in alive]
        self.known = frozenset(alive)
        self.broadcast(stream)

    def end(self, stream: int) -> None:
        """Say that no more frames will come in a stream, also to who comes later. Under the lock."""
        self._ended.add(stream)
        self.broadcast(messages.End(stream))

    def broadcast(self, message: messages.FromPublisher) -> None:
        """Send a message to every receiver. Under the lock."""
        if self._closing:
            return
        data = messages.encode(message)
        for receiver in tuple(self.receivers.values()):
            self._tell(receiver, data)
        self._look_again()

    def dispatch(self) -> None:
        """Send pending frames to every receiver that has credit. Under the lock."""
        if self._closing or not self._leases:
            return
        leases = self._leases[0]
        for receiver in tuple(self.receivers.values()):
            while (slot := leases.next_for(receiver.number)) is not None:
                if not self._send(receiver, leases.message(slot)):
                    if receiver.attached:
                        leases.unsend(receiver.number, slot)
                    break

    def drain_if_any(self) -> None:
        """Read what has arrived, if anything. Under the lock; cheap where nothing has."""
        for _ in range(2):
            if self._closing or not self._readable():
                return
            self._drain()
        self._look_again()

    def recover(self) -> None:
        """Put everything in order after an exception cut into it, such as Ctrl-C between two lines. Under the lock.

        What was in flight is void, and counted as dropped; acknowledgements of it will be ignored.
        """
        if self._closing:
            return
        self._expected.clear()
        self.receivers = {address: receiver for address, receiver in self.receivers.items() if receiver.attached}
        self.accounts.clear()
        self.accounts.update((receiver.number, receiver.account) for receiver in self.receivers.values())
        for leases in self._leases:
            leases.recover()
        for account in (self.total, *self.accounts.values()):
            account.pending.clear()
            account.leased.clear()
            account.fates["dropped"] += max(0, account.published - sum(account.fates.values()))
            account.published = sum(account.fates.values())
        self._bury_rings()
        self.news.tell()
        self._wake()

    def rows(self) -> tuple[ReceiverStats, ...]:
        """Return a row for each receiver, those that have left included. Under the lock."""
        return tuple(receiver.stats() for receiver in (*self.departed, *self.receivers.values()))

    @property
    def in_flight(self) -> int:
        """How many frames are pending or leased, over all receivers. Under the lock."""
        return sum(len(account.pending) + len(account.leased) for account in self.accounts.values())

    def laggards(self) -> str:
        """Name the receivers that hold the most frames. Under the lock."""
        held = sorted(self.receivers.values(), key=lambda receiver: -len(receiver.account.leased))
        return ", ".join(f"{receiver} holds {len(receiver.account.leased)} frames" for receiver in held[:3])

    def _readable(self) -> bool:
        events: int = self._socket.getsockopt(_EVENTS)  # type: ignore[assignment]
        return bool(events & _POLLIN)

    def _look_again(self) -> None:
        """Wake the keeper if there is something to read. Under the lock, after the last use of the socket.

        ZMQ_FD tells of an arrival only once, and any use of the socket may take that from the keeper.
        """
        if not self._closing and self._readable():
            self._wake()

    def _wake(self) -> None:
        """Wake the keeper; once closed there is none. Under the lock."""
        if not self._closing:
            self._alarm.wake()

    def _send(self, receiver: Receiver, data: bytes) -> bool:
        try:
            self._socket.send(receiver.address, _MORE, copy=True)
            self._socket.send(data, _NOBLOCK, copy=True)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._part(receiver, "its connection is gone")
            return False
        except BaseException:
            # Ctrl-C: if it struck between the address and the message, an empty one ends it; otherwise nobody gets it.
            with suppress(zmq.ZMQError):
                self._socket.send(b"", zmq.NOBLOCK)
            raise
        return True

    def _tell(self, receiver: Receiver, data: bytes) -> None:
        """Send what a receiver must not miss; give it up if it does not take it."""
        if receiver.attached and not self._send(receiver, data):
            self._part(receiver, "it does not read its messages")

    def _drain(self) -> bool:
        """Read up to `DRAIN_LIMIT` messages, and act on them. Return whether there are more. Under the lock."""
        settled = False
        for _ in range(DRAIN_LIMIT):
            # Asking is cheaper than the exception of a recv() that finds nothing.
            if not self._readable():
                break
            try:
                address = self._socket.recv(_NOBLOCK)
                parts = 0
                data = b""
                while self._socket.getsockopt(_RCVMORE):
                    data = self._socket.recv(_NOBLOCK)
                    parts += 1
            except zmq.Again:
                break
            try:
                if parts != 1:
                    msg = f"a message of {parts} parts; one is expected"
                    raise ProtocolError(msg)
                self._handle(address, messages.decode_from_receiver(data))
            except ProtocolError as error:
                self.protocol_errors += 1
                logger.debug("scopecast: ignored %s", error)
            settled = True
        if settled:
            self.dispatch()
            self._bury_rings()
            self.news.tell()
        return self._readable()

    def _handle(self, address: bytes, message: messages.FromReceiver) -> None:
        receiver = self.receivers.get(address)
        if isinstance(message, messages.Hello):
            self._greet(address, message)
            return
        if receiver is None:
            # Given up for dead, and yet it speaks: what it holds is void, but it may come back.
            self._reply(address, messages.Reject(messages.PROTOCOL, messages.PROTOCOL, "not attached", again=True))
            return
        receiver.unanswered = 0
        if isinstance(message, messages.Ack):
            for leases in self._leases:
                if leases.epoch == message.epoch:
                    leases.ack(receiver.number, message.slot, message.generation, message.fate)
        elif isinstance(message, messages.Pong):
            receiver.pong = message
        elif isinstance(message, messages.Captured):
            if message.number in self.captured:
                self.captured[message.number] = message.error or "done"
        elif isinstance(message, messages.Bye):
            self._part(receiver, message.reason or "it was closed", level=logging.INFO)

    def _greet(self, address: bytes, hello: messages.Hello) -> None:
        reason = None
        if not hello.protocol_min <= messages.PROTOCOL <= hello.protocol_max:
            older = "this viewer" if hello.protocol_max < messages.PROTOCOL else "scopecast in the acquisition"
            reason = (
                f"the acquisition speaks protocol {messages.PROTOCOL}, "
                f"the viewer {hello.protocol_min} to {hello.protocol_max}: update {older}"
            )
        elif hello.kind != self._member.entry.kind:
            reason = f"this stream is for {self._member.entry.kind} viewers, not {hello.kind}"
        elif len(self.receivers) >= MAX_RECEIVERS and address not in self.receivers:
            reason = f"{MAX_RECEIVERS} viewers are attached, and no more are accepted"
        elif self._ring is None:
            reason = "the ring is not made yet"
        if reason:
            self._give_up(hello.token)
            if hello.token not in self.refused:
                self.refused.append(hello.token)
            self._reply(address, messages.Reject(messages.PROTOCOL, messages.PROTOCOL, reason))
            return
        for known in tuple(self.receivers.values()):
            if known.token == hello.token or known.address == address:
                self._part(known, "it attached anew", level=logging.DEBUG)
        number = self._expected.pop(hello.token, None)
        if number is None:
            number = next(self._numbers)
            self._leases[0].attach(number)
        account = self.accounts[number]
        receiver = self.receivers[address] = Receiver(number, address, hello, account)
        logger.info("scopecast: %s is attached", receiver)
        # After the leases: the receiver may prove to be gone while it is welcomed, and takes its account with it.
        self._welcome(receiver)

    def _welcome(self, receiver: Receiver) -> None:
        if self._ring is None:
            return
        entry = self._member.entry
        welcome = messages.Welcome(
            messages.PROTOCOL, entry.token, self._ring.epoch, self._ring.name, HEARTBEAT_S, entry.title, entry.host
        )
        self._tell(receiver, messages.encode(welcome))
        for stream in self.streams:
            self._tell(receiver, messages.encode(stream))
            if stream.id in self._ended:
                self._tell(receiver, messages.encode(messages.End(stream.id)))

    def _reply(self, address: bytes, message: messages.Reject) -> None:
        with suppress(zmq.ZMQError):
            self._socket.send(address, _MORE)
            self._socket.send(messages.encode(message), zmq.NOBLOCK)

    def _part(self, receiver: Receiver, why: str, level: int = logging.WARNING) -> None:
        """End all that a receiver has: its leases are free at once, what it did not acknowledge is dropped."""
        if not receiver.attached:
            return
        receiver.attached = False
        self.receivers.pop(receiver.address, None)
        for leases in self._leases:
            leases.detach(receiver.number)
        del self.accounts[receiver.number]
        self.departed.append(receiver)
        lost = receiver.account.fates["dropped"]
        logger.log(level, "scopecast: %s has left: %s%s", receiver, why, f"; {lost} frames dropped" if lost else "")
        self.news.tell()

    def _bury_rings(self) -> None:
        """Close the rings that wind down once nobody leases a slot of theirs."""
        for leases in self._leases[1:]:
            if not leases.leased and not leases.writing:
                self._leases.remove(leases)
                self._rings.pop(leases.epoch).close()

    # ---- the keeper ----------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Look after the receivers until the hub is closed, on the thread that calls it, whatever happens."""
        self._keeper = threading.get_ident()
        try:
            self._keep()
        finally:
            self._kept.set()

    def _keep(self) -> None:
        gate, alarm_fd = self._gate, self._alarm.fileno()
        others = (self._monitor_fd, alarm_fd, *((gate.fileno(),) if gate else ()))
        watch, watch_others = Watch((self._socket_fd, *others)), Watch(others)
        beat = time.monotonic() + HEARTBEAT_S
        more = False
        while not self._closing:
            try:
                due = min(beat, self._look_at)
                ready = watch.ready(0.0 if more else max(0.0, due - time.monotonic()))
                while ready == {self._socket_fd} and self._is_busy() and time.monotonic() < due:
                    ready = watch_others.ready(_QUIET_S) or ready
                if self._closing:
                    return
                if alarm_fd in ready:
                    self._alarm.clear()
                if gate is not None:
                    gate.answer()  # not under the lock: it reads files
                if time.monotonic() >= beat:
                    self._mind_the_door()
                    if not self._door.shut and self._is_removed():
                        self.when_removed()
                with self.lock:
                    if self._closing:
                        return
                    self._drain()
                    suspects: tuple[Receiver, ...] = ()
                    if self._monitor_fd in ready or time.monotonic() >= self._look_at:
                        suspects = self._suspected()
                    if time.monotonic() >= beat:
                        beat = time.monotonic() + HEARTBEAT_S
                        suspects += self._beat()
                    more = self._readable()
                self._bury_dead(suspects)
                self.problem = ""
            except Exception as error:  # without the keeper no lease would ever end
                self.keeper_errors += 1
                self.problem = f"an error in the keeper of the viewers: {type(error).__name__}: {error}"
                level = logging.ERROR if self.keeper_errors == 1 else logging.DEBUG
                logger.log(level, "scopecast: an error in the keeper of the viewers", exc_info=error)
                more = False
                time.sleep(0.05)  # it may come again at once, and would then take the whole processor

    def _is_busy(self) -> bool:
        """Whether frames are sent one after the other, and nobody waits for what becomes of them."""
        recent = time.monotonic_ns() - self.last_publish_ns < _QUIET_S * 1e9
        return recent and bool(self.receivers) and not self.news.awaited

    def _suspected(self) -> tuple[Receiver, ...]:
        """Return whom to look at, as someone's connection broke, and set when to look again. Under the lock."""
        now = time.monotonic()
        with suppress(zmq.ZMQError):
            while True:
                self._monitor.recv_multipart(zmq.NOBLOCK)
                self._suspect_until = now + SUSPECT_S
        # The connection of a process that is killed may break some milliseconds before its lock is free.
        self._look_at = now + LOOK_S if now < self._suspect_until else math.inf
        return tuple(self.receivers.values())

    def _bury_dead(self, receivers: Iterable[Receiver]) -> None:
        """Give up those whose process died. Not under the lock, which frames need: it looks at files."""
        if dead := [receiver for receiver in receivers if not self._member.directory.alive(receiver.token)]:
            with self.lock:
                if not self._closing:
                    for receiver in dead:
                        self._part(receiver, "its process died")

    def _beat(self) -> tuple[Receiver, ...]:
        """Send a PING to everyone, give up who did not answer the last ones, return whom to look at. Under the lock."""
        number = next(self._pings)
        for receiver in tuple(self.receivers.values()):
            if receiver.unanswered >= MISSED_PINGS:
                self._part(receiver, f"it has not answered for {MISSED_PINGS * HEARTBEAT_S:.1f} s")
                continue
            receiver.unanswered += 1
            fates = receiver.account.fates
            ping = messages.Ping(number, fates["superseded"], fates["dropped"], receiver.account.published)
            self._send(receiver, messages.encode(ping))
        # The monitor may have missed a death (a socket that a forked child held open); the locks have not.
        return tuple(receiver for receiver in self.receivers.values() if receiver.unanswered > 1)

    def close(self) -> None:
        """Say goodbye, end the keeper, close the socket and the rings. Idempotent; inert in a forked child."""
        if self._closing or os.getpid() != self._pid:
            return
        try:
            with self.lock:
                self.broadcast(messages.Bye("the acquisition has ended"))
            deadline = time.monotonic() + 0.5
            # A BYE that is still in our socket when it closes is lost, as it does not linger: receivers answer it.
            while (left := deadline - time.monotonic()) > 0:
                with self.lock:
                    if not self.receivers:
                        break
                    ticket = self.news.ticket()
                ticket.acquire(timeout=left)
        except BaseException:
            with self.lock:
                self.recover()
            raise
        finally:  # also when Ctrl-C cut the wait short
            with self.lock:
                for receiver in tuple(self.receivers.values()):
                    self._part(receiver, "the publisher was closed", level=logging.DEBUG)
                self.expect_nobody()
                self._closing = True
                self.news.tell()
            self._alarm.wake()
            if threading.get_ident() != self._keeper:
                self._kept.wait(timeout=5)
            self._resources.close()
            for ring in self._rings.values():
                ring.close()
            self._rings.clear()

    @property
    def segment_bytes(self) -> int:
        """Bytes of shared memory that are mapped now."""
        return sum(ring.layout.total for ring in self._rings.values())
