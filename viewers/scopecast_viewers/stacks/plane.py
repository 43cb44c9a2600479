"""A plane: the pixels of one frame, wherever the display keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Plane"]


class Plane(Protocol):
    """What `Display.take` makes of a frame, and what a stack keeps: a numpy array, or anything that can become one.

    The stack and the history look at nothing but this, so that a display may keep its planes in memory of its own (a
    Java array, say). What `__array__` gives, and nothing else, goes to the scratch file and comes back from there.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x), or (y, x, 3 or 4)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels, as `__array__` gives them; native byte order."""

    @property
    def nbytes(self) -> int:
        """What counts against the budget, in bytes."""

    def __array__(self) -> npt.NDArray[Any]:
        """Return the pixels as a numpy array."""
