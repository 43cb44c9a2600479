"""A frame's way into shared memory: a slot is claimed, written to, and announced to the receivers."""

from __future__ import annotations

import itertools
import math
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Self

import numpy as np

from scopecast.crashpoints import crash_point
from scopecast.errors import ClosedError, ForkedError, ScopecastError, ViewerLagging
from scopecast.frames.documents import DOCUMENTS
from scopecast.frames.streams import FrameStream
from scopecast.link import messages
from scopecast.memory.copying import copy_frame
from scopecast.publishing.early import KeptFrames
from scopecast.publishing.session import OPENING

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.memory.ring import Ring
    from scopecast.publishing.accounts import Account
    from scopecast.publishing.session import Connection
    from scopecast.publishing.slots import Leases

__all__ = ["EMPTY", "IMAGE", "NOTHING", "NO_VIEWER", "About", "Policy", "Reservation", "What", "Writer", "Writing"]

Policy = Literal["latest", "every"]
About = tuple[str, list[float], Any]  # what goes with a frame: path, translation, encoded metadata
NOTHING: Final[About] = ("", [], messages.encode_metadata(None))
What = tuple[str, str]  # kind and name of what a frame is
IMAGE: Final[What] = ("image", "")
#: Why a frame is not shown.
NO_VIEWER: Final = "no viewer"
EMPTY: Final = "empty"
NO_ROOM: Final = "no room"


class Slot(NamedTuple):
    """A slot that is being written; the odd generation tells it from all later uses of the same slot."""

    ring: Ring
    leases: Leases
    number: int
    generation: int


@dataclass(slots=True)
class Writing:
    """A frame that is being written, and where it belongs.

    Attributes
    ----------
    slot
        The slot that it is written into; None where there is none yet, and its array is memory of this process.
    """

    slot: Slot | None
    array: npt.NDArray[Any]
    stream: FrameStream
    index: list[int]
    axes: Mapping[str, AxisValue]
    policy: Policy
    what: What


class _Announced(NamedTuple):
    """A frame that is kept: what `Writer.commit` was told of it."""

    writing: Writing
    about: About
    sequence: int


class Writer:
    """Writes frames into the slots of a publisher's ring, from any thread.

    Parameters
    ----------
    connection
        Where the ring and the receivers are.
    lock
        Guards the ring's slots; shared with the connection.
    total
        The account of all receivers together.
    timeout
        Seconds to wait for a slot under ``"every"``.

    Attributes
    ----------
    pid : int
        The process that it belongs to; in any other it is inert.
    closed : bool
        Whether nothing may be written any more.
    skipped : dict
        How many frames were skipped for which reason.
    last_ns : int
        When the last frame was announced (CLOCK_MONOTONIC); 0 before.
    forgotten : deque
        Slots of reservations that nobody ended: they are given back before the next frame.
    """

    def __init__(
        self,
        connection: Connection,
        lock: threading.Lock,
        total: Account,
        timeout: float,
    ) -> None:
        self.pid = os.getpid()
        self.closed = False
        self.skipped: dict[str, int] = {}
        self.last_ns = 0
        self.forgotten: deque[Slot] = deque()
        self.timeout = timeout
        self._connection, self._lock, self._total = connection, lock, total
        self._sequence = itertools.count()
        self._numbers = itertools.count()
        self._stream: FrameStream | None = None  # of frames that name none
        self._kept = KeptFrames(total, connection.budget)
        connection.move_kept, connection.give_up_kept = self._move_kept, self._give_up_kept
        self._in_hand: dict[int, Slot] = {}  # the last one of each thread, in case that Ctrl-C made it lose it

    def check_process(self) -> None:
        """Raise ForkedError in a process that was forked from the one that this belongs to."""
        # Before any lock: after a fork it may be held by a thread that does not exist here.
        if os.getpid() != self.pid:
            msg = "this publisher was opened by another process, which this one was forked from; make one of your own"
            raise ForkedError(msg)

    def check_usable(self) -> None:
        """Raise ForkedError in a forked process, and ClosedError once closed."""
        self.check_process()
        if self.closed or self._connection.closed:
            msg = "this publisher is closed; make a new one"
            raise ClosedError(msg)

    def handed_over(self) -> None:
        """Pass ownership of this thread's slot to the reservation."""
        self._in_hand.pop(threading.get_ident(), None)

    def new_stream(self, title: str, **about: Any) -> FrameStream:
        """Begin a stream, of which frames that name none are from now on. Under the lock."""
        number = next(self._numbers)
        self._stream = FrameStream(number, title or (f"run {number + 1}" if number else "live"), **about)
        return self._stream

    def claim(
        self,
        stream: FrameStream | None,
        axes: Mapping[str, AxisValue],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        policy: Policy,
        what: What = IMAGE,
    ) -> Writing | str:
        """Claim a slot, and wait for one under ``"every"``; or return why there is none, which is counted.

        Under ``"latest"`` there may be memory of this process instead, while slots are being made.
        """
        nbytes = dtype.itemsize
        for extent in shape:
            nbytes *= extent
        connection = self._connection
        deadline = 0.0
        while True:
            if nbytes > connection.slot_bytes or not connection.met:
                room = nbytes
                if nbytes > connection.slot_bytes and what[0] in DOCUMENTS:
                    room = connection.with_room(nbytes)
                reason = connection.ensure(room, wait=self.timeout if policy == "every" else 0.0)
                if reason == OPENING and policy == "latest":
                    if kept := self._claim_memory(stream, axes, shape, dtype, nbytes, what):
                        return kept
                    if nbytes <= connection.slot_bytes:
                        continue
                if reason:
                    with self._lock:  # what is wrong with its place is said with or without a viewer
                        (stream or self._stream or self.new_stream("")).place(axes)
                    return self.skip(reason)
            with self._lock:
                try:
                    writing = self._claim(stream, axes, shape, dtype, policy, what)
                except (ScopecastError, ValueError, TypeError):
                    raise  # the caller's mistake, found before anything was changed
                except BaseException:
                    self._recover()
                    raise
                if writing is None and not connection.slot_bytes:
                    continue
                if writing is None:
                    ticket = connection.hub.news.ticket()
                    laggards = connection.hub.laggards()
            if writing is not None:
                crash_point("slot-odd")
                return writing
            now = time.monotonic()
            deadline = deadline or now + self.timeout
            if now >= deadline:
                msg = f"no free slot for a frame after {self.timeout:g} s: {laggards}"
                raise ViewerLagging(msg)
            ticket.acquire(timeout=min(0.05, deadline - now))

    def _claim(
        self,
        stream: FrameStream | None,
        axes: Mapping[str, AxisValue],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        policy: Policy,
        what: What,
    ) -> Writing | str | None:
        """Claim a slot; or return why the frame is dropped, or None where it is to wait, or for a new ring.

        Under the lock.
        """
        self.check_usable()  # another thread may have closed it meanwhile
        connection = self._connection
        if not connection.ring.whole:  # another program has truncated it: to write there would kill this process
            connection.slot_bytes = 0
            return None
        stream, index, channel = self._place(stream, axes, what)
        if lost := self._in_hand.get(threading.get_ident()):
            self._give_back(lost)
        while self.forgotten:
            self._give_back(self.forgotten[0])
            self.forgotten.popleft()
        may_keep = policy == "latest" and connection.growing
        slot = None if may_keep and connection.leases.crowded(channel) else self._free_slot(channel, policy)
        if slot is None:
            if policy == "every":
                return None
            if may_keep and (kept := self._in_memory(stream, index, channel, axes, shape, dtype, what)):
                return kept  # until there is a slot
            self._drop()
            return NO_ROOM
        if self._kept:
            self._kept.supersede(channel)
        return Writing(slot, slot.ring.array(slot.number, shape, dtype), stream, index, axes, policy, what)

    def _place(
        self, stream: FrameStream | None, axes: Mapping[str, AxisValue], what: What
    ) -> tuple[FrameStream, list[int], Hashable]:
        """Return a frame's stream, its place there, and its channel. Under the lock."""
        if stream is None:
            stream = self._stream or self.new_stream("")
        index = stream.place(axes)
        return stream, index, (stream.number, index[stream.axes.index("c")] if "c" in stream.axes else 0, what)

    def _free_slot(self, channel: Hashable, policy: Policy) -> Slot | None:
        """Begin to write a slot for a frame of a channel; None if there is no room. Under the lock."""
        connection = self._connection
        ring, leases = connection.ring, connection.leases
        number = leases.claim(channel, supersede=policy == "latest")
        if number is None:  # what is acknowledged may not have been read: the keeper keeps out of the way
            connection.hub.drain_if_any()
            number = leases.claim(channel, supersede=policy == "latest")
        if number is None:
            return None
        if ring.generation(number) % 2:  # an interrupted publish() left it so
            ring.abort(number)
        ring.begin(number)
        slot = self._in_hand[threading.get_ident()] = Slot(ring, leases, number, ring.generation(number))
        leases.claimed = None  # from here on whoever has it in hand gives it back
        return slot

    def _drop(self) -> None:
        """Count a frame for which there is no free slot. Under the lock."""
        for account in (self._total, *self._connection.accounts()):
            account.drop()

    # ---- frames that come before there is a slot -----------------------------------------------------------------

    def _claim_memory(
        self,
        stream: FrameStream | None,
        axes: Mapping[str, AxisValue],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        nbytes: int,
        what: What,
    ) -> Writing | None:
        """Return memory of this process to write a frame into; None if there is a slot now, or too much is kept."""
        with self._lock:
            self.check_usable()
            if nbytes <= self._connection.slot_bytes:
                return None
            return self._in_memory(*self._place(stream, axes, what), axes, shape, dtype, what)

    def _in_memory(
        self,
        stream: FrameStream,
        index: list[int],
        channel: Hashable,
        axes: Mapping[str, AxisValue],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        what: What,
    ) -> Writing | None:
        """Return memory of this process for a frame of a channel; None if too much is kept. Under the lock."""
        memory = self._kept.memory(channel, math.prod(shape) * dtype.itemsize)
        if memory is None:
            return None
        return Writing(None, memory.view(dtype).reshape(shape), stream, index, dict(axes), "latest", what)

    def _move_kept(self, slot_bytes: int, last: bool) -> None:
        """Move frames that are kept into slots of so many bytes, the oldest first.

        While a ring is not in use yet, newer ones may come as fast as they are moved: so there is an end to it.

        Parameters
        ----------
        slot_bytes
            Bytes of a slot.
        last
            Whether there will be no more slots: frames that find none are dropped.
        """
        for _ in range(2 * len(self._kept) + 2):
            if not self._move_one(slot_bytes, last):
                break

    def _move_one(self, slot_bytes: int, last: bool) -> bool:
        with self._lock:
            if self._connection.closed or (oldest := self._kept.oldest(slot_bytes)) is None:
                return False
            channel, kept = oldest
            slot = None
            if last or not self._connection.leases.crowded(channel):
                slot = self._free_slot(channel, "latest")
            if slot is None:
                if last:
                    self._kept.release(channel)
                    self._drop()
                return last
            kept.moving = True
        writing, about, sequence = kept.frame
        try:
            array = slot.ring.array(slot.number, writing.array.shape, writing.array.dtype)
            copy_frame(array, writing.array)
            with self._lock:
                if self._connection.closed or not self._kept.holds(channel, kept):
                    self._give_back(slot)
                    return True
                self._kept.release(channel)
                moved = Writing(slot, array, writing.stream, writing.index, writing.axes, "latest", writing.what)
                try:
                    self._announce(moved, about, sequence)
                    if writing.stream.ended:  # before its first frame was announced
                        self._connection.hub.end(writing.stream.number)
                except BaseException:
                    self._recover()
                    raise
        except BaseException:
            self.cancel(slot)
            raise
        return True

    def _give_up_kept(self, reason: str) -> None:
        """Count the frames that are kept as skipped: there will be no slot for them."""
        with self._lock:
            for _ in range(self._kept.give_up()):
                self._skip(reason)

    # ---- a frame that is written ---------------------------------------------------------------------------------

    def commit(self, writing: Writing, about: About) -> int:
        """Announce a written slot. Return its sequence number; -1 if there is no room for it any more.

        Raises
        ------
        ClosedError
            If the publisher was closed meanwhile.
        """
        while True:
            slot = writing.slot
            with self._lock:
                if self.closed or self._connection.closed:
                    msg = "this publisher was closed before the frame was published"
                    raise ClosedError(msg)
                if slot is None:
                    if writing.array.nbytes > self._connection.slot_bytes or self._connection.growing:
                        return self._keep(writing, about)
                elif self._connection.leases is slot.leases:
                    try:
                        sequence = self._announce(writing, about, next(self._sequence))
                    except BaseException:
                        self._recover()
                        slot.ring.abort(slot.number)
                        slot.leases.cancel(slot.number)
                        raise
                    break
            # A ring was made meanwhile, and this slot, or this memory, leads nowhere any more.
            moved = self._move(writing)
            if moved is None:
                return -1
            writing = moved
        crash_point("frame-committed")
        return sequence

    def _move(self, writing: Writing) -> Writing | None:
        """Copy a written frame into a slot of the new ring; None if there is none, which is counted."""
        array = writing.array
        where = writing.stream, writing.axes
        moved = self.claim(*where, array.shape, array.dtype, writing.policy, writing.what)
        if not isinstance(moved, str):
            copy_frame(moved.array, array)
        if writing.slot is not None:
            self.cancel(writing.slot)
        return None if isinstance(moved, str) else moved

    def _keep(self, writing: Writing, about: About) -> int:
        """Keep a written frame until there is a slot. Return its sequence number. Under the lock."""
        _, _, channel = self._place(writing.stream, writing.axes, writing.what)
        sequence = next(self._sequence)
        memory = writing.array.base
        assert isinstance(memory, np.ndarray)
        self._kept.put(channel, _Announced(writing, about, sequence), memory)
        return sequence

    def _announce(self, writing: Writing, about: About, sequence: int) -> int:
        assert writing.slot is not None
        ring, leases, number, _ = writing.slot
        array, stream = writing.array, writing.stream
        path, translate, metadata = about
        connection = self._connection
        hub = connection.hub
        if len(writing.index) != len(stream.axes):  # another thread's frame brought a new axis meanwhile
            writing.index = stream.place(writing.axes)
        if not (stream.announced and stream.number in hub.known):
            hub.announce(stream.message())
            stream.announced = True
        generation = ring.commit(number, sequence, array.nbytes)
        now = time.monotonic_ns()
        frame = messages.Frame(
            stream.number,
            sequence,
            ring.epoch,
            number,
            generation,
            writing.what[0],
            array.dtype.str,
            list(array.shape),
            writing.index,
            now,
            path,
            translate,
            metadata,
            writing.what[1],
        )
        if not hub.accounts:
            self.skipped[NO_VIEWER] = self.skipped.get(NO_VIEWER, 0) + 1
        leases.commit(number, sequence, generation, messages.encode(frame), keep=writing.policy == "every")
        hub.last_publish_ns = self.last_ns = now
        if hub.receivers:  # else the socket was not used, and the keeper sees to whoever comes
            hub.dispatch()
            hub.drain_if_any()
        return sequence

    def cancel(self, slot: Slot) -> None:
        """Give back a slot that was not published; nothing happens if it was, or was given back."""
        with self._lock:
            try:
                self._give_back(slot)
            except BaseException:
                self._recover()
                self._give_back(slot)
                raise

    def _give_back(self, slot: Slot) -> None:
        """Give back a slot that was not published; nothing happens if it was, or was given back. Under the lock."""
        # Once closed, the slots are gone all together.
        if not self._connection.closed and slot.ring.generation(slot.number) == slot.generation:
            slot.leases.cancel(slot.number)
            slot.ring.abort(slot.number)

    def _recover(self) -> None:
        """Put the slots in order after an exception that nobody expects: Ctrl-C strikes between any two lines."""
        connection = self._connection
        if connection.closed or connection.hub_or_none is None:
            return
        ring, leases = connection.ring, connection.leases
        if leases.claimed is not None:
            ring.abort(leases.claimed)
            leases.cancel(leases.claimed)
            leases.claimed = None
        connection.hub.recover()

    def skip(self, reason: str) -> str:
        """Count a frame that is not shown, and return why."""
        with self._lock:
            self._skip(reason)
        return reason

    def _skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        for account in (self._total, *self._connection.accounts()):
            account.skip()


class Reservation:
    """A slot that is written in place; made by `Publisher.reserve`.

    Attributes
    ----------
    array : numpy.ndarray
        The slot's memory, writable until the frame is published.
    """

    def __init__(self, writer: Writer, writing: Writing | None, array: npt.NDArray[Any], about: About) -> None:
        self.array = array
        self._writing, self._about, self._writer = writing, about, writer
        self._open = True

    def commit(self) -> int:
        """Publish the frame, and revoke the array. Return its sequence number; -1 if it had no slot."""
        if not self._open:
            msg = "this reservation was committed or aborted already; reserve another slot"
            raise ClosedError(msg)
        self._writer.check_process()
        self.array.flags.writeable = False
        crash_point("slot-copied")
        sequence = -1 if self._writing is None else self._writer.commit(self._writing, self._about)
        self._open = False  # not before: whatever interrupts this, the slot is given back
        return sequence

    def abort(self) -> None:
        """Give the slot back; nothing is published or counted. Idempotent."""
        if self._open:
            self.array.flags.writeable = False
            if self._writing is not None and self._writing.slot is not None and self._writer.pid == os.getpid():
                self._writer.cancel(self._writing.slot)
            self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.abort()
        elif self._open:
            self.commit()

    def __del__(self) -> None:
        # Forgotten: the slot would be lost to the ring. Not by abort(): the garbage collector may run this in the
        # middle of a thread that holds the publisher's lock.
        if getattr(self, "_open", False) and self._writing is not None:
            self._open = False
            if self._writing.slot is not None:
                self._writer.forgotten.append(self._writing.slot)
