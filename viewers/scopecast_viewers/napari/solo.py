"""One channel alone, and channels in gray: what is seen for a while, without a change of what the user has set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.napari.layers import LiveLayers

__all__ = ["Solo"]


class Solo:
    """Hides all channels but that of the selected layer, or shows all in gray, until that is over.

    Parameters
    ----------
    viewer
        The napari viewer.
    layers
        The live layers.
    ended
        Called when the user has made a channel visible that was hidden, which ends it.

    Attributes
    ----------
    alone, gray : bool
        Whether one channel is seen alone; whether channels are gray.
    """

    def __init__(self, viewer: Viewer, layers: LiveLayers, ended: Callable[[], None]) -> None:
        self._viewer, self._layers, self._ended = viewer, layers, ended
        self.alone = self.gray = False
        self._channel: tuple[Any, ...] | None = None
        self._hidden: set[tuple[Any, ...]] = set()  # the channels that were visible

    def set_alone(self, on: bool) -> None:
        """Show the channel of the selected layer alone, or all that were seen before."""
        self.alone = on
        self.apply()

    def set_gray(self, on: bool) -> None:
        """Show the channels in gray, or in their colours again."""
        self.gray = on
        self.apply()

    def apply(self) -> None:
        """Make it so, for the layers that there are by now and the one that is selected."""
        mine = [live for live in self._layers if not live.rank]
        if self.alone and any(live.aside and live.layer.visible for live in mine):
            self.alone = False  # the user has shown a channel again
            self._ended()
        self._channel = self._chosen(mine)
        for live in mine:
            if live.gray != self.gray and live.contrast is not None:
                live.gray = self.gray
                live.contrast.keep()
            self._put_aside(live, aside=self.alone and live.look_of != self._channel)
        if not self.alone:
            self._hidden.clear()

    def _chosen(self, mine: list[LiveLayer]) -> tuple[Any, ...] | None:
        """Return the channel of the selected layer; else the one chosen before; else the first that is seen."""
        active = self._viewer.layers.selection.active
        found = [live.look_of for live in mine if live.layer is active]
        found += [live.look_of for live in mine if live.look_of == self._channel]
        found += [live.look_of for live in mine if live.layer.visible]
        return found[0] if found else self._channel

    def _put_aside(self, live: LiveLayer, *, aside: bool) -> None:
        if aside and live.layer.visible:
            self._hidden.add(live.look_of)
            live.aside = True
            live.layer.visible = False
        elif aside:
            live.aside = live.look_of in self._hidden
        elif live.aside:
            live.aside = False
            self._hidden.discard(live.look_of)
            live.layer.visible = True
            if live.stale:
                live.grow()
