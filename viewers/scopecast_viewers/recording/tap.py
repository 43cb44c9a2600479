"""Where a recorder gets its frames: a subscription to every frame that also says when a run is over."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from scopecast.subscribing.frame import Frame
from scopecast.subscribing.subscription import Subscription, are_twins

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.link import messages
    from scopecast.rundir.directory import Entry
    from scopecast.subscribing.frame import Lease
    from scopecast.subscribing.source import SubscribedSource

__all__ = ["CaughtFrame", "RunOver", "Tap"]


#: Answers that are kept for who has asked, each for as long as it takes a viewer to look.
_MOST_TOLD: Final = 16


class CaughtFrame(Frame):
    """A frame, with what its publisher has said of it.

    Attributes
    ----------
    message
        The announcement of the frame.
    about
        That of its stream, the newest.
    publisher
        Who has published it.
    """

    def __init__(self, lease: Lease, about: messages.Stream, axes: dict[str, int | str], publisher: Entry) -> None:
        super().__init__(lease, about, axes, publisher.title, lambda *_, **__: False)
        self.message, self.about, self.publisher = lease.message, about, publisher
        where = dict(zip(axes, self.message.index, strict=True))
        self.message.index = [where.get(axis, 0) for axis in about.axes]  # some may have joined since


class RunOver(NamedTuple):
    """No more frames come of a run. It comes behind the last of them.

    Attributes
    ----------
    publisher, title
        Its token, and what it calls itself.
    stream
        The number of the run's stream; None: of all that the publisher had.
    missed
        How many frames of the publisher have not come so far, in all of its runs.
    how
        ``"ended"``: in good order. ``"died"``: the publisher has been killed, or has crashed. ``"gone"``: it has ended
        while this process did not answer, and what it said then did not come.
    is_known
        Whether `missed` has all.
    from_elsewhere
        Its program is on another machine (`scopecast connect`): frames of the run may still be on their way.
    """

    publisher: str
    title: str
    stream: int | None
    missed: int
    how: Literal["ended", "died", "gone"]
    is_known: bool
    from_elsewhere: bool = False

    def release(self) -> None:
        """Do nothing: it is in line with the frames, but has nothing lent."""


class Tap(Subscription):
    """Every image and all labels that are published, one after the other, and the ends of the runs.

    Parameters
    ----------
    keeps
        The time that is kept in memory, as the user has said it (``"30s"``); ``""`` if all is written.
    **chosen
        What is wanted, as `scopecast.subscribe` has it.

    Attributes
    ----------
    unwanted : collections.Counter
        How many frames came that were not chosen, by the title of the program, of the run, and the channel.
    asked_to_keep : callable
        Called with the moment, by `scopecast.protocol.clock_ns`, at which a program of this user has asked to keep what
        is in memory.
    """

    role = "recorder"
    kinds = ("image", "labels")
    asked_to_keep: Callable[[int], None] = staticmethod(lambda moment_ns: None)

    def __init__(self, *, keeps: str = "", **chosen: Any) -> None:
        super().__init__(policy="every", **chosen)
        self.host = keeps
        self.unwanted: Counter[tuple[str, str, str]] = Counter()
        self._recorded: dict[str, Entry] = {}
        self._told: deque[tuple[int, str]] = deque(maxlen=_MOST_TOLD)

    def next(self, timeout: float) -> CaughtFrame | RunOver | None:
        """Return what comes next; None if nothing has within `timeout` seconds. The frame before is given back."""
        self._end_current()
        if not self._waiting:
            self._wait_for(lambda: self._waiting or self.over, time.monotonic() + timeout)
        with self._lock:
            if not self._waiting:
                return None
            waiting: dict[Any, Any] = self._waiting
            caught: CaughtFrame | RunOver = waiting.pop(next(iter(waiting)))
        self._current = caught  # type: ignore[assignment]  # it is released as a frame is
        return caught  # also a frame that was taken away: it is to be counted

    @property
    def waiting(self) -> int:
        """How many frames and ends of runs wait."""
        return len(self._waiting)

    @property
    def over(self) -> bool:
        """Whether nothing will come any more: nobody has published for as long as it was to wait."""
        return self._is_over() and not self._waiting

    def has_all_until(self, moment_ns: int) -> bool:
        """Whether all that was published until a moment, by `scopecast.protocol.clock_ns`, has come."""
        return not self._waiting and all(
            source.settled_ns >= moment_ns for source in self._sources if source.state == "attached"
        )

    def tell_kept(self, text: str) -> None:
        """Tell who has asked to keep something what has become of it; from any thread."""
        if self._closed:  # and its entry has gone
            return
        with self._lock:
            self._told.append((self._told[-1][0] + 1 if self._told else 1, text))
            self._directory.tell_kept(self._member.token, tuple(self._told))

    def _scan(self) -> None:
        super()._scan()
        if self.host:  # it keeps the past, and is to answer soon
            for source in self._sources:
                source.look_whether_settled()
        if (moment_ns := self._directory.asked_to_keep(self._member.token)) is not None:
            self.asked_to_keep(moment_ns)

    def _frame(
        self, source: SubscribedSource, lease: Lease, about: messages.Stream, axes: dict[str, int | str]
    ) -> Frame:
        return CaughtFrame(lease, about, axes, source.entry)

    def _over_with(self, source: SubscribedSource, stream: int | None) -> None:
        if not self._records(source.entry):
            return
        token, is_known = source.entry.token, True
        how: Literal["ended", "died", "gone"] = "ended"
        if source.state == "lost":
            is_known = source.take_rest()
            how = "died" if self._directory.file(token, "json").exists() else "gone"  # who ends removes its entry
        over = RunOver(token, source.entry.title, stream, source.missed, how, is_known, bool(source.entry.origin))
        with self._lock:
            self._waiting[next(self._arrivals)] = over  # type: ignore[assignment]
        self._tell()

    # A publisher that opens waits for all recorders. So this one attaches to all of them, and takes only what is
    # wanted: of one title, and of twins what the first has.

    @property
    def sources(self) -> tuple[str, ...]:
        """The titles of the programs that are recorded."""
        return tuple(title for title in super().sources if self._title in ("", title))

    def _wants(self, entry: Entry) -> bool:
        return True

    def _has_twin(self, entry: Entry) -> bool:
        return False

    def _take(self, source: SubscribedSource, lease: Lease, about: messages.Stream, axes: dict[str, int | str]) -> bool:
        if super()._wants(source.entry) and self._is_first(source):
            self._recorded[source.entry.token] = source.entry
            taken = super()._take(source, lease, about, axes)
        else:
            self._count("received")
            taken = False
            if super()._wants(source.entry):  # the second of twins
                return False
        if not taken and not self._closed:
            self.unwanted[source.entry.title, about.title, str(axes.get("c", ""))] += 1
        return taken

    def _records(self, entry: Entry) -> bool:
        """Whether frames of it were recorded, or would have been: it is wanted, and not the second of twins."""
        if entry.token in self._recorded:
            return True
        return super()._wants(entry) and not any(are_twins(each, entry) for each in self._recorded.values())

    def _is_first(self, source: SubscribedSource) -> bool:
        """Whether it is the first that is connected of those by which a program publishes the same."""
        twins = (each for each in self._sources if each is source or are_twins(each.entry, source.entry))
        return next(each for each in twins if each is source or each.connected) is source
