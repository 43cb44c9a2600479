"""Messages: their bytes are fixed, their fields have limits, and no bytes at all do harm."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import useq
from hypothesis import given
from hypothesis import strategies as st

from scopecast.errors import ProtocolError
from scopecast.link import messages

if TYPE_CHECKING:
    from collections.abc import Callable

TOKEN = "abcd2345"

#: Protocol 1 as it was first released. A change here is a new protocol, not a new test.
GOLDEN: dict[str, tuple[Any, str]] = {
    "HELLO": (
        messages.Hello(1, 1, TOKEN, "napari", 4711, "desk"),
        "98a548454c4c4f0101a86162636432333435a66e6170617269cd1267a46465736bc2",
    ),
    "WELCOME": (
        messages.Welcome(1, TOKEN, 2, "napari_abcd2345_2", 0.5, "camera", "pymmcore"),
        "98a757454c434f4d4501a8616263643233343502b16e61706172695f61626364323334355f32cb3fe0000000000000a663616d657261"
        "a870796d6d636f7265",
    ),
    "REJECT": (messages.Reject(1, 1, "no room", True), "95a652454a4543540101a76e6f20726f6f6dc3"),
    "STREAM": (
        messages.Stream(
            id=3,
            title="run",
            axes=["t", "c"],
            labels={"c": ["DAPI", "FITC"]},
            sizes=[20, 2],
            scale=[0.5, 0.25],
            steps=[1.0, 1.0],
            units="um",
            preview=False,
            colors=["blue", ""],
            run="plate 7",
            began_ns=2**40,
        ),
        "9da653545245414d03a372756e92a174a16381a16392a444415049a44649544392140292cb3fe0000000000000cb3fd0000000000000"
        "92cb3ff0000000000000cb3ff0000000000000a2756dc292a4626c7565a0a7706c6174652037"
        "cf0000010000000000",
    ),
    "FRAME": (
        messages.Frame(
            3,
            300,
            2,
            7,
            70000,
            "image",
            "<u2",
            [512, 256],
            [19, 1],
            2**40,
            "a/b.tif",
            [1.5, -2.0],
            msgspec.Raw(bytes.fromhex("81ab6578706f737572655f6d730a")),
            "cells",
            preview=True,
            origin_ns=-2,
        ),
        "dc0012a54652414d4503cd012c0207ce00011170a5696d616765a33c753292cd0200cd0100921301cf0000010000000000a7612f622e7469"
        "6692cb3ff8000000000000cbc00000000000000081ab6578706f737572655f6d730aa563656c6c73c3c2fe",
    ),
    "ACK": (messages.Ack(2, 7, 70000, "delivered"), "95a341434b0207ce00011170a964656c697665726564"),
    "REPLY": (
        messages.Reply(4, 300, "reply_abcd2345_0", 0, 7, 70000, "labels", "|u1", [512, 256], "cells"),
        "9ba55245504c5904cd012cb07265706c795f61626364323334355f300007ce00011170a66c6162656c73a37c753192cd0200cd0100a563"
        "656c6c73",
    ),
    "REPLIED": (
        messages.Replied(4, "refused", "no room"),
        "94a75245504c49454404a772656675736564a76e6f20726f6f6d",
    ),
    "PING": (messages.Ping(9, 1, 2, 300, True), "97a450494e47090102cd012cc3c2"),
    "PONG": (
        messages.Pong(9, 250, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7, 8.0, 11),
        "9ca4504f4e4709ccfacb3ff0000000000000cb4000000000000000cb4008000000000000cb4010000000000000cb4014000000000000"
        "cb401800000000000007cb40200000000000000b",
    ),
    "CAPTURE": (messages.Capture(5, "/tmp/a.png"), "93a74341505455524505aa2f746d702f612e706e67"),
    "CAPTURED": (messages.Captured(5, "no window"), "93a8434150545552454405a96e6f2077696e646f77"),
    "MARKS": (
        messages.Marks(
            number=4,
            token=TOKEN,
            stream=3,
            sent_ns=2**40,
            axes={"t": 19, "c": 1},
            labels={"c": "FITC"},
            shape=[512, 256],
            position=[100.0, -50.0],
            types=["point", "line"],
            lengths=[1, 2],
            vertices=[1.5, -2.0, 0.0, 0.0, 10.0, 20.0],
            names=["", "edge"],
            layer="Points",
        ),
        "9ea54d41524b5304a8616263643233343503cf000001000000000082a17413a1630181a163a44649544392cd0200cd010092cb405900"
        "0000000000cbc04900000000000092a5706f696e74a46c696e6592010296cb3ff8000000000000cbc000000000000000cb0000000000"
        "000000cb0000000000000000cb4024000000000000cb403400000000000092a0a465646765a6506f696e7473",
    ),
    "MARKED": (messages.Marked(4, "refused", "no stage"), "94a64d41524b454404a772656675736564a86e6f207374616765"),
    "LOOK": (messages.Look(3, [19, 1], [100, 200, 64, 32]), "94a44c4f4f4b039213019464ccc84020"),
    "END": (messages.End(3), "92a3454e4403"),
    "BYE": (messages.Bye("closed"), "92a3425945a6636c6f736564"),
}
FROM_RECEIVER = {"HELLO", "ACK", "REPLY", "PONG", "CAPTURED", "MARKS", "LOOK", "BYE"}
FROM_PUBLISHER = (GOLDEN.keys() - FROM_RECEIVER) | {"BYE"}


def decoders(tag: str) -> list[Callable[[bytes], Any]]:
    return [
        decode
        for decode, tags in (
            (messages.decode_from_receiver, FROM_RECEIVER),
            (messages.decode_from_publisher, FROM_PUBLISHER),
        )
        if tag in tags
    ]


def as_list(message: Any) -> list[Any]:
    """A message as what it is on the wire: an array, the tag first."""
    fields: list[Any] = msgspec.msgpack.decode(messages.encode(message))
    return fields


@pytest.fixture(params=GOLDEN)
def tag(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# ---- the bytes ---------------------------------------------------------------------------------------------------


def test_every_message_has_golden_bytes():
    kinds = {kind.__struct_config__.tag for kind in (*messages.FromReceiver.__args__, *messages.FromPublisher.__args__)}
    assert kinds == GOLDEN.keys()
    assert messages.PROTOCOL == 1


def test_the_bytes_are_those_of_protocol_1(tag: str):
    message, golden = GOLDEN[tag]
    assert messages.encode(message).hex() == golden
    for decode in decoders(tag):
        assert decode(bytes.fromhex(golden)) == message


def test_a_frame_of_the_first_release_has_no_name():
    message, golden = GOLDEN["FRAME"]
    older = messages.decode_from_publisher(bytes.fromhex("9e" + golden[6:].removesuffix("a563656c6c73c3c2fe")))
    assert older == msgspec.structs.replace(message, name="", preview=False, origin_ns=0)


def test_a_ping_of_the_first_release_says_that_nobody_listens():
    older = messages.decode_from_publisher(bytes.fromhex("95a450494e47090102cd012c"))
    assert older == messages.Ping(9, 1, 2, 300, listens=False)


def test_a_message_in_the_wrong_direction_is_refused(tag: str):
    data = bytes.fromhex(GOLDEN[tag][1])
    if tag not in FROM_RECEIVER:
        with pytest.raises(ProtocolError, match="are not a message of protocol 1"):
            messages.decode_from_receiver(data)
    if tag not in FROM_PUBLISHER:
        with pytest.raises(ProtocolError, match="are not a message of protocol 1"):
            messages.decode_from_publisher(data)


@pytest.mark.fault("V7")
def test_fields_that_a_newer_peer_appends_are_ignored(tag: str):
    message = GOLDEN[tag][0]
    newer = msgspec.msgpack.encode([*as_list(message), "new", {"newer": [1, 2]}])
    for decode in decoders(tag):
        assert decode(newer) == message


def test_fields_with_a_default_may_be_missing_and_no_others(tag: str):
    message = GOLDEN[tag][0]
    required = sum(field.required for field in msgspec.structs.fields(message))
    fields = as_list(message)
    for decode in decoders(tag):
        assert type(decode(msgspec.msgpack.encode(fields[: 1 + required]))) is type(message)
        for length in range(1 + required):
            with pytest.raises(ProtocolError):
                decode(msgspec.msgpack.encode(fields[:length]))


# ---- limits ------------------------------------------------------------------------------------------------------

LIMITS: list[tuple[str, int, Any, Any]] = [  # message, field counted from 1, the most that is allowed, too much
    ("HELLO", 1, 2**32 - 1, 2**32),
    ("HELLO", 1, 0, -1),
    ("HELLO", 3, "zzzz7777", "zzzz7771"),
    ("HELLO", 3, "zzzz7777", "zzzz777"),
    ("HELLO", 3, "zzzz7777", "zzzz7777\n"),
    ("HELLO", 3, "zzzz7777", "../../zz"),
    ("HELLO", 4, "a" * 32, "a" * 33),
    ("HELLO", 4, "my_viewer2", "my viewer"),
    ("HELLO", 4, "napari", "napari\n"),
    ("HELLO", 5, 2**32 - 1, 2**32),
    ("HELLO", 6, "t" * 200, "t" * 201),
    ("WELCOME", 3, 2**63 - 1, 2**63),
    ("WELCOME", 4, "s" * 30, "s" * 31),
    ("WELCOME", 5, 1e300, 1e301),
    ("WELCOME", 5, 1e300, float("inf")),
    ("WELCOME", 5, -1e300, float("nan")),
    ("REJECT", 3, "r" * 2000, "r" * 2001),
    ("STREAM", 3, ["a"] * 9, ["a"] * 10),
    ("STREAM", 3, ["a" * 32], ["a" * 33]),
    ("STREAM", 3, ["a"], [""]),
    ("STREAM", 4, {"c": ["l"] * 1024}, {"c": ["l"] * 1025}),
    ("STREAM", 4, {"c": ["l" * 64]}, {"c": ["l" * 65]}),
    ("STREAM", 4, {f"a{n}": [] for n in range(9)}, {f"a{n}": [] for n in range(10)}),
    ("STREAM", 5, [2**31 - 1] * 9, [0] * 10),
    ("STREAM", 6, [1.0, 1.0], [1.0, 1.0, 1.0]),
    ("STREAM", 6, [1.0, 1.0], [1.0, float("nan")]),
    ("STREAM", 8, "u" * 64, "u" * 65),
    ("STREAM", 10, ["#00ff00"] * 1024, [""] * 1025),
    ("STREAM", 11, "r" * 200, "r" * 201),
    ("FRAME", 1, 2**32 - 1, 2**32),
    ("FRAME", 2, 2**63 - 1, 2**63),
    ("FRAME", 3, 2**63 - 1, -1),
    ("FRAME", 4, 2**32 - 1, -1),
    ("FRAME", 4, 2**32 - 1, 2**32),
    ("FRAME", 4, 7, 7.5),
    ("FRAME", 6, "k" * 16, "k" * 17),
    ("FRAME", 7, "d" * 16, "d" * 17),
    ("FRAME", 8, [2**31 - 1] * 4, [1] * 5),
    ("FRAME", 8, [2**31 - 1] * 4, [2**31]),
    ("FRAME", 8, [0], [-1]),
    ("FRAME", 9, [2**31 - 1] * 9, [1] * 10),
    ("FRAME", 11, "p" * 4096, "p" * 4097),
    ("FRAME", 12, [1.0, 2.0], [1.0, 2.0, 3.0]),
    ("FRAME", 12, [1.0, 2.0], [float("inf")]),
    ("FRAME", 14, "n" * 64, "n" * 65),
    ("ACK", 1, 2**63 - 1, -1),
    ("ACK", 2, 2**32 - 1, -1),
    ("ACK", 2, 2**32 - 1, 10**10),
    ("ACK", 4, "skipped", "shown"),
    ("PONG", 2, 2**63 - 1, 2**63),
    ("PONG", 3, 1e300, float("nan")),
    ("CAPTURE", 2, "p" * 4096, "p" * 4097),
    ("CAPTURED", 2, "e" * 2000, "e" * 2001),
    ("END", 1, 2**32 - 1, 2**32),
    ("BYE", 1, "r" * 2000, "r" * 2001),
    ("BYE", 1, "r", b"bytes"),
]


@pytest.mark.fault("H5")
@pytest.mark.parametrize(
    ("tag", "field", "most", "more"), LIMITS, ids=[f"{tag}-{field}-{n}" for n, (tag, field, *_) in enumerate(LIMITS)]
)
def test_a_field_has_its_limit(tag: str, field: int, most: Any, more: Any):
    fields = as_list(GOLDEN[tag][0])
    for decode in decoders(tag):
        fields[field] = most
        assert type(decode(msgspec.msgpack.encode(fields))) is type(GOLDEN[tag][0])
        fields[field] = more
        with pytest.raises(ProtocolError, match="ValidationError"):
            decode(msgspec.msgpack.encode(fields))


# ---- hostile bytes -----------------------------------------------------------------------------------------------

DEEP = b"\x91" * 60_000 + b"\xc0"
DEPTH_BOMBS = {
    "at the top": DEEP,
    "in a field": b"\x92\xa3BYE" + DEEP,
    "in an unknown field": b"\x93\xa3BYE\xa0" + DEEP,
    "of maps": b"\x93\xa3BYE\xa0" + b"\x81\xa0" * 30_000 + b"\xc0",
    "in metadata": messages.encode(GOLDEN["FRAME"][0])[:-20] + DEEP,
    "instead of labels": b"\x9b\xa6STREAM\x03\xa3run\x90" + DEEP,
}


@pytest.mark.fault("H5")
@pytest.mark.parametrize("bomb", DEPTH_BOMBS.values(), ids=DEPTH_BOMBS)
@pytest.mark.parametrize("decode", [messages.decode_from_receiver, messages.decode_from_publisher])
def test_depth_is_bounded(bomb: bytes, decode: Callable[[bytes], Any]):
    with pytest.raises(ProtocolError, match="are not a message of protocol 1"):
        decode(bomb)


@pytest.mark.fault("H5")
@pytest.mark.needs("limits of memory")
def test_huge_counts_fail_at_once_and_take_no_memory():
    code = """
import resource
from scopecast.link import messages as wire
from scopecast.errors import ProtocolError
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)
huge = [kind + b"\\xff" * 4 for kind in (b"\\xdd", b"\\xdf", b"\\xdb", b"\\xc6")]
begin = [
    b"", b"\\x92\\xa3BYE", b"\\x93\\xa3BYE\\xa0",
    b"\\x9b\\xa6STREAM\\x03\\xa3run", b"\\x9b\\xa6STREAM\\x03\\xa3run\\x90",
    b"\\x9b\\xa6STREAM\\x03\\xa3run\\x90\\x81\\xa1c", b"\\x9b\\xa6STREAM\\x03\\xa3run\\x90\\x80",
    b"\\x9e\\xa5FRAME\\x00\\x00\\x00\\x00\\x00\\xa0\\xa0",
    b"\\x9e\\xa5FRAME\\x00\\x00\\x00\\x00\\x00\\xa0\\xa0\\x90\\x90\\x00\\xa0\\x90",
]
count = 0
for start in begin:
    for bomb in huge:
        for decode in (wire.decode_from_receiver, wire.decode_from_publisher):
            try:
                decode(start + bomb + b"\\x00" * 1000)
            except ProtocolError:
                count += 1
print(count == len(begin) * len(huge) * 2)
"""
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (child.returncode, child.stdout) == (0, "True\n"), child.stderr


def decode_both(data: bytes) -> None:
    for decode in (messages.decode_from_receiver, messages.decode_from_publisher):
        with contextlib.suppress(ProtocolError):
            decode(data)


@pytest.mark.fault("H5")
@given(st.binary(max_size=200))
def test_random_bytes_are_a_protocol_error_at_most(data: bytes):
    decode_both(data)


@pytest.mark.fault("H5")
@given(
    tag=st.sampled_from(sorted(GOLDEN)),
    cut=st.integers(0, 80),
    changes=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255)), max_size=6),
)
def test_a_damaged_message_is_a_protocol_error_at_most(tag: str, cut: int, changes: list[tuple[int, int]]):
    data = bytearray.fromhex(GOLDEN[tag][1])
    for place, value in changes:
        data[place % len(data)] = value
    decode_both(bytes(data[: len(data) - cut] if cut < len(data) else data))


NESTED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(tag=st.sampled_from(sorted(GOLDEN)), fields=st.lists(NESTED, max_size=14))
def test_fields_of_other_types_are_a_protocol_error_at_most(tag: str, fields: list[Any]):
    decode_both(msgspec.msgpack.encode([tag, *fields]))


# ---- metadata ----------------------------------------------------------------------------------------------------


def decoded(metadata: Any) -> Any:
    raw = messages.encode_metadata(metadata)
    assert raw is not None
    return msgspec.msgpack.decode(raw)


def test_the_metadata_of_pymmcore_plus_is_encoded_with_its_event():
    sequence = useq.MDASequence(channels=["DAPI"], time_plan={"interval": 0, "loops": 2})
    event = list(sequence)[1]
    found = decoded({"mda_event": event, "exposure_ms": 10.5})
    assert found["exposure_ms"] == 10.5
    assert found["mda_event"]["index"] == {"t": 1, "c": 0}
    assert found["mda_event"]["channel"]["config"] == "DAPI"


PLAIN = {
    "nothing": (None, None),
    "numpy int": ({"a": np.int16(-5)}, {"a": -5}),
    "numpy float": ({"a": np.float32(0.5)}, {"a": 0.5}),
    "numpy bool": ({"a": np.bool_(True)}, {"a": True}),
    "numpy array": ({"a": np.arange(6).reshape(2, 3)}, {"a": [[0, 1, 2], [3, 4, 5]]}),
    "an array by itself": (np.arange(3), [0, 1, 2]),
    "an empty array": (np.arange(0), []),
    "an object": ({"a": complex(1, 2)}, {"a": "(1+2j)"}),
}


@pytest.mark.parametrize(("metadata", "plain"), PLAIN.values(), ids=PLAIN)
def test_metadata_is_made_plain(metadata: Any, plain: Any):
    assert decoded(metadata) == plain


def _cyclic() -> list[Any]:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    return cyclic


class Converted:
    """An object whose conversion gives another such object, for ever."""

    def tolist(self) -> Converted:
        return Converted()


class Contained:
    """An object whose conversion holds another such object, for ever."""

    def tolist(self) -> list[Contained]:
        return [Contained()]


class Broken:
    """An object that fails in every way."""

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __str__(self) -> str:
        raise RuntimeError("no text")


CUT = {
    "too long": {"blob": "x" * messages.MAX_METADATA_BYTES},
    "cyclic": _cyclic(),
    "endless": {"a": Converted()},
    "endless lists": {"a": Contained()},
    "nested too deeply": {"a": functools.reduce(lambda inner, _: [inner], range(64), [])},
    "broken": Broken(),
    "broken inside": {"a": Broken()},
    "an int of 65 bits": {"a": 2**64},
    "half a character": {"a": "\ud800"},
}


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=4) | st.integers(0, 9), inner),
    max_leaves=30,
)


def levels(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(levels, inner), default=0)


@given(NESTED)
def test_metadata_is_read_as_deep_as_it_may_be_nested(metadata: Any):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "_DEEPEST", 3)
        data = msgspec.msgpack.encode(metadata)
        if levels(metadata) <= 3:
            assert messages.decode_metadata(data) == metadata
        else:
            with pytest.raises(ProtocolError, match="nested more than 3 levels"):
                messages.decode_metadata(data)


@given(st.binary(max_size=300))
def test_whatever_comes_as_metadata_is_read_or_refused(data: bytes):
    with contextlib.suppress(ProtocolError):
        messages.decode_metadata(data)


def test_metadata_nested_without_end_is_refused_where_the_stack_is_short():
    """As that of a thread of Java's: the interpreter's own limit lets it overflow, which ends the process."""
    came: list[str] = []

    def read() -> None:
        try:
            messages.decode_metadata(b"\x91" * 9000 + b"\xc0")
        except ProtocolError as error:
            came.append(str(error))

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=read)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert came == ["metadata that can't be read (nested more than 64 levels deep)"]


@pytest.mark.parametrize("metadata", CUT.values(), ids=CUT)
def test_metadata_that_cannot_be_sent_is_left_out(metadata: Any):
    assert messages.encode_metadata(metadata) is None


def test_metadata_of_exactly_the_limit_is_sent():
    most = messages.MAX_METADATA_BYTES - 3  # a text's length takes 3 bytes
    assert messages.encode_metadata("x" * most) is not None
    assert messages.encode_metadata("x" * (most + 1)) is None


def test_the_largest_frame_message_is_within_the_limit_of_a_message():
    message = messages.Frame(
        *(2**32 - 1, 2**63 - 1, 2**63 - 1, 2**32 - 1, 2**63 - 1),
        *("k" * 16, "d" * 16, [2**31 - 1] * 4, [2**31 - 1] * 9, 2**63 - 1),
        "\U0001f52c" * 4096,
        [1e300, 1e300],
        messages.encode_metadata("x" * (messages.MAX_METADATA_BYTES - 3)),
        "\U0001f52c" * 64,
    )
    assert len(messages.encode(message)) <= messages.MAX_MESSAGE_BYTES
