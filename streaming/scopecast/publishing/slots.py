"""The slots of a ring, and which receivers need the frame in each of them.

A slot is free, or holds a frame. The frame is first being *written*. Once committed, it may at the same time be

* *pending* for receivers that had no credit when it was published,
* *leased* to receivers that it was sent to and that have not acknowledged it,
* *pinned* as the newest of its channel, for receivers that join late.

A slot whose frame is none of these is free. A frame is never overwritten while it is leased. A pending one may be
superseded by a newer frame, the oldest first; but the newest of a channel only by its own successor. To a receiver that
is behind, the newest of each channel are sent, and those before them are superseded.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from scopecast.protocol import clock_ns
from scopecast.publishing.accounts import FATES, Account, Fate, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from scopecast.memory.ring import Ring
    from scopecast.publishing.accounts import Accounts

__all__ = ["SlotFrame", "Slots", "acknowledge", "drop_all", "keep_all"]

_RANK: Mapping[Fate, int] = {fate: rank for rank, fate in enumerate(FATES)}
_PIN_SHARE = 4  # while a receiver is attached, at most a quarter of the slots (at least one) is pinned


class SlotFrame:
    """A frame that has a slot.

    Attributes
    ----------
    slots : Slots
        The slots of its ring.
    number : int
        The number of its slot.
    channel : hashable
        Identifies its stream and channel.
    generation : int
        The slot's generation once the frame is complete.
    sequence : int
        Its sequence number; -1 while it is being written.
    published_ns : int
        When it was published.
    message : bytes
        The encoded message that announces it.
    lossless : bool
        Whether it must not be superseded.
    fate : str or None
        Its best fate so far over all receivers.
    reason : Reason
        Why, if that is ``"skipped"``.
    of : int
        The sequence number of the frame that it is a reply to; -1 if it is none.
    total : Account
        Where it counts, over all receivers.
    missed : tuple of Account
        The receivers that have not got it, and will not.
    """

    __slots__ = (
        "channel",
        "fate",
        "generation",
        "lossless",
        "message",
        "missed",
        "number",
        "of",
        "published_ns",
        "reason",
        "sequence",
        "slots",
        "total",
    )

    def __init__(self, slots: Slots, number: int, channel: Hashable, generation: int, total: Account) -> None:
        self.slots, self.number, self.channel, self.generation = slots, number, channel, generation
        self.of, self.total = -1, total
        self.missed: tuple[Account, ...] = ()
        self.sequence = -1
        self.published_ns = 0
        self.message = b""
        self.lossless = False
        self.fate: Fate | None = None
        self.reason = Reason.NOT_SHOWN

    @property
    def key(self) -> tuple[int, int]:
        """The ring's epoch and the number of the slot."""
        return self.slots.ring.epoch, self.number


class Slots:
    """The slots of one ring. Used under the publisher's lock.

    Parameters
    ----------
    ring
        The shared memory.
    accounts
        The publisher's accounts, which all its rings share.
    clock
        Tells the time in nanoseconds.

    Attributes
    ----------
    retired : bool
        Whether another ring has replaced this one; frames that were sent can still be acknowledged.
    """

    def __init__(self, ring: Ring, accounts: Accounts, clock: Callable[[], int] = clock_ns) -> None:
        self.ring, self.clock, self.retired = ring, clock, False
        self._accounts = accounts
        self._frames: list[SlotFrame | None] = []
        # Last in, first out: the pages of the slot that was freed last are still in the caches.
        self._free: list[int] = []
        self._newest: dict[Hashable, SlotFrame] = {}  # of each channel; last the one committed last
        self.take_in()

    def take_in(self) -> None:
        """Use the slots that were added to the ring, which are free."""
        added = range(len(self._frames), self.ring.slots)
        self._frames += [None] * len(added)
        self._free[:0] = reversed(added)

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    @property
    def pinned(self) -> int:
        """How many slots are pinned."""
        return min(len(self._newest), self._most_pinned)

    @property
    def leased(self) -> int:
        """How many slots are leased to any receiver."""
        return sum(frame is not None and self._is_leased(frame) for frame in self._frames)

    @property
    def writing(self) -> int:
        """How many slots are being written."""
        return sum(frame is not None and frame.sequence < 0 for frame in self._frames)

    @property
    def credit(self) -> int:
        """How many frames each receiver may hold at most; two slots remain for writing and for pending frames."""
        return max(1, (len(self) - self.pinned - 2) // max(1, len(self._accounts.receivers)))

    @property
    def _most_pinned(self) -> int:
        # While no receiver is attached, slots serve only to keep frames for receivers that join later.
        return max(1, len(self) // _PIN_SHARE if self._accounts.receivers else len(self) - 2)

    # ---- the publisher's side ------------------------------------------------------------------------------------

    def claim(self, channel: Hashable, *, supersede: bool) -> SlotFrame | None:
        """Claim a slot for a frame of `channel`.

        Parameters
        ----------
        channel
            Identifies the stream and channel of the new frame.
        supersede
            Whether pending frames may be superseded.

        Returns
        -------
        SlotFrame or None
            None if there is no room: all slots are leased, or hold frames that must not be superseded.
        """
        old: SlotFrame | None = None
        if self._free:
            number = self._free.pop()
        else:
            old = (self._oldest_pending(channel) if supersede else None) or self._idle_predecessor(channel)
            if old is None:
                return None
            number = old.number
        self.ring.begin(number)
        generation = self.ring.generation(number) + 1
        frame = self._frames[number] = SlotFrame(self, number, channel, generation, self._accounts.total)
        if old is not None:  # only now, so that settling it does not free its slot
            for account in self._accounts.receivers.values():
                if old in account.pending:
                    self.settle(old, account, "superseded")
            self._forget(old)
        return frame

    def _oldest_pending(self, channel: Hashable) -> SlotFrame | None:
        """Return the oldest frame that one of `channel` may supersede."""
        best: SlotFrame | None = None
        for account in self._accounts.receivers.values():
            for frame in account.pending:
                protected = frame.channel != channel and self._newest.get(frame.channel) is frame
                if not protected and not frame.lossless and not self._is_leased(frame):
                    if best is None or frame.sequence < best.sequence:
                        best = frame
                    break
        return best

    def _idle_predecessor(self, channel: Hashable) -> SlotFrame | None:
        """Return the newest frame of the same channel, if it is neither pending nor leased."""
        frame = self._newest.get(channel)
        return None if frame is None or self._is_awaited(frame) else frame

    def cancel(self, frame: SlotFrame) -> None:
        """Give back the slot of a frame that was not committed; nothing is counted. Idempotent."""
        if not self.retired and self._frames[frame.number] is frame and frame.sequence < 0:
            self.ring.abort(frame.number)
            self._release(frame)

    def commit(
        self,
        frame: SlotFrame,
        sequence: int,
        nbytes: int,
        message: bytes,
        *,
        lossless: bool = False,
        caption: tuple[bytes, bytes] | None = None,
    ) -> None:
        """Publish a complete frame: it becomes pending for every receiver, and the newest of its channel.

        Parameters
        ----------
        frame
            The frame, as returned by `claim`.
        sequence
            Its sequence number, from 0.
        nbytes
            The size of its pixels in bytes.
        message
            The encoded message that announces it.
        lossless
            Whether no other frame may supersede it; `unsent` tells what happens to it when the ring is replaced.
        caption
            What lies beside it in shared memory, see `scopecast.memory.ring.Ring.commit`.
        """
        frame.published_ns = self.clock()
        self.ring.commit(frame.number, sequence, nbytes, frame.published_ns, caption)
        frame.sequence, frame.message, frame.lossless = sequence, message, lossless
        receivers: Collection[Account] = self._accounts.receivers.values()
        if frame.missed:
            receivers = [account for account in receivers if account not in frame.missed]
        frame.total.published += 1
        for account in receivers:
            account.published += 1
            account.pending[frame] = None
        if receivers:
            frame.total.leased[frame.key] = frame
        else:
            frame.fate, frame.reason = "skipped", Reason.NO_VIEWER
            self._count_total(frame, "skipped")
        previous = self._newest.pop(frame.channel, None)
        self._newest[frame.channel] = frame
        if previous is not None:
            self._reclaim(previous)
        if (over := len(self._newest) - self._most_pinned) > 0:
            for unpinned in tuple(islice(self._newest.values(), over)):
                self._reclaim(unpinned)

    def crowded(self, channel: Hashable) -> bool:
        """Whether a frame of this channel would unpin the newest of another channel, which no receiver has got yet."""
        return not self._accounts.receivers and channel not in self._newest and self.pinned >= self._most_pinned

    def unsent(self, account: Account) -> list[SlotFrame]:
        """Return the lossless frames that were not yet sent to a receiver, the oldest first.

        They must be sent before another ring replaces this one, regardless of the receiver's credit.
        """
        return [frame for frame in account.pending if frame.lossless]

    def next_for(self, account: Account) -> SlotFrame | None:
        """Return the next frame to send to a receiver; None if there is none, or it has no credit.

        Of frames that may be superseded a receiver holds only as many as it takes in a moment; and when it is behind,
        the newest of each channel is next, in place of those before it.
        """
        if not account.pending or len(account.leased) >= self.credit:
            return None
        oldest: SlotFrame = next(iter(account.pending))
        if oldest.lossless:
            return oldest
        if len(account.leased) >= account.pace.credit:
            return None
        if oldest.sequence > account.pace.chosen:
            self._choose(account)
            oldest = next(iter(account.pending))
        return oldest

    def _choose(self, account: Account) -> None:
        """Let the newest of each channel take the place of older ones, if the receiver is behind.

        All that is left is sent before there is another choice: frames of several channels that belong together.
        """
        pending, pace = account.pending, account.pace
        oldest, newest = next(iter(pending)), next(reversed(pending))
        now = self.clock()
        if pace.look(now, oldest.published_ns, newest.published_ns):
            newest_of = {frame.channel: frame for frame in pending}
            outdated = [frame for frame in pending if not frame.lossless and newest_of[frame.channel] is not frame]
            for frame in outdated:
                self.settle(frame, account, "superseded")
            pace.choose(now, newest.sequence, bool(outdated))

    def lease(self, frame: SlotFrame, account: Account) -> None:
        """Lease a pending frame to the receiver that it was sent to."""
        if not account.leased:
            account.pace.wake(self.clock())
        del account.pending[frame]
        account.leased[frame.key] = frame

    def retire(self) -> None:
        """Stop claiming and publishing, because another ring replaces this one; pending frames are superseded.

        The ring can then be closed: receivers have their own mappings of the memory, and a thread that is still
        writing into a slot keeps its mapping until it is done.
        """
        self.retired = True
        for account in self._accounts.receivers.values():
            for frame in tuple(account.pending):
                if frame.slots is self:
                    self.settle(frame, account, "superseded")

    # ---- the receivers' side -------------------------------------------------------------------------------------

    def attach(self, number: int, account: Account | None = None) -> None:
        """Open the account of a receiver; the newest frame of every channel becomes pending for it if it wants that."""
        account = self._accounts.receivers.setdefault(number, account or Account())
        for frame in sorted(self._newest.values(), key=lambda newest: newest.sequence):
            if account.viewer or (frame.of < 0 and not self._accounts.in_order):
                account.published += 1
                account.pending[frame] = None

    def newest(self, channel: Hashable) -> SlotFrame | None:
        """Return the newest frame of a channel."""
        return self._newest.get(channel)

    def settle(self, frame: SlotFrame, account: Account, fate: Fate) -> None:
        """Settle the fate of a frame that is pending for a receiver, or leased to it."""
        if account.leased.pop(frame.key, None) is None:
            del account.pending[frame]
        account.fates[fate] += 1
        if fate != "delivered":
            frame.missed = (*frame.missed, account)
        self._settle_total(frame, fate)
        self._reclaim(frame)

    def _settle_total(self, frame: SlotFrame, fate: Fate) -> None:
        """Keep the frame's best fate over all receivers; it is settled once one has it, or none can get it any more."""
        total, previous = frame.total, frame.fate
        better = previous is None or _RANK[fate] < _RANK[previous]
        if better:
            frame.fate = fate
        assert frame.fate is not None
        if total.leased.get(frame.key) is not frame:  # already settled; a late joiner got the pinned frame after all
            if better and previous is not None:
                self._count_total(frame, previous, -1)
                self._count_total(frame, fate)
        elif fate == "delivered" or not self._is_awaited(frame):
            del total.leased[frame.key]
            self._count_total(frame, frame.fate)

    def _count_total(self, frame: SlotFrame, fate: Fate, change: int = 1) -> None:
        frame.total.fates[fate] += change
        if fate == "skipped" and frame.total is self._accounts.total:
            self._accounts.note(frame.reason, change)

    # ---- who needs a frame ---------------------------------------------------------------------------------------

    def _is_leased(self, frame: SlotFrame) -> bool:
        key = frame.key
        return any(key in account.leased for account in self._accounts.receivers.values())

    def _is_awaited(self, frame: SlotFrame) -> bool:
        """Whether a frame is pending or leased."""
        return self._is_leased(frame) or any(frame in account.pending for account in self._accounts.receivers.values())

    def _is_pinned(self, frame: SlotFrame) -> bool:
        """Whether a frame is the newest of its channel, and the channel is one of those with the latest frames."""
        if self._newest.get(frame.channel) is not frame:
            return False
        most = self._most_pinned
        return len(self._newest) <= most or any(
            newest is frame for newest in islice(reversed(self._newest.values()), most)
        )

    def _reclaim(self, frame: SlotFrame) -> None:
        """Free the slot of a committed frame that is neither pinned, pending nor leased any more."""
        if self.retired or self._frames[frame.number] is not frame:
            return
        if not self._is_pinned(frame) and not self._is_awaited(frame):
            self._release(frame)

    def _release(self, frame: SlotFrame) -> None:
        self._forget(frame)
        self._frames[frame.number] = None
        self._free.append(frame.number)

    def _forget(self, frame: SlotFrame) -> None:
        if self._newest.get(frame.channel) is frame:
            del self._newest[frame.channel]


def acknowledge(account: Account, epoch: int, number: int, generation: int, fate: Fate) -> bool:
    """Settle a lease. Return False, and change nothing, if it was never granted or has ended."""
    frame: SlotFrame | None = account.leased.get((epoch, number))
    if frame is None or frame.generation != generation:
        return False
    account.pace.take(frame.slots.clock())
    frame.slots.settle(frame, account, fate)
    return True


def keep_all(account: Account) -> None:
    """Settle what a receiver has been sent as delivered: it reads frames where they lie, also after the end."""
    for frame in tuple(account.leased.values()):
        frame.slots.settle(frame, account, "delivered")


def drop_all(account: Account) -> None:
    """Settle all pending and leased frames of a receiver that has left, in any ring, as dropped."""
    for frame in (*account.leased.values(), *account.pending):
        frame.slots.settle(frame, account, "dropped")
