"""The slots of a ring against what they promise, by random sequences of events."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count, pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from scopecast.memory.ring import Ring, RingLayout
from scopecast.memory.segment import PAGE
from scopecast.publishing.accounts import Account, Accounts
from scopecast.publishing.slots import SlotFrame, Slots, acknowledge, drop_all
from scopecast.rundir.directory import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from scopecast.publishing.accounts import Fate


class Table:
    """Slots in a ring of their own, the accounts of who gets their frames, and the time in ms."""

    def __init__(self, slots: int = 8, receivers: int = 1) -> None:
        self.token = new_token()
        self.accounts = Accounts()
        self.rings: list[Ring] = []
        self.now = 0.0
        self.slots = self.renew(slots)
        for receiver in range(receivers):
            self.slots.attach(receiver)

    def __enter__(self) -> Table:
        return self

    def __exit__(self, *_: object) -> None:
        for ring in self.rings:
            ring.close()

    def renew(self, slots: int) -> Slots:
        """Make a ring that takes the place of the last one, which is told by the caller."""
        epoch = len(self.rings)
        self.rings.append(Ring(f"headless_{self.token}_{epoch}", RingLayout(slots, PAGE), self.token, epoch))
        self.slots = Slots(self.rings[-1], self.accounts, clock=lambda: round(self.now * 1e6))
        return self.slots

    def run(
        self, arrivals: Iterable[float], takes: Callable[[float], float], channels: int = 1
    ) -> list[tuple[int, float]]:
        """Publish at these times, to a receiver that takes so many ms for a frame at a time; until it has them all.

        Returns
        -------
        list of (int, float)
            The frames that it took, by their sequence, and how old each of them was in ms.
        """
        times, taken = list(arrivals), []
        account, coming, done_at = self.account(), 0, 0.0
        while coming < len(times) or account.in_flight:
            if account.leased and (coming == len(times) or done_at <= times[coming]):
                self.now = done_at
                frame = next(iter(account.leased.values()))
                taken.append((frame.sequence, self.now - times[frame.sequence]))
                self.acknowledge(frame)
                done_at += takes(self.now)
                self.send_all()
            else:
                self.now = times[coming]
                idle = not account.leased
                assert self.publish(coming, coming % channels) is not None
                self.send_all()
                done_at = self.now + takes(self.now) if idle else done_at
                coming += 1
        assert account.counts.balanced
        assert account.counts.published == len(times)
        return taken

    @property
    def total(self) -> Account:
        return self.accounts.total

    def account(self, receiver: int = 0) -> Account:
        return self.accounts.receivers[receiver]

    def publish(self, sequence: int, channel: object = "c", *, supersede: bool = True) -> SlotFrame | None:
        frame = self.slots.claim(channel, supersede=supersede)
        if frame is not None:
            self.slots.commit(frame, sequence, 8, b"")
        return frame

    def send(self, frame: SlotFrame, receiver: int = 0) -> SlotFrame:
        self.slots.lease(frame, self.account(receiver))
        return frame

    def send_all(self, receiver: int = 0) -> list[SlotFrame]:
        sent = []
        while (frame := self.slots.next_for(self.account(receiver))) is not None:
            sent.append(self.send(frame, receiver))
        return sent

    def acknowledge(self, frame: SlotFrame, receiver: int = 0, fate: Fate = "delivered") -> None:
        assert acknowledge(self.account(receiver), *frame.key, frame.generation, fate)

    def detach(self, receiver: int) -> Account:
        drop_all(self.account(receiver))
        return self.accounts.receivers.pop(receiver)


@pytest.fixture
def make() -> Iterator[Callable[..., Table]]:
    with ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(Table(*arguments, **more))


def test_a_frame_without_receivers_is_skipped_and_its_newest_waits_for_a_late_joiner(make):
    table = make(receivers=0)
    frames = [table.publish(sequence) for sequence in range(20)]
    assert None not in frames
    assert table.total.counts == (20, 0, 0, 0, 20, 0)
    assert table.accounts.skipped == {"no viewer": 20}
    table.slots.attach(7)
    (frame,) = table.send_all(7)
    assert frame is frames[-1]
    table.acknowledge(frame, 7)
    assert table.total.counts == (20, 1, 0, 0, 19, 0)
    assert table.accounts.skipped == {"no viewer": 19}, "one of them was shown after all"


@pytest.mark.fault("V4")
def test_without_credit_the_oldest_is_superseded_and_never_the_newest_of_its_channel(make):
    table = make(slots=8)
    table.publish(0, "rare")
    assert table.send_all()
    table.publish(1, "rare")
    for sequence in range(2, 40):
        assert table.publish(sequence, "busy") is not None
        table.send_all()
    account = table.account()
    assert account.counts.balanced
    assert account.fates["superseded"] > 0
    # All that was sent is acknowledged: the newest of both channels must have been among it, or come now.
    sequences = []
    for _ in range(10):
        for frame in tuple(account.leased.values()):
            sequences.append(frame.sequence)
            table.acknowledge(frame)
        table.send_all()
    assert 1 in sequences, "the newest of the rare channel got lost"
    assert 39 in sequences, "the newest of the busy channel got lost"
    assert account.counts.in_flight == 0


def test_under_every_nothing_gives_way(make):
    table = make(slots=8)
    published = 0
    while table.publish(published, supersede=False) is not None:
        published += 1
        table.send_all()
    account = table.account()
    assert 4 <= published <= 8
    assert account.fates["superseded"] == 0
    table.acknowledge(next(iter(account.leased.values())))
    table.send_all()
    assert table.publish(published, supersede=False) is not None


@pytest.mark.fault("V2")
def test_a_stopped_receiver_takes_no_room_from_another(make):
    table = make(slots=16, receivers=2)
    for sequence in range(100):
        assert table.publish(sequence) is not None
        table.send_all(0)  # never acknowledges
        for frame in table.send_all(1):
            table.acknowledge(frame, 1)
    assert table.account(1).counts == (100, 100, 0, 0, 0, 0)
    assert table.account(0).counts.balanced
    assert table.total.counts.delivered == 100


@pytest.mark.fault("V1")
def test_detaching_drops_what_was_not_acknowledged(make):
    table = make(slots=8)
    for sequence in range(3):
        table.publish(sequence)
    table.send_all()
    assert table.detach(0).counts == (3, 0, 0, 3, 0, 0)
    assert table.slots.leased == 0


def test_a_message_that_could_not_be_sent_keeps_its_place(make):
    table = make(slots=8)
    first, second = table.publish(0), table.publish(1)
    assert table.slots.next_for(table.account()) is first
    assert table.send_all() == [first, second]


def test_a_cancelled_slot_is_free_again_and_counts_nothing(make):
    table = make(slots=3)
    for _ in range(10):
        frame = table.slots.claim("c", supersede=True)
        assert frame is not None
        table.slots.cancel(frame)
        table.slots.cancel(frame)
    assert table.slots.free == 3
    assert table.total.counts == (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("slots", [3, 4, 5])
def test_the_smallest_rings_lose_nothing_under_every_and_keep_the_newest_for_late_joiners(make, slots):
    table = make(slots=slots)

    def deliver():
        sent = table.send_all()
        for frame in sent:
            table.acknowledge(frame)
        return bool(sent)

    for sequence in range(40):
        while table.publish(sequence, f"channel {sequence % 3}", supersede=False) is None:
            assert deliver(), "no room, and nothing to wait for"
    while deliver():
        pass
    table.slots.attach(1)
    assert table.send_all(1)[-1].sequence == 39
    assert table.account().counts == (40, 40, 0, 0, 0, 0)


def test_a_retired_ring_settles_what_is_leased_and_supersedes_the_rest(make):
    table = make(slots=8)
    for sequence in range(6):
        table.publish(sequence)
    leased = table.send_all()
    table.slots.retire()
    table.renew(4)
    table.publish(6)
    for frame in leased:
        table.acknowledge(frame)
    (frame,) = table.send_all()
    table.acknowledge(frame)
    counts = table.account().counts
    assert counts.balanced
    assert counts.in_flight == 0
    assert (counts.delivered, counts.superseded) == (len(leased) + 1, 6 - len(leased))
    assert table.total.counts == counts


@pytest.mark.fault("V9")
@pytest.mark.parametrize(
    ("epoch", "slot", "generation"),
    [
        pytest.param(0, -1, 2, id="negative slot"),
        pytest.param(0, 10**9, 2, id="slot beyond the ring"),
        pytest.param(0, 5, 2, id="slot that is not leased"),
        pytest.param(0, None, 4, id="another generation"),
        pytest.param(1, None, 2, id="another ring"),
    ],
)
def test_a_wrong_acknowledgement_changes_nothing(make, epoch, slot, generation):
    table = make(slots=8)
    table.publish(0)
    (frame,) = table.send_all()
    account, number = table.account(), frame.number if slot is None else slot
    assert not acknowledge(account, epoch, number, generation, "delivered")
    assert account.counts.in_flight == 1
    table.acknowledge(frame)
    assert not acknowledge(account, *frame.key, frame.generation, "delivered"), "a second one of the same frame counted"


def test_what_is_to_be_kept_gives_way_to_nothing(make):
    table = make(slots=6)
    for sequence in range(6):
        frame = table.slots.claim("files", supersede=False)
        if frame is not None:
            table.slots.commit(frame, sequence, 8, b"", lossless=True)
    assert table.slots.claim("camera", supersede=True) is None
    assert table.account().counts == (6, 0, 0, 0, 0, 6)


def test_a_new_ring_has_what_is_to_be_kept_sent_before_it_takes_over(make):
    table = make(slots=8)
    for sequence in range(8):
        frame = table.slots.claim("c", supersede=False)
        assert frame is not None
        table.slots.commit(frame, sequence, 8, b"", lossless=sequence != 6)
    sent = table.send_all()
    assert len(sent) == 5, "the credit"
    sent += [table.send(frame) for frame in table.slots.unsent(table.account())]
    assert [frame.sequence for frame in sent] == [0, 1, 2, 3, 4, 5, 7], "in order"
    table.slots.retire()
    for frame in sent:
        table.acknowledge(frame)
    assert table.account().counts == (8, 7, 1, 0, 0, 0)


# ---- a receiver that can't keep up -----------------------------------------------------------------------------------


def at_rate(per_s: float, seconds: float) -> list[float]:
    """Return when frames are published, in ms."""
    return [1000 * number / per_s for number in range(round(per_s * seconds))]


@pytest.mark.fault("V4")
@pytest.mark.parametrize(("per_s", "takes"), [(200, 22), (200, 6), (50, 22), (1000, 22), (100, 150)])
def test_who_cannot_keep_up_gets_as_many_frames_as_it_takes_and_new_ones(make, per_s, takes):
    table = make(slots=32)
    taken = table.run(at_rate(per_s, 6), lambda _now: takes)
    ages = [age for sequence, age in taken if 2 * per_s < sequence < 5 * per_s]
    # What is on its way when a frame is sent, and itself; before that, how late it may be, and for how long.
    assert max(ages) <= max(40, 2 * takes) + takes + 2 * 80
    assert len(taken) >= 6000 / takes - 2, "it was never idle"
    assert taken[-1][0] == 6 * per_s - 1, "the newest gets there"
    assert [sequence for sequence, _ in taken] == sorted(sequence for sequence, _ in taken)


@pytest.mark.fault("V4")
def test_a_frame_that_is_sent_to_who_is_behind_is_the_newest(make):
    table = make(slots=32)
    arrivals = at_rate(200, 4)
    behind = [age // 5 for _, age in table.run(arrivals, lambda _now: 22)]  # in frames
    # While two frames are on their way, which takes 44 ms, 9 are published.
    assert max(behind[30:]) <= 9 + 2
    assert max(behind) > 25, "it was not told from a burst at once"


@pytest.mark.fault("V4")
@pytest.mark.parametrize("at_once", [2, 3])
def test_who_takes_several_at_once_is_behind_until_nothing_waits_for_it(make, at_once):
    """As a window does that paints for 40 ms, and reads what has come only then."""
    table, turn = make(slots=32), count()
    taken = table.run(at_rate(200, 6), lambda _now: 40 if next(turn) % at_once == 0 else 0.5)
    ages = [age for sequence, age in taken if sequence > 200]
    assert max(ages) <= 2 * 40 + at_once * 5
    assert len(taken) >= 6000 / 45


@pytest.mark.parametrize("takes", [1, 10, 22, 50])
def test_a_burst_is_delivered_wholly_however_slow_the_receiver(make, takes):
    bursts = [start + number for start in (0, 3000, 6000) for number in range(20)]
    assert len(make(slots=32).run(bursts, lambda _now: takes)) == 60


@pytest.mark.parametrize(("per_s", "usual", "stall"), [(40, 2, 400), (200, 1, 120), (1000, 0.1, 25), (40, 18, 100)])
def test_who_keeps_up_but_for_a_moment_gets_every_frame(make, per_s, usual, stall):
    table = make(slots=32)
    stalled = []

    def takes(now):
        if now >= 1000 * (len(stalled) + 1):  # once a second
            stalled.append(now)
            return stall
        return usual

    taken = table.run(at_rate(per_s, 6), takes)
    assert len(stalled) == 5
    assert len(taken) == 6 * per_s


def test_channels_that_belong_together_stay_together_when_frames_give_way(make):
    table = make(slots=32)
    taken = [sequence for sequence, _ in table.run(at_rate(150, 5), lambda _now: 22, channels=3)][60:-3]
    starts = [number for number in range(1, len(taken)) if taken[number] != taken[number - 1] + 1]
    assert len(starts) > 40, "frames gave way"
    assert all((later - earlier) % 3 == 0 for earlier, later in pairwise(starts)), "one of each channel at a time"


def test_what_must_not_be_lost_does_not_give_way_to_what_is_new(make):
    table = make(slots=32)
    for sequence in range(20):
        frame = table.slots.claim("c", supersede=sequence % 2 == 0)
        table.slots.commit(frame, sequence, 8, b"", lossless=sequence % 2 == 1)
    table.account().pace.behind = True
    sent = []
    while (frame := table.slots.next_for(table.account())) is not None:
        sent.append(table.send(frame).sequence)
        table.acknowledge(frame)
    assert sent == [*range(1, 18, 2), 19], "those of the others are superseded by newer ones of their channel"
    assert table.account().counts == (20, 10, 10, 0, 0, 0)


class SlotsMachine(RuleBasedStateMachine):
    """Publishers and receivers that do anything, in any order, over several rings; beside them what is true."""

    receivers = Bundle("receivers")

    def __init__(self) -> None:
        super().__init__()
        self.table = Table(6, 0)
        self.sequence = 0
        self.ids = 0
        self.writing: list[SlotFrame] = []
        self.content: dict[tuple[int, int], int] = {}  # (epoch, slot) -> sequence of the frame that lies there
        self.held: dict[int, dict[tuple[int, int], int]] = {}  # receiver -> (epoch, slot) -> sequence, as sent
        self.lossless: dict[int, list[int]] = {}  # receiver -> sequences that it must get, and was not sent yet

    def teardown(self) -> None:
        self.table.__exit__()

    @initialize(slots=st.integers(3, 9))
    def start(self, slots):
        self.table.renew(slots)

    @property
    def slots(self) -> Slots:
        return self.table.slots

    @rule(target=receivers)
    def attach(self):
        self.ids += 1
        self.slots.attach(self.ids)
        self.held[self.ids] = {}
        # A late joiner is promised nothing of what was published before it came.
        self.lossless[self.ids] = self.unsent(self.ids)
        return self.ids

    @rule(receiver=receivers)
    def detach(self, receiver):
        if receiver in self.held:
            assert self.table.detach(receiver).counts.in_flight == 0
            del self.held[receiver], self.lossless[receiver]

    @rule(channel=st.sampled_from("abc"), supersede=st.booleans())
    def claim(self, channel, supersede):
        superseded = self.table.total.counts.superseded
        frame = self.slots.claim(channel, supersede=supersede)
        assert supersede or self.table.total.counts.superseded == superseded, "a frame gave way that was not to"
        if frame is not None:
            assert all(frame.key not in held for held in self.held.values()), "a leased slot was given away"
            assert frame.key not in {other.key for other in self.writing}, "a slot is written twice"
            assert self.slots.ring.generation(frame.number) % 2, "a reader would take it for whole"
            self.writing.append(frame)

    @rule(lossless=st.booleans())
    def commit(self, lossless):
        if not self.writing:
            return
        frame = self.writing.pop()
        if frame.slots is not self.slots:  # its ring was replaced meanwhile
            frame.slots.cancel(frame)
            return
        self.slots.commit(frame, self.sequence, 8, b"", lossless=lossless)
        assert self.slots.ring.generation(frame.number) == frame.generation
        self.content[frame.key] = self.sequence
        if lossless:
            for waiting in self.lossless.values():
                waiting.append(self.sequence)
        self.sequence += 1

    @rule()
    def cancel(self):
        if self.writing:
            frame = self.writing.pop()
            frame.slots.cancel(frame)

    def sent(self, receiver, frame):
        self.table.send(frame, receiver)
        assert frame.key not in {other.key for other in self.writing}
        assert frame.sequence == self.content[frame.key]
        self.held[receiver][frame.key] = frame.sequence
        if frame.sequence in self.lossless[receiver]:
            assert self.lossless[receiver].pop(0) == frame.sequence, "not in order"

    @rule(receiver=receivers, fails=st.booleans())
    def send(self, receiver, fails):
        if receiver in self.held:
            account = self.table.account(receiver)
            frame = self.slots.next_for(account)
            if frame is None:
                return
            if fails:
                assert self.slots.next_for(account) is frame, "it is the next one still"
            else:
                self.sent(receiver, frame)

    @rule(ms=st.integers(1, 200))
    def wait(self, ms):
        self.table.now += ms

    @rule(slots=st.integers(3, 9))
    def replace_the_ring(self, slots):
        if len(self.table.rings) > 4:
            return
        for receiver in self.held:
            for frame in self.slots.unsent(self.table.account(receiver)):
                self.sent(receiver, frame)
            assert self.lossless[receiver] == [], "lost to the new ring"
        self.slots.retire()
        self.slots.ring.close()
        self.table.renew(slots)

    @rule()
    def void(self):
        """Throw away all that is in flight, as after Ctrl-C in the middle of a change."""
        if len(self.table.rings) > 4:
            return
        self.table.accounts.void(dict(self.table.accounts.receivers))
        self.slots.retire()
        self.slots.ring.close()
        self.table.renew(6)
        for receiver in self.held:
            self.held[receiver].clear()
            self.lossless[receiver].clear()

    @rule(receiver=receivers, fate=st.sampled_from(["delivered", "skipped"]), data=st.data())
    def acknowledge(self, receiver, fate, data):
        if self.held.get(receiver):
            place = data.draw(st.sampled_from(sorted(self.held[receiver])))
            sequence = self.held[receiver].pop(place)
            assert self.content[place] == sequence, "a leased frame was overwritten"
            self.table.acknowledge(self.table.account(receiver).leased[place], receiver, fate)

    def unsent(self, receiver):
        return [frame.sequence for frame in self.slots.unsent(self.table.account(receiver))]

    @invariant()
    def what_must_not_be_lost_waits_in_order(self):
        for receiver in self.held:
            assert self.unsent(receiver) == self.lossless[receiver]

    @invariant()
    def slots_are_free_or_somebodys(self):
        slots = self.slots
        frames = [frame for frame in slots._frames if frame is not None]
        assert slots.free + len(frames) == len(slots)
        assert {frame.number for frame in frames}.isdisjoint(slots._free)
        pending = {frame for account in self.table.accounts.receivers.values() for frame in account.pending}
        pinned = list(slots._newest.values())[-slots.pinned :] if slots.pinned else []
        for frame in frames:
            used = frame.sequence < 0 or slots._is_leased(frame) or frame in pending or frame in pinned
            assert used, f"slot {frame.number} is nobody's, and not free"

    @invariant()
    def every_frame_is_accounted_for(self):
        total = self.table.total
        assert total.counts.balanced
        assert total.published == self.sequence
        assert sum(self.table.accounts.skipped.values()) == total.fates["skipped"], "each has its reason"
        for receiver, held in self.held.items():
            account = self.table.account(receiver)
            assert account.counts.balanced
            assert {place: frame.sequence for place, frame in account.leased.items()} == held
        if not self.held:
            assert total.counts.in_flight == 0


SlotsMachine.TestCase.settings = settings(stateful_step_count=60)


@pytest.mark.fault("V9", "V4", "R5")
class TestSlotsMachine(SlotsMachine.TestCase):  # type: ignore[misc,name-defined]
    """Whatever anyone does, in any order: credit, leases and accounts hold."""
