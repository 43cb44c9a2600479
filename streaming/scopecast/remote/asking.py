"""What the relay on this machine says of who watches."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import zmq

from scopecast.errors import ProtocolError, TransportError
from scopecast.link import transport
from scopecast.link.transport import KeyPair
from scopecast.protocol import ANY_KIND
from scopecast.remote import messages
from scopecast.remote.stdio import running_relay

if TYPE_CHECKING:
    from scopecast.rundir.directory import RunDirectory

__all__ = ["ask"]

_ANSWER_S: Final = 5.0


def ask(directory: RunDirectory) -> messages.Listed:
    """Return what the relay says of who watches; nobody, if none runs.

    Parameters
    ----------
    directory
        The run directory.

    Raises
    ------
    TransportError
        If it does not answer.
    """
    entry = running_relay(directory)
    if entry is None:
        return messages.Listed([])
    keys = KeyPair.if_possible()
    context: zmq.Context[Any] = zmq.Context()
    try:
        with directory.join("subscriber", ANY_KIND, key=keys.public if keys is not None else ""):
            socket = context.socket(zmq.DEALER)
            try:
                transport.limit(socket)
                transport.connect(socket, entry, keys)
                socket.send(messages.encode(messages.ListDesks()), zmq.NOBLOCK)
                deadline = time.monotonic() + _ANSWER_S
                while (left := deadline - time.monotonic()) > 0:
                    if socket.poll(int(1000 * left) + 1):
                        with suppress(ProtocolError):
                            answer = messages.decode_from_relay(socket.recv(zmq.NOBLOCK))
                            if isinstance(answer, messages.Listed):
                                return answer
            finally:
                socket.close(0)
    finally:
        context.term()
    msg = f"the relay (process {entry.pid}) has not answered for {_ANSWER_S:.0f} s: end that process, and connect again"
    raise TransportError(msg)
