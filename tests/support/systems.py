"""What not every system has, by the names that tests give it in ``@pytest.mark.needs("fork")``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from pathlib import Path

import numpy as np
import pytest

__all__ = ["HAS", "skip_without"]

_POSIX = os.name == "posix"

#: Whether this machine has it; what is missing is the reason for which a test is skipped.
HAS = {
    "/dev/shm": sys.platform == "linux" and Path("/dev/shm").is_dir(),
    "a shell": _POSIX,
    "a user to switch to": getattr(os, "geteuid", lambda: 1)() == 0,
    "file modes": _POSIX,
    "fork": hasattr(os, "fork"),
    "long doubles": np.dtype("longdouble").itemsize > np.dtype("double").itemsize,
    "junctions": sys.platform == "win32",
    "limits of memory": sys.platform == "linux",
    "links": _POSIX,  # on Windows for administrators only
    "named pipes": hasattr(os, "mkfifo"),
    "names with any character": _POSIX,
    "positioned writes": hasattr(os, "pwrite"),
    "removal of open files": _POSIX,
    "removal of segments": _POSIX,
    "sessions": hasattr(os, "setsid"),
    "signals": _POSIX,
    "sshd": _POSIX and None not in map(shutil.which, ("ssh", "ssh-keygen", "/usr/sbin/sshd")),  # openssh-server
    "stopped processes": hasattr(signal, "SIGSTOP"),
    "unix sockets": hasattr(socket, "AF_UNIX"),
}


def skip_without(item: pytest.Item) -> None:
    """Skip a test for what its markers say that it needs, where this system has no such thing."""
    for marker in item.iter_markers("needs"):
        if missing := [name for name in marker.args if not HAS[name]]:
            pytest.skip(f"{sys.platform} has no such thing here: {', '.join(missing)}")
