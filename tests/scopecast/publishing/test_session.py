"""The first second: what becomes of frames that come before there are slots, or a viewer; and failures that pass."""

from __future__ import annotations

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from children import wait_until
from launched import ending_viewers
from receivers import Viewer, WatchedDisplay, check_stamp, planes_of, stamped
from scopecast import Publisher
from scopecast.memory.ring import PAGE, Ring, RingLayout
from scopecast.publishing.retry import Retry
from scopecast.publishing.session import Session
from scopecast.publishing.viewers import Viewers
from scopecast_viewers import receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (64, 48)
LARGE = (2048, 2048)


class Ordered(WatchedDisplay):
    """Notes which frames it takes, in order."""

    def __init__(self) -> None:
        super().__init__("headless")
        self.taken: list[tuple[int, int]] = []

    def take(self, view: Any, *, magnitude: bool) -> Any:
        self.taken.append(check_stamp(view)[:2])
        return super().take(view, magnitude=magnitude)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The making of rings waits until this is set, as it does for memory on a busy machine."""
    go = threading.Event()
    make = Session._make_ring

    def wait(*arguments: Any) -> Ring:
        assert go.wait(60)
        return make(*arguments)

    monkeypatch.setattr(Session, "_make_ring", wait)
    yield go
    go.set()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# ---- before there is a slot --------------------------------------------------------------------------------------


def test_the_newest_frame_of_each_channel_is_kept_and_shown_first(held: threading.Event):
    display = Ordered()
    with Viewer(display=display) as viewer, Publisher("headless") as publisher:
        for t in range(10):
            for c in range(2):
                assert publisher.publish(stamped(t, c), axes={"t": t, "c": c}) == 2 * t + c
        assert publisher.stats().frames == (20, 0, 18, 0, 0, 2)
        held.set()
        viewer.wait_for(lambda: len(display.taken) == 2)
        publisher.publish(stamped(10, 0), axes={"t": 10, "c": 0})
        assert publisher.flush(20)
        assert display.taken == [(9, 0), (9, 1), (10, 0)]
        assert publisher.stats().frames == (21, 3, 18, 0, 0, 0)
        assert publisher.stats().skipped == {}
        assert sorted(planes_of(viewer.streams[0])) == [(9, 0), (9, 1), (10, 0)]


@pytest.mark.needs("/dev/shm")
def test_of_a_camera_that_runs_nothing_is_skipped_and_only_the_first_slot_is_waited_for(
    held: threading.Event, monkeypatch: pytest.MonkeyPatch
):
    """How long that takes is measured by `make bench`: "first frames"."""
    grown = threading.Event()
    grow = Ring.grow
    monkeypatch.setattr(Ring, "grow", lambda ring: grow(ring) if grown.wait(60) else 0)
    display = Ordered()
    with Viewer(display=display) as viewer, Publisher("headless") as publisher:
        for t in range(5):
            for c in range(2):
                outcome = publisher.offer(stamped(t, c, shape=LARGE), axes={"t": t, "c": c})
                assert outcome.reason is None
        held.set()
        viewer.wait_for(lambda: display.taken)
        ring = publisher.session.slots.ring
        assert (display.taken, ring.slots, ring.layout.slots) == ([(4, 0)], 1, 32)
        made = Path("/dev/shm", ring.name).stat().st_blocks * 512
        captions = ring.layout.size - ring.layout.total
        assert made == ring.layout.pixels + ring.layout.slot_bytes + captions, (
            "memory of one slot, and not of those to come"
        )
        grown.set()
        assert publisher.flush(60)
        assert display.taken == [(4, 0), (4, 1)], "the newest of each channel, and nothing before it"
        assert publisher.stats().frames == (10, 2, 8, 0, 0, 0)
        assert publisher.stats().skipped == {}


def test_a_reserved_slot_is_kept_like_a_frame(held: threading.Event):
    with Viewer() as viewer, Publisher("headless") as publisher:
        for t in range(3):
            with publisher.reserve(SHAPE, "uint16", axes={"t": t}) as slot:
                slot.array[:] = stamped(t)
        with pytest.raises(LookupError), publisher.reserve(SHAPE, "uint16", axes={"t": 9}):
            raise LookupError
        held.set()
        assert publisher.flush(20)
        # A reservation takes the memory of the frame before it, as it would take its slot.
        assert publisher.stats().balanced
        assert publisher.stats().frames.in_flight == 0
        publisher.publish(stamped(3), axes={"t": 3})
        assert publisher.flush(20)
        assert (3,) in planes_of(viewer.streams[0])


def test_a_run_that_ends_before_there_is_a_slot_is_shown_and_has_ended(held: threading.Event):
    with Viewer() as viewer, Publisher("headless") as publisher:
        run = publisher.new_stream("short")
        publisher.publish(stamped(0), axes={"t": 0}, stream=run)
        publisher.end_stream(run)
        held.set()
        assert publisher.flush(20)
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].state == "ended")
        assert sorted(planes_of(viewer.streams[0])) == [(0,)]


def test_a_publisher_that_closes_meanwhile_counts_what_it_kept(held: threading.Event):
    publisher = Publisher("headless", linger=0.0)
    publisher.publish(stamped(0), axes={"t": 0})
    threading.Timer(0.0, held.set).start()
    publisher.close()
    assert publisher.stats().frames == (1, 0, 0, 0, 1, 0)


def test_no_more_is_kept_than_the_budget_of_shared_memory(held: threading.Event):
    with Publisher("headless", budget=RingLayout(3, 2 * PAGE).size) as publisher:  # or 7 frames
        for c in range(13):
            publisher.publish(stamped(0, c), axes={"c": c})
        frames = publisher.stats().frames
        assert (frames.published, frames.skipped, frames.in_flight) == (13, 6, 7)
        assert publisher.stats().skipped == {"opening": 6}
        held.set()
        assert publisher.flush(20)
        assert publisher.stats().balanced


def test_threads_that_publish_while_the_ring_is_made_lose_no_count(held: threading.Event):
    with Viewer() as viewer, Publisher("headless") as publisher:

        def publish(c: int) -> None:
            for t in range(200):
                publisher.publish(stamped(t, c), axes={"t": t, "c": c})
                if t == 50:
                    held.set()

        threads = [threading.Thread(target=publish, args=(c,)) for c in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert publisher.flush(20)
        frames = publisher.stats().frames
        assert frames.balanced
        assert (frames.published, frames.in_flight, frames.skipped) == (600, 0, 0)
        planes = planes_of(viewer.streams[0])
        assert {(199, c) for c in range(3)} <= planes.keys()
        for (t, c), plane in planes.items():
            assert check_stamp(plane)[:2] == (t, c)


# ---- before the viewer is attached -------------------------------------------------------------------------------


def test_what_comes_before_a_running_viewer_has_found_us_waits_for_it(monkeypatch: pytest.MonkeyPatch):
    """It looks for publishers every 0.2 s."""
    with Viewer() as viewer:
        looking = threading.Event()
        scan = viewer.receiver._scan
        monkeypatch.setattr(viewer.receiver, "_scan", lambda: looking.is_set() and scan())
        with Publisher("headless") as publisher:
            publisher.open(SHAPE)
            wait_until(lambda: publisher.session.slot_bytes)
            for t in range(20):
                assert publisher.offer(stamped(t), axes={"t": t}).reason is None
            assert publisher.stats().frames == (20, 0, 0, 0, 0, 20)
            looking.set()
            assert publisher.flush(20)
            assert publisher.stats().frames == (20, 20, 0, 0, 0, 0)
            assert sorted(planes_of(viewer.streams[0])) == [(t,) for t in range(20)]
            (row,) = publisher.stats()
            assert row.frames == (20, 20, 0, 0, 0, 0)


def test_a_viewer_attaches_as_soon_as_the_run_directory_has_changed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiver, "SCAN_S", 1e6)
    with Viewer() as viewer:
        scanned = threading.Event()
        viewer.receiver._ask(scanned.set)
        assert scanned.wait(60), "its first look around is over"
        with Publisher("headless", policy="every") as publisher:
            publisher.publish(stamped(0), axes={"t": 0})
            assert publisher.flush(60)
            assert publisher.stats().frames == (1, 1, 0, 0, 0, 0)


def test_a_viewer_that_dies_before_it_attaches_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    viewer = Viewer()
    with Publisher("headless") as publisher:
        with viewer:
            monkeypatch.setattr(viewer.receiver, "_scan", lambda: None)
            publisher.publish(stamped(0), axes={"t": 0})
            wait_until(lambda: publisher.session.slot_bytes)
            publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(20)
        assert publisher.stats().frames.dropped == 2
        assert publisher.offer(stamped(2), axes={"t": 2}).reason == "no viewer"
        assert publisher.stats().balanced


# ---- a ring that grows -------------------------------------------------------------------------------------------


def test_a_large_ring_is_used_before_it_is_whole(monkeypatch: pytest.MonkeyPatch):
    grown = threading.Event()
    grow = Ring.grow
    monkeypatch.setattr(Ring, "grow", lambda ring: grow(ring) if grown.wait(60) else 0)
    frame = stamped(0, shape=LARGE)
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.publish(frame, axes={"t": 0})
        ring = publisher.session.slots.ring
        assert (ring.slots, ring.layout.slots) == (1, 32)
        for t in range(1, 6):
            publisher.publish(stamped(t, shape=LARGE), axes={"t": t})
        grown.set()
        wait_until(lambda: ring.slots == 32)
        for t in range(6, 12):
            publisher.publish(stamped(t, shape=LARGE), axes={"t": t})
        assert publisher.flush(60)
        assert publisher.stats().frames == (12, 12, 0, 0, 0, 0)
        assert publisher.session.slots.ring is ring, "the same segment"
        for (t,), plane in planes_of(viewer.streams[0]).items():
            assert check_stamp(plane)[0] == t
        assert viewer.sources[0].rejected == 0


@pytest.mark.parametrize("watched", [True, False], ids=["viewer attached", "viewer comes later"])
def test_the_newest_of_more_channels_than_there_are_slots_is_kept_until_the_ring_is_whole(
    monkeypatch: pytest.MonkeyPatch, watched: bool
):
    grown = threading.Event()
    grow = Ring.grow
    monkeypatch.setattr(Ring, "grow", lambda ring: grow(ring) if grown.wait(60) else 0)
    channels = "ABCDEFGH"
    with ExitStack() as stack:
        viewer = stack.enter_context(Viewer()) if watched else None
        publisher = stack.enter_context(Publisher("headless"))
        publisher.publish(stamped(0, shape=LARGE), axes={"t": 0, "c": "A"})
        wait_until(lambda: publisher.session.slot_bytes)
        assert publisher.session.slots.ring.slots == 1
        for t in range(1, 4):
            for c, name in enumerate(channels):
                publisher.publish(stamped(t, c, shape=LARGE), axes={"t": t, "c": name})
        grown.set()
        wait_until(lambda: publisher.session.slots.ring.slots == 32)
        viewer = viewer or stack.enter_context(Viewer())
        wait_until(lambda: viewer.streams and viewer.streams[0].stacks)
        wait_until(lambda: len({c for _, c in planes_of(viewer.streams[0])}) == len(channels))
        wait_until(lambda: publisher.flush(1))
        planes = planes_of(viewer.streams[0])
        assert {c: check_stamp(planes[3, c])[:2] for c in range(len(channels))} == {c: (3, c) for c in range(8)}
        stats = publisher.stats()
        assert stats.balanced
        assert stats.frames.dropped == 0


@pytest.mark.fault("R1")
@pytest.mark.needs("/dev/shm")
def test_a_ring_that_can_not_grow_goes_on_with_what_it_has_and_grows_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    real = os.posix_fallocate
    layout = RingLayout(32, stamped(0, shape=LARGE).nbytes)
    first = layout._replace(slots=3).total
    full = threading.Event()
    full.set()

    def allocate(descriptor: int, start: int, length: int) -> None:
        if first < start + length <= layout.total and full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, start, length)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        for t in range(8):
            assert publisher.publish(stamped(t, shape=LARGE), axes={"t": t}) == t
        wait_until(lambda: warnings_of(caplog))
        ring = publisher.session.slots.ring
        assert ring.slots == 3
        full.clear()
        wait_until(lambda: ring.slots == 32, timeout=60)
        assert publisher.flush(20)
        assert publisher.stats().frames.delivered == 8
        assert len(planes_of(viewer.streams[0])) == 8
    (text,) = warnings_of(caplog)
    assert "only 3 of 32 slots" in text


# ---- failures that pass ------------------------------------------------------------------------------------------


def test_a_pause_doubles_up_to_a_minute():
    retry = Retry()
    pauses = []
    for _ in range(8):
        before = time.monotonic()
        retry.failed()
        pauses.append(round(retry._at - before))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert not retry.due
    retry.succeeded()
    assert retry.due
    assert retry.failures == 0


@pytest.mark.fault("R1")
@pytest.mark.needs("/dev/shm")
@pytest.mark.parametrize("policy", ["latest", "every"])
def test_shared_memory_that_was_full_for_a_moment_is_tried_again(monkeypatch, caplog, policy):
    real = os.posix_fallocate
    calls: list[int] = []

    def once_full(descriptor: int, start: int, length: int) -> None:
        calls.append(length)
        if len(calls) == 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, start, length)

    monkeypatch.setattr(os, "posix_fallocate", once_full)
    with Viewer() as viewer, Publisher("headless", policy=policy) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        wait_until(lambda: publisher.problem)
        assert "No space left" in publisher.problem
        assert "tried again" in publisher.problem
        assert publisher.stats().problem.startswith("headless viewers disabled: ")
        wait_until(lambda: publisher.stats().skipped == {"no shared memory": 1})  # it is told a moment later
        wait_until(lambda: publisher.publish(stamped(1), axes={"t": 1}) >= 0)
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received)
        assert publisher.flush(20)
        assert (1,) in planes_of(viewer.streams[0])
        assert publisher.problem == ""
        assert publisher.stats().balanced
    failed, again = warnings_of(caplog)
    assert "disabled" in failed
    assert "frames are shown again" in again


@pytest.mark.fault("R1")
@pytest.mark.needs("/dev/shm")
@pytest.mark.parametrize("policy", ["latest", "every"])
def test_a_ring_of_fewer_than_three_slots_is_none_and_is_tried_again(monkeypatch, caplog, policy):
    """With the newest of one channel in it, another channel would find no room."""
    real = os.posix_fallocate
    layout = RingLayout(32, stamped(0, shape=LARGE).nbytes)
    first = layout._replace(slots=1).total - 1
    failed = threading.Event()

    def full_after_one_slot(descriptor: int, start: int, length: int) -> None:
        if first < start < layout.total and not failed.is_set():
            failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor, start, length)

    monkeypatch.setattr(os, "posix_fallocate", full_after_one_slot)
    with Viewer() as viewer, Publisher("headless", policy=policy) as publisher:
        publisher.publish(stamped(0, shape=LARGE), axes={"t": 0, "c": 0})
        wait_until(lambda: publisher.problem)
        assert "No space left" in publisher.problem
        assert "tried again" in publisher.problem
        assert publisher.stats().segment_bytes == 0
        wait_until(lambda: publisher.publish(stamped(1, 1, shape=LARGE), axes={"t": 1, "c": 1}) >= 0)
        assert publisher.flush(60)
        assert check_stamp(planes_of(viewer.streams[0])[1, 1])[:2] == (1, 1)
        assert publisher.problem == ""
        assert publisher.stats().balanced
    told, again = warnings_of(caplog)
    assert "disabled" in told
    assert "frames are shown again" in again


@pytest.mark.fault("H11")
@pytest.mark.needs("file modes")
def test_a_run_directory_that_is_put_right_is_used(runtime_dir: Path):
    runtime_dir.chmod(0o755)
    with Publisher("headless", policy="every") as publisher:
        assert publisher.publish(stamped(0)) == -1
        assert "open to others" in publisher.problem
        runtime_dir.chmod(0o700)
        with Viewer() as viewer:
            wait_until(lambda: publisher.publish(stamped(1)) >= 0)
            viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received)
            assert publisher.problem == ""


def test_a_transport_that_is_not_known_is_not_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPECAST_TRANSPORT", "pigeon")
    with Publisher("headless", policy="every") as publisher:
        assert publisher.publish(stamped(0)) == -1
        assert "pigeon" in publisher.problem
        assert "again" not in publisher.problem


def test_viewers_that_can_not_be_looked_for_are_looked_for_again(monkeypatch: pytest.MonkeyPatch):
    find = Viewers._find
    failed: list[int] = []

    def once_without_descriptors(viewers: Viewers) -> None:
        if not failed:
            failed.append(1)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        find(viewers)

    monkeypatch.setattr(Viewers, "_find", once_without_descriptors)
    with Publisher("headless") as publisher:
        publisher.publish(stamped(0))
        wait_until(lambda: "looking for viewers" in publisher.problem)
        wait_until(lambda: publisher.session.viewers.met)
        assert publisher.problem == ""


@pytest.mark.fault("H10")
@pytest.mark.needs("/dev/shm")
def test_names_that_another_has_taken_are_left_to_it():
    taken: list[Path] = []
    try:
        with Viewer() as viewer, Publisher("headless", policy="every", budget=2**24) as publisher:
            publisher.publish(stamped(0), axes={"t": 0})
            stem = publisher.session.slots.ring.name.rsplit("_", 1)[0]
            for number in range(1, 6):
                taken.append(Path("/dev/shm", f"{stem}_{number}"))
                taken[-1].touch()
            ours = set()
            for t, size in enumerate((512, 700, 1000), 1):
                publisher.publish(stamped(t, shape=(size, size)), axes={"t": t})
                assert publisher.flush(20)
                ours.add(publisher.session.slots.ring.name.removeprefix(f"{stem}_"))
            assert publisher.stats().frames.delivered == 4
            assert len(viewer.streams[0].stacks) == 4
            assert len(ours) == 3
            assert not all(name.isdecimal() for name in ours), "of ten thousand numbers, all could be taken"
        assert all(path.exists() for path in taken), "they are not ours"
    finally:
        for path in taken:
            path.unlink(missing_ok=True)


# ---- a program that ends at once ---------------------------------------------------------------------------------

SCRIPT = """
import atexit
live = None
atexit.register(lambda: print(live.stats().frames.delivered, live.stats().balanced))  # runs last
import numpy as np
from scopecast import StreamingBackend

class Headless(StreamingBackend):
    VIEWER_TYPE = "headless"

live = Headless()
live.{call}
"""


@pytest.mark.parametrize(
    "call", ["frame_ready(np.ones((64, 64), 'u2'))", "save_batch([np.ones((64, 64), 'u2')], ['t0.tif'])"]
)
def test_a_script_that_ends_at_once_gets_its_viewer_and_shows_its_frame(call: str):
    """From Python 3.12 on no thread can be started any more once the script has ended."""
    with ending_viewers():
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(call=call)], capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["1", "True"], done.stderr
        assert "Traceback" not in done.stderr


STILL_PUBLISHING = """
import atexit, threading, sys
import numpy as np
from scopecast import ClosedError, Publisher

frame = np.zeros((1024, 1024), "uint16")
wrong = []
began, ended = threading.Event(), threading.Event()

def camera():
    t = 0
    try:
        while True:
            publisher.publish(frame, axes={"t": t})
            began.set()
            t += 1
    except ClosedError:
        pass
    except BaseException as error:
        wrong.append(repr(error))
    finally:
        ended.set()

def late():
    assert ended.wait(60)
    try:
        publisher.publish(frame)
    except ClosedError:
        print("closed", wrong, flush=True)

atexit.register(late)  # before scopecast's own, so that it runs after that
import scopecast.publishing.session
atexit.unregister(scopecast.publishing.session._close_all)
atexit.register(scopecast.publishing.session._close_all)
publisher = Publisher("headless")
publisher.open(frame.shape, frame.dtype, wait=10)
threading.Thread(target=camera, daemon=True).start()
began.wait(60)
"""


@pytest.mark.fault("P11")
@pytest.mark.parametrize("attempt", range(3))
def test_who_publishes_while_the_interpreter_ends_hears_that_it_is_closed(attempt: int):
    done = subprocess.run([sys.executable, "-c", STILL_PUBLISHING], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "closed []", done.stderr


def test_nothing_is_imported_on_the_way_of_a_first_frame():
    """It would take longer than all the rest of the opening."""
    code = (
        "import sys; from scopecast import Publisher; Publisher('headless').close()\n"
        "needed = ('zmq', 'psutil', 'filelock', 'scopecast.publishing.receivers')\n"
        "print([name for name in needed if name not in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr


def test_importing_scopecast_loads_nothing_that_only_some_programs_need():
    """Importing the packages' metadata alone, for plug-ins, would take as long as all the rest."""
    code = (
        "import sys, numpy, zmq; before = {*sys.modules}; import scopecast\n"
        "unneeded = {'importlib.metadata', 'email', 'html', 'hashlib', 'difflib', 'zipfile', 'psutil', 'filelock'}\n"
        "unneeded -= {'hashlib'} if sys.platform == 'win32' else set()  # which Python's SharedMemory imports\n"
        "print(sorted(unneeded & {*sys.modules} - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.stdout.strip() == "[]", done.stderr


def test_keeping_a_frame_changes_nothing_of_the_array(held: threading.Event):
    with Viewer() as viewer, Publisher("headless") as publisher:
        frame = stamped(4)
        axes = {"t": 4}
        publisher.publish(frame, axes=axes)
        frame[:] = 0
        axes["t"] = 7  # the caller's again, both
        held.set()
        assert publisher.flush(20)
        assert check_stamp(planes_of(viewer.streams[0])[4,])[0] == 4
        np.testing.assert_array_equal(frame, 0)


def test_a_kind_that_nobody_knows_is_told_of():
    with Publisher("naparri") as publisher:
        publisher.open((8, 8), wait=20)
        assert publisher.problem.startswith("there is no viewer of the kind 'naparri' (installed: ")
        assert "napari" in publisher.offer(np.zeros((8, 8), "uint8")).cause
