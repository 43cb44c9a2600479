"""How a publisher gets its ring, socket and viewers, and releases them again.

All of this happens on threads of its own. Under ``latest`` the newest frame of each channel is kept until there is a
slot for it; under ``every`` the caller waits. The threads start with the first frame: a program that ends right after
it could not start them any more (Python 3.12 and later), although its viewer is still to be started.
"""

from __future__ import annotations

import atexit
import errno
import itertools
import logging
import os
import string
import sys
import threading
import time
import warnings
import weakref
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scopecast.errors import ScopecastError, SharedMemoryError, TransportError
from scopecast.publishing.accounts import Accounts, Reason
from scopecast.publishing.budget import Budget
from scopecast.publishing.early import EarlyFrames
from scopecast.publishing.guard import Guard
from scopecast.publishing.listening import Inbox, Listener, Listening
from scopecast.publishing.retry import Retry
from scopecast.publishing.viewers import Viewers
from scopecast.publishing.wait import Event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopecast.link.messages import Marked
    from scopecast.memory.ring import Ring, RingLayout
    from scopecast.publishing.draft import Draft
    from scopecast.publishing.keeper import Keeper
    from scopecast.publishing.receivers import AttachedReceiver, Receivers
    from scopecast.publishing.replies import Replies
    from scopecast.publishing.slots import SlotFrame, Slots
    from scopecast.rundir.directory import Member

__all__ = ["Session", "load", "open_sessions", "remember"]

logger = logging.getLogger(__name__)

_SUFFIX: Final = string.ascii_lowercase + string.digits
_NAMES = 32  # segment names to try, if others have taken ours
#: Open sessions; those that remain at exit are closed properly.
open_sessions: Final[weakref.WeakSet[Session]] = weakref.WeakSet()


def load() -> None:
    """Import what a session needs before the first frame: importing takes longer than the rest of opening it."""
    from scopecast.memory import ring  # noqa: F401
    from scopecast.publishing import keeper, launch, receivers, replies, slots  # noqa: F401
    from scopecast.rundir import directory  # noqa: F401


class Session:
    """A publisher's ring, socket and entry in the run directory, made when they are needed.

    Parameters
    ----------
    kind, prefix, title, host, launch, linger, budget, environment
        As for `scopecast.publishing.publisher.Publisher`.

    Attributes
    ----------
    guard : Guard
        The publisher's lock, its process, and whether it is closed.
    accounts : Accounts
        The fates of all frames.
    listening : Listening
        Where the marks of viewers go.
    receivers : Receivers or None
        The attached receivers, and the slots; None before there is a ring.
    keeper : Keeper or None
        Looks after the receivers.
    viewers : Viewers
        The viewers that are already running, and the one that is started.
    member : Member or None
        The entry in the run directory; None before there is one.
    slot_bytes : int
        The largest frame, in bytes, that needs no new ring; 0 while there is no ring.
    budget : Budget
        How much shared memory it may have.
    early : EarlyFrames
        Frames that were published before there was a slot for them.
    forgotten : deque of SlotFrame
        Slots of reservations that were never committed or aborted: they are given back before the next frame.
    sequence : iterator of int
        Numbers the frames, and the replies.
    replies : Replies or None
        Shows what subscribers reply; None before there is a ring.
    origin : str
        The token of the publisher on another machine whose frames it publishes; ``""`` for frames of its own.
    """

    def __init__(
        self,
        kind: str,
        *,
        prefix: str,
        title: str,
        host: str,
        launch: bool,
        linger: float,
        budget: int | None,
        environment: Mapping[str, str],
    ) -> None:
        self.kind, self.prefix = kind, prefix
        self.title = title or Path(sys.argv[0] or "python").stem or "python"
        self.host, self.linger, self.budget = host, linger, Budget(budget)
        self.guard, self.accounts, self.listening = Guard(), Accounts(), Listening()
        self.guard.void = self._void
        self.receivers: Receivers | None = None
        self.keeper: Keeper | None = None
        self.viewers = Viewers(kind, launch=launch, environment=environment, guard=self.guard, warn=self._warn)
        self.member: Member | None = None
        self.slot_bytes = 0
        self.early = EarlyFrames(self.guard, self.accounts, self.budget.bytes)
        self.forgotten: deque[SlotFrame] = deque()
        self.sequence = itertools.count()
        self.replies: Replies | None = None
        self.origin = ""
        self._cancelled = Event()
        self._warned: set[str] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._connected = Event()  # also set by closing before that
        # The ring, made by the thread "opening", or by close().
        self._opening = threading.Lock()  # held while a ring is made
        self._epochs = itertools.count()
        self._voided: list[Ring] = []  # to be closed outside of the publisher's lock
        self._wanted = 0  # bytes of a frame for which there is no slot
        self._flush_s = 0.0  # seconds that frames of the old ring have to be acknowledged
        self._to_open = Event()
        self._opened = Event()  # also set when making a ring failed
        self._names_lost = False
        self._failure: tuple[int, Reason, str] | None = None  # frame bytes for which there is no ring, reason, text
        self._final = False  # whether that failure is not tried again
        self._retry, self._grow_retry, self._names_retry = Retry(), Retry(), Retry()

    @property
    def slots(self) -> Slots | None:
        """The slots of the ring; None while there is no ring."""
        return self.receivers.slots if self.receivers is not None else None

    @property
    def problem(self) -> str:
        """Why frames are not shown, and when that is tried again, as one line; ``""`` if nothing is wrong."""
        if failure := self._failure:
            return failure[2] if self._final else f"{failure[2]} ({self._retry})"
        if problem := self.viewers.search_problem or (self.keeper.problem if self.keeper is not None else ""):
            return problem
        viewed = any(account.viewer for account in tuple(self.accounts.receivers.values()))
        return "" if viewed else self.viewers.start_problem

    # ---- opening -------------------------------------------------------------------------------------------------

    def ensure(self, frame_bytes: int, *, wait: float) -> Reason | None:
        """Ensure that frames of this size can be published.

        Parameters
        ----------
        frame_bytes
            The size of a frame in bytes.
        wait
            Seconds to wait for the ring and the viewers; 0 not to wait.

        Returns
        -------
        Reason or None
            Why a frame must be skipped now (``OPENING``: only for the moment), or None.
        """
        if self._cancelled.is_set():
            return Reason.CLOSED
        if (failed := self._hopeless(frame_bytes)) is not None:
            return failed
        if not self._threads_run():
            text = "no thread could be started for the connection to the viewers"
            self._fail(frame_bytes, Reason.NO_CONNECTION, text)
            return Reason.NO_CONNECTION
        if wait:
            with self.guard.lock:
                self.viewers.waiting += 1
            try:
                return self._ensure_now(frame_bytes, wait)
            finally:
                with self.guard.lock:
                    self.viewers.waiting -= 1
        if frame_bytes > self.slot_bytes:
            self._want(frame_bytes)
            return Reason.OPENING
        # The ring is already used while the viewer is being started: the newest frame waits in it for the viewer.
        return None

    def _want(self, frame_bytes: int, *, flush_s: float = 0.0) -> None:
        """Request a ring for frames of this size; those of the old one get `flush_s` seconds to be acknowledged."""
        self._opened.clear()
        self._wanted = max(self._wanted, frame_bytes)
        self._flush_s = max(self._flush_s, flush_s)
        self._to_open.set()

    @property
    def growing(self) -> bool:
        """Whether more slots of the ring are being made: frames that find no free slot are kept for these."""
        return self._can_grow and not self._grow_retry.failures

    def _hopeless(self, frame_bytes: int) -> Reason | None:
        """Return why making a ring for frames of this size failed, until it is time to try again."""
        failure = self._failure
        if failure is not None and frame_bytes >= failure[0] and (self._final or not self._retry.due):
            return failure[1]
        return None

    def _threads_run(self) -> bool:
        """Start the threads that are not running yet; return whether all of them are."""
        if len(self._threads) == 3:
            return True
        with self._opening:
            for name, work in (("keeper", self._keep), ("opening", self._open), ("seeking", self.viewers.run)):
                if name not in self._threads:
                    thread = threading.Thread(target=work, name=f"scopecast-{name}", daemon=True)
                    with suppress(RuntimeError):
                        thread.start()
                    if thread.ident is None:  # also if exengine's start() printed an error, and went on
                        return False
                    self._threads[name] = thread
        return True

    def _ensure_now(self, frame_bytes: int, wait: float) -> Reason | None:
        # The ring is made on its thread, not here: Ctrl-C must not strike while the lock `_opening` is held.
        deadline = time.monotonic() + wait
        while frame_bytes > self.slot_bytes:
            if self._cancelled.is_set():
                return Reason.CLOSED
            if (failed := self._hopeless(frame_bytes)) is not None:
                return failed
            if (left := deadline - time.monotonic()) <= 0:
                return Reason.OPENING
            self._want(frame_bytes, flush_s=left)
            self._opened.wait(min(left, 0.05))
        if not self.viewers.met:
            self.viewers.wait(deadline)
        return None

    def _open(self) -> None:
        """Make rings, on the thread "opening"."""
        while not self._cancelled.is_set():
            self._to_open.wait(self._grow_retry.left_s if self._can_grow else None)
            self._to_open.clear()
            try:
                while self._open_further():
                    pass
            except Exception as error:  # noqa: BLE001 - the thread must go on; it warns, and tries again
                self._grow_retry.failed()
                self._warn("mistake", f"an error while making a ring: {type(error).__name__}: {error}")
            self._opened.set()

    @property
    def _can_grow(self) -> bool:
        slots = self.slots
        return slots is not None and slots.ring.can_grow

    def _open_further(self) -> bool:
        """Do the next pending step: make, restore or grow the ring. Return whether there was one."""
        with self._opening:
            self._close_voided()
            if self._cancelled.is_set():
                return False
            wanted, self._wanted = self._wanted, 0
            flush_s, self._flush_s = self._flush_s, 0.0
            if wanted > self.slot_bytes and self._hopeless(wanted) is None:
                self._make(wanted, flush_s=flush_s)
                self._opened.set()
                return True
            if self._names_lost:
                self._names_lost = False
                self._come_back()
                return True
            return self._grow()

    def _make(self, frame_bytes: int, *, flush_s: float) -> None:
        """Make a ring for frames of this size; the first time also the socket and the run directory's entry."""
        try:
            self._try_to_make(frame_bytes, flush_s)
        except Exception as error:  # noqa: BLE001 - the acquisition goes on, whatever the machine lacks
            known = isinstance(error, ScopecastError | OSError)
            shm = isinstance(error, SharedMemoryError)
            text = str(error) if known else f"{type(error).__name__}: {error}"
            self._fail(
                frame_bytes,
                Reason.NO_SHARED_MEMORY if shm else Reason.NO_CONNECTION,
                f"{self.kind} viewers disabled: {text}",
                final=isinstance(error, TransportError),
            )

    def _try_to_make(self, frame_bytes: int, flush_s: float) -> None:
        from scopecast.rundir.directory import RunDirectory

        if self.member is None:
            directory = RunDirectory()
            for leftover in directory.clean().kept:
                if leftover.is_new:
                    logger.warning("scopecast: %s", leftover)
            self.member = directory.join(
                "publisher", self.kind, title=self.title[:200], host=self.host[:200], origin=self.origin
            )
        old = self.slots
        if old is not None and flush_s:
            self.flush(time.monotonic() + flush_s, early=False)
        if old is not None:  # never smaller: another thread may rely on the old size
            frame_bytes = max(frame_bytes, old.ring.layout.slot_bytes)
        layout = self.budget.plan(frame_bytes, beside=old.ring.layout.size if old is not None else 0)
        if layout is None:
            # Without a given budget, it depends on the free memory, of which there may be more later.
            final = self.budget.given is not None
            self._fail(
                frame_bytes,
                Reason.TOO_LARGE,
                f"frames are not shown: {self.budget.why_too_small(frame_bytes)}",
                final=final,
            )
            return
        self._renew(layout)

    def _renew(self, layout: RingLayout) -> None:
        """Replace the ring by one of this layout; the first time also make the socket.

        Only its first slots are made here: `_grow` makes the others while frames already flow.
        """
        from scopecast.publishing.slots import Slots

        assert self.member is not None
        ring = self._make_ring(layout, next(self._epochs))
        try:
            expected: set[str] = set()
            if self.receivers is None:
                expected = self.viewers.expected(self.member.directory)
            receivers = self.receivers or self._connect()
            with self.guard.lock, self.guard:
                old = receivers.slots
                receivers.use(Slots(ring, self.accounts))
                receivers.expect(expected)
        except BaseException:
            if (slots := self.slots) is None or slots.ring is not ring:
                ring.close()
            raise
        if old is not None:
            old.ring.close()
        self.member.entry.segments = [ring.name]
        self.member.entry.state = "ready"
        self.member.write()
        self.early.move(receivers, layout.slot_bytes, last=False)
        with self.guard.lock:
            if self.slots is not None:  # it has not been thrown away meanwhile
                self.slot_bytes = layout.slot_bytes
        if self._failure and layout.slot_bytes >= self._failure[0]:
            logger.warning("scopecast: the problem has passed: frames are shown again")
            self._failure, self._final = None, False
            self._retry.succeeded()
            self._warned.clear()
        self._grow_retry.succeeded()
        self.early.move(receivers, layout.slot_bytes, last=ring.slots == layout.slots)
        self.viewers.find(receivers, self.member.directory)
        self._to_open.set()  # to make the other slots

    def _connect(self) -> Receivers:
        """Make the socket, and let the thread "keeper" look after the receivers."""
        from scopecast.link import descriptors
        from scopecast.publishing.keeper import Keeper
        from scopecast.publishing.receivers import Receivers
        from scopecast.publishing.replies import Replies

        assert self.member is not None
        descriptors.check()
        self.receivers = Receivers(self.member, self.accounts, self.guard, self.listening)
        self.replies = Replies(
            self.receivers, self.guard, self.accounts, self.budget, self.sequence, lambda nbytes: self._want(nbytes)
        )
        self.keeper = Keeper(self.receivers, self.member, self.guard, self.replies, self._come_back_in_background)
        self._connected.set()
        return self.receivers

    def _keep(self) -> None:
        self._connected.wait()
        if self.keeper is not None:
            self.keeper.run()

    def _make_ring(self, layout: RingLayout, epoch: int) -> Ring:
        """Make a ring's first slots, under a name that is not taken."""
        import secrets  # which `load` has imported with the run directory

        from scopecast.memory.ring import Ring

        assert self.member is not None
        member = self.member
        for number in range(_NAMES):
            # Any user can create files in /dev/shm, and guess the name of our next ring from that of this one; not of
            # the ring after that: one of 36**4.
            suffix = "".join(secrets.choice(_SUFFIX) for _ in range(4)) if number else epoch % 10_000
            name = f"{self.prefix}{member.token}_{suffix}"
            member.entry.segments = [name, *member.entry.segments][:8]
            member.write()
            try:
                return Ring(name, layout, member.token, epoch, layout.step)
            except SharedMemoryError as error:
                if error.errno not in (errno.EEXIST, errno.EACCES):
                    raise
                taken = error
        raise taken

    def _grow(self) -> bool:
        """Make some more slots of the ring, while frames flow. Return whether any were made."""
        slots, receivers = self.slots, self.receivers
        if slots is None or receivers is None or not slots.ring.can_grow or not self._grow_retry.due:
            return False
        ring = slots.ring
        try:
            ring.grow()
        except SharedMemoryError as error:
            if not ring.works:
                self._give_up(ring, error)
                return False
            self._grow_retry.failed()
            self._warn("growth", f"only {ring.slots} of {ring.layout.slots} slots could be made, as the rest {error}")
            self.early.move(receivers, ring.layout.slot_bytes, last=True)
            return False
        with self.guard.lock, self.guard:
            slots.take_in()
            receivers.news.tell()
        self._grow_retry.succeeded()
        self.early.move(receivers, ring.layout.slot_bytes, last=ring.slots == ring.layout.slots)
        return True

    def _give_up(self, ring: Ring, error: SharedMemoryError) -> None:
        """Throw away a ring whose first slots are all that there is memory for, as if it could not be made at all."""
        with self.guard.lock, self.guard:
            self._void()
        self._close_voided()
        self._fail(ring.layout.slot_bytes, Reason.NO_SHARED_MEMORY, f"{self.kind} viewers disabled: {error}")

    def give_back(self, draft: Draft) -> None:
        """Give back the slot of a frame that was not published; do nothing if it was, or has no slot."""
        if (frame := draft.frame) is not None:
            with self.guard.lock, self.guard:
                frame.slots.cancel(frame)

    def _void(self) -> None:
        """Throw away everything in flight, because a change was cut short, and request a new ring."""
        self.slot_bytes = 0
        if (slots := self.slots) is not None:
            self._voided.append(slots.ring)
            self._wanted = max(self._wanted, slots.ring.layout.slot_bytes)
        if self.receivers is not None:
            self.receivers.void()
        self._to_open.set()

    def _close_voided(self) -> None:
        while self._voided:
            self._voided.pop().close()

    def listen(self, timeout: float | None, max_age_s: float | None) -> Listener:
        """Take marks from viewers; see `Publisher.marks`."""
        return Listener(self.open_inbox(max_age_s), self.answer, timeout)

    def open_inbox(self, max_age_s: float | None) -> Inbox:
        """Return where marks from viewers are put from now on, until it is closed; each is to be answered."""
        inbox = Inbox(max_age_s)
        with self.guard.lock:
            self.guard.check_usable()
            self.listening.begin(inbox)
        return inbox

    def answer(self, receiver: AttachedReceiver, marked: Marked) -> None:
        """Tell a viewer what has become of its marks."""
        with self.guard.lock:
            if self.receivers is not None:
                with self.guard:
                    self.receivers.answer(receiver, marked)

    # ---- names that another process removed ----------------------------------------------------------------------

    def _come_back_in_background(self) -> None:
        if self._names_retry.due:
            self._names_lost = True
            self._to_open.set()

    def _come_back(self) -> None:
        """Restore the names by which new viewers find this publisher; attached viewers are not disturbed.

        A segment that has lost its name can't get it back, so it is replaced by another one.
        """
        if self.member is None or self.receivers is None:
            return
        try:
            self.member.write()
            with self.guard.lock:
                if not self.receivers.closing:
                    self.receivers.router.bind_anew()
            if (slots := self.slots) is not None and not slots.ring.named:
                self._renew(slots.ring.layout)
        except Exception as error:  # noqa: BLE001 - the thread "opening" must go on; it warns, and tries again
            self._names_retry.failed()
            self._warn("names", f"the run directory was removed, and new viewers can't find this stream: {error}")
        else:
            self._names_retry.succeeded()
            logger.info("scopecast: the run directory was removed, and has been created again")

    def _fail(self, frame_bytes: int, reason: Reason, text: str, *, final: bool = False) -> None:
        self._retry.failed()
        self._failure, self._final = (frame_bytes, reason, text), final
        self.early.give_up(reason)
        self._warn(reason, text if final else f"{text}; retrying, at growing intervals")

    def _warn(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            logger.warning("scopecast: %s", text)

    # ---- closing -------------------------------------------------------------------------------------------------

    def flush(self, deadline: float, *, early: bool = True) -> bool:
        """Wait until no frame is in flight; return whether that happened before the deadline.

        Without `early`, frames that wait for a slot are left out, for the caller that is about to make one.
        """
        while True:
            receivers, ticket = self.receivers, None
            with self.guard.lock, self.guard:
                in_flight = len(self.accounts.total.early) if early else 0
                if receivers is not None:
                    receivers.drain_if_any()
                    in_flight += receivers.in_flight
                    ticket = receivers.news.ticket() if in_flight else None
            if not in_flight:
                return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            if ticket is not None:
                ticket.acquire(timeout=min(left, 0.05))
            else:
                self._opened.wait(min(left, 0.05))

    def close(self, linger: float) -> None:
        """Wait for frames in flight and for a viewer that is being started, then release everything. Idempotent."""
        if not self.guard.is_ours:
            return
        with self.guard.lock:
            if self.guard.closed:
                return
            self.guard.closed = True
        deadline = time.monotonic() + linger
        try:
            self.listening.end("the acquisition has ended")
            if self.receivers is not None:
                with self.guard.lock, self.guard:
                    self.receivers.settle_marks()
            if isinstance(sys.exc_info()[1], KeyboardInterrupt):
                self.viewers.interrupt()  # whoever presses Ctrl-C waits for no window any more
            if linger > 0 and self._threads:
                self._open_further()  # in case the thread has not got to it yet, or has already ended
                self.viewers.conclude(deadline)
                self.flush(deadline)
        finally:  # also if Ctrl-C cut the wait short
            self._cancelled.set()
            self.viewers.cancel()
            self._to_open.set()
            self._connected.set()
            # Wait for a ring that is just being made; no other one is made after it.
            opening = self._opening.acquire(timeout=5.0)
            try:
                self._tear_down()
            finally:
                if opening:
                    self._opening.release()
            self._join("opening", "seeking")  # they are cancelled, and at most finish their current step

    def _tear_down(self) -> None:
        receivers, slots = self.receivers, self.slots
        self.early.give_up(Reason.CLOSED)
        open_sessions.discard(self)
        try:
            if receivers is not None:
                try:
                    receivers.say_goodbye()
                finally:  # also if Ctrl-C cut the wait short
                    with self.guard.lock, self.guard:
                        receivers.stop()
                    self._join("keeper", timeout=5.0)
                    if self.replies is not None:
                        self.replies.close()
                    receivers.router.close()
                    if slots is not None:
                        slots.ring.close()
                    self._close_voided()
        finally:
            if self.member is not None:
                self.member.close()

    def _join(self, *names: str, timeout: float = 1.0) -> None:
        for name in names:
            thread = self._threads.get(name)
            if thread is not None and thread is not threading.current_thread():
                thread.join(timeout)

    def abandon(self) -> None:
        """Close at once, because the publisher was garbage-collected without close()."""
        if not self.guard.is_ours or (self.member is None and not self._threads):
            return
        warnings.warn(
            f"a publisher of {self.kind} frames was not closed; use it as a context manager, or call close()",
            ResourceWarning,
            stacklevel=2,
        )
        # The garbage collector may run this in any thread: one of ours, or one that currently holds our lock. Such a
        # thread can't wait for itself.
        ours = threading.current_thread().name.startswith("scopecast-")
        if ours or not self.guard.lock.acquire(blocking=False):
            with suppress(RuntimeError):  # the interpreter is ending: `_close_all` closes the session
                threading.Thread(target=self.close, args=(0.0,), name="scopecast-closing").start()
        else:
            self.guard.lock.release()
            self.close(0.0)


def remember(session: Session) -> None:
    """Make sure that a session is closed properly when the process ends."""
    global _worker
    open_sessions.add(session)
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None and _worker != os.getpid():
        # A forked worker ends without running atexit handlers; multiprocessing has finalizers of its own.
        from multiprocessing.util import Finalize

        _worker = os.getpid()
        Finalize(None, _close_all, exitpriority=100)


_worker = 0  # the id of the worker process that has the finalizer


@atexit.register
def _close_all() -> None:
    for session in tuple(open_sessions):
        with suppress(Exception, KeyboardInterrupt):  # at exit there is nobody left to report to
            if getattr(sys, "last_type", None) is KeyboardInterrupt:  # ended by Ctrl-C
                session.viewers.interrupt()
            session.close(session.linger)
