"""Where the commands print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from scopecast.protocol import printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.segment import Segment

__all__ = ["err", "out", "wide"]

#: What others wrote is no markup.
_PLAIN: Final[dict[str, Any]] = {"markup": False, "emoji": False, "highlight": False}


class _Console(Console):
    """A console whose texts steer no terminal, whatever is in them."""

    def render(self, *arguments: Any, **options: Any) -> Iterator[Segment]:
        for segment in super().render(*arguments, **options):
            yield segment if segment.control else segment._replace(text=printable_lines(segment.text))


out = _Console(soft_wrap=True, **_PLAIN)
err = _Console(stderr=True, **_PLAIN)


def wide(columns: int, *, stderr: bool = False) -> Console:
    """Return a console for tables: as wide as the terminal, and of `columns` in a file, where it would have 80."""
    console = _Console(stderr=stderr, **_PLAIN)
    return console if console.is_terminal else _Console(stderr=stderr, width=columns, **_PLAIN)
