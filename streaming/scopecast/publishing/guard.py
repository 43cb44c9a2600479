"""The lock of a publisher, the process that it belongs to, and whether it is closed."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Self

from scopecast.errors import ClosedError, ForkedError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Guard"]


class Guard:
    """Guards what the threads of a publisher share: its slots, accounts and socket.

    All of it is changed like this::

        with guard.lock, guard:
            ...

    A change that an exception cuts short (Ctrl-C strikes between any two lines) is put in order by nobody on the spot:
    whoever comes next finds it unfinished, and has `void` throw away all that was in flight.

    Attributes
    ----------
    lock : threading.Lock
        The one lock. It is taken by itself where nothing is changed that could be left half done.
    pid : int
        The process that the publisher belongs to; in any other it is inert.
    closed : bool
        Whether nothing may be published any more.
    void : callable
        Throws away what is in flight. Called under the lock.
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
        """Raise ForkedError in a process that was forked from the one that the publisher belongs to."""
        # Before any lock: after a fork it may be held by a thread that does not exist here.
        if not self.is_ours:
            msg = "this publisher was opened by another process, which this one was forked from; make one of your own"
            raise ForkedError(msg)

    def check_usable(self) -> None:
        """Raise ForkedError in a forked process, and ClosedError once closed."""
        self.check_process()
        if self.closed:
            msg = "this publisher is closed; make a new one"
            raise ClosedError(msg)
