"""The live view of a pymmcore-plus core: its sequences, its live mode and its snaps, for the time of a block."""

from __future__ import annotations

import logging
import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

from scopecast.backends.streaming import StreamingBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopecast.backends.streaming import Arguments

__all__ = ["live"]

logger = logging.getLogger(__name__)

#: Seconds between two looks at the camera in live mode: about what a screen shows.
PACE_S = 1 / 30
#: Seconds between two looks at the stage in live mode.
STAGE_S = 0.5


@contextmanager
def live(
    core: Any, viewer: str = "napari", *, wait: float = 0.0, **arguments: Unpack[Arguments]
) -> Iterator[StreamingBackend]:
    """Show everything that a pymmcore-plus core acquires within the block.

    Sequences (``core.run_mda``, ``core.mda.run``) get layers of their own. Live mode
    (``startContinuousSequenceAcquisition``) is shown at the pace of a screen, and snaps when they are taken, both in
    the layer of the preview; of several cameras (Micro-Manager's "Multi Camera"), each has one. Nothing is ever raised
    into the acquisition, and it never waits for a viewer.

    Parameters
    ----------
    core : pymmcore_plus.CMMCorePlus
        The core.
    viewer
        The kind of viewer: ``"napari"``, ``"fiji"``, …
    wait
        Seconds to wait for a viewer before the block begins, so that a short run is shown as a whole; by default none:
        until the viewer is up the newest frame of each channel is kept for it.
    **arguments
        Those of `StreamingBackend`: `title`, `launch`, `linger`, `budget`, …

    Yields
    ------
    StreamingBackend
        What streams; ask it for its ``stats()``.

    Raises
    ------
    TypeError
        If `core` has no ``mda`` and ``events``, and so is not one of pymmcore-plus. If there is any other argument; the
        text suggests which one may have been meant.

    Examples
    --------
    ::

        with scopecast.live(core):
            core.run_mda(sequence).join()
    """
    for name in ("mda", "events"):
        if not hasattr(core, name):
            msg = f"live() takes a pymmcore_plus.CMMCorePlus, which has .{name}; {type(core).__name__} has none"
            raise TypeError(msg)
    with _of_kind(viewer)(**arguments) as backend:
        if wait:
            # Without a camera, which the user may load within the block, all of these are 0.
            shape = (max(1, core.getImageHeight()), max(1, core.getImageWidth()))
            backend.publisher.open(shape, f"uint{8 * (core.getBytesPerPixel() or 2)}", wait=wait)
        preview = _Preview(core, backend)
        links: list[tuple[Any, Callable[..., None]]] = [
            (core.mda.events.sequenceStarted, backend.sequenceStarted),
            (core.mda.events.frameReady, backend.frameReady),
            (core.mda.events.sequenceFinished, backend.sequenceFinished),
            (core.events.continuousSequenceAcquisitionStarted, preview.start),
            (core.events.sequenceAcquisitionStopped, preview.stop),
            (core.events.imageSnapped, preview.snapped),
        ]
        connected: list[tuple[Any, Callable[..., None]]] = []
        try:
            for signal, slot in links:
                signal.connect(slot)
                connected.append((signal, slot))
            if core.isSequenceRunning() and not core.mda.is_running():
                preview.start()  # live mode was on before
            yield backend
        finally:
            for signal, slot in connected:
                signal.disconnect(slot)
            preview.stop()


def _of_kind(viewer: str) -> type[StreamingBackend]:
    """Return a backend for any kind of viewer, which is not registered."""

    class Live(StreamingBackend):
        VIEWER_TYPE = viewer

    return Live


class _OfCamera:
    """As much of an event as says that there are several cameras; which one it was is in the metadata."""

    index: ClassVar[dict[str, int]] = {"cam": 0}


class _Preview:
    """Shows the newest frame of the live mode at the display's pace, on a thread of its own, and snaps.

    The camera's own thread fills the core's buffer; that is only looked at, never emptied.
    """

    def __init__(self, core: Any, backend: StreamingBackend) -> None:
        self.core, self.backend = core, backend
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._known: dict[str, Any] = {}  # exposure and stage position, and since when
        self._asked_at = -math.inf

    def start(self, *_: object) -> None:
        """Begin to watch the live mode; again if the camera ended the previous one by itself."""
        self.stop()
        with self._lock:
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(self._stopping,), name="scopecast-preview", daemon=True
            )
            self._thread.start()

    def stop(self, *_: object) -> None:
        """Stop looking. Idempotent."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(5.0)

    def _run(self, stopping: threading.Event) -> None:
        newest: dict[str, object] = {}
        while not stopping.wait(PACE_S):
            # None is an error of the core's, which may pass.
            if self.backend.attempt("the live mode", self._show_newest, newest) is False:
                return

    def _show_newest(self, shown: dict[str, object]) -> bool:
        """Show the newest frame of each camera; `shown` has the numbers of those that were shown last.

        Returns
        -------
        bool
            Whether the camera still runs.
        """
        if not self.core.isSequenceRunning():
            return False
        if not (waiting := self.core.getRemainingImageCount()):
            return True  # the camera has made none yet
        cameras = self.core.getNumberOfCameraChannels()
        if cameras == 1:
            image, tags = self.core.getLastImageAndMD()
            self._show(image, tags, shown, "")
            return True
        seen: set[str] = set()
        for back in range(min(waiting, 2 * cameras)):  # their frames come one after the other, more or less in turn
            image, tags = self.core.getNBeforeLastImageAndMD(back)
            if (camera := str(tags.get("Camera", ""))) not in seen:
                seen.add(camera)
                self._show(image, tags, shown, camera)
        return True

    def _show(self, image: Any, tags: Any, shown: dict[str, object], camera: str) -> None:
        number = tags.get("ImageNumber", None)
        if number is None or number != shown.get(camera):
            shown[camera] = number
            self._publish(image, camera, tags)

    def _publish(self, image: Any, camera: str, tags: Any = ()) -> None:
        # In the forms in which pymmcore-plus tells of the frames of a run, see `scopecast.backends.acquisition`.
        metadata: dict[str, Any] = {"pixel_size_um": self.core.getPixelSizeUm() or None, "camera_device": camera}
        metadata["pixel_size_affine"] = self.core.getPixelSizeAffine()
        metadata |= self._recorded(now=not tags)
        if "ROI-X-start" in tags:
            metadata["camera_metadata"] = tags
        else:
            metadata["image_infos"] = [{"roi": self.core.getROI(camera or self.core.getCameraDevice())}]
        self.backend.frame_ready(image, _OfCamera() if camera else None, metadata)

    def _recorded(self, *, now: bool) -> dict[str, Any]:
        """Return exposure and stage position. In live mode the position may be a little older, as a stage may be slow.

        A program that takes marks wants to know where each frame was taken.
        """
        began = time.monotonic()
        if now or self.backend.publisher.listens or began - self._asked_at >= STAGE_S:
            try:
                self._known = {"exposure_ms": self.core.getExposure(), "position": self._stage_position()}
            except Exception as error:  # noqa: BLE001 - the picture goes on without
                logger.debug("where the stage is could not be asked: %s", error)
                self._known = {}
            self._asked_at = time.monotonic()
        return self._known

    def _stage_position(self) -> dict[str, float]:
        """Return where the stages are that there are."""
        found: dict[str, float] = {}
        if self.core.getXYStageDevice():
            found["x"], found["y"] = self.core.getXYPosition()
        if self.core.getFocusDevice():
            found["z"] = self.core.getPosition()
        return found

    def snapped(self, *_: object) -> None:
        """Show the image that was just snapped."""
        self.backend.attempt("a snap", self._show_snap)

    def _show_snap(self) -> None:
        if not self.core.mda.is_running():  # else it is the engine's, and comes as a frame
            cameras = self.core.getNumberOfCameraChannels()
            for number in range(cameras):
                name = self.core.getPhysicalCameraDevice(number) if cameras > 1 else ""
                self._publish(self.core.getImage(number) if cameras > 1 else self.core.getImage(), name)
