"""The relay's end of a connection that ssh carries: standard input and output, moved to the relay's socket and back."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

from scopecast.protocol import ANY_KIND
from scopecast.remote.pump import Pump, connected_to, read_first_line, write_first_line
from scopecast.remote.starting import start_apart
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.rundir.directory import Entry

__all__ = ["binary_stdio", "carry", "find_or_start_relay", "running_relay"]


def running_relay(directory: RunDirectory) -> Entry | None:
    """Return the entry of the relay that runs, once it can be reached."""
    living = directory.living("relay")
    return next((entry for entry in living if entry.state == "ready" and entry.endpoint), None)


def find_or_start_relay(directory: RunDirectory, end_after: str = "") -> Entry:
    """Return the relay of this user on this machine; start one that ends by itself if none runs.

    Parameters
    ----------
    directory
        The run directory.
    end_after
        How long that one stays without desks and publishers (``"10m"``); by default as long as the command says.

    Raises
    ------
    TransportError
        If it could not be started; the text has its last lines.
    """
    if running := running_relay(directory):
        return running
    more = ["--end-after", end_after] if end_after else []
    return start_apart(
        "relay",
        ["relay", "--started", *more],
        directory,
        directory.file(new_token(), "log"),
        lambda: running_relay(directory),
    )


def carry(
    reading: int,
    writing: int,
    end_after: str = "",
    until: Callable[[], bool] = lambda: False,
    begun: Callable[[], None] = lambda: None,
) -> bool:
    """Connect who is at the other end of two pipes with the relay, and return when either has gone.

    Parameters
    ----------
    reading, writing
        The descriptors of standard input and output.
    end_after
        As for `find_or_start_relay`.
    until
        Asked each second whether to end.
    begun
        Called once the other side has said who it is.

    Returns
    -------
    bool
        Whether it has.

    Raises
    ------
    TransportError
        If there is no relay, and none could be started.
    ProtocolError
        If the other side is no scopecast, or of another version.
    """
    directory = RunDirectory()
    entry = find_or_start_relay(directory, end_after)
    encrypted = entry.endpoint.startswith("tcp:")
    try:
        write_first_line(writing, entry.key, encrypted=encrypted)
        said = read_first_line(reading)
    except (EOFError, BrokenPipeError):
        return False
    begun()
    with ExitStack() as stack:
        if encrypted:  # the relay admits keys that it finds in the run directory
            stack.enter_context(directory.join("subscriber", ANY_KIND, title="desk", key=said.key))
        pump = Pump(reading, writing, connected_to(entry.endpoint))
        pump.start()
        pump.wait(until)
    return True


def binary_stdio() -> tuple[int, int]:
    """Return the descriptors of standard input and output, which carry bytes as they are from now on.

    Whatever else is printed goes to standard error.
    """
    reading, writing = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for descriptor in (reading, writing):
            msvcrt.setmode(descriptor, os.O_BINARY)
    return reading, writing
