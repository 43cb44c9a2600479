"""The run directory, where publishers and viewers find each other: whether it is safe, and who is in it."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scopecast.doctor.finding import Finding
from scopecast.protocol import PROTOCOL
from scopecast.rundir.directory import (
    ENVIRONMENT,
    MAX_SOCKET_PATH,
    ROLES,
    RunDirectory,
    objection,
    runtime_path,
    short_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.doctor.finding import State
    from scopecast.rundir.directory import Entry

__all__ = ["directory_if_usable", "members", "place", "sockets"]

CHECK = "run directory"
_LONGEST_NAME = len("/abcdefgh.sock")


def directory_if_usable() -> RunDirectory | None:
    """Return the run directory if there is one that can be used; none is made."""
    path = runtime_path()
    try:
        return RunDirectory(path) if path.exists() and objection(path) is None else None
    except OSError:
        return None


def place() -> Iterator[Finding]:
    """Look who owns the run directory, and whether it can be written to."""
    path = runtime_path()
    named = f"set {ENVIRONMENT} to a directory of yours"
    if not path.is_absolute():
        message = f"{ENVIRONMENT}={path} is relative: each program would resolve it differently"
        yield Finding(CHECK, "warning", message, "set it to an absolute path")
    try:
        problem = objection(path)
    except FileNotFoundError:
        yield _not_there(path, named)
    except OSError as error:
        yield Finding(CHECK, "broken", f"{path} can't be inspected: {error.strerror}", named)
    else:
        if problem:
            yield Finding(CHECK, "broken", f"{path} {problem}", _fix(path, named))
        elif not os.access(path, os.R_OK | os.W_OK | os.X_OK) or _read_only(path):
            yield Finding(CHECK, "broken", f"{path} can't be written to", _fix(path, named))
        else:
            yield Finding(CHECK, "ok", f"{path}, accessible to you alone")
    yield from _fall_back(path)


def _not_there(path: Path, named: str) -> Finding:
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK) and not _read_only(above):
        return Finding(CHECK, "ok", f"{path}, created when it is first needed")
    return Finding(CHECK, "broken", f"{path} can't be created: {above} is not writable", named)


def _fix(path: Path, named: str) -> str:
    status = path.lstat()
    ours = sys.platform != "win32" and status.st_uid == os.getuid()
    return f"chmod 700 {path}" if ours and stat.S_ISDIR(status.st_mode) and not _read_only(path) else named


def _read_only(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _fall_back(path: Path) -> Iterator[Finding]:
    """Report why another program of this user might use another run directory."""
    if os.environ.get(ENVIRONMENT) or sys.platform != "linux":
        return
    if not (base := os.environ.get("XDG_RUNTIME_DIR")):
        message = f"XDG_RUNTIME_DIR is not set, so {path} is used: programs that have it set don't see these"
        state: State = "warning" if Path(f"/run/user/{os.getuid()}").is_dir() and path.is_relative_to("/tmp") else "ok"
        yield Finding(CHECK, state, message, f"export {ENVIRONMENT} for all of them" if state == "warning" else "")
    elif not Path(base).is_dir():
        message = f"XDG_RUNTIME_DIR is {base}, which does not exist"
        yield Finding(CHECK, "warning", message, f"log in again, unset XDG_RUNTIME_DIR, or export {ENVIRONMENT}")


def sockets() -> Iterator[Finding]:
    """Look whether the paths of sockets are short enough."""
    if sys.platform == "win32":
        return
    path = runtime_path()
    length = len(os.fsencode(path)) + _LONGEST_NAME
    if length <= MAX_SOCKET_PATH:
        return
    shorter = short_path()
    message = (
        f"its path is too long for sockets ({length} bytes of {MAX_SOCKET_PATH}); sockets are in {shorter} instead"
    )
    fix = f"set {ENVIRONMENT} to a directory with a shorter path"
    try:
        problem = objection(shorter)
    except FileNotFoundError:
        problem = None
    except OSError as error:
        problem = f"can't be inspected: {error.strerror}"
    if problem is None and len(os.fsencode(shorter)) + _LONGEST_NAME > MAX_SOCKET_PATH:
        problem = "is too long as well"
    if problem:
        yield Finding(CHECK, "broken", f"{message}, which {problem}", fix)
    else:
        yield Finding(CHECK, "ok", message)


def members() -> Iterator[Finding]:
    """Check which programs are running, in which version, and which have crashed."""
    directory = directory_if_usable()
    if directory is None:
        return
    written = {entry.token: entry for entry in directory.entries()}
    unreadable = sorted(path.name for path in directory.path.glob("????????.json") if path.stem not in written)
    living = [entry for entry in written.values() if directory.alive(entry.token)]
    dead = [entry for entry in written.values() if entry not in living]
    if dead:
        names = ", ".join(sorted(entry.token for entry in dead)[:5])
        message = f"{len(dead)} entr{'y' if len(dead) == 1 else 'ies'} of crashed programs: {names}"
        yield Finding(CHECK, "warning", message, "scopecast clean")
    if unreadable:
        message = f"{unreadable[0]} can't be understood (damaged, or not written by scopecast)"
        yield Finding(CHECK, "warning", message, f"rm {directory.path / unreadable[0]}")
    foreign = [entry for entry in living if entry.protocol not in (0, PROTOCOL)]
    for entry in foreign:
        message = f"{_name(entry)} speaks protocol {entry.protocol}, and this scopecast speaks {PROTOCOL}"
        older = "it" if entry.protocol < PROTOCOL else "this scopecast"
        yield Finding("versions", "warning", message, f"update {older} (pip install -U scopecast) and start it again")
    count = {name: sum(entry.role == role for entry in living) for role, name in ROLES.items()}
    if living:
        shown = ("viewer", "publisher", *(name for name in ("subscriber", "recorder") if count[name]))
        *others, last = (f"{count[name]} {name}{'s' * (count[name] != 1)}" for name in shown)
        yield Finding("who runs", "ok", f"{', '.join(others)} and {last}; `scopecast viewers` lists them")
    else:
        yield Finding("who runs", "ok", "none: no viewer and no publisher is running")


def _name(entry: Entry) -> str:
    return f"the {ROLES[entry.role]} {entry.title or entry.kind!r} (process {entry.pid})"
