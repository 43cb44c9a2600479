"""Where the commands print."""

from __future__ import annotations

from rich.console import Console

__all__ = ["err", "out", "wide"]

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False)


def wide(columns: int, *, stderr: bool = False) -> Console:
    """Return a console for tables: as wide as the terminal, and of `columns` in a file, where it would have 80."""
    console = Console(highlight=False, stderr=stderr)
    return console if console.is_terminal else Console(highlight=False, stderr=stderr, width=columns)
