"""Shared memory by Windows' named mappings, through the standard library.

A named mapping has no file, no owner to ask for, and no name to remove: it goes with its last handle. Its pages come
from the page file and are committed when it is made, so that want of memory is an error there and not a crash later.
Its name counts within the user's session, and the access list that Windows gives it lets in that user and SYSTEM only.
Beyond that, receivers trust the token in the ring's header.

Nothing here is particular to Windows' Python: the tests run it on Linux.
"""

from __future__ import annotations

import errno
import sys
from contextlib import suppress
from multiprocessing.shared_memory import SharedMemory
from typing import Any

from scopecast.errors import SharedMemoryError

__all__ = ["attach", "create", "exists", "free_bytes", "is_whole", "own_bytes", "reserve", "unlink"]

#: Nobody else is to remove a segment at exit.
_UNTRACKED: dict[str, Any] = {"track": False} if sys.version_info >= (3, 13) else {}


class _NamedMapping(SharedMemory):
    """A mapping that may be dropped while arrays still refer to it: they keep the memory alive."""

    def view(self) -> memoryview:
        """Return all of it."""
        assert self.buf is not None  # before close()
        return memoryview(self.buf)

    def __del__(self) -> None:
        with suppress(BufferError, OSError):
            self.close()


def free_bytes() -> int | None:
    """Return None: the system does not say, as the page file grows."""
    return None


def own_bytes(name: str) -> int | None:
    """Return the bytes of a segment, rounded up to pages; None for one that is not there."""
    try:
        mapping, memory = attach(name)
    except SharedMemoryError:
        return None
    size = memory.nbytes
    memory.release()
    mapping.close()
    return size


def create(name: str, size: int, reserved: int) -> tuple[SharedMemory, memoryview]:
    """Make a segment of `size` bytes, all of them committed."""
    try:
        mapping = _NamedMapping(name=name, create=True, size=size, **_UNTRACKED)
    except FileExistsError as error:
        raise SharedMemoryError(errno.EEXIST, f"cannot create the segment {name}: the name is taken") from error
    except OSError as error:
        reason = f"needs {size / 2**20:.0f} MiB of shared memory: {error.strerror}; pass a smaller budget"
        raise SharedMemoryError(error.errno or errno.ENOMEM, reason) from error
    return mapping, mapping.view()


def reserve(mapping: object, start: int, stop: int) -> None:
    """Do nothing: all of it is committed."""


def attach(name: str) -> tuple[SharedMemory, memoryview]:
    """Map the whole of an existing segment; read-only for Python, though not for the processor."""
    try:
        mapping = _NamedMapping(name=name, **_UNTRACKED)
    except (OSError, ValueError) as error:  # ValueError: it has no bytes
        number = getattr(error, "errno", None) or errno.EINVAL
        raise SharedMemoryError(number, f"cannot open the segment {name}: {error}") from error
    return mapping, mapping.view().toreadonly()


def is_whole(mapping: object, size: int) -> bool:
    """Return True: nobody can make a named mapping shorter."""
    return True


def exists(name: str) -> bool:
    """Return True: a name is there as long as its creator's mapping is."""
    return True


def unlink(name: str) -> bool:
    """Return False: there is no name to remove."""
    return False
