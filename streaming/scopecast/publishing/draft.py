"""A frame on its way from `publish()` into a slot, and the message that announces it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from scopecast.link import messages

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping

    import numpy as np
    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream
    from scopecast.publishing.accounts import Account
    from scopecast.publishing.slots import SlotFrame

__all__ = ["IMAGE", "NOTHING", "Audience", "Draft", "Extras", "Policy", "What"]

Policy = Literal["latest", "every"]
Audience = Callable[["Collection[str]"], "Collection[str]"]
Extras = tuple[str, list[float], Any]  # sent along with a frame: path, translation, encoded metadata
NOTHING: Final[Extras] = ("", [], messages.encode_metadata(None))


class What(NamedTuple):
    """What a frame is.

    Attributes
    ----------
    kind, name
        As they are announced.
    preview, late, origin_ns
        Of what comes from another machine; see `scopecast.link.messages.Frame`.
    """

    kind: str
    name: str = ""
    preview: bool = False
    late: bool = False
    origin_ns: int = 0


IMAGE: Final = What("image")


@dataclass(slots=True)
class Draft:
    """A frame that is being published.

    It is created before it has a slot, and holds the slot from the moment that there is one: whatever interrupts
    publishing, the holder of the draft can give the slot back.

    Attributes
    ----------
    stream
        The stream that it is part of.
    axes
        Its place in the stream, as given by the caller.
    shape, dtype
        The shape and dtype of its array.
    policy, what, about
        Whether it may be superseded; its kind and name; its path, translation and metadata.
    index
        Its index along each axis of the stream.
    channel
        Identifies its stream, channel, kind and name.
    frame
        The slot that it is written into; None as long as it has none, also while it is kept in this process's memory.
    array
        The memory of the slot, or of this process.
    of
        The sequence number of the frame that it is a reply to; -1 if it is none.
    missed
        The accounts of receivers that it is not for.
    audience
        Called under the publisher's lock with the tokens of the receivers that are attached when it is announced; it
        returns those that it is for. None: all.
    """

    stream: FrameStream
    axes: Mapping[str, AxisValue]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    policy: Policy
    what: What = IMAGE
    about: Extras = NOTHING
    index: list[int] = field(default_factory=list)
    channel: Hashable = None
    frame: SlotFrame | None = None
    array: npt.NDArray[Any] | None = None
    of: int = -1
    missed: tuple[Account, ...] = ()
    audience: Audience | None = None

    @property
    def nbytes(self) -> int:
        """The size of its array in bytes."""
        return math.prod(self.shape) * self.dtype.itemsize

    def place(self) -> None:
        """Find its index and channel in the stream, which adds new labels. Call it under the publisher's lock.

        Raises
        ------
        ValueError, TypeError
            If an axis or a value is not allowed.
        """
        self.index = self.stream.place(self.axes)
        axes = self.stream.axes
        channel = self.index[axes.index("c")] if "c" in axes else 0
        self.channel = self.stream.number, channel, self.what.kind, self.what.name, self.what.late

    def encode(self, sequence: int, now_ns: int, *, bare: bool = False) -> bytes:
        """Return the encoded message that announces it.

        Parameters
        ----------
        sequence
            Its sequence number.
        now_ns
            The current time of CLOCK_MONOTONIC.
        bare
            Leave out its metadata.
        """
        assert self.frame is not None
        path, translate, metadata = self.about
        what = self.what
        epoch, number = self.frame.key
        return messages.encode(
            messages.Frame(
                self.stream.number,
                sequence,
                epoch,
                number,
                self.frame.generation,
                what.kind,
                self.dtype.str,
                list(self.shape),
                self.index,
                now_ns,
                path,
                translate,
                NOTHING[2] if bare else metadata,
                what.name,
                what.preview,
                what.late,
                what.origin_ns,
            )
        )
