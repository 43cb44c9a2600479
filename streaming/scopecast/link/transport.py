"""The way from a publisher to its receivers: a Unix socket in the run directory, or tcp on this machine with CURVE.

A Unix socket (``ipc``) lies in a directory that no other user may enter. A tcp port is open to all users of the machine
and to every page in a browser, so keys guard it: each publisher and each receiver makes a pair of its own when it
starts, and writes the public key into its entry of the run directory; the secret one never leaves the process.

* A receiver talks only to the publisher whose key it has read there: a stranger who took over a dead publisher's port
  can't answer it.
* Without that key a stranger can't even begin to talk to the publisher. It is no secret among the user's own programs,
  so the publisher's `Gate` asks the run directory as well whether the other side's key is that of a living receiver.

A key ends with its process: the lock of its entry is free then, and the gate is shut.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import zmq
from zmq.utils import z85

from scopecast.errors import TransportError
from scopecast.link.messages import MAX_MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.rundir.directory import Entry, Member, RunDirectory

__all__ = ["ENVIRONMENT", "Gate", "KeyPair", "Transport", "bind", "chosen_transport", "connect", "guard", "limit"]

logger = logging.getLogger(__name__)

ENVIRONMENT: Final = "SCOPECAST_TRANSPORT"
Transport = Literal["ipc", "tcp"]
DEFAULT: Final[Transport] = "tcp" if sys.platform == "win32" else "ipc"
#: Where libzmq asks, in each context, who may come in (ZeroMQ RFC 27, ZAP).
_GATE: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"scopecast"
_KEY_LENGTH: Final = 40  # of 32 bytes in Z85 (ZeroMQ RFC 32)
_NO_CURVE: Final = (
    "this build of ZeroMQ has no encryption (CURVE), and tcp without it is open to every user of this machine: "
    "install pyzmq from PyPI (pip install --force-reinstall pyzmq)"
)


def chosen_transport() -> Transport:
    """Return how a publisher of this process is reached: ``$SCOPECAST_TRANSPORT``, or the system's default.

    Raises
    ------
    TransportError
        If there is no such transport, or this machine's ZeroMQ can't do it.
    """
    named = os.environ.get(ENVIRONMENT, "").strip().lower()
    if named not in ("", "ipc", "tcp"):
        msg = (
            f"{ENVIRONMENT} is {named!r}; it can be 'ipc' (a Unix socket in the run directory) or 'tcp' (on this "
            f"machine, encrypted), or not set, which means {DEFAULT!r} here"
        )
        raise TransportError(msg)
    chosen: Transport = "tcp" if named == "tcp" else "ipc" if named == "ipc" else DEFAULT
    if chosen == "tcp" and not zmq.has("curve"):
        raise TransportError(_NO_CURVE)
    if chosen == "ipc" and not zmq.has("ipc"):
        msg = f"this build of ZeroMQ has no Unix sockets (ipc): set {ENVIRONMENT}=tcp"
        raise TransportError(msg)
    return chosen


class KeyPair:
    """A pair of CURVE keys, in Z85; new with every publisher and every receiver.

    Parameters
    ----------
    secret
        The secret one, where it was kept: 40 characters.

    Attributes
    ----------
    public, secret : str
        40 characters each. The public one is for everyone who can read the run directory.

    Raises
    ------
    ValueError
        If that is no key.
    """

    __slots__ = ("public", "secret")

    def __init__(self, secret: str = "") -> None:
        try:
            if len(secret.encode()) not in (0, _KEY_LENGTH):
                raise ValueError(secret)
            made = (zmq.curve_public(secret.encode()), secret.encode()) if secret else zmq.curve_keypair()
        except (zmq.ZMQError, ValueError):
            raise ValueError(f"a key of {_KEY_LENGTH} characters in Z85 is expected") from None
        self.public, self.secret = (key.decode() for key in made)

    @classmethod
    def if_possible(cls) -> KeyPair | None:
        """Return a new pair; None where ZeroMQ has no CURVE."""
        return cls() if zmq.has("curve") else None

    def use(self, socket: zmq.Socket[Any]) -> None:
        """Make this the identity of a socket, before it is bound or connected."""
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret.encode())


def limit(socket: zmq.Socket[Any]) -> None:
    """Have a socket never wait, and bound what waits in it and what a message may be."""
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.SNDTIMEO, 0),
        (zmq.RCVTIMEO, 0),
        (zmq.SNDHWM, 2000),
        (zmq.RCVHWM, 2000),
        (zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES),
    ):
        socket.setsockopt(option, value)


def bind(socket: zmq.Socket[Any], member: Member, keys: KeyPair | None = None) -> Gate | None:
    """Bind a publisher's socket by the chosen transport, and write into its entry how it is reached.

    Parameters
    ----------
    socket
        The socket, with all other options set.
    member
        The publisher's entry in the run directory; its ``endpoint`` and ``key`` are set, not yet written.
    keys
        Those of its process, where that has some already.

    Returns
    -------
    Gate or None
        With tcp, who decides on those that connect; its `Gate.answer` is to be called whenever it is readable.

    Raises
    ------
    TransportError
        If the transport can't be had.
    """
    if chosen_transport() == "ipc":
        endpoint = f"ipc://{member.directory.socket_path(member.token)}"
        socket.bind(endpoint)
        member.entry.endpoint = endpoint
        return None
    keys = keys or KeyPair()
    gate = Gate(socket.context, partial(_living_peer, member.directory))
    try:
        guard(socket, keys)
        socket.bind("tcp://127.0.0.1:*")
    except BaseException:
        gate.close()
        raise
    member.entry.endpoint = socket.getsockopt_string(zmq.LAST_ENDPOINT)
    member.entry.key = keys.public
    return gate


def guard(socket: zmq.Socket[Any], keys: KeyPair) -> None:
    """Have a socket, before it is bound, let in only whom the `Gate` of its context admits."""
    keys.use(socket)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    # Without a domain that is enforced libzmq would let everyone in for whom nobody at the gate answers.
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


def connect(socket: zmq.Socket[Any], entry: Entry, keys: KeyPair | None) -> None:
    """Connect a receiver's socket to a publisher, by whatever transport that one has.

    Parameters
    ----------
    socket
        The socket, with all other options set.
    entry
        The publisher's entry in the run directory.
    keys
        The receiver's own, of which the public one is in its entry.

    Raises
    ------
    TransportError
        If the publisher could only be reached without encryption.
    """
    if not entry.endpoint.startswith("ipc://"):
        if keys is None:
            raise TransportError(_NO_CURVE)
        if len(entry.key) != _KEY_LENGTH or not entry.key.isascii():
            msg = f"the publisher {entry.title!r} at {entry.endpoint} has no key to identify it by: update it"
            raise TransportError(msg)
        keys.use(socket)
        socket.setsockopt(zmq.CURVE_SERVERKEY, entry.key.encode())
    socket.connect(entry.endpoint)


def _living_peer(directory: RunDirectory, key: str) -> bool:
    """Whether a public key is that of a receiver that is alive, by the run directory."""
    return any(
        entry.key == key and entry.role != "publisher" and directory.alive(entry.token) for entry in directory.entries()
    )


class Gate:
    """Decides who may connect by tcp; to a publisher, only living peers whose keys are in the run directory.

    libzmq asks for each connection, once CURVE has proved that the other side has the secret key to the public one that
    it shows; until it has the answer nothing of the other side is read. Each message has that key as its ``User-Id``
    then. Used by one thread at a time.

    Parameters
    ----------
    context
        The context of the socket; it has one gate for all that is bound in it.
    knows
        Told a public key in Z85, says whether its owner may come in.

    Attributes
    ----------
    admitted, refused : int
        Connections that were let in, and that were not.
    """

    def __init__(self, context: zmq.Context[Any], knows: Callable[[str], bool]) -> None:
        self.admitted = self.refused = 0
        self._knows = knows
        # A ROUTER, not the usual REP: if an answer fails, the next one is not out of turn.
        self._socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(_GATE)

    def fileno(self) -> int:
        """Return the descriptor that is readable, once, when someone has come to the gate."""
        return self._socket.fileno()

    def answer(self) -> None:
        """Decide on everyone who has come, without waiting for more."""
        while int(self._socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            asker, empty, version, request, *about = self._socket.recv_multipart(zmq.NOBLOCK)
            # about: domain, address, routing id, mechanism, and for CURVE the public key that was proved
            key = z85.encode(about[4]).decode() if len(about) == 5 and about[3] == b"CURVE" else ""
            welcome = bool(key) and self._knows(key)
            if welcome:
                self.admitted += 1
            else:
                self.refused += 1
                logger.info("scopecast: refused a connection whose key is not known")
            verdict = (b"200", b"OK") if welcome else (b"400", b"not known")
            user = key.encode() if welcome else b""
            self._socket.send_multipart([asker, empty, version, request, *verdict, user, b""], zmq.NOBLOCK)

    def close(self) -> None:
        """Close the gate; the publisher's socket lets nobody in any more. Idempotent."""
        self._socket.close(0)
