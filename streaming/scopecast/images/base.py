"""Image files, plane by plane: what is in them, where each plane belongs, how large a pixel is.

Files are read with ``read`` and ``pread``, never mapped into memory: another program may cut a file short at any
moment, and a page of a mapping that lies past the end kills the process that touches it (SIGBUS). No more than one
plane is in memory at a time. The formats are in `scopecast.images.tiffs` and
`scopecast.images.pictures`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import re
import stat
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from scopecast.errors import FileError, IncompleteFileError, ScopecastError, UnreadableFileError
from scopecast.files import open_shared
from scopecast.frames.axes import axis_name
from scopecast.images.about import MOST_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    import numpy.typing as npt

    from scopecast.images.about import About

__all__ = [
    "FilePlane",
    "ImageFile",
    "Sight",
    "check_memory",
    "check_regular",
    "common_folder",
    "extension_of",
    "name_axes",
    "natural_key",
    "need",
    "open_regular",
    "read_exactly",
    "reading",
]

# Where a file has axes that it does not name; the same guess as for arrays, see scopecast.frames.arrays.
_GUESSES: Final = {1: ("z",), 2: ("t", "z"), 3: ("t", "c", "z"), 4: ("p", "t", "c", "z")}


#: Bytes of one read: macOS refuses 2 GiB and more.
MOST_AT_ONCE = 1 << 30
_SMALL: Final = 1 << 26  # bytes that any machine has
_SPECIAL: Final = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class FilePlane(NamedTuple):
    """One read of a file: nearly always one plane.

    Attributes
    ----------
    array : numpy.ndarray
        (y, x), (y, x, 3 or 4), or what `dims` says.
    axes : dict of str to int or str
        Where it belongs among the file's planes.
    dims : tuple of str or None
        The names of the array's dimensions, where they are not the usual ones.
    metadata : dict
        What the file says of it: when, where and how it was recorded.
    """

    array: npt.NDArray[Any]
    axes: Mapping[str, int | str]
    dims: tuple[str, ...] | None = None
    metadata: Mapping[str, Any] = {}


class Sight(NamedTuple):
    """What a file looked like at one moment; if it looks different, its content has changed.

    Attributes
    ----------
    size
        In bytes; -1 if there is no file.
    changed_ns
        When its content was changed, in nanoseconds since the epoch.
    file
        Its number in the file system: another one was renamed into its place.
    """

    size: int
    changed_ns: int
    file: int

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Sight:
        """Look at a file."""
        try:
            status = os.stat(path)  # noqa: PTH116 - strings too, and many of them
        except OSError:
            return cls(-1, 0, 0)
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


class ImageFile(ABC):
    """An image file that is open; a context manager.

    Attributes
    ----------
    path : Path
    about : About
        Its axes, channels and pixel size.
    """

    path: Path
    about: About

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of reads that it takes."""

    def read(self, number: int) -> FilePlane | None:
        """Read a plane.

        Parameters
        ----------
        number
            From 0 to ``len(self) - 1``, in the order of the file's axes.

        Returns
        -------
        FilePlane or None
            None where the file has a gap.

        Raises
        ------
        IncompleteFileError
            If the file ends before the plane does.
        FileError
            If it can't be decoded.
        """
        with reading():
            plane = self._read(number)
        if plane is None:
            return None
        if not plane.array.size:
            raise FileError("it has no pixels")
        try:
            with reading():
                return plane._replace(metadata=self._metadata_of(number))
        except FileError:  # what can't be read of it keeps no pixels from being shown
            return plane

    def time_s(self, number: int) -> float | None:
        """Return when a plane was recorded, in seconds since the recording began; None if the file does not say."""
        with reading():
            time = self._time_s(number)
        # Also whole numbers of hundreds of digits, which JSON may have; and NaN is not within, either.
        return time if time is not None and abs(time) <= MOST_SECONDS else None

    @abstractmethod
    def _read(self, number: int) -> FilePlane | None:
        """Read a plane as `read` does; whatever this raises, that makes a FileError of it."""

    def _time_s(self, number: int) -> float | None:
        """Return the time of a plane as the file has it."""
        return None

    def _metadata_of(self, number: int) -> Mapping[str, Any]:
        """Return what the file says of a plane, by the names that scopecast or Micro-Manager have for it."""
        return {}

    def planes(self) -> Iterator[FilePlane]:
        """Read all planes, one after the other; gaps are left out.

        Raises
        ------
        FileError
            Behind the last one, if some could not be read.
        """
        problem: FileError | None = None
        done = 0
        for number in range(len(self)):
            try:
                plane = self.read(number)
            except UnreadableFileError:
                raise
            except FileError as error:
                problem = problem or error
                continue
            if plane is not None:
                yield plane
                done += 1
        if problem is not None and done:
            raise type(problem)(f"only {done} of its {len(self)} planes can be read: {problem}") from problem
        if problem is not None:
            raise problem

    def close(self) -> None:  # noqa: B027 - only some hold anything
        """Close the file. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise FileError for what is no file: a folder, a pipe or a device, which may be read for ever.

    Raises
    ------
    OSError
        If nothing is there, or it can't be looked at.
    """
    _check_mode(os.stat(path).st_mode)  # noqa: PTH116 - strings too


def _check_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise FileError(f"it is {_SPECIAL.get(stat.S_IFMT(mode), 'something else')}, not a file")


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it, while others may write, rename and remove it; never waits for another program.

    Raises
    ------
    FileError
        If it is no regular file.
    OSError
        If it can't be opened.
    """
    check_regular(path)  # before it is opened: to open a device may do something
    # By its name, after which tifffile calls what is in it.
    return open(path, "rb", opener=_open_regular)


def _open_regular(path: str, _flags: int) -> int:
    descriptor = open_shared(path)
    try:
        _check_mode(os.fstat(descriptor).st_mode)  # another one may have taken its place
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_memory(nbytes: int, what: str) -> None:
    """Raise FileError for what would take more than half of the memory that this machine has left."""
    if nbytes < _SMALL:
        return
    import psutil

    if nbytes > int(psutil.virtual_memory().available) // 2:
        raise FileError(f"{what} has {nbytes / 2**30:.1f} GiB, more than fits into this machine's memory")


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Turn any error that a file makes its reader raise into a FileError.

    A damaged file, or metadata that makes no sense, can make a decoder raise anything: struct.error, zlib.error,
    IndexError, RecursionError, imagecodecs' own …

    Raises
    ------
    UnreadableFileError
        If the system refuses the file at the moment.
    FileError
        Otherwise.
    """
    try:
        yield
    except FileError:
        raise
    except ScopecastError as error:  # such as a dtype that can't be shown
        raise FileError(str(error)) from error
    except MemoryError as error:
        raise FileError("it needs more memory than there is") from error
    except Exception as error:
        text = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        if "imagecodecs" in text:
            raise FileError(f"its compression needs imagecodecs ({text}); pip install 'scopecast[files]'") from error
        if isinstance(error, OSError) and error.errno:
            raise UnreadableFileError(error.strerror or text) from error
        raise FileError(f"it can't be decoded ({type(error).__name__}: {text})") from error


def need(package: str, what: str) -> None:
    """Raise FileError unless a package of the extra ``files`` is installed."""
    if importlib.util.find_spec(package) is None:
        raise FileError(f"{what} needs {package}, which is not installed; pip install 'scopecast[files]'")


def extension_of(path: str | os.PathLike[str]) -> str:
    """Return a file's extension in lower case, ``""`` without one.

    >>> extension_of("A.OME.TIF"), extension_of("cells.roi.zip")
    ('.tif', '.roi.zip')
    """
    name = os.fspath(path).lower()
    return ".roi.zip" if name.endswith(".roi.zip") else os.path.splitext(name)[1]  # noqa: PTH122 - a name


def natural_key(path: str | os.PathLike[str]) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts names as a person would.

    >>> sorted(["t10.tif", "t9.tif", "T1.tif"], key=natural_key)
    ['T1.tif', 't9.tif', 't10.tif']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", os.fspath(path).lower())
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)


def common_folder(files: Sequence[Path]) -> Path | None:
    """Return the folder that all files are below; None if there is none, as on several drives.

    >>> str(common_folder([Path("/data/run1/a.tif"), Path("/data/run2/a.tif")]).as_posix())
    '/data'
    """
    try:
        return Path(os.path.commonpath([path.absolute().parent for path in files]))
    except ValueError:
        return None


def name_axes(
    unnamed: int, dims: str | Sequence[str] | None, taken: Iterable[str] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the axes that a file has but does not name.

    Parameters
    ----------
    unnamed
        How many there are, y and x not among them.
    dims
        What the user says, or None.
    taken
        Axes that the file names.

    Returns
    -------
    names : tuple of str
        As many as `unnamed`, outermost first.
    notes : tuple of str
        What the user should know, if they were guessed.

    Raises
    ------
    FileError
        If the user's names are not as many as the axes.

    Examples
    --------
    >>> name_axes(1, None)
    (('z',), ("its 1 axis has no name in the file, and is taken as z; --dims 'tyx', say, would name it otherwise",))
    >>> name_axes(2, "tzyx")
    (('t', 'z'), ())
    """
    if dims is not None:
        names = tuple(name for name in map(axis_name, dims) if name not in ("y", "x", "s"))
        if len(names) != unnamed or len(set(names)) != unnamed:
            shown = repr(dims) if isinstance(dims, str) else ", ".join(dims)
            raise FileError(f"dims {shown} name {len(names)} axes besides y and x, and the file has {unnamed}")
        return names, ()
    if not unnamed:
        return (), ()
    free = [name for name in ("p", "t", "c", "z") if name not in set(taken)]
    wanted = [name for name in _GUESSES.get(unnamed, ()) if name in free]
    names = tuple(wanted) if len(wanted) == unnamed else tuple(free[-unnamed:]) if unnamed <= len(free) else ()
    if not names:
        raise FileError(
            f"it has {unnamed} axes without names besides y and x; name them, such as --dims {'abdeptcz'[-unnamed:]}yx"
        )
    axes, have, are, them = ("axis", "has", "is", "it") if unnamed == 1 else ("axes", "have", "are", "them")
    no_name = "no name" if unnamed == 1 else "no names"
    other = "tyx" if names == ("z",) else "ztyx" if unnamed == 2 else "ptczyx"[6 - unnamed - 2 :]
    return names, (
        f"its {unnamed} {axes} {have} {no_name} in the file, and {are} taken as {', '.join(names)}; "
        f"--dims {other!r}, say, would name {them} otherwise",
    )


def read_exactly(descriptor: int, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Read an array from a place of a file.

    Parameters
    ----------
    descriptor
        The open file.
    offset
        Where it begins, in bytes.
    shape, dtype
        Of the array; C order.

    Raises
    ------
    IncompleteFileError
        If the file ends before.
    FileError
        If the memory has no room for it.
    """
    check_memory(math.prod(shape) * dtype.itemsize, "one plane")
    array = np.empty(shape, dtype)
    target = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(target):
        if hasattr(os, "preadv"):
            count = os.preadv(descriptor, [target[done : done + MOST_AT_ONCE]], offset + done)
        else:  # Windows
            os.lseek(descriptor, offset + done, os.SEEK_SET)
            chunk = os.read(descriptor, min(len(target) - done, 1 << 24))
            count = len(chunk)
            target[done : done + count] = chunk
        if not count:
            raise IncompleteFileError(f"it ends {len(target) - done} bytes too early")
        done += count
    return array
