"""The processes that the benchmark starts, and the run directory that they share.

All are context managers. They have sessions of their own, so that Ctrl-C reaches the benchmark alone, which then ends
them in order.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil

from scopecast.errors import ViewerStartError
from scopecast.rundir.directory import ENVIRONMENT, RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scopecast.publishing.publisher import Publisher

__all__ = ["Process", "Viewer", "private_run_directory", "wait_for"]

_END_S = 10.0
_START_S = 60.0


@contextmanager
def private_run_directory() -> Iterator[RunDirectory]:
    """Make a run directory that no other program uses, named in the environment as long as the context lasts."""
    path = Path(tempfile.mkdtemp(prefix="sc-bench-"))
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = str(path)
    directory = RunDirectory(path)
    try:
        yield directory
    finally:
        directory.clean()  # the segments of a publisher that did not come to its end
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before
        shutil.rmtree(path, ignore_errors=True)


def wait_for(condition: Callable[[], object], what: str, timeout: float = 15.0) -> None:
    """Wait until `condition()` is true; raise TimeoutError naming `what` if it isn't within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            msg = f"{what} did not happen within {timeout:g} s"
            raise TimeoutError(msg)
        time.sleep(0.01)


class Process:
    """A module in a process of its own, which ends with the context.

    Parameters
    ----------
    *arguments
        The module's name, and its arguments.
    log
        The file that takes what it writes to stderr.
    prefix
        A command that runs it in the same process, such as one that enters a network namespace.
    **options
        For `subprocess.Popen`.
    """

    def __init__(self, *arguments: str, log: Path | None = None, prefix: Sequence[str] = (), **options: Any) -> None:
        with (log or Path(os.devnull)).open("wb") as errors:
            self.process: subprocess.Popen[Any] = subprocess.Popen(
                [*prefix, sys.executable, "-P", "-m", *arguments],
                stderr=errors if log else None,
                start_new_session=True,
                **options,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    def close(self) -> None:
        """End the process, even a stopped one, and wait for it. Idempotent."""
        if self.process.poll() is None:
            psutil.Process(self.pid).resume()
            self.process.terminate()
            try:
                self.process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Viewer(Process):
    """A viewer in a process of its own, ready when this returns.

    Parameters
    ----------
    directory
        The run directory.
    kind
        The kind of viewer.
    program
        The module that runs it.

    Raises
    ------
    ViewerStartError
        If it ends at once, or isn't ready within a minute; with what it said last.
    """

    def __init__(self, directory: RunDirectory, kind: str = "headless", program: str = "scopecast_viewers") -> None:
        self.kind, self.token = kind, new_token()
        self._directory = directory
        self._log = directory.file(self.token, "log")
        super().__init__(
            *(program, kind, "--token", self.token), log=self._log, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.close()
            raise

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_S
        while not any(
            entry.token == self.token and entry.state == "ready"
            for entry in self._directory.entries("receiver", self.kind)
        ):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                msg = f"the {self.kind} viewer did not start: {said[0] if said else 'no output'}"
                raise ViewerStartError(msg)
            time.sleep(0.02)

    def wait_until_attached(self, publisher: Publisher) -> None:
        """Wait until the publisher, which is open, has this viewer."""
        wait_for(
            lambda: any(row.attached and row.token == self.token for row in publisher.stats().receivers),
            f"the attachment of the {self.kind} viewer",
        )

    def suspend(self) -> None:
        """Stop the process, as a debugger or a full machine does; `resume` lets it go on."""
        psutil.Process(self.pid).suspend()

    def resume(self) -> None:
        """Let a stopped process go on."""
        psutil.Process(self.pid).resume()

    def kill(self) -> None:
        """Kill the process, which can do nothing about it."""
        self.process.kill()
        self.process.wait()
