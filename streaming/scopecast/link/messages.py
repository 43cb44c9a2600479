"""The messages between a publisher and its receivers: MessagePack arrays of typed fields, with limits.

Each message is an array whose first element names its kind. A newer peer of the same protocol may append fields, which
an older one ignores; a change that an older peer could misread raises `PROTOCOL`. Nothing is ever unpickled. Texts that
are shown hold no control characters, whoever sent them: they become escapes where a message is made or decoded.

=========  =====================  =================================================================================
message    who sends it           what it says
=========  =====================  =================================================================================
HELLO      receiver               these protocols I speak, this is my token and the kind of viewer that I am
WELCOME    publisher              this is the segment to map (again whenever there is a new one)
REJECT     publisher              I can't serve you, and why
STREAM     publisher              what is fixed about the frames of one run: axes, labels, scale, units
FRAME      publisher              in this slot, at this generation, lies this frame
ACK        receiver               I have copied it (or not); you may have the slot back
REPLY      subscriber             this is what I have found in that frame: show it there
REPLIED    publisher              what has become of your reply; you may have its slot back
PING       publisher              are you there?
PONG       receiver               yes, and this is what I have painted
CAPTURE    publisher              save a picture of your window
CAPTURED   receiver               done, or why not
MARKS      receiver               this is what the user points at, for the acquisition
MARKED     publisher              the program has taken it, or why not
LOOK       receiver               this is what the user looks at
END        publisher              no more frames will come in this stream
BYE        both                   I am leaving in good order
=========  =====================  =================================================================================
"""

from __future__ import annotations

import threading
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from scopecast.errors import ProtocolError
from scopecast.protocol import (
    MAX_PATH,
    MAX_TEXT,
    MAX_TITLE,
    PROTOCOL,
    U32,
    Kind,
    Label,
    Path,
    Title,
    Token,
    printable,
)

__all__ = [
    "KEPT_STREAMS",
    "MAX_MARKS",
    "MAX_METADATA_BYTES",
    "MAX_VERTICES",
    "PROTOCOL",
    "Ack",
    "AckFate",
    "Bye",
    "Capture",
    "Captured",
    "End",
    "Frame",
    "FromPublisher",
    "FromReceiver",
    "Hello",
    "Look",
    "Marked",
    "Marks",
    "Ping",
    "Pong",
    "Reject",
    "Replied",
    "Reply",
    "Stream",
    "Welcome",
    "decode_by",
    "decode_from_publisher",
    "decode_from_receiver",
    "decode_metadata",
    "encode",
    "encode_metadata",
]

#: A message longer than this closes the connection that brought it (ZMQ_MAXMSGSIZE).
MAX_MESSAGE_BYTES: Final = 64 * 1024
#: The metadata of a frame is cut to nothing past this, and counted.
MAX_METADATA_BYTES: Final = 16 * 1024
#: Streams of a publisher that a receiver keeps, and is told of where it joins late: the newest.
KEPT_STREAMS: Final = 3
#: Items of a MARKS, and their vertices all together: what a user points at by hand.
MAX_MARKS: Final = 1024
MAX_VERTICES: Final = 2048
#: The vertices that an item of a type has at least, and at most.
_VERTICES: Final = {
    "point": (1, 1),
    "line": (2, 2),
    "rectangle": (4, 4),
    "ellipse": (4, 4),
    "path": (2, MAX_VERTICES),
    "polygon": (3, MAX_VERTICES),
}

U63 = Annotated[int, Meta(ge=0, le=2**63 - 1)]
I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
AxisName = Annotated[str, Meta(min_length=1, max_length=32)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
#: Within reach of any image.
PixelPlace = Annotated[float, Meta(ge=-1e7, le=1e7)]
Index = Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=9)]
Shape = Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=4)]
Transform = Annotated[list[Finite], Meta(max_length=2)]
MarkType = Literal["point", "line", "rectangle", "ellipse", "path", "polygon"]


class _Message(Struct, array_like=True, gc=False):
    """What all messages share: a tagged MessagePack array."""


class Hello(_Message, tag="HELLO"):
    """A receiver introduces itself, with the range of protocols that it speaks.

    `token`, `kind` and `title` are those of its entry; the kind of a subscriber, which is no viewer, is ``*``. With
    `replies`, a subscriber is sent what subscribers reply, as a viewer is. The answer is WELCOME as soon as there is a
    segment, which may take a while, or REJECT.
    """

    protocol_min: U32
    protocol_max: U32
    token: Token
    kind: Kind
    pid: U32
    title: Title = ""
    replies: bool = False

    def __post_init__(self) -> None:
        self.title = printable(self.title, MAX_TITLE)


class Welcome(_Message, tag="WELCOME"):
    """The publisher's segment, by its name; sent again whenever there is a new one, with another epoch.

    `token` and `title` are the publisher's, `host` is the software that it runs in. `heartbeat` is the seconds between
    two PINGs.
    """

    protocol: U32
    token: Token
    epoch: U63
    segment: Annotated[str, Meta(max_length=30)]
    heartbeat: Finite
    title: Title = ""
    host: Title = ""

    def __post_init__(self) -> None:
        self.title, self.host = printable(self.title, MAX_TITLE), printable(self.host, MAX_TITLE)


class Reject(_Message, tag="REJECT"):
    """The publisher refuses.

    With `again`, a receiver that is not attached has said something: it had been given up for dead. It says HELLO
    again, once for all such answers until the next WELCOME.
    """

    protocol_min: U32
    protocol_max: U32
    reason: Text
    again: bool = False

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


class Stream(_Message, tag="STREAM"):
    """What is fixed about a run's frames; sent again when an axis or a label joins.

    `labels` names the positions along an axis in order (channels); `colors` are those of the channels, as ``#rrggbb``
    or a colormap's name, or ``""``; `sizes` are the final extents where they are known, else 0. `scale` is the size
    of a pixel (y, x) in `units`, `steps` the distance between positions along each of `axes` in the same unit, along
    ``"t"`` in seconds (0 where it is not known). Streams of several publishers with the same `run` are shown as one.
    `preview` says that it is live mode: a new frame takes the place of the one before. `sizes` and `steps` are as long
    as `axes`. `began_ns` is when the first frame was published, as FRAME tells it; 0 where that is not known.
    """

    id: U32
    title: Title
    axes: Annotated[list[AxisName], Meta(max_length=9)]
    labels: Annotated[dict[AxisName, Annotated[list[Label], Meta(max_length=1024)]], Meta(max_length=9)]
    sizes: Index
    scale: Transform
    steps: Annotated[list[Finite], Meta(max_length=9)]
    units: Label
    preview: bool = False
    colors: Annotated[list[Label], Meta(max_length=1024)] = []
    run: Title = ""
    began_ns: I64 = 0

    def __post_init__(self) -> None:
        self.title, self.units = printable(self.title, MAX_TITLE), printable(self.units)
        self.axes, self.colors = [*map(printable, self.axes)], [*map(printable, self.colors)]
        self.labels = {printable(axis): [*map(printable, names)] for axis, names in self.labels.items()}


class Frame(_Message, tag="FRAME"):
    """A frame that lies in a slot of the segment of this `epoch`, as long as the slot has this `generation`.

    `stream` is the `id` of a STREAM, and `index` is the frame's place along the axes of that. Where `index` is shorter,
    the frame was published before an axis joined: it follows the announcement of this stream that had so many axes, and
    the frame's place along the others is 0. `sequence` counts the frames of a publisher.

    `kind` is ``image`` or ``labels``, whose pixels lie there, or that of a document, whose bytes do; a receiver
    acknowledges what it doesn't know as skipped. `name` tells several of a kind apart. `dtype` and `shape` say how the
    pixels lie there (see above). `path` names the file that it was or will be saved as, `translate` is the place of its
    first pixel (y, x) in the units of the stream, or empty, and `metadata` is any MessagePack value of at most 64
    levels; all three are for information. `sent_ns` is CLOCK_MONOTONIC in nanoseconds.

    Of frames that come from another machine, `preview` says that the pixels are not exact, as the link is too slow for
    these; exact ones may take their place later. `late` says that the frame is no news: it belongs to an earlier
    place, or has the exact pixels of a frame that was shown; who follows the newest frame stays where it is.
    `origin_ns` is when it was published there, as this machine's CLOCK_MONOTONIC would have said: below 0 if that was
    before this machine was started, and 0 of a frame that was published here.
    """

    stream: U32
    sequence: U63
    epoch: U63
    slot: U32
    generation: U63
    kind: Annotated[str, Meta(max_length=16)]
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Shape
    index: Index
    sent_ns: U63
    path: Path = ""
    translate: Transform = []
    metadata: msgspec.Raw = msgspec.Raw(b"\xc0")
    name: Label = ""
    preview: bool = False
    late: bool = False
    origin_ns: I64 = 0

    @property
    def published_ns(self) -> int:
        """When it was published, be it here or on another machine."""
        return self.origin_ns or self.sent_ns

    def __post_init__(self) -> None:
        if not (self.path.isprintable() and self.name.isprintable()):  # it is asked for each frame
            self.path, self.name = printable(self.path, MAX_PATH), printable(self.name)


AckFate = Literal["delivered", "superseded", "skipped"]


class Ack(_Message, tag="ACK"):
    """What became of a frame: copied or looked at, or skipped (nothing that the receiver shows, or overwritten).

    A subscriber that wants the newest says superseded of a frame that a newer one has replaced before it was looked at.
    Each FRAME is acknowledged once, with its own `epoch`, `slot` and `generation`; until then its slot is not used
    again.
    """

    epoch: U63
    slot: U32
    generation: U63
    fate: AckFate


class Reply(_Message, tag="REPLY"):
    """What a subscriber has found in the frame with this `sequence`; viewers show it on that frame.

    It lies in a slot of a segment of the subscriber's own, laid out as a publisher's: `segment` is its name, and its
    header has the subscriber's token and this `epoch`. `kind`, `dtype`, `shape` and `name` are as in FRAME; a document
    is fixed at the axes of the frame. The answer is REPLIED with the same `number`; until then the slot is not used
    again.
    """

    number: U63
    sequence: U63
    segment: Annotated[str, Meta(max_length=30)]
    epoch: U63
    slot: U32
    generation: U63
    kind: Annotated[str, Meta(max_length=16)]
    dtype: Annotated[str, Meta(max_length=16)]
    shape: Shape
    name: Label = ""

    def __post_init__(self) -> None:
        self.name = printable(self.name)


class Replied(_Message, tag="REPLIED"):
    """What has become of a REPLY, by its `number`.

    It was taken into the stream; or no viewer has its frame any more, or a reply to a newer one is shown there
    (superseded); or there was no room for it (dropped); or it can't be shown, as `reason` says (refused).
    """

    number: U63
    fate: Literal["taken", "superseded", "dropped", "refused"]
    reason: Text = ""

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


class Ping(_Message, tag="PING"):
    """A heartbeat. Any message counts as the answer; PONG is the one that has nothing else to say.

    `published`, `superseded` and `dropped` are the receiver's row of the accounts, for its status line. `listens` says
    that the publisher's program takes MARKS; while it does not, a receiver offers its user nothing of the kind.
    `looks` says that the publisher wants to know by LOOK what is looked at, as its exact pixels come from another
    machine.
    """

    number: U63
    superseded: U63 = 0
    dropped: U63 = 0
    published: U63 = 0
    listens: bool = False
    looks: bool = False


class Pong(_Message, tag="PONG"):
    """The answer to a PING, by its `number`, with what the window has painted of this publisher's frames.

    Times are in milliseconds; what is not known is 0.
    """

    number: U63
    painted: U63 = 0
    age_p50_ms: Finite = 0.0
    age_p99_ms: Finite = 0.0
    drain_p50_ms: Finite = 0.0
    drain_p99_ms: Finite = 0.0
    paint_p50_ms: Finite = 0.0
    first_ms: Finite = 0.0
    forgotten: U63 = 0
    layer_ms: Finite = 0.0
    rejected: U63 = 0


class Capture(_Message, tag="CAPTURE"):
    """Ask for a picture of the window, written as PNG to `path`; the answer is CAPTURED."""

    number: U63
    path: Path


class Captured(_Message, tag="CAPTURED"):
    """The picture is written, or `error` says why not, as for a receiver without a window."""

    number: U63
    error: Text = ""

    def __post_init__(self) -> None:
        self.error = printable(self.error, MAX_TEXT)


class Marks(_Message, tag="MARKS"):
    """What the user points at in one frame, for the acquisition; the answer, by its `number`, is MARKED.

    `token` is that of the publisher whose frame it is, `stream` the frame's; `sent_ns` is the frame's, too. `axes` maps
    the axes of the stream to the frame's index, and `labels` to its label where it has one. `shape` is that of the
    frame (rows, columns), and `position` the stage's x, y and z in µm at which it was taken, empty where it is not
    known; without z it has two elements. `types`, `lengths` and `names` have an element for each item (`names` may be
    empty): ``rectangle`` and ``ellipse`` have the four corners of their box, ``point`` one vertex, ``line`` two.
    `vertices` are those of all items in a row, y before x, in pixels of the frame from the middle of its first pixel.
    `layer` is what the user calls them.
    """

    number: U63
    token: Token
    stream: U32
    sent_ns: U63
    axes: Annotated[dict[AxisName, Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=9)]
    labels: Annotated[dict[AxisName, Label], Meta(max_length=9)]
    shape: Annotated[list[Annotated[int, Meta(ge=1, lt=2**31)]], Meta(max_length=2)]
    position: Annotated[list[Finite], Meta(max_length=3)]
    types: Annotated[list[MarkType], Meta(max_length=MAX_MARKS)]
    lengths: Annotated[list[U32], Meta(max_length=MAX_MARKS)]
    vertices: Annotated[list[PixelPlace], Meta(max_length=2 * MAX_VERTICES)]
    names: Annotated[list[Label], Meta(max_length=MAX_MARKS)] = []
    layer: Label = ""

    def __post_init__(self) -> None:
        self.labels = {printable(axis): printable(label) for axis, label in self.labels.items()}
        self.axes = {printable(axis): at for axis, at in self.axes.items()}
        self.names, self.layer = [*map(printable, self.names)], printable(self.layer)
        if not self.types or len(self.shape) != 2 or len(self.position) == 1:
            raise ValueError("marks without an item, or not of a frame")
        if len(self.types) != len(self.lengths) or len(self.names) not in (0, len(self.types)):
            msg = f"{len(self.types)} types, {len(self.lengths)} lengths, {len(self.names)} names"
            raise ValueError(msg)
        if 2 * sum(self.lengths) != len(self.vertices):
            msg = f"{len(self.vertices)} numbers for {sum(self.lengths)} vertices"
            raise ValueError(msg)
        for kind, length in zip(self.types, self.lengths, strict=True):
            least, most = _VERTICES.get(kind, (1, 0))
            if not least <= length <= most:
                msg = f"a {kind} of {length} vertices"
                raise ValueError(msg)


class Marked(_Message, tag="MARKED"):
    """What became of MARKS: the program has taken them, or `reason` says why they are refused.

    A program may still refuse what it has taken, once it knows that it can't be done: the last answer counts.
    """

    number: U63
    fate: Literal["taken", "refused"]
    reason: Text = ""

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


class Look(_Message, tag="LOOK"):
    """What the user looks at, while that is a preview: its exact pixels are wanted before those of other frames.

    `stream` and `index` are those of the frame; `region` is y, x, rows and columns of what is visible of it, in pixels;
    empty for all of it. There is no answer.
    """

    stream: U32
    index: Index
    region: Shape = []


class End(_Message, tag="END"):
    """A stream has ended; its frames stay."""

    stream: U32


class Bye(_Message, tag="BYE"):
    """The sender leaves in good order. A receiver answers a publisher's BYE with its own; there is no other answer."""

    reason: Text = ""

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


FromReceiver = Hello | Ack | Reply | Pong | Captured | Marks | Look | Bye
FromPublisher = Welcome | Reject | Stream | Frame | Replied | Ping | Capture | Marked | End | Bye

_T = TypeVar("_T")
_from_receiver: Final[msgspec.msgpack.Decoder[FromReceiver]] = msgspec.msgpack.Decoder(FromReceiver)
_from_publisher: Final[msgspec.msgpack.Decoder[FromPublisher]] = msgspec.msgpack.Decoder(FromPublisher)
_OURS: Final = f"protocol {PROTOCOL}"
_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


def decode_from_receiver(data: bytes) -> FromReceiver:
    """Decode what a receiver sent.

    Raises
    ------
    ProtocolError
        If it is no message of this protocol, or a field is outside its limits.
    """
    return decode_by(_from_receiver, data, _OURS)


def decode_from_publisher(data: bytes) -> FromPublisher:
    """Decode what a publisher sent; raises as `decode_from_receiver` does."""
    return decode_by(_from_publisher, data, _OURS)


def decode_by(decoder: msgspec.msgpack.Decoder[_T], data: bytes, of: str) -> _T:
    """Decode a message by the decoder of its kind.

    Parameters
    ----------
    decoder
        Of the messages that are expected.
    data
        What came.
    of
        What these messages are of, for the error, such as ``"protocol 1"``.

    Raises
    ------
    ProtocolError
        If it is no such message.
    """
    try:
        return decoder.decode(data)
    # Deep nesting raises RecursionError, not DecodeError; a wild string a UnicodeDecodeError.
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise ProtocolError(printable(f"{len(data)} bytes that are not a message of {of} ({what})")) from error


class _Conversions(threading.local):
    """How many conversions of metadata, one within the other, are under way."""

    depth = 0


_conversions = _Conversions()
#: Levels of metadata that are read, and conversions within each other that are made: far more than anyone means.
_DEEPEST: Final = 64


def _plain(value: Any) -> msgspec.Raw:
    """Encode what msgspec can't (pymmcore's events, numpy scalars), by what it can.

    It is encoded here, not by who asks, so that an object whose conversion holds another such object, and so on, is
    noticed: the interpreter's own limit lets the stack overflow (Python 3.12 and later).
    """
    if _conversions.depth == _DEEPEST:
        raise RecursionError(f"more than {_DEEPEST} conversions within each other")
    _conversions.depth += 1
    try:
        for method in ("model_dump", "tolist", "item"):
            if callable(convert := getattr(value, method, None)):
                return msgspec.Raw(_metadata_encoder.encode(convert()))
        return msgspec.Raw(_metadata_encoder.encode(str(value)))
    finally:
        _conversions.depth -= 1


_metadata_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_NIL = msgspec.Raw(b"\xc0")


def encode_metadata(metadata: Any) -> msgspec.Raw | None:
    """Encode a frame's metadata, whatever it holds.

    Returns
    -------
    msgspec.Raw or None
        None if it can't be encoded, has more than `MAX_METADATA_BYTES` bytes, or is nested more than 64 levels deep: it
        is then left out and counted, never an error.

    Examples
    --------
    >>> encode_metadata({"exposure_ms": 10})
    <msgspec.Raw object at ...>
    >>> encode_metadata({"blob": "x" * 20_000}) is None
    True
    """
    if metadata is None:
        return _NIL
    try:
        data = _metadata_encoder.encode(metadata)
    except Exception:  # noqa: BLE001 - whatever a host's object does when it is converted; counted by the caller
        return None
    return None if len(data) > MAX_METADATA_BYTES or _is_deep(data) else msgspec.Raw(data)


def decode_metadata(data: msgspec.Raw | bytes) -> Any:
    """Decode a frame's metadata, which another program has sent.

    Raises
    ------
    ProtocolError
        If it is not MessagePack, or nested more than 64 levels deep: what handles it next may not survive that.

    Examples
    --------
    >>> decode_metadata(encode_metadata({"exposure_ms": 10}))
    {'exposure_ms': 10}
    """
    if _is_deep(bytes(data)):
        raise ProtocolError(f"metadata that can't be read (nested more than {_DEEPEST} levels deep)")
    try:
        return msgspec.msgpack.decode(data)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise ProtocolError(printable(f"metadata that can't be read ({type(error).__name__}: {error})")) from error


#: Where arrays and maps begin; such bytes are in texts, too.
_CONTAINERS: Final = bytes([*range(0x80, 0xA0), *range(0xDC, 0xE0)])
#: By the first byte of a value, of MessagePack's types: how many bytes follow; and how many say how many more do.
_FOLLOWING: Final = {
    0xCA: 4,
    0xCB: 8,
    0xCC: 1,
    0xCD: 2,
    0xCE: 4,
    0xCF: 8,
    0xD0: 1,
    0xD1: 2,
    0xD2: 4,
    0xD3: 8,
    0xD4: 2,
    0xD5: 3,
    0xD6: 5,
    0xD7: 9,
    0xD8: 17,
    **{head: head & 0x1F for head in range(0xA0, 0xC0)},
}
_LENGTH: Final = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_COUNT: Final = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}


def _is_deep(data: bytes) -> bool:
    """Whether MessagePack is nested more than `_DEEPEST` levels deep, as far as it is MessagePack.

    msgspec's own limit is the interpreter's, which from Python 3.12 on is more than the stack of a thread of Java's has
    room for.
    """
    if len(data) - len(data.translate(None, _CONTAINERS)) <= _DEEPEST:
        return False
    at, to_come = 0, [1]  # values that are still to come, in each array and map that is open
    while to_come and at < len(data):
        if not to_come[-1]:
            to_come.pop()
            continue
        to_come[-1] -= 1
        head = data[at]
        at += 1
        if head in _LENGTH:
            width = _LENGTH[head]
            at += width + int.from_bytes(data[at : at + width], "big") + (0xC7 <= head <= 0xC9)
        elif head in _CONTAINERS:
            width = _COUNT.get(head, 0)
            count = int.from_bytes(data[at : at + width], "big") if width else head & 0x0F
            at += width
            if len(to_come) > _DEEPEST:
                return True
            to_come.append(count if 0x90 <= head < 0xDE else 2 * count)
        else:
            at += _FOLLOWING.get(head, 0)
    return False
