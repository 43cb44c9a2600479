"""The receiver's loop without any window."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING

from receivers import Viewer, WatchedDisplay, stamped
from scopecast import Publisher
from scopecast_viewers.headless import HeadlessDisplay
from scopecast_viewers.process import Receiver

if TYPE_CHECKING:
    import pytest


def test_a_receiver_without_publishers_sleeps_between_its_looks_at_the_run_directory():
    turns, scans = [0], [0]
    enough = threading.Event()

    class Counting(Receiver):
        def _open(self):
            turns[0] += 1
            return super()._open()

        def _scan(self):
            super()._scan()
            scans[0] += 1
            if scans[0] == 4:
                enough.set()

    display = HeadlessDisplay()
    receiver = Counting(display)
    try:
        receiver.start()
        assert enough.wait(20)
        assert turns[0] <= 10 * scans[0], f"{turns[0]} turns of the loop for {scans[0]} looks: it does not wait"
    finally:
        receiver.close()
        display.pool.close()


class Failing(WatchedDisplay):
    """A display that fails at one of its methods as long as it is told to."""

    fails = ""

    def take(self, view, *, magnitude):
        if self.fails == "take":
            raise MemoryError("no memory")
        return super().take(view, magnitude=magnitude)

    def changed(self):
        super().changed()
        if self.fails == "changed":
            raise RuntimeError("no window")


def test_a_frame_that_the_display_cannot_take_is_a_problem_until_the_next():
    display = Failing()
    with Viewer(display=display) as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), wait=20)
        viewer.wait_for(lambda: viewer.attached)
        display.fails = "take"
        publisher.publish(stamped(0), axes={"t": 0})
        assert publisher.flush(10)
        (source,) = viewer.sources
        assert source.problem == "a frame could not be shown: MemoryError: no memory"
        display.fails = ""
        publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(10)
        assert (source.problem, source.errors) == ("", 1)
        frames = publisher.stats().frames
        assert (frames.delivered, frames.skipped) == (1, 1)


def test_a_display_that_fails_when_it_is_told_does_not_end_the_receiving(caplog: pytest.LogCaptureFixture):
    display = Failing()
    with Viewer(display=display) as viewer, Publisher("headless", policy="every") as publisher:
        display.fails = "changed"
        publisher.open((64, 48), wait=20)
        viewer.wait_for(lambda: viewer.attached)
        for t in range(5):
            publisher.publish(stamped(t), axes={"t": t})
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 5
        viewer.wait_for(lambda: viewer.receiver.errors >= 2)
    told = [record for record in caplog.records if "the headless display failed" in record.getMessage()]
    assert len(told) == 1, "once, however often it fails"


def test_the_window_hears_of_a_slow_burst_before_its_end(monkeypatch: pytest.MonkeyPatch):
    """Where memory is slow, one burst of frames may take a second: the window shows what has come so far."""
    monkeypatch.setattr("scopecast_viewers.source.DRAIN_S", 0.0)
    story: list[str] = []
    published = threading.Event()

    class Telling(WatchedDisplay):
        def take(self, view, *, magnitude):
            published.wait(20)  # all other frames wait for the receiver by then
            story.append("taken")
            return super().take(view, magnitude=magnitude)

        def changed(self):
            story.append("told")
            super().changed()

    with Viewer(display=Telling()) as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), wait=20)
        viewer.wait_for(lambda: viewer.attached)
        for t in range(20):
            publisher.publish(stamped(t), axes={"t": t})
        published.set()
        assert publisher.flush(10)
    taken = [here for here, what in enumerate(story) if what == "taken"]
    assert len(taken) == 20
    assert all("told" in story[one:other] for one, other in pairwise(taken))
