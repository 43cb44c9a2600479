"""A frame on its way from `publish()` into a slot, and its announcement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from scopecast.link import messages

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    import numpy as np
    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream
    from scopecast.publishing.slots import Frame

__all__ = ["IMAGE", "NOTHING", "About", "Draft", "Policy", "What"]

Policy = Literal["latest", "every"]
About = tuple[str, list[float], Any]  # what goes with a frame: path, translation, encoded metadata
NOTHING: Final[About] = ("", [], messages.encode_metadata(None))
What = tuple[str, str]  # kind and name of what a frame is
IMAGE: Final[What] = ("image", "")


@dataclass(slots=True)
class Draft:
    """A frame that is being published.

    It is made before it has a slot, and has the slot from the moment that there is one: whatever happens in between,
    whoever holds the draft can give the slot back.

    Attributes
    ----------
    stream
        The stream that it is part of.
    axes
        Where it belongs there, as it was said.
    shape, dtype
        Of its array.
    policy, what, about
        Whether it may be superseded; its kind and name; what goes with it.
    index
        Where it belongs in the stream, along each of its axes.
    channel
        Identifies the stream and channel that it is of.
    frame
        The slot that it is written into; None before it has one, and where it is kept until there is one.
    array
        The slot's memory, or memory of this process.
    """

    stream: FrameStream
    axes: Mapping[str, AxisValue]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    policy: Policy
    what: What = IMAGE
    about: About = NOTHING
    index: list[int] = field(default_factory=list)
    channel: Hashable = None
    frame: Frame | None = None
    array: npt.NDArray[Any] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def place(self) -> None:
        """Find its place and its channel in the stream, which gives new labels their place. Under the publisher's lock.

        Raises
        ------
        ValueError, TypeError
            If an axis or a value is not allowed.
        """
        self.index = self.stream.place(self.axes)
        axes = self.stream.axes
        self.channel = self.stream.number, self.index[axes.index("c")] if "c" in axes else 0, self.what

    def encode(self, sequence: int, now_ns: int) -> bytes:
        """Return the message that announces it.

        Parameters
        ----------
        sequence
            Its sequence number.
        now_ns
            The time, by CLOCK_MONOTONIC.
        """
        assert self.frame is not None
        path, translate, metadata = self.about
        kind, name = self.what
        epoch, number = self.frame.key
        return messages.encode(
            messages.Frame(
                self.stream.number,
                sequence,
                epoch,
                number,
                self.frame.generation,
                kind,
                self.dtype.str,
                list(self.shape),
                self.index,
                now_ns,
                path,
                translate,
                metadata,
                name,
            )
        )
