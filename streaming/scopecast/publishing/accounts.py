"""What became of every frame: the counts, and the receipts and statistics that show them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Account", "Fate", "FrameCounts", "Receipt", "ReceiverStats", "Skipped", "Stats"]

#: The fates of a frame, best first: in the viewer's stack; a newer frame took its place before it was sent; no
#: room, or the viewer died before it acknowledged; never sent.
Fate = Literal["delivered", "superseded", "dropped", "skipped"]
FATES: tuple[Fate, ...] = ("delivered", "superseded", "dropped", "skipped")


class FrameCounts(NamedTuple):
    """How many frames met which fate; ``published`` is always the sum of the others.

    Attributes
    ----------
    published
        Frames that were given to `publish`.
    delivered
        Frames in the viewer's stack, visible now or by a slider.
    superseded
        Frames whose place a newer one took before they were sent.
    dropped
        Frames for which there was no free slot, or that a viewer had not acknowledged when it died.
    skipped
        Frames that were never sent: no viewer, extension, dtype, empty, no shared memory.
    in_flight
        Frames whose fate is not known yet.
    """

    published: int = 0
    delivered: int = 0
    superseded: int = 0
    dropped: int = 0
    skipped: int = 0
    in_flight: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every frame is accounted for."""
        return self.published == sum(self[1:])


class Account:
    """The running counts of one receiver (or of all together): what is settled, and what is in flight.

    What is in flight is counted from the pending and leased slots themselves, not from the other figures, so that
    `FrameCounts.balanced` can tell a mistake.

    Attributes
    ----------
    pending : deque of int
        Slots that wait to be sent, the oldest first.
    leased : dict of (epoch, slot) to generation
        Frames that were sent and not acknowledged yet.
    kept : collection
        Frames that wait outside of the slots; they are counted as published once they are settled, or have one.
    """

    __slots__ = ("fates", "kept", "leased", "pending", "published")

    def __init__(self) -> None:
        self.published = 0
        self.fates: dict[Fate, int] = dict.fromkeys(FATES, 0)
        self.pending: deque[int] = deque()
        self.leased: dict[tuple[int, int], int] = {}
        self.kept: Collection[object] = ()

    @property
    def counts(self) -> FrameCounts:
        """The counts as they are now."""
        delivered, superseded, dropped, skipped = (self.fates[fate] for fate in FATES)
        in_flight = len(self.pending) + len(self.leased) + len(self.kept)
        return FrameCounts(self.published + len(self.kept), delivered, superseded, dropped, skipped, in_flight)

    def skip(self, frames: int = 1) -> None:
        """Count frames that were never sent."""
        self.published += frames
        self.fates["skipped"] += frames

    def supersede(self, frames: int = 1) -> None:
        """Count frames whose place newer ones took before they had a slot."""
        self.published += frames
        self.fates["superseded"] += frames

    def drop(self, frames: int = 1) -> None:
        """Count frames for which there was no free slot."""
        self.published += frames
        self.fates["dropped"] += frames


class Skipped(NamedTuple):
    """An item of a batch that was not sent.

    Attributes
    ----------
    path
        The item's file path.
    reason
        Why, in short: ``"extension '.csv'"``, ``"empty"``, ``"no viewer"``.
    """

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What `save` and `save_batch` did with a batch.

    Attributes
    ----------
    sent
        The paths of the items that were sent, in order.
    skipped
        The items that were not, each with the reason.
    frames
        How many planes the sent items had.
    """

    sent: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    frames: int = 0

    def __str__(self) -> str:
        """Return the receipt as one line."""
        text = f"{len(self.sent)} sent ({self.frames} frames)"
        if self.skipped:
            text += f", {len(self.skipped)} skipped: " + ", ".join(f"{s.path} ({s.reason})" for s in self.skipped[:5])
            text += " …" if len(self.skipped) > 5 else ""
        return text


@dataclass(frozen=True, slots=True)
class ReceiverStats:
    """One receiver's row.

    Attributes
    ----------
    token
        The receiver's token, as in the run directory.
    kind
        ``"napari"``, ``"fiji"``, …
    title
        What the receiver calls itself.
    pid
        Its process id; for information only.
    attached
        Whether it is attached now.
    frames
        What became of the frames published while it was attached.
    painted
        Frames that its window has painted, as it last reported.
    age_ms
        Age of a frame when it was painted, median and 99th percentile, in milliseconds.
    drain_ms
        Time that the receiver's own work took on the GUI thread per update, median and 99th percentile, in
        milliseconds, without the viewer's painting, and without what it took to make layers of images and labels.
    paint_ms
        Median time from the end of such an update to the painted window, in milliseconds.
    first_ms
        Age of the first frame of the newest stream when it was painted, in milliseconds.
    forgotten
        Planes that the viewer has discarded since, because its history is full.
    layer_ms
        The longest that the viewer took to make such a layer, in milliseconds; 0 where it makes none.
    """

    token: str
    kind: str
    title: str
    pid: int
    attached: bool
    frames: FrameCounts
    painted: int = 0
    age_ms: tuple[float, float] = (0.0, 0.0)
    drain_ms: tuple[float, float] = (0.0, 0.0)
    paint_ms: float = 0.0
    first_ms: float = 0.0
    forgotten: int = 0
    layer_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Stats:
    """The accounts of a publisher.

    Attributes
    ----------
    frames
        What became of the frames over all receivers together; a frame that one of them has counts as delivered.
    receivers
        A row for each receiver, those that left (at most 16) included.
    skipped
        Why frames were skipped, and how many for each reason.
    publish_ms
        Cost of `publish`, median and 99th percentile over the last 4096 calls, in milliseconds.
    newest_age_s
        Seconds since the last `publish`; None before the first.
    segment_bytes
        Bytes of shared memory held now.
    metadata_cut
        Frames that were sent without their metadata, which was too large or could not be encoded.
    problem
        Why frames are not shown, and when what failed is tried again, in a line; ``""`` if nothing is wrong.
    """

    frames: FrameCounts = field(default_factory=FrameCounts)
    receivers: tuple[ReceiverStats, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    publish_ms: tuple[float, float] = (0.0, 0.0)
    newest_age_s: float | None = None
    segment_bytes: int = 0
    metadata_cut: int = 0
    problem: str = ""

    def __iter__(self) -> Iterator[ReceiverStats]:
        """Iterate over the receivers' rows."""
        return iter(self.receivers)

    @property
    def balanced(self) -> bool:
        """Whether every frame is accounted for, in every row."""
        return self.frames.balanced and all(row.frames.balanced for row in self.receivers)
