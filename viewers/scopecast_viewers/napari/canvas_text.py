"""The text on napari's canvas, which may change with each picture without costing as much as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari.viewer import Viewer

__all__ = ["CanvasText"]


class CanvasText:
    """Writes the text overlay of a viewer. Used on the GUI's thread only.

    With each text, napari makes the box behind it anew, for which OpenGL links a program, and puts the overlays in
    their places as it paints. There a transform keeps a place in single precision and compares it with one in double,
    which is nearly always another, so that the canvas is painted, and the window composed, a second time. Here a box is
    made where it is another one, and the overlays have their places before the canvas is painted; with a napari of
    which that can't be had, the same text just costs more.

    Parameters
    ----------
    viewer
        The napari viewer.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._boxed: Any = None  # the visual whose boxes are made where they are other ones

    def write(self, text: str) -> None:
        """Show a text; with "", none."""
        overlay = self._viewer.canvas.overlays.text
        canvas = getattr(getattr(self._viewer.window, "_qt_viewer", None), "canvas", None)
        self._spare_boxes(next(iter(getattr(canvas, "_viewer_overlay_to_visual", {}).get(overlay, ())), None))
        if overlay.text != text:
            overlay.text = text
        if overlay.visible != bool(text):
            overlay.visible = bool(text)
        if callable(place := getattr(canvas, "_update_overlay_canvas_positions", None)):
            place()

    def _spare_boxes(self, visual: Any) -> None:
        """Have a visual make no box where it would be the one that there is."""
        if visual is self._boxed or not callable(make := getattr(visual, name := "_on_box_change", None)):
            return
        self._boxed = visual
        overlay, canvas = visual.overlay, self._viewer.canvas
        made: tuple[object, ...] = ()

        def make_if_other(_event: Any = None) -> None:
            nonlocal made
            colors = str(overlay.box_color), str(canvas.background_color)
            box = (visual.x_size, visual.y_size, overlay.box, overlay.visible, canvas.overlay_tiling.padding, *colors)
            if box != made or visual.box.parent is not visual.node.parent:
                make()
            made = box

        setattr(visual, name, make_if_other)
