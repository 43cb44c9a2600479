"""A live view in a napari window of the test's own process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast import Publisher
from scopecast_viewers.napari.display import NapariDisplay
from scopecast_viewers.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Iterator

    import napari

    from scopecast_viewers.napari.live_view import LiveView
    from scopecast_viewers.stacks.history import History

__all__ = ["Live", "sliced"]


def sliced(layer: Any) -> np.ndarray:
    """Return the pixels that a layer has sliced for the canvas."""
    return np.asarray(layer._slice.image.raw)


class Live:
    """A live view in the window of this process, and publishers for it."""

    def __init__(self, viewer: napari.Viewer, qtbot: Any, history: History | None = None) -> None:
        self.viewer, self.qtbot = viewer, qtbot
        self.display = NapariDisplay()
        self.receiver = Receiver(self.display, history=history)
        self.view: LiveView = self.display.show_in(viewer, self.receiver)
        self.receiver.start()

    def until(self, condition: Any, timeout: float = 60.0) -> None:
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=int(timeout * 1000))

    def publisher(self, shape: tuple[int, ...] = (64, 48), dtype: str = "uint16", **arguments: Any) -> Publisher:
        """Return a publisher that this view is attached to."""
        publisher = Publisher("napari", **{"policy": "every", "budget": 8 * 2**20, **arguments})
        publisher.open(shape, dtype)
        self.attach(publisher)
        return publisher

    def attach(self, publisher: Publisher) -> None:
        self.until(lambda: any(row.attached and row.token == self.receiver.member.token for row in publisher.stats()))

    def settled(self, publisher: Publisher) -> None:
        """Wait until all that was published is in the stacks and on the layers."""
        self.until(lambda: publisher.flush(0))
        self.caught_up()

    def caught_up(self) -> None:
        """Wait until all that has come is on the layers."""
        # A frame is acknowledged before the window is told of it: look at what the layers show, not at who was told.
        self.until(lambda: not self.view._changed and not self.view.layers.incomplete and not self._behind())

    @contextmanager
    def slice_on_its_way(self) -> Iterator[None]:
        """Update the window at the end of this block, and only then, while a slice of before is to be delivered yet.

        For napari's asynchronous slicing: the slice is ready when the block's frames come onto the layers.
        """
        self.view._timer.stop()
        yield
        slicer = self.viewer._layer_slicer
        slicer.submit(layers=self.viewer.layers, dims=self.viewer.dims)
        slicer.wait_until_idle(60.0)
        self.view.update()
        self.view._timer.start()

    def _behind(self) -> bool:
        """Whether a stack has frames that no layer shows yet; layers that were deleted or failed show nothing more."""
        layers = self.view.layers
        versions = {key: live.version for key, live in layers._layers.items()}
        versions.update((key, None) for key in (*layers._closed, *layers._failed))
        overlays = self.view.annotations
        seen = {key[0]: live.version for key, live in overlays._layers.items()}
        seen.update((key[0], None) for key in (*overlays._closed, *overlays._failed))
        for each in (each for stream in self.view.scene.streams for each in stream.annotations):
            empty = each.kind == "rois" and not any(len(item.document) for item in each)
            if not empty and seen.get(each, -1) not in (None, each.version):
                return True
        if any(stream.newest is not None and not self.view.scene.knows(stream) for stream in self.receiver.streams):
            return True
        parts = (part for stream in self.view.scene.streams for part in layers.tiling.parts(stream))
        return any(versions.get(part, -1) not in (None, part[0].version) for part in parts)

    def layer(self, name: str) -> Any:
        return self.viewer.layers[name]

    def shown(self, name: str) -> np.ndarray:
        """Return the pixels that the layer has sliced for the canvas."""
        return sliced(self.layer(name))

    @property
    def is_colored(self) -> bool:
        """Whether the middle of the canvas shows a label or a point: an image without channels is gray."""
        canvas = self.viewer.screenshot(canvas_only=True, flash=False)
        middle = canvas[canvas.shape[0] // 2, canvas.shape[1] // 2, :3].astype(int)
        return bool(np.ptp(middle) > 40)

    def point(self) -> tuple[float, ...]:
        return tuple(self.viewer.dims.point)

    def close(self) -> None:
        self.viewer.layers.clear()
        self.display.close()
        self.receiver.close()
        self.viewer.window.remove_dock_widget(self.view.dock)
