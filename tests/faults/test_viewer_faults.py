"""A viewer that is killed, stopped, hung, slow or closed. The letters and numbers name rows of the table of faults."""

from __future__ import annotations

import logging
import os
import signal
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from children import Child, stop, wait_until
from peers import peers
from receivers import Viewer, WatchedDisplay, check_stamp, planes_of, stamped, viewer_process
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast import ReceiverStats

SHAPE = (128, 128)  # 8 pages of uint16
FRAME = 32768


def small(slots: int) -> int:
    """A budget for so many slots of SHAPE."""
    return slots * FRAME + 3 * 4096


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("headless", budget=small(16)) as publisher:
        publisher.open(SHAPE, wait=10)
        yield publisher


def row_of(publisher: Publisher, token: str) -> ReceiverStats:
    return next(row for row in publisher.stats() if row.token == token)


def await_viewers(publisher: Publisher, *tokens: str) -> None:
    wait_until(lambda: {row.token for row in publisher.stats() if row.attached} >= set(tokens), "attached")


def publish(publisher: Publisher, t: int, c: int = 0, **where: object) -> int:
    return publisher.publish(stamped(t, c, shape=SHAPE), axes={"t": t, "c": c}, **where)  # type: ignore[arg-type]


def leased(publisher: Publisher) -> int:
    return publisher.session.slots.leased


@pytest.mark.fault("V1", "V8")
def test_a_viewer_that_comes_and_goes_is_worth_one_warning(publisher, caplog):
    gone = new_token()  # whose process is dead, as nobody holds its lock
    with peers(publisher) as (peer,):
        for times in range(1, 4):
            peer.hello(token=gone)
            wait_until(lambda n=times: [row.token for row in publisher.stats() if not row.attached].count(gone) == n)
    left = [record.levelno for record in caplog.records if "has left" in record.getMessage()]
    assert left.count(logging.WARNING) == 1


@pytest.mark.fault("V1")
@pytest.mark.usefixtures("transport")
def test_a_viewer_killed_in_the_middle_of_a_frame_frees_its_leases(publisher, caplog):
    with Viewer() as good, Child("view", "--hold-at", 3) as dying:
        token = dying.line()
        await_viewers(publisher, token, good.token)
        for t in range(6):
            publish(publisher, t)
        assert dying.line() == "holding"
        wait_until(lambda: row_of(publisher, token).frames.delivered == 3, "what it has acknowledged")
        assert row_of(publisher, token).frames.in_flight == 3

        dying.process.kill()
        wait_until(lambda: not row_of(publisher, token).attached, "noticed")
        for t in range(6, 60):
            publish(publisher, t, policy="every")

        assert publisher.flush(10)
        assert leased(publisher) == 0
        row = row_of(publisher, token)
        assert (row.frames.published, row.frames.delivered, row.frames.dropped) == (6, 3, 3)
        assert publisher.stats().balanced
        (stream,) = good.streams
        assert [check_stamp(plane)[0] for _, plane in sorted(planes_of(stream).items())] == list(range(60))
    # By its lock or its connection: the heartbeat would have taken 2 s.
    (line,) = [message for message in caplog.messages if "3 frames dropped" in message]
    assert "process died" in line or "connection is gone" in line


@pytest.mark.fault("V2")
@pytest.mark.usefixtures("transport")
def test_a_viewer_stopped_between_copy_and_check_never_shows_what_it_copied(publisher):
    with Child("view", "--stop-at", 4) as viewer:
        token = viewer.line()
        await_viewers(publisher, token)
        for t in range(10):
            publish(publisher, t)
        wait_until(lambda: viewer.stopped, "stopped")
        wait_until(lambda: not row_of(publisher, token).attached, "given up")
        assert row_of(publisher, token).frames.dropped > 0
        assert leased(publisher) == 0

        # Every slot is written anew while the viewer is stopped.
        slots = [publisher.reserve(SHAPE, "uint16", axes={"t": t}) for t in range(100, 116)]
        assert len({slot.array.ctypes.data for slot in slots}) == 16
        for t, slot in enumerate(slots, 100):
            slot.array[:] = stamped(t, shape=SHAPE)
            slot.commit()

        os.kill(viewer.pid, signal.SIGCONT)
        await_viewers(publisher, token)
        for t in range(200, 220):
            publish(publisher, t, policy="every")
        assert publisher.flush(10)
        report = viewer.ask()
        assert report["rejected"] >= 1
        assert report["bad"] == 0
        assert [t for t, _, _ in report["places"] if t >= 200] == list(range(200, 220))
        assert not {4, *range(5, 10)} & {t for t, _, _ in report["places"]}, "stale frames were shown"
        assert publisher.stats().balanced
        rows = [row for row in publisher.stats() if row.token == token]
        assert len(rows) == 2, "given up once, greeted once"


@pytest.mark.fault("V3")
def test_a_viewer_whose_window_hangs_is_not_given_up(publisher):
    with Child("view", "--hung") as viewer:
        token = viewer.line()
        await_viewers(publisher, token)
        hub = publisher.session.receivers
        (receiver,) = hub.attached.values()
        for t in range(40):
            publish(publisher, t, policy="every")
        first = receiver.pong.number
        # Three unanswered heartbeats would have ended it.
        wait_until(lambda: receiver.pong.number >= first + 5, "five heartbeats answered")
        publish(publisher, 40)
        assert publisher.flush(10)
        row = row_of(publisher, token)
        assert row.attached
        assert row.frames.delivered == 41
        assert row.painted == 0


class Copying(WatchedDisplay):
    """A display that takes long to copy a frame."""

    def __init__(self) -> None:
        super().__init__()
        self.copied = threading.Event()

    def take(self, view: Any, *, magnitude: bool) -> Any:
        assert self.copied.wait(60)
        return super().take(view, magnitude=magnitude)


@pytest.mark.fault("V3")
def test_a_viewer_that_copies_for_long_is_not_given_up(publisher):
    with Viewer(display=Copying()) as viewer:
        await_viewers(publisher, viewer.token)
        (receiver,) = publisher.session.receivers.attached.values()
        publish(publisher, 0)
        # Three of them would have ended it.
        wait_until(lambda: receiver.unanswered > 5 or not receiver.attached, "heartbeats not answered")
        viewer.display.copied.set()
        assert publisher.flush(20)
        (row,) = publisher.stats()
        assert (row.attached, row.frames) == (True, (1, 1, 0, 0, 0, 0))
        assert [check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()] == [0]


@pytest.mark.fault("V4")
def test_a_slow_viewer_loses_the_oldest_and_a_fast_one_nothing(publisher):
    with Viewer() as fast, Child("view", "--slow", 0.05) as slow:
        token = slow.line()
        await_viewers(publisher, token, fast.token)
        for t in range(120):
            publish(publisher, t)
            if t == 10:
                publish(publisher, t, c=1)  # the only one of its channel
            fast.wait_for(lambda due=t: fast.sources[0].delivered >= due)
        assert publisher.flush(30)

        stats = publisher.stats()
        assert stats.balanced
        assert row_of(publisher, fast.token).frames.delivered == 121
        row = row_of(publisher, token).frames
        assert row.superseded > 0
        assert (row.dropped, row.skipped) == (0, 0)
        report = slow.ask()
        shown = [(t, c) for t, c, _ in report["places"]]
        assert len(shown) == row.delivered
        assert (119, 0) in shown, "the newest gets there"
        assert (10, 1) in shown, "the only one of its channel is never superseded"
        # The oldest first: what it has of the end has no gaps that the beginning does not have.
        of_channel = [t for t, c in shown if c == 0]
        gaps = [later - earlier for earlier, later in pairwise(of_channel)]
        assert max(gaps) > 1
        assert report["bad"] == 0


@pytest.mark.fault("V4")
def test_the_next_frame_of_a_slow_viewer_is_the_newest(publisher):
    with Child("view", "--slow", 0.05) as slow:
        token = slow.line()
        await_viewers(publisher, token)
        (account,) = publisher.session.accounts.receivers.values()
        came, sent, late = threading.Event(), {-1}, []
        for t in range(3000):
            with publisher.session.guard.lock:
                was_behind = account.pace.behind
            publish(publisher, t)
            with publisher.session.guard.lock:
                new = {frame.sequence for frame in account.leased.values() if frame.sequence > max(sent)}
                late += [t - sequence for sequence in new if was_behind and account.pace.behind]
            sent |= new
            if len(late) >= 20:
                break
            came.wait(0.01)  # a camera's pace
        assert len(late) >= 20
        assert max(late) <= 1, "what was published while it was sent"
        assert publisher.flush(30)
        assert publisher.stats().balanced
        row = row_of(publisher, token).frames
        assert row.superseded > row.delivered
        report = slow.ask()
        assert (t, 0) in [place[:2] for place in map(tuple, report["places"])]
        assert report["bad"] == 0


@pytest.mark.fault("V5")
@pytest.mark.usefixtures("transport")
def test_a_viewer_that_is_closed_leaves_in_good_order(caplog):
    directory = RunDirectory()
    with Publisher("headless", launch=True, policy="every") as publisher:
        with viewer_process() as viewer:
            publish(publisher, 0)
            assert row_of(publisher, viewer.token).attached
            with caplog.at_level(logging.INFO, "scopecast"):
                viewer.process.terminate()
                wait_until(lambda: not row_of(publisher, viewer.token).attached)
                for t in range(1, 50):
                    publish(publisher, t)
            assert viewer.process.wait(10) == 0
        assert leased(publisher) == 0
        left = [record for record in caplog.records if "has left" in record.getMessage()]
        assert [record.levelname for record in left] == ["INFO"]
        loud = [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
        assert loud == []
        assert directory.living("receiver") == []
        assert len(list(directory.path.glob("*.log"))) == 1, "no other viewer was started"
        assert publisher.stats().skipped == {"no viewer": 49}
        assert publisher.stats().balanced


@pytest.mark.usefixtures("transport")
def test_publish_never_waits_for_a_stopped_viewer(publisher):
    with viewer_process() as viewer:
        await_viewers(publisher, viewer.token)
        stop(viewer.pid)
        process = psutil.Process(viewer.pid)
        sequences = [publish(publisher, t) for t in range(500)]
        # That we come here, while nobody reads, is the test.
        assert process.status() == psutil.STATUS_STOPPED
        assert sequences == list(range(500))
        stats = publisher.stats()
        assert stats.balanced
        assert stats.frames.superseded > 0
        os.kill(viewer.pid, signal.SIGCONT)
        assert publisher.flush(20)
        assert publisher.stats().balanced


def test_a_viewer_that_opens_in_the_middle_gets_the_newest_of_every_channel_at_once(publisher):
    publish(publisher, 0)
    for t in range(1, 9):
        for c in range(3):
            publish(publisher, t, c=c)
    with Viewer() as late:
        late.wait_for(lambda: late.streams and late.streams[0].received == 3)
        assert sorted(planes_of(late.streams[0])) == [(8, 0), (8, 1), (8, 2)]
        assert publisher.flush(10)
        assert row_of(publisher, late.token).frames.delivered == 3
        assert publisher.stats().balanced


def test_a_frame_from_before_an_axis_joined_finds_its_place(publisher):
    publisher.publish(stamped(0, shape=SHAPE), axes={"c": "DAPI"})
    publisher.publish(stamped(1, shape=SHAPE), axes={"c": "GFP", "t": 1})
    with Viewer() as late:
        late.wait_for(lambda: late.streams and late.streams[0].received == 2)
        (stream,) = late.streams
        assert stream.axes == ("t", "c")
        assert sorted(planes_of(stream)) == [(0, 0), (1, 1)]


def test_a_stream_that_viewers_have_let_go_of_is_announced_anew(publisher):
    with Viewer() as viewer:
        await_viewers(publisher, viewer.token)
        preview = publisher.new_stream("live")
        publisher.publish(stamped(0, shape=SHAPE), stream=preview, policy="every")
        for run in range(4):
            publisher.new_stream(f"run {run}")
            publish(publisher, run, policy="every")
        publisher.publish(stamped(7, shape=SHAPE), stream=preview, policy="every")
        assert publisher.flush(10)
        assert row_of(publisher, viewer.token).frames.delivered == 6
        again = next(stream for stream in viewer.streams if stream.about.title == "live")
        assert check_stamp(planes_of(again)[()])[0] == 7


def test_a_display_that_raises_costs_that_frame_only(publisher, caplog):
    class Clumsy(WatchedDisplay):
        taken = 0

        def take(self, view, *, magnitude):
            self.taken += 1
            if self.taken == 3:
                raise MemoryError("no room")
            return super().take(view, magnitude=magnitude)

    with Viewer(display=Clumsy()) as viewer:
        await_viewers(publisher, viewer.token)
        for t in range(10):
            publish(publisher, t, policy="every")
        assert publisher.flush(10)
        frames = row_of(publisher, viewer.token).frames
        assert (frames.delivered, frames.skipped) == (9, 1)
        assert viewer.sources[0].errors == 1
    assert sum("MemoryError" in message for message in caplog.messages) == 1
