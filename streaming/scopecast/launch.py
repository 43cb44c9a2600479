"""Starting a viewer's process: once for a kind, whoever asks, and with a reason when it fails."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import filelock
import psutil

from scopecast.errors import ViewerStartError
from scopecast.runs import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scopecast.runs import Entry, RunDirectory

__all__ = ["end_viewers", "find_or_start_viewer", "known_viewers", "viewers_started_here"]

_POLL_S = 0.03
_SCREENLESS = frozenset({"headless"})
_LOG_LINES = 12


def known_viewers() -> set[str]:
    """Return the kinds of viewers that are installed (the entry points ``scopecast.viewers``)."""
    return {entry.name for entry in importlib.metadata.entry_points(group="scopecast.viewers")}


def _why_not(kind: str) -> str | None:
    """Return why a viewer of this kind can't be started here, or None if nothing speaks against it."""
    if kind not in (viewers := known_viewers()):
        return f"there is no viewer of the kind {kind!r} (installed: {', '.join(sorted(viewers)) or 'none'})"
    if kind == "napari" and importlib.util.find_spec("napari") is None:
        return "napari is not installed; install it with: pip install 'scopecast[napari]' pyqt6"
    if (
        kind not in _SCREENLESS
        and sys.platform.startswith("linux")
        and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    ):
        return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set)"
    return None


def find_or_start_viewer(
    directory: RunDirectory,
    kind: str,
    *,
    timeout: float,
    cancelled: Callable[[], bool] = lambda: False,
    arguments: Sequence[str] = (),
) -> Entry:
    """Return the viewer of a kind that runs, or start one and wait until it is ready.

    Parameters
    ----------
    directory
        The run directory, where viewers are found.
    kind
        The kind of viewer.
    timeout
        Seconds until it must be ready; a napari takes 4 to 8.
    cancelled
        Asked every now and then; once it returns True, the waiting ends.
    arguments
        More arguments for the viewer's command line.

    Raises
    ------
    ViewerStartError
        If it could not be started: what is missing, or the last lines that it wrote.
    """
    deadline = time.monotonic() + timeout
    if running := _ready(directory, kind):
        return running
    if reason := _why_not(kind):
        raise ViewerStartError(reason)
    lock = directory.launch_lock(kind)
    while True:
        try:
            lock.acquire(timeout=0.1)
            break
        except filelock.Timeout:
            if running := _ready(directory, kind):
                return running
            if cancelled() or time.monotonic() > deadline:
                msg = f"another process has been starting a {kind} viewer for {timeout:.0f} s"
                raise ViewerStartError(msg) from None
    try:
        if running := _ready(directory, kind):
            return running
        return _start(directory, kind, deadline, cancelled, arguments)
    finally:
        lock.release()


def _ready(directory: RunDirectory, kind: str) -> Entry | None:
    return next((entry for entry in directory.living("receiver", kind) if entry.state == "ready"), None)


def _start(
    directory: RunDirectory, kind: str, deadline: float, cancelled: Callable[[], bool], arguments: Sequence[str]
) -> Entry:
    token = new_token()
    log = directory.file(token, "log")
    # -P: a file of the user's that is named like a module must not come before the real one.
    command = [sys.executable, "-P", "-m", "scopecast_viewers", kind, "--token", token, *arguments]
    environment = dict(os.environ, SCOPECAST_RUNTIME_DIR=str(directory.path))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            **_apart(),
        )
    # The viewer is waited for in a thread of its own, so that one which ends leaves no zombie here.
    threading.Thread(target=process.wait, name=f"scopecast-reaper-{token}", daemon=True).start()
    began = time.monotonic()
    while time.monotonic() < deadline:
        if process.poll() is not None:
            msg = f"the {kind} viewer ended at once (exit code {process.returncode}){_tail(directory, token)}"
            raise ViewerStartError(msg)
        for entry in directory.entries("receiver", kind):
            if entry.token == token and entry.state == "ready":
                return entry
        if cancelled():
            break
        time.sleep(_POLL_S)
    else:
        process.kill()
    waited = time.monotonic() - began
    msg = f"the {kind} viewer was not ready after {waited:.0f} s{_tail(directory, token)}"
    raise ViewerStartError(msg)


def _apart() -> dict[str, Any]:
    """Return how a process is started that outlives this one, and Ctrl-C in its terminal."""
    if sys.platform == "win32":
        # A console of its own that is not shown. Without any (DETACHED_PROCESS) a window would open for the real Python
        # that the python.exe of a virtual environment starts.
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _tail(directory: RunDirectory, token: str) -> str:
    try:
        lines = directory.file(token, "log").read_text(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return ":\n    " + "\n    ".join(lines[-_LOG_LINES:]) if lines else ""


def viewers_started_here() -> set[psutil.Process]:
    """Return the viewers that are this process's children: another's, or one that ran before, is none of our business.

    Told by the process and not by its entry, which it writes only after a while.
    """
    found = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "scopecast_viewers" in process.cmdline():
                found.add(process)
    return found


def end_viewers(viewers: set[psutil.Process], directory: RunDirectory, patience: float) -> None:
    """End viewers as if their windows were closed; kill those that take too long, and remove what they leave.

    Parameters
    ----------
    viewers
        As from `viewers_started_here`.
    directory
        The run directory.
    patience
        Seconds until those that are still there are killed.
    """
    for process in viewers:
        with suppress(psutil.NoSuchProcess):
            process.terminate()  # psutil compares the time of creation first: never a later process with the same id
    _, hung = psutil.wait_procs(viewers, timeout=patience)
    for process in hung:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(hung, timeout=5.0)
    if viewers:
        directory.clean()
