"""What was published with a frame as its metadata, as lines that a viewer can show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast_viewers.stacks.plane import Tag

__all__ = ["metadata_lines"]

_MOST_LINES: Final = 200
_MOST_CHARACTERS: Final = 300
_DEEPEST: Final = 8


def metadata_lines(tag: Tag) -> list[str]:
    """Return the metadata of a frame, a line for each value, such as ``"exposure_ms: 10"``; [] if it has none.

    What lies in a mapping within is named by all keys on the way, ``"camera.gain: 2"``. At most 200 lines.
    """
    if not tag.metadata:
        return []
    try:
        said = msgspec.msgpack.decode(tag.metadata)
    except (msgspec.DecodeError, RecursionError, ValueError):  # from another process: anything may be in it
        return ["metadata that can't be read"]
    lines = [_line(name, value) for name, value in _values("", said, 0)]
    return [*lines[:_MOST_LINES], *([f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else [])]


def _values(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value and depth < _DEEPEST:
        for key, each in value.items():
            yield from _values(f"{name}.{key}" if name else str(key), each, depth + 1)
    else:
        yield name, value


def _line(name: str, value: Any) -> str:
    text = f"{name}: {value}" if name else str(value)
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 1]}…"
