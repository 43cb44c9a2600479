"""The live view: a napari viewer that shows the streams of a receiver, at the pace at which it can paint."""

from __future__ import annotations

import html
import logging
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.settings import get_settings
from qtpy.QtCore import QObject, Qt, QTimer, Signal

from scopecast_viewers.look.ticks import MAX_WAIT_S, SLIDERS_MAX_S, SLIDERS_MIN_S, SLIDERS_REST, STATUS_S, TICK_MS
from scopecast_viewers.napari.annotation_layers import LiveAnnotations
from scopecast_viewers.napari.canvas import CanvasWatch
from scopecast_viewers.napari.closer import CloserLook
from scopecast_viewers.napari.contrast_button import ContrastButton
from scopecast_viewers.napari.follow import Follower
from scopecast_viewers.napari.frame_info import BOX, TEXT, FrameButton, FrameInfo
from scopecast_viewers.napari.labels import layer_class
from scopecast_viewers.napari.layers import LiveLayers
from scopecast_viewers.napari.place_names import PlaceNames
from scopecast_viewers.napari.runs_button import RunsButton
from scopecast_viewers.napari.scene import Scene
from scopecast_viewers.napari.status_line import StatusLine
from scopecast_viewers.napari.steady import steady
from scopecast_viewers.napari.tools import LiveTools
from scopecast_viewers.napari.units import canvas_spacing
from scopecast_viewers.receiving.metadata import metadata_lines
from scopecast_viewers.receiving.status import hint_of, preview_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from napari.viewer import Viewer
    from qtpy.QtWidgets import QWidget

    from scopecast_viewers.napari.annotation_layer import LiveAnnotation
    from scopecast_viewers.napari.layer import LiveLayer
    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.plane import Tag

__all__ = ["LiveView"]

logger = logging.getLogger(__name__)

#: Part of the canvas that stays free around a picture that is fitted to it.
MARGIN = 0.05
#: A run that would take less than this part of the view, because of others far away, is looked at alone.
FAR_AWAY = 0.2
#: How often the table of what is known of the frame that is shown is written anew; the text on the canvas always is.
_TELL_S = 0.1
#: Less than any pixel, in the canvas's unit.
_ROUNDING = 1e-6
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
    side_by_side : bool
        The runs in the scene lie beside each other, each in a cell of napari's grid.
    sliders_due : float
        The time, as of `time.monotonic`, at which the sliders may go on. Until then the picture goes ahead of them.
    tools : LiveTools
        What the user does with the picture.
    following_changed, paused_changed : Signal
        The sliders follow, or the picture stands, from now on; or do not any more.
    """

    following_changed = Signal(bool)
    paused_changed = Signal(bool)
    _news = Signal()

    def __init__(self, viewer: Viewer, receiver: Receiver, window: QWidget | None = None) -> None:
        super().__init__(window)
        self.viewer, self.receiver = viewer, receiver
        self.scene = Scene()
        self.layers = LiveLayers(viewer, layer_class, self.scene)
        self.annotations = LiveAnnotations(viewer, self.layers)
        self.names = PlaceNames(viewer)
        self.follower = Follower(viewer, self._show_following)
        self.closer = CloserLook(viewer, self.layers, self._change_layers)
        self.status: StatusLine | None = None
        self.frame_info = FrameInfo(viewer)
        self._told_at = self._asked_at = 0.0  # when something new was told, and when it was looked for
        self._paused = False
        self.side_by_side = False
        self.tools = LiveTools(self)
        if window is None:
            window = self._add_status_line()
        self.window = window
        self.updates_ms: deque[float] = deque(maxlen=4096)
        self.paints_ms: deque[float] = deque(maxlen=4096)
        self._asked: deque[Callable[[], None]] = deque()
        self._problems: dict[str, str] = {}  # by what failed
        self._stopped = False
        self._looks_at: tuple[float, ...] = ()
        self._on_top: LiveStream | None = None
        self._in_sight_at: tuple[float, ...] | None = None  # where the picture lies that moves along positions
        self._to_be_seen: LiveStream | None = None  # a run that the user has brought back
        self._has_scale_bar: bool | None = None
        self._painted_size: tuple[int, ...] = ()
        self._was_fitted = False
        self._fit_due = False  # the canvas got another size while the layers were changing
        self._changed = True
        self._woken = False
        self._updated_at = self._rests_until = 0.0
        self._sliders_behind = False  # of the picture, which is of a frame that they are still to go to
        self.sliders_due = 0.0
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
        self._news.connect(self._wake, Qt.ConnectionType.QueuedConnection)

    def _add_status_line(self) -> QWidget:
        """Dock a status line, and return the window that it is in."""
        self.status = StatusLine()
        self.status.follow_clicked.connect(self.set_following)
        self.runs = RunsButton(self)
        self.status.add(self.runs)
        self.contrast = ContrastButton(self)
        self.status.add(self.contrast.with_menu())
        self.status.add(self.tools.view_button())
        self.status.add(self.tools.snapshot_button())
        self.status.add(self.tools.freeze_button())
        self.status.add(self.tools.send_button())
        self.status.add(self.tools.keep_button())
        self.status.add(FrameButton(self))
        self.frame_info.on_canvas = True
        self.status.destroyed.connect(self._gone)
        self.viewer.canvas.overlays.scale_bar.visible = False
        napari = self.viewer.window
        self.dock = napari.add_dock_widget(
            self.status, area="bottom", name="scopecast live", add_vertical_stretch=False, menu=napari.window_menu
        )
        # Closed, it is hidden: the Window menu shows it again, with the button that follows and the list of runs.
        self.dock.destroyOnClose = self.dock.hide
        self.dock.title.hide_button.hide()  # it does the same, and three buttons overlap on a dock as low as this
        window = self.status.window()
        self.tools.bind_keys(window)
        self.setParent(window)
        return window

    # ---- from the receiver's thread ------------------------------------------------------------------------------

    def notify(self) -> None:
        """Say that something is new. Called from any thread."""
        self._changed = True
        if not self._woken:
            self._woken = True
            with suppress(RuntimeError):  # the window is gone, and this with it
                self._news.emit()

    def ask(self, work: Callable[[], None]) -> None:
        """Have something done on the GUI's thread soon. Called from any thread."""
        self._asked.append(work)

    # ---- the tick ------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        """Look at what is new before the timer does, but not sooner after the last time than that would."""
        self._woken = False
        if self._timer.isActive() and time.monotonic() - self._updated_at > TICK_MS / 1e3:
            self._tick()

    def _tick(self) -> None:
        while self._asked:
            self._attempt("what was asked of the window", self._asked.popleft())
            if not self._timer.isActive():  # what was asked for was to close
                return
        now = time.monotonic()
        if not self.window.isVisible():
            return  # it is being closed, or there is nobody to see it
        due = now >= self._rests_until and (not self._waiting_for_paint or now - self._updated_at > MAX_WAIT_S)
        changed = self._changed or (self._sliders_behind and now >= self.sliders_due)
        updated = changed and due and not self._paused
        if updated:
            self.receiver.let_read()
            self._changed = False
            began, making = time.perf_counter_ns(), self.layers.making_ms
            if not self._attempt("an update of the window", lambda: self.update(ahead=True)):
                self._changed, self._rests_until = True, now + STATUS_S  # what failed once may go well then
            napari_ms = self.layers.making_ms - making
            self.updates_ms.append((time.perf_counter_ns() - began) / 1e6 - napari_ms)
            self._updated_at = time.monotonic()
        # With the picture that it is about: the canvas is painted once for both.
        rests = self.frame_info.as_table and now - self._told_at <= _TELL_S
        if (updated and not rests) or now - self._asked_at > STATUS_S:
            self._asked_at = now
            self._attempt("describing the frame", self._tell)
        # These, too: a label that changes has the window composed anew, which is as much work as the picture.
        if now - self._status_at > (STATUS_S if self._waiting_for_paint else 2 * STATUS_S):
            self._status_at = now
            self._attempt("a closer look at the picture", self.closer.look)  # also at what is new, or shown again
            self._attempt("the contrast", lambda: self.layers.look_for_saturation(self.where))
            self._attempt("the status line", self._write_status)
            self._attempt("measuring", self.tools.measures.refresh)
            self._attempt("checking who takes marks", self.tools.look_who_listens)
            self._attempt("telling what is looked at", self._tell_look)

    def _tell(self) -> None:
        if self.frame_info.tell(self.frame_shown(), self._late()):
            self._told_at = time.monotonic()

    def _tell_look(self) -> None:
        """Tell what is looked at, where that is a preview: its exact pixels come first."""
        if (frame := self.frame_shown()) is None or not frame[2].preview:
            return
        live, index, _ = frame
        self.receiver.look(live.stream, index, live.visible_region)

    def _attempt(self, what: str, work: Callable[[], object]) -> bool:
        """Do something without which the window goes on; what goes wrong is told until it goes well again.

        Return whether it went well.
        """
        try:
            work()
        except Exception as error:
            problem = f"{what} failed: {type(error).__name__}: {error}"
            if self._problems.get(what) != problem:
                self._problems[what] = problem
                logger.exception("%s failed", what)
            return False
        self._problems.pop(what, None)
        return True

    def update(self, *, ahead: bool = False) -> None:
        """Bring layers and sliders in step with the streams.

        Parameters
        ----------
        ahead
            The sliders, which cost napari more than the picture, may stay where they are if a step of theirs is not due
            yet, and nothing else depends on where they are.
        """
        began = time.monotonic()
        streams = self.receiver.streams
        self.scene.update(streams)
        target = self.followed
        if self.scene.begun:
            self.set_following(True)
        # Read before the layers take over how far the stacks have grown: the sliders must not run ahead of them.
        newest = None if target is None else target.newest
        ahead = ahead and newest is not None and began < self.sliders_due and self._may_go_ahead
        self._sliders_behind = ahead
        looks_on = self._looks_at == _look(self.viewer)  # before napari goes elsewhere, as it does for a first layer
        with self.follower.moving():
            self.annotations.leave()  # before images of other axes and units come
            new = self.layers.update(streams, grow=not ahead)
            self.annotations.update(streams, new)
            if new or self.scene.on_top is not self._on_top:
                self._on_top = self.scene.on_top
                self.layers.raise_top()
                if self.side_by_side:
                    self._lay_side_by_side()
            top = self.scene.on_top
            self.names.show(top, self.layers.tiling.layout(top) if top is not None else None, self.layers.units)
            self.tools.solo.apply()
            self._arrange(looks_on)
        moved = False
        if (back := self._to_be_seen) is not None and back.newest is not None:
            target, newest = back, back.newest
        goal = dict(zip(target.axes, newest[1], strict=False)) if target and newest else None
        self._stand_in(goal)
        for live in self.layers:
            live.data.ahead = goal if ahead and live.stream is target else None
        expected: dict[LiveLayer, Tag | None] = {}
        if (self.follower.following or back is not None) and target is not None and newest is not None:
            where = dict(zip(target.axes, newest[1], strict=False))
            # Read before napari slices: should a plane come in between, the layer is sliced once more.
            expected = {live: live.tag_at(where) for live in self.layers if live.stream is target}
            moved = not ahead and self._go(target, where)
        self._to_be_seen = None
        volume = self._shows_volume()
        moves: dict[int, tuple[LiveLayer, tuple[float, float]]] = {}
        for live in tuple(self.layers):
            tag = live.tag_at(live.index_at(self.viewer.dims.point))
            if not live.layer.visible:
                live.shown = None
                continue
            try:
                if tag is not live.shown or (volume and live.sliced != live.version):
                    if not moved or tag is not expected.get(live, tag):
                        self.layers.refresh(live)
                    self._waiting_for_paint = True
                    live.settle(tag is not None)
                live.shown, live.sliced = tag, live.version
                if tag is not None and live.moved:
                    self.layers.check(live)
                    away = live.go_along()
                    if live.stream is self.scene.on_top:
                        moves[tag.sequence] = (live, away)
            except Exception as error:  # noqa: BLE001 - noted, logged, and told in the status
                self.layers.give_up(live, error)
        if moves:
            self._go_along(*moves[max(moves)])
        with self.follower.moving():
            if self.annotations.show(self.where, make=not new, lately=self.follower.following):
                self._waiting_for_paint = True
            self.mark()
        self._changed = self._changed or self.layers.incomplete
        if moved:
            now = time.monotonic()
            self.sliders_due = now + min(max(SLIDERS_REST * (now - began), SLIDERS_MIN_S), SLIDERS_MAX_S)

    @property
    def _may_go_ahead(self) -> bool:
        """Whether nothing that is seen depends on where the sliders stand, other than the images that follow."""
        if not self.follower.following or self._to_be_seen is not None or self.scene.joined or self._shows_volume():
            return False
        if get_settings().experimental.async_:
            return False  # planes are read later, when the sliders may have come after
        following = [live.layer for live in self.layers if live.data.stand_in is not None and not live.rank]
        return all(layer in following for layer in self.viewer.layers if layer.visible and layer.ndim > 2)

    def catch_up(self) -> None:
        """Have the sliders, and how far the layers reach, come after the picture, before they are made use of."""
        if self._sliders_behind:
            self._attempt("an update of the window", self.update)

    def mark(self) -> None:
        """Lay crosshair and grid over the image that the sliders follow, where the user wants them."""
        target = self.followed
        self.tools.guides.lay(None if target is None else self._image_of(target), self.layers)

    def _go_along(self, live: LiveLayer, away: tuple[float, float]) -> None:
        """Keep the picture in sight, of which a layer has moved, the newest; the other channels will move after it."""
        corner = np.array(live.world[:2])
        before = corner - away if self._in_sight_at is None else np.array(self._in_sight_at)
        self._in_sight_at = tuple(map(float, corner))
        camera = self.viewer.scene.camera
        shift = (0.0, *(corner - before))
        camera.center = tuple(np.add(camera.center, shift[-len(camera.center) :]))

    def _stand_in(self, goal: Mapping[str, int] | None = None) -> None:
        """While the sliders follow a run, let each of its channels show its newest plane until its own has come.

        Of the images of another program, which have places of their own, the newest is shown all the time. `goal` is
        where the sliders are to go.
        """
        following = self.follower.following and not self._shows_volume()
        for live in self.layers:
            of_another = self.scene.is_beside(live.stream)
            stands_in = following and (of_another or live.stream is self.followed)
            if following:
                at = live.index_at(self.viewer.dims.point) if goal is None else goal
                live.stand_in(stands_in, always=stands_in and of_another and not live.rank, where=at)
                continue
            where = live.index_at(self.viewer.dims.point)
            before = live.tag_at(where)
            live.data.ahead = None
            if live.stand_in(False) and live.layer.visible and live.tag_at(where) is not before:
                self.layers.refresh(live)  # the user has moved a slider, and napari has sliced before it told us

    def _look_again(self, _event: Any = None) -> None:
        """Show what lies on the images where the user has moved the sliders to."""
        if self.follower.moves:
            return  # `update` will do it, when the layers are as they are to be
        with self.follower.moving():
            self._attempt("a move of the sliders", lambda: self.annotations.show(self.where, make=False, remake=False))
        self._changed = self._changed or self.layers.incomplete

    def _change_layers(self, change: Callable[[], object]) -> None:
        """Change how much of a picture is shown; what napari says of the sliders meanwhile is not the user's doing."""
        with self.follower.moving():
            self._attempt("a closer look at the picture", change)

    def _shows_volume(self) -> bool:
        """Whether the user has put one of the sliders' axes on the canvas, so that it shows many planes at once."""
        dims = self.viewer.dims
        first = dims.ndim - len(self.layers.axes) - 2
        return any(first <= axis < dims.ndim - 2 for axis in dims.displayed)

    def _arrange(self, looks_on: bool) -> None:
        """Look at what is new on the canvas; with `looks_on`, the user does not look at something of their own."""
        if self.layers.incomplete:
            self._changed = True
        # Another run or field has come beside those that are there, or live mode has another size: look at all of it,
        # unless the user looks at something of their own.
        spread = self.layers.spread or self.scene.joined
        spread = spread and (looks_on or not self._in_sight)
        begun = self.scene.begun
        if begun and self.side_by_side:
            self.set_side_by_side(False)
        if begun or spread:
            self._in_sight_at = None
        if begun:
            self._status_at = 0.0  # the line tells of this run from its first picture on
        self.layers.spread = self.scene.begun = self.scene.joined = False
        known = self.layers.units[-1] != "pixel"
        if self.status is not None and known != self._has_scale_bar:
            self.viewer.canvas.overlays.scale_bar.visible = self._has_scale_bar = known
        if not begun and not spread:
            if self._fit_due:
                self._fit()
            return
        if self.status is None and len(self.viewer.layers) > len(self._ours):
            return  # the user looks at layers of their own
        if known:
            self.viewer.canvas.overlays.scale_bar.visible = True
        self._fit()

    @property
    def _ours(self) -> list[Any]:
        beside = [layer for layer in (self.names.layer, self.tools.guides.layer) if layer in self.viewer.layers]
        return [live.layer for live in (*self.layers, *self.annotations)] + beside

    def _fit(self) -> None:
        """Fit the run that is to be seen to the canvas, with all that is in the scene where that is not far away."""
        everything = [live.layer for live in self.layers]
        mine = [live.layer for live in self.layers if live.stream is self.scene.on_top]
        if not everything:
            everything = [live.layer for live in self.annotations]
        if not everything:
            return
        with self.closer.whole():
            far_away = mine and self.layers.width_of(mine) < FAR_AWAY * self.layers.width_of(everything)
            layers = mine if far_away else everything
            # napari can't take the extent of layers that have fewer axes than another one, which the user has added.
            known = max(layer.ndim for layer in layers) == self.viewer.dims.ndim
            self.viewer.reset_view(layers=layers if known else None, margin=MARGIN, reset_camera_angle=False)
        self._looks_at = _look(self.viewer)
        self._fit_due = False

    def _fit_again(self, _event: Any = None) -> None:
        """Fit the picture to a canvas of another size, unless the user looks at something of their own.

        A window gets its size after it is shown: a run that begins by then is fitted to a canvas that nobody ever sees.
        """
        if self._looks_at != _look(self.viewer):
            return
        if self.follower.moves:
            self._fit_due = True  # `update` will do it, when the layers are as they are to be
        else:
            self._attempt("fitting the picture to the canvas", self._fit)

    @property
    def _in_sight(self) -> bool:
        """Whether something of the run that is to be seen is on the canvas, as far as can be told."""
        camera, size = self.viewer.scene.camera, np.asarray(self.viewer.canvas.size, float)
        if self.viewer.dims.ndisplay != 2:
            return True
        reach = size / 2 / camera.zoom
        low, high = np.asarray(camera.center[-2:]) - reach, np.asarray(camera.center[-2:]) + reach
        mine = [live.layer.extent.world[:, -2:] for live in self.layers if live.stream is self.scene.on_top]
        return not mine or any((world[0] < high).all() and (world[1] > low).all() for world in mine)

    @property
    def followed(self) -> LiveStream | None:
        """The stream that the sliders follow; see `Scene`."""
        return self.scene.followed

    @property
    def looked_at(self) -> LiveStream | None:
        """The run that the user looks at: the one that is followed, or that was brought back while the sliders stay."""
        followed = self.scene.followed
        return followed if self.follower.following else self.scene.on_top or followed

    def show_run(self, stream: LiveStream, shown: bool = True) -> None:
        """Bring a former run back into the scene, or send it out of it again."""
        if shown:
            self.scene.show(stream)
            self.layers.bring_back(stream)
            self.set_following(False)  # the sliders would go where this run may have nothing
            self._to_be_seen = stream
        else:
            self.scene.hide(stream)
        self._changed = True

    def show_alone(self, stream: LiveStream) -> None:
        """Show a run without any other, until a new one begins or another is brought back."""
        self.scene.show_alone(stream)
        self.layers.bring_back(stream)
        self.set_following(True)
        self._to_be_seen = stream
        self._changed = True

    def remove_runs(self, *streams: LiveStream) -> None:
        """Let go of runs for good."""
        for stream in streams:
            self.scene.hide(stream)
            self.receiver.forget(stream)

    def follow(self, source: str | None) -> None:
        """Follow a source, given by its token; with None, whichever delivers images."""
        self.scene.follow(source)
        self.set_following(True)

    @property
    def deleted(self) -> int:
        """How many layers the user has deleted of what could be shown."""
        return len(self.layers.deleted) + len(self.annotations.deleted)

    def undelete(self) -> None:
        """Show again what the user has deleted."""
        self.layers.undelete()
        self.annotations.undelete()
        self._changed = True

    def show_one_by_one(self, on: bool) -> None:
        """Show the positions that are one picture one by one, along a slider, each with all of its pixels."""
        self.layers.show_one_by_one(on)
        self._looks_at = _look(self.viewer)  # it is another picture, which is to be fitted
        self._changed = True

    def set_side_by_side(self, on: bool) -> None:
        """Show the runs in the scene beside each other, until the next one begins, or on each other."""
        self.side_by_side = on
        self._lay_side_by_side()
        self.viewer.canvas.grid.enabled = on
        self.scene.joined = True  # look at all of it
        self._changed = True

    def _lay_side_by_side(self) -> None:
        """Have all channels of a run in one cell of the grid, if the runs have as many; and each layer named there."""
        counts = {sum(live.stream is stream for live in self.layers) for stream in self.scene.streams}
        self.viewer.canvas.grid.stride = counts.pop() if len(counts) == 1 else 1
        for live in self.layers:
            if (name := getattr(live.layer, "name_overlay", None)) is not None:  # napari has it since 0.7
                name.color, name.box, name.box_color, name.visible = TEXT, True, BOX, self.side_by_side

    def _go(self, stream: LiveStream, where: dict[str, int]) -> bool:
        """Move the sliders to absolute positions in a stream. Return whether one had to move."""
        live = self._image_of(stream)
        if live is None:
            return self.follower.go(self.layers.axes, where, canvas_spacing(stream))
        return self.follower.go(self.layers.axes, live.point_at(where), {})

    def _image_of(self, stream: LiveStream) -> LiveLayer | None:
        """Return the layer by which places in a stream are told: one that is visible, best that of the newest image."""
        newest = stream.newest

        def preference(live: LiveLayer) -> tuple[bool, bool]:
            return live.layer.visible, newest is not None and live.holds(*newest[:2])

        mine = [live for live in self.layers if live.stream is stream and not live.rank and not live.stale]
        return max(mine, key=preference, default=None)

    def where(self, stream: LiveStream) -> dict[str, int]:
        """Return the absolute positions along the viewer's axes at which the sliders stand for a stream."""
        if (live := self._image_of(stream)) is not None:
            return live.index_at(self.viewer.dims.point)
        axes, steps, dims = self.layers.axes, canvas_spacing(stream), self.viewer.dims
        first = dims.ndim - len(axes) - 2
        points = dims.point
        return {
            name: int(np.round(points[first + at] / steps.get(name, 1.0)))
            for at, name in enumerate(axes)
            if first + at >= 0
        }

    # ---- following and status ------------------------------------------------------------------------------------

    def set_following(self, following: bool) -> None:
        """Make the sliders follow the newest frame, which ends a freeze; or stay."""
        if following and self._paused:
            self.set_paused(False)
            return
        if not following:
            self.catch_up()
        elif self.scene.followed is not None:
            self.scene.on_top = self.scene.followed  # and not a run that was brought back
        self.follower.following = following
        self._show_following()
        self._changed = True

    def _show_following(self) -> None:
        self._stand_in()
        self._changed = True  # what lies on the images is that of the place now, or the newest
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
        self.set_paused(paused)

    def set_paused(self, paused: bool) -> None:
        """Let the picture stand, or go on with the newest frame; see `paused`."""
        if paused == self._paused:
            return
        self.catch_up()
        self._paused = paused
        for live in self.layers:
            if paused:
                live.stream.holders.add("frozen")
                # A preview's next frame takes the place of this one, and napari may slice again at any time.
                live.data.keep(live.data.place(live.index_at(self.viewer.dims.point)))
            else:
                live.data.let_go()
                live.shown = None
        if not paused:
            for stream in self.receiver.streams:
                stream.holders.discard("frozen")
            self.set_following(True)
        self._status_at = 0.0  # the line tells of it at once
        self.paused_changed.emit(paused)

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be shown, and why."""
        own = [*self._problems.values(), *filter(None, (self.receiver.problem,))]
        return (*self.layers.problems, *self.annotations.problems, *own)

    def hint(self) -> str:
        """Return what is special about the place where the sliders are, such as ``"no frame here yet"``; or ``""``."""
        stream = self.looked_at
        if stream is not None and (mine := [live for live in self.layers if live.stream is stream]):
            where = self.where(stream)
            states = {live.stack.state(live.data.place(where)) for live in mine}
            if len(states) == 1 and (hint := hint_of(stream, states.pop())):
                return hint
            if any(tag.preview for live in mine if (tag := live.tag_at(where)) is not None):
                return preview_of(stream)
        return ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of the picture, beside `hint`: a sentence each."""
        coarse = max((live.every for live in self.layers if live.layer.visible and self._is_coarse(live)), default=1)
        by = "frame ▸ Positions one by one shows all"
        parts = [f"one of {coarse} x {coarse} pixels is shown; {by}"] if coarse > 1 else []
        covered = [f"{title} lies under it; runs ▸ Side by side shows both" for title in self._covered()]
        late = [] if self.frame_info.on_canvas else [f"{name} of {earlier}" for name, earlier in self._late()]
        said = (*parts, *covered, *late, self.tools.saver.progress, self.layers.saturation, *self.problems)
        return tuple(filter(None, said))

    def _covered(self) -> list[str]:
        """Return the programs that deliver, and of whose images nothing is to be seen, as others hide them."""
        if self.viewer.canvas.grid.enabled or self.viewer.dims.ndisplay != 2:
            return []
        shown = [live for live in self.layers if live.layer.visible and not live.rank]
        over = [live.layer.extent.world[:, -2:] for live in shown if live.stream is self.scene.on_top]
        under: dict[str, list[bool]] = {}
        for live in shown:
            if live.stream is not self.scene.on_top and self.scene.is_beside(live.stream):
                low, high = live.layer.extent.world[:, -2:]
                hides = any((low >= each[0] - _ROUNDING).all() and (high <= each[1] + _ROUNDING).all() for each in over)
                under.setdefault(live.stream.title, []).append(hides)
        return [title for title, hidden in under.items() if all(hidden)]

    def _is_coarse(self, live: LiveLayer) -> bool:
        """Whether the screen has room for pixels of a layer that are left out."""
        return live.every > 1 and bool(self.viewer.scene.camera.zoom * min(live.layer.scale[-2:]) > 1)

    def frame_shown(self) -> tuple[LiveLayer, tuple[int, ...], Tag] | None:
        """Return the frame that is to be told of: its layer, its index in the stack, its tag.

        It is that of the selected layer, or of the run on top; of the fields of a run that is followed, the newest.
        """
        point, active = self.viewer.dims.point, self.viewer.layers.selection.active
        found: dict[tuple[bool, bool, int], tuple[LiveLayer, tuple[int, ...], Tag]] = {}
        for live in self.layers:
            of_top = self.scene.on_top in (None, live.stream)
            if live.rank or not live.layer.visible or not (of_top or live.layer is active):
                continue
            if (frame := live.frame_at(live.index_at(point))) is not None:
                chosen = live.layer is active and not (live.place and self.follower.following)
                found[chosen, of_top, frame[1].sequence] = (live, *frame)
        return found[max(found)] if found else None

    def _late(self) -> list[tuple[str, str]]:
        """Return what lies on the images and is of an earlier time than these: its name, and that time."""
        point = self.viewer.dims.point
        here = [live for live in self.layers if live.rank and live.layer.visible]
        of = [(live.stack.sent.name or "labels", live.earlier_at(live.index_at(point))) for live in here]
        of += [(live.called, live.earlier) for live in self.annotations if live.layer.visible]
        return [(name, f"t {t}") for name, t in of if t is not None]

    def _metadata(self) -> list[str]:
        """Return the metadata of the frames that are looked at, each channel's under its name."""
        shown = [live for live in self.layers if live.stream is self.looked_at and live.layer.visible]
        said = [(live.layer.name, metadata_lines(live.shown)) for live in shown if live.shown is not None]
        return [line for name, lines in said if lines for line in (name, *(f"    {each}" for each in lines))]

    def _write_status(self) -> None:
        if self.status is not None:
            self.contrast.refresh()
            here = "frozen" if self._paused else self.hint()
            hint = html.escape("; ".join(filter(None, (here, *self.notes))), quote=False)
            self.status.show_status(self.looked_at, self.receiver.sources, hint, self._metadata())

    # ---- painting ------------------------------------------------------------------------------------------------

    def _about_to_paint(self) -> None:
        resized = tuple(self.viewer.canvas.size) != self._painted_size
        self._was_fitted = resized and self._looks_at == _look(self.viewer)
        self._painting = [(live, live.shown) for live in (*self.layers, *self.annotations) if live.layer.visible]

    def _swapped(self) -> None:
        """Count what has come onto the screen."""
        self._painted_size = tuple(self.viewer.canvas.size)
        if self._was_fitted and self._looks_at != _look(self.viewer):
            # At its first paint of another size, napari takes over what the canvas had made of that.
            self._attempt("fitting the picture to the canvas", self._fit)
        self._was_fitted = False
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
        if self._changed:
            self._news.emit()

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
        try:
            for _ in range(0 if self._paused else _MOST_LAYERS):
                self.update()
                if not self.layers.incomplete:  # all layers are made
                    break
            self._write_status()
            self.frame_info.tell(self.frame_shown(), self._late())
            self.viewer.screenshot(path, canvas_only=False, flash=False)
        except Exception as error:  # noqa: BLE001 - whatever went wrong is told to whoever asked for the picture
            done(f"{type(error).__name__}: {error}")
            return
        done("")

    def close(self) -> None:
        """Close the window, whatever napari raises at that."""
        self._attempt("to stop", self.stop)
        self._attempt("to close napari", self._close_viewer)
        with suppress(RuntimeError):  # it is deleted, as it should be
            self.window.close()
            self.window.hide()  # whether it wanted to or not

    def _close_viewer(self) -> None:
        with steady(self.viewer) as errors:
            self.viewer.close()
        if errors:
            logger.warning("napari was closed; some of its parts raised errors: %r", errors)

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
        self.tools.stop()
        self.follower.disconnect()
        self.layers.disconnect()
        self.frame_info.close()
        dims = self.viewer.dims
        for event in (dims.events.point, dims.events.ndisplay, dims.events.order):
            event.disconnect(self._look_again)
        self.viewer.canvas.events.size.disconnect(self._fit_again)
        self.closer.stop()
        self._canvas.stop()
