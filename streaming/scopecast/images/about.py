"""What a file says about its images, checked: metadata comes from other programs, and not all of it is valid."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from scopecast.errors import FileError
from scopecast.frames.axes import check_axes, short_label
from scopecast.frames.streams import MAX_COLORS, MAX_LABELS
from scopecast.images.sites import Sites

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MOST_SECONDS", "About", "as_length", "as_seconds", "elapsed_s", "unique_names"]

#: The sizes of pixels and the distances of planes that are believed, in µm: from a hundredth of an atom to a metre.
_LENGTHS: Final = (1e-6, 1e6)
#: The intervals that are believed, in seconds: up to thirty years.
_SECONDS: Final = (1e-9, 1e9)
#: The times that are believed, in seconds: those of clocks that count from 1970 are.
MOST_SECONDS: Final = 1e11
_COLOR: Final = re.compile(r"\A#[0-9a-fA-F]{6}\Z")


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says about all of its planes.

    Readers pass on what the file says: a size, interval or colour that makes no sense (NaN, 1e300, text) is left out
    here, with one note, and the names of channels are made to differ. 0 and None are what the file does not tell.

    Attributes
    ----------
    sizes
        Extent of each axis, outermost first, y and x not among them.
    channels
        Names of the channels, if the file names them.
    colors
        Their colours, ``#rrggbb``; empty where the viewer is to choose.
    scale
        Size of a pixel (y, x) in `units`.
    units
        ``"um"``, or ``"pixel"`` where the file does not say.
    steps
        Distance of the planes along z in `units`, and of the time points in seconds.
    sites
        Where its positions were taken, and their names.
    recording, member
        Identifies the set of files that are one recording, where this is one of several, and which of them this is;
        ``""`` otherwise.
    missing
        Planes that it tells of and does not have.
    complete
        False if it lists planes that it does not have (yet); some are written without those that were left out.
    notes
        What the user should know: other series that are not shown, axes that were guessed.

    Raises
    ------
    FileError
        If there are more axes, or longer ones, than a stream can have.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    channels: Sequence[Any] = ()
    colors: Sequence[Any] = ()
    scale: Sequence[Any] = (1.0, 1.0)
    units: str = "pixel"
    steps: dict[str, Any] = field(default_factory=dict)
    sites: Sites = field(default_factory=Sites)
    recording: str = ""
    member: str = ""
    missing: int = 0
    complete: bool = True
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_axes(self.sizes)
        except ValueError as error:
            raise FileError(str(error)) from error
        odd: list[str] = []
        steps = {axis: _believed(axis, step, odd) for axis, step in self.steps.items()}
        scale, units = self.scale, self.units
        if units != "pixel":
            scale = tuple(_believed("pixel size", size, odd) for size in self.scale)
            if not all(scale):
                scale, units = (1.0, 1.0), "pixel"
                steps.pop("z", None)  # a distance in µm beside pixels of no size would stretch the stack
        colors = [color if isinstance(color, str) and (not color or _COLOR.match(color)) else None
                  for color in self.colors[:MAX_COLORS]]  # fmt: skip
        odd += [f"colour {_shown(given)}" for given, color in zip(self.colors, colors, strict=False) if color is None]
        notes = self.notes
        if odd:
            said = ", ".join(dict.fromkeys(odd[:4])) + (", …" if len(odd) > 4 else "")
            notes = (*notes, f"implausible values in its metadata are ignored: {said}")
        made = {
            "channels": unique_names(self.channels[: min(self.sizes.get("c", MAX_LABELS), MAX_LABELS)]),
            "colors": tuple(color or "" for color in colors) if any(colors) else (),
            "scale": scale,
            "units": units,
            "steps": {axis: step for axis, step in steps.items() if step},
            "notes": notes,
        }
        for name, value in made.items():
            object.__setattr__(self, name, value)

    def stream(self) -> dict[str, Any]:
        """Return the arguments for `Publisher.new_stream`, without the sizes."""
        return {
            "channels": self.channels,
            "positions": self.sites.names if "p" in self.sizes else (),
            "colors": self.colors,
            "scale": self.scale,
            "units": self.units,
            "steps": self.steps,
        }


def as_length(value: object) -> float:
    """Return a size or distance in µm that can be used; 0 for one that is not valid.

    >>> as_length(0.65), as_length("0.65"), as_length(float("nan")), as_length(1e300)
    (0.65, 0.0, 0.0, 0.0)
    """
    return _within(_number(value), _LENGTHS)


def as_seconds(value: object) -> float:
    """Return an interval in seconds that can be used; 0 for one that is not valid."""
    return _within(_number(value), _SECONDS)


def elapsed_s(frame: object) -> float | None:
    """Return the seconds since its run began that Micro-Manager's tags of a frame name; None where they name none.

    >>> elapsed_s({"ElapsedTime-ms": 1500}), elapsed_s({"ElapsedTime-ms": 10**400}), elapsed_s(None)
    (1.5, None, None)
    """
    elapsed = _number(frame.get("ElapsedTime-ms", math.nan) if isinstance(frame, dict) else math.nan)
    return elapsed / 1e3 if abs(elapsed) < MOST_SECONDS * 1e3 else None  # not NaN either


def _believed(what: str, value: object, odd: list[str]) -> float:
    """Return a size or a step that can be used, otherwise 0; make a note of an implausible one."""
    number = _number(value)
    # Stacks are recorded downwards, too; and what is known of other axes is passed on as it is.
    made = _within(abs(number) if what == "z" else number, _SECONDS if what == "t" else _LENGTHS)
    if number and not made:
        names = {"z": "z step", "t": "time interval"}
        odd.append(f"{names.get(what, what)} {_shown(value)}")
    return made


def _within(number: float, limits: tuple[float, float]) -> float:
    return number if limits[0] <= number <= limits[1] else 0.0


def _number(value: object) -> float:
    """Return a number; NaN for what is not a number, and 0 for what is missing."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _shown(value: object) -> str:
    """Return a value as a note can hold it."""
    try:
        return repr(value)[:24]
    except ValueError:  # an int of thousands of digits
        return f"of {type(value).__name__}"


def unique_names(names: Iterable[Any]) -> tuple[str, ...]:
    """Return names of channels that can be labels: they differ from each other, and have 1 to 64 characters.

    Parameters
    ----------
    names
        As a file has them: empty, equal, hundreds of characters long, no text at all.

    Returns
    -------
    tuple of str
        As many; () if none of them is a name.

    Examples
    --------
    >>> unique_names(["GFP", "", "GFP"])
    ('GFP', 'channel 2', 'GFP 2')
    """
    given = [_plain(name) for name in names]
    if not any(given):
        return ()
    made: dict[str, None] = {}
    taken = set(given)
    for at, name in enumerate(given):
        unique, number = name or f"channel {at + 1}", 2
        while unique in made or (unique != name and unique in taken):
            unique, number = short_label(f"{name or 'channel'} {number}"), number + 1
        made[unique] = None
    return tuple(made)


def _plain(name: Any) -> str:
    """Return a name on one line, without what steers a terminal."""
    if not isinstance(name, str | int | float):
        return ""
    text = "".join(letter if letter.isprintable() else " " for letter in str(name))
    return short_label(" ".join(text.split()))
