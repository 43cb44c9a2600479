"""How a publisher comes to its ring, its socket and its viewer, and lets go of them again.

Under ``latest`` all of this happens in a thread of its own, and frames are skipped ("opening") until it is done; under
``every`` the caller waits.
"""

from __future__ import annotations

import atexit
import logging
import math
import os
import sys
import threading
import time
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scopecast import wire
from scopecast.crashpoints import crash_point
from scopecast.errors import ScopecastError, SharedMemoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from scopecast.accounting import Account
    from scopecast.hub import Hub
    from scopecast.launch import Launch
    from scopecast.leases import Leases
    from scopecast.ring import Layout, Ring
    from scopecast.runs import Member, RunDirectory

__all__ = ["Connection", "open_connections", "remember"]

logger = logging.getLogger(__name__)

#: Seconds until the next try where names that another removed can't be made anew.
RETURN_S = 5.0
OPENING = "opening"
CLOSED = "closed"
_DESCRIPTORS = 32  # that a socket, its monitor and their context take, with some to spare
#: Connections that are open; what is left of them at exit is closed in good order.
open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """A publisher's ring, socket and entry in the run directory, made when they are needed.

    Parameters
    ----------
    kind, prefix, title, host, launch, linger, budget, environment
        As for `scopecast.publisher.Publisher`.
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
        self.host, self.launch, self.linger, self.budget = host, launch, linger, budget
        self.environment = environment
        self.slot_bytes = 0
        self.met = self.closed = False
        self.hub_or_none: Hub | None = None
        self._lock = lock
        self._total = total
        self._ring: Ring | None = None
        self._leases: Leases | None = None
        self._member: Member | None = None
        self._pid = os.getpid()
        self._opening = threading.Lock()  # held by whoever makes a ring
        self._thread: threading.Thread | None = None  # makes a ring
        self._seeker: threading.Thread | None = None  # waits for the first viewers
        self._cancelled = threading.Event()
        self._warned: set[str] = set()
        self._failure: tuple[int, str] | None = None  # frame bytes for which there is no ring, and why
        self._failure_text = ""
        self._returning: threading.Thread | None = None
        self._next_return = 0.0
        self._launch: Launch | None = None
        self._launching = threading.Lock()

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
        """Why frames are not shown, in a line; ``""`` if nothing is wrong."""
        if self._failure:
            return self._failure_text
        attached = self.hub_or_none is not None and self.hub_or_none.accounts
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
            Why a frame must be skipped now, or None.
        """
        if self._failure and frame_bytes >= self._failure[0]:
            return self._failure[1]
        if wait:
            return self._ensure_now(frame_bytes, wait)
        if frame_bytes > self.slot_bytes:
            if self._thread is None or not self._thread.is_alive():
                self._thread = self._begin(self._open_in_background, frame_bytes)
            return OPENING
        # While the viewer is being started the ring is used already: the newest frame waits in it for the viewer.
        if not self.met:
            self._seek_in_background()
        return None

    @staticmethod
    def _begin(work: Callable[..., None], *arguments: int) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments, name="scopecast-opening", daemon=True)
        with suppress(RuntimeError):  # no thread to be had: the next frame asks again
            thread.start()
        return thread

    def _ensure_now(self, frame_bytes: int, wait: float) -> str | None:
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
            self._seek_viewers(deadline)
        return None

    def with_room(self, frame_bytes: int) -> int:
        """Return the size of slot to ask for where frames of this size are likely to grow, as documents do.

        Each new size costs a new ring.
        """
        from scopecast.ring import plan_layout

        roomy = max(2**18, 1 << (2 * frame_bytes - 1).bit_length())
        return roomy if plan_layout(roomy, self._budget()) else frame_bytes

    def _open_in_background(self, frame_bytes: int) -> None:
        with self._opening:
            if self._cancelled.is_set():
                return
            if frame_bytes > self.slot_bytes:
                self._make(frame_bytes, flush_s=0.0)
        if self.slot_bytes >= frame_bytes and not self.met:
            self._seek_in_background()

    def _seek_in_background(self) -> None:
        with self._launching:
            if self._cancelled.is_set() or (self._seeker is not None and self._seeker.is_alive()):
                return
            self._seeker = self._begin(self._seek_viewers)

    def _make(self, frame_bytes: int, *, flush_s: float) -> None:
        """Make a ring for frames of this size, and with the first one the socket and the entry."""
        try:
            self._try_to_make(frame_bytes, flush_s)
        except Exception as error:  # noqa: BLE001 - the acquisition goes on, whatever this machine lacks; counted
            known = isinstance(error, ScopecastError | OSError)
            reason = "no shared memory" if isinstance(error, SharedMemoryError) else "no way to the viewers"
            text = str(error) if known else f"{type(error).__name__}: {error}"
            self._fail(frame_bytes, reason, f"{self.kind} viewers disabled: {text}")

    def _try_to_make(self, frame_bytes: int, flush_s: float) -> None:
        from scopecast.runs import RunDirectory

        if self._member is None:
            directory = RunDirectory()
            directory.clean()
            self._member = directory.join("publisher", self.kind, title=self.title[:200], host=self.host[:200])
            crash_point("joined")
        old = self._ring
        if old is not None and flush_s:
            self.flush(time.monotonic() + flush_s)
        if old is not None:  # never smaller: another thread may be about to use what the old one had room for
            frame_bytes = max(frame_bytes, old.layout.slot_bytes)
        layout = self._plan(frame_bytes, old)
        if layout is None:
            limit = self._budget() / 2**20
            reason = (
                f"a frame of {frame_bytes / 2**20:.1f} MiB does not fit the budget of {limit:.1f} MiB of shared "
                f"memory, which must hold three: pass a larger budget"
            )
            self._fail(frame_bytes, "larger than the budget", f"frames are not shown: {reason}")
            return
        self._renew(layout)

    def _renew(self, layout: Layout) -> None:
        """Make a ring of this layout, with the first one also the socket, and let it take the old one's place."""
        from scopecast.hub import Hub
        from scopecast.leases import Leases
        from scopecast.ring import Ring

        assert self._member is not None
        member, old = self._member, self._ring
        epoch = old.epoch + 1 if old else 0
        name = f"{self.prefix}{member.token}_{epoch % 10_000}"
        member.entry.segments = [name, *member.entry.segments][:8]
        member.write()
        crash_point("segment-planned")
        ring = Ring(name, layout, member.token, epoch)
        crash_point("segment-made")
        try:
            if self.hub_or_none is None:
                _check_descriptors()
                self.hub_or_none = Hub(member, self._total, self._lock)
                self.hub_or_none.when_removed = self._come_back_in_background
                crash_point("socket-bound")
            with self._lock:
                leases = Leases(layout.slots, epoch, self.hub.accounts, self._total)
                self._ring, self._leases = ring, leases
                self.hub.use(ring, leases)
                self.slot_bytes = layout.slot_bytes
                self._failure = None
        except BaseException:
            if self._ring is not ring:
                ring.close()
            raise
        crash_point("ring-in-use")
        if old is not None:
            crash_point("ring-replaced")
            old.unlink()
        member.entry.segments = [name]
        member.entry.state = "ready"
        member.write()
        crash_point("ready")

    # ---- names that another removed ------------------------------------------------------------------------------

    def _come_back_in_background(self) -> None:
        if time.monotonic() >= self._next_return and (self._returning is None or not self._returning.is_alive()):
            self._returning = self._begin(self._come_back)

    def _come_back(self) -> None:
        """Make anew the names by which new viewers find this publisher; those that are attached go on meanwhile.

        The segment has no name any more that could be given to it again, so that it is replaced by another one.
        """
        import zmq

        with self._opening:
            if self._cancelled.is_set() or self._member is None:
                return
            try:
                self._member.write()
                with self._lock:
                    self.hub.bind_anew()
                if not self.ring.named:
                    self._renew(self.ring.layout)
            except (ScopecastError, OSError, zmq.ZMQError) as error:
                self._next_return = time.monotonic() + RETURN_S
                self._warn("names", f"the run directory was removed, and new viewers can't find this stream: {error}")
            else:
                logger.info("scopecast: the run directory was removed, and made anew")

    def _budget(self) -> int:
        from scopecast.ring import MAX_BYTES
        from scopecast.segment import free_bytes

        if self.budget is not None:
            return self.budget
        free = free_bytes()
        return MAX_BYTES if free is None else min(MAX_BYTES, free // 4)

    def _plan(self, frame_bytes: int, old: Ring | None) -> Layout | None:
        from scopecast.ring import plan_layout

        budget = self._budget()
        if old is not None and (beside := plan_layout(frame_bytes, budget - old.layout.total)):
            return beside
        # No room beside the old ring: for the moment that receivers need to change over, both exist.
        return plan_layout(frame_bytes, budget)

    def _fail(self, frame_bytes: int, reason: str, text: str) -> None:
        self._failure, self._failure_text = (frame_bytes, reason), text
        self._warn(reason, text)

    def _warn(self, about: str, text: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            logger.warning("scopecast: %s", text)

    # ---- viewers -------------------------------------------------------------------------------------------------

    def _seek_viewers(self, deadline: float = math.inf) -> None:
        """Find the viewers that run, start one if none does and that was asked for, and wait for them to attach."""
        from scopecast.launch import Launch

        assert self._member is not None
        directory = self._member.directory
        with self._launching:
            if self.launch and self._launch is None and not self.hub.receivers:
                self._launch = Launch(directory, self.kind, self.environment)
        if self._launch is not None:
            self._launch.wait(min(deadline, time.monotonic() + threading.TIMEOUT_MAX / 2))
        expected = {entry.token for entry in directory.living("receiver", self.kind) if entry.state == "ready"}
        self._await(directory, expected, min(deadline, time.monotonic() + 60.0))
        self.met = True

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
            hub.broadcast(wire.Capture(number, path))
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

    def flush(self, deadline: float) -> bool:
        """Wait until no frame is in flight; return whether that came about before the deadline."""
        hub = self.hub_or_none
        if hub is None:
            return True
        while True:
            with self._lock:
                try:
                    hub.drain_if_any()
                except BaseException:  # Ctrl-C, in the middle of whatever a message changes
                    hub.recover()
                    raise
                if not hub.in_flight:
                    return True
                ticket = hub.news.ticket()
            if (left := deadline - time.monotonic()) <= 0:
                return False
            ticket.acquire(timeout=min(left, 0.05))

    def close(self, linger: float) -> None:
        """Wait for what is in flight and for a viewer that is being started, then let go of everything. Idempotent."""
        if os.getpid() != self._pid or self.closed:
            return
        deadline = time.monotonic() + linger
        try:
            if linger > 0:
                if self._thread is not None and self._thread.is_alive():
                    self._thread.join(linger)
                if self._launch is not None:
                    self._launch.conclude()
                if self._seeker is not None and self._seeker.is_alive():
                    self._seeker.join(max(0.0, deadline - time.monotonic()))
                self.flush(deadline)
        finally:  # also when Ctrl-C cut the wait short
            self._cancelled.set()
            if self._launch is not None:
                self._launch.cancel()
            # Whoever is making a ring at this moment is to be done with it, and nobody makes another one afterwards.
            opening = self._opening.acquire(timeout=5.0)
            try:
                self._tear_down()
            finally:
                if opening:
                    self._opening.release()

    def _tear_down(self) -> None:
        with self._lock:
            self.closed = True
        open_connections.discard(self)
        try:
            if self.hub_or_none is not None:
                self.hub_or_none.close()
        finally:
            if self._member is not None:
                self._member.close()

    def abandon(self) -> None:
        """Close, at once, what was garbage-collected without close()."""
        if os.getpid() != self._pid or (self._member is None and self._thread is None):
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
