"""Which of the planes of all stacks stay in memory, which go to the scratch file, and which are forgotten.

One history per viewer process. Planes are kept in memory in the order in which they came. Past the budget a thread of
the history writes the oldest to the scratch file. Where the disk does not keep up, or is full, the oldest are
forgotten: counted, and read as gaps. The thread that receives frames never waits for the disk.

Threads: `_lock` guards the order and the counts; it is held for a few dictionary operations and never during I/O. It
may be taken under a stack's lock, and the scratch file's bookkeeping lock may be taken under it; never the other way
round. Readers take no lock. What makes that right is the order in which a `Held` changes, which is always one of

    in memory  ->  extent set, then plane cleared      (spilled)
    spilled    ->  extent cleared, then its room freed (forgotten or released)
    in memory  ->  plane cleared                       (forgotten or released)

and never back. So a reader that finds no plane finds the extent, and one that finds its extent still in place *after*
reading the file has read its own pixels. A released plane was replaced in its stack before: the stack looks again.

Arrays that leave the history are handed to the caller or outlive the `with` block, because giving back 8 MiB to the
system takes longer than anything else that is done under the lock.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
import psutil

from scopecast_viewers.stacks.background import Background
from scopecast_viewers.stacks.pages import GiB
from scopecast_viewers.stacks.scratch import Extent, Scratch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scopecast_viewers.stacks.plane import Plane

logger = logging.getLogger(__name__)


class StackLayout(NamedTuple):
    """What a reader must see all of one moment."""

    axes: tuple[str, ...]
    origin: tuple[int, ...]  # lowest index seen on each axis
    shape: tuple[int, ...]  # from the lowest to the highest
    planes: dict[tuple[int, ...], Held]


BATCH: Final = 256  # planes released under one hold of the lock
PATIENCE: Final = 5.0  # seconds that close() waits for a write that is under way


class Share:
    """What the history keeps for one stack: the form of its planes and their counts.

    Parameters
    ----------
    shape : tuple of int
        Of a plane.
    dtype : numpy.dtype
        Of a plane.
    pinned : bool
        The planes stay in memory whatever the budget (previews, which hold one plane for each channel).
    """

    __slots__ = ("count", "dtype", "forgotten", "nbytes", "pinned", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], *, pinned: bool = False) -> None:
        self.shape = shape
        self.dtype = dtype
        self.pinned = pinned
        self.count = 0  # planes held, in memory or in the scratch file
        self.nbytes = 0  # their bytes
        self.forgotten = 0  # planes that are gaps now because they were forgotten


class Held:
    """One plane on its way from memory to the scratch file to being forgotten.

    Parameters
    ----------
    plane : Plane
        Its pixels, which nobody changes any more.
    share : Share
        Its stack's.
    tag : object
        Anything that is to be kept with the plane.
    """

    __slots__ = ("extent", "lost", "nbytes", "plane", "share", "tag")

    def __init__(self, plane: Plane, share: Share, tag: object = None) -> None:
        self.plane: Plane | None = plane  # while in memory
        self.extent: Extent | None = None  # while in the scratch file
        self.lost = False  # forgotten
        self.nbytes: int = plane.nbytes
        self.share = share
        self.tag = tag


class HistoryStats(NamedTuple):
    """Where the planes of all stacks are."""

    resident: int  # planes in memory, previews not counted
    resident_bytes: int  # their bytes
    spilled: int  # planes in the scratch file
    spilled_bytes: int  # their bytes
    forgotten: int  # planes forgotten since the start; some may have been replaced or cleared since
    forgotten_bytes: int  # their bytes
    pinned_bytes: int  # bytes of previews, which stay in memory outside the budget


def default_budget() -> int:
    """Return what a viewer keeps in memory unless told otherwise: 2 GiB, or a quarter of the RAM if that is less.

    Returns
    -------
    int
        In bytes.
    """
    return min(2 * GiB, int(psutil.virtual_memory().total) // 4)


def history_from_environment(environment: Mapping[str, str] = os.environ) -> History:
    """Return a history with the limits that the environment sets.

    Parameters
    ----------
    environment
        ``SCOPECAST_HISTORY``: bytes of planes in memory; ``SCOPECAST_SCRATCH``: bytes of the scratch file, 0 for none.
        A number, or one with a unit: ``4GiB``, ``500 MB``.

    Raises
    ------
    ValueError
        If one of them is not a number of bytes.
    """
    budget, limit = (_bytes_of(environment, name) for name in ("SCOPECAST_HISTORY", "SCOPECAST_SCRATCH"))
    if limit is None:
        return History(budget)
    return History(budget, Scratch(limit) if limit else None)


def _bytes_of(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]i?B|B)?", text)
    if found is None:
        raise ValueError(f"{name} is {text!r}: a number of bytes is expected, such as 4294967296 or 4GiB")
    unit = found[2] or "B"
    base = 1024 if "i" in unit else 1000
    return int(float(found[1]) * base ** " kMGT".index(unit[0] if unit != "B" else " "))


class History(Background):
    """The order of arrival of all planes of a viewer, and their budget.

    Use it as a context manager or call `close`. Any thread may call any method.

    Parameters
    ----------
    budget : int, optional
        Bytes of planes that stay in memory. Default: `default_budget`. While the disk keeps up, at most a few planes
        more are in memory; at most ``budget + max(budget // 4, 2 planes)`` whatever the disk does.
    scratch : Scratch, None or "own"
        Where older planes go; the history closes it. None: nowhere, planes past the budget are forgotten. Default: a
        scratch file with its default limit.
    """

    def __init__(self, budget: int | None = None, scratch: Scratch | Literal["own"] | None = "own") -> None:
        self._budget = default_budget() if budget is None else budget
        if self._budget < 0:
            raise ValueError(f"budget is a number of bytes, not {budget}")
        self._scratch = Scratch() if scratch == "own" else scratch
        self._lock = threading.Lock()
        self._memory: OrderedDict[Held, None] = OrderedDict()  # oldest first
        self._spilled: OrderedDict[Held, None] = OrderedDict()  # oldest first
        self._memory_bytes = self._spilled_bytes = self._pinned_bytes = 0
        self._forgotten = self._forgotten_bytes = 0
        self._writing: Held | None = None  # in memory, and being written: forgetting it would free nothing yet
        self._excess = 0  # bytes by which a budget that was made smaller is still exceeded: the disk is given time
        self._cleared = False
        self._complained = False
        self._start("scopecast-spill", threaded=self._scratch is not None)

    @property
    def budget(self) -> int:
        """Bytes of planes that stay in memory; it may be changed at any time.

        What is past a smaller one goes to the scratch file as fast as the disk takes it; without a scratch file it is
        forgotten at once.
        """
        return self._budget

    @budget.setter
    def budget(self, budget: int) -> None:
        if budget < 0:
            raise ValueError(f"budget is a number of bytes, not {budget}")
        dropped: list[Plane] = []
        with self._lock:
            self._budget = budget
            self._excess = max(0, self._memory_bytes - budget)
            newest = next(reversed(self._memory), None)
            if newest is not None:
                self._keep_to_budget(newest, dropped)
        del dropped  # outside the lock, since freeing memory takes its time

    def stats(self) -> HistoryStats:
        """Return where the planes are, all figures of one moment.

        Returns
        -------
        HistoryStats
            Counts and bytes.
        """
        with self._lock:
            return HistoryStats(
                resident=len(self._memory),
                resident_bytes=self._memory_bytes,
                spilled=len(self._spilled),
                spilled_bytes=self._spilled_bytes,
                forgotten=self._forgotten,
                forgotten_bytes=self._forgotten_bytes,
                pinned_bytes=self._pinned_bytes,
            )

    def keep(self, held: Held, replaced: Held | None = None) -> list[Plane]:
        """Take in a new plane; never waits for the disk. For stacks, which call it under their own lock.

        Parameters
        ----------
        held : Held
            The newest plane; it is never the one that is forgotten.
        replaced : Held, optional
            What its stack held at that index until now. The stack must hold `held` there already.

        Returns
        -------
        list of Plane
            Planes that left the memory, for the caller to drop once it has let go of its locks.
        """
        dropped: list[Plane] = []
        with self._lock:
            if replaced is not None:
                self._release(replaced, dropped)
            share = held.share
            share.count += 1
            share.nbytes += held.nbytes
            if share.pinned:
                self._pinned_bytes += held.nbytes
                return dropped
            self._memory[held] = None
            self._memory_bytes += held.nbytes
            self._keep_to_budget(held, dropped)
        return dropped

    def read(self, held: Held) -> Plane | None:
        """Return the pixels of a plane, from memory or from the scratch file; waits for the disk in the latter case.

        Parameters
        ----------
        held : Held
            A plane that `keep` was called for.

        Returns
        -------
        Plane or None
            As it was kept, or, from the scratch file, a read-only array of what it was as an array. None if it was
            forgotten or released. A plane that the disk cannot read back is forgotten.
        """
        plane = held.plane
        if plane is not None:
            return plane
        extent = held.extent
        if extent is None or self._scratch is None:
            return None
        try:
            plane = self._scratch.read(extent, held.share.shape, held.share.dtype)
        except OSError as error:
            with self._lock:
                if held.extent is extent:
                    self._complain("A plane cannot be read back from the scratch file", error)
                    self._forget(held, [])
            return None
        # Freed while it was read: the room may have been given to another plane, whose pixels these may be.
        return plane if held.extent is extent else None

    def release(self, planes: Iterable[Held]) -> None:
        """Give up planes that their stack no longer holds. For stacks.

        Parameters
        ----------
        planes : iterable of Held
            Each released once, and by no later `keep`.
        """
        remaining = iter(planes)
        while batch := list(islice(remaining, BATCH)):
            dropped: list[Plane] = []
            with self._lock:
                for held in batch:
                    self._release(held, dropped)
                self._cleared = True
        with self._lock:
            self._ask()  # to cut the file

    def close(self) -> None:
        """Stop the thread and give up the scratch file, whose planes are forgotten. Idempotent.

        Planes in memory can still be read. Later planes are taken in as without a scratch file. Waits up to 5 s for a
        write that is under way; a disk that is stalled for longer finishes on its own.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            while self._spilled:
                self._forget(next(iter(self._spilled)), [])
        self._end(PATIENCE)
        if self._scratch is not None:
            self._scratch.close()

    # ---- with `_lock` held

    def _keep_to_budget(self, newest: Held, dropped: list[Plane]) -> None:
        """Forget what is past the ceiling, and have written what is past the budget."""
        spills = self._scratch is not None and not self._closed
        ceiling = self._budget + (max(self._budget // 4, 2 * newest.nbytes) + self._excess if spills else 0)
        while self._memory_bytes > ceiling:
            # At most the third is eligible: neither the newest nor the one that the disk has.
            oldest = next((one for one in self._memory if one is not self._writing and one is not newest), None)
            if oldest is None:
                break
            self._forget(oldest, dropped)
        if spills and self._memory_bytes > self._budget:
            self._ask()

    def _remove(self, held: Held, dropped: list[Plane]) -> None:
        """Take a plane out of memory or of the scratch file, wherever it is."""
        share = held.share
        share.count -= 1
        share.nbytes -= held.nbytes
        if held.plane is not None:
            if share.pinned:
                self._pinned_bytes -= held.nbytes
            else:
                del self._memory[held]
                self._memory_bytes -= held.nbytes
            dropped.append(held.plane)
            held.plane = None
        elif held.extent is not None and self._scratch is not None:
            del self._spilled[held]
            self._spilled_bytes -= held.nbytes
            extent, held.extent = held.extent, None
            self._scratch.free(extent)  # bookkeeping, no I/O

    def _release(self, held: Held, dropped: list[Plane]) -> None:
        if held.lost:
            held.share.forgotten -= 1
        else:
            self._remove(held, dropped)

    def _forget(self, held: Held, dropped: list[Plane]) -> None:
        held.lost = True
        held.tag = None  # what is forgotten is known to have been there, and costs next to nothing from now on
        self._remove(held, dropped)
        held.share.forgotten += 1
        self._forgotten += 1
        self._forgotten_bytes += held.nbytes

    def _complain(self, what: str, error: OSError) -> None:
        # Once: what follows from it is counted, and a broken disk would otherwise write a line for every frame.
        if not self._complained:
            self._complained = True
            logger.warning("%s: %s. Older planes are forgotten.", what, error)

    # ---- on the history's own thread

    def _work(self) -> None:
        with self._lock:
            cleared, self._cleared = self._cleared, False
        if cleared and self._scratch is not None:
            try:
                self._scratch.trim()
            except OSError as error:
                logger.debug("The scratch file keeps its length: %s", error)
        while self._spill_oldest():
            pass

    def _spill_oldest(self) -> bool:
        """Write the oldest plane in memory to the scratch file; False when the budget is kept."""
        dropped: list[Plane] = []
        with self._lock:
            self._excess = min(self._excess, max(0, self._memory_bytes - self._budget))
            if self._closed or self._memory_bytes <= self._budget or not self._memory:
                return False
            held = self._writing = next(iter(self._memory))
            plane = held.plane
        assert plane is not None  # what is in `_memory` has its plane
        extent = self._write(plane)
        del plane  # the history's reference and this one: the buffer goes back to its pool below
        with self._lock:
            self._writing = None
            if held not in self._memory or self._closed:
                # Replaced or cleared while it was written, or there is nowhere to read it back from.
                if extent is not None and self._scratch is not None:
                    self._scratch.free(extent)
            elif extent is None:
                self._forget(held, dropped)
            else:
                held.extent = extent
                self._spilled[held] = None
                self._spilled_bytes += held.nbytes
                del self._memory[held]
                self._memory_bytes -= held.nbytes
                if held.plane is not None:
                    dropped.append(held.plane)
                held.plane = None
        return True

    def _write(self, plane: Plane) -> Extent | None:
        """Write a plane, in the place of the oldest in the scratch file if that is full."""
        scratch = self._scratch
        if scratch is None or plane.nbytes > scratch.limit:
            return None
        freed = 0
        while True:
            try:
                extent = scratch.write(np.asarray(plane))
            except OSError as error:
                with self._lock:
                    if not self._closed:
                        self._complain("The scratch file cannot be written", error)
                return None
            # Twice its size suffices even where the freed planes are smaller and not neighbours of each other, mostly;
            # where it does not, this plane is forgotten and the next one finds more room.
            if extent is not None or freed >= 2 * plane.nbytes:
                return extent
            with self._lock:
                if not self._spilled:
                    return None
                oldest = next(iter(self._spilled))
                freed += oldest.nbytes
                self._forget(oldest, [])
