"""What a desk is sent, in which order, and its account: whatever happens to the connection, every frame is in it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scopecast.link import messages as local
from scopecast.remote import messages
from scopecast.remote.quality import LADDER
from scopecast_viewers.relaying.desk import Desk
from scopecast_viewers.relaying.shelf import Shelf
from scopecast_viewers.stacks.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast_viewers.relaying.desk import Job
    from scopecast_viewers.relaying.shelf import Kept, RelayedRun

TOKEN = "abcd2345"


class TwoAtATime:
    """A pace with one quality, which lets two be on their way."""

    def __init__(self, quality: int) -> None:
        self.quality = LADDER[quality]
        self._on_the_way: set[int] = set()

    round_trip = 0

    def may_send(self, now: int) -> bool:
        return len(self._on_the_way) < 2

    def sent(self, number: int, now: int, quality: object, share: float | None) -> None:
        self._on_the_way.add(number)

    def acknowledged(self, number: int, now: int, busy: int = 0) -> None:
        self._on_the_way.discard(number)


class Relayed:
    """A source with a run, and a desk that watches it."""

    def __init__(self, *, every: bool = False, quality: int = 0, shape: tuple[int, int] = (4, 5)) -> None:
        self.history = History(2**24, None)
        self.shelf, self.shape = Shelf(self.history), shape
        self.source, _ = self.shelf.source(TOKEN, TOKEN, "camera", "")
        self.hello = messages.Hello(1, 1, TOKEN, "desk", every)
        self.desk = Desk(self.hello, TwoAtATime(quality))  # type: ignore[arg-type]
        self.quality = quality
        self.run = self.begin(0)
        self.numbers: list[tuple[int, Job]] = []
        self.back()

    def begin(self, number: int) -> RelayedRun:
        about = local.Stream(number, "run", ["t", "c"], {}, [0, 0], [1.0, 1.0], [0.0, 0.0], "pixel")
        self.run, _ = self.shelf.run(self.source, about)
        return self.run

    def publish(self, t: int, c: int = 0, late: bool = False) -> Kept:
        frame = local.Frame(self.run.about.id, t, 0, 0, 0, "image", "<u2", list(self.shape), [t, c], 1, late=late)
        kept, former = self.shelf.put(self.run, frame, np.full(self.shape, t, np.uint16))
        self.desk.offer(kept, former)
        return kept

    def send(self) -> Job | None:
        job = self.desk.next(0)
        if job is not None:
            self.numbers.append((self.desk.sent(job, 0), job))
        return job

    def acknowledge(self, refused: bool = False) -> None:
        number, _ = self.numbers.pop(0)
        self.desk.acknowledged(number, 0, refused=refused)

    def away(self) -> None:
        self.desk.away(0.0)
        self.numbers.clear()

    def back(self) -> None:
        self.desk.back(b"there", self.hello, TwoAtATime(self.quality), 0.0)  # type: ignore[arg-type]

    def settle(self) -> list[Job]:
        """Send and acknowledge until there is nothing left, and return what was sent."""
        sent = [job for _, job in self.numbers]
        while True:
            while (job := self.send()) is not None:
                sent.append(job)
            if not self.numbers:
                return sent
            self.acknowledge()


@pytest.fixture
def relayed() -> Iterator[Relayed]:
    made = Relayed()
    yield made
    made.history.close()


def at(job: Job | None) -> tuple[int, int]:
    assert job is not None
    return (job.kept.message.index[0], job.kept.message.index[1])


def test_the_newest_of_each_channel_is_sent_in_the_order_in_which_they_came(relayed):
    for t, c in ((0, 0), (0, 1)):
        relayed.publish(t, c)
        relayed.send()
    for t, c in ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0)):
        relayed.publish(t, c)
    assert relayed.send() is None, "two are on their way"
    relayed.acknowledge()
    relayed.acknowledge()
    assert [at(relayed.send()), at(relayed.send())] == [(2, 1), (3, 0)]
    assert relayed.desk.account == messages.DeskAccount(came=7, exact=2, superseded=3, sending=2)


def test_what_was_superseded_is_sent_once_all_is_wanted_the_newest_first(relayed):
    for t in range(5):
        relayed.publish(t)
    assert [at(job) for job in relayed.settle()] == [(4, 0)]
    relayed.desk.fetch(relayed.source)
    jobs = relayed.settle()
    assert [at(job) for job in jobs] == [(4, 0), (3, 0), (2, 0), (1, 0), (0, 0)]
    assert all(job.late for job in jobs)
    assert relayed.desk.account == messages.DeskAccount(came=5, exact=5)


def test_what_is_looked_at_comes_first_and_the_region_of_it():
    relayed = Relayed(quality=1, shape=(1024, 1024))
    for t in range(3):
        relayed.publish(t)
        relayed.settle()
    assert relayed.desk.account == messages.DeskAccount(came=3, preview=3)
    relayed.desk.fetch(relayed.source)
    relayed.desk.look(relayed.run, [1, 0], [100, 200, 64, 32])
    jobs = relayed.settle()
    assert at(jobs[0]) == (1, 0)
    assert jobs[0].piece == (100, 200, 64, 32)
    assert jobs[0].shown
    of_the_first = [job for job in jobs if at(job) == (1, 0)]
    covered = np.zeros(relayed.shape, int)
    for job in of_the_first:
        assert job.piece is not None
        y, x, rows, columns = job.piece
        covered[y : y + rows, x : x + columns] += 1
    assert (covered == 1).all(), "each pixel is sent once"
    assert [job.last for job in of_the_first] == [*[False] * (len(of_the_first) - 1), True]
    assert list(dict.fromkeys(map(at, jobs))) == [(1, 0), (2, 0), (0, 0)]
    assert relayed.desk.account == messages.DeskAccount(came=3, exact=3)
    relayed.history.close()


def test_a_look_at_a_frame_whose_pieces_are_on_their_way_takes_none_of_them_back():
    relayed = Relayed(quality=1, shape=(1024, 1024))
    relayed.publish(0)
    relayed.settle()
    relayed.desk.fetch(relayed.source)
    assert relayed.send().piece == (0, 0, 32, 1024)
    relayed.desk.look(relayed.run, [0, 0], [])
    relayed.settle()
    assert relayed.desk.account == messages.DeskAccount(came=1, exact=1)
    relayed.history.close()


def test_the_same_look_again_begins_nothing_anew():
    relayed = Relayed(quality=1, shape=(1024, 1024))
    relayed.publish(0)
    relayed.settle()
    relayed.desk.fetch(relayed.source)
    tops = []
    for _ in range(1024 // 32):  # pieces at most
        relayed.desk.look(relayed.run, [0, 0], [])
        if (job := relayed.send()) is not None:
            tops.append(job.piece[0])
            relayed.acknowledge()
    assert relayed.desk.account.exact == 1
    assert tops == sorted(set(tops))
    relayed.history.close()


def test_news_go_before_what_fills_the_past(relayed):
    for t in range(3):
        relayed.publish(t)
    relayed.settle()
    relayed.desk.fetch(relayed.source)
    assert at(relayed.send()) == (2, 0)
    relayed.publish(3)
    assert relayed.send() is None, "it does not wait behind more of the past"
    relayed.acknowledge()
    assert at(relayed.send()) == (3, 0)
    assert relayed.send() is None, "nothing fills the past while news are on their way"


def test_with_every_all_frames_come_in_their_order_once_somebody_is_there_to_take_them():
    relayed = Relayed(every=True, quality=1)
    for t in range(6):
        relayed.publish(t)
    assert relayed.settle() == []
    relayed.desk.fetch(relayed.source)
    assert [at(job) for job in relayed.settle()] == [(t, 0) for t in range(6)]
    relayed.publish(6)
    assert [at(job) for job in relayed.settle()] == [(6, 0)]
    assert relayed.desk.account == messages.DeskAccount(came=7, exact=7)
    relayed.history.close()


def test_with_every_who_comes_later_has_all_frames_in_their_order_too():
    relayed = Relayed(every=True, quality=1)
    relayed.desk.fetch(relayed.source)
    for t in range(6):
        relayed.publish(t)
    relayed.send()
    relayed.acknowledge()
    relayed.send()  # it is on its way
    encoded = relayed.desk.next(0)
    assert encoded is not None
    relayed.desk.fetch(relayed.source)
    assert relayed.desk.encoding is None, "what is being encoded is not sent before the first"
    relayed.numbers.clear()
    jobs = [at(relayed.send())]
    relayed.desk.acknowledged(2, 0, refused=False)
    assert jobs + [at(job) for _, job in relayed.numbers[1:]] == [(0, 0)]
    assert [at(job) for job in relayed.settle()] == [(t, 0) for t in range(6)]
    assert relayed.desk.account == messages.DeskAccount(came=6, exact=6)
    relayed.history.close()


def test_a_frame_that_can_not_be_shown_is_counted_and_not_sent_again(relayed):
    relayed.publish(0)
    relayed.send()
    relayed.acknowledge(refused=True)
    relayed.desk.fetch(relayed.source)
    assert relayed.desk.account.refused == 1
    assert relayed.desk.account.balanced


def test_a_source_that_is_declined_is_not_sent(relayed):
    relayed.publish(0)
    relayed.desk.decline(relayed.source)
    relayed.publish(1)
    assert relayed.settle() == []
    assert not relayed.desk.lacks(relayed.source)
    assert relayed.desk.account.balanced


class Accounts(RuleBasedStateMachine):
    """Whatever happens, in whatever order: the account is right, and in the end the desk has what the relay has."""

    every = False

    def __init__(self) -> None:
        super().__init__()
        # In two pieces, and more while the link is slow.
        self.relayed = Relayed(every=self.every, quality=1, shape=(512, 128))
        self.times = itertools.count()
        self.fetched = False

    @rule(c=st.integers(0, 2), again=st.booleans(), late=st.booleans())
    def publish(self, c: int, again: bool, late: bool) -> None:
        self.relayed.publish(0 if again else next(self.times), c, late)

    @rule()
    def begin(self) -> None:
        self.relayed.begin(self.relayed.run.about.id + 1)
        if self.fetched:
            self.relayed.desk.fetch(self.relayed.source)

    @rule()
    def send(self) -> None:
        self.relayed.send()

    @rule()
    def acknowledge(self) -> None:
        if self.relayed.numbers:
            self.relayed.acknowledge()

    @rule()
    def fetch(self) -> None:
        self.fetched = True
        self.relayed.desk.fetch(self.relayed.source)

    @rule(t=st.integers(0, 5), c=st.integers(0, 2))
    def look(self, t: int, c: int) -> None:
        self.relayed.desk.look(self.relayed.run, [t, c], [1, 1, 2, 2])

    @rule()
    def break_connection(self) -> None:
        self.relayed.away()
        self.relayed.back()

    @invariant()
    def balanced(self) -> None:
        account = self.relayed.desk.account
        assert account.balanced, account
        assert min(account.came, account.exact, account.preview, account.superseded, account.waiting) >= 0

    def teardown(self) -> None:
        relayed = self.relayed
        relayed.desk.fetch(relayed.source)
        relayed.settle()
        relayed.desk.forget_gone()
        assert not relayed.desk.account.waiting
        assert not relayed.desk.account.sending
        assert not relayed.desk.lacks(relayed.source)
        exact = {serial for serial, offered in relayed.desk._offered.items() if offered.state == "exact"}
        assert exact >= {kept.serial for run in relayed.source.runs.values() for kept in run.frames()}
        relayed.history.close()


class AccountsOfEvery(Accounts):
    """The same of a desk that is to have each frame."""

    every = True


TestAccounts = Accounts.TestCase
TestAccountsOfEvery = AccountsOfEvery.TestCase
