"""ndv as a viewer of scopecast: a window that shows the newest stream."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import ndv
import numpy as np
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

from scopecast_ndv.icons import look_for_icons, spare_icons
from scopecast_viewers.display import Display
from scopecast_viewers.stacks.pool import PlanePool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.history import StackLayout
    from scopecast_viewers.stacks.plane import Tag
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["NdvDisplay", "StackData"]

TICK_MS = 30
QUIET_TICKS = 10
#: The next frame is shown when the one before is painted, but after so many ticks in any case.
PATIENCE_TICKS = 20
#: ndv is asked again for a frame that it has not painted by then; the pause doubles, up to so many times its length.
MOST_PATIENCE = 64


class StackData(ndv.DataWrapper):
    """A stack as ndv takes its data: with the axes that it had when it was shown last, though it grows meanwhile."""

    def __init__(self, stream: LiveStream, stack: Stack, layout: StackLayout) -> None:
        self.stream, self.stack, self.axes = stream, stack, layout.axes
        self.shape = layout.shape + stack.plane_shape
        self.reads = 0
        super().__init__(stack.view())

    def isel(self, index: Mapping[int, int | slice]) -> np.ndarray:
        """Return a part of the data; ndv asks for it on a thread of its own."""
        self.reads += 1
        wanted = {name: index.get(axis, slice(None)) for axis, name in enumerate(self.dims)}
        axes = [wanted.get(name, 0) for name in self.stack.axes]  # 0 on those that joined since
        return np.asarray(self.data[*axes, *(wanted[name] for name in self.dims[len(self.axes) :])])

    @classmethod
    def supports(cls, obj: object) -> bool:
        """Whether ndv is to choose this by itself: it is only made by name."""
        return False

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return (*self.axes, "y", "x", "rgb")[: len(self.shape)]

    @property
    def coords(self) -> Mapping[str, Any]:
        """Positions along each axis; the channels by their names."""
        coords: dict[str, Any] = dict(zip(self.dims, map(range, self.shape), strict=True))
        if "c" in coords:
            coords["c"] = [self.stream.label("c", index) for index in coords["c"]]
        return coords


class NdvDisplay(Display):
    """An ndv window. It shows the stream that began last, and goes along with its newest frame."""

    kind: ClassVar[str] = "ndv"

    def __init__(self) -> None:
        self.pool = PlanePool()
        self._asked: deque[Callable[[], None]] = deque()
        self._reads = self._quiet = 0
        self._closing = self._changed = False
        self._shown: StackData | None = None
        self._seen: tuple[Stack | None, int, Tag | None] = (None, -1, None)
        self._where: dict[str, int] = {}  # the place of the newest frame, by the names of its axes
        self._pending: Tag | None = None  # to be painted
        self._counted: Tag | None = None  # as painted, the last one
        self._in_canvas = False  # ndv has read it, and given it to its canvas
        self._icons = look_for_icons()
        self._waited, self._patience = 0, 1

    # ---- the window's thread -------------------------------------------------------------------------------------

    def run(self, receiver: Receiver) -> None:
        """Open the window, and show until it is closed."""
        spare_icons(self._icons)
        ndv.set_gui_backend("qt")
        ndv.set_canvas_backend("vispy")
        app = QApplication.instance() or QApplication([])
        self._viewer = ndv.ArrayViewer()
        self._window = self._viewer.widget()
        self._window.setWindowTitle("scopecast · ndv")
        self._window.resize(900, 800)
        self._viewer.show()
        self._viewer.stats_updated.connect(self._given_to_canvas)
        canvases = [child for child in self._window.findChildren(QObject) if hasattr(child, "frameSwapped")]
        for canvas in canvases:
            canvas.frameSwapped.connect(self._painted)
        timer = QTimer()
        timer.timeout.connect(lambda: self._tick(receiver))
        timer.start(TICK_MS)
        receiver.start()
        app.exec()
        timer.stop()
        for canvas in canvases:  # it may go on painting while the interpreter ends
            canvas.frameSwapped.disconnect(self._painted)
        self.pool.close()

    def _tick(self, receiver: Receiver) -> None:
        self._waited += 1
        if self._closing or not self._window.isVisible():
            QApplication.quit()
        elif self._changed and (self._pending is None or self._waited >= PATIENCE_TICKS):
            self._changed = False
            self._show(receiver)
        elif self._pending is not None and self._waited >= PATIENCE_TICKS * self._patience:
            self._waited, self._patience = 0, min(2 * self._patience, MOST_PATIENCE)
            self._shown.data_changed.emit()
        elif self._asked and self._settled():
            self._asked.popleft()()

    def _settled(self) -> bool:
        """Whether ndv, which reads on a thread of its own, has asked for nothing for some ticks."""
        reads = 0 if self._shown is None else self._shown.reads
        self._quiet = self._quiet + 1 if reads == self._reads else 0
        self._reads = reads
        return self._quiet >= QUIET_TICKS

    def _show(self, receiver: Receiver) -> None:
        streams = [stream for stream in receiver.streams if stream.newest is not None]
        if not streams:
            return
        stream = streams[-1]
        stack, index, tag = stream.newest
        seen = stack, stack.version, tag
        if seen == self._seen:
            return
        layout = stack.layout
        if len(layout.axes) != len(index):
            self._changed = True  # an axis joined a moment ago: at the next tick
            return
        self._seen = seen
        self._pending, self._in_canvas = tag, False
        self._waited, self._patience = 0, 1
        new = self._shown is None or self._shown.stack is not stack or self._shown.axes != layout.axes
        newest = zip(layout.axes, index, layout.origin, strict=True)
        self._where = {name: at - low for name, at, low in newest}
        if new:
            self._shown = StackData(stream, stack, layout)
            # What the window showed before may have had channels, and this may have none; and it is not to be shown by
            # what is set for this.
            self._viewer.data = None
            self._viewer.display_model.channel_axis = None
            self._viewer.display_model.channel_mode = "grayscale"
            self._viewer.data = self._shown
            if "c" in layout.axes:
                self._viewer.display_model.channel_axis = layout.axes.index("c")
                self._viewer.display_model.channel_mode = "composite"
        else:
            if self._shown.shape != (shape := layout.shape + stack.plane_shape):
                self._shown.shape = shape
                self._shown.dims_changed.emit()
            self._shown.data_changed.emit()
        index = {name: at for name, at in self._where.items() if name != "c"}  # the sliders are known by name
        self._viewer.display_model.current_index.update(index)

    def _given_to_canvas(self, *_: object) -> None:
        """Note that ndv, which reads on a thread of its own, has given what it was asked for last to its canvas."""
        model = self._viewer.display_model
        together = "c" if model.channel_mode == "composite" else None
        if all(model.current_index.get(name) == at for name, at in self._where.items() if name != together):
            self._in_canvas = True

    def _painted(self) -> None:
        """Count the frame that has come onto the screen."""
        if self._pending is not None and self._in_canvas:
            if self._pending is not self._counted:  # it is painted again where an axis joins
                self._counted = self._pending
                self._shown.stream.log.paint([self._pending])
            self._pending = None

    # ---- from any thread -----------------------------------------------------------------------------------------

    def quit(self) -> None:
        """Close the window soon."""
        self._closing = True

    def take(self, view: np.ndarray, *, magnitude: bool) -> np.ndarray:
        """Copy a frame into a pooled plane."""
        return self.pool.take(view, magnitude=magnitude)

    def changed(self) -> None:
        """Have the window brought up to date at its next tick."""
        self._changed = True

    def capture(self, path: str, done: Callable[[str], None]) -> None:
        """Save a picture of the window."""
        self._asked.append(lambda: self._capture(path, done))

    def _capture(self, path: str, done: Callable[[str], None]) -> None:
        saved = self._window.grab().save(path, "PNG")
        done("" if saved else f"the picture could not be written to {path}")
