"""What lies in the ring of a publisher that was killed: its last frames, each with the messages that announced it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scopecast.errors import UnsupportedDtypeError
from scopecast.frames.arrays import native
from scopecast.memory.ring import RingReader
from scopecast.subscribing.captions import captioned
from scopecast_viewers.receiving.saving import claimed
from scopecast_viewers.recording.assembly import write_run
from scopecast_viewers.recording.journal import Recorded, RecordedFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scopecast.link import messages
    from scopecast.rundir.directory import Leftover
    from scopecast_viewers.recording.assembly import Written

__all__ = ["read_ring", "write_ring"]

_KINDS = ("image", "labels")


def read_ring(ring: RingReader) -> list[Recorded]:
    """Return the runs of which frames lie in a ring that nobody writes to any more, in order of their streams.

    The planes are views of the shared memory. A frame whose caption can't be read, or that was being written when its
    publisher was killed, is left out.
    """
    found: list[tuple[messages.Stream, RecordedFrame]] = []
    for stream, frame in captioned(ring):
        if frame.kind not in _KINDS or len(frame.index) > len(stream.axes):
            continue
        try:
            plane = ring.view(frame.slot, frame.shape, np.dtype(native(frame.dtype)))
        except (ValueError, TypeError, UnsupportedDtypeError, OSError):
            continue
        found.append((stream, RecordedFrame(frame, plane)))
    runs: dict[int, Recorded] = {}
    for stream, recorded in found:
        run = runs.setdefault(stream.id, Recorded([], []))
        if stream not in run.announcements:
            run.announcements.append(stream)
        run.frames.append(recorded)
    return [runs[number] for number in sorted(runs)]


def write_ring(leftover: Leftover, folder: Path, form: str) -> Iterator[Written]:
    """Write each run of which frames are left in a ring to a file; waits for the disk.

    Raises
    ------
    ValueError, ImportError, OSError
        If one can't be written, or the ring can't be read.
    """
    with RingReader(leftover.segment, leftover.entry.token, None) as ring:
        for recorded in read_ring(ring):
            with claimed(folder, leftover.entry.title, recorded.announcements[-1].title, form, recorded.began) as path:
                written = write_run(recorded, path)
            yield written
            recorded.frames.clear()  # its views of the memory
