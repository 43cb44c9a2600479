"""What programs that look at frames do wrong, and what that does to the acquisition, viewers and other programs."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import Any

import numpy as np
import pytest

from children import Child, stop, wait_until
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher, subscribe
from scopecast.memory.segment import own_bytes
from scopecast.rundir.directory import RunDirectory

SHAPE = (64, 48)


def subscriber(**arguments: Any) -> Child:
    child = Child("subscribe", json.dumps({"title": "camera", **arguments}))
    assert child.line() == "running"
    return child


def opened(**arguments: Any) -> Publisher:
    publisher = Publisher(
        "headless", **{"title": "camera", "budget": 8 * 2**20, "linger": 20.0, "timeout": 60.0, **arguments}
    )
    publisher.open(SHAPE, wait=30.0)
    return publisher


def attached(publisher: Publisher, count: int) -> None:
    wait_until(lambda: sum(row.attached for row in publisher.stats()) == count, f"{count} attached")


def publish(publisher: Publisher, t: int) -> None:
    publisher.publish(stamped(t), axes={"t": t})


@pytest.mark.fault("S1")
def test_one_that_is_killed_while_it_looks_at_a_frame_costs_nobody_a_frame():
    with Viewer() as viewer, opened(policy="every") as publisher, subscriber(policy="every") as child:
        attached(publisher, 2)
        publish(publisher, 0)
        assert child.ask("frame")["t"] == 0
        assert child.ask("reply cells")
        wait_until(lambda: publisher.stats().replies.delivered == 1)
        (entry,) = RunDirectory().living("subscriber")
        assert entry.segments
        assert own_bytes(entry.segments[0])
        for t in range(1, 10):
            publish(publisher, t)
        child.process.kill()
        for t in range(10, 300):  # more than there are slots: none is lost with it
            publish(publisher, t)
        assert publisher.flush(30)
        (stream,) = viewer.streams
        images = next(stack for stack in stream.stacks if not stack.is_labels)
        assert sorted(index[0] for index in images.layout.planes) == list(range(300))
        stats = publisher.stats()
        assert stats.balanced
        assert (stats.frames.delivered, stats.keeper_errors) == (300, 0)
        child.wait()  # its lock is its own until it has ended
        RunDirectory().clean(everything=True)
        assert own_bytes(entry.segments[0]) is None, "its replies' memory went with it"


@pytest.mark.fault("S2")
def test_one_that_is_stopped_loses_its_frame_is_told_and_is_served_again():
    with opened() as publisher, subscriber(policy="every") as child:
        attached(publisher, 1)
        publish(publisher, 0)
        first = child.ask("frame")
        assert first["stamp"] == [0, 0, 0]
        stop(child.pid)
        wait_until(lambda: not any(row.attached for row in publisher.stats()), "given up")
        for t in range(1, 600):  # into its slot, too
            publish(publisher, t)
        os.kill(child.pid, signal.SIGCONT)
        attached(publisher, 1)
        assert child.ask("again").startswith("gone: the frame was taken away")
        assert child.ask("frame")["t"] == 599, "the newest"
        stats = wait_until(lambda: (stats := child.ask("stats"))["lost"] and stats)
        assert stats["balanced"]
        assert "taken away" in stats["problem"]
        assert publisher.stats().balanced


@pytest.mark.fault("S3")
def test_a_flood_of_replies_takes_no_frame_from_a_viewer_and_no_time_from_the_acquisition():
    with Viewer() as viewer, opened(policy="every", budget=2**20) as publisher, subscriber() as child:
        attached(publisher, 2)
        publish(publisher, 0)
        assert child.ask("frame")["t"] == 0
        child.tell("flood 2000")
        wait_until(lambda: publisher.stats().replies.published > 50, "replies come")
        for t in range(1, 300):
            publish(publisher, t)
        assert child.line() <= 2000
        wait_until(lambda: child.ask("stats")["on_the_way"] == 0)
        stats = child.ask("stats")
        assert stats["balanced"]
        assert stats["replies"] == 2000
        assert publisher.flush(30)
        (stream,) = viewer.streams
        images = next(stack for stack in stream.stacks if not stack.is_labels)
        assert sorted(index[0] for index in images.layout.planes) == list(range(300))
        mine = publisher.stats()
        assert mine.balanced
        assert (mine.frames.published, mine.frames.delivered) == (300, 300)
        never_sent = 2000 - mine.replies.published
        assert stats["reply_dropped"] == mine.replies.dropped + never_sent
        assert stats["reply_superseded"] <= mine.replies.superseded
        assert len(stream.stacks) <= 4
        assert child.ask("end") == "ended"


@pytest.mark.fault("S3")
def test_why_replies_were_dropped_is_told_where_their_source_does_not_take_them_and_where_it_is_gone(caplog):
    caplog.set_level("DEBUG", "scopecast")
    with Child("produce", 1, "--ending", "wait", "--title", "camera") as source, subscribe(title="camera") as frames:
        source.line()
        frame = next(frames)
        stop(source.pid)
        cells = np.ones(SHAPE, "uint8")
        assert [frame.reply(cells) for _ in range(9)] == [True] * 8 + [False]
        assert frames.problem == "a reply was dropped: camera has not taken the earlier ones yet"
        source.process.kill()
        source.wait()
        wait_until(lambda: frames.stats().reply_dropped == 9)
        assert "8 replies were dropped: camera has gone before it had taken all" in caplog.text
        assert frames.stats().balanced
    RunDirectory().clean(everything=True)


@pytest.mark.fault("S4")
def test_a_slow_one_gets_the_newest_and_holds_up_neither_the_acquisition_nor_others():
    with (
        Viewer() as viewer,
        opened(policy="every") as publisher,
        subscriber() as slow,
        subscriber(policy="every") as fast,
    ):
        attached(publisher, 3)
        publish(publisher, 0)
        assert slow.ask("frame")["t"] == 0
        fast.tell("work 1000")
        for t in range(1, 1000):
            publish(publisher, t)  # waits for the fast one and the viewer, and would for ever for the slow one
        assert fast.line() == list(range(1000))
        wait_until(lambda: slow.ask("frame")["t"] == 999, "the newest, once those on their way have come")
        assert slow.ask("stats")["balanced"]
        assert publisher.flush(30)
        (stream,) = viewer.streams
        assert len(planes_of(stream)) == 1000
        assert publisher.stats().balanced


@pytest.mark.fault("S5")
def test_four_of_them_and_two_viewers_see_two_sources_that_come_and_go_and_come_again():
    with (
        Viewer() as viewer,
        Viewer() as another,
        subscriber(policy="every") as one,
        subscriber(policy="every") as two,
        subscriber(policy="every") as three,
        subscriber() as four,
    ):
        for run in range(2):
            with opened(policy="every") as publisher:
                attached(publisher, 6)
                for child in (one, two, three):
                    child.tell("work 50")
                writer = threading.Thread(
                    target=lambda at=publisher, run=run: [publish(at, 100 * run + t) for t in range(50)]
                )
                writer.start()
                for child in (one, two, three):
                    assert child.line() == [100 * run + t for t in range(50)]
                writer.join()
                wait_until(lambda at=run: four.ask("frame")["t"] == 100 * at + 49)
                assert publisher.flush(30)
                assert publisher.stats().balanced
        for child in (one, two, three, four):
            stats = child.ask("stats")
            assert stats["balanced"]
            assert stats["lost"] == 0
        for each in (viewer, another):
            seen = [check_stamp(plane)[0] for stream in each.streams for plane in planes_of(stream).values()]
            assert sorted(seen) == [*range(50), *range(100, 150)]


@pytest.mark.fault("S5")
def test_whatever_one_of_four_does_the_other_three_and_two_viewers_see_both_runs_of_a_source_that_is_restarted():
    """One is slow, one replies labels, one is stopped while the source is restarted, one is killed in a frame."""
    with (
        Child("view") as viewer,
        Child("view") as another,
        subscriber() as slow,
        subscriber(policy="every") as labelling,
        subscriber(policy="every") as stopped,
        subscriber(policy="every") as killed,
    ):
        viewer.line()
        another.line()
        labelling.tell("label 600")
        accounts = []
        with opened(policy="every") as publisher:
            attached(publisher, 6)
            publish(publisher, 0)
            assert [child.ask("frame")["t"] for child in (slow, stopped, killed)] == [0, 0, 0]
            stop(stopped.pid)
            killed.process.kill()
            for t in range(1, 300):
                publish(publisher, t)
            assert publisher.flush(30)
        _check_accounts(publisher)
        accounts.append(publisher.stats().replies)
        with opened(policy="every") as publisher:
            attached(publisher, 4)
            os.kill(stopped.pid, signal.SIGCONT)
            attached(publisher, 5)
            stopped.tell("work 300")
            for t in range(300, 600):
                publish(publisher, t)
            assert labelling.line() == list(range(600))
            assert stopped.line() == list(range(300, 600)), "what came before it was lost with the first run"
            wait_until(lambda: slow.ask("frame")["t"] == 599, "the newest, though it is late")
            assert publisher.flush(30)
        _check_accounts(publisher)
        accounts.append(publisher.stats().replies)
        for child, policy in ((slow, "latest"), (labelling, "every"), (stopped, "every")):
            stats = wait_until(lambda child=child: not (s := child.ask("stats"))["on_the_way"] and s)
            assert stats["balanced"], stats
            assert stats["lost"] <= (child is stopped), "its frame may have been written over"
            assert stats["skipped"] == 0, stats
            assert policy == "latest" or stats["superseded"] == 0, stats
        stats = labelling.ask("stats")
        assert stats["replies"] == 600
        assert stats["taken"] == sum(run.delivered + run.superseded for run in accounts)
        never_sent = 600 - sum(run.published for run in accounts)
        assert stats["reply_dropped"] == sum(run.dropped for run in accounts) + never_sent, stats
        assert accounts[1].delivered > 0, "while nobody had all slots"
        for each in (viewer, another):
            seen = each.ask()
            assert (seen["errors"], seen["rejected"]) == (0, 0)
            assert 0 < seen["bad"] <= stats["taken"], "labels, which have no stamp; a newer one may come before"
            assert [t for t, _, _ in seen["places"]] == list(range(600))
        assert labelling.ask("end") == "ended"
        killed.wait()
        RunDirectory().clean(everything=True)


def _check_accounts(publisher: Publisher) -> None:
    stats = publisher.stats()
    assert stats.balanced, stats
    assert (stats.frames.published, stats.frames.delivered, stats.keeper_errors) == (300, 300, 0), stats


@pytest.mark.fault("S6")
def test_a_source_that_is_killed_leaves_its_frame_as_it_is_and_its_next_run_is_seen():
    with subscriber() as child:
        for frames in (3, 5):
            with Child("produce", frames, "--ending", "wait", "--title", "camera") as source:
                source.line()
                seen = child.ask("frame")
                while seen["t"] < frames - 1:
                    seen = child.ask("frame")
                assert seen["stamp"] == [frames - 1, 0, 0]
                source.process.kill()
                source.wait()
                wait_until(lambda: child.ask("sources") == [], "told that it has gone")
                assert child.ask("again") == {"sum": int(stamped(frames - 1).sum()), "lost": False}
                RunDirectory().clean(everything=True)
        assert child.ask("stats")["balanced"]
        child.tell("end")
        assert child.line() == "ended"
        assert child.wait() == 0
        assert not child.errors
