"""Fresh memory for planes."""

from __future__ import annotations

import mmap
import sys

import numpy as np
import psutil
import pytest

from scopecast_viewers.stacks.pages import touched, untouched

MiB = 1 << 20
PLANE = 8 * MiB


@pytest.mark.parametrize("make", [touched, untouched])
@pytest.mark.parametrize("nbytes", [4096, 2 * MiB - 4096, 2 * MiB, PLANE + 4096])
def test_memory_has_the_size_that_was_asked_for_and_can_be_written_to(make, nbytes):
    array = make(nbytes)
    assert (array.dtype, array.shape) == (np.uint8, (nbytes,))
    array[:] = 7
    assert (array == 7).all()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no mapping of their own for a plane")
def test_the_pages_of_touched_memory_are_there_and_go_with_it():
    process = psutil.Process()
    before = process.memory_info().rss
    arrays = [touched(PLANE) for _ in range(8)]
    there = process.memory_info().rss - before
    assert there >= 7 * PLANE
    arrays.clear()
    assert process.memory_info().rss - before < there / 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no mapping of their own for a plane")
def test_a_kernel_without_huge_pages_gives_small_ones(monkeypatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)  # no advice of any kernel: refused, as where there are none
    assert touched(PLANE).nbytes == PLANE


@pytest.mark.parametrize("make", [touched, untouched])
def test_more_than_there_can_be_is_a_memory_error(make):
    with pytest.raises(MemoryError):
        make(1 << 60)
