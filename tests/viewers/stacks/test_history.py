import errno
import gc
import os
import threading
import time
import weakref

import numpy as np
import psutil
import pytest

from scopecast_viewers.stacks import history as history_module
from scopecast_viewers.stacks.history import History, default_budget, history_from_environment
from scopecast_viewers.stacks.pool import PlanePool
from scopecast_viewers.stacks.scratch import Scratch
from scopecast_viewers.stacks.stack import Stack

DEADLINE = 20.0
SHAPE = (64, 64)
NBYTES = 4096  # of a plane of this shape and uint8
posix = pytest.mark.skipif(not hasattr(os, "pwrite"), reason="needs positioned writes")


def wait_until(condition):
    end = time.monotonic() + DEADLINE
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < end, "not in time"
        tick.wait(0.002)


def plane(value, shape=SHAPE):
    return np.full(shape, value, np.uint8)


def make(history, shape=SHAPE, **more):
    return Stack(("t",), shape, np.uint8, history, **more)


def settled(history):
    return lambda: history.stats().resident_bytes <= history.budget


def states(stack, count):
    return [stack.state((number,)) for number in range(count)]


def assert_counts_agree(history, *stacks):
    stats = history.stats()
    assert stats.resident + stats.spilled == sum(stack.count for stack in stacks)
    assert stats.resident_bytes + stats.spilled_bytes == sum(stack.nbytes for stack in stacks)


@pytest.fixture
def stall(monkeypatch):
    """A disk whose writes wait until they are let go."""

    class Stall:
        inside = threading.Event()
        go_on = threading.Event()

    pwrite = os.pwrite

    def stalled(number, data, at):
        Stall.inside.set()
        assert Stall.go_on.wait(DEADLINE)
        return pwrite(number, data, at)

    Stall.inside.clear()
    Stall.go_on.clear()
    monkeypatch.setattr(os, "pwrite", stalled)
    yield Stall
    Stall.go_on.set()


def test_within_the_budget_everything_stays_in_memory(tmp_path):
    with History(10 * NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        for number in range(10):
            stack.put((number,), plane(number))
        assert history.stats() == (10, 10 * NBYTES, 0, 0, 0, 0, 0)


def test_past_the_budget_the_oldest_are_spilled_and_read_back(tmp_path):
    with History(4 * NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        for number in range(50):
            stack.put((number,), plane(number))
            wait_until(settled(history))
        assert history.stats().resident == 4
        assert history.stats().spilled == 46
        assert history.stats().forgotten == 0
        assert states(stack, 50) == ["here"] * 50
        for number in range(50):
            assert (stack.plane((number,)) == number).all()
        np.testing.assert_array_equal(np.asarray(stack.view())[:, 3, 5], np.arange(50))
        assert_counts_agree(history, stack)


def test_the_order_of_arrival_counts_over_all_stacks(tmp_path):
    with History(2 * NBYTES, Scratch(2 * NBYTES, tmp_path)) as history:
        first, second = make(history), make(history)
        for number, stack in enumerate([first, second, first, second, first, first]):
            stack.put((number,), plane(number))
            wait_until(settled(history))
        assert states(first, 6) == ["forgotten", "missing", "here", "missing", "here", "here"]
        assert states(second, 4) == ["missing", "forgotten", "missing", "here"]
        assert (first.forgotten, second.forgotten, history.stats().forgotten) == (1, 1, 2)
        assert_counts_agree(history, first, second)


@pytest.mark.fault("R11")
def test_a_full_scratch_file_keeps_the_newest(tmp_path):
    with History(3 * NBYTES, Scratch(5 * NBYTES, tmp_path)) as history:
        stack = make(history)
        for number in range(40):
            stack.put((number,), plane(number))
            wait_until(settled(history))
        assert states(stack, 40) == ["forgotten"] * 32 + ["here"] * 8
        assert (stack.forgotten, stack.count, history.stats().forgotten) == (32, 8, 32)
        assert history.stats().forgotten_bytes == 32 * NBYTES
        assert [stack.view()[number, 0, 0] for number in range(30, 40)] == [0, 0, *range(32, 40)]


def test_larger_planes_find_room_in_a_scratch_file_full_of_small_ones(tmp_path):
    with History(0, Scratch(14 * NBYTES, tmp_path)) as history:
        small, large = make(history), make(history, (128, 192))
        for number in range(14):
            small.put((number,), plane(number))
            wait_until(settled(history))
        for number in range(2):
            large.put((number,), plane(100 + number, (128, 192)))
            wait_until(settled(history))
        assert [large.view()[number, 5, 6] for number in range(2)] == [100, 101]
        assert states(small, 14) == ["forgotten"] * 12 + ["here"] * 2
        assert_counts_agree(history, small, large)


def test_a_plane_larger_than_the_scratch_file_costs_no_other(tmp_path):
    with History(0, Scratch(4 * NBYTES, tmp_path)) as history:
        small, large = make(history), make(history, (256, 256))
        small.put((0,), plane(7))
        wait_until(settled(history))
        large.put((0,), plane(1, (256, 256)))
        wait_until(settled(history))
        assert large.state((0,)) == "forgotten"
        assert (small.plane((0,)) == 7).all()


@pytest.mark.fault("R11")
@posix
def test_a_full_disk_forgets_the_oldest(tmp_path, monkeypatch):
    room = 3 * NBYTES
    pwrite = os.pwrite

    def full(number, data, at):
        if at + len(data) > room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return pwrite(number, data, at)

    monkeypatch.setattr(os, "pwrite", full)
    with History(2 * NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        for number in range(20):
            stack.put((number,), plane(number))
            wait_until(settled(history))
        assert states(stack, 20) == ["forgotten"] * 15 + ["here"] * 5
        for number in range(15, 20):
            assert (stack.plane((number,)) == number).all()


@pytest.mark.fault("R11")
@posix
def test_a_stalled_disk_never_holds_up_put(tmp_path, stall):
    with History(8 * NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        for number in range(100):
            stack.put((number,), plane(number))  # on this thread, while the disk is stalled
            assert history.stats().resident_bytes <= 8 * NBYTES + 2 * NBYTES
            if number == 8:
                assert stall.inside.wait(DEADLINE)  # with the oldest

        assert history.stats().spilled == 0
        assert stack.forgotten == 90
        kept = [number for number in range(100) if stack.state((number,)) == "here"]
        assert kept == [0, *range(91, 100)]  # the disk has the first, so forgetting it would free nothing
        for number in kept:
            assert (stack.plane((number,)) == number).all()

        stall.go_on.set()
        wait_until(settled(history))
        assert stack.forgotten == 90
        for number in kept:
            assert (stack.plane((number,)) == number).all()


@posix
def test_reading_does_not_wait_for_a_stalled_write(tmp_path, stall):
    with History(NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        stall.go_on.set()
        for number in range(3):
            stack.put((number,), plane(number))
        wait_until(settled(history))
        stall.inside.clear()
        stall.go_on.clear()
        stack.put((3,), plane(3))
        assert stall.inside.wait(DEADLINE)

        assert [stack.view()[number, 0, 0] for number in range(4)] == [0, 1, 2, 3]
        stall.go_on.set()


@posix
@pytest.mark.parametrize("how", ["replaced", "cleared"])
def test_a_plane_given_up_while_it_is_written_leaves_nothing(tmp_path, stall, how):
    with Scratch(directory=tmp_path) as scratch, History(NBYTES, scratch) as history:
        stack = make(history)
        stack.put((0,), plane(1))
        stack.put((1,), plane(2))
        assert stall.inside.wait(DEADLINE)
        if how == "cleared":
            stack.clear()
        else:
            stack.put((0,), plane(3))
        stall.go_on.set()

        if how == "cleared":
            wait_until(lambda: scratch.used == 0)
            assert history.stats() == (0, 0, 0, 0, 0, 0, 0)
        else:
            wait_until(settled(history))
            wait_until(lambda: scratch.used == NBYTES)
            assert (stack.plane((0,)) == 3).all()
            assert (stack.plane((1,)) == 2).all()
        assert_counts_agree(history, stack)


@pytest.mark.fault("R11")
@posix
def test_a_broken_disk_forgets_and_warns_once(tmp_path, monkeypatch, caplog):
    def broken(number, data, at):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pwrite", broken)
    with History(2 * NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        for number in range(10):
            stack.put((number,), plane(number))
            wait_until(settled(history))
        assert states(stack, 10) == ["forgotten"] * 8 + ["here"] * 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be written" in caplog.text


def test_a_scratch_directory_that_does_not_exist_forgets(tmp_path, caplog):
    with History(NBYTES, Scratch(directory=tmp_path / "nowhere")) as history:
        stack = make(history)
        stack.put((0,), plane(0))
        stack.put((1,), plane(1))
        wait_until(settled(history))
        assert states(stack, 2) == ["forgotten", "here"]
    assert "nowhere" in caplog.text


@posix
def test_a_plane_that_cannot_be_read_back_is_a_gap(tmp_path, monkeypatch, caplog):
    def broken(number, parts, at):
        raise OSError(errno.EIO, "Input/output error")

    with History(NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        stack.put((0,), plane(5))
        stack.put((1,), plane(6))
        wait_until(settled(history))
        monkeypatch.setattr(os, "preadv", broken)
        assert (stack.view()[0] == 0).all()
        assert stack.state((0,)) == "forgotten"
        assert history.stats().forgotten == stack.forgotten == 1
        assert_counts_agree(history, stack)
    assert "cannot be read back" in caplog.text


@posix
def test_a_plane_replaced_while_it_is_read_back_is_never_shown_as_another(tmp_path, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()
    preadv = os.preadv
    shown = []
    with History(NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        stack.put((0,), plane(1))
        stack.put((1,), plane(2))
        wait_until(settled(history))

        def slow(number, parts, at):
            if not inside.is_set():
                inside.set()
                assert go_on.wait(DEADLINE)
            return preadv(number, parts, at)

        monkeypatch.setattr(os, "preadv", slow)
        reader = threading.Thread(target=lambda: shown.append(stack.plane((0,))))
        reader.start()
        assert inside.wait(DEADLINE)
        stack.put((0,), plane(9))  # frees the room of the plane that is being read
        wait_until(settled(history))  # and the plane at 1 takes it
        go_on.set()
        reader.join(DEADLINE)

        assert (shown[0] == 9).all()


@pytest.mark.fault("R11")
def test_without_a_scratch_file_the_oldest_are_forgotten():
    before = set(threading.enumerate())
    with History(3 * NBYTES, None) as history:
        assert set(threading.enumerate()) == before
        stack = make(history)
        for number in range(10):
            stack.put((number,), plane(number))
            assert history.stats().resident_bytes <= 3 * NBYTES
        assert states(stack, 10) == ["forgotten"] * 7 + ["here"] * 3


def test_the_newest_plane_is_kept_whatever_the_budget():
    with History(0, None) as history:
        stack = make(history)
        for number in range(3):
            stack.put((number,), plane(number))
            assert (stack.plane((number,)) == number).all()
        assert stack.count == 1


def test_previews_stay_in_memory(tmp_path):
    with History(2 * NBYTES, Scratch(2 * NBYTES, tmp_path)) as history:
        preview = Stack((), SHAPE, np.uint8, history, preview=True)
        run = make(history)
        preview.put((), plane(200))
        for number in range(20):
            run.put((number,), plane(number))
            wait_until(settled(history))
        assert (preview.plane(()) == 200).all()
        assert history.stats().pinned_bytes == NBYTES
        preview.put((), plane(201))
        assert (preview.view()[...] == 201).all()
        assert (preview.count, preview.nbytes, history.stats().pinned_bytes) == (1, NBYTES, NBYTES)
        preview.clear()
        assert (preview.count, history.stats().pinned_bytes) == (0, 0)


def test_a_replaced_plane_is_released_at_once(tmp_path):
    with PlanePool() as pool, History(10 * NBYTES, Scratch(directory=tmp_path)) as history:
        stack = make(history)
        for number in range(200):
            stack.put((number % 4,), pool.take(plane(number)))
        assert history.stats() == (4, 4 * NBYTES, 0, 0, 0, 0, 0)


def test_replacing_and_clearing_spilled_planes_frees_their_room(tmp_path):
    with Scratch(directory=tmp_path) as scratch, History(0, scratch) as history:
        stack = make(history)
        for number in range(20):
            stack.put((number % 10,), plane(40 + number))
            wait_until(settled(history))
        assert scratch.used == 10 * NBYTES
        assert [stack.view()[number, 0, 0] for number in range(10)] == list(range(50, 60))

        stack.clear()
        assert scratch.used == 0
        assert history.stats() == (0, 0, 0, 0, 0, 0, 0)


def test_replacing_a_forgotten_plane_closes_its_gap():
    with History(NBYTES, None) as history:
        stack = make(history)
        stack.put((0,), plane(1))
        stack.put((1,), plane(2))
        assert stack.forgotten == 1
        stack.put((0,), plane(3))
        assert states(stack, 2) == ["here", "forgotten"]
        assert (stack.forgotten, history.stats().forgotten) == (1, 2)
        stack.clear()
        assert (stack.forgotten, stack.count, stack.nbytes, history.stats().forgotten) == (0, 0, 0, 2)


def test_close_forgets_what_was_spilled_and_keeps_what_is_in_memory(tmp_path):
    before = set(threading.enumerate())
    history = History(2 * NBYTES, Scratch(directory=tmp_path))
    stack = make(history)
    for number in range(5):
        stack.put((number,), plane(number))
        wait_until(settled(history))

    history.close()
    history.close()

    assert set(threading.enumerate()) == before
    assert states(stack, 5) == ["forgotten"] * 3 + ["here"] * 2
    stack.put((5,), plane(5))
    assert states(stack, 6) == ["forgotten"] * 4 + ["here"] * 2
    assert (stack.view()[5] == 5).all()
    stack.clear()
    assert stack.count == 0


@posix
def test_close_does_not_wait_for_a_stalled_disk_for_ever(tmp_path, stall, monkeypatch):
    monkeypatch.setattr(history_module, "PATIENCE", 0.01)
    before = set(threading.enumerate())
    history = History(NBYTES, Scratch(directory=tmp_path))
    stack = make(history)
    stack.put((0,), plane(0))
    stack.put((1,), plane(1))
    assert stall.inside.wait(DEADLINE)

    history.close()

    assert (stack.plane((0,)) == 0).all()
    stall.go_on.set()
    wait_until(lambda: set(threading.enumerate()) == before)
    assert (stack.plane((0,)) == 0).all()


def test_a_history_that_is_dropped_open_says_so_and_ends_its_thread():
    before = set(threading.enumerate())
    history = History(0)
    stack = make(history)
    assert stack.count == 0
    del stack
    with pytest.warns(ResourceWarning, match="History was not closed"):
        del history
    gc.collect()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_the_default_budget():
    assert default_budget() == min(2 << 30, psutil.virtual_memory().total // 4)
    with History() as history:
        assert history.budget == default_budget()
    with pytest.raises(ValueError, match="budget"):
        History(-1)


def test_threads_putting_and_clearing_keep_the_counts(tmp_path):
    with Scratch(20 * NBYTES, tmp_path) as scratch, History(6 * NBYTES, scratch) as history:
        stacks = [make(history) for _ in range(3)]

        def work(stack, stamp):
            for number in range(600):
                stack.put(((number * 7) % 40,), plane((stamp + number) % 256))
                if number % 151 == 150:
                    stack.clear()

        threads = [
            threading.Thread(target=work, args=(stack, stamp)) for stamp, stack in enumerate(stacks) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert history.stats().resident_bytes <= 6 * NBYTES + 2 * NBYTES
        for thread in threads:
            thread.join(DEADLINE)
        wait_until(settled(history))
        wait_until(lambda: scratch.used == history.stats().spilled_bytes)
        assert_counts_agree(history, *stacks)
        for stack in stacks:
            stack.clear()
        wait_until(lambda: scratch.used == 0)
        stats = history.stats()
        assert (stats.resident_bytes, stats.spilled_bytes) == (0, 0)


def test_what_was_put_with_a_plane_goes_when_the_plane_is_forgotten():
    class Note:
        pass

    with History(budget=0, scratch=None) as history:
        stack = Stack(("t",), (4, 4), "uint16", history)
        notes = []
        for t in range(3):
            note = Note()
            notes.append(weakref.ref(note))
            stack.put((t,), np.zeros((4, 4), "uint16"), note)
            del note
        gc.collect()
        assert [note() is None for note in notes] == [True, True, False]
        assert [stack.state((t,)) for t in range(3)] == ["forgotten", "forgotten", "here"]
        assert stack.tag((0,)) is None


def test_a_smaller_budget_spills_what_there_is_and_forgets_nothing(tmp_path):
    nbytes = 32 * 32 * 2
    with History(budget=20 * nbytes, scratch=Scratch(100 * nbytes, tmp_path)) as history:
        stack = Stack(("t",), (32, 32), "uint16", history)
        for t in range(20):
            stack.put((t,), np.full((32, 32), t, "uint16"))
        history.budget = 3 * nbytes
        for t in range(20, 22):  # frames go on coming while the disk is busy
            stack.put((t,), np.full((32, 32), t, "uint16"))
        wait_until(lambda: history.stats().resident <= 3)
        assert history.stats().forgotten == 0
        assert [int(stack.plane((t,))[0, 0]) for t in range(22)] == list(range(22))
        with pytest.raises(ValueError, match="number of bytes"):
            history.budget = -1


def test_without_a_scratch_file_a_smaller_budget_forgets_at_once():
    with History(budget=10 * 32, scratch=None) as history:
        stack = Stack(("t",), (4, 4), "uint16", history)
        for t in range(10):
            stack.put((t,), np.zeros((4, 4), "uint16"))
        history.budget = 4 * 32
        assert (history.stats().resident, history.stats().forgotten) == (4, 6)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GiB", 4 * 2**30), ("500 MB", 500_000_000), ("1.5 kB", 1500), ("4096", 4096), ("7 B", 7)],
)
def test_the_environment_sets_the_limits(text, expected):
    with history_from_environment({"SCOPECAST_HISTORY": text, "SCOPECAST_SCRATCH": "0"}) as history:
        assert history.budget == expected
        assert history._scratch is None
    with history_from_environment({"SCOPECAST_SCRATCH": text}) as history:
        assert history.budget == default_budget()
        assert history._scratch._limit == expected


@pytest.mark.parametrize("text", ["much", "-1", "4 GiB of it", "GiB"])
def test_a_limit_that_is_no_number_of_bytes_is_told(text):
    with pytest.raises(ValueError, match=r"SCOPECAST_HISTORY is .*: a number of bytes is expected, such as"):
        history_from_environment({"SCOPECAST_HISTORY": text})


@pytest.mark.parametrize("kind", [History, PlanePool])
def test_what_could_not_be_made_has_nothing_to_close(kind):
    with pytest.raises(TypeError, match="unexpected"):
        kind(no_such="argument")
    gc.collect()  # an exception in a destructor is an error of this test
