"""How frames are copied into shared memory, and out of it, and what is seen of that in which order."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

__all__ = ["STREAMED_BYTES", "copy_frame", "fence", "how", "is_for", "problem"]

_stream: Callable[[npt.NDArray[Any], npt.NDArray[Any]], None] | None
#: Why there is no way past the caches here, in the words of Python; ``""`` if there is one.
problem = ""
try:
    from scopecast.memory._copying import stream as _stream
except ImportError as error:  # another kind of processor, or installed from source without a C compiler
    _stream, problem = None, str(error)

try:
    from scopecast.memory._copying import fence
except ImportError:
    _lock = threading.Lock()  # which nobody else takes

    def fence() -> None:
        """Have the processor do all loads and stores before this before all that come after it."""
        # What comes before may sink into the first round, and what comes after may rise into the second; no further.
        with _lock:
            pass
        with _lock:
            pass


#: Frames of this many bytes and more go past the caches, straight to memory.
STREAMED_BYTES: Final = 2**18


def copy_frame(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy an array into another one of the same shape; from 1 MiB on without the interpreter's lock.

    Smaller ones take 0.1 ms or less, and to get the lock back from a thread that computes takes 5 ms (decision 166).

    Parameters
    ----------
    target
        Writable and C-contiguous.
    source
        Of the same shape and dtype, in any byte order and with any strides. It must not overlap the target, which is
        not always noticed.

    Raises
    ------
    ValueError
        If it has another shape, which can't be broadcast to that of the target.
    TypeError
        If its dtype differs from the target's in more than the byte order.
    """
    if (
        _stream is not None
        and target.nbytes >= STREAMED_BYTES
        and source.dtype == target.dtype
        and source.shape == target.shape
        and source.flags.c_contiguous
    ):
        _stream(target, source)
    else:
        np.copyto(target, source, casting="equiv")


def how() -> Literal["past the caches", "by numpy"]:
    """Return how large frames are copied here."""
    return "by numpy" if _stream is None else "past the caches"


def is_for(processor: str) -> bool:
    """Return whether there is a way past the caches for a processor, named as `platform.machine` does.

    It needs Python's stable ABI, which a Python without a global lock does not have.
    """
    import sysconfig  # only the doctor asks: the producer's start need not load it

    return processor.lower() in ("x86_64", "amd64") and not sysconfig.get_config_var("Py_GIL_DISABLED")
