"""``scopecast share``: the gateway by which guests reach this machine's relay, without an account here.

The relay knows nothing of it: to the relay each guest is a desk of this user. The gateway takes connections by tcp;
each has a ZeroMQ socket of its own behind it, which speaks CURVE, and for which libzmq asks whether the key is on the
list of guests before it reads anything else. What a guest says is decoded here, and passed on if its role allows it.

No guest can take more than a bounded amount of memory, here and in the relay: few messages wait on the way to it, then
nothing more is taken from the relay; and the relay is told of an ACK only if the frame was passed on. One thread, that
of `Gateway.run`, does everything but move bytes.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import socket
import time
from collections import Counter
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
import zmq

from scopecast.errors import ProtocolError, ScopecastError, TransportError
from scopecast.link.transport import Gate, KeyPair
from scopecast.protocol import ANY_KIND, printable
from scopecast.remote import messages
from scopecast.remote.asking import ask
from scopecast.remote.caller import Caller
from scopecast.remote.guests import Guests, Invited
from scopecast.remote.stdio import find_or_start_relay
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.remote.guests import Guest

__all__ = ["Gateway", "connected_guests"]

logger = logging.getLogger(__name__)

#: Milliseconds between two looks at the list, and at who does not answer, if nothing happens.
_LOOK_MS: Final = 200
#: Connections of which nothing has been heard, at most: of all, and from one address; more are closed at once.
_MOST_NEW: Final = 32
_MOST_NEW_OF_ONE: Final = 8
#: Connections of one guest: for several kinds of viewers, and while a broken one is not known to be.
_MOST_OF_GUEST: Final = 4
_SEEN_S: Final = 60.0
#: Sessions of a guest that ended without a word, of which the relay keeps what they have; and for so long.
_MOST_SESSIONS: Final = 16
_SESSION_S: Final = 600.0
#: Messages that are passed on before others have their turn.
_TURN: Final = 64
#: Behind the name of a guest, in what the relay lists.
_BY_LINK: Final = ", by a link"
_ONLY_WATCHES: Final = "you were invited to watch only: ask for a link that allows marks (scopecast share --role marks)"


class Gateway:
    """Lets guests watch by the relay of this user. Use it as a context manager.

    Parameters
    ----------
    guests
        Who may.
    keys
        The gateway's own.
    host, port
        Where it listens; ``""``: at all addresses of this machine; 0: at any free port.
    end_after
        How long a relay that is started for this stays without desks and publishers (``"10m"``).
    tell
        Called with each line that the user is to see.

    Attributes
    ----------
    port : int
        Where it listens.

    Raises
    ------
    TransportError
        If the port can't be had, or there is no relay.
    """

    def __init__(
        self,
        guests: Guests,
        keys: KeyPair,
        *,
        host: str = "",
        port: int = 0,
        end_after: str = "",
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._guests, self._keys, self._end_after, self._tell = guests, keys, end_after, tell
        self._directory = RunDirectory()
        self._callers: list[Caller] = []
        self._sessions: dict[str, dict[str, float]] = {}  # of each guest, by its key, and when each has begun last
        self._stopping = False
        self._looked = self._noted = 0.0
        with ExitStack() as undo:
            find_or_start_relay(self._directory, end_after)
            self._inside = KeyPair()  # for the relay, where that is reached by tcp
            member = self._directory.join("subscriber", ANY_KIND, title="share", key=self._inside.public)
            undo.enter_context(member)
            member.entry.state = "ready"
            member.write()
            self._listening = undo.enter_context(_listening(host, port))
            self.port: int = self._listening.getsockname()[1]
            self._context: zmq.Context[Any] = zmq.Context()
            undo.callback(self._context.term)
            self._gate = Gate(self._context, self._may_come_in)
            undo.callback(self._gate.close)
            undo.callback(self._part_all)
            self._resources = undo.pop_all()

    def stop(self) -> None:
        """Make `run` return soon; from any thread."""
        self._stopping = True

    def close(self) -> None:
        """Part from all guests, and close the port. Idempotent."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self) -> None:
        """Serve the guests until `stop` is called.

        Raises
        ------
        ScopecastError
            If the list of guests is damaged.
        """
        while not self._stopping:
            poller = zmq.Poller()
            poller.register(self._listening, zmq.POLLIN)
            poller.register(self._gate.fileno(), zmq.POLLIN)
            for caller in self._callers:
                caller.register(poller)
            poller.poll(_LOOK_MS)
            self._guests.refresh()
            self._gate.answer()
            self._accept()
            for caller in tuple(self._callers):
                self._serve(caller)
            self._look()

    # ---- who comes and goes ----------------------------------------------------------------------------------------

    def _may_come_in(self, key: str) -> bool:
        self._guests.refresh()
        return self._guests.find(key) is not None

    def _accept(self) -> None:
        with suppress(OSError):  # nobody more, or gone again, or no descriptors left
            while True:
                outside, address = self._listening.accept()
                peer = str(address[0]).removeprefix("::ffff:")  # which an address of IPv4 has in IPv6
                new = Counter(caller.peer for caller in self._callers if caller.is_new)
                if new.total() >= _MOST_NEW or new[peer] >= _MOST_NEW_OF_ONE:
                    outside.close()
                    continue
                try:
                    self._callers.append(Caller(self._context, self._keys, outside, peer))
                except (ScopecastError, zmq.ZMQError, OSError, RuntimeError) as error:
                    logger.warning("a connection from %s can't be taken: %s", peer, error)
                    outside.close()

    def _part(self, caller: Caller, why: str = "") -> None:
        if caller not in self._callers:
            return
        self._callers.remove(caller)
        if caller.relay is not None and self._guests.find(caller.key) is None:  # who will not come back
            caller.tell_relay(messages.encode(messages.Bye(why)))
            self._sessions.pop(caller.key, None)
        caller.close()
        if caller.relay is not None:
            self._tell(f"{caller.name} has left{f': {why}' if why else ''}.")
            self._note_seen([caller])

    def _part_all(self) -> None:
        for caller in tuple(self._callers):
            self._part(caller)

    def _look(self) -> None:
        """Part from who does not answer, is no longer on the list, has come too often, or has no relay any more."""
        now = time.monotonic()
        if now - self._looked < _LOOK_MS / 1000:
            return
        self._looked = now
        relays = {caller.relay_token for caller in self._callers if caller.relay is not None}
        dead = {token for token in relays if not self._directory.alive(token)}
        of_guests: Counter[str] = Counter()
        for caller in self._callers[::-1]:  # the newest first
            of_guests[caller.key] += 1
            problem = caller.problem(now)
            if caller.key and of_guests[caller.key] > _MOST_OF_GUEST:
                problem = "there are newer connections"
            elif caller.relay is not None and self._guests.find(caller.key) is None:
                problem = "revoked"
            elif caller.relay is not None and caller.relay_token in dead:
                problem = "the relay has ended"
            if problem is not None:
                self._part(caller, problem)
        if now - self._noted >= _SEEN_S:
            self._noted = now
            self._note_seen([caller for caller in self._callers if caller.relay is not None])

    def _note_seen(self, callers: list[Caller]) -> None:
        if callers:
            try:
                self._guests.saw(caller.key for caller in callers)
            except (ScopecastError, OSError) as error:
                logger.warning("the list of guests can't be written: %s", error)

    # ---- what is said ------------------------------------------------------------------------------------------------

    def _serve(self, caller: Caller) -> None:
        for _ in range(_TURN):
            received = caller.receive()
            if received is None:
                break
            key, data = received
            who = self._guests.find(key)
            try:
                message = messages.decode_from_desk(data)
            except ProtocolError as error:
                logger.debug("ignored a message from %s: %s", caller.peer, error)
                continue
            if isinstance(who, Invited):
                self._enrol(caller, key, message)
            elif who is not None:
                self._hear(caller, who, message, data)
            if who is None or caller not in self._callers:
                self._part(caller)
                return
        caller.pass_frames_on()

    def _enrol(self, caller: Caller, invitation: str, message: messages.FromDesk) -> None:
        if not isinstance(message, messages.Enrol):
            self._part(caller)
            return
        try:
            guest = self._guests.enrol(invitation, message.key)
        except (ScopecastError, OSError) as error:
            self._tell(f"nobody can be admitted: {error}")
            guest = None
        if guest is not None:
            caller.say(messages.Enrolled(guest.name, guest.role))
            self._tell(f"{guest.name} has been admitted, from {caller.peer}. The link is used up.")

    def _hear(self, caller: Caller, guest: Guest, message: messages.FromDesk, data: bytes) -> None:
        if isinstance(message, messages.Hello):
            self._greet(caller, guest, message)
        elif caller.relay is None or isinstance(message, messages.ListDesks | messages.Enrol):
            return
        elif isinstance(message, messages.DeskMarks) and guest.role != "marks":
            caller.say(messages.Marked(message.number, "refused", _ONLY_WATCHES))
        elif isinstance(message, messages.Ack) and message.number > caller.newest:
            logger.debug("%s acknowledges a frame that it has not been sent", guest.name)
        elif not caller.tell_relay(data):
            self._part(caller, "messages come faster than the relay takes them")
        elif isinstance(message, messages.Bye):
            self._sessions.get(guest.key, {}).pop(caller.session, None)
            self._part(caller)

    def _greet(self, caller: Caller, guest: Guest, hello: messages.Hello) -> None:
        # A guest can't resume what is another's, nor make the acquisition wait, nor say that it is somebody else.
        own = hashlib.blake2b(f"{guest.key} {hello.session}".encode(), digest_size=5).digest()
        session = base64.b32encode(own).decode().lower()
        now = time.monotonic()
        known = {each: since for each, since in self._sessions.get(guest.key, {}).items() if now - since < _SESSION_S}
        if len(known) >= _MOST_SESSIONS and session not in known:
            caller.say(messages.Bye(f"{_MOST_SESSIONS} connections have broken: wait ten minutes"))
            return
        self._sessions[guest.key] = known | {session: now}
        caller.session = session
        if caller.relay is None:
            try:
                caller.reach(find_or_start_relay(self._directory, self._end_after), self._inside)
            except TransportError as error:
                self._tell(str(error))
                caller.say(messages.Bye("the relay can't be reached there"))
                return
            caller.name = guest.name
            self._tell(f"{guest.name} is connected, from {caller.peer}.")
            self._note_seen([caller])
        sent = msgspec.structs.replace(hello, session=session, title=f"{guest.name}{_BY_LINK}", every=False)
        caller.tell_relay(messages.encode(sent))


def connected_guests() -> set[str]:
    """Return the names of the guests that watch now; of nobody, if no relay says so."""
    try:
        desks = ask(RunDirectory()).desks
    except TransportError as error:
        logger.debug("%s", error)
        return set()
    return {title.removesuffix(_BY_LINK) for title, state, *_ in desks if state != "away" and title.endswith(_BY_LINK)}


def _listening(host: str, port: int) -> socket.socket:
    """Return a socket that takes connections, without waiting.

    Raises
    ------
    TransportError
        If the port can't be had.
    """
    everywhere = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if everywhere or ":" in host else socket.AF_INET
    try:
        made = socket.create_server((host, port), family=family, backlog=_MOST_NEW, dualstack_ipv6=everywhere)
    except OSError as error:
        what = f"the port {port} can't be had" if port else "no port can be had"
        msg = f"{what} at {printable(host or 'this machine')}: {error.strerror}; name another by --port"
        raise TransportError(msg) from error
    made.setblocking(False)
    return made
