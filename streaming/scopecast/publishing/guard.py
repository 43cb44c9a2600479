"""A publisher's lock, the process that it belongs to, and whether it is closed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

from scopecast.errors import ClosedError, ForkedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Guard"]


class Guard:
    """Guards what a publisher's threads share: its slots, accounts and socket.

    Change any of it like this::

        with guard.lock, guard:
            ...

    A change that an exception cuts short (Ctrl-C may strike between any two lines) is not repaired on the spot: the
    next thread to enter finds it unfinished, and calls `void` to throw away everything in flight.

    Attributes
    ----------
    lock : threading.Lock
        The one lock. It is taken without the guard where no change could be left half done.
    pid : int
        The process that the publisher belongs to; in any other process it is inert.
    closed : bool
        Whether the publisher is closed, so that nothing more may be published.
    void : callable
        Throws away everything in flight. Called under the lock.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.pid = os.getpid()
        self.closed = False
        self.void: Callable[[], None] = lambda: None
        self._unfinished = False

    def __enter__(self) -> Self:
        if self._unfinished:
            self.void()
        self._unfinished = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._unfinished = kind is not None

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that the publisher belongs to."""
        return os.getpid() == self.pid

    def check_process(self) -> None:
        """Raise ForkedError if this process was forked from the one that the publisher belongs to."""
        # Checked before taking any lock: after a fork, it may be held by a thread that does not exist here.
        if not self.is_ours:
            msg = "this publisher was opened by another process, which this one was forked from; make one of your own"
            raise ForkedError(msg)

    def check_usable(self) -> None:
        """Raise ForkedError in a forked process, and ClosedError once closed."""
        self.check_process()
        if self.closed:
            msg = "this publisher is closed; make a new one"
            raise ClosedError(msg)
