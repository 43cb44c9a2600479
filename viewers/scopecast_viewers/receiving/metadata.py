"""What is known of a frame beside its pixels, as viewers tell it: when, where and how it was taken, its metadata."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scopecast.errors import ProtocolError
from scopecast.link.messages import decode_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag

__all__ = [
    "Recorded",
    "decoded",
    "metadata_lines",
    "metadata_rows",
    "read_recorded",
    "recorded_of",
]

_MOST_LINES: Final = 200
_MOST_CHARACTERS: Final = 300
_DEEPEST: Final = 8
_UNREADABLE: Final = "metadata that can't be read"
_NUMBER: Final = int | float
#: By what is told, its keys: scopecast's own, those of Micro-Manager's tags, and pycro-manager's; with their factors.
_KEYS: Final = {
    "elapsed_s": (("elapsed_s", 1.0), ("ElapsedTime-ms", 1e-3)),
    "clock_s": (("clock_s", 1.0),),
    "exposure_ms": (("exposure_ms", 1.0), ("Exposure-ms", 1.0), ("Exposure", 1.0)),
    "x_um": (("x_um", 1.0), ("XPositionUm", 1.0), ("XPosition_um_Intended", 1.0)),
    "y_um": (("y_um", 1.0), ("YPositionUm", 1.0), ("YPosition_um_Intended", 1.0)),
    "z_um": (("z_um", 1.0), ("ZPositionUm", 1.0), ("ZPosition_um_Intended", 1.0)),
}
_POSITION_KEYS: Final = ("position", "PositionName")
#: Keys of times, in the forms of ISO 8601 and of Micro-Manager ("2026-11-29 16:20:01.123 +0100").
_TIME_KEYS: Final = ("time", "Time")
_LATEST_S: Final = 1e11


class Recorded(NamedTuple):
    """When, where and how a frame was taken; None and "" where nobody says.

    Attributes
    ----------
    elapsed_s
        Seconds since its run began.
    clock_s
        Seconds since the epoch, of the clock on the wall.
    exposure_ms
        Milliseconds.
    x_um, y_um, z_um
        Of the stage, in µm.
    position
        What the position is called, such as ``"A1"``.
    """

    elapsed_s: float | None = None
    clock_s: float | None = None
    exposure_ms: float | None = None
    x_um: float | None = None
    y_um: float | None = None
    z_um: float | None = None
    position: str = ""

    @property
    def elapsed(self) -> str:
        """Seconds up to a minute, then hours, minutes and seconds.

        >>> Recorded(elapsed_s=12.5).elapsed, Recorded(elapsed_s=3661.25).elapsed
        ('12.50 s', '1:01:01.25')
        """
        if self.elapsed_s is None:
            return ""
        hundredths = round(self.elapsed_s * 100)
        if abs(hundredths) < 6000:
            return f"{hundredths / 100:.2f} s"
        seconds, hundredths = divmod(abs(hundredths), 100)
        minutes, seconds = divmod(seconds, 60)
        sign = "-" if self.elapsed_s < 0 else ""
        return f"{sign}{minutes // 60}:{minutes % 60:02}:{seconds:02}.{hundredths:02}"

    @property
    def clock(self) -> str:
        """The time of day."""
        return "" if self.clock_s is None else f"{datetime.fromtimestamp(self.clock_s).astimezone():%H:%M:%S}"

    @property
    def date(self) -> str:
        """The date, and the time of day to the millisecond."""
        if self.clock_s is None:
            return ""
        return datetime.fromtimestamp(self.clock_s).astimezone().isoformat(" ", "milliseconds")

    @property
    def exposure(self) -> str:
        """In milliseconds, with the unit."""
        return "" if self.exposure_ms is None else f"{self.exposure_ms:.4g} ms"

    @property
    def stage(self) -> str:
        """The axes that are known, with the unit.

        >>> Recorded(x_um=-0.004, y_um=-12.34).stage
        'x 0.0 y -12.3 µm'
        """
        known = [(axis, at) for axis, at in zip("xyz", self[3:6], strict=True) if at is not None]
        # Rounded before, and 0 added: a stage at -0.004 is at 0.0, not at -0.0.
        return f"{' '.join(f'{axis} {round(at, 1) + 0.0:.1f}' for axis, at in known)} µm" if known else ""


def recorded_of(stream: LiveStream, index: Sequence[int], tag: Tag) -> Recorded:
    """Return when, where and how a frame was taken.

    What its metadata say counts. Of a frame that says nothing of its time, it is when it was published, unless it was
    read from a file; and its position is called as the run calls it.

    Parameters
    ----------
    stream
        The run.
    index
        Where the frame lies along the run's axes.
    tag
        What is known of the frame.
    """
    said = read_recorded(tag.metadata)
    live = not tag.path
    if said.clock_s is None and live:
        said = said._replace(clock_s=stream.clock_s(tag.sent_ns))
    if said.elapsed_s is None and live and stream.first_sent_ns and not stream.about.preview:
        said = said._replace(elapsed_s=(tag.sent_ns - stream.first_sent_ns) / 1e9)
    if not said.position:
        where = dict(zip(stream.axes, index, strict=False))
        names = [(name, stream.label(name, where[name])) for name in ("p", "g") if name in where]
        said = said._replace(
            position=" ".join(text if text != str(where[name]) else "" for name, text in names).strip()
        )
    return said


def metadata_rows(recorded: Recorded, tag: Tag) -> list[tuple[str, str]]:
    """Return all that is known of a frame as (name, value): first what all frames have, then its own metadata."""
    known = (
        ("pixels", "preview, not exact" if tag.preview else ""),
        ("position", recorded.position),
        ("elapsed", recorded.elapsed),
        ("time", recorded.date),
        ("exposure", recorded.exposure),
        *(
            (f"stage {axis}", "" if at is None else f"{round(at, 3) + 0.0:.3f} µm")
            for axis, at in zip("xyz", recorded[3:6], strict=True)
        ),
        ("file", tag.path),
    )
    told = [(name, _printable(value)) for name, value in known if value]
    return [*told, *((_printable(name), _printable(str(value))) for name, value in _flat(tag))]


def metadata_lines(tag: Tag) -> list[str]:
    """Return the metadata of a frame, a line for each value, such as ``"exposure_ms: 10"``; [] if it has none.

    What lies in a mapping within is named by all keys on the way, ``"camera.gain: 2"``. At most 200 lines.
    """
    return [_printable(f"{name}: {value}" if name else str(value)) for name, value in _flat(tag)]


def _flat(tag: Tag) -> list[tuple[str, Any]]:
    if not tag.metadata:
        return []
    values = list(_values("", decoded(tag.metadata), 0))
    more = len(values) - _MOST_LINES
    return [*values[:_MOST_LINES], *([("", f"and {more} more")] if more > 0 else [])]


def read_recorded(metadata: bytes) -> Recorded:
    """Return what the metadata of a frame say, MessagePack as it was sent."""
    said = decoded(metadata) if metadata else None
    if not isinstance(said, dict):
        return Recorded()
    found: dict[str, Any] = {}
    for name, keys in _KEYS.items():
        for key, factor in keys:
            value = said.get(key)
            if isinstance(value, _NUMBER) and not isinstance(value, bool) and abs(value) < _LATEST_S:  # NaN is not
                found.setdefault(name, value * factor)
    if found.get("clock_s", 0.0) < 0.0:  # of the year 1, which some programs write where they know none
        del found["clock_s"]
    for key in _TIME_KEYS:
        if "clock_s" not in found and isinstance(text := said.get(key), str) and (clock := _clock(text)) is not None:
            found["clock_s"] = clock
    names = [text for key in _POSITION_KEYS if isinstance(text := said.get(key), str)]
    return Recorded(**found, position=_printable(names[0]) if names else "")


def _clock(text: str) -> float | None:
    """Return the seconds since the epoch of a date and time; None if it is none, or of no clock of today.

    >>> _clock("1970-01-01 00:01:00.500 +0000"), _clock("1970-01-01T00:01:00Z"), _clock("noon")
    (60.5, 60.0, None)
    """
    date, _, zone = text.strip().rpartition(" ")
    joined = date + zone if date and zone[:1] in "+-" else text.strip()  # Micro-Manager's has a blank before the zone
    try:
        clock = datetime.fromisoformat(joined).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return clock if math.isfinite(clock) and 0 <= clock < _LATEST_S else None


def decoded(metadata: bytes) -> Any:
    """Return the metadata of a frame as they were before they were sent, or a sentence if they can't be read."""
    try:
        return decode_metadata(metadata)
    except ProtocolError:
        return _UNREADABLE


def _values(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value and depth < _DEEPEST:
        for key, each in value.items():
            yield from _values(f"{name}.{key}" if name else str(key), each, depth + 1)
    else:
        yield name, value


def _printable(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    return shown if len(shown) <= _MOST_CHARACTERS else f"{shown[: _MOST_CHARACTERS - 1]}…"
