"""What the worker processes of the tests of polystore do; a module, as spawned processes import it by name."""

from __future__ import annotations

import os
from typing import Any

from receivers import stamped


def save(files: Any, first: int, count: int, end: str) -> None:
    """Save a batch by a file manager that came from another process, and end in one of several ways."""
    times = range(first, first + count)
    files.save_batch([stamped(t) for t in times], [f"w{first}_t{t:04}.tif" for t in times], "scopecast_napari")
    if end == "os._exit":
        os._exit(0)
