"""ndv as a viewer of scopecast: a window that shows the newest stream."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

import ndv
from qtpy.QtCore import QObject, QTimer
from qtpy.QtWidgets import QApplication

from scopecast_viewers.display import Display
from scopecast_viewers.stacks.pool import PlanePool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.receiving.live import LiveStream
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
    """A stack as ndv takes its data; it grows while ndv shows it."""

    def __init__(self, stream: LiveStream, stack: Stack) -> None:
        self.stream, self.stack, self.axes = stream, stack, stack.axes
        self.reads = 0
        self.wanted: tuple[int, ...] = ()  # where the frame is that is to be shown
        self.read: Tag | None = None  # the frame there, as ndv has read it last
        super().__init__(stack.view())

    def isel(self, index: Mapping[int, int | slice]) -> np.ndarray:
        """Return a part of the data; ndv asks for it on a thread of its own."""
        tag = self.stack.tag(self.wanted) if self._has_wanted(index) else self.read
        part = super().isel(index)
        self.read = tag
        self.reads += 1
        return part

    def _has_wanted(self, index: Mapping[int, int | slice]) -> bool:
        """Whether the frame that is to be shown is in a part of the data."""
        layout = self.stack.layout
        for axis, (at, low, size) in enumerate(zip(self.wanted, layout.origin, layout.shape, strict=False)):
            chosen = index.get(axis, slice(None))
            if at - low not in (range(*chosen.indices(size)) if isinstance(chosen, slice) else (chosen,)):
                return False
        return True

    @classmethod
    def supports(cls, obj: object) -> bool:
        """Whether ndv is to choose this by itself: it is only made by name."""
        return False

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes."""
        return (*self.stack.axes, "y", "x", "rgb")[: self.data.ndim]

    @property
    def coords(self) -> Mapping[str, Any]:
        """Positions along each axis; the channels by their names."""
        coords: dict[str, Any] = dict(zip(self.dims, map(range, self.data.shape), strict=True))
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
        self._shape: tuple[int, ...] = ()
        self._version = -1
        self._pending: Tag | None = None  # to be painted
        self._in_canvas: Tag | None = None  # ndv has read it, and given it to its canvas
        self._waited, self._patience = 0, 1

    # ---- the window's thread -------------------------------------------------------------------------------------

    def run(self, receiver: Receiver) -> None:
        """Open the window, and show until it is closed."""
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
        if stack.version == self._version and self._shown is not None and self._shown.stack is stack:
            return
        self._version = stack.version
        self._pending, self._in_canvas = tag, None
        self._waited, self._patience = 0, 1
        new = self._shown is None or self._shown.stack is not stack or self._shown.axes != stack.axes
        if new:
            self._shown = StackData(stream, stack)
        self._shown.wanted = index
        if new:
            # What the window showed before may have had channels, and this may have none.
            self._viewer.display_model.channel_axis = None
            self._viewer.display_model.channel_mode = "grayscale"
            self._viewer.data = self._shown
            if "c" in stack.axes:
                self._viewer.display_model.channel_axis = stack.axes.index("c")
                self._viewer.display_model.channel_mode = "composite"
        else:
            if self._shape != stack.full_shape:
                self._shown.dims_changed.emit()
            self._shown.data_changed.emit()
        self._shape = stack.full_shape
        newest = zip(stack.axes, index, stack.origin, strict=True)
        where = {name: at - low for name, at, low in newest if name != "c"}  # the sliders are known by name
        self._viewer.display_model.current_index.update(where)

    def _given_to_canvas(self, *_: object) -> None:
        """Note that ndv, which reads on a thread of its own, has what it has read in its canvas."""
        if self._shown is not None:
            self._in_canvas = self._shown.read

    def _painted(self) -> None:
        """Count the frame that has come onto the screen."""
        tag, pending = self._in_canvas, self._pending
        if pending is not None and tag is not None and tag.sequence >= pending.sequence:
            self._pending = None
            self._shown.stream.log.paint([tag])

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
