"""Image files, plane by plane: what is in them, where each plane belongs, how large a pixel is.

Files are read with ``read`` and ``pread``, never mapped into memory: another program may cut a file short at any
moment, and a page of a mapping that lies past the end kills the process that touches it (SIGBUS). No more than one
plane is in memory at a time. The formats are in `scopecast.tiffs` and
`scopecast.pictures`.
"""

from __future__ import annotations

import glob
import importlib.util
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from scopecast.axes import axis_name
from scopecast.errors import FileError, IncompleteFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
    "nothing_in",
    "open_image",
    "read_exactly",
    "which_open",
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
    axes : dict of str to int or str
        Where it belongs among the file's planes.
    dims : tuple of str or None
        The names of the array's dimensions, where they are not the usual ones.
    """

    array: npt.NDArray[Any]
    axes: Mapping[str, int | str]
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
    """Open an image file: TIFF (ImageJ, OME, plain, and their kin), PNG, JPEG, BMP, NPY; or the folder of an NDTiff.

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
            from scopecast.ndtiff import NdtiffDataset, is_dataset

            if is_dataset(file):
                return NdtiffDataset(file)
            raise FileError("it is a folder")
        if extension in (".roi", ".roi.zip"):
            raise FileError("regions of interest lie on images: show it together with its image")
        if extension not in EXTENSIONS:
            raise FileError(f"extension {extension!r}" if extension else "it has no extension")
        if not size:
            raise IncompleteFileError("it is empty")
        from scopecast.pictures import NpyFile, Picture

        if extension == ".npy":
            return NpyFile(file, dims)
        if extension in _PICTURE:
            return Picture(file)
        from scopecast.tiffs import TiffImage

        return TiffImage(file, dims)
    except FileNotFoundError as error:
        pattern = glob.has_magic(os.fspath(path))
        raise FileError("no file is called so" if pattern else "there is no such file") from error
    except OSError as error:
        raise FileError(error.strerror or str(error)) from error


def which_open(files: Iterable[Path], dims: str | Sequence[str] | None) -> dict[Path, FileError]:
    """Look whether any of some images can be opened, before a viewer is.

    Returns
    -------
    dict of Path to FileError
        Why not, if none of them can; empty as soon as one can.
    """
    failed: dict[Path, FileError] = {}
    for file in files:
        try:
            open_image(file, dims=dims).close()
        except FileError as error:
            failed[file] = error
        else:
            return {}
    return failed


def nothing_in(arguments: Iterable[str | os.PathLike[str]]) -> str:
    """Say that there are no images in what a user names."""
    named = [Path(argument) for argument in arguments]
    below = any(entry.is_dir() for folder in named if folder.is_dir() for entry in folder.iterdir())
    text = f"there are no images in {', '.join(map(str, named))}"
    return f"{text}; name the folders below it, which are not looked into" if below else text


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
        they are. A folder that is one dataset (NDTiff) counts as a file.
    extensions
        What counts as an image in a folder.

    Returns
    -------
    files : list of Path
        Each once, the files of a folder or pattern in natural order.
    others : int
        How many files of the folders are left out, as they are no images.
    """
    from scopecast.ndtiff import is_dataset

    found: dict[Path, None] = {}
    others = 0
    for argument in arguments:
        path = Path(argument)
        if path.is_dir() and is_dataset(path):
            found[path] = None
        elif path.is_dir():
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
            shown = repr(dims) if isinstance(dims, str) else ", ".join(dims)
            raise FileError(f"axes {shown} name {len(names)} axes besides y and x, and the file has {unnamed}")
        return names, ()
    if not unnamed:
        return (), ()
    free = [name for name in ("p", "t", "c", "z") if name not in set(taken)]
    wanted = [name for name in _GUESSES.get(unnamed, ()) if name in free]
    names = tuple(wanted) if len(wanted) == unnamed else tuple(free[-unnamed:]) if unnamed <= len(free) else ()
    if not names:
        raise FileError(
            f"it has {unnamed} axes without names besides y and x; name them, such as --axes {'abdeptcz'[-unnamed:]}yx"
        )
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
