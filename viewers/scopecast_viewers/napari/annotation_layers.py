"""Keeps points, shapes, tracks and regions of interest in step with the streams and the sliders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopecast_viewers.napari.annotation_layer import AnnotationKey, AnnotationPart, LiveAnnotation
from scopecast_viewers.napari.contents import Viewpoint
from scopecast_viewers.napari.kept import KeptLayers
from scopecast_viewers.napari.units import canvas_spacing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.napari.layers import LiveLayers
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["LiveAnnotations"]


class LiveAnnotations(KeptLayers[AnnotationKey, LiveAnnotation]):
    """The layers of all annotations in one viewer. Used on the GUI's thread only.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        The layers of the images, whose axes and units hold for these too.
    """

    def __init__(self, viewer: Viewer, layers: LiveLayers) -> None:
        super().__init__(viewer, layers.scene)
        self._images = layers
        self._unread: tuple[str, ...] = ()  # why regions of interest could not be read
        self._parts: dict[AnnotationKey, AnnotationPart] = {}
        self._showing = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Why some can't be shown."""
        far = (f"{live.name}: {live.far}" for live in self._layers.values() if live.far)
        return (*self._failed.reasons, *far, *self._unread)

    def update(self, streams: Iterable[LiveStream], new: Sequence[LiveLayer]) -> None:
        """Take in what has come, and let the sliders reach it; `show` is to follow.

        Parameters
        ----------
        streams
            All that the viewer shows.
        new
            The layers of images that were made just now.
        """
        streams = tuple(streams)
        parts = {part.key: part for stream in streams for part in self._parts_of(stream)}
        self._parts = {key: part for key, part in parts.items() if part.stream in self.scene}
        self._remove_gone(set(parts))
        self._come_back()
        self._put_in_order(new)
        items = (item for stream in streams for each in stream.annotations if each.kind == "rois" for item in each)
        self._unread = tuple(dict.fromkeys(item.regions.problem for item in items if item.regions.problem))
        reach: dict[str, tuple[float, float]] = {}
        for part in self._parts.values():
            spacing = canvas_spacing(part.stream)
            for axis, ends in part.annotations.reach.items():
                low, high = sorted(end * spacing.get(axis, 1.0) for end in ends)
                known = reach.get(axis, (low, high))
                reach[axis] = (min(low, known[0]), max(high, known[1]))
        self._images.sliders.reach = reach
        self._images.sliders.stretch_if_short(self._images.axes)

    def _parts_of(self, stream: LiveStream) -> Iterator[AnnotationPart]:
        for each in stream.annotations:
            kinds = {each.kind}
            if each.kind == "rois":
                kinds = {kind for item in each for kind in item.regions.kinds}
            for kind in sorted(kinds, reverse=True):
                yield AnnotationPart(stream, each, kind)

    def _version(self, live: LiveAnnotation) -> tuple[object, ...]:
        return (live.annotations.version, self._images.axes)

    def _put_in_order(self, new: Sequence[LiveLayer]) -> None:
        """Keep new images and labels below what lies on them."""
        for made in new:
            above = [live for live in (*self._images, *self) if live.stream is made.stream and live.rank > made.rank]
            layers = list(self.viewer.layers)
            lowest = min((layers.index(live.layer) for live in above if live.layer in layers), default=len(layers))
            if layers.index(made.layer) > lowest:
                self.viewer.layers.move(layers.index(made.layer), lowest)

    def show(
        self,
        where: Callable[[LiveStream], dict[str, int]],
        *,
        make: bool = True,
        remake: bool = True,
        lately: bool = False,
    ) -> bool:
        """Show what belongs under the sliders.

        Parameters
        ----------
        where
            Returns the sliders' places for a stream, by axis.
        make
            Whether a new layer may be made; at most one is.
        remake
            Whether layers may be made anew; not while napari itself changes its layers. See `LiveLayers.incomplete`
            for what was put off.
        lately
            Whether what belongs to an earlier time is shown where nothing has come for this one, of what is live.

        Returns
        -------
        bool
            Whether any layer shows something else than before.
        """
        if self._showing:  # a layer that is being made moved something
            self._images.incomplete = True
            return False
        self._showing = True
        try:
            return self._show_all(where, make, remake, lately)
        finally:
            self._showing = False

    def _show_all(self, where: Callable[[LiveStream], dict[str, int]], make: bool, remake: bool, lately: bool) -> bool:
        changed = False
        for key, part in self._parts.items():
            live = self._layers.get(key)
            if key in self._closed or (
                live is None and self._failed.blocks(key, (part.annotations.version, self._images.axes))
            ):
                continue
            if live is None:
                if not make:
                    self._images.incomplete = True
                    continue
                make = False
                live = self._layers[key] = LiveAnnotation(part, self._images.tiling.shift)
            elif live.layer is not None and not live.layer.visible:
                live.shown = None
                live.version = part.annotations.version
                continue
            now = where(part.stream)
            at: Mapping[str, int] = now
            goes_on = part.stream is self.scene.followed or part.stream.state == "live"
            if lately and goes_on and part.kind != "tracks":  # these are all there, at all times
                at = part.annotations.lately(now)
            live.earlier = None if at is now else at["t"]
            changed = self._show(key, live, at, remake) or changed
        return changed

    def _show(self, key: AnnotationKey, live: LiveAnnotation, where: Mapping[str, int], remake: bool) -> bool:
        first, axes, dims = live.layer is None, self._images.axes, self.viewer.dims
        lead = dims.ndim - 2 - len(axes)
        displayed = [name for at, name in enumerate(axes) if lead + at in dims.displayed]
        # Without any layer that has the sliders' axes, these have to have them.
        needed = axes if not len(self._images) else axes[axes.index(displayed[0]) :] if displayed else ()
        viewpoint = Viewpoint(needed, {name: at for name, at in where.items() if name not in displayed})
        selected, active = set(self.viewer.layers.selection), self.viewer.layers.selection.active
        try:
            if not remake and live.is_outdated(axes, self._images.units, viewpoint):
                self._images.incomplete = True
                return False
            changed = live.update(self.viewer, axes, self._images.units, viewpoint)
        except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
            self.give_up(live, error)
            return False
        self._failed.clear(key)
        if first and live.layer is not None:
            if active is not None:
                self.viewer.layers.selection = selected  # the user goes on with the layer that they work on
            self._images.sliders.stretch_if_short(self._images.axes)
        return changed
