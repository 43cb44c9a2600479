"""The contrast of a layer, which is that of its channel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from napari.utils.colormaps import Colormap

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast_viewers.look.contrast import Contrast, Contrasts, Limits
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LayerContrast"]

_BLACK_TO_WHITE: Final = ([0, 0, 0, 1], [1, 1, 1, 1])
#: Gray, and red for what is saturated.
_MARKED: Final = Colormap(_BLACK_TO_WHITE, name="saturation", high_color=[1, 0, 0, 1])
#: Gray for a while; "gray" itself may be what the user has chosen.
_GRAY: Final = Colormap(_BLACK_TO_WHITE, name="in gray")
_FOR_A_WHILE: Final = (_MARKED.name, _GRAY.name)


class _HasContrast(Protocol):
    """What is needed of a layer."""

    stream: LiveStream
    stack: Stack
    layer: Any
    gray: bool

    @property
    def look_of(self) -> tuple[Any, ...]: ...

    @property
    def own_colormap(self) -> Colormap | str: ...

    def newest_index(self) -> tuple[int, ...] | None: ...

    def newest_plane(self) -> npt.NDArray[Any]: ...


class LayerContrast:
    """Keeps a layer in the contrast of its channel, and notices where the user sets another.

    Parameters
    ----------
    contrasts
        Of all channels.
    live
        The layer; one that has a contrast.

    Attributes
    ----------
    unmarked : napari.utils.Colormap or None
        What the layer's colormap is otherwise, while saturated pixels are marked or it is gray.
    saturated : int
        Pixels of the frame that is shown.
    """

    def __init__(self, contrasts: Contrasts, live: _HasContrast) -> None:
        self._contrasts, self._live = contrasts, live
        self._contrast: Contrast | None = None
        self._given: Limits | None = None  # as the layer has had them last
        self._reach: Limits | None = None
        self._looked: object = None  # the tag of the frame that was looked at last
        self._measured: object = None
        self.unmarked: Colormap | None = None
        self.saturated = 0

    @property
    def of_channel(self) -> Contrast:
        """The contrast of the channel that the layer shows now."""
        live = self._live
        found = self._contrasts.of(live.stream.key, live.look_of, live.stack.dtype)
        if found is not (before := self._contrast):
            if before is not None and before.by_hand and before.dtype == found.dtype and not found.by_hand:
                self._contrasts.choose(found, before.limits)  # the channel has got a name
            self._contrast, self._reach, self._looked = found, None, None
        return found

    def begin(self) -> Limits:
        """Return the limits for a layer that is to be made."""
        contrast = self.of_channel
        self._look(contrast)
        contrast.measure(self._live.newest_plane())
        return contrast.limits

    def _look(self, contrast: Contrast) -> None:
        index = self._live.newest_index()
        tag = None if index is None else self._live.stack.tag(index)
        if tag is None or tag is not self._looked:
            self._looked = tag
            contrast.look(self._live.newest_plane())

    def keep(self, *, new: bool = False) -> bool:
        """Take over what the user has set of the layer, else give it the contrast of its channel.

        Parameters
        ----------
        new
            A frame has come that is to be taken into account.

        Returns
        -------
        bool
            Whether the user has set it since.
        """
        layer, contrast = self._live.layer, self.of_channel
        now = tuple(layer.contrast_limits)
        by_user = self._given is not None and now not in (self._given, contrast.limits)
        if by_user:
            self._contrasts.choose(contrast, (float(now[0]), float(now[1])))
        elif (new or not contrast.known) and not contrast.by_hand:
            self._look(contrast)
        self._dress(contrast)
        if self._reach != contrast.reach:
            low, high = layer.contrast_limits_range
            self._reach = contrast.reach
            wider = self._given is not None and contrast.by_hand
            layer.contrast_limits_range = (
                (min(low, contrast.reach[0]), max(high, contrast.reach[1])) if wider else contrast.reach
            )
        if tuple(layer.contrast_limits) != contrast.limits:
            layer.contrast_limits = contrast.limits
        self._given = tuple(layer.contrast_limits)
        return by_user

    def _dress(self, contrast: Contrast) -> None:
        """Give the layer the colormap that it has for a while, or its own again."""
        layer = self._live.layer
        has = layer.colormap.name in _FOR_A_WHILE
        wanted = _MARKED if contrast.marking and contrast.full > 0 else _GRAY if self._live.gray else None
        if wanted is None and (has or self.unmarked is not None):
            if has:
                layer.colormap = self.unmarked or self._live.own_colormap
            self.unmarked = None
        elif wanted is not None and layer.colormap.name != wanted.name:
            if not has:
                self.unmarked = layer.colormap
            layer.colormap = wanted

    def measure(self, where: tuple[int, ...] | None, tag: Tag | None) -> None:
        """Look for saturated pixels in the frame that is shown, and how far the sliders have to reach for it."""
        if tag is self._measured:
            return
        self._measured, self.saturated = tag, 0
        plane = None if tag is None or where is None else self._live.stack.plane(where)
        if plane is not None:
            self.saturated = self.of_channel.measure(np.asarray(plane))
            self.keep()
