"""The clock of another machine, as this one's would have said."""

from __future__ import annotations

from collections import deque
from typing import Final

from scopecast.protocol import clock_ns

__all__ = ["Clock"]

#: Answers that are compared: those of about a minute, in which two clocks go apart by less than 10 ms.
_ANSWERS: Final = 64


class Clock:
    """Tells when something happened on another machine, as CLOCK_MONOTONIC of this one.

    The other machine says what its clock shows; it did so between the question and the answer, and is taken to have
    done so in the middle: wrong by half of the round trip at most. The answer that took least counts (Cristian,
    "Probabilistic clock synchronization", Distributed Computing 3, 1989).
    """

    def __init__(self) -> None:
        self._answers: deque[tuple[int, int]] = deque(maxlen=_ANSWERS)  # round trip, what is to be added

    def learn(self, asked_ns: int, there_ns: int) -> None:
        """Take in an answer that comes now.

        Parameters
        ----------
        asked_ns
            When it was asked for, by this machine's clock.
        there_ns
            What the other machine's clock showed.
        """
        now = clock_ns()
        self._answers.append((now - asked_ns, (asked_ns + now) // 2 - there_ns))

    def here(self, there_ns: int) -> int:
        """Return when the other machine's clock showed this; no later than now."""
        now = clock_ns()
        return min(now, there_ns + min(self._answers)[1]) if self._answers else now

    def forget(self) -> None:
        """Begin anew: the other machine may have been started again."""
        self._answers.clear()
