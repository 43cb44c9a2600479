"""How much shared memory a publisher may have, and how it is laid out for frames of a size."""

from __future__ import annotations

import sys

from scopecast.memory.ring import MAX_BYTES, RingLayout, least_bytes, plan_layout
from scopecast.memory.segment import free_bytes

__all__ = ["Budget"]

_LEAST_ROOM = 2**18


class Budget:
    """The most bytes of shared memory.

    Parameters
    ----------
    given
        What the user allows; None to decide by the memory that is free.
    """

    def __init__(self, given: int | None = None) -> None:
        self.given = given

    def bytes(self, frame_bytes: int = 0) -> int:
        """Return the most bytes for frames of this size.

        By default that is 512 MiB, or a quarter of the free memory if that is less. If three frames need more, they may
        have a quarter of the free memory, or up to 512 MiB of three quarters (a container has 64 MiB in all).
        """
        if self.given is not None:
            return self.given
        free = free_bytes()
        if free is None:
            return MAX_BYTES
        usual, least = min(MAX_BYTES, free // 4), least_bytes(frame_bytes)
        fits = least <= free // 4 or least <= min(MAX_BYTES, free // 4 * 3)
        return max(usual, least) if fits else usual

    def plan(self, frame_bytes: int, *, beside: int = 0) -> RingLayout | None:
        """Return the layout of a ring for frames of this size; None if not even three of them fit.

        Parameters
        ----------
        frame_bytes
            Bytes of a frame.
        beside
            Bytes of the ring that it replaces. If there is no room for both, the new one may have all: both exist only
            for the moment that receivers need to switch.
        """
        budget = self.bytes(frame_bytes)
        return plan_layout(frame_bytes, budget - beside) or plan_layout(frame_bytes, budget)

    def with_room(self, frame_bytes: int) -> int:
        """Return a slot size for frames that are likely to grow, as documents do: each new size costs a new ring."""
        roomy = max(_LEAST_ROOM, 1 << (2 * frame_bytes - 1).bit_length())
        return roomy if self.plan(roomy) else frame_bytes

    def why_too_small(self, frame_bytes: int) -> str:
        """Say why there is no layout for frames of this size, and how to change that."""
        said = (
            f"a frame of {frame_bytes / 2**20:.1f} MiB does not fit the budget of {self.bytes() / 2**20:.1f} MiB of "
            f"shared memory, which must hold three"
        )
        if self.given is not None or (free := free_bytes()) is None:
            return f"{said}: pass a larger budget"
        fix = "; make /dev/shm larger, in Docker with --shm-size=1g" if sys.platform == "linux" else ""
        return f"{said}: {free / 2**20:.0f} MiB are free{fix}"
