"""Frames as bytes for the way: each in the quality that a desk is sent, made once for all who are sent the same."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from scopecast.frames.documents import DOCUMENTS
from scopecast.remote import codec
from scopecast.remote.companding import Companding
from scopecast.remote.quality import LADDER

if TYPE_CHECKING:
    from collections.abc import Hashable

    from scopecast_viewers.relaying.desk import Job, Rectangle

__all__ = ["Encoded", "Encodings"]

#: Bytes of encoded frames that are kept for other desks, which want them at about the same time.
_KEPT_BYTES: Final = 8 * 2**20
_KEPT_COMPANDINGS: Final = 256


class Encoded(NamedTuple):
    """The bytes of a frame, or of a piece of one, and the two numbers of a preview's companding."""

    data: bytes
    companding: list[float]


class Encodings:
    """Encodes frames, and keeps what was encoded last. Used by the encoder's thread alone."""

    def __init__(self) -> None:
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, int, Rectangle | None], Encoded] = OrderedDict()
        self._compandings: OrderedDict[Hashable, Companding] = OrderedDict()  # of the last preview of each channel

    def encode(self, job: Job) -> Encoded | None:
        """Return the bytes of a frame or of a piece; None if the frame is not kept any more.

        Raises
        ------
        ValueError, UnsupportedDtypeError
            If it can't be sent; see `scopecast.remote.codec.encode`.
        """
        kept = job.kept
        key = kept.serial, job.quality, job.piece
        if (known := self._kept.get(key)) is not None:
            return known
        pixels = kept.pixels()
        if pixels is None:
            return None
        if kept.message.kind in DOCUMENTS:
            pixels = pixels.reshape(1, -1)
        elif job.piece is not None:
            y, x, rows, columns = job.piece
            pixels = pixels[y : y + rows, x : x + columns]
        quality, companding = LADDER[job.quality], None
        if not quality.is_exact:
            channel = kept.channel
            companding = self._compandings[channel] = Companding.covering(pixels, self._compandings.get(channel))
            if len(self._compandings) > _KEPT_COMPANDINGS:
                self._compandings.popitem(last=False)
        data = codec.encode(pixels, quality, companding)
        made = self._kept[key] = Encoded(data, list(companding.wire) if companding is not None else [])
        self._bytes += len(data)
        while self._bytes > _KEPT_BYTES:
            self._bytes -= len(self._kept.popitem(last=False)[1].data)
        return made
