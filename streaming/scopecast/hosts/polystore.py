"""scopecast in polystore: ``import scopecast.hosts.polystore`` registers ``scopecast_napari`` and ``scopecast_fiji``.

polystore's own `FileManager` then shows what it is told to save there, also from its worker processes, each of which
streams for itself. Contracts: polystore 0.6.3, ``backend_registry.py`` (made without arguments, cleaned up by name),
``filemanager.py`` (what a backend returns is discarded; pickled as names and connection parameters), and
``streaming/_streaming_backend.py``.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Unpack

import numpy as np
from polystore import StreamingBackend as PolystoreBackend
from polystore.base import PicklableBackend
from polystore.roi import ROI, EllipseShape, PointShape, PolygonShape, PolylineShape
from polystore.roi_converters import ImageJROIShapeConverter

from scopecast.backends.streaming import FijiStreamingBackend, NapariStreamingBackend, StreamingBackend
from scopecast.frames.rois import is_roi_path
from scopecast.keywords import known_keywords
from scopecast.publishing.accounts import Reason, Receipt, Stats

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence

    from scopecast.backends.streaming import Arguments
    from scopecast.frames.axes import AxisValue

__all__ = ["PolystoreFiji", "PolystoreNapari", "PolystoreSink"]


class _Tolerant(StreamingBackend):
    """Skips, with the reason, what it cannot show: a pipeline must not end because of its live view."""

    def _stream(
        self, data: Any, path: str, where: Mapping[str, Any], inner: Mapping[str, AxisValue] = {}
    ) -> tuple[int, str]:
        try:
            if is_roi_path(path) and (given := [data] if isinstance(data, ROI) else data) is not None:
                if isinstance(given, list | tuple) and not given:
                    return 0, Reason.EMPTY  # and no request to read the file of that name
                if isinstance(given, list | tuple) and all(isinstance(item, ROI) for item in given):
                    data = self._imagej_rois(given, path)
            return super()._stream(data, path, where, inner)
        except Exception as error:  # noqa: BLE001 - counted, and in the receipt
            self._failed(path, error)
            return 0, f"{type(error).__name__}: {error}"

    def _imagej_rois(self, rois: Sequence[ROI], path: str) -> list[Any]:
        """Return polystore's regions as ImageJ's; those that ImageJ has no form for are counted.

        Raises
        ------
        ValueError
            If there is none that ImageJ has.
        """
        found: list[Any] = []
        wrong = ""
        for number, roi in enumerate(rois, 1):
            label = roi.metadata.get("label")
            for part, shape in enumerate(roi.shapes, 1):
                name = f"ROI_{number}_{part}" if label is None else f"{label}"  # as polystore calls them
                try:
                    found.append(ImageJROIShapeConverter.for_shape(shape).imagej_roi(_from_corner(shape), name))
                except ValueError as error:  # polystore's UnsupportedImageJROIShapeError is one
                    wrong = f"{type(shape).__name__} of region {number}: {error}"
                    self._failed(f"{path}: a shape", error)
        if not found:
            raise ValueError(f"none of its shapes can be shown; {wrong}")
        return found


def _from_corner(shape: Any) -> Any:
    """Return a shape of polystore's, whose coordinates are those of pixels' centres, as ImageJ counts: from corners."""
    if isinstance(shape, PointShape):
        return replace(shape, y=shape.y + 0.5, x=shape.x + 0.5)
    if isinstance(shape, EllipseShape):
        return replace(shape, center_y=shape.center_y + 0.5, center_x=shape.center_x + 0.5)
    if isinstance(shape, PolygonShape | PolylineShape):
        return replace(shape, coordinates=np.asarray(shape.coordinates, float) + 0.5)
    return shape


class _NapariLive(_Tolerant, NapariStreamingBackend):
    pass


class _FijiLive(_Tolerant, FijiStreamingBackend):
    pass


class Parameters(dict[str, Any]):
    """The arguments of a sink, on their way to a worker process.

    A class of this module, and no mere dict: unpickling it imports the module, which registers the sinks in the worker
    before polystore looks for them. polystore's own discovery sees its own package only.
    """


class PolystoreSink(PolystoreBackend, PicklableBackend):  # type: ignore[misc]  # polystore has no types
    """Shows what polystore's `FileManager` saves to it; a subclass names the viewer.

    polystore's regions (lists of ``ROI`` under a path such as ``cells.roi.zip``) are shown on the image of that name.
    What cannot be shown (a table, text, an unknown dtype, a mask as a region) is skipped, logged and counted; only
    lists of different lengths are an error. By default nothing is lost: saving waits while an attached viewer has no
    room.

    Parameters
    ----------
    **arguments
        Those of `scopecast.StreamingBackend`: `title`, `launch`, `policy`, `timeout`, `linger`, `budget`, `pattern`,
        `run`, `scale`, `units`, `steps`, `channels`, `colors`. With a `run`, all workers of a pipeline make
        one run in the viewer; polystore itself does not tell which pipeline a worker belongs to.

    Raises
    ------
    TypeError, ValueError
        If there is no such argument, or a value is not allowed; the text says what may have been meant.

    Attributes
    ----------
    last_receipt : Receipt or None
        What became of the last batch, as the `FileManager` discards what a backend returns.
    on_receipt : callable or None
        Called with the `Receipt` of every batch, on the thread that saved it.

    Examples
    --------
    >>> from polystore import FileManager
    >>> sink = PolystoreNapari(launch=False)
    >>> files = FileManager({"scopecast_napari": sink})
    >>> files.save_batch([[[0, 1]], "a,b"], ["t0.tif", "t0.csv"], "scopecast_napari")
    >>> print(sink.last_receipt)
    0 sent (0 frames), 2 skipped: t0.csv (extension '.csv'), t0.tif (no viewer)
    >>> sink.cleanup()
    """

    _live_type: ClassVar[type[StreamingBackend]]

    def __init__(self, **arguments: Unpack[Arguments]) -> None:
        super().__init__()
        self.last_receipt: Receipt | None = None
        self.on_receipt: Callable[[Receipt], None] | None = None
        self._arguments = Parameters(arguments)
        self._live: StreamingBackend | None = self._live_type(**arguments)  # a mistake in them is told at once

    # ---- what polystore calls ------------------------------------------------------------------------------------

    def save(self, data: Any, file_path: str | os.PathLike[str], **where: Any) -> None:
        """Show one item. See `save_batch`."""
        self.save_batch([data], [file_path], **where)

    def save_batch(self, data_list: Sequence[Any], file_paths: Sequence[str | os.PathLike[str]], **where: Any) -> None:
        """Show what can be shown of a batch; see `scopecast.StreamingBackend.save_batch`.

        Raises
        ------
        ValueError
            If the lists differ in length; nothing is sent then.
        """
        live = self.live
        # polystore hands on options that are meant for other backends.
        receipt = live.save_batch(data_list, file_paths, **known_keywords(live.save_batch, where))
        if receipt.frames and _in_a_worker():
            # Nobody tells what happens next: a pool ends its workers by a signal, which leaves no time for goodbyes.
            live.flush()
        self.last_receipt = receipt
        if self.on_receipt is not None:
            self.on_receipt(receipt)

    def cleanup(self) -> None:
        """Close the live view, once what is in flight has arrived; the next batch opens it again."""
        live, self._live = self._live, None
        if live is not None:
            live.close()
        super().cleanup()

    def get_connection_params(self) -> Parameters:
        """Return the arguments that this was made with, for a worker process."""
        return Parameters(self._arguments)

    def set_connection_params(self, params: dict[str, Any] | None) -> None:
        """Take the arguments of another process's sink."""
        self.cleanup()
        self._arguments = Parameters(params or {})

    # ---- ours ----------------------------------------------------------------------------------------------------

    @property
    def live(self) -> StreamingBackend:
        """The streaming backend underneath; another one after `cleanup`."""
        if self._live is None:
            self._live = self._live_type(**self._arguments)
        return self._live

    def stats(self) -> Stats:
        """Return what became of every frame since the last `cleanup`."""
        return Stats() if self._live is None else self._live.stats()


class PolystoreNapari(PolystoreSink):
    """Shows in napari. See `PolystoreSink`."""

    _backend_type = "scopecast_napari"
    _live_type = _NapariLive
    VIEWER_TYPE = NapariStreamingBackend.VIEWER_TYPE
    SHM_PREFIX = NapariStreamingBackend.SHM_PREFIX
    SUPPORTED_EXTENSIONS = frozenset(NapariStreamingBackend.SUPPORTED_EXTENSIONS)


class PolystoreFiji(PolystoreSink):
    """Shows in Fiji or ImageJ. See `PolystoreSink`."""

    _backend_type = "scopecast_fiji"
    _live_type = _FijiLive
    VIEWER_TYPE = FijiStreamingBackend.VIEWER_TYPE
    SHM_PREFIX = FijiStreamingBackend.SHM_PREFIX
    SUPPORTED_EXTENSIONS = frozenset(FijiStreamingBackend.SUPPORTED_EXTENSIONS)


def _in_a_worker() -> bool:
    """Whether this process was started by multiprocessing."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and process.parent_process() is not None
