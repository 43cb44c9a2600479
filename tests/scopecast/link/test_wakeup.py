"""Waking a thread that waits for sockets."""

from __future__ import annotations

import select
import socket
import threading
import time

import pytest

from scopecast.link.wakeup import Poller, WakeUp


@pytest.fixture(params=["poll", "select"], autouse=True)
def kind(request, monkeypatch):
    if request.param == "select":  # as on Windows, which has no poll()
        monkeypatch.delattr(select, "poll", raising=False)
    elif not hasattr(select, "poll"):
        pytest.skip("no poll() here")
    return request.param


@pytest.fixture
def alarm():
    made = WakeUp()
    yield made
    made.close()
    made.close()


def test_the_way_to_wait_is_the_systems(kind, alarm):
    assert (Poller((alarm.fileno(),))._poll is None) == (kind == "select")


def test_a_thread_that_waits_is_woken(alarm):
    ready: list[set[int]] = []
    waiting = threading.Thread(target=lambda: ready.append(Poller((alarm.fileno(),)).ready(60)))
    waiting.start()
    alarm.wake()
    waiting.join(20)
    assert ready == [{alarm.fileno()}]


def test_a_wake_up_before_the_wait_is_not_lost_and_counts_once(alarm):
    watch = Poller((alarm.fileno(),))
    assert watch.ready(0) == set()
    for _ in range(3):
        alarm.wake()
    assert watch.ready(60) == {alarm.fileno()}
    assert watch.ready(60) == {alarm.fileno()}, "until it is cleared"
    alarm.clear()
    assert watch.ready(0) == set()
    alarm.clear()


def test_waking_someone_who_never_looks_does_not_wait(alarm):
    for _ in range(100_000):  # more than a socket holds
        alarm.wake()
    watch = Poller((alarm.fileno(),))
    while watch.ready(0):
        alarm.clear()


def test_only_those_that_are_readable(alarm):
    one, other = socket.socketpair()
    with one, other:
        watch = Poller((alarm.fileno(), one.fileno()))
        other.send(b"x")
        assert watch.ready(60) == {one.fileno()}
        alarm.wake()
        assert watch.ready(60) == {one.fileno(), alarm.fileno()}


def test_a_wait_is_never_cut_short_by_rounding(alarm):
    watch = Poller((alarm.fileno(),))
    begin = time.monotonic()
    assert watch.ready(0.0015) == set()
    assert time.monotonic() - begin >= 0.0015
