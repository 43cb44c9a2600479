"""What a check of the machine found."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Ended", "Finding", "State", "mib", "run_bounded"]

#: ``"broken"``: what is installed can't work; ``"warning"``: it works less well, or a part of it can't;
#: ``"absent"``: not installed, or not to be looked at here, and nothing to worry about.
State = Literal["ok", "warning", "broken", "absent"]


class Finding(NamedTuple):
    """One line of the doctor's report.

    Attributes
    ----------
    check
        What was looked at, such as ``"shared memory"``.
    state
        ``"ok"``, ``"warning"``, ``"broken"`` or ``"absent"``.
    message
        What was found, in a line; where something is wrong, its cause.
    fix
        What to do about it, or ``""``.
    """

    check: str
    state: State
    message: str
    fix: str = ""


def mib(nbytes: float) -> str:
    """Return a number of bytes in readable form.

    >>> mib(64 * 2**20), mib(24 * 2**30)
    ('64 MiB', '24 GiB')
    """
    return f"{nbytes / 2**30:.0f} GiB" if nbytes >= 10 * 2**30 else f"{nbytes / 2**20:.0f} MiB"


class Ended(NamedTuple):
    """How a program ended.

    Attributes
    ----------
    code
        Its exit code, negative for a signal; None if it had to be killed because it took too long.
    output, errors
        What it wrote.
    """

    code: int | None
    output: str
    errors: str

    def values(self) -> list[dict[str, Any]]:
        """Return the JSON objects among the lines of its output."""
        found = []
        for line in self.output.splitlines():
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found


def run_bounded(command: Sequence[str], timeout: float, environment: Mapping[str, str] = {}) -> Ended:
    """Run a program that may crash or hang, and is killed after `timeout` seconds.

    Raises
    ------
    OSError
        If it can't be started.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        with _signals_later():  # a Ctrl-C while it is being started would leave it to nobody
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **environment},
                start_new_session=sys.platform != "win32",  # Ctrl-C in the terminal is for the doctor
            )
        output, errors = process.communicate(timeout=timeout)
        return Ended(process.returncode, _text(output), _text(errors))
    except subprocess.TimeoutExpired as error:
        return Ended(None, _text(error.stdout), _text(error.stderr))
    finally:
        if process is not None:
            if sys.platform != "win32" and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # with what it has started, such as a Java that does not answer
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Put off Ctrl-C and its like to the end of the block, where what it made is known already.

    By handlers of its own: a mask holds for this thread alone, and any other may take the signal for the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, lambda number, _: came.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _text(written: bytes | None) -> str:
    return (written or b"").decode(errors="replace")
