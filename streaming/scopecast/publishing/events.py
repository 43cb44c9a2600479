"""Waiting for other threads, in ways that Ctrl-C can't break.

`threading.Event` and `threading.Condition` hold a lock of their own for some lines of Python, and KeyboardInterrupt may
be raised between any two of them: the lock would stay held, or be released twice. What is here is made of steps that
happen as a whole or not at all.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Event", "News"]


class Event:
    """A `threading.Event` that Ctrl-C can't leave locked."""

    def __init__(self) -> None:
        self._set = False
        self._tickets: dict[threading.Lock, None] = {}

    def is_set(self) -> bool:
        """Return whether it is set."""
        return self._set

    def set(self) -> None:
        """Set it, and wake everyone who waits."""
        self._set = True
        for ticket in tuple(self._tickets):
            with suppress(RuntimeError):  # another thread has released it
                ticket.release()

    def clear(self) -> None:
        """Have the next `wait` wait."""
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds; return whether it is."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets[ticket] = None
        if not self._set:
            ticket.acquire(timeout=-1 if timeout is None else max(0.0, min(timeout, threading.TIMEOUT_MAX)))
        self._tickets.pop(ticket, None)
        return self._set


class News:
    """Tells those who wait that something has changed.

    A ticket is drawn under the publisher's lock, and waited for without it.

    Parameters
    ----------
    hurry
        Called when somebody is about to wait.
    """

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._tickets: deque[threading.Lock] = deque(maxlen=64)  # those that timed out are among them

    def ticket(self) -> threading.Lock:
        """Return what is released at the next change: wait with ``acquire(timeout=…)``."""
        ticket = threading.Lock()
        ticket.acquire()
        self._tickets.append(ticket)
        self._hurry()
        return ticket

    @property
    def awaited(self) -> bool:
        """Whether somebody may wait for a change."""
        return bool(self._tickets)

    def tell(self) -> None:
        """Wake everyone who waits."""
        while self._tickets:
            self._tickets.popleft().release()
