"""Pre-faulted memory that planes are copied into.

The first write to fresh memory costs a page fault for every 4096 bytes: 2 to 20 ms for a plane of 8 MiB, against 0.4 ms
for the copy itself. So the receiver thread takes its memory from here: a thread of the pool keeps spare buffers ready
whose pages were already touched, and the buffer of a plane comes back when nobody can see that plane any more.

"Nobody" is exact. A plane is a reshape of a flat array *A* made by `numpy.frombuffer`, whose base is a memoryview and
not an array. numpy shortens a chain of views to the first array that does not rest on another array, which is A:
every view of the plane, however it was made, refers to A, and A dies with the last of them. The buffer returns by a
weak reference to A. A plane that is still shown, or being written to disk, is therefore never written over.

Threads: `take` holds no lock. Buffers come back on whatever thread drops the last view, at any moment, even during a
garbage collection in the middle of `take`; so coming back is one `deque.append`, which is atomic and needs no lock.
Only the pool's own thread adds spares, divides the room among the sizes in use and gives up sizes that are not.
"""

from __future__ import annotations

import math
import weakref
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.memory.copying import copy_frame
from scopecast_viewers.stacks import pages
from scopecast_viewers.stacks.background import Background
from scopecast_viewers.stacks.pages import MiB, whole_pages

if TYPE_CHECKING:
    import numpy.typing as npt

MOST_SIZES: Final = 4  # sizes of planes that are kept ready at a time; more streams than this share fresh memory
MOST_SPARES: Final = 64  # buffers of one size; small planes would otherwise be prepared by the thousands
STALE_AFTER: Final = 512  # planes taken without one of this size: its buffers are freed
#: How far the pool's thread stands behind (a "nice" value): where fresh memory is slow, as in a virtual machine that
#: has to ask its host for it, this thread would otherwise take a processor from the window for seconds. Further behind,
#: the window would at times wait for it to let go of the interpreter.
BEHIND: Final = 5
LOOK_EVERY: Final = 128  # planes taken between two looks at which sizes are stale


class Shelf:
    """The idle buffers of one form and size, which may be put back from any thread without a lock."""

    __slots__ = ("form", "idle", "keep", "last", "nbytes", "spares")

    def __init__(self, form: str, nbytes: int, *, spares: int, keep: int) -> None:
        self.form = form  # what kind of buffer, for pools that have several
        self.nbytes = nbytes  # bytes of one buffer
        self.spares = spares  # buffers that the pool's thread prepares ahead
        self.keep = keep  # buffers above which a returning one is freed
        self.last = 0  # the pool's count of planes taken when this shelf was last wanted
        self.idle: deque[Any] = deque()

    def give_back(self, raw: Any) -> None:
        """Put a buffer back that nobody can see any more."""
        # Two threads may both pass the test: one buffer more than `keep` for each of them is harmless.
        if len(self.idle) < self.keep:
            self.idle.append(raw)

    def empty(self) -> None:
        """Free the buffers, and those that come back later."""
        self.spares = self.keep = 0
        self.idle.clear()


class BufferPool(Background):
    """Buffers that were faulted in beforehand and are used again; where they lie is a subclass's choice.

    Use it as a context manager or call `close`. Any thread may call any method.

    Parameters
    ----------
    spare_bytes : int
        Bytes of buffers that are prepared ahead of need, shared by the sizes in use (at most four at a time), and at
        least two planes of each. Buffers that come back are kept up to twice this, and at least four planes, so the
        idle memory of the pool is at most ``2 * spare_bytes`` for planes that are small against it. Default 64 MiB.
    """

    def __init__(self, spare_bytes: int = 64 * MiB) -> None:
        if spare_bytes < 0:
            raise ValueError(f"spare_bytes is a number of bytes, not {spare_bytes}")
        self._spare_bytes = spare_bytes
        self._shelves: dict[tuple[str, int], Shelf] = {}
        self._taken = 0
        self._start("scopecast-planes", nice=BEHIND)

    @abstractmethod
    def _fresh(self, form: str, nbytes: int) -> Any:
        """Return a new buffer whose pages are there already; MemoryError if there is no room for it."""

    def _buffer(self, nbytes: int, form: str = "") -> tuple[Any, Shelf]:
        """Return a buffer, and the shelf that it is to be given back to."""
        shelf = self._shelf(form, nbytes)
        try:
            # The one that came back last, whose pages may still be in the caches.
            return shelf.idle.pop(), shelf
        except IndexError:
            return self._allocate(form, nbytes), shelf
        finally:
            if len(shelf.idle) < shelf.spares or self._taken % LOOK_EVERY == 0:
                self._ask()

    def _allocate(self, form: str, nbytes: int) -> Any:
        """Return a new buffer as quickly as possible."""
        return self._fresh(form, nbytes)

    def close(self) -> None:
        """Stop the pool's thread and free the idle buffers; planes in use stay valid. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._end()
        shelves, self._shelves = self._shelves, {}
        for shelf in list(shelves.values()):
            shelf.empty()

    def _shelf(self, form: str, nbytes: int) -> Shelf:
        shelf = self._shelves.get((form, nbytes))
        if self._closed:
            return shelf or Shelf(form, nbytes, spares=0, keep=0)
        if shelf is None:
            # setdefault is atomic; the thread divides the room anew as soon as it is asked.
            shelf = self._shelves.setdefault((form, nbytes), Shelf(form, nbytes, spares=2, keep=4))
        self._taken += 1  # two threads may count one plane twice or not at all: it only measures age
        shelf.last = self._taken
        return shelf

    def _work(self) -> None:
        self._divide()
        for shelf in list(self._shelves.values()):
            while len(shelf.idle) < shelf.spares and not self._closed:
                try:
                    shelf.idle.append(self._fresh(shelf.form, shelf.nbytes))
                except MemoryError:
                    return  # without spares, take() allocates, and raises where the caller can see it

    def _divide(self) -> None:
        recent = sorted(self._shelves.values(), key=lambda shelf: shelf.last, reverse=True)
        used = [shelf for shelf in recent[:MOST_SIZES] if self._taken - shelf.last < STALE_AFTER]
        for shelf in recent:
            if shelf not in used:
                self._shelves.pop((shelf.form, shelf.nbytes), None)
                shelf.empty()  # frees here, on the pool's thread, what a receiver would have to wait for
        for shelf in used:
            share = self._spare_bytes // len(used) // shelf.nbytes
            shelf.spares = min(max(2, share), MOST_SPARES)
            # More than the spares by the planes in use at a time: otherwise a returning buffer would find its place
            # taken by a fresh one, and every plane would cost a buffer.
            shelf.keep = max(shelf.spares + 2, min(2 * share, 2 * MOST_SPARES))
            while len(shelf.idle) > shelf.keep:
                try:
                    shelf.idle.popleft()
                except IndexError:  # a receiver took the last one
                    break


class PlanePool(BufferPool):
    """Copies of frames in numpy's memory; see `BufferPool`."""

    def _fresh(self, form: str, nbytes: int) -> npt.NDArray[np.uint8]:
        return pages.touched(nbytes)

    def _allocate(self, form: str, nbytes: int) -> npt.NDArray[np.uint8]:
        return pages.untouched(nbytes)

    def take(self, view: npt.NDArray[Any], *, magnitude: bool = False) -> npt.NDArray[Any]:
        """Copy an array into pooled memory.

        Parameters
        ----------
        view : ndarray
            What to copy, of any shape, strides, byte order and dtype without Python objects. A view of shared memory is
            meant: it is read once.
        magnitude : bool
            Of complex numbers, take the absolute value instead (complex64 to float32, complex128 to float64), which is
            what viewers can show. Other dtypes are copied as they are.

        Returns
        -------
        ndarray
            A read-only, C-contiguous copy of the same shape in native byte order. Its memory is used again once the
            array and all views of it are gone. After `close` it is an ordinary copy.

        Raises
        ------
        TypeError
            If the dtype holds Python objects.
        MemoryError
            If there is no spare buffer and no memory for a fresh one.
        """
        dtype = view.dtype.newbyteorder("=")
        if dtype.hasobject:
            raise TypeError(f"a plane of dtype {view.dtype} holds Python objects: it has no pixels to copy")
        absolute = magnitude and dtype.kind == "c"
        if absolute:
            dtype = np.finfo(dtype).dtype
        nbytes = math.prod(view.shape) * dtype.itemsize
        if nbytes == 0:
            nothing = np.empty(view.shape, dtype)
            nothing.flags.writeable = False
            return nothing
        raw, shelf = self._buffer(whole_pages(nbytes))
        target = raw[:nbytes].view(dtype).reshape(view.shape)
        if absolute:
            np.abs(view, out=target)
        else:
            copy_frame(target, view)
        # Read-only from the memoryview on: nobody can make the plane writable again by its flag.
        flat: npt.NDArray[Any] = np.frombuffer(raw.data.toreadonly()[:nbytes], dtype)
        weakref.finalize(flat, shelf.give_back, raw).atexit = False
        return flat.reshape(view.shape)
