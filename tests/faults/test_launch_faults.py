"""Viewers that are started, by one or by many at once, or can't be."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

import pytest

from children import Child, wait_until
from receivers import Viewer, stamped
from scopecast import Publisher, wire
from scopecast.runs import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def viewers() -> Iterator[RunDirectory]:
    """Ends the viewers that were started, which outlive the producers that started them."""
    directory = RunDirectory()
    yield directory
    entries = directory.living("receiver")
    for entry in entries:
        os.kill(entry.pid, signal.SIGTERM)
    wait_until(lambda: not directory.living("receiver"), "the viewers have ended")


def test_p13_three_workers_at_once_start_one_viewer_which_shows_all(viewers):
    workers = [Child("produce", 10, "--launch", "--go", "--ending", "wait", "--title", f"w{n}") for n in range(3)]
    try:
        for worker in workers:
            assert worker.line() == "ready"
        for worker in workers:  # all of them wait at the same barrier
            worker.tell()
        rows = [row for worker in workers for row in worker.line(60)]
        (viewer,) = viewers.living("receiver")
        assert rows == [[viewer.token, 10]] * 3
        assert len(list(viewers.path.glob("*.log"))) == 1, "no other was even started"
        for worker in workers:
            frames = worker.ask()["frames"]
            assert (frames["published"], frames["delivered"]) == (10, 10)
            assert worker.wait() == 0
    finally:
        for worker in workers:
            worker.close()


@pytest.mark.parametrize("ending", ["close", "none"])
def test_a_short_script_that_starts_a_viewer_loses_nothing(viewers, ending):
    with Child("produce", 5, "--launch", "--ending", ending) as child:
        frames = child.line(60)["frames"]
        assert (frames["published"], frames["delivered"]) == (5, 5)
        assert child.wait() == 0, child.errors
        assert "Traceback" not in child.errors


def test_close_waits_for_the_viewer_that_a_publisher_is_starting(viewers):
    """Under "latest" publish() returns at once, long before the viewer is there."""
    with Publisher("headless", launch=True) as publisher:
        publisher.open((64, 48))
        wait_until(lambda: publisher.publish(stamped(3), axes={"t": 3}) >= 0, "the ring is made")
        assert not list(publisher.stats()), "the viewer is not there yet"
    (row,) = publisher.stats()
    assert row.frames.delivered >= 1
    assert publisher.stats().balanced


def broken_viewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Path:
    """Put a package before the real one that runs `program`; return the file where it notes each start."""
    package = tmp_path / "scopecast_viewers"
    package.mkdir()
    starts = tmp_path / "starts"
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(f"open({str(starts)!r}, 'a').write('x')\n{program}\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return starts


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("policy", ["latest", "every"])
def test_v6_a_viewer_that_ends_at_once_costs_one_warning(tmp_path, monkeypatch, caplog, policy):
    starts = broken_viewer(tmp_path, monkeypatch, "import sys\nsys.exit('ImportError: this viewer lacks its Qt')")
    with Publisher("headless", launch=True, policy=policy) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        wait_until(lambda: warnings_of(caplog))
        sequences = [publisher.publish(stamped(t), axes={"t": t}, policy="every") for t in range(1, 50)]
        assert sequences == sorted(sequences)
        assert -1 not in sequences
        stats = publisher.stats()
        assert stats.frames.skipped == stats.frames.published == 50
        assert stats.balanced
        assert set(stats.skipped) <= {"no viewer", "opening"}
    (text,) = warnings_of(caplog)
    assert "exit code 1" in text
    assert "ImportError: this viewer lacks its Qt" in text
    assert starts.read_text() == "x"


def test_v6_a_viewer_that_never_says_hello_is_ended(tmp_path, monkeypatch, caplog):
    program = "print('waiting for a licence', flush=True)\nimport time; time.sleep(99)"
    starts = broken_viewer(tmp_path, monkeypatch, program)
    with Publisher("headless", launch=True, policy="every", timeout=1.5) as publisher:
        for t in range(20):
            assert publisher.publish(stamped(t), axes={"t": t}) == t
    (text,) = warnings_of(caplog)
    assert "not ready" in text
    assert "waiting for a licence" in text
    assert starts.read_text() == "x"


def test_v6_without_a_screen_no_viewer_is_started(monkeypatch, caplog):
    pytest.importorskip("napari")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with Publisher("napari", launch=True, policy="every") as publisher:
        for t in range(20):
            assert publisher.publish(stamped(t), axes={"t": t}) == t
        assert publisher.stats().skipped == {"no viewer": 20}
    (text,) = warnings_of(caplog)
    assert "no screen" in text
    assert not list(RunDirectory().path.glob("*.log"))


def test_v6_a_viewer_that_nobody_has_installed(caplog):
    with Publisher("telescope", launch=True, policy="every") as publisher:
        assert publisher.publish(stamped(0)) == 0
    (text,) = warnings_of(caplog)
    assert "no viewer of the kind 'telescope'" in text


def test_a_viewer_whose_protocol_is_refused_is_not_waited_for():
    """An "every" publisher waits for the viewers that are ready; one that it can't serve is none of them."""
    viewer = Viewer()
    viewer.receiver._hello = wire.Hello(9, 9, viewer.token, "headless", os.getpid())
    with viewer, Publisher("headless", timeout=3600.0) as publisher:
        assert publisher.publish(stamped(0), policy="every") == 0
        assert publisher.stats().skipped == {"no viewer": 1}
