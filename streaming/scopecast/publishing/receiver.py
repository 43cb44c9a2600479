"""A receiver at the other end of the hub's socket, and how those who wait for one hear of it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from scopecast.link import messages
from scopecast.publishing.accounts import ReceiverStats

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.publishing.accounts import Account

__all__ = ["News", "Receiver"]


class News:
    """Tells those who wait that something has changed.

    A Condition would have to take the lock again after the wait, and Ctrl-C can keep it from that: the lock would then
    be let go of twice, or stay held. Here a ticket is drawn under the lock, and waited for without it.

    Parameters
    ----------
    hurry
        Called when somebody is about to wait.
    """

    def __init__(self, hurry: Callable[[], None]) -> None:
        self._hurry = hurry
        self._tickets: deque[threading.Lock] = deque(maxlen=64)  # those that timed out are among them

    def ticket(self) -> threading.Lock:
        """Return what is released at the next change: wait with ``acquire(timeout=…)``. Under the lock."""
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
        """Wake everyone who waits. Under the lock."""
        while self._tickets:
            self._tickets.popleft().release()


class Receiver:
    """A receiver that is attached, or was."""

    def __init__(self, number: int, address: bytes, hello: messages.Hello, account: Account) -> None:
        self.number = number
        self.address = address
        self.token, self.kind, self.title, self.pid = hello.token, hello.kind, hello.title, hello.pid
        self.account = account
        self.unanswered = 0
        self.attached = True
        self.pong = messages.Pong(0)

    def __str__(self) -> str:
        return f"{self.title or self.kind} (process {self.pid})"

    def stats(self) -> ReceiverStats:
        """Return this receiver's row of the accounts."""
        pong = self.pong
        return ReceiverStats(
            token=self.token,
            kind=self.kind,
            title=self.title,
            pid=self.pid,
            attached=self.attached,
            frames=self.account.counts,
            painted=pong.painted,
            age_ms=(pong.age_p50_ms, pong.age_p99_ms),
            drain_ms=(pong.drain_p50_ms, pong.drain_p99_ms),
            paint_ms=pong.paint_p50_ms,
            first_ms=pong.first_ms,
            forgotten=pong.forgotten,
            layer_ms=pong.layer_ms,
        )
