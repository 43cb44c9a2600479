"""Copies of what live layers hold, or show, as ordinary layers, which no stream touches any more."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import psutil
from napari.layers import Layer
from napari.qt.threading import create_worker
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject
from qtpy.QtWidgets import QMessageBox

from scopecast_viewers.napari.mosaic import Mosaic
from scopecast_viewers.napari.steady import all_or_nothing
from scopecast_viewers.receiving.exporting import is_preview
from scopecast_viewers.receiving.metadata import metadata_lines
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.napari.layers import LiveLayers
    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.moment import Copied, Moment
    from scopecast_viewers.stacks.plane import Plane

__all__ = [
    "ShownLayers",
    "Snapshot",
    "Snapshots",
    "add_unselected",
    "chosen_layers",
    "in_plane",
    "shown_frame",
    "shown_picture",
    "size_text",
]

#: What the layer of one frame takes over as it is.
_LOOK = ("colormap", "contrast_limits", "gamma", "opacity", "blending", "interpolation2d", "rgb")
_NOT_EXACT = "not copied: what is shown is a preview, whose exact pixels are still on their way; try again in a while"
#: Bytes from which the user is asked first.
ASK_FROM = 1 << 30


class ShownLayers(Protocol):
    """What the tools need of a `LiveView`: its layers, and the runs that the sliders follow and the user looks at."""

    viewer: Viewer
    layers: LiveLayers
    receiver: Receiver
    window: Any

    @property
    def followed(self) -> LiveStream | None:
        """The run that the sliders follow; None before the first."""

    @property
    def looked_at(self) -> LiveStream | None:
        """The run that was brought back, or else the one that is followed."""

    def ask(self, work: Callable[[], None]) -> None:
        """Have something done on the GUI's thread soon."""

    def catch_up(self) -> None:
        """Have the sliders come after the picture."""


def size_text(nbytes: int) -> str:
    """Return a size as one reads it.

    >>> size_text(8 << 20), size_text(3 << 29), size_text(100)
    ('8.0 MiB', '1.5 GiB', '0.0 MiB')
    """
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 1 << 30 else f"{nbytes / 2**20:.1f} MiB"


def chosen_layers(view: ShownLayers) -> list[LiveLayer]:
    """Return the live layers to copy: those that are selected, else the visible ones of the run that is looked at."""
    selected = set(view.viewer.layers.selection)
    chosen = [live for live in view.layers if live.layer in selected]
    return chosen or [live for live in view.layers if live.stream is view.looked_at and live.layer.visible]


class Snapshot:
    """What live layers hold at the moment in which it is made, with all that their look is made of.

    Parameters
    ----------
    layers
        The live layers.
    """

    def __init__(self, layers: list[LiveLayer]) -> None:
        self._parts: list[tuple[Moment, tuple[int, ...], dict[str, Any], str, Any]] = []
        for live in layers:
            data, look, kind = live.layer.as_layer_data_tuple()
            look = dict(look)
            look["name"] = f"{live.layer.name} (snapshot)"
            look["metadata"] = copy.deepcopy({**look["metadata"]})
            # Over the live picture it would hide it, or add to its brightness.
            look["visible"] = False
            moment = data.moment()
            self._parts.append(
                (moment, data.shape_of(moment), look, kind, getattr(live.layer, "contrast_limits_range", None))
            )

    @property
    def names(self) -> list[str]:
        """What the copies will be called."""
        return [look["name"] for _, _, look, _, _ in self._parts]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the copies will take."""
        return sum(moment.nbytes for moment, _, _, _, _ in self._parts)

    @property
    def question(self) -> str:
        """What to ask the user first, or ``""`` where it is small."""
        free = int(psutil.virtual_memory().available)
        if self.nbytes < min(ASK_FROM, free // 2):
            return ""
        warning = "; the system may freeze" if self.nbytes > free else ""
        return f"The copy takes {size_text(self.nbytes)} of memory; {size_text(free)} are free{warning}. Make it?"

    def copy(self) -> list[Copied]:
        """Copy the pixels. Called from any thread, once; waits for the disk where planes are there."""
        return [moment.copy() for moment, _, _, _, _ in self._parts]

    def add(self, viewer: Viewer, copies: list[Copied]) -> None:
        """Add the copies to a viewer, hidden; the user goes on with the layer that they work on."""
        made = []
        for copied, (_, shape, look, kind, reach) in zip(copies, self._parts, strict=True):
            layer = Layer.create(copied.pixels.reshape(shape), look, kind)
            if reach is not None:
                layer.contrast_limits_range = reach
                layer.contrast_limits = look["contrast_limits"]
            made.append(layer)
        add_unselected(viewer, made)

    def forget(self) -> None:
        """Let go of the planes, and of all else."""
        self._parts.clear()


def add_unselected(viewer: Viewer, layers: list[Any]) -> None:
    """Add layers to a viewer; the user goes on with the layer that they work on."""
    selected, active = set(viewer.layers.selection), viewer.layers.selection.active
    for layer in layers:
        with all_or_nothing(viewer):
            viewer.add_layer(layer)
    if active is not None:
        viewer.layers.selection = selected


def in_plane(layer: Any) -> dict[str, Any]:
    """Return where a layer lies along its last two axes, as another one of these alone takes it."""
    where = {name: tuple(getattr(layer, name))[-2:] for name in ("scale", "translate", "units", "axis_labels")}
    turned = np.asarray(layer.rotate)[-2:, -2:]
    return {**where, "rotate": turned, "affine": layer.affine.affine_matrix[-3:, -3:]}


def shown_frame(live: LiveLayer, point: tuple[float, ...]) -> tuple[tuple[int, ...], Plane, Tag | None] | None:
    """Return the frame that a live layer shows at a point of the viewer: its place, plane and tag; None at a gap."""
    at = live.data.place(live.index_at(point))
    place = live.data.shown_at(at)
    if place is None:
        return None
    kept = live.data.kept
    plane, tag = (kept[at], live.shown) if at in kept else (live.stack.plane(place), live.stack.tag(place))
    return None if plane is None else (place, plane, tag if isinstance(tag, Tag) else None)


def shown_picture(live: LiveLayer, point: tuple[float, ...]) -> tuple[tuple[int, ...], Plane, Tag | None] | None:
    """Return as `shown_frame` does, but of positions that are one picture all of it: the pixels of the layer."""
    frame = shown_frame(live, point)
    if frame is None or not isinstance(live.data, Mosaic):
        return frame
    place, _, tag = frame
    return place, live.data.picture, tag


class Snapshots(QObject):  # type: ignore[misc]  # qtpy has no types
    """Takes snapshots in the window of a live view.

    Parameters
    ----------
    view
        The live view.

    Attributes
    ----------
    busy : bool
        A run is being copied.
    """

    def __init__(self, view: ShownLayers) -> None:
        super().__init__(view)
        self._view = view
        self._copying: tuple[Snapshot, Any] | None = None  # what is copied now, and its worker

    @property
    def busy(self) -> bool:
        """Whether a run is being copied."""
        return self._copying is not None

    def take_frame(self) -> None:
        """Copy the frame that each visible layer of the run that is looked at shows to a layer of its own, hidden."""
        view = self._view
        view.catch_up()
        point = tuple(view.viewer.dims.point)
        mine = [live for live in view.layers if live.stream is view.looked_at and live.layer.visible]
        shown = [(live, frame) for live in mine if (frame := shown_picture(live, point)) is not None]
        if any(is_preview(tag) for _, (_, _, tag) in shown):
            show_warning(_NOT_EXACT)
            return
        made = [self._layer_of(live, *frame) for live, frame in shown]
        if not made:
            show_warning("no frame is shown that a snapshot could be taken of")
            return
        add_unselected(view.viewer, made)
        show_info(f"{', '.join(layer.name for layer in made)}: hidden until you show it")

    @staticmethod
    def _layer_of(live: LiveLayer, place: tuple[int, ...], plane: Plane, tag: Tag | None) -> Any:
        """Return a layer of one frame, with the look of the live one, and where it was and what was said of it."""
        data, look, kind = live.layer.as_layer_data_tuple()
        look = {name: value for name, value in look.items() if name in _LOOK}
        look |= in_plane(live.layer)
        where = {name: at for name, at in zip(data.layout.axes, place, strict=True) if name not in data.left_out}
        at = ", ".join(f"{name} {at}" for name, at in where.items())
        look["name"] = f"{live.layer.name} ({at or 'snapshot'})"
        look["visible"] = False  # over the live picture it would hide it, or add to its brightness
        look["metadata"] = copy.deepcopy({**live.layer.metadata, "index": where})
        if tag is not None:
            look["metadata"]["frame"] = metadata_lines(tag)
        return Layer.create(np.array(plane), look, kind)

    def take_run(self) -> None:
        """Copy live layers to ordinary ones, in the background; ask first if they are big."""
        if self.busy or not (layers := chosen_layers(self._view)):
            return
        self._view.catch_up()
        if any(is_preview(held.tag) for live in layers for held in tuple(live.stack.layout.planes.values())):
            show_warning(_NOT_EXACT)
            return
        made = Snapshot(layers)
        if made.question and not self._agreed(made.question):
            return
        # napari keeps a worker that has ended, with all that its slots hold; those of a QObject's methods hold nothing.
        worker = create_worker(made.copy, _start_thread=False)
        worker.returned.connect(self._add_copies)
        worker.finished.connect(self._end_copying)
        self._copying = (made, worker)
        worker.start()

    def _add_copies(self, copies: list[Any]) -> None:
        if self._copying is None:
            return
        made, _ = self._copying
        text = f"{', '.join(made.names)}: {size_text(made.nbytes)}, hidden until you show it"
        made.add(self._view.viewer, copies)
        lost = sum(copied.lost for copied in copies)
        if lost:
            show_warning(f"{text}; {lost} planes were forgotten before they could be copied")
        else:
            show_info(text)

    def _end_copying(self) -> None:
        if self._copying is not None:
            self._copying[0].forget()
            self._copying = None

    def _agreed(self, question: str) -> bool:
        answer = QMessageBox.question(self._view.window, "Snapshot", question)
        return bool(answer == QMessageBox.StandardButton.Yes)
