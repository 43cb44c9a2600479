"""What has a thread of its own: it works when it is asked to, and ends with what it works for."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from queue import SimpleQueue
from typing import Any, Self

__all__ = ["Background"]


class Background(ABC):
    """Has `_work` done on a thread of its own whenever `_ask` is called, from any thread, until it is closed."""

    _closed = True  # until there is something to close
    _asked = False
    _thread: threading.Thread | None = None

    @abstractmethod
    def _work(self) -> None:
        """Do all that is to be done now."""

    @abstractmethod
    def close(self) -> None:
        """Stop the thread, and give up what belongs to this. Idempotent."""

    def _start(self, name: str, *, threaded: bool = True, nice: int = 0) -> None:
        # A SimpleQueue and not an Event: its put may be interrupted by a destructor that puts, an Event's set may not.
        self._wake: SimpleQueue[bool] = SimpleQueue()
        if threaded:
            arguments = (weakref.WeakMethod(self._serve), self._wake, nice)
            self._thread = threading.Thread(target=_serve, args=arguments, name=name, daemon=True)
            self._thread.start()
        self._closed = False

    def _serve(self) -> None:
        self._asked = False
        self._work()

    def _ask(self) -> None:
        if not (self._asked or self._closed or self._thread is None):
            self._asked = True
            self._wake.put(True)

    def _end(self, patience: float | None = None) -> None:
        """Let the thread end, and wait for it, but not for longer than `patience` seconds."""
        self._wake.put(False)
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed:
            self._closed = True
            self._wake.put(False)  # and no join: this may run on any thread, this one's own included
            warnings.warn(f"{type(self).__name__} was not closed: {self!r}", ResourceWarning, source=self, stacklevel=2)


def _serve(work: weakref.WeakMethod[Any], wake: SimpleQueue[bool], nice: int) -> None:
    if nice and sys.platform == "linux":  # where a thread has a priority of its own
        thread = threading.get_native_id()
        behind = max(nice, os.getpriority(os.PRIO_PROCESS, thread))  # the process may be far behind itself
        os.setpriority(os.PRIO_PROCESS, thread, behind)
    # Holds its owner only while working for it, so that one that was never closed can still be collected and warn.
    while wake.get():
        step = work()
        if step is None:
            return
        step()
        del step
