"""Frames that come before there is a slot for them: the newest of each channel, in this process's own memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    import numpy.typing as npt

    from scopecast.publishing.accounts import Account

__all__ = ["Kept", "KeptFrames"]


@dataclass(slots=True)
class Kept:
    """A frame that waits for a slot.

    Attributes
    ----------
    frame
        What its writer knows of it.
    memory
        Its bytes.
    moving
        Whether it is being copied into a slot, so that its memory must stay as it is.
    """

    frame: Any
    memory: npt.NDArray[np.uint8]
    moving: bool = False


class KeptFrames:
    """The newest frame of each channel, while there is no slot for it. Used under the publisher's lock.

    Parameters
    ----------
    total
        The account of all receivers together, in which they are in flight.
    limit
        Returns the most bytes that they may have.
    """

    def __init__(self, total: Account, limit: Callable[[], int]) -> None:
        self._total, self._limit = total, limit
        self._frames: dict[Hashable, Kept] = {}
        total.kept = self._frames

    def __len__(self) -> int:
        return len(self._frames)

    def memory(self, channel: Hashable, nbytes: int) -> npt.NDArray[np.uint8] | None:
        """Return memory for a frame of a channel, whose last one gives way to it; None if there is no more."""
        old = self._frames.get(channel)
        self.supersede(channel)
        if old is not None and old.memory.nbytes == nbytes and not old.moving:
            return old.memory  # in which no page is touched for the first time
        taken = sum(kept.memory.nbytes for kept in self._frames.values())
        return np.empty(nbytes, np.uint8) if taken + nbytes <= self._limit() else None

    def put(self, channel: Hashable, frame: Any, memory: npt.NDArray[np.uint8]) -> None:
        """Keep a frame, in place of the one of its channel."""
        self.supersede(channel)
        self._frames[channel] = Kept(frame, memory)

    def supersede(self, channel: Hashable) -> None:
        """Count the frame of a channel as superseded, if there is one: a newer one has a slot, or is kept."""
        if self._frames.pop(channel, None) is not None:
            self._total.supersede()

    def oldest(self, nbytes: int) -> tuple[Hashable, Kept] | None:
        """Return the frame that came first, of those with so many bytes at most, and its channel."""
        fit = ((channel, kept) for channel, kept in self._frames.items() if kept.memory.nbytes <= nbytes)
        return next(fit, None)

    def holds(self, channel: Hashable, kept: Kept) -> bool:
        """Whether a frame is still the newest one of its channel."""
        return self._frames.get(channel) is kept

    def release(self, channel: Hashable) -> None:
        """Let go of a frame that has a slot now, and is counted there."""
        del self._frames[channel]

    def give_up(self) -> int:
        """Let go of all frames, and return how many there were: they will have no slot."""
        frames = len(self._frames)
        self._frames.clear()
        return frames
