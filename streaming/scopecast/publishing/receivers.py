"""The receivers of a publisher: greeting them, sending to them, and what they say of the frames that they were sent.

The socket is used only under the publisher's lock: by ``publish()``, which sends each frame itself (handing messages to
another thread was seen to take 333 ms when the producer's own Python is busy), and by the thread "keeper", which in
between reads acknowledgements, sends heartbeats and notices who has gone (`scopecast.publishing.keeper`).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from scopecast.errors import ProtocolError
from scopecast.link import messages
from scopecast.link.router import GoneError, Router
from scopecast.publishing.accounts import Account, ReceiverStats
from scopecast.publishing.events import News
from scopecast.publishing.slots import acknowledge, drop_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopecast.publishing.accounts import Accounts
    from scopecast.publishing.draft import Draft
    from scopecast.publishing.guard import Guard
    from scopecast.publishing.slots import Slots
    from scopecast.rundir.directory import Member

__all__ = ["Receiver", "Receivers"]

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 0.45
MAX_RECEIVERS: Final = 16
#: Messages read per turn of the lock, so that a flood of them can't keep a frame waiting.
DRAIN_LIMIT: Final = 64


class Receiver:
    """A receiver that is attached, or was."""

    def __init__(self, number: int, address: bytes, hello: messages.Hello, account: Account) -> None:
        self.number = number
        self.address = address
        self.token, self.kind, self.title, self.pid = hello.token, hello.kind, hello.title, hello.pid
        self.account = account
        self.unanswered = 0
        self.attached = True
        self.pong = messages.Pong(0)

    def __str__(self) -> str:
        return f"{self.title or self.kind} (process {self.pid})"

    def stats(self) -> ReceiverStats:
        """Return this receiver's row of the accounts."""
        pong = self.pong
        return ReceiverStats(
            token=self.token,
            kind=self.kind,
            title=self.title,
            pid=self.pid,
            attached=self.attached,
            frames=self.account.counts,
            painted=pong.painted,
            age_ms=(pong.age_p50_ms, pong.age_p99_ms),
            drain_ms=(pong.drain_p50_ms, pong.drain_p99_ms),
            paint_ms=pong.paint_p50_ms,
            first_ms=pong.first_ms,
            forgotten=pong.forgotten,
            layer_ms=pong.layer_ms,
        )


class Receivers:
    """Everyone who is attached to a publisher. Used under the publisher's lock, but for `capture` and `close`.

    Parameters
    ----------
    member
        The publisher's entry in the run directory; its endpoint and key are set here.
    accounts
        The publisher's accounts.
    guard
        The publisher's guard.

    Attributes
    ----------
    router : Router
        The socket.
    slots : Slots or None
        Where the frames are; None before there is a ring, and while a new one is made after something cut in.
    attached : dict of bytes to Receiver
        Who is attached, by the address.
    departed : deque of Receiver
        Those who have left last.
    refused : deque of str
        Tokens of the receivers that could not be served: nobody needs to wait for them.
    news : News
        Told when a receiver came or went, or a frame's fate was settled.
    protocol_errors : int
        Messages that were ignored.
    last_publish_ns : int
        When the last frame was announced (CLOCK_MONOTONIC); 0 before.
    closing : bool
        Whether nothing is to be sent any more.
    """

    def __init__(self, member: Member, accounts: Accounts, guard: Guard) -> None:
        self.router = Router(member)
        self.slots: Slots | None = None
        self.attached: dict[bytes, Receiver] = {}
        self.departed: deque[Receiver] = deque(maxlen=MAX_RECEIVERS)
        self.refused: deque[str] = deque(maxlen=MAX_RECEIVERS)
        self.news = News(self.wake)
        self.protocol_errors = self.last_publish_ns = 0
        self.closing = False
        self._member, self._accounts, self._guard = member, accounts, guard
        self._numbers = itertools.count(1)
        self._pictures: dict[int, str] = {}  # that were asked for: what came of each
        self._expected: dict[str, int] = {}  # tokens of viewers that are about to attach, and their numbers
        self._streams: list[messages.Stream] = []
        self._known: frozenset[int] = frozenset()  # streams that receivers which join late are told of
        self._ended: set[int] = set()  # streams

    def rows(self) -> tuple[ReceiverStats, ...]:
        """Return a row for each receiver, those that have left included."""
        return tuple(receiver.stats() for receiver in (*self.departed, *self.attached.values()))

    @property
    def in_flight(self) -> int:
        """How many frames are pending or leased, over all receivers."""
        return sum(account.in_flight for account in self._accounts.receivers.values())

    def laggards(self) -> str:
        """Name the receivers that hold the most frames."""
        held = sorted(self.attached.values(), key=lambda receiver: -len(receiver.account.leased))
        return ", ".join(f"{receiver} holds {len(receiver.account.leased)} frames" for receiver in held[:3])

    # ---- frames --------------------------------------------------------------------------------------------------

    def claim(self, draft: Draft) -> bool:
        """Give a draft a slot, if one is free or may be overwritten; return whether there was one."""
        if self.slots is None:
            return False
        supersede = draft.policy == "latest"
        frame = self.slots.claim(draft.channel, supersede=supersede)
        if frame is None:  # what is acknowledged may not have been read: the keeper keeps out of the way
            self.drain_if_any()
            frame = self.slots.claim(draft.channel, supersede=supersede)
        if frame is None:
            return False
        draft.frame, draft.array = frame, self.slots.ring.array(frame.number, draft.shape, draft.dtype)
        return True

    def publish(self, draft: Draft, sequence: int) -> None:
        """Announce a frame that is written to its end: before it its stream, where that is new or has a new axis."""
        stream, frame, array = draft.stream, draft.frame, draft.array
        assert frame is not None
        assert array is not None
        if len(draft.index) != len(stream.axes):  # another thread's frame brought a new axis meanwhile
            draft.place()
        if not (stream.announced and stream.number in self._known):
            self._announce(stream.message())
            stream.announced = True
        now = time.monotonic_ns()
        message = draft.encode(sequence, now)
        frame.slots.commit(frame, sequence, array.nbytes, message, lossless=draft.policy == "every")
        self.last_publish_ns = now
        if self.attached:  # else the socket was not used, and the keeper sees to whoever comes
            self.dispatch()
            self.drain_if_any()

    def _announce(self, stream: messages.Stream) -> None:
        """Tell the receivers what is fixed about a stream's frames."""
        # An announcement with fewer axes is kept too: frames that were published under it may not be sent yet.
        kept = [known for known in self._streams if known.id != stream.id or len(known.axes) < len(stream.axes)]
        newest = {known.id: None for known in (*kept, stream)}
        alive = list(newest)[-messages.KEPT_STREAMS :]
        self._streams = [known for known in (*kept, stream) if known.id in alive]
        self._known = frozenset(alive)
        self._broadcast(stream)

    def end(self, stream: int) -> None:
        """Say that no more frames will come in a stream, also to who comes later."""
        self._ended.add(stream)
        self._broadcast(messages.End(stream))

    def dispatch(self) -> None:
        """Send pending frames to every receiver that has credit."""
        if self.closing or self.slots is None:
            return
        for receiver in tuple(self.attached.values()):
            while (frame := self.slots.next_for(receiver.account)) is not None:
                if not self.send(receiver, frame.message):
                    break
                self.slots.lease(frame, receiver.account)

    def use(self, slots: Slots) -> None:
        """Have frames go through these slots from now on, and tell the receivers."""
        if self.slots is not None:
            for receiver in tuple(self.attached.values()):
                # What must not be lost goes out before the word of the new ring, with which a receiver lets go of the
                # old one.
                for frame in self.slots.unsent(receiver.account):
                    self._tell(receiver, frame.message)
                    if not receiver.attached:
                        break
                    self.slots.lease(frame, receiver.account)
            self.slots.retire()
        self.slots = slots
        for receiver in tuple(self.attached.values()):
            self._welcome(receiver)
        self._look_again()

    def expect(self, tokens: Iterable[str]) -> None:
        """Have frames wait for viewers that are about to attach, as if they had.

        A viewer needs a fifth of a second to find a publisher; what is published meanwhile is not lost to it.
        """
        assert self.slots is not None
        for token in tokens:
            number = self._expected[token] = next(self._numbers)
            self.slots.attach(number)

    def expect_nobody(self) -> None:
        """Give up waiting for those who have not attached."""
        for token in tuple(self._expected):
            self._give_up(token)

    def _give_up(self, token: str) -> None:
        if (number := self._expected.pop(token, None)) is not None:
            self._end_account(number)
            self.news.tell()

    def _end_account(self, number: int) -> None:
        if (account := self._accounts.receivers.get(number)) is not None:
            drop_all(account)
            del self._accounts.receivers[number]

    def void(self) -> None:
        """Throw away all that is in flight, as something cut into a change of it; the frames count as dropped.

        Acknowledgements of them will be ignored, and there are no slots until a new ring is in use.
        """
        slots, self.slots = self.slots, None
        self._expected.clear()
        self.attached = {address: receiver for address, receiver in self.attached.items() if receiver.attached}
        self._accounts.void({receiver.number: receiver.account for receiver in self.attached.values()})
        if slots is not None:
            slots.retire()
        self.news.tell()
        self.wake()

    # ---- messages ------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Wake the keeper; once closed there is none."""
        if not self.closing:
            self.router.wake()

    def _look_again(self) -> None:
        """Wake the keeper if there is something to read; after the last use of the socket."""
        if not self.closing and self.router.readable:
            self.router.wake()

    def send(self, receiver: Receiver, data: bytes) -> bool:
        """Send a message to a receiver; return False if there was no room for it, or the receiver is gone."""
        try:
            return self.router.send(receiver.address, data)
        except GoneError:
            self.part(receiver, "its connection is gone")
            return False

    def _tell(self, receiver: Receiver, data: bytes) -> None:
        """Send what a receiver must not miss; give it up if it does not take it."""
        if receiver.attached and not self.send(receiver, data):
            self.part(receiver, "it does not read its messages")

    def _broadcast(self, message: messages.FromPublisher) -> None:
        if self.closing:
            return
        data = messages.encode(message)
        for receiver in tuple(self.attached.values()):
            self._tell(receiver, data)
        self._look_again()

    def drain_if_any(self) -> None:
        """Read what has arrived, if anything; cheap where nothing has."""
        for _ in range(2):
            if self.closing or not self.router.readable:
                return
            self.drain()
        self._look_again()

    def drain(self) -> None:
        """Read up to `DRAIN_LIMIT` messages, and act on them."""
        read = False
        for _ in range(DRAIN_LIMIT):
            try:
                received = self.router.receive()
                if received is None:
                    break
                read = True
                address, data = received
                self._handle(address, messages.decode_from_receiver(data))
            except ProtocolError as error:
                read = True
                self.protocol_errors += 1
                logger.debug("scopecast: ignored %s", error)
        if read:
            self.dispatch()
            self.news.tell()

    def _handle(self, address: bytes, message: messages.FromReceiver) -> None:
        if isinstance(message, messages.Hello):
            self._greet(address, message)
            return
        receiver = self.attached.get(address)
        if receiver is None:
            # Given up for dead, and yet it speaks: what it holds is void, but it may come back.
            self._reply(address, messages.Reject(messages.PROTOCOL, messages.PROTOCOL, "not attached", again=True))
            return
        receiver.unanswered = 0
        if isinstance(message, messages.Ack):
            acknowledge(receiver.account, message.epoch, message.slot, message.generation, message.fate)
        elif isinstance(message, messages.Pong):
            receiver.pong = message
        elif isinstance(message, messages.Captured):
            if message.number in self._pictures:
                self._pictures[message.number] = message.error or "done"
        elif isinstance(message, messages.Bye):
            self.part(receiver, message.reason or "it was closed", level=logging.INFO)

    def _greet(self, address: bytes, hello: messages.Hello) -> None:
        if reason := self._why_not(address, hello):
            self._give_up(hello.token)
            if hello.token not in self.refused:
                self.refused.append(hello.token)
            self._reply(address, messages.Reject(messages.PROTOCOL, messages.PROTOCOL, reason))
            return
        for known in tuple(self.attached.values()):
            if known.token == hello.token or known.address == address:
                self.part(known, "it attached anew", level=logging.DEBUG)
        number = self._expected.pop(hello.token, None)
        if number is None:
            number = next(self._numbers)
            if self.slots is not None:
                self.slots.attach(number)
            else:  # a new ring is being made, of which it will be told
                self._accounts.receivers[number] = Account()
        receiver = Receiver(number, address, hello, self._accounts.receivers[number])
        self.attached[address] = receiver
        logger.info("scopecast: %s is attached", receiver)
        # After the leases: the receiver may prove to be gone while it is welcomed, and takes its account with it.
        self._welcome(receiver)

    def _why_not(self, address: bytes, hello: messages.Hello) -> str:
        """Return why a receiver can't be served; ``""`` if it can."""
        if not hello.protocol_min <= messages.PROTOCOL <= hello.protocol_max:
            older = "this viewer" if hello.protocol_max < messages.PROTOCOL else "scopecast in the acquisition"
            return (
                f"the acquisition speaks protocol {messages.PROTOCOL}, "
                f"the viewer {hello.protocol_min} to {hello.protocol_max}: update {older}"
            )
        if hello.kind != self._member.entry.kind:
            return f"this stream is for {self._member.entry.kind} viewers, not {hello.kind}"
        if len(self.attached) >= MAX_RECEIVERS and address not in self.attached:
            return f"{MAX_RECEIVERS} viewers are attached, and no more are accepted"
        return ""

    def _welcome(self, receiver: Receiver) -> None:
        if self.slots is None:
            return
        entry, ring = self._member.entry, self.slots.ring
        welcome = messages.Welcome(
            messages.PROTOCOL, entry.token, ring.epoch, ring.name, HEARTBEAT_S, entry.title, entry.host
        )
        self._tell(receiver, messages.encode(welcome))
        for stream in self._streams:
            self._tell(receiver, messages.encode(stream))
            if stream.id in self._ended:
                self._tell(receiver, messages.encode(messages.End(stream.id)))

    def _reply(self, address: bytes, message: messages.Reject) -> None:
        with suppress(GoneError):
            self.router.send(address, messages.encode(message))

    def part(self, receiver: Receiver, why: str, level: int = logging.WARNING) -> None:
        """End all that a receiver has: its leases are free at once, what it did not acknowledge is dropped."""
        if not receiver.attached:
            return
        receiver.attached = False
        self.attached.pop(receiver.address, None)
        self._end_account(receiver.number)
        self.departed.append(receiver)
        lost = receiver.account.fates["dropped"]
        logger.log(level, "scopecast: %s has left: %s%s", receiver, why, f"; {lost} frames dropped" if lost else "")
        self.news.tell()

    # ---- pictures of the window, and the end ---------------------------------------------------------------------

    def capture(self, path: str, timeout: float) -> None:
        """Have the viewers write a picture of their window to `path`; takes the lock itself.

        Raises
        ------
        RuntimeError
            If there is none, or it could not be made within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        number = time.monotonic_ns()
        with self._guard.lock, self._guard:
            self._pictures[number] = "" if self.attached else "no viewer is attached"
            self._broadcast(messages.Capture(number, path))
        while True:
            left = deadline - time.monotonic()
            with self._guard.lock, self._guard:
                if self._pictures[number] or not self.attached or left <= 0:
                    answer = self._pictures.pop(number)
                    break
                ticket = self.news.ticket()
            ticket.acquire(timeout=min(left, 0.25))
        if answer != "done":
            msg = f"no picture of the window: {answer or f'the viewer did not answer within {timeout:g} s'}"
            raise RuntimeError(msg)

    def say_goodbye(self) -> None:
        """Tell the receivers that the publisher ends, and see that they have heard it; takes the lock itself."""
        with self._guard.lock, self._guard:
            self._broadcast(messages.Bye("the acquisition has ended"))
        deadline = time.monotonic() + 0.5
        # A BYE that is still in our socket when it closes is lost, as it does not linger: receivers answer it.
        while (left := deadline - time.monotonic()) > 0:
            with self._guard.lock, self._guard:
                if not self.attached:
                    return
                ticket = self.news.ticket()
            ticket.acquire(timeout=left)

    def stop(self) -> None:
        """Part with everyone, and let go of the slots: nothing is sent any more."""
        for receiver in tuple(self.attached.values()):
            self.part(receiver, "the publisher was closed", level=logging.DEBUG)
        self.expect_nobody()
        if self.slots is not None:
            self.slots.retire()
        self.router.wake()  # the keeper ends
        self.closing = True
        self.news.tell()
