"""Frames published before there is a slot for them: the newest of each channel, in this process's own memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from scopecast.memory.copying import copy_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

    from scopecast.publishing.accounts import Accounts, Reason
    from scopecast.publishing.draft import Draft
    from scopecast.publishing.guard import Guard
    from scopecast.publishing.receivers import Receivers

__all__ = ["Early", "EarlyFrames"]


@dataclass(slots=True, eq=False)
class Early:
    """A frame that waits for a slot.

    Attributes
    ----------
    draft
        The frame; its array is a view of `memory`.
    sequence
        Its sequence number.
    memory
        Its bytes.
    moving
        Whether it is being copied into a slot, so that its memory must not be changed.
    """

    draft: Draft
    sequence: int
    memory: npt.NDArray[np.uint8]
    moving: bool = False


class EarlyFrames:
    """The newest frame of each channel, while there is no slot for it.

    Used under the publisher's lock, except `move` and `give_up`, which take it themselves.

    Parameters
    ----------
    guard
        The publisher's guard.
    accounts
        Its accounts; frames kept here count as in flight.
    limit
        Returns the most bytes that they may take up in all.
    """

    def __init__(self, guard: Guard, accounts: Accounts, limit: Callable[[], int]) -> None:
        self._guard, self._accounts, self._limit = guard, accounts, limit
        self._frames: dict[Hashable, Early] = {}
        accounts.total.early = self._frames

    def take(self, draft: Draft) -> bool:
        """Supersede the last frame of a draft's channel, and give the draft memory to write into.

        Return False if that would exceed the limit.
        """
        nbytes = draft.nbytes
        old = self._frames.get(draft.channel)
        self.supersede(draft.channel)
        if old is not None and old.memory.nbytes == nbytes and not old.moving:
            memory = old.memory  # whose pages have been touched before
        elif sum(early.memory.nbytes for early in self._frames.values()) + nbytes <= self._limit():
            memory = np.empty(nbytes, np.uint8)
        else:
            return False
        draft.array = memory.view(draft.dtype).reshape(draft.shape)
        return True

    def put(self, draft: Draft, sequence: int) -> None:
        """Keep a frame that has been written, in place of the last one of its channel."""
        assert draft.array is not None
        memory = draft.array.base
        assert isinstance(memory, np.ndarray)
        draft.place()  # another thread's frame may have added an axis meanwhile
        self.supersede(draft.channel)
        self._frames[draft.channel] = Early(draft, sequence, memory)

    def supersede(self, channel: Hashable) -> None:
        """Count the frame kept for a channel as superseded, if there is one: a newer one has a slot, or is kept."""
        if self._frames and self._frames.pop(channel, None) is not None:
            self._accounts.total.count("superseded")

    def move(self, receivers: Receivers, slot_bytes: int, *, last: bool) -> None:
        """Move the frames into slots, the oldest first.

        As newer ones may arrive as fast as frames are moved while a ring is not in use yet, the number is limited.

        Parameters
        ----------
        receivers
            The receivers, with the slots.
        slot_bytes
            The size of a slot in bytes.
        last
            Whether there will be no more slots, so that frames that find none are dropped.
        """
        for _ in range(2 * len(self._frames) + 2):
            if not self._move_one(receivers, slot_bytes, last):
                break

    def _move_one(self, receivers: Receivers, slot_bytes: int, last: bool) -> bool:
        with self._guard.lock, self._guard:
            slots = receivers.slots
            early = next((it for it in self._frames.values() if it.memory.nbytes <= slot_bytes), None)
            if slots is None or slots.retired or early is None:
                return False
            kept = early.draft
            moved = replace(kept, array=None)
            if (slots.crowded(kept.channel) and not last) or not receivers.claim(moved):
                if last:
                    del self._frames[kept.channel]
                    self._accounts.drop()
                return last
            early.moving = True
        assert moved.frame is not None
        assert moved.array is not None
        assert kept.array is not None
        try:
            copy_frame(moved.array, kept.array)
            with self._guard.lock, self._guard:
                if not moved.frame.slots.retired and self._frames.get(kept.channel) is early:
                    del self._frames[kept.channel]
                    receivers.publish(moved, early.sequence)
                    if kept.stream.ended:  # before its first frame was announced
                        receivers.end(kept.stream.number)
        finally:
            with self._guard.lock, self._guard:
                moved.frame.slots.cancel(moved.frame)  # if it was not published
        return True

    def give_up(self, reason: Reason) -> None:
        """Count the frames as skipped: there will be no slot for them."""
        with self._guard.lock, self._guard:
            for _ in self._frames:
                self._accounts.skip(reason)
            self._frames.clear()
