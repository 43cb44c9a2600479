"""How a relay gets its frames: a subscription to all that is published on this machine, copied out at once."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from scopecast.errors import ProtocolError
from scopecast.frames.annotations import KINDS
from scopecast.link.messages import Marked
from scopecast.subscribing.subscription import Subscription, are_twins
from scopecast_viewers.stacks.pool import PlanePool

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from scopecast.link import messages
    from scopecast.link.transport import KeyPair
    from scopecast.rundir.directory import Entry, Member
    from scopecast.subscribing.frame import Lease
    from scopecast.subscribing.source import SubscribedSource

__all__ = ["Catch", "Taker"]

logger = logging.getLogger(__name__)

#: Bytes of memory that are prepared for frames: less than a viewer has, as nobody is in front of this process.
_SPARE_BYTES: Final = 16 * 2**20


class Taker(Protocol):
    """Who takes what comes; called by the thread that receives."""

    @property
    def full(self) -> bool:
        """Whether it takes no frames for the moment: they stay where they are, and publishers may wait."""

    def take(self, entry: Entry, about: messages.Stream, message: messages.Frame, pixels: npt.NDArray[Any]) -> None:
        """Take a frame of a publisher that is present: a plane, or the bytes of a document; they are the taker's."""

    def over(self, token: str, stream: int | None, *, died: bool) -> None:
        """Take note that no more frames come of a stream; None: of any of a publisher."""

    def marked(self, token: str, message: Marked) -> None:
        """Take the answer to marks."""

    def present(self, entry: Entry, *, listens: bool) -> None:
        """Take note of a publisher, and of whether it takes marks; called now and then."""


class Catch(Subscription):
    """Every frame of every kind, with the replies, of all programs of this user on this machine.

    What comes from another machine is taken once, by whatever ways it comes, and not if its publisher is on this one.

    Parameters
    ----------
    taker
        Gets it.
    name
        What this relay calls itself.
    """

    role = "relay"
    kinds = KINDS
    replies = True

    def __init__(self, taker: Taker, name: str) -> None:
        super().__init__(policy="every", name=name)
        self._taker = taker
        self._pool = PlanePool(_SPARE_BYTES)
        self._held: deque[tuple[SubscribedSource, Lease, messages.Stream]] = deque()  # while the taker is full

    @property
    def member(self) -> Member:
        """The relay's entry in the run directory."""
        return self._member

    @property
    def keys(self) -> KeyPair | None:
        """The keys whose public one is in the entry."""
        return self._keys

    def ask(self, work: Callable[[], None]) -> None:
        """Have the thread that receives do something soon."""
        self._asked.append(work)
        self._wake.wake()

    def send(self, token: str, message: messages.FromReceiver) -> bool:
        """Send a message to a publisher; on the thread that receives. Return whether it was sent."""
        source = next((each for each in self._sources if each.entry.token == token), None)
        return source is not None and source.state == "attached" and source.send(message)

    @property
    def alone(self) -> bool:
        """Whether nobody publishes."""
        return not any(source.connected for source in self._sources)

    def close(self) -> None:
        """Say goodbye to the publishers. Idempotent."""
        super().close()
        while self._held:
            self._held.popleft()[1].end("skipped")
        self._pool.close()

    # ---- on the thread that receives -----------------------------------------------------------------------------

    def _take(self, source: SubscribedSource, lease: Lease, about: messages.Stream, axes: dict[str, int | str]) -> bool:
        self._count("received")
        if self._closed:
            return False
        self._held.append((source, lease, about))
        self._take_held()
        return True

    def _turn(self, more: bool) -> bool:
        self._take_held()
        return super()._turn(more)

    def _take_held(self) -> None:
        while self._held and not self._taker.full:
            source, lease, about = self._held.popleft()
            if not self._copy(source, lease, about):
                lease.end("skipped")

    def _copy(self, source: SubscribedSource, lease: Lease, about: messages.Stream) -> bool:
        message = lease.message
        view = lease.reader.view(message.slot, message.shape, np.dtype(message.dtype))
        pixels = self._pool.take(view, magnitude=False) if view.ndim > 1 else view.copy()
        if not lease.intact:
            return False
        lease.end()
        try:
            if source.state == "attached":
                self._taker.present(source.entry, listens=source.listens)
            self._taker.take(source.entry, about, message, pixels)
        except ProtocolError as error:
            source.errors += 1
            logger.debug("ignored a frame of %s: %s", source.entry.title, error)
        return True

    def _over_with(self, source: SubscribedSource, stream: int | None) -> None:
        self._taker.over(source.entry.token, stream, died=source.state == "lost")

    def _answered(self, source: SubscribedSource, message: messages.Replied | Marked) -> None:
        if isinstance(message, Marked):
            self._taker.marked(source.entry.token, message)

    def _scan(self) -> None:
        super()._scan()
        for source in self._sources:
            if source.state == "attached":
                self._taker.present(source.entry, listens=source.listens)

    def _wants(self, entry: Entry) -> bool:
        # What goes round in a circle has its publisher here.
        return not (entry.origin and self._directory.alive(entry.origin))

    def _has_twin(self, entry: Entry) -> bool:
        return any(
            each.connected and (are_twins(each.entry, entry) or _origin(each.entry) == _origin(entry))
            for each in self._sources
        )


def _origin(entry: Entry) -> str:
    return entry.origin or entry.token
