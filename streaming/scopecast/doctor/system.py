"""What the system allows: open files, how frames are copied, and what is special about containers and WSL."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scopecast.doctor.finding import Finding
from scopecast.memory import copying

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["container", "copies", "descriptors", "machine"]

#: Descriptors that a publisher or a viewer of a few publishers takes, besides those of its program.
_NEEDED, _COMFORTABLE = 64, 256


def container() -> str:
    """Return what kind of container this is (``"docker"``, ``"podman"``, …), or ``""``."""
    if Path("/.dockerenv").exists():
        return "docker"
    if Path("/run/.containerenv").exists():
        return "podman"
    with suppress(OSError):
        # systemd and others tell the first process; it can be read by root only.
        for setting in Path("/proc/1/environ").read_bytes().split(b"\0"):
            if setting.startswith(b"container="):
                return setting.partition(b"=")[2].decode(errors="replace")
    with suppress(OSError):
        text = Path("/proc/1/cgroup").read_text(errors="replace")
        return next((name for name in ("docker", "kubepods", "lxc", "containerd") if name in text), "")
    return ""


def machine() -> Iterator[Finding]:
    """Tell of containers and WSL, whose windows and shared memory differ."""
    if sys.platform != "linux":
        if sys.platform == "win32":
            yield Finding(
                "system", "warning", "not tested on Windows yet; frames go through named shared memory and tcp"
            )
        return
    release = os.uname().release.lower()
    if "microsoft" in release:
        if "wsl2" not in release and "standard" not in release:
            message = "this is WSL 1, which has no shared memory that Windows and Linux programs could rely on"
            yield Finding("system", "warning", message, "wsl --set-version DISTRIBUTION 2")
        elif not Path("/mnt/wslg").is_dir():
            message = "this is WSL without WSLg, so no window can open"
            yield Finding("system", "warning", message, "wsl --update, and then wsl --shutdown")
        else:
            yield Finding("system", "ok", "WSL 2 with WSLg; programs on the Windows side don't see these")
    elif name := container():
        message = f"a container ({name}): programs outside it don't see those inside"
        yield Finding("system", "ok", message)


def descriptors() -> Iterator[Finding]:
    """Look how many files and sockets a process may have open."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _COMFORTABLE:
        yield Finding("open files", "ok", f"{'any number' if soft == resource.RLIM_INFINITY else soft} per process")
        return
    reach = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    raised = hard == resource.RLIM_INFINITY or hard >= _COMFORTABLE
    fix = (
        f"ulimit -n {min(4096, hard) if hard != resource.RLIM_INFINITY else 4096}"
        if raised
        else (f"ask for the system's limit to be raised (it is {reach}; /etc/security/limits.conf)")
    )
    if soft < _NEEDED:
        message = f"a process may open {soft} files; a publisher or viewer needs {_NEEDED}"
        yield Finding("open files", "broken", message, fix)
    else:
        message = f"a process may open {soft} files; a viewer of many publishers needs {_COMFORTABLE}"
        yield Finding("open files", "warning", message, fix)


def copies() -> Iterator[Finding]:
    """Tell whether frames are copied in the fastest way."""
    if copying.how() == "by numpy" and copying.is_for(platform.machine()):
        message = f"large frames are copied by numpy, which takes 1.5 times as long: {copying.problem}"
        fix = "install a C compiler and Python's headers (Debian: gcc, python3-dev), then reinstall scopecast"
        yield Finding("copying", "warning", message, fix)
    else:
        yield Finding("copying", "ok", f"large frames are copied {copying.how()}")
