"""Show the maximum over z as a stack grows: on each plane, the projection of those that have come so far.

scopecast pipe examples/analyse/max_projection.py:max_projection --kind image --every
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scopecast import Frame

_so_far: dict[tuple[object, ...], np.ndarray] = {}  # of each stack that is being taken


def max_projection(frame: Frame) -> np.ndarray | None:
    """Return the projection, (y, x) as the frame; None if the frame has no z."""
    if "z" not in frame.axes:
        return None
    stack = (frame.stream, *((axis, place) for axis, place in frame.axes.items() if axis != "z"))
    before = _so_far.get(stack)
    if before is None or before.shape != frame.shape:
        while len(_so_far) > 8:  # stacks that are complete
            del _so_far[next(iter(_so_far))]
        _so_far[stack] = frame.copy()
    else:
        np.maximum(before, frame.array, out=before)
    return _so_far[stack]
