"""A crosshair and a grid over the picture, as a layer of napari's that goes along with it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.layers import Vectors

from scopecast_viewers.napari.mosaic import Mosaic
from scopecast_viewers.napari.snapshot import add_unselected, in_plane
from scopecast_viewers.napari.steady import take_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt
    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer

__all__ = ["Guides", "round_step"]

_CROSS: Final = (1.0, 0.85, 0.2, 0.9)
_GRID: Final = (1.0, 1.0, 1.0, 0.35)
_WIDTH: Final = 1.2  # of the lines on the screen, pixels
_ABOUT: Final = 8  # lines of the grid along the longer side


def round_step(length: float) -> float:
    """Return a round number, 1, 2 or 5 by a power of ten, of which a length has about eight.

    >>> [round_step(length) for length in (512, 333.0, 0.8)]
    [50.0, 50.0, 0.1]
    """
    wanted = length / _ABOUT
    power = 10.0 ** math.floor(math.log10(wanted))
    return float(f"{min((1, 2, 5, 10), key=lambda each: abs(math.log(each * power / wanted))) * power:.3g}")


class Guides:
    """The crosshair in the middle of the image, and the grid around it.

    Parameters
    ----------
    viewer
        The napari viewer.
    deleted
        Called when the user has deleted the layer, which ends both.

    Attributes
    ----------
    crosshair, grid : bool
        What is to be seen.
    layer : napari.layers.Vectors or None
        The layer that shows them.
    """

    def __init__(self, viewer: Viewer, deleted: Callable[[], None]) -> None:
        self._viewer, self._deleted = viewer, deleted
        self.crosshair = self.grid = False
        self.layer: Any = None
        self._drawn: tuple[Any, ...] = ()
        viewer.scene.camera.events.zoom.connect(self._keep_width)

    def lay(self, image: LiveLayer | None, others: Iterable[LiveLayer] = ()) -> None:
        """Lay them over an image, above the others; without an image there is nothing to lay them over."""
        layers = self._viewer.layers
        if self.layer is not None and self.layer not in layers:
            self.layer, self.crosshair, self.grid = None, False, False
            self._deleted()
        if image is None or not (self.crosshair or self.grid):
            take_out(self._viewer, self.layer)
            self.layer = None
            return
        where, size = _whole_of(image)
        drawn = (self.crosshair, self.grid, size, *(tuple(np.ravel(value)) for value in where.values()))
        if self.layer is None or drawn != self._drawn:
            self._drawn = drawn
            self._draw(size, where)
        highest = max((layers.index(each.layer) for each in others), default=-1)
        if (at := layers.index(self.layer)) < highest:
            layers.move(at, highest + 1)

    def _draw(self, size: tuple[int, ...], where: dict[str, Any]) -> None:
        y, x = where["scale"]
        step = round_step(max(size[0] * y, size[1] * x))
        parts = [(_lines(size, (step / y, step / x)), _GRID)] if self.grid else []
        parts += [(_lines(size, (math.inf, math.inf)), _CROSS)] if self.crosshair else []
        vectors = np.concatenate([lines for lines, _ in parts])
        colors = np.concatenate([np.tile(color, (len(lines), 1)) for lines, color in parts])
        unit = str(where["units"][-1]).replace("micrometer", "µm")
        words = ["crosshair"] * self.crosshair + [f"grid of {step:g} {unit}"] * self.grid
        # Made anew: the number of colours and of lines can't be changed at once.
        take_out(self._viewer, self.layer)
        self.layer = Vectors(
            vectors,
            edge_color=colors,
            vector_style="line",
            name=", ".join(words),
            opacity=1,
            blending="translucent_no_depth",
            **where,
        )
        self._keep_width()
        add_unselected(self._viewer, [self.layer])

    def _keep_width(self, _event: Any = None) -> None:
        """Keep the lines as thin on the screen, however closely the user looks."""
        if self.layer is not None:
            self.layer.edge_width = _WIDTH / self._viewer.scene.camera.zoom / float(min(np.abs(self.layer.scale)))

    def stop(self) -> None:
        """Listen to the viewer no more; the layer stays. Idempotent."""
        self._viewer.scene.camera.events.zoom.disconnect(self._keep_width)


def _whole_of(image: LiveLayer) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Return where an image lies, and its pixels (y, x); of a picture of which a part is shown, those of all of it."""
    where, size = in_plane(image.layer), image.data.plane_shape[:2]
    if not isinstance(image.data, Mosaic) or image.data.window == (whole := image.data.whole):
        return where, size
    part = image.data.window  # the user has not turned it, see `CloserLook`
    pixel = np.asarray(where["scale"]) / part.every
    away = np.array(part.low) + (part.every - whole.every) / 2
    where["scale"] = tuple(pixel * whole.every)
    where["translate"] = tuple(np.asarray(where["translate"]) - away * pixel)
    return where, tuple(-(-extent // whole.every) for extent in whole.high)


def _lines(size: tuple[int, ...], steps: tuple[float, float]) -> npt.NDArray[np.float64]:
    """Return lines across an image, through its middle and in steps from there: (n, start and way, y and x), pixels."""
    found = []
    for axis in range(2):
        middle, other = (size[axis] - 1) / 2, 1 - axis
        count = int((size[axis] / 2) // steps[axis])
        for number in range(-count, count + 1):
            line = np.zeros((2, 2))
            line[0, axis] = middle + (number * steps[axis] if number else 0.0)
            line[0, other], line[1, other] = -0.5, size[other]
            found.append(line)
    return np.array(found)
