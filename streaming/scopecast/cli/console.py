"""Where the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.segment import Segment

__all__ = ["err", "out", "wide"]

# What steers a terminal, written out: names of files come from anyone.
_WRITTEN_OUT: Final = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}


class _Console(Console):
    """A console whose texts steer no terminal, whatever is in them."""

    def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
        for segment in super().render(*arguments, **options):
            plain = segment.control or segment.text.isprintable()
            yield segment if plain else segment._replace(text=segment.text.translate(_WRITTEN_OUT))


out = _Console(highlight=False, soft_wrap=True)
err = _Console(stderr=True, highlight=False)


def wide(columns: int) -> Console:
    """Return a console for tables: as wide as the terminal, and of `columns` in a file, where it would have 80."""
    console = _Console(highlight=False)
    return console if console.is_terminal else _Console(highlight=False, width=columns)
