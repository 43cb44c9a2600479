import math
import threading
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from scopecast_viewers.stacks.history import History
from scopecast_viewers.stacks.pool import PlanePool
from scopecast_viewers.stacks.scratch import Scratch
from scopecast_viewers.stacks.stack import Stack

DEADLINE = 60.0


@pytest.fixture
def history():
    with History(1 << 20, None) as history:
        yield history


def plane(value, shape=(4, 6), dtype=np.uint16):
    return np.full(shape, value, dtype)


def wait_for_the_disk(history):
    end = time.monotonic() + DEADLINE
    tick = threading.Event()
    while history.stats().resident_bytes > history.budget:
        assert time.monotonic() < end, "not in time"
        tick.wait(0.0005)


def wait_for(threads):
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


class WatchedStack(Stack):
    """A stack that notes what else is known of it at the moment at which its version grows."""

    def __init__(self, *arguments):
        self.known = []
        super().__init__(*arguments)

    @property
    def version(self):
        return self._version

    @version.setter
    def version(self, number):
        self._version = number
        if number:
            extent = [range(low, low + count) for low, count in zip(self.layout.origin, self.layout.shape, strict=True)]
            places = self.newest, self.latest(0), self.latest_at({"c": 0})
            self.known.append((*places, self.newest in self.layout.planes, extent))


def test_who_sees_a_new_version_sees_all_that_is_new_with_it(history):
    stack = WatchedStack(("t", "c"), (4, 6), np.dtype("uint16"), history)
    stack.put((3, 0), plane(1))
    stack.put((5, 0), plane(2))
    stack.add_axis("z", 1)
    assert stack.known == [
        ((3, 0), (3, 0), (3, 0), True, [range(3, 4), range(1)]),
        ((5, 0), (5, 0), (5, 0), True, [range(3, 6), range(1)]),
        ((5, 0, 0), (5, 0, 0), (5, 0, 0), True, [range(3, 6), range(1), range(1)]),
    ]


# ---- against an ordinary array


@st.composite
def histories_of_puts(draw):
    ndim = draw(st.integers(0, 3))
    index = st.tuples(*[st.integers(0, 4)] * ndim)
    offset = draw(st.tuples(*[st.sampled_from([0, 1, 17])] * ndim))
    puts = draw(st.lists(index, min_size=1, max_size=12))
    shape = draw(st.sampled_from([(3, 4), (2, 3, 3), (1, 2, 4), (1, 1)]))
    dtype = draw(st.sampled_from(["uint8", "uint16", "float32", "bool"]))
    return offset, puts, shape, dtype, draw(st.sampled_from([0, 24, 1000]))


@given(histories_of_puts(), st.data())
def test_a_view_answers_to_any_basic_index_as_an_array(drawn, data):
    offset, puts, shape, dtype, budget = drawn
    rng = np.random.default_rng(len(puts))
    with History(budget, Scratch()) as history:
        stack = Stack(tuple("tcz"[: len(offset)]), shape, dtype, history)
        dense = np.zeros((30,) * len(offset) + shape, dtype)
        for at in puts:
            index = tuple(map(sum, zip(at, offset, strict=True)))
            dense[index] = rng.integers(0, 250, shape).astype(dtype)
            stack.put(index, dense[index].copy())
            wait_for_the_disk(history)
        places = np.array(puts).reshape(len(puts), len(offset)) + np.array(offset, int).reshape(1, -1)
        low, high = places.min(0), places.max(0)
        model = dense[tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))]
        view = stack.view()

        assert stack.origin == tuple(low)
        assert stack.full_shape == view.shape == model.shape
        assert (view.ndim, view.size, len(view), view.dtype) == (model.ndim, model.size, len(model), model.dtype)
        assert stack.count == len(set(puts))
        np.testing.assert_array_equal(np.asarray(view), model)
        for _ in range(5):
            key = data.draw(npst.basic_indices(model.shape, allow_ellipsis=True))
            got = view[key]
            np.testing.assert_array_equal(got, model[key], strict=isinstance(got, np.ndarray))
            assert got.dtype == model.dtype
        if offset:
            name = data.draw(st.sampled_from(stack.axes))
            number = data.draw(st.integers(0, 25))
            position = stack.axes.index(name)
            part = np.take(dense, number, position)
            bounds = [slice(a, b + 1) for a, b in zip(low, high, strict=True)]
            del bounds[position]
            fixed = stack.view({name: number})
            assert fixed.shape == part[tuple(bounds)].shape
            np.testing.assert_array_equal(np.asarray(fixed), part[tuple(bounds)])


@pytest.fixture
def filled(history):
    stack = Stack(("t", "z"), (4, 6), np.uint16, history)
    model = np.arange(2 * 3 * 4 * 6, dtype=np.uint16).reshape(2, 3, 4, 6)
    for t in range(2):
        for z in range(3):
            stack.put((t, z), model[t, z])
    return stack.view(), model


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(([0, 1], 2), id="list"),
        pytest.param((slice(None), np.array([2, 0])), id="array"),
        pytest.param(np.array([True, False]), id="mask"),
        pytest.param(True, id="bool"),
        pytest.param((np.int64(1), np.uint8(2)), id="numpy-ints"),
        pytest.param((np.array(1), ...), id="0-d"),
        pytest.param((None, 0), id="new-axis"),
        pytest.param((slice(None, None, -1), slice(2, None, -2), slice(3, 0, -1)), id="backwards"),
        pytest.param((slice(np.int64(1), 7),), id="numpy-slice"),
        pytest.param((1, 2, 3, 4), id="pixel"),
        pytest.param((..., 0, 0), id="profile"),
        pytest.param((), id="empty"),
    ],
)
def test_indices_beyond_the_basic(filled, key):
    view, model = filled
    np.testing.assert_array_equal(view[key], model[key], strict=isinstance(view[key], np.ndarray))


@pytest.mark.parametrize(
    "key",
    [
        pytest.param(2, id="leading"),
        pytest.param(-3, id="negative"),
        pytest.param((0, 3), id="second"),
        pytest.param((0, 0, 4), id="row"),
        pytest.param((slice(0, 0), 0, 0, 6), id="column-of-nothing"),
        pytest.param((0,) * 5, id="too-many"),
        pytest.param((..., 0, ...), id="two-ellipses"),
        pytest.param(1.5, id="float"),
        pytest.param("t", id="name"),
    ],
)
def test_wrong_indices_are_index_errors_as_numpys(filled, key):
    view, model = filled
    with pytest.raises(IndexError):
        model[key]
    with pytest.raises(IndexError):
        view[key]


def test_one_plane_is_shown_without_a_copy(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    one, two = plane(1), plane(2)
    stack.put((0,), one)
    stack.put((1,), two)
    view = stack.view()

    for key in (0, (0, ..., slice(1, 3)), slice(0, 1), (slice(None, None, 2), 2)):
        assert np.shares_memory(view[key], one)
        assert not view[key].flags.writeable
    assert view[0:1].shape == (1, 4, 6)
    assert not np.shares_memory(view[:], one)
    assert view[:].flags.writeable
    assert np.shares_memory(np.asarray(stack.view({"t": 1})), two)


def test_the_array_protocol(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    stack.put((0,), plane(3))
    view = stack.view()
    assert np.asarray(view, np.float32).dtype == np.float32
    assert not np.shares_memory(np.array(view), np.asarray(view))
    assert np.array(view, copy=False).shape == (1, 4, 6)
    stack.put((1,), plane(3))
    for dtype in (None, float):
        with pytest.raises(ValueError, match="copy"):
            view.__array__(dtype, copy=False)
    assert "(2, 4, 6)" in repr(view)


def test_missing_planes_share_one_read_only_zero(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    stack.put((0,), plane(1))
    stack.put((9,), plane(2))
    view = stack.view()
    assert np.shares_memory(view[3], view[4])
    assert not view[3].any()
    assert not view[3].flags.writeable


# ---- growing


def test_an_empty_stack(history):
    stack = Stack(("t", "c"), (4, 6), np.uint16, history)
    assert (stack.origin, stack.shape, stack.full_shape) == ((0, 0), (0, 0), (0, 0, 4, 6))
    assert (stack.newest, stack.version, stack.count) == (None, 0, 0)
    assert np.asarray(stack.view()).shape == (0, 0, 4, 6)
    assert stack.view({"c": 3}).shape == (0, 4, 6)
    assert np.asarray(Stack((), (4, 6), bool, history).view()).shape == (4, 6)


def test_it_starts_where_the_run_starts(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    stack.put((41,), plane(41), tag="late")
    assert (stack.origin, stack.shape, stack.newest) == ((41,), (1,), (41,))
    stack.put((40,), plane(40))
    stack.put((44,), plane(44))
    assert (stack.origin, stack.shape, stack.newest) == ((40,), (5,), (44,))
    assert [int(one[0, 0]) for one in stack.view()] == [40, 41, 0, 0, 44]
    assert (stack.plane((41,))[0, 0], stack.plane((42,)), stack.plane((0,))) == (41, None, None)
    assert (stack.tag((41,)), stack.tag((40,)), stack.tag((7,))) == ("late", None, None)
    assert (stack.state((41,)), stack.state((42,))) == ("here", "missing")
    assert stack.version == 3


def test_channels_share_one_extent(history):
    stack = Stack(("t", "c"), (4, 6), np.uint16, history)
    stack.put((0, 0), plane(1))
    stack.put((5, 1), plane(2))
    first, second = stack.view({"c": 0}), stack.view({"c": 1})
    assert first.shape == second.shape == (6, 4, 6)
    assert (first[0] == 1).all()
    assert not first[5].any()
    assert (second[5] == 2).all()
    assert second.fixed == {"c": 1}


@pytest.mark.parametrize("position", [0, 1, 2])
def test_an_axis_that_appears_in_the_middle(history, position):
    stack = Stack(("t", "c"), (4, 6), np.uint16, history)
    stack.put((3, 1), plane(7), tag="x")
    layer = stack.view({"c": 1})
    stack.add_axis("z", position)
    index = [3, 1]
    index.insert(position, 0)

    assert stack.axes[position] == "z"
    assert stack.newest == stack.origin == tuple(index)
    assert stack.shape == (1, 1, 1)
    assert (stack.plane(index) == 7).all()
    assert stack.tag(index) == "x"
    assert layer.shape == (1, 1, 4, 6)
    assert (layer[...] == 7).all()
    index[position] = 2
    stack.put(index, plane(8))
    assert stack.shape[position] == 3
    assert stack.count == 2


def test_an_axis_added_before_the_first_plane(history):
    stack = Stack((), (4, 6), np.uint16, history)
    stack.add_axis("t", 0)
    assert stack.shape == (0,)
    stack.put((5,), plane(1))
    assert (stack.origin, stack.shape) == ((5,), (1,))


def test_a_preview_shows_the_newest_only(history):
    stack = Stack((), (4, 6), np.uint16, history, preview=True)
    view = stack.view()
    for number in range(5):
        stack.put((), plane(number))
        assert (view[...] == number).all()
        assert (view[1:3, ::-1] == number).all()
    assert (stack.count, view.shape, stack.version, stack.newest) == (1, (4, 6), 5, ())


def test_clear(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    view = stack.view()
    for number in range(3, 9):
        stack.put((number,), plane(number))
    shown = view[2]
    stack.clear()
    assert (stack.count, stack.nbytes, stack.shape, stack.origin, stack.newest) == (0, 0, (0,), (0,), None)
    assert stack.version == 7
    assert history.stats().resident_bytes == 0
    assert (shown == 5).all()
    stack.put((1,), plane(1))
    assert (stack.origin, view.shape) == ((1,), (1, 4, 6))


def test_planes_are_kept_read_only_and_not_copied(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    mine = plane(1)
    stack.put((0,), mine)
    assert np.shares_memory(stack.plane((0,)), mine)
    assert not stack.plane((0,)).flags.writeable
    assert mine.flags.writeable


def test_what_does_not_fit_is_refused(history):
    stack = Stack(("t",), (4, 6), np.uint16, history)
    with pytest.raises(ValueError, match=r"\(6, 4\)"):
        stack.put((0,), plane(0, (6, 4)))
    with pytest.raises(ValueError, match="float32"):
        stack.put((0,), plane(0, dtype=np.float32))
    for index in ((), (0, 0), (-1,)):
        with pytest.raises(ValueError, match="index"):
            stack.put(index, plane(0))
    with pytest.raises(ValueError, match="already"):
        stack.add_axis("t", 0)
    with pytest.raises(ValueError, match="position 2"):
        stack.add_axis("z", 2)
    with pytest.raises(ValueError, match="not q"):
        stack.view({"q": 0})
    with pytest.raises(ValueError, match="twice"):
        Stack(("t", "t"), (4, 6), np.uint16, history)
    for shape in ((4,), (4, 6, 2), (1, 2, 3, 4)):
        with pytest.raises(ValueError, match="plane"):
            Stack((), shape, np.uint16, history)
    assert (stack.count, stack.version) == (0, 0)


def test_numpy_numbers_are_good_indices(history):
    stack = Stack(("t",), (4, 6), np.dtype(">u2"), history)
    assert stack.dtype.isnative
    stack.put(np.array([3]), plane(3))
    assert type(stack.newest[0]) is int
    assert (stack.plane(np.array([3])) == 3).all()


# ---- under threads


@pytest.mark.parametrize(
    ("budget", "limit"), [(64, 1 << 20), (8, 1 << 20), (8, 16), (8, None)], ids=["memory", "disk", "full", "no-disk"]
)
def test_every_plane_read_is_whole_and_the_right_one(tmp_path, budget, limit):
    # Each plane is filled with 1000 * index + a running number: a plane of another index, or one that was written over
    # while it was read, cannot pass.
    shape, places = (16, 64), 24
    nbytes = math.prod(shape) * 4
    scratch = None if limit is None else Scratch(limit * nbytes, tmp_path)
    wrong, shown = [], []
    done = threading.Event()
    with PlanePool(1 << 18) as pool, History(budget * nbytes, scratch) as history:
        stack = Stack(("t",), shape, np.uint32, history)
        view = stack.view()

        def check(index, one):
            if not (one == one.flat[0]).all() or (one.flat[0] and one.flat[0] // 1000 != index + 1):
                wrong.append((index, one))

        def write():
            try:
                rng = np.random.default_rng(1)
                frame = np.empty(shape, np.uint32)
                for number in range(6000):
                    index = int(rng.integers(places))
                    frame[:] = 1000 * (index + 1) + number % 1000
                    stack.put((index,), pool.take(frame))
            finally:
                done.set()

        def show(seed):
            rng = np.random.default_rng(seed)
            kept = []  # what a viewer still displays
            last = False
            while not last:
                last = done.is_set()
                origin, count = stack.origin, len(view)
                if origin == (0,) and count == places:
                    index = int(rng.integers(places))
                    one = view[index]
                    check(index, one)
                    kept.append((index, one, int(one.flat[0])))
                    if len(kept) > 12:
                        index, one, value = kept.pop(int(rng.integers(12)))
                        if not (one == value).all():
                            wrong.append((index, "changed while it was shown"))
                    if seed == 1:
                        for index, one in enumerate(view[3:9]):
                            check(index + 3, one)
                    shown.append(index)
            for index, one, value in kept:
                if not (one == value).all():
                    wrong.append((index, "changed while it was shown"))

        threads = [threading.Thread(target=write), *(threading.Thread(target=show, args=(seed,)) for seed in (1, 2))]
        for thread in threads:
            thread.start()
        wait_for(threads)
        assert wrong == []
        assert shown
        assert stack.count + stack.forgotten == places


def test_a_replaced_plane_is_never_seen_as_a_gap(tmp_path):
    shape = (8, 8)
    with PlanePool(1 << 16) as pool, History(2 * 64, Scratch(directory=tmp_path)) as history:
        stack = Stack(("t",), shape, np.uint8, history)
        for index in range(6):
            stack.put((index,), plane(1, shape, np.uint8))
            wait_for_the_disk(history)
        done = threading.Event()
        gaps = []

        def write():
            for number in range(1500):
                stack.put((number % 6,), pool.take(plane(number % 250 + 1, shape, np.uint8)))
                if history.stats().resident_bytes > 3 * 64:  # so that nothing is forgotten
                    wait_for_the_disk(history)
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        while not done.is_set():
            for index in range(6):
                one = stack.plane((index,))
                if one is None or not one.all():
                    gaps.append(index)
        wait_for([writer])
        assert gaps == []
        assert history.stats().forgotten == 0


def test_a_call_under_way_is_consistent_while_the_stack_grows(history):
    stack = Stack(("t", "z"), (2, 2), np.uint16, history)
    view = stack.view()
    stack.put((500, 500), plane(1, (2, 2)))
    done = threading.Event()
    wrong = []

    def grow():
        for step in range(1, 500):
            stack.put((500 - step, 500), plane(1, (2, 2)))
            stack.put((500, 500 + step), plane(1, (2, 2)))
        done.set()

    writer = threading.Thread(target=grow)
    writer.start()
    while not done.is_set():
        # Whatever the extent has become: the last row and the first column are those of (…, 500) and (500, …).
        whole = view[:, 0, 0, 0]
        row = view[-1, :, 0, 0]
        if not (whole.all() and row.all()):
            wrong.append((whole, row))
    wait_for([writer])
    assert wrong == []


def test_a_shown_plane_survives_spilling_and_the_reuse_of_buffers(tmp_path):
    shape = (64, 64)
    with PlanePool(1 << 16) as pool, History(4 * 4096, Scratch(directory=tmp_path)) as history:
        stack = Stack(("t",), shape, np.uint8, history)
        view = stack.view()
        stack.put((0,), pool.take(plane(77, shape, np.uint8)))
        shown = view[0, 10:20]
        for number in range(1, 500):
            stack.put((number,), pool.take(plane(number % 256, shape, np.uint8)))
        assert (shown == 77).all()
        assert stack.state((0,)) == "forgotten" or (view[0] == 77).all()


@given(st.integers(1, 60), st.integers(0, 8))
@example(60, 0)
@settings(max_examples=15, deadline=None)
def test_a_stack_larger_than_its_budget_can_be_read_through(count, budget):
    with History(budget * 4096, Scratch()) as history:
        stack = Stack(("t",), (64, 64), np.uint8, history)
        for number in range(count):
            stack.put((number,), plane(number, (64, 64), np.uint8))
            wait_for_the_disk(history)
        assert history.stats().forgotten == 0
        np.testing.assert_array_equal(stack.view()[:, 5, 6], np.arange(count))
        np.testing.assert_array_equal(stack.view()[::-3, 5, 6], np.arange(count)[::-3])


def test_the_newest_of_each_place_is_known_whatever_comes_after_joins_or_is_given_up(history):
    stack = Stack(("t", "p", "c"), (4, 6), "uint16", history)
    assert stack.latest_at({"p": 0}) is None
    puts = [(t, p, c) for t in range(3) for p in (4, 2) for c in (1, 0)]
    for index in puts:
        stack.put(index, plane(1))
    stack.put((1, 4, 1), plane(2))  # what came last, not what has the highest index
    assert stack.latest_at({"p": 4}) == (1, 4, 1)
    assert stack.latest_at({"p": 4, "c": 0}) == (2, 4, 0)
    assert stack.latest_at({"c": 0, "cam": 3}) == (2, 2, 0)
    assert [index[1:] for index in stack.places] == [(4, 1), (4, 0), (2, 1), (2, 0)], "in order of the first"
    stack.add_axis("cam", 3)
    stack.put((0, 4, 0, 1), plane(3))
    assert stack.latest_at({"p": 4, "c": 0}) == (0, 4, 0, 1)
    assert stack.latest_at({"p": 4, "c": 0, "cam": 0}) == (2, 4, 0, 0)
    stack.discard((0, 4, 0, 1))
    assert stack.latest_at({"p": 4, "c": 0}) == (2, 4, 0, 0)
    assert len(stack.places) == 4
    stack.clear()
    assert stack.places == ()
