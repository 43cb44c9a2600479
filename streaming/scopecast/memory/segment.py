"""A named segment of shared memory: created by its publisher, mapped read-only by its receivers.

How the system does that is the matter of `scopecast.memory.posix` and, on Windows, `scopecast.memory.windows`.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import weakref
from contextlib import suppress
from typing import Protocol

import numpy as np

from scopecast.errors import SharedMemoryError

if sys.platform == "win32":
    from scopecast.memory import windows as system
else:
    from scopecast.memory import posix as system

__all__ = ["NAME_PATTERN", "Segment", "free_bytes", "own_bytes", "unlink_segment"]

#: Every segment of scopecast is named ``{prefix}{token}_{n}``, with the prefix of the backend's class; `n` is a number,
#: or four random letters and digits where that was taken. ``\Z`` because ``$`` would let a trailing newline through.
NAME_PATTERN = re.compile(r"\A[a-z][a-z0-9]{0,14}_[a-z2-7]{8}_[0-9a-z]{1,4}\Z")

PAGE = 4096


def free_bytes() -> int | None:
    """Return the bytes of shared memory that are free, or None where the system does not say (macOS, Windows)."""
    return system.free_bytes()


def own_bytes(name: str) -> int | None:
    """Return the bytes of the segment `name`; None where there is none, or it is another user's."""
    return system.own_bytes(name) if NAME_PATTERN.match(name) else None


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
    return system.unlink(name)


class _Mapping(Protocol):
    """The system's mapping, which can be closed unless an array still refers to it (BufferError)."""

    def close(self) -> None: ...


class Segment:
    """A mapped segment; made by `create` or `attach`.

    Attributes
    ----------
    name : str
        The name, without the slash that POSIX puts before it.
    size : int
        Bytes that are mapped.
    reserved : int
        The first so many of them are backed by memory; where the segment was attached, all.
    memory : memoryview
        The mapping, writable only where the segment was created.
    """

    def __init__(self, name: str, size: int, mapping: _Mapping, memory: memoryview, *, owner: bool) -> None:
        self.name = name
        self.size = self.reserved = size
        self._mapping = mapping
        self.memory = memory[:size] if owner else memory[:size].toreadonly()
        self._unlink = weakref.finalize(self, _unlink_in_process, name, os.getpid()) if owner else None
        if self._unlink is not None:
            # At exit a publisher may still wait for a viewer that it is starting, which is to find the segment. It
            # closes everything after that (see scopecast.publishing.session); finalizers would come first.
            self._unlink.atexit = False

    @classmethod
    def create(cls, name: str, size: int, reserved: int | None = None, tail: int = 0) -> Segment:
        """Make a segment of `size` bytes, readable by this user only.

        Parameters
        ----------
        name
            Its name, which matches `NAME_PATTERN`.
        size
            Its bytes.
        reserved
            How many of them to reserve and touch now, in whole pages; all by default. See `reserve` for the others.
        tail
            How many at the end to reserve and touch now, in whole pages.

        Raises
        ------
        SharedMemoryError
            If there is not enough shared memory (``errno.ENOSPC``), or the name is taken (``errno.EEXIST``).
        """
        if not NAME_PATTERN.match(name):
            msg = f"{name!r} is not a valid segment name: a prefix of at most 15 letters and '_', a token, a number"
            raise ValueError(msg)
        first = size if reserved is None else reserved
        segment = cls(name, size, *system.create(name, size, first), owner=True)
        segment.reserved = first
        segment._touch(0, first)
        if tail and first < size:
            try:
                system.reserve(segment._mapping, size - tail, size)
            except BaseException:
                segment.close()
                raise
            segment._touch(size - tail, size)
        return segment

    def reserve(self, stop: int) -> None:
        """Reserve and touch all bytes before `stop`, which nothing may touch before that.

        Raises
        ------
        SharedMemoryError
            If there is not enough shared memory; what was reserved before stays so.
        """
        system.reserve(self._mapping, self.reserved, stop)
        self._touch(self.reserved, stop)
        self.reserved = stop

    def _touch(self, start: int, stop: int) -> None:
        # The first write to each page would cost publish() a page fault: 7 to 10 ms for 8 MiB.
        np.copyto(np.frombuffer(self.memory, np.uint8)[start:stop:PAGE], 0)

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
        mapping, memory = system.attach(name)
        return cls(name, memory.nbytes, mapping, memory, owner=False)

    @property
    def whole(self) -> bool:
        """Whether every byte of the mapping is still backed: touching what another truncated kills this process."""
        return system.is_whole(self._mapping, self.size)

    @property
    def named(self) -> bool:
        """Whether the segment can be found by its name; another may have removed it."""
        return system.exists(self.name)

    def unlink(self) -> None:
        """Remove the segment's name; what is mapped stays mapped. Only its creator does so, and only once."""
        # Detached and not called: once the interpreter is ending, a finalizer that is called does nothing.
        if self._unlink is not None and (pending := self._unlink.detach()):
            _, unlink, arguments, _ = pending
            unlink(*arguments)

    def close(self) -> None:
        """Unlink where this process created it, and unmap as soon as no array refers to it any more. Idempotent."""
        self.unlink()
        # An array that still looks at the pixels keeps the map: a BufferError here, never a crash there.
        with suppress(BufferError):
            self.memory.release()
            self._mapping.close()


def _unlink_in_process(name: str, pid: int) -> None:
    # A forked child inherits the finalizer; the segment is its parent's.
    if os.getpid() == pid:
        unlink_segment(name)
