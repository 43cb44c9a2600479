"""The publisher: a frame goes into a free slot of shared memory, and its announcement to the receivers.

``publish()`` never waits for a viewer under the policy ``latest``, and never raises because of one under either.
"""

from __future__ import annotations

import logging
import math
import os
import threading
import time
import weakref
from array import array as number_array
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from scopecast.crashpoints import crash_point
from scopecast.frames.arrays import as_array, check_dtype, native, split_planes
from scopecast.frames.documents import DOCUMENTS
from scopecast.link import messages
from scopecast.memory.copying import copy_frame
from scopecast.publishing.accounts import Account, Stats
from scopecast.publishing.session import Connection, load, remember
from scopecast.publishing.writer import EMPTY, IMAGE, NO_VIEWER, NOTHING, About, Policy, Reservation, What, Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream

__all__ = ["Outcome", "Policy", "Publisher", "Reservation"]

logger = logging.getLogger(__name__)

_COSTS = 4096


class Outcome(NamedTuple):
    """The result of publishing an array.

    Attributes
    ----------
    sequence
        The sequence number of the last frame; -1 if there was none.
    frames
        How many planes the array had.
    reason
        Why it is not shown (``"no viewer"``, ``"empty"``, ``"opening"``, …), with the cause where it is known
        (``"no viewer: napari is not installed; …"``); or ``""``.
    """

    sequence: int
    frames: int
    reason: str


class Publisher:
    """Publishes frames to every viewer of one kind.

    Nothing is allocated, and no viewer launched, before `open` or the first frame.

    Parameters
    ----------
    kind
        The kind of viewer: ``"napari"``, ``"fiji"``, …
    prefix
        Prefix of the shared memory segments, at most 15 characters; ``"{kind}_"`` by default.
    title
        The title of this source in viewers; by default the program's name.
    host
        The software that the frames come from, for information.
    policy
        ``"latest"``: `publish` never waits, and frames that a slow viewer can't take are superseded by newer
        ones. ``"every"``: `publish` waits up to `timeout` for the viewers that are attached, and loses nothing.
    launch
        Whether to start a viewer if none of this kind is running.
    timeout
        Seconds that `publish` waits under ``"every"``, also for a viewer that is being started.
    linger
        Seconds that `close` waits for frames that are in flight, and for a viewer that is being started.
    budget
        The most bytes of shared memory; by default 512 MiB, or a quarter of what is free if that is less.
    environment
        Variables for a viewer that is started, in addition to this process's own.

    Examples
    --------
    >>> import numpy as np
    >>> with Publisher("headless") as publisher:
    ...     publisher.publish(np.zeros((4, 5), "uint16"), axes={"t": 0}, policy="every")
    ...     publisher.stats().frames.skipped  # no viewer runs
    0
    1
    """

    def __init__(
        self,
        kind: str = "napari",
        *,
        prefix: str | None = None,
        title: str = "",
        host: str = "",
        policy: Policy = "latest",
        launch: bool = False,
        timeout: float = 30.0,
        linger: float = 30.0,
        budget: int | None = None,
        environment: Mapping[str, str] = {},
    ) -> None:
        if policy not in ("latest", "every"):
            msg = f"policy {policy!r} is not known; use 'latest' (never waits) or 'every' (loses nothing)"
            raise ValueError(msg)
        load()
        self.kind, self.policy, self.linger = kind, policy, linger
        self._lock = threading.Lock()
        self._total = Account()
        self._costs = number_array("d", bytes(8 * _COSTS))
        self._calls = 0
        self._metadata_cut = 0
        self._connection = Connection(
            kind,
            prefix=f"{kind}_" if prefix is None else prefix,
            title=title,
            host=host,
            launch=launch,
            linger=linger,
            budget=budget,
            environment=environment,
            lock=self._lock,
            total=self._total,
        )
        self._writer = Writer(self._connection, self._lock, self._total, timeout)
        remember(self._connection)
        self._finalizer = weakref.finalize(self, self._connection.abandon)
        self._finalizer.atexit = False  # at exit the connection closes in good order, see scopecast.publishing.session

    # ---- frames --------------------------------------------------------------------------------------------------

    def publish(
        self,
        array: Any,
        *,
        axes: Mapping[str, AxisValue] = {},
        path: str = "",
        kind: str = "image",
        channel: str | int | None = None,
        translate: Sequence[float] = (),
        metadata: Any = None,
        dims: str | Sequence[str] | None = None,
        rgb: bool | None = None,
        stream: FrameStream | None = None,
        policy: Policy | None = None,
        **more: Any,
    ) -> int:
        """Publish an array, or annotations of images; its memory may be reused when this returns.

        Parameters
        ----------
        array
            The pixels, (y, x) or (y, x, 3 or 4) for colour; more dimensions are published plane by plane. bool, int8 to
            int64, uint8 to uint64, float16 to float64, complex64 and complex128; any strides and byte order.
            Also what offers ``__array__`` or DLPack, and tensors of torch and cupy.
        axes
            Where the frame belongs, such as ``{"t": 3, "c": "DAPI", "z": 7}``; strings are labels, placed in order of
            their appearance. A frame without axes replaces the one before it.
        path
            The file that the frame is, or will be.
        kind
            ``"image"``, or what is shown with the images of the stream, in its own layer:

            - ``"labels"``: an array of whole numbers or bool, where an image would be
            - ``"points"``: (N, D) coordinates in pixels of the images, ending in y, x; (0, 0) is the middle of the
              first pixel
            - ``"shapes"``: a list of (n, D) vertices, likewise
            - ``"tracks"``: (N, D + 1): the number of the track, then t and the coordinates
            - ``"rois"``: regions of interest of ImageJ, see `scopecast.frames.rois.rois_document`

            They are shown at the place that `axes` say, and everywhere along an axis that is neither there nor among
            their columns (labels, like images, only at 0 of such an axis). What has the same kind, name and axes is
            replaced.
        channel
            Short for ``axes={"c": channel}``.
        translate
            Position (y, x) of the frame's first pixel, in the stream's unit.
        metadata
            Anything that can be encoded, up to 16 KiB; more is left out and counted.
        dims
            Names of the array's dimensions, such as ``"tczyx"``, where they are not the usual ones. Of points, shapes
            and tracks, the names of the columns, such as ``"zyx"``.
        rgb
            Whether a last dimension of 3 or 4 is colour; by default it is, for uint8, uint16, float32 and float64.
        stream
            The stream that the frame is part of; the newest by default.
        policy
            Another policy than the publisher's, for this call.
        **more
            Of other kinds than images: `name` (of the layer). Of points, shapes and tracks: `properties`, a mapping or
            DataFrame with a number or text for each item, and `style`, a mapping with ``color``, ``edge_color``,
            ``size``, ``edge_width`` (pixels), ``symbol``, and names of properties as ``color_by`` and ``text``. Of
            shapes: `shape_type` (rectangle, ellipse, polygon, path or line; one, or one for each) and `names`. Of
            tracks: `graph`, which maps a track to those it came from. Of rois: `names`.

        Returns
        -------
        int
            The sequence number of the (last) frame, from 0; -1 if there was nothing to publish.

        Raises
        ------
        UnsupportedDtypeError
            If the array can't be shown; the text names the dtype and what to convert it to.
        ValueError
            If `axes` or `dims` are not allowed, or don't fit the array.
        ViewerLagging
            Under ``"every"``, if an attached viewer freed no slot within the timeout; the frame was not published.
        ClosedError
            If the publisher was closed, or belongs to the process that this one was forked from.
        """
        return self.offer(
            array,
            axes=axes,
            path=path,
            kind=kind,
            channel=channel,
            translate=translate,
            metadata=metadata,
            dims=dims,
            rgb=rgb,
            stream=stream,
            policy=policy,
            **more,
        ).sequence

    def offer(
        self,
        array: Any,
        *,
        axes: Mapping[str, AxisValue] = {},
        path: str = "",
        kind: str = "image",
        channel: str | int | None = None,
        translate: Sequence[float] = (),
        metadata: Any = None,
        dims: str | Sequence[str] | None = None,
        rgb: bool | None = None,
        stream: FrameStream | None = None,
        policy: Policy | None = None,
        **more: Any,
    ) -> Outcome:
        """Publish an array as `publish` does, and return the result."""
        began = time.perf_counter_ns()
        self._writer.check_usable()
        if channel is not None:
            axes = {**axes, "c": channel}
        what = IMAGE
        if kind != "image" or more:
            from scopecast.frames.annotations import prepare

            array, axes, dims, what = prepare(kind, array, axes, dims, more)
            rgb = False
        if type(array) is not np.ndarray:
            array = as_array(array)
        check_dtype(array.dtype)
        about = self._about(path, translate, metadata)
        how = policy or self.policy
        outcome = Outcome(-1, 0, "")
        if (array.ndim == 2 and dims is None and array.size) or what[0] in DOCUMENTS:
            outcome = self._place(stream, axes, array, about, how, what)
        elif not array.size:
            outcome = Outcome(-1, 0, self._writer.skip(EMPTY))
        else:
            frames = 0
            for where, plane in split_planes(array, dims=dims, axes=axes, rgb=rgb):
                outcome = self._place(stream, where, plane, about, how, what)
                frames += 1
            outcome = outcome._replace(frames=frames)
        now = time.perf_counter_ns()
        self._costs[self._calls % _COSTS] = now - began
        self._calls += 1
        return outcome

    def _about(self, path: str, translate: Sequence[float], metadata: Any) -> About:
        """Check and encode what goes with a frame, before it has a slot."""
        if metadata is None and not path and not len(translate):
            return NOTHING
        position = [float(value) for value in translate]
        if len(position) not in (0, 2) or not all(map(math.isfinite, position)):
            msg = f"translate is the position (y, x) of the frame's first pixel, not {tuple(translate)}"
            raise ValueError(msg)
        encoded = messages.encode_metadata(metadata)
        if encoded is None:
            self._metadata_cut += 1
            encoded = messages.encode_metadata(None)
        # A file's name may have bytes that are no text; they are shown as "?".
        return path[-4096:].encode("utf-8", "replace").decode(), position, encoded

    def _place(
        self,
        stream: FrameStream | None,
        axes: Mapping[str, AxisValue],
        plane: npt.NDArray[Any],
        about: About,
        policy: Policy,
        what: What,
    ) -> Outcome:
        """Copy one plane (or document) into a slot and announce it."""
        writing = self._writer.claim(stream, axes, plane.shape, native(plane.dtype), policy, what)
        if isinstance(writing, str):
            return Outcome(-1, 1, self._with_cause(writing))
        try:
            copy_frame(writing.array, plane)
        except BaseException:
            if writing.slot is not None:
                self._writer.cancel(writing.slot)
            raise
        crash_point("slot-copied")
        sequence = self._writer.commit(writing, about)
        hub = self._connection.hub_or_none
        unseen = hub is not None and not hub.accounts  # else it has a viewer, or is kept until there is a slot for it
        return Outcome(sequence, 1, self._with_cause(NO_VIEWER) if unseen else "")

    def reserve(
        self,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        *,
        axes: Mapping[str, AxisValue] = {},
        path: str = "",
        translate: Sequence[float] = (),
        metadata: Any = None,
        stream: FrameStream | None = None,
        policy: Policy | None = None,
    ) -> Reservation:
        """Reserve a slot for the camera to write into: nothing is copied.

        Use it as a context manager: the frame is published at the end of the block, and given up if the block raises.

        >>> with Publisher("headless") as publisher:
        ...     with publisher.reserve((4, 5), "uint16", axes={"t": 0}, policy="every") as slot:
        ...         slot.array[:] = 7

        Parameters
        ----------
        shape
            (y, x), or (y, x, 3 or 4) for colour.
        dtype
            As in `publish`; the slot is in native byte order.
        axes, path, translate, metadata, stream, policy
            As in `publish`.

        Raises
        ------
        UnsupportedDtypeError, ValueError, ViewerLagging, ClosedError
            As `publish` does.
        """
        self._writer.check_usable()
        check_dtype(dtype)
        made = native(dtype)
        size = tuple(int(extent) for extent in shape)
        if len(size) not in (2, 3) or min(size) < 1 or (len(size) == 3 and size[2] not in (3, 4)):
            msg = f"a slot holds one plane, (y, x) or (y, x, 3 or 4); the shape {size} is not one"
            raise ValueError(msg)
        about = self._about(path, translate, metadata)
        writing = self._writer.claim(stream, axes, size, made, policy or self.policy)
        if isinstance(writing, str):
            # The camera writes somewhere in any case; the frame is accounted for already.
            return Reservation(self._writer, None, np.empty(size, made), about)
        reservation = Reservation(self._writer, writing, writing.array, about)
        self._writer.handed_over()
        return reservation

    # ---- streams -------------------------------------------------------------------------------------------------

    def new_stream(self, title: str = "", **about: Any) -> FrameStream:
        """Begin a stream: a run whose frames get layers of their own. Frames go there from now on.

        Parameters
        ----------
        title
            Shown with its layers; numbered by default.
        **about
            `sizes`, `channels`, `positions`, `colors`, `scale`, `steps`, `units`: see `FrameStream`.
        """
        self._writer.check_usable()
        with self._lock:
            return self._writer.new_stream(title, **about)

    def place(self, stream: FrameStream, axes: Mapping[str, AxisValue]) -> dict[str, int]:
        """Return where a frame would belong in a stream; labels that are new get their place.

        Parameters
        ----------
        stream
            The stream.
        axes
            As in `publish`.

        Returns
        -------
        dict of str to int
            The index along each axis of the stream.

        Raises
        ------
        ValueError, TypeError
            If an axis or a value is not allowed.
        """
        with self._lock:
            index = stream.place(axes)
            return dict(zip(stream.axes, index, strict=True))

    def end_stream(self, stream: FrameStream) -> None:
        """Announce that no more frames will come in a stream; viewers keep those that they have."""
        self._writer.check_usable()
        with self._lock:
            if not stream.ended and stream.announced:
                self._connection.hub.end(stream.number)
            stream.ended = True

    # ---- life ----------------------------------------------------------------------------------------------------

    def open(self, shape: Sequence[int], dtype: npt.DTypeLike = "uint16", *, wait: float = 0.0) -> None:
        """Create the shared memory for frames of this shape, and start a viewer if that was asked for.

        Parameters
        ----------
        shape
            The shape of one frame.
        dtype
            Its dtype.
        wait
            Seconds to wait for a viewer to be attached; 0 does the work in the background. If there is none in the
            end, `problem` says why.
        """
        self._writer.check_usable()
        nbytes = int(np.dtype(dtype).itemsize)
        for extent in shape:
            nbytes *= int(extent)
        self._connection.ensure(nbytes, wait=wait)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until no frame is in flight. Return whether that happened within `timeout` seconds."""
        self._writer.check_usable()
        return self._connection.flush(time.monotonic() + (self.linger if timeout is None else timeout))

    def capture(self, path: str | os.PathLike[str], timeout: float = 30.0) -> None:
        """Let the viewer save a picture of its window.

        Parameters
        ----------
        path
            Where to write the PNG.
        timeout
            Seconds to wait for it.

        Raises
        ------
        RuntimeError
            If no viewer is attached, or the picture could not be made; the text says why.
        """
        self._writer.check_usable()
        self._connection.capture(os.path.abspath(path), timeout)  # noqa: PTH100 - the viewer has another directory

    def _with_cause(self, reason: str) -> str:
        problem = self.problem
        return f"{reason}: {problem}" if problem else reason

    @property
    def timeout(self) -> float:
        """Seconds that `publish` waits under ``"every"``."""
        return self._writer.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._writer.timeout = seconds

    @property
    def problem(self) -> str:
        """Why frames are not shown, as a line for the user; ``""`` if nothing is wrong, or while a viewer starts.

        What may pass (shared memory that is full, descriptors that are used up) is tried again, after a second at first
        and a minute at most; the line says when.

        Such as ``"napari is not installed; install it with: …"``, or what a viewer that crashed wrote last.
        """
        return self._connection.problem

    def stats(self) -> Stats:
        """Return what became of every frame, the cost of `publish`, and the age of the newest frame."""
        self._writer.check_process()
        costs = np.frombuffer(self._costs, float, min(self._calls, _COSTS)) / 1e6
        p50, p99 = np.percentile(costs, (50, 99)) if len(costs) else (0.0, 0.0)
        with self._lock:
            hub = self._connection.hub_or_none
            return Stats(
                frames=self._total.counts,
                receivers=hub.rows() if hub else (),
                skipped=dict(self._writer.skipped),
                publish_ms=(float(p50), float(p99)),
                newest_age_s=(time.monotonic_ns() - self._writer.last_ns) / 1e9 if self._writer.last_ns else None,
                segment_bytes=hub.segment_bytes if hub else 0,
                metadata_cut=self._metadata_cut,
                problem=self.problem,
            )

    @property
    def opened_by(self) -> int:
        """The process that this publisher belongs to; in any other process it is inert."""
        return self._writer.pid

    def close(self, linger: float | None = None) -> None:
        """Wait for what is in flight, say goodbye to the viewers, and remove the shared memory. Idempotent.

        Parameters
        ----------
        linger
            Seconds to wait for frames in flight, and for a viewer that is being started; by default as constructed.
        """
        if self._writer.closed:
            return
        self._writer.closed = True
        self._finalizer.detach()
        if os.getpid() == self._writer.pid:
            self._connection.close(self.linger if linger is None else linger)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
