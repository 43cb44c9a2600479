"""Labels of a stream as a napari Labels layer: beside the images, never among them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from scopecast_viewers.napari.layer import LiveLayer
from scopecast_viewers.napari.tiles import corner_of_image
from scopecast_viewers.napari.units import corner_on_canvas
from scopecast_viewers.stacks.plane import Tag

if TYPE_CHECKING:
    from collections.abc import Mapping

    from napari.viewer import Viewer

    from scopecast_viewers.look.contrast import Contrasts
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["LiveLabels", "layer_class"]

#: Time points that labels may lie behind the image that they are seen on.
_MOST_EARLIER = 1000


def layer_class(stream: LiveStream, stack: Stack) -> type[LiveLayer]:
    """Return the class of the layer that shows a stack of a stream."""
    return LiveLabels if stack.is_labels else LiveLayer


class LiveLabels(LiveLayer):
    """A layer that shows labels: their place, growth and sliders are those of images; contrast they have none."""

    rank: ClassVar[int] = 1
    _beside: tuple[float, ...] = ()  # the images of the same position, once they are there

    @property
    def name(self) -> str:
        """What the layer is called: the labels, their channel where there are several, and the run."""
        called = self.stack.sent.name or "labels"
        channels = {channel for stack, channel in self.stream.parts if stack is self.stack}
        if len(channels) > 1 or channels != {0}:
            called += f" ({self.stream.label('c', self.channel)})"
        return f"{called} · {self._title}"

    def _corner(self) -> tuple[float, float]:
        """Return where the labels lie: where they say, else with the images of their position."""
        tag: object = self.shown
        if tag is None and (newest := self.newest_index()) is not None:
            tag = self.stack.tag(newest)
        if self.layout is None and isinstance(tag, Tag) and len(tag.translate) != 2 and self.place:
            self._beside = self._beside or corner_of_image(self.stream, self.place)
            if self._beside:
                y, x = corner_on_canvas(self.stream, self._beside)
                return y, x
        return super()._corner()

    def _to_stand_in(self, where: Mapping[str, int]) -> tuple[int, ...] | None:
        """Return the newest labels of an earlier time at a place: whoever makes them needs a while, and images go on.

        Of no other place: they would lie on what they are not of.
        """
        axes, planes, own = self.data.layout.axes, self.data.layout.planes, self.data.place(where)
        if "t" not in axes or own in planes:
            return None
        at = axes.index("t")
        newest = self.stack.latest_at({name: own[of] for of, name in enumerate(axes) if name != "t"})
        last = own[at] if newest is None else min(own[at], newest[at])
        first = max(self.data.layout.origin[at], last - _MOST_EARLIER)
        earlier = ((*own[:at], t, *own[at + 1 :]) for t in range(last, first - 1, -1))
        return next((place for place in earlier if place in planes), None)

    def add(self, viewer: Viewer, units: tuple[str, ...], contrasts: Contrasts | None = None) -> None:
        """Make the layer."""
        about: dict[str, Any] = {"multiscale": False, "cache": False, "projection_mode": "none"}
        about["metadata"] = {"scopecast": {"source": self.stream.title, "stream": self.stream.about.title}}
        self._make(viewer.add_labels, name=self.name, **about, **self._placed(), units=units)
        self.layer.editable = False  # the planes are the publisher's
        self._note_look()

    def settle(self, here: bool) -> None:
        """Do nothing: labels have no contrast, and a colour for each number."""
