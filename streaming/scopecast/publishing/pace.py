"""How quickly a receiver takes frames, and whether frames have to give way so that it shows what is new."""

from __future__ import annotations

from typing import Final

__all__ = ["ON_THE_WAY_NS", "PATIENCE_NS", "Pace"]

#: What is on its way to a receiver is what it takes in this time.
ON_THE_WAY_NS: Final = 40_000_000
#: Frames that wait for longer than this, and still do after as long again, are no burst.
PATIENCE_NS: Final = 80_000_000
#: Frames that are on their way at least, so that a receiver has the next one when it is done with one.
_FEWEST: Final = 2
#: What is assumed of a receiver that has not taken a frame yet.
_UNKNOWN_NS: Final = 10_000_000
_GAIN: Final = 1 / 8  # the weight of the last frame in the mean, as in TCP's estimate of its round trips


class Pace:
    """What is known of how a receiver keeps up with the frames of one publisher.

    Two ideas are borrowed: to have no more on its way than what is taken in a given time (BBR's product of bandwidth
    and delay), and to tell a queue that stays from a burst by how long frames have waited for too long (CoDel, RFC
    8289).

    Parameters
    ----------
    fewest
        How many frames may be on their way to it in any case.

    Attributes
    ----------
    behind : bool
        Whether it takes fewer frames than are published, so that only the newest are worth sending.
    chosen : int
        The sequence number up to which the pending frames are those that have been chosen from.
    """

    __slots__ = ("_busy_since", "_fewest", "_kept_up_since", "_late_since", "_taking_ns", "behind", "chosen")

    def __init__(self, fewest: int = _FEWEST) -> None:
        self._fewest = fewest
        self.behind = False
        self.chosen = -1
        self._taking_ns: float = _UNKNOWN_NS
        self._busy_since = 0
        self._late_since: int | None = None
        self._kept_up_since: int | None = None

    @property
    def credit(self) -> int:
        """How many frames the receiver takes in `ON_THE_WAY_NS`, at least two."""
        return max(self._fewest, int(ON_THE_WAY_NS / max(1.0, self._taking_ns)))

    def wake(self, now: int) -> None:
        """Note that a frame was sent to a receiver that had none."""
        self._busy_since = now

    def take(self, now: int) -> None:
        """Note that the receiver has taken one of the frames that were sent to it."""
        self._taking_ns += _GAIN * (now - self._busy_since - self._taking_ns)
        self._busy_since = now

    def look(self, now: int, oldest: int, newest: int) -> bool:
        """Return whether it is behind, when there is room for a frame and others wait.

        Parameters
        ----------
        now
            The time in nanoseconds.
        oldest, newest
            When the oldest and the newest of the waiting frames were published.
        """
        if now - oldest <= PATIENCE_NS:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since > PATIENCE_NS >= now - newest:
            # Not so if nothing has come for as long: what waits is the rest of a burst, and nothing newer waits for it.
            self.behind = True
        return self.behind

    def choose(self, now: int, newest: int, outdated: bool) -> None:
        """Note the choice of a receiver that is behind: up to which frame, and whether others gave way.

        It has caught up when none had to for a while. At two of its acknowledgements in succession there is nothing to
        choose from, however far behind it is, and the queue would grow again until it is told from a burst.
        """
        self.chosen = newest
        if outdated:
            self._kept_up_since = None
        elif self._kept_up_since is None:
            self._kept_up_since = now
        elif now - self._kept_up_since > PATIENCE_NS:
            self.behind, self._kept_up_since = False, None
