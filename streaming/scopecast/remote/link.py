"""A desk's connection to the relay on another machine, by whatever way the bytes go.

It knows the first lines of both sides, and the ZeroMQ socket at this end. What is said through it is others' business.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import zmq

from scopecast.errors import ProtocolError
from scopecast.link import transport
from scopecast.link.transport import KeyPair
from scopecast.remote.command import LinkError
from scopecast.remote.messages import MAX_FROM_RELAY
from scopecast.remote.pump import Pump, connected_to, read_first_line, write_first_line
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from scopecast.remote.command import Route, Way

__all__ = ["AnyLink", "Link", "plugged"]

#: A wait that Ctrl-C ends.
_POLL_MS: Final = 100
#: Seconds that a last message has.
_PARTING_S: Final = 0.25


def plugged(socket: zmq.Socket[Any]) -> socket.socket:
    """Bind a socket, and return the one that is connected to it: nobody else finds it (by tcp: without its keys).

    Raises
    ------
    TransportError
        If the connection fails.
    """
    if transport.chosen_transport() != "ipc":
        socket.bind("tcp://127.0.0.1:*")
        return connected_to(socket.getsockopt_string(zmq.LAST_ENDPOINT))
    path = RunDirectory().socket_path(new_token())
    try:
        socket.bind(f"ipc://{path}")
        return connected_to(f"ipc://{path}")
    finally:
        path.unlink(missing_ok=True)


class AnyLink:
    """A connection to a relay. Use it as a context manager, in one thread.

    Parameters
    ----------
    way
        What leads to the relay.
    host
        What the other machine is called, for errors.
    """

    #: Seconds that a connection, which may be a slow one, has to become one of ZeroMQ's.
    handshake_s: float = 30.0

    def __init__(self, way: Route, host: str) -> None:
        self._route, self._host = way, host
        self._resources = ExitStack()
        self._pump: Pump | None = None
        self._broken = False

    def open(self) -> None:
        """Connect; waits as long as the way takes: ssh may ask for a password.

        Raises
        ------
        LinkError
            If there is no connection.
        """
        raise NotImplementedError

    def _connect(
        self, pump: Callable[[socket.socket, Callable[[], None]], Pump], key: str, keys: KeyPair | None
    ) -> None:
        """Become a peer of the relay, whose public key is given if it has one; `pump` moves the bytes."""
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._resources.callback(context.term)
        self.socket = context.socket(zmq.DEALER)
        self._resources.callback(self.socket.close, 0)
        transport.limit(self.socket)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_FROM_RELAY)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, int(1000 * self.handshake_s))
        if keys is not None:
            keys.use(self.socket)
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, key.encode())
        self._prepare()
        self._pump = pump(plugged(self.socket), lambda: setattr(self, "_broken", True))
        self._resources.callback(self._pump.close)
        self._pump.start()
        self._wait_for_handshake()

    def _prepare(self) -> None:
        """Do what is to be done to the socket before anything comes."""

    def _wait_for_handshake(self) -> None:
        """Wait until something can be sent: what is sent before finds no peer, and is lost."""
        deadline = time.monotonic() + self.handshake_s
        while not self.socket.poll(_POLL_MS, zmq.POLLOUT):
            if self._broken:
                raise self._why(was_there=True)
            if time.monotonic() > deadline:
                raise self._why_silent()

    def _why_silent(self) -> LinkError:
        """Return why nothing has come."""
        return LinkError(f"the relay on {self._host} has not answered for {self.handshake_s:.0f} s")

    def _why(self, *, was_there: bool) -> LinkError:
        """Return why the connection has ended."""
        return self._route.why(was_there=was_there)

    # ---- while it is open ----------------------------------------------------------------------------------------

    def receive(self, timeout_s: float) -> bytes | None:
        """Return the next message, or None if none has come within some seconds.

        Raises
        ------
        LinkError
            If the connection has broken, and all that came before was read.
        """
        if self.socket.poll(int(timeout_s * 1000)):
            with suppress(zmq.Again):
                return self.socket.recv(zmq.NOBLOCK)
        if self._broken:
            with suppress(zmq.Again):
                return self.socket.recv(zmq.NOBLOCK)
            raise self._why(was_there=True)
        return None

    def send(self, data: bytes) -> None:
        """Send a message, without waiting; what finds no room is lost with the connection."""
        with suppress(zmq.Again):
            self.socket.send(data, zmq.NOBLOCK)

    def part(self, data: bytes) -> None:
        """Send a last message, and wait a moment until it has gone."""
        began = time.monotonic()
        self.send(data)
        while self._pump is not None and self._pump.wrote < began and time.monotonic() < began + _PARTING_S:
            time.sleep(_PARTING_S / 50)

    @property
    def silent_s(self) -> float:
        """Seconds since bytes came last, be it a part of a large message."""
        return time.monotonic() - self._pump.moved if self._pump is not None else 0.0

    def close(self) -> None:
        """End the connection. Idempotent."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Link(AnyLink):
    """A connection by two pipes, at whose other end ``scopecast relay --stdio`` says a first line.

    Parameters
    ----------
    way
        What has the pipes.
    host
        As for `AnyLink`.
    """

    def __init__(self, way: Way, host: str) -> None:
        super().__init__(way, host)
        self._way = way

    def open(self) -> None:
        """Connect; waits as long as the way takes: ssh may ask for a password.

        Raises
        ------
        LinkError
            If there is no connection.
        """
        self._resources.callback(self._way.end)
        reading, writing = self._way.open()
        try:
            said = read_first_line(reading)
        except EOFError:
            raise self._way.why(was_there=False) from None
        except ProtocolError as error:
            raise LinkError(f"{self._host}: {error}", hopeless=True) from error
        keys = KeyPair.if_possible() if said.encrypted else None
        if said.encrypted and keys is None:
            msg = f"{self._host} needs CURVE, which this build of ZeroMQ lacks: install pyzmq from PyPI"
            raise LinkError(msg, hopeless=True)
        write_first_line(writing, keys.public if keys is not None else "")
        self._connect(partial(Pump, reading, writing), said.key, keys)
