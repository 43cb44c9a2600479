"""The messages between a relay, on the acquisition's machine, and a desk: who watches from another machine.

They are MessagePack arrays of typed fields with limits, as those between a publisher and its receivers
(`scopecast.link.messages`), and are read in the same way: appended fields are ignored, nothing is ever unpickled, texts
hold no control characters. Pixels do travel in them. Neither paths nor names of segments do.

=========  =======  ===================================================================================================
message    from     what it says
=========  =======  ===================================================================================================
HELLO      desk     these versions I speak, and this is my session: resume it, if you know it
WELCOME    relay    who I am, and whose streams follow
REJECT     relay    I can't serve you, and why
SOURCE     relay    a program that publishes
GONE       relay    nothing more comes of it
STREAM     relay    a run of a source: axes, labels, scale, units
END        relay    no new frames will come in this run
FRAME      relay    a frame, or a piece of one
ACK        desk     I have shown it (or not); send another one
FETCH      desk     I have nothing of this source: send all that you have
RECALL     desk     name again what has ended: a viewer was opened
DECLINE    desk     I want nothing of this source: it comes from here
VIEW       desk     this place is looked at: its exact pixels first
MARKS      desk     this is what the user points at, for the acquisition
MARKED     relay    the program has taken it, or why not
PING       both     are you there? With the accounts
PONG       both     yes
LIST       desk     who is connected?
LISTED     relay    these desks are
ENROL      guest    admit this key from now on (by a link, once)
ENROLLED   gateway  it is admitted, under this name and in this role
BYE        both     I am leaving in good order
=========  =======  ===================================================================================================
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from scopecast.link import messages
from scopecast.link.messages import I64, U63, Finite, Index, Shape, Text, Transform, decode_by
from scopecast.protocol import MAX_TEXT, MAX_TITLE, U32, Label, Title, Token, printable

__all__ = [
    "MAX_FROM_DESK",
    "MAX_FROM_RELAY",
    "WIRE",
    "Ack",
    "Bye",
    "Decline",
    "DeskAccount",
    "DeskMarks",
    "End",
    "Enrol",
    "Enrolled",
    "Fetch",
    "FromDesk",
    "FromRelay",
    "Gone",
    "Hello",
    "ListDesks",
    "Listed",
    "Marked",
    "Piece",
    "Ping",
    "Pong",
    "Recall",
    "Reject",
    "Source",
    "Stream",
    "View",
    "Welcome",
    "decode_from_desk",
    "decode_from_relay",
    "encode",
]

#: The version of what is said here; a relay and a desk must have one in common.
WIRE: Final = 1
#: A longer message closes the connection that brought it (ZMQ_MAXMSGSIZE). From a relay come encoded frames.
MAX_FROM_DESK: Final = messages.MAX_MESSAGE_BYTES
MAX_FROM_RELAY: Final = 512 * 2**20

Place = Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=4)]
_Short = Annotated[str, Meta(max_length=16)]
#: 32 bytes in Z85 (ZeroMQ RFC 32).
CurveKey = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z.:+=^!/*?&<>()\[\]{}@%$#-]{40}\Z")]


class _Message(Struct, array_like=True, gc=False):
    """What all messages share: a tagged MessagePack array."""


class DeskAccount(Struct, array_like=True, gc=False):
    """What has become of the frames that a relay has for a desk; `came` is the sum of the next six.

    Attributes
    ----------
    came
        Frames that a publisher has delivered to the relay, since the desk is there, or that were fetched.
    exact
        Frames that the desk has, pixel by pixel.
    preview
        Frames that it has in a lower quality only.
    superseded
        Frames that a newer one at their place has replaced, or for which the relay's memory had no room, before they
        were sent.
    refused
        Frames that the desk could not show.
    waiting
        Frames of which nothing has been sent yet.
    sending
        Frames that are on their way for the first time.
    """

    came: U63 = 0
    exact: U63 = 0
    preview: U63 = 0
    superseded: U63 = 0
    refused: U63 = 0
    waiting: U63 = 0
    sending: U63 = 0

    @property
    def balanced(self) -> bool:
        """Whether every frame is accounted for."""
        settled = self.exact + self.preview + self.superseded + self.refused
        return self.came == settled + self.waiting + self.sending


# ---- from the desk ---------------------------------------------------------------------------------------------------


class Hello(_Message, tag="HELLO"):
    """A desk introduces itself; the answer is WELCOME or REJECT.

    `session` is drawn anew when the desk's program starts, and the same after a connection that broke: what the desk
    has got by then is not sent again. `title` is what it calls itself. With `every` it is sent each frame of the
    sources that it fetches, exact and one after the other, instead of the newest in the quality that the link allows.
    """

    wire_min: U32
    wire_max: U32
    session: Token
    title: Title = ""
    every: bool = False

    def __post_init__(self) -> None:
        self.title = printable(self.title, MAX_TITLE)


class Ack(_Message, tag="ACK"):
    """What became of a FRAME, by its `number`: shown or kept; or refused, as it could not be.

    `busy_ms` is how long the desk took to decode and show it, in milliseconds: the rest was the link.
    """

    number: U63
    fate: Literal["shown", "refused"] = "shown"
    busy_ms: Finite = 0.0


class Fetch(_Message, tag="FETCH"):
    """All frames of a source that the relay has are wanted, exact, besides the newest: a viewer has been opened.

    With `every` they come in their order, and new ones after them. The relay answers with a PONG of this `number`, if
    that is not 0, before the first of them.
    """

    source: U32
    number: U63 = 0


class Recall(_Message, tag="RECALL"):
    """The sources that have ended, and that the relay still has, are wanted again: a viewer has been opened.

    SOURCE, STREAM, END and the newest frames follow, as after HELLO, and GONE when the desk has what it fetches then.
    """


class Decline(_Message, tag="DECLINE"):
    """Nothing of a source is wanted: its publisher is on the desk's own machine."""

    source: U32


class View(_Message, tag="VIEW"):
    """The frame at this place of a run is looked at: its exact pixels are wanted before those of others.

    `region` is y, x, rows and columns of what is visible of it, in pixels; empty for all of it.
    """

    stream: U32
    index: Index
    region: Place = []


class DeskMarks(_Message, tag="MARKS"):
    """What the user points at, for the acquisition, in a frame of the run `stream`; answered by MARKED.

    `marks` is the message that a viewer sends; its token, stream and time are of the desk's own, and not used.
    """

    number: U63
    stream: U32
    marks: messages.Marks


class ListDesks(_Message, tag="LIST"):
    """Who is connected? Asked for by `scopecast relay --list`, which is no desk: it says no HELLO."""


class Enrol(_Message, tag="ENROL"):
    """Admit this public key, in Z85, from now on: the only message of who connects with the one-time key of a link.

    It is for the gateway (`scopecast share`), as all that concerns links; no relay is told of it.
    """

    key: CurveKey


# ---- from the relay --------------------------------------------------------------------------------------------------


class Welcome(_Message, tag="WELCOME"):
    """The relay's answer to HELLO.

    `resumed` says that it knows the session. The sources that it has follow, and their runs; `origins` names them: what
    the desk has of any other source is over. `clock_ns` is what CLOCK_MONOTONIC shows on the relay's machine, in
    nanoseconds.
    """

    wire: U32
    token: Token
    resumed: bool
    host: Title = ""
    version: Label = ""
    origins: Annotated[list[Token], Meta(max_length=1024)] = []
    clock_ns: U63 = 0

    def __post_init__(self) -> None:
        self.host, self.version = printable(self.host, MAX_TITLE), printable(self.version)


class Reject(_Message, tag="REJECT"):
    """The relay refuses; with `again`, as it does not know who speaks: HELLO is to be said again."""

    reason: Text
    again: bool = False

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


class Source(_Message, tag="SOURCE"):
    """A program that publishes on the relay's machine, or has published there; said again when `listens` changes.

    `origin` is the token of the publisher (where that shows what comes from a third machine: of the one there), `host`
    the software that it runs in, `listens` whether it takes marks, `over` whether it has ended.
    """

    id: U32
    origin: Token
    title: Title
    host: Title = ""
    listens: bool = False
    over: bool = False

    def __post_init__(self) -> None:
        self.title, self.host = printable(self.title, MAX_TITLE), printable(self.host, MAX_TITLE)


class Gone(_Message, tag="GONE"):
    """A source has ended, or has died, and the desk has all that it wanted of it."""

    source: U32
    died: bool = False


class Stream(_Message, tag="STREAM"):
    """A run of a source, as its publisher announces it; said again when an axis or a label joins.

    `id` is the relay's number of it; `about.id` is that of the publisher, which a relay that is started again has, too.
    """

    id: U32
    source: U32
    about: messages.Stream


class End(_Message, tag="END"):
    """No new frames will come in a run; those that it has may still come exact."""

    stream: U32


class Piece(_Message, tag="FRAME"):
    """A frame, or a rectangle of one.

    `number` counts what is sent to a desk, and is acknowledged; `serial` counts the frames of the relay. `quality` is
    an index of `scopecast.remote.quality.LADDER`, and `data` is the rectangle `piece` (y, x, rows, columns; empty: the
    whole frame) encoded so, with `companding` as its parameters. `index` is the frame's place along the axes of the
    stream as announced last. `kind`, `name`, `dtype`, `shape`, `translate` and `metadata` are those of the publisher's
    FRAME; of a document the shape is its number of bytes, and the data are these. `origin_ns` is when it was
    published, by the clock of WELCOME.

    `late` says that it is no news (see `scopecast.link.messages.Frame`); `preview`, that the relay itself has no exact
    pixels. Pieces of a frame are shown together, once the last of them has come: that which has `shown` set.
    """

    number: U63
    serial: U63
    stream: U32
    quality: Annotated[int, Meta(ge=0, le=255)]
    kind: _Short
    name: Label
    dtype: _Short
    shape: Shape
    index: Index
    data: memoryview
    piece: Place = []
    companding: Annotated[list[Finite], Meta(max_length=8)] = []
    translate: Transform = []
    metadata: msgspec.Raw = msgspec.Raw(b"\xc0")
    origin_ns: I64 = 0
    late: bool = False
    preview: bool = False
    shown: bool = True

    def __post_init__(self) -> None:
        self.name = printable(self.name)
        if len(self.piece) not in (0, 4):
            msg = f"a piece is y, x, rows, columns, not {self.piece}"
            raise ValueError(msg)


class Marked(_Message, tag="MARKED"):
    """What became of MARKS, by their number; see `scopecast.link.messages.Marked`."""

    number: U63
    fate: Literal["taken", "refused"]
    reason: Text = ""

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


class Listed(_Message, tag="LISTED"):
    """The desks, each with its title, whether it is connected, its quality, and its account.

    `seconds` is for how long each has been connected, or away.
    """

    desks: Annotated[list[tuple[Title, Label, Label, DeskAccount]], Meta(max_length=1024)]
    seconds: Annotated[list[U32], Meta(max_length=1024)] = []

    def __post_init__(self) -> None:
        self.desks = [
            (printable(title), printable(state), printable(quality), a) for title, state, quality, a in self.desks
        ]


class Enrolled(_Message, tag="ENROLLED"):
    """The gateway's answer to ENROL: the key is admitted, and the link is used up."""

    name: Title
    role: Label

    def __post_init__(self) -> None:
        self.name, self.role = printable(self.name, MAX_TITLE), printable(self.role)


# ---- from both -------------------------------------------------------------------------------------------------------


class Ping(_Message, tag="PING"):
    """A heartbeat; any message counts as the answer. The relay's has the desk's account."""

    number: U63
    account: DeskAccount = msgspec.field(default_factory=DeskAccount)


class Pong(_Message, tag="PONG"):
    """The answer to a PING. The relay's has its clock, as WELCOME does."""

    number: U63
    clock_ns: U63 = 0


class Bye(_Message, tag="BYE"):
    """The sender leaves in good order."""

    reason: Text = ""

    def __post_init__(self) -> None:
        self.reason = printable(self.reason, MAX_TEXT)


FromDesk = Hello | Ack | Fetch | Recall | Decline | View | DeskMarks | ListDesks | Enrol | Ping | Pong | Bye
FromRelay = Welcome | Reject | Source | Gone | Stream | End | Piece | Marked | Listed | Enrolled | Ping | Pong | Bye

_from_desk: Final[msgspec.msgpack.Decoder[FromDesk]] = msgspec.msgpack.Decoder(FromDesk)
_from_relay: Final[msgspec.msgpack.Decoder[FromRelay]] = msgspec.msgpack.Decoder(FromRelay)
_OURS: Final = f"version {WIRE}"
_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode


def decode_from_desk(data: bytes) -> FromDesk:
    """Decode what a desk sent.

    Raises
    ------
    ProtocolError
        If it is no message of this version, or a field is outside its limits.
    """
    return decode_by(_from_desk, data, _OURS)


def decode_from_relay(data: bytes) -> FromRelay:
    """Decode what a relay sent; raises as `decode_from_desk` does. The data of a frame are a view of `data`."""
    return decode_by(_from_relay, data, _OURS)
