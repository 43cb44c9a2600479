"""The scratch file: a disk's worth of older planes.

One temporary file without a name, so that nothing is left behind whatever ends the process, not even SIGKILL. It is
made by the first write. Room in it is given out in whole pages, first fit; freed neighbours are joined, so that a
stream of larger planes can use what a stream of smaller ones has left.

Threads: any may call anything. `_lock` guards the bookkeeping and is never held during I/O, so `free`, which the
receiver thread calls when a plane is replaced, never waits for the disk. `_writing` (taken before `_lock`) is held
during a write; it keeps `trim` from cutting off what is just being written. Reads hold neither: whoever may free an
extent while another thread reads it must check afterwards that the extent was still its own (`History.read` does).
"""

from __future__ import annotations

import bisect
import errno
import os
import shutil
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np
import psutil

from scopecast_viewers.stacks.pages import GiB, whole_pages

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

    import numpy.typing as npt

FULL: Final = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


class Extent(NamedTuple):
    """Where in the scratch file a plane lies."""

    offset: int  # bytes from the file's start
    nbytes: int  # bytes of pixels


class Scratch:
    """An unnamed temporary file that holds planes.

    Use it as a context manager or call `close`.

    Parameters
    ----------
    limit : int
        The file grows to this many bytes at most; and to no more than half of what is free on its disk when it is
        made, because the acquisition may well be saving its data there. Default 8 GiB.
    directory : Path, optional
        Where the file lies. Default: the directory for temporary files, or, where that is kept in memory (a tmpfs)
        and TMPDIR is not set, ``/var/tmp``.
    """

    def __init__(self, limit: int = 8 * GiB, directory: Path | None = None) -> None:
        if limit < 0:
            raise ValueError(f"limit is a number of bytes, not {limit}")
        self._limit = limit
        self._directory = directory
        self._file: io.FileIO | None = None
        self._users = 0  # threads that are reading or writing the file
        self._closed = False
        self._end = 0  # bytes of the file given out so far
        self._holes: list[tuple[int, int]] = []  # offset, bytes; sorted; never adjacent to each other or to the end
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._seeking = threading.Lock()  # only where the system has no positioned reads and writes (Windows)

    @property
    def limit(self) -> int:
        """Bytes that the file may take at most; may become smaller with the first write, see the class."""
        return self._limit

    @property
    def used(self) -> int:
        """Bytes of the file that hold planes, in whole pages."""
        with self._lock:
            return self._end - sum(size for _, size in self._holes)

    def write(self, plane: npt.NDArray[Any]) -> Extent | None:
        """Write a plane; waits for the disk.

        Parameters
        ----------
        plane : ndarray
            Pixels of any shape and dtype without Python objects.

        Returns
        -------
        Extent or None
            Where it lies, to be freed by `free`; None if the limit is reached or the disk is full.

        Raises
        ------
        OSError
            If the file cannot be made or written for any other reason, or the scratch file is closed.
        """
        pixels = np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data
        with self._writing, self._open(create=True) as file:
            extent = self._allocate(pixels.nbytes)
            if extent is None:
                return None
            done = 0
            try:
                while done < extent.nbytes:
                    done += self._write_at(file, pixels[done:], extent.offset + done)
            except OSError as error:
                self.free(extent)
                if error.errno in FULL:
                    return None
                raise
        return extent

    def read(self, extent: Extent, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Read a plane back; waits for the disk.

        Parameters
        ----------
        extent : Extent
            What `write` returned.
        shape, dtype
            The plane's.

        Returns
        -------
        ndarray
            A new read-only array.

        Raises
        ------
        ValueError
            If an array of this shape and dtype does not have the extent's size.
        OSError
            If the file ends within the extent, cannot be read, or is closed.
        """
        plane: npt.NDArray[Any] = np.empty(shape, dtype)
        if plane.nbytes != extent.nbytes:
            raise ValueError(f"a plane of {shape}, {plane.dtype} has {plane.nbytes} bytes, the extent {extent.nbytes}")
        pixels = plane.reshape(-1).view(np.uint8).data
        done = 0
        with self._open() as file:
            while done < extent.nbytes:
                got = self._read_at(file, pixels[done:], extent.offset + done)
                if got == 0:
                    raise OSError(
                        errno.EIO,
                        f"the scratch file is truncated: it ends at byte {extent.offset + done}, within a plane of "
                        f"{extent.nbytes} bytes at {extent.offset}",
                    )
                done += got
        plane.flags.writeable = False
        return plane

    def free(self, extent: Extent) -> None:
        """Let the room of a plane be used again; never waits for the disk.

        Parameters
        ----------
        extent : Extent
            What `write` returned, once.
        """
        size = whole_pages(extent.nbytes)
        if size == 0:
            return
        with self._lock:
            start, stop = extent.offset, extent.offset + size
            at = bisect.bisect(self._holes, (start, size))
            if at < len(self._holes) and self._holes[at][0] == stop:
                stop += self._holes.pop(at)[1]
            if at > 0 and sum(self._holes[at - 1]) == start:
                start = self._holes.pop(at - 1)[0]
                at -= 1
            if stop == self._end:
                self._end = start
            else:
                self._holes.insert(at, (start, stop - start))

    def trim(self) -> None:
        """Give the disk back what lies behind the last plane, if anything; waits for the disk, and for a write.

        Raises
        ------
        OSError
            If the file cannot be cut or is closed.
        """
        if self._file is None:
            return
        with self._writing, self._open() as file:
            with self._lock:
                end = self._end
            if os.fstat(file.fileno()).st_size > end:
                file.truncate(end)

    def close(self) -> None:
        """Drop the file and all that it holds. Idempotent.

        Never waits: where a thread is inside a read or write, that thread closes the file after it.
        """
        with self._lock:
            self._closed = True
            self._close_unused()

    def _close_unused(self) -> None:
        # A file closed under a thread that is reading it would let that thread read whatever file gets its number next.
        if self._closed and self._users == 0 and self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def _open(self, *, create: bool = False) -> Iterator[io.FileIO]:
        if create and self._file is None and not self._closed:
            self._make()
        with self._lock:
            if self._closed or self._file is None:
                raise OSError(
                    errno.EBADF, "the scratch file is closed" if self._closed else "the scratch file is empty"
                )
            file = self._file
            self._users += 1
        try:
            yield file
        finally:
            with self._lock:
                self._users -= 1
                self._close_unused()

    def _make(self) -> None:
        # Called with `_writing` held, so by one thread at a time.
        directory = self._directory or default_directory()
        free = shutil.disk_usage(directory).free
        # On Windows it is wrapped, to be removed when it is closed; it can do the same.
        made: Any = tempfile.TemporaryFile(buffering=0, prefix="scopecast-", dir=directory)  # noqa: SIM115 (close() does)
        file: io.FileIO = made
        with self._lock:
            self._limit = min(self._limit, free // 2)
            self._file = file
            self._close_unused()

    def _allocate(self, nbytes: int) -> Extent | None:
        size = whole_pages(nbytes)
        if size == 0:
            return Extent(0, 0)
        with self._lock:
            for at, (offset, room) in enumerate(self._holes):
                if room >= size:
                    if room == size:
                        del self._holes[at]
                    else:
                        self._holes[at] = (offset + size, room - size)
                    return Extent(offset, nbytes)
            if self._end + size > self._limit:
                return None
            offset = self._end
            self._end += size
            return Extent(offset, nbytes)

    def _write_at(self, file: io.FileIO, pixels: memoryview, offset: int) -> int:
        if hasattr(os, "pwrite"):
            return int(os.pwrite(file.fileno(), pixels, offset))
        with self._seeking:
            file.seek(offset)
            return file.write(pixels)

    def _read_at(self, file: io.FileIO, pixels: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return int(os.preadv(file.fileno(), [pixels], offset))
        with self._seeking:
            file.seek(offset)
            return file.readinto(pixels) or 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _in_memory(directory: Path) -> bool:
    where = directory.resolve()
    mounts = {Path(part.mountpoint): part.fstype for part in psutil.disk_partitions(all=True)}
    mount = next((parent for parent in (where, *where.parents) if parent in mounts), None)
    return mount is not None and mounts[mount] in {"tmpfs", "ramfs"}


def default_directory() -> Path:
    """Return where the scratch file goes unless told otherwise: where temporary files go, if that is on a disk.

    Returns
    -------
    Path
        An existing directory.
    """
    # Many Linux systems keep /tmp in memory: planes put there to spare the memory would stay in it.
    usual, large = Path(tempfile.gettempdir()), Path("/var/tmp")
    chosen = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    if not chosen and sys.platform == "linux" and _in_memory(usual) and os.access(large, os.W_OK):
        return large
    return usual
