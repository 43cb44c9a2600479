"""A stream: the frames of one run, and the order of its axes and labels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from scopecast.frames.axes import MAX_AXES, MAX_INDEX, MAX_LABEL, check_axes, sort_axes
from scopecast.link import messages
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopecast.frames.axes import AxisValue

__all__ = ["FrameStream", "given"]

#: Labels that are announced, over all axes together: a message has 64 KiB, and a character up to 4 bytes. What comes
#: later has its index all the same, and the viewer shows that.
MAX_LABELS = 1024
MAX_LABEL_BYTES = 40 * 1024
MAX_COLORS = 64


class FrameStream:
    """The frames of one run: an MDA sequence, a series of batches, a live preview.

    Made by `Publisher.new_stream`.

    Parameters
    ----------
    number
        Numbers the streams of a publisher.
    title
        Shown with its layers.
    sizes
        Final extent of each axis where it is known, e.g. ``{"t": 20, "c": 3}``; these axes exist from the start.
    channels
        Names of the channels in order, or the name of the only one; others are added as they appear. A name that comes
        again gets its number. Frames may be placed by either, number or name.
    positions
        Names of the positions (axis ``"p"``) in order, or the name of the only one; ``""`` for one that has none. A
        name that comes again gets its number. Frames may be placed by either, number or name.
    colors
        Their colours in order, or by their names: ``#rrggbb``, a colour's name (CSS), or a colormap's (``cmap``);
        ``""`` leaves the choice to the viewer.
    scale
        Size of a pixel in `units`, above 0: one number, or two (y, x).
    steps
        Distance between positions along an axis in `units`, e.g. ``{"z": 0.5}``; of ``"t"`` in seconds.
    units
        Unit of `scale` and `steps`; by default ``"um"`` if a scale is given, else ``"pixel"``.
    affine
        From pixels (x, y) to µm of the stage, for what users mark: six numbers a, b, tx, d, e, ty, as
        ``CMMCore.getPixelSizeAffine`` gives them. By default columns are the stage's x, and its y points up.
    run
        The run that it is part of, if other publishers have parts of it too; see `Publisher`.

    Raises
    ------
    ValueError, TypeError
        If any of these is not allowed; the text says what is.
    """

    def __init__(
        self,
        number: int,
        title: str,
        *,
        sizes: Mapping[str, int] = {},
        channels: str | Sequence[str] = (),
        positions: str | Sequence[str] = (),
        colors: str | Sequence[str] | Mapping[str, str] = (),
        scale: float | Sequence[float] | None = None,
        steps: Mapping[str, float] = {},
        units: str | None = None,
        affine: Sequence[float] | None = None,
        run: str = "",
    ) -> None:
        self.number, self.title, self.run = number, printable(title)[:200], printable(run)[:200]
        _mapping("sizes", sizes, "{'t': 20, 'c': 3}")
        _mapping("steps", steps, "{'z': 0.5}")
        self.sizes = {name: int(size) for name, size in check_axes(sizes).items()}
        self.axes: list[str] = list(sort_axes(self.sizes))
        self.units = _short("units", ("pixel" if scale is None else "um") if units is None else units)
        sides: Any = 1.0 if scale is None else scale
        one = isinstance(sides, str) or not isinstance(sides, Iterable)
        self.scale = _finite("scale", [sides] * 2 if one else sides)
        if len(self.scale) != 2:
            msg = f"scale is the size of a pixel, one number or two (y, x); not {scale!r}"
            raise ValueError(msg)
        if min(self.scale) <= 0:
            msg = f"scale must be above 0, not {tuple(self.scale)}: leave it out where the size of a pixel is not known"
            raise ValueError(msg)
        self.affine = None if affine is None else _finite("affine", affine)
        if self.affine is not None and len(self.affine) != 6:
            msg = f"affine is six numbers a, b, tx, d, e, ty; not {affine!r}"
            raise ValueError(msg)
        named = check_axes(dict.fromkeys(steps, 0))
        self.steps = dict(zip(named, _finite("steps", steps.values()), strict=True))
        self._color_of: Mapping[str, str] = {}
        if isinstance(colors, Mapping):
            self._color_of, colors = {printable(name): _short("a colour", each) for name, each in colors.items()}, ()
        self.colors = [_short("a colour", color) for color in _listed("colors", colors)][:MAX_COLORS]
        self._labels: dict[str, dict[str, int]] = {}
        self._listed: dict[str, list[str]] = {}  # the labels that are announced
        self._listed_bytes = self._listed_count = 0
        self._ends: dict[str, int] = {}  # behind the largest index along each axis
        for axis, names in (("c", _listed("channels", channels)), ("p", _listed("positions", positions))):
            for at, name in enumerate(map(str, names)):
                label = check_axes({axis: name or (str(at) if axis == "p" else "")})[axis]
                taken = label in self._labels.get(axis, ())
                self._place(axis, f"{str(label)[: MAX_LABEL - 8]} ({at})" if taken else label)
        self.announced = False
        self.announcement = b""  # as it lies beside the frames in shared memory
        self.ended = False
        self.began_ns = 0  # when its first frame was published

    def __repr__(self) -> str:
        """Say which one it is, and what extent it has so far."""
        extents = ", ".join(f"{axis} {self._ends.get(axis, 0)}" for axis in self.axes)
        return f"<FrameStream {self.number} {self.title!r}{f': {extents}' if extents else ''}{', ended' * self.ended}>"

    def join(self, about: messages.Stream) -> None:
        """Take in what another publisher announces of the same run: axes, sizes, channels, positions and colours."""
        self.announced = False
        self.axes = list(sort_axes([*self.axes, *about.axes]))
        for axis, size in zip(about.axes, about.sizes, strict=True):
            self.sizes[axis] = max(size, self.sizes.get(axis, 0))
        for axis in ("c", "p"):
            for label in about.labels.get(axis, ()):
                self._place(axis, label)
        named = dict(zip(about.labels.get("c", ()), about.colors, strict=False))
        self._color_of = {**named, **self._color_of}
        if about.colors and not named and not self.colors:
            self.colors = list(about.colors)

    def place(self, axes: Mapping[str, AxisValue]) -> list[int]:
        """Return where a frame belongs: an index along each of `self.axes`.

        A string is a label, whose index is the order of its appearance; after the integers that came before it. A
        new axis or label makes `announced` False: the stream is to be announced again before the frame is.

        Raises
        ------
        ValueError, TypeError
            If an axis or a value is not allowed (see `scopecast.frames.axes.check_axes`).
        """
        checked = check_axes(axes) if axes else {}
        new = [name for name in checked if name not in self.axes]
        if new:
            if len(self.axes) + len(new) > MAX_AXES:
                msg = f"a stream has at most {MAX_AXES} axes; {new} would join {self.axes}: leave some out"
                raise ValueError(msg)
            self.announced = False  # first: Ctrl-C may strike between any two lines
            self.axes = list(sort_axes([*self.axes, *new]))
        return [self._place(name, checked[name]) if name in checked else 0 for name in self.axes]

    def _place(self, axis: str, value: AxisValue) -> int:
        if isinstance(value, int):
            if value >= self._ends.get(axis, 0):
                self._ends[axis] = value + 1
            return value
        labels = self._labels.setdefault(axis, {})
        index = labels.get(value)
        if index is None:
            index = self._ends.get(axis, 0)
            if index > MAX_INDEX:
                msg = f"axis {axis!r} has no place left for {value!r}: the largest index, {MAX_INDEX}, is taken"
                raise ValueError(msg)
            self._ends[axis] = index + 1  # before the label has it: no other one may get the same index
            self._list(axis, index, value)
            labels[value] = index
        return index

    def _list(self, axis: str, index: int, label: str) -> None:
        """Add a label to those that are announced, if there is room."""
        nbytes = len(label.encode(errors="surrogatepass")) + 3
        listed = self._listed.get(axis, [])
        if len(listed) < index < MAX_LABELS:
            listed = [*listed, *map(str, range(len(listed), index))]  # places that were given by number
            nbytes += sum(len(each) + 3 for each in listed[len(self._listed.get(axis, ())) :])
        count = index + 1 - len(self._listed.get(axis, ()))
        room = self._listed_count + count <= MAX_LABELS and self._listed_bytes + nbytes <= MAX_LABEL_BYTES
        if room and index == len(listed):
            self.announced = False
            self._listed_count += count
            self._listed_bytes += nbytes
            # Replaced, not changed: another thread may be writing the announcement.
            self._listed = {**self._listed, axis: [*listed, label]}

    @property
    def preview(self) -> bool:
        """Whether it is live mode: a new frame takes the place of the one before."""
        return not any(name not in ("c", "cam") for name in self.axes)

    def message(self) -> messages.Stream:
        """Return the message that announces the stream as it is now."""
        return messages.Stream(
            id=self.number,
            title=self.title,
            axes=self.axes,
            labels={axis: list(labels) for axis, labels in self._listed.items()},
            sizes=[self.sizes.get(name, 0) for name in self.axes],
            scale=self.scale,
            steps=[float(self.steps.get(name, 0.0)) for name in self.axes],
            units=self.units,
            preview=self.preview,
            colors=self.colors or self._colors_by_name,
            run=self.run,
            began_ns=self.began_ns,
        )

    @property
    def _colors_by_name(self) -> list[str]:
        colors = [self._color_of.get(name, "") for name in self._listed.get("c", ())[:MAX_COLORS]]
        return colors if any(colors) else []


def given(**keywords: Any) -> dict[str, Any]:
    """Return those of some keywords that a caller has given: not None, and not an empty collection.

    >>> given(scale=0.5, units=None, channels=())
    {'scale': 0.5}
    """
    return {name: value for name, value in keywords.items() if value is not None and not _is_nothing(value)}


def _is_nothing(value: object) -> bool:
    return isinstance(value, str | tuple | list | dict) and not value


def _listed(what: str, names: str | Sequence[str]) -> Sequence[str]:
    """Return names as a list: a text is one name, and not one for each of its letters."""
    if not isinstance(names, Iterable):
        msg = f"{what} are names in order, such as ['one', 'two'], or one name; not {names!r}"
        raise TypeError(msg)
    return [names] if isinstance(names, str) else names


def _mapping(what: str, given: object, example: str) -> None:
    if not isinstance(given, Mapping):
        msg = f"{what} are a mapping such as {example}, not {given!r}"
        raise TypeError(msg)


def _finite(what: str, values: Iterable[float]) -> list[float]:
    given = list(values)
    if wrong := [value for value in given if isinstance(value, str | bool) or not hasattr(value, "__float__")]:
        msg = f"{what}: numbers are needed, such as 0.65; got {wrong[0]!r}"
        raise TypeError(msg)
    try:
        numbers = [float(value) for value in given]
    except OverflowError:  # an int of hundreds of digits
        numbers = [math.inf]
    if not all(abs(number) <= 1e300 for number in numbers):  # NaN is not, either
        msg = f"{what} must be finite numbers; got {str(given)[:80]}"
        raise ValueError(msg)
    return numbers


def _short(what: str, text: str) -> str:
    if not isinstance(text, str) or len(text) > MAX_LABEL:
        msg = f"{what} is a text of at most {MAX_LABEL} characters; got {text!r}"
        raise ValueError(msg)
    return printable(text)
