"""Starting a viewer's process: only one of each kind, whichever program asks, and with the cause if it fails."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import filelock
import psutil

from scopecast.errors import ViewerStartError, ViewerUnavailable
from scopecast.protocol import printable_lines
from scopecast.publishing.causes import cause_in
from scopecast.publishing.screen import why_no_screen
from scopecast.publishing.wait import Event
from scopecast.rundir.directory import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from scopecast.rundir.directory import Entry, RunDirectory

__all__ = [
    "WITHOUT_WINDOW",
    "Launch",
    "apart",
    "end_viewer",
    "find_or_start_viewer",
    "known_viewers",
    "why_unknown",
]

logger = logging.getLogger(__name__)

#: How many attempts to start a viewer are made in all, and the pause after the first; each later pause is twice as long
#: as the one before.
ATTEMPTS = 3
PAUSE_S = 1.0
#: napari takes 4 to 8 seconds until it is ready, and many times as long at its first start: on Windows 55 s were seen.
#: One that ends is noticed at once; this is for one that hangs.
START_TIMEOUT_S = 180.0
#: How long Ctrl-C may be delayed to end a viewer that is being started.
END_S = 5.0
_POLL_S = 0.03
#: Kinds of viewers that have no window, and need no screen.
WITHOUT_WINDOW = frozenset({"headless"})
_LOG_LINES = 12


def known_viewers() -> set[str]:
    """Return the kinds of viewers that are installed (the entry points ``scopecast.viewers``)."""
    return {entry.name for entry in importlib.metadata.entry_points(group="scopecast.viewers")}


def why_unknown(kind: str) -> str:
    """Return the text that no viewer of this kind is installed here; ``""`` if one is."""
    if kind in (viewers := known_viewers()):
        return ""
    return f"there is no viewer of the kind {kind!r} (installed: {', '.join(sorted(viewers)) or 'none'})"


def _why_not(kind: str) -> str | None:
    """Return why a viewer of this kind can't be started here, or None if it can."""
    if unknown := why_unknown(kind):
        return unknown
    if kind == "napari" and importlib.util.find_spec("napari") is None:
        return "napari is not installed; install it with: pip install 'scopecast[napari]' pyqt6"
    if kind == "fiji" and importlib.util.find_spec("jpype") is None:
        return "the ImageJ viewer needs jpype1; install it with: pip install 'scopecast[fiji]'"
    return None if kind in WITHOUT_WINDOW else why_no_screen() or None


def find_or_start_viewer(
    directory: RunDirectory,
    kind: str,
    *,
    timeout: float,
    cancelled: Callable[[], bool] = lambda: False,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] = {},
    starting: Callable[[], None] = lambda: None,
) -> Entry:
    """Return the running viewer of a kind, or start one and wait until it is ready.

    Parameters
    ----------
    directory
        The run directory, where viewers are found.
    kind
        The kind of viewer.
    timeout
        Seconds until it must be ready; napari takes 4 to 8.
    cancelled
        Called repeatedly; once it returns True, waiting ends, and a viewer that was started is left running. If it
        raises, that viewer is killed.
    arguments
        More arguments for the viewer's command line.
    environment
        Variables for the viewer, in addition to this process's own.
    starting
        Called when no viewer is running, and one is about to be started.

    Raises
    ------
    ViewerUnavailable
        If it can't be started here; the text says what is missing.
    ViewerStartError
        If it was started, and did not become ready; the text says why, with the last lines that it wrote below.
    """
    deadline = time.monotonic() + timeout
    if running := _ready(directory, kind):
        return running
    if reason := _why_not(kind):
        raise ViewerUnavailable(reason)
    lock = directory.launch_lock(kind)
    while True:
        try:
            lock.acquire(timeout=0.1)
            break
        except filelock.Timeout:
            if running := _ready(directory, kind):
                return running
            if cancelled() or time.monotonic() >= deadline:
                msg = f"another process has been starting a {kind} viewer for {timeout:.0f} s"
                raise ViewerStartError(msg) from None
    try:
        if running := _ready(directory, kind):
            return running
        starting()
        return _start(directory, kind, deadline, cancelled, arguments, environment)
    finally:
        lock.release()


def _ready(directory: RunDirectory, kind: str) -> Entry | None:
    return next((entry for entry in directory.living("receiver", kind) if entry.state == "ready"), None)


def python() -> str:
    """Return the Python that runs viewers: this one, also where it is part of another program.

    Raises
    ------
    ViewerUnavailable
        If none is found: to start ``sys.executable`` would start that program once more.
    """
    from multiprocessing.spawn import get_executable  # what a program that embeds Python is to set

    told = [os.fsdecode(path) for path in (get_executable(), sys.executable) if path]
    name = "python.exe" if sys.platform == "win32" else "bin/python3"
    beside = [os.path.join(folder, name) for folder in (sys.prefix, sys.base_prefix)]  # noqa: PTH118
    for path in (*told, *beside):
        if re.search("python|pypy", os.path.basename(path), re.IGNORECASE) and os.path.isfile(path):  # noqa: PTH113, PTH119
            return path
    msg = (
        f"Python is embedded in {sys.executable or 'another program'} here, and there is none to run a viewer with; "
        f"start the viewer by hand (scopecast open), or name a Python: multiprocessing.set_executable(…)"
    )
    raise ViewerUnavailable(msg)


def _start(
    directory: RunDirectory,
    kind: str,
    deadline: float,
    cancelled: Callable[[], bool],
    arguments: Sequence[str],
    variables: Mapping[str, str],
) -> Entry:
    token = new_token()
    log = directory.file(token, "log")
    # -P: one of the user's files that is named like a module must not be imported in its place.
    command = [python(), "-P", "-m", "scopecast_viewers", kind, "--token", token, *arguments]
    environment = {**os.environ, **variables, "SCOPECAST_RUNTIME_DIR": str(directory.path)}
    process: subprocess.Popen[bytes] | None = None
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                **apart(),
            )
        # A thread waits for the viewer's process, so that it leaves no zombie here when it ends. If this process is
        # itself about to end, it can't start a thread any more, and needs none.
        with suppress(RuntimeError):
            threading.Thread(target=process.wait, name=f"scopecast-reaper-{token}", daemon=True).start()
        return _await_ready(directory, kind, token, process, deadline, cancelled)
    except ViewerStartError:
        raise
    except BaseException:  # Ctrl-C, or the run directory can't be read: nothing waits for this viewer any more
        _kill(process) if process is not None else _kill_unknown(token)
        directory.clean()  # what it had left
        raise


def _await_ready(
    directory: RunDirectory,
    kind: str,
    token: str,
    process: subprocess.Popen[bytes],
    deadline: float,
    cancelled: Callable[[], bool],
) -> Entry:
    began = time.monotonic()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            msg = f"the {kind} viewer ended at once ({_how(process.returncode)}){_told(directory, token)}"
            raise ViewerStartError(msg)
        for entry in directory.entries("receiver", kind):
            if entry.token == token and entry.state == "ready":
                return entry
        if cancelled():
            break
        time.sleep(_POLL_S)
    else:
        _kill(process)
    waited = time.monotonic() - began
    msg = f"the {kind} viewer was not ready after {waited:.0f} s{_told(directory, token)}"
    raise ViewerStartError(msg)


def apart() -> dict[str, Any]:
    """Return options of Popen for a process that survives the end of this one, and Ctrl-C in its terminal."""
    if sys.platform == "win32":
        # A hidden console of its own. Without one (DETACHED_PROCESS) a window would open for the real Python that the
        # python.exe of a virtual environment starts.
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a viewer that is not ready, and the processes that it started: they are in its process group."""
    if sys.platform == "win32":
        process.kill()
    else:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)


def _kill_unknown(token: str) -> None:
    """Kill a viewer that is known by its command line only, as Ctrl-C struck while it was started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if token in process.cmdline():
                process.kill()
                process.wait(END_S)


def _how(code: int) -> str:
    """Describe how a process ended, from its exit code.

    >>> _how(3), _how(-9)
    ('exit code 3', 'signal SIGKILL')
    """
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):  # a number without a name, such as one of the real-time signals
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _told(directory: RunDirectory, token: str) -> str:
    """Return the end of an error's text from a viewer's log: the cause, and below it the last lines."""
    try:
        log = printable_lines(directory.file(token, "log").read_text(errors="replace"))
    except OSError:
        return ""
    lines = log.strip().splitlines()
    return "\n    ".join([f": {cause_in(log)}", *lines[-_LOG_LINES:]]) if lines else ""


def end_viewer(entry: Entry, directory: RunDirectory, patience: float) -> None:
    """End a viewer as if its window were closed; kill it if that takes too long, and remove what it leaves behind.

    Parameters
    ----------
    entry
        The viewer, as returned by `find_or_start_viewer`.
    directory
        The run directory.
    patience
        Seconds after which it is killed, if it is still running.
    """
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        process = psutil.Process(entry.pid)  # never a later one with the same id: it compares creation times
        if directory.alive(entry.token):
            process.terminate()
            try:
                process.wait(patience)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(END_S)
    directory.clean()


class Launch:
    """A publisher's attempts to get a viewer: a few, at growing intervals, on the thread that calls `run`.

    The first failure is logged as a warning with the cause and the last lines of the viewer's log, later ones as
    information. What can't work (no screen, nothing installed) is not tried again.

    Parameters
    ----------
    directory
        The run directory, where viewers are found.
    kind
        The kind of viewer.
    environment
        Variables for a viewer that is started, in addition to this process's own.
    starting
        Called when the first attempt is about to start a viewer.

    Attributes
    ----------
    problem : str
        Why there is no viewer, as one line; ``""`` until one had to be started, and once there is one.
    attempts : int
        How often a viewer was looked for, and started if none was found.
    """

    def __init__(
        self,
        directory: RunDirectory,
        kind: str,
        environment: Mapping[str, str] = {},
        starting: Callable[[], None] = lambda: None,
    ) -> None:
        self.kind = kind
        self._starting = starting
        self._environment = environment
        self.problem = ""
        self.attempts = 0
        self._directory = directory
        self._settled = Event()
        self._concluded = Event()  # no attempt follows the current one
        self._cancelled = False
        self._interrupted = False

    def interrupt(self) -> None:
        """End the attempts, and kill the viewer that is being started: Ctrl-C interrupted the wait for it."""
        self._interrupted = True
        self._concluded.set()
        # This process may be about to end, and with it the thread of the attempts, which must kill the viewer first.
        self._settled.wait(END_S)

    def conclude(self) -> None:
        """Make no attempt after the current one."""
        self._concluded.set()

    def cancel(self) -> None:
        """Stop waiting; a viewer that is being started goes on, as a window that opens a little late does no harm."""
        self._cancelled = True
        self._concluded.set()

    def _given_up(self) -> bool:
        if self._interrupted:
            raise _Interrupted
        return self._cancelled

    def run(self) -> None:
        """Make attempts until there is a viewer, or no more are to be made."""
        try:
            while not self._attempt() and self.attempts < ATTEMPTS:
                if self._pause(PAUSE_S * 2 ** (self.attempts - 1)):
                    return
        finally:
            self._settled.set()

    def _pause(self, seconds: float) -> bool:
        """Wait before the next attempt. Return True if none is to be made."""
        return self._concluded.wait(seconds)

    def _attempt(self) -> bool:
        """Find a viewer, or start one. Return True if no other attempt is to be made."""
        self.attempts += 1
        try:
            find_or_start_viewer(
                self._directory,
                self.kind,
                timeout=START_TIMEOUT_S,
                cancelled=self._given_up,
                environment=self._environment,
                starting=self._begin,
            )
        except _Interrupted:
            self.problem = "its start was interrupted"
            return True
        except Exception as error:  # noqa: BLE001 - the acquisition goes on without a viewer; logged, and counted
            if self._cancelled:
                return True
            self._failed(error)
            return isinstance(error, ViewerUnavailable)
        self.problem = ""
        return True

    def _begin(self) -> None:
        if self.attempts == 1:
            self.problem = f"{self.kind} is still being started"
            self._starting()

    def _failed(self, error: Exception) -> None:
        known = isinstance(error, ViewerStartError | OSError)
        text = str(error) if known else f"{type(error).__name__}: {error}"
        self.problem = text.partition("\n")[0]
        again = not isinstance(error, ViewerUnavailable)
        if again and self.attempts >= ATTEMPTS:
            self.problem += f" (tried {self.attempts} times)"
        if self.attempts <= 1:
            what = f"frames are not shown ({ATTEMPTS} attempts in all)" if again else "frames are not shown"
            logger.warning("scopecast: %s: %s", what, text)
        else:
            logger.info("scopecast: attempt %d of %d: %s", self.attempts, ATTEMPTS, text)


class _Interrupted(BaseException):
    """Ends a start that nothing waits for any more; not an Exception, so that it is not taken for a failure."""
