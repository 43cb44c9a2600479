"""A frame that a program looks at, where it lies in shared memory, as long as it has it."""

from __future__ import annotations

import time
import weakref
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from scopecast.errors import FrameGoneError
from scopecast.link.messages import decode_metadata
from scopecast.protocol import clock_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.link import messages
    from scopecast.memory.ring import RingReader

__all__ = ["Frame", "FrameArray", "Lease"]

_LATE = (
    "this array belongs to an earlier frame, whose memory went back to the camera when the next one was asked for or "
    "the subscription was closed: use frame.copy() for what you keep"
)
_LOST = (
    "the frame was taken away, as this program did not answer for too long (was it stopped?): its pixels may be gone"
)


class Lease:
    """A slot that is ours until it is given back, or taken away.

    Parameters
    ----------
    message
        The announcement of the frame.
    reader
        The memory that it lies in.
    give_back
        Called once with it, in whichever thread, when nothing refers to the pixels any more.

    Attributes
    ----------
    over : bool
        Whether the program is done with it.
    lost : bool
        Whether the publisher has taken it away.
    fate : str
        What is told of it when it is given back.
    """

    def __init__(self, message: messages.Frame, reader: RingReader, give_back: Callable[[Lease], None]) -> None:
        self.message, self.reader = message, reader
        self.over = self.lost = False
        self.fate: messages.AckFate = "delivered"
        self._give_back = give_back
        self._array: weakref.ref[FrameArray] | None = None

    def array(self) -> FrameArray:
        """Return the pixels, read-only; called once. The slot is given back when all that refers to them has gone."""
        message = self.message
        pixels = self.reader.view(message.slot, message.shape, np.dtype(message.dtype))
        # Over a buffer and not over an array: whatever is made of it has it as its base, and keeps it alive.
        made: FrameArray = np.ndarray.__new__(FrameArray, pixels.shape, pixels.dtype, pixels.data)
        made.lease = self
        self._array = weakref.ref(made, self._let_go)
        return made

    def _let_go(self, _: object) -> None:
        self._array = None
        if self.over:
            self._give_back(self)

    def end(self, fate: messages.AckFate = "delivered") -> None:
        """Say that the program is done with it. Idempotent."""
        if not self.over:
            self.over, self.fate = True, fate
            if self._array is None or self._array() is None:
                self._give_back(self)

    @property
    def held(self) -> bool:
        """Whether the program still has its pixels, although it is done with it."""
        return self.over and self._array is not None

    @property
    def intact(self) -> bool:
        """Whether the pixels are the frame's: it was not taken away, and the slot not written again."""
        return not self.lost and self.reader.generation(self.message.slot) == self.message.generation

    def check(self) -> None:
        """Raise FrameGoneError unless the pixels may be looked at."""
        if self.over:
            raise FrameGoneError(_LATE)
        if not self.intact:
            self.lost = True
            raise FrameGoneError(_LOST)


class FrameArray(np.ndarray[Any, Any]):
    """The pixels of a `Frame` in shared memory: an array that raises FrameGoneError once the frame is no longer there.

    What is computed from it is a plain array. A plain array that lies on the same memory (``np.asarray(frame.array)``)
    can't raise: the frame's slot is not given back as long as there is one.
    """

    lease: Lease | None

    def __array_finalize__(self, of: object) -> None:
        self.lease = None if self.flags.owndata else getattr(of, "lease", None)

    def __getattribute__(self, name: str) -> Any:
        if name not in ("lease", "flags", "__class__", "__array_finalize__", "__array_priority__"):
            lease = super().__getattribute__("__dict__").get("lease")
            if lease is not None:
                lease.check()
        return super().__getattribute__(name)

    def __getitem__(self, key: Any) -> Any:
        check(self)
        return super().__getitem__(key)

    def __iter__(self) -> Any:
        check(self)
        return super().__iter__()

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [_plain(each) for each in inputs]
        if "out" in options:
            options["out"] = tuple(_plain(each) for each in options["out"])
        return getattr(ufunc, method)(*plain, **options)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        check(self)
        return super().__array_function__(function, types, arguments, options)

    def __reduce__(self) -> Any:
        return self.__array__().copy().__reduce__()


def check(array: FrameArray) -> None:
    """Raise FrameGoneError unless an array's frame is still there."""
    lease = array.__dict__.get("lease")
    if lease is not None:
        lease.check()


def _plain(value: Any) -> Any:
    """Return what lies on a frame as a plain array, to be computed with; anything else as it is."""
    return value.view(np.ndarray) if isinstance(value, FrameArray) else value


class Frame:
    """A frame of a live stream, as `scopecast.subscribe` gives it to a program; valid until the next one is asked for.

    Attributes
    ----------
    axes : dict of str to int or str
        Where it belongs: an index along each axis of its stream, or the label where there is one, such as
        ``{"t": 3, "c": "DAPI"}``.
    stream : str
        The title of its stream (its run).
    source : str
        The title of the program that published it.
    sequence : int
        Its number among all that its publisher has published.
    scale : tuple of float
        Size of a pixel (y, x), in `units`.
    units : str
        ``"um"``, ``"pixel"``, …
    translate : tuple of float
        Position (y, x) of its first pixel in `units`; empty if it has none.
    path : str
        The file that holds it, or will hold it; ``""`` if there is none.
    preview : bool
        Whether its pixels are not exact: it comes from another machine, by a link that is too slow for these.
    """

    def __init__(
        self, lease: Lease, about: messages.Stream, axes: dict[str, int | str], source: str, reply: Callable[..., bool]
    ) -> None:
        message = lease.message
        self.axes, self.source, self.stream, self.units = axes, source, about.title, about.units
        self.sequence, self.path, self.preview = message.sequence, message.path, message.preview
        self.scale = (about.scale[0], about.scale[-1]) if about.scale else (1.0, 1.0)
        self.translate = tuple(message.translate)
        self._lease, self._reply = lease, reply
        self._array: FrameArray | None = None

    @property
    def array(self) -> npt.NDArray[Any]:
        """The pixels, (y, x) or (y, x, 3 or 4): a read-only view of shared memory, without a copy.

        Raises
        ------
        FrameGoneError
            Once the next frame was asked for, or if the frame was taken away meanwhile.
        """
        self._lease.check()
        if self._array is None:
            self._array = self._lease.array()
        return self._array

    def copy(self) -> npt.NDArray[Any]:
        """Return a copy of the pixels, to keep.

        Raises
        ------
        FrameGoneError
            As `array` does; also if it is overwritten while it is copied.
        """
        copied = np.array(self.array, subok=False)
        self._lease.check()
        return copied

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Let numpy's functions take the frame itself."""
        array = self.array.view(np.ndarray)
        return np.array(array, dtype=dtype) if copy else np.asarray(array, dtype=dtype)

    @property
    def channel(self) -> str:
        """The name of its channel, or its number; ``""`` if the stream has no channels."""
        return str(self.axes.get("c", ""))

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x) or (y, x, 3 or 4)."""
        return tuple(self._lease.message.shape)

    @property
    def metadata(self) -> Any:
        """What was published with it; None if there is nothing.

        Raises
        ------
        ProtocolError
            If it can't be read, or is nested more than 64 levels deep.
        """
        return decode_metadata(self._lease.message.metadata)

    @property
    def age_s(self) -> float:
        """Seconds since it was published."""
        return (clock_ns() - self._lease.message.published_ns) / 1e9

    @property
    def time(self) -> float:
        """When it was published, in seconds since 1970."""
        return time.time() - self.age_s

    @property
    def lost(self) -> bool:
        """Whether it was taken away, because this program did not answer for too long."""
        return self._lease.lost or not (self._lease.over or self._lease.intact)

    def reply(self, data: Any, *, kind: str = "labels", name: str = "", **about: Any) -> bool:
        """Show something on this frame, in every viewer of its stream.

        It may be called later, too, after the next frame was asked for.

        Parameters
        ----------
        data
            As `Publisher.publish` takes it for the kind. Coordinates are (y, x) in pixels of the frame, from the middle
            of its first one; rows of tracks are (id, y, x) at the frame's t.
        kind
            ``"labels"``, ``"image"``, ``"points"``, ``"shapes"``, ``"tracks"`` or ``"rois"``.
        name
            The name of the layer; by default that of this program.
        **about
            As `Publisher.publish` takes them for the kind: ``properties``, ``style``, ``shape_type``, ``names``.

        Returns
        -------
        bool
            Whether it was sent. What becomes of it is in `Subscription.stats`: the viewers may have newer frames by
            then.

        Raises
        ------
        ValueError, TypeError, UnsupportedDtypeError
            If the data are not what the kind needs; as `Publisher.publish` does.
        """
        return self._reply(self._lease, self.axes, data, kind, {**about, "name": name})

    def supersede(self) -> None:
        """Give it back, as a newer one takes its place."""
        self._lease.end("superseded")

    def skip(self) -> None:
        """Give it back, as the program has not asked for it."""
        self._lease.end("skipped")

    def release(self) -> None:
        """Be done with it, before the next one is asked for. Idempotent."""
        self._array = None
        self._lease.end()

    def __repr__(self) -> str:
        """Return where it belongs, and its shape."""
        where = ", ".join(f"{axis}={place}" for axis, place in self.axes.items())
        return f"<Frame {self.sequence} of {self.stream!r}: {where or 'no axes'}, {self.shape}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
