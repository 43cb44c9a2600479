"""Shared memory by POSIX's shm_open(): Linux, where it can be seen in ``/dev/shm``, and macOS, where it can't.

The standard library's ``SharedMemory`` is not used here. Attaching with it lets a receiver's clean exit, or its failed
``mmap``, unlink the producer's segment (CPython 3.11 and 3.12, and 3.13 on failure even with ``track=False``), and
creating with it reserves no pages, so that a full ``/dev/shm`` kills the producer with SIGBUS at its first write.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from scopecast.errors import SharedMemoryError

__all__ = ["attach", "create", "exists", "free_bytes", "is_whole", "own_bytes", "reserve", "unlink"]

assert sys.platform != "win32"  # type checkers need not look further there

_SHM_DIRECTORY = Path("/dev/shm")  # where Linux shows POSIX shared memory
_LEAST = 4096  # bytes that anything of ours has


def free_bytes() -> int | None:
    """Return the bytes of shared memory that are free, or None where the system does not say (macOS)."""
    if not _SHM_DIRECTORY.is_dir():
        return None
    status = os.statvfs(_SHM_DIRECTORY)
    return status.f_bavail * status.f_frsize


def own_bytes(name: str) -> int | None:
    """Return the bytes of a segment; None for one that is not there, or is another user's."""
    try:
        if _SHM_DIRECTORY.is_dir():
            status = (_SHM_DIRECTORY / name).lstat()
        else:
            descriptor = _shm_open(name, os.O_RDONLY)
            try:
                status = os.fstat(descriptor)
            finally:
                os.close(descriptor)
    except OSError:
        return None
    return status.st_size if status.st_uid == os.getuid() else None


class _Mapping(mmap.mmap):
    """A segment's mapping, which can tell its segment from another one that has taken the name."""

    name = ""
    identity = (0, 0)


def create(name: str, size: int, reserved: int) -> tuple[mmap.mmap, memoryview]:
    """Make a segment of `size` bytes, the first of them reserved, for this user only; see `reserve` for the rest."""
    try:
        descriptor = _shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    except OSError as error:
        raise SharedMemoryError(error.errno, f"cannot create the segment {name}: {error.strerror}") from error
    try:
        os.ftruncate(descriptor, size)  # macOS does so once only, and needs no more: no file system could be full there
        _allocate(descriptor, 0, reserved)
        mapping = _Mapping(descriptor, size)
        mapping.name, mapping.identity = name, _identity(descriptor)
    except BaseException as error:
        with suppress(OSError):
            unlink(name)
        if not isinstance(error, OSError):
            raise
        raise _want(size, error) from error
    finally:
        os.close(descriptor)
    return mapping, memoryview(mapping)


def reserve(mapping: object, start: int, stop: int) -> None:
    """Reserve the bytes of a segment from `start` to `stop`; those that are not reserved must not be touched."""
    assert isinstance(mapping, _Mapping)
    try:
        # No descriptor is kept for this: those of a long run are few.
        descriptor = _shm_open(mapping.name, os.O_RDWR)
        try:
            if _identity(descriptor) != mapping.identity:
                raise FileNotFoundError(errno.ENOENT, "its name now belongs to another segment")
            _allocate(descriptor, start, stop)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _want(stop - start, error) from error


def _allocate(descriptor: int, start: int, stop: int) -> None:
    if hasattr(os, "posix_fallocate"):
        # A hole in a full tmpfs is a SIGBUS at the first touch; reserved, it is an OSError here.
        os.posix_fallocate(descriptor, start, stop - start)


def _identity(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _want(size: int, error: OSError) -> SharedMemoryError:
    free = free_bytes()
    have = f", {free / 2**20:.0f} MiB are free" if free is not None else ""
    hint = "; free /dev/shm, mount it larger, or pass a smaller budget" if error.errno == errno.ENOSPC else ""
    reason = f"needs {size / 2**20:.0f} MiB of shared memory{have}: {error.strerror}{hint}"
    return SharedMemoryError(error.errno, reason)


def attach(name: str) -> tuple[mmap.mmap, memoryview]:
    """Map the whole of an existing segment, so that not even a stray pointer could write to it."""
    try:
        descriptor = _shm_open(name, os.O_RDONLY)
    except OSError as error:
        raise SharedMemoryError(error.errno, f"cannot open the segment {name}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if sys.platform == "linux" and not stat.S_ISREG(status.st_mode):
            raise SharedMemoryError(errno.EINVAL, f"the segment {name} is not a regular file")
        if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
            msg = f"the segment {name} is not private to this user (owner {status.st_uid}, mode {status.st_mode:o})"
            raise SharedMemoryError(errno.EPERM, msg)
        if status.st_size < _LEAST:
            raise SharedMemoryError(errno.EINVAL, f"the segment {name} has only {status.st_size} bytes")
        # Not with MAP_POPULATE: it would make, in the place of its publisher, what that one has not made yet.
        mapping = mmap.mmap(descriptor, status.st_size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
    except SharedMemoryError:
        raise
    except OSError as error:
        raise SharedMemoryError(error.errno, f"cannot map the segment {name}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return mapping, memoryview(mapping)


def is_whole(mapping: object, size: int) -> bool:
    """Return whether all `size` bytes of a mapping are still backed: another program may have truncated the segment."""
    assert isinstance(mapping, mmap.mmap)
    return mapping.size() >= size


def exists(name: str) -> bool:
    """Return whether there is a segment of that name; True also where that can't be told."""
    try:
        os.close(_shm_open(name, os.O_RDONLY))
    except FileNotFoundError:
        return False
    except OSError:  # no descriptor to be had: nothing is known
        return True
    return True


def unlink(name: str) -> bool:
    """Remove the name of a segment; what is mapped stays mapped. Return whether there was such a segment."""
    try:
        import _posixshmem
    except ImportError:
        remove: Any = lambda path: os.unlink(_SHM_DIRECTORY / path.lstrip("/"))  # noqa: E731, PTH108
    else:
        remove = _posixshmem.shm_unlink
    try:
        remove("/" + name)
    except FileNotFoundError:
        return False
    return True


def _shm_open(name: str, flags: int) -> int:
    """Open a segment; the one place that knows the standard library's private module."""
    if sys.platform == "linux":  # where its name may be that of a pipe, which would be waited for
        flags |= os.O_NONBLOCK
    try:
        import _posixshmem
    except ImportError:
        if not _SHM_DIRECTORY.is_dir():
            raise
        return os.open(_SHM_DIRECTORY / name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    descriptor: int = _posixshmem.shm_open("/" + name, flags, mode=0o600)
    return descriptor
