"""A function that is called with each live frame, and loaded again when its file is saved."""

from __future__ import annotations

import importlib
import runpy
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from scopecast.subscribing.frame import Frame
    from scopecast.subscribing.subscription import Subscription

__all__ = ["NamedFunction", "Pipe", "describe"]

_OURS: Final = str(Path(__file__).parents[1])


class NamedFunction:
    """A function by its name, as it is in its file now.

    Parameters
    ----------
    named
        ``"file.py:function"``, or an import path, ``"package.module:function"``.

    Raises
    ------
    ValueError
        If there is no such function; the text says why.

    Examples
    --------
    >>> NamedFunction("math:sqrt").call(9)
    3.0
    """

    def __init__(self, named: str) -> None:
        where, colon, self.name = named.rpartition(":")
        if not colon or not where or not self.name.isidentifier():
            msg = f"{named!r} does not name a function: write file.py:function, or package.module:function"
            raise ValueError(msg)
        self._where, self._file = where, Path(where).resolve() if where.endswith(".py") else None
        self._module = where if self._file is None else self._file.stem
        if self._file is not None:
            if not self._file.is_file():
                msg = f"there is no file {where}"
                raise ValueError(msg)
            sys.path.insert(0, str(self._file.parent))  # as Python does for a script: it may import what lies beside it
            self._state = self._look()
            self.call = self._load(self._file)
        else:
            names = self._imported()
            file = names.get("__file__")
            self._file = Path(file) if file is not None and file.endswith(".py") else None
            self._state = self._look()
            self.call = self._among(names)

    def _imported(self) -> dict[str, Any]:
        sys.path.insert(0, "")
        try:
            return vars(importlib.import_module(self._module))
        except Exception as error:
            msg = f"{self._where} can't be imported: {type(error).__name__}: {error}"
            raise ValueError(msg) from error

    def _look(self) -> object:
        try:
            status = self._file.stat() if self._file is not None else None
        except OSError:  # an editor replaces it just now
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino) if status else None

    def _load(self, file: Path) -> Callable[..., Any]:
        """Run the file; not by the import system, which takes what was saved within the same second for the same."""
        try:
            names = runpy.run_path(str(file), run_name=self._module)
        except Exception as error:
            msg = f"{file.name} can't be loaded: {describe(error)}"
            raise ValueError(msg) from error
        return self._among(names)

    def _among(self, names: Mapping[str, Any]) -> Callable[..., Any]:
        found: Callable[..., Any] | None = names.get(self.name)
        if not callable(found):
            where = self._where if self._file is None else self._file.name
            msg = f"{where} has no function {self.name!r}"
            raise ValueError(msg)
        return found

    def reload(self) -> bool:
        """Load it again if its file has changed. Return whether it has.

        Raises
        ------
        ValueError
            If it can't be loaded; the one before is kept.
        """
        state = self._look()
        if self._file is None or state is None or state == self._state:
            return False
        self._state = state
        self.call = self._load(self._file)
        return True


class Pipe:
    """A loop that calls a function with each frame, and replies what it returns.

    Parameters
    ----------
    frames
        The subscription.
    function
        The function; called with a `Frame`. What it returns is replied, unless that is None.
    kind, name
        Of the replies.

    Attributes
    ----------
    looked_at, failed : int
        Frames that it was called with; those of them for which it raised.
    errors : Counter
        How often what was raised where.
    """

    def __init__(self, frames: Subscription, function: NamedFunction, kind: str, name: str) -> None:
        self.frames, self.function, self.kind, self.name = frames, function, kind, name
        self.looked_at = self.failed = 0
        self.errors: Counter[str] = Counter()
        self._began = self._newest = 0.0

    @property
    def rate(self) -> float:
        """Frames per second from the first to the last."""
        return (self.looked_at - 1) / (self._newest - self._began) if self._newest > self._began else 0.0

    def run(self) -> Iterator[str]:
        """Call it with each frame; yield what is to be told, ``""`` if that is nothing."""
        for frame in self.frames:
            self._newest = time.monotonic()
            self._began = self._began or self._newest
            if told := self._reload():
                yield told
            yield self._call(frame)

    def _reload(self) -> str:
        try:
            return f"{self.function.name} was reloaded" if self.function.reload() else ""
        except ValueError as error:
            return f"{error}; the previous version stays in use"

    def _call(self, frame: Frame) -> str:
        self.looked_at += 1
        try:
            result = self.function.call(frame)
            if result is not None:
                frame.reply(result, kind=self.kind, name=self.name)
        except Exception as error:  # noqa: BLE001 - the next frame may be right; told, and counted
            self.failed += 1
            said = describe(error)
            kind = f"{type(error).__name__}{_where(error)}"  # the text may have another number for each frame
            self.errors[kind] += 1
            return f"{frame}: {said}" if self.errors[kind] == 1 else ""
        return ""


def describe(error: BaseException) -> str:
    """Return what was raised, and where outside of this package, in one line."""
    said = f"{type(error).__name__}: {error}"
    return said if isinstance(error, SyntaxError) else said + _where(error)  # a SyntaxError says where


def _where(error: BaseException) -> str:
    passed = [each for each in traceback.extract_tb(error.__traceback__) if not each.filename.startswith(_OURS)]
    return f" ({Path(passed[-1].filename).name}:{passed[-1].lineno})" if passed else ""
