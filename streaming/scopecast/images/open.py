"""Choosing the reader for an image file, and finding the files that are images."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scopecast.errors import FileError, IncompleteFileError
from scopecast.frames.rois import ROI_EXTENSIONS
from scopecast.images.base import ImageFile, check_regular, extension_of, natural_key, reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["EXTENSIONS", "find_files", "nothing_in", "open_image", "which_open"]


_TIFF: Final = (".tif", ".tiff", ".ome.tif", ".ome.tiff", ".tf8", ".btf", ".lsm", ".stk")
_PICTURE: Final = (".png", ".jpg", ".jpeg", ".bmp")
EXTENSIONS: Final = (*_TIFF, *_PICTURE, ".npy")
"""The extensions that `open_image` opens, in lower case."""


def open_image(path: str | os.PathLike[str], *, dims: str | Sequence[str] | None = None) -> ImageFile:
    """Open an image file: TIFF (ImageJ, OME, plain, and similar), PNG, JPEG, BMP, NPY; or the folder of an NDTiff.

    Only the file's headers are read.

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
        If it can't be shown for another reason; the text gives the reason, without the path.
    """
    file = Path(path)
    try:
        with reading():
            return _open(file, dims)
    except FileError as error:
        if not os.path.exists(file):  # noqa: PTH110 - never raises; a file removed meanwhile confuses decoders
            pattern = glob.has_magic(os.fspath(path))
            linked = "it is a link to a file that is not there" if file.is_symlink() else ""
            text = linked or ("no file matches" if pattern else "there is no such file")
            raise FileError(text) from error
        raise


def _open(file: Path, dims: str | Sequence[str] | None) -> ImageFile:
    extension = extension_of(file)
    size = file.stat().st_size
    if file.is_dir():
        from scopecast.images.ndtiff import NdtiffDataset, is_dataset

        if is_dataset(file):
            return NdtiffDataset(file)
    check_regular(file)
    if extension in ROI_EXTENSIONS:
        raise FileError("regions of interest belong to images: show it together with its image")
    if extension not in EXTENSIONS:
        raise FileError(f"extension {extension!r}" if extension else "it has no extension")
    if not size:
        raise IncompleteFileError("it is empty")
    from scopecast.images.pictures import NpyFile, Picture

    if extension == ".npy":
        return NpyFile(file, dims)
    if extension in _PICTURE:
        return Picture(file)
    from scopecast.images.tiffs import TiffImage

    return TiffImage(file, dims)


def which_open(files: Iterable[Path], dims: str | Sequence[str] | None) -> dict[Path, FileError]:
    """Check whether any of the files can be opened, before a viewer is opened.

    Returns
    -------
    dict of Path to FileError
        Why each file can't, if none of them can; empty as soon as one can.
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


def nothing_in(arguments: Iterable[str | os.PathLike[str]], fix: str = "name them") -> str:
    """Return the message that the user's paths contain no images."""
    named = [Path(argument) for argument in arguments]
    below = any(entry.is_dir() for folder in named if folder.is_dir() for entry in folder.iterdir())
    text = f"there are no images in {', '.join(map(str, named))}"
    return f"{text}; subfolders are not searched: {fix}" if below else text


def find_files(
    arguments: Iterable[str | os.PathLike[str]],
    *,
    extensions: tuple[str, ...] = EXTENSIONS,
    recursive: bool = False,
) -> tuple[list[Path], int]:
    """Return the files that a user names: files as they are, the images in folders, and matches of glob patterns.

    Parameters
    ----------
    arguments
        Files, folders, and patterns such as ``"run*/*.tif"``, which shells on Windows do not expand. A folder that is
        one dataset (NDTiff) counts as a file.
    extensions
        The extensions that count as images in a folder.
    recursive
        Whether to search subfolders, too.

    Returns
    -------
    files : list of Path
        Each file once, those of a folder or pattern in natural order.
    others : int
        How many files in the folders are left out, as they are not images.
    """
    found: dict[Path, None] = {}
    others = 0
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            others += _look_into(path, extensions, found, recursive=recursive)
        elif not path.exists() and glob.has_magic(os.fspath(argument)):
            matches = glob.glob(os.fspath(argument), recursive=True)  # noqa: PTH207 - patterns may be absolute
            found.update(dict.fromkeys(Path(match) for match in sorted(matches, key=natural_key)))
            if not matches:
                found[path] = None  # to be reported as missing
        else:
            found[path] = None
    return list(found), others


def _look_into(folder: Path, extensions: tuple[str, ...], found: dict[Path, None], *, recursive: bool) -> int:
    """Add the images of a folder to those found, or the folder if it is a dataset; return how many files are others.

    Hidden subfolders, and links to folders, are not searched.
    """
    from scopecast.images.ndtiff import is_dataset

    if is_dataset(folder):
        found[folder] = None
        return 0
    entries = sorted(folder.iterdir(), key=natural_key)
    # Broken links and pipes count, too, if they are named like images.
    inside = [entry for entry in entries if not entry.is_dir()]
    images = [entry for entry in inside if extension_of(entry) in extensions and entry.name[0] != "."]
    found.update(dict.fromkeys(images))
    others = len(inside) - len(images)
    for entry in entries if recursive else ():
        if entry.is_dir() and not entry.is_symlink() and entry.name[0] != ".":
            others += _look_into(entry, extensions, found, recursive=True)
    return others
