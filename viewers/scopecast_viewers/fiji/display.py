"""The ImageJ receiver process: a real ImageJ that shows every fiji stream of this user."""

from __future__ import annotations

import logging
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from scopecast.errors import ViewerStartError
from scopecast.frames.documents import DOCUMENTS
from scopecast_viewers.display import Display
from scopecast_viewers.fiji.pixels import narrow_labels
from scopecast_viewers.look.ticks import STATUS_S, TICK_MS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from scopecast_viewers.fiji.gallery import Gallery
    from scopecast_viewers.fiji.menu import StreamMenu
    from scopecast_viewers.fiji.planes import JavaPool
    from scopecast_viewers.receiver import Receiver
    from scopecast_viewers.stacks.plane import Plane

__all__ = ["FijiDisplay"]

logger = logging.getLogger(__name__)

_SHUTDOWN_S: Final = 5.0


class FijiDisplay(Display):
    """An ImageJ, or the user's Fiji: see `scopecast_viewers.fiji.jvm`."""

    kind: ClassVar[str] = "fiji"
    kept_streams: ClassVar[int] = 30  # a run's window stays; see `Gallery.make_room`
    kept_sources: ClassVar[int] = 30

    def __init__(self) -> None:
        self.pool: JavaPool | None = None
        self.gallery: Gallery | None = None
        self.menu: StreamMenu | None = None
        self._receiver: Receiver | None = None
        self._window: Any = None
        self._timer: Any = None
        self._status_at = 0.0
        self._updates_ms: list[float] = []
        # Unlike an Event, a SimpleQueue can be put to by a signal's handler in the middle of a get.
        self._end: SimpleQueue[None] = SimpleQueue()
        self._ended = threading.Event()

    def run(self, receiver: Receiver) -> None:
        """Open ImageJ, attach, and show until ImageJ is quit."""
        from scopecast_viewers.fiji.cocoa import beside_event_loop

        beside_event_loop(lambda: self._run(receiver))

    def _run(self, receiver: Receiver) -> None:
        from scopecast_viewers.fiji.jvm import choose, start

        try:
            window = start(choose(), receiver.history.budget)
        except ViewerStartError as error:
            # What a user has to do about it; a traceback would bury that.
            raise SystemExit(f"scopecast: {error}") from None
        self._watch_java_end(receiver)
        self.show_in(window, receiver)
        receiver.start()
        self._end.get()
        self.close()

    def _watch_java_end(self, receiver: Receiver) -> None:
        """Say goodbye even if something in Java ends the process (Fiji's Quit, a plugin)."""
        from scopecast_viewers.fiji.awt import java, listener

        def leave() -> None:
            if not self._ended.is_set():
                self._end.put(None)
                receiver.close()

        hook = java("java.lang.Thread")(listener("java.lang.Runnable", run=leave))
        java("java.lang.Runtime").getRuntime().addShutdownHook(hook)

    def show_in(self, window: Any, receiver: Receiver) -> None:
        """Show the streams of `receiver` in the ImageJ whose main window this is; returns at once."""
        from scopecast_viewers.fiji.awt import invoke_later, listener
        from scopecast_viewers.fiji.planes import JavaPool

        self._receiver, self._window = receiver, window
        self.pool = JavaPool()
        self._quit_listener = listener("java.awt.event.WindowListener", windowClosed=lambda _: self.quit())
        window.addWindowListener(self._quit_listener)
        opened = threading.Event()
        invoke_later(lambda: self._open(receiver, opened))
        if not opened.wait(60.0):
            raise SystemExit("scopecast: ImageJ's window thread has not answered within 60 s")

    def _open(self, receiver: Receiver, opened: threading.Event) -> None:
        from scopecast_viewers.fiji.awt import java, listener
        from scopecast_viewers.fiji.gallery import Gallery
        from scopecast_viewers.fiji.menu import StreamMenu

        try:
            self.gallery = gallery = Gallery()
            java("scopecast.Commands").watch(listener("java.util.function.Function", apply=gallery.why_not_saved))
            self.menu = StreamMenu(self.gallery, receiver)
            tick = listener("java.awt.event.ActionListener", actionPerformed=lambda _: self._tick())
            self._timer = java("javax.swing.Timer")(TICK_MS, tick)
            self._timer.start()
        finally:
            opened.set()

    def _tick(self) -> None:
        gallery, receiver = self.gallery, self._receiver
        if gallery is None or receiver is None or self._ended.is_set():
            return
        began = time.perf_counter_ns()
        gallery.update(receiver.streams)
        self._updates_ms = [*self._updates_ms[-255:], (time.perf_counter_ns() - began) / 1e6]
        now = time.monotonic()
        if now - self._status_at > STATUS_S:
            self._status_at = now
            gallery.write_status(receiver.sources)
            self._tell_look(gallery, receiver)
            if self.menu is not None:
                self.menu.update()

    def _tell_look(self, gallery: Gallery, receiver: Receiver) -> None:
        """Tell what is looked at in the image in front, where that is a preview: its exact pixels come first."""
        image = gallery.in_front
        if image is not None and (shown := image.preview_shown) is not None:
            receiver.look(image.stream, *shown)

    def quit(self) -> None:
        """Make `run` return."""
        self._end.put(None)

    def close(self) -> None:
        """Show nothing new any more; the images stay. Idempotent."""
        if self._ended.is_set():
            return
        self._ended.set()
        from scopecast_viewers.fiji.awt import invoke_later

        stopped = threading.Event()

        def stop() -> None:
            try:
                if self._timer is not None:
                    self._timer.stop()
                if self.menu is not None:
                    self.menu.remove()
                if self.gallery is not None:
                    self.gallery.stop()
                if self._window is not None:
                    self._window.removeWindowListener(self._quit_listener)
            finally:
                stopped.set()

        invoke_later(stop)
        stopped.wait(_SHUTDOWN_S)  # a hung window thread must not keep the process
        if self.pool is not None:
            self.pool.close()

    def shows(self, dtype: np.dtype[Any], kind: str) -> bool:
        """Images and labels, and what lies on them."""
        return kind in ("image", "labels", *DOCUMENTS)

    def take(self, view: npt.NDArray[Any], *, magnitude: bool) -> Plane:
        """Copy a frame into a Java array."""
        assert self.pool is not None
        return self.pool.take(view)

    def take_labels(self, view: npt.NDArray[Any]) -> Plane:
        """Copy labels into a Java array of as few bytes as hold them."""
        assert self.pool is not None
        return self.pool.take(narrow_labels(view))

    def report(self, stream_source: str) -> dict[str, float]:
        """Return how long updates and painting take."""
        figures: dict[str, float] = {}
        if updates := self._updates_ms:
            p50, p99 = np.percentile(updates, (50, 99))
            figures.update(drain_p50_ms=float(p50), drain_p99_ms=float(p99))
        if paints := [ms for image in self.gallery or () for ms in image.paints_ms]:
            figures["paint_p50_ms"] = float(np.median(paints))
        return figures

    def capture(self, path: str, done: Callable[[str], None]) -> None:
        """Save a picture of ImageJ's windows."""
        from scopecast_viewers.fiji.awt import invoke_later
        from scopecast_viewers.fiji.picture import save_picture

        if self.gallery is None:
            done("ImageJ is not open")
        else:
            invoke_later(lambda: save_picture(path, done))
