"""The shared memory: whether there is enough, and whether crashed programs still hold some."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scopecast.doctor.finding import Finding, mib
from scopecast.doctor.rundirectory import directory_if_usable
from scopecast.doctor.system import container
from scopecast.memory.ring import MAX_BYTES, MIN_BYTES, plan_layout
from scopecast.memory.segment import NAME_PATTERN

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["leftovers", "size"]

CHECK = "shared memory"
_SHM = Path("/dev/shm")
_SHARE = 4  # a ring takes at most this part of what is free
_TYPICAL = 2048 * 2048 * 2  # bytes of a camera's frame


def size(shm: Path = _SHM) -> Iterator[Finding]:
    """Look whether a ring fits into the shared memory."""
    if sys.platform != "linux":
        yield Finding(CHECK, "ok", "this system sets no separate limit on shared memory")
        return
    if not shm.is_dir():
        yield Finding(CHECK, "broken", f"there is no {shm}", f"sudo mount -t tmpfs -o mode=1777 tmpfs {shm}")
        return
    if not os.access(shm, os.W_OK | os.X_OK):
        yield Finding(CHECK, "broken", f"{shm} can't be written to", f"sudo chmod 1777 {shm}")
        return
    status = os.statvfs(shm)
    total, free = status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize
    ring = min(MAX_BYTES, free // _SHARE)
    room = f"{shm} has {mib(total)}, {mib(free)} of it free"
    if plan_layout(_TYPICAL, ring) is None:
        message = f"{room}: too little for frames of 2048x2048 pixels, which need {mib(_SHARE * 3 * _TYPICAL)} free"
        yield Finding(CHECK, "broken", message, _larger(total, free, shm))
    elif ring < MIN_BYTES:
        message = f"{room}: a publisher may take {mib(ring)}, and should have {mib(MIN_BYTES)} or more"
        yield Finding(CHECK, "warning", message, _larger(total, free, shm))
    else:
        yield Finding(CHECK, "ok", f"{room}; a publisher takes up to {mib(ring)}")


def _larger(total: int, free: int, shm: Path) -> str:
    if total >= 2 * _SHARE * MIN_BYTES and free < total // 2:
        return f"scopecast clean; then see what fills it: ls -lS {shm}"
    if container():
        return "start the container with more: docker run --shm-size=2g … (compose: shm_size: 2g)"
    return f"sudo mount -o remount,size=2G {shm}"


def leftovers(shm: Path = _SHM) -> Iterator[Finding]:
    """Look for segments of programs that were killed."""
    if sys.platform != "linux" or not shm.is_dir():
        return
    mine = {path.name: size for path in shm.iterdir() if (size := _own_size(path)) is not None}
    directory = directory_if_usable()
    owners = {entry.token: directory.alive(entry.token) for entry in directory.entries()} if directory else {}
    dead = [name for name in mine if owners.get(name.split("_")[-2]) is False]
    strange = [name for name in mine if name.split("_")[-2] not in owners]
    orphans = sorted(set(strange) - _mapped()) if strange else []
    if dead:
        held = mib(sum(mine[name] for name in dead))
        yield Finding(
            CHECK, "warning", f"{held} are held by {len(dead)} segments of crashed programs", "scopecast clean"
        )
    if orphans:
        held = mib(sum(mine[name] for name in orphans))
        message = f"{held} are held by unused segments that no current run directory lists: {orphans[0]}"
        more = f" and {len(orphans) - 1} more" if len(orphans) > 1 else ""
        command = "rm " + " ".join(str(shm / name) for name in orphans)
        yield Finding(CHECK, "warning", message + more, command)
    if not dead and not orphans:
        living = len(mine)
        what = (
            "no segment"
            if not living
            else f"{living} segment{'s' * (living > 1)}, all in use, {mib(sum(mine.values()))}"
        )
        yield Finding(CHECK, "ok", f"no leftovers of crashed programs ({what})")


def _own_size(path: Path) -> int | None:
    """Return the bytes of a segment of scopecast's and this user's; None for anything else."""
    if sys.platform == "win32":
        return None
    if not NAME_PATTERN.match(path.name):
        return None
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size if status.st_uid == os.getuid() else None


def _mapped() -> set[str]:
    """Return the names of what processes of this user have mapped of /dev/shm."""
    names: set[str] = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            maps = (entry / "maps").read_text(errors="replace")
        except OSError:
            continue  # ended, or another user's: ours are mode 0600
        names.update(re.findall(r"/dev/shm/(\S+)", maps))
    return names
