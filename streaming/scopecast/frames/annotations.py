"""What is published beside images: labels, points, shapes, tracks, regions of interest.

Turns what a user passes to `Publisher.publish` into what is sent: labels are planes, like images; everything else
becomes a document (`scopecast.frames.documents`). All that can be wrong with it is found here, before anything is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import msgspec
import numpy as np

from scopecast.errors import UnsupportedDtypeError
from scopecast.frames import documents
from scopecast.frames.arrays import as_array
from scopecast.frames.axes import MAX_LABEL, axis_name, check_axes
from scopecast.frames.documents import DOCUMENTS, MAX_DOCUMENT_BYTES, MAX_PROPERTIES, SHAPE_TYPES, Style
from scopecast.protocol import printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.documents import ShapeType

__all__ = ["KINDS", "Prepared", "checked_name", "keywords_of", "prepare"]

#: The kinds of frames that can be published.
KINDS: Final = ("image", "labels", *DOCUMENTS)
#: The keywords of `Publisher.publish` that each kind has beside those of images.
_KEYWORDS: Final[dict[str, tuple[str, ...]]] = {
    "image": (),
    "labels": ("name",),
    "points": ("name", "properties", "style"),
    "shapes": ("name", "properties", "style", "shape_type", "names"),
    "tracks": ("name", "properties", "style", "graph"),
    "rois": ("name", "names"),
}
_PLANE: Final = ("y", "x")


class Prepared(NamedTuple):
    """What is put into slots for something that is no image.

    Attributes
    ----------
    data
        The labels, or the bytes of a document, (nbytes,) uint8.
    axes
        Where it belongs; for a document also the axes that its coordinates bring along, at 0.
    dims
        Names of the dimensions of labels.
    what
        Its kind and name, which tell it from other things of the same stream.
    """

    data: npt.NDArray[Any]
    axes: Mapping[str, AxisValue]
    dims: str | Sequence[str] | None
    what: tuple[str, str]


def keywords_of(kind: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some options that are keywords of a kind alone.

    >>> keywords_of("labels", {"name": "cells", "rgb": False})
    {'name': 'cells'}
    """
    return {keyword: options[keyword] for keyword in _KEYWORDS.get(kind, ()) if keyword in options}


def prepare(
    kind: str, data: Any, axes: Mapping[str, AxisValue], dims: str | Sequence[str] | None, more: Mapping[str, Any]
) -> Prepared:
    """Check something that is to be published, and make it ready to be sent.

    Parameters
    ----------
    kind
        One of `KINDS`.
    data, axes, dims
        As `Publisher.publish` takes them.
    more
        The keywords that only some kinds have.

    Raises
    ------
    ValueError, TypeError, UnsupportedDtypeError
        If anything about it can't be; the text says what, the limit, and what to do.
    """
    if kind not in KINDS:
        raise ValueError(f"frames of the kind {kind!r} can't be published: use one of {', '.join(KINDS)}")
    known = _KEYWORDS[kind]
    if unknown := sorted(set(more) - set(known)):
        has = f"besides the common ones it has {', '.join(known)}" if known else "it has only the common ones"
        raise TypeError(f"kind={kind!r} has no keyword {', '.join(unknown)}: {has}")
    name = checked_name(more.get("name", ""))
    where = check_axes(axes)
    if kind == "labels":
        return Prepared(_labels(data), axes, dims, (kind, name))
    about = {keyword: value for keyword, value in more.items() if keyword != "name"}
    if kind == "rois":
        if dims is not None:
            raise TypeError("regions of interest have their own coordinates: leave dims out")
        from scopecast.frames.rois import rois_document

        document: documents.Document = rois_document(data, list(where), **about)
    elif kind == "points":
        document = _points(data, where, dims, **about)
    elif kind == "shapes":
        document = _shapes(data, where, dims, **about)
    else:
        document = _tracks(data, where, dims, **about)
    leading = [] if isinstance(document, documents.Rois) else document.dims[:-2]
    encoded = documents.encode(document)
    if len(encoded) > MAX_DOCUMENT_BYTES:
        raise ValueError(
            f"{len(document)} {kind} take {len(encoded) / 2**20:.1f} MiB, and one publish() of them at most "
            f"{MAX_DOCUMENT_BYTES / 2**20:.0f} MiB: publish them in parts, each with a name or axes of its own"
        )
    places: dict[str, AxisValue] = {**dict.fromkeys(leading, 0), **where}
    return Prepared(np.frombuffer(encoded, np.uint8), places, None, (kind, name))


def checked_name(name: object) -> str:
    """Return the name of a layer as it is shown.

    Raises
    ------
    ValueError
        If it is none.
    """
    if not isinstance(name, str) or len(name) > MAX_LABEL:
        raise ValueError(f"name must be a str of at most {MAX_LABEL} characters, such as 'cells'; got {name!r}")
    return printable(name)[:MAX_LABEL]


def _labels(data: Any) -> npt.NDArray[Any]:
    array = as_array(data)
    if array.dtype.kind not in "biu":
        raise UnsupportedDtypeError(
            f"labels are whole numbers (int8 to uint64) or bool, not {array.dtype}: convert them with .astype('int32')"
        )
    return array


# ---- documents ---------------------------------------------------------------------------------------------------


def _points(
    data: Any, where: Mapping[str, AxisValue], dims: Any, properties: Any = None, style: Any = None
) -> documents.Points:
    table = _table("points", data, least=2)
    names, table = _columns("points", table, dims, where)
    columns = _properties(properties, len(table), "points")
    return documents.Points(list(where), names, documents.floats(table), columns, _style(style, columns))


def _shapes(
    data: Any,
    where: Mapping[str, AxisValue],
    dims: Any,
    properties: Any = None,
    style: Any = None,
    shape_type: str | Sequence[str] = "polygon",
    names: Sequence[str] = (),
) -> documents.Shapes:
    each = [_table(f"shape {at}", vertices, least=2) for at, vertices in enumerate(data)]
    wanted = [shape_type] * len(each) if isinstance(shape_type, str) else [str(kind) for kind in shape_type]
    _same_length("shape_type", wanted, len(each), "shapes")
    if unknown := sorted(set(wanted) - set(SHAPE_TYPES)):
        raise ValueError(f"shape_type {', '.join(map(repr, unknown))} is not known: use {', '.join(SHAPE_TYPES)}")
    types = cast("list[ShapeType]", wanted)
    for at, kind in enumerate(types):
        if kind in ("rectangle", "ellipse") and len(each[at]) == 2:
            each[at] = _corners(each[at])
        if not documents.fits(kind, len(each[at])):
            needed = documents.vertices_needed(kind)
            raise ValueError(f"shape {at} is a {kind} of {len(each[at])} vertices: it needs {needed}")
    widths = {vertices.shape[1] for vertices in each}
    if len(widths) > 1:
        raise ValueError(f"the shapes have vertices of {sorted(widths)} columns: give all of them the same")
    together = np.concatenate(each) if each else np.empty((0, len(dims) if dims else 2))
    columns_named, together = _columns("shapes", together, dims, where)
    labels = _texts("names", names, len(each), "shapes") if len(names) else []
    columns = _properties(properties, len(each), "shapes")
    return documents.Shapes(
        list(where),
        columns_named,
        types,
        [len(vertices) for vertices in each],
        documents.floats(together),
        labels,
        columns,
        _style(style, columns, named=bool(labels)),
    )


def _corners(two: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the four corners of a box from two opposite ones."""
    (*_, y0, x0), (*_, y1, x1) = two
    four = np.repeat(two[:1], 4, axis=0)
    four[:, -2:] = [(y0, x0), (y0, x1), (y1, x1), (y1, x0)]
    return four


def _tracks(
    data: Any,
    where: Mapping[str, AxisValue],
    dims: Any,
    properties: Any = None,
    style: Any = None,
    graph: Mapping[int, int | Sequence[int]] | None = None,
) -> documents.Tracks:
    table = _table("tracks", data, least=3)
    numbers, rest = table[:, 0], table[:, 1:]
    if not np.array_equal(numbers, np.round(numbers)) or (len(numbers) and np.abs(numbers).max() > 2**53):
        raise ValueError("the first column of tracks is the number of each point's track: use whole numbers")
    if dims is None and rest.shape[1] > 2:
        dims = ("t", "y", "x") if rest.shape[1] == 3 else ("t", "z", "y", "x")
    names, rest = _columns("tracks", rest, dims, where)
    if "t" not in (*names, *where):
        raise ValueError(
            "tracks need a time: give columns (id, t, y, x) or (id, t, z, y, x), or axes={'t': 3} with (id, y, x)"
        )
    if "t" in where and not isinstance(where["t"], int):
        raise ValueError(f"the time of tracks is an index, and axes has the label {where['t']!r}: give a number")
    if "t" in names and not np.array_equal(time := rest[:, names.index("t")], np.round(time)):
        raise ValueError("the times of tracks are indices of frames: use whole numbers")
    parents: dict[int, list[int]] = {}
    for child, parent in (graph or {}).items():
        several = [parent] if isinstance(parent, int | np.integer) else parent
        parents[int(child)] = [int(number) for number in several]
    known = set(numbers.astype(np.int64).tolist())
    if strangers := sorted((set(parents) | {p for several in parents.values() for p in several}) - known):
        raise ValueError(f"graph names the tracks {strangers[:5]}, which have no points: leave them out")
    columns = _properties(properties, len(table), "points of tracks")
    return documents.Tracks(
        list(where),
        names,
        documents.integers(numbers),
        documents.floats(rest),
        parents,
        columns,
        _style(style, columns),
    )


# ---- their parts -------------------------------------------------------------------------------------------------


def _table(what: str, data: Any, least: int) -> npt.NDArray[np.float64]:
    """Return rows of coordinates as float64, after a look at every one of them."""
    array = as_array(data)
    if array.dtype.kind not in "biuf":
        raise UnsupportedDtypeError(f"{what}: coordinates are real numbers, not {array.dtype}")
    if array.size == 0 and array.ndim < 2:
        array = array.reshape(0, least)
    if array.ndim != 2 or array.shape[1] < least:
        columns = "y, x" if least == 2 else "id, t, y, x"
        raise ValueError(
            f"{what}: an array of shape {array.shape}; rows of at least {least} numbers are expected ({columns} last): "
            + ("reshape it to (1, -1) for a single one" if array.ndim == 1 else "one row for each point")
        )
    table = np.asarray(array, np.float64)
    wrong = np.flatnonzero(~np.isfinite(table).all(axis=1))
    if len(wrong):
        raise ValueError(
            f"{what}: {len(wrong)} of {len(table)} rows are not finite (NaN or infinite), the first is row {wrong[0]}: "
            f"drop them with data[np.isfinite(data).all(axis=1)]"
        )
    return table


def _columns(
    what: str, table: npt.NDArray[np.float64], dims: Any, where: Mapping[str, AxisValue]
) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Name the columns; return them with y and x last."""
    width = table.shape[1]
    if dims is None:
        if width > 4:
            raise ValueError(f"{what}: {width} columns can't be guessed: name them, as in dims='tzyx'; at most 4")
        names = ["t", "z", "y", "x"][4 - width :]
    else:
        names = [axis_name(name) for name in dims]
    if len(names) != width:
        raise ValueError(f"{what}: dims {dims!r} name {len(names)} columns, and there are {width} of coordinates")
    if len(set(names)) != len(names) or not set(_PLANE) <= set(names) or width > 4:
        raise ValueError(f"{what}: dims {dims!r} must name y, x and at most two more, each once, such as 'zyx'")
    if "c" in names:
        raise ValueError(f"{what}: a channel is not a coordinate; publish each channel with axes={{'c': …}}")
    if clash := [name for name in names if name in where]:
        raise ValueError(
            f"{what}: {', '.join(clash)} is both a column and in axes ({dict(where)!r}): leave it out of axes, "
            f"or name the columns, as in dims='tyx'"
        )
    order = [at for at, name in enumerate(names) if name not in _PLANE] + [names.index(name) for name in _PLANE]
    return [names[at] for at in order], table[:, order] if order != list(range(width)) else table


def _properties(properties: Any, count: int, what: str) -> list[documents.Numbers | documents.Texts]:
    """Return a mapping of columns (a dict, a DataFrame) as they are sent."""
    if properties is None:
        return []
    pairs: list[tuple[Any, Any]] = list(properties.items())
    if len(pairs) > MAX_PROPERTIES:
        raise ValueError(f"{len(pairs)} properties are too many: at most {MAX_PROPERTIES}")
    columns: list[documents.Numbers | documents.Texts] = []
    for name, values in pairs:
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_LABEL:
            raise ValueError(f"a property's name is a text of 1 to {MAX_LABEL} characters, not {name!r}")
        # numpy's own texts lose the zeros at their end, so that a list with texts in it is left one of objects.
        mixed = isinstance(values, list | tuple) and any(isinstance(value, str) for value in values)
        array = np.asarray(values, object if mixed else None)
        if array.ndim != 1:
            raise ValueError(f"property {name!r} has the shape {array.shape}: give one value for each of the {what}")
        _same_length(f"property {name!r}", array, count, what)
        if array.dtype.kind not in "biuf":
            columns.append(documents.Texts(printable(name), _texts(f"property {name!r}", array, count, what)))
        else:
            columns.append(documents.column(printable(name), array))
    return columns


def _texts(what: str, values: Iterable[Any], count: int, of: str) -> list[str]:
    texts = [*map(str, values)]
    _same_length(what, texts, count, of)
    if long := next((text for text in texts if len(text) > MAX_LABEL), None):
        raise ValueError(f"{what}: a text of {len(long)} characters ({long[:20]!r}…); at most {MAX_LABEL}: shorten it")
    return [printable_lines(text)[:MAX_LABEL] for text in texts]


def _same_length(what: str, values: Any, count: int, of: str) -> None:
    if len(values) != count:
        raise ValueError(f"{what} has {len(values)} values, and there are {count} {of}: give one for each")


def _style(style: Any, columns: Sequence[Any], *, named: bool = False) -> Style:
    fields = Style.__struct_fields__
    if style is None:
        return Style()
    if unknown := sorted(set(style) - set(fields)):
        raise ValueError(f"style has no {', '.join(map(str, unknown))}: it may have {', '.join(fields)}")
    try:
        defaults = msgspec.structs.astuple(Style())
        made = msgspec.convert([style.get(*pair) for pair in zip(fields, defaults, strict=True)], Style)
    except msgspec.ValidationError as error:
        raise ValueError(f"style {dict(style)!r} can't be used: {error}") from error
    names = {column.name for column in columns} | ({"name"} if named else set())
    for field in ("color_by", "text"):
        if (wanted := getattr(made, field)) and wanted not in names:
            raise ValueError(
                f"style {field}={wanted!r} is not a property; the properties are {', '.join(sorted(names)) or 'none'}"
            )
    return made
