"""What carries the bytes between two machines, in the place of ssh: the two ends of a link, and what makes it slow.

``python -m benchmarks.carrier serve PLACE`` runs a shell's command for each who connects, with the connection as its
standard input and output, and writes the port once it listens. ``python -m benchmarks.carrier to PLACE PORT
ROUND_TRIP_MS MBIT -T HOST COMMAND`` has a command run there, as ssh does. It adds the round trip (the kernel's own way,
netem, is not everywhere), and, where MBIT is not 0, lets no more pass: for machines on which no real link can be made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Delay"]

#: Bytes that are moved at once: by a link as it is, and by one that is made slow here.
_CHUNK, _SLOW_CHUNK = 256 * 1024, 8 * 1024
#: Bytes that wait in front of the slow part of a link: for so long, as a router's buffer holds.
_BUFFER_S = 0.05


class Delay:
    """One direction of a link: bytes come out as they went in, later, and at most so many a second.

    Parameters
    ----------
    read, write
        Take bytes from one side (``b""``: it has ended), and give all of them to the other.
    delay_s : float
        Seconds that they take.
    mbit : float
        Megabits a second that pass; 0: as many as come.
    """

    def __init__(
        self, read: Callable[[int], bytes], write: Callable[[bytes], object], delay_s: float, mbit: float
    ) -> None:
        self._read, self._write, self._delay_s, self._rate = read, write, delay_s, mbit * 1e6 / 8
        self._news = threading.Condition()  # of the two below
        self._due: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        # Also a link that is not made slow here holds no more than a fast one has on its way.
        self._most = int(self._rate * (delay_s + _BUFFER_S)) + _SLOW_CHUNK if mbit else int(2e9 / 8 * delay_s) + _CHUNK

    def run(self) -> None:
        """Carry, until one of the two sides has ended."""
        giving = threading.Thread(target=self._give, daemon=True)
        giving.start()
        free = 0.0
        while True:
            data = self._read(_SLOW_CHUNK if self._rate else _CHUNK)
            now = time.monotonic()
            free = max(now, free) + (len(data) / self._rate if self._rate else 0.0)
            with self._news:
                while self._bytes > self._most:
                    self._news.wait()
                self._due.append((free + self._delay_s, data))
                self._bytes += len(data)
                self._news.notify_all()
            if not data:
                break
        giving.join()

    def _give(self) -> None:
        while True:
            with self._news:
                while not self._due:
                    self._news.wait()
                at, data = self._due[0]
            if (left := at - time.monotonic()) > 0:
                time.sleep(left)
            if not data:
                return
            try:
                self._write(data)
            except OSError:
                os._exit(255)  # the other side has gone: so does ssh
            with self._news:
                self._due.popleft()
                self._bytes -= len(data)
                self._news.notify_all()


def _serve(place: str) -> None:
    with socket.create_server((place, 0)) as listening:
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=_run_for, args=(connection,), daemon=True).start()


def _run_for(connection: socket.socket) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        command = connection.makefile("rb", buffering=0).readline().decode().strip()
        process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=connection, stdout=connection)
        process.wait()
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def _go(place: str, port: str, round_trip_ms: str, mbit: str, command: str) -> None:
    delay_s, rate = float(round_trip_ms) / 2000, float(mbit)
    with socket.create_connection((place, int(port))) as there:
        there.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        there.sendall(command.encode() + b"\n")
        outgoing = Delay(lambda most: os.read(0, most), there.sendall, delay_s, rate)
        threading.Thread(target=_outgoing, args=(outgoing, there), daemon=True).start()
        Delay(there.recv, _write_all, delay_s, rate).run()


def _outgoing(carried: Delay, there: socket.socket) -> None:
    carried.run()
    with contextlib.suppress(OSError):
        there.shutdown(socket.SHUT_WR)


def _write_all(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        from benchmarks.programs import end_with_parent

        end_with_parent()
        _serve(sys.argv[2])
    else:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        _go(*sys.argv[2:6], sys.argv[-1])
