import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numpy as np
import pytest

from scopecast_viewers.stacks.pool import BEHIND, PlanePool

DEADLINE = 20.0
SIZE = (64, 512)  # 64 KiB of uint16


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < end, "not in time"
        tick.wait(0.002)


@pytest.fixture
def pool():
    with PlanePool(1 << 20) as pool:
        yield pool


@pytest.fixture
def buffers(monkeypatch):
    """Weak references to all uint8 arrays that were allocated, which are the pool's buffers."""
    made = []
    empty = np.empty

    def counting(shape, dtype=float, **more):
        array = empty(shape, dtype, **more)
        if array.dtype == np.uint8:
            made.append(weakref.ref(array))
        return array

    monkeypatch.setattr(np, "empty", counting)
    return made


def alive(buffers):
    return sum(one() is not None for one in list(buffers))


RAMP = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40)


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(RAMP, id="contiguous"),
        pytest.param(RAMP[::2, ::-3], id="strided"),
        pytest.param(RAMP.T, id="transposed"),
        pytest.param(RAMP.astype(">u2"), id="big-endian"),
        pytest.param(RAMP.astype(">f8")[3:], id="big-endian-float"),
        pytest.param(RAMP > 500, id="bool"),
        pytest.param(np.broadcast_to(np.uint8(7), (9, 11)), id="broadcast-read-only"),
        pytest.param(np.arange(60, dtype=np.uint8).reshape(4, 5, 3), id="colour"),
        pytest.param(RAMP * (1 - 2j), id="complex"),
        pytest.param(np.zeros((0, 5), np.int32), id="empty"),
        pytest.param(np.array(3.5), id="0-d"),
    ],
)
def test_a_plane_is_a_read_only_contiguous_native_copy(pool, view):
    plane = pool.take(view)

    np.testing.assert_array_equal(plane, view)
    assert plane.shape == view.shape
    assert plane.dtype == view.dtype.newbyteorder("=")
    assert plane.flags.c_contiguous
    assert not plane.flags.writeable
    assert not np.shares_memory(plane, view)


@pytest.mark.parametrize(
    ("given", "taken"), [("complex64", "float32"), ("complex128", "float64"), (">c8", "float32"), ("uint16", "uint16")]
)
def test_magnitude_of_complex_numbers_only(pool, given, taken):
    view = (RAMP * (3 + 4j)).astype(given) if "c" in given else RAMP.astype(given)

    plane = pool.take(view, magnitude=True)

    assert plane.dtype == taken
    np.testing.assert_allclose(plane, np.abs(view), rtol=1e-6)


def test_python_objects_are_refused(pool):
    with pytest.raises(TypeError, match="Python objects"):
        pool.take(np.array([[object()]]))


def test_a_plane_cannot_be_made_writable(pool):
    plane = pool.take(RAMP)

    with pytest.raises(ValueError, match="WRITEABLE"):
        plane.flags.writeable = True
    with pytest.raises(ValueError, match="WRITEABLE"):
        plane[2:].flags.writeable = True


def test_buffers_are_used_again(pool, buffers):
    for number in range(1000):
        assert pool.take(np.full(SIZE, number, np.uint16))[3, 5] == number

    assert len(buffers) < 100  # what the pool keeps ready, and not one for each


class PoolWithoutSpares(PlanePool):
    """A pool whose thread puts no spare buffers before those that have come back."""

    def _work(self):
        pass


def test_a_released_buffer_comes_back_at_the_same_address():
    with PoolWithoutSpares() as pool:
        plane = pool.take(np.zeros(SIZE, np.uint16))
        address = plane.ctypes.data
        del plane

        assert pool.take(np.zeros(SIZE, np.uint16)).ctypes.data == address


@pytest.mark.parametrize(
    "look",
    [
        pytest.param(lambda plane: plane, id="itself"),
        pytest.param(lambda plane: plane.reshape(-1), id="reshape"),
        pytest.param(lambda plane: plane[2:], id="slice"),
        pytest.param(lambda plane: plane[None], id="new-axis"),
        pytest.param(lambda plane: plane[::-1].T[3:][None], id="chain"),
        pytest.param(lambda plane: plane.view(np.uint8), id="other-dtype"),
        pytest.param(lambda plane: np.broadcast_to(plane, (3, *plane.shape)), id="broadcast"),
        pytest.param(lambda plane: np.lib.stride_tricks.sliding_window_view(plane, (3, 3)), id="strides"),
        pytest.param(memoryview, id="memoryview"),
        pytest.param(lambda plane: plane[1:].data, id="data"),
    ],
)
def test_a_buffer_is_not_used_again_while_a_view_of_it_lives(pool, look):
    shown = look(pool.take(np.full(SIZE, 7, np.uint16)))
    before = np.array(shown)

    others = [pool.take(np.full(SIZE, 9, np.uint16)) for _ in range(100)]
    assert not any(np.shares_memory(np.asarray(shown), other) for other in others)
    del others
    for _ in range(100):
        pool.take(np.full(SIZE, 11, np.uint16))

    np.testing.assert_array_equal(np.array(shown), before)


def test_a_buffer_comes_back_through_the_garbage_collector(pool, buffers):
    plane = pool.take(np.zeros(SIZE, np.uint16))
    ring = [plane]
    ring.append(ring)
    address = plane.ctypes.data
    del plane, ring
    gc.collect()

    planes = [pool.take(np.zeros(SIZE, np.uint16)) for _ in range(64)]

    assert address in {plane.ctypes.data for plane in planes}


def test_idle_buffers_are_bounded(buffers):
    with PlanePool(1 << 20) as pool:
        planes = [pool.take(np.zeros(SIZE, np.uint16)) for _ in range(200)]
        assert alive(buffers) >= 200
        del planes
        wait_until(lambda: alive(buffers) <= 2 * (1 << 20) // (1 << 16) + 1)


def test_buffers_of_a_size_no_longer_used_are_freed(buffers):
    with PlanePool(1 << 20) as pool:
        old = [pool.take(np.zeros(SIZE, np.uint16)) for _ in range(10)]
        first = list(buffers)
        del old
        small = np.zeros((8, 8), np.uint8)

        def gone():
            for _ in range(50):
                pool.take(small)
            return alive(first) == 0

        wait_until(gone)


def test_planes_larger_than_the_spares_are_still_pooled(buffers):
    with PlanePool(0) as pool:
        for _ in range(200):
            pool.take(np.zeros(SIZE, np.uint16))
    assert len(buffers) < 50


def test_many_sizes_at_once(pool):
    for number in range(300):
        shape = (number % 7 + 1, 5000)
        plane = pool.take(np.full(shape, number, np.uint16))
        assert plane.shape == shape
        assert (plane == number).all()


def test_threads_never_share_a_buffer(pool):
    wrong = []

    def work(stamp):
        kept = []
        for number in range(400):
            value = stamp * 1000 + number
            kept.append((value, pool.take(np.full((32, 64), value, np.uint16))))
            if len(kept) > 8:
                value, plane = kept.pop(number % 8)
                if not (plane == value).all():
                    wrong.append(value)

    threads = [threading.Thread(target=work, args=(stamp,)) for stamp in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert wrong == []


def test_close_ends_the_thread_and_keeps_planes(buffers):
    before = set(threading.enumerate())
    pool = PlanePool(1 << 20)
    plane = pool.take(np.full(SIZE, 5, np.uint16))
    mine = set(threading.enumerate()) - before
    assert len(mine) == 1

    pool.close()
    pool.close()

    assert not any(thread.is_alive() for thread in mine)
    assert (plane == 5).all()
    assert (pool.take(RAMP) == RAMP).all()
    del plane
    assert alive(buffers) == 0


def test_a_pool_that_is_dropped_open_says_so_and_ends_its_thread():
    before = set(threading.enumerate())
    pool = PlanePool()
    with pytest.warns(ResourceWarning, match="PlanePool was not closed"):
        del pool
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_negative_size_is_refused():
    with pytest.raises(ValueError, match="spare_bytes"):
        PlanePool(-1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_the_thread_that_prepares_stands_behind_the_others(pool):
    here = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    pool.take(np.ones((64, 64), np.uint16))  # something to prepare
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pool._thread.native_id) == max(here, BEHIND))
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == here


BEHIND_ALL = """
import os, time
os.nice(15)
from scopecast_viewers.stacks.pool import PlanePool
with PlanePool() as pool:
    time.sleep(0.3)
    print(os.getpriority(os.PRIO_PROCESS, pool._thread.native_id))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_in_a_process_that_stands_behind_all_others_it_stays_there():
    """Only root may come forward; for others the thread would end with an error."""
    command = [sys.executable, "-P", "-c", BEHIND_ALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("15\n", "")
