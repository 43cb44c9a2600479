"""Two machines and the link between them: network namespaces and ``tc tbf`` where that is allowed, as for root.

Elsewhere, both are on the loopback, and `benchmarks.carrier` lets as much pass as a link of that rate would.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from benchmarks.programs import Program
from scopecast.benchmarks.processes import wait_for
from scopecast.rundir.directory import ENVIRONMENT, RunDirectory

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["IP", "ROUND_TRIP_MS", "TwoMachines"]

#: The program that makes namespaces and links.
IP = "ip"
#: Of all links that are measured, as within a town.
ROUND_TRIP_MS = 20.0
_HERE, _THERE = "10.231.7.1", "10.231.7.2"
#: What a token bucket lets pass at once is what comes in a few milliseconds; what waits in front of it, in so many.
_BURST_S, _BURST_LEAST, _WAITING = 0.002, 8000, "50ms"


class TwoMachines:
    """The microscope's machine, and the one of who watches: a run directory each, and a link. Use it as a context.

    Attributes
    ----------
    there : RunDirectory
        Of the microscope's machine; that of this process is the other one.
    why_not : str
        Why the link is not one between namespaces.
    """

    def __init__(self) -> None:
        self._resources = ExitStack()
        self.why_not, self._names = "", ("", "")
        self._place, self._port, self._mbit = "127.0.0.1", 0, 0.0

    @property
    def real(self) -> bool:
        """Whether the link is one between namespaces."""
        return bool(self._names[0])

    def __enter__(self) -> Self:
        try:
            folder = Path(tempfile.mkdtemp(prefix="sc-there-"))
            self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
            self.there = RunDirectory(folder)
            self._resources.callback(self.there.clean)
            self._resources.callback(self._end_relay)
            self._make_namespaces()
            with self.on_the_other():
                server = self._resources.enter_context(self._program(1, "benchmarks.carrier", "serve", self._place))
                self._port = int(server.report())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what runs on the other machine, and remove the link. Idempotent."""
        self._resources.close()

    def _end_relay(self) -> None:
        for entry in self.there.living("relay"):
            with suppress(ProcessLookupError):
                os.kill(entry.pid, 15)
        wait_for(lambda: not self.there.living("relay"), "the end of the relay")

    def _make_namespaces(self) -> None:
        names = (f"sc-here-{os.getpid()}", f"sc-there-{os.getpid()}")
        devices = (f"sch{os.getpid()}", f"sct{os.getpid()}")  # of at most 15 characters
        try:
            for name in names:
                _run(IP, "netns", "add", name)
                self._resources.callback(_run, IP, "netns", "delete", name)
            _run(IP, "link", "add", devices[0], "netns", names[0], "type", "veth", "peer", "name", devices[1])
            _run(IP, "link", "set", devices[1], "netns", names[1])
            for name, device, address in zip(names, devices, (_HERE, _THERE), strict=True):
                _run(IP, "-n", name, "address", "add", f"{address}/30", "dev", device)
                _run(IP, "-n", name, "link", "set", device, "up")
                _run(IP, "-n", name, "link", "set", "lo", "up")
                self._limit(name, device, 1000.0)
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None)
            self.why_not = (said.decode().strip().splitlines() or [""])[0] if said else str(error)
            return
        self._names, self._devices, self._place = names, devices, _THERE

    @staticmethod
    def _limit(name: str, device: str, mbit: float) -> None:
        burst = max(_BURST_LEAST, int(mbit * 1e6 / 8 * _BURST_S))
        rate = ("rate", f"{mbit}mbit", "burst", str(burst), "latency", _WAITING)
        _run("tc", "-n", name, "qdisc", "replace", "dev", device, "root", "tbf", *rate)

    def limit(self, mbit: float) -> None:
        """Let no more than so many megabits a second pass, in either direction."""
        self._mbit = mbit
        if self.real:
            for name, device in zip(self._names, self._devices, strict=True):
                self._limit(name, device, mbit)

    def ssh(self, mbit: float = 0.0) -> str:
        """Return what `scopecast connect --ssh` is given; of a rate of its own, it has nothing to do with the link."""
        words = [sys.executable, "-P", "-m", "benchmarks.carrier", "to", self._place, str(self._port)]
        words += [str(ROUND_TRIP_MS), str(mbit or (0.0 if self.real else self._mbit))]
        return shlex.join(words)

    # ---- programs on either machine ----------------------------------------------------------------------------------

    def on_the_other(self) -> AbstractContextManager[Any]:
        """Name the other machine's run directory in the environment, as long as the context lasts."""
        return mock.patch.dict(os.environ, {ENVIRONMENT: str(self.there.path)})

    def program_there(self, *arguments: str) -> Program:
        """Start a module on the microscope's machine."""
        with self.on_the_other():
            return self._program(1, *arguments)

    def program_here(self, *arguments: str) -> Program:
        """Start a module on the machine of who watches."""
        return self._program(0, *arguments)

    def _program(self, which: int, *arguments: str) -> Program:
        return Program(*arguments, prefix=(IP, "netns", "exec", self._names[which]) if self.real else ())


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=30)
