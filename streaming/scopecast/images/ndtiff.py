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

from scopecast.errors import FileError, IncompleteFileError, UnreadableFileError
from scopecast.frames.axes import sort_axes, spell_axis
from scopecast.frames.streams import MAX_LABELS
from scopecast.images.about import About, as_length, elapsed_s, unique_names
from scopecast.images.base import FilePlane, ImageFile, natural_key, open_regular, read_exactly
from scopecast.images.sites import Sites, affine_of, affine_of_summary, site_of
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import BinaryIO

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
#: Numbers along an axis; what goes beyond is no count of anything, and is shown as names.
_MOST_PLACES: Final = 1 << 24


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
        self._files: dict[str, BinaryIO] = {}
        with open_regular(self._folder / _INDEX) as file:
            if (size := os.fstat(file.fileno()).st_size) > _MOST_BYTES:
                raise FileError(f"its index has {size / 2**20:.0f} MiB, more than is read")
            data = file.read()
        # An image that is written again has a second entry, which counts.
        found: dict[tuple[tuple[str, int | str], ...], _Entry] = {}
        read = 0
        for end, key, entry in _entries(data):
            found[key], read = entry, end
        if not found:
            raise IncompleteFileError(f"its {_INDEX} lists no image")
        self._entries = list(found.values())
        self._whole = not data[read:].strip(b"\0")  # room that was kept for more is filled with zeros
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
            low = min(0, *numbers) if numbers else 0
            if len(numbers) == len(known) and max(numbers) - low < _MOST_PLACES:
                places[name] = {value: value - low for value in numbers}
                self._sizes[name] = max(numbers) - low + 1
            else:
                texts = unique_names([str(value) for value in known]) or unique_names(["-"] * len(known))
                places[name] = dict(zip(known, range(len(known)) if name == "c" else texts, strict=True))
                self._sizes[name] = len(texts)
                if name == "c":
                    self._channels = texts
        self._sizes = {name: size for name, size in self._sizes.items() if size > 1 or name == "c"}
        self._places: list[dict[str, int | str]] = [
            {name: places[name][value] for name, value in axes.items() if name in self._sizes} for axes in given
        ]

    def _describe(self) -> About:
        """Return channels and sizes: those of the summary, else of the first image."""
        summary, first = self._summary(), self._metadata(0)
        told = [about.get(name) for about in (first, summary) for name in ("PixelSizeUm", "PixelSize_um")]
        size = next(filter(as_length, told), None) or next(filter(None, told), None)
        names = summary.get("ChNames")
        channels: Sequence[Any] = self._channels
        if not channels and isinstance(names, list) and "c" in self._sizes:
            channels = names
        steps = {"z": summary.get("z-step_um")}
        return About(
            sizes=self._sizes,
            channels=channels,
            scale=(size, size),
            units="um",
            steps=steps,
            sites=self._sites(summary, size if as_length(size) else None),
            complete=self._whole,
            notes=() if self._whole else (f"its index breaks off after {len(self)} images: these are shown",),
        )

    def _sites(self, summary: Mapping[str, Any], pixel_um: float | None) -> Sites:
        """Return where the positions were taken: by the first image of each."""
        first = {place["p"]: number for number, place in reversed(list(enumerate(self._places))) if "p" in place}
        told = self._metadata(0)
        affine = affine_of(told, pixel_um) or affine_of_summary(summary, pixel_um)
        if len(first) > MAX_LABELS or "p" not in self._sizes:
            return Sites(affine=affine)
        return Sites.of({place: site_of(self._metadata(number)) for place, number in first.items()}, affine)

    def __len__(self) -> int:
        return len(self._entries)

    def _read(self, number: int) -> FilePlane:
        entry = self._entries[number]
        dtype = _DTYPES.get(entry.kind)
        if dtype is None or entry.compression:
            raise FileError(f"image {number} is of a kind ({entry.kind}, {entry.compression}) that is not known")
        shape = (entry.height, entry.width, 3) if entry.kind == _RGB else (entry.height, entry.width)
        if not 0 < math.prod(shape) * np.dtype(dtype).itemsize <= _MOST_BYTES:
            raise FileError(f"image {number} claims to have {entry.width} x {entry.height} pixels")
        array = read_exactly(self._open(entry.file), entry.pixels, shape, np.dtype(dtype))
        return FilePlane(array, dict(self._places[number]))

    def _time_s(self, number: int) -> float | None:
        return elapsed_s(self._metadata(number))

    def _metadata_of(self, number: int) -> Mapping[str, Any]:
        return self._metadata(number)

    def close(self) -> None:
        """Close the files. Idempotent."""
        while self._files:
            self._files.popitem()[1].close()

    # ---- its files ---------------------------------------------------------------------------------------------------

    def _open(self, name: str) -> int:
        if name not in self._files:
            if name != Path(name).name or "\\" in name:  # the index is not trusted
                raise FileError(f"its index names a file outside of it: {printable(name)[:80]!r}")
            try:
                self._files[name] = open_regular(self._folder / name)
            except OSError as error:
                raise UnreadableFileError(f"{' '.join(name.split())}: {error.strerror or error}") from error
        return self._files[name].fileno()

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


def _entries(data: bytes) -> Iterator[tuple[int, tuple[tuple[str, int | str], ...], _Entry]]:
    """Read the index: for each image where its entry ends, its axes, and where it lies; up to where it is whole.

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
            yield at, _checked(axes), _Entry(texts[1].decode(), *numbers)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise FileError(f"its {_INDEX} can't be read: {error}") from error


def _checked(axes: Any) -> tuple[tuple[str, int | str], ...]:
    """Return the axes of an entry, with their names as all others have them."""
    checked: dict[str, int | str] = {}
    for given, value in axes.items():
        name = spell_axis(str(given))
        while name in checked:  # names that differ by a hyphen only
            name = f"{name[:30]}_2"
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise TypeError(f"the axis {given!r} is {value!r}")
        checked[name] = value if isinstance(value, str) or abs(value) < 2**31 else str(value)
    return tuple(sorted(checked.items(), key=lambda item: natural_key(item[0])))
