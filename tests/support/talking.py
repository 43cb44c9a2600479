"""Commands in processes of their own, whose lines are read as they come."""

from __future__ import annotations

import contextlib
import queue
import re
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Lines", "Talking"]


class Lines:
    """Lines that come, from whichever thread.

    Attributes
    ----------
    lines : list of str
        Those that were read.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._coming: queue.Queue[str | None] = queue.Queue()

    def put(self, line: str | None) -> None:
        """Let a line be read; None: no more come."""
        self._coming.put(line)

    def line(self, wanted: str, timeout: float = 60.0) -> str:
        """Return the next line in which `wanted`, a regular expression, is found; those before it are passed over."""
        with contextlib.suppress(queue.Empty):
            while (line := self._coming.get(timeout=timeout)) is not None:
                self.lines.append(line)
                if re.search(wanted, line):
                    return line
        raise AssertionError(f"no line {wanted!r} among {self.lines}")


class Talking(Lines):
    """A command; its standard input is a pipe, and Ctrl-C in the terminal does not reach it."""

    def __init__(self, command: Sequence[str]) -> None:
        super().__init__()
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.put(line.rstrip())
        self.put(None)

    def line(self, wanted: str, timeout: float = 60.0) -> str:
        """Return the next line in which `wanted` is found; if there is none, end the process and show its errors."""
        try:
            return super().line(wanted, timeout)
        except AssertionError as error:
            self.process.kill()
            assert self.process.stderr is not None
            raise AssertionError(f"{error}; stderr:\n{self.process.stderr.read()}") from None

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send it a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def close(self) -> None:
        """Kill it, if it still runs. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        if failed is not None and self.process.poll() is not None and self.process.stderr is not None:
            print(f"{self.process.args} has ended with {self.process.returncode}:\n{self.process.stderr.read()}")
        self.close()
