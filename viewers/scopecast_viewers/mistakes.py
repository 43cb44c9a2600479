"""Mistakes that a display makes on purpose, to test how a viewer's errors are handled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast_viewers.display import Display
    from scopecast_viewers.stacks.plane import Plane

__all__ = ["with_mistakes"]


def with_mistakes(display: type[Display]) -> type[Display]:
    """Return the display, or one that fails where the tests want it to.

    The environment's ``SCOPECAST_MISTAKES`` names a folder; while there is a file ``take`` or ``changed`` in it, the
    method of that name raises RuntimeError.
    """
    named = os.environ.get("SCOPECAST_MISTAKES")
    if not named:
        return display
    folder = Path(named)

    def stumble(method: str) -> None:
        if (folder / method).exists():
            raise RuntimeError(f"a mistake in {method}, on purpose")

    class Mistaken(display):  # type: ignore[misc, valid-type]
        def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> Plane:
            stumble("take")
            plane: Plane = super().take(view, magnitude=magnitude)
            return plane

        def changed(self) -> None:
            stumble("changed")
            super().changed()

    return Mistaken
