"""When the next frame may be sent, and in which quality."""

from __future__ import annotations

from scopecast.remote.quality import EXACT, Quality

__all__ = ["Pace"]


class Pace:
    """Two frames at a time, exact."""

    def __init__(self) -> None:
        self.quality: Quality = EXACT
        self._under_way: set[int] = set()

    def may_send(self, now: float) -> bool:
        """Whether another frame may be sent."""
        return len(self._under_way) < 2

    def sent(self, number: int, now: float) -> None:
        """Take note of a frame that is sent."""
        self._under_way.add(number)

    def acknowledged(self, number: int, now: float) -> None:
        """Take note of an answer."""
        self._under_way.discard(number)
