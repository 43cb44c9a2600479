"""The live view: a napari viewer that shows the streams of a receiver, at the pace at which it can paint."""

from __future__ import annotations

import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, QTimer, Signal

from scopecast_viewers.napari.annotations import LiveAnnotations
from scopecast_viewers.napari.canvas import CanvasWatch
from scopecast_viewers.napari.follow import Follower
from scopecast_viewers.napari.labels import layer_class
from scopecast_viewers.napari.layers import LiveLayers
from scopecast_viewers.napari.status import StatusLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from scopecast_viewers.live import LiveStream, Tag
    from scopecast_viewers.napari.annotations import LiveAnnotation
    from scopecast_viewers.napari.layers import LiveLayer
    from scopecast_viewers.process import Receiver

__all__ = ["LiveView"]

logger = logging.getLogger(__name__)

TICK_MS = 15
#: An update waits until the one before it is painted, but never longer than this: a steady stream is always painted.
MAX_WAIT_S = 0.1
STATUS_S = 0.25
#: How many layers, made one by one, a picture of the window waits for.
_MOST_LAYERS = 64


def _look(viewer: Viewer) -> tuple[float, ...]:
    """Return where on the canvas a viewer looks, and how closely."""
    return (*map(float, viewer.scene.camera.center), float(viewer.scene.camera.zoom))


class LiveView(QObject):  # type: ignore[misc]  # qtpy has no types
    """Shows the streams of a receiver in a napari viewer.

    Everything here runs on the GUI's thread; the receiver's thread only calls `notify` and `ask`.

    Parameters
    ----------
    viewer
        The napari viewer.
    receiver
        Where the streams come from.
    window
        The main window, where that is the user's own and something else tells the status. Without it, the viewer's
        window is taken to be made for the streams: it gets a status line, and looks at each new run.

    Attributes
    ----------
    following_changed : Signal
        The sliders follow from now on, or do not any more.
    """

    following_changed = Signal(bool)

    def __init__(self, viewer: Viewer, receiver: Receiver, window: QWidget | None = None) -> None:
        super().__init__(window)
        self.viewer, self.receiver = viewer, receiver
        self.layers = LiveLayers(viewer, layer_class)
        self.annotations = LiveAnnotations(viewer, self.layers)
        self.follower = Follower(viewer, self._show_following)
        self.status: StatusLine | None = None
        self._paused = False
        if window is None:
            window = self._add_status_line()
        self.window = window
        self.updates_ms: deque[float] = deque(maxlen=4096)
        self.paints_ms: deque[float] = deque(maxlen=4096)
        self._asked: deque[Callable[[], None]] = deque()
        self._problem = ""
        self._stopped = False
        self._looks_at: tuple[float, ...] = ()
        self._changed = True
        self._updated_at = 0.0
        self._waiting_for_paint = False
        self._painting: list[tuple[LiveLayer | LiveAnnotation, Tag | None]] | None = None
        self._status_at = 0.0
        self._canvas = CanvasWatch(viewer, window, self._about_to_paint, self._swapped)
        for event in (viewer.dims.events.point, viewer.dims.events.ndisplay, viewer.dims.events.order):
            event.connect(self._look_again)
        viewer.canvas.events.size.connect(self._fit_again)
        self._timer = QTimer(self)
        self._timer.timeout.connect(self._tick)
        self._timer.start(TICK_MS)

    def _add_status_line(self) -> QWidget:
        """Dock a status line, and return the window that it is in."""
        self.status = StatusLine()
        self.status.follow_clicked.connect(self.set_following)
        self.status.destroyed.connect(self._gone)
        self.viewer.canvas.overlays.scale_bar.visible = False
        self.dock = self.viewer.window.add_dock_widget(
            self.status, area="bottom", name="scopecast live", add_vertical_stretch=False
        )
        window = self.status.window()
        self.setParent(window)
        return window

    # ---- from the receiver's thread ------------------------------------------------------------------------------

    def notify(self) -> None:
        """Say that something is new. Called from any thread."""
        self._changed = True

    def ask(self, work: Callable[[], None]) -> None:
        """Have something done on the GUI's thread soon. Called from any thread."""
        self._asked.append(work)

    # ---- the tick ------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        while self._asked:
            self._asked.popleft()()
            if not self._timer.isActive():  # what was asked for was to close
                return
        now = time.monotonic()
        if not self.window.isVisible():
            return  # it is being closed, or there is nobody to see it
        due = not self._waiting_for_paint or now - self._updated_at > MAX_WAIT_S
        if self._changed and due and not self._paused:
            self._changed = False
            began, making = time.perf_counter_ns(), self.layers.making_ms
            try:
                self.update()
            except Exception as error:
                # The window and the other streams go on; what went wrong is in the log once, and in the status line.
                problem = f"{type(error).__name__}: {error}"
                if problem != self._problem:
                    self._problem = problem
                    logger.exception("an update of the window failed")
            napari_ms = self.layers.making_ms - making
            self.updates_ms.append((time.perf_counter_ns() - began) / 1e6 - napari_ms)
            self._updated_at = time.monotonic()
        if now - self._status_at > STATUS_S:
            self._status_at = now
            self._write_status()

    def update(self) -> None:
        """Bring layers and sliders in step with the streams."""
        streams = self.receiver.streams
        target = self.followed
        # Read before the layers take over how far the stacks have grown: the sliders must not run ahead of them.
        newest = None if target is None else target.newest
        with self.follower.moving():
            new = self.layers.update(streams)
            self.annotations.update(streams, new)
            self._arrange()
        moved = False
        if self.follower.following and target is not None and newest is not None:
            where = dict(zip(target.axes, newest[1], strict=False))
            moved = self.follower.go(self.layers.axes, where, target.spacing)
        volume = self._shows_volume()
        moves: set[tuple[float, float]] = set()
        for live in self.layers:
            tag = live.tag_at(self.where(live.stream))
            if not live.layer.visible:
                live.shown = None
                continue
            if tag is not live.shown or (volume and live.sliced != live.version):
                if not moved and live not in new:
                    # The plane under the sliders is another one now; neither the extent nor anything else has changed.
                    live.layer.refresh(thumbnail=False, highlight=False, extent=False)
                self._waiting_for_paint = True
                live.settle(tag is not None)
            live.shown, live.sliced = tag, live.version
            if tag is not None and live.moved:
                moves.add(live.go_along())
        if len(moves) == 1:  # the picture stays in sight
            away = (0.0, *moves.pop())
            self.viewer.scene.camera.center = tuple(
                np.add(self.viewer.scene.camera.center, away[-len(self.viewer.scene.camera.center) :])
            )
        with self.follower.moving():
            if self.annotations.show(self.where, make=not new):
                self._waiting_for_paint = True
        self._changed = self._changed or self.layers.incomplete

    def _look_again(self, _event: Any = None) -> None:
        """Show what lies on the images where the user has moved the sliders to."""
        if self.follower.moves:
            return  # `update` will do it, when the layers are as they are to be
        with self.follower.moving():
            self.annotations.show(self.where, make=False, remake=False)
        self._changed = self._changed or self.layers.incomplete

    def _shows_volume(self) -> bool:
        """Whether the user has put one of the sliders' axes on the canvas, so that it shows many planes at once."""
        dims = self.viewer.dims
        first = dims.ndim - len(self.layers.axes) - 2
        return any(first <= axis < dims.ndim - 2 for axis in dims.displayed)

    def _arrange(self) -> None:
        """Look at what is new on the canvas."""
        if self.layers.incomplete:
            self._changed = True
        # Another field has come into the run: look at all of them, unless the user looks at something of their own.
        spread = self.layers.spread and self._looks_at == _look(self.viewer)
        self.layers.spread = False
        if not self.layers.moved_on and not spread:
            return
        self.layers.moved_on = False
        known = self.layers.units[-1] != "pixel"
        if self.status is not None:
            self.viewer.canvas.overlays.scale_bar.visible = known
        elif len(self.viewer.layers) > len([*self.layers, *self.annotations]):
            return  # the user looks at layers of their own
        elif known:
            self.viewer.canvas.overlays.scale_bar.visible = True
        self.viewer.reset_view()
        self._looks_at = _look(self.viewer)

    def _fit_again(self, _event: Any = None) -> None:
        """Fit the picture to a canvas of another size, unless the user looks at something of their own.

        A window gets its size after it is shown: a run that begins by then is fitted to a canvas that nobody ever sees.
        """
        if self._looks_at == _look(self.viewer):
            self.viewer.reset_view(reset_camera_angle=False)
            self._looks_at = _look(self.viewer)

    @property
    def followed(self) -> LiveStream | None:
        """The stream that the sliders follow: the newest that is live, else the newest."""
        streams = [stream for stream in self.receiver.streams if stream.newest is not None]
        live = [stream for stream in streams if stream.state == "live"]
        began = {stream.key: at for at, stream in enumerate(streams)}
        return max(live or streams, key=lambda stream: began[stream.key], default=None)

    def where(self, stream: LiveStream) -> dict[str, int]:
        """Return the absolute positions along the viewer's axes at which the sliders stand for a stream."""
        axes, steps, dims = self.layers.axes, stream.spacing, self.viewer.dims
        first = dims.ndim - len(axes) - 2
        points = dims.point
        return {
            name: int(np.round(points[first + at] / steps.get(name, 1.0)))
            for at, name in enumerate(axes)
            if first + at >= 0
        }

    # ---- following and status ------------------------------------------------------------------------------------

    def set_following(self, following: bool) -> None:
        """Make the sliders follow the newest frame, or stay."""
        self.follower.following = following
        self._show_following()
        self._changed = True

    def _show_following(self) -> None:
        if self.status is not None:
            self.status.follow.setChecked(self.follower.following)
        self.following_changed.emit(self.follower.following)

    @property
    def paused(self) -> bool:
        """Whether the picture stays as it is, while frames go on into the stacks.

        The sliders can be moved meanwhile, among the frames that had come. At the end the newest is shown.
        """
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        if paused == self._paused:
            return
        self._paused = paused
        for live in self.layers:
            if paused:
                # A preview's next frame takes the place of this one, and napari may slice again at any time.
                live.data.keep(live.data.place(self.where(live.stream)))
            else:
                live.data.let_go()
                live.shown = None
        if not paused:
            self.set_following(True)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be shown, and why."""
        own = (problem for problem in (self._problem, self.receiver.problem) if problem)
        return (*self.layers.problems, *self.annotations.problems, *own)

    def hint(self) -> str:
        """Return what is special about the place where the sliders are, such as ``"no frame here yet"``; or ``""``."""
        stream = self.followed
        if stream is not None and (mine := [live for live in self.layers if live.stream is stream]):
            where = self.where(stream)
            states = {live.stack.state(live.data.place(where)) for live in mine}
            if states == {"missing"}:
                return "no frame here yet"
            if states == {"forgotten"}:
                return "the frame here is forgotten"
        return ""

    def _write_status(self) -> None:
        if self.status is not None:
            hint = "; ".join(part for part in (self.hint(), *self.problems) if part)
            self.status.show_status(self.followed, self.receiver.sources, hint)

    # ---- painting ------------------------------------------------------------------------------------------------

    def _about_to_paint(self) -> None:
        self._painting = [(live, live.shown) for live in (*self.layers, *self.annotations) if live.layer.visible]

    def _swapped(self) -> None:
        """Count what has come onto the screen."""
        painted, self._painting = self._painting, None
        if painted is None:
            return  # the window was composed anew, without a new picture
        if self._waiting_for_paint:
            self._waiting_for_paint = False
            self.paints_ms.append((time.monotonic() - self._updated_at) * 1e3)
        for live, tag in painted:
            if tag is not None and tag.sequence > live.painted:
                live.stream.log.paint([tag], first=live.painted < 0)
                live.painted = tag.sequence

    def report(self) -> dict[str, float]:
        """Return the figures of a PONG that this view knows."""
        updates, paints = list(self.updates_ms), list(self.paints_ms)
        figures: dict[str, float] = {"layer_ms": self.layers.longest_ms}
        if updates:
            p50, p99 = np.percentile(updates, (50, 99))
            figures.update(drain_p50_ms=float(p50), drain_p99_ms=float(p99))
        if paints:
            figures["paint_p50_ms"] = float(np.median(paints))
        return figures

    # ---- life ----------------------------------------------------------------------------------------------------

    def capture(self, path: str, done: Callable[[str], None]) -> None:
        """Save a picture of the window, then call ``done("")`` or ``done(reason)``."""
        for _ in range(_MOST_LAYERS):
            self.update()
            if not self.layers.incomplete:  # all layers are made
                break
        self._write_status()
        try:
            self.viewer.screenshot(path, canvas_only=False, flash=False)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is told to whoever asked for the picture
            done(f"{type(error).__name__}: {error}")
            return
        done("")

    def close(self) -> None:
        """Close the window."""
        self.stop()
        self.viewer.close()

    def _gone(self) -> None:
        """Stop because the window is gone."""
        with suppress(RuntimeError):  # and this with it, if it was the window's child
            self._timer.stop()

    def stop(self) -> None:
        """Show nothing new any more; the layers stay. Idempotent."""
        if self._stopped:
            return
        self._stopped = True
        self._gone()
        self.follower.disconnect()
        dims = self.viewer.dims
        for event in (dims.events.point, dims.events.ndisplay, dims.events.order):
            event.disconnect(self._look_again)
        self.viewer.canvas.events.size.disconnect(self._fit_again)
        self._canvas.stop()
