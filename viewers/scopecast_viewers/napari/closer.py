"""A large picture of many fields, looked at closely: the part that is seen is shown with all of its pixels.

A `Mosaic` of many fields shows every second, third, … pixel. When the screen has room for more, the layer is made to
show only the part that is seen, and some more around it, with as many pixels as that takes. It is a small part, and
costs less than the whole. When the user looks elsewhere, another part is shown before the canvas is painted.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from napari.settings import get_settings

from scopecast_viewers.napari.mosaic import MOST_PIXELS, Mosaic, Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt
    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.napari.layers import LiveLayers

__all__ = ["CloserLook", "window_for"]

#: How far the part that is shown reaches beyond what is seen, as a part of that.
_AROUND: Final = 0.25
#: Bytes of frames that may be read for a part that is not shown with all of its pixels: many fields may be in it.
_MOST_BYTES: Final = 1 << 27


def window_for(
    mosaic: Mosaic, low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], screen_pixel: float
) -> Window:
    """Return the part of a picture that is to be shown.

    Parameters
    ----------
    mosaic
        The picture.
    low, high
        (y, x) of what is seen, in pixels of the frames.
    screen_pixel
        How many of these one pixel of the screen is wide.

    Returns
    -------
    Window
        All of it if the screen has no room for more pixels than that has, or nothing of it is seen. The same as now as
        long as that is as exact as can be seen, and has all that is seen.
    """
    whole, now = mosaic.whole, mosaic.window
    every = max(1, math.floor(screen_pixel))
    seen_low = np.maximum(np.floor(low), 0)
    seen_high = np.minimum(np.ceil(high) + 1, whole.high)
    seen = seen_high - seen_low
    if every >= whole.every or (seen <= 0).any() or (seen > every * MOST_PIXELS).any():
        return whole
    if now.every == every and (seen_low >= now.low).all() and (seen_high <= now.high).all():
        return now
    around = np.minimum(_AROUND * seen, (every * MOST_PIXELS - seen) // 2)
    ends = np.maximum(seen_low - around, 0), np.minimum(seen_high + around, whole.high)
    (top, left), (bottom, right) = (tuple(map(int, end)) for end in ends)
    window = Window((top, left), (bottom, right), every)
    if every > 1 and mosaic.fields_in(window) * mosaic.stack.zero.nbytes > _MOST_BYTES:
        return whole
    return window


class CloserLook:
    """Has the large pictures of a viewer show what is seen of them with as many pixels as can be seen.

    Used on the GUI's thread only.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        Its live layers.
    changing
        Called with what changes layers, which it is to call.
    """

    def __init__(self, viewer: Viewer, layers: LiveLayers, changing: Callable[[Callable[[], object]], object]) -> None:
        self._viewer, self._layers, self._changing = viewer, layers, changing
        self._fitting = False
        self._of_parts = False  # the extent that the viewer may be fitted to is, or was, not that of whole pictures
        camera, dims = viewer.scene.camera.events, viewer.dims.events
        self._events: tuple[Any, ...] = (
            camera.zoom,
            camera.center,
            dims.ndisplay,
            dims.order,
            viewer.canvas.events.size,
        )
        for event in self._events:
            event.connect(self.look)
        viewer.events.reset_view.connect(self._fitted)

    def look(self, _event: Any = None) -> None:
        """Show of each picture what is to be seen of it now."""
        if not self._fitting:
            self._show(
                {live: self._window_of(live, live.data) for live in self._layers if isinstance(live.data, Mosaic)}
            )

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Show all of each picture within a block, which fits the viewer to them."""
        self._fitting = True
        try:
            self._show({live: live.data.whole for live in self._layers if isinstance(live.data, Mosaic)})
            yield
        finally:
            self._fitting = self._of_parts = False
        self.look()

    def _fitted(self, _event: Any = None) -> None:
        """Have the user see all, who has asked for that, and not only the parts that are shown."""
        if self._of_parts and not self._fitting:
            with self.whole():
                self._viewer.reset_view()

    def _show(self, wanted: dict[LiveLayer, Window]) -> None:
        seen = {live: window for live, window in wanted.items() if live.layer.visible and not live.parked}
        new = {live: window for live, window in seen.items() if live.window != window}
        if new:
            self._of_parts = True

            def change() -> None:
                for live, window in new.items():
                    live.look_at(window)

            self._changing(change)

    def _window_of(self, live: LiveLayer, mosaic: Mosaic) -> Window:
        """Return what is to be shown of the picture of a layer; all of it where the user has turned the layer."""
        viewer, layer = self._viewer, live.layer
        dims = viewer.dims
        flat = dims.ndisplay == 2 and tuple(dims.displayed) == (dims.ndim - 2, dims.ndim - 1)
        turned = np.any(np.asarray(layer.shear)) or not (
            np.array_equal(layer.rotate, np.eye(layer.ndim))
            and np.array_equal(layer.affine.affine_matrix, np.eye(layer.ndim + 1))
        )
        scale = np.asarray(layer.scale, float)[-2:] / mosaic.every
        late = get_settings().experimental.async_  # planes are read when the part may be another one
        if mosaic.whole.every == 1 or not flat or turned or late or viewer.canvas.grid.enabled or (scale <= 0).any():
            return mosaic.whole
        camera = viewer.scene.camera
        first = np.asarray(layer.translate, float)[-2:] - (np.array(mosaic.window.low) + (mosaic.every - 1) / 2) * scale
        middle = (np.asarray(camera.center, float)[-2:] - first) / scale
        reach = np.asarray(viewer.canvas.size, float) / 2 / camera.zoom / scale
        return window_for(mosaic, middle - reach, middle + reach, float(1 / (camera.zoom * scale.max())))

    def stop(self) -> None:
        """Listen to the viewer no more. Idempotent."""
        for event in self._events:
            event.disconnect(self.look)
        self._viewer.events.reset_view.disconnect(self._fitted)
        self._events = ()
