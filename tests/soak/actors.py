"""The processes of the soak: started, stopped, resumed, killed, and what they said last."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soak.plan import Actor, Verb

__all__ = ["Running"]

_TESTS = Path(__file__).resolve().parents[1]


class Running:
    """An actor's process.

    Parameters
    ----------
    actor
        Who it is.

    Attributes
    ----------
    said : dict
        What it reported last; empty before its first report.
    fate : str
        ``"running"``, ``"stopped"``, ``"killed"`` or ``"ended"``.
    """

    def __init__(self, actor: Actor) -> None:
        self.actor = actor
        self.said: dict[str, Any] = {}
        self.fate = "running"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        arguments = [actor.name, actor.kind]
        arguments += [actor.policy, str(actor.seed)] if actor.role == "producer" else [str(actor.seed)]
        arguments += ["--window"] if actor.window else []
        paths = (str(_TESTS), str(_TESTS / "support"), os.environ.get("PYTHONPATH", ""))
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"soak.{actor.role}", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name=f"soak-{actor.name}", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # The last line of one that is killed may be cut off.
            if line.endswith("\n"):
                self.said = json.loads(line)

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace").strip()

    def do(self, verb: Verb) -> None:
        """Stop it, resume it, kill it, or tell it to end."""
        if verb == "end":
            self.resume()
            self.tell()
        elif verb == "kill":
            self.process.kill()
            self.fate = "killed"
        elif verb == "stop":
            self.process.send_signal(signal.SIGSTOP)
            self.fate = "stopped"
        else:
            self.resume()

    def resume(self) -> None:
        """Let it go on, if it was stopped."""
        if self.fate == "stopped":
            self.process.send_signal(signal.SIGCONT)
            self.fate = "running"

    def tell(self) -> None:
        """Send the line after which it ends in good order."""
        if self.fate == "running":
            self.fate = "ended"
            assert self.process.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # it has ended by itself, which `problems` tells
                self.process.stdin.write("\n")
                self.process.stdin.flush()

    def wait(self, timeout: float) -> bool:
        """Wait for its end, and kill it if that takes longer than `timeout` seconds. Return whether it ended itself."""
        try:
            self.process.wait(timeout)
            return True
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            return False

    def problems(self) -> list[str]:
        """Return what was wrong with it, once it has ended."""
        found = [*self.said.get("wrong", ())]
        if self.fate == "ended":
            if self.process.returncode != 0:
                found.append(f"exit code {self.process.returncode}: {self.errors[-2000:]}")
            elif not self.said.get("ended"):
                found.append("it ended without its last report")
        elif self.fate == "running":
            found.append(f"it ended by itself (exit code {self.process.returncode}): {self.errors[-2000:]}")
        return found

    def close(self) -> None:
        """Kill it if it still runs, and let go of its pipes. Idempotent."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # the line that it was not there to read any more
                    stream.close()
        self._errors.close()
