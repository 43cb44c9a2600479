"""Viewers that a test's publishers have started, which outlive them."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from children import wait_until
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def ending_viewers() -> Iterator[RunDirectory]:
    """End the viewers of the test's run directory when the block ends."""
    directory = RunDirectory()
    try:
        yield directory
    finally:
        for entry in directory.living("receiver"):
            os.kill(entry.pid, signal.SIGTERM)
        wait_until(lambda: not directory.living("receiver"), "the viewers have ended")
