"""scopecast in ExEngine: a data storage that shows what it stores.

Contract: exengine 0.4, ``kernel/data_storage_base.py`` and ``kernel/data_handler.py``. The handler's thread calls
`put`; an error there ends it, and `finish` is never called. So nothing of the live view is ever raised from here.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from exengine.kernel.data_coords import DataCoordinates
from exengine.kernel.data_storage_base import DataStorage

from scopecast.errors import ClosedError
from scopecast.frames.axes import spell_axes
from scopecast.frames.streams import FrameStream
from scopecast.keywords import suggesting
from scopecast.protocol import printable
from scopecast.publishing.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from scopecast.publishing.accounts import Stats
    from scopecast.publishing.publisher import Policy

__all__ = ["LiveViewStorage"]

logger = logging.getLogger(__name__)

#: Bytes of frames that are kept where no other storage keeps them.
BUDGET = 2 * 2**30


class _Kept(NamedTuple):
    data: npt.NDArray[Any]
    metadata: Any


class LiveViewStorage(DataStorage):  # type: ignore[misc]  # exengine has no types
    """Stores each frame first, then shows it; a frame that cannot be shown is counted, and stored all the same.

    Parameters
    ----------
    inner : exengine.base_classes.DataStorage, optional
        What stores the frames: ``NDTiffStorage(…)``, ``NDRAMStorage()``, … Without one, they are kept in memory, the
        newest up to `budget` bytes.
    viewer : str
        The kind of viewer: ``"napari"``, ``"fiji"``, …
    budget : int
        Bytes of frames that are kept without `inner`; older ones are forgotten, and counted.
    scale : float or sequence of float, optional
        Size of a pixel in µm, one number or two (y, x); by default what the first frame's metadata say
        (``"PixelSizeUm"``).
    title, run, policy, launch, timeout, linger
        As for `scopecast.Publisher`; a viewer is started if none of this kind is running.

    Raises
    ------
    TypeError
        If there is any other argument; the text suggests which one may have been meant.

    Attributes
    ----------
    errors : int
        Frames that could not be shown.
    forgotten : int
        Frames that were discarded to stay within the budget.

    Examples
    --------
    >>> with LiveViewStorage(viewer="headless", launch=False) as storage:
    ...     storage.put({"time": 0, "channel": "DAPI"}, np.zeros((4, 4), "uint16"), {"exposure": 10})
    ...     {"channel": "DAPI", "time": 0} in storage
    True
    """

    @suggesting
    def __init__(
        self,
        inner: Any = None,
        viewer: str = "napari",
        *,
        budget: int = BUDGET,
        scale: float | Sequence[float] | None = None,
        title: str = "",
        run: str = "",
        policy: Policy = "latest",
        launch: bool = True,
        timeout: float = 30.0,
        linger: float = 30.0,
    ) -> None:
        super().__init__()
        self.inner, self.budget = inner, budget
        self.errors = self.forgotten = 0
        FrameStream(0, "", scale=scale)  # what is wrong with it is said now
        self.publisher = Publisher(
            viewer,
            title=title,
            host="exengine",
            run=run,
            policy=policy,
            launch=launch,
            timeout=timeout,
            linger=linger,
        )
        self._scale = scale
        self._stream: Any = None
        self._kept: OrderedDict[DataCoordinates, _Kept] = OrderedDict()
        self._nbytes = 0
        self._lock = threading.Lock()  # the handler's thread puts, others get
        self._finished = False

    # ---- storing -------------------------------------------------------------------------------------------------

    def put(self, data_coordinates: Mapping[str, int | str], data: npt.NDArray[Any], metadata: Any) -> None:
        """Store a frame, then show it.

        Parameters
        ----------
        data_coordinates
            ``DataCoordinates`` or a plain dict, such as ``{"time": 3, "channel": "DAPI", "z": 7}``.
        data
            The frame, (y, x) or (y, x, 3 or 4).
        metadata
            Anything JSON.

        Raises
        ------
        ClosedError
            After `finish`, without an inner storage.
        Exception
            Whatever `inner` raises. Nothing of the live view.
        """
        coordinates = _coordinates(data_coordinates)
        if self.inner is not None:
            self.inner.put(coordinates, data, metadata)
        else:
            self._keep(coordinates, np.array(data), metadata)
        try:
            self._show(coordinates, data, metadata)
        except Exception as error:  # noqa: BLE001 - an acquisition must not end because of its live view; counted
            self.errors += 1
            level = logging.WARNING if self.errors == 1 else logging.DEBUG
            problem = f"{coordinates} could not be shown: {type(error).__name__}: {error}"
            logger.log(level, "scopecast: %s", printable(problem))

    def _keep(self, coordinates: DataCoordinates, data: npt.NDArray[Any], metadata: Any) -> None:
        if self._finished:
            msg = "this storage is finished, and takes no more frames; make a new one"
            raise ClosedError(msg)
        with self._lock:
            if (old := self._kept.pop(coordinates, None)) is not None:
                self._nbytes -= old.data.nbytes
            self._kept[coordinates] = _Kept(data, metadata)
            self._nbytes += data.nbytes
            while self._nbytes > self.budget and len(self._kept) > 1:  # the newest stays in any case
                _, gone = self._kept.popitem(last=False)
                self._nbytes -= gone.data.nbytes
                self.forgotten += 1

    def _show(self, coordinates: DataCoordinates, data: npt.NDArray[Any], metadata: Any) -> None:
        with self._lock:  # two threads that put first at the same time share one stream
            if self._stream is None:
                scale = _pixel_size(metadata) if self._scale is None else self._scale
                self._stream = self.publisher.new_stream("data", scale=scale)
        self.publisher.publish(data, axes=spell_axes(coordinates), metadata=metadata, stream=self._stream)

    # ---- reading -------------------------------------------------------------------------------------------------

    def __contains__(self, data_coordinates: Mapping[str, int | str]) -> bool:
        coordinates = _coordinates(data_coordinates)
        return coordinates in self._kept if self.inner is None else coordinates in self.inner

    def __getitem__(self, data_coordinates: Mapping[str, int | str]) -> npt.NDArray[Any]:
        return self.get_data(data_coordinates)

    def get_data(self, data_coordinates: Mapping[str, int | str]) -> npt.NDArray[Any]:
        """Return a frame's pixels; raise KeyError where there is none."""
        coordinates = _coordinates(data_coordinates)
        self._check(coordinates)
        data: npt.NDArray[Any] = self._get(coordinates).data if self.inner is None else self.inner.get_data(coordinates)
        return data

    def get_metadata(self, data_coordinates: Mapping[str, int | str]) -> Any:
        """Return a frame's metadata; raise KeyError where there is none."""
        coordinates = _coordinates(data_coordinates)
        self._check(coordinates)
        return self._get(coordinates).metadata if self.inner is None else self.inner.get_metadata(coordinates)

    def _check(self, coordinates: DataCoordinates) -> None:
        """Raise KeyError where the inner storage has nothing: each has an error of its own, or returns None."""
        if self.inner is not None and coordinates not in self.inner:
            raise KeyError(f"there is no frame at {dict(coordinates)}")

    def _get(self, coordinates: DataCoordinates) -> _Kept:
        with self._lock:
            kept = self._kept.get(coordinates)
        if kept is None:
            gone = f"; {self.forgotten} older frames were discarded to stay within {self.budget} bytes"
            raise KeyError(f"there is no frame at {dict(coordinates)}" + (gone if self.forgotten else ""))
        return kept

    # ---- life ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Accept no more frames; the existing ones can still be read. Idempotent."""
        if self._finished:
            return
        self._finished = True
        if self._stream is not None:
            with suppress(ClosedError):
                self.publisher.end_stream(self._stream)
        if self.inner is not None:
            self.inner.finish()

    def close(self) -> None:
        """Close the live view, once what is in flight has arrived, and the inner storage. Idempotent."""
        self.publisher.close()
        if self.inner is not None:
            self.inner.close()

    def stats(self) -> Stats:
        """Return what became of every frame; see `scopecast.Stats`."""
        return self.publisher.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _coordinates(given: Mapping[str, int | str]) -> DataCoordinates:
    # DataCoordinates takes the dict that it is given for its own, and changes it.
    return given if isinstance(given, DataCoordinates) else DataCoordinates(dict(given))


def _pixel_size(metadata: Any) -> float | None:
    size = metadata.get("PixelSizeUm") if isinstance(metadata, dict) else None
    return float(size) if isinstance(size, int | float) and 0 < size < float("inf") else None
