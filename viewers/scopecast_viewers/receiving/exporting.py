"""What came of a run, or the frames that are shown of it, laid out as files have them.

It knows axes, channels and times, and neither formats nor the disk (`scopecast_viewers.receiving.formats`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scopecast_viewers.look.colors import channel_colormap, table_of
from scopecast_viewers.receiving.metadata import read_recorded
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.history import Held
    from scopecast_viewers.stacks.plane import Plane
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Export", "Place", "TakenFrame", "exports", "is_preview"]

#: Image, t, c and z, as they are counted in a file.
Place = tuple[int, int, int, int]
_UNITS: Final = {"um": "µm", "micrometer": "µm", "micron": "µm", "µm": "µm", "nm": "nm", "mm": "mm", "m": "m"}
#: What a file says of each frame, by the names of `read_recorded`.
_NUMBERS: Final = ("elapsed_s", "exposure_ms", "x_um", "y_um", "z_um")
#: The files of a run have the same t and z as long as that takes so many bytes, or so many times those of its frames.
_ROOM: Final = 64 * 2**20
_ROOM_SHARE: Final = 8


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


#: Image (its indices along the other axes), t, c and z, as the run has them.
_RunPlace = tuple[tuple[int, ...], int, int, int]
#: The axes of a stack, and frames by their places in it.
_Frames = tuple[tuple[str, ...], Mapping[tuple[int, ...], TakenFrame]]


class Export(NamedTuple):
    """The planes of a stack, as a file has them.

    All files of a run have the same t and z, and time that counts from the same moment, so that labels lie on their
    images. Only where that would take much more room than the frames, a file has its own t and z.

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
    indices
        Which indices of the run those along t, c and z of the file are, of those that the run has.
    gaps
        Places between its first and its last frame for which no image of the run came; 0 of labels, and of what a
        program has replied.
    images, channels, colors
        What the images (positions, fields, cameras) and channels are called, and the channels' colours, (r, g, b).
    scale
        Size of a voxel (z, y, x) in `unit`, 0 where it is not known; and the interval of t in seconds.
    unit
        ``"µm"``, ``"nm"``, …; ``""`` where none is known.
    begin_ns
        When its time begins, by `scopecast.protocol.clock_ns`: with the first frame of the run, or as its program says
        (``elapsed_s``).
    began
        The same in seconds since 1970.
    """

    stack: Stack
    name: str
    title: str
    frames: Mapping[Place, TakenFrame]
    shape: tuple[int, int, int, int]
    indices: Mapping[str, Sequence[int]]
    gaps: int
    images: tuple[str, ...]
    channels: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    scale: tuple[float, float, float, float]
    unit: str
    begin_ns: int
    began: float

    @property
    def places(self) -> int:
        """Places in the file, with frames or without."""
        return math.prod(self.shape)

    def tag(self, place: Place) -> Tag | None:
        """Return what is remembered of the frame at a place; None if none came."""
        frame = self.frames.get(place)
        return None if frame is None else frame.tag

    def said(self, place: Place) -> dict[str, float]:
        """Return what is known of a frame, by the names of `read_recorded`; its time as the file counts it."""
        tag = self.tag(place)
        if tag is None:
            return {}
        told = read_recorded(tag.metadata)._asdict()
        known = {name: told[name] for name in _NUMBERS if told[name] is not None}
        return {"elapsed_s": (tag.sent_ns - self.begin_ns) / 1e9, **known}

    @property
    def origin(self) -> dict[str, Any]:
        """Where it comes from: when its time begins, and which indices of the run those of the file are."""
        told = {name: _told(numbers) for name, numbers in self.indices.items()}
        return {"began": datetime.fromtimestamp(self.began).astimezone().isoformat(), "indices": told}


def _told(numbers: Sequence[int]) -> dict[str, int] | list[int]:
    """Return indices as a file has them: the first and how many, or all where some are left out."""
    if isinstance(numbers, range):
        return {"first": numbers.start, "count": len(numbers)}
    return list(numbers)


def exports(stream: LiveStream, shown: Mapping[Stack, _Frames] | None = None) -> tuple[Export, ...]:
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
    whole = ("t", "c", "z") if shown is None else ("c",)
    taken = {stack: _frames_of(stack) for stack in stream.stacks if stack.layout.planes} if shown is None else shown
    previews = sum(is_preview(frame.tag) for _, frames in taken.values() for frame in frames.values())
    if previews:
        number = sum(len(frames) for _, frames in taken.values())
        raise ValueError(
            f"{previews} of {number} frames are previews, whose exact pixels are still on their way from the other "
            f"machine: save again in a while, or pause the acquisition"
        )
    parts = [_Part(stack, *frames, whole) for stack, frames in taken.items() if frames[1]]
    begin_ns = _begin_ns(stream, parts)
    came = {place for part in parts if part.counts for place in part.places}
    spans = {
        name: range(min(part.first(name) for part in parts), max(part.last(name) for part in parts) + 1)
        for name in ("t", "z")
        if any(name in part.at for part in parts)
    }
    room = max(_ROOM, _ROOM_SHARE * sum(len(part.frames) * part.nbytes for part in parts))
    laid_out = (part.export(stream, part.fitting(spans, room), begin_ns, came) for part in parts)
    return tuple(export._replace(name=_told_apart(export.stack, list(taken))) for export in laid_out)


def is_preview(tag: object) -> bool:
    """Whether a frame with this tag has pixels that are not exact."""
    return isinstance(tag, Tag) and tag.preview


def _begin_ns(stream: LiveStream, parts: Sequence[_Part]) -> int:
    tags = [frame.tag for part in parts for frame in part.frames.values() if frame.tag is not None]
    first = min(tags, key=lambda tag: tag.sent_ns, default=None)
    if first is None:
        return 0
    elapsed_s = read_recorded(first.metadata).elapsed_s
    if elapsed_s is not None:
        return first.sent_ns - round(1e9 * elapsed_s)
    return min(first.sent_ns, stream.first_sent_ns or first.sent_ns)


def _frames_of(stack: Stack) -> _Frames:
    layout = stack.layout
    held_at = layout.planes.copy()  # in one step of the interpreter, while the receiver's thread may add to it
    # The next frame of live mode takes the place of this one, which would then count as forgotten.
    keep = not set(layout.axes) - {"c"}
    return layout.axes, {
        index: TakenFrame(held.plane if keep else None, held.tag if isinstance(held.tag, Tag) else None, held)
        for index, held in held_at.items()
    }


class _Part:
    """The frames of a stack, which are laid out along some axes; each position, field and camera is an image."""

    def __init__(
        self, stack: Stack, axes: tuple[str, ...], frames: Mapping[tuple[int, ...], TakenFrame], along: Sequence[str]
    ) -> None:
        self.stack, self.axes, self.frames = stack, axes, frames
        self.at = {name: axes.index(name) for name in along if name in axes}
        self.others = [number for number, name in enumerate(axes) if name not in ("t", "c", "z")]
        self.images = sorted({self._image(index) for index in frames})
        self.channels = sorted({self.number("c", index) for index in frames})
        self.nbytes = math.prod(stack.plane_shape) * stack.dtype.itemsize
        #: Whether a gap in it is one: of labels, and of replies, nobody expects one for each place.
        self.counts = not stack.is_labels and not stack.sent.name

    def _image(self, index: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(index[other] for other in self.others)

    def number(self, name: str, index: tuple[int, ...]) -> int:
        return index[self.at[name]] if name in self.at else 0

    def first(self, name: str) -> int:
        return min(self.number(name, index) for index in self.frames)

    def last(self, name: str) -> int:
        return max(self.number(name, index) for index in self.frames)

    @property
    def places(self) -> set[_RunPlace]:
        """Where its frames are in the run: image, t, c, z."""
        number = self.number
        return {(self._image(at), number("t", at), number("c", at), number("z", at)) for at in self.frames}

    def _span(self, name: str) -> range:
        return range(self.first(name), self.last(name) + 1)

    def _takes(self, spans: Mapping[str, Sequence[int]]) -> int:
        return math.prod((len(self.images), len(self.channels), self.nbytes, *map(len, spans.values())))

    def fitting(self, spans: Mapping[str, Sequence[int]], room: int) -> Mapping[str, Sequence[int]]:
        """Return the t and z of the file, as there is room: those of the run, its own, or those that came."""
        own = {name: self._span(name) for name in spans}
        if self._takes(spans) <= room:
            return spans
        if self._takes(own) <= room:
            return own
        return {name: sorted({self.number(name, index) for index in self.frames}) for name in spans}

    def _gaps(self, came: set[_RunPlace]) -> int:
        if not self.counts:
            return 0
        t, z = self._span("t"), self._span("z")
        places = len(self.images) * len(t) * len(self.channels) * len(z)
        images, channels = set(self.images), set(self.channels)
        return places - sum(at[0] in images and at[1] in t and at[2] in channels and at[3] in z for at in came)

    def export(
        self,
        stream: LiveStream,
        spans: Mapping[str, Sequence[int]],
        begin_ns: int,
        came: set[_RunPlace],
    ) -> Export:
        about, stack = stream.about, self.stack
        indices = {**spans, **({"c": tuple(self.channels)} if "c" in self.at else {})}
        counted = {name: {index: number for number, index in enumerate(numbers)} for name, numbers in indices.items()}
        images = {place: number for number, place in enumerate(self.images)}

        def placed(index: tuple[int, ...]) -> Place:
            t, c, z = (counted[name][self.number(name, index)] if name in counted else 0 for name in ("t", "c", "z"))
            return images[self._image(index)], t, c, z

        unit = _UNITS.get(about.units, "")
        steps = dict(zip(about.axes, about.steps, strict=True))
        y, x = (*about.scale, 1.0, 1.0)[:2] if unit else (0.0, 0.0)
        seen = len({channel for _, channel in stream.parts})
        names = [stream.label("c", each) if "c" in self.axes else about.title or "image" for each in self.channels]
        colors = [table_of(channel_colormap(about, channel, seen))[-1] for channel in self.channels]
        t, z = (len(indices.get(name, (0,))) for name in ("t", "z"))
        return Export(
            stack=stack,
            name="",
            title=about.title,
            frames={placed(index): frame for index, frame in self.frames.items()},
            shape=(len(images), t, len(self.channels), z),
            indices=indices,
            gaps=self._gaps(came),
            images=tuple(_image_name(stream, [self.axes[axis] for axis in self.others], image) for image in images),
            channels=tuple(names),
            colors=tuple((int(color[0]), int(color[1]), int(color[2])) for color in colors),
            scale=(steps.get("z", 0.0) if unit else 0.0, y, x, steps.get("t", 0.0)),
            unit=unit,
            begin_ns=begin_ns,
            began=stream.clock_s(begin_ns),
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
