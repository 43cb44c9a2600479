"""The ring: a segment of shared memory cut into slots, one frame each.

Layout, all integers native and 64 bits wide unless stated::

    0       header: magic, token, version, epoch, slots, slot_bytes, table, pixels, total, state (written last)
    4096    slot table: 64 bytes a slot; generation (odd while the slot is written), sequence number, nbytes, time
    page    pixels: `slots` times `slot_bytes`, page-aligned
    total   captions: 4 KiB a slot; the messages that announced its frame

A counter is one aligned 64-bit word, which the processor never tears; packed with ``struct`` (0.3 %) or across a cache
line (1.2 %) it was seen torn. A receiver validates the header once and computes every offset from its own copy: a
message only ever carries a slot's index.

A publisher that is killed leaves its ring. The captions are for who finds it: with them the frames in it can be told.
"""

from __future__ import annotations

import errno
import math
import struct
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from scopecast.errors import SharedMemoryError
from scopecast.memory.copying import fence
from scopecast.memory.segment import PAGE, Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ring", "RingLayout", "RingReader", "least_bytes", "plan_layout"]

MAGIC = b"scopcast"
VERSION = 1
READY = 0x5245414459  # "READY"
WORDS = 8  # 64-bit words per entry of the slot table: a cache line of its own
GENERATION, SEQUENCE, NBYTES, PUBLISHED = range(4)
#: Bytes of the caption of a slot: two lengths, of 32 bits, and the messages STREAM and FRAME.
CAPTION_BYTES = 4096
_LENGTHS = struct.Struct("=II")
#: Bytes of both messages together, at most.
MAX_CAPTION = CAPTION_BYTES - _LENGTHS.size

MIN_BYTES = 64 * 2**20
MAX_BYTES = 512 * 2**20
MAX_SLOTS = 256
NOMINAL_SLOTS = 32
MIN_SLOTS = 3
#: A ring is made so many bytes (or a frame) at a time: frames can pass after the first step.
STEP_BYTES = 8 * 2**20


class Header(NamedTuple):
    """What a segment says of itself, at its beginning.

    Attributes
    ----------
    magic
        The eight bytes ``scopcast``.
    token
        The publisher's token in ASCII, eight characters and eight zero bytes.
    version
        Of this layout: 1.
    epoch
        Counts the segments of a publisher from 0; WELCOME names the same.
    slots
        How many there are.
    slot_bytes
        Bytes of a slot: a multiple of 4096.
    table
        Offset of the slot table.
    pixels
        Offset of the first slot; slot `n` begins at `pixels` + `n` * `slot_bytes`.
    total
        Bytes of the segment up to here: `pixels` + `slots` * `slot_bytes`. The file may be larger, never smaller.
    state
        0x5245414459 once the header is complete, and 0 before.
    captions
        Offset of the captions, which is `total`; that of slot `n` begins at `captions` + `n` * `caption_bytes`.
    caption_bytes
        Bytes of a caption: 4096.
    """

    magic: bytes
    token: bytes
    version: int
    epoch: int
    slots: int
    slot_bytes: int
    table: int
    pixels: int
    total: int
    state: int
    captions: int
    caption_bytes: int


#: Of the fields of `Header`, in their order.
HEADER_FORMATS = ("8s", "16s", *"QQQQQQQQQQ")
_HEADER = struct.Struct("=" + "".join(HEADER_FORMATS))
_STATE = _HEADER.size - 24  # byte offset of `state`


class RingLayout(NamedTuple):
    """How a ring is cut.

    Attributes
    ----------
    slots
        How many frames it holds.
    slot_bytes
        Bytes of a slot; a multiple of the page size.
    """

    slots: int
    slot_bytes: int

    @property
    def table(self) -> int:
        """Byte offset of the slot table."""
        return PAGE

    @property
    def pixels(self) -> int:
        """Byte offset of the first slot's pixels."""
        return PAGE + _pages(self.slots * WORDS * 8)

    @property
    def step(self) -> int:
        """How many slots are made at a time."""
        return min(self.slots, max(1, STEP_BYTES // self.slot_bytes))

    @property
    def total(self) -> int:
        """Bytes up to the end of the pixels."""
        return self.pixels + self.slots * self.slot_bytes

    @property
    def size(self) -> int:
        """Bytes of the whole segment, with the captions."""
        return self.total + self.slots * CAPTION_BYTES


def _pages(nbytes: int) -> int:
    return max(1, -(-nbytes // PAGE)) * PAGE


def least_bytes(frame_bytes: int) -> int:
    """Return the bytes of the smallest ring for frames of `frame_bytes`: three of them."""
    return RingLayout(MIN_SLOTS, _pages(frame_bytes)).size


def plan_layout(frame_bytes: int, budget: int) -> RingLayout | None:
    """Choose the layout for frames of `frame_bytes`: 32 of them, at least 64 MiB, at most `budget`.

    Parameters
    ----------
    frame_bytes
        Bytes of one frame.
    budget
        The most bytes that the segment may have.

    Returns
    -------
    RingLayout or None
        None when not even three frames fit the budget.

    Examples
    --------
    >>> plan_layout(2048 * 2048 * 2, 512 * 2**20)
    RingLayout(slots=32, slot_bytes=8388608)
    >>> plan_layout(512 * 512 * 2, 512 * 2**20)
    RingLayout(slots=128, slot_bytes=524288)
    >>> plan_layout(2**30, 512 * 2**20) is None
    True
    """
    frame = _pages(frame_bytes)
    wanted = min(max(NOMINAL_SLOTS * frame, MIN_BYTES), budget - 2 * PAGE)
    slots = min(wanted // frame, MAX_SLOTS)
    while slots >= MIN_SLOTS and RingLayout(slots, frame).size > budget:
        slots -= 1  # the table and the captions took their pages
    if slots < MIN_SLOTS:
        return None
    # Many small frames: wider slots, so that a larger frame later on needs no new ring.
    room = min(wanted, budget - RingLayout(slots, 0).size)  # what the header, the table and the captions leave of it
    return RingLayout(slots, max(frame, room // slots // PAGE * PAGE if slots == MAX_SLOTS else 0))


class Ring:
    """The publisher's end of a ring: writes slots.

    Parameters
    ----------
    name
        The segment's name.
    layout
        How to cut it.
    token
        The publisher's token, which receivers check.
    epoch
        Counts the rings of one publisher from 0.
    slots
        How many of the slots to make now; all by default. See `grow` for the others.

    Attributes
    ----------
    slots : int
        How many slots can be used, the first ones.
    """

    def __init__(self, name: str, layout: RingLayout, token: str, epoch: int, slots: int | None = None) -> None:
        self.name, self.layout, self.epoch = name, layout, epoch
        self.slots = layout.slots if slots is None else slots
        first, total = layout.pixels + self.slots * layout.slot_bytes, layout.total
        self._segment = Segment.create(
            name, layout.size, first if self.slots < layout.slots else None, layout.size - total
        )
        offsets = layout.table, layout.pixels, total
        header = Header(MAGIC, token.encode(), VERSION, epoch, *layout, *offsets, 0, total, CAPTION_BYTES)
        _HEADER.pack_into(self._segment.memory, 0, *header)
        words = self._segment.memory[layout.table : layout.table + layout.slots * WORDS * 8]
        self._table = words.cast("Q")
        self._generations = [0] * layout.slots
        pixels = np.frombuffer(self._segment.memory, np.uint8, layout.slots * layout.slot_bytes, layout.pixels)
        self._slots = list(pixels.reshape(layout.slots, layout.slot_bytes))
        struct.pack_into("=Q", self._segment.memory, _STATE, READY)

    def grow(self) -> int:
        """Make some more slots, and return how many; 0 if all of them are there.

        Raises
        ------
        SharedMemoryError
            If there is not enough shared memory; the slots that are there can be used.
        """
        more = min(self.layout.step, self.layout.slots - self.slots)
        self._segment.reserve(self.layout.pixels + (self.slots + more) * self.layout.slot_bytes)
        self.slots += more
        return more

    def begin(self, slot: int) -> None:
        """Make the slot's generation odd: whoever still reads it will find its frame gone."""
        self._generations[slot] += 1
        self._table[slot * WORDS + GENERATION] = self._generations[slot]
        fence()  # whoever sees a pixel of the next frame sees that too

    def array(self, slot: int, shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a writable C-contiguous array of `shape` and `dtype` over the slot's memory."""
        nbytes = math.prod(shape) * dtype.itemsize
        return self._slots[slot][:nbytes].view(dtype).reshape(shape)

    def commit(
        self, slot: int, sequence: int, nbytes: int, published_ns: int = 0, caption: tuple[bytes, bytes] | None = None
    ) -> int:
        """Make the slot's generation even again, and return it: the frame is whole.

        Parameters
        ----------
        slot
            The number of the slot.
        sequence
            That of the frame.
        nbytes
            Its bytes.
        published_ns
            When it was published, by `scopecast.protocol.clock_ns`.
        caption
            The messages STREAM and FRAME, for who finds the ring of a publisher that was killed. Left out where they
            have more than `MAX_CAPTION` bytes.
        """
        entry = slot * WORDS
        if caption is not None:
            stream, frame = map(len, caption)
            text = b"".join((_LENGTHS.pack(stream, frame), *caption)) if stream + frame <= MAX_CAPTION else bytes(8)
            at = self.layout.total + slot * CAPTION_BYTES
            self._segment.memory[at : at + len(text)] = text
        self._table[entry + PUBLISHED] = published_ns
        self._table[entry + SEQUENCE] = sequence
        self._table[entry + NBYTES] = nbytes
        self._generations[slot] += 1
        generation = self._generations[slot]
        self._table[entry + GENERATION] = generation
        return generation

    def abort(self, slot: int) -> None:
        """Close a slot whose writing failed: even again, and announced to nobody."""
        if self._generations[slot] % 2:
            if self.whole:
                self.commit(slot, 0, 0)
            else:  # another program has truncated it: nobody can read it, and to write there would kill this process
                self._generations[slot] += 1

    def generation(self, slot: int) -> int:
        """Return the slot's generation: odd while it is written."""
        return self._generations[slot]

    @property
    def whole(self) -> bool:
        """Whether the segment has its full size still; nothing may be written where another has truncated it."""
        return self._segment.whole

    @property
    def works(self) -> bool:
        """Whether there are slots for longer: with fewer than three, the newest of one channel leaves no other room."""
        return self.slots >= min(MIN_SLOTS, self.layout.slots)

    @property
    def can_grow(self) -> bool:
        """Whether there are slots to be made; never where another has truncated the segment."""
        return self.slots < self.layout.slots and self.whole

    @property
    def named(self) -> bool:
        """Whether receivers that come now can find the segment."""
        return self._segment.named

    def unlink(self) -> None:
        """Remove the segment's name; receivers that have it mapped go on."""
        self._segment.unlink()

    def close(self) -> None:
        """Unlink the segment and let go of it. Idempotent."""
        self._slots.clear()
        self._table.release()
        self._segment.close()


class RingReader:
    """A receiver's end of a ring: reads slots, never writes.

    A context manager.

    Parameters
    ----------
    name
        The segment's name, as announced.
    token
        The publisher's token, which the header must hold.
    epoch
        The epoch that was announced, which the header must hold; None for any.

    Raises
    ------
    SharedMemoryError
        If the segment can't be mapped, or its header is not that of this publisher's ring.
    """

    def __init__(self, name: str, token: str, epoch: int | None) -> None:
        self.name = name
        self._segment = Segment.attach(name)
        try:
            self.layout, self.epoch = self._validate(token, epoch)
        except BaseException:
            self._segment.close()
            raise
        layout = self.layout
        words = self._segment.memory[layout.table : layout.table + layout.slots * WORDS * 8]
        self._table = words.cast("Q")
        pixels = np.frombuffer(self._segment.memory, np.uint8, layout.slots * layout.slot_bytes, layout.pixels)
        self._slots = list(pixels.reshape(layout.slots, layout.slot_bytes))

    def _validate(self, token: str, epoch: int | None) -> tuple[RingLayout, int]:
        header = Header(*_HEADER.unpack_from(self._segment.memory, 0))
        layout = RingLayout(header.slots, header.slot_bytes)
        problem = None
        if header.magic != MAGIC or header.version != VERSION:
            problem = f"is not a ring of version {VERSION} (magic {header.magic!r}, version {header.version})"
        elif header.token.rstrip(b"\0") != token.encode() or epoch not in (None, header.epoch):
            problem = f"is another publisher's or an older one (epoch {header.epoch}, expected {epoch})"
        elif header.state != READY:
            problem = "is not complete yet"
        elif not 0 < layout.slots <= MAX_SLOTS or layout.slot_bytes % PAGE or not 0 < layout.slot_bytes <= 2**40:
            problem = f"has impossible sizes ({layout.slots} slots of {layout.slot_bytes} bytes)"
        elif (header.table, header.pixels, header.total) != (layout.table, layout.pixels, layout.total):
            problem = f"is laid out in another way (pixels at {header.pixels}, expected {layout.pixels})"
        elif header.total > self._segment.size:
            problem = f"is truncated ({self._segment.size} of {header.total} bytes)"
        if problem:
            raise SharedMemoryError(errno.EINVAL, f"the segment {self.name} {problem}")
        return layout, header.epoch

    def view(self, slot: int, shape: Sequence[int], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        """Return a read-only array over the slot's memory, without a copy: to be copied at once.

        Raises
        ------
        ValueError
            If there is no such slot, or the array does not fit it.
        SharedMemoryError
            If another program has truncated the segment: to touch it would kill this process.
        """
        if not 0 <= slot < self.layout.slots:
            msg = f"slot {slot} is outside the ring of {self.layout.slots} slots"
            raise ValueError(msg)
        # math.prod, because np.prod((2**32, 2**32, 2)) is 0.
        nbytes = math.prod(shape) * dtype.itemsize
        if min(shape, default=1) < 1 or not 0 < nbytes <= self.layout.slot_bytes:
            msg = f"an array {tuple(shape)} of {dtype} ({nbytes} bytes) does not fit a slot of {self.layout.slot_bytes}"
            raise ValueError(msg)
        if not self._segment.whole:
            raise SharedMemoryError(errno.EIO, f"the segment {self.name} was truncated by another program")
        return self._slots[slot][:nbytes].view(dtype).reshape(shape)

    def generation(self, slot: int) -> int:
        """Return the slot's generation, read after all that was read before: odd while it is written.

        To be asked after `view`. If it still is that of the frame, what was copied out of the slot is that frame.
        """
        fence()
        return self._table[slot * WORDS + GENERATION]

    def caption(self, slot: int) -> tuple[bytes, bytes] | None:
        """Return the messages STREAM and FRAME that announced what lies in a slot; None where there are none.

        Whether the frame still is that one, tell its generation and `generation`.
        """
        at = self.layout.total + slot * CAPTION_BYTES
        if self._segment.size < self.layout.size or not self._segment.whole:
            return None
        stream, frame = _LENGTHS.unpack_from(self._segment.memory, at)
        if not stream or stream + frame > MAX_CAPTION:
            return None
        at += _LENGTHS.size
        return bytes(self._segment.memory[at : at + stream]), bytes(self._segment.memory[at + stream :][:frame])

    @property
    def newest_ns(self) -> int:
        """When the newest frame in it was published, by `scopecast.protocol.clock_ns`; 0 if there is none."""
        if not self._segment.whole:
            return 0
        return max(self._table[slot * WORDS + PUBLISHED] for slot in range(self.layout.slots))

    @property
    def newest(self) -> int:
        """The greatest sequence number of the frames in it; -1 if there is none."""
        if not self._segment.whole:
            return -1
        entries = (slot * WORDS for slot in range(self.layout.slots))
        return max((self._table[at + SEQUENCE] for at in entries if self._table[at + PUBLISHED]), default=-1)

    def close(self) -> None:
        """Let go of the segment. Idempotent."""
        self._slots.clear()
        self._table.release()
        self._segment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
