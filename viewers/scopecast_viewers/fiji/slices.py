"""The slices of a live stack, as ImageJ asks for them: pixels and labels by number."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast_viewers.fiji.awt import java, listener
from scopecast_viewers.fiji.pixels import SIGN
from scopecast_viewers.fiji.planes import JavaPlane, to_java
from scopecast_viewers.receiving.metadata import metadata_rows, recorded_of
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from scopecast_viewers.fiji.folding import Folding
    from scopecast_viewers.fiji.pixels import PixelForm
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Slices"]

#: Letters of a label that ImageJ shows above the image (``ImageStack.getShortSliceLabel``).
_MOST_SHOWN = 60


class Slices:
    """What ImageJ reads of one stack; any of Java's threads may ask.

    It keeps to one folding, so that a command that is at work while the hyperstack is laid out anew goes on with the
    slices that it began with. Only frames at the end may join, see `extend`.

    Parameters
    ----------
    stream, stack
        What it shows.
    form
        How the pixels lie in ImageJ.
    folding
        Which slice is where.

    Attributes
    ----------
    live : scopecast.LiveStack
        The stack in Java.
    """

    def __init__(self, stream: LiveStream, stack: Stack, form: PixelForm, folding: Folding) -> None:
        self.folding = folding
        self._stream, self._stack, self._form = stream, stack, form
        self._kept: dict[tuple[int, ...], JavaPlane] = {}
        height, width = stack.plane_shape[:2]
        channels, slices, frames = folding.dimensions
        table = _signed_table() if form.signed else None
        planes = listener("java.util.function.IntFunction", apply=self.pixels)
        labels = listener("java.util.function.IntFunction", apply=self.label)
        self.live = java("scopecast.LiveStack")(
            width, height, form.bits, table, planes, labels, channels * slices * frames
        )

    def extend(self, folding: Folding) -> None:
        """Take over a folding that has more frames at its end."""
        self.folding = folding

    def place(self, number: int) -> tuple[int, ...]:
        """Return the stack's index of a slice as of now: axes may have joined since the folding was made."""
        where = dict(zip(self.folding.axes, self.folding.place(number), strict=True))
        return tuple(where.get(name, 0) for name in self._stack.axes)

    def tag(self, number: int) -> Tag | None:
        """Return the tag of the frame in a slice; None where none has come, or it is forgotten."""
        place = self.place(number)
        tag = self._stack.tag(place) if self._stack.state(place) == "here" else None
        return tag if isinstance(tag, Tag) else None

    def pixels(self, number: int) -> Any:
        """Return a copy of the pixels of a slice, from 1, as a Java array; zeros where there is no frame."""
        number = int(number)
        plane = self._kept.get(self.folding.place(number)) or self._stack.plane(self.place(number))
        if isinstance(plane, JavaPlane):
            return plane.copy()
        if plane is None:
            shape = self._form.shape(self._stack.plane_shape)
            plane = np.full(shape, SIGN if self._form.signed else 0, self._form.dtype)
        return to_java(np.asarray(plane), self._form.bits)  # what was in the scratch file comes back as numpy's

    def keep(self) -> None:
        """Keep the planes that are in memory for as long as ImageJ has the stack, even if their run goes."""
        layout = self._stack.layout
        for place, held in list(layout.planes.items()):
            where = dict(zip(layout.axes, place, strict=True))
            if isinstance(held.plane, JavaPlane):
                self._kept[tuple(where.get(name, 0) for name in self.folding.axes)] = held.plane

    def let_go(self) -> None:
        """Show what the stack has again, everywhere."""
        self._kept.clear()

    def label(self, number: int) -> str:
        """Return the label of a slice, from 1: its title, and below that the metadata of its frame, a line each.

        ImageJ shows the title above the image, and all of it in Image > Show Info.
        """
        number = int(number)
        state, tag = self._known(number)
        if state != "here" or tag is None or not (tag.metadata or tag.preview):
            return self.title(number)
        rows = metadata_rows(recorded_of(self._stream, self.place(number), tag), tag)
        if self._form.note:  # ImageJ shows these lines instead of what it shows of images without
            rows.append(("pixels", self._form.note))
        return "\n".join([self.title(number), *(f"{name}: {value}" if name else value for name, value in rows), ""])

    def _known(self, number: int) -> tuple[str, Tag | None]:
        """Return what has become of the frame of a slice, and its tag."""
        place = self.place(number)
        tag = self._stack.tag(place)
        state = "here" if self.folding.place(number) in self._kept else self._stack.state(place)
        return state, tag if isinstance(tag, Tag) else None

    def title(self, number: int) -> str:
        """Return what a slice is called, from 1: by its channel and place, and what is special about it."""
        place = self.place(number)
        where = dict(zip(self._stack.axes, place, strict=False))
        parts = [self._stream.label("c", where.pop("c"))] if "c" in where else []
        for name, at in where.items():
            called = self._stream.label(name, at)
            parts.append(called if called != str(at) else f"{name} {at}")
        state, tag = self._known(number)
        if state == "missing":
            parts.append("no frame here yet")
        elif state == "forgotten":
            parts.append("the frame here is forgotten")
        elif tag is not None and tag.path and os.path.basename(tag.path) not in parts:  # noqa: PTH119 - of any host
            parts.append(os.path.basename(tag.path))  # noqa: PTH119
        if tag is not None and state == "here" and tag.preview:
            parts.append("preview")
        if tag is not None and state == "here" and tag.metadata:
            recorded = recorded_of(self._stream, place, tag)
            told = (recorded.position, recorded.elapsed, recorded.exposure, recorded.stage, recorded.clock)
            for each in told:
                if each and each not in parts and len(", ".join([*parts, each])) <= _MOST_SHOWN:
                    parts.append(each)
        return ", ".join(parts)


def _signed_table() -> Any:
    """Return the calibration table of a 16-bit stack with signed values."""
    calibration = java("ij.measure.Calibration")()
    calibration.setSigned16BitCalibration()
    return calibration.getCTable()
