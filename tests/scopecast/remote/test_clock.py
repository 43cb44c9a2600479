"""What another machine's clock has shown, by this one's."""

from __future__ import annotations

import pytest

from scopecast.remote import clock as module
from scopecast.remote.clock import Clock


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    shown = [0]
    monkeypatch.setattr(module, "clock_ns", lambda: shown[0])
    return shown


def test_the_answer_that_took_least_counts(now: list[int]):
    clock = Clock()
    now[0] = 1_000_000
    assert clock.here(17) == 1_000_000, "nothing is known of it"
    # There it is 500,000 earlier. A queue on the way back makes the first answer late.
    for asked, there, came in ((1_000_000, 501_000, 1_090_000), (1_100_000, 601_000, 1_102_000), (0, 0, 1_200_000)):
        now[0] = came
        clock.learn(asked, there)
    assert clock.here(400_000) == 900_000
    assert clock.here(-2_000_000) == -1_500_000
    assert clock.here(10**15) == now[0], "nothing that has come is from the future"


def test_it_goes_along_with_a_clock_that_drifts_and_begins_anew_with_another(now: list[int]):
    clock = Clock()
    for number in range(1000):
        now[0] = 1_000_000_000 * (number + 1)
        clock.learn(now[0] - 1000, now[0] - 500 - 50_000 * number)  # 50 µs a second
    assert abs(now[0] - clock.here(now[0] - 50_000 * number)) <= 64 * 50_000
    clock.forget()
    clock.learn(now[0] - 1000, 0)
    assert clock.here(0) == now[0] - 500
