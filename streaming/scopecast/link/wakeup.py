"""Waking a thread that waits for sockets, and waiting for them, on every system."""

from __future__ import annotations

import math
import select
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Poller", "WakeUp"]


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
        try:
            self._waking.send(b"x")
        except BlockingIOError:  # one that is full wakes as well
            return

    def clear(self) -> None:
        """Forget the wake-ups so far."""
        try:
            self._waiting.recv(4096)
        except BlockingIOError:
            return

    def close(self) -> None:
        """Close both ends. Idempotent."""
        self._waiting.close()
        self._waking.close()


class Poller:
    """Waits for sockets to become readable: by poll(), and by select() where there is none (Windows).

    Not by `selectors`: the better ones hold a descriptor that a forked child would share, and all of them take three
    times as long for a turn (12 µs), in which they keep the interpreter from the producer.

    Parameters
    ----------
    descriptors
        Of the sockets.
    """

    def __init__(self, descriptors: Iterable[int]) -> None:
        self._descriptors = tuple(descriptors)
        make: Any = getattr(select, "poll", None)
        self._poll = make() if make is not None else None
        if self._poll is not None:
            for descriptor in self._descriptors:
                self._poll.register(descriptor, 1)  # POLLIN

    def ready(self, timeout: float) -> set[int]:
        """Return the descriptors that are readable, after at most `timeout` seconds, rounded up to milliseconds."""
        if self._poll is None:
            return set(select.select(self._descriptors, (), (), timeout)[0])
        return {descriptor for descriptor, _ in self._poll.poll(math.ceil(timeout * 1000))}
