"""Image files, plane by plane: what is in them, where each plane belongs, how large a pixel is.

Files are read with ``read`` and ``pread``, never mapped into memory: another program may cut a file short at any
moment, and a page of a mapping that lies past the end kills the process that touches it (SIGBUS). No more than one
plane is in memory at a time. TIFF is in `scopecast.tiffs`, which is imported when one is opened.
"""

from __future__ import annotations

import glob
import importlib.util
import io
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from scopecast.arrays import check_dtype
from scopecast.axes import axis_name
from scopecast.errors import FileError, IncompleteFileError, UnsupportedDtypeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

__all__ = [
    "EXTENSIONS",
    "About",
    "ImageFile",
    "Plane",
    "Sight",
    "common_folder",
    "extension_of",
    "find_files",
    "name_axes",
    "natural_key",
    "need",
    "open_image",
    "read_exactly",
]

_TIFF: Final = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".tf8", ".btf", ".lsm", ".stk")
_PICTURE: Final = (".png", ".jpg", ".jpeg", ".bmp")
EXTENSIONS: Final = (*_TIFF, *_PICTURE, ".npy")
"""What `open_image` opens, in lower case."""

# Where a file has axes that it does not name; the same guess as for arrays, see scopecast.arrays.
_GUESSES: Final = {1: ("z",), 2: ("t", "z"), 3: ("t", "c", "z"), 4: ("p", "t", "c", "z")}


class Plane(NamedTuple):
    """One read of a file: nearly always one plane.

    Attributes
    ----------
    array : numpy.ndarray
        (y, x), (y, x, 3 or 4), or what `dims` says.
    axes : dict of str to int
        Where it belongs among the file's planes.
    dims : tuple of str or None
        The names of the array's dimensions, where they are not the usual ones.
    """

    array: npt.NDArray[Any]
    axes: dict[str, int]
    dims: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says of all of its planes.

    Attributes
    ----------
    sizes
        Extent of each axis, outermost first, y and x not among them.
    channels
        Names of the channels, if the file names them.
    colors
        Their colours, ``#rrggbb``; empty where the viewer is to choose.
    scale
        Size of a pixel (y, x) in `units`.
    units
        ``"um"``, or ``"pixel"`` where the file does not say.
    steps
        Distance of the planes along z in `units`, and of the time points in seconds.
    notes
        What the user should know: other series that are not shown, axes that were guessed.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    channels: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)
    units: str = "pixel"
    steps: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def stream(self) -> dict[str, Any]:
        """Return the arguments for `Publisher.new_stream`, without the sizes."""
        return {
            "channels": self.channels,
            "colors": self.colors,
            "scale": self.scale,
            "units": self.units,
            "steps": self.steps,
        }


class Sight(NamedTuple):
    """What a file looked like at a moment; another sight, another content.

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

    @abstractmethod
    def read(self, number: int) -> Plane | None:
        """Read a plane.

        Parameters
        ----------
        number
            From 0 to ``len(self) - 1``, in the order of the file's axes.

        Returns
        -------
        Plane or None
            None where the file has a gap.

        Raises
        ------
        IncompleteFileError
            If the file ends before the plane does.
        FileError
            If it can't be decoded.
        """

    def time_s(self, number: int) -> float | None:
        """Return when a plane was recorded, in seconds since the recording began; None if the file does not say."""
        return None

    def planes(self) -> Iterator[Plane]:
        """Read all planes, one after the other; gaps are left out."""
        for number in range(len(self)):
            if (plane := self.read(number)) is not None:
                yield plane

    def close(self) -> None:  # noqa: B027 - only some hold anything
        """Close the file. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_image(path: str | os.PathLike[str], *, dims: str | Sequence[str] | None = None) -> ImageFile:
    """Open an image file: TIFF (ImageJ, OME, plain, and their kin), PNG, JPEG, BMP, NPY.

    Nothing but the file's headers is read.

    Parameters
    ----------
    path
        The file.
    dims
        Names for the axes of a file that does not name its own, such as ``"tzyx"``; y, x and s (colours) may be left
        out.

    Raises
    ------
    IncompleteFileError
        If the file is empty, or ends before its contents do: it is being written, or was cut short.
    FileError
        If it can't be shown for another reason, which the text tells, without the path.
    """
    file = Path(path)
    extension = extension_of(file)
    try:
        size = file.stat().st_size
        if file.is_dir():
            raise FileError("it is a folder")
        if extension not in EXTENSIONS:
            raise FileError(f"extension {extension!r}" if extension else "it has no extension")
        if not size:
            raise IncompleteFileError("it is empty")
        if extension == ".npy":
            return _Npy(file, dims)
        if extension in _PICTURE:
            return _Picture(file)
        from scopecast.tiffs import TiffImage

        return TiffImage(file, dims)
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error


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
    """Return a key to sort names as a person would.

    >>> sorted(["t10.tif", "t9.tif", "T1.tif"], key=natural_key)
    ['T1.tif', 't9.tif', 't10.tif']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", os.fspath(path).lower())
    return tuple((0, int(part), part) if part[0] in "0123456789" else (1, 0, part) for part in parts)


def find_files(
    arguments: Iterable[str | os.PathLike[str]], *, extensions: tuple[str, ...] = EXTENSIONS
) -> tuple[list[Path], int]:
    """Return the files that a user names: files as they are, the images of folders, what glob patterns match.

    Parameters
    ----------
    arguments
        Files, folders (not those below them), and patterns such as ``"run*/*.tif"``, which shells on Windows leave as
        they are.
    extensions
        What counts as an image in a folder.

    Returns
    -------
    files : list of Path
        Each once, the files of a folder or pattern in natural order.
    others : int
        How many files of the folders are left out, as they are no images.
    """
    found: dict[Path, None] = {}
    others = 0
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            inside = sorted((entry for entry in path.iterdir() if entry.is_file()), key=natural_key)
            images = [entry for entry in inside if extension_of(entry) in extensions and entry.name[0] != "."]
            others += len(inside) - len(images)
            found.update(dict.fromkeys(images))
        elif not path.exists() and glob.has_magic(os.fspath(argument)):
            matches = glob.glob(os.fspath(argument), recursive=True)  # noqa: PTH207 - patterns may be absolute
            found.update(dict.fromkeys(Path(match) for match in sorted(matches, key=natural_key)))
            if not matches:
                found[path] = None  # to be reported: no such file
        else:
            found[path] = None
    return list(found), others


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
    """Name the axes that a file has and does not name.

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
    (('z',), ("its 1 axis has no name in the file, and is taken as z; --axes 'tyx', say, would name it otherwise",))
    >>> name_axes(2, "tzyx")
    (('t', 'z'), ())
    """
    if dims is not None:
        names = tuple(name for name in map(axis_name, dims) if name not in ("y", "x", "s"))
        if len(names) != unnamed or len(set(names)) != unnamed:
            shown = dims if isinstance(dims, str) else ", ".join(dims)
            raise FileError(f"axes {shown!r} name {len(names)} axes besides y and x, and the file has {unnamed}")
        return names, ()
    if not unnamed:
        return (), ()
    free = [name for name in ("p", "t", "c", "z") if name not in set(taken)]
    wanted = [name for name in _GUESSES.get(unnamed, ()) if name in free]
    names = tuple(wanted) if len(wanted) == unnamed else tuple(free[-unnamed:]) if unnamed <= len(free) else ()
    if not names:
        raise FileError(f"it has {unnamed} axes without names besides y and x; name them, such as --axes ptczyx")
    axes, have, are, them = ("axis", "has", "is", "it") if unnamed == 1 else ("axes", "have", "are", "them")
    no_name = "no name" if unnamed == 1 else "no names"
    other = "tyx" if names == ("z",) else "ztyx" if unnamed == 2 else "ptczyx"[6 - unnamed - 2 :]
    return names, (
        f"its {unnamed} {axes} {have} {no_name} in the file, and {are} taken as {', '.join(names)}; "
        f"--axes {other!r}, say, would name {them} otherwise",
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
    """
    array = np.empty(shape, dtype)
    target = array.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(target):
        if hasattr(os, "preadv"):
            count = os.preadv(descriptor, [target[done:]], offset + done)
        else:  # Windows
            os.lseek(descriptor, offset + done, os.SEEK_SET)
            chunk = os.read(descriptor, min(len(target) - done, 1 << 24))
            count = len(chunk)
            target[done : done + count] = chunk
        if not count:
            raise IncompleteFileError(f"it ends {len(target) - done} bytes too early")
        done += count
    return array


class _Npy(ImageFile):
    """A ``.npy`` file."""

    def __init__(self, path: Path, dims: str | Sequence[str] | None) -> None:
        self.path = path
        self._file = path.open("rb")
        try:
            shape, fortran, dtype = self._header()
            check_dtype(dtype)
            self._offset = self._file.tell()
            expected = self._offset + int(np.prod([int(extent) for extent in shape], dtype=object)) * dtype.itemsize
            size = os.fstat(self._file.fileno()).st_size
            if size < expected:
                raise IncompleteFileError(f"it has {size} of {expected} bytes")
            if not all(shape):
                raise FileError("the array in it is empty")
            # In Fortran's order the file is the transposed array in C's order.
            self._stored, self._fortran, self._dtype = (shape[::-1] if fortran else shape), fortran, dtype
            colour = len(shape) > 2 and shape[-1] in (3, 4) and dtype.str[1:] in ("u1", "u2", "f4", "f8")
            self._plane = len(shape) - (3 if colour else min(2, len(shape)))
            names, notes = name_axes(self._plane, dims)
            self.about = About(sizes=dict(zip(names, shape, strict=False)), notes=notes)
            self._shape = shape
        except UnsupportedDtypeError as error:
            self._file.close()
            raise FileError(str(error)) from error
        except BaseException:
            self._file.close()
            raise

    def _header(self) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        formats = np.lib.format
        try:
            version = formats.read_magic(self._file)
            read = formats.read_array_header_1_0 if version == (1, 0) else formats.read_array_header_2_0
            shape, fortran, dtype = read(self._file)
        except ValueError as error:
            if "EOF" in str(error) or "reading" in str(error):
                raise IncompleteFileError("its header is cut short") from error
            raise FileError(f"it is no NPY file ({str(error).splitlines()[0]})") from error
        return tuple(int(extent) for extent in shape), fortran, dtype

    def __len__(self) -> int:
        return int(np.prod(self._shape[: self._plane], dtype=np.int64))

    def read(self, number: int) -> Plane:
        leading, plane = self._shape[: self._plane], self._shape[self._plane :]
        index = np.unravel_index(number, leading) if leading else ()
        axes = {name: int(at) for name, at in zip(self.about.sizes, index, strict=True)}
        if not self._fortran:
            nbytes = int(np.prod(plane, dtype=np.int64)) * self._dtype.itemsize
            return Plane(read_exactly(self._file.fileno(), self._offset + number * nbytes, plane, self._dtype), axes)
        # Of an array in Fortran's order a plane lies scattered over the whole file: read it row by row of the file.
        rest = self._stored[: len(plane)]  # (…, x, y): the plane's own extents, transposed
        row = self._stored[len(plane) :]
        nbytes = int(np.prod(row, dtype=np.int64)) * self._dtype.itemsize
        made = np.empty(plane[::-1], self._dtype)
        for place in np.ndindex(*rest[:-1]):
            start = int(np.ravel_multi_index((*place, 0), rest))
            block = read_exactly(self._file.fileno(), self._offset + start * nbytes, (rest[-1], *row), self._dtype)
            made[place] = block[(..., *(int(at) for at in index[::-1]))]
        return Plane(made.transpose(), axes)

    def close(self) -> None:
        self._file.close()


class _Picture(ImageFile):
    """A PNG, JPEG or BMP file: one plane, or one in colours."""

    def __init__(self, path: Path) -> None:
        need("imageio", "PNG and JPEG")
        self.path = path
        # All of it, and no path for the decoder: Pillow maps some formats into memory when it is given a path.
        self._content = path.read_bytes()
        notes: tuple[str, ...] = ()
        if _has_deep_colours(self._content) and importlib.util.find_spec("imagecodecs") is None:
            notes = ("its 16-bit colours are shown with 8 bits; pip install imagecodecs for all of them",)
        self.about = About(notes=notes)

    def __len__(self) -> int:
        return 1

    def read(self, number: int) -> Plane:
        array = self._decode()
        if array.ndim == 3 and array.shape[2] not in (3, 4):
            array = array[..., 0]  # grey with transparency
        if array.ndim != 2 and array.ndim != 3:
            raise FileError(f"it holds an array of shape {array.shape}, which is no image")
        return Plane(array, {})

    def _decode(self) -> npt.NDArray[Any]:
        content = self._content
        if content[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" not in content[-32:]:
            raise IncompleteFileError("the PNG ends too early")
        if content[:2] == b"\xff\xd8" and b"\xff\xd9" not in content[2:]:
            raise IncompleteFileError("the JPEG ends too early")
        if _has_deep_colours(content) and importlib.util.find_spec("imagecodecs") is not None:
            import imagecodecs

            return np.asarray(imagecodecs.png_decode(content))
        import imageio.v3

        try:
            return np.asarray(imageio.v3.imread(io.BytesIO(content), extension=self.path.suffix.lower()))
        # Whatever a decoder raises over a damaged file (OSError, SyntaxError, ValueError, struct.error …).
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "truncated" in text or "end of" in text.lower() or len(content) < 64:
                raise IncompleteFileError(f"it ends too early ({text[:200]})") from error
            raise FileError(f"it can't be decoded ({text[:200]})") from error


def _has_deep_colours(content: bytes) -> bool:
    """Tell a PNG with 16 bits for each colour, which Pillow reduces to 8."""
    return content[:8] == b"\x89PNG\r\n\x1a\n" and content[24:25] == b"\x10" and content[25:26] in (b"\x02", b"\x06")
