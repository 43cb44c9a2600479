"""A named segment of shared memory: created by its publisher, mapped read-only by its receivers.

The standard library's ``SharedMemory`` is not used on POSIX. Attaching with it lets a receiver's clean exit, or its
failed ``mmap``, unlink the producer's segment (CPython 3.11 and 3.12, and 3.13 on failure even with ``track=False``),
and creating with it reserves no pages, so that a full ``/dev/shm`` kills the producer with SIGBUS at its first write.
"""

from __future__ import annotations

import errno
import mmap
import os
import re
import stat
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast.crashpoints import crash_point
from scopecast.errors import SharedMemoryError

if TYPE_CHECKING:
    from multiprocessing.shared_memory import SharedMemory

__all__ = ["NAME_PATTERN", "Segment", "free_bytes", "unlink_segment"]

#: Every segment of scopecast is named ``{prefix}{token}_{n}``, with the prefix of the backend's class. ``\Z`` because
#: ``$`` would let a trailing newline through.
NAME_PATTERN = re.compile(r"\A[a-z][a-z0-9]{0,14}_[a-z2-7]{8}_[0-9]{1,4}\Z")

PAGE = 4096
_SHM_DIRECTORY = Path("/dev/shm")  # where Linux shows POSIX shared memory


def free_bytes() -> int | None:
    """Return the bytes of shared memory that are free, or None where the system does not say (macOS, Windows)."""
    if not _SHM_DIRECTORY.is_dir():
        return None
    status = os.statvfs(_SHM_DIRECTORY)
    return status.f_bavail * status.f_frsize


def _shm_open(name: str, flags: int) -> int:
    """Open the POSIX segment `name`; the one place that knows the standard library's private module."""
    try:
        import _posixshmem
    except ImportError:
        if not _SHM_DIRECTORY.is_dir():
            raise
        return os.open(_SHM_DIRECTORY / name, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    descriptor: int = _posixshmem.shm_open("/" + name, flags, mode=0o600)
    return descriptor


def unlink_segment(name: str) -> bool:
    """Remove the name of a segment; maps that are open stay valid. Return whether there was such a segment.

    Parameters
    ----------
    name
        A name that matches `NAME_PATTERN`; anything else is refused, because it comes from a file that a dead
        process left.

    Raises
    ------
    ValueError
        If `name` is not a segment name of scopecast.
    """
    if not NAME_PATTERN.match(name):
        msg = f"{name!r} is not the name of a scopecast segment (such as 'napari_abcdefgh_0')"
        raise ValueError(msg)
    if sys.platform == "win32":
        return False  # a named mapping goes with its last handle
    try:
        import _posixshmem
    except ImportError:
        unlink: Any = lambda path: os.unlink(_SHM_DIRECTORY / path.lstrip("/"))  # noqa: E731, PTH108
    else:
        unlink = _posixshmem.shm_unlink
    try:
        unlink("/" + name)
    except FileNotFoundError:
        return False
    return True


class Segment:
    """A mapped segment; made by `create` or `attach`.

    Attributes
    ----------
    name : str
        The name, without the slash that POSIX puts before it.
    size : int
        Bytes that are mapped.
    memory : memoryview
        The mapping, writable only where the segment was created.
    """

    def __init__(self, name: str, size: int, mapping: mmap.mmap | SharedMemory, *, owner: bool) -> None:
        self.name = name
        self.size = size
        self._mapping = mapping
        buffer: Any = mapping if isinstance(mapping, mmap.mmap) else mapping.buf
        self.memory = memoryview(buffer)[:size] if owner else memoryview(buffer)[:size].toreadonly()
        self._unlink = weakref.finalize(self, _unlink_in_process, name, os.getpid()) if owner else None
        if self._unlink is not None:
            # At exit a publisher may still wait for a viewer that it is starting, which is to find the segment. It
            # closes everything after that (see scopecast.opening); finalizers would come first.
            self._unlink.atexit = False

    @classmethod
    def create(cls, name: str, size: int) -> Segment:
        """Make a segment of `size` bytes, all of them reserved and touched, readable by this user only.

        Raises
        ------
        SharedMemoryError
            If there is not enough shared memory (``errno.ENOSPC``), or the name is taken (``errno.EEXIST``).
        """
        if not NAME_PATTERN.match(name):
            msg = f"{name!r} is not a valid segment name: a prefix of at most 15 letters and '_', a token, a number"
            raise ValueError(msg)
        if sys.platform == "win32":
            return cls._create_windows(name, size)
        try:
            descriptor = _shm_open(name, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        except OSError as error:
            raise SharedMemoryError(error.errno, f"cannot create the segment {name}: {error.strerror}") from error
        crash_point("segment-created")
        try:
            if hasattr(os, "posix_fallocate"):
                # A hole in a full tmpfs is a SIGBUS at the first touch; reserved, it is an OSError here.
                os.posix_fallocate(descriptor, 0, size)
            else:
                os.ftruncate(descriptor, size)
            crash_point("segment-reserved")
            mapping = mmap.mmap(descriptor, size)
        except BaseException as error:
            with suppress(OSError):
                unlink_segment(name)
            if not isinstance(error, OSError):
                raise
            free = free_bytes()
            have = f", {free / 2**20:.0f} MiB are free" if free is not None else ""
            hint = "; free /dev/shm, mount it larger, or pass a smaller budget" if error.errno == errno.ENOSPC else ""
            reason = f"needs {size / 2**20:.0f} MiB of shared memory{have}: {error.strerror}{hint}"
            raise SharedMemoryError(error.errno, reason) from error
        finally:
            os.close(descriptor)
        segment = cls(name, size, mapping, owner=True)
        crash_point("segment-mapped")
        # The first write to each page would cost publish() a page fault: 7 to 10 ms for 8 MiB.
        np.copyto(np.frombuffer(segment.memory, np.uint8)[::PAGE], 0)
        return segment

    @classmethod
    def attach(cls, name: str) -> Segment:
        """Map the whole of an existing segment, read-only.

        Raises
        ------
        SharedMemoryError
            If there is no such segment, or it belongs to another user, or others may write to it.
        """
        if not NAME_PATTERN.match(name):
            msg = f"{name!r} is not the name of a scopecast segment"
            raise SharedMemoryError(errno.EINVAL, msg)
        if sys.platform == "win32":
            return cls._attach_windows(name)
        try:
            descriptor = _shm_open(name, os.O_RDONLY)
        except OSError as error:
            raise SharedMemoryError(error.errno, f"cannot open the segment {name}: {error.strerror}") from error
        try:
            status = os.fstat(descriptor)
            if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) & 0o077:
                msg = f"the segment {name} is not this user's alone (owner {status.st_uid}, mode {status.st_mode:o})"
                raise SharedMemoryError(errno.EPERM, msg)
            if status.st_size < PAGE:
                raise SharedMemoryError(errno.EINVAL, f"the segment {name} has only {status.st_size} bytes")
            populate = getattr(mmap, "MAP_POPULATE", 0)
            mapping = mmap.mmap(descriptor, status.st_size, flags=mmap.MAP_SHARED | populate, prot=mmap.PROT_READ)
        except SharedMemoryError:
            raise
        except OSError as error:
            raise SharedMemoryError(error.errno, f"cannot map the segment {name}: {error.strerror}") from error
        finally:
            os.close(descriptor)
        return cls(name, status.st_size, mapping, owner=False)

    @classmethod
    def _create_windows(cls, name: str, size: int) -> Segment:
        from multiprocessing.shared_memory import SharedMemory

        try:
            return cls(name, size, SharedMemory(name=name, create=True, size=size), owner=True)
        except OSError as error:
            raise SharedMemoryError(error.errno, f"cannot create the segment {name}: {error}") from error

    @classmethod
    def _attach_windows(cls, name: str) -> Segment:
        # A named mapping has no owner to ask for: the ring's header (magic, token) is checked instead.
        from multiprocessing.shared_memory import SharedMemory

        try:
            mapping = SharedMemory(name=name)
        except OSError as error:
            raise SharedMemoryError(error.errno, f"cannot open the segment {name}: {error}") from error
        return cls(name, mapping.size, mapping, owner=False)

    @property
    def whole(self) -> bool:
        """Whether every byte of the map is still backed: to touch what another truncated would kill this process."""
        return not isinstance(self._mapping, mmap.mmap) or self._mapping.size() >= self.size

    @property
    def named(self) -> bool:
        """Whether the segment can be found by its name; another may have removed it."""
        if sys.platform == "win32":
            return True
        try:
            os.close(_shm_open(self.name, os.O_RDONLY))
        except FileNotFoundError:
            return False
        except OSError:  # no descriptor to be had: nothing is known
            return True
        return True

    def unlink(self) -> None:
        """Remove the segment's name; what is mapped stays mapped. Only its creator does so, and only once."""
        # Detached and not called: once the interpreter is ending, a finalizer that is called does nothing.
        if self._unlink is not None and (pending := self._unlink.detach()):
            _, unlink, arguments, _ = pending
            unlink(*arguments)

    def close(self) -> None:
        """Unlink where this process created it, and unmap as soon as no array refers to it any more. Idempotent."""
        self.unlink()
        self.memory.release()
        # An array that still looks at the pixels keeps the map: a BufferError here, never a crash there.
        with suppress(BufferError):
            self._mapping.close()


def _unlink_in_process(name: str, pid: int) -> None:
    # A forked child inherits the finalizer; the segment is its parent's.
    if os.getpid() == pid:
        unlink_segment(name)
