"""A publisher whose frames a program looks at."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from scopecast.errors import SharedMemoryError, UnsupportedDtypeError
from scopecast.link.messages import Marked, Ping, Replied
from scopecast.memory.ring import MAX_SLOTS
from scopecast.protocol import clock_ns
from scopecast.subscribing.captions import captioned
from scopecast.subscribing.frame import Lease
from scopecast.subscribing.line import Line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    import zmq

    from scopecast.link import messages
    from scopecast.link.transport import KeyPair
    from scopecast.rundir.directory import Entry, RunDirectory

__all__ = ["SubscribedSource"]

logger = logging.getLogger(__name__)

#: Frames whose numbers are remembered: many more than lie in a ring.
_MOST_SEEN: Final = 16 * MAX_SLOTS


class SubscribedSource(Line):
    """A line to one publisher that keeps the frames in their slots, and hands out leases.

    Parameters
    ----------
    entry, directory, hello, context, keys
        As for `Line`.
    take
        Called with each frame: the source, the lease, the announcement of its stream and its axes. It returns whether
        the frame is wanted.
    answered
        Called with the source and each answer to a reply or to marks.
    give_back
        Called with the source and a lease that is over, in any thread; `settle` is to be called for it in ours.
    lost
        Called with the source if it has gone, or has taken its leases away.
    over
        Called with the source and the number of a stream of which no more frames come; None for all of them.
    kinds
        Of frames that are wanted.

    Attributes
    ----------
    leases : set of Lease
        Those that we have.
    settled_ns : int
        All that was published until then has come, by `scopecast.protocol.clock_ns`.
    """

    def __init__(
        self,
        entry: Entry,
        directory: RunDirectory,
        hello: messages.Hello,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: KeyPair | None,
        *,
        take: Callable[[SubscribedSource, Lease, messages.Stream, dict[str, int | str]], bool],
        answered: Callable[[SubscribedSource, messages.Replied | messages.Marked], None],
        give_back: Callable[[SubscribedSource, Lease], None],
        lost: Callable[[SubscribedSource], None],
        over: Callable[[SubscribedSource, int | None], None],
        kinds: Collection[str] = ("image",),
    ) -> None:
        self.leases: set[Lease] = set()
        self._give, self._answered, self._give_back, self._lost = take, answered, give_back, lost
        self._over, self._kinds = over, kinds
        self.settled_ns = self._pinged_ns = 0
        self._received = 0  # frames, since we have a row in the publisher's accounts
        self._returned, self._away, self._counted = False, 0, 0
        self._first, self._since = -1, 0  # the first frame since we came (back), and how many have come since
        #: The number of the newest frame when all until then had come or was accounted for, and how many had come.
        self._settled_at = (-1, 0)
        self._newest, self._came = -1, 0
        self._lacking = self._unread = 0  # frames that never came; and that could not be read any more
        self._seen: deque[int] = deque(maxlen=_MOST_SEEN)  # the last of those since then
        self._created_ns = clock_ns()
        self._ending: list[int] = []
        super().__init__(entry, directory, hello, context, keys)

    def _handle(self, message: messages.FromPublisher) -> None:
        if isinstance(message, Replied | Marked):
            self._answered(self, message)
            return
        super()._handle(message)
        if not isinstance(message, Ping):
            return
        before, self._pinged_ns = self._pinged_ns, clock_ns()
        if message.published == self._received + message.superseded + message.dropped:  # nothing is on the way
            self.settled_ns = max(self.settled_ns, before)  # this account may be as old as the last one is
            self._settled_at = self._newest, self._came
            self._seen.clear()
            self._end_streams(self._ending)

    @property
    def missed(self) -> int:
        """Frames that did not come: by the publisher's last account, and by their numbers where there is none."""
        return self._away + self.superseded + self.dropped - self._counted + self._lacking + self._unread

    def look_whether_settled(self) -> None:
        """Look into the publisher's memory whether all has come: sooner than its next account says so."""
        now = clock_ns()
        if self.state == "attached" and self.reader is not None and self.reader.newest <= self._newest:
            self.settled_ns = max(self.settled_ns, now)

    def take_rest(self) -> bool:
        """Take the last frames of a publisher that has gone without a word: they are in its memory, which we have.

        Called once, while it is about to leave. Afterwards `missed` counts also those that are there no more.

        Returns
        -------
        bool
            Whether it can be told which frames have come, and which have not.
        """
        reader, received = self.reader, self._newest
        if reader is None:
            return self._first < 0 and not self.published
        last = captioned(reader)
        rest = [each for each in last if each.frame.sequence > received and each.frame.sent_ns >= self._created_ns]
        if self._first < 0:  # nothing came so far, and so nothing tells how many there were before these
            self._settled_at = rest[0].frame.sequence - 1 if rest else reader.newest, self._came
            is_known = not rest or rest[0].frame.sequence == 0 or rest[0] is not last[0]
        else:
            is_known = bool(reader.newest_ns)
        began, came = self._settled_at
        # What viewers alone were sent has numbers, too.
        known = max(began, self._seen[0] - 1) if len(self._seen) == _MOST_SEEN else began
        replies = sum(known < frame.sequence <= received and frame.sequence not in self._seen for _, frame in last)
        for stream, frame in rest:
            self._announce(stream)
            self._take(frame)
        self._lacking = max(0, max(self._newest, reader.newest) - began - (self._came - came) - replies)
        return is_known

    def _greet(self) -> None:
        self._received = 0
        super()._greet()

    def _end_stream(self, number: int) -> None:
        self._ending.append(number)  # END is sent at once, and frames of the stream may still come after it

    def _end_streams(self, numbers: Sequence[int]) -> None:
        self._ending = [number for number in self._ending if number not in numbers]
        for number in numbers:
            self._over(self, number)

    def _take(self, frame: messages.Frame) -> None:
        self._received += 1
        if self._returned:  # the last account of the row that was given up is older than its end
            self._away += max(0, frame.sequence - self._first - self._since)
            self._counted = sum(self._settled)
        if self._returned or self._first < 0:
            self._first, self._since, self._returned = frame.sequence, 0, False
            self._settled_at = frame.sequence - 1, self._came
        self._since += 1
        self._newest, self._came = frame.sequence, self._came + 1
        self._seen.append(frame.sequence)
        self.settled_ns = max(self.settled_ns, frame.sent_ns - 1)
        if self._ending:  # frames come in their order
            self._end_streams([number for number in self._ending if number < frame.stream])
        placed = self.place(frame) if frame.kind in self._kinds else None
        try:
            view = self.view(frame) if placed is not None else None
        except (TypeError, ValueError, UnsupportedDtypeError, SharedMemoryError) as error:
            self.errors += 1
            logger.debug("ignored a frame of %s: %s", self.entry.title, error)
            view = None
        if view is None or placed is None or self.reader is None:
            self._unread += frame.kind in self._kinds
            self.acknowledge(frame, "skipped")
            return
        lease = Lease(frame, self.reader, lambda lease: self._give_back(self, lease))
        self.leases.add(lease)
        if not self._give(self, lease, *placed):
            lease.end("skipped")

    def settle(self, lease: Lease) -> None:
        """Give the slot of a lease back, and note whether it was ours until now."""
        self.leases.discard(lease)
        lease.lost = not lease.intact
        if self.connected and not lease.lost:
            self.acknowledge(lease.message, lease.fate)
        if lease.reader is not self.reader and all(each.reader is not lease.reader for each in self.leases):
            lease.reader.close()

    def _let_go(self) -> None:
        if self.reader is not None and any(lease.reader is self.reader for lease in self.leases):
            self.reader = None  # the last of these leases closes it
        else:
            super()._let_go()

    def _forgotten(self) -> None:
        self._returned = self._first >= 0
        # Its frames may be overwritten from now on, which their generation tells; those of one that died never are.
        self._lost(self)

    def _left(self) -> None:
        # The memory of one that has ended stays as it was, as long as we have it mapped: nobody writes there any more.
        if self.state == "detached":
            for lease in self.leases:
                lease.lost = True
        self._lost(self)
        self._over(self, None)
