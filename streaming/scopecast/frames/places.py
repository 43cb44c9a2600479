"""Which place each file has in a stream: two files never have the same one, even if their names say so."""

from __future__ import annotations

import itertools
import os
import re
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from scopecast.frames.axes import rest_of_name, short_label
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from scopecast.frames.axes import Axes, AxisValue

__all__ = ["Places", "Settled"]

_AXIS: Final = "file"
_MOST_TRIED: Final = 64


class Settled(NamedTuple):
    """Where a file is.

    Attributes
    ----------
    axes
        What its name says, and its label on the axis ``file`` where that does not tell it from another.
    note
        What the user should know, once for each such label; else "".
    """

    axes: dict[str, AxisValue]
    note: str = ""


class Places:
    """Gives each file of a stream a place of its own.

    What a name says is where the file is, as long as no other file is there. The next one gets a label on the axis
    ``file``, made of the rest of its name, and so do the files whose names have the same rest. A file that is written
    again stays where it was. Safe for threads.

    Parameters
    ----------
    place
        Tells the index of a place along each axis: `Publisher.place` of the stream.
    """

    def __init__(self, place: Callable[[Axes], Mapping[str, int]]) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._holders: dict[tuple[object, ...], str] = {}
        self._given: dict[tuple[str, str], tuple[dict[str, AxisValue], dict[str, AxisValue]]] = {}
        self._labels: dict[str, str] = {}  # on the axis, by the rest of the name

    def settle(self, path: str, axes: Axes, pattern: str | re.Pattern[str] | None = None, kind: str = "") -> Settled:
        """Return where a file is to be shown.

        Parameters
        ----------
        path
            The file; the same path is the same file.
        axes
            What its name says, and the user.
        pattern
            What the name was read by, as in `scopecast.frames.axes.axes_from_path`.
        kind
            What the file holds: labels may be where an image is.
        """
        path = os.path.normcase(os.path.normpath(path))
        with self._lock:
            known = self._given.get((path, kind))
            if known is not None and known[0] == axes:
                return Settled(dict(known[1]))
            holder = ""
            for label in self._tried(path, axes, pattern):
                where = dict(axes) if label is None else {**axes, _AXIS: label}
                seat = (kind, *sorted((name, at) for name, at in self._place(where).items() if at))
                other = self._holders.setdefault(seat, path)
                if other == path:
                    break
                if not holder:
                    holder = other
                    self._name_first(holder, axes, pattern)
            self._given[path, kind] = dict(axes), where
            new = label is not None and label not in self._labels.values()
            if label is not None:
                self._labels.setdefault(self._rest(path, pattern), label)
            if not (new and holder):
                return Settled(dict(where))
            note = (
                f"its name gives it the same place as {_last(holder)}: both are shown, side by side on the axis 'file'"
            )
            return Settled(dict(where), note)

    def _tried(self, path: str, axes: Axes, pattern: str | re.Pattern[str] | None) -> Iterator[str | None]:
        """Yield the labels that a file may have on the axis, the best first; None for no such axis."""
        rest = self._rest(path, pattern) if self._labels else ""
        if rest in self._labels:
            yield self._labels[rest]
        yield None
        if _AXIS not in axes:
            yield from list(self._labels.values())[-_MOST_TRIED:]
        yield from self._names(path, pattern, unnamed=_AXIS in axes)

    def _name_first(self, holder: str, axes: Axes, pattern: str | re.Pattern[str] | None) -> None:
        """Label what is there without the axis, which is at its beginning from now on."""
        if _AXIS not in axes and _AXIS not in self._place(axes):
            label = next(self._names(holder, pattern))
            self._place({**axes, _AXIS: label})
            self._labels[self._rest(holder, pattern)] = label

    @staticmethod
    def _rest(path: str, pattern: str | re.Pattern[str] | None) -> str:
        """Return what tells the series of a file: its folder, and its name without the axes."""
        return f"{path[: -len(_last(path))]}{rest_of_name(path, pattern)}{os.path.splitext(path)[1]}"  # noqa: PTH122

    @staticmethod
    def _names(path: str, pattern: str | re.Pattern[str] | None, *, unnamed: bool = False) -> Iterator[str]:
        """Yield what a file may be called on the axis; one whose name says no place was called by its name already."""
        parts = re.split(r"[/\\]", path)
        names = ["/".join(parts[-count:]) for count in range(1 + unnamed, len(parts) + 1)] or [path]
        if not unnamed:
            names.insert(0, rest_of_name(path, pattern))
        numbered = (f"{names[-1]} ({number})" for number in itertools.count(2))
        for name in itertools.chain(names, numbered):
            if name := printable(name):
                yield short_label(name, keep_end=True)


def _last(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]
