"""What the machine lacks, and frames that are too large; and that no frame is ever torn."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from pathlib import Path
from time import monotonic

import numpy as np
import pytest

from children import Child, stop, wait_until
from peers import entry_of
from receivers import Viewer, WatchedDisplay, check_stamp, planes_of, stamped, viewer_process
from scopecast import Publisher
from scopecast.memory.ring import RingLayout, RingReader
from scopecast.rundir.directory import new_token


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.fault("R1")
@pytest.mark.parametrize("policy", ["latest", "every"])
def test_full_shared_memory_costs_one_warning_and_the_frames(monkeypatch, caplog, policy):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with Viewer() as viewer, Publisher("headless", policy=policy) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        wait_until(lambda: warnings_of(caplog))
        assert {publisher.publish(stamped(t), axes={"t": t}) for t in range(1, 100)} == {-1}
        stats = publisher.stats()
        assert stats.frames.skipped == stats.frames.published == 100
        assert stats.balanced
        assert set(stats.skipped) <= {"no shared memory", "opening"}
        assert not viewer.attached
    (text,) = warnings_of(caplog)
    assert "disabled" in text
    assert "MiB" in text


@pytest.mark.fault("R1")
def test_shared_memory_that_fills_up_when_a_larger_frame_comes(monkeypatch, caplog):
    with Viewer() as viewer, Publisher("headless", policy="every", budget=2**24) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "posix_fallocate", full)
        large = stamped(1, shape=(1024, 1024))
        assert publisher.publish(large, axes={"t": 1}) == -1
        assert publisher.publish(large, axes={"t": 2}) == -1
        assert publisher.publish(stamped(3), axes={"t": 3}) >= 0
        assert publisher.flush(10)
        assert sorted(planes_of(viewer.streams[0])) == [(0,), (3,)]
        assert publisher.stats().balanced
    assert len(warnings_of(caplog)) == 1


@pytest.mark.fault("R3")
@pytest.mark.parametrize("left", [0, 1, 6, 12])
def test_without_descriptors_open_fails_cleanly_and_a_stream_goes_on(left):
    """At each of its steps: the lock, the segment, and the socket, where ZeroMQ itself would abort the process."""
    with Viewer() as viewer, Child("few_descriptors", left) as child:
        assert child.line() == "limited"
        with Viewer(title="late") as late:
            late.wait_for(lambda: late.sources)  # it knocks; were it let in, libzmq would abort the process
            answer = child.ask("", 60)
            assert answer["results"] == [-1] * 5
            assert sum(answer["skipped"].values()) == 5
            assert answer["flushed"]
            assert answer["balanced"]
            first = next(stream for stream in viewer.streams if stream.title == "first")
            assert sorted(check_stamp(plane)[0] for plane in planes_of(first).values()) == list(range(100))
            assert not late.attached
            assert child.ask(), "flushed"
            late.wait_for(lambda: late.streams and late.streams[0].received)
        child.tell()
        assert child.wait() == 0, child.errors
        assert child.errors.count("WARNING") <= 1
        assert "Traceback" not in child.errors


@pytest.mark.fault("R5")
def test_a_larger_frame_gets_a_new_ring_within_the_budget():
    with Viewer() as viewer, Publisher("headless", policy="every", budget=2**24) as publisher:
        publisher.publish(stamped(0, shape=(128, 128)), axes={"t": 0})
        first = publisher.session.slots.ring
        slot = first.layout.slot_bytes
        assert publisher.publish(np.zeros((1, slot), "uint8"), axes={"t": 1}) == 1
        assert publisher.session.slots.ring is first
        publisher.publish(stamped(2, shape=(1, slot + 1), dtype="uint8"), axes={"t": 2})
        second = publisher.session.slots.ring
        assert second.epoch == first.epoch + 1
        assert second.layout.slot_bytes > slot
        for t in range(3, 40):
            publisher.publish(stamped(t, shape=(128, 128)), axes={"t": t})
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 40
        assert publisher.stats().segment_bytes == second.layout.size, "the old one is let go of"
        assert not Path("/dev/shm", first.name).exists()
        (source,) = viewer.sources
        assert (source.rejected, source.errors) == (0, 0)
        shown = {stack.plane_shape: len(stack.layout.planes) for stack in viewer.streams[0].stacks}
        assert shown == {(128, 128): 38, (1, slot): 1, (1, slot + 1): 1}


@pytest.mark.fault("R5")
def test_a_frame_beyond_the_budget_is_skipped_with_one_warning_that_names_both_sizes(caplog):
    with Viewer() as viewer, Publisher("headless", policy="every", budget=2**22) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        huge = np.zeros((40, 2**20), "uint8")
        assert [publisher.publish(huge, axes={"t": t}) for t in range(1, 10)] == [-1] * 9
        publisher.publish(stamped(10), axes={"t": 10})
        assert publisher.flush(10)
        assert sorted(planes_of(viewer.streams[0])) == [(0,), (10,)]
        assert publisher.stats().skipped == {"larger than the budget": 9}
        assert publisher.stats().balanced
    (text,) = warnings_of(caplog)
    assert "40.0 MiB" in text
    assert "4.0 MiB" in text


def test_a_ring_is_made_anew_while_slots_of_the_old_one_are_written():
    with Viewer() as viewer, Publisher("headless", policy="every", budget=2**24) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        old = publisher.reserve((64, 48), "uint16", axes={"t": 1})
        old.array[:] = 7
        publisher.publish(stamped(2, shape=(1024, 1024)), axes={"t": 2})
        old.array[:] = 8  # its memory is still there
        assert old.commit() == 2, "it moves into the new ring"
        publisher.publish(stamped(3), axes={"t": 3})
        assert publisher.flush(10)
        frames = publisher.stats().frames
        assert (frames.published, frames.delivered, frames.dropped) == (4, 4, 0)
        shown = {stack.plane_shape: stack for stack in viewer.streams[0].stacks}
        assert (shown[64, 48].plane((1,)) == 8).all()
        assert publisher.stats().balanced
        wait_until(lambda: publisher.stats().segment_bytes == publisher.session.slots.ring.layout.size)
        assert viewer.sources[0].errors == 0


@pytest.mark.fault("R5")
def test_a_new_ring_loses_nothing_that_a_viewer_had_no_room_for_yet():
    """Under "every" also what was published, and not sent, goes out before the new ring takes over."""
    go = threading.Event()

    class Waiting(WatchedDisplay):
        def take(self, view, *, magnitude):
            assert go.wait(30)
            return super().take(view, magnitude=magnitude)

    with (
        Viewer(display=Waiting()) as viewer,
        Publisher("headless", policy="every", budget=RingLayout(16, 32768).size) as publisher,
    ):
        publisher.open((128, 128), wait=10)
        session = publisher.session
        viewer.wait_for(lambda: viewer.attached)
        frames = 15
        for t in range(frames):
            publisher.publish(stamped(t, shape=(128, 128)), axes={"t": t})
        with session.guard.lock:
            (account,) = session.accounts.receivers.values()
            assert account.pending, "some are not sent"
            slots = session.slots
        session._renew(slots.ring.layout)
        assert session.slots is not slots
        go.set()
        assert publisher.flush(20)
        counts = publisher.stats().frames
        assert (counts.delivered, counts.superseded, counts.dropped) == (frames, 0, 0)
        shown = [check_stamp(plane)[0] for _, plane in sorted(planes_of(viewer.streams[0]).items())]
        assert shown == list(range(frames))


@pytest.mark.fault("R5", "P10")
def test_threads_that_lose_nothing_lose_nothing_either_while_rings_are_made_anew():
    with Viewer() as viewer, Publisher("headless", policy="every", budget=2**24) as publisher:
        publisher.open((32, 32), wait=10)
        viewer.wait_for(lambda: viewer.attached)
        frames = 300
        growing = threading.Event()

        def publish(c: int) -> None:
            for t in range(frames):
                if t == 20:
                    assert growing.wait(30)
                publisher.publish(stamped(t, c, shape=(32, 32)), axes={"t": t, "c": c})

        threads = [threading.Thread(target=publish, args=(c,)) for c in range(3)]
        for thread in threads:
            thread.start()
        for number, side in enumerate(range(600, 1300, 100)):
            publisher.publish(stamped(number, 9, shape=(side, side)), axes={"t": number, "c": 9})
            growing.set()
        for thread in threads:
            thread.join(60)
        assert publisher.flush(20)
        counts = publisher.stats().frames
        assert counts == (3 * frames + 7, 3 * frames + 7, 0, 0, 0, 0)
        assert publisher.session.slots.ring.epoch >= 3, "rings were made anew meanwhile"
        assert viewer.sources[0].errors == viewer.sources[0].rejected == 0


@pytest.mark.fault("R7")
@pytest.mark.parametrize("policy", ["latest", "every"])
def test_a_segment_that_another_truncates_costs_a_viewer_at_most(policy):
    with Child("truncated", policy) as producer:
        assert producer.line() == "open"
        with Child("view", "--stop-at", 4) as viewer:
            viewer.line()
            wait_until(lambda: viewer.ask()["states"] == ["attached"])
            assert producer.ask("publish") == "published"
            wait_until(lambda: viewer.stopped)
            segment = Path("/dev/shm", producer.ask("segment"))
            os.truncate(segment, 0)
            os.kill(viewer.pid, signal.SIGCONT)
            # It touches what it had mapped: its end, and nobody else's.
            assert viewer.wait() == -signal.SIGBUS
        assert producer.ask("publish") == "published"
        with Viewer() as again:
            again.wait_for(lambda: again.attached)
            assert producer.ask("publish") == "published"
            again.wait_for(lambda: again.streams and again.streams[0].received >= 10)
            for plane in planes_of(again.streams[0]).values():
                check_stamp(plane)
            assert producer.ask("segment") != segment.name
        report = producer.ask("end")
        assert report["balanced"]
        assert report["keeper_errors"] == 0
        assert producer.wait() == 0, producer.errors


@pytest.mark.fault("R7")
@pytest.mark.parametrize("kind", ["image", "points"])
def test_a_viewer_leaves_alone_what_was_truncated_before_it_came_to_it(kind: str):
    with viewer_process() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), "uint16", wait=30)
        publisher.publish(stamped(0), axes={"t": 0})
        assert publisher.flush(20)
        wait_until(lambda: publisher.session.slots and not publisher.session.slots.ring.can_grow)
        stop(viewer.pid)
        publisher.publish(stamped(1) if kind == "image" else np.zeros((3, 2)), axes={"t": 1}, kind=kind)
        (segment,) = entry_of(publisher).segments
        os.truncate(Path("/dev/shm", segment), 0)
        os.kill(viewer.pid, signal.SIGCONT)
        assert publisher.flush(20)
        publisher.publish(stamped(2), axes={"t": 2})
        assert publisher.flush(20)
        assert viewer.process.poll() is None, viewer.log
        assert publisher.stats().frames.delivered == 2
        assert "truncated by another program" in viewer.log


@pytest.mark.fault("D6")
def test_shape_and_dtype_alternate_with_every_frame():
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        for t in range(40):
            shape, dtype = (((64, 48), "uint16"), ((50, 70), "float32"))[t % 2]
            publisher.publish(stamped(t, shape=shape, dtype=dtype), axes={"t": t})
        assert publisher.flush(10)
        (stream,) = viewer.streams
        one, two = stream.stacks
        for stack, first in ((one, 0), (two, 1)):
            shown = {index[0]: check_stamp(stack.plane(index))[0] for index in stack.layout.planes}
            assert shown == {t: t for t in range(first, 40, 2)}
        assert [(stack.plane_shape, stack.dtype.str) for stack in stream.stacks] == [
            ((64, 48), "<u2"),
            ((50, 70), "<f4"),
        ]


@pytest.mark.fault("D5")
def test_a_reader_without_a_lease_never_accepts_a_torn_frame():
    token = new_token()
    name = f"headless_{token}_0"
    with Child("tear", name, token) as writer:
        assert writer.line() == "writing"
        reader = RingReader(name, token, 0)
        try:
            accepted = rejected = torn = 0
            number = 0

            def read_one() -> bool:
                nonlocal accepted, rejected, torn, number
                slot = number % 8
                number += 1
                before = reader.generation(slot)
                if before and before % 2 == 0:
                    plane = reader.view(slot, (512, 512), np.dtype("uint16")).copy()
                    if reader.generation(slot) == before:
                        check_stamp(plane)
                        accepted += 1
                    else:
                        rejected += 1
                        try:
                            check_stamp(plane)
                        except AssertionError:
                            torn += 1
                # Until the check has been of use: frames that were torn, and that it caught.
                return accepted >= 200 and torn >= 5

            deadline = monotonic() + 60
            while not read_one():
                assert monotonic() < deadline, (accepted, rejected, torn)
        finally:
            reader.close()
        writer.tell()
        assert writer.wait() == 0


@pytest.mark.fault("D5")
def test_a_camera_that_never_waits():
    """At the full speed of publish(), to a viewer in another process: none torn, none overwritten while leased."""
    with Child("view") as viewer, Publisher("headless", budget=8 * 2**17 + 3 * 4096) as publisher:
        viewer.line()
        publisher.open((256, 256), wait=10)
        wait_until(lambda: list(publisher.stats()))
        frames = [stamped(t, shape=(256, 256)) for t in range(50)]
        for t in range(3000):
            publisher.publish(frames[t % 50], axes={"t": t % 50})
        assert publisher.flush(20)
        report = viewer.ask()
        assert (report["bad"], report["rejected"], report["errors"]) == (0, 0, 0)
        stats = publisher.stats()
        assert stats.balanced
        assert stats.frames.published == 3000
        assert report["delivered"] == [stats.frames.delivered]
        assert 2999 in report["sequences"]
