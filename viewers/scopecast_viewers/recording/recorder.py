"""The recorder: takes every frame that is published, and writes each run to a file of its own.

Threads: one copies the frames out of shared memory, a second one writes them to the journals of their runs, a third
makes files of the runs that are over. Between the first two lie at most `memory` bytes. Where the disk does not
keep up, that fills, and then the shared memory of the publishers: those of the policy ``every`` wait, and those of
``latest`` go on, and what they supersede is counted.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import numpy as np

from scopecast.errors import FrameGoneError
from scopecast.protocol import clock_ns
from scopecast_viewers.receiving.saving import claim, claimed
from scopecast_viewers.recording.assembly import finish, write_run
from scopecast_viewers.recording.journal import Journal, Recorded, RecordedFrame, check_room
from scopecast_viewers.recording.tap import CaughtFrame, RunOver
from scopecast_viewers.stacks.pool import PlanePool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from scopecast.link import messages
    from scopecast_viewers.recording.tap import Tap

__all__ = ["Recorder", "RecorderCounts"]

_TURN_S: Final = 0.1
#: So much longer the past is in memory than is to be kept: a program's request comes a moment after it was made.
_MARGIN_NS: Final = 3_000_000_000
#: A run that has not been ended is over when its program has begun another, and no frame has come for so long.
_QUIET_S: Final = 2.0
#: The same of a run of another machine, whose last frames come when the link has room for them.
_QUIET_ELSEWHERE_S: Final = 60.0
#: Seconds of rest after what failed.
_REST_S: Final = 0.05
#: Frames that were published before the recorder is to keep what it has, or to end, may take so long to come.
_PATIENCE_NS: Final = 5_000_000_000

#: What is said of how a program went, by how that was.
_HOW: Final[dict[str, str]] = {
    "ended": "",
    "died": "; {} has died",
    "gone": "; {} ended while this recorder did not answer",
}
_ALL_THAT_CAME: Final = "every exact frame that came from the other machine"
_Key = tuple[str, int]  # the publisher's token, and the number of the stream


class RecorderCounts(NamedTuple):
    """What has become of the frames, of all runs together.

    Attributes
    ----------
    taken
        Frames that have come: the sum of the next three.
    written
        Frames that are on the disk.
    waiting
        Frames that are in memory: to be written, or the past that is kept there.
    lost
        Frames for which the disk had no room.
    passed
        Frames that were let go of, as they are longer ago than is to be kept, or the memory is full.
    missed
        Frames that were published, and have not come.
    """

    taken: int
    written: int
    waiting: int
    lost: int
    passed: int
    missed: int


class _Caught(NamedTuple):
    key: _Key
    source: str
    about: messages.Stream
    message: messages.Frame
    plane: npt.NDArray[Any]


class _Run:
    """A run that is being recorded."""

    def __init__(self, key: _Key, source: str, missed: int, *, from_elsewhere: bool = False) -> None:
        self.key, self.source, self.missed_before = key, source, missed
        self.from_elsewhere = from_elsewhere
        self.journal: Journal | None = None
        self.title = ""
        self.lost = self.missed = 0
        self.newest = time.monotonic()
        self.how, self.is_known = "ended", True


class Recorder:
    """Records what a tap gives until there is nothing any more, or it is closed.

    Use it as a context manager: `close` finishes the files.

    Parameters
    ----------
    tap
        The frames; the recorder starts and closes it.
    folder
        Where the files go.
    form
        The end of their names, one of `scopecast_viewers.receiving.formats.FORMATS`.
    memory
        Bytes of frames that are in memory at most: those that wait for the disk, or the past.
    leave_free
        Bytes of the disk that are left to others.
    last_s
        Keep so many seconds in memory, and write them when `keep` is called or a program has died; None: write all.
    tell
        Called with each line that the user is to see, in any thread.

    Attributes
    ----------
    failed : bool
        Whether a file could not be made.
    """

    def __init__(
        self,
        tap: Tap,
        folder: Path,
        form: str,
        *,
        memory: int,
        leave_free: int,
        last_s: float | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._tap, self._folder, self._form = tap, folder, form
        self._memory, self._leave_free, self._last_s, self._tell = memory, leave_free, last_s, tell
        self._pool = PlanePool()
        self._runs: dict[_Key, _Run] = {}
        self._changed = threading.Condition()
        self._queue: deque[_Caught | _Run] = deque()  # in memory; a run behind its last frame
        self._bytes = 0
        self._taken = self._written = self._lost = self._passed = self._missed = 0
        self._missed_of: dict[str, int] = {}
        self._asked: deque[int] = deque()
        self._kept: dict[_Key, tuple[int, int]] = {}  # the numbers of the first and of the last frame in the last file
        self.failed = self._stopping = self._closing = self._closed = False
        self._ended = threading.Event()
        self._complained = ""
        self._files = ThreadPoolExecutor(1, "scopecast-files")
        self._taker = threading.Thread(target=self._take_all, name="scopecast-recorder", daemon=True)
        self._writer = threading.Thread(target=self._write_all, name="scopecast-writer", daemon=True)
        tap.asked_to_keep = self.keep

    # ---- from any thread -----------------------------------------------------------------------------------------

    @property
    def counts(self) -> RecorderCounts:
        """What has become of the frames so far."""
        with self._changed:
            waiting = self._taken - self._written - self._lost - self._passed
            return RecorderCounts(self._taken, self._written, waiting, self._lost, self._passed, self._missed)

    def keep(self, moment_ns: int = 0) -> None:
        """Write what is in memory of the last seconds; it stays there. Several at once are one.

        Parameters
        ----------
        moment_ns
            When that was wanted, by `scopecast.protocol.clock_ns`; now by default.
        """
        if self._last_s is not None:
            self._asked.append(moment_ns or clock_ns())

    def wait(self, timeout: float) -> bool:
        """Wait until nobody has published for as long as the tap is to wait. Return whether it is so."""
        return self._ended.wait(timeout)

    # ---- the thread that takes the frames ------------------------------------------------------------------------

    def _take_all(self) -> None:
        while not (self._stopping or self._tap.over):
            self._turn()
        asked = clock_ns()
        while not self._has_all_until(asked):
            self._turn()
        self._tap.close()
        self._stopping = True
        while self._tap.waiting:  # what has come since is not recorded any more; the runs are over
            self._turn()
        self._keep_as_asked()
        self._ended.set()

    def _turn(self) -> None:
        try:
            self._take_next()
        except Exception as error:  # noqa: BLE001 - there is no other thread that would take them; told
            self._complain(f"A frame could not be taken: {type(error).__name__}: {error}.")
            time.sleep(_REST_S)

    def _complain(self, text: str) -> None:
        """Tell of an error, but not again as long as it is the same."""
        if text != self._complained:
            self._complained = text
            self._tell(text)

    def _take_next(self) -> None:
        caught = self._tap.next(_TURN_S)
        if isinstance(caught, RunOver):
            self._end(caught)
        elif caught is not None:
            self._take(caught)
        now = time.monotonic()
        if self._last_s is not None:
            self._pass()
            if self._asked and self._has_all_until(max(self._asked)):
                self._keep_as_asked()
        for run in tuple(self._runs.values()):
            newer = any(key[0] == run.key[0] and key[1] > run.key[1] for key in self._runs)
            if newer and now - run.newest > (_QUIET_ELSEWHERE_S if run.from_elsewhere else _QUIET_S):
                self._finish(run)

    def _has_all_until(self, moment_ns: int) -> bool:
        """Whether all that was published until a moment has come, or has had the time to."""
        return self._tap.has_all_until(moment_ns) or clock_ns() - moment_ns > _PATIENCE_NS

    def _take(self, caught: CaughtFrame) -> None:
        if caught.lost and self._stopping:
            return
        key = (caught.publisher.token, caught.message.stream)
        run = self._runs.get(key)
        if run is None:
            missed, elsewhere = self._missed_of.get(key[0], 0), bool(caught.publisher.origin)
            run = self._runs[key] = _Run(key, caught.source, missed, from_elsewhere=elsewhere)
        run.newest, run.title = time.monotonic(), caught.about.title
        plane = None
        with suppress(FrameGoneError):
            plane = self._pool.take(np.asarray(caught))
        if plane is None or caught.lost:  # while this process was stopped
            run.missed += 1
            self._missed += 1
            return
        kept = _Caught(key, caught.source, caught.about, caught.message, plane)
        with self._changed:
            while self._last_s is None and self._queue and self._bytes + plane.nbytes > self._memory:
                self._changed.wait()  # the frames of this time lie in the publishers' memory
            self._taken += 1
            self._bytes += plane.nbytes
            self._queue.append(kept)
            self._changed.notify_all()

    def _pass(self) -> None:
        """Let go of what is longer ago than is to be kept, and of the oldest where the memory is full."""
        assert self._last_s is not None
        since = min([clock_ns(), *self._asked]) - int(1e9 * self._last_s) - _MARGIN_NS
        with self._changed:
            while self._queue:
                oldest = self._queue[0]
                assert isinstance(oldest, _Caught)
                if oldest.message.sent_ns >= since and self._bytes <= self._memory:
                    break
                self._queue.popleft()
                self._bytes -= oldest.plane.nbytes
                self._passed += 1

    def _keep_as_asked(self) -> None:
        asked = [self._asked.popleft() for _ in range(len(self._asked))]
        if asked:
            self._keep(min(asked))

    def _keep(self, asked_ns: int, publisher: str = "") -> None:
        assert self._last_s is not None
        since = asked_ns - int(1e9 * self._last_s)
        with self._changed:
            past = [each for each in self._queue if isinstance(each, _Caught) and each.message.sent_ns >= since]
        past = [each for each in past if publisher in ("", each.key[0])]
        for key in dict.fromkeys(each.key for each in past):
            of_run = [each for each in past if each.key == key]
            first, last = of_run[0].message.sequence, of_run[-1].message.sequence
            before = self._kept.get(key, (first, -1))
            if before[0] <= first and last <= before[1]:
                self._answer(
                    f"What is in memory of {of_run[0].about.title} is in a file already: nothing has come since."
                )
                continue
            self._kept[key] = first, last
            announcements = list({id(each.about): each.about for each in of_run}.values())
            frames = [RecordedFrame(each.message, each.plane) for each in of_run]
            self._make(of_run[0].source, Recorded(announcements, frames), of_run)
        if not past:
            self._answer(f"Nothing to keep: no frame has come within {self._last_s:g} s.")

    def _end(self, over: RunOver) -> None:
        if over.from_elsewhere and over.stream is not None:
            return  # it has ended there, and what is not here yet follows; its program ends when all is here
        missed = over.missed - self._missed_of.get(over.publisher, 0)
        self._missed += missed
        self._missed_of[over.publisher] = over.missed
        ending = [
            run for run in self._runs.values() if run.key[0] == over.publisher and over.stream in (None, run.key[1])
        ]
        for run in ending:
            run.how, run.is_known = over.how, over.is_known
            self._finish(run)
        if not ending and (missed or not over.is_known):
            run = _Run((over.publisher, -1), over.title, 0)
            run.missed, run.how, run.is_known = missed, over.how, over.is_known
            self._tell(f"{over.title}: of what came last, {_gaps(run)}{_HOW[over.how].format(over.title)}.")
        if over.how != "ended" and self._last_s is not None:
            with self._changed:
                of_it = [
                    e.message.sent_ns for e in self._queue if isinstance(e, _Caught) and e.key[0] == over.publisher
                ]
            if of_it:  # counted from its last frame: that it has gone is noticed later
                self._keep(max(of_it), over.publisher)

    def _finish(self, run: _Run) -> None:
        del self._runs[run.key]
        run.missed += self._missed_of.get(run.key[0], 0) - run.missed_before
        if self._last_s is not None:
            return  # what it had stays in memory until it is too long ago
        with self._changed:
            self._queue.append(run)
            self._changed.notify_all()

    def _answer(self, text: str) -> None:
        """Tell the user of this recorder, and of the program that has asked, what was kept."""
        self._tell(text)
        self._tap.tell_kept(f"{text.rstrip('.')}; the folder is {self._folder.resolve()}")

    def _make(self, source: str, recorded: Recorded, of_run: list[_Caught]) -> None:
        seconds = (of_run[-1].message.sent_ns - of_run[0].message.sent_ns) / 1e9

        def write() -> None:
            title = recorded.announcements[-1].title
            try:
                with claimed(self._folder, source, title, self._form, recorded.began) as path:
                    written = write_run(recorded, path)
                told = f"Kept the last {seconds:.1f} s of {written}."
            except Exception as error:  # noqa: BLE001 - told; the recorder goes on
                told = f"The last {seconds:.1f} s of {title} could not be written: {_why(error)}."
                self.failed = True
                try:
                    left = self._set_aside(source, of_run, recorded.began)
                    told += f" They are in {left}; `scopecast recover {self._folder}` makes a file of that."
                except OSError:  # nor that
                    self._kept.pop(of_run[0].key, None)  # they may be asked for again
                    told += " Mend that, and keep them again: they stay in memory until they are too old."
            self._answer(told)

        self._files.submit(write)

    def _set_aside(self, source: str, of_run: list[_Caught], began: float) -> str:
        """Write frames that could not be made a file of as they came; return the name of the folder."""
        folder = claim(self._folder, source, of_run[0].about.title, began)
        try:
            with Journal(folder, self._leave_free) as journal:
                for each in of_run:
                    journal.write(each.about, each.message, each.plane)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)  # a part of what is still in memory
            raise
        return folder.name

    # ---- the thread that writes ----------------------------------------------------------------------------------

    def _write_all(self) -> None:
        runs: dict[_Key, _Run] = {}
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                each = self._queue.popleft()
            if isinstance(each, _Run):
                written = runs.pop(each.key, None)
                if written is not None:
                    each.journal, each.lost = written.journal, written.lost
                    try:
                        self._close_run(each)
                    except Exception as error:  # noqa: BLE001 - the disk has gone; the other runs go on
                        self._complain(f"{each.title} could not be finished: {_why(error)}.")
                continue
            run = runs.setdefault(each.key, _Run(each.key, each.source, 0))
            done = self._write(run, each)
            with self._changed:
                self._bytes -= each.plane.nbytes
                self._written += done
                self._lost += not done
                self._changed.notify_all()
            del each

    def _write(self, run: _Run, caught: _Caught) -> bool:
        """Write a frame to the journal of its run. Return whether it could be."""
        try:
            if run.journal is None:
                run.journal = Journal(claim(self._folder, caught.source, caught.about.title), self._leave_free)
            run.journal.write(caught.about, caught.message, caught.plane)
        except Exception as error:  # noqa: BLE001 - the disk is full, for one; told, counted, and the next one is tried
            run.lost += 1
            if run.lost == 1:
                self._tell(f"A frame of {caught.source} could not be written, and is lost: {_why(error)}.")
            return False
        return True

    def _close_run(self, run: _Run) -> None:
        journal, nothing = run.journal, f"{run.source} {run.title}: nothing could be written; {_gaps(run)}."
        if journal is None:
            self._tell(nothing)
            return
        journal.close()

        def make() -> None:
            try:
                written = finish(journal.folder, self._form, leave_free=self._leave_free)
            except Exception as error:  # noqa: BLE001 - told; what is recorded stays
                self.failed = True
                how = f"`scopecast recover {self._folder}` makes a file of it, --to another disk if need be"
                self._tell(f"{journal.folder.name} stays as it is: {_why(error)}. {how}.")
                return
            self._tell(
                nothing if written is None else f"Recorded {written}; {_gaps(run)}{_HOW[run.how].format(run.source)}."
            )

        self._files.submit(make)

    # ---- coming and going ----------------------------------------------------------------------------------------

    def problem(self) -> str:
        """Return why not even a small frame could be written now; ``""`` if it could."""
        try:
            check_room(self._folder, 0, self._leave_free)
        except OSError as error:
            return _why(error)
        return ""

    def start(self) -> None:
        """Begin to look for programs that publish. Done by ``with``. Idempotent."""
        if self._taker.is_alive() or self._closed:
            return
        try:
            self._tap.start()
        except BaseException:
            self.close()
            raise
        if self._last_s is None:
            self._writer.start()
        self._taker.start()

    def close(self) -> None:
        """Record no more, and finish the files; waits for the disk. Idempotent."""
        if self._closed:
            return
        self._closed = self._stopping = True
        if self._taker.is_alive():
            self._taker.join()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._writer.is_alive():
            self._writer.join()
        self._files.shutdown(wait=True)
        self._pool.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _why(error: Exception) -> str:
    return ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).rstrip(".")


def _gaps(run: _Run) -> str:
    lacking = [
        f"{run.missed} were published but did not arrive" * bool(run.missed),
        f"{run.lost} could not be written" * bool(run.lost),
    ]
    if not run.is_known:
        lacking.append("how many of the last ones are missing is not known")
    all_that_is_known = _ALL_THAT_CAME if run.from_elsewhere else "every frame that was published while it ran"
    return ", ".join(filter(None, lacking)) or all_that_is_known
