"""Rings: every array comes out as it went in, and no header or message leads outside the memory."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from scopecast.errors import SharedMemoryError
from scopecast.frames.arrays import SHOWABLE, native
from scopecast.memory.ring import (
    CAPTION_BYTES,
    GENERATION,
    MAX_CAPTION,
    MAX_SLOTS,
    MIN_SLOTS,
    WORDS,
    Ring,
    RingLayout,
    RingReader,
    plan_layout,
)
from scopecast.memory.segment import PAGE
from scopecast.rundir.directory import new_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL = RingLayout(3, 4 * PAGE)
SHM = Path("/dev/shm")


@contextlib.contextmanager
def ring_and_reader(layout: RingLayout = SMALL) -> Iterator[tuple[Ring, RingReader]]:
    token = new_token()
    ring = Ring(f"test_{token}_0", layout, token, 4)
    try:
        reader = RingReader(ring.name, token, 4)
        try:
            yield ring, reader
        finally:
            reader.close()
    finally:
        ring.close()


def round_trip(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with ring_and_reader() as (ring, reader):
        dtype = native(array.dtype)
        ring.begin(1)
        np.copyto(ring.array(1, array.shape, dtype), array, casting="equiv")
        ring.commit(1, 0, array.nbytes)
        return reader.view(1, array.shape, dtype).copy()


# ---- pixels ------------------------------------------------------------------------------------------------------

BYTE_ORDERS = {"native": "=", "swapped": ">"}


@pytest.mark.fault("D2")
@pytest.mark.parametrize("order", BYTE_ORDERS.values(), ids=BYTE_ORDERS)
@pytest.mark.parametrize("name", sorted(SHOWABLE))
def test_every_dtype_comes_out_as_it_went_in_and_native(name: str, order: str):
    dtype = np.dtype(name).newbyteorder(order)
    kind = dtype.kind
    values = [0, 1, 2, 100] if kind in "bu" else [0, -1, 2, -100] if kind == "i" else [np.nan, np.inf, -1.5, 0]
    array = np.array(values * 3, dtype).reshape(3, 4)
    out = round_trip(array)
    assert out.dtype.isnative
    assert out.dtype.name == name
    np.testing.assert_array_equal(out, array)


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


LOOKS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "as it is": lambda array: array,
    "Fortran": np.asfortranarray,
    "transposed": lambda array: array.T,
    "negative strides": lambda array: array[::-1, ::-1],
    "every other": lambda array: array[:, ::2],
    "broadcast": lambda array: np.broadcast_to(array[:1], array.shape),
    "read-only": _read_only,
    "a field": lambda array: np.rec.fromarrays([array, array], names="a,b")["b"],
}


@pytest.mark.fault("D1")
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@given(data=st.data())
def test_every_look_at_an_array_comes_out_the_same(
    look: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]], data: st.DataObject
):
    dtypes = st.sampled_from(sorted(SHOWABLE)).flatmap(
        lambda name: st.sampled_from([np.dtype(name), np.dtype(name).newbyteorder(">")])
    )
    array = look(data.draw(hnp.arrays(dtypes, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))))
    np.testing.assert_array_equal(round_trip(array), array)


@pytest.mark.fault("D1")
def test_a_memmap_comes_out_as_it_went_in(tmp_path: Path):
    (tmp_path / "frame").write_bytes(bytes(range(240)))
    array = np.memmap(tmp_path / "frame", ">u2", "r", shape=(10, 12))
    np.testing.assert_array_equal(round_trip(array), array)


def test_a_slot_does_not_reach_into_its_neighbours():
    with ring_and_reader() as (ring, reader):
        for slot in range(3):
            ring.array(slot, (4 * PAGE,), np.dtype("u1"))[:] = slot + 1
        for slot in range(3):
            assert set(reader.view(slot, (4 * PAGE,), np.dtype("u1"))) == {slot + 1}


def test_a_reader_cannot_write():
    with ring_and_reader() as (_ring, reader):
        view = reader.view(0, (2, 2), np.dtype("u2"))
        with pytest.raises(ValueError, match="read-only"):
            view[0, 0] = 1


# ---- generations -------------------------------------------------------------------------------------------------


def test_a_slot_is_marked_before_any_pixel_of_the_next_frame_can_be_seen(monkeypatch: pytest.MonkeyPatch):
    """Whatever the processor, or a copy past the caches, does in another order than it was told."""
    seen = []
    with ring_and_reader() as (ring, reader):
        monkeypatch.setattr("scopecast.memory.ring.fence", lambda: seen.append(reader._table[WORDS + GENERATION]))
        ring.begin(1)
        assert seen == [1], "the fence comes after the odd generation"


def test_the_second_look_is_after_the_pixels(monkeypatch: pytest.MonkeyPatch):
    with ring_and_reader() as (ring, reader):
        ring.begin(1)
        whole = ring.commit(1, 0, 8)
        assert reader.generation(1) == whole
        # What another processor does while the pixels are loaded.
        monkeypatch.setattr("scopecast.memory.ring.fence", lambda: ring._table.__setitem__(WORDS + GENERATION, 3))
        assert reader.generation(1) == 3, "the generation is loaded after the fence"


def test_a_generation_is_odd_while_the_slot_is_written():
    with ring_and_reader() as (ring, reader):
        assert reader.generation(1) == 0
        ring.begin(1)
        assert reader.generation(1) == ring.generation(1) == 1
        assert ring.commit(1, 17, 8) == reader.generation(1) == 2
        ring.begin(1)
        assert reader.generation(1) == 3
        ring.abort(1)
        assert reader.generation(1) == 4
        ring.abort(1)  # a slot that is not being written stays as it is
        assert reader.generation(1) == 4
        assert [reader.generation(slot) for slot in (0, 2)] == [0, 0]


@pytest.mark.needs("/dev/shm")
def test_the_slot_table_says_what_lies_where():
    with ring_and_reader() as (ring, _reader):
        ring.begin(2)
        ring.commit(2, 17, 8, 1_000_000, (b"stream", b"frame"))
        with (SHM / ring.name).open("rb") as file:
            file.seek(SMALL.table + 2 * 64)
            assert struct.unpack("=8Q", file.read(64)) == (2, 17, 8, 1_000_000, 0, 0, 0, 0)
            file.seek(SMALL.total + 2 * CAPTION_BYTES)
            assert file.read(19) == struct.pack("=II", 6, 5) + b"streamframe"


# ---- captions ----------------------------------------------------------------------------------------------------


def test_a_caption_is_that_of_the_last_frame():
    with ring_and_reader() as (ring, reader):
        assert reader.newest_ns == 0
        assert reader.caption(1) is None, "nothing was there yet"
        for caption in (b"long stream", b"long frame"), (b"a", b"b"):
            ring.begin(1)
            ring.commit(1, 0, 8, 5, caption)
            assert reader.caption(1) == caption
        assert reader.newest_ns == 5
        for too_long in (0, 1):
            ring.begin(1)
            ring.commit(1, 1, 8, 6, (bytes(MAX_CAPTION - 1 + too_long), b"b"))
            assert reader.caption(1) == (None if too_long else (bytes(MAX_CAPTION - 1), b"b"))


@pytest.mark.fault("H3")
@pytest.mark.needs("/dev/shm")
@pytest.mark.parametrize("lengths", [(2**32 - 1, 1), (1, 2**32 - 1), (MAX_CAPTION, 1), (0, 5)])
def test_lengths_that_are_wrong_are_no_caption(lengths: tuple[int, int]):
    with ring_and_reader() as (ring, reader):
        with (SHM / ring.name).open("r+b") as file:
            file.seek(SMALL.total + 2 * CAPTION_BYTES)
            file.write(struct.pack("=II", *lengths))
        assert reader.caption(2) is None


@pytest.mark.fault("R7")
@pytest.mark.needs("/dev/shm")
def test_a_ring_without_captions_or_with_a_part_of_them_has_none():
    token = new_token()
    ring = Ring(f"test_{token}_0", SMALL, token, 0)
    ring.begin(0)
    ring.commit(0, 0, 8, 5, (b"a", b"b"))
    with RingReader(ring.name, token, None) as mapped:
        os.truncate(SHM / ring.name, SMALL.total + PAGE)
        assert (mapped.caption(0), mapped.newest_ns) == (None, 0), "to look there would kill this process"
    with RingReader(ring.name, token, None) as reader:
        assert reader.caption(0) is None
    ring.close()


# ---- headers -----------------------------------------------------------------------------------------------------

FIELDS = {
    "magic": (0, b"scopcasT", "is not a ring of version 1"),
    "version": (24, 2, r"is not a ring of version 1 .*version 2"),
    "token": (8, b"abcdefg1" + bytes(8), "another publisher's"),
    "longer token": (16, b"x" + bytes(7), "another publisher's"),
    "epoch": (32, 5, r"older one \(epoch 5, expected 4\)"),
    "state": (80, 0, "is not complete yet"),
    "no slots": (40, 0, "impossible sizes"),
    "too many slots": (40, MAX_SLOTS + 1, "impossible sizes"),
    "slots by 2^64": (40, 2**64 - 1, "impossible sizes"),
    "no slot bytes": (48, 0, "impossible sizes"),
    "odd slot bytes": (48, 4 * PAGE + 1, "impossible sizes"),
    "huge slot bytes": (48, 2**40 + PAGE, "impossible sizes"),
    "one slot more": (40, 4, "laid out in another way"),
    "larger slots": (48, 5 * PAGE, "laid out in another way"),
    "table": (56, 2 * PAGE, "laid out in another way"),
    "pixels": (64, PAGE, "laid out in another way"),
    "total": (72, SMALL.total - 1, "laid out in another way"),
}


@pytest.mark.fault("H3")
@pytest.mark.parametrize(("offset", "value", "problem"), FIELDS.values(), ids=FIELDS)
@pytest.mark.needs("/dev/shm")
def test_a_header_that_is_wrong_is_refused(offset: int, value: int | bytes, problem: str):
    token = new_token()
    ring = Ring(f"test_{token}_0", SMALL, token, 4)
    with (SHM / ring.name).open("r+b") as file:
        file.seek(offset)
        file.write(value if isinstance(value, bytes) else struct.pack("=Q", value))
    with pytest.raises(SharedMemoryError, match=problem):
        RingReader(ring.name, token, 4)
    assert (SHM / ring.name).exists()
    ring.close()


@pytest.mark.fault("R7", "H3")
@pytest.mark.needs("/dev/shm")
def test_a_segment_that_is_shorter_than_its_header_says_is_refused():
    token = new_token()
    ring = Ring(f"test_{token}_0", SMALL, token, 0)
    os.truncate(SHM / ring.name, SMALL.total - PAGE)
    with pytest.raises(SharedMemoryError, match=f"truncated .{SMALL.total - PAGE} of {SMALL.total} bytes"):
        RingReader(ring.name, token, 0)
    ring.close()


@pytest.mark.fault("H3")
@pytest.mark.needs("/dev/shm")
def test_sizes_that_agree_with_each_other_but_not_with_the_segment_are_refused():
    token = new_token()
    ring = Ring(f"test_{token}_0", SMALL, token, 0)
    lie = RingLayout(MAX_SLOTS, 2**40)
    with (SHM / ring.name).open("r+b") as file:
        file.seek(40)
        file.write(struct.pack("=5Q", *lie, lie.table, lie.pixels, lie.total))
    with pytest.raises(SharedMemoryError, match="is truncated"):
        RingReader(ring.name, token, 0)
    ring.close()


@pytest.mark.fault("P9")
@pytest.mark.parametrize(("token", "epoch"), [("zzzzzzzz", 4), (None, 3)], ids=["token", "epoch"])
def test_a_ring_that_is_not_the_announced_one_is_refused(token: str | None, epoch: int):
    own = new_token()
    ring = Ring(f"test_{own}_0", SMALL, own, 4)
    with pytest.raises(SharedMemoryError, match="another publisher's or an older one"):
        RingReader(ring.name, token or own, epoch)
    ring.close()


@pytest.mark.needs("/dev/shm")
@pytest.mark.fault("R7")
def test_what_another_has_truncated_is_not_read():
    token = new_token()
    ring = Ring(f"test_{token}_0", SMALL, token, 0)
    reader = RingReader(ring.name, token, 0)
    reader.view(0, (4, 4), np.dtype("u1"))
    os.truncate(f"/dev/shm/{ring.name}", 4096)
    with pytest.raises(SharedMemoryError, match="truncated by another program"):
        reader.view(0, (4, 4), np.dtype("u1"))
    reader.close()
    ring.close()


@pytest.mark.needs("/dev/shm")
def test_gigabytes_of_nothing_take_no_memory():
    token = new_token()
    path = Path(f"/dev/shm/test_{token}_0")
    path.touch(0o600)
    try:
        os.truncate(path, 3 * 2**30)
        with pytest.raises(SharedMemoryError, match="is not a ring"):
            RingReader(path.name, token, 0)
        assert path.stat().st_blocks * 512 <= 2**21  # the header's page, which may be a huge one
    finally:
        path.unlink()


# ---- what a message may ask for ----------------------------------------------------------------------------------

WILD = st.one_of(st.integers(-(2**64), 2**64), st.integers(-2, 300), st.sampled_from([2**31, 2**32, 2**63, 2**64]))
DTYPES = st.sampled_from([np.dtype(name) for name in sorted(SHOWABLE)])


@pytest.mark.fault("H3")
@given(slot=WILD, shape=st.lists(WILD, max_size=4), dtype=DTYPES)
@example(slot=0, shape=[2**32, 2**32, 2], dtype=np.dtype("u1"))  # np.prod of it is 0
@example(slot=0, shape=[2**62 + 1, 4], dtype=np.dtype("u1"))  # in 64 bits it is 4
@example(slot=-1, shape=[1, 1], dtype=np.dtype("u1"))
@example(slot=3, shape=[1, 1], dtype=np.dtype("u1"))
@example(slot=0, shape=[-1, -1], dtype=np.dtype("u1"))
@example(slot=0, shape=[0, 2**64], dtype=np.dtype("u1"))
@example(slot=2, shape=[4, PAGE], dtype=np.dtype("u1"))
@example(slot=2, shape=[4, PAGE + 1], dtype=np.dtype("u1"))
@example(slot=2, shape=[1, PAGE], dtype=np.dtype("c16"))
def test_no_slot_or_shape_leads_outside_the_slot(slot: int, shape: list[int], dtype: np.dtype[Any]):
    with ring_and_reader() as (_ring, reader):
        fits = 0 <= slot < 3 and all(extent > 0 for extent in shape)
        fits = fits and math.prod(shape) * dtype.itemsize <= SMALL.slot_bytes
        if not fits:
            with pytest.raises(ValueError, match=r"outside the ring|does not fit a slot"):
                reader.view(slot, shape, dtype)
            return
        view = reader.view(slot, shape, dtype)
        assert view.shape == tuple(shape)
        start = reader.view(0, (1,), np.dtype("u1")).ctypes.data + slot * SMALL.slot_bytes
        assert start <= view.ctypes.data
        assert view.ctypes.data + view.nbytes <= start + SMALL.slot_bytes
        assert not view.any()


# ---- layouts -----------------------------------------------------------------------------------------------------


@example(frame=1, budget=2105344)
@given(frame=st.integers(1, 2**34), budget=st.integers(0, 2**34))
@example(frame=1, budget=RingLayout(MIN_SLOTS, PAGE).size)
@example(frame=1, budget=RingLayout(MIN_SLOTS, PAGE).size - 1)
@example(frame=PAGE, budget=64 * 2**20)
@example(frame=512 * 512 * 2, budget=64 * 2**20)
def test_a_layout_keeps_to_its_budget(frame: int, budget: int):
    layout = plan_layout(frame, budget)
    needed = RingLayout(MIN_SLOTS, -(-frame // PAGE) * PAGE).size
    if layout is None:
        assert needed > budget
        return
    assert needed <= layout.size <= budget
    assert MIN_SLOTS <= layout.slots <= MAX_SLOTS
    assert layout.slot_bytes >= frame
    assert layout.slot_bytes % PAGE == layout.pixels % PAGE == 0
    assert layout.table + layout.slots * 64 <= layout.pixels
    assert layout.pixels + layout.slots * layout.slot_bytes == layout.total
    assert layout.total + layout.slots * CAPTION_BYTES == layout.size


@given(frame=st.integers(1, 16 * 2**20))
def test_with_the_usual_budget_there_are_32_slots_and_at_least_64_mebibytes(frame: int):
    assume(32 * (frame + PAGE) < 512 * 2**20 - 2 * PAGE)
    layout = plan_layout(frame, 512 * 2**20)
    assert layout is not None
    assert layout.slots >= 32
    assert layout.total > 64 * 2**20 - max(layout.slot_bytes, MAX_SLOTS * PAGE)


# ---- closing -----------------------------------------------------------------------------------------------------


def test_closing_is_idempotent_and_leaves_arrays_alone():
    token = new_token()
    ring = Ring(f"test_{token}_0", SMALL, token, 0)
    reader = RingReader(ring.name, token, 0)
    mine, theirs = ring.array(0, (3, 3), np.dtype("u1")), reader.view(0, (3, 3), np.dtype("u1"))
    for _ in range(2):
        ring.close()
        reader.close()
    mine[:] = 6
    assert np.all(theirs == 6)
    assert not (SHM / ring.name).exists()


class RingMachine(RuleBasedStateMachine):
    """A writer, and readers that have no lease: what they accept is what was announced, whole."""

    SHAPE = (8, 8)
    SLOTS = 4

    def __init__(self) -> None:
        super().__init__()
        self.token = new_token()
        self.epoch = -1
        self.rings: list[Ring] = []  # the current one first
        self.readers: list[tuple[Ring, RingReader]] = []
        self.truth: dict[tuple[int, int], tuple[int, int | None]] = {}  # place -> generation, value if it is whole
        self.looks: list[tuple[Ring, RingReader, int, int, int | None]] = []
        self.numbers = itertools.count(1)
        self.make_anew()

    def value(self) -> int:
        return next(self.numbers) % 65536

    @rule()
    def make_anew(self):
        """A ring takes another one's place; who has the old one mapped goes on reading it."""
        if self.epoch < 6:
            self.epoch += 1
            name = f"test_{self.token}_{self.epoch}"
            ring = Ring(name, RingLayout(self.SLOTS, 4096), self.token, self.epoch)
            if self.rings:
                self.rings[0].unlink()
                with pytest.raises(SharedMemoryError):
                    RingReader(self.rings[0].name, self.token, self.epoch - 1)
            self.rings.insert(0, ring)
            self.truth.update({(self.epoch, slot): (0, None) for slot in range(self.SLOTS)})

    @rule()
    def attach(self):
        ring = self.rings[0]
        with pytest.raises(SharedMemoryError):
            RingReader(ring.name, self.token, ring.epoch + 1)
        if len(self.readers) < 4:
            self.readers.append((ring, RingReader(ring.name, self.token, ring.epoch)))

    @rule(slot=st.integers(0, SLOTS - 1), half=st.booleans())
    def begin(self, slot, half):
        ring = self.rings[0]
        generation, _ = self.truth[ring.epoch, slot]
        if generation % 2 == 0:
            ring.begin(slot)
            pixels = ring.array(slot, self.SHAPE, np.dtype("uint16"))
            pixels[: 4 if half else 8] = self.value()
            self.truth[ring.epoch, slot] = generation + 1, None

    @rule(slot=st.integers(0, SLOTS - 1), aborts=st.booleans())
    def finish(self, slot, aborts):
        ring = self.rings[0]
        generation, _ = self.truth[ring.epoch, slot]
        if generation % 2 == 1:
            value = self.value()
            if aborts:
                ring.abort(slot)
                self.truth[ring.epoch, slot] = generation + 1, None
            else:
                ring.array(slot, self.SHAPE, np.dtype("uint16"))[:] = value
                assert ring.commit(slot, value, 128) == generation + 1
                self.truth[ring.epoch, slot] = generation + 1, value

    @rule(data=st.data(), slot=st.integers(0, SLOTS - 1))
    def look(self, data, slot):
        """A reader was told of a frame, and begins to copy it."""
        if self.readers:
            ring, reader = data.draw(st.sampled_from(self.readers))
            generation, value = self.truth[ring.epoch, slot]
            if value is not None:
                self.looks.append((ring, reader, slot, generation, value))

    @rule(data=st.data())
    def copy(self, data):
        """It copies, and accepts the copy if the generation is the one that it was told of."""
        if self.looks:
            found = data.draw(st.integers(0, len(self.looks) - 1))
            ring, reader, slot, generation, value = self.looks.pop(found)
            plane = reader.view(slot, self.SHAPE, np.dtype("uint16")).copy()
            accepted = reader.generation(slot) == generation
            assert accepted == (self.truth[ring.epoch, slot][0] == generation)
            if accepted:
                assert (plane == value).all(), "a frame was accepted that is not the one announced"

    @invariant()
    def generations_agree(self):
        for ring in self.rings:
            for slot in range(self.SLOTS):
                assert ring.generation(slot) == self.truth[ring.epoch, slot][0]
        for ring, reader in self.readers:
            for slot in range(self.SLOTS):
                assert reader.generation(slot) == ring.generation(slot)

    def teardown(self):
        for _, reader in self.readers:
            reader.close()
        for ring in self.rings:
            ring.close()


RingMachine.TestCase.settings = settings(stateful_step_count=40)


@pytest.mark.fault("D5", "P1", "P9")
@pytest.mark.needs("removal of segments")
class TestRingMachine(RingMachine.TestCase):  # type: ignore[misc,name-defined]
    """A reader without a lease never accepts what was not announced, in any order of events, over several rings."""


@pytest.mark.needs("/dev/shm")
def test_a_ring_of_which_another_has_cut_off_the_end_does_not_grow():
    token = new_token()
    ring = Ring(f"test_{token}_0", RingLayout(64, 2**20), token, 0, 16)
    try:
        assert ring.can_grow
        assert ring.grow() == 8
        os.truncate(f"/dev/shm/{ring.name}", ring.layout.pixels)
        assert not ring.can_grow
    finally:
        ring.close()
