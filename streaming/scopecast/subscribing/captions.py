"""What lies in a ring that nobody writes to any more: its last frames, each with the messages that announced it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scopecast.errors import ProtocolError
from scopecast.link import messages

if TYPE_CHECKING:
    from scopecast.memory.ring import RingReader

__all__ = ["Captioned", "captioned"]


class Captioned(NamedTuple):
    """A frame in a ring.

    Attributes
    ----------
    stream
        The announcement of its stream.
    frame
        That of the frame itself.
    """

    stream: messages.Stream
    frame: messages.Frame


def captioned(ring: RingReader) -> list[Captioned]:
    """Return the frames that lie in a ring, in order of their publication.

    One whose caption can't be read, or that was being written when its publisher was killed, is left out.
    """
    found = (_captioned(ring, slot) for slot in range(ring.layout.slots))
    return sorted(filter(None, found), key=lambda each: each.frame.sequence)


def _captioned(ring: RingReader, slot: int) -> Captioned | None:
    if (caption := ring.caption(slot)) is None:
        return None
    try:
        stream, frame = map(messages.decode_from_publisher, caption)
    except ProtocolError:
        return None
    if not isinstance(stream, messages.Stream) or not isinstance(frame, messages.Frame):
        return None
    whole = frame.generation == ring.generation(slot) and not frame.generation % 2
    return Captioned(stream, frame) if whole and (frame.slot, frame.stream) == (slot, stream.id) else None
