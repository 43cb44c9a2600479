"""At which quality and how quickly frames are sent over one link, told from when they were acknowledged.

This module knows times and numbers of frames. It has no clock, no socket and no pixels: who sends asks it, and tells it
what was sent and what was acknowledged. There is one `LinkPace` for each remote viewer.

The time that one frame occupies the link is measured twice: from its sending to its acknowledgement, less the round
trip of an idle link and what the other side needed to decode and show it; and from the acknowledgement before to its
own. Either is too long for reasons of its own, the first where frames wait for each other, the second where nothing was
sent for a while. The smaller one counts.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from scopecast.remote.quality import LADDER, Quality

__all__ = ["LONGEST_NS", "LinkPace"]

#: A frame may occupy the link for this long; and exact pixels, once they are sent, for a little longer: 1 Gbit/s, where
#: a frame of 4 megapixels takes 35 ms, has them steadily.
LONGEST_NS: Final = 40_000_000
_LONGEST_EXACT_NS: Final = 50_000_000
#: Frames in one quality before a better one is taken, and how many of the last ones must say that it is quick enough.
#: What else a machine does makes frames slower and never quicker: most of them may be late.
_CLIMBING: Final = 5
_SAYING: Final = 2
#: After a climb that was too slow at once, twice as many are asked for, up to this many.
_MOST_CLIMBING: Final = 80
#: Frames on their way: as many, and one more for each of these times in the round trip.
_IN_FLIGHT: Final = 2
_ONE_MORE_NS: Final = 50_000_000
#: How often the idle round trip is measured anew, and how many measurements are remembered.
_PROBE_NS: Final = 5_000_000_000
_PROBES: Final = 3
#: Encoded bytes for each byte of a plane, as they are for a sCMOS camera's images. Their ratios are assumed until those
#: of the frames of this link are known.
_SHARES: Final = (0.45, 0.037, 0.015, 0.0103, 0.0075, 0.0045, 0.0019)


@dataclass(slots=True)
class _Sent:
    at: int
    quality: int  # its number


class LinkPace:
    """The pace of one link.

    Frames of all streams that cross the link count, also those that are sent exactly on demand. All times are in
    nanoseconds of one clock that never goes back.

    Parameters
    ----------
    round_trip : int
        The time from sending a small message to its answer when the two sides met; 0 if nothing is known of it.
    start : Quality
        The quality of the first frame. That of the fewest bytes, by default, is there quickly on every link, and on a
        fast one the better ones follow, up to exact pixels within a second.
    """

    __slots__ = (
        "_after",
        "_asked",
        "_draining",
        "_fits",
        "_flying",
        "_last_ack",
        "_number",
        "_probe",
        "_proving",
        "_shares",
        "_since",
        "_trips",
    )

    def __init__(self, round_trip: int = 0, start: Quality = LADDER[-1]) -> None:
        self._number = LADDER.index(start)
        self._shares: list[float | None] = [None] * len(LADDER)  # as they were last
        self._flying: dict[int, _Sent] = {}
        self._last_ack: int | None = None
        self._since = 0  # frames that came in this quality
        self._after = _CLIMBING  # how many of them it takes, at least, until a better one
        self._fits: deque[bool] = deque(maxlen=_CLIMBING)  # whether the last ones would have been quick enough in that
        self._proving: int | None = None  # after a climb: frames that were quick enough since, until they are five
        self._trips = deque((round_trip,) if round_trip > 0 else (), _PROBES)
        self._probe: int | None = None  # when the last one was sent
        self._asked = False  # and whether its answer is still to come
        self._draining = False

    @property
    def quality(self) -> Quality:
        """The quality in which the next frame is to be sent, if it has a choice."""
        return LADDER[self._number]

    @property
    def in_flight(self) -> int:
        """How many frames were sent and not acknowledged."""
        return len(self._flying)

    @property
    def round_trip(self) -> int:
        """The round trip of the idle link, as far as it is known, in nanoseconds."""
        return min(self._trips, default=0)

    def may_send(self, now: int) -> bool:
        """Return whether another frame may be sent now.

        Frames wait here and not in the buffers of the link: while this says no, newer frames take the place of older
        ones, and what is sent next is new.
        """
        return not self._draining and len(self._flying) < _IN_FLIGHT + self.round_trip // _ONE_MORE_NS

    def sent(self, number: int, now: int, quality: Quality | None = None, share: float | None = None) -> None:
        """Note that a frame was sent.

        Parameters
        ----------
        number : int
            By which it will be acknowledged: each frame on its way has another one.
        now : int
            When its first byte was given to the link, encoded.
        quality : Quality, optional
            In which it was encoded. By default that which is chosen now; but acknowledgements that came while the frame
            was encoded may have changed the choice, and labels and planes on demand have none: name it.
        share : float, optional
            Its encoded bytes for each byte of the plane: by this it is known what another quality would take. Not for
            labels, which are smaller than images are.
        """
        which = self._number if quality is None else LADDER.index(quality)
        if share is not None and share > 0:
            self._shares[which] = share
        self._flying[number] = _Sent(now, which)

    def acknowledged(self, number: int, now: int, busy: int = 0) -> bool:
        """Note that a frame has arrived.

        Parameters
        ----------
        number : int
            That with which it was sent.
        now : int
            When the acknowledgement came.
        busy : int, optional
            How long the other side took to decode and show it. On a fast link that is most of the time, and hardly
            depends on the quality.

        Returns
        -------
        bool
            False if no such frame was on its way, and nothing is noted.
        """
        frame = self._flying.pop(number, None)
        if frame is None:
            return False
        took = now - frame.at - max(0, busy)
        if took < self.round_trip:  # no link is quicker than when it is idle
            self._trips.append(max(0, took))
        alone = took - self.round_trip
        occupied = alone if self._last_ack is None else min(alone, now - self._last_ack)
        self._last_ack = now
        self._judge(frame, max(0, occupied), max(0, alone))
        return True

    def _judge(self, frame: _Sent, occupied: int, alone: int) -> None:
        """Choose the quality of the next frames by how long one has occupied the link."""
        if occupied > (_LONGEST_EXACT_NS if LADDER[frame.quality].is_exact else LONGEST_NS):
            self._drop(frame, occupied)
        elif frame.quality == self._number:
            if self._proving is not None:
                self._proving += 1
                if self._proving >= _CLIMBING:
                    self._proving, self._after = None, _CLIMBING
            better = self._number - 1
            if better < 0:
                return
            # Acknowledgements that come at once, as the other side was busy, are no reason for ten times the bytes.
            measured = alone if LADDER[better].is_exact else occupied
            self._since += 1
            self._fits.append(self._expected(frame.quality, measured, better) <= LONGEST_NS)
            if self._since >= self._after and sum(self._fits) >= _SAYING:
                self._take(better)
                self._proving = 0

    def _take(self, number: int) -> None:
        self._number, self._since = number, 0
        self._fits.clear()

    def _drop(self, frame: _Sent, occupied: int) -> None:
        """Take the best quality in which the frame would not have been too slow; those on their way say it again."""
        worse = range(frame.quality + 1, len(LADDER))
        wanted = next((each for each in worse if self._expected(frame.quality, occupied, each) <= LONGEST_NS), None)
        self._fits.clear()
        if (number := len(LADDER) - 1 if wanted is None else wanted) > self._number:
            if self._proving is not None:  # hardly there, and too slow
                self._after = min(2 * self._after, _MOST_CLIMBING)
            self._take(number)
            self._proving = None

    def _expected(self, number: int, occupied: int, other: int) -> float:
        """Return how long a frame that occupied the link in one quality would occupy it in another one."""
        known, wanted = self._shares[number], self._shares[other]
        if known is not None and wanted is not None:
            return occupied * wanted / known
        ratio = _SHARES[other] / _SHARES[number]
        if known is not None and LADDER[other].is_exact:
            # How noisy images are decides the size of previews more than that of exact pixels.
            ratio = min(ratio, _SHARES[other] / known)
        return occupied * ratio

    def probe(self, now: int) -> bool:
        """Return whether a small message is to be sent now, whose answer is told to `probed`.

        It measures the round trip of the idle link, every five seconds. It needs an idle link: while it waits for that,
        `may_send` says no, for as long as the frames on their way take. Without a first call nothing waits.

        Parameters
        ----------
        now : int
        """
        if self._probe is not None and now - self._probe < _PROBE_NS:
            return False
        self._draining = bool(self._flying)
        if not self._draining:
            self._probe, self._asked = now, True
        return not self._draining

    def probed(self, now: int) -> None:
        """Note that the small message has been answered, at a time in nanoseconds."""
        if self._asked and self._probe is not None:
            self._asked = False
            self._trips.append(max(0, now - self._probe))
