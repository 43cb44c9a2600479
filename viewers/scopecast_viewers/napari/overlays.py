"""A layer of napari for the points, shapes or tracks of one set: made once, then given what belongs under the sliders.

A layer has only what is to be seen at the position of the sliders, in (y, x): giving napari all of a run at once costs
0.3 s for each thousand shapes, for each new one. Where nothing changes under a moving slider, nothing is done at all.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from scopecast_viewers.look.colors import YELLOW
from scopecast_viewers.napari.steady import all_or_nothing, take_out

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from napari.viewer import Viewer

    from scopecast.frames.documents import Style
    from scopecast_viewers.napari.contents import Content

__all__ = ["Overlay", "PointsOverlay", "ShapesOverlay", "TracksOverlay"]

_POINT_SIZE = 10.0
_POINT_COLOR = "#ffd400"
_LOOKS, _PAUSE_S = 5, 0.02


class Overlay(ABC):
    """A layer that lies on the images.

    Attributes
    ----------
    layer
        The layer; None until it is made.
    """

    kept: ClassVar[tuple[str, ...]] = ("visible", "opacity", "blending", "name")

    def __init__(self) -> None:
        self.layer: Any = None

    def add(self, viewer: Viewer, content: Content, **about: Any) -> None:
        """Make the layer, and give it its first content."""
        old, kept = self.layer, {}
        if old is not None:
            kept = {name: getattr(old, name) for name in self.kept}
            position = viewer.layers.index(old)
            take_out(viewer, old)
        self.layer = None
        with all_or_nothing(viewer):
            made = self._make(viewer, content, about)
        for name in ("get_status", "get_value"):
            setattr(made, name, _patient(getattr(made, name)))
        self.layer = made
        self.show(content)
        if old is not None:
            viewer.layers.move(len(viewer.layers) - 1, position)
        for name, value in kept.items():
            setattr(self.layer, name, value)

    @abstractmethod
    def _make(self, viewer: Viewer, content: Content, about: dict[str, Any]) -> Any:
        """Return a new layer of the viewer."""

    @abstractmethod
    def show(self, content: Content) -> None:
        """Give the layer another content."""


class PointsOverlay(Overlay):
    """A Points layer. What the user sets for new points (size, colours, symbol) holds for all that come."""

    def _make(self, viewer: Viewer, content: Content, about: dict[str, Any]) -> Any:
        style = content.style
        self._color_by = style.color_by if style.color_by in content.features else ""
        look: dict[str, Any] = {
            "size": style.size or _POINT_SIZE,
            "face_color": self._color_by or style.color or ("transparent" if style.edge_color else _POINT_COLOR),
            "border_color": style.edge_color or "black",
            "border_width": style.edge_width or 0.08,
            "border_width_is_relative": not style.edge_width,
            "symbol": style.symbol or "o",
        }
        if style.text:
            look["text"] = _text(style)
        return viewer.add_points(content.coordinates, features=content.features, **look, **about)

    def show(self, content: Content) -> None:
        """Give the layer other points."""
        layer = self.layer
        # napari would set the sliders' ranges anew for each change; they are the images' and `Sliders.reach`.
        with layer.events.data.blocker():
            layer.data = content.coordinates
            layer.features = content.features
        if self._color_by:
            layer.refresh_colors(update_color_mapping=False)
        elif len(layer.data) and not (layer.face_color == layer.face_color[-1]).all():
            layer.face_color = layer.current_face_color
        if len(layer.data) and not (layer.size == layer.current_size).all():
            layer.size = layer.current_size


class ShapesOverlay(Overlay):
    """A Shapes layer: outlines, so that the image below stays visible."""

    def _make(self, viewer: Viewer, content: Content, about: dict[str, Any]) -> Any:
        style = content.style
        look: dict[str, Any] = {
            "edge_color": style.edge_color or YELLOW,
            "face_color": style.color or "transparent",
            "edge_width": style.edge_width or 1.0,
            "opacity": 1.0,
        }
        self._color_by = style.color_by if style.color_by in content.features else ""
        self._text_by = style.text
        if style.text:
            look["text"] = _text(style)
        shapes = list(zip(content.coordinates, content.types, strict=True))
        layer = viewer.add_shapes(shapes or None, features=content.features, **look, **about)
        if self._color_by and shapes:
            layer.edge_color = self._color_by
        return layer

    def show(self, content: Content) -> None:
        """Give the layer other shapes."""
        layer = self.layer
        if self._text_by and self._text_by not in content.features:
            layer.text, self._text_by = None, ""  # napari would look for it in vain
        with layer.events.data.blocker():
            layer.data = list(zip(content.coordinates, content.types, strict=True))
            layer.features = content.features
        if not len(content.coordinates):
            return
        if content.edge_colors:
            layer.edge_color = list(content.edge_colors)
            layer.face_color = list(content.face_colors)
            layer.edge_width = list(content.widths)
        elif self._color_by:
            layer.refresh_colors(update_color_mapping=False)


class TracksOverlay(Overlay):
    """A Tracks layer: all of the run, as napari fades them by time itself."""

    kept: ClassVar[tuple[str, ...]] = (*Overlay.kept, "tail_width", "tail_length", "head_length", "colormap")

    def _make(self, viewer: Viewer, content: Content, about: dict[str, Any]) -> Any:
        style = content.style
        look: dict[str, Any] = {"tail_width": style.edge_width or 2, "tail_length": 30, "blending": "translucent"}
        layer = viewer.add_tracks(_rows(content), features=content.features, graph=dict(content.graph), **look, **about)
        if style.color_by in content.features:
            layer.color_by = style.color_by
        return layer

    def show(self, content: Content) -> None:
        """Give the layer other tracks; napari forgets their properties and graph with each."""
        layer = self.layer
        color_by = layer.color_by
        layer.data = _rows(content)
        layer.features = content.features
        layer.graph = dict(content.graph)
        if color_by in ("track_id", *content.features):
            layer.color_by = color_by


def _patient(look: Callable[..., Any]) -> Callable[..., Any]:
    """Look again where napari's thread that tells what is under the pointer has met a layer that is being changed."""

    def look_again(*place: Any, **options: Any) -> Any:
        for _ in range(_LOOKS):
            with suppress(IndexError):
                return look(*place, **options)
            time.sleep(_PAUSE_S)
        return look(*place, **options)

    return look_again


def _rows(content: Content) -> npt.NDArray[np.float64]:
    assert content.ids is not None
    return np.column_stack([content.ids, content.coordinates])


def _text(style: Style) -> dict[str, Any]:
    color = style.edge_color or style.color or YELLOW
    return {"string": f"{{{style.text}}}", "size": 10, "color": color, "anchor": "upper_left"}
