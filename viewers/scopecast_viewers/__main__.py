"""``python -m scopecast_viewers KIND``: a receiver process."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast_viewers.display import Display

__all__ = ["main", "when_told_to_end"]

#: Files and sockets that a viewer of many publishers needs.
_DESCRIPTORS = 4096


def main(arguments: list[str] | None = None) -> int:
    """Run a receiver process: ``python -m scopecast_viewers napari``."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))  # there is nothing to put in order yet
    from scopecast_viewers.receiver import SWITCH_INTERVAL_S, Receiver
    from scopecast_viewers.stacks.history import history_from_environment

    parser = argparse.ArgumentParser(prog="python -m scopecast_viewers", description="Show live streams in a viewer.")
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group="scopecast.viewers")}
    parser.add_argument("kind", choices=sorted(entries), help="the viewer")
    parser.add_argument("--token", default="", help="the token to use in the run directory")
    parser.add_argument("--title", default="", help="what the viewer calls itself")
    options = parser.parse_args(arguments)
    _raise_descriptors()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        history = history_from_environment()
    except ValueError as error:
        parser.error(str(error))
    display: Display = entries[options.kind].load()()
    when_told_to_end(display.quit)
    with Receiver(display, token=options.token, title=options.title, history=history) as receiver:
        display.run(receiver)
    return 0


def _raise_descriptors() -> None:
    """Take the descriptors that this user may have: macOS gives a process 256 unless it asks."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def when_told_to_end(do: Callable[[], None]) -> None:
    """Have something done at SIGTERM and Ctrl-C, whatever the main thread is doing; perhaps twice.

    Python itself does it only when the main thread comes back to it. That may never be so, if the system gives the
    signal to another thread (one of Java, for example), or just before the main thread begins to wait.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        signal.signal(number, lambda *_: do())
    waiting, waking = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)

    def wait() -> None:
        with waking:
            while came := waiting.recv(64):
                if set(came) & set(numbers):
                    do()

    threading.Thread(target=wait, name="scopecast-signals", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
