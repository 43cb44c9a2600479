"""The sliders follow the newest frame, until the user moves one."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from napari.viewer import Viewer

__all__ = ["Follower"]

#: Places that are less of a slider's step apart are the same, but for rounding. (Relative to how far away they are, ten
#: frames at t = 1,000,000 would be.)
_SAME = 1e-3


class Follower:
    """Moves the sliders of a viewer, and notices when somebody else does.

    Parameters
    ----------
    viewer
        The napari viewer.
    stopped
        Called when the user has moved a slider, and following has ended.

    Attributes
    ----------
    following : bool
        Whether the sliders follow.
    """

    def __init__(self, viewer: Viewer, stopped: Callable[[], None]) -> None:
        self.viewer = viewer
        self.following = True
        self._stopped = stopped
        self._ours = 0
        self._last: tuple[float, ...] = ()
        viewer.dims.events.point.connect(self._moved)

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Mark the changes of the sliders in this block as ours, not the user's."""
        self._ours += 1
        try:
            yield
        finally:
            self._ours -= 1
            self._last = tuple(self.viewer.dims.point)

    @property
    def moves(self) -> bool:
        """Whether it is us who change the viewer right now."""
        return self._ours > 0

    def _moved(self, _event: Any = None) -> None:
        if self._ours or not self.following:
            return
        dims = self.viewer.dims
        before, now = self._last, tuple(dims.point)
        self._last = now
        # Another layer may have given the viewer another number of axes, or one that was deleted another range; that is
        # nobody's wish to look elsewhere.
        if len(before) != len(now):
            return
        for axis in range(len(now)):
            low, high, step = dims.range[axis]
            # A slider's step is the least that a user can do; napari itself puts points onto the steps.
            if axis not in dims.displayed and abs(now[axis] - min(max(before[axis], low), high)) > 0.5 * step:
                self.following = False
                self._stopped()
                return

    def go(self, axes: tuple[str, ...], where: Mapping[str, float], steps: Mapping[str, float]) -> bool:
        """Move the sliders to absolute positions along the viewer's axes. Return whether one had to move.

        Positions count steps; those along an axis that has none are in the viewer's unit.
        """
        dims = self.viewer.dims
        first = dims.ndim - len(axes) - 2
        moves = {
            first + at: where.get(name, 0) * steps.get(name, 1.0) for at, name in enumerate(axes) if first + at >= 0
        }
        before = tuple(dims.point)
        # An axis that the user has put on the canvas (a volume in 3-D) has no slider.
        moves = {
            axis: to
            for axis, to in moves.items()
            if axis not in dims.displayed and abs(before[axis] - to) > _SAME * dims.range[axis].step
        }
        if moves:
            # Of each layer that is sliced, napari's list of layers paints a new thumbnail, a moment later: the window
            # would be composed once more, which is as much work as the picture.
            with self.moving(), self.viewer.layers.events.blocker():
                dims.set_point(list(moves), list(moves.values()))
        return tuple(dims.point) != before

    def disconnect(self) -> None:
        """Stop listening to the viewer."""
        self.viewer.dims.events.point.disconnect(self._moved)
