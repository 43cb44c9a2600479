"""Marks on their way out: what the user points at in a frame, as the message that goes to its publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scopecast.frames.axes import MAX_LABEL
from scopecast.link import messages
from scopecast.protocol import printable
from scopecast_viewers.receiving.metadata import read_recorded

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["Drawn", "MarkedFrame", "check_finite", "check_number", "message_of"]


class Drawn(NamedTuple):
    """An item that the user has drawn.

    Attributes
    ----------
    kind
        ``"point"``, ``"line"``, ``"rectangle"``, ``"ellipse"``, ``"path"`` or ``"polygon"``.
    vertices
        (N, 2) y, x in pixels of the frame, from the middle of its first pixel.
    name
        What the user calls it.
    """

    kind: Any
    vertices: npt.NDArray[np.float64]
    name: str = ""


class MarkedFrame(NamedTuple):
    """The frame that it is drawn in: its run, its index along the run's axes, its tag, and (rows, columns)."""

    stream: LiveStream
    at: tuple[int, ...]
    tag: Tag
    shape: tuple[int, int]


def check_number(items: int, vertices: int = 0) -> None:
    """See that so much can be sent at once.

    Raises
    ------
    ValueError
        If not; the text says how much can be.
    """
    if not items:
        raise ValueError("nothing is marked: draw points or shapes on the image first")
    if items > messages.MAX_MARKS:
        raise ValueError(f"{items:,} items are too many: at most {messages.MAX_MARKS:,} are sent at once; select fewer")
    if vertices > messages.MAX_VERTICES:
        raise ValueError(
            f"{vertices:,} vertices are too many: at most {messages.MAX_VERTICES:,} are sent at once; "
            "select fewer shapes, or draw simpler ones"
        )


def check_finite(vertices: npt.NDArray[np.float64]) -> None:
    """See that all vertices are somewhere.

    Raises
    ------
    ValueError
        If not.
    """
    if not np.isfinite(vertices).all():
        raise ValueError("a vertex is NaN or infinite: delete that item, or draw it again")


def message_of(frame: MarkedFrame, drawn: Sequence[Drawn], layer: str = "") -> messages.Marks:
    """Return the message; the connection adds its number, and that of the stream.

    Raises
    ------
    ValueError
        If it can't be sent; the text says why. Nothing has been sent then.
    """
    check_number(len(drawn), sum(len(item.vertices) for item in drawn))
    vertices = np.concatenate([item.vertices for item in drawn])
    check_finite(vertices)
    stream, at, tag, shape = frame
    said = read_recorded(tag.metadata)
    position = [said.x_um, said.y_um, said.z_um]
    known = [] if None in position[:2] else [value for value in position if value is not None]
    axes = dict(zip(stream.axes, at, strict=False))
    labels = {axis: stream.label(axis, place) for axis, place in axes.items() if stream.about.labels.get(axis)}
    names = [printable(item.name, MAX_LABEL) for item in drawn]
    about: dict[str, Any] = {
        "number": 0,
        "token": tag.source,
        "stream": 0,
        "sent_ns": max(0, tag.sent_ns),
        "axes": axes,
        "labels": {axis: label for axis, label in labels.items() if label != str(axes[axis])},
        "shape": list(shape),
        "position": [float(value) for value in known],
        "types": [item.kind for item in drawn],
        "lengths": [len(item.vertices) for item in drawn],
        "vertices": vertices.reshape(-1).tolist(),
        "names": names if any(names) else [],
        "layer": printable(layer, MAX_LABEL),
    }
    try:
        data = messages.encode(messages.Marks(**about))
        marks = messages.decode_from_receiver(data)
    except ValueError as error:  # ProtocolError is one
        raise ValueError(f"the marks can't be sent: {error}") from error
    if len(data) > messages.MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(data):,} bytes are too many: select fewer items, or give them shorter names")
    assert isinstance(marks, messages.Marks)
    return marks
