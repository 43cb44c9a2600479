"""The receivers of a publisher: attaching them, sending them frames, and reading their acknowledgements.

The socket is used only under the publisher's lock: by ``publish()``, which sends each frame itself (handing messages to
another thread was seen to take 333 ms while the producer's own Python is busy), and by the thread "keeper", which in
between reads acknowledgements, sends heartbeats and notices receivers that are gone (`scopecast.publishing.keeper`).
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from scopecast.errors import ProtocolError
from scopecast.link import messages
from scopecast.link.router import GoneError, Router
from scopecast.memory.ring import MAX_CAPTION
from scopecast.protocol import ANY_KIND, clock_ns
from scopecast.publishing.accounts import Account, ReceiverStats
from scopecast.publishing.listening import Listening
from scopecast.publishing.pace import Pace
from scopecast.publishing.slots import acknowledge, drop_all, keep_all
from scopecast.publishing.wait import Bell

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scopecast.frames.streams import FrameStream
    from scopecast.publishing.accounts import Accounts
    from scopecast.publishing.draft import Draft
    from scopecast.publishing.guard import Guard
    from scopecast.publishing.slots import SlotFrame, Slots
    from scopecast.rundir.directory import Member

__all__ = ["AttachedReceiver", "Receivers"]

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 0.45
MAX_RECEIVERS: Final = 16
#: How long to wait for the answers to a goodbye.
GOODBYE_S: Final = 0.5
#: The most messages read while holding the lock, so that a flood of them can't delay a frame.
DRAIN_LIMIT: Final = 64
#: Frames that subscribers can reply to: the newest.
RECENT: Final = 256
#: Replies that may wait to be shown.
MAX_REPLIES: Final = 64
#: Frames that a subscriber may have however slowly it looks at them: one that it looks at, one of each of some channels
#: that waits, and one that is to take the place of such.
_FEWEST_OF_SUBSCRIBERS: Final = 8
#: Bytes of a caption that are left to FRAME.
_ROOM_OF_FRAME: Final = 1536


def _short(about: messages.Stream) -> bytes:
    """Return an announcement as the captions have it: without the labels where those leave no room for the frame."""
    encoded = messages.encode(about)
    if len(encoded) <= MAX_CAPTION - _ROOM_OF_FRAME:
        return encoded
    return messages.encode(msgspec.structs.replace(about, labels={}, colors=[]))


class RecentFrame(NamedTuple):
    """A frame that was published, and may be replied to: its place, and who has got it."""

    stream: FrameStream
    axes: list[str]
    place: list[int]
    translate: list[float]
    frame: SlotFrame


class AttachedReceiver:
    """A receiver that is attached, or was."""

    def __init__(self, number: int, address: bytes, hello: messages.Hello, account: Account) -> None:
        self.number = number
        self.address = address
        self.token, self.kind, self.title, self.pid = hello.token, hello.kind, hello.title, hello.pid
        self.account = account
        self.unanswered = 0
        self.unlocked_at = 0.0  # since when it is not in the run directory, by time.monotonic()
        self.attached = True
        self.pong = messages.Pong(0)
        self.look: messages.Look | None = None  # what is looked at there

    def __str__(self) -> str:
        return f"{self.title or self.kind} (process {self.pid})"

    def stats(self) -> ReceiverStats:
        """Return this receiver's row of the statistics."""
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
            rejected=pong.rejected,
        )


class Receivers:
    """The receivers attached to a publisher. Used under its lock, except `capture` and `say_goodbye`.

    Parameters
    ----------
    member
        The publisher's entry in the run directory; its endpoint and key are set here.
    accounts
        The publisher's accounts.
    guard
        The publisher's guard.
    listening
        Where marks go; a new one by default.

    Attributes
    ----------
    router : Router
        The socket.
    slots : Slots or None
        The slots of the ring; None before there is a ring, and while a new one is made after an interrupted change.
    attached : dict of bytes to AttachedReceiver
        The attached receivers, by their address.
    departed : deque of AttachedReceiver
        The receivers that left last.
    refused : deque of str
        Tokens of receivers that were refused, and need not be waited for.
    listening : Listening
        Where marks go.
    news : Bell
        Wakes waiting threads when a receiver attaches or leaves, or a frame's fate is settled.
    protocol_errors : int
        How many messages were ignored.
    last_publish_ns : int
        When the last frame was announced (CLOCK_MONOTONIC); 0 before the first.
    closing : bool
        Whether nothing may be sent any more.
    recent : dict of int to RecentFrame
        The frames published last, by their sequence numbers.
    replies : deque of (AttachedReceiver, Reply)
        Replies of subscribers that are to be shown (`scopecast.publishing.replies`).
    """

    def __init__(self, member: Member, accounts: Accounts, guard: Guard, listening: Listening | None = None) -> None:
        self.listening = listening or Listening()
        self.router = Router(member)
        self.slots: Slots | None = None
        self.attached: dict[bytes, AttachedReceiver] = {}
        self.departed: deque[AttachedReceiver] = deque(maxlen=MAX_RECEIVERS)
        self.refused: deque[str] = deque(maxlen=MAX_RECEIVERS)
        self.news = Bell(self.wake)
        self.protocol_errors = self.last_publish_ns = 0
        self.closing = False
        self._goodbye_said = False
        self.recent: dict[int, RecentFrame] = {}
        self.replies: deque[tuple[AttachedReceiver, messages.Reply]] = deque()
        self._member, self._accounts, self._guard = member, accounts, guard
        self._numbers = itertools.count(1)
        self._lamented: deque[str] = deque(maxlen=4 * MAX_RECEIVERS)  # tokens that there was a warning of
        self._pictures: dict[int, str] = {}  # the result of each requested picture, "" until it is known
        self._expected: dict[str, int] = {}  # numbers of the viewers that are about to attach, by their tokens
        self._streams: list[messages.Stream] = []
        self._known: frozenset[int] = frozenset()  # streams that are announced to receivers that join late
        self._ended: set[int] = set()  # streams

    def rows(self) -> tuple[ReceiverStats, ...]:
        """Return a row for each receiver, including those that have left."""
        return tuple(receiver.stats() for receiver in (*self.departed, *self.attached.values()))

    @property
    def viewers(self) -> list[AttachedReceiver]:
        """The attached receivers that are viewers, and not subscribers."""
        return [receiver for receiver in self.attached.values() if receiver.account.viewer]

    @property
    def in_flight(self) -> int:
        """How many frames are not where they are to go, over all receivers.

        A subscriber has a frame as soon as that is sent: it reads it in its slot, for as long as it likes.
        """
        accounts = self._accounts.receivers.values()
        return sum(account.in_flight if account.viewer else len(account.pending) for account in accounts)

    def laggards(self) -> str:
        """Name the receivers that hold the most frames."""
        held = sorted(self.attached.values(), key=lambda receiver: -len(receiver.account.leased))
        return ", ".join(f"{receiver} holds {len(receiver.account.leased)} frames" for receiver in held[:3])

    # ---- frames --------------------------------------------------------------------------------------------------

    def claim(self, draft: Draft) -> bool:
        """Give a draft a slot, if one is free or may be reused; return whether there was one."""
        if self.slots is None:
            return False
        supersede = draft.policy == "latest" and draft.of < 0
        frame = self.slots.claim(draft.channel, supersede=supersede)
        if frame is None:  # acknowledgements may be unread: the keeper leaves them to publish()
            self.drain_if_any()
            frame = self.slots.claim(draft.channel, supersede=supersede)
        if frame is None:
            return False
        draft.frame, draft.array = frame, self.slots.ring.array(frame.number, draft.shape, draft.dtype)
        return True

    def publish(self, draft: Draft, sequence: int) -> None:
        """Announce a frame that is completely written, and first its stream if that is new or has a new axis."""
        stream, frame, array = draft.stream, draft.frame, draft.array
        assert frame is not None
        assert array is not None
        if len(draft.index) != len(stream.axes):  # another thread's frame has added an axis meanwhile
            draft.place()
        now = clock_ns()
        if not (stream.announced and stream.number in self._known):
            stream.began_ns = stream.began_ns or now
            if not stream.announced:
                for receiver in tuple(self.attached.values()):
                    self.ping(receiver, 0)  # with the account of the run before
            self._announce(about := stream.message())
            stream.announcement = _short(about)
            self.listening.know(stream, self._known)
            stream.announced = True
            if stream.ended and stream.number not in self._ended:  # before it was announced
                self.end(stream.number)
        if draft.audience is not None:
            attached = self.attached.values()
            wanted = draft.audience([each.token for each in attached])
            frame.missed = tuple(each.account for each in attached if each.token not in wanted)
        if draft.of < 0:
            self.recent[sequence] = RecentFrame(stream, stream.axes, draft.index, draft.about[1], frame)
            if len(self.recent) > RECENT:
                del self.recent[next(iter(self.recent))]
        else:
            frame.of, frame.missed, frame.total = draft.of, draft.missed, self._accounts.replies
        message = draft.encode(sequence, now)
        shorter = message
        if len(stream.announcement) + len(message) > MAX_CAPTION:
            shorter = draft.encode(sequence, now, bare=True)
        frame.slots.commit(
            frame,
            sequence,
            array.nbytes,
            message,
            lossless=draft.policy == "every",
            caption=(stream.announcement, shorter),
        )
        self.last_publish_ns = now
        if self.attached:  # else the socket was not used, and the keeper attaches new receivers
            self.dispatch()
            self.drain_if_any()

    def _announce(self, stream: messages.Stream) -> None:
        """Tell the receivers what the frames of a stream have in common."""
        # An announcement with fewer axes is kept too: frames that were published under it may still be unsent.
        kept = [known for known in self._streams if known.id != stream.id or len(known.axes) < len(stream.axes)]
        newest = {known.id: None for known in (*kept, stream)}
        alive = list(newest)[-messages.KEPT_STREAMS :]
        self._streams = [known for known in (*kept, stream) if known.id in alive]
        self._known = frozenset(alive)
        self._broadcast(stream)

    def end(self, stream: int) -> None:
        """Announce that a stream gets no more frames, also to receivers that attach later."""
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
        """Use these slots for frames from now on, and tell the receivers."""
        if self.slots is not None:
            for receiver in tuple(self.attached.values()):
                # Lossless frames are sent before the WELCOME that names the new ring, upon which a receiver releases
                # the old one.
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
        if self.replies:  # they may have waited for it
            self.wake()

    def expect(self, tokens: Iterable[str]) -> None:
        """Let frames wait for viewers that are about to attach, as if they were attached.

        A viewer needs a moment to find a publisher, and does not miss what is published meanwhile.
        """
        assert self.slots is not None
        for token in tokens:
            number = self._expected[token] = next(self._numbers)
            self.slots.attach(number)

    def expect_nobody(self) -> None:
        """Stop waiting for viewers that have not attached."""
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
        """Throw away everything in flight, because a change was cut short; the frames count as dropped.

        Their acknowledgements will be ignored, and there are no slots until a new ring is in use.
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
        """Wake the keeper, unless it has been closed."""
        if not self.closing:
            self.router.wake()

    def _look_again(self) -> None:
        """Wake the keeper if there is something to read. To be called after the last use of the socket."""
        if not self.closing and self.router.readable:
            self.router.wake()

    def send(self, receiver: AttachedReceiver, data: bytes) -> bool:
        """Send a message to a receiver; return False if there is no room for it, or the receiver is gone."""
        try:
            return self.router.send(receiver.address, data)
        except GoneError:
            self._read()  # its goodbye may have arrived, and says more
            self.part(receiver, "its connection is gone")
            return False

    def _tell(self, receiver: AttachedReceiver, data: bytes) -> None:
        """Send a message that a receiver must not miss; give the receiver up if there is no room for it."""
        if receiver.attached and not self.send(receiver, data):
            self.part(receiver, "it does not read its messages")

    def _broadcast(self, message: messages.FromPublisher) -> None:
        self._tell_each(tuple(self.attached.values()), message)

    def _tell_each(self, receivers: Iterable[AttachedReceiver], message: messages.FromPublisher) -> None:
        if self.closing:
            return
        data = messages.encode(message)
        for receiver in receivers:
            self._tell(receiver, data)
        self._look_again()

    def answer(self, receiver: AttachedReceiver, message: messages.FromPublisher) -> None:
        """Answer a receiver, unless it has left."""
        self._tell_each((receiver,), message)

    def drain_if_any(self) -> None:
        """Read the messages that have arrived; cheap if there are none."""
        for _ in range(2):
            if self.closing or not self.router.readable:
                return
            self.drain()
        self._look_again()

    def drain(self) -> None:
        """Read up to `DRAIN_LIMIT` messages, act on them, and send what that has made room for."""
        if self._read():
            self.dispatch()
            self.news.tell()

    def _read(self) -> bool:
        """Read up to `DRAIN_LIMIT` messages and act on them; return whether there were any."""
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
        return read

    def _handle(self, address: bytes, message: messages.FromReceiver) -> None:
        if isinstance(message, messages.Hello):
            self._greet(address, message)
            return
        receiver = self.attached.get(address)
        if receiver is None:
            # It was given up as dead, but is alive: its leases are void, but it may attach again.
            self._reply(address, messages.Reject(messages.PROTOCOL, messages.PROTOCOL, "not attached", again=True))
            return
        receiver.unanswered = 0
        if isinstance(message, messages.Ack):
            acknowledge(receiver.account, message.epoch, message.slot, message.generation, message.fate)
        elif isinstance(message, messages.Reply):
            if len(self.replies) < MAX_REPLIES:
                self.replies.append((receiver, message))
                self.wake()
            else:
                self._accounts.replies.count("dropped")
                reason = f"{MAX_REPLIES} replies wait already"
                self._tell(receiver, messages.encode(messages.Replied(message.number, "dropped", reason)))
        elif isinstance(message, messages.Pong):
            receiver.pong = message
        elif isinstance(message, messages.Look):
            receiver.look = message
        elif isinstance(message, messages.Captured):
            if message.number in self._pictures:
                self._pictures[message.number] = message.error or "done"
        elif isinstance(message, messages.Marks):
            other = message.token != self._member.entry.token
            reason = "the frame is of another program" if other else self.listening.take(receiver, message)
            if reason:
                self.answer(receiver, messages.Marked(message.number, "refused", reason))
        elif isinstance(message, messages.Bye):
            if self._goodbye_said and not message.reason:  # its answer, not its own wish to leave
                self._let_finish(receiver)
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
                self.part(known, "it attached again", level=logging.DEBUG)
        number = self._expected.pop(hello.token, None)
        account = Account() if number is None else self._accounts.receivers[number]
        if hello.kind == ANY_KIND:
            account.viewer, account.replies, account.pace = False, hello.replies, Pace(_FEWEST_OF_SUBSCRIBERS)
        if number is None:
            number = next(self._numbers)
            if self.slots is not None:
                self.slots.attach(number, account)
            else:  # a new ring is being made, and will be announced to it
                self._accounts.receivers[number] = account
        receiver = AttachedReceiver(number, address, hello, account)
        self.attached[address] = receiver
        logger.info("scopecast: %s is attached", receiver)
        # Last, once the account is open: if the receiver turns out to be gone, this closes its account.
        self._welcome(receiver)

    def _why_not(self, address: bytes, hello: messages.Hello) -> str:
        """Return why a receiver can't be served; ``""`` if it can."""
        if not hello.protocol_min <= messages.PROTOCOL <= hello.protocol_max:
            older = "this viewer" if hello.protocol_max < messages.PROTOCOL else "scopecast in the acquisition"
            return (
                f"the acquisition speaks protocol {messages.PROTOCOL}, "
                f"the viewer {hello.protocol_min} to {hello.protocol_max}: update {older}"
            )
        if hello.kind not in (ANY_KIND, self._member.entry.kind):
            return f"this stream is for {self._member.entry.kind} viewers, not {hello.kind}"
        if len(self.attached) >= MAX_RECEIVERS and address not in self.attached:
            return f"{MAX_RECEIVERS} viewers are attached, and no more are accepted"
        return ""

    def _welcome(self, receiver: AttachedReceiver) -> None:
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

    def settle_marks(self) -> None:
        """Refuse the marks that nobody will take any more."""
        for receiver, marked in self.listening.settle():
            self.answer(receiver, marked)

    def part(self, receiver: AttachedReceiver, why: str, level: int = logging.WARNING) -> None:
        """Detach a receiver: its leases end at once, and the frames that it did not acknowledge are dropped."""
        if not receiver.attached:
            return
        receiver.attached = False
        self.attached.pop(receiver.address, None)
        self._end_account(receiver.number)
        self.departed.append(receiver)
        lost = receiver.account.fates["dropped"]
        if level == logging.WARNING:  # one that comes and goes again and again is worth one
            level = logging.DEBUG if receiver.token in self._lamented else level
            self._lamented.append(receiver.token)
        logger.log(level, "scopecast: %s has left: %s%s", receiver, why, f"; {lost} frames dropped" if lost else "")
        self.news.tell()

    # ---- pictures of the window, and the end ---------------------------------------------------------------------

    def capture(self, path: str, timeout: float) -> None:
        """Let the viewers save a picture of their window to `path`; takes the lock itself.

        Raises
        ------
        RuntimeError
            If no viewer is attached, or the picture could not be made within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        number = time.monotonic_ns()
        with self._guard.lock, self._guard:
            self._pictures[number] = "" if self.viewers else "no viewer is attached"
            self._tell_each(self.viewers, messages.Capture(number, path))
        while True:
            left = deadline - time.monotonic()
            with self._guard.lock, self._guard:
                if self._pictures[number] or not self.viewers or left <= 0:
                    answer = self._pictures.pop(number)
                    break
                ticket = self.news.ticket()
            ticket.acquire(timeout=min(left, 0.25))
        if answer != "done":
            msg = f"no picture of the window: {answer or f'the viewer did not answer within {timeout:g} s'}"
            raise RuntimeError(msg)

    def ping(self, receiver: AttachedReceiver, number: int) -> None:
        """Send a heartbeat, with the receiver's row of the accounts."""
        account = receiver.account
        fates, listens, looks = account.fates, self.listening.active, self.listening.looks
        ping = messages.Ping(number, fates["superseded"], fates["dropped"], account.published, listens, looks)
        self.send(receiver, messages.encode(ping))

    def say_goodbye(self) -> None:
        """Tell the receivers that the publisher ends, and wait for their answers; takes the lock itself."""
        with self._guard.lock, self._guard:
            self._goodbye_said = True
            for receiver in tuple(self.attached.values()):
                if not receiver.account.viewer:
                    self.ping(receiver, 0)  # the last account: a recorder says how many frames it lacks
            self._broadcast(messages.Bye("the acquisition has ended"))
        deadline = time.monotonic() + GOODBYE_S
        # A BYE that is still queued when our socket closes is lost, as the socket does not linger: so receivers answer.
        while (left := deadline - time.monotonic()) > 0:
            with self._guard.lock, self._guard:
                if not self.attached:
                    return
                ticket = self.news.ticket()
            ticket.acquire(timeout=left)

    def _let_finish(self, receiver: AttachedReceiver) -> None:
        """Count what a program that is no viewer was sent as delivered: it reads that after our end, too."""
        if not receiver.account.viewer:
            keep_all(receiver.account)

    def stop(self) -> None:
        """Detach all receivers, and retire the slots: nothing is sent any more."""
        for receiver in tuple(self.attached.values()):
            self._let_finish(receiver)
            self.part(receiver, "the publisher was closed", level=logging.DEBUG)
        self.expect_nobody()
        if self.slots is not None:
            self.slots.retire()
        self.router.wake()  # the keeper ends
        self.closing = True
        self.news.tell()
