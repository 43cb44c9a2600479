import errno
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from scopecast_viewers.stacks.scratch import Scratch, default_directory

DEADLINE = 20.0
PAGE = 4096
posix = pytest.mark.skipif(not hasattr(os, "pwrite"), reason="needs positioned writes")


@pytest.fixture
def scratch(tmp_path):
    with Scratch(directory=tmp_path) as scratch:
        yield scratch


def plane(value, pages=1):
    return np.full(pages * PAGE, value, np.uint8)


def read(scratch, extent, pages=1):
    return scratch.read(extent, (pages * PAGE,), np.uint8)


@given(
    npst.arrays(
        npst.scalar_dtypes().filter(lambda dtype: dtype.kind in "biufcUS"), npst.array_shapes(max_side=40, max_dims=3)
    )
)
def test_any_plane_comes_back_as_it_was(array):
    with Scratch() as scratch:
        extent = scratch.write(array)
        back = scratch.read(extent, array.shape, array.dtype)
    np.testing.assert_array_equal(back, array)
    assert not back.flags.writeable


def test_strided_and_empty_planes(scratch):
    strided = np.arange(100.0).reshape(10, 10)[::2, ::-3]
    np.testing.assert_array_equal(scratch.read(scratch.write(strided), strided.shape, float), strided)
    empty = np.zeros((0, 7))
    assert scratch.read(scratch.write(empty), (0, 7), float).shape == (0, 7)


def test_nothing_exists_before_the_first_write(tmp_path):
    with Scratch(directory=tmp_path / "nowhere") as scratch:
        assert scratch.used == 0
        scratch.trim()
        with pytest.raises(OSError, match="nowhere"):
            scratch.write(plane(1))


@posix
def test_the_file_has_no_name(scratch, tmp_path):
    scratch.write(plane(1))
    assert list(tmp_path.iterdir()) == []


def test_freed_room_is_used_again(scratch):
    extents = [scratch.write(plane(number)) for number in range(4)]
    scratch.free(extents[1])

    assert scratch.write(plane(9)).offset == extents[1].offset
    assert [read(scratch, extent)[0] for extent in extents] == [0, 9, 2, 3]


def test_freed_neighbours_make_room_for_a_larger_plane(tmp_path):
    with Scratch(4 * PAGE, tmp_path) as scratch:
        extents = [scratch.write(plane(number)) for number in range(4)]
        for number in (1, 3, 2):
            scratch.free(extents[number])
        assert scratch.write(plane(7, pages=3)).offset == PAGE
        assert scratch.write(plane(8)) is None
        assert read(scratch, extents[0])[0] == 0


def test_the_limit_is_kept(tmp_path):
    with Scratch(3 * PAGE, tmp_path) as scratch:
        extents = [scratch.write(plane(number)) for number in range(5)]
        assert [extent is None for extent in extents] == [False, False, False, True, True]
        assert scratch.used == 3 * PAGE
        scratch.free(extents[0])
        assert scratch.write(plane(9)) is not None


def test_at_most_half_of_the_free_disk_is_taken(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4 * PAGE))
    with Scratch(directory=tmp_path) as scratch:
        assert [scratch.write(plane(number)) is None for number in range(3)] == [False, False, True]
        assert scratch.limit == 2 * PAGE


ACTIONS = st.lists(st.tuples(st.booleans(), st.integers(1, 5 * PAGE), st.integers(0, 30)), max_size=40)


@given(ACTIONS)
def test_planes_of_any_size_never_overlap(actions):
    with Scratch(16 * PAGE) as scratch:
        held = []
        for stamp, (write, size, which) in enumerate(actions):
            if write:
                array = np.full(size, stamp + 1, np.uint8)
                extent = scratch.write(array)
                pages = sum(-(-one.size // PAGE) for _, one in held)
                if extent is None:
                    assert pages + -(-size // PAGE) > 16 or held, "refused although there is room"
                else:
                    held.append((extent, array))
            elif held:
                scratch.free(held.pop(which % len(held))[0])
            for extent, array in held:
                np.testing.assert_array_equal(scratch.read(extent, array.shape, array.dtype), array)
            assert scratch.used == sum(-(-array.size // PAGE) for _, array in held) * PAGE
        for extent, _ in held:
            scratch.free(extent)
        assert scratch.used == 0
        assert scratch.write(plane(1, pages=16)) is not None


@posix
def test_short_reads_and_writes_are_continued(scratch, monkeypatch):
    pwrite, preadv = os.pwrite, os.preadv
    monkeypatch.setattr(os, "pwrite", lambda number, data, at: pwrite(number, data[:1000], at))
    monkeypatch.setattr(os, "preadv", lambda number, parts, at: preadv(number, [parts[0][:700]], at))
    array = np.arange(5000, dtype=np.uint32)

    np.testing.assert_array_equal(scratch.read(scratch.write(array), array.shape, array.dtype), array)


@posix
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=["disk", "quota", "file-size"])
def test_a_full_disk_is_not_an_error(scratch, monkeypatch, code):
    kept = scratch.write(plane(1))

    def full(number, data, at):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        assert scratch.write(plane(2)) is None
    assert scratch.used == PAGE
    assert read(scratch, kept)[0] == 1
    assert scratch.write(plane(3)) is not None


@posix
def test_a_broken_disk_is_an_error_and_keeps_no_room(scratch, monkeypatch):
    def broken(number, data, at):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "pwrite", broken)
    with pytest.raises(OSError, match="broken"):
        scratch.write(plane(2))
    assert scratch.used == 0


@posix
def test_a_truncated_file_is_told(scratch, monkeypatch):
    number = []
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: number.append(file) or pwrite(file, data, at))
    extent = scratch.write(plane(1, pages=2))
    os.truncate(number[0], PAGE + 10)

    with pytest.raises(OSError, match=r"truncated: it ends at byte 4106, within a plane of 8192 bytes"):
        read(scratch, extent, pages=2)


def test_a_plane_of_another_size_is_refused(scratch):
    extent = scratch.write(plane(1))
    with pytest.raises(ValueError, match="4096"):
        scratch.read(extent, (7,), np.uint8)


def test_trim_gives_back_the_end_of_the_file(scratch, monkeypatch):
    sizes = []
    fstat = os.fstat
    extents = [scratch.write(plane(number)) for number in range(4)]
    scratch.free(extents[3])
    scratch.free(extents[2])

    scratch.trim()
    monkeypatch.setattr(os, "fstat", lambda number: sizes.append(fstat(number).st_size) or fstat(number))
    scratch.trim()

    assert sizes == [2 * PAGE]
    assert [read(scratch, extent)[0] for extent in extents[:2]] == [0, 1]


def test_systems_without_positioned_reads(scratch, monkeypatch):
    monkeypatch.delattr(os, "pwrite", raising=False)
    monkeypatch.delattr(os, "preadv", raising=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", tempfile.NamedTemporaryFile)  # what it is on Windows
    extents = [scratch.write(plane(number)) for number in range(3)]
    assert [read(scratch, extent)[5] for extent in extents] == [0, 1, 2]


def test_a_closed_scratch_file_says_so(scratch):
    extent = scratch.write(plane(1))
    scratch.close()
    scratch.close()
    with pytest.raises(OSError, match="closed"):
        read(scratch, extent)
    with pytest.raises(OSError, match="closed"):
        scratch.write(plane(1))


@posix
def test_closing_waits_for_nobody_and_spoils_no_read(scratch, monkeypatch):
    inside, go_on, back = threading.Event(), threading.Event(), []
    preadv = os.preadv
    extent = scratch.write(plane(7))

    def slow(number, parts, at):
        inside.set()
        assert go_on.wait(DEADLINE)
        return preadv(number, parts, at)

    monkeypatch.setattr(os, "preadv", slow)
    thread = threading.Thread(target=lambda: back.append(read(scratch, extent)))
    thread.start()
    assert inside.wait(DEADLINE)
    scratch.close()
    go_on.set()
    thread.join(DEADLINE)

    assert (back[0] == 7).all()


def test_threads_write_read_and_free_at_once(scratch):
    wrong = []

    def work(stamp):
        for number in range(100):
            value = (stamp * 50 + number) % 251
            extent = scratch.write(plane(value, pages=stamp + 1))
            if not (read(scratch, extent, pages=stamp + 1) == value).all():
                wrong.append(value)
            scratch.free(extent)

    threads = [threading.Thread(target=work, args=(stamp,)) for stamp in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert wrong == []
    assert scratch.used == 0


@pytest.mark.skipif(
    sys.platform != "linux" or not Path("/dev/shm").is_dir() or not os.access("/var/tmp", os.W_OK),
    reason="needs Linux with /dev/shm and /var/tmp",
)
def test_a_temporary_directory_in_memory_is_avoided_unless_asked_for(monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    assert default_directory() == Path("/var/tmp")
    monkeypatch.setenv("TMPDIR", "/dev/shm")
    assert default_directory() == Path("/dev/shm")


def test_negative_limit_is_refused():
    with pytest.raises(ValueError, match="limit"):
        Scratch(-1)
