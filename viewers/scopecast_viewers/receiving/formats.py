"""The formats that runs are written in, OME-TIFF and OME-Zarr, and which of them has the pixels of an export.

Both have every plane, axes, channels, sizes, times, and all that was sent with a frame. What neither can say, they have
under the name ``scopecast``: when the time of the run begins, and which of its indices those of the file are.
"""

from __future__ import annotations

import importlib
import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.images.ome import CANVAS, micrometers
from scopecast_viewers.look.contrast import Contrast
from scopecast_viewers.receiving.metadata import decoded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from scopecast_viewers.receiving.exporting import Export, Place
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["FORMATS", "UNFIT", "PlaneReader", "fitting", "write"]

#: The formats by the end of a file's name, and what they are called.
FORMATS: Final = {".ome.tiff": "OME-TIFF", ".ome.zarr": "OME-Zarr"}
#: What is not in the names of files.
UNFIT: Final = re.compile(r"[^\w .,+-]+")
#: OME-TIFF has no such pixels; OME-Zarr has all.
_NOT_IN_TIFF: Final = frozenset(["int64", "uint64"])
_RGB: Final = {"red": "FF0000", "green": "00FF00", "blue": "0000FF", "alpha": "FFFFFF"}
_NO_ZARR: Final = (
    "OME-Zarr is written by ome-writers, which is not installed here ({error}): pip install 'scopecast[zarr]'{instead}"
)
#: Names that a folder can't have on Windows; and what lies beside the images of an OME-Zarr.
_RESERVED: Final = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d|ome|zarr\.json)(\..*)?")
_MOST_CHARACTERS: Final = 60


def fitting(export: Export, form: str) -> str:
    """Return the format that an export is written in: that which is wanted, or the one that has its pixels.

    Raises
    ------
    ImportError
        If what writes that is not installed.
    """
    dtype = export.stack.dtype.name
    tiff = form == ".ome.tiff"
    if tiff and dtype not in _NOT_IN_TIFF:
        return form
    try:
        importlib.import_module("ome_writers")
    except ImportError as error:
        told = _NO_ZARR.format(error=error, instead="" if dtype in _NOT_IN_TIFF else ", or save as OME-TIFF")
        raise ImportError(f"OME-TIFF has no pixels of type {dtype}, and {told}" if tiff else told) from error
    return ".ome.zarr"


def write(export: Export, path: Path, reader: PlaneReader) -> None:
    """Write an export as the file, or the folder, whose name tells the format; waits for the disk.

    Raises
    ------
    OSError
        If it can't be written; a part of it may be there.
    """
    (_write_tiff if path.name.endswith(".ome.tiff") else _write_zarr)(export, path, reader)


class PlaneReader:
    """Reads the planes of an export in order, and counts what became of them.

    Parameters
    ----------
    export
        Whose planes.
    told
        Called after each with how many of how many are done.

    Attributes
    ----------
    planes, forgotten : int
        Planes of frames so far; and those that the history had let go of.
    contrasts : dict of int to Contrast
        In which range of values each channel is to be shown, as far as `image` was told to judge it.
    """

    def __init__(self, export: Export, told: Callable[[int, int], None]) -> None:
        self.export, self._told = export, told
        self.planes = self.forgotten = self._done = 0
        self.contrasts: dict[int, Contrast] = {}

    def image(
        self, image: int, dtype: npt.DTypeLike, order: str = "tcz", *, judge: bool = False
    ) -> Iterator[tuple[Place, npt.NDArray[Any]]]:
        """Yield the planes of an image, as `dtype`, with their places, by the axes in `order`."""
        export, stack = self.export, self.export.stack
        sizes = dict(zip("tcz", export.shape[1:], strict=True))
        for index in np.ndindex(*(sizes[name] for name in order)):
            at = dict(zip(order, index, strict=True))
            place = (image, at["t"], at["c"], at["z"])
            frame, plane = export.frames.get(place), None
            if frame is not None:
                plane = frame.pixels
                if plane is None and frame.held is not None:
                    plane = stack.history.read(frame.held)
                self.forgotten += plane is None
                self.planes += plane is not None
            pixels = np.ascontiguousarray(stack.zero if plane is None else plane, dtype)
            if judge and plane is not None and pixels.ndim == 2:
                seen = np.abs(pixels) if pixels.dtype.kind == "c" else pixels
                self.contrasts.setdefault(at["c"], Contrast(seen.dtype)).look(seen)
            yield place, pixels
            self._done += 1
            self._told(self._done, export.places)


def _write_tiff(export: Export, path: Path, reader: PlaneReader) -> None:
    tifffile = importlib.import_module("tifffile")
    stack, (images, *sizes) = export.stack, export.shape
    is_color = len(stack.plane_shape) == 3
    dtype = np.dtype({"bool": "uint8", "float16": "float32"}.get(stack.dtype.name, stack.dtype))
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        for image in range(images):
            writer.write(
                (plane for _, plane in reader.image(image, dtype)),
                shape=(*sizes, *stack.plane_shape),
                dtype=dtype,
                photometric="rgb" if is_color else "minisblack",
                metadata=_ome_of(export, image),
            )


def _ome_of(export: Export, image: int) -> dict[str, Any]:
    """Return the metadata of an image, as tifffile takes them for its OME-XML."""
    z, y, x, interval = export.scale
    is_color = len(export.stack.plane_shape) == 3
    about: dict[str, Any] = {"axes": "TCZYXS" if is_color else "TCZYX"}
    about["Name"] = " ".join(filter(None, (export.title, export.images[image]))) or "image"
    for axis, size in (("X", x), ("Y", y), ("Z", z)):
        if size:
            about |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": export.unit}
    if interval:
        about |= {"TimeIncrement": interval, "TimeIncrementUnit": "s"}
    about["Channel"] = {"Name": list(export.channels)}
    if not is_color:
        about["Channel"]["Color"] = [_signed(*color) for color in export.colors]
    about["AcquisitionDate"] = datetime.fromtimestamp(export.began).isoformat(timespec="milliseconds")
    places: list[Place] = [(image, t, c, z) for t, c, z in np.ndindex(export.shape[1:])]
    about["Plane"] = [_plane(export.said(place)) for place in places]
    tags = {place[1:]: tag for place in places if (tag := export.tag(place)) is not None}
    said_of = {"scopecast": json.dumps(export.origin)}
    # OME has no place for how the camera sits on the stage, by which the fields of a mosaic are arranged.
    corner = next((tag.translate for tag in tags.values() if len(tag.translate) == 2), ())
    um = micrometers(export.unit)
    if corner and um:  # first, where it is looked for
        said_of = {CANVAS: " ".join(repr(float(at) * um) for at in corner), **said_of}
    about["MapAnnotation"] = said_of | {
        f"t{t} c{c} z{z}": _json(tag) for (t, c, z), tag in tags.items() if tag.metadata
    }
    return about


def _plane(said: dict[str, float]) -> dict[str, Any]:
    """Return what OME-XML tells of a plane; of one that never came, nothing."""
    told: dict[str, Any] = {}
    for ours, name, unit in _PLANE:
        if ours in said:
            told |= {name: said[ours], f"{name}Unit": unit}
    return told


#: By scopecast's name: OME's name of what is told of a plane, and its unit there.
_PLANE: Final = (
    ("elapsed_s", "DeltaT", "s"),
    ("exposure_ms", "ExposureTime", "ms"),
    ("x_um", "PositionX", "µm"),
    ("y_um", "PositionY", "µm"),
    ("z_um", "PositionZ", "µm"),
)


def _signed(red: int, green: int, blue: int) -> int:
    """Return a colour as OME has it: red, green, blue, alpha in 32 bits with a sign.

    >>> _signed(255, 255, 255), _signed(0, 255, 0)
    (-1, 16711935)
    """
    return int.from_bytes(bytes((red, green, blue, 255)), "big", signed=True)


def _write_zarr(export: Export, path: Path, reader: PlaneReader) -> None:
    ome = importlib.import_module("ome_writers")
    (images, t, c, z_size), (z, y, x, interval) = export.shape, export.scale
    stack, unit = export.stack, export.unit
    samples = stack.plane_shape[2] if len(stack.plane_shape) == 3 else 0
    sides = zip("yx", stack.plane_shape[:2], (y, x), strict=True)
    space = {"type": "space", "unit": unit or None}
    dims: dict[str, dict[str, Any]] = {
        "t": {"count": t, "type": "time", "unit": "s" if interval else None, **_scaled(export, "t", interval)},
        # Without names: ome-writers makes them with the range of a whole number, which a float has not.
        "c": {"count": c * max(1, samples), "type": "channel"},
        "z": {"count": z_size, **space, **_scaled(export, "z", z)},
    }
    order = "tzc" if samples else "tcz"  # a frame in colour is several channels
    folders = folder_names(export.images)
    positions = [ome.Dimension(name="p", type="position", coords=folders)] if images > 1 else []
    dtype = np.dtype("uint8") if stack.dtype == bool else stack.dtype
    settings = ome.AcquisitionSettings(
        root_path=str(path),
        dimensions=[
            *positions,
            *(ome.Dimension(name=name, **dims[name]) for name in order),
            *(ome.Dimension(name=name, count=count, scale=by or None, **space) for name, count, by in sides),
        ],
        dtype=dtype.name,
        format="ome-zarr",
    )
    with ome.create_stream(settings) as writer:
        for image in range(images):
            for place, plane in reader.image(image, dtype, order, judge=True):
                for part in np.moveaxis(plane, -1, 0) if samples else (plane,):
                    writer.append(np.ascontiguousarray(part), frame_metadata=_zarr_metadata(export, place))
        metadata = writer.get_metadata()
        channels = _channels(export, samples, dtype, reader.contrasts)
        for image, folder in enumerate(folders if images > 1 else ["."]):
            metadata[folder]["ome"]["multiscales"][0]["name"] = export.images[image] or export.title or "image"
            metadata[folder]["ome"]["omero"] = {"channels": channels}
            metadata[folder]["scopecast"] = export.origin
        writer.update_metadata(metadata)


def _scaled(export: Export, axis: str, step: float) -> dict[str, float | None]:
    """Return the step of an axis, and where it begins: an image of a run lies where its labels do."""
    numbers = export.indices.get(axis, range(1))
    begin = numbers[0] * (step or 1.0) if isinstance(numbers, range) else 0.0
    return {"scale": step or None, "translation": begin or None}


def _channels(
    export: Export, samples: int, dtype: np.dtype[Any], contrasts: Mapping[int, Contrast]
) -> list[dict[str, Any]]:
    """Return the names, the colours and the ranges of the channels, as OME-Zarr has them (``omero``).

    Who opens the file sees what the live view has shown: ``start`` and ``end`` are what its contrast would be.
    """
    told: list[dict[str, Any]] = []
    for number, (name, color) in enumerate(zip(_unique(export.channels), export.colors, strict=True)):
        contrast = contrasts.get(number)
        if contrast is None:  # colours, or there are no pixels
            reach = limits = (0.0, float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0)
        else:
            reach, limits = contrast.reach, contrast.limits
        window = dict(zip(("min", "max", "start", "end"), (*reach, *limits), strict=True))
        about = {"active": True, "window": window}
        if samples:
            told += [{"label": f"{name} {each}", "color": _RGB[each], **about} for each in list(_RGB)[:samples]]
        else:
            told.append({"label": name, "color": bytes(color).hex().upper(), **about})
    return told


def _zarr_metadata(export: Export, place: Place) -> dict[str, Any] | None:
    """Return what ome-writers is to keep of a frame: times in s, positions in µm, and all that was sent with it."""
    tag, said = export.tag(place), export.said(place)
    if tag is None:
        return None
    told: dict[str, Any] = {"delta_t": said["elapsed_s"]}
    if "exposure_ms" in said:
        told["exposure_time"] = said["exposure_ms"] / 1e3
    told |= {f"position_{axis}": said[f"{axis}_um"] for axis in "xyz" if f"{axis}_um" in said}
    return told | ({"metadata": json.loads(_json(tag))} if tag.metadata else {})


def _json(tag: Tag) -> str:
    return json.dumps(decoded(tag.metadata), default=str)


def _unique(names: Sequence[str]) -> list[str]:
    """Return names of which none is empty and none comes twice.

    >>> _unique(["", "A", "A"])
    ['0', 'A', 'A (2)']
    """
    given: list[str] = []
    for number, name in enumerate(names):
        given.append(name if name and name not in given else f"{name} ({number})".strip() if name else str(number))
    return given


def folder_names(names: Iterable[str]) -> list[str]:
    """Return a name for the folder of each image in an OME-Zarr: safe, and unique also where case does not count.

    >>> folder_names(["A1", "../up", "/abs/olute", "..", "a1", "OME", "", "A/1"])
    ['A1', '.._up', '_abs_olute', '3', 'a1 (4)', 'OME_', '6', 'A_1']
    """
    given: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(names):
        safe = UNFIT.sub("_", name)[:_MOST_CHARACTERS].rstrip(" .").lstrip() or str(number)
        if safe.startswith("__") or _RESERVED.fullmatch(safe):  # of Zarr's own, or of Windows
            safe = f"{safe}_" if not safe.startswith("__") else f"image{safe}"
        wanted, count = safe, number
        while safe.lower() in taken:
            safe, count = f"{wanted} ({count})", count + 1
        taken.add(safe.lower())
        given.append(safe)
    return given
