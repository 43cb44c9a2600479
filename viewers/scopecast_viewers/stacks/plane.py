"""A plane: the pixels of one frame, wherever the display keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Plane", "Sent", "Tag"]


class Tag(NamedTuple):
    """What a stack remembers of a frame beside its pixels.

    Attributes
    ----------
    sequence
        The frame's number: at its publisher, or in order of arrival in a run of several publishers.
    sent_ns
        When it was published, CLOCK_MONOTONIC in nanoseconds; below 0 if that was on another machine, before this one
        was started.
    path
        The file that it is, or ``""``.
    translate
        Position (y, x) of its first pixel in the stream's unit, or ().
    metadata
        What was published with it, as MessagePack; ``b""`` if nothing was.
    source
        The token of its publisher.
    preview
        Its pixels are not exact: it comes from another machine, by a link that is too slow for these.
    news
        It came as soon as the link allowed: how long it took until it was painted says how live the view is.
    """

    sequence: int
    sent_ns: int
    path: str
    translate: tuple[float, ...]
    metadata: bytes = b""
    source: str = ""
    preview: bool = False
    news: bool = True


class Sent(NamedTuple):
    """What the frames of a stack were, as they were published.

    Attributes
    ----------
    kind
        ``"image"`` or ``"labels"``.
    name
        What the labels are called; may be ``""``.
    dtype
        Of the pixels, by its name; `Stack.dtype` is that of what is kept of them.
    magnitude
        They were complex, and the magnitude is kept.
    """

    kind: str = "image"
    name: str = ""
    dtype: str = ""
    magnitude: bool = False


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
