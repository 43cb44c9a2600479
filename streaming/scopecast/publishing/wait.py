"""Ways to wait for other threads that Ctrl-C can't break.

`threading.Event` and `threading.Condition` hold an internal lock over several lines of Python, and KeyboardInterrupt
may be raised between any two of them: the lock would stay held, or be released twice. The classes here consist of
atomic steps.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bell", "Event"]


class Event:
    """A `threading.Event` that Ctrl-C can't leave locked."""

    def __init__(self) -> None:
        self._set = False
        self._tickets: dict[threading.Lock, None] = {}

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake all waiting threads."""
        self._set = True
        for ticket in self._tickets.copy():
            with suppress(RuntimeError):  # another thread has already released it
                ticket.release()

    def clear(self) -> None:
        """Reset it, so that the next `wait` blocks."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for at most `timeout` seconds; return whether it is."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets[ticket] = None
        if not self._set:
            ticket.acquire(timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX)))
        self._tickets.pop(ticket, None)
        return self._set


class Bell:
    """Tells waiting threads that something has changed.

    Draw a ticket under the publisher's lock, and wait for it without the lock.

    Parameters
    ----------
    hurry
        Called when a thread is about to wait.
    """

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._tickets: deque[threading.Lock] = deque(maxlen=64)  # including those that timed out

    def ticket(self) -> threading.Lock:
        """Return a lock that the next change releases: wait with ``acquire(timeout=…)``."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets.append(ticket)
        self._hurry()
        return ticket

    @property
    def awaited(self) -> bool:
        """Whether a thread may be waiting for a change."""
        return bool(self._tickets)

    def tell(self) -> None:
        """Wake all waiting threads."""
        while self._tickets:
            self._tickets.popleft().release()
