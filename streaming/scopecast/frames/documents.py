"""Documents: points, shapes, tracks and regions of interest as they lie in a slot of shared memory.

A document is one MessagePack array of typed fields, whose first element names its kind. Numbers are raw bytes (float64
or int64, little endian) and are read in place; nothing is ever unpickled, and no field is trusted: `decode` checks that
all lengths agree, so that a viewer need not. A newer peer may append fields.

Every document names the axes at which it is *fixed*: its frame's index says where on those, and it is shown at every
position of all others. Coordinates are in pixels of the stream's images, (0, 0) being the middle of the first pixel,
with the columns that `dims` names; the last two are y and x.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta, Struct

from scopecast.errors import ProtocolError
from scopecast.link.messages import AxisName, Text
from scopecast.protocol import Label, printable, printable_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "DOCUMENTS",
    "MAX_DOCUMENT_BYTES",
    "MAX_ITEMS",
    "MAX_PROPERTIES",
    "MAX_ROIS",
    "MAX_ROI_BYTES",
    "SHAPE_TYPES",
    "Document",
    "Numbers",
    "Points",
    "Rois",
    "ShapeType",
    "Shapes",
    "Style",
    "Texts",
    "Tracks",
    "check_document",
    "column",
    "decode",
    "encode",
    "fits",
    "floats",
    "integers",
    "vertices_needed",
]

#: The kinds of frames that are documents and not pixels, by the class that each is decoded to.
DOCUMENTS: Final = ("points", "shapes", "tracks", "rois")
#: A document has at most this many bytes: 1.4 million points in (z, y, x) with a property.
MAX_DOCUMENT_BYTES: Final = 64 * 2**20
#: Shapes of a document, and texts of a column.
MAX_ITEMS: Final = 10**6
MAX_PROPERTIES: Final = 64
#: An archive of regions may have this many, of this size each; it can claim to hold far more than its own size.
MAX_ROIS: Final = 10**4
MAX_ROI_BYTES: Final = 64 * 1024

ShapeType = Literal["rectangle", "ellipse", "polygon", "path", "line"]
SHAPE_TYPES: Final[tuple[ShapeType, ...]] = get_args(ShapeType)
_VERTICES: Final = {"rectangle": (4, 4), "ellipse": (4, 4), "polygon": (3, None), "path": (2, None), "line": (2, 2)}

Name = Annotated[str, Meta(min_length=1, max_length=64)]
Dims = Annotated[list[AxisName], Meta(min_length=2, max_length=4)]
Fixed = Annotated[list[AxisName], Meta(max_length=8)]
Raw = memoryview  # decoded in place, not copied
Size = Annotated[float, Meta(ge=0, le=1e6)]


def _shown(texts: list[str]) -> list[str]:
    """Return texts that a viewer can draw; there may be a million."""
    return texts if all(map(str.isprintable, texts)) else [*map(printable_lines, texts)]


class _Part(Struct, array_like=True, gc=False):
    """What all parts of a document share: a MessagePack array."""


class Numbers(_Part, tag="N"):
    """A property that is a number for each item: float64."""

    name: Name
    data: Raw

    def __post_init__(self) -> None:
        self.name = printable(self.name)

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The numbers, read-only."""
        return np.frombuffer(self.data, "<f8")


class Texts(_Part, tag="T"):
    """A property that is a text for each item."""

    name: Name
    data: Annotated[list[Label], Meta(max_length=MAX_ITEMS)]

    def __post_init__(self) -> None:
        self.name, self.data = printable(self.name), _shown(self.data)

    @property
    def values(self) -> npt.NDArray[np.object_]:
        """The texts."""
        return np.array(self.data, dtype=object)


Properties = Annotated[list[Numbers | Texts], Meta(max_length=MAX_PROPERTIES)]


class Style(_Part):
    """How a document should be shown; ``""`` and 0 leave it to the viewer.

    Colours are ``#rrggbb``, ``#rrggbbaa`` or a colour's name. `color_by` and `text` name a property.
    """

    color: Label = ""
    edge_color: Label = ""
    size: Size = 0.0
    edge_width: Size = 0.0
    symbol: Label = ""
    color_by: Label = ""
    text: Label = ""

    def __post_init__(self) -> None:
        for name in ("color", "edge_color", "symbol", "color_by", "text"):
            setattr(self, name, printable(getattr(self, name)))


class Points(_Part, tag="POINTS"):
    """Points: (N, D) numbers."""

    fixed: Fixed
    dims: Dims
    data: Raw
    properties: Properties = []
    style: Style = msgspec.field(default_factory=Style)

    @property
    def coordinates(self) -> npt.NDArray[np.float64]:
        """The coordinates, (N, D), read-only."""
        return np.frombuffer(self.data, "<f8").reshape(-1, len(self.dims))

    def __len__(self) -> int:
        return self.data.nbytes // (8 * len(self.dims))


class Shapes(_Part, tag="SHAPES"):
    """Shapes: the vertices of all of them one after the other, and how many each has.

    Rectangles and ellipses have four vertices, their corners or those of the box around them, in order.
    """

    fixed: Fixed
    dims: Dims
    types: Annotated[list[ShapeType], Meta(max_length=MAX_ITEMS)]
    lengths: Annotated[list[Annotated[int, Meta(ge=2, le=MAX_ITEMS)]], Meta(max_length=MAX_ITEMS)]
    data: Raw
    names: Annotated[list[Text], Meta(max_length=MAX_ITEMS)] = []
    properties: Properties = []
    style: Style = msgspec.field(default_factory=Style)

    def __post_init__(self) -> None:
        self.names = _shown(self.names)

    @property
    def vertices(self) -> list[npt.NDArray[np.float64]]:
        """The vertices of each shape, (n, D), read-only."""
        together = np.frombuffer(self.data, "<f8").reshape(-1, len(self.dims))
        return np.split(together, np.cumsum(self.lengths)[:-1]) if self.lengths else []

    def __len__(self) -> int:
        return len(self.types)


class Tracks(_Part, tag="TRACKS"):
    """Tracks: for each point the number of its track, and its coordinates; in `graph`, which track came of which."""

    fixed: Fixed
    dims: Dims
    numbers: Raw
    data: Raw
    graph: Annotated[dict[int, Annotated[list[int], Meta(max_length=64)]], Meta(max_length=MAX_ITEMS)] = {}
    properties: Properties = []
    style: Style = msgspec.field(default_factory=Style)

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """The number of each point's track, (N,), read-only."""
        return np.frombuffer(self.numbers, "<i8")

    @property
    def coordinates(self) -> npt.NDArray[np.float64]:
        """The coordinates, (N, D), read-only."""
        return np.frombuffer(self.data, "<f8").reshape(-1, len(self.dims))

    def __len__(self) -> int:
        return self.numbers.nbytes // 8


class Rois(_Part, tag="ROIS"):
    """Regions of interest of ImageJ, each as the bytes of its ``.roi`` file, in order; names where they had a file."""

    fixed: Fixed
    items: Annotated[list[Annotated[bytes, Meta(max_length=MAX_ROI_BYTES)]], Meta(max_length=MAX_ROIS)]
    names: Annotated[list[Text], Meta(max_length=MAX_ROIS)] = []

    def __post_init__(self) -> None:
        self.names = _shown(self.names)

    def __len__(self) -> int:
        return len(self.items)


Document = Points | Shapes | Tracks | Rois

_CLASSES: Final[dict[str, type[Document]]] = {"points": Points, "shapes": Shapes, "tracks": Tracks, "rois": Rois}
_decoders: Final = {kind: msgspec.msgpack.Decoder(cls) for kind, cls in _CLASSES.items()}
_encoder: Final = msgspec.msgpack.Encoder()
encode = _encoder.encode


def decode(kind: str, data: bytes) -> Document:
    """Decode and check a document.

    Parameters
    ----------
    kind
        One of `DOCUMENTS`.
    data
        Its bytes; the arrays of the document are views of them.

    Raises
    ------
    ProtocolError
        If it is no document of this kind, a field is outside its limits, or lengths disagree.

    Examples
    --------
    >>> document = Points(["t"], ["y", "x"], floats(np.array([[1.0, 2.0]])))
    >>> decode("points", encode(document)).coordinates
    array([[1., 2.]])
    """
    try:
        if len(data) > MAX_DOCUMENT_BYTES:
            raise ProtocolError(f"{len(data)} bytes are more than a document may have ({MAX_DOCUMENT_BYTES})")
        document: Document = _decoders[kind].decode(data)
        wrong = _contradiction(document)
    # Deep nesting raises RecursionError, not DecodeError; a wild string a UnicodeDecodeError. ValueError: numpy's.
    except (KeyError, msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        what = f"{len(data)} bytes that are not valid {kind} ({type(error).__name__}: {error})"
        raise ProtocolError(printable(what)) from error
    if wrong:
        raise ProtocolError(printable(f"{kind} that contradict themselves: {wrong}"))
    return document


def check_document(shape: Sequence[int], dtype: np.dtype[Any]) -> None:
    """Check what is said of a document before it is read.

    Parameters
    ----------
    shape
        Its number of bytes.
    dtype
        uint8.

    Raises
    ------
    ValueError
        If it is no document, or too large to be one.
    """
    if dtype != np.uint8 or len(shape) != 1 or shape[0] > MAX_DOCUMENT_BYTES:
        msg = (
            f"a document is at most {MAX_DOCUMENT_BYTES} bytes; "
            f"{' x '.join(map(str, shape))} {dtype.name} can't be one: publish fewer items at once"
        )
        raise ValueError(msg)


def _contradiction(document: Document) -> str:
    """Say which lengths of a document disagree, or ""."""
    if isinstance(document, Rois):
        agree = len(document.names) in (0, len(document.items))
        return "" if agree else f"{len(document.items)} regions, {len(document.names)} names"
    dims = document.dims
    if tuple(dims[-2:]) != ("y", "x") or len(set(dims)) != len(dims) or set(dims) & set(document.fixed):
        return f"columns {dims}, fixed at {document.fixed}"
    numbers = np.frombuffer(document.data, "<f8")
    if numbers.size % len(dims) or not np.isfinite(numbers).all():
        return f"{numbers.size} numbers in {len(dims)} columns, or some that are not finite"
    rows = numbers.size // len(dims)
    if isinstance(document, Shapes):
        count = len(document.types)
        if len(document.lengths) != count or sum(document.lengths) != rows or len(document.names) not in (0, count):
            return f"{count} types, {len(document.lengths)} lengths, {rows} vertices, {len(document.names)} names"
        for kind, length in zip(document.types, document.lengths, strict=True):
            if not fits(kind, length):
                return f"a {kind} of {length} vertices"
        rows = count
    elif isinstance(document, Tracks) and len(document.ids) != rows:
        return f"{len(document.ids)} numbers of tracks, {rows} points"
    for column in document.properties:
        if (length := len(column.values)) != rows:
            return f"{length} values of {column.name!r} for {rows} items"
    return ""


def fits(kind: ShapeType, vertices: int) -> bool:
    """Whether a type of shape may have so many vertices."""
    least, most = _VERTICES[kind]
    return least <= vertices <= (math.inf if most is None else most)


def vertices_needed(kind: ShapeType) -> str:
    """Say how many vertices a type of shape has.

    >>> vertices_needed("polygon"), vertices_needed("line")
    ('3 or more', '2')
    """
    least, most = _VERTICES[kind]
    return str(least) if most is not None else f"{least} or more"


def floats(values: npt.NDArray[Any]) -> memoryview:
    """Return numbers as they lie in a document: float64, little endian, row by row."""
    return np.ascontiguousarray(values, "<f8").reshape(-1).view(np.uint8).data


def integers(values: npt.NDArray[Any]) -> memoryview:
    """Return whole numbers as they lie in a document: int64, little endian."""
    return np.ascontiguousarray(values, "<i8").reshape(-1).view(np.uint8).data


def column(name: str, values: npt.NDArray[Any]) -> Numbers | Texts:
    """Return a property's values as a column."""
    if values.dtype.kind in "biuf":
        return Numbers(name, floats(values))
    return Texts(name, [str(value) for value in values])
