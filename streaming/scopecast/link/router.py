"""A publisher's socket: one ROUTER that serves every receiver."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

import zmq

from scopecast.errors import ProtocolError
from scopecast.link import transport
from scopecast.link.door import Door
from scopecast.link.messages import MAX_MESSAGE_BYTES
from scopecast.link.wakeup import WakeUp

if TYPE_CHECKING:
    from scopecast.link.transport import KeyPair
    from scopecast.rundir.directory import Member

__all__ = ["GoneError", "Router"]

#: Plain integers, because combining two of pyzmq's enums costs a microsecond each time.
_NOBLOCK: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.SNDMORE | zmq.NOBLOCK)
_EVENTS: Final = int(zmq.EVENTS)
_POLLIN: Final = int(zmq.POLLIN)
_RCVMORE: Final = int(zmq.RCVMORE)


class GoneError(ConnectionError):
    """The connection to this receiver no longer exists."""


class Router:
    """The publisher's end of the connections to its receivers.

    A ZeroMQ socket must not be used by two threads at once: use this under the publisher's lock, except for the
    descriptors, `gate` and `wake`.

    Parameters
    ----------
    member
        The entry in the run directory; its endpoint and key are set here.
    largest
        Bytes of a message that is taken.
    handshake_s
        Seconds that who connects has to become a peer.
    keys
        Those of this process, where the entry has its public key already.

    Attributes
    ----------
    door : Door
        The socket's file.
    gate : Gate or None
        Decides who may connect, if the socket uses tcp.
    """

    def __init__(
        self,
        member: Member,
        *,
        largest: int = MAX_MESSAGE_BYTES,
        handshake_s: float = 2.0,
        keys: KeyPair | None = None,
    ) -> None:
        self._member = member
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        with ExitStack() as undo:
            undo.callback(self._context.term)
            self._context.set(zmq.MAX_SOCKETS, 64)
            self._socket = self._context.socket(zmq.ROUTER)
            undo.callback(self._socket.close, 0)
            transport.limit(self._socket)
            self._socket.setsockopt(zmq.MAXMSGSIZE, largest)
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
            self._socket.setsockopt(zmq.HANDSHAKE_IVL, int(handshake_s * 1000))
            self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            undo.callback(self._monitor.close, 0)
            undo.callback(self._socket.disable_monitor)
            self._monitor.getsockopt(_EVENTS)  # its descriptor signals nothing before this was asked once
            self.gate = transport.bind(self._socket, member, keys)
            if self.gate is not None:
                undo.callback(self.gate.close)
            self._alarm = WakeUp()
            undo.callback(self._alarm.close)
            self._resources = undo.pop_all()
        self.door = Door(member)
        self.socket_fd, self.monitor_fd = self._socket.fileno(), self._monitor.fileno()
        self.alarm_fd = self._alarm.fileno()

    def bind_anew(self) -> None:
        """Create the socket's file again if another process has removed it; connections are kept."""
        if self.door.lost:
            # The first listener stays, without a file: unbinding it would end the connections made through it.
            self._socket.bind(self._member.entry.endpoint)

    @property
    def readable(self) -> bool:
        """Whether a message has arrived.

        The descriptor signals an arrival only once, and any use of the socket may take the signal away from the thread
        that waits for it: check this after the last use, and if it is True `wake` the thread.
        """
        events: int = self._socket.getsockopt(_EVENTS)  # type: ignore[assignment]
        return bool(events & _POLLIN)

    def receive(self) -> tuple[bytes, bytes] | None:
        """Return the address that the next message came from, and the message; None if there is none.

        Raises
        ------
        ProtocolError
            If the message does not consist of one part; it has been read and discarded.
        """
        if not self.readable:  # checking is cheaper than the exception of a recv() that finds nothing
            return None
        try:
            address = self._socket.recv(_NOBLOCK)
            parts = 0
            data = b""
            while self._socket.getsockopt(_RCVMORE):
                data = self._socket.recv(_NOBLOCK)
                parts += 1
        except zmq.Again:
            return None
        if parts != 1:
            msg = f"a message of {parts} parts; one is expected"
            raise ProtocolError(msg)
        return address, data

    def send(self, address: bytes, data: bytes) -> bool:
        """Send a message, or return False if there is no room for it.

        Raises
        ------
        GoneError
            If no receiver is connected from this address.
        """
        try:
            self._socket.send(address, _MORE, copy=True)
            self._socket.send(data, _NOBLOCK, copy=True)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            raise GoneError from error
        except BaseException:
            # Ctrl-C: if it struck between the address and the message, an empty part ends this; else it is discarded.
            with suppress(zmq.ZMQError):
                self._socket.send(b"", _NOBLOCK)
            raise
        return True

    def has_lost_connections(self) -> bool:
        """Return whether a connection broke since the last call."""
        lost = False
        with suppress(zmq.ZMQError):
            while True:
                self._monitor.recv_multipart(_NOBLOCK)
                lost = True
        return lost

    def wake(self) -> None:
        """Wake the thread that waits for `alarm_fd`."""
        self._alarm.wake()

    def forget_wakes(self) -> None:
        """Clear earlier wakes, so that the next `wake` has an effect."""
        self._alarm.clear()

    def close(self) -> None:
        """Close the socket and its resources. Idempotent."""
        self._resources.close()
