"""Where the commands print."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Console

__all__ = ["err", "out", "wide"]

#: What others wrote is no markup.
_PLAIN: Final[dict[str, Any]] = {"markup": False, "emoji": False, "highlight": False}
out = Console(soft_wrap=True, **_PLAIN)
err = Console(stderr=True, **_PLAIN)


def wide(columns: int, *, stderr: bool = False) -> Console:
    """Return a console for tables: as wide as the terminal, and of `columns` in a file, where it would have 80."""
    console = Console(stderr=stderr, **_PLAIN)
    return console if console.is_terminal else Console(stderr=stderr, width=columns, **_PLAIN)
