"""What a napari window can take, and what is said of what it can't.

Its sliders are Qt's, which count steps in 32 bits (and their labels one digit less); there is one for each axis, y and
x included, from the lowest to the highest place of all layers, in steps of the finest. Its canvas takes 32-bit floats.
"""

from __future__ import annotations

import logging
from math import isfinite, log10
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

__all__ = ["MOST_STEPS", "Box", "CantShowError", "Unshown"]

logger = logging.getLogger(__name__)

#: Steps that a slider can have.
MOST_STEPS: Final = 900_000_000
#: Pixels between an image and the origin.
_FAR_IMAGE: Final = 10**8
_SMALLEST: Final = 1e-9
_LARGEST: Final = 1e9
#: How often something is tried again that napari has failed at.
_MOST_TRIES: Final = 3


class CantShowError(ValueError):
    """Something lies where a napari window can't show it; the text says where, and what the limit is."""


class Box(NamedTuple):
    """Where a layer of images lies on the canvas, along its axes, y and x last.

    Attributes
    ----------
    axes
        Their names.
    lows, highs
        The first and the last place.
    steps
        How far apart the places are; negative for an axis that runs the other way.
    """

    axes: Sequence[str]
    lows: Sequence[float]
    highs: Sequence[float]
    steps: Sequence[float]

    def check(self, unit: str) -> None:
        """Raise CantShowError if no window could show it.

        Parameters
        ----------
        unit
            Of the places.
        """
        for axis, low, step in zip(self.axes, self.lows, self.steps, strict=True):
            what = "pixel size" if axis in "yx" else "step"
            if not isfinite(step) or not _SMALLEST <= abs(step) <= _LARGEST or (step < 0 and axis in "yx"):
                raise CantShowError(
                    f"its {what} along {axis} is {step:g} {unit}, and napari takes {_SMALLEST:g} to {_LARGEST:g}"
                )
            if axis in "yx" and not abs(low) <= _FAR_IMAGE * step:  # NaN is not, either
                raise CantShowError(
                    f"it lies at {axis} = {low:g} {unit}, and napari places images up to {_FAR_IMAGE:,} pixels "
                    f"({_FAR_IMAGE * step:g} {unit}) from the origin"
                )

    def objection(self, other: Box) -> str:
        """Return why one window can't have both, or ``""``."""
        mine = zip(self.axes, self.lows, self.highs, self.steps, strict=True)
        # napari aligns the axes from the last one.
        theirs = zip(other.lows, other.highs, other.steps, strict=True)
        for (axis, *my), their in zip(reversed(list(mine)), reversed(list(theirs)), strict=False):
            low, high = min(*my[:2], *their[:2]), max(*my[:2], *their[:2])
            step = min(abs(my[2]), abs(their[2]))
            if not high - low <= MOST_STEPS * step:
                return f"along {axis} they reach from {low:g} to {high:g} in steps of {step:g}"
        return ""

    def oddness(self) -> float:
        """Return how far the steps are from 1, in powers of ten."""
        return max(abs(log10(abs(step))) for step in self.steps)


class _Failure(NamedTuple):
    why: str
    version: Hashable
    tries: int


class Unshown:
    """What a window does not show, and why. Each is tried again when it has changed.

    What napari itself has failed at takes it a tenth of a second: that is tried three times, and then left alone.
    """

    def __init__(self) -> None:
        self._failures: dict[Hashable, _Failure] = {}

    def __iter__(self) -> Iterator[Any]:
        return iter(self._failures)

    def blocks(self, key: Hashable, version: Hashable) -> bool:
        """Whether something is not to be tried, as of a version of it."""
        failure = self._failures.get(key)
        return failure is not None and (failure.version == version or failure.tries >= _MOST_TRIES)

    def note(self, key: Hashable, version: Hashable, name: str, error: Exception) -> None:
        """Say that something can't be shown, and log it unless it is known."""
        known = self._failures.get(key)
        ours = isinstance(error, CantShowError)
        reason = str(error) if ours else f"{type(error).__name__}: {error}"
        why = f"{name} can't be shown: {reason}"
        tries = (0 if known is None else known.tries) + (not ours)
        self._failures[key] = _Failure(why, version, tries)
        if known is None or known.why != why:
            logger.warning("%s", why, exc_info=None if ours else error)

    def clear(self, key: Hashable) -> None:
        """Say that something is shown."""
        self._failures.pop(key, None)

    def keep_only(self, keys: set[Any]) -> None:
        """Forget all but some."""
        self._failures = {key: failure for key, failure in self._failures.items() if key in keys}

    @property
    def reasons(self) -> tuple[str, ...]:
        """What can't be shown, and why, in a sentence each."""
        return tuple(failure.why for failure in self._failures.values())
