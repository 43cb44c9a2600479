"""Displays that fail on purpose: every Python whose path has this folder wraps the display that it loads.

Python imports a module of this name when it starts. The viewer knows nothing of it. While there is a file ``take`` or
``changed`` in the folder that the environment's ``SCOPECAST_MISTAKES`` names, the method of that name raises
RuntimeError.
"""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Any

__all__: list[str] = []


def _with_mistakes(display: Any, folder: Path) -> Any:
    def stumble(method: str) -> None:
        if (folder / method).exists():
            raise RuntimeError(f"a mistake in {method}, on purpose")

    class Mistaken(display):  # type: ignore[misc]
        def take(self, view: Any, *, magnitude: bool) -> Any:
            stumble("take")
            return super().take(view, magnitude=magnitude)

        def changed(self) -> None:
            stumble("changed")
            super().changed()

    return Mistaken


def _install(folder: Path) -> None:
    load = importlib.metadata.EntryPoint.load

    def load_mistaken(self: importlib.metadata.EntryPoint) -> Any:
        loaded = load(self)
        return _with_mistakes(loaded, folder) if self.group == "scopecast.viewers" else loaded

    importlib.metadata.EntryPoint.load = load_mistaken  # type: ignore[method-assign]


if os.environ.get("SCOPECAST_MISTAKES"):
    _install(Path(os.environ["SCOPECAST_MISTAKES"]))
