"""The viewers that are already running for a publisher, and the one that it starts."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from scopecast.publishing.retry import Retry
from scopecast.publishing.wait import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scopecast.publishing.guard import Guard
    from scopecast.publishing.launch import Launch
    from scopecast.publishing.receivers import Receivers
    from scopecast.rundir.directory import RunDirectory

__all__ = ["Viewers"]

logger = logging.getLogger(__name__)

_ATTACH_S = 60.0  # seconds that a running viewer has to attach


class Viewers:
    """Finds the viewers of a kind, or starts one, on the thread that runs `run`.

    Parameters
    ----------
    kind, launch, environment
        As for `scopecast.publishing.publisher.Publisher`.
    guard
        The publisher's guard.
    warn
        Called with a topic and a text; warns once for each topic.

    Attributes
    ----------
    met : bool
        Whether the search for viewers is over, so that no frame has to wait for it any more.
    waiting : int
        How many callers wait for the first viewer; the message about its start depends on it.
    """

    def __init__(
        self,
        kind: str,
        *,
        launch: bool,
        environment: Mapping[str, str],
        guard: Guard,
        warn: Callable[[str, str], None],
    ) -> None:
        self.met = False
        self.waiting = 0
        self._kind, self._launch_wanted, self._environment = kind, launch, environment
        self._guard, self._warn = guard, warn
        self._launch: Launch | None = None
        self._wanted = Event()
        self._found = Event()
        self._cancelled = Event()
        self._retry = Retry()
        self._problem = self._unknown = ""
        self._receivers: Receivers | None = None
        self._directory: RunDirectory | None = None

    @property
    def search_problem(self) -> str:
        """Why looking for viewers failed, and when that is tried again, as one line; ``""`` if nothing is wrong."""
        return f"{self._problem} ({self._retry})" if self._problem else ""

    @property
    def start_problem(self) -> str:
        """Why no viewer could be started, or none is installed, as one line; ``""`` if nothing is wrong."""
        return self._launch.problem if self._launch is not None else self._unknown

    def running(self, directory: RunDirectory) -> set[str]:
        """Return the tokens of the viewers that are ready, and so attached or about to attach."""
        return {entry.token for entry in directory.living("receiver", self._kind) if entry.state == "ready"}

    def expected(self, directory: RunDirectory) -> set[str]:
        """Return the tokens of all that are about to attach: the viewers; recorders and relays are to miss nothing."""
        others = [entry for entry in directory.living() if entry.role in ("recorder", "relay")]
        return self.running(directory) | {entry.token for entry in others if entry.state == "ready"}

    def find(self, receivers: Receivers, directory: RunDirectory) -> None:
        """Request the search for viewers, unless it is over; called when a new ring is in use."""
        if not self.met:
            self._receivers, self._directory = receivers, directory
            self._found.clear()
            self._wanted.set()

    def run(self) -> None:
        """Find the viewers, or start one, whenever this is requested, until `cancel` is called."""
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._cancelled.is_set():
                return
            try:
                self._find()
            except Exception as error:  # noqa: BLE001 - it warns, and tries again
                self._retry.failed()
                self._problem = f"looking for viewers failed: {type(error).__name__}: {error}"
                self._warn("seeking", self._problem)
                self._found.set()
                self._cancelled.wait(self._retry.left_s)
                self._wanted.set()
            else:
                self._retry.succeeded()
                self._problem = ""
                self.met = True
                self._found.set()

    def _find(self) -> None:
        """Find the running viewers, start one if there is none and `launch` is set, and wait until they attach."""
        from scopecast.publishing.launch import Launch, why_unknown

        directory, receivers = self._directory, self._receivers
        assert directory is not None
        assert receivers is not None
        try:
            if self._launch_wanted and self._launch is None and not receivers.viewers:
                self._launch = Launch(directory, self._kind, self._environment, self._tell_of_the_start)
                self._launch.run()
            if self._launch is None and not self.running(directory):
                self._unknown = why_unknown(self._kind)
            self._await(directory, receivers, self.expected(directory))
        finally:
            with self._guard.lock, self._guard:
                receivers.expect_nobody()

    def _tell_of_the_start(self) -> None:
        meanwhile = (
            ", and waiting for it" if self.waiting else "; until it is up the newest frame of each channel is kept"
        )
        logger.warning("scopecast: starting %s%s", self._kind, meanwhile, extra={"notice": True})

    def _await(self, directory: RunDirectory, receivers: Receivers, expected: set[str]) -> None:
        """Wait until each of the viewers `expected` has attached, was refused, or is gone."""
        deadline = time.monotonic() + _ATTACH_S
        while expected and (left := deadline - time.monotonic()) > 0 and not self._cancelled.is_set():
            with self._guard.lock, self._guard:
                seen = {receiver.token for receiver in (*receivers.attached.values(), *receivers.departed)}
                seen.update(receivers.refused)
                if not expected - seen:
                    return
                ticket = receivers.news.ticket()
            ticket.acquire(timeout=min(left, 0.25))
            expected = {token for token in expected if directory.alive(token)}

    def wait(self, deadline: float) -> None:
        """Wait until the viewers are attached, including one that is being started, but no longer than the deadline.

        Parameters
        ----------
        deadline
            By ``time.monotonic()``. Viewers that are not attached by then are not waited for again.
        """
        try:
            self._found.wait(max(0.0, min(deadline - time.monotonic(), threading.TIMEOUT_MAX)))
        except BaseException:
            self.interrupt()
            raise
        self.met = True

    def interrupt(self) -> None:
        """End a viewer that is being started, because of Ctrl-C, and start no other."""
        if self._launch is not None:
            self._launch.interrupt()

    def conclude(self, deadline: float) -> None:
        """Wait for a viewer that is being started, and start no other; called before closing."""
        if self._launch is not None:
            self._launch.conclude()
        if self._receivers is None or self.met or self._found.wait(max(0.0, deadline - time.monotonic())):
            return
        if self._launch is not None:
            text = f"{self._kind} was not up in time to show the frames; a larger linger waits longer for it"
            self._warn("late", text)

    def cancel(self) -> None:
        """Give up searching and starting; `run` ends."""
        self._cancelled.set()
        if self._launch is not None:
            self._launch.cancel()
        self._wanted.set()
