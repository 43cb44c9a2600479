"""Copies of live layers, which are ordinary layers: they lie on the sliders of the live ones, by the names of axes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Image, Labels

from scopecast.frames.axes import sort_axes
from scopecast_viewers.napari.layer_axes import take_in_axes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from napari.viewer import Viewer

__all__ = ["Copies"]

logger = logging.getLogger(__name__)


class Copies:
    """The copies in a viewer. Used on the GUI's thread only.

    napari aligns the axes of its layers from the last one, whatever they are called: a copy over z beside a live series
    would lie along t, and give the slider its name.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._fitted: WeakKeyDictionary[Any, tuple[Any, ...]] = WeakKeyDictionary()  # what `fit` has done of each

    def __iter__(self) -> Iterator[tuple[Any, tuple[str, ...]]]:
        """Iterate over the layers that are copies, each with its leading axes."""
        for layer in self._viewer.layers:
            if not (isinstance(layer, Image | Labels) and isinstance(layer.data, np.ndarray)):
                continue
            *axes, y, x = layer.axis_labels
            named = (y, x) == ("y", "x") and tuple(axes) == sort_axes(axes) and all(map(str.isidentifier, axes))
            if named and "scopecast" in layer.metadata:
                yield layer, tuple(axes)

    @property
    def axes(self) -> set[str]:
        """All that they have."""
        return {name for _, axes in self for name in axes}

    @property
    def units(self) -> dict[str, str]:
        """The unit of each axis, of the first that has it."""
        units: dict[str, str] = {}
        for layer, axes in self:
            for name, unit in zip(axes, layer.units, strict=False):
                units.setdefault(name, str(unit))
        return units

    @property
    def extents(self) -> Iterator[tuple[str, float, float, float]]:
        """The axes of each: its name, where it begins and ends, and the step, in its unit."""
        for layer, axes in self:
            yield from (
                (name, float(low), float(low + (size - 1) * step), float(step))
                for name, low, size, step in zip(axes, layer.translate, layer.data.shape, layer.scale, strict=False)
            )

    def fit(self, axes: tuple[str, ...], units: tuple[str, ...]) -> None:
        """Have each lie on sliders that are called `axes`, all that any has, in the units of these and of the plane.

        Along an axis before its own, a copy is to be seen everywhere; along one between them, at 0.
        """
        for layer, own in tuple(self):
            wanted = axes[axes.index(own[0]) :] if own else ()
            mine = units[len(axes) - len(wanted) :]
            if self._fitted.get(layer) == (wanted, mine):
                continue
            self._fitted[layer] = (wanted, mine)
            try:
                self._fit(layer, own, wanted, mine)
            except Exception:  # it is the user's: what lies wrong is not worth the live picture
                logger.exception("%s can't take in the axes %s", layer.name, wanted)

    @staticmethod
    def _fit(layer: Any, own: tuple[str, ...], wanted: tuple[str, ...], units: tuple[str, ...]) -> None:
        if wanted == own:
            layer.units = units
            return

        def with_others(values: Sequence[Any], other: Any) -> list[Any]:
            known = dict(zip(own, values, strict=False))
            return [*(known.get(name, other) for name in wanted), *values[len(own) :]]

        data = layer.data.reshape(with_others(layer.data.shape, 1))
        before, after = (*own, "y", "x"), (*wanted, "y", "x")
        take_in_axes(layer, data, before, after, with_others(layer.scale, 1), with_others(layer.translate, 0), units)
