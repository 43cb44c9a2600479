"""Receivers for the tests: one inside the test's own process, one as a process of its own; and frames that tell.

Everything is real: the run directory, the sockets, the shared memory. Waiting is for a condition, with a deadline.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from scopecast.rundir.directory import Entry, RunDirectory, new_token
from scopecast_viewers.headless import HeadlessDisplay
from scopecast_viewers.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source
    from scopecast_viewers.stacks.history import History

__all__ = ["Viewer", "ViewerProcess", "WatchedDisplay", "check_stamp", "planes_of", "stamped", "viewer_process"]

_POLL = 0.01  # seconds between two looks at another process
_HEADER = 8  # pixels that hold t (four), c (two) and z (two)
_DIGIT = 100


# ---- frames that tell --------------------------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _ramp(size: int, modulus: int) -> npt.NDArray[np.int64]:
    ramp = np.arange(size, dtype=np.int64) * 7919 % modulus
    ramp.flags.writeable = False
    return ramp


def _modulus(dtype: np.dtype[Any]) -> int:
    """Return a prime below which every integer is exact in `dtype`."""
    if dtype.kind == "b":
        raise ValueError("a stamp needs more than one bit a pixel")
    if dtype.itemsize == 1:
        return 113  # int8 too
    return 1999 if dtype.str[1:] == "f2" else 32749


def stamped(
    t: int, c: int = 0, z: int = 0, shape: tuple[int, ...] = (64, 48), dtype: npt.DTypeLike = "uint16"
) -> npt.NDArray[Any]:
    """Return a frame in which every pixel depends on t, c, z and on its own place.

    Parameters
    ----------
    t, c, z
        t below 10^8, c and z below 10^4.
    shape
        (y, x) or (y, x, 3 or 4), of at least 8 pixels.
    dtype
        Any but bool.
    """
    made = np.dtype(dtype)
    size, modulus = int(np.prod(shape)), _modulus(made)
    pixels = (_ramp(size, modulus) + (t * 40503 + c * 104729 + z * 1299709)) % modulus
    digits = [t // _DIGIT**power % _DIGIT for power in (3, 2, 1, 0)]
    digits += [number // _DIGIT**power % _DIGIT for number in (c, z) for power in (1, 0)]
    pixels[:_HEADER] = digits
    return pixels.astype(made).reshape(shape)


def check_stamp(plane: npt.NDArray[Any]) -> tuple[int, int, int]:
    """Return (t, c, z) of a stamped frame; raise AssertionError if any pixel is another frame's, or elsewhere."""
    digits = [int(value) for value in np.real(np.asarray(plane).reshape(-1)[:_HEADER])]
    t = sum(digit * _DIGIT**power for digit, power in zip(digits[:4], (3, 2, 1, 0), strict=True))
    c, z = digits[4] * _DIGIT + digits[5], digits[6] * _DIGIT + digits[7]
    wrong = np.flatnonzero(np.asarray(plane) != stamped(t, c, z, plane.shape, plane.dtype))
    if len(wrong):
        raise AssertionError(f"{len(wrong)} of {plane.size} pixels are not of the frame {(t, c, z)}, from {wrong[0]}")
    return t, c, z


def planes_of(stream: LiveStream) -> dict[tuple[int, ...], npt.NDArray[Any]]:
    """Return the planes that a stream has now, by index; of streams with one shape and dtype."""
    (stack,) = stream.stacks
    return {index: plane for index in tuple(stack.layout.planes) if (plane := stack.plane(index)) is not None}


# ---- a receiver in this process ----------------------------------------------------------------------------------


class WatchedDisplay(HeadlessDisplay):
    """A display without a window that tells whoever waits when something is new.

    Attributes
    ----------
    news : threading.Condition
        Notified whenever something is new.
    version : int
        How often that was.
    """

    def __init__(self, kind: str = "headless") -> None:
        super().__init__()
        self.kind = kind  # type: ignore[misc] - the display of any kind of viewer
        self.news = threading.Condition()
        self.version = 0

    def changed(self) -> None:
        with self.news:
            self.version += 1
            self.news.notify_all()


class Viewer:
    """A receiver inside this process, which attaches to every publisher of its kind.

    >>> with Viewer() as viewer:  # doctest: +SKIP
    ...     viewer.wait_for(lambda: viewer.attached)

    Attributes
    ----------
    display : WatchedDisplay
    receiver : scopecast_viewers.receiver.Receiver
    """

    def __init__(
        self,
        kind: str = "headless",
        *,
        title: str = "",
        directory: RunDirectory | None = None,
        history: History | None = None,
        display: WatchedDisplay | None = None,
    ) -> None:
        self.display = display or WatchedDisplay(kind)
        self.receiver = Receiver(self.display, title=title, directory=directory, history=history)

    @property
    def token(self) -> str:
        """The receiver's token."""
        return self.receiver.member.token

    @property
    def sources(self) -> tuple[Source, ...]:
        """The publishers that it is or was attached to."""
        return self.receiver.sources

    @property
    def streams(self) -> tuple[LiveStream, ...]:
        """The streams of all of them."""
        return self.receiver.streams

    @property
    def attached(self) -> bool:
        """Whether it is attached to any publisher now."""
        return any(source.state == "attached" for source in self.sources)

    def wait_for(self, predicate: Callable[[], Any], timeout: float = 40.0) -> Any:
        """Return what `predicate` returns, as soon as that is true; AssertionError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            seen = self.display.version
            if found := predicate():
                return found
            with self.display.news:
                left = deadline - time.monotonic()
                if self.display.version == seen and left > 0:
                    # What a predicate looks at beside the streams (accounts) may change without news.
                    self.display.news.wait(min(left, 0.02))
            if time.monotonic() >= deadline and not predicate():
                states = [(source.entry.title, source.state, source.problem) for source in self.sources]
                counts = [(stream.about.title, stream.received) for stream in self.streams]
                raise AssertionError(f"not so after {timeout:g} s; sources {states}, streams {counts}")

    def close(self) -> None:
        """Say goodbye to the publishers, and let go of everything. Idempotent."""
        self.receiver.close()
        self.display.pool.close()

    def __enter__(self) -> Self:
        self.receiver.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- a receiver as a process of its own --------------------------------------------------------------------------


class ViewerProcess(NamedTuple):
    """A viewer's process, and what it says of itself in the run directory."""

    process: subprocess.Popen[bytes]
    entry: Entry
    directory: RunDirectory

    @property
    def token(self) -> str:
        """Its token."""
        return self.entry.token

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """What it has written."""
        return self.directory.file(self.token, "log").read_text(errors="replace")


@contextlib.contextmanager
def viewer_process(
    kind: str = "headless",
    *,
    directory: RunDirectory | None = None,
    timeout: float = 30.0,
    environment: Mapping[str, str] = {},
    arguments: tuple[str, ...] = (),
) -> Iterator[ViewerProcess]:
    """Start ``python -m scopecast_viewers KIND`` and wait until the run directory says that it is ready.

    At the end it is asked to quit if it still runs, and killed if it does not.
    """
    directory = directory or RunDirectory()
    token = new_token()
    log = directory.file(token, "log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "scopecast_viewers", kind, "--token", token, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "SCOPECAST_RUNTIME_DIR": str(directory.path), **environment},
            start_new_session=True,
        )
    try:
        yield ViewerProcess(process, _await_ready(directory, token, process, timeout), directory)
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # stopped, or stuck: the test is over in any case
            process.kill()
            process.wait(10)


def _await_ready(directory: RunDirectory, token: str, process: subprocess.Popen[bytes], timeout: float) -> Entry:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for entry in directory.entries("receiver"):
            if entry.token == token and entry.state == "ready":
                return entry
        if process.poll() is not None:
            break
        time.sleep(_POLL)
    log = directory.file(token, "log").read_text(errors="replace")
    raise AssertionError(f"the viewer is not ready (exit code {process.poll()}):\n{log}")
