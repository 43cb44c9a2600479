"""A run while it is recorded: a folder of two files that only grow, from which its frames can be read at any moment.

``frames`` has the pixels, one plane behind the other. ``index`` has a record for each announcement and each frame, as
the publisher's messages were, with the place of the pixels; the first tells what time it is. A record is written after
its pixels, with its length and a checksum: whatever ends the process, all records but the last are whole, and a last
one that is not is left out.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import shutil
import struct
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import filelock
import msgspec
import numpy as np

from scopecast.errors import ProtocolError
from scopecast.link import messages
from scopecast.protocol import clock_ns
from scopecast_viewers.receiving.saving import UNFINISHED

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy.typing as npt

__all__ = ["Journal", "Recorded", "RecordedFrame", "clock_offset_ns", "read_journal", "unfinished"]

_MAGIC: Final = b"scopecast recording 1\n"
_HEAD: Final = struct.Struct("<II")  # length and checksum of a record
_ALIGNED: Final = 64
_UNITS: Final = {"TB": 1e12, "GB": 1e9, "MB": 1e6, "kB": 1e3}


class RecordedFrame(NamedTuple):
    """A frame of a run.

    Attributes
    ----------
    message
        As its publisher sent it.
    plane
        Its pixels, read-only.
    """

    message: messages.Frame
    plane: npt.NDArray[Any]


class Recorded(NamedTuple):
    """What has been recorded of a run.

    Attributes
    ----------
    announcements
        Of the stream, in order; axes and labels may have joined.
    frames
        In order of their arrival.
    clock_ns
        What is to be added to `scopecast.protocol.clock_ns` for nanoseconds since 1970; 0 if it is not known.
    """

    announcements: list[messages.Stream]
    frames: list[RecordedFrame]
    clock_ns: int = 0

    @property
    def began(self) -> float:
        """When the first of the frames was published, in seconds since 1970."""
        return (min(frame.message.published_ns for frame in self.frames) + (self.clock_ns or clock_offset_ns())) / 1e9


def clock_offset_ns() -> int:
    """Return what is to be added to `scopecast.protocol.clock_ns` for nanoseconds since 1970, until the next boot."""
    return time.time_ns() - clock_ns()


class Journal:
    """The folder of a run, to which frames are added; locked as long as this process lives.

    Parameters
    ----------
    folder
        A folder that is there and empty.
    leave_free
        Bytes of the disk that are left to others: a frame for which there would be less is not written.
    """

    def __init__(self, folder: Path, leave_free: int) -> None:
        self.folder, self._leave_free = folder, leave_free
        self._lock = lock_of(folder)
        self._lock.acquire(timeout=5.0)  # somebody may be asking whether it is held
        self._frames = (folder / "frames").open("ab", buffering=0)
        self._index = (folder / "index").open("ab", buffering=0)
        self._frames_end = self._index_end = 0
        self._announced: messages.Stream | None = None
        self._index_end = self._append(self._index, 0, [_MAGIC])
        self._add(clock_offset_ns(), None)

    @property
    def nbytes(self) -> int:
        """Bytes of pixels."""
        return self._frames_end

    def write(self, about: messages.Stream, frame: messages.Frame, plane: npt.NDArray[Any]) -> None:
        """Add a frame; waits for the disk.

        Raises
        ------
        OSError
            If it can't be written, as where the disk is full; nothing of it is left, and the next one can be tried.
        """
        check_room(self.folder, plane.nbytes, self._leave_free)
        if about is not self._announced:
            self._add(0, about)
            self._announced = about
        offset = -(-self._frames_end // _ALIGNED) * _ALIGNED
        pixels = np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data
        end = self._append(self._frames, self._frames_end, [bytes(offset - self._frames_end), pixels])
        self._add(offset, frame)
        self._frames_end = end  # a frame whose record could not be written is written over

    def _add(self, offset: int, message: messages.Stream | messages.Frame | None) -> None:
        payload = msgspec.msgpack.encode((offset, b"" if message is None else messages.encode(message)))
        head = _HEAD.pack(len(payload), zlib.crc32(payload))
        self._index_end = self._append(self._index, self._index_end, [head, payload])

    @staticmethod
    def _append(file: io.FileIO, end: int, parts: Iterable[bytes | memoryview]) -> int:
        """Write behind `end`, where an attempt that failed may have left something. Return the new end."""
        if file.tell() != end:
            file.truncate(end)
            file.seek(end)
        for part in parts:
            done, whole = 0, memoryview(part)
            while done < len(whole):
                done += file.write(whole[done:])
            end += done
        return end

    def close(self) -> None:
        """Let go of the folder; it stays. Idempotent."""
        self._frames.close()
        self._index.close()
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_room(folder: Path, nbytes: int, leave_free: int) -> None:
    """Raise OSError if so many bytes more would leave too little of a folder's disk free."""
    if (free := shutil.disk_usage(folder).free) - nbytes < leave_free or free < nbytes:
        left = f"{in_bytes(free)} are free, of which {in_bytes(leave_free)} must stay free"
        needed = f"{in_bytes(nbytes)} are needed: " if nbytes else ""
        raise OSError(errno.ENOSPC, f"{needed}{left}", str(folder))


def in_bytes(number: float) -> str:
    """Return a number of bytes as people say it.

    >>> in_bytes(6144), in_bytes(2.5e9), in_bytes(1)
    ('6.1 kB', '2.5 GB', '1 B')
    """
    unit, by = next(((unit, by) for unit, by in _UNITS.items() if number >= by), ("B", 1.0))
    return f"{number / by:.{1 if number / by < 100 and by > 1 else 0}f} {unit}"


def lock_of(folder: Path) -> filelock.BaseFileLock:
    """Return the lock that whoever writes or finishes a journal holds."""
    return filelock.FileLock(folder / "lock", thread_local=False)


def unfinished(folder: Path) -> list[Path]:
    """Return the journals below a folder that nobody works on, the oldest first: their recorder was killed."""
    found = []
    for journal in folder.glob(f"*{UNFINISHED}"):
        if not (journal / "index").exists():  # just made, and not locked yet
            continue
        lock = lock_of(journal)
        with suppress(filelock.Timeout, OSError):
            lock.acquire(timeout=0)
            lock.release()
            found.append(journal)
    return sorted(found, key=lambda path: (path / "lock").stat().st_mtime)


def read_journal(folder: Path) -> Recorded:
    """Return what a journal has. The planes are views of its file, which is read when they are.

    Raises
    ------
    ValueError
        If it is none.
    OSError
        If it can't be read.
    """
    data = (folder / "index").read_bytes()
    if not data.startswith(_MAGIC) and not _MAGIC.startswith(data):
        raise ValueError(f"{folder} is not a recording of scopecast's: its index begins with {data[: len(_MAGIC)]!r}")
    recorded = Recorded([], [])
    offset_ns = 0
    pixels = memoryview(b"")
    with suppress(FileNotFoundError), (folder / "frames").open("rb") as file:
        if os.fstat(file.fileno()).st_size:
            pixels = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    for offset, message in _records(data):
        if message is None:
            offset_ns = offset
            continue
        if isinstance(message, messages.Stream):
            recorded.announcements.append(message)
            continue
        dtype = np.dtype(message.dtype).newbyteorder("=")
        count = math.prod(message.shape)
        if offset + count * dtype.itemsize <= len(pixels):  # where the power failed, the record alone may be there
            plane = np.frombuffer(pixels, dtype, count, offset).reshape(message.shape)
            recorded.frames.append(RecordedFrame(message, plane))
    return recorded._replace(clock_ns=offset_ns)


def _records(data: bytes) -> Iterator[tuple[int, messages.Stream | messages.Frame | None]]:
    """Yield the records of an index up to the first that is not whole; None with the offset of the clock."""
    at = len(_MAGIC)
    while at + _HEAD.size <= len(data):
        length, checksum = _HEAD.unpack_from(data, at)
        payload = data[at + _HEAD.size : at + _HEAD.size + length]
        at += _HEAD.size + length
        if len(payload) != length or zlib.crc32(payload) != checksum:
            return
        offset, encoded = msgspec.msgpack.decode(payload)
        if not encoded:
            yield offset, None
            continue
        try:
            message = messages.decode_from_publisher(encoded)
        except ProtocolError:  # of a later version
            continue
        if isinstance(message, messages.Stream | messages.Frame):
            yield offset, message
