"""What a test may leave behind by mistake: shared memory, processes, live sockets.

A `Leftovers` remembers what there was before; `wait_until_none` gives everything that came since some seconds to go,
and otherwise names it. Other programs on the machine may use scopecast at the same time, so only what can be laid at
the test's door counts: segments that no unrelated process maps, child processes, and processes that were started with
the test's run directory in their environment (which finds detached viewers too).
"""

import contextlib
import glob
import os
import re
import socket
import time
from pathlib import Path

import psutil

from systems import HAS

SEGMENT_NAME = re.compile(r"\A[a-z][a-z0-9]{0,14}_[a-z2-7]{8}_[0-9a-z]{1,4}\Z")
# Python's own helpers, which live until the interpreter ends.
HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")

_SHM = Path("/dev/shm")
_PROC = Path("/proc")
_POLL = 0.02  # seconds between two looks


class Leftovers:
    """What is left of what was made since the construction.

    Parameters
    ----------
    runtime_dir : Path
        The run directory of the test; processes and sockets are told by it.
    """

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir
        self._segments = _segments()
        self._before = frozenset(psutil.pids())

    def wait_until_none(self, timeout: float = 20.0) -> None:
        """Return as soon as nothing is left; after `timeout` seconds kill the processes and raise AssertionError."""
        deadline = time.monotonic() + timeout
        while rest := self.found():
            if time.monotonic() > deadline:
                for process in self.processes():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
                raise AssertionError("left behind: " + "; ".join(rest))
            time.sleep(_POLL)

    def found(self) -> list[str]:
        """Everything that is left now, a line each."""
        processes = self.processes()
        segments = {name for name in _segments() - self._segments if not self._is_another_tests(name)}
        if segments:  # what all processes have mapped takes the kernel long to tell
            segments -= _mapped_by_others({os.getpid(), *(process.pid for process in processes)})
        described = [(process.pid, _describe(process)) for process in processes]  # a helper may just be beginning
        return [
            *(f"the segment {_SHM / name}" for name in sorted(segments)),
            *(f"the process {pid}: {text}" for pid, text in described if not any(each in text for each in HELPERS)),
            *(f"the live socket {path}" for path in sorted(self.runtime_dir.rglob("*.sock")) if _is_live(path)),
        ]

    def _is_another_tests(self, segment: str) -> bool:
        """Whether a segment is told of in the run directory of a test that runs beside this one, and may be killing."""
        token = segment.split("_")[-2]
        beside = self.runtime_dir.with_name(f"{self.runtime_dir.name.partition('-')[0]}-*")
        told = glob.glob(str(beside / f"{token}.*"))  # noqa: PTH207 - directories may go meanwhile, which pathlib raises
        return any(Path(path).parent != self.runtime_dir for path in told)

    def processes(self) -> list[psutil.Process]:
        """The test's processes that have started since, and are alive or zombies."""
        found = []
        # Every test asks this: what was there before is known by its number, and not looked into.
        for pid in sorted(set(psutil.pids()) - self._before):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if self._counts(process):
                    found.append(process)
        return found

    def _counts(self, process: psutil.Process) -> bool:
        """Whether a process descends from this one or has the run directory, and is none of Python's own."""
        if process.status() == psutil.STATUS_ZOMBIE:
            return process.ppid() == os.getpid()  # nobody waited for it
        if any(helper in " ".join(process.cmdline()) for helper in HELPERS):
            return False
        if any(parent.pid == os.getpid() for parent in process.parents()):
            return True
        return process.environ().get("SCOPECAST_RUNTIME_DIR") == str(self.runtime_dir)


def _segments() -> set[str]:
    if not _SHM.is_dir():
        return set()
    return {path.name for path in _SHM.iterdir() if SEGMENT_NAME.match(path.name)}


def _mapped_by_others(ours: set[int]) -> set[str]:
    """Names of the segments that processes other than `ours` have mapped."""
    names: set[str] = set()
    for entry in _PROC.glob("[0-9]*"):
        if int(entry.name) in ours:
            continue
        try:
            maps = (entry / "maps").read_text(errors="replace")
        except OSError:
            continue  # ended, or another user's
        names.update(re.findall(rf"{_SHM}/(\S+)", maps))
    return names


def _describe(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:300]
    except psutil.ZombieProcess:
        return "a zombie, which nobody has waited for"
    except psutil.NoSuchProcess:
        return "just ended"


def _is_live(path: Path) -> bool:
    """Whether someone listens on a socket file."""
    if not HAS["unix sockets"]:
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
