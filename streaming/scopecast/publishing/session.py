"""How a publisher comes to its ring, its socket and its viewer, and lets go of them again.

Under ``latest`` all of this happens on threads of its own, and the newest frame of each channel is kept until there is
a slot for it; under ``every`` the caller waits. The threads are started with the first frame: a program that ends right
after it can start none any more (Python 3.12 and later), and its viewer is still to come.
"""

from __future__ import annotations

import atexit
import errno
import logging
import os
import secrets
import sys
import threading
import time
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scopecast.crashpoints import crash_point
from scopecast.errors import ScopecastError, SharedMemoryError, TransportError
from scopecast.link import messages
from scopecast.publishing.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from scopecast.memory.ring import Layout, Ring
    from scopecast.publishing.accounts import Account
    from scopecast.publishing.launch import Launch
    from scopecast.publishing.receivers import Hub
    from scopecast.publishing.slots import Leases
    from scopecast.rundir.directory import Member, RunDirectory

__all__ = ["CLOSED", "OPENING", "Connection", "load", "open_connections", "remember"]

logger = logging.getLogger(__name__)

OPENING: Final = "opening"
CLOSED: Final = "closed"
_NO_WAY: Final = "no connection to viewers"
_DESCRIPTORS = 32  # that a socket, its monitor and their context take, with some to spare
_NAMES = 32  # of segments that are tried, where others have taken ours
#: Connections that are open; what is left of them at exit is closed in good order.
open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def load() -> None:
    """Import what a connection needs, ahead of the first frame: it takes longer than all the rest of the opening."""
    from scopecast.rundir import directory as runs  # noqa: F401


class Connection:
    """A publisher's ring, socket and entry in the run directory, made when they are needed.

    Parameters
    ----------
    kind, prefix, title, host, launch, linger, budget, environment
        As for `scopecast.publishing.publisher.Publisher`.
    lock
        The publisher's one lock.
    total
        The account of all receivers together.

    Attributes
    ----------
    slot_bytes : int
        Bytes that a frame may have without a new ring; 0 before there is one.
    met : bool
        Whether the first frame's way to the viewers is open: nothing is to be waited for any more.
    closed : bool
        Whether the ring is gone for good; set under the lock.
    move_kept : callable
        Called on the thread that makes a ring, with the bytes of its slots and whether this is the last time: moves the
        frames that were kept into slots.
    give_up_kept : callable
        Called with the reason why the frames that were kept will have no slot.
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
        lock: threading.Lock,
        total: Account,
    ) -> None:
        self.kind, self.prefix = kind, prefix
        self.title = title or Path(sys.argv[0] or "python").stem or "python"
        self.host, self.launch, self.linger, self.given_budget = host, launch, linger, budget
        self.environment = environment
        self.slot_bytes = 0
        self.met = self.closed = False
        self.hub_or_none: Hub | None = None
        self.move_kept: Callable[[int, bool], None] = lambda _, __: None
        self.give_up_kept: Callable[[str], None] = lambda _: None
        self._lock = lock
        self._total = total
        self._ring: Ring | None = None
        self._leases: Leases | None = None
        self._member: Member | None = None
        self._pid = os.getpid()
        self._cancelled = threading.Event()
        self._warned: set[str] = set()
        self._threads: dict[str, threading.Thread] = {}
        # The ring, made by the thread "opening" or by one that waits for it.
        self._opening = threading.Lock()  # held by whoever makes a ring
        self._wanted = 0  # bytes of a frame for which there is no slot
        self._to_open = threading.Event()
        self._opened = threading.Event()  # or given up
        self._names_lost = False
        self._failure: tuple[int, str, str] | None = None  # frame bytes for which there is no ring, reason, text
        self._final = False  # such a failure is not tried again
        self._retry, self._grow_retry, self._names_retry = Retry(), Retry(), Retry()
        # The viewers, sought by the thread "seeking".
        self._launch: Launch | None = None
        self._to_seek = threading.Event()
        self._sought = threading.Event()
        self._seek_retry = Retry()
        self._seek_problem = ""
        self._waiting = 0  # how many callers wait for the viewers
        self._hub_made = threading.Event()

    @property
    def hub(self) -> Hub:
        """The socket and its receivers; only once there is a ring."""
        assert self.hub_or_none is not None
        return self.hub_or_none

    @property
    def ring(self) -> Ring:
        """The ring that frames go through."""
        assert self._ring is not None
        return self._ring

    @property
    def leases(self) -> Leases:
        """Who holds which slot of it."""
        assert self._leases is not None
        return self._leases

    def accounts(self) -> Iterable[Account]:
        """Return the accounts of the receivers that are attached. Under the lock."""
        return tuple(self.hub_or_none.accounts.values()) if self.hub_or_none else ()

    @property
    def problem(self) -> str:
        """Why frames are not shown, and when what failed is tried again, in a line; ``""`` if nothing is wrong."""
        if failure := self._failure:
            return failure[2] if self._final else f"{failure[2]} ({self._retry})"
        if self._seek_problem:
            return f"{self._seek_problem} ({self._seek_retry})"
        hub = self.hub_or_none
        if hub is not None and hub.problem:
            return hub.problem
        attached = hub is not None and hub.accounts
        return self._launch.problem if self._launch is not None and not attached else ""

    # ---- opening -------------------------------------------------------------------------------------------------

    def ensure(self, frame_bytes: int, *, wait: float) -> str | None:
        """See to it that frames of this size can be published.

        Parameters
        ----------
        frame_bytes
            Bytes of a frame.
        wait
            Seconds to wait for the viewers; 0 to wait for nothing.

        Returns
        -------
        str or None
            Why a frame must be skipped now (`OPENING`: for the moment), or None.
        """
        if self._cancelled.is_set():
            return CLOSED
        if self._is_hopeless(frame_bytes):
            return self._failure[1] if self._failure else OPENING
        if not self._threads_run():
            self._fail(frame_bytes, _NO_WAY, "no thread could be started for the connection to the viewers")
            return _NO_WAY
        if wait:
            return self._ensure_now(frame_bytes, wait)
        if frame_bytes > self.slot_bytes:
            self._wanted = max(self._wanted, frame_bytes)
            self._opened.clear()
            self._to_open.set()
            return OPENING
        # While the viewer is being started the ring is used already: the newest frame waits in it for the viewer.
        return None

    @property
    def growing(self) -> bool:
        """Whether more slots of the ring are being made: frames that find no room are kept for them."""
        return self._ring is not None and self._ring.can_grow and not self._grow_retry.failures

    def _is_hopeless(self, frame_bytes: int) -> bool:
        """Whether there is no ring for frames of this size, and it is not the time to try again."""
        failure = self._failure
        return failure is not None and frame_bytes >= failure[0] and (self._final or not self._retry.due)

    def _threads_run(self) -> bool:
        """Start the threads that do not run yet; return whether all of them do."""
        if len(self._threads) == 3:
            return True
        with self._opening:
            for name, work in (("keeper", self._keep), ("opening", self._open), ("seeking", self._seek)):
                if name not in self._threads:
                    thread = threading.Thread(target=work, name=f"scopecast-{name}", daemon=True)
                    with suppress(RuntimeError):
                        thread.start()
                    if thread.ident is None:  # also exengine's start(), which prints an error, and goes on
                        return False
                    self._threads[name] = thread
        return True

    def _ensure_now(self, frame_bytes: int, wait: float) -> str | None:
        with self._lock:
            self._waiting += 1
        try:
            return self._wait_for_all(frame_bytes, wait)
        finally:
            with self._lock:
                self._waiting -= 1

    def _wait_for_all(self, frame_bytes: int, wait: float) -> str | None:
        deadline = time.monotonic() + wait
        if frame_bytes > self.slot_bytes:
            if not self._opening.acquire(timeout=wait):  # another thread makes a ring
                return OPENING
            try:
                if self._cancelled.is_set():
                    return CLOSED
                if frame_bytes > self.slot_bytes:
                    self._make(frame_bytes, flush_s=wait)
            finally:
                self._opening.release()
        if frame_bytes > self.slot_bytes:
            return self._failure[1] if self._failure else OPENING
        if not self.met:
            self._wait_for_viewers(deadline)
        return None

    def with_room(self, frame_bytes: int) -> int:
        """Return the size of slot to ask for where frames of this size are likely to grow, as documents do.

        Each new size costs a new ring.
        """
        from scopecast.memory.ring import plan_layout

        roomy = max(2**18, 1 << (2 * frame_bytes - 1).bit_length())
        return roomy if plan_layout(roomy, self.budget()) else frame_bytes

    def _open(self) -> None:
        """Make rings, on the thread "opening"."""
        while not self._cancelled.is_set():
            growing = self._ring is not None and self._ring.can_grow
            self._to_open.wait(self._grow_retry.left_s if growing else None)
            self._to_open.clear()
            try:
                while self._open_further():
                    pass
            except Exception as error:  # noqa: BLE001 - the thread goes on; told, and tried again
                self._grow_retry.failed()
                self._warn("mistake", f"an error while making a ring: {type(error).__name__}: {error}")
            self._opened.set()

    def _open_further(self) -> bool:
        """Do the next thing that is to be done for the ring. Return whether there was any."""
        with self._opening:
            if self._cancelled.is_set():
                return False
            wanted, self._wanted = self._wanted, 0
            if wanted > self.slot_bytes and not self._is_hopeless(wanted):
                self._make(wanted, flush_s=0.0)
                self._opened.set()
                return True
            if self._names_lost:
                self._names_lost = False
                self._come_back()
                return True
            return self._grow()

    def _make(self, frame_bytes: int, *, flush_s: float) -> None:
        """Make a ring for frames of this size, and with the first one the socket and the entry."""
        try:
            self._try_to_make(frame_bytes, flush_s)
        except Exception as error:  # noqa: BLE001 - the acquisition goes on, whatever this machine lacks; counted
            known = isinstance(error, ScopecastError | OSError)
            reason = "no shared memory" if isinstance(error, SharedMemoryError) else _NO_WAY
            text = str(error) if known else f"{type(error).__name__}: {error}"
            final = isinstance(error, TransportError)
            self._fail(frame_bytes, reason, f"{self.kind} viewers disabled: {text}", final=final)

    def _try_to_make(self, frame_bytes: int, flush_s: float) -> None:
        from scopecast.rundir.directory import RunDirectory

        if self._member is None:
            directory = RunDirectory()
            directory.clean()
            self._member = directory.join("publisher", self.kind, title=self.title[:200], host=self.host[:200])
            crash_point("joined")
        old = self._ring
        if old is not None and flush_s:
            self.flush(time.monotonic() + flush_s, kept=False)
        if old is not None:  # never smaller: another thread may be about to use what the old one had room for
            frame_bytes = max(frame_bytes, old.layout.slot_bytes)
        layout = self._plan(frame_bytes, old)
        if layout is None:
            limit = self.budget() / 2**20
            reason = (
                f"a frame of {frame_bytes / 2**20:.1f} MiB does not fit the budget of {limit:.1f} MiB of shared "
                f"memory, which must hold three: pass a larger budget"
            )
            # What is free, of which the budget is a quarter where none was given, may become more.
            final = self.given_budget is not None
            self._fail(frame_bytes, "larger than the budget", f"frames are not shown: {reason}", final=final)
            return
        self._renew(layout)

    def _renew(self, layout: Layout) -> None:
        """Make a ring of this layout, with the first one also the socket, and let it take the old one's place.

        Only its first slots: the others are made behind the frames (`_grow`).
        """
        from scopecast.publishing.receivers import Hub
        from scopecast.publishing.slots import Leases

        assert self._member is not None
        member, old = self._member, self._ring
        epoch = old.epoch + 1 if old else 0
        ring = self._make_ring(layout, epoch)
        crash_point("segment-made")
        try:
            expected: set[str] = set()
            if self.hub_or_none is None:
                _check_descriptors()
                expected = self._viewers()
                self.hub_or_none = Hub(member, self._total, self._lock)
                self.hub_or_none.when_removed = self._come_back_in_background
                self._hub_made.set()
                crash_point("socket-bound")
            with self._lock:
                leases = Leases(ring.slots, epoch, self.hub.accounts, self._total)
                self._ring, self._leases = ring, leases
                self.hub.use(ring, leases)
                self.hub.expect(expected)
        except BaseException:
            if self._ring is not ring:
                ring.close()
            raise
        crash_point("ring-in-use")
        if old is not None:
            crash_point("ring-replaced")
            old.unlink()
        member.entry.segments = [ring.name]
        member.entry.state = "ready"
        member.write()
        crash_point("ready")
        self.move_kept(layout.slot_bytes, False)
        with self._lock:
            self.slot_bytes = layout.slot_bytes
        if self._failure and layout.slot_bytes >= self._failure[0]:
            logger.warning("scopecast: what had failed works again: frames are shown again")
            self._failure, self._final = None, False
            self._retry.succeeded()
            self._warned.clear()
        self._grow_retry.succeeded()
        self.move_kept(layout.slot_bytes, ring.slots == layout.slots)
        if not self.met:
            self._sought.clear()
            self._to_seek.set()
        self._to_open.set()  # for the other slots

    def _make_ring(self, layout: Layout, epoch: int) -> Ring:
        """Make a ring's first slots, under a name that nobody has taken."""
        from scopecast.memory.ring import Ring

        assert self._member is not None
        member = self._member
        for number in range(_NAMES):
            # /dev/shm is everyone's, and who sees the name of one of our rings can guess that of the next.
            suffix = secrets.randbelow(10_000) if number else epoch % 10_000
            name = f"{self.prefix}{member.token}_{suffix}"
            member.entry.segments = [name, *member.entry.segments][:8]
            member.write()
            crash_point("segment-planned")
            try:
                return Ring(name, layout, member.token, epoch, layout.step)
            except SharedMemoryError as error:
                if error.errno not in (errno.EEXIST, errno.EACCES):
                    raise
                taken = error
        raise taken

    def _grow(self) -> bool:
        """Make some more slots of the ring, behind the frames. Return whether that was to be done."""
        ring = self._ring
        if ring is None or not ring.can_grow or not self._grow_retry.due:
            return False
        try:
            more = ring.grow()
        except SharedMemoryError as error:
            self._grow_retry.failed()
            self._warn("growth", f"only {ring.slots} of {ring.layout.slots} slots could be made, as the rest {error}")
            self.move_kept(ring.layout.slot_bytes, True)
            return False
        with self._lock:
            self.leases.grow(more)
        self._grow_retry.succeeded()
        self.move_kept(ring.layout.slot_bytes, ring.slots == ring.layout.slots)
        return True

    # ---- names that another removed ------------------------------------------------------------------------------

    def _come_back_in_background(self) -> None:
        if self._names_retry.due:
            self._names_lost = True
            self._to_open.set()

    def _come_back(self) -> None:
        """Make anew the names by which new viewers find this publisher; those that are attached go on meanwhile.

        The segment has no name any more that could be given to it again, so that it is replaced by another one.
        """
        if self._member is None:
            return
        try:
            self._member.write()
            with self._lock:
                self.hub.bind_anew()
            if not self.ring.named:
                self._renew(self.ring.layout)
        except Exception as error:  # noqa: BLE001 - the thread that makes rings goes on; told, and tried again
            self._names_retry.failed()
            self._warn("names", f"the run directory was removed, and new viewers can't find this stream: {error}")
        else:
            self._names_retry.succeeded()
            logger.info("scopecast: the run directory was removed, and has been created again")

    def budget(self) -> int:
        """Return the most bytes of shared memory."""
        from scopecast.memory.ring import MAX_BYTES
        from scopecast.memory.segment import free_bytes

        if self.given_budget is not None:
            return self.given_budget
        free = free_bytes()
        return MAX_BYTES if free is None else min(MAX_BYTES, free // 4)

    def _plan(self, frame_bytes: int, old: Ring | None) -> Layout | None:
        from scopecast.memory.ring import plan_layout

        budget = self.budget()
        if old is not None and (beside := plan_layout(frame_bytes, budget - old.layout.total)):
            return beside
        # No room beside the old ring: for the moment that receivers need to change over, both exist.
        return plan_layout(frame_bytes, budget)

    def _fail(self, frame_bytes: int, reason: str, text: str, *, final: bool = False) -> None:
        self._retry.failed()
        self._failure, self._final = (frame_bytes, reason, text), final
        self.give_up_kept(reason)
        self._warn(reason, text if final else f"{text}; retrying, at growing intervals")

    def _warn(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            logger.warning("scopecast: %s", text)

    # ---- viewers -------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        """Serve the receivers, on the thread "keeper"."""
        self._hub_made.wait()
        if self.hub_or_none is not None:
            self.hub_or_none.keep()

    def _wait_for_viewers(self, deadline: float) -> None:
        """Wait until the viewers are attached, one that is being started among them; no longer than the deadline."""
        try:
            self._sought.wait(max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
        except BaseException:
            if self._launch is not None:
                self._launch.interrupt()
            raise
        self.met = True

    def _seek(self) -> None:
        """Find the viewers, or start one, on the thread "seeking"."""
        while True:
            self._to_seek.wait()
            self._to_seek.clear()
            if self._cancelled.is_set():
                return
            try:
                self._seek_viewers()
            except Exception as error:  # noqa: BLE001 - told, and tried again
                self._seek_retry.failed()
                self._seek_problem = f"looking for viewers failed: {type(error).__name__}: {error}"
                self._warn("seeking", self._seek_problem)
                self._sought.set()
                self._cancelled.wait(self._seek_retry.left_s)
                self._to_seek.set()
            else:
                self._seek_retry.succeeded()
                self._seek_problem = ""
                self.met = True
                self._sought.set()

    def _seek_viewers(self) -> None:
        """Find the viewers that run, start one if none does and that was asked for, and wait for them to attach."""
        from scopecast.publishing.launch import Launch

        assert self._member is not None
        directory = self._member.directory
        try:
            if self.launch and self._launch is None and not self.hub.receivers:
                self._launch = Launch(directory, self.kind, self.environment, self._tell_of_the_start)
                self._launch.run()
            self._await(directory, self._viewers(), time.monotonic() + 60.0)
        finally:
            with self._lock:
                self.hub.expect_nobody()

    def _viewers(self) -> set[str]:
        """Return the tokens of the viewers that are about to attach."""
        assert self._member is not None
        living = self._member.directory.living("receiver", self.kind)
        return {entry.token for entry in living if entry.state == "ready"}

    def _tell_of_the_start(self) -> None:
        meanwhile = (
            ", and waiting for it" if self._waiting else "; until it is up the newest frame of each channel is kept"
        )
        logger.warning("scopecast: starting %s%s", self.kind, meanwhile)

    def _await(self, directory: RunDirectory, expected: set[str], deadline: float) -> None:
        """Wait until the viewers `expected` are attached, refused, or gone."""
        while expected and (left := deadline - time.monotonic()) > 0 and not self._cancelled.is_set():
            with self._lock:
                seen = {receiver.token for receiver in (*self.hub.receivers.values(), *self.hub.departed)}
                seen.update(self.hub.refused)
                if not expected - seen:
                    return
                ticket = self.hub.news.ticket()
            ticket.acquire(timeout=min(left, 0.25))
            expected = {token for token in expected if directory.alive(token)}

    def capture(self, path: str, timeout: float) -> None:
        """Have the first receiver write a picture of its window to `path`."""
        deadline = time.monotonic() + timeout
        hub = self.hub_or_none
        if hub is None or not hub.receivers:
            msg = "no viewer is attached, so there is no window to take a picture of"
            raise RuntimeError(msg)
        number = time.monotonic_ns()
        with self._lock:
            hub.captured[number] = ""
            hub.broadcast(messages.Capture(number, path))
        while True:
            left = deadline - time.monotonic()
            with self._lock:
                if hub.captured[number] or not hub.receivers or left <= 0:
                    answer = hub.captured.pop(number)
                    break
                ticket = hub.news.ticket()
            ticket.acquire(timeout=min(left, 0.25))
        if answer != "done":
            msg = f"no picture of the window: {answer or f'the viewer did not answer within {timeout:g} s'}"
            raise RuntimeError(msg)

    # ---- closing -------------------------------------------------------------------------------------------------

    def flush(self, deadline: float, *, kept: bool = True) -> bool:
        """Wait until no frame is in flight; return whether that came about before the deadline.

        Those that are kept until there is a slot can be left out by who is about to make one.
        """
        while True:
            hub = self.hub_or_none
            with self._lock:
                in_flight = len(self._total.kept) if kept else 0
                ticket = None
                if hub is not None:
                    try:
                        hub.drain_if_any()
                    except BaseException:  # Ctrl-C, in the middle of whatever a message changes
                        hub.recover()
                        raise
                    in_flight += hub.in_flight
                    ticket = hub.news.ticket() if in_flight else None
                if not in_flight:
                    return True
            if (left := deadline - time.monotonic()) <= 0:
                return False
            if ticket is not None:
                ticket.acquire(timeout=min(left, 0.05))
            else:
                self._opened.wait(min(left, 0.05))

    def close(self, linger: float) -> None:
        """Wait for what is in flight and for a viewer that is being started, then let go of everything. Idempotent."""
        if os.getpid() != self._pid or self.closed:
            return
        deadline = time.monotonic() + linger
        try:
            if linger > 0 and self._threads:
                self._open_further()  # if no thread has come to it yet, or is done with it
                if self._launch is not None:
                    self._launch.conclude()
                if self.hub_or_none is not None and not self.met:
                    self._sought.wait(max(0.0, deadline - time.monotonic()))
                self.flush(deadline)
        finally:  # also when Ctrl-C cut the wait short
            self._cancelled.set()
            if self._launch is not None:
                self._launch.cancel()
            for awaited in (self._to_open, self._to_seek, self._hub_made):  # the threads end
                awaited.set()
            # Whoever is making a ring at this moment is to be done with it, and nobody makes another one afterwards.
            opening = self._opening.acquire(timeout=5.0)
            try:
                self._tear_down()
            finally:
                if opening:
                    self._opening.release()
            for thread in tuple(self._threads.values()):
                if thread is not threading.current_thread():
                    thread.join(timeout=1.0)  # they know, and have at most to finish what they are at

    def _tear_down(self) -> None:
        with self._lock:
            self.closed = True
        self.give_up_kept(CLOSED)
        open_connections.discard(self)
        try:
            if self.hub_or_none is not None:
                self.hub_or_none.close()
        finally:
            if self._member is not None:
                self._member.close()

    def abandon(self) -> None:
        """Close, at once, what was garbage-collected without close()."""
        if os.getpid() != self._pid or (self._member is None and not self._threads):
            return
        warnings.warn(
            f"a publisher of {self.kind} frames was not closed; use it as a context manager, or call close()",
            ResourceWarning,
            stacklevel=2,
        )
        # The garbage collector runs this wherever it likes: in a thread of ours, or in the middle of one that holds our
        # lock. Such a thread can't wait for itself.
        ours = threading.current_thread().name.startswith("scopecast-")
        if ours or not self._lock.acquire(blocking=False):
            with suppress(RuntimeError):  # the interpreter ends: `_close_all` sees to it
                threading.Thread(target=self.close, args=(0.0,), name="scopecast-closing").start()
        else:
            self._lock.release()
            self.close(0.0)


def _check_descriptors() -> None:
    """See that there are descriptors left for the socket: ZeroMQ ends the whole process where it gets none."""
    taken: list[int] = []
    try:
        taken.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(_DESCRIPTORS))
    finally:
        for descriptor in taken:
            os.close(descriptor)


def remember(connection: Connection) -> None:
    """Have a connection closed in good order when the process ends."""
    global _worker
    open_connections.add(connection)
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None and _worker != os.getpid():
        # A worker that was forked ends without atexit; multiprocessing has its own list of what is to be done.
        from multiprocessing.util import Finalize

        _worker = os.getpid()
        Finalize(None, _close_all, exitpriority=100)


_worker = 0  # the worker process that closes its connections at its end


@atexit.register
def _close_all() -> None:
    for connection in tuple(open_connections):
        with suppress(Exception, KeyboardInterrupt):  # at exit there is nobody left to tell
            connection.close(connection.linger)
