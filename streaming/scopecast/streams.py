"""A stream: the frames of one run, and the order of its axes and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopecast import wire
from scopecast.axes import check_axes, sort_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopecast.axes import AxisValue

__all__ = ["FrameStream"]

MAX_LABELS = 1024


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
        Names of the channels in order; others are added as they appear.
    colors
        Their colours, as ``#rrggbb`` or a colormap's name; ``""`` leaves the choice to the viewer.
    scale
        Size of a pixel (y, x) in `units`.
    steps
        Distance between positions along an axis in `units`, e.g. ``{"z": 0.5}``.
    units
        Unit of `scale` and `steps`, such as ``"um"``; ``"pixel"`` where it is not known.
    """

    def __init__(
        self,
        number: int,
        title: str,
        *,
        sizes: Mapping[str, int] = {},
        channels: Sequence[str] = (),
        colors: Sequence[str] = (),
        scale: Sequence[float] = (1.0, 1.0),
        steps: Mapping[str, float] = {},
        units: str = "pixel",
    ) -> None:
        self.number, self.title = number, title[:200]
        self.sizes = {str(name): int(size) for name, size in sizes.items()}
        self.axes: list[str] = list(sort_axes(self.sizes))
        self.scale, self.units, self.steps = [float(value) for value in scale], units, dict(steps)
        self.colors = list(colors)[:MAX_LABELS]
        self._labels: dict[str, dict[str, int]] = {}
        for channel in channels:
            self._place("c", channel)
        self.announced = False
        self.ended = False

    def place(self, axes: Mapping[str, AxisValue]) -> list[int]:
        """Return where a frame belongs: an index along each of `self.axes`.

        A string is a label, whose index is the order of its appearance. A new axis or label makes `announced` False:
        the stream is to be announced anew before the frame is.

        Raises
        ------
        ValueError, TypeError
            If an axis or a value is not allowed (see `scopecast.axes.check_axes`).
        """
        checked = check_axes(axes) if axes else {}
        new = [name for name in checked if name not in self.axes]
        if new:
            if len(self.axes) + len(new) > 8:
                msg = f"a stream has at most 8 axes; this one has {self.axes}, and {new} would join: leave some out"
                raise ValueError(msg)
            self.axes = list(sort_axes([*self.axes, *new]))
            self.announced = False
        return [self._place(name, checked[name]) if name in checked else 0 for name in self.axes]

    def _place(self, axis: str, value: AxisValue) -> int:
        if isinstance(value, int):
            return value
        labels = self._labels.setdefault(axis, {})
        index = labels.get(value)
        if index is None:
            if len(labels) == MAX_LABELS:
                msg = f"axis {axis!r} has {MAX_LABELS} labels already, {value!r} would be one more: use integers"
                raise ValueError(msg)
            index = labels[value] = len(labels)
            self.announced = False
        return index

    def message(self) -> wire.Stream:
        """Return the message that announces the stream as it is now."""
        return wire.Stream(
            id=self.number,
            title=self.title,
            axes=self.axes,
            labels={axis: list(labels) for axis, labels in self._labels.items()},
            sizes=[self.sizes.get(name, 0) for name in self.axes],
            scale=self.scale,
            steps=[float(self.steps.get(name, 1.0)) for name in self.axes],
            units=self.units,
            preview=not any(name != "c" for name in self.axes),
            colors=self.colors,
        )
