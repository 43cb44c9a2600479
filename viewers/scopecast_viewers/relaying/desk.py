"""A desk, as the relay sees it: what it has, what it is sent next, and its account.

It knows neither sockets nor encoders: `Desk.next` says what is to be encoded, `Desk.sent` and `Desk.acknowledged` what
has become of that. Used under the relay's lock.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np

from scopecast.frames.documents import DOCUMENTS
from scopecast.remote import messages
from scopecast.remote.codec import has_preview
from scopecast.remote.quality import LADDER, number_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Iterator

    import numpy.typing as npt

    from scopecast.remote.ladder import LinkPace
    from scopecast_viewers.relaying.shelf import Kept, RelayedRun, RelayedSource

__all__ = ["Desk", "Job"]

#: Bytes of pixels in a piece of a frame that is sent while nothing new comes: at first, at least, and at most.
PIECE_BYTES: Final = 64 * 1024
_LEAST_PIECE, _MOST_PIECE = 16 * 1024, 2**20
#: A piece that occupies the link for longer is followed by smaller ones, and one that does for less by larger ones: the
#: link is free again soon when something new comes.
_LONG_NS, _SHORT_NS = 60_000_000, 25_000_000
#: Pieces that are on their way at a time, and one more for each of these times in the round trip.
_FILLING: Final = 2
_ONE_MORE_NS: Final = 50_000_000

State = Literal["waiting", "sending", "preview", "exact", "superseded"]
Rectangle = tuple[int, int, int, int]  # y, x, rows, columns


class Job(NamedTuple):
    """What is to be encoded and sent next.

    Attributes
    ----------
    kept
        The frame.
    quality
        An index of `scopecast.remote.quality.LADDER`.
    piece
        The rectangle (y, x, rows, columns) of it; None: all.
    shown
        Whether what has come of the frame by then is to be shown.
    last
        Whether the desk has the whole frame then.
    late
        Whether it fills up what the desk lacks, while nothing new comes.
    news
        Whether it has come since the desk is there.
    """

    kept: Kept
    quality: int
    piece: Rectangle | None = None
    shown: bool = True
    last: bool = True
    late: bool = False
    news: bool = True


class _Offered:
    """A frame, and what the desk has of it."""

    __slots__ = ("kept", "news", "state")

    def __init__(self, kept: Kept, *, news: bool = True) -> None:
        self.kept, self.news = kept, news
        self.state: State = "waiting"


class Desk:
    """Who watches from another machine.

    Parameters
    ----------
    hello
        What it says of itself.
    pace
        Chooses the quality, and says when more may be sent.

    Attributes
    ----------
    address : bytes
        Where its messages come from; ``b""`` while it is away.
    outbox : deque of bytes
        Messages that are to be sent to it, in order.
    connected, since, heard, left : float
        Since when it is there, when it was told of all sources last, when it said something last, and since when it is
        away, by ``time.monotonic()``.
    encoding : Job or None
        What is being encoded for it.
    told_gone : set of int
        The sources of which it was told that nothing more comes.
    """

    def __init__(self, hello: messages.Hello, pace: LinkPace) -> None:
        self.session, self.title, self.every = hello.session, hello.title, hello.every
        self.address, self.connected, self.since, self.heard, self.left = b"", 0.0, 0.0, 0.0, 0.0
        self.outbox: deque[bytes] = deque()
        self.encoding: Job | None = None
        self.told_gone: set[int] = set()
        self.pace = pace
        self._number = 0
        self._counts: Counter[str] = Counter()
        self._offered: dict[int, _Offered] = {}
        self._live: dict[Hashable, Kept] = {}
        self._in_order: deque[Kept] = deque()
        self._pinned: dict[int, Kept] = {}  # that it is to have, whatever takes their places
        self._fetched: set[int] = set()
        self._declined: set[int] = set()
        self._backlog: list[Kept] = []  # what is to be sent exact, the next last
        self._filling: tuple[Kept, Iterator[Job]] | None = None
        self._fills_on_the_way: dict[int, Job] = {}
        self._fills_sent: dict[int, int] = {}
        self._piece_bytes = PIECE_BYTES
        self._last_fill_ns = 0  # when one was acknowledged
        self._on_the_way: dict[int, Job] = {}
        self._view: tuple[RelayedRun, list[int], list[int]] | None = None

    @property
    def account(self) -> messages.DeskAccount:
        """What has become of the frames."""
        counts = self._counts
        return messages.DeskAccount(*(counts[name] for name in messages.DeskAccount.__struct_fields__))

    @property
    def pinned_bytes(self) -> int:
        """Bytes of frames that are held for it, whatever takes their places."""
        return sum(kept.pinned.nbytes for kept in self._pinned.values() if kept.pinned is not None)

    # ---- what there is -------------------------------------------------------------------------------------------

    def offer(
        self, kept: Kept, former: Kept | None, pixels: npt.NDArray[Any] | None = None, *, news: bool = True
    ) -> None:
        """Take note of a frame that has come, and of the one whose place it takes.

        A desk that is to have every frame holds the pixels, once it has somebody to show them to: it fetches the source
        then, and has all in its order.
        """
        if former is not None:
            self._forget(former)
        fetched = kept.run.source.number in self._fetched
        if kept.run.source.number in self._declined or (self.every and not fetched):
            return
        offered = self._offered.get(kept.serial)
        if offered is None:
            offered = self._offered[kept.serial] = _Offered(kept, news=news)
            self._counts.update(("came", "waiting"))
        else:  # it is sent once more
            self._move(offered, "waiting")
        if self.every:
            self._in_order.append(kept)
            if self.address and pixels is not None:
                kept.pinned = pixels
                kept.pins += 1
                self._pinned[kept.serial] = kept
            return
        if fetched:
            self._backlog.append(kept)
        if kept.message.late:
            if not fetched:
                self._move(offered, "superseded")
            return
        replaced = self._live.pop(kept.channel, None)
        self._live[kept.channel] = kept
        if replaced is not None and not fetched:
            self._supersede(replaced)

    def _forget(self, kept: Kept) -> None:
        """Take note that a frame is not kept any more."""
        if kept.serial in self._pinned:
            return
        self._supersede(kept)
        offered = self._offered.get(kept.serial)
        if offered is not None and offered.state != "sending":
            del self._offered[kept.serial]

    def _unpin(self, kept: Kept) -> None:
        if self._pinned.pop(kept.serial, None) is not None:
            kept.pins -= 1
            if not kept.pins:
                kept.pinned = None

    def _supersede(self, kept: Kept) -> None:
        """Take note that a frame is not to be sent any more, if nothing of it was."""
        offered = self._offered.get(kept.serial)
        if offered is not None and offered.state == "waiting":
            self._move(offered, "superseded")

    def _move(self, offered: _Offered, state: State) -> None:
        self._counts[offered.state] -= 1
        self._counts[state] += 1
        offered.state = state

    def fetch(self, source: RelayedSource) -> None:
        """Have all frames of a source sent, exact: the newest first, or with `every` in their order.

        Then what is on its way comes once more at its place, as not all that are there have got it.
        """
        self._fetched.add(source.number)
        for run in source.runs.values():
            for kept in run.frames():
                offered = self._offered.get(kept.serial)
                if offered is None:
                    self._offered[kept.serial] = _Offered(kept)
                    self._counts.update(("came", "waiting"))
                elif offered.state != "sending" or self.every:
                    self._move(offered, "waiting")
        if not self.every:
            wanted = (each.kept for each in self._offered.values() if each.kept.run.source.number in self._fetched)
            self._backlog = sorted(wanted, key=lambda kept: kept.serial)
            return
        if self.encoding is not None:  # it would come before the first
            offered = self._offered.get(self.encoding.kept.serial)
            if offered is not None:
                self._move(offered, "waiting")
            self.encoding = None
        wanted = (each.kept for each in self._offered.values() if each.state == "waiting")
        self._in_order = deque(sorted(wanted, key=lambda kept: kept.serial))

    def recall(self, now: float) -> None:
        """Forget that it was told of sources that have ended, and has fetched them: it is to be told of them again."""
        self._fetched -= self.told_gone
        self.told_gone.clear()
        self.since = now  # it has time to fetch them

    def has_fetched(self, source: RelayedSource) -> bool:
        """Whether it wants all frames of a source."""
        return source.number in self._fetched

    def decline(self, source: RelayedSource) -> None:
        """Send nothing of a source."""
        self._declined.add(source.number)
        self.forget_source(source)

    def look(self, run: RelayedRun, index: list[int], region: list[int]) -> None:
        """Prefer the frames at a place of a run, and that region of them."""
        if self._view == (run, index, region):
            return
        self._view = (run, index, region)
        if self._filling is not None:
            kept, _ = self._filling
            self._filling = None
            self._backlog.append(kept)
            offered = self._offered.get(kept.serial)
            if offered is not None and offered.state == "sending":
                self._move(offered, "waiting")

    def lacks(self, source: RelayedSource) -> bool:
        """Whether something is still to be sent, or acknowledged, of a source."""
        if any(kept.run.source is source for kept in (*self._live.values(), *self._in_order)):
            return True
        on_the_way = (*self._on_the_way.values(), *self._fills_on_the_way.values())
        if any(job.kept.run.source is source for job in on_the_way):
            return True
        if source.number not in self._fetched:
            return False
        return any(
            each.state != "exact" and each.kept.run.source is source and not each.kept.gone
            for each in self._offered.values()
        )

    def forget_gone(self) -> None:
        """Let go of what is known of frames that are not kept any more; to be called now and then."""
        for offered in tuple(self._offered.values()):
            if offered.kept.gone:
                self._forget(offered.kept)
        self._backlog = [kept for kept in self._backlog if not kept.gone]

    def forget_source(self, source: RelayedSource) -> None:
        """Let go of what is known of a source's frames."""
        self._fetched.discard(source.number)
        for kept in tuple(self._pinned.values()):
            if kept.run.source is source:
                self._unpin(kept)
        self._live = {channel: kept for channel, kept in self._live.items() if kept.run.source is not source}
        self._in_order = deque(kept for kept in self._in_order if kept.run.source is not source)
        self._backlog = [kept for kept in self._backlog if kept.run.source is not source]
        for offered in tuple(self._offered.values()):
            if offered.kept.run.source is source:
                self._forget(offered.kept)

    # ---- what is sent --------------------------------------------------------------------------------------------

    def probes(self, now_ns: int) -> bool:
        """Return whether a small message is to be sent now that measures the round trip of the idle link."""
        return bool(self.address) and not self._fills_on_the_way and self.pace.probe(now_ns)

    def next(self, now_ns: int) -> Job | None:
        """Return what is to be encoded now; None if there is nothing, or as much as may be is on its way."""
        if not self.address or self.encoding is not None:
            return None
        job = self._next_live(now_ns) or self._next_fill()
        if job is not None:
            self.encoding = job
            offered = self._offered.get(job.kept.serial)
            if offered is not None and offered.state == "waiting":
                self._move(offered, "sending")
        return job

    def _next_live(self, now_ns: int) -> Job | None:
        # Behind what fills the past a frame would take longer than the link needs for it.
        if self._fills_on_the_way or not self.pace.may_send(now_ns):
            return None
        while self._in_order:
            kept = self._in_order.popleft()
            if kept.serial in self._offered and not (kept.gone and kept.pinned is None):
                return Job(kept, 0, late=kept.message.late)
        while self._live:
            # In the order in which they came: each channel has its turn.
            kept = self._live.pop(next(iter(self._live)))
            if (offered := self._offered.get(kept.serial)) is not None and not kept.gone:
                return self._job_of(kept, offered.news)
        return None

    def _job_of(self, kept: Kept, news: bool) -> Job:
        if kept.message.kind != "image" or not has_preview(kept.message.shape, kept.message.dtype):
            return Job(kept, 0, news=news)
        return Job(kept, number_of(self.pace.quality), news=news)

    def _next_fill(self) -> Job | None:
        most = _FILLING + self.pace.round_trip // _ONE_MORE_NS
        if self._live or self._in_order or self._on_the_way or len(self._fills_on_the_way) >= most:
            return None
        while True:
            if self._filling is None:
                kept, region = self._most_wanted()
                if kept is None:
                    return None
                self._filling = kept, self._pieces(kept, region)
            kept, jobs = self._filling
            job = None if kept.gone else next(jobs, None)
            if job is not None:
                return job
            self._filling = None
            if kept.gone:
                self._give_up(kept)

    def _most_wanted(self) -> tuple[Kept | None, list[int]]:
        """Return the frame whose exact pixels are wanted most, and the region of it."""
        if self._view is not None:
            run, index, region = self._view
            for kept in run.at(index) if run.source.number in self._fetched else ():
                if self._is_wanted(kept):
                    return kept, region
        while self._backlog:
            kept = self._backlog.pop()
            if self._is_wanted(kept):
                return kept, []
        return None, []

    def _pieces(self, kept: Kept, region: Iterable[int]) -> Iterator[Job]:
        """Yield the pieces of a frame, exact, the region first, each as large as it is to be by then."""
        shape, dtype = kept.message.shape, np.dtype(kept.message.dtype)
        if kept.message.kind in DOCUMENTS:
            yield Job(kept, 0, late=True)
            return
        parts = deque(_parts(shape[0], shape[1], [*region]))
        of_region = 1 if len(parts) > 1 else 0
        while parts:
            y, x, rows, columns = parts.popleft()
            step = max(1, self._piece_bytes // (columns * dtype.itemsize * math.prod(shape[2:])))
            if step < rows:
                parts.appendleft((y + step, x, rows - step, columns))
            elif of_region:
                of_region -= 1
                yield Job(kept, 0, (y, x, rows, columns), last=False, late=True)
                continue
            whole = [rows, columns] == shape[:2] and step >= rows
            piece = None if whole else (y, x, min(step, rows), columns)
            yield Job(kept, 0, piece, shown=not parts, last=not parts, late=True)

    def _is_wanted(self, kept: Kept) -> bool:
        """Whether the exact pixels of a frame are still to be sent."""
        offered = self._offered.get(kept.serial)
        if offered is None or offered.state in ("exact", "sending") or kept.gone:
            return False
        return not any(job.kept is kept and job.last for job in self._fills_on_the_way.values())  # all has been sent

    def sent(self, job: Job, now_ns: int, nbytes: int = 0) -> int:
        """Return the number of what is sent now in so many bytes, and take note of it."""
        self._number += 1
        self.encoding = None
        self._unpin(job.kept)
        if self._is_fill(job):
            self._fills_on_the_way[self._number] = job
            self._fills_sent[self._number] = now_ns
        else:
            self._on_the_way[self._number] = job
            message = job.kept.message
            share = None
            if message.kind == "image" and nbytes:
                share = nbytes / (math.prod(message.shape) * np.dtype(message.dtype).itemsize)
            self.pace.sent(self._number, now_ns, LADDER[job.quality], share)
        return self._number

    def _is_fill(self, job: Job) -> bool:
        return job.late and not self.every

    def failed(self, job: Job) -> None:
        """Take note that a frame can't be sent: it is not kept any more, or can't be encoded."""
        self.encoding = None
        self._unpin(job.kept)
        self._give_up(job.kept)
        if self._filling is not None and self._filling[0] is job.kept:
            self._filling = None

    def _give_up(self, kept: Kept) -> None:
        """Take note that no more of a frame can be sent."""
        offered = self._offered.get(kept.serial)
        if offered is not None:
            if offered.state == "sending":
                self._move(offered, "superseded")
            self._forget(kept)

    def acknowledged(self, number: int, now_ns: int, busy_ns: int = 0, *, refused: bool) -> None:
        """Take note of what has become of a message, and of how long the desk took to decode and show it."""
        job = self._fills_on_the_way.pop(number, None)
        if job is not None:
            self._adapt(self._fills_sent.pop(number), now_ns)
        else:
            job = self._on_the_way.pop(number, None)
            if job is None:
                return
            self.pace.acknowledged(number, now_ns, busy_ns)
        offered = self._offered.get(job.kept.serial)
        if offered is None:
            return
        if refused:
            self._counts[offered.state] -= 1
            self._counts["refused"] += 1
            del self._offered[job.kept.serial]
        elif job.last and job.quality == 0:
            self._move(offered, "exact")
        elif job.shown and offered.state in ("waiting", "sending", "superseded"):
            self._move(offered, "preview")
        if job.kept.gone:
            self._forget(job.kept)

    def _adapt(self, sent_ns: int, now_ns: int) -> None:
        """Choose the size of the next pieces by how long one has occupied the link."""
        took = min(now_ns - sent_ns - self.pace.round_trip, now_ns - self._last_fill_ns)
        self._last_fill_ns = now_ns
        if took > _LONG_NS:
            self._piece_bytes = max(_LEAST_PIECE, self._piece_bytes // 2)
        elif took < _SHORT_NS:
            self._piece_bytes = min(_MOST_PIECE, self._piece_bytes * 2)

    def away(self, now: float) -> None:
        """Take note that the connection has broken; what was on its way is to be sent again."""
        self.address, self.left = b"", now
        self.outbox.clear()
        for kept in tuple(self._pinned.values()):  # the acquisition does not wait for who is away
            self._unpin(kept)
            if kept.gone:
                self._forget(kept)
        jobs = [*self._on_the_way.values(), *self._fills_on_the_way.values()]
        if self.encoding is not None:
            jobs.append(self.encoding)
        if self._filling is not None:
            jobs.append(Job(self._filling[0], 0, late=True))
        self.encoding = None
        self._on_the_way.clear()
        self._fills_on_the_way.clear()
        self._fills_sent.clear()
        self._filling = None
        for job in sorted(jobs, key=lambda job: -job.kept.serial):
            offered = self._offered.get(job.kept.serial)
            if offered is None:
                continue
            if offered.state == "sending":
                self._move(offered, "waiting")
            if job.kept.gone:
                self._forget(job.kept)
            elif self.every:
                self._in_order.appendleft(job.kept)
            elif self._is_fill(job):
                self._backlog.append(job.kept)
            else:
                self._live.setdefault(job.kept.channel, job.kept)

    def back(self, address: bytes, hello: messages.Hello, pace: LinkPace, now: float) -> None:
        """Take note that it is there (again)."""
        self.address, self.pace = address, pace
        self.connected = self.since = self.heard = now
        self.title, self.every = hello.title, hello.every


def _parts(height: int, width: int, region: list[int]) -> list[Rectangle]:
    """Return the rectangles that a frame is sent as: the region, and what is around it; or all of it.

    >>> _parts(10, 20, [2, 4, 3, 5])
    [(2, 4, 3, 5), (0, 0, 2, 20), (2, 0, 3, 4), (2, 9, 3, 11), (5, 0, 5, 20)]
    >>> _parts(10, 20, [])
    [(0, 0, 10, 20)]
    """
    if len(region) == 4:
        y, x = min(region[0], height - 1), min(region[1], width - 1)
        rows, columns = min(region[2], height - y), min(region[3], width - x)
        if rows and columns and rows * columns < height * width:
            parts = [
                (y, x, rows, columns),
                (0, 0, y, width),
                (y, 0, rows, x),
                (y, x + columns, rows, width - x - columns),
                (y + rows, 0, height - y - rows, width),
            ]
            return [part for part in parts if part[2] and part[3]]
    return [(0, 0, height, width)]
