"""The shared memory of Windows, as far as it runs anywhere: the standard library's, with names that nobody removes."""

from __future__ import annotations

import contextlib
import errno
import gc
import select
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING

import numpy as np
import pytest

from receivers import Viewer, check_stamp, stamped
from scopecast import Publisher
from scopecast.errors import SharedMemoryError
from scopecast.memory import windows as named_memory
from scopecast.memory.ring import Ring, RingLayout, RingReader
from scopecast.memory.segment import PAGE, Segment, free_bytes, own_bytes, unlink_segment
from scopecast.rundir.directory import new_token
from systems import HAS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def names() -> Iterator[list[str]]:
    """Names of segments, which are removed at the end: elsewhere they do not go with their last handle."""
    made: list[str] = []
    yield made
    gc.collect()
    for name in made:
        with contextlib.suppress(FileNotFoundError):
            left = SharedMemory(name=name)
            left.close()
            left.unlink()


@pytest.fixture
def name(names: list[str]) -> str:
    names.append(f"test_{new_token()}_0")
    return names[0]


@pytest.fixture(autouse=True)
def as_on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scopecast.memory.segment.system", named_memory)


def test_what_is_written_is_read(name: str):
    segment = Segment.create(name, 3 * PAGE)
    reader = Segment.attach(name)
    assert not np.frombuffer(reader.memory, np.uint8).any()
    np.frombuffer(segment.memory, np.uint8)[:] = 7
    assert reader.size == 3 * PAGE
    assert np.all(np.frombuffer(reader.memory, np.uint8) == 7)
    with pytest.raises(TypeError, match="read-only"):
        reader.memory[0] = 1
    assert own_bytes(name) == 3 * PAGE
    assert free_bytes() is None
    assert segment.whole
    assert segment.named
    for each in (reader, segment, reader, segment):
        each.close()


def test_a_name_that_is_taken_or_unknown(name: str):
    segment = Segment.create(name, PAGE)
    with pytest.raises(SharedMemoryError, match="the name is taken") as caught:
        Segment.create(name, PAGE)
    assert caught.value.errno == errno.EEXIST
    segment.close()
    unknown = f"test_{new_token()}_0"
    with pytest.raises(SharedMemoryError, match=f"cannot open the segment {unknown}") as caught:
        Segment.attach(unknown)
    assert caught.value.errno == errno.ENOENT
    assert own_bytes(unknown) is None
    assert not unlink_segment(unknown)


def test_arrays_that_outlive_a_closed_segment_are_safe_to_touch(name: str):
    segment = Segment.create(name, 1 << 20)
    reader = Segment.attach(name)
    written, read = (np.frombuffer(each.memory, np.uint8) for each in (segment, reader))
    segment.close()
    reader.close()
    del segment, reader
    gc.collect()  # nothing is said of the mappings that the arrays keep
    written[:] = 3
    assert int(read.sum()) == 3 << 20


def test_a_ring_of_another_token_is_refused(name: str):
    """Such a mapping has no owner to ask for: what counts is the header."""
    token = name.split("_")[1]
    ring = Ring(name, RingLayout(4, PAGE), token, 0)
    with pytest.raises(SharedMemoryError, match="another publisher's"):
        RingReader(name, new_token(), 0)
    RingReader(name, token, 0).close()
    ring.close()
    other = Segment.create(name.replace("_0", "_1"), PAGE * 4)
    with pytest.raises(SharedMemoryError, match="is not a ring"):
        RingReader(name.replace("_0", "_1"), token, 0)
    other.close()
    if HAS["/dev/shm"]:  # elsewhere it goes with its last handle
        SharedMemory(name=name.replace("_0", "_1")).unlink()


def test_a_whole_stream_as_on_windows(names: list[str], monkeypatch: pytest.MonkeyPatch):
    """By tcp, through named mappings, waited for by select(): all of it but the system itself."""
    monkeypatch.setenv("SCOPECAST_TRANSPORT", "tcp")
    monkeypatch.delattr(select, "poll", raising=False)
    with Viewer() as viewer, Publisher("headless", policy="every", budget=2**23) as publisher:
        for t in range(30):
            publisher.publish(stamped(t), axes={"t": t})
        names.append(publisher.session.slots.ring.name)
        large = stamped(30, shape=(512, 512))
        publisher.publish(large, axes={"t": 30})  # a new ring, while the old one is still mapped
        names.append(publisher.session.slots.ring.name)
        assert names[0] != names[1]
        assert publisher.flush(20)
        small, wide = viewer.streams[0].stacks
        assert sorted(check_stamp(small.plane(index))[0] for index in small.layout.planes) == list(range(30))
        assert check_stamp(wide.plane((30,)))[0] == 30
        assert publisher.session.keeper.errors == 0
        assert publisher.stats().balanced
