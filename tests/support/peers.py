"""Bare sockets in the place of receivers, for what no receiver would ever send."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import zmq

from scopecast.link import messages
from scopecast.link.transport import KeyPair, connect
from scopecast.rundir.directory import Entry, RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast import Publisher

__all__ = ["Peer", "entry_of", "peers"]


def entry_of(publisher: Publisher) -> Entry:
    """Return what a publisher says of itself in the run directory, where receivers read it."""
    token = publisher.session.member.token  # type: ignore[union-attr]
    return next(entry for entry in RunDirectory().entries("publisher") if entry.token == token)


class Peer:
    """A socket that is connected as a receiver's would be, by either transport, and says what the test has it say."""

    def __init__(self, context: zmq.Context[Any], entry: Entry) -> None:
        keys = KeyPair()
        self.member = RunDirectory().join("receiver", entry.kind, title="peer", key=keys.public)
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVTIMEO, 10_000)
        connect(self.socket, entry, keys)

    def hello(self, low: int = messages.PROTOCOL, high: int = messages.PROTOCOL, token: str = "") -> None:
        self.socket.send(messages.encode(messages.Hello(low, high, token or new_token(), "headless", os.getpid())))

    def answer(self) -> Any:
        """The next message that is no heartbeat."""
        while isinstance(message := messages.decode_from_publisher(self.socket.recv()), messages.Ping):
            pass
        return message

    def close(self) -> None:
        self.socket.close(0)
        self.member.close()


@contextlib.contextmanager
def peers(publisher: Publisher, count: int = 1) -> Iterator[list[Peer]]:
    with zmq.Context() as context, contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            found.append(Peer(context, entry_of(publisher)))
            stack.callback(found[-1].close)
        yield found
