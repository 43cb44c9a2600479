"""The fates of all frames: the counts, and the receipts and statistics that show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from scopecast.publishing.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = [
    "Account",
    "Accounts",
    "Fate",
    "FrameCounts",
    "Outcome",
    "Reason",
    "Receipt",
    "ReceiverStats",
    "Skipped",
    "Stats",
]


class Reason(StrEnum):
    """Why a frame is not shown."""

    NO_VIEWER = "no viewer"
    EMPTY = "empty"
    NO_ROOM = "no room"
    OPENING = "opening"
    CLOSED = "closed"
    NO_SHARED_MEMORY = "no shared memory"
    TOO_LARGE = "larger than the budget"
    NO_CONNECTION = "no connection to viewers"
    NOT_SHOWN = "not shown by the viewer"


#: The fates of a frame, best first: in the viewer's stack; a newer frame took its place before it was sent; no
#: room, or the viewer died before it acknowledged; never sent.
Fate = Literal["delivered", "superseded", "dropped", "skipped"]
FATES: tuple[Fate, ...] = ("delivered", "superseded", "dropped", "skipped")


class FrameCounts(NamedTuple):
    """How many frames met which fate; ``published`` is always the sum of the others.

    Attributes
    ----------
    published
        Frames that were passed to `publish`.
    delivered
        Frames in the viewer's stack, visible now or with a slider.
    superseded
        Frames that a newer one replaced before they were sent.
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
    """The running counts of one receiver, or of all together: frames that are settled, and frames in flight.

    Frames in flight are counted themselves, not derived from the other counts, so that `FrameCounts.balanced` detects
    mistakes.

    Attributes
    ----------
    published : int
        Frames that were passed to `publish`, without those in `early`.
    fates : dict
        How many frames met which fate.
    pending : dict of SlotFrame to None
        Frames that wait to be sent, the oldest first.
    leased : dict of (epoch, slot) to SlotFrame
        Frames that were sent and are not acknowledged yet; for all together, frames that are not settled.
    early : collection
        Frames that wait for a slot in this process's memory; added to `published` once they get one, or never will.
    pace : Pace
        How the receiver keeps up.
    viewer : bool
        Whether it is a viewer; a subscriber is none.
    replies : bool
        Whether it is sent replies: viewers are, and subscribers that ask for them.
    """

    __slots__ = ("early", "fates", "leased", "pace", "pending", "published", "replies", "viewer")

    def __init__(self) -> None:
        self.published = 0
        self.fates: dict[Fate, int] = dict.fromkeys(FATES, 0)
        self.pending: dict[Any, None] = {}
        self.leased: dict[tuple[int, int], Any] = {}
        self.early: Collection[object] = ()
        self.pace = Pace()
        self.viewer = self.replies = True

    @property
    def in_flight(self) -> int:
        """How many frames are not settled."""
        return len(self.pending) + len(self.leased) + len(self.early)

    @property
    def counts(self) -> FrameCounts:
        """The counts as they are now."""
        delivered, superseded, dropped, skipped = (self.fates[fate] for fate in FATES)
        return FrameCounts(self.published + len(self.early), delivered, superseded, dropped, skipped, self.in_flight)

    def count(self, fate: Fate) -> None:
        """Count a frame that never had a slot."""
        self.published += 1
        self.fates[fate] += 1

    def void(self) -> None:
        """Count all frames in flight as dropped."""
        self.pending.clear()
        self.leased.clear()
        self.fates["dropped"] += max(0, self.published - sum(self.fates.values()))
        self.published = sum(self.fates.values())


class Accounts:
    """The accounts of a publisher. Used under its lock.

    Attributes
    ----------
    total : Account
        That of all receivers together: a frame that one of them has is delivered.
    replies : Account
        Likewise, of what subscribers have replied.
    receivers : dict of int to Account
        That of each receiver that is attached or about to attach, by its number.
    skipped : dict
        How many frames were skipped for which reason.
    in_order : bool
        Whether a program that attaches is not to have the newest frames first, as it will be sent all in their order.
    """

    def __init__(self) -> None:
        self.in_order = False
        self.total, self.replies = Account(), Account()
        self.receivers: dict[int, Account] = {}
        self.skipped: dict[str, int] = {}

    def skip(self, reason: Reason) -> None:
        """Count a frame that is never sent."""
        self._count("skipped")
        self.note(reason)

    def note(self, reason: Reason, change: int = 1) -> None:
        """Change how many frames were skipped for a reason."""
        frames = self.skipped.get(reason.value, 0) + change
        self.skipped[reason.value] = frames
        if not frames:
            del self.skipped[reason.value]

    def drop(self) -> None:
        """Count a frame for which there is no free slot."""
        self._count("dropped")

    def _count(self, fate: Fate) -> None:
        for account in (self.total, *self.receivers.values()):
            account.count(fate)

    def void(self, receivers: dict[int, Account]) -> None:
        """Count all frames in flight as dropped, and keep only these receivers' accounts."""
        self.receivers.clear()
        self.receivers.update(receivers)
        for account in (self.total, self.replies, *receivers.values()):
            account.void()


class Outcome(NamedTuple):
    """The result of publishing an array.

    Attributes
    ----------
    sequence
        The sequence number of the last frame; -1 if there was none.
    frames
        How many planes the array had.
    reason
        Why it is not shown, or the first of its planes that is not: a `Reason`. None if all of it is shown, or waits
        for its viewer.
    cause
        What caused that, as a line for the user (``"napari is not installed; …"``); ``""`` if it is not known.
    missing
        How many of the planes are not shown.
    """

    sequence: int
    frames: int
    reason: Reason | None = None
    cause: str = ""
    missing: int = 0

    @property
    def shown(self) -> int:
        """How many planes are shown, or wait for their viewer."""
        return self.frames - self.missing

    def __str__(self) -> str:
        """Return why it is not shown: the reason, with the cause if it is known; ``""`` if it is shown."""
        why = f"{self.reason}: {self.cause}" if self.reason and self.cause else self.reason or ""
        return f"{self.shown} of {self.frames} planes shown; the others: {why}" if self.missing and self.shown else why


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
        How many planes were sent.
    partly
        Those of the items sent of which some planes were not, each with how many, and why.
    """

    sent: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    frames: int = 0
    partly: tuple[Skipped, ...] = ()

    def __str__(self) -> str:
        """Return the receipt as one line."""
        text = f"{len(self.sent)} sent ({self.frames} frame{'' if self.frames == 1 else 's'})"
        for items, what in ((self.partly, "only in part"), (self.skipped, "skipped")):
            if items:
                text += f", {len(items)} {what}: " + ", ".join(f"{s.path} ({s.reason})" for s in items[:5])
                text += " …" if len(items) > 5 else ""
        return text


@dataclass(frozen=True, slots=True)
class ReceiverStats:
    """One receiver's row.

    Attributes
    ----------
    token
        The receiver's token, as in the run directory.
    kind
        ``"napari"``, ``"fiji"``, …; ``"*"`` for a subscriber, which is not a viewer.
    title
        The name that the receiver gives itself.
    pid
        Its process id; for information only.
    attached
        Whether it is attached now.
    frames
        The fates of the frames published while it was attached.
    painted
        Frames that its window has painted, by its last report.
    age_ms
        Age of a frame when it was painted, median and 99th percentile, in milliseconds.
    drain_ms
        Time that the receiver's own work took on the GUI thread per update, median and 99th percentile, in
        milliseconds, without the viewer's painting, and without making layers of images and labels.
    paint_ms
        Median time from the end of such an update to the painted window, in milliseconds.
    first_ms
        Age of the first frame of the newest stream when it was painted, in milliseconds.
    forgotten
        Planes that the viewer has let go of since, because its history is full.
    layer_ms
        The longest that the viewer took to make a layer of images or labels, in milliseconds; 0 if it makes none.
    rejected
        Frames that were overwritten before the viewer had copied them (it was stopped for too long), and never shown.
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
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """The accounts of a publisher.

    Attributes
    ----------
    frames
        The fates of the frames over all receivers together; a frame that one of them has counts as delivered.
    receivers
        A row for each receiver, including those that have left (at most 16).
    skipped
        How many frames were skipped for each reason.
    publish_ms
        Cost of `publish`, median and 99th percentile over the last 4096 calls, in milliseconds.
    newest_age_s
        Seconds since the last `publish`; None before the first.
    segment_bytes
        Bytes of shared memory held now.
    metadata_cut
        Frames that were sent without their metadata, which was too large or could not be encoded.
    protocol_errors
        Messages that were ignored, because they did not follow the protocol or exceeded its limits.
    keeper_errors
        How often looking after the viewers failed; it goes on after each failure, and logs the first.
    replies
        The fates of what subscribers have replied, over all viewers together. They are not among `frames`, but among
        those of the viewers that they were sent to. Skipped are those that no viewer was there for or could show, and
        those that were refused.
    problem
        Why frames are not shown, and when that is tried again, as one line; ``""`` if nothing is wrong.

    Examples
    --------
    >>> print(Stats(FrameCounts(published=3, delivered=2, skipped=1), skipped={"opening": 1}))
         published  delivered  superseded  dropped  skipped  in flight
    all          3          2           0        0        1          0
    skipped: opening 1
    publish(): 0.00 ms median, 0.00 ms 99th percentile; shared memory: 0 MiB
    """

    frames: FrameCounts = field(default_factory=FrameCounts)
    receivers: tuple[ReceiverStats, ...] = ()
    skipped: dict[str, int] = field(default_factory=dict)
    publish_ms: tuple[float, float] = (0.0, 0.0)
    newest_age_s: float | None = None
    segment_bytes: int = 0
    metadata_cut: int = 0
    protocol_errors: int = 0
    keeper_errors: int = 0
    problem: str = ""
    replies: FrameCounts = field(default_factory=FrameCounts)

    def __iter__(self) -> Iterator[ReceiverStats]:
        """Iterate over the receivers' rows."""
        return iter(self.receivers)

    @property
    def balanced(self) -> bool:
        """Whether every frame is accounted for, in every row."""
        return self.frames.balanced and self.replies.balanced and all(row.frames.balanced for row in self.receivers)

    def __str__(self) -> str:
        """Return the statistics as a table."""
        rows = self._table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]
        return "\n".join([*lines, *self._lines()])

    def _repr_html_(self) -> str:
        from html import escape

        head, *rows = [[escape(cell) for cell in row] for row in self._table()]
        cells = "".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
        below = "".join(f"<div>{escape(line)}</div>" for line in self._lines())
        return f"<table><tr><th>{'</th><th>'.join(head)}</th></tr>{cells}</table>{below}"

    def _table(self) -> list[list[str]]:
        rows = [("all", self.frames), *([("replies", self.replies)] if self.replies.published else [])]
        for row in self.receivers:
            name = f"{row.title or row.kind} (process {row.pid})"
            rows.append((name if row.attached else f"{name}, has left", row.frames))
        head = ["", *(field.replace("_", " ") for field in FrameCounts._fields)]
        return [head, *([name, *map(str, counts)] for name, counts in rows)]

    def _lines(self) -> list[str]:
        median, high = self.publish_ms
        notes = {
            "skipped": ", ".join(f"{reason} {frames}" for reason, frames in self.skipped.items()),
            "without their metadata": self.metadata_cut and str(self.metadata_cut),
            "ignored messages": self.protocol_errors and str(self.protocol_errors),
            "errors while serving the viewers": self.keeper_errors and str(self.keeper_errors),
            "overwritten before a viewer had copied them": sum(row.rejected for row in self.receivers) or "",
            "problem": self.problem,
        }
        return [
            *(f"{what}: {said}" for what, said in notes.items() if said),
            f"publish(): {median:.2f} ms median, {high:.2f} ms 99th percentile; "
            f"shared memory: {self.segment_bytes / 2**20:.0f} MiB",
        ]
