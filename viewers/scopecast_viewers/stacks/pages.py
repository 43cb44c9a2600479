"""Fresh memory for planes, in pages as large as the system has them.

What costs is not the allocation but the first write to each page. An array that numpy allocates lies across the borders
of huge pages (2 MiB), so that a quarter of a plane of 8 MiB is made of small ones, one fault each; a mapping of its own
begins at such a border.
"""

from __future__ import annotations

import mmap
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["PAGE", "GiB", "MiB", "touched", "untouched", "whole_pages"]

PAGE: Final = 4096  # bytes; touching one byte of each page is what makes the kernel back it
MiB: Final = 1 << 20
GiB: Final = 1 << 30
_HUGE: Final = 2 * MiB


def whole_pages(nbytes: int) -> int:
    """Return how many bytes the pages have that hold so many."""
    return -(-nbytes // PAGE) * PAGE


def untouched(nbytes: int) -> npt.NDArray[np.uint8]:
    """Return an array of bytes whose pages are made when they are first written to; MemoryError as `touched`."""
    mapping = _map(nbytes)
    return np.empty(nbytes, np.uint8) if mapping is None else np.frombuffer(mapping, np.uint8)


def touched(nbytes: int) -> npt.NDArray[np.uint8]:
    """Return an array of bytes whose pages are there; MemoryError if there is no room for it."""
    array = untouched(nbytes)
    np.copyto(array[::PAGE], 0)  # lets go of the GIL, unlike indexing
    return array


def _map(nbytes: int) -> Any:
    """Return a mapping in huge pages; None where there is none, or where it would not pay."""
    if sys.platform != "linux" or nbytes < _HUGE:
        return None
    try:
        mapping = mmap.mmap(-1, nbytes, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"no room for {nbytes} bytes: {error}") from None
    with suppress(OSError):  # a kernel without huge pages
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
