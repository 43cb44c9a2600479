"""When to try again what has failed."""

from __future__ import annotations

import time

__all__ = ["Retry"]


class Retry:
    """Delays the next attempt by a pause that doubles with each failure.

    Parameters
    ----------
    first_s, most_s
        The first and the longest pause, in seconds.

    Attributes
    ----------
    failures : int
        The number of failures since the last success.
    """

    def __init__(self, first_s: float = 1.0, most_s: float = 60.0) -> None:
        self.failures = 0
        self._first_s, self._most_s = first_s, most_s
        self._at = 0.0  # by time.monotonic()

    def failed(self) -> None:
        """Begin a pause, twice as long as the one before."""
        pause = min(self._most_s, self._first_s * 2.0 ** min(self.failures, 32))
        self.failures += 1
        self._at = time.monotonic() + pause

    def succeeded(self) -> None:
        """Forget the failures, so that the next pause is the first one again."""
        self.failures, self._at = 0, 0.0

    @property
    def left_s(self) -> float:
        """Seconds until the next attempt is due."""
        return max(0.0, self._at - time.monotonic())

    @property
    def due(self) -> bool:
        """Whether the next attempt may be made now."""
        return time.monotonic() >= self._at

    def __str__(self) -> str:
        """Return when the next attempt is due, in words."""
        return f"tried again in {self.left_s:.0f} s" if self.left_s >= 1 else "tried again at once"
