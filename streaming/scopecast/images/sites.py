"""Where the positions of a file were taken and what they are called, checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from scopecast.frames.axes import short_label
from scopecast.frames.stage import usable_affine
from scopecast.frames.streams import MAX_LABELS

__all__ = ["Site", "Sites", "affine_of", "affine_of_summary", "as_name", "as_stage", "distinct_part", "site_of"]

#: The coordinates of a stage that are believed, in µm: within 100 m.
_FARTHEST: Final = 1e8
_STACK: Final = "MMStack_"
#: As Micro-Manager has them, and pycro-manager, where the stage was asked to go.
_KEYS: Final = (("XPosition_um_Intended", "YPosition_um_Intended"), ("XPositionUm", "YPositionUm"))


class Site(NamedTuple):
    """What is told of one position.

    Attributes
    ----------
    stage
        (x, y) in µm; None where it is not told.
    name
        May be ``""``.
    corner
        Where on the canvas the first pixel was when it was recorded, (y, x) in µm; None where it is not told.
    """

    stage: tuple[float, float] | None = None
    name: str = ""
    corner: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Sites:
    """What a file says of all of its positions; what is not valid is left out.

    Attributes
    ----------
    names
        Of the positions, in order; () where none has a name.
    stage
        (x, y) in µm of each position, by its place along the axis ``p``: a number or a label. Empty unless all are
        known and the stage was not in one and the same place for all: many programs write zeros for lack of a stage,
        and fields on top of each other are not seen.
    corners
        The same of the corners on the canvas, (y, x) in µm.
    affine
        As from `scopecast.frames.stage.usable_affine`.
    """

    names: Sequence[str] = ()
    stage: Mapping[int | str, tuple[float, float]] = field(default_factory=dict)
    corners: Mapping[int | str, tuple[float, float]] = field(default_factory=dict)
    affine: tuple[float, ...] | None = None

    @classmethod
    def of(cls, sites: Mapping[int | str, Site], affine: tuple[float, ...] | None = None) -> Sites:
        """Take what is told of each position, by its place along the axis ``p``."""
        stage = _if_apart({at: site.stage for at, site in sites.items()})
        corners = _if_apart({at: site.corner for at, site in sites.items()})
        numbers = [at for at in sites if isinstance(at, int)]
        if len(numbers) < len(sites):
            return cls(stage=stage, corners=corners, affine=affine)  # labels are names
        known = [sites[at].name if at in sites else "" for at in range(min(MAX_LABELS, max(numbers, default=-1) + 1))]
        return cls(names=tuple(known) if any(known) else (), stage=stage, corners=corners, affine=affine)


def _if_apart(
    places: Mapping[int | str, tuple[float, float] | None],
) -> dict[int | str, tuple[float, float]]:
    """Return places if all are known, and not all the same."""
    known = {at: place for at, place in places.items() if place is not None}
    return known if len(known) == len(places) and len(set(known.values())) > 1 else {}


def site_of(frame: object) -> Site:
    """Return where the stage was, and what the position is called, by Micro-Manager's metadata of a frame.

    >>> site_of({"XPositionUm": 10, "YPositionUm": -2.5, "PositionName": "A1"})
    Site(stage=(10.0, -2.5), name='A1', corner=None)
    """
    if not isinstance(frame, Mapping):
        return Site()
    found = (as_stage(frame.get(x), frame.get(y)) for x, y in _KEYS)
    return Site(next((stage for stage in found if stage), None), as_name(frame.get("PositionName")))


def as_stage(x: object, y: object) -> tuple[float, float] | None:
    """Return coordinates of a stage in µm that can be used; None for others."""
    if isinstance(x, bool) or isinstance(y, bool) or not (isinstance(x, int | float) and isinstance(y, int | float)):
        return None
    if not (abs(x) <= _FARTHEST and abs(y) <= _FARTHEST):  # nor NaN, nor an int of hundreds of digits
        return None
    return float(x), float(y)


def as_name(name: object) -> str:
    """Return the name of a position on one line."""
    if not isinstance(name, str):
        return ""
    return short_label(" ".join("".join(letter if letter.isprintable() else " " for letter in name).split()))


def affine_of(frame: object, pixel_um: float | None) -> tuple[float, ...] | None:
    """Return the affine in Micro-Manager's metadata of a frame: six numbers, as the core has them.

    >>> affine_of({"PixelSizeAffine": "0.0;0.5;0.0;-0.5;0.0;0.0"}, 0.5)
    (0.0, 0.5, 0.0, -0.5, 0.0, 0.0)
    """
    numbers = _numbers(frame, "PixelSizeAffine", ";")
    return usable_affine(numbers, pixel_um) if len(numbers) == 6 else None


def affine_of_summary(summary: object, pixel_um: float | None) -> tuple[float, ...] | None:
    """Return the affine in the summary of an NDTiff dataset: four numbers, in the order of Java's ``AffineTransform``.

    >>> affine_of_summary({"AffineTransform": "0.0_-0.5_0.5_0.0"}, 0.5)
    (0.0, 0.5, 0.0, -0.5, 0.0, 0.0)
    """
    numbers = _numbers(summary, "AffineTransform", "_")
    if len(numbers) != 4:
        return None
    a, d, b, e = numbers
    return usable_affine((a, b, 0.0, d, e, 0.0), pixel_um)


def _numbers(about: object, key: str, separator: str) -> tuple[float, ...]:
    text = about.get(key) if isinstance(about, Mapping) else None
    if not isinstance(text, str) or len(text) > 400:
        return ()
    try:
        numbers = tuple(float(each) for each in text.split(separator))
    except ValueError:
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()


def distinct_part(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of images without what all of them begin with: the name of the run, before a space or ``MMStack_``.

    >>> distinct_part(["run 7 A1", "run 7 B2"]), distinct_part(["x_MMStack_Pos0", "x_MMStack_Pos1"])
    (('A1', 'B2'), ('Pos0', 'Pos1'))
    >>> distinct_part(["Position 1", "Position 2"]), distinct_part(["A1"])
    (('Position 1', 'Position 2'), ('A1',))
    """
    given = tuple(names)
    if len(given) < 2:
        return given
    letters = itertools.takewhile(lambda each: len(set(each)) == 1, zip(*given, strict=False))
    same = "".join(each[0] for each in letters)
    start = max(same.rfind(" ") + 1, same.rfind(_STACK) + len(_STACK) if _STACK in same else 0)
    rest = tuple(name[start:] for name in given)
    return given if any(not name or name.isdecimal() for name in rest) else rest
