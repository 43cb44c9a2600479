"""Send to acquisition: what the user has drawn goes to the program whose frames it lies on, if that listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Points, Shapes
from napari.utils.notifications import show_info, show_warning
from qtpy.QtCore import QObject

from scopecast_viewers.napari.measuring import pixels_under
from scopecast_viewers.napari.mosaic import Mosaic
from scopecast_viewers.napari.snapshot import ShownLayers, shown_frame
from scopecast_viewers.receiving.marks import Drawn, MarkedFrame, check_finite, check_number, message_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["Sending"]


class Sending(QObject):  # type: ignore[misc]  # qtpy has no types
    """Sends the items of the selected points or shapes layer.

    Parameters
    ----------
    view
        The live view.

    Attributes
    ----------
    told : str
        What the user was told last of marks that were sent.
    """

    def __init__(self, view: ShownLayers) -> None:
        super().__init__(view)
        self._view = view
        self.told = ""

    @property
    def offered(self) -> bool:
        """Whether any program whose frames are shown takes marks."""
        receiver = self._view.receiver
        return any(receiver.listens(live.stream) for live in self._view.layers)

    def send(self) -> None:
        """Send the items that are selected in the selected layer, or all that are seen of it."""
        try:
            sent = self._messages()
        except ValueError as error:
            self._tell(False, f"not sent: {error}")
            return
        for frame, message in sent:
            self._view.receiver.send_marks(frame.stream, message, self._answered)

    def _answered(self, taken: bool, text: str) -> None:
        self._view.ask(lambda: self._tell(taken, text))

    def _tell(self, taken: bool, text: str) -> None:
        self.told = text
        (show_info if taken else show_warning)(text)

    def _messages(self) -> list[tuple[MarkedFrame, Any]]:
        """Return what is to be sent, a message for each frame that is marked.

        Raises
        ------
        ValueError
            If it can't be sent, all of it; the text says why.
        """
        view = self._view
        layer = view.viewer.layers.selection.active
        if not isinstance(layer, Points | Shapes):
            raise ValueError("select the layer of points or shapes that is to be sent")
        if view.viewer.dims.ndisplay != 2:
            raise ValueError("look at a plane first, not at a volume: a mark belongs to one frame")
        view.catch_up()
        items = list(_items(layer, tuple(view.viewer.dims.point)))
        frames: dict[tuple[Any, ...], tuple[MarkedFrame, list[Drawn]]] = {}
        images, outside = self._images(layer), 0
        for drawn in items:
            check_finite(drawn.vertices)
            if (found := self._frame_under(images, drawn)) is None:
                outside += 1
                continue
            frame, pixels = found
            key = (frame.stream, frame.tag.source, frame.tag.sequence)
            frames.setdefault(key, (frame, []))[1].append(drawn._replace(vertices=pixels))
        if outside:
            number = f"{outside} of {len(items)} items {'is' if outside == 1 else 'are'}"
            raise ValueError(f"{number} not on an image of a program that takes marks")
        return [(frame, message_of(frame, inside, layer.name)) for frame, inside in frames.values()]

    def _images(self, layer: Any) -> list[tuple[LiveLayer, Callable[[Any], Any]]]:
        """Return the images that marks may be in, the uppermost first, each with what takes a layer's pixels to its."""
        view = self._view
        order = {id(each): number for number, each in enumerate(view.viewer.layers)}
        shown = [live for live in view.layers if live.layer.visible and not live.rank]
        shown.sort(key=lambda each: (each.stream is view.followed, order[id(each.layer)]), reverse=True)
        listens = [live for live in shown if view.receiver.listens(live.stream)]
        return [(live, pixels_under(layer, live.layer)) for live in listens]

    def _frame_under(
        self, images: list[tuple[LiveLayer, Callable[[Any], Any]]], drawn: Drawn
    ) -> tuple[MarkedFrame, Any] | None:
        """Return the frame on which the middle of an item lies, the uppermost, and the item in its pixels."""
        for live, to_pixels in images:
            pixels = to_pixels(drawn.vertices)
            middle = (pixels.min(axis=0) + pixels.max(axis=0)) / 2
            if _inside(middle, live.data.plane_shape):
                frame, pixels = self._frame_of(live, pixels, middle)
                if frame is not None:
                    return frame, pixels
        return None

    def _frame_of(self, live: LiveLayer, pixels: Any, middle: Any) -> tuple[MarkedFrame | None, Any]:
        point = tuple(self._view.viewer.dims.point)
        rows, columns = live.stack.plane_shape[:2]
        place: Sequence[int]
        tag: Tag | None
        if isinstance(live.data, Mosaic):
            field = live.data.field_under(live.index_at(point), middle)
            if field is None:
                return None, pixels
            place, tag, corner = field
            pixels = pixels * live.data.every - corner
        elif (found := shown_frame(live, point)) is not None:
            place, _, tag = found
        else:
            return None, pixels
        if tag is None or len(place) != len(live.stream.axes):
            return None, pixels
        return MarkedFrame(live.stream, tuple(place), tag, (rows, columns)), pixels


def _items(layer: Any, point: tuple[float, ...]) -> Iterator[Drawn]:
    """Yield the items to be sent: those that are selected, else all at the place of the sliders; in the layer's pixels.

    Raises
    ------
    ValueError
        If there are too many.
    """
    # While points are added, napari selects the one that came last.
    selects = str(layer.mode) in ("select", "direct")
    chosen = (sorted(layer.selected_data) if selects else []) or _seen(layer, point)
    check_number(len(chosen))
    names = layer.features.get("name", layer.features.get("names"))
    for at in chosen:
        name = "" if names is None else str(names.iloc[at])
        if isinstance(layer, Points):
            yield Drawn("point", np.asarray(layer.data[at])[None, -2:], name)
        else:
            yield Drawn(str(layer.shape_type[at]), np.asarray(layer.data[at])[:, -2:], name)


def _seen(layer: Any, point: tuple[float, ...]) -> list[int]:
    """Return which items of a layer are at the place of the sliders."""
    rest = layer.ndim - 2
    data: Callable[[int], Any] = lambda at: np.asarray(layer.data[at])  # noqa: E731
    number = len(layer.data)
    if not rest:
        return list(range(number))
    here = np.round(layer.world_to_data(point[-layer.ndim :])[:rest])
    return [
        at for at in range(number) if (np.round(data(at).reshape(-1, layer.ndim)[:, :rest].mean(axis=0)) == here).all()
    ]


def _inside(place: Any, shape: Sequence[int]) -> bool:
    """Whether a place in pixels, from the middle of the first, lies on an image."""
    return bool(np.all(place >= -0.5) and np.all(place < np.array(shape[:2]) - 0.5))
