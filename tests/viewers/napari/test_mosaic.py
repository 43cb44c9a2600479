"""The fields of a channel as one array, against an ordinary one."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from scopecast_viewers.napari import mosaic
from scopecast_viewers.napari.mosaic import Mosaic, Window
from scopecast_viewers.napari.stage_layout import Field, arrange
from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.plane import Tag
from scopecast_viewers.stacks.stack import Stack

AXES = ("t", "p", "c", "g")
SHAPE = (6, 5)
PIXEL = (2.0, 3.0)


class Model:
    """A stack of three positions with two overlapping fields each, and what it is to look like."""

    def __init__(self, history, shape=SHAPE):
        self.stack = Stack(AXES, shape, "uint16", history)
        self.shape, self.sent = shape, 0
        self.fields = {
            (("p", p), ("g", g)): Field((5000.0 * p, 2000.0 * p + 2 * PIXEL[1] * g), (12.0, 15.0))
            for p in range(3)
            for g in range(2)
        }
        self.layout = arrange(self.fields)

    def put(self, t, p, g, c=1):
        self.sent += 1
        plane = np.random.default_rng(self.sent).integers(1, 60000, self.shape, "uint16")
        self.stack.put((t, p, c, g), plane, Tag(self.sent, 0, "", ()))

    def data(self):
        made = Mosaic(self.stack, {"c": 1}, ("t",), {}, self.layout, PIXEL)
        made.advance(self.stack.layout)
        return made

    def whole(self, index_of):
        """Return the picture whose field at (p, g) is that at an index of the stack."""
        corners = {
            place: [round(at / by) for at, by in zip(corner, PIXEL, strict=True)]
            for place, corner in self.layout.corners.items()
        }
        size = [max(at[axis] for at in corners.values()) + self.shape[axis] for axis in (0, 1)]
        made = np.zeros((*size, *self.shape[2:]), "uint16")
        for ((_, p), (_, g)), (y, x) in corners.items():
            plane = self.stack.plane(index_of(p, g))
            made[y : y + self.shape[0], x : x + self.shape[1]] = 0 if plane is None else plane
        return made


@pytest.fixture
def history():
    with History(1 << 20, None) as made:
        yield made


def put_all(model, times):
    for t in times:
        for p in range(3):
            for g in range(2):
                model.put(t, p, g)
                model.put(t, p, g, c=0)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("shape", [SHAPE, (6, 5, 3)], ids=["gray", "colour"])
def test_each_field_lies_in_its_place(history, monkeypatch, every, shape):
    model = Model(history, shape)
    put_all(model, range(2, 4))
    size = model.whole(lambda p, g: (2, p, 1, g)).shape
    monkeypatch.setattr(mosaic, "MOST_PIXELS", -(-max(size[:2]) // every))
    data = model.data()
    assert data.every == every
    wholes = [model.whole(lambda p, g, t=t: (t, p, 1, g))[::every, ::every] for t in (2, 3)]
    assert data.shape == (2, *wholes[0].shape)
    for t in (0, 1, 0):
        np.testing.assert_array_equal(data[t], wholes[t])
        np.testing.assert_array_equal(data[t, 1:9:2, 3], wholes[t][1:9:2, 3])
    np.testing.assert_array_equal(data[:], wholes)
    np.testing.assert_array_equal(copy.deepcopy(data), wholes)
    with pytest.raises(IndexError):
        data[2]


def test_what_is_put_anew_is_seen_and_what_was_read_does_not_change(history):
    model = Model(history)
    put_all(model, [0])
    data = model.data()
    before = data[0]
    kept = before.copy()
    model.put(0, 1, 0)
    np.testing.assert_array_equal(data[0], model.whole(lambda p, g: (0, p, 1, g)))
    np.testing.assert_array_equal(before, kept)


def test_fields_stand_in_with_their_newest_until_their_own_has_come(history):
    model = Model(history)
    put_all(model, range(2))
    model.put(2, 0, 0)
    model.put(2, 0, 1)
    data = model.data()
    gaps = model.whole(lambda p, g: (2, p, 1, g))
    np.testing.assert_array_equal(data[2], gaps)
    data.stand_in = (2, 0, 1, 1)
    filled = model.whole(lambda p, g: (2 if p == 0 else 1, p, 1, g))
    np.testing.assert_array_equal(data[2], filled)
    assert data.place({"t": 2}) == (2, 0, 1, 1), "the newest frame that is shown"
    data.stand_in = None
    np.testing.assert_array_equal(data[2], gaps)
    np.testing.assert_array_equal(data[1], model.whole(lambda p, g: (1, p, 1, g)))
    assert data.shown_at(data.place({"t": 1})) == (1, 2, 1, 1)
    assert data.shown_at(data.place({"t": 7})) is None


def test_the_picture_goes_ahead_of_the_sliders(history):
    model = Model(history)
    put_all(model, range(2))
    data = model.data()
    data.ahead = {"t": 1, "p": 2, "g": 0}
    np.testing.assert_array_equal(data[0], model.whole(lambda p, g: (1, p, 1, g)))
    data.ahead = None
    np.testing.assert_array_equal(data[0], model.whole(lambda p, g: (0, p, 1, g)))


def test_a_picture_that_is_held_stays(history):
    model = Model(history)
    put_all(model, [0])
    data = model.data()
    before = data[0]
    data.keep(data.place({"t": 0}))
    model.put(0, 2, 1)
    np.testing.assert_array_equal(data[0], before)
    data.let_go()
    np.testing.assert_array_equal(data[0], model.whole(lambda p, g: (0, p, 1, g)))


def test_only_fields_that_have_changed_are_read(history, monkeypatch):
    model = Model(history)
    put_all(model, range(50))
    data = model.data()
    read = []
    original = Stack.read

    def count(stack, layout, index):
        read.append(index)
        return original(stack, layout, index)

    monkeypatch.setattr(Stack, "read", count)
    data[49]
    assert len(read) == 6
    model.put(49, 1, 1)
    data[49]
    data[49]
    assert read[6:] == [(49, 1, 1, 1)]


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("shape", [SHAPE, (6, 5, 3)], ids=["gray", "colour"])
def test_a_part_has_the_pixels_that_the_whole_has_there(history, every, shape):
    model = Model(history, shape)
    put_all(model, range(2))
    data = model.data()
    whole = [model.whole(lambda p, g, t=t: (t, p, 1, g)) for t in range(2)]
    assert data.window == data.whole == Window((0, 0), whole[0].shape[:2], 1)
    rng = np.random.default_rng(every)
    for _ in range(60):
        low = tuple(int(rng.integers(extent)) for extent in whole[0].shape[:2])
        high = tuple(int(rng.integers(at, extent)) + 1 for at, extent in zip(low, whole[0].shape[:2], strict=True))
        window = Window(low, high, every)
        assert data.look_at(window)
        assert not data.look_at(window)
        part = (slice(low[0], high[0], every), slice(low[1], high[1], every))
        for t in range(2):
            np.testing.assert_array_equal(data[t], whole[t][part])
    model.put(0, 1, 0)
    np.testing.assert_array_equal(data[0], model.whole(lambda p, g: (0, p, 1, g))[part])
    assert data.look_at(data.whole)
    np.testing.assert_array_equal(data[1], whole[1])


def test_the_field_under_a_pixel_of_a_part_is_found(history):
    model = Model(history)
    put_all(model, [0])
    data = model.data()
    y, x = (round(at / by) for at, by in zip(model.layout.corners[(("p", 1), ("g", 1))], PIXEL, strict=True))
    for window in (data.whole, Window((y - 1, x - 2), (y + 4, x + 4), 1), Window((y, x - 3), (y + 6, x + 5), 2)):
        data.look_at(window)
        under = (np.array([y + 2, x + 3]) - window.low) / window.every
        index, tag, corner = data.field_under({"t": 0}, under)
        assert index == (0, 1, 1, 1)
        assert tag is model.stack.tag(index)
        assert tuple(under * window.every - corner) == (2, 3), "in the field's own pixels"


def test_a_part_of_a_picture_that_is_held_is_held(history):
    model = Model(history)
    put_all(model, [0])
    data = model.data()
    data.stand_in = (0, 2, 1, 1)
    data.always = True
    before = data[0]
    data.keep(data.place({"t": 0}))
    put_all(model, [1])
    data.advance(model.stack.layout)
    data.look_at(Window((0, 1), data.whole.high, 1))
    np.testing.assert_array_equal(data[0], before[:, 1:])
    data.let_go()
    np.testing.assert_array_equal(data[0], model.whole(lambda p, g: (1, p, 1, g))[:, 1:])


def test_a_part_stays_where_it_is_while_fields_come_before_it(history):
    model = Model(history)
    put_all(model, [0])
    fields = {
        place: Field((field.corner[0] % 13, field.corner[1] % 11), field.size) for place, field in model.fields.items()
    }
    data = Mosaic(model.stack, {"c": 1}, ("t",), {}, arrange(dict(list(fields.items())[:4])), PIXEL)
    data.advance(model.stack.layout)
    low = data.stage_layout.origin
    data.look_at(Window((1, 1), (4, 5), 1))
    fields[(("p", 2), ("g", 1))] = Field((low[0] - 4 * PIXEL[0], low[1] - 2 * PIXEL[1]), (12.0, 15.0))
    data.lay_out(arrange(fields), PIXEL)
    assert data.window == Window((5, 3), (8, 7), 1)
