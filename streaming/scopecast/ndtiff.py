"""NDTiff datasets, plane by plane: the folders that Micro-Manager 2, Pycro-Manager and ExEngine write.

A folder holds TIFF files of up to 4 GiB and ``NDTiff.index``, which lists each image: its axes, its file, where its
pixels and its metadata are. The format, version 2 and 3: https://github.com/micro-manager/NDTiffStorage. Of a dataset
in several resolutions the full one is shown. The index of an acquisition that goes on, or was broken off, is read as
far as it goes.
"""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from scopecast.axes import MAX_LABEL, axis_name, sort_axes
from scopecast.errors import FileError, IncompleteFileError
from scopecast.files import About, ImageFile, Plane, natural_key, read_exactly
from scopecast.wire import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["NdtiffDataset", "is_dataset"]

_INDEX: Final = "NDTiff.index"
_FULL: Final = "Full resolution"
_NUMBERS: Final = struct.Struct("<8I")
_HEADER: Final = struct.Struct("<8x5I")
_SUMMARY: Final = 2355492  # what stands before the summary metadata
_RGB: Final = 2
_DTYPES: Final = {0: "u1", 1: "<u2", 2: "u1", 3: "<u2", 4: "<u2", 5: "<u2", 6: "<u2"}  # 3 to 6: 10, 12, 14 and 11 bits
_MOST_BYTES: Final = 1 << 30
_MOST_METADATA: Final = 1 << 26


def is_dataset(folder: Path) -> bool:
    """Whether a folder is an NDTiff dataset."""
    return any((root / _INDEX).is_file() for root in (folder, folder / _FULL))


class _Entry(NamedTuple):
    """An image of the index, in the order of the format."""

    file: str
    pixels: int  # offsets and lengths are in bytes
    width: int
    height: int
    kind: int
    compression: int
    metadata: int
    metadata_length: int
    metadata_compression: int


class NdtiffDataset(ImageFile):
    """An NDTiff dataset that is open.

    Parameters
    ----------
    path
        Its folder.

    Raises
    ------
    FileError
        If the index can't be read, or lists no image.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = path if (path / _INDEX).is_file() else path / _FULL
        self._descriptors: dict[str, int] = {}
        data = (self._folder / _INDEX).read_bytes()
        if len(data) > _MOST_BYTES:
            raise FileError(f"its index has {len(data) / 2**20:.0f} MiB, more than is read")
        # An image that is written again has a second entry, which counts.
        found = dict(_entries(data))
        if not found:
            raise IncompleteFileError(f"its {_INDEX} lists no image")
        self._entries = list(found.values())
        self._place([dict(key) for key in found])
        try:
            self.about = self._describe()
        except BaseException:
            self.close()
            raise

    def _place(self, given: list[dict[str, int | str]]) -> None:
        """Turn the index's places into indices from 0, and labels; an acquisition that explores has negative ones."""
        values: dict[str, list[int | str]] = {}
        for axes in given:
            for name, value in axes.items():
                values.setdefault(name, []).append(value)
        self._sizes: dict[str, int] = {}
        self._channels: tuple[str, ...] = ()
        places: dict[str, dict[int | str, int | str]] = {}
        for name in sort_axes(values):
            known = list(dict.fromkeys(values[name]))
            numbers = [value for value in known if isinstance(value, int)]
            if len(numbers) == len(known):
                low = min(0, *numbers)
                places[name] = {value: value - low for value in numbers}
                self._sizes[name] = max(numbers) - low + 1
            else:
                texts = [printable(str(value))[:MAX_LABEL] or "-" for value in known]
                places[name] = dict(zip(known, range(len(known)) if name == "c" else texts, strict=True))
                self._sizes[name] = len(set(texts))
                if name == "c":
                    self._channels = tuple(texts)
        self._sizes = {name: size for name, size in self._sizes.items() if size > 1 or name == "c"}
        self._places: list[dict[str, int | str]] = [
            {name: places[name][value] for name, value in axes.items() if name in self._sizes} for axes in given
        ]

    def _describe(self) -> About:
        """Return channels and sizes: those of the summary, else of the first image."""
        summary, first = self._summary(), self._metadata(0)
        steps: dict[str, float] = {}
        size = next(
            (
                value
                for about, name in ((first, "PixelSizeUm"), (summary, "PixelSize_um"), (first, "PixelSize_um"))
                if (value := _positive(about.get(name)))
            ),
            0.0,
        )
        if size and (step := _positive(abs(summary.get("z-step_um") or 0.0))):
            steps["z"] = step
        names = summary.get("ChNames")
        channels = self._channels
        if not channels and isinstance(names, list) and "c" in self._sizes:
            channels = tuple(printable(str(name))[:MAX_LABEL] for name in names)
        scale = (size or 1.0, size or 1.0)
        return About(sizes=self._sizes, channels=channels, scale=scale, units="um" if size else "pixel", steps=steps)

    def __len__(self) -> int:
        return len(self._entries)

    def read(self, number: int) -> Plane:
        """Read a plane; see `ImageFile.read`."""
        entry = self._entries[number]
        dtype = _DTYPES.get(entry.kind)
        if dtype is None or entry.compression:
            raise FileError(f"image {number} is of a kind ({entry.kind}, {entry.compression}) that is not known")
        shape = (entry.height, entry.width, 3) if entry.kind == _RGB else (entry.height, entry.width)
        if not 0 < math.prod(shape) * np.dtype(dtype).itemsize <= _MOST_BYTES:
            raise FileError(f"image {number} is said to have {entry.width} x {entry.height} pixels")
        array = read_exactly(self._open(entry.file), entry.pixels, shape, np.dtype(dtype))
        return Plane(array, dict(self._places[number]))

    def time_s(self, number: int) -> float | None:
        """Return when a plane was recorded; see `ImageFile.time_s`."""
        elapsed = self._metadata(number).get("ElapsedTime-ms")
        return float(elapsed) / 1e3 if isinstance(elapsed, int | float) else None

    def close(self) -> None:
        """Close the files. Idempotent."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    # ---- its files ---------------------------------------------------------------------------------------------------

    def _open(self, name: str) -> int:
        if name not in self._descriptors:
            if name != Path(name).name or "\\" in name:  # the index is not trusted
                raise FileError(f"its index names a file outside of it: {printable(name)[:80]!r}")
            try:
                self._descriptors[name] = os.open(self._folder / name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            except OSError as error:
                raise FileError(f"{name}: {error.strerror or error}") from error
        return self._descriptors[name]

    def _summary(self) -> Mapping[str, Any]:
        """Return what stands in the first file's header; nothing where that can't be read."""
        try:
            first = self._open(self._entries[0].file)
            head = read_exactly(first, 0, (_HEADER.size,), np.dtype("u1")).tobytes()
            *_, mark, length = _HEADER.unpack(head)
            return self._json(first, _HEADER.size, length) if mark == _SUMMARY else {}
        except IncompleteFileError:
            return {}

    def _metadata(self, number: int) -> Mapping[str, Any]:
        entry = self._entries[number]
        try:
            return self._json(self._open(entry.file), entry.metadata, entry.metadata_length)
        except IncompleteFileError:
            return {}

    @staticmethod
    def _json(descriptor: int, offset: int, length: int) -> Mapping[str, Any]:
        if length > _MOST_METADATA:
            return {}
        text = read_exactly(descriptor, offset, (length,), np.dtype("u1")).tobytes()
        try:
            about = json.loads(text)
        except (ValueError, RecursionError):
            return {}
        return about if isinstance(about, dict) else {}


def _positive(value: object) -> float:
    """Return a size that can be used; 0 for what is none."""
    return float(value) if isinstance(value, int | float) and 0 < value < 1e6 else 0.0


def _entries(data: bytes) -> Iterator[tuple[tuple[tuple[str, int | str], ...], _Entry]]:
    """Read the index: for each image its axes and where it lies; up to where it is whole.

    An entry is the length of a JSON text, that text, the length of a file's name, that name, and eight numbers, all of
    32 bits, little endian.
    """
    at = 0
    while at + 4 <= len(data):
        texts = []
        for _ in range(2):
            (length,) = struct.unpack_from("<I", data, at) if at + 4 <= len(data) else (0,)
            texts.append(data[at + 4 : at + 4 + length])
            at += 4 + length
        if not texts[0] or at + _NUMBERS.size > len(data):
            return  # the end, or an entry that is being written
        numbers = _NUMBERS.unpack_from(data, at)
        at += _NUMBERS.size
        try:
            axes = json.loads(texts[0])
            yield _checked(axes), _Entry(texts[1].decode(), *numbers)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FileError(f"its {_INDEX} can't be read: {error}") from error


def _checked(axes: Any) -> tuple[tuple[str, int | str], ...]:
    """Return the axes of an entry, with their names as all others have them."""
    checked: dict[str, int | str] = {}
    for name, value in axes.items():
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError(f"the axis {name!r} is {value!r}")
        checked[axis_name(str(name))] = value if isinstance(value, str) or abs(value) < 2**31 else str(value)
    return tuple(sorted(checked.items(), key=lambda item: natural_key(item[0])))
