"""The names of positions on the canvas, as a layer of points that are nothing but text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast_viewers.napari.steady import all_or_nothing, take_out
from scopecast_viewers.napari.units import corner_on_canvas

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from scopecast_viewers.napari.stage_layout import StageLayout
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["PlaceNames"]


class PlaceNames:
    """Writes the names of the positions of one run.

    Parameters
    ----------
    viewer
        The napari viewer.

    Attributes
    ----------
    layer : napari.layers.Points or None
        Has them; the user may hide or delete it.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.layer: Any = None
        self._seen: tuple[object, ...] = ()
        self._look: dict[str, Any] = {}

    def show(self, stream: LiveStream | None, layout: StageLayout | None, units: tuple[str, ...]) -> None:
        """Show the names of a run; without a layout, or one without names, none."""
        names = layout.names if layout is not None else ()
        seen = (names, units, stream.key if stream is not None and names else None)
        if seen == self._seen:
            return
        same_run, self._seen = self._seen[2:] == seen[2:], seen
        deleted = self.layer is not None and self.layer not in self._viewer.layers
        if self.layer is not None and not deleted:
            self._look = {name: getattr(self.layer, name) for name in ("visible", "opacity")}
            take_out(self._viewer, self.layer)
        if not (deleted and same_run):
            self.layer = None
        if stream is None or not names or self.layer is not None:
            return
        selected = set(self._viewer.layers.selection)
        with all_or_nothing(self._viewer):
            self.layer = self._viewer.add_points(
                np.array([corner_on_canvas(stream, at) for at, _ in names]),
                name=f"positions · {stream.about.title}",
                features={"name": [name for _, name in names]},
                text={"string": "{name}", "size": 9, "color": "white", "anchor": "lower_left"},
                size=1e-3,
                face_color="transparent",
                border_color="transparent",
                axis_labels=("y", "x"),
                units=units[-2:],
                **self._look,
            )
            self.layer.editable = False
        self._viewer.layers.selection = selected
