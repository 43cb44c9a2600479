"""The memory in which replies lie until their publisher has copied them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scopecast.memory.copying import copy_frame
from scopecast.memory.ring import Ring, RingLayout
from scopecast.memory.segment import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from scopecast.rundir.directory import Member

__all__ = ["Outbox", "Posted"]

#: Replies that may be on their way at a time.
SLOTS: Final = 8


class Posted(NamedTuple):
    """Where a reply lies.

    Attributes
    ----------
    segment, epoch, slot, generation
        As in REPLY.
    """

    segment: str
    epoch: int
    slot: int
    generation: int


class Outbox:
    """A small segment of a subscriber's own, made with the first reply, and anew for larger ones.

    Used by the thread of the program; `free` by any.

    Parameters
    ----------
    member
        The subscriber's entry in the run directory, which names the segment, so that it is removed should we die.
    wait
        Called with a condition and a time by ``time.monotonic()``; waits until the condition is true or the time is up.
    """

    def __init__(self, member: Member, wait: Callable[[Callable[[], object], float], None]) -> None:
        self._member, self._wait = member, wait
        self._ring: Ring | None = None
        self._epoch = 0
        self._used: set[tuple[int, int]] = set()  # epochs and slots

    def put(self, array: npt.NDArray[Any], timeout: float) -> Posted | None:
        """Copy something into a free slot, for which it waits up to `timeout` seconds; return None if there is none.

        Raises
        ------
        SharedMemoryError
            If there is not enough shared memory.
        """
        deadline = time.monotonic() + timeout
        if self._ring is None or array.nbytes > self._ring.layout.slot_bytes:
            self._wait(lambda: not self._used, deadline)
            if self._used:
                return None
            self._renew(array.nbytes)
        ring = self._ring
        assert ring is not None
        slot = self._free_slot(ring)
        if slot is None:
            self._wait(lambda: self._free_slot(ring) is not None, deadline)
            slot = self._free_slot(ring)
            if slot is None:
                return None
        self._used.add((ring.epoch, slot))
        try:
            ring.begin(slot)
            copy_frame(ring.array(slot, array.shape, array.dtype), array)
            return Posted(ring.name, ring.epoch, slot, ring.commit(slot, 0, array.nbytes))
        except BaseException:
            ring.abort(slot)
            self._used.discard((ring.epoch, slot))
            raise

    def free(self, posted: Posted) -> None:
        """Take a slot back."""
        self._used.discard((posted.epoch, posted.slot))

    def _free_slot(self, ring: Ring) -> int | None:
        slot = next((slot for slot in range(ring.slots) if (ring.epoch, slot) not in self._used), None)
        if slot is None and ring.can_grow:
            ring.grow()
            return self._free_slot(ring)
        return slot

    def _renew(self, nbytes: int) -> None:
        self.close()
        # Some more than it takes now: labels and documents vary from frame to frame.
        layout = RingLayout(SLOTS, max(1, -(-nbytes * 5 // 4 // PAGE)) * PAGE)
        name = f"reply_{self._member.token}_{self._epoch % 10_000}"
        self._member.entry.segments = [name]
        self._member.write()
        self._ring = Ring(name, layout, self._member.token, self._epoch, layout.step)
        self._epoch += 1

    def close(self) -> None:
        """Remove the segment. Idempotent."""
        ring, self._ring = self._ring, None
        if ring is not None:
            ring.close()
