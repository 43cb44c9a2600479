"""What came of a run, or the frames that are shown of it, as files: OME-TIFF or OME-Zarr.

Planes are read one after the other while they are written, so that saving takes the memory of a few of them, and a
viewer that keeps its history small may forget some before their turn: those are counted, and zeros in the file.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from scopecast.images.ome import CANVAS, micrometers
from scopecast_viewers.look.colors import channel_colormap, table_of
from scopecast_viewers.receiving.metadata import decoded, read_recorded
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.history import Held
    from scopecast_viewers.stacks.plane import Plane
    from scopecast_viewers.stacks.stack import Stack

__all__ = [
    "FORMATS",
    "UNFINISHED",
    "Export",
    "Saved",
    "StoppedError",
    "TakenFrame",
    "claim",
    "claimed",
    "exports",
    "is_preview",
    "save",
    "save_all",
]

#: The formats by the end of a file's name, and what they are called.
FORMATS: Final = {".ome.tiff": "OME-TIFF", ".ome.zarr": "OME-Zarr"}
#: How the folder of a run is called that is not in its file yet.
UNFINISHED: Final = ".unfinished"
_TIFF_TYPES: Final = frozenset(["int8", "int16", "int32", "uint8", "uint16", "uint32", "float32", "float64"])
_UNITS: Final = {"um": "µm", "micrometer": "µm", "micron": "µm", "µm": "µm", "nm": "nm", "mm": "mm", "m": "m"}
_At = tuple[int, int, int, int]
#: What is not in the names of files.
_UNFIT: Final = re.compile(r"[^\w .,+-]+")
_RGB: Final = ("red", "green", "blue", "alpha")
_NO_ZARR: Final = (
    "OME-Zarr is written by ome-writers, which is not installed here ({error}): pip install 'scopecast[zarr]', "
    "or save as OME-TIFF"
)


class StoppedError(Exception):
    """The user has stopped the saving; nothing is left of the file."""


class Saved(NamedTuple):
    """What has been written.

    Attributes
    ----------
    paths
        The files; a folder where it is OME-Zarr.
    planes
        Planes of frames in them.
    missing
        Places for which no frame had come; zeros.
    forgotten
        Frames that had come, and that the history had let go of before their turn; zeros.
    """

    paths: tuple[Path, ...]
    planes: int
    missing: int
    forgotten: int

    def __str__(self) -> str:
        """Say what is where, and what is missing."""
        names = ", ".join(path.name for path in self.paths)
        gaps = f"; no frame had arrived for {self.missing} places" if self.missing else ""
        gone = f"; {self.forgotten} frames had been forgotten" if self.forgotten else ""
        return f"{self.planes} frame{'s' * (self.planes != 1)} in {names}{gaps}{gone}"


class TakenFrame(NamedTuple):
    """A frame that is to be written.

    Attributes
    ----------
    pixels
        Its plane; None to read it when its turn comes.
    tag
        What is remembered of it.
    held
        What the history has of it.
    """

    pixels: Plane | None
    tag: Tag | None
    held: Held | None = None


#: The axes of a stack, and frames by their places in it.
_Frames = tuple[tuple[str, ...], dict[tuple[int, ...], TakenFrame]]


class Export(NamedTuple):
    """The planes of a stack, as a file has them.

    Attributes
    ----------
    stack
        Whose planes they are.
    name
        What tells it from the others of its run; ``""`` if there are none.
    title
        Of the run.
    frames
        By index in the file: image, t, c, z.
    shape
        Number of images, t, c, z.
    images, channels, colors
        What the images (positions, fields, cameras) and channels are called, and the channels' colours, (r, g, b).
    scale
        Size of a voxel (z, y, x) in `unit`, 0 where it is not known; and the interval of t in seconds.
    unit
        ``"µm"``, ``"nm"``, …; ``""`` where none is known.
    begin_ns
        When its first frame was sent.
    """

    stack: Stack
    name: str
    title: str
    frames: Mapping[_At, TakenFrame]
    shape: tuple[int, int, int, int]
    images: tuple[str, ...]
    channels: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    scale: tuple[float, float, float, float]
    unit: str
    begin_ns: int

    @property
    def places(self) -> int:
        """Places in the file, with frames or without."""
        return math.prod(self.shape)

    def tag(self, place: _At) -> Tag | None:
        """Return what is remembered of the frame at a place; None if none came."""
        frame = self.frames.get(place)
        return None if frame is None else frame.tag


def claim(folder: Path, source: str, run: str) -> Path:
    """Make the folder for a run that begins now, with a name that is not taken; return it."""
    named = " ".join(dict.fromkeys(filter(None, (source, run))))
    plain = _UNFIT.sub("_", named)[:120].strip(" .") or "run"
    stem, number = f"{plain} {time.strftime('%Y-%m-%d %H-%M-%S')}", 1
    while True:
        name = stem if number == 1 else f"{stem} ({number})"
        number += 1
        if any((folder / (name + form)).exists() for form in FORMATS):
            continue
        try:
            (folder / (name + UNFINISHED)).mkdir()
        except FileExistsError:
            continue
        return folder / (name + UNFINISHED)


@contextmanager
def claimed(folder: Path, source: str, run: str, form: str) -> Iterator[Path]:
    """Yield the path of a file for a run, whose name nobody else takes meanwhile."""
    place = claim(folder, source, run)
    try:
        yield folder / (place.name.removesuffix(UNFINISHED) + form)
    finally:
        place.rmdir()


def exports(
    stream: LiveStream,
    shown: Mapping[Stack, tuple[tuple[str, ...], Mapping[tuple[int, ...], TakenFrame]]] | None = None,
) -> tuple[Export, ...]:
    """Return what came of a run, an export for each size and kind of image.

    Parameters
    ----------
    stream
        The run.
    shown
        The frames to take instead, of each stack: its axes, and the frames by their places; those that are shown. In
        the file they are one image of each position, whatever their t and z.

    Returns
    -------
    tuple of Export
        As of now. Of a run, only the positions of its planes are taken, not yet the pixels. Called from any thread.

    Raises
    ------
    ValueError
        If some frames are previews, whose exact pixels have not come yet.
    """
    if shown is None:
        shown = {stack: _frames_of(stack) for stack in stream.stacks if stack.layout.planes}
        whole = frozenset(("t", "c", "z"))
    else:
        whole = frozenset(("c",))
    previews = sum(is_preview(frame.tag) for _, frames in shown.values() for frame in frames.values())
    if previews:
        number = sum(len(frames) for _, frames in shown.values())
        raise ValueError(
            f"{previews} of {number} frames are previews, whose exact pixels are still on their way from the other "
            f"machine: save again in a while, or pause the acquisition"
        )
    return tuple(
        _export(stream, stack, axes, frames, whole)._replace(name=_told_apart(stack, list(shown)))
        for stack, (axes, frames) in shown.items()
        if frames
    )


def is_preview(tag: object) -> bool:
    """Whether a frame with this tag has pixels that are not exact."""
    return isinstance(tag, Tag) and tag.preview


def _frames_of(stack: Stack) -> _Frames:
    layout = stack.layout
    held_at = layout.planes.copy()  # in one step of the interpreter, while the receiver's thread may add to it
    # The next frame of live mode takes the place of this one, which would then count as forgotten.
    keep = not set(layout.axes) - {"c"}
    return layout.axes, {
        index: TakenFrame(held.plane if keep else None, held.tag if isinstance(held.tag, Tag) else None, held)
        for index, held in held_at.items()
    }


def _export(
    stream: LiveStream,
    stack: Stack,
    axes: tuple[str, ...],
    frames: Mapping[tuple[int, ...], TakenFrame],
    along: frozenset[str],
) -> Export:
    """Lay frames out as a file has them, along those axes; each position, field and camera is an image of its own."""
    about = stream.about
    at = {name: axes.index(name) for name in along if name in axes}
    others = [axis for axis, name in enumerate(axes) if name not in ("t", "c", "z")]
    images = {place: number for number, place in enumerate(sorted({tuple(i[o] for o in others) for i in frames}))}
    channels = {
        channel: number for number, channel in enumerate(sorted({i[at["c"]] if "c" in at else 0 for i in frames}))
    }
    first = {name: min(index[axis] for index in frames) for name, axis in at.items()}
    last = {name: max(index[axis] for index in frames) for name, axis in at.items()}

    def counted(name: str, index: tuple[int, ...]) -> int:
        return index[at[name]] - first[name] if name in at else 0

    placed = {
        (
            images[tuple(index[other] for other in others)],
            counted("t", index),
            channels[index[at["c"]] if "c" in at else 0],
            counted("z", index),
        ): frame
        for index, frame in frames.items()
    }
    sizes = {name: last[name] - first[name] + 1 for name in at}
    unit = _UNITS.get(about.units, "")
    steps = dict(zip(about.axes, about.steps, strict=True))
    y, x = (*about.scale, 1.0, 1.0)[:2] if unit else (0.0, 0.0)
    seen = len({channel for _, channel in stream.parts})
    names = [stream.label("c", channel) if "c" in axes else about.title or "image" for channel in channels]
    colors = [table_of(channel_colormap(about, channel, seen))[-1] for channel in channels]
    return Export(
        stack=stack,
        name="",
        title=about.title,
        frames=placed,
        shape=(len(images), sizes.get("t", 1), len(channels), sizes.get("z", 1)),
        images=tuple(_image_name(stream, [axes[axis] for axis in others], image) for image in images),
        channels=tuple(names),
        colors=tuple((int(color[0]), int(color[1]), int(color[2])) for color in colors),
        scale=(steps.get("z", 0.0) if unit else 0.0, y, x, steps.get("t", 0.0)),
        unit=unit,
        begin_ns=min((frame.tag.sent_ns for frame in frames.values() if frame.tag is not None), default=0),
    )


def _image_name(stream: LiveStream, axes: Sequence[str], image: Sequence[int]) -> str:
    """Return what an image is called: by the labels of its position and camera, else by their numbers."""
    labels = [(axis, at, stream.label(axis, at)) for axis, at in zip(axes, image, strict=True)]
    return " ".join(f"{axis}{at}" if label == str(at) else label for axis, at, label in labels)


def _told_apart(stack: Stack, stacks: Sequence[Stack]) -> str:
    """Return what tells a stack from the others of its run: what its labels are called, else its size and dtype."""
    if len(stacks) == 1:
        return ""
    size = "x".join(str(extent) for extent in stack.plane_shape[1::-1])
    if stack.is_labels:
        return f"{stack.sent.name or 'labels'} {size}"
    return f"{stack.sent.name} {size} {stack.dtype}".strip()


def save_all(parts: Sequence[Export], path: Path, told: Callable[[int, int], None] = lambda done, of: None) -> Saved:
    """Write exports: one as the file that is named, several beside it, each with its name, and a number if need be.

    Called from any thread but the receiver's and the GUI's; waits for the disk. Parameters as of `save`.
    """
    form = _format_of(path)
    stem = path.name[: -len(form)]
    of, before = sum(each.places for each in parts), 0
    results: list[Saved] = []
    named: set[str] = set()
    for number, each in enumerate(parts):
        wanted = name = f"{stem} {_UNFIT.sub('_', each.name)}" if each.name and number else stem
        while name.lower() in named:  # which is the same file on some systems
            name = f"{wanted} ({len(named) + 1})"
        named.add(name.lower())

        def told_of_all(done: int, _of: int, before: int = before) -> None:
            told(before + done, of)

        results.append(save(each, path.with_name(name + form), told_of_all))
        before += each.places
    return Saved(
        tuple(path for each in results for path in each.paths),
        sum(each.planes for each in results),
        sum(each.missing for each in results),
        sum(each.forgotten for each in results),
    )


def save(export: Export, path: Path, told: Callable[[int, int], None] = lambda done, of: None) -> Saved:
    """Write an export as OME-TIFF or OME-Zarr, under its name only when all of it is written.

    Parameters
    ----------
    export
        What to write.
    path
        The file, whose name ends with ``.ome.tiff`` or ``.ome.zarr``; one that is there is replaced.
    told
        Called after each plane with how many of how many are done; it may raise `StoppedError`.

    Raises
    ------
    ValueError
        If the name ends otherwise, or the format can't have these pixels.
    ImportError
        If what writes the format is not installed.
    OSError
        If it can't be written.
    """
    form = _format_of(path)
    # The end of the name stays, by which the writers know the format.
    partial = path.with_name(f".{path.name[: -len(form)]}.partial{form}")
    if path.is_dir() and not (path / "zarr.json").exists():
        raise FileExistsError(f"{path} is a folder of something else, which is not replaced: choose another name")
    reader = _Reader(export, told)
    _remove(partial)
    try:
        (_write_tiff if form == ".ome.tiff" else _write_zarr)(export, partial, reader)
        _remove(path, only_folder=True)
        partial.replace(path)
    except BaseException:
        _remove(partial)
        raise
    return Saved((path,), reader.planes, reader.missing, reader.forgotten)


def _format_of(path: Path) -> str:
    for form in FORMATS:
        if path.name.endswith(form):
            return form
    raise ValueError(f"{path.name} ends with neither {' nor '.join(FORMATS)}, by which the format is known")


def _remove(path: Path, *, only_folder: bool = False) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif not only_folder:
        path.unlink(missing_ok=True)


class _Reader:
    """Reads the planes of an export in order, and counts what became of them."""

    def __init__(self, export: Export, told: Callable[[int, int], None]) -> None:
        self.export, self._told = export, told
        self.planes = self.missing = self.forgotten = 0
        stack = export.stack
        self.dtype = np.dtype("uint8") if stack.dtype == bool else stack.dtype

    def image(self, image: int, order: str = "tcz") -> Iterator[tuple[_At, npt.NDArray[Any]]]:
        """Yield the planes of an image with their places, by the axes in `order`."""
        export, stack = self.export, self.export.stack
        sizes = dict(zip("tcz", export.shape[1:], strict=True))
        for index in np.ndindex(*(sizes[name] for name in order)):
            at = dict(zip(order, index, strict=True))
            place = (image, at["t"], at["c"], at["z"])
            frame, plane = export.frames.get(place), None
            if frame is None:
                self.missing += 1
            else:
                plane = frame.pixels
                if plane is None and frame.held is not None:
                    plane = stack.history.read(frame.held)
                self.forgotten += plane is None
                self.planes += plane is not None
            yield place, np.ascontiguousarray(stack.zero if plane is None else plane, self.dtype)
            self._told(self.planes + self.missing + self.forgotten, export.places)


def _write_tiff(export: Export, path: Path, reader: _Reader) -> None:
    tifffile = importlib.import_module("tifffile")
    if reader.dtype.name not in _TIFF_TYPES:
        raise ValueError(f"OME-TIFF has no pixels of type {reader.dtype}: save as OME-Zarr")
    stack, (images, *sizes) = export.stack, export.shape
    is_color = len(stack.plane_shape) == 3
    with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
        for image in range(images):
            writer.write(
                (plane for _, plane in reader.image(image)),
                shape=(*sizes, *stack.plane_shape),
                dtype=reader.dtype,
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
    places: list[_At] = [(image, t, c, z) for t, c, z in np.ndindex(export.shape[1:])]
    said = [_said(export, place) for place in places]
    plane: dict[str, Any] = {}
    for ours, name, unit in _PLANE:
        if any(ours in each for each in said):
            values = [each.get(ours, 0.0) for each in said]
            plane |= {name: values, f"{name}Unit": [unit] * len(values)}
    if plane:
        about["Plane"] = plane
    tags = {place[1:]: tag for place in places if (tag := export.tag(place)) is not None}
    said_of = {f"t{t} c{c} z{z}": _json(tag) for (t, c, z), tag in tags.items() if tag.metadata}
    # OME has no place for how the camera sits on the stage, by which the fields of a mosaic are arranged.
    corner = next((tag.translate for tag in tags.values() if len(tag.translate) == 2), ())
    um = micrometers(export.unit)
    if corner and um:
        said_of = {CANVAS: " ".join(repr(float(at) * um) for at in corner), **said_of}
    if said_of:
        about["MapAnnotation"] = said_of
    return about


#: By scopecast's name: OME's name of what is told of a plane, and its unit there.
_PLANE: Final = (
    ("elapsed_s", "DeltaT", "s"),
    ("exposure_ms", "ExposureTime", "ms"),
    ("x_um", "PositionX", "µm"),
    ("y_um", "PositionY", "µm"),
    ("z_um", "PositionZ", "µm"),
)


def _said(export: Export, place: _At) -> dict[str, float]:
    """Return what is known of a frame, by the names of `Recorded`; its time since the first where nothing else is."""
    tag = export.tag(place)
    if tag is None:
        return {}
    said = read_recorded(tag.metadata)._asdict()
    known = {name: said[name] for name, _, _ in _PLANE if said[name] is not None}
    return {"elapsed_s": (tag.sent_ns - export.begin_ns) / 1e9, **known}


def _signed(red: int, green: int, blue: int) -> int:
    """Return a colour as OME has it: red, green, blue, alpha in 32 bits with a sign.

    >>> _signed(255, 255, 255), _signed(0, 255, 0)
    (-1, 16711935)
    """
    return int.from_bytes(bytes((red, green, blue, 255)), "big", signed=True)


def _write_zarr(export: Export, path: Path, reader: _Reader) -> None:
    try:
        ome = importlib.import_module("ome_writers")
    except ImportError as error:
        raise ImportError(_NO_ZARR.format(error=error)) from error
    (images, t, _, z_size), (z, y, x, interval) = export.shape, export.scale
    stack, unit = export.stack, export.unit
    samples = stack.plane_shape[2] if len(stack.plane_shape) == 3 else 0
    named = zip(_unique(export.channels), export.colors, strict=True)
    channels = [ome.Channel(name=name, color=color) for name, color in named]
    if samples:
        channels = [ome.Channel(name=f"{each.name} {_RGB[sample]}") for each in channels for sample in range(samples)]
    sides = zip("yx", stack.plane_shape[:2], (y, x), strict=True)
    space = {"type": "space", "unit": unit or None}
    dims = {
        "t": ome.Dimension(name="t", count=t, type="time", unit="s" if interval else None, scale=interval or None),
        "c": ome.Dimension(name="c", count=len(channels), type="channel", coords=channels),
        "z": ome.Dimension(name="z", count=z_size, scale=z or None, **space),
    }
    order = "tzc" if samples else "tcz"  # a frame in colour is several channels
    positions = [ome.Dimension(name="p", type="position", coords=_unique(export.images))] if images > 1 else []
    settings = ome.AcquisitionSettings(
        root_path=str(path),
        dimensions=[
            *positions,
            *(dims[name] for name in order),
            *(ome.Dimension(name=name, count=count, scale=by or None, **space) for name, count, by in sides),
        ],
        dtype=reader.dtype.name,
        format="ome-zarr",
    )
    with ome.create_stream(settings) as writer:
        for image in range(images):
            for place, plane in reader.image(image, order):
                for part in np.moveaxis(plane, -1, 0) if samples else (plane,):
                    writer.append(np.ascontiguousarray(part), frame_metadata=_zarr_metadata(export, place))


def _zarr_metadata(export: Export, place: _At) -> dict[str, Any] | None:
    """Return what ome-writers is to keep of a frame: times in s, positions in µm, and all that was sent with it."""
    tag, said = export.tag(place), _said(export, place)
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
