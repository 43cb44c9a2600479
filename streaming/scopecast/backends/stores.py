"""The stores that come with scopecast: `memory`, which ends with the process, and `disk`, by file extension."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scopecast.backends.storage import StorageBackend, list_below, posix_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DiskBackend", "MemoryBackend"]

_UNFINISHED = ".writing-"


class MemoryBackend(StorageBackend):
    """Keeps data in this process's memory.

    Arrays are copied when they are saved, so that a camera's buffer may be used again, and come back read-only. Other
    things are copied both ways.

    >>> memory = MemoryBackend()
    >>> memory.save(np.zeros((4, 5), "uint16"), "run/t000.tif")
    >>> memory.load("run/t000.tif").shape, memory.list_dir("run")
    ((4, 5), ['t000.tif'])
    """

    _backend_type = "memory"

    def __init__(self) -> None:
        self._files: dict[str, Any] = {}

    def save(self, data: Any, file_path: str | os.PathLike[str], **options: Any) -> None:
        """Keep a copy."""
        kept = copy.deepcopy(data)
        if isinstance(kept, np.ndarray):
            kept.flags.writeable = False
        self._files[posix_name(file_path)] = kept

    def load(self, file_path: str | os.PathLike[str], **options: Any) -> Any:
        """Return what was saved; an array is not copied, and read-only."""
        try:
            kept = self._files[posix_name(file_path)]
        except KeyError:
            raise FileNotFoundError(f"the memory backend holds nothing under {os.fspath(file_path)!r}") from None
        return kept if isinstance(kept, np.ndarray) else copy.deepcopy(kept)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file of this name, or one below it."""
        return self.is_file(path) or self.is_dir(path)

    def is_file(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file of this name."""
        return posix_name(path) in self._files

    def list_files(self, directory: str | os.PathLike[str], **options: Any) -> list[str]:
        """Return the paths in a directory; see `FileManager.list_files`."""
        return list_below(list(self._files), directory, **options)


class DiskBackend(StorageBackend):
    """Keeps files on disk, in the format given by their extension.

    ``.tif``, ``.tiff`` (tifffile) · ``.png``, ``.jpg``, ``.jpeg``, ``.bmp``, ``.gif`` (imageio) · ``.npy`` · ``.zarr``
    (zarr) · ``.json`` · ``.txt``, ``.csv``, ``.md``. Under any other name it keeps bytes. A file appears when it is
    complete: a program that watches the directory never reads half of one.

    Parameters
    ----------
    root
        The directory that relative paths are below; the current one by default.
    """

    _backend_type = "disk"

    def __init__(self, root: str | os.PathLike[str] = ".") -> None:
        self.root = Path(root)

    def save(self, data: Any, file_path: str | os.PathLike[str], **options: Any) -> None:
        """Write a file, replacing what was there; missing directories are created.

        Parameters
        ----------
        data
            An array for image formats, whatever JSON knows for ``.json``, a str for text. bytes are written as they
            are under every name.
        file_path
            Below `root`, or absolute.
        **options
            Ignored: hosts pass options that are meant for other backends.

        Raises
        ------
        TypeError
            If the format can't hold the data.
        """
        import secrets  # these take longer than the rest of this module
        import shutil

        path = self.root / file_path
        write = _write_bytes if isinstance(data, bytes | bytearray | memoryview) else _format(path).write
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{_UNFINISHED}{secrets.token_hex(4)}-{path.name}")
        try:
            write(unfinished, data)
            if any((path / name).exists() for name in ("zarr.json", ".zarray")):
                shutil.rmtree(path)  # an array of zarr is a directory, and can't be replaced in one step
            unfinished.replace(path)
        except BaseException:
            shutil.rmtree(unfinished) if unfinished.is_dir() else unfinished.unlink(missing_ok=True)
            raise

    def load(self, file_path: str | os.PathLike[str], **options: Any) -> Any:
        """Read a file; see `save` for the types that are returned."""
        path = self.root / file_path
        if not path.exists():
            raise FileNotFoundError(f"there is no file {path}")
        return _format(path).read(path)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file or a directory of this name."""
        return (self.root / path).exists()

    def is_file(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file of this name; a zarr array counts as one."""
        full = self.root / path
        return full.is_file() or (full.is_dir() and full.suffix == ".zarr")

    def is_dir(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a directory of this name, empty or not."""
        full = self.root / path
        return full.is_dir() and full.suffix != ".zarr"

    def list_files(
        self,
        directory: str | os.PathLike[str],
        *,
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
        **options: Any,
    ) -> list[str]:
        """Return the paths in a directory, below `root` where `directory` is; see `FileManager.list_files`."""
        found: list[str] = []
        for folder, folders, names in os.walk(self.root / directory):
            arrays = [name for name in folders if name.endswith(".zarr")]
            inside = Path(directory, os.path.relpath(folder, self.root / directory))
            found += [(inside / name).as_posix() for name in (*names, *arrays) if not name.startswith(_UNFINISHED)]
            folders[:] = [name for name in folders if name not in arrays] if recursive else []
        return list_below(found, directory, pattern=pattern, extensions=extensions, recursive=recursive)

    def list_dir(self, path: str | os.PathLike[str]) -> list[str]:
        """Return the names of what is in a directory.

        Raises
        ------
        NotADirectoryError
            If there is no such directory.
        """
        if not self.is_dir(path):
            raise NotADirectoryError(f"there is no directory {self.root / path}")
        return sorted(entry.name for entry in (self.root / path).iterdir() if not entry.name.startswith(_UNFINISHED))


# ---- formats ---------------------------------------------------------------------------------------------------------


class _Format(NamedTuple):
    write: Callable[[Path, Any], None]
    read: Callable[[Path], Any]


def _format(path: Path) -> _Format:
    return _FORMATS.get(path.suffix.lower(), _BYTES)


def _library(name: str, extension: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != name.partition(".")[0]:
            raise
        package = name.partition(".")[0]
        raise ModuleNotFoundError(
            f'{extension} files need {package}, which is not installed: pip install "scopecast[disk]"', name=error.name
        ) from error


def _pixels(path: Path, data: Any) -> np.ndarray[Any, Any]:
    array = np.asarray(data)
    if array.dtype.hasobject or array.dtype.kind in "USV":
        raise TypeError(f"{path.suffix} files hold pixels, not {type(data).__name__}: give an array of numbers")
    return array


def _write_tiff(path: Path, data: Any) -> None:
    array = _pixels(path, data)
    color = array.ndim > 2 and array.shape[-1] in (3, 4) and array.dtype in (np.uint8, np.uint16)
    photometric = "rgb" if color else "minisblack"
    _library("tifffile", path.suffix).imwrite(path, array, photometric=photometric)


def _write_image(path: Path, data: Any) -> None:
    _library("imageio.v3", path.suffix).imwrite(path, _pixels(path, data))


def _write_npy(path: Path, data: Any) -> None:
    with path.open("wb") as file:
        np.save(file, _pixels(path, data), allow_pickle=False)


def _write_zarr(path: Path, data: Any) -> None:
    _library("zarr", path.suffix).save_array(str(path), _pixels(path, data))


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2), encoding="utf-8")


def _write_text(path: Path, data: Any) -> None:
    if not isinstance(data, str):
        raise TypeError(f"{path.suffix} files hold text, not {type(data).__name__}: give a str")
    path.write_text(data, encoding="utf-8")


def _write_bytes(path: Path, data: Any) -> None:
    if not isinstance(data, bytes | bytearray | memoryview):
        known = ", ".join(sorted(_FORMATS))
        raise TypeError(
            f"{path.suffix or 'a file without extension'} holds bytes, not {type(data).__name__}: encode "
            f"it, or choose one of {known}"
        )
    path.write_bytes(data)


def _read_zarr(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(_library("zarr", path.suffix).open_array(str(path), mode="r")[...])


_TIFF = _Format(_write_tiff, lambda path: _library("tifffile", path.suffix).imread(path))
_IMAGE = _Format(_write_image, lambda path: _library("imageio.v3", path.suffix).imread(path))
_TEXT = _Format(_write_text, lambda path: path.read_text(encoding="utf-8"))
_BYTES = _Format(_write_bytes, lambda path: path.read_bytes())
_FORMATS: dict[str, _Format] = {
    **dict.fromkeys((".tif", ".tiff"), _TIFF),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp", ".gif"), _IMAGE),
    ".npy": _Format(_write_npy, lambda path: np.load(path, allow_pickle=False)),
    ".zarr": _Format(_write_zarr, _read_zarr),
    ".json": _Format(_write_json, lambda path: json.loads(path.read_text(encoding="utf-8"))),
    **dict.fromkeys((".txt", ".csv", ".md"), _TEXT),
}
