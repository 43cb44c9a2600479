"""Programs that look at live frames: ``for frame in scopecast.subscribe(): …``."""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import sys
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Self

import numpy as np
import zmq

from scopecast.errors import ClosedError, SharedMemoryError
from scopecast.frames.arrays import as_array, check_plane, native
from scopecast.frames.axes import MAX_LABEL, check_axes
from scopecast.frames.documents import DOCUMENTS
from scopecast.keywords import suggesting
from scopecast.link import messages
from scopecast.link.wakeup import WakeUp
from scopecast.protocol import ANY_KIND, MAX_TITLE
from scopecast.subscribing.frame import Frame

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.rundir.directory import Entry, Role
    from scopecast.subscribing.frame import Lease
    from scopecast.subscribing.outbox import Posted
    from scopecast.subscribing.source import SubscribedSource

__all__ = ["Subscription", "SubscriptionStats", "subscribe"]

logger = logging.getLogger(__name__)

SCAN_S: Final = 0.1
#: Earlier frames whose arrays a program may still have when it asks for the next one.
MAX_HELD: Final = 8
#: Seconds that a reply waits for its publisher to have copied earlier ones.
_REPLY_S: Final = 1.0
#: Seconds that closing waits for the last replies to be taken; a publisher that is stopped is noticed sooner.
_LAST_REPLIES_S: Final = 5.0
_REST_S: Final = 0.05
_POLL_S: Final = 1.0  # Windows handles Ctrl-C between two waits only

Policy = Literal["latest", "every"]


class SubscriptionStats(NamedTuple):
    """What has become of the frames that came, and of the replies that went.

    Attributes
    ----------
    received
        Frames that publishers have sent: the sum of the next five.
    looked_at
        Frames that the program has had.
    superseded
        Frames that a newer one replaced before the program asked for them.
    skipped
        Frames that were not asked for (also those that waited when it was closed), or could not be read.
    lost
        Frames that were taken away, because the program did not answer for too long: it was stopped.
    held
        Frames that it has now, or that wait for it.
    replies
        Replies that were made: the sum of the next five.
    taken
        Replies that were taken into the stream.
    reply_superseded
        Replies to frames that no viewer has any more.
    reply_dropped
        Replies for which there was no room, or whose publisher has gone.
    reply_refused
        Replies that can't be shown; `Subscription.problem` says why.
    on_the_way
        Replies that are not answered yet.
    """

    received: int = 0
    looked_at: int = 0
    superseded: int = 0
    skipped: int = 0
    lost: int = 0
    held: int = 0
    replies: int = 0
    taken: int = 0
    reply_superseded: int = 0
    reply_dropped: int = 0
    reply_refused: int = 0
    on_the_way: int = 0

    @property
    def balanced(self) -> bool:
        """Whether every frame and every reply is accounted for."""
        return self.received == sum(self[1:6]) and self.replies == sum(self[7:])


class Subscription:
    """The live frames of this user's programs on this machine, one after the other; made by `subscribe`.

    Iterate over it, by ``for`` or ``async for``. Use it as a context manager.

    Attributes
    ----------
    errors : int
        How often the thread that receives has failed; it goes on.
    problem : str
        Why frames may be missing, or a reply was not shown; ``""`` while nothing is wrong.
    """

    role: ClassVar[Role] = "subscriber"
    host = ""
    kinds: ClassVar[tuple[str, ...]] = ("image",)
    replies: ClassVar[bool] = False

    def __init__(
        self,
        *,
        title: str = "",
        stream: str = "",
        channels: str | int | Sequence[str | int] = (),
        axes: Mapping[str, AxisValue] = {},
        policy: Policy = "latest",
        wait: float | None = None,
        name: str = "",
    ) -> None:
        if policy not in ("latest", "every"):
            msg = f"policy {policy!r} is not known; use 'latest' (the newest frame) or 'every' (one after the other)"
            raise ValueError(msg)
        self.name = (name or Path(sys.argv[0] or "python").stem or "python")[:MAX_TITLE]
        self.errors = 0
        self.problem = self._trouble = ""
        self._title, self._stream, self._policy, self._patience = title, stream, policy, wait
        named = [channels] if isinstance(channels, str | int) else channels
        self._channels = frozenset(map(str, named))
        self._axes = check_axes(axes)
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()  # of the frames that wait, and of the counts
        self._waiting: dict[Hashable, Frame] = {}
        self._current: Frame | None = None
        self._tickets: deque[Callable[[], object]] = deque(maxlen=64)
        self._over: deque[tuple[SubscribedSource, Lease]] = deque()
        self._asked: deque[Callable[[], None]] = deque()
        self._sources: tuple[SubscribedSource, ...] = ()
        self._posting = threading.Lock()  # of the outbox, for replies from several threads
        self._posted: dict[int, tuple[SubscribedSource, Posted]] = {}
        self._numbers, self._arrivals = itertools.count(1), itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = self._ended = self._complained = False

    # ---- what the program does -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for programs that publish. Done by ``with``.

        Raises
        ------
        ClosedError
            If it is closed.
        """
        if self._closed:
            raise ClosedError("this subscription is closed; make another one")
        if self._thread is not None:
            return
        # Not with `import scopecast`, which most programs use to publish.
        from scopecast.link.transport import KeyPair
        from scopecast.rundir.directory import RunDirectory
        from scopecast.subscribing.line import LinePoller
        from scopecast.subscribing.outbox import Outbox
        from scopecast.subscribing.source import SubscribedSource

        self._make_source = SubscribedSource
        self._directory = RunDirectory()
        self._keys = KeyPair.if_possible()
        self._member = self._directory.join(
            self.role, ANY_KIND, title=self.name, host=self.host, key=self._keys.public if self._keys else ""
        )
        self._outbox = Outbox(self._member, self._wait_for)
        self._hello = messages.Hello(
            messages.PROTOCOL,
            messages.PROTOCOL,
            self._member.token,
            ANY_KIND,
            os.getpid(),
            self.name,
            replies=self.replies,
        )
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._wake = WakeUp()
        self._poller = LinePoller(self._wake)
        self._next_scan = 0.0
        self._alone_since: float | None = time.monotonic()
        self._member.entry.state = "ready"
        self._member.write()
        self._thread = threading.Thread(target=self._receive, name="scopecast-subscriber", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # should it be used without `with`

    @property
    def sources(self) -> tuple[str, ...]:
        """The titles of the programs whose frames come."""
        return tuple(source.entry.title for source in self._sources if source.state == "attached")

    def stats(self) -> SubscriptionStats:
        """Return what has become of the frames and of the replies so far."""
        with self._lock:
            counts = self._counts
            settled = [counts[name] for name in ("delivered", "superseded", "skipped", "lost")]
            answered = [counts[name] for name in ("taken", "reply superseded", "reply dropped", "refused")]
            held = counts["received"] - sum(settled)
            sent = counts["replies"]
            return SubscriptionStats._make((counts["received"], *settled, held, sent, *answered, sent - sum(answered)))

    def __iter__(self) -> Self:
        self.start()
        return self

    def __next__(self) -> Frame:
        self._end_current()
        while (frame := self._pop()) is None:
            if self._is_over():
                raise StopIteration
            self._wait_for(lambda: self._waiting or self._is_over(), time.monotonic() + self._left_s())
        return frame

    def __aiter__(self) -> Self:
        self.start()
        return self

    async def __anext__(self) -> Frame:
        import asyncio

        self._end_current()
        loop = asyncio.get_running_loop()
        while (frame := self._pop()) is None:
            if self._is_over():
                raise StopAsyncIteration
            news: asyncio.Future[None] = loop.create_future()

            def tell(news: asyncio.Future[None] = news) -> None:
                with suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(lambda: None if news.done() else news.set_result(None))

            self._tickets.append(tell)
            if not self._waiting:
                await asyncio.wait((news,), timeout=self._left_s())
        return frame

    def _left_s(self) -> float:
        """Return the seconds that may be waited before the end has to be looked for."""
        since = self._alone_since
        if self._patience is None or since is None:
            return _POLL_S
        return min(_POLL_S, max(0.001, since + self._patience - time.monotonic()))

    def _is_over(self) -> bool:
        since = self._alone_since
        return self._closed or (
            self._patience is not None and since is not None and time.monotonic() - since >= self._patience
        )

    def _end_current(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.release()
        held = sum(lease.held for source in self._sources for lease in tuple(source.leases))
        if held > MAX_HELD:
            msg = (
                f"this program still holds the arrays of {held} earlier frames, and at most {MAX_HELD} are lent: "
                f"keep frame.copy() instead"
            )
            raise RuntimeError(msg)

    def _pop(self) -> Frame | None:
        with self._lock:
            while self._waiting:
                frame = self._waiting.pop(next(iter(self._waiting)))
                if not frame.lost:
                    self._current = frame
                    return frame
                frame.release()
        return None

    def _wait_for(self, condition: Callable[[], object], deadline: float) -> None:
        while not condition() and (left := deadline - time.monotonic()) > 0:
            ticket = threading.Lock()
            ticket.acquire()
            self._tickets.append(ticket.release)
            if condition():
                return
            ticket.acquire(timeout=min(left, _POLL_S))

    def _tell(self) -> None:
        """Wake whoever waits for news."""
        while self._tickets:
            self._tickets.popleft()()

    def close(self) -> None:
        """Say goodbye to the programs that publish, once they have the last replies; the loop ends. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._thread is None:
            return
        atexit.unregister(self.close)
        try:
            self._wait_for(lambda: not self._posted, time.monotonic() + _LAST_REPLIES_S)
        finally:
            self._end(self._thread)

    def _end(self, thread: threading.Thread) -> None:
        self._ended = True
        self._wake.wake()
        thread.join(10.0)
        self._give_all_back()
        for source in self._sources:
            source.leave("the subscriber was closed")
            for lease in source.leases:  # of arrays that the program still has
                self._count(lease.fate)
        self._tell()
        self._outbox.close()
        self._member.close()
        self._context.term()
        self._wake.close()

    def _give_all_back(self) -> None:
        """Be done with the frame that the program has, and with those that it did not ask for."""
        with self._lock:
            left, self._waiting = list(self._waiting.values()), {}
        for frame in left:
            frame.skip()
        current, self._current = self._current, None
        if current is not None:
            current.release()
        self._settle()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        import asyncio

        await asyncio.to_thread(self.close)

    def __repr__(self) -> str:
        """Return what it is attached to."""
        return (
            f"<Subscription of {', '.join(self.sources) or 'no source yet'}{'; ' * bool(self.problem)}{self.problem}>"
        )

    # ---- replies -------------------------------------------------------------------------------------------------

    def _reply(
        self, source: SubscribedSource, lease: Lease, axes: Any, data: Any, kind: str, about: dict[str, Any]
    ) -> bool:
        """Put a reply to a frame on its way; see `Frame.reply`."""
        frame = lease.message
        from scopecast.frames.annotations import checked_name

        name = checked_name(about["name"] or self.name[:MAX_LABEL])
        array = _prepared(kind, data, axes, frame.shape, {**about, "name": name})
        with self._lock:
            self._counts["replies"] += 1
        posted = None
        if source.state == "attached" and not self._closed:
            with self._posting:
                try:
                    posted = self._outbox.put(array, _REPLY_S)
                except SharedMemoryError as error:
                    self._complain(f"a reply could not be sent: {error}")
                else:
                    if posted is None:
                        self._complain(f"a reply was dropped: {source.entry.title} has not taken the earlier ones yet")
        if posted is None:
            self._count("reply dropped")
            return False
        number = next(self._numbers)
        message = messages.Reply(number, frame.sequence, *posted, kind, array.dtype.str, list(array.shape), name)
        self._posted[number] = source, posted
        self._asked.append(lambda: self._send(source, message))
        self._wake.wake()
        return True

    def _send(self, source: SubscribedSource, message: messages.Reply) -> None:
        if not (source.state == "attached" and source.send(message)):
            self._settle_reply(message.number, "reply dropped")

    def _answered(self, source: SubscribedSource, message: messages.Replied | messages.Marked) -> None:
        if not isinstance(message, messages.Replied):
            return
        if message.fate == "refused":
            self._complain(f"a reply is not shown: {message.reason}")
        elif message.fate == "dropped" and message.reason:
            self._complain(f"a reply was dropped: {message.reason}")
        fate = f"reply {message.fate}" if message.fate in ("superseded", "dropped") else message.fate
        self._settle_reply(message.number, fate)

    def _settle_reply(self, number: int, fate: str) -> None:
        with self._lock:
            _, posted = self._posted.pop(number, (None, None))
            if posted is not None:
                self._outbox.free(posted)
                self._counts[fate] += 1
        self._tell()

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1

    def _complain(self, problem: str) -> None:
        self.problem = self._trouble = problem
        logger.log(logging.DEBUG if self._complained else logging.WARNING, "scopecast: %s", problem)
        self._complained = True

    # ---- on the thread that receives -----------------------------------------------------------------------------

    def _receive(self) -> None:
        more = False
        while not self._ended:
            try:
                more = self._turn(more)
            except Exception as error:  # noqa: BLE001 - there is no other thread that would receive; counted, and told
                more = False
                self.errors += 1
                self._complain(f"receiving: {type(error).__name__}: {error} (will be tried again)")
                time.sleep(_REST_S)  # it may come again at once, and would then take the whole processor

    def _turn(self, more: bool) -> bool:
        """Wait for what publishers send, or until it is time to look for them. Return whether there may be more."""
        self._settle()
        while self._asked:
            self._asked.popleft()()
        connected = [source for source in self._sources if source.connected]
        ready = self._poller.wait(connected, None if more else self._next_scan)
        more = False
        for source in connected:
            more = source.attend(ready) or more
        self._settle()
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + SCAN_S  # first: what fails is not tried again at once
            self._scan()
        return more

    def _settle(self) -> None:
        """Give back the slots of frames that are over."""
        while self._over:
            source, lease = self._over.popleft()
            source.settle(lease)
            if lease.lost and lease.fate == "delivered":
                self._complain("a frame was taken away before this program was done with it")
            self._count("lost" if lease.lost else lease.fate)

    def _give_back(self, source: SubscribedSource, lease: Lease) -> None:
        self._over.append((source, lease))
        if threading.current_thread() is not self._thread and not self._ended:
            self._wake.wake()

    def _take(self, source: SubscribedSource, lease: Lease, about: messages.Stream, axes: dict[str, int | str]) -> bool:
        """Have a frame wait for the program. Return False if it is not wanted."""
        self._count("received")
        # What comes from another machine may come twice, as a preview and exact: a program has it once.
        again = lease.message.late if self._policy == "latest" else lease.message.preview
        if self._closed or again:
            return False
        index = dict(zip(about.axes, lease.message.index, strict=False))
        if self._stream and about.title != self._stream:
            return False
        if self._channels and not self._channels & {str(axes.get("c", "")), str(index.get("c", ""))}:
            return False
        if any(place not in (axes.get(axis, 0), index.get(axis, 0)) for axis, place in self._axes.items()):
            return False
        frame = self._frame(source, lease, about, axes)
        latest = self._policy == "latest"
        key = (source.entry.token, about.id, axes.get("c")) if latest else next(self._arrivals)
        with self._lock:
            former = self._waiting.pop(key, None)
            self._waiting[key] = frame
        if former is not None:
            former.supersede()
        self._tell()
        return True

    def _frame(
        self, source: SubscribedSource, lease: Lease, about: messages.Stream, axes: dict[str, int | str]
    ) -> Frame:
        return Frame(lease, about, axes, source.entry.title, lambda *reply: self._reply(source, *reply))

    def _over_with(self, source: SubscribedSource, stream: int | None) -> None:
        """Take note that no more frames come of a stream; None: of any of the source."""

    def _lost(self, source: SubscribedSource) -> None:
        """Take note that a publisher has gone, or has taken back what it had lent."""
        with self._lock:
            gone = [number for number, (whose, _) in self._posted.items() if whose is source]
        if gone:
            replies = "a reply was" if len(gone) == 1 else f"{len(gone)} replies were"
            self._complain(f"{replies} dropped: {source.entry.title} has gone before it had taken all")
        for number in gone:
            self._settle_reply(number, "reply dropped")
        self._tell()

    def _scan(self) -> None:
        """Check the sources, and attach to new publishers."""
        for source in self._sources:
            if source.connected:
                source.check()
        if self._member.removed:
            self._member.write()
        alive = [
            entry
            for entry in self._directory.entries("publisher")
            if entry.state == "ready" and self._directory.alive(entry.token)
        ]
        wanted = [entry for entry in alive if self._wants(entry)]
        known = {source.entry.token for source in self._sources if source.state != "lost"}
        for entry in wanted:
            if entry.token not in known and not self._has_twin(entry):
                source = self._make_source(
                    entry,
                    self._directory,
                    self._hello,
                    self._context,
                    self._keys,
                    take=self._take,
                    answered=self._answered,
                    give_back=self._give_back,
                    lost=self._lost,
                    over=self._over_with,
                    kinds=self.kinds,
                )
                self._sources = (*self._sources, source)
        self._sources = tuple(source for source in self._sources if source.connected or source.leases)
        connected = any(source.connected for source in self._sources)
        if connected or self._waiting:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = time.monotonic()
        self.problem = self._why_alone(alive) if not connected else self._refused() or self._trouble
        self._tell()

    def _wants(self, entry: Entry) -> bool:
        """Whether to attach to a publisher."""
        return self._title in ("", entry.title)

    def _has_twin(self, entry: Entry) -> bool:
        """Whether we are attached to the same program already, which publishes the same for another kind of viewer."""
        return any(source.connected and are_twins(source.entry, entry) for source in self._sources)

    def _refused(self) -> str:
        return next((source.problem for source in self._sources if source.state == "refused"), "")

    def _why_alone(self, alive: Sequence[Entry]) -> str:
        if not self._title or not alive:
            return ""
        return f"no program publishes under the title {self._title!r}, only {', '.join(e.title for e in alive)}"


def are_twins(one: Entry, other: Entry) -> bool:
    """Whether two publishers are of the same program, which publishes the same for two kinds of viewers."""
    same = (one.pid, one.created, one.title) == (other.pid, other.created, other.title)
    return same and one.kind != other.kind


def _prepared(kind: str, data: Any, axes: Any, shape: Sequence[int], more: dict[str, Any]) -> npt.NDArray[Any]:
    """Return a reply as it lies in a slot.

    Raises
    ------
    ValueError, TypeError, UnsupportedDtypeError
        If it can't be shown on a frame of this shape.
    """
    if kind == "image":
        if unknown := sorted(more.keys() - {"name"}):
            raise TypeError(f"reply(kind='image') has no keyword {', '.join(unknown)}: it has name")
        array = as_array(data)
        check_plane(array.shape, array.dtype)
        return array.astype(native(array.dtype), copy=False)
    from scopecast.frames.annotations import prepare

    if kind == "tracks" and "t" in axes and np.shape(data)[1:] > (3,):
        raise ValueError("a reply lies on its frame, which has a t: give the tracks as (id, y, x), without t")
    array, where, _, _ = prepare(kind, data, axes, None, more)
    if strangers := sorted(where.keys() - axes.keys()):
        raise ValueError(f"a reply lies on its frame: give coordinates (y, x), without {', '.join(strangers)}")
    if kind in DOCUMENTS:
        return array
    if array.shape != tuple(shape[:2]):
        raise ValueError(f"labels of the shape {array.shape} don't fit a frame of {tuple(shape[:2])}")
    if array.dtype.itemsize > 2 and array.size and array.min() >= 0 and array.max() < 2**16:
        return array.astype(np.uint16)  # what algorithms call int64 has a few thousand values
    return array.astype(native(array.dtype), copy=False)


@suggesting
def subscribe(
    *,
    title: str = "",
    stream: str = "",
    channels: str | int | Sequence[str | int] = (),
    axes: Mapping[str, AxisValue] = {},
    policy: Policy = "latest",
    wait: float | None = None,
    name: str = "",
) -> Subscription:
    """Look at the live frames of this user's programs on this machine, in any Python program.

    It is not a viewer: it keeps none from being launched, and takes the frames of programs that publish for any kind of
    viewer, only once from a program that publishes for two. It costs a publisher no more than a viewer does. Only
    images that were published come: neither annotations, nor what this or another program has replied.

    Parameters
    ----------
    title
        Only programs that publish under this title.
    stream
        Only streams (runs) with this title.
    channels
        Only these channels, by their names or numbers.
    axes
        Only frames at these places, such as ``{"z": 5}``.
    policy
        ``"latest"``: the newest frame of each channel; those that come while the program works are superseded.
        ``"every"``: one after the other. A publisher of the policy ``every`` then waits for this program as for a
        viewer, and nothing is lost; one of ``latest`` does not, and sends what it can. Of frames that come from
        another machine by a slow link, ``"latest"`` has what comes first (`Frame.preview` tells whether it is exact),
        and ``"every"`` the exact ones, whenever they come.
    wait
        Seconds after which the loop ends if there is no program whose frames could come. By default it goes on for
        ever: a program that is started again is found again.
    name
        What this program calls itself in ``scopecast viewers``, and its replies; by default the program's name.

    Returns
    -------
    Subscription
        To be iterated over, in a ``with`` block: each `Frame` is valid until the next one is asked for.

    Raises
    ------
    ValueError, TypeError
        If an argument is not allowed.

    Examples
    --------
    >>> from scopecast import Publisher
    >>> with subscribe(title="camera 1") as frames, Publisher("napari", title="camera 1") as publisher:
    ...     _ = publisher.publish(np.arange(12, dtype="uint16").reshape(3, 4), axes={"t": 0, "c": "DAPI"})
    ...     for frame in frames:
    ...         print(frame.axes, frame.array.max())
    ...         break
    {'t': 0, 'c': 'DAPI'} 11
    """
    return Subscription(title=title, stream=stream, channels=channels, axes=axes, policy=policy, wait=wait, name=name)
