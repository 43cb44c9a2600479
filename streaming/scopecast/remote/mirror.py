"""A program on another machine, as it appears on this one: a publisher that publishes what comes from there.

It puts frames together that come in pieces, and knows nothing of the connection.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from scopecast.errors import ProtocolError, UnsupportedDtypeError
from scopecast.frames.annotations import KINDS
from scopecast.frames.arrays import check_plane
from scopecast.frames.documents import DOCUMENTS, check_document
from scopecast.frames.streams import FrameStream
from scopecast.publishing.draft import What
from scopecast.publishing.publisher import Publisher
from scopecast.remote import codec
from scopecast.remote.companding import Companding
from scopecast.remote.quality import quality_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.link.messages import Stream
    from scopecast.publishing.receivers import AttachedReceiver
    from scopecast.remote.messages import Piece, Source

__all__ = ["Had", "Mirror", "MirroredStream"]

#: Bytes of a frame, as pixels, that is taken.
MAX_FRAME_BYTES: Final = 2**31
#: Frames of which some pieces have come, and previews that the exact pixels of a region are put into.
_MOST_PARTIAL: Final = 2
_MOST_PREVIEWS: Final = 4
#: Frames of which is known who has had them; older ones, if they come again, are shown again.
_MOST_KNOWN: Final = 2**17

Had = OrderedDict[int, frozenset[str]]
"""Which receivers have had a frame, exact: their tokens."""


class MirroredStream(FrameStream):
    """A run of another machine: places and announcement are as they are there.

    Parameters
    ----------
    about
        Its announcement.

    Attributes
    ----------
    about : Stream
        The newest announcement.

    Raises
    ------
    ValueError
        If it says what no stream may.
    """

    def __init__(self, about: Stream) -> None:
        super().__init__(about.id, about.title, scale=about.scale or None, units=about.units, run=about.run)
        self.about = about
        self.axes = list(about.axes)

    def take(self, about: Stream) -> None:
        """Take in a newer announcement; under the publisher's lock."""
        self.announced = False
        self.about, self.axes = about, list(about.axes)

    def place(self, axes: Mapping[str, AxisValue]) -> list[int]:
        """Return the index along each axis: it is given."""
        return [int(axes.get(name, 0)) for name in self.axes]

    @property
    def preview(self) -> bool:
        """Whether it is live mode."""
        return self.about.preview

    def message(self) -> Stream:
        """Return the message that announces the stream."""
        return self.about


class _MirrorPublisher(Publisher):
    """A publisher of what others have published: places and metadata as they are.

    Attributes
    ----------
    had : Had
        Who has had which frame, which is not shown to them again.
    """

    def __init__(self, kind: str, origin: str, *, in_order: bool, **options: Any) -> None:
        super().__init__(kind, policy="every", **options)
        self.session.origin, self.session.listening.looks = origin, True
        self.session.accounts.in_order = in_order
        self._in_order = in_order
        self._admitted: set[str] = set()
        self.had: Had = OrderedDict()

    @property
    def attached(self) -> tuple[AttachedReceiver, ...]:
        """The receivers that are attached."""
        receivers = self.session.receivers
        if receivers is None:
            return ()
        with self._guard.lock:
            return tuple(receivers.attached.values())

    def admit(self, tokens: Collection[str]) -> None:
        """Show frames to these receivers from now on: what comes in order begins with the first."""
        with self._guard.lock:
            self._admitted.update(tokens)

    def show(
        self, pixels: npt.NDArray[Any], piece: Piece, stream: FrameStream, origin_ns: int, *, preview: bool
    ) -> None:
        """Publish a frame for those who have not had it, and wait until each of them has room for it."""
        key = hash((stream.number, piece.kind, piece.name, piece.origin_ns, *piece.index)) if piece.origin_ns else 0

        def audience(attached: Collection[str]) -> frozenset[str]:
            lacking = self._lacking(key, attached)
            if lacking and key and not preview:
                self.had[key] = self.had.get(key, frozenset()) | lacking
                if len(self.had) > _MOST_KNOWN:
                    self.had.popitem(last=False)
            return lacking

        attached = [receiver.token for receiver in self.attached]
        if (attached or self._in_order) and not self._lacking(key, attached):
            return
        axes = dict(zip(stream.axes, piece.index, strict=True))
        what = What(piece.kind, piece.name, preview, piece.late, origin_ns)
        about = ("", list(piece.translate), piece.metadata)
        self._publish_plane(pixels, axes, stream, "every", what, about, audience)

    def _lacking(self, key: int, attached: Collection[str]) -> frozenset[str]:
        lacking = frozenset(attached) - self.had.get(key, frozenset())
        return lacking & self._admitted if self._in_order else lacking

    def announce(self, stream: MirroredStream, about: Stream) -> None:
        """Announce a stream anew, with its next frame."""
        with self._guard.lock:
            stream.take(about)


class _Partial:
    """A frame of which some pieces have come: its pixels, and which of them are exact."""

    __slots__ = ("exact", "pixels")

    def __init__(self, pixels: npt.NDArray[Any]) -> None:
        self.pixels = pixels
        self.exact = np.zeros(pixels.shape[:2], bool)


class Mirror:
    """A program on another machine, shown on this one.

    Parameters
    ----------
    source
        What the relay says of it.
    place
        What the other machine is called; titles end with it.
    kinds
        The kinds of viewers that it is published for.
    launch
        Whether to open a viewer of a kind if none is running.
    in_order
        Whether all frames come one after the other, once somebody here is there to take them.
    options
        More options of each `Publisher`.
    had
        What `had` was, where the program has been shown before.

    Attributes
    ----------
    publishers : list of Publisher
        One for each kind.
    listens : bool
        Whether the program takes marks.
    shown : int
        Frames, or regions of them, that were published here.
    """

    def __init__(
        self,
        source: Source,
        place: str,
        kinds: Sequence[str],
        *,
        launch: bool,
        in_order: bool = False,
        options: Mapping[str, Any] = {},
        had: Sequence[Had] = (),
    ) -> None:
        self.origin, self.listens = source.origin, source.listens
        self.title = f"{source.title} @ {place}"
        self.shown = 0
        self.publishers = [
            _MirrorPublisher(
                kind, source.origin, title=self.title, host=source.host, launch=launch, in_order=in_order, **options
            )
            for kind in kinds
        ]
        for publisher, known in zip(self.publishers, had, strict=False):
            publisher.had = known
        if in_order:
            for publisher in self.publishers:
                publisher.open((1, 1), np.uint8)  # receivers find it before the first frame
        self._streams: dict[int, list[MirroredStream]] = {}  # for each publisher, by the number that it has there
        self._ended: set[int] = set()
        self._partial: OrderedDict[int, _Partial] = OrderedDict()
        self._previews: OrderedDict[int, npt.NDArray[Any]] = OrderedDict()

    def announce(self, about: Stream, here: Callable[[int], int] = lambda there_ns: there_ns) -> None:
        """Take in the announcement of a run.

        Parameters
        ----------
        about
            As it was announced there.
        here
            Returns what this machine's clock showed when that of the other one showed something.

        Raises
        ------
        ValueError
            If it can't be one.
        """
        if not len(about.axes) == len(about.steps) == len(about.sizes) == len(set(about.axes)):
            msg = f"a run of {len(about.axes)} axes, {len(about.steps)} steps, {len(about.sizes)} sizes"
            raise ProtocolError(msg)
        streams = self._streams.get(about.id)
        if streams is not None:  # what is known of the other clock changes a little
            about = msgspec.structs.replace(about, began_ns=streams[0].about.began_ns)
        elif about.began_ns:
            about = msgspec.structs.replace(about, began_ns=here(about.began_ns))
        if streams is None:
            self._streams[about.id] = [MirroredStream(about) for _ in self.publishers]
        elif not set(streams[0].axes) <= set(about.axes):
            msg = f"run {about.id} lost an axis: {streams[0].axes} became {about.axes}"
            raise ProtocolError(msg)
        elif about != streams[0].about:
            for publisher, stream in zip(self.publishers, streams, strict=True):
                publisher.announce(stream, about)

    def admit(self, tokens: Collection[str]) -> None:
        """Show frames to these receivers here: all that they are to have comes from now on."""
        for publisher in self.publishers:
            publisher.admit(tokens)

    def end(self, number: int) -> None:
        """Announce that a run, by the number that it has there, gets no new frames."""
        self._ended.add(number)
        for publisher, stream in zip(self.publishers, self._streams.get(number, ()), strict=False):
            publisher.end_stream(stream)

    def take(self, number: int, piece: Piece, origin_ns: int = 0) -> bool:
        """Publish a frame, or keep a piece of one; return whether anything was published.

        Parameters
        ----------
        number
            Of its run, as its publisher counts.
        piece
            What has come.
        origin_ns
            When it was published, CLOCK_MONOTONIC of this machine; 0 if that is not known.

        Raises
        ------
        ValueError, TypeError
            If it is damaged, or no frame of the run.
        ViewerLagging
            If a local viewer has not taken it for too long.
        """
        streams = self._streams.get(number)
        if streams is None or len(piece.index) != len(streams[0].axes):
            msg = f"a frame with {len(piece.index)} indices in a run of the number {number}, which has no such axes"
            raise ProtocolError(msg)
        found = self._assembled(piece)
        if found is None:
            return False
        pixels, preview = found
        for publisher, stream in zip(self.publishers, streams, strict=True):
            publisher.show(pixels, piece, stream, origin_ns, preview=preview or piece.preview)
        self.shown += 1
        return True

    def _assembled(self, piece: Piece) -> tuple[npt.NDArray[Any], bool] | None:
        """Return the pixels to be shown, and whether they are a preview; None if more pieces are to come before."""
        dtype, shape = _checked(piece)
        quality = quality_of(piece.quality)
        if piece.kind in DOCUMENTS:
            return codec.decode(piece.data, quality, (1, *shape), dtype, None).reshape(-1), False
        if not piece.piece:
            pixels = codec.decode(piece.data, quality, shape, dtype, _companding(piece))
            if quality.is_exact:
                self._partial.pop(piece.serial, None)
                self._previews.pop(piece.serial, None)
            else:
                self._previews[piece.serial] = pixels
                if len(self._previews) > _MOST_PREVIEWS:
                    self._previews.popitem(last=False)
            return pixels, not quality.is_exact
        if not quality.is_exact:
            raise ProtocolError(f"a piece of a frame in the quality {quality.name}: pieces are exact")
        y, x, rows, columns = piece.piece
        if not (rows and columns and y + rows <= shape[0] and x + columns <= shape[1]):
            raise ProtocolError(f"a piece {piece.piece} of a frame of {shape}")
        pixels = codec.decode(piece.data, quality, (rows, columns, *shape[2:]), dtype, None)
        partial = self._partial.get(piece.serial)
        if partial is None or partial.pixels.shape != shape or partial.pixels.dtype != dtype:
            seen = self._previews.get(piece.serial)
            fits = seen is not None and seen.shape == shape and seen.dtype == dtype
            partial = self._partial[piece.serial] = _Partial(
                seen.copy() if fits and seen is not None else np.zeros(shape, dtype)
            )
            if len(self._partial) > _MOST_PARTIAL:
                self._partial.popitem(last=False)
        partial.pixels[y : y + rows, x : x + columns] = pixels
        partial.exact[y : y + rows, x : x + columns] = True  # some may come twice
        if piece.shown and partial.exact.all():
            del self._partial[piece.serial]
            self._previews.pop(piece.serial, None)
            return partial.pixels, False
        return (partial.pixels, True) if piece.shown and piece.serial in self._previews else None

    @property
    def had(self) -> list[Had]:
        """Who has had which frame, exact, of each publisher."""
        return [publisher.had for publisher in self.publishers]

    @property
    def goes_on(self) -> bool:
        """Whether a run has not ended."""
        return not self._streams.keys() <= self._ended

    def number_of(self, stream: FrameStream) -> int | None:
        """Return the number that a run of a publisher has on the other machine."""
        return next((number for number, streams in self._streams.items() if stream in streams), None)

    def close(self) -> None:
        """Close the publishers. Idempotent."""
        for publisher in self.publishers:
            publisher.close()


def _checked(piece: Piece) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Return the dtype and the shape of a frame.

    Raises
    ------
    ProtocolError
        If it can't be one that is shown.
    """
    if piece.kind not in KINDS:
        raise ProtocolError(f"frames of the kind {piece.kind!r} are not known: update scopecast here")
    try:
        dtype, shape = np.dtype(piece.dtype), tuple(piece.shape)
        if piece.kind in DOCUMENTS:
            check_document(shape, dtype)
        else:
            check_plane(shape, dtype)
    except (TypeError, ValueError, UnsupportedDtypeError) as error:
        raise ProtocolError(f"a frame that can't be one: {error}") from error
    if not 0 < math.prod(shape) * dtype.itemsize <= MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {shape} {dtype.name}: at most {MAX_FRAME_BYTES} bytes are taken")
    return dtype, shape


def _companding(piece: Piece) -> Companding | None:
    return Companding.from_wire(piece.companding) if piece.companding else None
