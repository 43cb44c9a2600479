"""A desk's connection to the relay on another machine, by a command such as ssh whose pipes carry the bytes.

It knows how the command is started, what it says when it fails, and the ZeroMQ socket at this end. What is said through
it is others' business.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, Self

import zmq

from scopecast.errors import ProtocolError, TransportError
from scopecast.link import transport
from scopecast.link.transport import KeyPair
from scopecast.protocol import printable
from scopecast.remote.messages import MAX_FROM_RELAY
from scopecast.remote.pump import Pump, connected_to, read_first_line, write_first_line
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["Link", "LinkError", "command_for"]

#: Seconds that the command has to end by itself once its pipes are closed.
_END_S: Final = 2.0
#: Seconds that a connection, which may be a slow one, has to become one of ZeroMQ's; and a wait that Ctrl-C ends.
_HANDSHAKE_S: Final = 30.0
_POLL_MS: Final = 100
_LINES: Final = 8
_NOT_FOUND: Final = 127
_OF_SSH: Final = 255


class LinkError(TransportError):
    """There is no connection; the text says why, and what to do.

    Attributes
    ----------
    hopeless
        Whether it is of no use to try again as long as nothing is changed.
    """

    def __init__(self, text: str, *, hopeless: bool = False) -> None:
        super().__init__(text)
        self.hopeless = hopeless


def command_for(host: str, *, ssh: str = "ssh", command: str = "scopecast", end_after: str = "") -> list[str]:
    """Return the command line that reaches the relay of another machine.

    Parameters
    ----------
    host
        As ssh takes it: a name of its configuration, or ``user@machine``.
    ssh
        The program and its options.
    command
        How scopecast is started there.
    end_after
        How long a relay that is started there stays without desks and publishers.

    Raises
    ------
    ValueError
        If the host or the program can't be one.

    Examples
    --------
    >>> command_for("lab-pc", ssh="ssh -p 2222")
    ['ssh', '-p', '2222', '-T', 'lab-pc', 'scopecast relay --stdio']
    """
    try:
        program = shlex.split(ssh, posix=sys.platform != "win32")
    except ValueError as error:
        msg = f"--ssh is a program with its options, such as 'ssh -p 2222', not {ssh}: {error}"
        raise ValueError(msg) from error
    if not program:
        raise ValueError("--ssh is a program with its options, such as 'ssh -p 2222'; it is empty")
    if not host or host.startswith("-") or any(each.isspace() for each in host):
        msg = f"the host is a name as ssh takes it, such as lab-pc or user@lab-pc, not {host!r}"
        raise ValueError(msg)
    more = f" --end-after {end_after}" if end_after else ""
    return [*program, "-T", host, f"{command} relay --stdio{more}"]


class Link:
    """A connection to a relay. Use it as a context manager, in one thread.

    Parameters
    ----------
    command
        The command line whose standard input and output lead to the relay.
    host
        What the other machine is called, for errors.
    """

    def __init__(self, command: Sequence[str], host: str) -> None:
        self._command, self._host = list(command), host
        self._said: deque[str] = deque(maxlen=_LINES)
        self._resources = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None
        self._pump: Pump | None = None
        self._broken = False

    def open(self) -> None:
        """Start the command, and connect; waits as long as ssh does, which may ask for a password.

        Raises
        ------
        LinkError
            If there is no connection.
        """
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            msg = f"{self._command[0]} can't be started: {error.strerror}; name another program by --ssh"
            raise LinkError(msg, hopeless=True) from error
        self._process = process
        self._resources.callback(self._end_process, process)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        telling = threading.Thread(target=self._read_errors, args=(process.stderr.fileno(),), daemon=True)
        telling.start()
        try:
            said = read_first_line(process.stdout.fileno())
        except EOFError:
            process.wait()
            telling.join(1.0)
            raise self._why(process.returncode) from None
        except ProtocolError as error:
            raise LinkError(f"{self._host}: {error}", hopeless=True) from error
        keys = KeyPair.if_possible() if said.encrypted else None
        if said.encrypted and keys is None:
            msg = f"{self._host} needs CURVE, which this build of ZeroMQ lacks: install pyzmq from PyPI"
            raise LinkError(msg, hopeless=True)
        write_first_line(process.stdin.fileno(), keys.public if keys is not None else "")
        self._connect(said.key, keys)

    def _connect(self, key: str, keys: KeyPair | None) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._resources.callback(context.term)
        self.socket = context.socket(zmq.DEALER)
        self._resources.callback(self.socket.close, 0)
        transport.limit(self.socket)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_FROM_RELAY)
        self.socket.setsockopt(zmq.HANDSHAKE_IVL, int(1000 * _HANDSHAKE_S))
        if keys is not None:
            keys.use(self.socket)
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, key.encode())
        # A socket of this user's own, which is gone as soon as the one that it is for has come.
        if transport.chosen_transport() == "ipc":
            path = RunDirectory().socket_path(new_token())
            self.socket.bind(f"ipc://{path}")
            self._resources.callback(path.unlink, missing_ok=True)
            there = connected_to(f"ipc://{path}")
            path.unlink(missing_ok=True)
        else:
            self.socket.bind("tcp://127.0.0.1:*")
            there = connected_to(self.socket.getsockopt_string(zmq.LAST_ENDPOINT))
        self._pump = Pump(
            self._process.stdout.fileno(), self._process.stdin.fileno(), there, lambda: setattr(self, "_broken", True)
        )
        self._resources.callback(self._pump.close)
        self._pump.start()
        self._wait_for_handshake()

    def _wait_for_handshake(self) -> None:
        """Wait until something can be sent: what is sent before finds no peer, and is lost."""
        deadline = time.monotonic() + _HANDSHAKE_S
        while not self.socket.poll(_POLL_MS, zmq.POLLOUT):
            if self._broken:
                raise self._lost()
            if time.monotonic() > deadline:
                msg = f"the relay on {self._host} has not answered for {_HANDSHAKE_S:.0f} s"
                raise LinkError(msg)

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
            raise self._lost()
        return None

    def send(self, data: bytes) -> None:
        """Send a message, without waiting; what finds no room is lost with the connection."""
        with suppress(zmq.Again):
            self.socket.send(data, zmq.NOBLOCK)

    @property
    def silent_s(self) -> float:
        """Seconds since bytes came last, be it a part of a large message."""
        return time.monotonic() - self._pump.moved if self._pump is not None else 0.0

    def _lost(self) -> LinkError:
        process = self._process
        if process is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
            if process.returncode is not None:
                return self._why(process.returncode, was_there=True)
        return LinkError(f"the connection to {self._host} has broken")

    def _why(self, code: int, *, was_there: bool = False) -> LinkError:
        told = "; ".join(printable(line) for line in self._said)
        last = printable(self._said[-1]) if self._said else ""
        name = self._command[0]
        by_hand = f"try `{shlex.join(part for part in self._command[:-1] if part != '-T')}` in a terminal"
        if code == _NOT_FOUND or "command not found" in told or "not recognized" in told:
            return LinkError(
                f"scopecast is not found on {self._host}: install it there, or say where it is by "
                f"--command /path/to/scopecast",
                hopeless=True,
            )
        if "No such command" in told or "No such option" in told:
            return LinkError(f"scopecast on {self._host} has no relay: update it there", hopeless=True)
        if "Permission denied" in told:
            return LinkError(f"{self._host} refuses: {last.rstrip('.')}; {by_hand}", hopeless=True)
        if code == _OF_SSH:
            how = f"{name} failed: {last or 'it does not say why'}"
            return LinkError(f"{how}; {by_hand}" if not was_there else how)
        if was_there:
            return LinkError(f"the connection to {self._host} has broken{f': {last}' if last else ''}")
        return LinkError(f"{self._host}: {last or f'{name} ended with exit code {code}, and does not say why'}")

    def _read_errors(self, descriptor: int) -> None:
        rest = b""
        with suppress(OSError):
            while data := os.read(descriptor, 4096):
                *lines, rest = (rest + data).split(b"\n")
                rest = rest[-4096:]
                self._said.extend(line.decode(errors="replace").strip()[-500:] for line in lines if line.strip())
        if rest.strip():
            self._said.append(rest.decode(errors="replace").strip()[-500:])

    @staticmethod
    def _end_process(process: subprocess.Popen[bytes]) -> None:
        with suppress(OSError, ValueError):
            if process.stdin is not None:
                process.stdin.close()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()

    def close(self) -> None:
        """End the connection and the command. Idempotent."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
