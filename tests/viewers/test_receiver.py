"""The receiver's loop without any window."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sys
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from children import Child
from receivers import Viewer, WatchedDisplay, stamped
from scopecast import Publisher
from scopecast_viewers import receiver as process
from scopecast_viewers.headless import HeadlessDisplay
from scopecast_viewers.receiver import Receiver
from scopecast_viewers.receiving.status import figures_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
    monkeypatch.setattr("scopecast.subscribing.line.DRAIN_S", 0.0)
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


def test_a_run_directory_that_can_not_be_read_for_a_while_costs_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Without a descriptor left it can't even be listed."""
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        real, broken = os.listdir, threading.Event()

        def listdir(path: object) -> list[str]:
            if broken.is_set() and threading.current_thread().name == "scopecast-receiver":
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return real(path)

        monkeypatch.setattr(os, "listdir", listdir)
        publisher.publish(stamped(0), axes={"t": 0})
        broken.set()
        viewer.wait_for(lambda: viewer.receiver.errors >= 3)
        assert "Too many open files" in viewer.receiver.problem
        assert "tried again" in viewer.receiver.problem
        publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(20), "those that are attached go on"
        with Publisher("headless", policy="every", title="late") as late:
            late.publish(stamped(2), axes={"t": 2}, policy="latest")
            broken.clear()
            viewer.wait_for(lambda: len(viewer.streams) == 2 and viewer.streams[1].received)
            assert viewer.receiver.problem == ""
    told = [record for record in caplog.records if "looking for publishers" in record.getMessage()]
    assert len([record for record in told if record.levelno >= logging.WARNING]) == 1


def _remove(path: Path) -> None:
    gone = path.with_name(f"{path.name}-gone")
    path.rename(gone)  # at once: a receiver makes files in it as soon as it misses its own
    shutil.rmtree(gone)


def _replace(path: Path, make: Callable[[Path], object]) -> object:
    while True:
        _remove(path)
        with contextlib.suppress(FileExistsError):  # it is there again already
            return make(path)


def _mode(path: Path, mode: int) -> None:
    path.chmod(mode)
    if os.access(path, os.R_OK | os.X_OK):
        path.chmod(0o700)
        pytest.skip("this user may read everything")


#: What becomes of the run directory, and whether there can be another one at once.
FATES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "removed": (_remove, True),
    "a file is in its place": (lambda path: _replace(path, lambda path: path.touch(exist_ok=False)), False),
    "a link to itself is in its place": (lambda path: _replace(path, lambda path: path.symlink_to(path)), False),
    "not to be entered": (lambda path: _mode(path, 0o400), False),
    "not to be read": (lambda path: _mode(path, 0o300), False),
    "without our lock": (lambda path: [lock.unlink() for lock in path.glob("*.lock")], True),
}


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use can't be removed there")
@pytest.mark.parametrize(("break_it", "heals"), FATES.values(), ids=FATES)
def test_whatever_becomes_of_the_run_directory_the_receiving_goes_on(
    break_it: Callable[[Path], object], heals: bool, runtime_dir: Path
):
    with Viewer() as viewer:
        break_it(runtime_dir)
        if not heals:
            viewer.wait_for(lambda: "looking for publishers" in viewer.receiver.problem)
            assert "tried again" in viewer.receiver.problem
            if runtime_dir.is_dir():
                runtime_dir.chmod(0o700)
            else:
                runtime_dir.unlink()
        files = [runtime_dir / f"{viewer.token}.{suffix}" for suffix in ("lock", "json")]
        viewer.wait_for(lambda: all(path.exists() for path in files))
        viewer.wait_for(lambda: viewer.receiver.problem == "")
        with Publisher("headless", policy="every") as publisher:
            publisher.publish(stamped(0), axes={"t": 0})
            viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received)
            assert publisher.flush(20)


def test_a_publisher_that_can_not_be_attached_to_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch):
    real = process.Source

    def source(entry: Any, *arguments: Any) -> Any:
        if entry.title == "bad":
            raise ValueError("nonsense")
        return real(entry, *arguments)

    monkeypatch.setattr(process, "Source", source)
    with Viewer() as viewer, Publisher("headless", title="bad") as bad, Publisher("headless", title="good") as good:
        bad.open((64, 48))
        viewer.wait_for(lambda: "attaching to bad: ValueError: nonsense" in viewer.receiver.problem)
        good.publish(stamped(0), axes={"t": 0})
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received)
        monkeypatch.undo()
        viewer.wait_for(lambda: len(viewer.sources) == 2)
        assert viewer.receiver.problem == ""


def test_the_receiving_goes_on_after_any_mistake(monkeypatch: pytest.MonkeyPatch):
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.publish(stamped(0), axes={"t": 0})

        def mistake() -> None:
            raise LookupError("anything")

        viewer.receiver._ask(mistake)
        viewer.wait_for(lambda: viewer.receiver.errors)
        publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(20)
        assert publisher.stats().frames.delivered == 2
        viewer.wait_for(lambda: viewer.receiver.problem == "")


@pytest.mark.parametrize("left", [0, 3, 6, 9, 12])
def test_a_real_viewer_without_descriptors_goes_on_when_there_are_some_again(left: int):
    with Child("view_few_descriptors", str(left)) as child:
        assert child.line() == "limited"
        with Publisher("headless", policy="latest") as publisher:
            publisher.publish(stamped(3), axes={"t": 3})
            assert "Too many open files" in child.line()
            child.tell()
            assert child.line() == [3]
            assert child.line() == ""
        child.tell()
        assert child.wait() == 0, child.errors


class Gated(WatchedDisplay):
    """A display that takes no frame as long as its gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()

    def take(self, view, *, magnitude):
        assert self.gate.wait(20)
        return super().take(view, magnitude=magnitude)


def test_what_was_lost_of_a_run_is_told_of_it_and_not_of_the_next():
    display = Gated()
    with Viewer(display=display) as viewer, Publisher("headless", budget=2**20) as publisher:
        publisher.open((64, 48), wait=20)
        viewer.wait_for(lambda: viewer.attached)
        for name, frames in (("one", 100), ("two", 1), ("three", 100), ("four", 1)):
            publisher.new_stream(name)
            for t in range(frames):
                publisher.publish(stamped(t), axes={"t": t})
            display.gate.set()
            assert publisher.flush(20)
            display.gate.clear()
        display.gate.set()
        viewer.wait_for(lambda: len(viewer.streams) == 3)
        superseded = publisher.stats().frames.superseded
        assert superseded > 0
        (source,) = viewer.sources
        viewer.wait_for(lambda: source.superseded == superseded)
        two, three, four = viewer.streams
        assert (two.superseded, four.superseded) == (0, 0)
        assert three.superseded == 100 - three.received > 0
        assert f"{three.superseded} superseded" in figures_of(three, viewer.sources)
        assert not any("superseded" in figure for figure in figures_of(four, viewer.sources))


def test_a_window_lets_what_has_arrived_be_read_but_not_for_long():
    """It waits for a frame that is being read, goes on if that takes too long, and waits for none if there is none."""
    reading, go_on = threading.Event(), threading.Event()

    class Slow(WatchedDisplay):
        def take(self, view, *, magnitude):
            reading.set()
            go_on.wait(20)
            return super().take(view, magnitude=magnitude)

    with Viewer(display=Slow()) as viewer, Publisher("headless") as publisher:
        publisher.open((64, 48), wait=20)
        viewer.wait_for(lambda: viewer.attached)
        publisher.publish(stamped(0))
        assert reading.wait(20)
        assert not viewer.receiver.let_read()
        assert [stack.count for stream in viewer.receiver.streams for stack in stream.stacks] in ([], [0])
        go_on.set()
        viewer.wait_for(viewer.receiver.let_read)
        assert publisher.flush(10)
        viewer.wait_for(viewer.receiver.let_read)
        assert [stack.count for stack in viewer.receiver.streams[0].stacks] == [1]
    assert viewer.receiver.let_read(), "of a receiver that was stopped nobody waits for anything"
