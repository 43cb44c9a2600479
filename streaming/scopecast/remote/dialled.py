"""A machine that dials in: its relay's bytes come by an ssh that was started there, to a desk that stays here.

What ssh starts here ends with the connection. The desk does not: it is a process of its own, with a socket in the run
directory, and so the runs go on in the same layers when the machine dials in again.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import filelock

from scopecast.errors import ScopecastError, TransportError
from scopecast.remote.command import LinkError
from scopecast.remote.pump import Pump
from scopecast.remote.starting import start_apart
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DialledIn", "carry_to_desk", "check_possible"]

#: Seconds that a desk waits for its machine to dial in (again): while a run goes on there, and when none does.
AWAY_S: Final = 600.0
IDLE_S: Final = 30.0


def check_possible() -> None:
    """Check that machines can dial in to this one.

    Raises
    ------
    ScopecastError
        If they can't.
    """
    if sys.platform == "win32":
        raise ScopecastError(
            "other machines can't dial in to Windows: run `scopecast connect` here, and let this machine log in there"
        )


class DialledIn:
    """A `scopecast.remote.command.Way` for which the other machine dials in.

    Parameters
    ----------
    session
        What both sides call it; a token.
    host
        What the other machine is called, for errors.

    Raises
    ------
    TransportError
        If another process waits for it already.
    """

    comes = True

    def __init__(self, session: str, host: str) -> None:
        check_possible()
        self._host, self.expected = host, True
        directory = RunDirectory()
        self._path = directory.socket_path(_name(session))
        self._others = [directory.file(_name(session), suffix) for suffix in ("log", "lock")]
        self._there: socket.socket | None = None
        self._listening = socket.socket(_family(), socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)  # of a desk that was killed: who starts this one holds a lock
            self._listening.bind(os.fspath(self._path))
            self._listening.listen()
        except OSError as error:
            self._listening.close()
            msg = f"no socket for {host} can be made in the run directory: {error.strerror}"
            raise TransportError(msg) from error

    def open(self) -> tuple[int, int]:
        """Wait for the machine. See `Way`."""
        away_s = AWAY_S if self.expected else IDLE_S
        self._listening.settimeout(away_s)
        try:
            self._there, _ = self._listening.accept()
        except TimeoutError as error:
            msg = f"{self._host} has not dialled in for {away_s:.0f} s"
            raise LinkError(msg, hopeless=True) from error
        self._there.settimeout(None)
        return self._there.fileno(), self._there.fileno()

    def why(self, *, was_there: bool) -> LinkError:
        """Return why it has ended. See `Way`."""
        what = "has broken" if was_there else "has ended before anything came"
        return LinkError(f"the connection from {self._host} {what}")

    def end(self) -> None:
        """End the connection; the machine may dial in again."""
        there, self._there = self._there, None
        if there is not None:
            with suppress(OSError):
                there.shutdown(socket.SHUT_RDWR)
            there.close()

    def close(self) -> None:
        """Let the machine dial in no more. Idempotent."""
        self.end()
        self._listening.close()
        for path in (self._path, *self._others):
            path.unlink(missing_ok=True)


def carry_to_desk(reading: int, writing: int, session: str, arguments: Sequence[str]) -> None:
    """Connect the machine at the other end of two pipes with its desk, and return when either has gone.

    Parameters
    ----------
    reading, writing
        The descriptors of standard input and output.
    session
        As for `DialledIn`.
    arguments
        Those of `scopecast` that start the desk, if it is not there.

    Raises
    ------
    TransportError
        If it could not be started; the text has its last lines.
    """
    check_possible()
    pump = Pump(reading, writing, _find_or_start(RunDirectory(), session, arguments))
    pump.start()
    pump.wait()


def _find_or_start(directory: RunDirectory, session: str, arguments: Sequence[str]) -> socket.socket:
    with filelock.FileLock(directory.file(_name(session), "lock")):
        if (there := _connected(directory, session)) is not None:
            return there
        log = directory.file(_name(session), "log")
        return start_apart("desk", arguments, directory, log, lambda: _connected(directory, session))


def _connected(directory: RunDirectory, session: str) -> socket.socket | None:
    made = socket.socket(_family(), socket.SOCK_STREAM)
    try:
        made.connect(os.fspath(directory.socket_path(_name(session))))
    except OSError:
        made.close()
        return None
    return made


def _name(session: str) -> str:
    return f"desk-{session}"  # longer than a token: what members leave is removed by their names


def _family() -> Any:
    return getattr(socket, "AF_UNIX", None)  # which Windows has not
