"""The page of the protocol says what the code does: its tables are made from it, and hold for a real publisher."""

from __future__ import annotations

import json
import re
import runpy
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peers import entry_of
from receivers import stamped
from scopecast import Publisher
from scopecast.link import messages
from scopecast.rundir.directory import Entry, RunDirectory

ROOT = Path(__file__).resolve().parents[2]
PAGES: dict[str, Any] = runpy.run_path(str(ROOT / "docs/pages.py"))
NAMES = ("types", "limits", "entry", "segment", "messages")


def rows(text: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_no_empty_meaning_and_no_name_of_an_object(name: str):
    text = PAGES[name]()
    assert len(rows(text)) > 5
    assert " object at 0x" not in text
    assert "None" not in text
    for row in rows(text):
        assert row[0]
        assert row[-2 if name == "messages" else -1] or row[0] == "what", row


def test_the_page_includes_every_table():
    page = (ROOT / "docs/reference/protocol.md").read_text("utf-8")
    assert re.findall(r"_generated/(\w+)\.md", page) == ["limits", "entry", "segment", "types", "messages"]


def test_every_type_that_a_table_names_is_explained():
    explained = {row[0] for row in rows(PAGES["types"]())}
    types = [row[1] for row in rows(PAGES["entry"]())[1:]] + [row[2] for row in rows(PAGES["messages"]())]
    named = {word for cell in types for word in re.findall(r"\b(?:U\d+|[A-Z][A-Za-z]+)\b", cell.replace("\\Z", ""))}
    assert {"U32", "Kind", "Label", "AxisName"} <= named
    assert named <= explained | {"A"}


def test_every_field_of_a_message_is_there_in_its_place():
    found = [(int(row[0]), row[1]) for row in rows(PAGES["messages"]()) if row[0].isdecimal()]
    kinds = [*messages.FromReceiver.__args__, *messages.FromPublisher.__args__]
    wanted = {(at, f.name) for kind in kinds for at, f in enumerate(msgspec.structs.fields(kind), 1)}
    assert set(found) == wanted


def test_every_key_of_an_entry_is_there():
    with RunDirectory().join("receiver", "headless") as member:
        written = json.loads(member.directory.file(member.token, "json").read_text())
    assert [row[0] for row in rows(PAGES["entry"]())[1:]] == list(written) == [*Entry.__struct_fields__]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /dev/shm")
def test_a_segment_can_be_read_by_what_the_page_says():
    with Publisher("headless", policy="every") as publisher:
        publisher.open((64, 48), "uint16", wait=20)
        publisher.publish(stamped(5), axes={"t": 0})
        (name,) = entry_of(publisher).segments
        data = Path("/dev/shm", name).read_bytes()
        ring = publisher.session.slots.ring  # type: ignore[union-attr]
        layout = ring.layout
    text = PAGES["segment"]()
    table = [(int(row[0]), int(row[1]), row[2]) for row in rows(text) if row[0].isdecimal()]
    header = {name: data[offset : offset + size] for offset, size, name in table[:-4]}
    numbers = {name: int.from_bytes(value, sys.byteorder) for name, value in header.items()}
    assert header["magic"] == b"scopcast"
    assert header["token"] == name.split("_")[1].encode() + bytes(8)
    assert f"`state` is {numbers['state']:#x}" in text
    assert numbers["version"] == 1
    assert numbers["epoch"] == 0
    assert (numbers["slots"], numbers["slot_bytes"]) == layout
    assert numbers["captions"] == numbers["total"]
    assert numbers["captions"] + numbers["slots"] * numbers["caption_bytes"] == len(data)
    assert numbers["table"] == 4096
    of_slot = {name: (offset, size) for offset, size, name in table[-4:]}
    (entry_bytes,) = map(int, re.findall(r"Each slot has an entry of (\d+) bytes", text))
    used = []
    for slot in range(numbers["slots"]):
        at = numbers["table"] + slot * entry_bytes
        each = {
            name: int.from_bytes(data[at + offset : at + offset + size], sys.byteorder)
            for name, (offset, size) in of_slot.items()
        }
        if each["generation"]:
            used.append((each, slot))
    ((frame, slot),) = used
    begins = numbers["pixels"] + slot * numbers["slot_bytes"]
    assert frame.pop("published_ns") <= time.monotonic_ns()
    assert frame == {"generation": 2, "sequence": 0, "nbytes": 64 * 48 * 2}
    caption = numbers["captions"] + slot * numbers["caption_bytes"]
    lengths = [int.from_bytes(data[at : at + 4], sys.byteorder) for at in (caption, caption + 4)]
    decoder = msgspec.msgpack.Decoder()
    assert decoder.decode(data[caption + 8 :][: lengths[0]])[0] == "STREAM"
    assert decoder.decode(data[caption + 8 + lengths[0] :][: lengths[1]])[:2] == ["FRAME", 0]
    assert data[begins : begins + frame["nbytes"]] == stamped(5).tobytes()
