"""A channel of a stack as napari's data: extent, indices and copies, against an ordinary array."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from scopecast_viewers.napari.data import LayerData
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.stack import Stack

KEYS = [
    (3, 1),
    (slice(None), 0),
    (slice(3, 4), slice(1, 2)),
    (0, slice(None), 2),
    (slice(None), slice(None)),
    (-1, -2, slice(1, 3), slice(None)),
    (slice(2, 2), 0),
    (..., 0, 0),
    (slice(None, None, 2), 1, ..., 3),
]


@pytest.fixture
def stack():
    with History(1 << 20, None) as history:
        stack = Stack(("t", "c"), (4, 6), "uint16", history)
        for t in (2, 3, 5):
            stack.put((t, 1), np.full((4, 6), t, "uint16"))
        yield stack


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_an_axis_that_the_stack_lacks_has_the_same_planes_everywhere_as_far_as_it_is_to_reach(stack, key):
    data = LayerData(stack, {"c": 1}, ("t", "z"))
    assert data.stretch({"z": (1, 3), "t": (0, 4), "c": (0, 9)})
    assert not data.stretch({"z": (1, 3), "t": (0, 4), "c": (0, 9)})
    assert (data.origin, data.shape) == ((0, 1), (6, 3, 4, 6))
    model = np.zeros((6, 3, 4, 6), "uint16")
    for t in (2, 3, 5):
        model[t] = t
    assert np.array_equal(data[key], model[key])
    assert data[key].shape == model[key].shape
    with pytest.raises(IndexError):
        data[0, 3]


def test_what_stands_in_is_in_no_copy(stack):
    data = LayerData(stack, {"c": 1}, ("t",))
    data.stand_in = (5, 1)
    assert data[2][0, 0] == 4 + data.origin[0] - 1 == 5, "alone, the newest stands in for t = 4"
    assert data.shown_at((4, 1)) == (5, 1)
    assert data.shown_at((3, 1)) == (3, 1)
    for whole in (np.asarray(data), copy.deepcopy(data), data.astype(float), data[:3]):
        assert not whole[2].any()
    data.always = True
    assert data[0][0, 0] == 5
    assert data.shown_at((3, 1)) == (5, 1)
    data.stand_in = None
    assert data[0][0, 0] == 2


def test_a_copy_that_memory_has_no_room_for_is_refused_in_a_sentence(stack):
    stack.put((100_000_000_000, 1), np.zeros((4, 6), "uint16"))
    data = LayerData(stack, {"c": 1}, ("t",))
    with pytest.raises(MemoryError, match=r"a copy of this layer takes .* GiB of memory, and .* are free"):
        copy.deepcopy(data)


def test_an_announced_end_before_the_first_index_does_not_count(stack):
    stack.put((1_700_000_000, 1), np.zeros((4, 6), "uint16"))
    late = Stack(("t",), (4, 6), "uint16", stack.history)
    late.put((1_700_000_000,), np.zeros((4, 6), "uint16"))
    assert LayerData(late, {}, ("t",), {"t": 20}).shape[0] == 1
    assert LayerData(stack, {"c": 1}, ("t",), {"t": 20}).origin == (0,)
