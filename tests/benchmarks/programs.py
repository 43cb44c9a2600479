"""Programs at the other end of a comparison, which report by lines of JSON on their standard output."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from scopecast.benchmarks.processes import Process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

__all__ = ["Program", "end_with_parent", "leave_in_peace", "report"]

_END_S = 10.0
_START_S = 60.0


class Program(Process):
    """A module in a process of its own, which also ends by itself when its standard input closes."""

    def __init__(self, *arguments: str, prefix: Sequence[str] = ()) -> None:
        super().__init__(*arguments, prefix=prefix, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._name = " ".join(arguments)

    def report(self, timeout: float = _START_S) -> Any:
        """Return the program's next report.

        Raises
        ------
        RuntimeError
            If the program ended.
        TimeoutError
            If it does not report within `timeout` seconds.
        """
        output = self.process.stdout
        assert output is not None
        if not select.select([output], [], [], timeout)[0]:
            msg = f"python -m {self._name} did not report within {timeout:g} s"
            raise TimeoutError(msg)
        # No line is waiting in the buffer here: a program reports again only after something else has happened.
        line = output.readline()
        if not line:
            msg = f"python -m {self._name} ended (exit code {self.process.wait(_END_S)})"
            raise RuntimeError(msg)
        return msgspec.json.decode(line)


def report(what: Any) -> None:
    """Write a line of JSON for the process that started this one."""
    sys.stdout.buffer.write(msgspec.json.encode(what) + b"\n")
    sys.stdout.buffer.flush()


def leave_in_peace() -> None:
    """Do not be disturbed by the parent any more: the work is done, and the process ends by itself."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def end_with_parent() -> None:
    """Exit in good order on SIGTERM, and when the standard input closes."""

    def leave(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: a second one would disturb the clearing up
        raise SystemExit(1)

    signal.signal(signal.SIGTERM, leave)
    main = threading.main_thread().ident
    assert main is not None

    def watch() -> None:
        while os.read(0, 4096):
            pass
        signal.pthread_kill(main, signal.SIGTERM)  # to the main thread: it may be waiting in a system call

    threading.Thread(target=watch, name="parent", daemon=True).start()
