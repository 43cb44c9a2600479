"""The command, such as ssh, whose pipes lead to another machine; and what it says when it fails."""

from __future__ import annotations

import errno
import os
import shlex
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from scopecast.errors import TransportError
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Command", "LinkError", "Route", "Way", "command_for"]

#: Seconds that the command has to end by itself once its pipes are closed.
_END_S: Final = 2.0
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


def command_for(
    host: str, arguments: Sequence[str] = ("relay", "--stdio"), *, ssh: str = "ssh", command: str = "scopecast"
) -> list[str]:
    """Return the command line that runs scopecast on another machine.

    Parameters
    ----------
    host
        As ssh takes it: a name of its configuration, or ``user@machine``.
    arguments
        What scopecast is to do there.
    ssh
        The program and its options.
    command
        How scopecast is started there.

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
    return [*program, "-T", host, f"{command} {shlex.join(arguments)}"]


class Route(Protocol):
    """What leads to the other machine, by whatever means."""

    #: Whether it is of no use to wait before it is opened again: somebody comes, or does not.
    comes: bool
    #: Whether it is worth to wait long for it: something goes on there.
    expected: bool

    def why(self, *, was_there: bool) -> LinkError:
        """Return why it has ended, after it was open, or before anything has come."""

    def end(self) -> None:
        """End it. Idempotent; it can be opened again."""

    def close(self) -> None:
        """End it for good. Idempotent."""


class Way(Route, Protocol):
    """A route by two descriptors."""

    def open(self) -> tuple[int, int]:
        """Return two descriptors: of what comes from there, and of what goes there.

        Raises
        ------
        LinkError
            If there are none.
        """


class Command:
    """A `Way` by a command that is started: its standard input and output.

    Parameters
    ----------
    command
        The command line.
    host
        What the other machine is called, for errors.
    """

    comes, expected = False, True

    def __init__(self, command: Sequence[str], host: str) -> None:
        self._command, self._host = list(command), host
        self._said: deque[str] = deque(maxlen=_LINES)
        self._process: subprocess.Popen[bytes] | None = None
        self._telling: threading.Thread | None = None

    def open(self) -> tuple[int, int]:
        """Start the command. See `Way`."""
        self._said.clear()
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except OSError as error:
            # Processes, memory or descriptors that there are none of now, there may be soon.
            lacks = error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)
            msg = f"{self._command[0]} can't be started: {error.strerror}"
            raise LinkError(msg if lacks else f"{msg}; name another program by --ssh", hopeless=not lacks) from error
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._telling = threading.Thread(target=self._read_errors, args=(process.stderr.fileno(),), daemon=True)
        self._telling.start()
        return process.stdout.fileno(), process.stdin.fileno()

    def why(self, *, was_there: bool) -> LinkError:
        """Return why it has ended. See `Way`."""
        code = None
        if self._process is not None and self._telling is not None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_END_S if was_there else None)
            self._telling.join(1.0)
        if code is None:
            return LinkError(f"the connection to {self._host} has broken")
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
            return LinkError(f"scopecast on {self._host} is too old for this: update it there", hopeless=True)
        if "Permission denied" in told or "Host key verification failed" in told:
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

    def close(self) -> None:
        """End the command. Idempotent."""
        self.end()

    def end(self) -> None:
        """End the command. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
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
