"""The relay's process: takes frames, keeps them, and serves the desks.

Threads: one receives from the publishers (`scopecast_viewers.relaying.catch`), one encodes, and the one that calls
`Relay.run` talks to the desks. All that they share is used under one lock, which is held for dictionary operations
only: neither while pixels are copied, nor while they are encoded or sent.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec

from scopecast.errors import ProtocolError
from scopecast.link import messages as local
from scopecast.link.router import GoneError, Router
from scopecast.link.wakeup import Poller
from scopecast.protocol import clock_ns
from scopecast.remote import codec, messages
from scopecast.remote.ladder import LinkPace
from scopecast.remote.pump import VERSION
from scopecast.remote.quality import LADDER
from scopecast_viewers.relaying.catch import Catch
from scopecast_viewers.relaying.desk import Desk
from scopecast_viewers.relaying.encodings import Encodings
from scopecast_viewers.relaying.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy.typing as npt

    from scopecast.rundir.directory import Entry
    from scopecast_viewers.relaying.desk import Job
    from scopecast_viewers.relaying.encodings import Encoded
    from scopecast_viewers.relaying.shelf import Kept, RelayedSource
    from scopecast_viewers.stacks.history import History

__all__ = ["Relay"]

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 0.5
#: A desk that says nothing for so long does not answer; and for so long, its connection is taken to be broken.
SILENT_S: Final = 1.5
BROKEN_S: Final = 30.0
#: What is known of a desk whose connection broke is kept for so long.
AWAY_S: Final = 600.0
#: A source that has ended is over for a desk that has not fetched it after so long: no viewer is open there.
FETCHES_S: Final = 60.0
MAX_DESKS: Final = 64
#: Bytes of frames that are held for a desk that is to have each of them; then publishers of the policy ``every`` wait.
MOST_PINNED = 64 * 2**20
_MOST_WAITING: Final = 10_000
#: Seconds that a connection, which may be a slow one, has to become one of ZeroMQ's.
_HANDSHAKE_S: Final = 30.0
#: The number of a PING that measures the round trip.
_PROBE: Final = 2**62
#: No desk needs longer for a frame.
_MOST_BUSY_MS: Final = 60_000.0
#: Messages that are read before others have their turn.
_READ: Final = 64
#: Marks whose fate is still to be told.
_MOST_MARKS: Final = 256


class Relay:
    """Sends what is published on this machine to desks on others.

    Use it as a context manager.

    Parameters
    ----------
    history
        The memory for the frames; closed by the relay.
    end_after_s
        Seconds without desks and publishers after which `run` ends; None: it does not.
    name
        What it calls itself.
    """

    def __init__(self, history: History, *, end_after_s: float | None = None, name: str = "") -> None:
        self._history, self._end_after_s = history, end_after_s
        self._name = name or platform.node() or "relay"
        self._lock = threading.Condition()  # of all below; notified when there may be something to encode
        self._shelf = Shelf(history)
        self._desks: dict[str, Desk] = {}  # by their sessions
        self._by_address: dict[bytes, Desk] = {}
        self._encodings = Encodings()
        self._marks: OrderedDict[int, tuple[Desk, int]] = OrderedDict()  # by the number that the publisher knows
        self._mark_numbers = 0
        self._gone: list[RelayedSource] = []
        self._stopping = False
        self._catch = Catch(self, self._name)
        self._router: Router | None = None
        self._encoder = threading.Thread(target=self._encode_all, name="scopecast-encoder", daemon=True)

    # ---- coming and going ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bind the socket, and take frames from now on.

        Raises
        ------
        ModuleNotFoundError
            If a codec is not installed; the text says how to install it.
        """
        codec.check_available()
        self._catch.start()
        self._router = Router(
            self._catch.member, largest=messages.MAX_FROM_DESK, handshake_s=_HANDSHAKE_S, keys=self._catch.keys
        )
        self._catch.member.write()
        self._encoder.start()

    def stop(self) -> None:
        """Make `run` return; from any thread, or a signal's handler."""
        self._stopping = True
        if self._router is not None:
            self._router.wake()

    def close(self) -> None:
        """Say goodbye to the desks and the publishers. Idempotent."""
        self.stop()
        with self._lock:
            self._lock.notify_all()
        if self._encoder.ident is not None:
            self._encoder.join(10.0)
        self._catch.close()
        router, self._router = self._router, None
        if router is not None:
            for desk in tuple(self._by_address.values()):
                self._try_to_send(router, desk.address, messages.encode(messages.Bye("the relay has ended")))
            router.close()
        self._history.close()

    def run(self) -> None:
        """Serve the desks, until `stop` is called or nobody has been there for a while."""
        router = self._router
        assert router is not None
        descriptors = [router.socket_fd, router.monitor_fd, router.alarm_fd]
        if router.gate is not None:
            descriptors.append(router.gate.fileno())
        poller = Poller(descriptors)
        next_ping, number, busy = 0.0, 0, time.monotonic()
        while not self._stopping:
            if not router.readable:
                poller.ready(max(0.0, min(HEARTBEAT_S, next_ping - time.monotonic())))
            router.forget_wakes()
            if router.gate is not None:
                router.gate.answer()
            lost = router.has_lost_connections()
            self._read(router)
            now = time.monotonic()
            if lost or now >= next_ping:
                number, next_ping = number + 1, now + HEARTBEAT_S
                self._ping(number, now)
            self._send_all(router)
            if self._by_address or not self._catch.alone or self._owes:
                busy = now
            elif self._end_after_s is not None and now - busy >= self._end_after_s:
                return

    @property
    def _owes(self) -> bool:
        """Whether a desk that is to have every frame lacks some: if it is away, it may come back while it is known."""
        with self._lock:
            desks = [desk for desk in self._desks.values() if desk.every]
            return any(desk.account.waiting or desk.account.sending for desk in desks)

    # ---- what publishers send (on the thread that receives) --------------------------------------------------------

    def present(self, entry: Entry, *, listens: bool) -> None:
        """Tell the desks of a publisher, and of whether it takes marks, if that is new."""
        with self._lock:
            origin = entry.origin or entry.token
            source, new = self._shelf.source(entry.token, origin, entry.title, entry.host)
            back, source.over = source.over, False
            if not (new or back) and source.listens == listens:
                return
            source.died, source.listens = False, listens
            for desk in self._desks.values():
                desk.told_gone.discard(source.number)
            self._tell_all(_about_source(source))
        self._wake()

    @property
    def full(self) -> bool:
        """Whether a desk that is to have every frame lacks so many that the publishers are to wait."""
        now = time.monotonic()
        with self._lock:
            there = (desk for desk in self._by_address.values() if desk.every and now - desk.heard < SILENT_S)
            return any(desk.pinned_bytes >= MOST_PINNED for desk in there)

    def take(self, entry: Entry, about: local.Stream, message: local.Frame, pixels: npt.NDArray[Any]) -> None:
        """Keep a frame, and offer it to the desks."""
        with self._lock:
            source, _ = self._shelf.source(entry.token, entry.origin or entry.token, entry.title, entry.host)
            run, announced = self._shelf.run(source, about)
            if announced:
                self._tell_all(messages.Stream(run.number, source.number, run.about))
            kept, former = self._shelf.put(run, message, pixels)
            for desk in self._desks.values():
                desk.offer(kept, former, pixels)
            self._lock.notify_all()
        if announced:
            self._wake()

    def over(self, token: str, stream: int | None, *, died: bool) -> None:
        """Take note that a run, or a publisher, has ended."""
        with self._lock:
            source = next((each for each in self._shelf.sources if each.token == token), None)
            if source is None:
                return
            for number, run in source.runs.items():
                if stream in (None, number) and not run.ended:
                    run.ended = True
                    self._tell_all(messages.End(run.number))
            if stream is None:
                source.over, source.died, source.listens = True, died, False
                self._gone.extend(self._shelf.tidy())
        self._wake()

    def marked(self, token: str, message: local.Marked) -> None:
        """Tell a desk what has become of its marks."""
        with self._lock:
            desk, number = self._marks.get(message.number, (None, 0))
            if desk is not None and desk.address:
                desk.outbox.append(messages.encode(messages.Marked(number, message.fate, message.reason)))
        self._wake()

    # ---- what desks send -------------------------------------------------------------------------------------------

    def _read(self, router: Router) -> None:
        for _ in range(_READ):
            try:
                received = router.receive()
                if received is None:
                    return
                address, data = received
                message = messages.decode_from_desk(data)
                with self._lock:
                    self._handle(router, address, message)
            except ProtocolError as error:
                logger.debug("ignored %s", error)

    def _handle(self, router: Router, address: bytes, message: messages.FromDesk) -> None:
        if isinstance(message, messages.Hello):
            self._greet(router, address, message)
            return
        if isinstance(message, messages.ListDesks):
            self._try_to_send(router, address, messages.encode(self._listed()))
            return
        desk = self._by_address.get(address)
        if desk is None:
            if not isinstance(message, messages.Bye):
                answer = messages.Reject("the relay does not know this desk", again=True)
                self._try_to_send(router, address, messages.encode(answer))
            return
        desk.heard = time.monotonic()
        if isinstance(message, messages.Ack):
            refused, busy_ns = message.fate == "refused", int(min(max(0.0, message.busy_ms), _MOST_BUSY_MS) * 1e6)
            desk.acknowledged(message.number, time.monotonic_ns(), busy_ns, refused=refused)
            self._lock.notify_all()
        elif isinstance(message, messages.Fetch | messages.Decline):
            source = next((each for each in self._shelf.sources if each.number == message.source), None)
            if source is None:
                return
            if isinstance(message, messages.Fetch):
                desk.fetch(source)
                if message.number:
                    desk.outbox.append(messages.encode(messages.Pong(message.number, clock_ns())))
            else:
                desk.decline(source)
            self._lock.notify_all()
        elif isinstance(message, messages.Recall):
            past = [source for source in self._shelf.sources if source.number in desk.told_gone]
            desk.recall(desk.heard)
            desk.outbox.extend(map(messages.encode, _about(past)))
            self._offer_newest(desk, past)
            self._lock.notify_all()
        elif isinstance(message, messages.View):
            run = self._shelf.run_of(message.stream)
            if run is not None and (place := run.place(list(message.index))) is not None:
                desk.look(run, place, list(message.region))
                self._lock.notify_all()
        elif isinstance(message, messages.DeskMarks):
            self._take_marks(desk, message)
        elif isinstance(message, messages.Ping):
            desk.outbox.append(messages.encode(messages.Pong(message.number, clock_ns())))
            desk.outbox.append(messages.encode(messages.Ping(message.number, desk.account)))  # it may be its last one
        elif isinstance(message, messages.Pong):
            if message.number == _PROBE:
                desk.pace.probed(time.monotonic_ns())
                self._lock.notify_all()
        elif isinstance(message, messages.Bye):
            self._part(desk)
            del self._desks[desk.session]

    def _greet(self, router: Router, address: bytes, hello: messages.Hello) -> None:
        reason = ""
        if not hello.wire_min <= messages.WIRE <= hello.wire_max:
            older = "on the other machine" if hello.wire_min > messages.WIRE else "here"
            reason = f"the relay speaks version {messages.WIRE}: update scopecast {older}"
        elif len(self._by_address) >= MAX_DESKS:
            reason = f"{MAX_DESKS} desks are connected, and no more are accepted"
        if reason:
            self._try_to_send(router, address, messages.encode(messages.Reject(reason)))
            return
        now = time.monotonic()
        desk = self._desks.get(hello.session)
        resumed = desk is not None
        if desk is None:
            desk = self._desks[hello.session] = Desk(hello, LinkPace())
        elif desk.address:
            self._part(desk)
        former = self._by_address.get(address)
        if former is not None:
            self._part(former)
        desk.back(address, hello, LinkPace(), now)
        self._by_address[address] = desk
        sources = [source for source in self._shelf.sources if source.number not in desk.told_gone]
        origins = [source.origin for source in sources]
        told: list[messages.FromRelay] = [
            messages.Welcome(messages.WIRE, self._catch.member.token, resumed, self._name, VERSION, origins, clock_ns())
        ]
        desk.outbox.extend(map(messages.encode, [*told, *_about(sources)]))
        if not resumed:
            self._offer_newest(desk, sources)
        self._lock.notify_all()

    @staticmethod
    def _offer_newest(desk: Desk, sources: Iterable[RelayedSource]) -> None:
        """Offer the newest frames of all channels to a desk that is new: of what goes on first."""
        found: list[tuple[bool, int, list[Kept]]] = []
        for run in (run for source in sources for run in source.runs.values()):
            newest = {kept.channel: kept for kept in sorted(run.frames(), key=lambda kept: kept.serial)}
            in_order = sorted(newest.values(), key=lambda kept: kept.serial)
            if in_order:
                found.append((run.ended or run.source.over, -in_order[-1].serial, in_order))
        for *_, in_order in sorted(found, key=lambda each: each[:2]):
            for kept in in_order:
                desk.offer(kept, None, news=False)

    def _take_marks(self, desk: Desk, message: messages.DeskMarks) -> None:
        run = self._shelf.run_of(message.stream)
        marks = message.marks
        reason, kept = "", None
        if run is None or run.source.over:
            reason = "the frame is stale: its run is over on the other machine"
        else:
            index = [marks.axes.get(axis, 0) for axis in run.about.axes]
            kept = next((each for each in run.at(index) if run.place(each.message.index) == index), None)
            if kept is None:
                reason = "the frame is stale: the relay does not have it any more"
        if reason or kept is None or run is None:
            desk.outbox.append(messages.encode(messages.Marked(message.number, "refused", reason)))
            return
        self._mark_numbers += 1
        number, token = self._mark_numbers, run.source.token
        self._marks[number] = desk, message.number
        while len(self._marks) > _MOST_MARKS:
            self._marks.popitem(last=False)
        sent = msgspec.structs.replace(
            marks, number=number, token=token, stream=run.about.id, sent_ns=kept.message.sent_ns
        )

        def send() -> None:
            if not self._catch.send(token, sent):
                self.marked(token, local.Marked(number, "refused", "the program is no longer there"))

        self._catch.ask(send)

    def _listed(self) -> messages.Listed:
        now = time.monotonic()
        desks, seconds = [], []
        for desk in self._desks.values():
            seconds.append(int(now - (desk.connected if desk.address else desk.left)))
            state = "away" if not desk.address else "does not answer" if now - desk.heard > SILENT_S else "connected"
            desks.append((desk.title, state, LADDER[0].name if desk.every else desk.pace.quality.name, desk.account))
        return messages.Listed(desks, seconds)

    # ---- what is sent ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if self._router is not None and not self._stopping:
            self._router.wake()

    def _tell_all(self, message: messages.FromRelay) -> None:
        data = messages.encode(message)
        for desk in self._by_address.values():
            desk.outbox.append(data)

    def _ping(self, number: int, now: float) -> None:
        with self._lock:
            for desk in tuple(self._by_address.values()):
                if now - desk.heard > BROKEN_S or len(desk.outbox) > _MOST_WAITING:
                    self._part(desk)
                    continue
                desk.forget_gone()
                desk.outbox.append(messages.encode(messages.Ping(number, desk.account)))
                for source in self._shelf.sources:
                    if source.over and source.number not in desk.told_gone and self._is_done(desk, source, now):
                        desk.told_gone.add(source.number)
                        desk.outbox.append(messages.encode(messages.Gone(source.number, source.died)))
            for desk in tuple(self._desks.values()):
                if not desk.address and now - desk.left > AWAY_S:
                    del self._desks[desk.session]
            gone, self._gone = self._gone, []
            for source in gone:
                for desk in self._desks.values():
                    desk.forget_source(source)
                self._tell_all(messages.Gone(source.number, source.died))

    @staticmethod
    def _is_done(desk: Desk, source: RelayedSource, now: float) -> bool:
        """Whether a desk has all that it wants of a source that has ended; a viewer there may be about to want more."""
        return not desk.lacks(source) and (desk.has_fetched(source) or now - desk.since > FETCHES_S)

    def _send_all(self, router: Router) -> None:
        for desk in tuple(self._by_address.values()):
            while True:
                with self._lock:
                    data = desk.outbox.popleft() if desk.outbox else None
                if data is None or not desk.address:
                    break
                try:
                    if not router.send(desk.address, data):
                        with self._lock:
                            desk.outbox.appendleft(data)
                        break
                except GoneError:
                    with self._lock:
                        self._part(desk)
                    break

    @staticmethod
    def _try_to_send(router: Router, address: bytes, data: bytes) -> None:
        try:
            router.send(address, data)
        except GoneError:
            logger.debug("a desk has gone")

    def _part(self, desk: Desk) -> None:
        """Take note that a desk's connection is broken."""
        self._by_address.pop(desk.address, None)
        desk.away(time.monotonic())

    # ---- on the encoder's thread -------------------------------------------------------------------------------------

    def _encode_all(self) -> None:
        while True:
            with self._lock:
                while not (found := self._next_job()):
                    if self._stopping:
                        return
                    self._lock.wait(HEARTBEAT_S)
            desk, job = found
            try:
                piece = self._encodings.encode(job)
            except Exception as error:  # noqa: BLE001 - this frame is not sent: counted; the others go on
                logger.warning("a frame of %s can't be sent: %s", job.kept.run.source.title, error)
                piece = None
            with self._lock:
                self._put(desk, job, piece)
            self._wake()

    def _next_job(self) -> tuple[Desk, Job] | None:
        now = time.monotonic_ns()
        for session, desk in tuple(self._desks.items()):
            if desk.probes(now):
                desk.outbox.append(messages.encode(messages.Ping(_PROBE, desk.account)))
                self._wake()
            job = desk.next(now)
            if job is not None:
                self._desks[session] = self._desks.pop(session)  # the others have their turn
                return desk, job
        return None

    def _put(self, desk: Desk, job: Job, encoded: Encoded | None) -> None:
        if desk.encoding is not job:  # its connection has broken meanwhile
            return
        kept = job.kept
        place = kept.run.place(kept.message.index)
        if encoded is None or place is None:
            desk.failed(job)
            return
        message = kept.message
        piece = messages.Piece(
            number=desk.sent(job, time.monotonic_ns(), len(encoded.data)),
            serial=kept.serial,
            stream=kept.run.number,
            quality=job.quality,
            kind=message.kind,
            name=message.name,
            dtype=message.dtype,
            shape=message.shape,
            index=place,
            data=memoryview(encoded.data),
            piece=list(job.piece or ()),
            companding=encoded.companding,
            translate=message.translate,
            metadata=message.metadata,
            origin_ns=message.published_ns,
            late=job.late or not job.news,
            preview=message.preview,
            shown=job.shown,
        )
        desk.outbox.append(messages.encode(piece))

    def __enter__(self) -> Relay:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _about(sources: Iterable[RelayedSource]) -> Iterator[messages.FromRelay]:
    """Yield what a desk is told of sources, and of their runs."""
    for source in sources:
        yield _about_source(source)
        for run in source.runs.values():
            yield messages.Stream(run.number, source.number, run.about)
            if run.ended:
                yield messages.End(run.number)


def _about_source(source: RelayedSource) -> messages.Source:
    return messages.Source(source.number, source.origin, source.title, source.host, source.listens, source.over)
