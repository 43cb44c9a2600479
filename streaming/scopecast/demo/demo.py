"""The demo: Micro-Manager's core runs a sequence with its simulated camera, and the frames appear in a viewer.

`prepare` loads the microscope and opens the viewer, `Demo.run` acquires and returns the figures. Nothing is printed
here; what happens is told to a `Progress`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from scopecast.demo.microscope import demo_microscope, demo_sequence
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.errors import DemoError
from scopecast.publishing.launch import end_viewer, find_or_start_viewer
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from scopecast.backends.streaming import StreamingBackend
    from scopecast.publishing.accounts import ReceiverStats, Stats
    from scopecast.rundir.directory import Entry
from scopecast.demo.options import BACKENDS, Options
from scopecast.showing.show import BREAK_OFF_S, START_S

__all__ = ["Demo", "DemoError", "Figures", "Percentiles", "Progress", "measure_memcpy", "prepare"]

#: Seconds that a viewer may take to close before it is killed.
END_S: Final = 15.0
#: A viewer tells what it has painted every 0.5 s; two reports with the same figure, and it has painted all.
_SETTLED_S: Final = 1.1
_SETTLE_S: Final = 20.0
_DTYPE: Final = "uint16"
_MEMCPY_FRAMES: Final = 32
_MEMCPY_BYTES: Final = 2**30
#: Seconds that copies are measured for, and at how many a second at least.
_MEMCPY_S: Final = 1.5
_SLOWEST_MEMCPY: Final = 20.0


class Percentiles(NamedTuple):
    """A median and a 99th percentile, both in milliseconds."""

    p50: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the demo measured.

    Attributes
    ----------
    published, delivered, superseded, dropped, skipped, in_flight
        What became of the frames; see `scopecast.FrameCounts`.
    painted
        Frames that were on the screen.
    publish_ms, memcpy_ms
        What it cost to publish a frame, and what it costs to copy one, without anything else.
    age_ms
        Age of a frame when it was painted.
    fps
        Frames published per second of the run.
    seconds
        How long the run took.
    skipped_because
        How many frames were skipped for which reason.
    """

    published: int
    delivered: int
    superseded: int
    dropped: int
    skipped: int
    in_flight: int
    painted: int
    publish_ms: Percentiles
    memcpy_ms: Percentiles
    age_ms: Percentiles
    fps: float
    seconds: float
    skipped_because: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as they are written by ``--json``."""
        names = ("published", "delivered", "superseded", "dropped", "skipped", "in_flight", "painted")
        return {
            **{name: getattr(self, name) for name in names},
            "publish_ms": self.publish_ms._asdict(),
            "memcpy_ms": self.memcpy_ms._asdict(),
            "age_ms": self.age_ms._asdict(),
            "fps": self.fps,
        }


class Progress(Protocol):
    """Is informed of the demo's progress."""

    def doing(self, what: str) -> None:
        """Take note of a step that takes a while, such as ``"starting napari"``."""

    def progress(self, done: int, total: int, stats: Stats) -> None:
        """Take note of the run's progress, about ten times a second."""


class Demo:
    """A microscope and a viewer, ready to run; made by `prepare`.

    Attributes
    ----------
    stays : bool
        Whether the viewer stays open afterwards.
    """

    def __init__(
        self,
        options: Options,
        core: Any,
        lives: Sequence[StreamingBackend],
        viewers: Sequence[_Viewer],
        progress: Progress,
    ) -> None:
        self.options = options
        self.stays = any(viewer.keep for viewer in viewers)
        self._core, self._lives, self._viewers, self._progress = core, list(lives), list(viewers), progress
        self._live, self._viewer = self._lives[0], self._viewers[0]

    def run(self) -> Figures:
        """Acquire the sequence, wait until the viewer has painted it, and return the figures.

        Raises
        ------
        DemoError
            If the acquisition failed.
        """
        total = self.options.frames
        failures: list[Exception] = []
        began = time.perf_counter()
        thread = threading.Thread(target=self._acquire, args=(failures,), name="demo-acquisition", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.1)
                stats = self._live.stats()
                self._progress.progress(stats.frames.published, total, stats)
        except BaseException:
            self._core.mda.cancel()
            thread.join(10.0)
            raise
        seconds = time.perf_counter() - began
        if failures:
            # An error in a signal's callback comes wrapped in a report of many lines.
            raise DemoError(f"the acquisition failed: {failures[0].__cause__ or failures[0]}") from failures[0]
        self._progress.doing("waiting for the last frames")
        for live in self._lives:
            live.flush(10.0)
        for live, viewer in zip(self._lives[1:], self._viewers[1:], strict=True):
            self._settle(live, viewer)
        stats, row = self._settle(self._live, self._viewer)
        self._progress.progress(stats.frames.published, total, stats)
        self._progress.doing("measuring memcpy for comparison")
        memcpy = measure_memcpy((self.options.height, self.options.width), stats.frames.published / seconds)
        return Figures(
            **stats.frames._asdict(),
            painted=row.painted if row else 0,
            publish_ms=Percentiles(*stats.publish_ms),
            memcpy_ms=memcpy,
            age_ms=Percentiles(*row.age_ms) if row else Percentiles(),
            fps=stats.frames.published / seconds,
            seconds=seconds,
            skipped_because=dict(stats.skipped),
        )

    def _acquire(self, failures: list[Exception]) -> None:
        # What `core.run_mda` does in a thread of its own; there, an error would only be printed.
        try:
            self._core.mda.run(demo_sequence(self.options), output=self._lives)
        except Exception as error:  # noqa: BLE001 - raised by `run`
            failures.append(error)

    def _settle(self, live: StreamingBackend, viewer: _Viewer) -> tuple[Stats, ReceiverStats | None]:
        """Wait until a viewer paints no more of the frames; return the figures as they are then."""
        deadline = time.monotonic() + _SETTLE_S
        painted, since = -1, time.monotonic()
        while True:
            stats = live.stats()
            row = _row(stats, viewer.token)
            now = time.monotonic()
            if row is None or not row.attached or now > deadline:
                return stats, row
            if row.painted != painted:
                painted, since = row.painted, now
            elif now - since >= _SETTLED_S and (painted or viewer.entry.kind == "headless" or not row.frames.delivered):
                return stats, row  # not before a window has shown anything: a busy machine takes seconds for that
            time.sleep(0.05)

    def capture(self, path: Path) -> list[Path]:
        """Save a picture of the viewer's window as PNG; of each, with its kind in the file's name, if there are two.

        Raises
        ------
        DemoError
            If the viewer made none.
        """
        kinds = self.options.viewers
        paths = [path if len(kinds) == 1 else path.with_stem(f"{path.stem}-{kind}") for kind in kinds]
        try:
            for live, each in zip(self._lives, paths, strict=True):
                live.publisher.capture(each)
        except RuntimeError as error:
            raise DemoError(str(error)) from error
        return paths

    def wait_until_closed(self) -> None:
        """Wait until the viewer's window is closed. Frames are published no more from here on."""
        for live in self._lives:
            live.close(linger=5.0)
        for viewer in self._viewers:
            viewer.wait_until_closed()

    @property
    def screen_is_virtual(self) -> bool:
        """Whether the window is on a virtual screen, which ends with the demo."""
        return any(viewer.screen_is_virtual for viewer in self._viewers)


@contextlib.contextmanager
def prepare(options: Options, progress: Progress) -> Iterator[Demo]:
    """Load the microscope and open a viewer, for the time of the context.

    A viewer that runs already is used, and stays. One that is started here ends with the context, unless it is to be
    kept; if the context ends with an exception, it ends in any case.

    Parameters
    ----------
    options
        What is to be acquired and shown.
    progress
        Is told what goes on.

    Raises
    ------
    DemoError
        If something of the options is not possible, or not installed.
    ViewerStartError, ScreenError
        If the viewer can't be started.
    """
    options.check()
    options.require()
    progress.doing("loading Micro-Manager's core")
    with contextlib.ExitStack() as stack:
        core = stack.enter_context(demo_microscope(options))
        viewers, lives = [], []
        # One screen for all viewers: the second must not find the virtual one of the first, and take it for the user's.
        virtual = _needs_window(options.viewers) and stack.enter_context(ensure_screen())
        for kind in options.viewers:
            progress.doing(f"starting {kind}")
            viewers.append(stack.enter_context(_open_viewer(kind, options.keep, virtual=virtual)))
            live = stack.enter_context(_streaming(kind, options))
            live.publisher.open((options.height, options.width), _DTYPE, wait=START_S)
            row = _row(live.stats(), viewers[-1].token)
            if row is None or not row.attached:
                raise DemoError(
                    f"the {kind} viewer (process {viewers[-1].entry.pid}) is running but has not attached; "
                    f"close it and try again"
                )
            lives.append(live)
        yield Demo(options, core, lives, viewers, progress)


def _needs_window(kinds: Sequence[str]) -> bool:
    """Whether a viewer with a window must be started."""
    running = {entry.kind for entry in RunDirectory().living("receiver") if entry.state == "ready"}
    return any(kind != "headless" and kind not in running for kind in kinds)


@contextlib.contextmanager
def _streaming(kind: str, options: Options) -> Iterator[StreamingBackend]:
    live = BACKENDS[kind](title=options.title, launch=False, linger=5.0)
    try:
        yield live
    except BaseException:
        live.close(linger=0.0)
        raise
    live.close()


def _row(stats: Stats, token: str) -> ReceiverStats | None:
    """Return the row of a receiver, the newest if it attached again."""
    rows = [row for row in stats.receivers if row.token == token]
    return rows[-1] if rows else None


def measure_memcpy(shape: tuple[int, int], rate: float) -> Percentiles:
    """Measure what a plain copy of a uint16 frame costs at the pace of the run, to compare `publish` with.

    In between, as during the run, other programs have the caches: one copy after the other would be faster.

    Parameters
    ----------
    shape
        Of a frame, (y, x).
    rate
        Frames per second; at less than 20 it is measured at 20.
    """
    pause = 1.0 / max(rate, _SLOWEST_MEMCPY)
    copies = max(30, min(200, round(_MEMCPY_S / pause)))
    frame = np.ones(shape, _DTYPE)
    slots = max(2, min(_MEMCPY_FRAMES, _MEMCPY_BYTES // frame.nbytes))
    targets = np.ones((slots, *shape), _DTYPE)  # written to, so that no page is made during the measurement
    costs = np.empty(copies)
    begin = time.perf_counter()
    for number in range(copies):
        time.sleep(max(0.0, begin + number * pause - time.perf_counter()))
        began = time.perf_counter_ns()
        np.copyto(targets[number % slots], frame)
        costs[number] = time.perf_counter_ns() - began
    p50, p99 = np.percentile(costs, (50, 99)) / 1e6
    return Percentiles(float(p50), float(p99))


# ---- the viewer ------------------------------------------------------------------------------------------------------


class _Viewer:
    """The viewer that shows the demo."""

    def __init__(self, entry: Entry, directory: RunDirectory, *, keep: bool, screen_is_virtual: bool) -> None:
        self.entry, self.token = entry, entry.token
        self.keep, self.screen_is_virtual = keep, screen_is_virtual
        self._directory = directory

    def wait_until_closed(self) -> None:
        while self._directory.alive(self.token):
            time.sleep(0.1)


@contextlib.contextmanager
def _open_viewer(kind: str, keep: bool | None, *, virtual: bool) -> Iterator[_Viewer]:
    """Find the viewer of a kind or start one; end it afterwards if it was started here and is not to be kept."""
    directory = RunDirectory()
    running = any(entry.state == "ready" for entry in directory.living("receiver", kind))
    virtual = virtual and kind != "headless" and not running
    kept = running or (kind != "headless" and not virtual if keep is None else keep)
    starts: list[None] = []  # ours, if there is one
    entry = find_or_start_viewer(directory, kind, timeout=START_S, starting=lambda: starts.append(None))
    try:
        yield _Viewer(entry, directory, keep=kept, screen_is_virtual=virtual)
    except BaseException:
        if starts:
            end_viewer(entry, directory, BREAK_OFF_S)
        raise
    if starts and (virtual or not kept):
        end_viewer(entry, directory, END_S)
