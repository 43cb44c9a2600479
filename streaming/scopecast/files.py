"""Files that other programs use at the same time, which Windows has its own rules for.

There a file that is open can be neither renamed nor removed unless each who opened it allows that, which Python's
``open`` does not; antivirus programs and indexers look into every new file. So what is read here is opened in nobody's
way, and what another program's look forbids is tried again. Other systems forbid nothing of this.
"""

from __future__ import annotations

import errno
import os
import sys
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["insist", "is_locked", "open_shared", "remove"]

T = TypeVar("T")
#: How long another program may keep a file that it only looks into.
_BUSY_S = 1.0 if sys.platform == "win32" else 0.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.05

if sys.platform == "win32":
    import _winapi
    import ctypes
    import msvcrt
    from ctypes import wintypes

    _SHARE_ALL = 7  # FILE_SHARE_READ, FILE_SHARE_WRITE, FILE_SHARE_DELETE
    _FAIL_IMMEDIATELY = 1  # LOCKFILE_FAIL_IMMEDIATELY; without LOCKFILE_EXCLUSIVE_LOCK it is a shared one
    _ERROR_LOCK_VIOLATION = 33
    _kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
    _kernel32.LockFileEx.argtypes = (wintypes.HANDLE, *[wintypes.DWORD] * 4, ctypes.c_void_p)
    _kernel32.UnlockFileEx.argtypes = (wintypes.HANDLE, *[wintypes.DWORD] * 3, ctypes.c_void_p)
else:
    import fcntl


def open_shared(path: str | os.PathLike[str]) -> int:
    """Open a file to read it, so that others may write, rename and remove it meanwhile. Return the descriptor.

    Never waits for another program, as opening a pipe would.

    Raises
    ------
    OSError
        If it can't be opened.
    """
    if sys.platform == "win32":
        name = os.fspath(path)
        try:
            handle = _winapi.CreateFile(name, _winapi.GENERIC_READ, _SHARE_ALL, 0, _winapi.OPEN_EXISTING, 0, 0)
        except OSError as error:
            error.filename = name
            raise
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT)
    else:  # noqa: RET505 - mypy looks at each branch for its system
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def is_locked(descriptor: int) -> bool | None:
    """Return whether another holds the lock of an open file; None where the file system does not tell.

    Asked by a shared lock: two who ask at the same time do not take each other for the holder.
    """
    if sys.platform == "win32":
        handle = msvcrt.get_osfhandle(descriptor)
        overlapped = ctypes.create_string_buffer(32)  # all zero: filelock locks the first byte
        if _kernel32.LockFileEx(handle, _FAIL_IMMEDIATELY, 0, 1, 0, overlapped):
            _kernel32.UnlockFileEx(handle, 0, 1, 0, overlapped)
            return False
        return True if ctypes.get_last_error() == _ERROR_LOCK_VIOLATION else None
    else:  # noqa: RET505
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # now: a child that is forked meanwhile has the descriptor too
        except OSError as error:
            return True if error.errno in (errno.EAGAIN, errno.EACCES) else None
        return False


def insist(act: Callable[[], T]) -> T:
    """Return what `act` returns; retry for up to 1 s what Windows refuses as another program has the file open.

    Raises
    ------
    OSError
        What `act` raises in the end. Elsewhere a PermissionError means what it says, and nothing is retried.
    """
    deadline, pause = time.monotonic() + _BUSY_S, _FIRST_PAUSE_S
    while True:
        try:
            return act()
        except PermissionError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def remove(path: Path) -> None:
    """Remove a file if it is there, and see to it where another program looks into it (see `insist`).

    Raises
    ------
    OSError
        If it can't be removed, as a directory.
    """
    insist(lambda: path.unlink(missing_ok=True))
