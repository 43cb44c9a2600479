"""How many frames come in a second, as a viewer tells it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from scopecast.frames.streams import FrameStream
from scopecast_viewers.receiving import live
from scopecast_viewers.receiving.live import LiveStream, PaintLog
from scopecast_viewers.receiving.status import figures_of, state_of
from scopecast_viewers.stacks.history import History


@pytest.fixture
def clock(monkeypatch):
    """A clock of the test's own."""
    now = SimpleNamespace(at=1000.0)
    times = SimpleNamespace(monotonic=lambda: now.at, monotonic_ns=lambda: int(now.at * 1e9), time=lambda: now.at)
    monkeypatch.setattr(live, "time", times)
    return now


def put(stream, number):
    frame = SimpleNamespace(
        dtype="uint8", kind="image", name="", index=[], sequence=number, sent_ns=0, published_ns=0, path="",
        translate=(), metadata=b"\xc0", preview=False, late=False,
    )  # fmt: skip
    stream.put(frame, np.zeros((4, 4), "uint8"))


def rates_of(clock, gaps):
    with History() as history:
        stream = LiveStream("token", "scope", FrameStream(0, "run").message(), history, PaintLog())
        for number, gap in enumerate(gaps):
            clock.at += gap
            put(stream, number)
            yield stream


def test_a_few_frames_at_once_are_no_rate_but_the_stream_is_live(clock):
    *_, stream = rates_of(clock, [0.0002] * 4)
    assert stream.rate == 0
    assert state_of(stream) == "live"
    assert not any("frames/s" in figure for figure in figures_of(stream, ()))
    clock.at += 2.5
    assert state_of(stream) == "idle"


@pytest.mark.parametrize("rate", [0.7, 3, 20, 100, 1000])
def test_any_pace_is_told_as_it_is(clock, rate):
    *_, stream = rates_of(clock, [1 / rate] * max(4, 2 * int(rate)))
    assert stream.rate == pytest.approx(rate, rel=0.06)


def test_a_pause_is_no_part_of_the_rate(clock):
    *_, stream = rates_of(clock, [0.1] * 20 + [60.0] + [0.1] * 20)
    assert stream.rate == pytest.approx(10, rel=0.06)


def test_the_rate_may_be_asked_for_while_the_first_frames_come(clock):
    class Coming(LiveStream):
        @property
        def delivers(self):
            for number in range(2):
                put(self, number)
            return super().delivers

    with History() as history:
        assert Coming("token", "scope", FrameStream(0, "run").message(), history, PaintLog()).rate == 0
