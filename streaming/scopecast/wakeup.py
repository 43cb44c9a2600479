"""Waking a thread that waits for sockets, and waiting for them, on every system."""

from __future__ import annotations

import selectors
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["WakeUp", "Watch"]


class WakeUp:
    """Wakes the thread that waits for it, from any other thread; wake-ups before the next `clear` count as one.

    A pair of connected sockets and no pipe: Windows can wait for sockets only.
    """

    def __init__(self) -> None:
        self._waiting, self._waking = socket.socketpair()
        self._waiting.setblocking(False)
        self._waking.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable after `wake`."""
        return self._waiting.fileno()

    def wake(self) -> None:
        """Make it readable. Never waits."""
        with suppress(BlockingIOError):  # one that is full wakes as well
            self._waking.send(b"x")

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        with suppress(BlockingIOError):
            self._waiting.recv(4096)

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self._waiting.close()
        self._waking.close()


class Watch:
    """Waits for descriptors to become readable: by poll(), and by select() where there is none (Windows).

    Neither holds a descriptor of its own, which a forked child would share (as it would epoll's and kqueue's).

    Parameters
    ----------
    descriptors
        Of sockets.
    """

    def __init__(self, descriptors: Iterable[int]) -> None:
        kind: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
        self._selector = kind()
        for descriptor in descriptors:
            self._selector.register(descriptor, selectors.EVENT_READ)

    def ready(self, timeout: float) -> set[int]:
        """Return the descriptors that are readable, after at most `timeout` seconds (rounded up to whole ms)."""
        return {key.fd for key, _ in self._selector.select(timeout)}
