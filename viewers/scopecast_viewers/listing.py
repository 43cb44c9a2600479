"""The list of publishers that a user sees: those that are alive, and those whose frames are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from scopecast.rundir.directory import display_names

if TYPE_CHECKING:
    from scopecast.rundir.directory import Entry
    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.receiving.source import Source

__all__ = ["Listed", "Listing"]


class Listed(NamedTuple):
    """A publisher, as it is listed.

    Attributes
    ----------
    token
        Names it.
    name
        What it calls itself, with a number where another is called the same.
    host, kind, pid
        The software that it runs in, the kind of viewer that it publishes for, its process.
    state
        ``"live"`` (attached, and frames come), ``"idle"`` (attached), ``"attaching"``, ``"refused"`` (see `problem`),
        ``"detached"``, ``"ended"``, or ``"lost"`` (it died while it was attached).
    run
        Title of its newest stream, or ``""``.
    rate
        Frames per second.
    age_s
        Seconds since the newest frame was published; None before the first.
    delivered, superseded, dropped
        What became of its frames, in this viewer.
    problem
        Why its frames can't be shown, or ``""``.
    """

    token: str
    name: str
    host: str
    kind: str
    pid: int
    state: Literal["live", "idle", "attaching", "refused", "detached", "ended", "lost"]
    run: str
    rate: float
    age_s: float | None
    delivered: int
    superseded: int
    dropped: int
    problem: str

    @property
    def attached(self) -> bool:
        """Whether it is attached, or about to be."""
        return self.state in ("live", "idle", "attaching", "refused")

    @property
    def alive(self) -> bool:
        """Whether one can attach to it, or detach from it."""
        return self.state not in ("ended", "lost")


class Listing:
    """Lists the publishers of a receiver's kind; each keeps its name as long as it is listed.

    Parameters
    ----------
    receiver
        Knows them.
    """

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._names: dict[str, str] = {}

    def look(self) -> tuple[Listed, ...]:
        """Return the publishers that are alive, then those that have gone but left frames; in order of appearance."""
        sources = {source.entry.token: source for source in self._receiver.sources}
        entries = {entry.token: entry for entry in self._receiver.publishers}
        entries |= {token: source.entry for token, source in sources.items()}
        known = [token for token in self._names if token in entries]
        new = [token for token in entries if token not in self._names]
        names = display_names((entries[token] for token in (*known, *new)), self._names)
        self._names = {token: names[token] for token in (*known, *new)}
        listed = (_listed(entries[token], self._names[token], sources.get(token)) for token in self._names)
        return tuple(sorted(listed, key=lambda each: not each.alive))


def _listed(entry: Entry, name: str, source: Source | None) -> Listed:
    about = (entry.token, name, entry.host, entry.kind, entry.pid)
    if source is None:
        return Listed(*about, "detached", "", 0.0, None, 0, 0, 0, "")
    streams = source.streams
    live = [stream for stream in streams if stream.state == "live"]
    ages = [age for stream in streams if (age := stream.age_s) is not None]
    return Listed(
        *about,
        state={
            "greeting": "attaching",
            "attached": "live" if any(stream.delivers for stream in live) else "idle",
            "refused": "refused",
            "detached": "detached",
            "ended": "ended",
            "lost": "lost",
        }[source.state],
        run=streams[-1].about.title if streams else "",
        rate=sum(stream.rate for stream in live),
        age_s=min(ages, default=None),
        delivered=source.delivered,
        superseded=source.superseded,
        dropped=source.dropped,
        problem=source.problem,
    )
