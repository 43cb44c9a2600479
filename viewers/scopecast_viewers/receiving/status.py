"""The status line of a live stream: its frame rate, its age, its losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.receiving.source import Source
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["figures_of", "format_age", "hint_of", "preview_of", "sources_of", "state_of"]

#: What is said of a place by `Stack.state`.
_HINTS: Final = {"here": "", "missing": "no frame here yet", "forgotten": "the frame here is forgotten"}


def sources_of(stream: LiveStream, sources: Iterable[Source]) -> list[Source]:
    """Return the source that a stream comes from, if the viewer is attached to it; several, if they share a run."""
    return [known for known in sources if known.name in stream.publishers]


def hint_of(stream: LiveStream, state: str) -> str:
    """Return what is said of a place of a stream by `Stack.state`, or ``""``."""
    if state == "missing" and stream.state != "live":
        return "no frame came here"
    return _HINTS[state]


def preview_of(stream: LiveStream) -> str:
    """Return what is said of a frame of a stream whose pixels are not exact."""
    if stream.state == "lost" or not stream.alive:
        return "preview: the exact pixels had not come when the connection ended"
    return "preview: the exact pixels are still on their way"


def state_of(stream: LiveStream) -> str:
    """Return ``"live"``, ``"idle"`` (live, but no frame comes), or the state in which the stream has ended."""
    return stream.state if stream.state != "live" or stream.delivers else "idle"


def figures_of(
    stream: LiveStream, sources: Sequence[Source], age_s: float | None = None, of: Stack | None = None
) -> list[str]:
    """Return the figures of a stream and its sources as plain texts, the most important first.

    Parameters
    ----------
    stream, sources
        What they are of.
    age_s
        How old the newest frame is that a window shows, in seconds; by default the newest that has come.
    of
        Labels, or what a program has replied: theirs alone.
    """
    state, parts = state_of(stream), []
    if state == "lost":
        away = any(each.entry.origin for each in sources)
        parts.append(f"{'no longer connected' if away else 'source lost'}, its last frames stay")
    elif state == "ended":
        parts.append("ended")
    elif stream.rate and of is None:
        parts.append(f"{stream.rate:.1f} frames/s")
    count = stream.received if of is None else len(of.layout.planes)
    parts.append(f"{count} frame{'' if count == 1 else 's'}")
    age = stream.age_s if age_s is None else age_s
    if age is not None and state in ("live", "idle"):
        parts.append(f"newest {format_age(age)} old")
    if of is not None:
        return parts
    if len(stream.publishers) > 1:
        parts.append(f"from {len(stream.publishers)} programs")
    lost = (("superseded", stream.superseded), ("dropped", stream.dropped))
    parts += [f"{count} {fate}" for fate, count in lost if count]
    forgotten = sum(stack.forgotten for stack in stream.stacks)
    if forgotten:
        parts.append(f"{forgotten} forgotten (the history is full)")
    return parts


def format_age(seconds: float) -> str:
    """Return a duration in readable form: ``"40 ms"``, ``"2.5 s"``, ``"3 min"``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"
