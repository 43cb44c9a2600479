"""The messages between a relay and a desk: their bytes, and that nothing else is taken for one."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scopecast.errors import ProtocolError
from scopecast.link import messages as local
from scopecast.remote import messages

TOKEN = "abcd2345"
GOLDEN: dict[str, tuple[Any, str]] = {
    "HELLO": (
        messages.Hello(1, 1, TOKEN, "office", every=True),
        "96a548454c4c4f0101a86162636432333435a66f6666696365c3",
    ),
    "ACK": (messages.Ack(7, "refused", 1.5), "94a341434b07a772656675736564cb3ff8000000000000"),
    "FETCH": (messages.Fetch(1, 7), "93a546455443480107"),
    "RECALL": (messages.Recall(), "91a6524543414c4c"),
    "DECLINE": (messages.Decline(1), "92a74445434c494e4501"),
    "VIEW": (messages.View(2, [19, 1], [100, 200, 64, 32]), "94a456494557029213019464ccc84020"),
    "MARKS": (
        messages.DeskMarks(
            3,
            2,
            local.Marks(
                1, TOKEN, 0, 2**40, {"t": 3}, {}, [512, 256], [], ["point"], [1], [1.5, 2.5], ["cell"], "spots"
            ),
        ),
        "94a54d41524b5303029ea54d41524b5301a8616263643233343500cf000001000000000081a174038092cd0200cd01009091"
        "a5706f696e74910192cb3ff8000000000000cb400400000000000091a463656c6ca573706f7473",
    ),
    "LIST": (messages.ListDesks(), "91a44c495354"),
    "ENROL": (
        messages.Enrol("0123456789abcdefghijklmnopqrstuvwxyz.-:+"),
        "92a5454e524f4cd928303132333435363738396162636465666768696a6b6c6d6e6f707172737475767778797a2e2d3a2b",
    ),
    "WELCOME": (
        messages.Welcome(
            1, TOKEN, resumed=False, host="lab-pc", version="0.1.0", origins=[TOKEN], clock_ns=5_000_000_000
        ),
        "98a757454c434f4d4501a86162636432333435c2a66c61622d7063a5302e312e3091a86162636432333435cf000000012a05f200",
    ),
    "REJECT": (
        messages.Reject("update scopecast here"),
        "93a652454a454354b57570646174652073636f7065636173742068657265c2",
    ),
    "SOURCE": (
        messages.Source(1, TOKEN, "camera", "pymmcore", listens=True, over=True),
        "97a6534f5552434501a86162636432333435a663616d657261a870796d6d636f7265c3c3",
    ),
    "GONE": (messages.Gone(1, died=True), "93a4474f4e4501c3"),
    "STREAM": (
        messages.Stream(2, 1, local.Stream(0, "run", ["t"], {}, [20], [0.5, 0.25], [1.0], "um")),
        "94a653545245414d02019da653545245414d00a372756e91a17480911492cb3fe0000000000000cb3fd000000000000091cb"
        "3ff0000000000000a2756dc290a000",
    ),
    "END": (messages.End(2), "92a3454e4402"),
    "FRAME": (
        messages.Piece(
            number=5,
            serial=300,
            stream=2,
            quality=1,
            kind="image",
            name="",
            dtype="<u2",
            shape=[512, 256],
            index=[19],
            data=memoryview(b"\xff\xd8\xff"),
            companding=[100.0, 4000.0],
            translate=[1.5, -2.0],
            metadata=msgspec.Raw(bytes.fromhex("81ab6578706f737572655f6d730a")),
            origin_ns=-12_500_000,
        ),
        "dc0013a54652414d4505cd012c0201a5696d616765a0a33c753292cd0200cd01009113c403ffd8ff9092cb40590000000000"
        "00cb40af40000000000092cb3ff8000000000000cbc00000000000000081ab6578706f737572655f6d730ad2ff4143e0c2c2"
        "c3",
    ),
    "MARKED": (
        messages.Marked(3, "refused", "out of reach"),
        "94a64d41524b454403a772656675736564ac6f7574206f66207265616368",
    ),
    "LISTED": (
        messages.Listed([("office", "connected", "exact", messages.DeskAccount(3, 2, 1))], [60]),
        "93a64c49535445449194a66f6666696365a9636f6e6e6563746564a565786163749703020100000000913c",
    ),
    "ENROLLED": (messages.Enrolled("Ana", "watch"), "93a8454e524f4c4c4544a3416e61a57761746368"),
    "PING": (messages.Ping(9, messages.DeskAccount(3, 1, 1, 1)), "93a450494e47099703010101000000"),
    "PONG": (messages.Pong(9, 5_000_000_000), "93a4504f4e4709cf000000012a05f200"),
    "BYE": (messages.Bye("the desk was closed"), "92a3425945b3746865206465736b2077617320636c6f736564"),
}
FROM_DESK = {kind.__struct_config__.tag for kind in messages.FromDesk.__args__}
FROM_RELAY = {kind.__struct_config__.tag for kind in messages.FromRelay.__args__}


def test_every_message_has_golden_bytes():
    assert GOLDEN.keys() == FROM_DESK | FROM_RELAY
    assert messages.WIRE == 1


@pytest.mark.parametrize("tag", GOLDEN)
def test_the_bytes_are_those_of_version_1(tag: str):
    message, golden = GOLDEN[tag]
    data = bytes.fromhex(golden)
    assert messages.encode(message).hex() == golden
    for decode, tags in ((messages.decode_from_desk, FROM_DESK), (messages.decode_from_relay, FROM_RELAY)):
        if tag in tags:
            assert decode(data) == message
        else:
            with pytest.raises(ProtocolError, match="that are not a message of version 1"):
                decode(data)


@pytest.mark.parametrize("tag", GOLDEN)
def test_what_a_newer_peer_appends_is_ignored(tag: str):
    message, golden = GOLDEN[tag]
    fields = msgspec.msgpack.decode(bytes.fromhex(golden))
    decode = messages.decode_from_desk if tag in FROM_DESK else messages.decode_from_relay
    assert decode(msgspec.msgpack.encode([*fields, {"new": 1}])) == message


def test_no_field_of_what_is_sent_is_a_path_or_a_segment():
    names = {
        field.name
        for kind in (*messages.FromDesk.__args__, *messages.FromRelay.__args__)
        for field in msgspec.structs.fields(kind)
    }
    assert not names & {"path", "segment", "epoch", "slot", "generation", "capture"}


@pytest.mark.fault("H14", "H15")
@given(
    st.one_of(
        st.binary(max_size=200),
        st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists, max_leaves=9),
    )
)
def test_whatever_comes_is_a_message_or_refused(said: Any):
    data = said if isinstance(said, bytes) else msgspec.msgpack.encode(said, enc_hook=str)
    for decode in (messages.decode_from_desk, messages.decode_from_relay):
        with contextlib.suppress(ProtocolError):
            decode(data)
