"""Ctrl-C between two given lines: what a signal does at any moment, at a chosen one."""

from __future__ import annotations

import linecache
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Strike"]


class Strike:
    """Raises KeyboardInterrupt at the nth line that this thread runs in some files.

    Attributes
    ----------
    struck : str
        Where it did; ``""`` if there were fewer lines.
    """

    def __init__(self, number: int, files: Collection[Path]) -> None:
        self.struck = ""
        self._left, self._files = number, files

    def __enter__(self) -> Strike:
        self._previous = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._previous)

    def _call(self, frame: Any, event: str, argument: Any) -> Any:
        return self._line if Path(frame.f_code.co_filename) in self._files else None

    def _line(self, frame: Any, event: str, argument: Any) -> Any:
        # Between a `with` and its block, and between the block and the release, no signal is ever handled, but lines
        # are traced: that of the `with` (twice) and a `try:` at the block's start. What __del__ raises goes nowhere.
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).lstrip()
        if event == "line" and frame.f_code.co_name != "__del__" and not line.startswith(("with ", "try:")):
            self._left -= 1
            if not self._left and not self.struck:
                self.struck = f"{frame.f_code.co_qualname}: {line.strip()}"
                raise KeyboardInterrupt
        return self._line
