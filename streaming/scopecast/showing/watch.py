"""A folder that other software writes images into: which file is complete, and when.

A file is shown once nobody writes it any more and it decodes to its end:

1. Linux tells whether anyone still has a file open for writing: a read lease (``fcntl(F_SETLEASE)``) is granted on
   closed files only. Where that works, a file is tried as soon as it is closed or renamed into its place.
2. Elsewhere (macOS, Windows, network drives, other users' files) it is tried once its size and its time of change were
   the same at two looks, `SETTLE_S` apart.
3. One that stays open for writing, unchanged for `PATIENCE_S`, is tried all the same: some programs never close.

A file that then ends too early, or changes while it is read, is tried again, ever more slowly, and given up after
`TRIES`, until it changes. What is the machine's fault (no descriptors or no room left, a drive that is away, rights) is
tried again for as long as it takes. A file that changes after it was shown is shown again.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import logging
import os
import signal
import stat
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from scopecast.errors import FileError, ScopecastError, UnreadableFileError
from scopecast.frames.rois import ROI_EXTENSIONS
from scopecast.images.base import Sight, extension_of, natural_key
from scopecast.images.open import EXTENSIONS
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FolderWatch", "News", "open_for_writing"]

logger = logging.getLogger(__name__)

SETTLE_S: Final = 0.5
PATIENCE_S: Final = 10.0
TRIES: Final = 6
#: From one look to the next at files that wait; and at the whole folder, as network drives tell of no changes.
_TICK_S: Final = 0.1
RESCAN_S: Final = 5.0
_FIRST_RETRY_S: Final = 0.25
_LAST_RETRY_S: Final = 60.0

#: What became of a file: shown; it ends too early, and is tried again; given up, until it changes.
Verdict = Literal["shown", "incomplete", "given up"]


class News(NamedTuple):
    """What became of a file in the folder.

    Attributes
    ----------
    verdict
        ``"shown"``, ``"incomplete"`` (said once, it is tried again) or ``"given up"``.
    path
        The file.
    reason
        Why it is not shown; else "".
    """

    verdict: Verdict
    path: Path
    reason: str = ""


@dataclass
class _Candidate:
    """A file that may be complete."""

    sight: Sight
    since: float  # when it began to look like this
    next_look: float
    tries: int = 0
    told: bool = False


class FolderWatch:
    """Watches a folder, and shows the files in it once they are complete.

    Parameters
    ----------
    folder
        The folder.
    pattern
        Which of the images in it, such as ``"*.tif"``.
    recursive
        Whether also those in the folders below.
    existing
        Whether also those that are there already.
    poll
        Whether to look at the folder all the time instead of waiting for the system's word.
    clock
        Seconds, monotonic.

    Raises
    ------
    FileError
        If there is no such folder, or watchfiles is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        pattern: str = "*",
        recursive: bool = False,
        existing: bool = False,
        poll: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if importlib.util.find_spec("watchfiles") is None:
            raise FileError(
                "watching a folder needs watchfiles, which is not installed; pip install 'scopecast[files]'"
            )
        if not folder.is_dir():
            raise FileError(
                f"{folder} is a file; name the folder" if folder.exists() else f"there is no folder {folder}"
            )
        self.folder, self.pattern, self.recursive = folder.absolute(), pattern, recursive
        self._poll, self._clock = poll, clock
        self._candidates: dict[Path, _Candidate] = {}
        # What was shown, given up, or there before; taken now, as a viewer may take a while to open.
        self._settled = {} if existing else {path: Sight.of(path) for path in self._list()}
        self._leases_work = False
        self._next_scan = 0.0

    @property
    def waiting(self) -> int:
        """How many files are not complete yet."""
        return len(self._candidates)

    @property
    def incomplete(self) -> tuple[Path, ...]:
        """The files that are not complete yet."""
        return tuple(self._candidates)

    def run(self, show: Callable[[Path], object], stop: threading.Event | None = None) -> Iterator[News | None]:
        """Watch until `stop` is set.

        Parameters
        ----------
        show
            Shows a file; raises IncompleteFileError if it is not complete, FileError if it can't be shown. Any other
            error is told and the file tried again.
        stop
            Ends the watch.

        Yields
        ------
        News or None
            What became of a file; None when the watch has begun, and then every now and then.

        Raises
        ------
        FileError
            If the folder is no more.
        """
        began = False
        for changed in self._changes(stop):
            if _is_gone(self.folder):
                raise FileError(f"the folder {self.folder} no longer exists")
            for name in changed:
                self._notice(Path(name))
            if self._clock() >= self._next_scan:
                # Also what came before the watch began, and what the system did not tell of.
                self._scan()
            if not began:
                began = True
                yield None
            for path in self._due():
                if (news := self.look(path, show)) is not None:
                    yield news
                if stop is not None and stop.is_set():
                    return
            yield None

    def _changes(self, stop: threading.Event | None) -> Iterator[list[str]]:
        """Yield what the system tells of, every now and then; what it fails to tell, looks at the folder find."""
        import watchfiles

        pause = _TICK_S
        while True:
            try:
                for changed in watchfiles.watch(
                    self.folder,
                    watch_filter=None,
                    debounce=50,
                    step=20,
                    rust_timeout=int(_TICK_S * 1000),
                    yield_on_timeout=True,
                    recursive=self.recursive,
                    force_polling=self._poll or None,
                    poll_delay_ms=300,
                    ignore_permission_denied=True,
                    stop_event=stop,
                ):
                    yield [name for _, name in changed]
                    pause = _TICK_S
            except (OSError, RuntimeError) as error:  # no descriptors or watches left; RuntimeError is watchfiles' own
                logger.warning("scopecast: %s", printable(f"{self.folder} is polled every few seconds: {error}"))
            else:
                return
            ends = self._clock() + pause
            while (left := ends - self._clock()) > 0:
                yield []
                if (stop or threading.Event()).wait(min(_TICK_S, left)):
                    return
            pause = min(2 * pause, _LAST_RETRY_S)

    # ---- what there is -------------------------------------------------------------------------------------------

    def _list(self, folder: Path | None = None) -> Iterator[Path]:
        """Return the files that are wanted, in natural order."""
        for root, folders, names in os.walk(folder or self.folder):
            folders.sort(key=natural_key)
            if not self.recursive:
                folders.clear()
            for name in sorted(names, key=natural_key):
                if self._wanted(path := Path(root, name)):
                    yield path

    def _wanted(self, path: Path) -> bool:
        return (
            path.name[0] != "."
            and extension_of(path) in (*EXTENSIONS, *ROI_EXTENSIONS)
            and fnmatch.fnmatch(path.name, self.pattern)
            and (self.recursive or path.parent == self.folder)
        )

    def _scan(self) -> None:
        began = self._clock()
        for path in self._list():
            self._consider(path)
        took = self._clock() - began
        self._next_scan = began + took + max(RESCAN_S, 20 * took)

    def _notice(self, path: Path) -> None:
        """Take note of a change that the system tells of."""
        if os.path.isdir(path):  # noqa: PTH112 - never raises
            if self.recursive:  # its first files came before anyone watched it
                for below in self._list(path):
                    self._consider(below)
        elif self._wanted(path):
            self._consider(path)

    def _consider(self, path: Path) -> None:
        sight, now = Sight.of(path), self._clock()
        if sight.size < 0 or self._settled.get(path) == sight:
            return
        candidate = self._candidates.get(path)
        if candidate is None:
            self._candidates[path] = _Candidate(sight, now, now)
        elif candidate.sight != sight:
            candidate.next_look = now

    def _due(self) -> list[Path]:
        """Return the files to look at now, in the order in which they were written."""
        now = self._clock()
        due = [(it.sight.changed_ns, natural_key(path), path) for path, it in self._candidates.items()]
        return [path for _, _, path in sorted(due) if self._candidates[path].next_look <= now]

    # ---- is it complete? -----------------------------------------------------------------------------------------

    def look(self, path: Path, show: Callable[[Path], object]) -> News | None:
        """Look at a file that may be complete, and have it shown if it is.

        Parameters
        ----------
        path
            The file.
        show
            As for `run`.

        Returns
        -------
        News or None
            None if there is nothing to tell yet.
        """
        candidate, sight, now = self._candidates[path], Sight.of(path), self._clock()
        if sight.size < 0:
            del self._candidates[path]
            self._settled.pop(path, None)
            return None
        if sight != candidate.sight:
            candidate.sight, candidate.since, candidate.tries = sight, now, 0
        wait = self._wait(path, now - candidate.since)
        if wait > 0:
            candidate.next_look = now + wait
            return None
        try:
            show(path)
        except Exception as error:  # noqa: BLE001 - the other files are to be shown all night; told
            return self._failed(path, candidate, error)
        except BaseException:
            del self._candidates[path]  # no fault of the file's
            self._settled[path] = sight
            raise
        del self._candidates[path]
        self._settled[path] = sight
        self._consider(path)  # it may have changed since
        return News("shown", path)

    def _wait(self, path: Path, unchanged_s: float) -> float:
        """Return how many seconds to wait before a file is tried."""
        writing = open_for_writing(path)
        if writing is False:
            self._leases_work = True
            return 0.0
        # Network drives refuse every lease: a refusal counts where one was granted before.
        quiet = PATIENCE_S if writing and self._leases_work else SETTLE_S
        left = quiet - unchanged_s
        return 0.0 if left < 0.001 else min(SETTLE_S, left)

    def _failed(self, path: Path, candidate: _Candidate, error: Exception) -> News | None:
        # A file's own fault can only end by a change of the file; a failure of the system may pass.
        lasting = isinstance(error, FileError) and not isinstance(error, UnreadableFileError)
        text = str(error) if isinstance(error, ScopecastError) else f"{type(error).__name__}: {error}"
        candidate.tries += 1
        special = not os.path.isfile(path)  # noqa: PTH113 - never raises
        if lasting and (candidate.tries >= TRIES or special):
            del self._candidates[path]
            self._settled[path] = candidate.sight
            return News("given up", path, text)
        candidate.next_look = self._clock() + min(_FIRST_RETRY_S * 2 ** min(candidate.tries, 16), _LAST_RETRY_S)
        if candidate.told:
            return None
        candidate.told = True
        return News("incomplete", path, text)


def _is_gone(folder: Path) -> bool:
    """Whether there is no such folder; a drive that does not answer may come back."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False


def open_for_writing(path: Path) -> bool | None:
    """Tell whether any program has a file open for writing.

    Parameters
    ----------
    path
        A file of this user's.

    Returns
    -------
    bool or None
        None where the system does not tell: not on Linux, another user's file, many network drives.
    """
    if not sys.platform.startswith("linux"):
        return None
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # A writer who opens the file while the lease is held waits for a signal to be heard: let it be one that does
        # nothing, unlike SIGIO, which ends the process. The lease is held for some microseconds.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
