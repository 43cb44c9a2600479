"""The lease table against what it promises, by random sequences of events."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from scopecast.publishing.accounts import Account
from scopecast.publishing.slots import Leases


def table(slots: int = 8, receivers: int = 1) -> Leases:
    leases = Leases(slots, 0, {}, Account())
    for receiver in range(receivers):
        leases.attach(receiver)
    return leases


def publish(leases: Leases, sequence: int, channel: object = "c", *, supersede: bool = True) -> int | None:
    slot = leases.claim(channel, supersede=supersede)
    if slot is not None:
        leases.commit(slot, sequence, 2 * (sequence + 1), b"")
    return slot


def send_all(leases: Leases, receiver: int = 0) -> list[int]:
    sent = []
    while (slot := leases.next_for(receiver)) is not None:
        sent.append(slot)
    return sent


def test_a_frame_without_receivers_is_skipped_and_its_newest_waits_for_a_late_joiner():
    leases = table(receivers=0)
    slots = [publish(leases, sequence) for sequence in range(20)]
    assert None not in slots
    assert leases.total.counts == (20, 0, 0, 0, 20, 0)
    leases.attach(7)
    (slot,) = send_all(leases, 7)
    assert slot == slots[-1]
    assert leases.ack(7, slot, 40, "delivered")
    assert leases.total.counts == (20, 1, 0, 0, 19, 0)


@pytest.mark.fault("V4")
def test_without_credit_the_oldest_is_superseded_and_never_the_newest_of_its_channel():
    leases = table(slots=8)
    publish(leases, 0, "rare")
    assert send_all(leases)
    publish(leases, 1, "rare")
    for sequence in range(2, 40):
        assert publish(leases, sequence, "busy") is not None
        send_all(leases)
    account = leases.accounts[0]
    assert account.counts.balanced
    assert account.fates["superseded"] > 0
    # All that was sent is acknowledged: the newest of both channels must have been among it, or come now.
    generations = []
    for _ in range(10):
        for (epoch, slot), generation in tuple(account.leased.items()):
            assert epoch == 0
            generations.append(generation)
            assert leases.ack(0, slot, generation, "delivered")
        send_all(leases)
    assert 2 * (1 + 1) in generations, "the newest of the rare channel got lost"
    assert 2 * (39 + 1) in generations, "the newest of the busy channel got lost"
    assert account.counts.in_flight == 0


def test_under_every_nothing_gives_way():
    leases = table(slots=8)
    published = 0
    while publish(leases, published, supersede=False) is not None:
        published += 1
        send_all(leases)
    assert 4 <= published <= 8
    assert leases.accounts[0].fates["superseded"] == 0
    (_, slot), generation = next(iter(leases.accounts[0].leased.items()))
    assert leases.ack(0, slot, generation, "delivered")
    send_all(leases)
    assert publish(leases, published, supersede=False) is not None


@pytest.mark.fault("V2")
def test_a_stopped_receiver_takes_no_room_from_another():
    leases = table(slots=16, receivers=2)
    for sequence in range(100):
        assert publish(leases, sequence) is not None
        send_all(leases, 0)  # never acknowledges
        for slot in send_all(leases, 1):
            assert leases.ack(1, slot, leases.generation(slot), "delivered")
    assert leases.accounts[1].counts == (100, 100, 0, 0, 0, 0)
    assert leases.accounts[0].counts.balanced
    assert leases.total.counts.delivered == 100


@pytest.mark.fault("V1")
def test_detaching_drops_what_was_not_acknowledged():
    leases = table(slots=8)
    for sequence in range(3):
        publish(leases, sequence)
    send_all(leases)
    leases.detach(0)
    assert leases.accounts[0].counts == (3, 0, 0, 3, 0, 0)
    assert leases.leased == 0


def test_a_message_that_could_not_be_sent_keeps_its_place():
    leases = table(slots=8)
    first, second = publish(leases, 0), publish(leases, 1)
    assert leases.next_for(0) == first
    leases.unsend(0, first)
    assert send_all(leases) == [first, second]


def test_a_cancelled_slot_is_free_again_and_counts_nothing():
    leases = table(slots=3)
    for _ in range(10):
        slot = leases.claim("c", supersede=True)
        assert slot is not None
        leases.cancel(slot)
    assert leases.total.counts == (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("slots", [3, 4, 5])
def test_the_smallest_rings_lose_nothing_under_every_and_keep_the_newest_for_late_joiners(slots):
    leases = table(slots=slots)

    def deliver():
        sent = send_all(leases)
        for slot in sent:
            assert leases.ack(0, slot, leases.generation(slot), "delivered")
        return bool(sent)

    for sequence in range(40):
        while publish(leases, sequence, f"channel {sequence % 3}", supersede=False) is None:
            assert deliver(), "no room, and nothing to wait for"
    while deliver():
        pass
    leases.attach(1)
    assert leases.generation(send_all(leases, 1)[-1]) == 2 * 40
    assert leases.accounts[0].counts == (40, 40, 0, 0, 0, 0)


def test_a_retired_ring_settles_what_is_leased_and_supersedes_the_rest():
    accounts: dict[int, Account] = {}
    total = Account()
    old = Leases(8, 0, accounts, total)
    old.attach(0)
    for sequence in range(6):
        publish(old, sequence)
    leased = send_all(old)
    old.retire()
    new = Leases(4, 1, accounts, total)
    publish(new, 6)
    for slot in leased:
        assert old.ack(0, slot, old.generation(slot), "delivered")
    (slot,) = send_all(new)
    assert new.ack(0, slot, new.generation(slot), "delivered")
    counts = accounts[0].counts
    assert counts.balanced
    assert counts.in_flight == 0
    assert (counts.delivered, counts.superseded) == (len(leased) + 1, 6 - len(leased))
    assert total.counts == counts


@pytest.mark.fault("V9")
@pytest.mark.parametrize(
    ("slot", "generation"),
    [
        pytest.param(-1, 2, id="negative slot"),
        pytest.param(10**9, 2, id="slot beyond the ring"),
        pytest.param(5, 2, id="slot that is not leased"),
        pytest.param(None, 4, id="another generation"),
    ],
)
def test_a_wrong_ack_changes_nothing(slot, generation):
    leases = table(slots=8)
    publish(leases, 0)
    (real,) = send_all(leases)
    assert not leases.ack(0, real if slot is None else slot, generation, "delivered")
    assert not leases.ack(99, real, 2, "delivered")
    assert leases.accounts[0].counts.in_flight == 1
    assert leases.ack(0, real, 2, "delivered")
    assert not leases.ack(0, real, 2, "delivered"), "a second ack of the same frame counted"


def test_what_is_to_be_kept_gives_way_to_nothing():
    leases = table(slots=6)
    for sequence in range(6):
        slot = leases.claim("files", supersede=False)
        if slot is not None:
            leases.commit(slot, sequence, 2, b"", keep=True)
    assert leases.claim("camera", supersede=True) is None
    assert leases.accounts[0].counts == (6, 0, 0, 0, 0, 6)


def test_a_new_ring_has_what_is_to_be_kept_sent_before_it_takes_over():
    leases = table(slots=8)
    for sequence in range(8):
        slot = leases.claim("c", supersede=False)
        assert slot is not None
        leases.commit(slot, sequence, 2 * (sequence + 1), b"", keep=sequence != 6)
    sent = send_all(leases)
    assert len(sent) == 5, "the credit"
    sent += leases.lease_kept(0)
    assert [leases.generation(slot) for slot in sent] == [2, 4, 6, 8, 10, 12, 16], "in order"
    leases.retire()
    for slot in sent:
        assert leases.ack(0, slot, leases.generation(slot), "delivered")
    assert leases.accounts[0].counts == (8, 7, 1, 0, 0, 0)


class LeaseMachine(RuleBasedStateMachine):
    """Publishers and receivers that do anything, in any order, over several rings; beside them what is true."""

    receivers = Bundle("receivers")

    def __init__(self) -> None:
        super().__init__()
        self.accounts: dict[int, Account] = {}
        self.total = Account()
        self.rings = [Leases(6, 0, self.accounts, self.total)]  # the current one first
        self.sequence = 0
        self.ids = 0
        self.writing: list[tuple[Leases, int]] = []
        self.content: dict[tuple[int, int], int] = {}  # (epoch, slot) -> sequence of the frame that lies there
        self.held: dict[int, dict[tuple[int, int], int]] = {}  # receiver -> (epoch, slot) -> sequence, as sent
        self.kept: dict[int, list[int]] = {}  # receiver -> sequences that it must get, and was not sent yet

    @initialize(slots=st.integers(3, 9))
    def start(self, slots):
        self.rings = [Leases(slots, 0, self.accounts, self.total)]

    @property
    def leases(self) -> Leases:
        return self.rings[0]

    @property
    def written(self) -> set[tuple[int, int]]:
        return {(ring.epoch, slot) for ring, slot in self.writing}

    @rule(target=receivers)
    def attach(self):
        self.ids += 1
        self.leases.attach(self.ids)
        self.held[self.ids] = {}
        # A late joiner is promised nothing of what was published before it came.
        self.kept[self.ids] = self.pending_kept(self.ids)
        return self.ids

    @rule(receiver=receivers)
    def detach(self, receiver):
        if receiver in self.accounts:
            for ring in self.rings:
                ring.detach(receiver)
            assert self.accounts.pop(receiver).counts.in_flight == 0
            del self.held[receiver], self.kept[receiver]

    @rule(channel=st.sampled_from("abc"), supersede=st.booleans())
    def claim(self, channel, supersede):
        superseded = self.total.counts.superseded
        slot = self.leases.claim(channel, supersede=supersede)
        assert supersede or self.total.counts.superseded == superseded, "a frame gave way that was not to"
        if slot is not None:
            place = self.leases.epoch, slot
            assert all(place not in held for held in self.held.values()), "a leased slot was given away"
            assert place not in self.written, "a slot is written twice"
            self.writing.append((self.leases, slot))

    @rule(keep=st.booleans())
    def commit(self, keep):
        if not self.writing:
            return
        ring, slot = self.writing.pop()
        if ring is not self.leases:  # its ring was replaced meanwhile
            ring.cancel(slot)
            return
        ring.commit(slot, self.sequence, 2 * self.sequence + 2, b"", keep=keep)
        self.content[ring.epoch, slot] = self.sequence
        if keep:
            for waiting in self.kept.values():
                waiting.append(self.sequence)
        self.sequence += 1

    @rule()
    def cancel(self):
        if self.writing:
            ring, slot = self.writing.pop()
            ring.cancel(slot)

    def sent(self, receiver, slot):
        place = self.leases.epoch, slot
        assert place not in self.written
        sequence = self.held[receiver][place] = self.content[place]
        if sequence in self.kept[receiver]:
            assert self.kept[receiver].pop(0) == sequence, "not in order"

    @rule(receiver=receivers, fails=st.booleans())
    def send(self, receiver, fails):
        if receiver in self.accounts:
            slot = self.leases.next_for(receiver)
            if slot is None:
                return
            if fails:
                self.leases.unsend(receiver, slot)
                assert self.accounts[receiver].pending[0] == slot
            else:
                self.sent(receiver, slot)

    @rule(slots=st.integers(3, 9))
    def replace_the_ring(self, slots):
        if len(self.rings) > 3:
            return
        for receiver in self.accounts:
            for slot in self.leases.lease_kept(receiver):
                self.sent(receiver, slot)
            assert self.kept[receiver] == [], "lost to the new ring"
        for ring in self.rings:
            ring.retire()
        self.rings.insert(0, Leases(slots, self.leases.epoch + 1, self.accounts, self.total))

    @rule()
    def bury(self):
        """Let go of the rings that nobody holds a slot of."""
        for ring in self.rings[1:]:
            held = any(epoch == ring.epoch for held in self.held.values() for epoch, _ in held)
            written = any(writing is ring for writing, _ in self.writing)
            assert (bool(ring.leased), ring.writing) == (held, written)
            if not held and not written:
                self.rings.remove(ring)

    @rule(receiver=receivers, fate=st.sampled_from(["delivered", "skipped"]), data=st.data())
    def ack(self, receiver, fate, data):
        if self.held.get(receiver):
            place = data.draw(st.sampled_from(sorted(self.held[receiver])))
            sequence = self.held[receiver].pop(place)
            assert self.content[place] == sequence, "a leased frame was overwritten"
            (ring,) = [ring for ring in self.rings if ring.epoch == place[0]]
            assert ring.ack(receiver, place[1], 2 * sequence + 2, fate)

    @rule(ring=st.integers(0, 3), receiver=st.integers(-1, 9), slot=st.integers(-2, 9), generation=st.integers(-1, 99))
    def wrong_ack(self, ring, receiver, slot, generation):
        leases = self.rings[min(ring, len(self.rings) - 1)]
        place = leases.epoch, slot
        expected = receiver in self.held and self.held[receiver].get(place, -9) * 2 + 2 == generation
        assert leases.ack(receiver, slot, generation, "delivered") == expected
        if expected:
            self.held[receiver].pop(place)

    def pending_kept(self, receiver):
        slots = self.leases._slots
        return [slots[index].sequence for index in self.accounts[receiver].pending if slots[index].kept]

    @invariant()
    def what_is_to_be_kept_waits_in_order(self):
        for receiver in self.accounts:
            assert self.pending_kept(receiver) == self.kept[receiver]

    @invariant()
    def free_slots_are_nobodys(self):
        for ring in self.rings:
            for index in ring._free:
                slot = ring._slots[index]
                used = slot.holders or slot.waiting or slot.pinned or slot.writing
                assert not used, f"slot {index} is on the list of free slots, and is not free"

    @invariant()
    def every_frame_is_accounted_for(self):
        assert self.total.counts.balanced
        assert self.total.published == self.sequence
        for receiver, account in self.accounts.items():
            assert account.counts.balanced
            assert {place: 2 * sequence + 2 for place, sequence in self.held[receiver].items()} == account.leased
        if not self.accounts:
            assert self.total.counts.in_flight == 0


LeaseMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@pytest.mark.fault("V9", "V4", "R5")
class TestLeaseMachine(LeaseMachine.TestCase):  # type: ignore[misc,name-defined]
    """Whatever anyone does, in any order: credit, leases and accounts hold."""
