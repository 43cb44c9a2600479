"""TIFF files, plane by plane: plain stacks, ImageJ's hyperstacks, OME-TIFF, Micro-Manager's stacks.

tifffile parses the files, and this module translates the result into the terms of a stream. `check_structure` checks,
without decoding anything, whether a file is complete: tifffile reads a truncated file as one with fewer pages.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import struct
import sys
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.errors import FileError, IncompleteFileError
from scopecast.frames.arrays import COLOUR_LENGTHS, check_dtype
from scopecast.frames.axes import axis_name
from scopecast.images.about import About, as_seconds, elapsed_s
from scopecast.images.base import FilePlane, ImageFile, check_memory, name_axes, need, open_regular, read_exactly
from scopecast.images.ome import (
    OmeImage,
    OwnPart,
    check_text,
    image_texts,
    imagej_colors,
    listed_images,
    micrometers,
    own_part,
    planes_told,
    read_ome,
    referred_file,
    sites_told,
)
from scopecast.images.sites import Sites, affine_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import tifffile

__all__ = ["TiffImage", "check_structure"]

# tifffile's letters, see tifffile.TIFF.AXES_NAMES; the others, such as Q and I, have no meaning.
_NAMES: Final = {
    "T": "t",
    "C": "c",
    "Z": "z",
    "P": "p",
    "R": "p",
    "Y": "y",
    "X": "x",
    "S": "s",
    "A": "angle",
    "V": "view",
    "H": "phase",
    "E": "lambda",
    "L": "exposure",
    "M": "tile",
    "F": "lifetime",
}
# PhotometricInterpretation: RGB, separated (CMYK is decoded as it is), YCbCr, CIELab.
_COLOURED: Final = (2, 5, 6, 8)
_MICROMANAGER: Final = 51123
_MOST_PAGES: Final = 1 << 22
_MOST_TEXT: Final = 1 << 28


class TiffImage(ImageFile):
    """An open TIFF file."""

    def __init__(self, path: Path, dims: str | Sequence[str] | None = None) -> None:
        need("tifffile", "TIFF")
        self.path = path
        with open_regular(path) as file:
            self._pages = check_structure(file.fileno())
        self._stack = contextlib.ExitStack()
        try:
            with _quiet():
                try:
                    self._parse(dims)
                except (FileError, OSError):
                    raise
                # tifffile may raise anything on contradictory metadata; the pixels can be read without it, so note it.
                except Exception as error:  # noqa: BLE001
                    self._stack.close()
                    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                    text = str(error) if type(error) is ValueError else text
                    self._parse(dims, f"its metadata can't be read ({text[:100]}) and is ignored")
        except BaseException:
            self._stack.close()
            raise

    def _parse(self, dims: str | Sequence[str] | None, *notes: str) -> None:
        """Parse and describe the file; with `notes`, ignore its metadata and read plain pages."""
        import tifffile

        flags: dict[str, Any] = {f"is_{kind}": False for kind in tifffile.TIFF.FILE_FLAGS} if notes else {}
        self._tiff = self._open_tiff(**flags)
        self._own, self._listed = OwnPart(""), ""
        self._told: dict[int, dict[tuple[int, int, int], dict[str, float]]] = {}  # of the planes of each image
        if self._tiff.is_ome:
            # Other files of a set are not opened: each brings its own planes, and its name may lead to any file. Only
            # what is written about this one may be in another.
            xml = self._tiff.ome_metadata or ""
            check_text(xml)
            if other := referred_file(xml):
                check_text(xml := _ome_in(self.path.with_name(other)))
            self._listed = xml
            self._own = own_part(xml, self.path.name, self._pages, referred=bool(other))
            if self._own.xml != self._tiff.ome_metadata:
                self._tiff = self._open_tiff(omexml=self._own.xml)
        elif self._tiff.is_imagej:
            _check_imagej(self._tiff)
        self._describe(dims, notes)

    def _open_tiff(self, **options: Any) -> tifffile.TiffFile:
        """Open the file by tifffile, which by itself would keep others on Windows from renaming it."""
        import tifffile

        file = self._stack.enter_context(open_regular(self.path))
        return self._stack.enter_context(tifffile.TiffFile(file, **options))

    def _describe(self, dims: str | Sequence[str] | None, notes: tuple[str, ...]) -> None:
        tiff = self._tiff
        self._ome = read_ome(tiff.ome_metadata or "") if tiff.is_ome else []
        _check_sizes(self._ome, tiff.pages.first)
        # Of a set of files, only the planes in this one: the other files are opened on their own.
        mine = [
            series for series in tiff.series if any(page is not None and page.parent is tiff for page in _of(series))
        ]
        if not mine:
            raise FileError("it has no image")
        first = mine[0]
        self._images = _same(mine)
        self._axes, self._shape, self._inside = _split(first)
        whole = _planned_by_imagej(tiff) if len(mine) == 1 and tiff.is_imagej else ()
        cut = math.prod(whole) > self._pages > 1
        if cut:  # or being written: tifffile counts its pages then, and names no axes
            self._axes, self._shape = "TZC", (*whole, *self._shape[len(self._axes) :])
        check_dtype(first.dtype)
        check_memory(math.prod(self._shape[len(self._axes) :]) * first.dtype.itemsize, "one plane")
        # The images of an OME file are fields of view; those of other files, mostly pages, are just a sequence.
        listed = len(self._images) > 1
        named = "p" if tiff.is_ome or tiff.is_micromanager else ""
        names, guessed = self._name(dims, (named,) if listed else ())
        notes += guessed
        self._image_axis, self._names = (names[0] if listed else ""), names[listed:]
        extents = zip(self._names, self._shape, strict=False)
        self._part_of = {} if listed or self._own.images == 1 else {"p": self._own.image}
        sizes = {self._image_axis: len(self._images)} if listed else dict.fromkeys(self._part_of, self._own.images)
        sizes.update((name, size) for name, size in extents if size > 1)
        if not listed and len(mine) > 1:
            notes = (*notes, f"it has {len(mine)} series of different shapes; the first is shown")
        if len(first.levels) > 1:
            notes = (*notes, f"it is a pyramid of {len(first.levels)} levels; the full resolution is shown")
        self._colour = first.keyframe.photometric in _COLOURED
        self._per_image = int(np.prod(self._shape[: len(self._axes)], dtype=np.int64))
        if len(mine) == 1 and len(first.levels) == 1 and self._per_image < self._pages:
            notes = (*notes, f"its metadata describes {self._per_image} of its {self._pages} pages; these are shown")
        total = self._per_image * len(self._images)
        pages = [page for series in self._images for page in _of(series)]
        self._present: Sequence[int] = range(total)
        if len(pages) == total or cut:  # otherwise one page has several planes
            self._present = [at for at, page in enumerate(pages) if page is not None and page.parent is tiff]
        # The other planes of a set are in other files.
        missing = 0 if self._own.recording else total - len(self._present)
        if missing:
            notes = (*notes, f"it has {len(self._present)} of {total} planes")
        planned = sum(image.listed for image in self._ome) if self._ome else total
        about = self._calibrate(first, sizes)
        self.about = About(
            sizes=sizes,
            sites=self._sites(),
            recording=self._own.recording,
            member=self._own.member,
            missing=missing,
            complete=not missing or planned <= len(self._present),
            notes=notes,
            **about,
        )

    def _name(
        self, dims: str | Sequence[str] | None, outer: tuple[str, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Name the `outer` axis of the images, if there is one, and the axes before those of a page."""
        named = [*outer, *(_NAMES.get(letter, "") for letter in self._axes)]
        lengths = [*(2 for _ in outer), *self._shape[: len(self._axes)]]
        if "s" in named:  # pages of one colour each
            named[named.index("s")] = "c"
        known = [name for name in named if name]
        if len(set(known)) < len(known):
            named, known = [""] * len(named), []
        unnamed = [at for at, name in enumerate(named) if not name and lengths[at] > 1]
        said = None
        if dims is not None and unnamed:  # the user may name all axes, or only those that the file does not
            said = [name for name in map(axis_name, dims) if name not in known]
        names, notes = name_axes(len(unnamed), said, known)
        for at, name in zip(unnamed, names, strict=True):
            named[at] = name
        return tuple(name or f"axis{at}" for at, name in enumerate(named)), notes

    def _calibrate(self, series: Any, sizes: dict[str, int]) -> dict[str, Any]:
        """Return channels, colours and pixel size, as arguments of `About`."""
        tiff = self._tiff
        self._interval = 0.0
        if self._ome:
            image = self._ome[self._ome_of(0)]
            self._interval = as_seconds(image.steps.get("t"))
            return {
                "channels": image.channels,
                "colors": image.colors,
                "scale": image.scale,
                "units": image.units,
                "steps": image.steps,
            }
        if tiff.is_imagej:
            return self._calibrate_imagej(series, tiff.imagej_metadata or {}, sizes)
        if tiff.is_micromanager:
            return self._calibrate_micromanager((tiff.micromanager_metadata or {}).get("Summary") or {})
        return {}

    def _calibrate_imagej(self, series: Any, about: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
        made: dict[str, Any] = {"steps": {}}
        factor = micrometers(about.get("unit"))
        x, y = (_per_unit(series.keyframe, name) for name in ("XResolution", "YResolution"))
        if factor and x and y:
            made.update(scale=(_rounded(factor / y), _rounded(factor / x)), units="um")
        spacing = about.get("spacing")
        if "z" in sizes:
            made["steps"]["z"] = spacing * (factor or 1.0) if isinstance(spacing, int | float) else spacing
        self._interval = as_seconds(about.get("finterval"))
        if "t" in sizes:
            made["steps"]["t"] = about.get("finterval")
        if about.get("mode", "composite") in ("composite", "color") and "c" in sizes:
            made["colors"] = imagej_colors(about.get("LUTs"), sizes["c"])
        return made

    def _calibrate_micromanager(self, summary: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(summary, dict):
            return {}
        size, names = summary.get("PixelSize_um"), summary.get("ChNames")
        return {
            "scale": (size, size),
            "units": "um",
            "steps": {"z": summary.get("z-step_um")},
            "channels": names if isinstance(names, list) else (),
        }

    def _ome_of(self, image: int) -> int:
        """Return which image of the OME-XML is about one of the images shown."""
        series = self._images[image]
        if len(self._ome) == len(self._tiff.series):
            return next(at for at, each in enumerate(self._tiff.series) if each is series)
        return next((at for at, each in enumerate(self._ome) if each.name == series.name), 0)

    @functools.cached_property
    def _texts(self) -> list[str]:
        """What the OME-XML says of each image."""
        return image_texts(self._listed)

    def _said_of(self, number: int) -> Mapping[str, float]:
        """Return what the OME-XML says of a plane, by its number in the file."""
        image, where = self._place(number)
        if (at := self._ome_of(image)) not in self._told:
            self._told[at] = planes_told(self._texts[at]) if at < len(self._texts) else {}
        return self._told[at].get((where.get("t", 0), where.get("c", 0), where.get("z", 0)), {})

    def _sites(self) -> Sites:
        """Return where the positions were taken, by the OME-XML; the affine by Micro-Manager's metadata."""
        first = self._by_micromanager(self._present[0]) if self._tiff.is_micromanager and len(self._present) else {}
        affine = affine_of(first, self._ome[0].scale[1] if self._ome else None)
        if not self._ome or not (self._image_axis or self._part_of):
            return Sites(affine=affine)
        # Of a set, images of which nothing is listed do not count.
        told = sites_told(tuple(listed_images(self._texts) if self._part_of else self._texts))
        images = [self._ome_of(image) for image in range(len(self._images))] if self._image_axis else range(len(told))
        return Sites.of({at: told[image] for at, image in enumerate(images) if image < len(told)}, affine)

    def __len__(self) -> int:
        return len(self._present)

    def _place(self, number: int) -> tuple[int, dict[str, int]]:
        """Return the image that a plane belongs to, and its index along the axes in it."""
        image, at = divmod(number, self._per_image)
        leading = self._shape[: len(self._axes)]
        index = np.unravel_index(at, leading) if leading else ()
        return image, {name: int(place) for name, place in zip(self._names, index, strict=True)}

    def _read(self, number: int) -> FilePlane | None:
        number = self._present[number]
        image, where = self._place(number)
        series = self._images[image]
        shape = self._shape[len(self._axes) :]
        with _quiet():
            page = None
            if series.dataoffset is not None and series.transform is None:
                nbytes = int(np.prod(shape, dtype=np.int64)) * series.dtype.itemsize
                dtype = np.dtype(series.dtype).newbyteorder(self._tiff.byteorder)
                offset = series.dataoffset + (number % self._per_image) * nbytes
                array = read_exactly(self._tiff.filehandle.fileno(), offset, shape, dtype)
            else:
                page = series.pages[number % self._per_image] if self._per_image > 1 else series.pages[0]
                if page is None or page.parent is not self._tiff:
                    return None
                array = np.asarray(page.asarray()).reshape(shape)
        axes = self._part_of | {name: where[name] for name in self.about.sizes if name in where}
        if self._image_axis:
            axes[self._image_axis] = image
        names = [_NAMES.get(letter, "") for letter in self._inside]
        keep = tuple(at for at, name in enumerate(names) if shape[at] > 1 or name in ("y", "x"))
        array = array.reshape([shape[at] for at in keep])
        inside = [names[at] for at in keep]
        if inside == ["y", "x"]:
            return FilePlane(array, axes)
        colours = "s" in inside and array.shape[inside.index("s")] in COLOUR_LENGTHS
        if "s" in inside and not (colours and self._colour and array.dtype.str[1:] in ("u1", "u2", "f4", "f8")):
            inside[inside.index("s")] = "c" if "c" not in axes else "sample"
        free = (name for name in ("z", "t", "c", "p") if name not in axes and name not in inside)
        return FilePlane(array, axes, tuple(name or next(free) for name in inside))

    def _time_s(self, number: int) -> float | None:
        number = self._present[number]
        _, where = self._place(number)
        if self._ome:
            time = self._said_of(number).get("elapsed_s")
            if time is not None:
                return time
        elif self._tiff.is_micromanager or self._tiff.is_ndtiff:
            return elapsed_s(self._by_micromanager(number))
        return where["t"] * self._interval if self._interval and "t" in where else None

    def _metadata_of(self, number: int) -> Mapping[str, Any]:
        number = self._present[number]
        if self._ome:
            image, _ = self._place(number)
            at, names = self._part_of.get("p", image), self.about.sites.names
            said = self._said_of(number)
            return (
                {**said, "position": names[at]} if "p" in self.about.sizes and at < len(names) and names[at] else said
            )
        return self._by_micromanager(number) if self._tiff.is_micromanager or self._tiff.is_ndtiff else {}

    def _by_micromanager(self, number: int) -> Mapping[str, Any]:
        with _quiet():
            page = self._images[number // self._per_image].pages[number % self._per_image]
            return {} if page is None else _micromanager_metadata(page)

    def close(self) -> None:
        """Close the file. Idempotent."""
        self._stack.close()


def _of(series: Any) -> list[Any]:
    """Return the pages of a series that exist in the file; a stack may have one page for all of its planes."""
    return list(series._pages) if len(series.pages) > 1 else [series.pages[0]]  # noqa: SLF001 - no parsing of frames


def _same(series: list[Any]) -> list[Any]:
    """Return the images that can be shown as the positions of one stack: all of them, or only the first."""
    first = series[0]
    form = (first.get_shape(False), first.get_axes(False), first.dtype)
    alike = all((it.get_shape(False), it.get_axes(False), it.dtype) == form for it in series)
    return series if alike and not {"P", "R"} & set(first.get_axes(False)) else [first]


def _split(series: Any) -> tuple[str, tuple[int, ...], str]:
    """Return the axes before those of a page, the full shape, and the axes of a page."""
    axes, shape = str(series.get_axes(False)), tuple(int(n) for n in series.get_shape(False))
    wanted = int(np.prod(series.keyframe.shape, dtype=np.int64))
    for start in range(len(axes) - 1, -1, -1):
        inside = axes[start:]
        if int(np.prod(shape[start:], dtype=np.int64)) == wanted and {"Y", "X"} <= set(inside):
            return axes[:start], shape, inside
    raise FileError(f"its pages don't fit its axes {axes} of {shape}")


def _check_imagej(tiff: Any) -> None:
    """Check that an ImageJ stack with one directory for all of its planes (as above 4 GB) is complete.

    Raises
    ------
    IncompleteFileError
        If it has fewer planes than its description says.
    """
    planes, page = (tiff.imagej_metadata or {}).get("images"), tiff.pages.first
    if not isinstance(planes, int) or planes < 2 or page.compression != 1 or len(tiff.pages) > 1:
        return
    nbytes, there = page.nbytes, os.fstat(tiff.filehandle.fileno()).st_size - page.dataoffsets[0]
    if nbytes and there < planes * nbytes:
        raise IncompleteFileError(f"it has {there // nbytes} of {planes} planes")


def _planned_by_imagej(tiff: Any) -> tuple[int, ...]:
    """Return how many time points, slices and channels an ImageJ stack was to have; () if it does not say."""
    about = tiff.imagej_metadata or {}
    counts = tuple(about.get(name, 1) for name in ("frames", "slices", "channels"))
    planned = all(isinstance(number, int) and 0 < number < _MOST_PAGES for number in counts)
    return counts if planned and math.prod(counts) == about.get("images") else ()


def _ome_in(path: Path) -> str:
    """Return the OME-XML in a file that another one refers to: a TIFF, or the text alone."""
    import tifffile

    try:
        with open_regular(path) as file:
            if file.read(1) == b"<":
                return "<" + file.read(_MOST_TEXT).decode("utf-8", "replace")
            check_structure(file.fileno())
            file.seek(0)
            with tifffile.TiffFile(file) as tiff:
                return tiff.ome_metadata or ""
    except (OSError, FileError) as error:
        raise ValueError(f"it is in {path.name}: {getattr(error, 'strerror', None) or error}") from error


def _check_sizes(images: list[OmeImage], page: Any) -> None:
    """Raise ValueError if an OME-XML text gives impossible sizes: tifffile allocates memory for all that it lists.

    In a pyramid or a set, some images differ in size from the first page, but not all of them.
    """
    if not images:
        return
    planes = sum(image.planes for image in images)
    if planes > _MOST_PAGES:
        raise ValueError(f"its OME-XML describes {planes:.2g} planes")
    size = (int(page.imagelength), int(page.imagewidth))
    told = [image.shape for image in images if all(image.shape)]
    if told and size not in told:
        raise ValueError(f"its OME-XML describes {told[0][1]} x {told[0][0]} pixels")


def _per_unit(page: Any, tag: str) -> float:
    """Return a resolution tag in pixels per unit; 0 if there is none."""
    value = page.tags.valueof(tag)
    try:
        over, under = value
        return float(over) / float(under)
    except (TypeError, ValueError, ZeroDivisionError):
        return 0.0


def _rounded(size: float) -> float:
    """Round a size such as 0.65 that was stored as a ratio of integers."""
    return float(f"{size:.6g}")


def _micromanager_metadata(page: Any) -> Mapping[str, Any]:
    """Return what Micro-Manager says of a plane: its tag 51123 holds the frame's metadata as JSON."""
    tags = getattr(page, "tags", None)
    if tags is None:
        tags = page.aspage().tags
    about = tags.valueof(_MICROMANAGER)
    if isinstance(about, str | bytes):
        try:
            about = json.loads(about)
        except (ValueError, RecursionError):
            return {}
    return about if isinstance(about, dict) else {}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence tifffile's log, because problems of a damaged file are reported as an error or a note."""
    log = logging.getLogger("tifffile")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


# ---- is it complete? -------------------------------------------------------------------------------------------------

_SIZES: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_OFFSETS, _COUNTS = (273, 324), (279, 325)  # of strips, of tiles


def check_structure(descriptor: int) -> int:
    """Check that a TIFF file has all the pixels that its directories list; return the number of directories.

    Every directory of the chain must lie within the file, as must all values and all strips or tiles. Nothing is
    decoded. The format: TIFF 6.0, section 2; BigTIFF as in the proposal by Aware Systems.

    Parameters
    ----------
    descriptor
        The open file.

    Raises
    ------
    IncompleteFileError
        If something lies past the file's end, or has not been written yet (offset 0).
    FileError
        If it is not a TIFF file.
    """
    size = os.fstat(descriptor).st_size
    head = _at(descriptor, 0, min(16, size), size)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise (IncompleteFileError if len(head) < 8 else FileError)("not a TIFF file, or not complete yet")
    magic = struct.unpack(order + "H", head[2:4])[0]
    if magic not in (42, 43):
        raise (IncompleteFileError if magic == 0 else FileError)(f"not a TIFF file (version {magic})")
    big = magic == 43
    if big and len(head) < 16:
        raise IncompleteFileError("it ends within its header")
    offset = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
    if not offset:
        raise IncompleteFileError("its first directory has not been written yet")
    seen: set[int] = set()
    while offset and len(seen) < _MOST_PAGES:
        if offset in seen:
            raise FileError("its directories form a loop")
        seen.add(offset)
        offset = _check_directory(descriptor, offset, size, order, big=big)
    return len(seen)


def _check_directory(descriptor: int, offset: int, size: int, order: str, *, big: bool) -> int:
    """Check one directory; return the offset of the next one, 0 if there is none."""
    count_format, entry_format, pointer = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    width, entry, place = (8, 20, 8) if big else (2, 12, 4)
    (count,) = struct.unpack(order + count_format, _at(descriptor, offset, width, size))
    if not 0 < count <= 4096:
        raise IncompleteFileError(f"a directory has {count} entries: it is not written yet, or damaged")
    body = _at(descriptor, offset + width, count * entry + place, size)
    lists: dict[int, np.ndarray[Any, Any]] = {}
    for number in range(count):
        raw = body[number * entry : (number + 1) * entry]
        tag, kind, values = struct.unpack(order + entry_format, raw[:-place])
        nbytes = _SIZES.get(kind, 1) * values
        where = 0
        if nbytes > place:
            (where,) = struct.unpack(order + pointer, raw[-place:])
            if where + nbytes > size:
                raise IncompleteFileError(f"tag {tag} lies past the end: the file has {size} bytes")
        if tag in (*_OFFSETS, *_COUNTS):
            data = _at(descriptor, where, nbytes, size) if where else raw[-place:][:nbytes]
            lists[tag] = np.frombuffer(data, f"{order}u{_SIZES.get(kind, 4)}").astype(np.uint64)
    for offsets, counts in zip(_OFFSETS, _COUNTS, strict=True):
        if offsets in lists and counts in lists and len(lists[offsets]) == len(lists[counts]):
            used = lists[counts] > 0
            if not lists[offsets][used].all():
                raise IncompleteFileError("some of its pixels have not been written yet")
            end = int((lists[offsets] + lists[counts])[used].max()) if used.any() else 0
            if end > size:
                raise IncompleteFileError(f"it has {size} of at least {end} bytes")
    return int(struct.unpack(order + pointer, body[-place:])[0])


def _at(descriptor: int, offset: int, count: int, size: int) -> bytes:
    if offset + count > size:
        raise IncompleteFileError(f"it ends {offset + count - size} bytes too early")
    if sys.platform == "win32":
        os.lseek(descriptor, offset, os.SEEK_SET)
        data = os.read(descriptor, count)
    else:
        data = os.pread(descriptor, count, offset)
    if len(data) < count:
        raise IncompleteFileError(f"it ends {count - len(data)} bytes too early")
    return data
