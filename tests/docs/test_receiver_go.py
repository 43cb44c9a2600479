"""The receiver in Go, `examples/receiver-go`, beside a real publisher: what it prints, and what becomes of both.

It runs where there is a `go` that can build it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

from children import Child, stop, wait_until
from receivers import stamped
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "examples/receiver-go"
WAIT_S = 40.0


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform != "linux":
        pytest.skip("the receiver in Go is for Linux")
    if not (go := shutil.which("go") or shutil.which("/usr/local/go/bin/go")):
        pytest.skip("there is no `go`")
    built = tmp_path_factory.mktemp("go") / "receiver-go"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false -mod=readonly"}
    done = subprocess.run(
        [go, "build", "-o", built, "."], cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=240
    )
    if done.returncode and ("dial tcp" in done.stderr or "requires go" in done.stderr or "lookup" in done.stderr):
        pytest.skip(f"`go build` can't get what it needs: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return built


class GoReceiver:
    """The program, and the lines that it has printed."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, "-kind", "headless", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self._threads = [
            threading.Thread(target=self._read, args=(pipe, take), daemon=True)
            for pipe, take in ((self.process.stdout, self._lines.put), (self.process.stderr, self.said.append))
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, pipe: Any, take: Any) -> None:
        for line in pipe:
            take(line.decode().rstrip("\n"))

    def line(self) -> str:
        """The next line about a frame."""
        return self._lines.get(timeout=WAIT_S)

    def wait_until_it_said(self, what: str) -> None:
        wait_until(lambda: any(what in line for line in self.said))

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@contextlib.contextmanager
def publishing(**options: Any) -> Iterator[Publisher]:
    with Publisher("headless", policy="every", launch=False, **options) as publisher:
        publisher.open((64, 48), "uint16")
        wait_until(lambda: publisher.session.slot_bytes)  # type: ignore[union-attr]
        yield publisher


def attached(publisher: Publisher) -> list[Any]:
    return [row for row in publisher.stats().receivers if row.attached]


def told(pixels: np.ndarray[Any, Any]) -> str:
    """What the program prints of a frame, beside its place."""
    shape = ",".join(map(str, pixels.shape))
    least, most = (f"{value:.12g}" for value in (pixels.min().item(), pixels.max().item()))
    return f"shape=[{shape}] dtype={pixels.dtype.str} min={least} max={most}"


def test_it_prints_what_was_published_and_saves_its_pixels(program: Path, tmp_path: Path):
    with publishing(title="camera") as publisher, GoReceiver(program, "-pgm", str(tmp_path)) as receiver:
        wait_until(lambda: attached(publisher))
        stream = publisher.new_stream("run \x1b[2J", channels=["DAPI", "FITC"])
        for t in range(3):
            for c in ("DAPI", "FITC"):
                pixels = stamped(t, c == "FITC")
                publisher.publish(pixels, axes={"t": t, "c": c}, stream=stream)
                line, path = receiver.line().rsplit(" ", 1)
                assert line == rf"run \x1b[2J image t={t} c={c} {told(pixels)}".replace("\\", "\\\\")
                header, saved = Path(path).read_bytes().split(b"\n65535\n", 1)
                assert header == b"P5\n48 64"
                assert (np.frombuffer(saved, ">u2").reshape(64, 48) == pixels).all()
        other = publisher.new_stream("others")
        for dtype in ("uint8", "int8", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"):
            pixels = stamped(7, shape=(9, 11), dtype=dtype)
            publisher.publish(pixels, axes={"t": 7}, stream=other)
            assert receiver.line().startswith(f"others image t=7 {told(pixels)}")
        for pixels in (stamped(8, shape=(9, 11, 3), dtype="uint8"), np.arange(12, dtype=">u2").reshape(3, 4)):
            publisher.publish(pixels, axes={"t": 8}, stream=other)
            assert receiver.line().startswith(f"others image t=8 {told(pixels.astype(pixels.dtype.newbyteorder('=')))}")
        large = stamped(9, shape=(1500, 1500))  # in another segment
        publisher.publish(large, axes={"t": 9}, stream=other)
        assert receiver.line().startswith(f"others image t=9 {told(large)}")
        publisher.publish(np.zeros((3, 2)), kind="points", stream=other)
        assert publisher.flush(WAIT_S)
        (row,) = publisher.stats().receivers
        assert (row.title, row.frames.delivered, row.frames.skipped) == ("receiver-go", 18, 1)
        assert publisher.stats().balanced


def test_a_frame_from_before_an_axis_joined_has_its_place(program: Path):
    with publishing() as publisher:
        stream = publisher.new_stream("run")
        publisher.publish(stamped(4), axes={"t": 4}, stream=stream)
        publisher.publish(stamped(5, 1), axes={"t": 5, "c": 1}, stream=stream)
        with GoReceiver(program) as receiver:
            lines = [receiver.line(), receiver.line()]
            assert lines == [f"run image t=4 {told(stamped(4))}", f"run image t=5 c=1 {told(stamped(5, 1))}"]


def test_it_says_goodbye_and_leaves_nothing(program: Path):
    with publishing() as publisher, GoReceiver(program) as receiver:
        wait_until(lambda: attached(publisher))
        receiver.signal(signal.SIGTERM)
        assert receiver.process.wait(WAIT_S) == 0
        wait_until(lambda: not attached(publisher))
        directory = RunDirectory()
        assert [entry.role for entry in directory.entries()] == ["publisher"]
        assert directory.clean()[:3] == ([], [], 0)


def test_it_answers_goodbye_and_attaches_to_the_next(program: Path):
    with GoReceiver(program) as receiver:
        for t in range(2):
            with publishing(title=f"number {t}") as publisher:
                wait_until(lambda publisher=publisher: attached(publisher))
                publisher.publish(stamped(t), axes={"t": t})
                assert f" t={t} {told(stamped(t))}" in receiver.line()
            receiver.wait_until_it_said(f"number {t} has ended")


def test_stopped_it_is_given_up_and_comes_back(program: Path):
    with publishing() as publisher, GoReceiver(program) as receiver:
        wait_until(lambda: attached(publisher))
        stop(receiver.process.pid)
        publisher.publish(stamped(0), axes={"t": 0})
        wait_until(lambda: not attached(publisher))
        assert publisher.flush(WAIT_S)
        assert publisher.stats().frames.dropped == 1
        receiver.signal(signal.SIGCONT)
        wait_until(lambda: attached(publisher))
        publisher.publish(stamped(1), axes={"t": 1})
        while f" t=1 {told(stamped(1))}" not in receiver.line():
            pass
        assert publisher.flush(WAIT_S)
        assert publisher.stats().balanced


def test_killed_it_costs_the_publisher_nothing(program: Path):
    with publishing() as publisher:
        with GoReceiver(program) as receiver:
            wait_until(lambda: attached(publisher))
            receiver.signal(signal.SIGKILL)
            wait_until(lambda: not attached(publisher))
        assert len(RunDirectory().clean().members) == 1
        with GoReceiver(program) as again:
            wait_until(lambda: attached(publisher))
            publisher.publish(stamped(1), axes={"t": 1})
            assert told(stamped(1)) in again.line()
            assert publisher.flush(WAIT_S)
            assert publisher.stats().frames.delivered == 1


def test_it_notices_that_a_publisher_was_killed(program: Path):
    with GoReceiver(program) as receiver:
        with Child("truncated", "every") as producer:
            receiver.wait_until_it_said("attached to")
            os.kill(producer.pid, signal.SIGKILL)
            producer.wait()
        receiver.wait_until_it_said("its process died")
        RunDirectory().clean()
        with publishing() as publisher:
            wait_until(lambda: attached(publisher))
