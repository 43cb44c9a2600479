"""The thread that looks after the receivers: reads their messages, sends heartbeats, and notices who has died."""

from __future__ import annotations

import itertools
import logging
import math
import time
from typing import TYPE_CHECKING, Final

import psutil

from scopecast.link.wakeup import Poller
from scopecast.protocol import clock_ns
from scopecast.publishing.receivers import HEARTBEAT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopecast.publishing.guard import Guard
    from scopecast.publishing.receivers import AttachedReceiver, Receivers
    from scopecast.publishing.replies import Replies
    from scopecast.rundir.directory import Member

__all__ = ["Keeper"]

logger = logging.getLogger(__name__)

#: A receiver that leaves this many pings unanswered is given up if its process is stopped: within 2 s after that.
MISSED_PINGS: Final = 3
#: And this many in any case, after 10 s. Until then it may be copying: a frame of hundreds of MiB, to a full memory.
MOST_MISSED_PINGS: Final = 22
#: After a connection broke, the locks are checked every `LOOK_S` for `SUSPECT_S`; after that only at heartbeats.
LOOK_S: Final = 0.01
SUSPECT_S: Final = 0.3
#: A receiver that has left, in a process that goes on, has said goodbye: that may take so long to come.
GOODBYE_S: Final = 2.0
#: While frames follow each other faster than this, publish() reads the acknowledgements itself, and the keeper does not
#: unless a thread waits for news: each of its turns would cost the producer a hand-over of the interpreter lock.
_QUIET_S: Final = 0.003


class Keeper:
    """Looks after the receivers of a publisher until they are closed.

    Parameters
    ----------
    receivers
        The receivers.
    member
        The publisher's entry in the run directory.
    guard
        The publisher's guard.
    replies
        Shows what subscribers reply.
    when_removed
        Called at each heartbeat, without the lock, while the names by which new receivers find the publisher are gone.

    Attributes
    ----------
    errors : int
        How many turns failed.
    problem : str
        What went wrong in the last turn; ``""`` if nothing did.
    """

    def __init__(
        self,
        receivers: Receivers,
        member: Member,
        guard: Guard,
        replies: Replies,
        when_removed: Callable[[], None],
    ) -> None:
        self.errors = 0
        self._replies = replies
        self.problem = ""
        self._receivers, self._member, self._guard, self._when_removed = receivers, member, guard, when_removed
        self._pings = itertools.count(1)
        self._next_beat = time.monotonic() + HEARTBEAT_S
        self._next_look, self._suspect_until = math.inf, -math.inf

    def run(self) -> None:
        """Look after the receivers on the calling thread until they are closed, even after errors."""
        router = self._receivers.router
        others = (router.monitor_fd, router.alarm_fd, *((router.gate.fileno(),) if router.gate else ()))
        watch, watch_others = Poller((router.socket_fd, *others)), Poller(others)
        more = False
        while not self._receivers.closing:
            try:
                due = min(self._next_beat, self._next_look)
                ready = watch.ready(0.0 if more else max(0.0, due - time.monotonic()))
                while ready == {router.socket_fd} and self._is_busy() and time.monotonic() < due:
                    ready = watch_others.ready(_QUIET_S) or ready
                if not self._receivers.closing:
                    more = self._turn(ready)
                self.problem = ""
            except Exception as error:  # without the keeper no lease would ever end
                self.errors += 1
                self.problem = f"an error while serving the viewers: {type(error).__name__}: {error}"
                level = logging.ERROR if self.errors == 1 else logging.DEBUG
                logger.log(level, "scopecast: an error while serving the viewers", exc_info=error)
                more = False
                time.sleep(0.05)  # it may recur at once, and would then take up the processor

    def _is_busy(self) -> bool:
        """Whether frames follow each other closely, and no thread waits for news of them."""
        receivers = self._receivers
        recent = clock_ns() - receivers.last_publish_ns < _QUIET_S * 1e9
        return recent and bool(receivers.attached) and not receivers.news.awaited

    def _turn(self, ready: set[int]) -> bool:
        """Do whatever is due. Return whether there is more to read."""
        receivers, router = self._receivers, self._receivers.router
        if router.alarm_fd in ready:
            router.forget_wakes()
        if router.gate is not None:
            router.gate.answer()  # not under the lock, as it reads files
        if beats := time.monotonic() >= self._next_beat:
            self._mind_the_door()
            if not router.door.shut and self._is_removed():
                self._when_removed()
        with self._guard.lock:
            if receivers.closing:
                return False
            with self._guard:
                receivers.drain()
            suspects: tuple[AttachedReceiver, ...] = ()
            if router.monitor_fd in ready or time.monotonic() >= self._next_look:
                suspects = self._suspected()
            if beats:
                self._next_beat = time.monotonic() + HEARTBEAT_S
                suspects += self._beat()
            more = router.readable
        self._bury_dead(suspects)
        if beats:
            self._replies.tidy()
        return self._replies.show_next() or more

    def _mind_the_door(self) -> None:
        """Keep new receivers out while few descriptors are left."""
        door = self._receivers.router.door
        if door.is_right:
            return
        with self._guard.lock:
            if not self._receivers.closing:
                door.turn()
                logger.info("scopecast: new viewers are %s", "kept out: no file descriptors" if door.shut else "let in")

    def _is_removed(self) -> bool:
        """Whether the names by which new receivers find this publisher were removed (logind does so at logout)."""
        slots = self._receivers.slots
        lost = self._member.removed or self._receivers.router.door.lost
        return lost or (slots is not None and not slots.ring.named)

    def _suspected(self) -> tuple[AttachedReceiver, ...]:
        """Return the receivers to check after a connection broke, and set when to check again. Under the lock."""
        now = time.monotonic()
        if self._receivers.router.has_lost_connections():
            self._suspect_until = now + SUSPECT_S
        # The connection of a killed process may break some milliseconds before its lock becomes free.
        self._next_look = now + LOOK_S if now < self._suspect_until else math.inf
        return tuple(self._receivers.attached.values())

    def _bury_dead(self, suspects: Iterable[AttachedReceiver]) -> None:
        """Give up receivers whose process died or stopped. Not called under the lock, as it reads files."""
        if dead := [(receiver, why) for receiver in suspects if (why := self._why_dead(receiver))]:
            with self._guard.lock:
                if not self._receivers.closing:
                    with self._guard:
                        for receiver, why in dead:
                            self._receivers.part(receiver, why)

    def _why_dead(self, receiver: AttachedReceiver) -> str:
        missed = receiver.unanswered - 1  # the newest one may still be on its way
        if not self._member.directory.alive(receiver.token):
            return self._why_unlocked(receiver)
        stopped = ("", psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        if missed >= MOST_MISSED_PINGS or (missed >= MISSED_PINGS and _status(receiver.pid) in stopped):
            return f"it has not answered for {missed * HEARTBEAT_S:.1f} s"
        return ""

    def _why_unlocked(self, receiver: AttachedReceiver) -> str:
        """Return why a receiver is to be given up whose lock is free; ``""`` to look once more, soon."""
        now = time.monotonic()
        receiver.unlocked_at = receiver.unlocked_at or now
        if _status(receiver.pid) in ("", psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return "its process died"
        if now - receiver.unlocked_at > GOODBYE_S:
            return "it is gone without a goodbye"
        self._next_look, self._suspect_until = now + LOOK_S, max(self._suspect_until, now + 2 * LOOK_S)
        return ""

    def _beat(self) -> tuple[AttachedReceiver, ...]:
        """Ping all receivers, and return those to check. Under the lock."""
        receivers, number = self._receivers, next(self._pings)
        with self._guard:
            receivers.settle_marks()
        for receiver in tuple(receivers.attached.values()):
            with self._guard:
                receiver.unanswered += 1
                receivers.ping(receiver, number)
        # The monitor may miss a death (if a forked child keeps the socket open); the locks do not.
        return tuple(receiver for receiver in receivers.attached.values() if receiver.unanswered > 1)


def _status(pid: int) -> str:
    """Return what a process does, as psutil calls it; ``""`` if it can't be seen from here."""
    try:
        return str(psutil.Process(pid).status())
    except (psutil.Error, ValueError, OverflowError):
        return ""
