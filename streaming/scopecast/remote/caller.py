"""A connection from outside to the gateway: its bytes, the ZeroMQ socket behind them, and its way to the relay."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final

import zmq

from scopecast.errors import ProtocolError
from scopecast.link import transport
from scopecast.remote import messages
from scopecast.remote.link import plugged
from scopecast.remote.pump import SocketPump

if TYPE_CHECKING:
    from scopecast.link.transport import KeyPair
    from scopecast.rundir.directory import Entry

__all__ = ["Caller"]

#: Seconds that who connects has to say something, and to say something more.
NEW_S: Final = 10.0
SILENT_S: Final = 30.0
#: Messages that wait on the way to a desk, and so many from it. What the relay has sent waits there, too.
_MOST_OUT: Final = 4
_MOST_IN: Final = 64
_MOST_FROM_RELAY: Final = 2
_MOST_TO_RELAY: Final = 1000
#: Bytes that come without a message that can be received: one of endless parts never can.
_MOST_UNREAD: Final = 16 * 2**20
#: Milliseconds that the relay's last messages are waited for.
_LINGER_MS: Final = 200


class Caller:
    """A connection from outside; used by one thread.

    Parameters
    ----------
    context
        That of the gate which decides on it.
    keys
        The gateway's own.
    outside
        The connection; closed with this.
    peer
        The address that it comes from.

    Attributes
    ----------
    key : str
        The public key of who speaks, which was proved; ``""`` before anything has come.
    name, session : str
        The guest's, as the relay knows them.
    relay : zmq.Socket or None
        The way to the relay, once the desk has introduced itself; `relay_token` names the relay.
    newest : int
        The number of the last frame that was passed on.

    Raises
    ------
    TransportError
        If there can be no socket for it.
    """

    def __init__(self, context: zmq.Context[Any], keys: KeyPair, outside: socket.socket, peer: str) -> None:
        self.key, self.name, self.session, self.peer = "", "", "", peer
        self.relay: zmq.Socket[bytes] | None = None
        self.relay_token, self.newest = "", -1
        self._heard = time.monotonic()
        self._stuck = 0.0  # since when nothing more can be passed on; 0: it can
        self._came = 0  # bytes, when a message was received last
        self._over = False
        with ExitStack() as undo:
            self._socket = context.socket(zmq.DEALER)
            undo.callback(self._socket.close, 0)
            transport.limit(self._socket)
            for option, value in (
                (zmq.MAXMSGSIZE, messages.MAX_FROM_DESK),
                (zmq.HANDSHAKE_IVL, int(1000 * NEW_S)),
                (zmq.SNDHWM, _MOST_OUT),
                (zmq.RCVHWM, _MOST_IN),
            ):
                self._socket.setsockopt(option, value)
            transport.guard(self._socket, keys)
            outside.setblocking(True)
            outside.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pump = SocketPump(outside, plugged(self._socket), lambda: setattr(self, "_over", True))
            undo.callback(self._pump.close)
            self._pump.start()
            self._resources = undo.pop_all()

    def close(self) -> None:
        """End the connection, and that to the relay. Idempotent."""
        self._resources.close()

    def register(self, poller: zmq.Poller) -> None:
        """Have a poller wait for what can be done: either for room, or for something to pass on."""
        waits = self.relay is not None and not self._has_room
        poller.register(self._socket, zmq.POLLIN | (zmq.POLLOUT if waits else 0))
        if self.relay is not None and not waits:
            poller.register(self.relay, zmq.POLLIN)

    @property
    def is_new(self) -> bool:
        """Whether it is there, and nothing is known of who it is."""
        return not self.key and not self._over

    @property
    def _has_room(self) -> bool:
        return bool(int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    def problem(self, now: float) -> str | None:
        """Return why it is to be ended; None if it is not, and ``""`` if it has ended by itself."""
        if self._over:
            return ""
        if now - self._heard > (SILENT_S if self.relay is not None else NEW_S):
            return f"nothing was heard for {SILENT_S:.0f} s"
        if self._stuck and now - max(self._stuck, self._pump.wrote) > SILENT_S:
            return f"nothing was read there for {SILENT_S:.0f} s"
        return "what is sent there has no end" if self._pump.came - self._came > _MOST_UNREAD else None

    # ---- from and to the desk --------------------------------------------------------------------------------------

    def receive(self) -> tuple[str, bytes] | None:
        """Return the next message, with the public key of who has sent it; None if there is none."""
        while True:
            try:
                parts = self._socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return None
            self._heard, self._came = time.monotonic(), self._pump.came
            if len(parts) == 1:
                self.key = str(parts[0].get("User-Id"))
                return self.key, parts[0].bytes

    def say(self, message: messages.FromRelay) -> None:
        """Say something to the desk; it is lost if there is no room, as who does not read needs no answer."""
        with suppress(zmq.Again):
            self._socket.send(messages.encode(message), zmq.NOBLOCK)

    # ---- to and from the relay -------------------------------------------------------------------------------------

    def reach(self, entry: Entry, keys: KeyPair) -> None:
        """Connect with a relay.

        Raises
        ------
        TransportError
            If it could only be reached without encryption.
        """
        relay: zmq.Socket[bytes] = self._socket.context.socket(zmq.DEALER)
        self._resources.callback(relay.close, _LINGER_MS)
        transport.limit(relay)
        for option, value in (
            (zmq.MAXMSGSIZE, messages.MAX_FROM_RELAY),
            (zmq.SNDHWM, _MOST_TO_RELAY),
            (zmq.RCVHWM, _MOST_FROM_RELAY),
        ):
            relay.setsockopt(option, value)
        transport.connect(relay, entry, keys)
        self.relay, self.relay_token = relay, entry.token

    def tell_relay(self, data: bytes) -> bool:
        """Pass a message on, or return False if there is no room for it."""
        try:
            if self.relay is not None:
                self.relay.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def pass_frames_on(self) -> None:
        """Pass on what the relay says, as long as there is room."""
        if self.relay is None:
            return
        while self._has_room:
            self._stuck = 0.0
            try:
                data = self.relay.recv(zmq.NOBLOCK)
                message = messages.decode_from_relay(data)
            except zmq.Again:
                return
            except ProtocolError:
                continue
            if isinstance(message, messages.Piece):
                self.newest = message.number
            self._socket.send(data, zmq.NOBLOCK)
        self._stuck = self._stuck or time.monotonic()
