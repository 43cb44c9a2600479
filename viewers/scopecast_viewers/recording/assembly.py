"""Files of a run: its frames are put into a stream as a viewer has it, which is saved as a viewer saves it."""

from __future__ import annotations

import shutil
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

import filelock
import msgspec
import numpy as np

from scopecast_viewers.receiving.exporting import exports
from scopecast_viewers.receiving.live import LiveStream, PaintLog
from scopecast_viewers.receiving.saving import UNFINISHED, Saved, counted, save_all
from scopecast_viewers.recording.journal import check_room, clock_offset_ns, lock_of, read_journal
from scopecast_viewers.stacks.history import History

if TYPE_CHECKING:
    from pathlib import Path

    from scopecast_viewers.recording.journal import Recorded

__all__ = ["Written", "assemble", "finish", "write_run"]

_EVERYTHING: Final = 2**62


class Written(NamedTuple):
    """A run that is in its file.

    Attributes
    ----------
    title
        Of the run.
    saved
        The files, and what is in them.
    replaced
        Frames that are not in them, as another one came for the same place.
    """

    title: str
    saved: Saved
    replaced: int

    def __str__(self) -> str:
        """Say what is where, and what is missing."""
        twice = f"; {counted(self.replaced, 'frame')} gave way to another at the same place" if self.replaced else ""
        return f"{self.title}: {self.saved}{twice}"


def assemble(recorded: Recorded, history: History) -> tuple[LiveStream, int]:
    """Put the frames of a run into a stream.

    A run without time points, such as live mode, whose frames come for the same places again and again, gets them:
    nothing is written over.

    Returns
    -------
    stream, replaced
        The stream; and how many frames are not in it, as another one came for the same place.
    """
    about = recorded.announcements[-1]
    axes_of_length = {len(each.axes): each.axes for each in recorded.announcements}
    timed = "t" in about.axes
    whole = about
    if not timed:
        whole = msgspec.structs.replace(
            about, axes=["t", *about.axes], sizes=[0, *about.sizes], steps=[0.0, *about.steps], preview=False
        )
    stream = LiveStream("", about.title, whole, history, PaintLog())
    if recorded.clock_ns:  # it may have been recorded before the clock was set, or the machine started
        stream.began += (recorded.clock_ns - clock_offset_ns()) / 1e9
    came: Counter[tuple[object, ...]] = Counter()
    main: tuple[object, ...] | None = None  # what the other frames of a run without time points lie on
    now = replaced = 0
    for frame, plane in recorded.frames:
        where = dict(zip(axes_of_length[len(frame.index)], frame.index, strict=True))
        index = [where.get(axis, 0) for axis in about.axes]
        kind = (frame.kind, frame.name, *frame.shape, frame.dtype)
        place = (*kind, *index)
        if not timed:
            if main is None and (frame.kind, frame.name) == ("image", ""):
                main = kind
            came[place] = t = came[place] if kind == main else max(came[place], now)
            now = max(now, t) if kind == main else now
            index = [t, *index]
        replaced += timed and came[place] > 0
        came[place] += 1
        stream.put(msgspec.structs.replace(frame, index=index), plane.view(np.uint8) if plane.dtype == bool else plane)
    return stream, replaced


def write_run(recorded: Recorded, path: Path) -> Written:
    """Write the frames of a run as OME-TIFF or OME-Zarr; waits for the disk.

    Raises
    ------
    ValueError, ImportError, OSError
        As `scopecast_viewers.receiving.saving.save` does.
    """
    with History(_EVERYTHING, scratch=None) as history:
        stream, replaced = assemble(recorded, history)
        saved = save_all(exports(stream), path)
        stream.remove()
    return Written(stream.about.title, saved, replaced)


def finish(journal: Path, form: str, folder: Path | None = None, leave_free: int = 0) -> Written | None:
    """Write the file of a journal, and remove the journal once that is there; waits for the disk.

    Parameters
    ----------
    journal
        Its folder.
    form
        The end of the file's name, one of `scopecast_viewers.receiving.formats.FORMATS`.
    folder
        Where the file goes; beside the journal by default.
    leave_free
        Bytes of the disk that are left to others.

    Returns
    -------
    Written or None
        None if there is no frame in it.

    Raises
    ------
    TimeoutError
        If another process works on it.
    ValueError, ImportError, OSError
        If it can't be written; the journal stays.
    """
    lock = lock_of(journal)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise TimeoutError(f"{journal} is being written by another process") from None
    try:
        recorded = read_journal(journal)
        if recorded.frames:
            check_room(folder or journal.parent, (journal / "frames").stat().st_size, leave_free)
        name = journal.name.removesuffix(UNFINISHED) + form
        written = write_run(recorded, (folder or journal.parent) / name) if recorded.frames else None
        del recorded  # what is mapped can't be removed on Windows
        for part in ("frames", "index"):  # without its index it is none
            (journal / part).unlink(missing_ok=True)
    finally:
        lock.release()
    shutil.rmtree(journal)
    return written
