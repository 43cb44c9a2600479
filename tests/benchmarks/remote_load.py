"""What desks on other machines cost: the acquisition, and the relay."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import zmq

from scopecast.errors import ProtocolError
from scopecast.link import transport
from scopecast.remote import messages, stdio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.links import TwoMachines
    from scopecast.benchmarks.figures import Row
    from scopecast.rundir.directory import RunDirectory

__all__ = ["DeskRow", "Listing", "connect_command", "measure"]

_ANSWER_S: Final = 10.0


class DeskRow(NamedTuple):
    """What the relay says of a desk."""

    title: str
    state: str
    quality: str
    account: messages.DeskAccount


class Listing:
    """Asks the relay of a run directory again and again who watches. Use it as a context manager."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._connected = False

    def ask(self) -> list[DeskRow]:
        """Return the desks; none as long as no relay runs."""
        if not self._connected:
            entry = stdio.running_relay(self._directory)
            if entry is None:
                return []
            transport.connect(self._socket, entry, None)
            self._connected = True
        self._socket.send(messages.encode(messages.ListDesks()), zmq.NOBLOCK)
        deadline = time.monotonic() + _ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            if self._socket.poll(int(1000 * left) + 1):
                answer = messages.decode_from_relay(self._socket.recv(zmq.NOBLOCK))
                if isinstance(answer, messages.Listed):
                    return [DeskRow(*each) for each in answer.desks]
        raise ProtocolError(f"the relay has not answered for {_ANSWER_S:g} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self._context.term()


def connect_command(ssh: str, *options: str) -> Sequence[str]:
    """Return the arguments of Python for ``scopecast connect``."""
    there = f"{sys.executable} -P -m scopecast"
    where = ("--ssh", ssh, "--command", there, "--end-after", "2s")
    return ("scopecast", "connect", "microscope", "--viewer", "headless", "--no-open", *where, *options)


def measure(bench: Any, machines: TwoMachines) -> Iterator[Row]:
    """Measure what desks cost."""
    return iter(())
