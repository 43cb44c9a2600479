"""Who holds which slot of a ring: credits, leases, pending and pinned slots. Pure state: no I/O, no clock, no lock.

A slot is *free*, being *written*, or holds a committed frame, which may be, all at once,

* *pending* for receivers that had no credit when it was published,
* *leased* to receivers that it was sent to and that have not acknowledged it,
* *pinned* as the newest of its channel, for receivers that join late.

A slot without any of these is free. A frame is only ever overwritten while nobody leases it; a pending one may be
superseded by a newer frame, the oldest first, but never the newest of its channel, except by its own successor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopecast.publishing.accounts import FATES, Account, Fate

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = ["Leases"]

_RANK: Mapping[Fate, int] = {fate: rank for rank, fate in enumerate(FATES)}
_PIN_SHARE = 4  # while anyone is attached at most a quarter of the slots is pinned, or one


class _Slot:
    """What is known of one slot."""

    __slots__ = (
        "channel",
        "fate",
        "generation",
        "holders",
        "kept",
        "listed",
        "message",
        "pinned",
        "sequence",
        "waiting",
        "writing",
    )

    def __init__(self) -> None:
        self.channel: Hashable = None
        self.sequence = -1
        self.generation = 0
        self.message = b""
        self.holders: set[int] = set()  # receivers that lease it
        self.waiting: set[int] = set()  # receivers for which it is pending
        self.pinned = False
        self.kept = False  # must not be superseded
        self.writing = False
        self.listed = True  # in the list of free slots
        self.fate: Fate | None = None  # the frame's fate over all receivers, once settled


class Leases:
    """The state of the slots of one ring.

    Parameters
    ----------
    slots
        How many slots the ring has.
    epoch
        The ring's epoch.
    accounts
        The account of each receiver that is attached, by an id of the caller's choice; shared between the rings of
        a publisher.
    total
        The account of all receivers together.
    """

    def __init__(self, slots: int, epoch: int, accounts: dict[int, Account], total: Account) -> None:
        self.epoch = epoch
        self.accounts = accounts
        self.total = total
        self._slots = [_Slot() for _ in range(slots)]
        # Last in, first out: the slot that was freed last is the one whose pages are still in the caches.
        self._free = list(range(slots))[::-1]
        self._newest: dict[Hashable, int] = {}
        self._pins: dict[Hashable, int] = {}
        #: The slot that `claim` took last, until the caller has it in hand; for `recover`.
        self.claimed: int | None = None

    def grow(self, slots: int) -> None:
        """Take in new slots, which are free."""
        first = len(self._slots)
        self._slots += [_Slot() for _ in range(slots)]
        self._free[:0] = range(first, first + slots)[::-1]

    @property
    def credit(self) -> int:
        """How many frames each receiver may hold at once; two slots stay for writing and waiting."""
        return max(1, (len(self._slots) - len(self._pins) - 2) // max(1, len(self.accounts)))

    @property
    def leased(self) -> int:
        """How many slots are leased to anyone."""
        return sum(bool(slot.holders) for slot in self._slots)

    @property
    def writing(self) -> bool:
        """Whether a slot is being written."""
        return any(slot.writing for slot in self._slots)

    def message(self, slot: int) -> bytes:
        """Return the encoded message that announces the slot's frame."""
        return self._slots[slot].message

    def generation(self, slot: int) -> int:
        """Return the generation of the slot's frame."""
        return self._slots[slot].generation

    # ---- the publisher's side ------------------------------------------------------------------------------------

    def claim(self, channel: Hashable, *, supersede: bool) -> int | None:
        """Take a slot to write a frame of `channel` into.

        Parameters
        ----------
        channel
            Identifies the stream and channel of the new frame.
        supersede
            Whether pending frames may give way.

        Returns
        -------
        int or None
            The slot, or None if there is no room: all slots are leased, or hold frames that must not give way.
        """
        if self._free:
            index = self._free.pop()
        else:
            found = self._oldest_pending(channel) if supersede else None
            if found is None:
                found = self._idle_predecessor(channel)
            if found is None:
                return None
            index = found
        slot = self._slots[index]
        self.claimed = index
        slot.writing, slot.listed = True, False  # from here on nothing below can put it on the free list
        for receiver in tuple(slot.waiting):
            self._settle(index, receiver, "superseded")
        self._unpin(index)
        if self._newest.get(slot.channel) == index:
            del self._newest[slot.channel]
        slot.channel = channel
        return index

    def _oldest_pending(self, channel: Hashable) -> int | None:
        best: int | None = None
        for account in self.accounts.values():
            for index in account.pending:
                slot = self._slots[index]
                protected = self._newest.get(slot.channel) == index and slot.channel != channel
                if not slot.holders and not slot.kept and not protected:
                    if best is None or slot.sequence < self._slots[best].sequence:
                        best = index
                    break
        return best

    def _idle_predecessor(self, channel: Hashable) -> int | None:
        """Return the pinned newest frame of the same channel, if nobody is to get it any more."""
        index = self._pins.get(channel)
        if index is None:
            return None
        slot = self._slots[index]
        return None if slot.holders or slot.waiting or slot.writing else index

    def cancel(self, index: int) -> None:
        """Give back a slot whose writing failed; nothing is counted. Nothing happens to one that is not written."""
        slot = self._slots[index]
        if not slot.writing:
            return
        slot.writing = False
        slot.channel = None
        self._reclaim(index)

    def commit(self, index: int, sequence: int, generation: int, message: bytes, *, keep: bool = False) -> None:
        """Record a whole frame: it is pending for every receiver, and its channel's newest.

        One that is to be kept is never superseded by another frame; see `lease_kept` for what a new ring does.
        """
        slot = self._slots[index]
        slot.writing, slot.kept = False, keep
        slot.sequence, slot.generation, slot.message, slot.fate = sequence, generation, message, None
        self.total.published += 1
        for receiver, account in self.accounts.items():
            account.published += 1
            account.pending.append(index)
            slot.waiting.add(receiver)
        self._pin(index)  # after those who wait for it are known: a pin may give way to another at once
        if self.accounts:
            self.total.leased[self.epoch, index] = generation
        else:
            slot.fate = "skipped"
            self.total.fates["skipped"] += 1
            self._reclaim(index)

    def _pin(self, index: int) -> None:
        channel = self._slots[index].channel
        self._newest[channel] = index
        previous = self._pins.pop(channel, None)
        self._pins[channel] = index
        self._slots[index].pinned = True
        if previous is not None and previous != index:
            self._slots[previous].pinned = False
            self._reclaim(previous)
        # Where nobody is attached, the slots are of no other use than to have something for whoever comes.
        most = len(self._slots) // _PIN_SHARE if self.accounts else len(self._slots) - 2
        while len(self._pins) > max(1, most):
            self._unpin(next(iter(self._pins.values())))

    def crowded(self, channel: Hashable) -> bool:
        """Whether the next frame of a channel would cost another channel its newest, which nobody has got yet."""
        return not self.accounts and channel not in self._pins and len(self._pins) >= max(1, len(self._slots) - 2)

    def _unpin(self, index: int) -> None:
        slot = self._slots[index]
        if slot.pinned:
            slot.pinned = False
            if self._pins.get(slot.channel) == index:
                del self._pins[slot.channel]
            self._reclaim(index)

    def next_for(self, receiver: int) -> int | None:
        """Lease the oldest pending frame to a receiver that has credit; None if there is none, or no credit."""
        account = self.accounts[receiver]
        if not account.pending or len(account.leased) >= self.credit:
            return None
        index = account.pending.popleft()
        slot = self._slots[index]
        slot.waiting.discard(receiver)
        slot.holders.add(receiver)
        account.leased[self.epoch, index] = slot.generation
        return index

    def lease_kept(self, receiver: int) -> list[int]:
        """Lease all pending frames that are to be kept to a receiver, whatever its credit, the oldest first.

        For the moment before `retire`: they are sent at once, or never.
        """
        account = self.accounts[receiver]
        kept = [index for index in account.pending if self._slots[index].kept]
        for index in kept:
            slot = self._slots[index]
            account.pending.remove(index)
            slot.waiting.discard(receiver)
            slot.holders.add(receiver)
            account.leased[self.epoch, index] = slot.generation
        return kept

    def unsend(self, receiver: int, index: int) -> None:
        """Take back a lease whose message could not be sent; the frame is pending again, in its old place."""
        account = self.accounts[receiver]
        del account.leased[self.epoch, index]
        self._slots[index].holders.discard(receiver)
        self._slots[index].waiting.add(receiver)
        account.pending.appendleft(index)

    def retire(self) -> None:
        """Wind the ring down, because another one takes its place: what is pending will not be sent any more."""
        for receiver, account in self.accounts.items():
            for index in tuple(account.pending):
                self._settle(index, receiver, "superseded")
        for index in tuple(self._pins.values()):
            self._unpin(index)

    def recover(self) -> None:
        """Make every slot free that is not being written, whatever state an exception has left; for `Hub.recover`."""
        for slot in self._slots:
            slot.holders.clear()
            slot.waiting.clear()
            slot.pinned, slot.listed = False, not slot.writing
        self._free = [index for index, slot in enumerate(self._slots) if slot.listed][::-1]
        self._newest.clear()
        self._pins.clear()

    # ---- the receivers' side -------------------------------------------------------------------------------------

    def attach(self, receiver: int) -> None:
        """Open the account of a receiver; the newest frame of every channel is pending for it."""
        account = self.accounts.setdefault(receiver, Account())
        for index in sorted(self._pins.values(), key=lambda pinned: self._slots[pinned].sequence):
            if self._slots[index].writing:
                continue
            account.published += 1
            account.pending.append(index)
            self._slots[index].waiting.add(receiver)

    def ack(self, receiver: int, index: int, generation: int, fate: Fate) -> bool:
        """Settle a lease. Return False, and change nothing, for one that was never granted or has ended."""
        account = self.accounts.get(receiver)
        if account is None or account.leased.get((self.epoch, index)) != generation:
            return False
        self._settle(index, receiver, fate)
        return True

    def detach(self, receiver: int) -> None:
        """End all that a receiver has in this ring: what it did not acknowledge is dropped."""
        account = self.accounts[receiver]
        held = [index for epoch, index in account.leased if epoch == self.epoch]
        pending = [i for i in account.pending if i < len(self._slots) and receiver in self._slots[i].waiting]
        for index in (*held, *pending):
            self._settle(index, receiver, "dropped")

    def _settle(self, index: int, receiver: int, fate: Fate) -> None:
        slot, account = self._slots[index], self.accounts[receiver]
        if receiver in slot.holders:
            slot.holders.discard(receiver)
            del account.leased[self.epoch, index]
        else:
            slot.waiting.discard(receiver)
            account.pending.remove(index)
        account.fates[fate] += 1
        self._settle_total(index, fate)
        self._reclaim(index)

    def _settle_total(self, index: int, fate: Fate) -> None:
        """Keep the best fate of the frame over all receivers; settled when one has it, or none will get it any more."""
        slot, total, key = self._slots[index], self.total, (self.epoch, index)
        better = slot.fate is None or _RANK[fate] < _RANK[slot.fate]
        previous, slot.fate = slot.fate, fate if better else slot.fate
        if slot.fate is None:
            return
        if key not in total.leased:  # settled before; a late joiner has got the pinned frame after all
            if better and previous is not None:
                total.fates[previous] -= 1
                total.fates[fate] += 1
        elif fate == "delivered" or not (slot.holders or slot.waiting):
            del total.leased[key]
            total.fates[slot.fate] += 1

    def _reclaim(self, index: int) -> None:
        slot = self._slots[index]
        if slot.listed or slot.holders or slot.waiting or slot.pinned or slot.writing:
            return
        slot.listed = True
        self._free.append(index)
