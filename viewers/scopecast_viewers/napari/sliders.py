"""How far the sliders of a napari viewer reach, and what unit they have."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import numpy as np

from scopecast_viewers.napari.limits import MOST_STEPS
from scopecast_viewers.napari.units import canvas_unit

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["Sliders", "agreed_units"]


def agreed_units(streams: tuple[LiveStream, ...], axes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the unit of each axis: what all streams say, or "pixel"; napari has one unit for all layers."""
    said: dict[str, set[str]] = {}
    # Labels and marks whose unit nobody has said change nothing of that of the images.
    for stream in [each for each in streams if each.received] or streams:
        unit = canvas_unit(stream)
        said.setdefault("yx", set()).add(unit)
        for name, step in zip(stream.about.axes, stream.about.steps, strict=True):
            said.setdefault(name, set()).add(unit if name == "z" and step else "pixel")
    agreed = [next(iter(said.get(name, ()))) if len(said.get(name, ())) == 1 else "pixel" for name in axes]
    plane = next(iter(said["yx"])) if len(said.get("yx", ())) == 1 else "pixel"
    return (*agreed, plane, plane)


class Sliders:
    """The sliders of a viewer, which reach as far as its layers do, and farther where that is wanted.

    Attributes
    ----------
    reach : dict of str to (low, high)
        How far they reach along each axis, in its unit, even where no layer does.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.reach: dict[str, tuple[float, float]] = {}
        self._short: dict[str, str] = {}  # sliders that can't reach all that is published, and why

    @property
    def problems(self) -> tuple[str, ...]:
        """Which can't reach all that is published."""
        return tuple(self._short.values())

    def stretch(self, axes: tuple[str, ...]) -> None:
        """Let the sliders, which are called `axes`, reach as far as the layers do, and `reach`."""
        dims, extent = self._viewer.dims, self._viewer.layers.extent
        sliders = range(dims.ndim - 2)
        lows, highs = np.array(extent.world)  # a copy: napari keeps its own
        for axis, name in zip(reversed(sliders), reversed(axes), strict=False):
            low, high = self.reach.get(name, (inf, -inf))
            wide = (min(lows[axis], low), max(highs[axis], high))
            if wide[1] - wide[0] <= MOST_STEPS * extent.step[axis]:
                lows[axis], highs[axis] = wide
                self._short.pop(name, None)
            else:
                self._short[name] = f"the slider of {name} can't reach from {wide[0]:g} to {wide[1]:g}"
        # napari counts the steps by dividing, and would lose the last one of a step such as 0.7 to rounding.
        more = [max(1e-6 * extent.step[axis], 8 * np.spacing(abs(highs[axis]))) for axis in sliders]
        ranges = [(lows[axis], highs[axis] + more[axis], extent.step[axis]) for axis in sliders]
        if ranges:
            dims.set_range(list(sliders), ranges)

    def stretch_if_short(self, axes: tuple[str, ...]) -> None:
        """Let them reach all places of `reach`, if they do not."""
        dims = self._viewer.dims
        first = dims.ndim - 2 - len(axes)
        for at, name in enumerate(axes):
            if name in self.reach and first + at >= 0:
                low, high = self.reach[name]
                reaches = dims.range[first + at]
                if low < reaches.start - 1e-9 or high > reaches.stop + 1e-9:
                    self.stretch(axes)
                    return
