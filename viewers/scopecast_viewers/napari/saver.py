"""Saves what came of a run, or the frame that is shown, in the background: the file dialog, the progress, the end."""

from __future__ import annotations

import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info, show_warning
from qtpy.QtCore import QObject, Signal
from qtpy.QtWidgets import QFileDialog

from scopecast_viewers.napari.snapshot import shown_frame
from scopecast_viewers.receiving.exporting import Export, TakenFrame, exports
from scopecast_viewers.receiving.formats import FORMATS
from scopecast_viewers.receiving.saving import Saved, StoppedError, save_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast_viewers.napari.snapshot import ShownLayers
    from scopecast_viewers.receiving.live import LiveStream
    from scopecast_viewers.stacks.stack import Stack

__all__ = ["Saver"]


class Saver(QObject):  # type: ignore[misc]  # qtpy has no types
    """Saves for the window of a live view, one file at a time, while frames go on coming and are shown.

    Parameters
    ----------
    view
        The live view.

    Attributes
    ----------
    busy_changed : Signal
        It saves from now on, or does not any more.
    """

    busy_changed = Signal(bool)

    def __init__(self, view: ShownLayers) -> None:
        super().__init__(view)
        self._view = view
        self._path: Path | None = None
        self._folder = Path.home()
        self._done, self._of = 0, 1
        self._stopped = False
        self._stream_held: LiveStream | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being saved."""
        return self._path is not None

    @property
    def progress(self) -> str:
        """What is being saved, and how far that is; or ``""``."""
        return "" if self._path is None else f"saving {self._path.name}: {100 * self._done // max(1, self._of)} %"

    def save_run(self, form: str) -> None:
        """Ask for a file, and save what came of the run that is looked at; `form` is the end of the file's name."""
        if (stream := self._stream()) is not None:
            self._ask("Save the run", stream.about.title, (form,), partial(exports, stream), stream)

    def save_frame(self) -> None:
        """Ask for a file, and save the frame of each channel that is shown now, with scale, channels and metadata."""
        if (stream := self._stream()) is not None:
            shown = partial(exports, stream, self._shown(stream))
            name = f"{stream.about.title} {time.strftime('%H%M%S')}"
            self._ask("Save this frame", name, tuple(FORMATS), shown, stream)

    def _stream(self) -> LiveStream | None:
        if self.busy:
            show_warning(f"{self.progress}: wait until that is done, or stop it")
        elif self._view.looked_at is None:
            show_warning("no frame has arrived that could be saved")
        else:
            return self._view.looked_at
        return None

    def _shown(self, stream: LiveStream) -> dict[Stack, tuple[tuple[str, ...], dict[tuple[int, ...], TakenFrame]]]:
        point = tuple(self._view.viewer.dims.point)
        found: dict[Stack, tuple[tuple[str, ...], dict[tuple[int, ...], TakenFrame]]] = {}
        for live in self._view.layers:
            if live.stream is stream and live.layer.visible and (shown := shown_frame(live, point)) is not None:
                place, plane, tag = shown
                found.setdefault(live.stack, (live.data.layout.axes, {}))[1][place] = TakenFrame(plane, tag)
        return found

    def _ask(
        self, title: str, name: str, forms: tuple[str, ...], take: Callable[[], tuple[Export, ...]], stream: LiveStream
    ) -> None:
        plain = re.sub(r"[^\w .,+-]+", "_", name).strip(" .") or "run"
        kinds = ";;".join(f"{FORMATS[form]} (*{form})" for form in forms)
        default = str(self._folder / f"{plain}{forms[0]}")
        stream.holders.add(self)  # newer runs come while the user looks for a folder, and while it is written
        self._stream_held = stream
        chosen, kind = QFileDialog.getSaveFileName(self._view.window, title, default, kinds)
        if chosen:
            self._save(take, Path(chosen), next((form for form in forms if f"*{form}" in kind), forms[0]))
        if not self.busy:
            self._let_go()

    def _save(self, take: Callable[[], tuple[Export, ...]], path: Path, form: str) -> None:
        if not path.name.endswith(tuple(FORMATS)):
            path = path.with_name(re.sub(r"(\.ome)?(\.tiff?|\.zarr)?$", "", path.name) + form)
            if path.exists():  # the dialog has asked about another name
                show_warning(f"{path.name} exists already: choose it by that name to replace it")
                return
        self._path, self._folder = path, path.parent
        self._done, self._of, self._stopped = 0, 1, False
        # napari keeps a worker that has ended, with all that its slots hold; those of a QObject's methods hold nothing.
        ends = {"returned": self._saved, "errored": self._failed}
        worker = create_worker(_work, take, path, self._told, _start_thread=False, _connect=ends)
        self.busy_changed.emit(True)
        worker.start()

    def stop(self) -> None:
        """Stop saving; nothing is left of the file. Idempotent."""
        self._stopped = True

    def _told(self, done: int, of: int) -> None:
        self._done, self._of = done, of
        if self._stopped:
            raise StoppedError

    def _let_go(self) -> None:
        if self._stream_held is not None:
            self._stream_held.holders.discard(self)
            self._stream_held = None

    def _end(self) -> None:
        self._path = None
        self._let_go()
        self.busy_changed.emit(False)

    def _saved(self, saved: Saved) -> None:
        self._end()
        (show_warning if saved.forgotten else show_info)(f"saved {saved}")

    def _failed(self, error: BaseException) -> None:
        path = self._path
        self._end()
        if isinstance(error, StoppedError):
            show_info("stopped; nothing was saved")
        else:
            show_error(f"{path.name if path else 'it'} was not saved: {error}")


def _work(take: Callable[[], tuple[Export, ...]], path: Path, told: Callable[[int, int], None]) -> Saved:
    if not (parts := take()):
        raise ValueError("none of its frames is left")
    return save_all(parts, path, told)
