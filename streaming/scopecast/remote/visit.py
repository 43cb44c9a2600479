"""A desk that comes by a link: it is admitted once, and from then on known by a key of its own.

What `scopecast.remote.link.Link` is for ssh, `GatewayLink` is for the gateway that `scopecast share` runs: a connection
by tcp, encrypted, whose other end must have the key that the link names.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import zmq
from msgspec import Meta
from zmq.utils.monitor import recv_monitor_message

from scopecast.errors import ProtocolError, ScopecastError
from scopecast.link.transport import KeyPair
from scopecast.remote import messages
from scopecast.remote.command import LinkError
from scopecast.remote.link import AnyLink, Link
from scopecast.remote.private import PrivateFile
from scopecast.remote.pump import SocketPump

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.remote.command import Way
    from scopecast.remote.invitation import Invitation
    from scopecast.remote.pump import Pump

__all__ = ["GatewayLink", "Visit", "link_by"]

#: Seconds until a connection by tcp is there, and until the gateway has answered.
_CONNECT_S: Final = 10.0
_ANSWER_S: Final = 20.0
#: Seconds in which ZeroMQ tells why a connection has ended.
_TELLS_S: Final = 1.0
_WAIT_S: Final = 0.1


class _Known(msgspec.Struct):
    """A gateway that has admitted this account, or may have: its address, our key, and the link that was used last."""

    address: str
    secret: str
    link: str = ""


class _Gateways(msgspec.Struct):
    by_key: Annotated[dict[messages.CurveKey, _Known], Meta(max_length=1024)] = {}


class DeniedError(LinkError):
    """The gateway does not know the key."""


class Visit:
    """A route to a gateway, and what is known of it: a `scopecast.remote.command.Route`.

    Parameters
    ----------
    invitation
        What the link says; or its address only, of a gateway that has admitted this account.

    Attributes
    ----------
    keys : KeyPair
        Those of this account, for this gateway.
    server : str
        The gateway's public key.

    Raises
    ------
    ScopecastError
        If no gateway is known there, and the link has no key; or if the file of what is known can't be used.
    """

    comes, expected = False, True

    def __init__(self, invitation: Invitation) -> None:
        self.invitation, self.address = invitation, invitation.address
        self._file = PrivateFile("gateways")
        with self._file.lock:
            known = self._file.read(_Gateways)
            self.server = invitation.server or _server_at(known, str(self.address))
            entry = known.by_key.setdefault(self.server, _Known(str(self.address), KeyPair().secret))
            try:
                self.keys = KeyPair(entry.secret)
            except ValueError as error:
                raise ScopecastError(f"{self._file.path} is damaged: remove it, and ask for a new link") from error
            self.spent = not invitation.secret or entry.link == KeyPair(invitation.secret).public
            entry.address = str(self.address)
            # Before the key is sent: if the answer is lost on the way, it is admitted all the same.
            self._file.write(known)

    def admitted(self) -> None:
        """Note that the link has been used."""
        self.spent = True
        with self._file.lock:
            known = self._file.read(_Gateways)
            if (entry := known.by_key.get(self.server)) is not None:
                entry.link = KeyPair(self.invitation.secret).public
                self._file.write(known)

    def dial(self) -> socket.socket:
        """Return a connection by tcp.

        Raises
        ------
        LinkError
            If there is none; the text says why.
        """
        try:
            made = socket.create_connection((self.address.host, self.address.port), _CONNECT_S)
        except socket.gaierror as error:
            raise LinkError(f"no machine is called {self.address.host}: see whether the link is right") from error
        except TimeoutError as error:
            msg = f"{self.address} does not answer: see whether that machine is on, and its firewall lets this port in"
            raise LinkError(msg) from error
        except OSError as error:
            msg = f"nobody answers at {self.address} ({error.strerror}): see whether `scopecast share` runs there"
            raise LinkError(msg) from error
        made.settimeout(None)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def why(self, *, was_there: bool) -> LinkError:
        """Return why it has ended. See `scopecast.remote.command.Route`."""
        if was_there:
            return LinkError(f"the connection to {self.address} has broken")
        return LinkError(
            f"{self.address} has ended the connection before it was secure: see whether it is the `scopecast share` "
            f"that the link is from"
        )

    def end(self) -> None:
        """Do nothing: the link ends what it has opened."""

    def close(self) -> None:
        """Do nothing, likewise."""


def _server_at(known: _Gateways, address: str) -> str:
    """Return the key of the gateway at an address; it may have got another port, or address, since it admitted us."""
    admitted = [(key, entry.address) for key, entry in known.by_key.items() if entry.link]
    host = address.rpartition(":")[0]
    here = [key for key, where in admitted if where == address]
    near = [key for key, where in admitted if where.rpartition(":")[0] == host]
    found = here or near or [key for key, _ in admitted]
    if len(found) != 1:
        raise ScopecastError(f"this account has not been admitted at {address} yet: ask there for a link")
    return found[0]


class GatewayLink(AnyLink):
    """A connection to a relay by its gateway; the link is used for it if it has not been.

    Parameters
    ----------
    visit
        The route.
    host
        As for `AnyLink`.
    """

    handshake_s = 10.0  # a gateway waits no longer

    def __init__(self, visit: Visit, host: str) -> None:
        super().__init__(visit, host)
        self._visit = visit
        self._secured = False

    def open(self) -> None:
        """Connect, and have this account admitted first if that is to be done.

        Raises
        ------
        LinkError
            If there is no connection.
        """
        visit = self._visit
        unused = not visit.spent
        if unused:
            with suppress(DeniedError):  # it may be admitted already, by a link before this one
                self._enrol()
        try:
            self._dial(visit.keys)
        except DeniedError as error:
            if unused:
                msg = f"{visit.address} does not take this link: it has been used, or has expired; ask for a new one"
            else:
                msg = f"{visit.address} no longer admits this account: it was revoked; ask for a new link"
            raise LinkError(msg, hopeless=True) from error
        if not visit.spent:
            visit.admitted()

    def _enrol(self) -> None:
        visit = self._visit
        with GatewayLink(visit, self._host) as once:
            once._dial(KeyPair(visit.invitation.secret))
            once.send(messages.encode(messages.Enrol(visit.keys.public)))
            deadline = time.monotonic() + _ANSWER_S
            while time.monotonic() < deadline:
                data = once.receive(_WAIT_S)
                with suppress(ProtocolError):
                    if data is not None and isinstance(messages.decode_from_relay(data), messages.Enrolled):
                        visit.admitted()
                        return
        raise LinkError(f"{visit.address} has not answered for {_ANSWER_S:.0f} s")

    def _dial(self, keys: KeyPair) -> None:
        outside = self._visit.dial()
        self._resources.callback(outside.close)

        def pump(there: socket.socket, over: Callable[[], None]) -> Pump:
            return SocketPump(outside, there, over)

        self._connect(pump, self._visit.server, keys)
        self._secured = True

    def _prepare(self) -> None:
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED)
        self._resources.callback(self._monitor.close, 0)
        self._resources.callback(self.socket.disable_monitor)

    def _why_silent(self) -> LinkError:
        return LinkError(
            f"{self._visit.address} takes connections, and says nothing: see whether it is the `scopecast share` that "
            f"the link is from"
        )

    def _why(self, *, was_there: bool) -> LinkError:
        told = not self._secured and self._monitor.poll(int(1000 * _TELLS_S))
        if told and recv_monitor_message(self._monitor)["event"] == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            return DeniedError(f"{self._visit.address} does not know this key", hopeless=True)
        if not self._secured and self._pump is not None and not self._pump.came:
            return self._why_silent()
        return super()._why(was_there=was_there and self._secured)


def link_by(way: Way | Visit, place: str) -> AnyLink:
    """Return the connection that a way is for, not yet open; `place` is what the other machine is called."""
    return GatewayLink(way, place) if isinstance(way, Visit) else Link(way, place)
