"""Starting processes of scopecast that survive who has started them."""

from __future__ import annotations

import os
import subprocess
import time
from typing import TYPE_CHECKING, Final, TypeVar

from scopecast.errors import TransportError
from scopecast.publishing.launch import apart, python

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from scopecast.rundir.directory import RunDirectory

__all__ = ["start_apart"]

#: Seconds that it has to be ready.
_START_S: Final = 60.0
_POLL_S: Final = 0.03
_LOG_LINES: Final = 6

_T = TypeVar("_T")


def start_apart(
    what: str, arguments: Sequence[str], directory: RunDirectory, log: Path, found: Callable[[], _T | None]
) -> _T:
    """Start a process, and return what there is of it once it is ready.

    Parameters
    ----------
    what
        What it is called, for errors.
    arguments
        Those of `scopecast`.
    directory
        The run directory, of both.
    log
        Where it writes.
    found
        Returns what there is of it; None as long as it is not ready.

    Raises
    ------
    TransportError
        If it does not become ready; the text has its last lines.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            [python(), "-P", "-m", "scopecast", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "SCOPECAST_RUNTIME_DIR": str(directory.path)},
            **apart(),
        )
    deadline = time.monotonic() + _START_S
    while (ready := found()) is None:
        ended = process.poll()
        # Exit code 0: another was faster, and is about to be ready.
        if ended or time.monotonic() >= deadline:
            how = f"ended with {ended}" if ended else f"was not ready after {_START_S:.0f} s"
            told = " ".join(log.read_text(errors="replace").split("\n")[-_LOG_LINES:]).strip()
            msg = f"the {what} {how}: {told or f'see {log.name} in the run directory'}"
            raise TransportError(msg)
        time.sleep(_POLL_S)
    return ready
