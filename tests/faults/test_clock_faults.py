"""A machine that sleeps, and a clock that is set: durations come from the monotonic clock only."""

from __future__ import annotations

import ast
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import scopecast
import scopecast_viewers
from children import wait_until
from receivers import Viewer, stamped
from scopecast import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = {
    package.__name__: Path(next(iter(package.__path__))).resolve() for package in (scopecast, scopecast_viewers)
}
#: What of `time` tells the time of day; what comes after a change of the clock, or a sleep, says nothing of durations.
WALL_CLOCK = {"time", "time_ns", "localtime", "gmtime", "ctime", "strftime"}
#: Where the time of day is what is meant: ages of files, which the file system stamps with it, and dates for people.
MEANT = {
    "scopecast/rundir/directory.py",  # logs that nobody needs any more
    "scopecast/cli/main.py",  # since when someone runs
    "scopecast/cli/share.py",  # until when a link can be used
    "scopecast/remote/guests.py",  # likewise, also after a restart
    "scopecast/subscribing/frame.py",  # when a frame was published
    "scopecast_viewers/receiving/live.py",  # when a run began
    "scopecast_viewers/napari/runs_button.py",
    "scopecast_viewers/napari/saver.py",  # the name of a file
    "scopecast_viewers/receiving/saving.py",
    "scopecast_viewers/receiving/exporting.py",  # when a run began
    "scopecast_viewers/receiving/formats.py",
    "scopecast_viewers/recording/journal.py",
    "scopecast_viewers/receiving/metadata.py",  # when a frame was taken
    "scopecast/images/ome.py",  # when an acquisition began
}


def wall_clock_uses(source: str) -> Iterator[str]:
    """The places where a module asks for the time of day."""
    if not re.search(r"\b(time|datetime)\b", source):  # to parse all modules takes seconds
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute(value=ast.Name(id="time"), attr=name) if name in WALL_CLOCK:
                yield f"{node.lineno}: time.{name}"
            case ast.ImportFrom(module="time", names=names):
                yield from (f"{node.lineno}: from time import {name.name}" for name in names)
            case ast.Import(names=names):
                yield from (f"{node.lineno}: import {name.name}" for name in names if name.name == "datetime")
            case ast.ImportFrom(module="datetime"):
                yield f"{node.lineno}: from datetime import …"


@pytest.mark.fault("R10")
@pytest.mark.parametrize("package", PACKAGES)
def test_no_duration_is_taken_from_the_time_of_day(package):
    folder = PACKAGES[package]
    found = {
        f"{package}/{path.relative_to(folder).as_posix()}:{use}"
        for path in folder.rglob("*.py")
        for use in wall_clock_uses(path.read_text("utf-8"))
    }
    assert {use for use in found if use.partition(":")[0] not in MEANT} == set()


@pytest.mark.parametrize(
    "source", ["import time; a = time.time()", "from time import time", "from datetime import datetime"]
)
def test_the_look_for_the_time_of_day_finds_it(source):
    assert list(wall_clock_uses(source))


class SteppedClock(SimpleNamespace):
    """The module `time`, as it looks after the machine has slept, or its clock was set."""

    def __init__(self) -> None:
        super().__init__(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
        self.slept = self.stepped = 0.0
        self.monotonic = lambda: time.monotonic() + self.slept
        self.monotonic_ns = lambda: time.monotonic_ns() + int(self.slept * 1e9)
        self.time = lambda: time.time() + self.stepped


@pytest.mark.fault("R10")
@pytest.mark.parametrize(("change", "by"), [("slept", 8 * 3600.0), ("stepped", -3600.0)])
def test_nobody_is_given_up_because_the_clock_jumps(monkeypatch, change, by):
    """Where the monotonic clock goes on while the machine sleeps (Windows), it jumps for both sides at once."""
    clock = SteppedClock()
    for module in (
        "scopecast.publishing.receivers",
        "scopecast.rundir.directory",
        "scopecast.subscribing.line",
        "scopecast_viewers.receiver",
    ):
        monkeypatch.setattr(f"{module}.time", clock)
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), wait=10)
        viewer.wait_for(lambda: viewer.attached)
        publisher.publish(stamped(0), axes={"t": 0})
        (receiver,) = publisher.session.receivers.attached.values()
        answered = receiver.pong.number
        setattr(clock, change, by)
        # More heartbeats than one that is given up may leave unanswered.
        wait_until(lambda: receiver.pong.number >= answered + 4)
        publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(10)
        (row,) = publisher.stats()
        assert row.attached
        assert row.frames.delivered == 2
        assert [source.state for source in viewer.sources] == ["attached"]
