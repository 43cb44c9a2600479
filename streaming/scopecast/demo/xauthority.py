"""The cookie of a virtual screen: its file, the message that presents it, and leftovers of crashed programs.

The folder of the file has a lock beside it, which the server holds for as long as it lives: a process that is killed
can't remove its folder, and whoever starts the next screen does, or ``scopecast clean``.
"""

import contextlib
import os
import secrets
import stat
import struct
import sys
import tempfile
import time
from pathlib import Path

__all__ = ["clean_authorities", "remove_authority", "setup_request", "write_authority"]

_PREFIX = "scopecast-screen-"
_FILE, _LOCK = "Xauthority", "lock"
_COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
_COOKIE_BYTES = 16
_ANY_DISPLAY = 0xFFFF  # FamilyWild of Xauth.h: the server chooses its number itself
#: A folder that is not complete has so many seconds to be.
_NEW_S = 60.0


def write_authority() -> tuple[Path, bytes, int]:
    """Write a new cookie to a file that only this user can read, in the format of Xau (X11's ``Xauth.h``).

    Returns
    -------
    path : pathlib.Path
        The file.
    cookie : bytes
        The cookie.
    held : int
        A descriptor that holds the folder's lock; to be passed on to the server, and closed.
    """
    if sys.platform == "win32":
        raise OSError("Windows has no X server")
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    held = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _lock(held)
        cookie = secrets.token_bytes(_COOKIE_BYTES)
        record = struct.pack(">H", _ANY_DISPLAY)
        for field in (b"", b"", _COOKIE_NAME, cookie):  # address, number of the display, kind of the cookie, the cookie
            record += struct.pack(">H", len(field)) + field
        path = folder / _FILE
        path.touch(mode=0o600)
        path.write_bytes(record)
    except BaseException:
        os.close(held)
        remove_authority(folder / _FILE)
        raise
    return path, cookie, held


def remove_authority(path: Path) -> None:
    """Remove the file of a cookie and its folder."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
        (path.parent / _LOCK).unlink(missing_ok=True)
        path.parent.rmdir()


def clean_authorities() -> list[Path]:
    """Remove the folders of screens whose server is gone; never those of the living, or of other users.

    Returns
    -------
    list of pathlib.Path
        The folders that were removed.
    """
    if sys.platform == "win32":
        return []
    removed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another cleaner was quicker
            status = folder.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and _is_abandoned(folder, status):
                remove_authority(folder / _FILE)
                if not folder.exists():
                    removed.append(folder)
    return removed


def _is_abandoned(folder: Path, status: os.stat_result) -> bool:
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        # Just made, or its owner was killed in that moment; or a cookie of version 0.1.0, whose server can't be asked.
        return not (folder / _FILE).exists() and time.time() - status.st_mtime > _NEW_S  # file systems have wall time
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    # One that was made a moment ago, and is about to be locked.
    return (folder / _FILE).exists() or time.time() - status.st_mtime > _NEW_S


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def setup_request(cookie: bytes) -> bytes:
    r"""Return the first message of an X11 client (protocol 11.0, section 8: connection setup).

    >>> setup_request(bytes(16))[:2]
    b'l\x00'
    """
    head = struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(_COOKIE_NAME), len(cookie))
    return head + _COOKIE_NAME + bytes(-len(_COOKIE_NAME) % 4) + cookie + bytes(-len(cookie) % 4)
