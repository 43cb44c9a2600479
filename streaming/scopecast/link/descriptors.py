"""How many more files this process may open: libzmq ends the whole process where it gets no descriptor."""

from __future__ import annotations

import errno
import os
import sys
from typing import Final

__all__ = ["are_scarce", "check"]

#: With fewer left than this, no new receiver is let in: ipc_listener.cpp of libzmq takes ENFILE from accept(), and not
#: EMFILE.
_SPARE: Final = 16
_FOR_A_SOCKET: Final = 32  # enough for a socket, its monitor and their context, whose epoll.cpp takes no error


def are_scarce() -> bool:
    """Whether this process may open only a few more files: the lowest free descriptor is close to the limit."""
    if sys.platform == "win32":
        return False
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        lowest = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)
    os.close(lowest)
    return limit != resource.RLIM_INFINITY and lowest >= limit - _SPARE


def check() -> None:
    """Raise OSError unless enough descriptors are left to make a socket of ZeroMQ."""
    taken: list[int] = []
    try:
        taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_FOR_A_SOCKET))
    finally:
        for descriptor in taken:
            os.close(descriptor)
