"""The pace of a link, on simulated links: no clock, no socket, the same every time."""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopecast.remote.ladder import LONGEST_NS, LinkPace
from scopecast.remote.quality import EXACT, LADDER

MS, S = 1_000_000, 1_000_000_000
MBIT = 1_000_000 / 8 / S  # bytes in a nanosecond
RAW = 2048 * 2048 * 2
#: Bytes of a sCMOS-like plane of 2048 x 2048 uint16 pixels in each quality, as encoded, and the time that takes.
BYTES = (4_400_000, 308_000, 124_000, 86_000, 63_000, 32_000, 16_000)
#: Those of dim images of cells, as `tests/benchmarks/codecs.py` simulates them.
CELLS = (3_042_000, 629_000, 279_000, 131_000, 114_000, 52_000, 21_000)
ENCODING = (12.5 * MS, 8 * MS, 8 * MS, 8 * MS, 4 * MS, 4 * MS, 2 * MS)


@dataclass
class Link:
    """Frames occupy it one after the other, each for its bytes, and arrive after the latency; so do answers."""

    mbit: Callable[[float], float]  # at a time in nanoseconds
    latency: Callable[[float], float]  # one way, nanoseconds
    free: float = 0.0

    def carry(self, now: float, nbytes: float) -> float:
        """When the last byte is at the other side."""
        at = max(now, self.free)
        while nbytes > 0:  # the rate may change meanwhile
            step = min(nbytes, max(1.0, self.mbit(at) * MBIT * MS))
            rate = self.mbit(at) * MBIT
            at += step / rate if rate > 0 else MS
            nbytes -= step if rate > 0 else 0
        self.free = at
        return at + self.latency(at)


def steady(mbit: float, round_trip_ms: float = 20) -> Link:
    return Link(lambda now: mbit, lambda now: round_trip_ms * MS / 2)


@dataclass
class Seen:
    """What the viewer has seen: when each frame arrived, how old it was, and in which quality."""

    at: list[float] = field(default_factory=list)
    age: list[float] = field(default_factory=list)
    quality: list[int] = field(default_factory=list)
    most_in_flight: int = 0

    def between(self, begin: float, end: float) -> "Seen":
        chosen = [i for i, at in enumerate(self.at) if begin * S <= at < end * S]
        return Seen(*([values[i] for i in chosen] for values in (self.at, self.age, self.quality)))

    def per_s(self, seconds: float) -> float:
        return len(self.at) / seconds

    def age_ms(self, percent: float) -> float:
        return float(np.percentile(self.age, percent)) / MS

    def usual(self) -> float:
        return float(np.median(self.quality))


def watch(
    link: Link,
    seconds: float,
    fps: float = 50.0,
    pace: LinkPace | None = None,
    noise: float = 0.1,
    sizes: tuple[float, ...] = BYTES,
    tell_share: bool = True,
    probes: bool = True,
) -> Seen:
    """A camera whose newest frame is encoded and sent whenever the pace allows, as a relay does it."""
    pace = LinkPace(int(2 * link.latency(0))) if pace is None else pace
    random = np.random.default_rng(1)
    seen, order, numbers = Seen(), itertools.count(), itertools.count()
    events: list[tuple[float, int, str, int]] = []

    def later(at: float, what: str, which: int = 0) -> None:
        heapq.heappush(events, (at, next(order), what, which))

    for each in range(int(seconds * fps)):
        later(each * S / fps, "frame")
    newest: float | None = None  # when it was taken; None if it was sent
    encoding: tuple[float, int] | None = None
    taken: dict[int, tuple[float, int]] = {}
    while events:
        now, _, what, which = heapq.heappop(events)
        if what == "frame":
            newest = now
        elif what == "encoded":
            assert encoding is not None
            at, rung = encoding
            encoding = None
            nbytes = sizes[rung] * random.uniform(1 - noise, 1 + noise)
            pace.sent(which, int(now), LADDER[rung], nbytes / RAW if tell_share else None)
            seen.most_in_flight = max(seen.most_in_flight, pace.in_flight)
            taken[which] = (at, rung)
            later(link.carry(now, nbytes), "arrived", which)
        elif what == "arrived":
            at, rung = taken.pop(which)
            seen.at.append(now)
            seen.age.append(now - at)
            seen.quality.append(rung)
            later(now + link.latency(now), "ack", which)
        elif what == "ack":
            assert pace.acknowledged(which, int(now))
        elif what == "answer":
            pace.probed(int(now))
        if probes and encoding is None and pace.probe(int(now)):
            arrived = link.carry(now, 50)
            later(arrived + link.latency(arrived), "answer")
        if newest is not None and encoding is None and pace.may_send(int(now)):
            rung = LADDER.index(pace.quality)
            encoding, newest = (newest, rung), None
            later(now + ENCODING[rung], "encoded", next(numbers))
    return seen


@pytest.mark.parametrize("round_trip", [0, 20, 100])
@pytest.mark.parametrize(
    ("mbit", "sizes", "per_s", "p50_ms", "p99_ms", "usual"),
    [
        pytest.param(1000, BYTES, 20, 120, 200, 0, id="1Gbit"),
        pytest.param(100, BYTES, 25, 120, 200, 1, id="100Mbit"),
        pytest.param(20, BYTES, 18, 150, 500, 3, id="20Mbit"),
        pytest.param(5, BYTES, 15, 150, 500, 6, id="5Mbit"),
        pytest.param(1000, CELLS, 20, 120, 200, 0, id="1Gbit-cells"),
        pytest.param(100, CELLS, 25, 120, 200, 2, id="100Mbit-cells"),
        pytest.param(20, CELLS, 18, 150, 500, 5, id="20Mbit-cells"),
        pytest.param(5, CELLS, 15, 150, 500, 6, id="5Mbit-cells"),
    ],
)
@pytest.mark.parametrize("fps", [50, 200])
def test_each_link_has_its_rate_its_quality_and_its_age(mbit, sizes, per_s, p50_ms, p99_ms, usual, round_trip, fps):
    seen = watch(steady(mbit, round_trip), 60, fps=fps, sizes=sizes)
    settled = seen.between(5, 60)
    assert settled.per_s(55) >= per_s
    assert settled.age_ms(50) <= p50_ms
    assert settled.age_ms(99) <= p99_ms
    assert settled.quality.count(usual) >= 0.9 * len(settled.quality)  # the next one may be tried now and then
    assert seen.most_in_flight <= 2 + round_trip // 50
    assert seen.at[0] <= 0.5 * S  # the first picture
    assert seen.between(50, 60).age_ms(100) <= 1.1 * seen.between(5, 15).age_ms(100) + 5


@pytest.mark.parametrize("mbit", [1000, 100, 20, 5])
@pytest.mark.parametrize("fps", [2, 10])
def test_every_frame_of_a_slow_camera_arrives_in_time(mbit: float, fps: float):
    seen = watch(steady(mbit), 60, fps=fps)
    assert len(seen.at) == 60 * fps
    assert seen.between(20, 60).age_ms(100) <= 12.5 + 40 + 20


#: Images for which other ratios hold than those that are assumed.
SIZES = {
    "noise": (6_000_000, 1_500_000, 900_000, 700_000, 600_000, 450_000, 200_000),
    "sparse": (500_000, 90_000, 80_000, 75_000, 25_000, 20_000, 7_000),
    "exact-is-large": (9_000_000, 250_000, 124_000, 86_000, 63_000, 32_000, 16_000),
}


@pytest.mark.parametrize("tell_share", [True, False], ids=["shares-told", "shares-assumed"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("mbit", [1000, 300, 100, 20])
def test_the_quality_settles_whatever_the_images_are(mbit: float, sizes: tuple[float, ...], tell_share: bool):
    settled = watch(steady(mbit), 60, sizes=sizes, tell_share=tell_share).between(10, 60)
    changes = sum(one != other for one, other in itertools.pairwise(settled.quality))
    assert changes <= 0.05 * len(settled.quality)
    expected = [nbytes / (mbit * MBIT) for nbytes in sizes]
    best = next((each for each, took in enumerate(expected) if took <= LONGEST_NS), 6)
    assert best <= settled.usual() <= min(best + 2, 6)
    assert settled.age_ms(50) <= max(120, 3 * expected[6] / MS)


@pytest.mark.parametrize(
    ("before", "after"), [(100, 20), (20, 100), (5, 1000), (1000, 100), (100, 5), (1000, 20)], ids=str
)
def test_a_link_that_changes_has_what_fits_two_seconds_after_its_last_slow_frame(before: float, after: float):
    seen = watch(Link(lambda now: before if now < 20 * S else after, lambda now: 10 * MS), 60)
    # Frames that were on their way have to arrive first, at the new rate.
    left = 20 + 2 * BYTES[int(seen.between(5, 20).usual())] / (after * MBIT) / S + 2
    as_ever = watch(steady(after), 40).between(5, 40)
    assert seen.between(left, 60).usual() == as_ever.usual()
    assert seen.between(left, 60).age_ms(99) <= 1.2 * as_ever.age_ms(99) + 5


def test_it_recovers_from_an_outage():
    seen = watch(Link(lambda now: 0 if 20 * S <= now < 30 * S else 100, lambda now: 10 * MS), 60)
    assert len(seen.between(20.2, 30).at) == 0
    assert seen.most_in_flight == 2
    assert sum(age > 200 * MS for age in seen.age) <= 2  # those that were on their way
    assert set(seen.between(20.2, 30.5).quality) >= {6}
    assert set(seen.between(32, 60).quality) == {1}
    assert seen.between(31, 60).age_ms(100) <= 120


def test_a_link_that_wanders_never_falls_behind():
    random = np.random.default_rng(3)
    rates = np.clip(50 * np.exp(np.cumsum(random.normal(0, 0.3, 600))), 3, 500)  # one for each 100 ms
    seen = watch(Link(lambda now: rates[min(599, int(now / S * 10))], lambda now: 10 * MS), 60)
    assert rates.min() < 5
    assert rates.max() > 400
    assert seen.per_s(60) >= 25
    assert seen.age_ms(99) <= 150
    assert seen.age_ms(100) <= 500


def test_a_round_trip_that_grows_is_noticed():
    seen = watch(Link(lambda now: 100, lambda now: 10 * MS if now < 20 * S else 100 * MS), 80)
    assert seen.between(45, 80).usual() == watch(steady(100, 200), 30).between(10, 30).usual() == 1
    assert seen.between(45, 80).age_ms(50) <= 200


def test_without_a_known_round_trip_it_is_measured():
    known, unknown = watch(steady(100, 100), 30), watch(steady(100, 100), 30, pace=LinkPace())
    assert unknown.between(5, 30).usual() == known.between(5, 30).usual() == 1


def test_without_probes_it_is_careful():
    seen = watch(steady(100, 100), 30, pace=LinkPace(), probes=False)
    assert seen.between(5, 30).usual() == 6
    assert seen.between(5, 30).per_s(25) >= 15
    assert seen.age_ms(100) <= 150


@given(
    rates=st.lists(st.sampled_from([2, 5, 20, 50, 100, 1000]), min_size=1, max_size=3),
    last=st.sampled_from([5, 20, 100, 1000]),
    round_trip=st.integers(0, 200),
    noise=st.floats(0, 0.4),
    fps=st.sampled_from([5, 50, 120]),
)
def test_lag_never_grows(rates: list[int], last: int, round_trip: int, noise: float, fps: float):
    def mbit(now: float) -> float:
        which = int(now / S / 5)
        return rates[which] if which < len(rates) else last

    most = 2 + round_trip // 50
    # Frames that were on their way at the last change have to arrive first, and may be exact ones.
    seconds = 5 * len(rates) + 1.4 * most * BYTES[0] / (last * MBIT) / S + 20
    seen = watch(Link(mbit, lambda now: round_trip * MS / 2), seconds, fps=fps, noise=noise)
    assert seen.most_in_flight <= most
    settled = seen.between(seconds - 10, seconds)
    assert settled.per_s(10) >= 0.9 * min(fps, 15)
    assert settled.age_ms(99) <= 180 + 1.5 * round_trip


# --- the rule itself ---


def exchange(pace: LinkPace, count: int, took: int, now: int = 0) -> int:
    """Send frames one by one, each acknowledged after `took` nanoseconds; return when that is done."""
    for number in range(count):
        pace.sent(number, now)
        now += took
        assert pace.acknowledged(number, now)
    return now


def test_five_quick_frames_are_one_step_up():
    pace = LinkPace()
    for quality in reversed(LADDER[1:]):
        assert pace.quality == quality
        now = exchange(pace, 4, MS)
        assert pace.quality == quality
        exchange(pace, 1, MS, now)
    assert pace.quality == EXACT
    exchange(pace, 50, MS)
    assert pace.quality == EXACT


def test_frames_that_would_be_too_slow_in_a_better_quality_are_no_reason_to_climb():
    pace = LinkPace()
    exchange(pace, 100, 30 * MS)  # the next one has more than twice the bytes
    assert pace.quality == LADDER[-1]


def test_a_slow_frame_is_as_many_steps_down_as_it_needs():
    pace = LinkPace(start=EXACT)
    exchange(pace, 1, 51 * MS)
    assert pace.quality == LADDER[1]
    pace = LinkPace(start=EXACT)
    exchange(pace, 1, 1700 * MS)
    assert pace.quality == LADDER[3]
    pace = LinkPace(start=EXACT)
    exchange(pace, 1, 60 * S)
    assert pace.quality == LADDER[-1]
    exchange(pace, 1, 60 * S)
    assert pace.quality == LADDER[-1]


def test_frames_on_their_way_are_judged_by_their_own_quality():
    pace = LinkPace(start=EXACT)
    pace.sent(1, 0)
    pace.sent(2, 0)
    pace.acknowledged(1, 350 * MS)
    assert pace.quality == LADDER[1]
    pace.acknowledged(2, 700 * MS)
    assert pace.quality == LADDER[1]


def test_frames_that_wait_for_each_other_are_told_by_their_spacing():
    pace = LinkPace(start=LADDER[3])
    now = exchange(pace, 1, 30 * MS)
    pace.sent(10, now)
    pace.sent(11, now)
    assert pace.acknowledged(10, now + 35 * MS)
    assert pace.acknowledged(11, now + 70 * MS)  # 70 ms on its way, of which 35 behind the other one
    assert pace.quality == LADDER[3]


def test_the_round_trip_does_not_count():
    pace = LinkPace(200 * MS, start=EXACT)
    exchange(pace, 3, 230 * MS)
    assert pace.quality == EXACT
    exchange(pace, 1, 251 * MS, S)
    assert pace.quality == LADDER[1]


def test_what_the_other_side_needs_for_decoding_does_not_count():
    pace = LinkPace(20 * MS, start=LADDER[1])
    for number in range(5):
        pace.sent(number, number * S, share=0.075)
        pace.acknowledged(number, number * S + 36 * MS, busy=12 * MS)
    assert pace.quality == EXACT  # the link took 4 ms, and takes 24 for those


def test_frames_that_are_late_for_other_reasons_do_not_keep_better_ones_away():
    pace = LinkPace(20 * MS, start=LADDER[1])
    for number, late in enumerate([9, 0, 12, 7, 0]):
        assert pace.quality == LADDER[1]
        pace.sent(number, number * S, share=0.075)
        pace.acknowledged(number, number * S + (25 + late) * MS)
    assert pace.quality == EXACT


def test_a_climb_that_failed_is_tried_again_later_and_later():
    pace, tries, now = LinkPace(start=LADDER[1]), [], 0
    for _ in range(5):
        frames = 0
        while pace.quality != EXACT:
            now = exchange(pace, 1, MS, now)
            frames += 1
        tries.append(frames)
        now = exchange(pace, 1, 100 * MS, now)
    assert tries == [5, 10, 20, 40, 80]


def test_known_shares_tell_what_fits():
    pace = LinkPace(start=LADDER[1])
    pace.sent(1, 0, share=0.1)
    pace.acknowledged(1, 25 * MS)
    for number in range(2, 8):
        pace.sent(number, number * S, share=0.1)
        pace.acknowledged(number, number * S + 25 * MS)
    assert pace.quality == LADDER[1]  # exact pixels have thirteen times as many bytes, it is assumed
    pace = LinkPace(start=EXACT)
    pace.sent(0, 0, share=0.12)
    pace.acknowledged(0, 51 * MS)
    assert pace.quality == LADDER[1]
    for number in range(1, 6):
        pace.sent(number, number * S, share=0.1)
        pace.acknowledged(number, number * S + 30 * MS)
    assert pace.quality == EXACT  # they have a fifth more, it is known


def test_noise_makes_previews_large_and_exact_pixels_less_so():
    for share, quality in [(0.075, EXACT), (0.01, LADDER[1])]:
        pace = LinkPace(start=LADDER[1])
        for number in range(5):
            pace.sent(number, number * S, share=share)
            pace.acknowledged(number, number * S + 5 * MS)
        assert pace.quality == quality
    pace.sent(9, 9 * S, quality=EXACT, share=0.05)  # fetched: now it is known
    pace.acknowledged(9, 9 * S + 25 * MS)
    for number in range(10, 15):
        pace.sent(number, number * S, share=share)
        pace.acknowledged(number, number * S + 5 * MS)
    assert pace.quality == EXACT


def test_a_choice_that_changes_while_a_frame_is_encoded_is_not_taken_for_its_quality():
    pace = LinkPace(start=EXACT)
    pace.sent(1, 0, share=0.4)
    being_encoded = pace.quality
    pace.acknowledged(1, 350 * MS)
    assert pace.quality == LADDER[1]
    pace.sent(2, 360 * MS, being_encoded, share=0.4)
    for number in range(3, 8):
        pace.sent(number, number * S, LADDER[1], share=0.04)
        pace.acknowledged(number, number * S + 10 * MS)
    assert pace.quality == LADDER[1]  # ten times as many bytes would be too slow
    pace.acknowledged(2, 10 * S)  # 3 s after the one before: a hundredth of the bytes would have been quick enough
    assert pace.quality == LADDER[5]


def test_planes_that_had_no_choice_do_not_climb_and_may_be_too_slow():
    pace = LinkPace(start=LADDER[3])
    for number in range(20):
        pace.sent(number, number * S, quality=EXACT)
        pace.acknowledged(number, number * S + MS)
    assert pace.quality == LADDER[3]
    pace.sent(30, 30 * S, quality=EXACT)
    pace.acknowledged(30, 30 * S + 10 * S)
    assert pace.quality == LADDER[6]


def test_two_frames_are_on_their_way_and_more_for_a_long_round_trip():
    for round_trip, most in [(0, 2), (49, 2), (50, 3), (200, 6)]:
        pace = LinkPace(round_trip * MS)
        sent = 0
        while pace.may_send(0):
            pace.sent(sent, 0)
            sent += 1
        assert sent == pace.in_flight == most
        assert pace.acknowledged(0, S)
        assert pace.may_send(S)


def test_what_was_not_sent_is_not_acknowledged():
    pace = LinkPace()
    pace.sent(5, 0)
    assert not pace.acknowledged(4, MS)
    assert pace.acknowledged(5, MS)
    assert not pace.acknowledged(5, 2 * MS)
    assert pace.in_flight == 0


def test_a_probe_waits_for_an_idle_link_and_frames_wait_for_it():
    pace = LinkPace()
    assert pace.probe(0)
    assert pace.may_send(0)  # what comes after it does not delay it
    pace.probed(30 * MS)
    assert pace.round_trip == 30 * MS
    pace.sent(1, 5 * S)
    assert not pace.probe(5 * S)
    assert not pace.may_send(5 * S)
    pace.acknowledged(1, 5 * S + 40 * MS)
    assert pace.probe(5 * S + 40 * MS)
    assert pace.may_send(5 * S + 40 * MS)
    assert not pace.probe(6 * S)


def test_the_round_trip_is_the_shortest_of_the_last_three_probes():
    pace, found = LinkPace(), []
    for i, took in enumerate([50, 20, 60, 60, 60]):
        assert pace.probe(i * 5 * S)
        pace.probed(i * 5 * S + took * MS)
        found.append(pace.round_trip // MS)
    assert found == [50, 20, 20, 20, 60]
    pace.probed(21 * S)  # answered twice
    assert pace.round_trip == 60 * MS
    exchange(pace, 1, 35 * MS, 22 * S)  # no frame is quicker than an idle link
    assert pace.round_trip == 35 * MS
