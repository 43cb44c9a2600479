"""Waiting for other threads."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest

from scopecast.publishing import wait
from scopecast.publishing.wait import Bell, Event
from strikes import Strike


def test_an_event_wakes_everyone_who_waits_and_whoever_comes_later():
    event = Event()
    assert not event.wait(0.01)
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda: woken.append(event.wait(60))) for _ in range(5)]
    for thread in threads:
        thread.start()
    event.set()
    for thread in threads:
        thread.join(60)
    assert woken == [True] * 5
    assert event.is_set()
    assert event.wait()
    event.clear()
    assert not event.wait(0.01)


@pytest.mark.fault("P11")
@pytest.mark.parametrize("call", [Event.set, Event.clear, lambda event: event.wait(0)], ids=["set", "clear", "wait"])
def test_an_interrupted_event_can_still_be_used(call: Any):
    """Raise at each line, one after the other, until the call comes through."""
    for number in range(1, 50):
        event = Event()
        waiting = threading.Thread(target=event.wait)
        waiting.start()
        strike = Strike(number, {Path(wait.__file__)})
        with contextlib.suppress(KeyboardInterrupt), strike:
            call(event)
        event.clear()
        event.set()
        waiting.join(60)
        assert not waiting.is_alive(), f"nobody can be woken after {strike.struck}"
        assert event.wait(60)
        if not strike.struck:
            assert number > 1, "it struck nowhere"
            return
    pytest.fail("it never came through")


def test_news_wake_those_who_drew_a_ticket_before():
    hurried: list[int] = []
    news = Bell(lambda: hurried.append(1))
    first, second = news.ticket(), news.ticket()
    assert news.awaited is True
    assert len(hurried) == 2
    news.tell()
    assert first.acquire(timeout=10)
    assert second.acquire(timeout=10)
    assert news.awaited is False
    assert not news.ticket().acquire(timeout=0.01), "of what has not come yet"
