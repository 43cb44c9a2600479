"""Where the fields of a run lie on the canvas: where the stage was, or, where that would be mostly empty, as a plate.

Wells are 9 mm apart and a field is a fraction of one: at their places on the stage they would be dots. Fields that
adjoin stay as they lie on the stage, and these groups are put beside each other: wells by the rows and columns of their
names, others by those of the stage, if they have any, else in the order in which they were visited.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["Field", "Place", "StageLayout", "arrange", "well_of"]

Place = tuple[tuple[str, int], ...]
"""The index along each axis that is no slider, such as ``(("p", 0), ("g", 3))``."""

_Point = tuple[float, float]
#: Fields with less than this part of a field between them adjoin.
_NEAR: Final = 0.5
#: Between groups, as a part of the larger one's side.
_GAP: Final = 0.06
_WELL: Final = re.compile(r"\A(?:well[ _-]?)?([A-Z]{1,2})[ _-]?0*([1-9]\d?)(?!\d)", re.IGNORECASE)


class Field(NamedTuple):
    """One field of view.

    Attributes
    ----------
    corner, size
        (y, x) of its first pixel, as the stage was, and height and width; in the stream's unit.
    name
        Of its position; may be ``""``.
    """

    corner: _Point
    size: _Point
    name: str = ""


class StageLayout(NamedTuple):
    """Where fields lie on the canvas.

    Attributes
    ----------
    corners
        (y, x) of the first pixel of each field, in the stream's unit.
    shifts
        How far each lies from where the stage was.
    origin
        The least y and x of all.
    names
        What is written on the canvas, and where (y, x) its upper left corner is.
    extent
        Height and width that are kept free for all that is still to come.
    sparse
        The stage was at places far from each other, and they are put beside each other.
    """

    corners: Mapping[Place, _Point]
    shifts: Mapping[Place, _Point]
    origin: _Point
    names: tuple[tuple[_Point, str], ...] = ()
    extent: _Point = (0.0, 0.0)
    sparse: bool = False


def well_of(name: str) -> tuple[int, int] | None:
    """Return row and column, from 0, of the well that a position is named after; None if it is not.

    >>> well_of("A1"), well_of("B03"), well_of("H12_0004"), well_of("AA1-Site_0"), well_of("A100"), well_of("cell 3")
    ((0, 0), (1, 2), (7, 11), (26, 0), None, None)
    """
    match = _WELL.match(name)
    if match is None:
        return None
    row = 0
    for letter in match[1].upper():
        row = 26 * row + ord(letter) - ord("A") + 1
    return row - 1, int(match[2]) - 1


def arrange(fields: Mapping[Place, Field], announced: Sequence[str] = (), expected: int = 0) -> StageLayout:
    """Lay fields out.

    Parameters
    ----------
    fields
        Those that have come, by their places, in the order in which they came.
    announced
        The names of all positions of the run: wells that are still to come keep their rows and columns.
    expected
        How many positions there are to be.
    """
    groups = _groups(fields)
    if len(groups) < 2:
        corners = {place: field.corner for place, field in fields.items()}
        return StageLayout(corners, dict.fromkeys(fields, (0.0, 0.0)), _least(corners.values()))
    wells = {place: well_of(field.name) for place, field in fields.items()}
    if None not in wells.values():
        by_well: dict[tuple[int, int], list[Place]] = {}
        for place, well in wells.items():
            by_well.setdefault(well or (0, 0), []).append(place)
        groups, cells = list(by_well.values()), list(by_well)
        cells += [well for name in announced if (well := well_of(name)) is not None]
        # Rows and columns of which nothing is taken would leave the others small.
        rows, columns = sorted({row for row, _ in cells}), sorted({column for _, column in cells})
        cells = [(rows.index(row), columns.index(column)) for row, column in by_well]
        shape = (len(rows), len(columns))
    elif cells := _lattice(fields, groups):
        shape = (max(row for row, _ in cells) + 1, max(column for _, column in cells) + 1)
    else:
        cells = _in_order(len(groups), max(expected, len(groups)))
        shape = (cells[-1][0] + 1, max(column for _, column in cells) + 1)
    inside = [_packed(fields, group) for group in groups]
    height, width = (max(fields[place].size[axis] for place in fields) for axis in (0, 1))
    tall = max(offset[0] for each in inside for offset in each.values()) + height
    wide = max(offset[1] for each in inside for offset in each.values()) + width
    gap = _GAP * max(tall, wide)
    corners, names = {}, []
    for (row, column), group, offsets in zip(cells, groups, inside, strict=True):
        y, x = row * (tall + gap), column * (wide + gap)
        corners.update({place: (y + offset[0], x + offset[1]) for place, offset in offsets.items()})
        names.append(((y, x), _called(fields, group)))
    # As large as it is going to be, as far as that is known: the view stays where it is while wells come.
    extent = tuple(count * (side + gap) - gap for count, side in zip(shape, (tall, wide), strict=True))
    shifts = {at: (y - fields[at].corner[0], x - fields[at].corner[1]) for at, (y, x) in corners.items()}
    return StageLayout(corners, shifts, (0.0, 0.0), tuple(names), (extent[0], extent[1]), sparse=True)


def _least(points: Iterable[_Point]) -> _Point:
    ys, xs = zip(*(points or [(0.0, 0.0)]), strict=True)
    return min(ys), min(xs)


def _groups(fields: Mapping[Place, Field]) -> list[list[Place]]:
    """Return the fields that adjoin each other, in the order of their first."""
    if not fields:
        return []
    reach = [(1 + _NEAR) * (max(field.size[axis] for field in fields.values()) or 1.0) for axis in (0, 1)]
    boxes: dict[tuple[int, int], list[Place]] = {}
    for place, field in fields.items():
        boxes.setdefault(tuple(math.floor(field.corner[axis] / reach[axis]) for axis in (0, 1)), []).append(place)  # type: ignore[arg-type]
    group_of: dict[Place, int] = {}
    for first in fields:
        waiting = [first] if first not in group_of else []
        number = len(group_of)
        while waiting:
            place = waiting.pop()
            if place in group_of:
                continue
            group_of[place] = number
            y, x = fields[place].corner
            row, column = math.floor(y / reach[0]), math.floor(x / reach[1])
            for box in ((row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)):
                for other in boxes.get(box, ()):
                    there = fields[other].corner
                    if abs(there[0] - y) <= reach[0] and abs(there[1] - x) <= reach[1]:
                        waiting.append(other)
    groups: dict[int, list[Place]] = {}
    for place in fields:
        groups.setdefault(group_of[place], []).append(place)
    return list(groups.values())


def _packed(fields: Mapping[Place, Field], group: list[Place]) -> dict[Place, _Point]:
    """Return where the fields of one group lie in it: as on the stage; those of a well that do not adjoin, in order."""
    parts = _groups({place: fields[place] for place in group})
    if len(parts) > 1:
        size = [max(fields[place].size[axis] for place in group) for axis in (0, 1)]
        spans = [_packed(fields, part) for part in parts]
        steps = [max(at[axis] for each in spans for at in each.values()) + size[axis] for axis in (0, 1)]
        steps = [step * (1 + _GAP) for step in steps]
        packed: dict[Place, _Point] = {}
        for (row, column), span in zip(_in_order(len(parts), len(parts)), spans, strict=True):
            packed |= {place: (y + row * steps[0], x + column * steps[1]) for place, (y, x) in span.items()}
        return packed
    least = _least([fields[place].corner for place in group])
    return {place: (fields[place].corner[0] - least[0], fields[place].corner[1] - least[1]) for place in group}


def _lattice(fields: Mapping[Place, Field], groups: list[list[Place]]) -> list[tuple[int, int]]:
    """Return row and column of each group by the stage; [] if they don't lie in rows and columns."""
    least = [_least([fields[place].corner for place in group]) for group in groups]
    found = []
    for axis in (0, 1):
        apart = 0.5 * max(field.size[axis] for field in fields.values())
        starts: list[float] = []
        for at in sorted(corner[axis] for corner in least):
            if not starts or at - starts[-1] > apart:
                starts.append(at)
        found.append([max(n for n, start in enumerate(starts) if start <= corner[axis]) for corner in least])
    cells = list(zip(*found, strict=True))
    size = (max(found[0]) + 1) * (max(found[1]) + 1)
    return cells if len(set(cells)) == len(cells) and size <= 1.5 * len(cells) else []


def _in_order(count: int, of: int) -> list[tuple[int, int]]:
    columns = math.ceil(math.sqrt(of))
    return [divmod(number, columns) for number in range(count)]


def _called(fields: Mapping[Place, Field], group: list[Place]) -> str:
    name = fields[group[0]].name
    if (match := _WELL.match(name)) is not None:
        return name[match.start(1) : match.end(2)]
    return name or " ".join(f"{axis}{at}" for axis, at in group[0][:1])
