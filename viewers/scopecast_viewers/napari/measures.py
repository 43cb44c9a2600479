"""Live measures of the shapes that the user has drawn: a table, their means over time, and the profiles of lines."""

from __future__ import annotations

import html
import itertools
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from napari.layers import Shapes
from napari.utils.notifications import show_info
from qtpy.QtCore import QObject, Qt, Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from scopecast_viewers.napari.measuring import DrawnRegion, Measured, pixels_under
from scopecast_viewers.napari.mosaic import MOST_PIXELS, Mosaic, Window
from scopecast_viewers.napari.plot import Curve, Plot
from scopecast_viewers.napari.snapshot import ShownLayers, in_plane, shown_frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy.typing as npt

    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.stacks.plane import Tag
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["COLORS", "Measures"]

#: How long frames of before may be measured at a time.
_BUDGET_S: Final = 0.015
_MOST_POINTS: Final = 5000
_MOST_ROWS: Final = 16
#: Of the curves, in order.
COLORS: Final = ("#ffd23f", "#4dd0e1", "#ff8a80", "#aed581", "#ba9bff", "#ffab5e", "#90caf9", "#f48fb1")
_HINT: Final = "Draw a rectangle, an ellipse, a polygon or a line on the image: what is in it is measured here."


class _Measurable(ShownLayers, Protocol):
    """What the measures need of a `LiveView`."""

    annotations: Iterable[Any]
    paused: bool


class _Series:
    """What one shape measures of one channel: of the frame that is shown, and over time.

    Over time it measures the planes that are in memory, the newest first, as far as there is time for it.
    """

    def __init__(self, region: DrawnRegion, window: Window | None = None) -> None:
        self.region, self.window = region, window  # the window is that of a picture of many fields
        self.now: Measured | None = None
        self.tag: Tag | None = None
        self._means: dict[int, tuple[int, float]] = {}  # by the number of the frame: when it was sent, ns
        self._place: tuple[int, ...] = ()
        self._waiting: deque[int] = deque()  # time points that are to be measured, the next one last
        self._high = 0

    def look(self, plane: npt.NDArray[Any], tag: Tag | None) -> None:
        """Measure the frame that is shown."""
        self.now, self.tag = self.region.measure(plane), tag
        self._note(tag, self.now)

    def look_into(self, mosaic: Mosaic) -> None:
        """Measure the frames that a picture of many fields shows, whichever part of it is seen."""
        plane, tag = (np.empty(0), None) if self.window is None else mosaic.cut_out(self.window)
        if self.window is None or tag is None:
            self.now = self.tag = None
        elif tag is not self.tag:
            self.look(plane, tag)
            if self.now is not None and (step := self.window.every) > 1:
                area = self.now.area * (step**2 if self.now.profile is None else step)
                self.now = self.now._replace(area=area)

    def _note(self, tag: Tag | None, measured: Measured | None) -> None:
        if tag is not None and measured is not None:
            self._means[tag.sequence] = (tag.sent_ns, measured.mean)
            while len(self._means) > _MOST_POINTS:
                del self._means[min(self._means)]

    def fill(self, stack: Stack, place: tuple[int, ...], until: float) -> None:
        """Measure the other time points at the place that is shown, until a time of the monotonic clock."""
        layout = stack.layout
        if "t" not in layout.axes:
            return
        axis = layout.axes.index("t")
        here = (*place[:axis], 0, *place[axis + 1 :])
        low, high = layout.origin[axis], layout.origin[axis] + layout.shape[axis]
        if here != self._place:
            if self._place:
                self._means.clear()  # the sliders are at another plane, channel or position
            self._place, self._high = here, low
            self._waiting.clear()
        if (*here[:axis], high - 1, *here[axis + 1 :]) not in layout.planes:
            high -= 1  # of the newest time point, another channel or plane came first
        self._waiting.extend(range(self._high, high))
        self._high = max(self._high, high)
        while self._waiting and time.monotonic() < until:
            index = (*here[:axis], self._waiting.pop(), *here[axis + 1 :])
            held = layout.planes.get(index)
            plane = None if held is None else held.plane
            if held is not None and plane is not None and getattr(held.tag, "sequence", -1) not in self._means:
                self._note(stack.tag(index), self.region.measure(np.asarray(plane)))  # type: ignore[arg-type]

    @property
    def curve(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """When the frames were sent, in seconds of the monotonic clock, and the mean in each, in that order."""
        points = np.array(sorted(self._means.values()), float).reshape(-1, 2)
        return points[:, 0] / 1e9, points[:, 1]


class Measures(QObject):  # type: ignore[misc]  # qtpy has no types
    """Measures what the user has drawn, while its dock is open.

    Parameters
    ----------
    view
        The live view.

    Attributes
    ----------
    shown_changed : Signal
        The dock is open from now on, or closed.
    table : QLabel
        The figures of the frame that is shown.
    over_time, profile : Plot
        The means over time; the profiles of lines, where there are some.
    """

    shown_changed = Signal(bool)

    def __init__(self, view: _Measurable) -> None:
        super().__init__(view)
        self._view = view
        self._series: dict[tuple[Any, ...], _Series] = {}
        self._dock: Any = None

    def show(self, on: bool) -> None:
        """Open the dock, with a layer to draw on if there is none; or close it."""
        if on:
            if self._dock is None:
                self._build()
            self._dock.show()
            if not any(self._drawn()):
                self._make_layer()
        elif self._dock is not None:
            self._dock.hide()

    def _build(self) -> None:
        self.table, self.over_time, self.profile = QLabel(_HINT), Plot("mean over time"), Plot("profile")
        self.table.setTextFormat(Qt.TextFormat.RichText)
        self.table.setWordWrap(True)
        self.table.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table.setAlignment(Qt.AlignmentFlag.AlignTop)
        panel = QWidget()
        column = QVBoxLayout(panel)
        column.addWidget(self.table)
        column.addWidget(self.over_time, 1)
        column.addWidget(self.profile, 1)
        self.profile.hide()
        window = self._view.viewer.window
        self._dock = window.add_dock_widget(
            panel, name="measures", area="right", add_vertical_stretch=False, menu=window.window_menu
        )
        self._dock.destroyOnClose = self._dock.hide  # closed, it is hidden: what has been measured is there again
        self._dock.visibilityChanged.connect(self._shown)

    def _shown(self, _visible: bool) -> None:
        self.shown_changed.emit(not self._dock.isHidden())

    def _make_layer(self) -> None:
        image = next((live for live in self._view.layers if not live.rank and live.layer.visible), None)
        if image is None:
            show_info("draw a shape as soon as there is an image")
            return
        where = in_plane(image.layer)
        width = max(image.data.plane_shape[:2]) / 250
        about = {"edge_color": COLORS[0], "face_color": "#ffffff18", "edge_width": width}
        text = {"string": "{number}", "color": COLORS[0], "size": 11, "anchor": "upper_left"}
        features = {"number": np.empty(0, int)}
        layer = self._view.viewer.add_shapes(ndim=2, name="measure", text=text, features=features, **about, **where)
        layer.mode = "add_rectangle"

    def _drawn(self) -> Iterator[Any]:
        """Yield the layers of shapes that are the user's."""
        streamed = [live.layer for live in self._view.annotations]
        for layer in self._view.viewer.layers:
            if isinstance(layer, Shapes) and layer not in streamed:
                yield layer

    # ---- bringing it up to date ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Measure what is shown by now, and go on with what was shown before; nothing while the dock is closed."""
        if self._dock is None or self._dock.isHidden():
            return
        until = time.monotonic() + _BUDGET_S
        point = tuple(self._view.viewer.dims.point)
        before, self._series = self._series, {}
        rows: list[tuple[str, str, LiveLayer, _Series]] = []
        shapes = self._shapes()
        self._number(shapes)
        for (number, layer, index), live in itertools.islice(itertools.product(shapes, self._images()), _MOST_ROWS):
            key, region = self._region(layer, index, live)
            series = self._series[key] = before.get(key) or region()
            if isinstance(live.data, Mosaic):  # whose picture of another time would have to be put together
                series.look_into(live.data)
            elif (frame := shown_frame(live, point)) is None:
                series.now = series.tag = None
            else:
                place, plane, tag = frame
                if tag is None or tag is not series.tag:
                    series.look(np.asarray(plane), tag)
                series.fill(live.stack, place, until)
            rows.append((str(number), live.channel_name or live.stream.about.title, live, series))
        self._write(rows)

    def _shapes(self) -> list[tuple[int, Any, int]]:
        """Return the shapes by their numbers: the layer that each is in, and which of that it is."""
        each = [(layer, at) for layer in self._drawn() if layer.visible for at in range(layer.nshapes)]
        return [(number, layer, at) for number, (layer, at) in enumerate(each[:_MOST_ROWS], start=1)]

    def _images(self) -> list[LiveLayer]:
        followed = self._view.followed
        return [live for live in self._view.layers if live.stream is followed and not live.rank and live.layer.visible]

    @staticmethod
    def _region(layer: Any, at: int, live: LiveLayer) -> tuple[tuple[Any, ...], Callable[[], _Series]]:
        """Return by what a shape over a channel is known, and what makes its series."""
        pixels = pixels_under(layer, live.layer)(np.asarray(layer.data[at])[:, -2:])
        kind, shape = str(layer.shape_type[at]), live.stack.plane_shape[:2]
        data = live.data
        if isinstance(data, Mosaic):
            pixels, shape = pixels * data.every + (data.every - 1) / 2 + data.window.low, data.whole.high
        key = (live.stack, live.channel, tuple(live.place.items()), kind, shape, pixels.round(3).tobytes())
        if isinstance(data, Mosaic):
            return key, lambda: _series_in(kind, pixels, data.whole)
        return key, lambda: _Series(DrawnRegion(kind, pixels, (shape[0], shape[1])))

    def _number(self, shapes: list[tuple[int, Any, int]]) -> None:
        """Write the numbers on the shapes, in the layer that was made for them."""
        for layer in {id(layer): layer for _, layer, _ in shapes}.values():
            numbers = [number for number, of, _ in shapes if of is layer]
            known = layer.features.get("number")
            if known is not None and len(numbers) == len(known) and list(known) != numbers:
                layer.features = {"number": numbers}
                layer.refresh_text()

    def _write(self, rows: list[tuple[str, str, LiveLayer, _Series]]) -> None:
        if not rows:
            self.table.setText(_HINT)
        else:
            self.table.setText(_table(rows))
        colors = [COLORS[at % len(COLORS)] for at in range(len(rows))]
        curves = [(series.curve, color) for (_, _, _, series), color in zip(rows, colors, strict=True)]
        began = min((x[0] for (x, _), _ in curves if len(x)), default=0.0)
        tags = [series.tag for _, _, _, series in rows if series.tag is not None]
        at = max(tag.sent_ns for tag in tags) / 1e9 - began if tags else None
        self.over_time.show_curves([Curve(x - began, y, color) for (x, y), color in curves], "s", at)
        lines = []
        for (_, _, live, series), color in zip(rows, colors, strict=True):
            if series.now is not None and series.now.profile is not None:
                y = series.now.profile
                side = float(_pixel(live)[-1])
                lines.append(Curve(np.linspace(0, series.now.area * side, len(y)), y, color))
        self.profile.setVisible(bool(lines))
        self.profile.show_curves(lines, _unit(rows[0][2]) if rows else "")


def _series_in(kind: str, pixels: npt.NDArray[np.float64], whole: Window) -> _Series:
    """Return what measures a shape on a picture of many fields: all pixels around it, if those are not too many."""
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 2, whole.high)
    every = 1 if max(high - low) <= MOST_PIXELS else whole.every
    rows, columns = -(-(high - low) // every)
    window = Window((int(low[0]), int(low[1])), (int(high[0]), int(high[1])), every)
    region = DrawnRegion(kind, (pixels - low) / every, (int(rows), int(columns)))
    return _Series(region, window if rows > 0 and columns > 0 else None)


def _pixel(live: LiveLayer) -> npt.NDArray[np.float64]:
    """Return the size (y, x) of a pixel of the frames on the canvas."""
    size: npt.NDArray[np.float64] = np.abs(np.asarray(live.layer.scale, float)[-2:]) / live.every
    return size


def _unit(live: LiveLayer) -> str:
    return str(live.layer.units[-1]).replace("micrometer", "µm")


def _figure(value: float) -> str:
    """Return a number as one reads it.

    >>> _figure(96900.4), _figure(52.1534), _figure(0.0123456)
    ('96900', '52.15', '0.01235')
    """
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _table(rows: list[tuple[str, str, LiveLayer, _Series]]) -> str:
    """Return the figures as rich text."""
    lines = ["<tr>" + "".join(f"<th align='right'>{word}&nbsp;&nbsp;</th>" for word in _HEADS) + "</tr>"]
    for at, (number, channel, live, series) in enumerate(rows):
        unit, side = _unit(live), float(np.prod(_pixel(live))) ** 0.5
        if series.now is None:
            figures = ["no frame here" if series.tag is None else "outside", "", "", ""]
        else:
            is_line = series.now.profile is not None
            size = series.now.area * (side if is_line else side**2)
            figures = [f"{series.now.mean:.5g}", f"{series.now.low:.5g}", f"{series.now.high:.5g}"]
            figures.append(f"{_figure(size)}&nbsp;{html.escape(unit)}{'' if is_line else '²'}")
        color = COLORS[at % len(COLORS)]
        first = f"<td><span style='color:{color}'>●</span>&nbsp;{number}&nbsp;{html.escape(channel)}&nbsp;&nbsp;</td>"
        lines.append(f"<tr>{first}{''.join(f'<td align=right>{each}&nbsp;&nbsp;</td>' for each in figures)}</tr>")
    return f"<table>{''.join(lines)}</table>"


_HEADS: Final = ("", "mean", "min", "max", "area")
