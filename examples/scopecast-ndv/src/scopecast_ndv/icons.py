"""ndv's icons, which come from a server; without a network nothing must wait for it."""

from __future__ import annotations

import contextlib
import threading
from typing import NoReturn

import pyconify.api

__all__ = ["look_for_icons", "spare_icons"]

#: How long the window is kept waiting for the server.
PATIENCE = 2.0


def look_for_icons() -> threading.Event:
    """Find out, on a thread, whether the server answers; the event is set once it did."""
    found = threading.Event()

    def look() -> None:
        with contextlib.suppress(OSError, ValueError):
            pyconify.last_modified()  # pyconify remembers the answer, and asks no more
            found.set()

    threading.Thread(target=look, name="icons", daemon=True).start()
    return found


def spare_icons(found: threading.Event) -> None:
    """Have ndv do with the icons that this machine has, if the server doesn't answer soon.

    Otherwise each of its buttons, and each new slider, would look for the server anew while the window stands still:
    ten seconds where names are not resolved.
    """
    if not found.wait(PATIENCE):
        pyconify.api._session = _refuse  # noqa: SLF001 - there is no public way


def _refuse() -> NoReturn:
    raise OSError("the server of the icons did not answer when the window opened")
