"""What lies in the ring of a publisher that was killed: its last frames, each with the messages that announced it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from scopecast.errors import ProtocolError, UnsupportedDtypeError
from scopecast.frames.arrays import native
from scopecast.link import messages
from scopecast.memory.ring import RingReader
from scopecast_viewers.receiving.saving import claimed
from scopecast_viewers.recording.assembly import write_run
from scopecast_viewers.recording.journal import Recorded, RecordedFrame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
    for slot in range(ring.layout.slots):
        with_messages = _messages(ring, slot)
        if with_messages is None:
            continue
        stream, frame = with_messages
        if frame.kind not in _KINDS or len(frame.index) > len(stream.axes):
            continue
        try:
            plane = ring.view(slot, frame.shape, np.dtype(native(frame.dtype)))
        except (ValueError, TypeError, UnsupportedDtypeError, OSError):
            continue
        found.append((stream, RecordedFrame(frame, plane)))
    runs: dict[int, Recorded] = {}
    for stream, recorded in sorted(found, key=lambda each: each[1].message.sequence):
        run = runs.setdefault(stream.id, Recorded([], []))
        if stream not in run.announcements:
            run.announcements.append(stream)
        run.frames.append(recorded)
    return [runs[number] for number in sorted(runs)]


def _messages(ring: RingReader, slot: int) -> tuple[messages.Stream, messages.Frame] | None:
    """Return what announced the frame in a slot; None if there is none that is whole."""
    if (caption := ring.caption(slot)) is None:
        return None
    try:
        stream, frame = map(messages.decode_from_publisher, caption)
    except ProtocolError:
        return None
    if not isinstance(stream, messages.Stream) or not isinstance(frame, messages.Frame):
        return None
    whole = frame.generation == ring.generation(slot) and not frame.generation % 2
    return (stream, frame) if whole and (frame.slot, frame.stream) == (slot, stream.id) else None


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
