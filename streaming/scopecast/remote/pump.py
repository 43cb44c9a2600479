"""Bytes on their way between a pair of pipes and a socket, as they are: what ssh carries.

It knows nothing of messages. Two threads that wait, and no poll(): Windows can't wait for pipes.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from scopecast.errors import ProtocolError, TransportError
from scopecast.protocol import Label, printable
from scopecast.remote.messages import WIRE

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["VERSION", "FirstLine", "Pump", "SocketPump", "connected_to", "read_first_line", "write_first_line"]

try:
    #: Of this program.
    VERSION = importlib.metadata.version("scopecast")
except importlib.metadata.PackageNotFoundError:  # it runs from a folder
    VERSION = "unknown"
#: Bytes that are moved at once.
_CHUNK: Final = 256 * 1024
#: Bytes that may come before the first line: what a login shell says to everyone.
_MOST_BEFORE: Final = 64 * 1024
_MARK: Final = b'{"scopecast":'


class FirstLine(msgspec.Struct):
    """What each side says before the first message, as a line of JSON.

    Attributes
    ----------
    scopecast
        The program's version.
    wire
        The lowest and the highest version of the messages that it speaks.
    key
        Its public CURVE key in Z85; ``""`` where it has none.
    encrypted
        Whether the relay's socket speaks CURVE (on Windows, where it is one of tcp).
    """

    scopecast: Label
    wire: Annotated[list[int], Meta(min_length=2, max_length=2)]
    key: Label = ""
    encrypted: bool = False

    def __post_init__(self) -> None:
        self.scopecast, self.key = printable(self.scopecast), printable(self.key)


def write_first_line(descriptor: int, key: str = "", *, encrypted: bool = False) -> None:
    """Say who we are."""
    about: dict[str, Any] = {"scopecast": VERSION, "wire": [WIRE, WIRE], "key": key, "encrypted": encrypted}
    data = json.dumps(about, separators=(",", ":")).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


def read_first_line(descriptor: int) -> FirstLine:
    """Read what the other side says of itself; what a login shell has said before is passed over.

    Raises
    ------
    ProtocolError
        If it says something else, or speaks another version.
    EOFError
        If it ends before.
    """
    line, passed = bytearray(), 0
    while True:
        byte = os.read(descriptor, 1)  # not one more than the line: the rest is for the socket
        if not byte:
            raise EOFError
        line += byte
        if byte != b"\n" and len(line) + passed <= _MOST_BEFORE:
            continue
        if line.startswith(_MARK) and byte == b"\n":
            break
        passed += len(line)
        line.clear()
        if passed > _MOST_BEFORE:
            msg = f"{passed} bytes came, and no line of scopecast: is it `scopecast relay --stdio` that is started?"
            raise ProtocolError(msg)
    try:
        said = msgspec.json.decode(line, type=FirstLine)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        msg = f"the first line of the other side can't be understood: {error}"
        raise ProtocolError(msg) from error
    lowest, highest = said.wire
    if not lowest <= WIRE <= highest:
        older = "on the other machine" if highest < WIRE else "here"
        msg = (
            f"scopecast {said.scopecast} on the other machine speaks versions {lowest} to {highest}, and this one "
            f"({VERSION}) {WIRE}: update scopecast {older}"
        )
        raise ProtocolError(msg)
    return said


def connected_to(endpoint: str) -> socket.socket:
    """Return a socket that is connected to a ZeroMQ endpoint.

    Raises
    ------
    TransportError
        If nobody is there.
    """
    try:
        if sys.platform != "win32" and endpoint.startswith("ipc://"):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.connect(endpoint.removeprefix("ipc://"))
            except BaseException:
                made.close()
                raise
            return made
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)))
    except OSError as error:
        msg = f"nobody answers at {endpoint}: {error.strerror or error}"
        raise TransportError(msg) from error


class Pump:
    """Moves bytes both ways until either side ends; then it closes both.

    Parameters
    ----------
    reading, writing
        Descriptors: what comes from there goes to the socket, and the other way round. They are not closed.
    there
        The socket; closed at the end.
    over
        Called once at the end, in a thread of the pump.

    Attributes
    ----------
    moved, wrote : float
        When bytes came from `reading` last, and when some went to `writing`, by ``time.monotonic()``.
    came : int
        Bytes that came from `reading`.
    """

    def __init__(
        self, reading: int, writing: int, there: socket.socket, over: Callable[[], None] = lambda: None
    ) -> None:
        self.moved = self.wrote = time.monotonic()
        self.came = 0
        self._read: Callable[[int], bytes] = partial(os.read, reading)
        self._write: Callable[[memoryview], int] = partial(os.write, writing)
        self._sockets, self._over = [there], over
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._run, args=(work,), name=f"scopecast-{name}", daemon=True)
            for name, work in (("incoming", self._take_in), ("outgoing", self._give_out))
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def wait(self, until: Callable[[], bool] = lambda: False) -> None:
        """Wait until one of the two sides has ended, or it is `until` then: that is asked each second."""
        while not self._ended.wait(1.0):  # Windows handles Ctrl-C between two waits only
            if until():
                self.close()

    def close(self) -> None:
        """End. Idempotent."""
        with self._lock:
            if self._ended.is_set():
                return
            self._ended.set()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._over()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            with suppress(OSError, ValueError):
                work()
        finally:
            self.close()

    def _take_in(self) -> None:
        while data := self._read(_CHUNK):
            self.moved = time.monotonic()
            self.came += len(data)
            self._sockets[0].sendall(data)

    def _give_out(self) -> None:
        while data := self._sockets[0].recv(_CHUNK):
            rest = memoryview(data)
            while rest:
                rest = rest[self._write(rest) :]
                self.wrote = time.monotonic()


class SocketPump(Pump):
    """The same between two sockets; both are closed at the end.

    Parameters
    ----------
    outside
        The socket in the place of the two descriptors.
    there, over
        As for `Pump`.
    """

    def __init__(self, outside: socket.socket, there: socket.socket, over: Callable[[], None] = lambda: None) -> None:
        super().__init__(-1, -1, there, over)
        self._read, self._write = outside.recv, outside.send
        self._sockets.append(outside)
