"""Copies of live layers as ordinary ones, which no stream touches any more."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import psutil
from napari.layers import Layer

from scopecast_viewers.napari.steady import all_or_nothing

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.napari.live_view import LiveView
    from scopecast_viewers.stacks.moment import Copied, Moment

__all__ = ["Snapshot", "chosen_layers", "size_text"]

#: Bytes from which the user is asked first.
ASK_FROM = 1 << 30


def size_text(nbytes: int) -> str:
    """Return a size as one reads it.

    >>> size_text(8 << 20), size_text(3 << 29), size_text(100)
    ('8.0 MiB', '1.5 GiB', '0.0 MiB')
    """
    return f"{nbytes / 2**30:.1f} GiB" if nbytes >= 1 << 30 else f"{nbytes / 2**20:.1f} MiB"


def chosen_layers(view: LiveView) -> list[LiveLayer]:
    """Return the live layers to copy: those that are selected, else the visible ones of the stream that is followed."""
    selected = set(view.viewer.layers.selection)
    chosen = [live for live in view.layers if live.layer in selected]
    return chosen or [live for live in view.layers if live.stream is view.followed and live.layer.visible]


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
        warning = ", more than is available: the system may freeze" if self.nbytes > free else ""
        return f"The copy takes {size_text(self.nbytes)} of memory; {size_text(free)} are free{warning}. Make it?"

    def copy(self) -> list[Copied]:
        """Copy the pixels. Called from any thread, once; waits for the disk where planes are there."""
        return [moment.copy() for moment, _, _, _, _ in self._parts]

    def add(self, viewer: Viewer, copies: list[Copied]) -> list[Any]:
        """Add the copies to a viewer, hidden; the user goes on with the layer that they work on."""
        selected, active = set(viewer.layers.selection), viewer.layers.selection.active
        added = []
        for copied, (_, shape, look, kind, reach) in zip(copies, self._parts, strict=True):
            layer = Layer.create(copied.pixels.reshape(shape), look, kind)
            if reach is not None:
                layer.contrast_limits_range = reach
                layer.contrast_limits = look["contrast_limits"]
            with all_or_nothing(viewer):
                added.append(viewer.add_layer(layer))
        if active is not None:
            viewer.layers.selection = selected
        return added

    def forget(self) -> None:
        """Let go of the planes, and of all else."""
        self._parts.clear()
