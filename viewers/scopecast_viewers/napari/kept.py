"""What layers of images and of annotations do alike: they go and come with their runs, and stay away once deleted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from scopecast_viewers.napari.limits import Unshown
from scopecast_viewers.napari.steady import all_or_nothing, take_out

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from napari.viewer import Viewer

    from scopecast_viewers.napari.scene import Scene
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["KeptLayers"]


class _Live(Protocol):
    """What is kept: a layer, and what is on it."""

    stream: LiveStream
    shown: Tag | None
    parked: bool

    @property
    def layer(self) -> Any: ...
    @property
    def name(self) -> str: ...
    @property
    def identity(self) -> tuple[Any, ...]: ...


Key = TypeVar("Key", bound="Hashable")
Live = TypeVar("Live", bound=_Live)


class KeptLayers(ABC, Generic[Key, Live]):
    """Layers by what they show. Used on the GUI's thread only.

    Parameters
    ----------
    viewer
        The napari viewer.
    scene
        Which runs are on the canvas; the layers of the others are parked: kept outside of the viewer.
    """

    def __init__(self, viewer: Viewer, scene: Scene) -> None:
        self.viewer, self.scene = viewer, scene
        self._layers: dict[Key, Live] = {}
        self._closed: dict[Key, tuple[Any, ...]] = {}  # layers that the user has deleted, and what they were
        self._failed = Unshown()

    def __iter__(self) -> Iterator[Live]:
        """Iterate over those in the scene."""
        return iter([live for live in self._layers.values() if live.layer is not None and not live.parked])

    def __len__(self) -> int:
        return len(list(iter(self)))

    @abstractmethod
    def _version(self, live: Live) -> Hashable:
        """Return what is to change before something that could not be shown is tried again."""

    def _remove_gone(self, wanted: set[Key]) -> None:
        """Take away what is not wanted any more, and note what the user has deleted."""
        self._closed = {key: what for key, what in self._closed.items() if key in wanted}
        self._failed.keep_only(wanted)
        for key, live in tuple(self._layers.items()):
            if live.layer is not None and not live.parked and live.layer not in self.viewer.layers:
                del self._layers[key]  # the user deleted it
                if key in wanted:
                    self._closed[key] = live.identity
            elif key not in wanted:
                if not live.parked:
                    self._take_out(live)
                del self._layers[key]

    @property
    def deleted(self) -> frozenset[Key]:
        """What the user has deleted of what could be shown."""
        return frozenset(self._closed)

    def undelete(self) -> None:
        """Show again what the user has deleted."""
        self._closed = {}

    def leave(self) -> None:
        """Take the layers of runs that have left the scene out of the viewer."""
        for live in self:
            if live.stream not in self.scene:
                self._take_out(live)

    def _take_out(self, live: Live) -> None:
        live.parked, live.shown = True, None
        take_out(self.viewer, live.layer)

    def _come_back(self) -> None:
        """Put the layers of runs that are in the scene again into the viewer."""
        for live in [live for live in self._layers.values() if live.parked and live.stream in self.scene]:
            try:
                self._put_back(live)
            except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                self.give_up(live, error)

    def _put_back(self, live: Live) -> None:
        with all_or_nothing(self.viewer):
            self.viewer.layers.append(live.layer)
        live.parked = False

    def give_up(self, live: Live, error: Exception) -> None:
        """Take away a layer that can't be shown any more, and note why; it may come back, see `Unshown`."""
        for key, each in tuple(self._layers.items()):
            if each is live:
                del self._layers[key]
                self._failed.note(key, self._version(live), live.name, error)
        take_out(self.viewer, live.layer)
