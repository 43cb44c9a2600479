"""``scopecast connect``: what is published on another machine, on this one, for as long as it is wanted.

One thread, that of `Connection.run`, does everything: it connects, and again whenever the connection breaks; decodes
and publishes what comes; and sends what local viewers want and mark.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from scopecast.errors import ProtocolError, ScopecastError, ViewerLagging
from scopecast.link import messages as local
from scopecast.protocol import ANY_KIND, clock_ns, printable
from scopecast.remote import messages
from scopecast.remote.clock import Clock
from scopecast.remote.command import LinkError
from scopecast.remote.mirror import Had, Mirror
from scopecast.remote.quality import LADDER
from scopecast.remote.visit import link_by
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scopecast.publishing.listening import Inbox, Waiting
    from scopecast.publishing.publisher import Publisher
    from scopecast.remote.command import Way
    from scopecast.remote.link import AnyLink
    from scopecast.remote.visit import Visit

__all__ = ["Connection"]

logger = logging.getLogger(__name__)

_LOOK_S: Final = 0.1
_PING_S: Final = 1.0
#: Seconds without a single byte after which a connection is taken to be broken.
SILENT_S: Final = 10.0
#: Seconds until it is tried again: the first time, and at most.
PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
#: Seconds in which a relay finds the programs that publish beside it.
FOUND_S: Final = 10.0
#: Seconds that the relay has for its last account.
_ACCOUNT_S: Final = 0.5
_MOST_MARKS: Final = 64
_MOST_SOURCES: Final = 64
#: Programs that have ended of which is known who has had their frames.
_MOST_PAST: Final = 8
_BYE: Final = messages.encode(messages.Bye("the desk was closed"))
_HELLO: Final = 0  # among the numbers of PINGs, which begin with 1


class Connection:
    """Publishes on this machine what is published on another one.

    Use it as a context manager.

    Parameters
    ----------
    way
        What leads to the relay.
    place
        What the other machine is called; the titles of its programs end with it.
    kinds
        The kinds of viewers to publish for.
    launch
        Whether to open a viewer of a kind if none is running.
    every
        Have each frame, exact, one after the other, instead of the newest.
    title
        What this desk calls itself.
    options
        More options for each `scopecast.Publisher`.
    tell
        Called with each line that the user is to see.

    Attributes
    ----------
    state : str
        ``"connecting"``, ``"connected"``, ``"waiting"`` (until it is tried again) or ``"closed"``.
    problem : str
        Why it is not connected; ``""`` if it is.
    account : DeskAccount
        What the relay says of the frames.
    quality : str
        In which quality the last frame came.
    age_ms : float
        How old that was when it came, in ms.
    refused : int
        Frames that could not be shown.
    """

    def __init__(
        self,
        way: Way | Visit,
        place: str,
        kinds: Sequence[str],
        *,
        launch: bool = False,
        every: bool = False,
        title: str = "",
        options: Mapping[str, Any] = {},
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._way, self._place, self._kinds, self._launch = way, place, tuple(kinds), launch
        self._options, self._tell = dict(options), tell
        self.state, self.problem = "connecting", ""
        self.account = messages.DeskAccount()
        self.quality, self.age_ms, self.refused = "", 0.0, 0
        self.host = place
        self._hello = messages.Hello(messages.WIRE, messages.WIRE, new_token(), title, every)
        self._mirrors: dict[str, Mirror] = {}  # by their origins
        self._doubtful: dict[str, float] = {}  # origins that the relay does not name, and until when they are awaited
        self._sources: dict[int, Mirror] = {}  # by the relay's numbers
        self._runs: dict[int, tuple[Mirror, int]] = {}  # the mirror of a run, and the number that the publisher gave it
        #: By its origin, those for which a source was fetched: viewers, and with `every` each program that subscribes.
        self._seen: dict[str, set[str]] = {}
        self._fetching: list[tuple[int, str, set[str]]] = []  # not known to have arrived: by the number of each
        self._inboxes: dict[str, list[Inbox]] = {}
        self._looked: dict[str, local.Look] = {}  # what was told to be looked at of each source; the last is the newest
        self._marks: dict[int, tuple[Publisher, Waiting]] = {}  # that wait for an answer
        self._taken: OrderedDict[int, tuple[Publisher, Waiting]] = OrderedDict()  # that may still be refused
        self._numbers, self._pings = itertools.count(1), itertools.count(1)
        self._directory = RunDirectory()
        self._past: OrderedDict[str, list[Had]] = OrderedDict()  # of the origins of programs that have ended
        self._viewers: set[str] = set()  # those that have been here
        self._changed_ns = 0  # when it was looked for them, by the run directory
        self._greeted = self._ever = False
        self._relay = ""  # the token of the one that has answered last
        self._since = 0.0  # when that was
        self._stop = threading.Event()
        self._link: AnyLink | None = None
        self._clock = Clock()
        self._asked_ns: dict[int, int] = {}  # when HELLO was sent, and what a PONG has not answered

    @property
    def titles(self) -> tuple[str, ...]:
        """The programs whose frames come, as they are called here."""
        return tuple(mirror.title for mirror in tuple(self._mirrors.values()))

    def stop(self) -> None:
        """Make `run` return soon; from any thread."""
        self._stop.set()

    def run(self) -> None:
        """Connect, and stay connected until `stop` is called.

        Raises
        ------
        LinkError
            If there has been no connection yet, or trying again is of no use: what to do is in the text.
        """
        pause = PAUSE_S
        while not self._stop.is_set():
            self.state = "connecting"
            self._way.expected = not self._ever or any(mirror.goes_on for mirror in self._mirrors.values())
            try:
                with link_by(self._way, self._place) as self._link:
                    self._link.open()
                    try:
                        self._serve(self._link)
                    except (KeyboardInterrupt, SystemExit):
                        self._part(self._link)
                        raise
                    self._part(self._link)
            except LinkError as error:
                if error.hopeless or not self._ever:
                    raise
                if self.problem != str(error):
                    self._tell(f"{error}; trying again")
                self.problem = str(error)
            was_there, self._greeted = self._greeted, False
            self._give_up_marks()
            # What was lost with the connection is asked for again; what has arrived would be sent twice.
            for _, origin, viewers in self._fetching:
                self._seen.get(origin, set()).difference_update(viewers)
            self._fetching.clear()
            if self._looked:
                self._looked.popitem()  # is told again
            if self._stop.is_set():
                break
            self.state = "waiting"
            if was_there and time.monotonic() - self._since > pause:  # it was not in vain
                pause = PAUSE_S
            until = time.monotonic() + (0.0 if self._way.comes else pause)
            # Windows handles Ctrl-C between two waits only.
            while (left := until - time.monotonic()) > 0 and not self._stop.wait(min(_LOOK_S, left)):
                pass
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def close(self) -> None:
        """End the streams here. Idempotent."""
        self.stop()
        self.state = "closed"
        mirrors, self._mirrors = tuple(self._mirrors.values()), {}
        for mirror in mirrors:
            mirror.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- while it is connected -------------------------------------------------------------------------------------

    def _serve(self, link: AnyLink) -> None:
        self._greet()
        next_look = next_ping = 0.0
        while not self._stop.is_set():
            data = link.receive(_LOOK_S)
            if data is not None:
                try:
                    self._handle(messages.decode_from_relay(data))
                except ProtocolError as error:
                    self.refused += 1
                    logger.debug("ignored a message of %s: %s", self._place, error)
            now = time.monotonic()
            if now >= next_look:
                next_look = now + _LOOK_S
                self._look()
            if now >= next_ping:
                next_ping = now + _PING_S
                self._send(messages.Ping(self._ask()))
                if link.silent_s > SILENT_S:
                    msg = f"{self._place} has not been heard for {SILENT_S:.0f} s"
                    raise LinkError(msg)

    def _part(self, link: AnyLink) -> None:
        """Say goodbye; the relay's account, which it tells with its PINGs, is first brought up to date."""
        until = time.monotonic() + _ACCOUNT_S
        with suppress(LinkError, ProtocolError):
            self._send(messages.Ping(self._ask()))
            message: messages.FromRelay | None = None
            while not isinstance(message, messages.Ping) and (left := until - time.monotonic()) > 0:
                if (data := link.receive(left)) is not None:
                    message = messages.decode_from_relay(data)
                    self._handle(message)
        link.part(_BYE)

    def _send(self, message: messages.FromDesk) -> None:
        if self._link is not None:
            self._link.send(messages.encode(message))

    def _greet(self) -> None:
        self._asked_ns = {_HELLO: clock_ns()}
        self._send(self._hello)

    def _ask(self) -> int:
        """Return the number of a question that is asked now, and answered by a PONG."""
        number = next(self._pings)
        self._asked_ns[number] = clock_ns()
        return number

    def _learn(self, number: int, there_ns: int) -> None:
        """Take in what the relay's clock has shown, if it was asked for."""
        asked_ns = self._asked_ns.pop(number, None)
        if asked_ns is not None and there_ns:
            self._clock.learn(asked_ns, there_ns)

    def _handle(self, message: messages.FromRelay) -> None:
        if isinstance(message, messages.Piece):
            self._take(message)
        elif isinstance(message, messages.Welcome):
            self._welcome(message)
        elif isinstance(message, messages.Reject):
            if not message.again:
                raise LinkError(f"{self._place} refuses: {message.reason}", hopeless=True)
            self._greet()
        elif isinstance(message, messages.Source):
            self._source(message)
        elif isinstance(message, messages.Stream):
            if (mirror := self._sources.get(message.source)) is not None:
                mirror.announce(message.about, self._clock.here)
                self._runs[message.id] = mirror, message.about.id
        elif isinstance(message, messages.End):
            if (found := self._runs.get(message.stream)) is not None:
                found[0].end(found[1])
        elif isinstance(message, messages.Gone):
            self._gone(message)
        elif isinstance(message, messages.Marked):
            self._marked(message)
        elif isinstance(message, messages.Ping):
            self.account = message.account
            self._send(messages.Pong(message.number))
        elif isinstance(message, messages.Pong):
            self._learn(message.number, message.clock_ns)
            for number, origin, viewers in self._fetching:
                if number <= message.number and (mirror := self._mirrors.get(origin)) is not None:
                    mirror.admit(viewers)
            self._fetching = [each for each in self._fetching if each[0] > message.number]
        elif isinstance(message, messages.Bye):
            raise LinkError(f"{self._place}: {message.reason or 'the relay has ended'}")

    def _welcome(self, message: messages.Welcome) -> None:
        former, self._relay = self._relay, message.token
        self._greeted = self._ever = True
        self._since = time.monotonic()
        self._clock.forget()
        self._learn(_HELLO, message.clock_ns)
        self.state, self.problem = "connected", ""
        self.host = message.host or self._place
        self._tell(f"Connected to {printable(self.host)}.")
        if former not in ("", message.token):
            self._tell(
                "The relay there has been started anew: what came there meanwhile, and was not sent yet, is lost."
            )
        self._sources.clear()
        self._runs.clear()
        if not message.resumed:
            self._seen.clear()
        # A relay that has just been started, as the one before was killed, finds the programs soon.
        until = time.monotonic() + (0.0 if message.resumed else FOUND_S)
        self._doubtful = dict.fromkeys(self._mirrors.keys() - set(message.origins), until)

    def _source(self, message: messages.Source) -> None:
        self._doubtful.pop(message.origin, None)
        mirror = self._mirrors.get(message.origin)
        if mirror is None and self._directory.alive(message.origin):
            self._send(messages.Decline(message.id))
            return
        if mirror is None:
            if len(self._mirrors) >= _MOST_SOURCES:
                raise ProtocolError(f"more than {_MOST_SOURCES} sources")
            mirror = self._mirrors[message.origin] = Mirror(
                message,
                self._place,
                self._kinds,
                launch=self._launch,
                in_order=self._hello.every,
                options=self._options,
                had=self._past.pop(message.origin, ()),
            )
            self._tell(f"{mirror.title} {'has ended; its last runs follow' if message.over else 'is live'}.")
        mirror.listens = message.listens
        self._sources[message.id] = mirror

    def _gone(self, message: messages.Gone) -> None:
        mirror = self._sources.pop(message.source, None)
        if mirror is None:
            return
        self._mirrors.pop(mirror.origin, None)
        self._close_mirror(mirror)
        self._past[mirror.origin] = mirror.had
        if len(self._past) > _MOST_PAST:
            self._past.popitem(last=False)
        earlier = "An earlier " * any(other.title == mirror.title for other in self._mirrors.values())
        self._tell(f"{earlier}{mirror.title} {'has died' if message.died else 'has ended'}.")

    def _close_mirror(self, mirror: Mirror) -> None:
        self._runs = {number: run for number, run in self._runs.items() if run[0] is not mirror}
        self._seen.pop(mirror.origin, None)
        self._looked.pop(mirror.origin, None)
        for inbox in self._inboxes.pop(mirror.origin, ()):
            inbox.close()
        mirror.close()

    def _take(self, piece: messages.Piece) -> None:
        fate: Literal["shown", "refused"] = "shown"
        began = time.monotonic()
        try:
            found = self._runs.get(piece.stream)
            if found is None:
                raise ProtocolError(f"a frame of the run {piece.stream}, which was not announced")
            mirror, number = found
            origin_ns = self._clock.here(piece.origin_ns)
            mirror.take(number, piece, origin_ns)
            if not piece.late:
                self.quality, self.age_ms = LADDER[piece.quality].name, (clock_ns() - origin_ns) / 1e6
        except ViewerLagging as error:  # it was not lost on the way: a viewer here is stopped
            logger.debug("%s", error)
        except (ScopecastError, ValueError, TypeError) as error:
            self.refused += 1
            if self.refused == 1:
                self._tell(f"a frame of {self._place} can't be shown: {error}")
            logger.debug("refused a frame of %s: %s", self._place, error)
            fate = "refused"
        self._send(messages.Ack(piece.number, fate, 1000 * (time.monotonic() - began)))

    # ---- what local viewers want -------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Fetch for viewers that are new, tell what they look at, and take marks."""
        if not self._greeted:
            return
        self._recall()
        for origin in [origin for origin, until in self._doubtful.items() if time.monotonic() >= until]:
            del self._doubtful[origin]
            if (gone := self._mirrors.pop(origin, None)) is not None:
                self._close_mirror(gone)
        for number, mirror in tuple(self._sources.items()):
            seen = self._seen.setdefault(mirror.origin, set())
            there = set()
            for publisher in mirror.publishers:
                for receiver in publisher.attached:
                    self._tell_look(mirror, receiver.look)
                    there.add(receiver.token if receiver.account.viewer or self._hello.every else ANY_KIND)
            seen &= there | {ANY_KIND}  # a viewer that is attached again may lack something
            if there - seen:
                asked = self._ask()
                self._send(messages.Fetch(number, asked))
                self._fetching.append((asked, mirror.origin, there - seen))
                seen |= there
            self._listen(mirror)

    def _recall(self) -> None:
        """Have the relay name again what has ended, and is not published here any more, if a viewer was opened."""
        if self._changed_ns == (changed_ns := self._directory.changed_ns):
            return
        self._changed_ns = changed_ns
        there = {entry.token for kind in self._kinds for entry in self._directory.living("receiver", kind)}
        if self._past and not there <= self._viewers:
            self._send(messages.Recall())
        self._viewers |= there

    def _tell_look(self, mirror: Mirror, look: local.Look | None) -> None:
        if look is None or look == self._looked.get(mirror.origin):
            return
        self._looked.pop(mirror.origin, None)
        self._looked[mirror.origin] = look
        if (stream := self._run_of(mirror, look.stream)) is not None:
            self._send(messages.View(stream, list(look.index), list(look.region)))

    def _run_of(self, mirror: Mirror, about: int | None) -> int | None:
        """Return the relay's number of the run that its publisher gave a number."""
        return next((number for number, run in self._runs.items() if run == (mirror, about)), None)

    def _listen(self, mirror: Mirror) -> None:
        inboxes = self._inboxes.get(mirror.origin)
        if mirror.listens and inboxes is None:
            with suppress(RuntimeError):
                opened = [publisher.session.open_inbox(None) for publisher in mirror.publishers]
                self._inboxes[mirror.origin] = inboxes = opened
        elif not mirror.listens and inboxes is not None:
            for inbox in self._inboxes.pop(mirror.origin):
                inbox.close()
            return
        for publisher, inbox in zip(mirror.publishers, inboxes or (), strict=False):
            with suppress(IndexError):
                while True:
                    self._send_marks(mirror, publisher, inbox.waiting.popleft())

    def _send_marks(self, mirror: Mirror, publisher: Publisher, waiting: Waiting) -> None:
        stream = self._run_of(mirror, mirror.number_of(waiting.stream))
        if stream is None or len(self._marks) >= _MOST_MARKS:
            reason = "its run is over" if stream is None else "too many wait for their answers: try again later"
            publisher.session.answer(waiting.sender, local.Marked(waiting.message.number, "refused", reason))
            return
        number = next(self._numbers)
        self._marks[number] = publisher, waiting
        self._send(messages.DeskMarks(number, stream, waiting.message))

    def _marked(self, message: messages.Marked) -> None:
        found = self._marks.pop(message.number, None) or self._taken.pop(message.number, None)
        if found is None:
            return
        publisher, waiting = found
        if message.fate == "taken":
            self._taken[message.number] = found
            if len(self._taken) > _MOST_MARKS:
                self._taken.popitem(last=False)
        with suppress(ScopecastError):
            answer = local.Marked(waiting.message.number, message.fate, message.reason)
            publisher.session.answer(waiting.sender, answer)

    def _give_up_marks(self) -> None:
        marks, self._marks = self._marks, {}
        for publisher, waiting in marks.values():
            with suppress(ScopecastError):
                reason = "the connection broke: the program may or may not have taken them"
                publisher.session.answer(waiting.sender, local.Marked(waiting.message.number, "refused", reason))
