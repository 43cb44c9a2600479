"""Programs that the fault tests run as processes of their own: started, talked to by lines, and ended for certain."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Child", "stop", "wait_until"]

PROGRAMS = Path(__file__).parent.parent / "faults" / "programs"
_POLL = 0.01  # seconds between two looks at what can't be waited for


def stop(pid: int) -> None:
    """Stop a process, and wait until none of its threads runs any more: the signal only asks for it."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")  # elsewhere the state of the process has to do

    def stopped() -> bool:
        try:
            states = [each.read_text().rpartition(")")[2].split()[0] for each in threads.glob("*/stat")]
        except OSError:  # a thread has just ended
            return False
        return set(states) == {"T"} if states else psutil.Process(pid).status() == psutil.STATUS_STOPPED

    wait_until(stopped, f"process {pid} stands still")


def wait_until(predicate: Callable[[], Any], what: str = "", timeout: float = 60.0) -> Any:
    """Return what `predicate` returns as soon as that is true; AssertionError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not (found := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not so after {timeout:g} s: {what or predicate}")
        time.sleep(_POLL)
    return found


class Child:
    """One of the programs in ``tests/faults/programs``, running.

    It prints a JSON value per line; `line` returns them one by one.

    Parameters
    ----------
    program
        The file's name without its ending.
    *arguments
        Its arguments.
    environment
        Variables beside this process's own.
    crash
        A step of `crashpoints`, such as ``slot-odd:20``, at which it dies.
    """

    def __init__(self, program: str, *arguments: object, environment: Mapping[str, str] = {}, crash: str = "") -> None:
        crashing = (str(Path(__file__).with_name("crashpoints.py")), crash) if crash else ()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        paths = (str(Path(__file__).parent), os.environ.get("PYTHONPATH", ""))
        self.process = subprocess.Popen(
            [sys.executable, *crashing, str(PROGRAMS / f"{program}.py"), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            start_new_session=True,
            text=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def stopped(self) -> bool:
        """Whether it was stopped by a signal, and did not go on since."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")

    def line(self, timeout: float = 60.0) -> Any:
        """Return the next value that it prints."""
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise AssertionError(f"no line within {timeout:g} s:\n{self.errors}") from None
        if line is None:
            raise AssertionError(f"it has ended with {self.process.wait(10)}:\n{self.errors}")
        return json.loads(line)

    def tell(self, text: str = "") -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def ask(self, text: str = "", timeout: float = 60.0) -> Any:
        """Send it a line, and return its answer."""
        self.tell(text)
        return self.line(timeout)

    def wait(self, timeout: float = 80.0) -> int:
        """Wait for its end, and return its exit code."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout:g} s:\n{self.errors}") from None

    def close(self) -> None:
        """End it, whatever it does. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not sent yet, to a process that has ended
                    stream.close()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
