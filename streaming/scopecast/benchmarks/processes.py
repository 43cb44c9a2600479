"""The processes that the benchmark starts: viewers, and programs at the other end of a comparison.

All are context managers. They have sessions of their own, so that Ctrl-C reaches the benchmark alone, which then ends
them in order; a `Program` also ends by itself when its standard input closes, whatever became of the benchmark.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import msgspec
import psutil

from scopecast.errors import ViewerStartError
from scopecast.rundir.directory import ENVIRONMENT, RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.publishing.publisher import Publisher

__all__ = ["Program", "Viewer", "private_run_directory", "wait_for"]

_END_S = 10.0
_START_S = 60.0


@contextmanager
def private_run_directory() -> Iterator[RunDirectory]:
    """Make a run directory that no other program uses, named in the environment as long as the context lasts."""
    path = Path(tempfile.mkdtemp(prefix="sc-bench-"))
    names = (ENVIRONMENT, "NAPARI_CONFIG")
    before = {name: os.environ.get(name) for name in names}
    # The user's settings of napari neither change the figures nor are changed.
    os.environ.update({ENVIRONMENT: str(path), "NAPARI_CONFIG": str(path / "napari.yaml")})
    directory = RunDirectory(path)
    try:
        yield directory
    finally:
        directory.clean()  # the segments of a publisher that did not come to its end
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(path, ignore_errors=True)


def wait_for(condition: Any, what: str, timeout: float = 15.0) -> None:
    """Wait until `condition()` is true; raise TimeoutError naming `what` if it isn't within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            msg = f"{what} did not come about within {timeout:g} s"
            raise TimeoutError(msg)
        time.sleep(0.01)


class _Process:
    """A process that ends with its context."""

    def __init__(self, *arguments: str, log: Path | None = None, **options: Any) -> None:
        with (log or Path(os.devnull)).open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
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


class Viewer(_Process):
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

    def attached_to(self, publisher: Publisher) -> bool:
        """Whether the publisher has this viewer now."""
        return any(row.attached and row.token == self.token for row in publisher.stats().receivers)

    def wait_until_attached(self, publisher: Publisher) -> None:
        """Wait until the publisher, which is open, has this viewer."""
        wait_for(lambda: self.attached_to(publisher), f"the attachment of the {self.kind} viewer")

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

    def finish(self) -> bytes:
        """End the process, and return all that it wrote to its standard output."""
        self.process.terminate()
        output: bytes = self.process.communicate(timeout=_END_S)[0]
        return output


class Program(_Process):
    """A module of the benchmark in a process of its own, which reports by lines of JSON on its standard output."""

    def __init__(self, *arguments: str) -> None:
        super().__init__(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
