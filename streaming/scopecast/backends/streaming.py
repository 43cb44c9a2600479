"""Streaming backends: filter a batch by extension, place its arrays in shared memory, signal the viewers."""

from __future__ import annotations

import logging
import os
import re
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict, TypeGuard, TypeVar, Unpack

from scopecast.backends.acquisition import (
    ChannelNames,
    announced_plane,
    corner_on_sensor,
    corner_on_stage,
    describe_sequence,
    elapsed_ms,
    pixel_affine,
    pixel_size,
    place_event,
    recorded_with,
)
from scopecast.backends.storage import check_lengths, register_backend
from scopecast.errors import ClosedError, FileError
from scopecast.frames.annotations import keywords_of
from scopecast.frames.arrays import as_array, check_dtype, dims_of
from scopecast.frames.axes import axes_from_path, check_axes, short_label
from scopecast.frames.places import Places
from scopecast.frames.rois import ROI_EXTENSIONS, is_roi_path
from scopecast.frames.streams import FrameStream, given
from scopecast.keywords import known_keywords, suggesting
from scopecast.protocol import printable
from scopecast.publishing.accounts import Reason, Receipt, Skipped, Stats
from scopecast.publishing.environment import imagej_variables
from scopecast.publishing.publisher import Policy, Publisher
from scopecast.publishing.session import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    import numpy.typing as npt

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.marks import Marks
    from scopecast.publishing.listening import Listener
    from scopecast.publishing.publisher import Reservation

__all__ = ["FijiStreamingBackend", "NapariStreamingBackend", "StreamingBackend"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_PREFIX = re.compile(r"\A[a-z][a-z0-9]{0,13}_\Z")
_IMAGES = frozenset({".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".npy", ".zarr"})


#: The keywords of `save_batch` that hold for a stream, and not for its frames.
_ABOUT = ("scale", "units", "steps", "channels", "colors")


class _About(TypedDict, total=False):
    scale: float | Sequence[float] | None
    units: str | None
    steps: Mapping[str, float] | None
    channels: str | Sequence[str]
    colors: str | Sequence[str] | Mapping[str, str]


class Where(_About, total=False):
    """The keywords of `StreamingBackend.save_batch`."""

    axes: Mapping[str, AxisValue] | None
    pattern: str | None
    dims: str | Sequence[str] | None
    rgb: bool | None
    translate: Sequence[float] | None
    metadata: Any
    kind: str
    name: str | None
    properties: Any
    style: Mapping[str, Any] | None
    shape_type: str | Sequence[str] | None
    names: Sequence[str] | None
    graph: Mapping[int, Any] | None


class Arguments(_About, total=False):
    """The arguments of a `StreamingBackend`."""

    title: str | None
    launch: bool
    policy: Policy | None
    timeout: float
    linger: float
    budget: int | None
    pattern: str | None
    run: str


class StreamingBackend:
    r"""Streams batches of images, and the frames of a running acquisition, to the viewers of one kind.

    A subclass names its viewer in four class attributes; nothing else is needed. Constructing one allocates nothing
    and launches nothing.

    Parameters
    ----------
    title
        The title of this source in viewers; by default the program's name.
    launch
        Whether to start a viewer if none of this kind is running.
    policy
        ``"latest"`` never waits, ``"every"`` loses nothing. By default `save` and `save_batch` use ``"every"``,
        `frame_ready` uses ``"latest"``.
    timeout
        Seconds that `save_batch` waits for a viewer to free a slot, or to start.
    linger
        Seconds that `close` waits for frames in flight, and for a viewer that is being started.
    budget
        The most bytes of shared memory; by default 512 MiB, or a quarter of what is free if that is less.
    pattern
        A regular expression with named groups, such as ``r"t(?P<t>\d+)"``, that reads the axes from file names;
        by default the usual names are recognised, see `scopecast.frames.axes.axes_from_path`.
    run
        A name for the run that the frames are part of, if several processes stream it; see `Publisher`.
    scale, units, steps, channels, colors
        What holds for all frames, in place of what an acquisition says; see `FrameStream`.

    Attributes
    ----------
    _backend_type : str
        The name that `BackendRegistry` finds the backend under; it must be in the class's own body.
    VIEWER_TYPE : str
        The kind of viewer.
    SHM_PREFIX : str
        Prefix of the names in shared memory: at most 15 characters, a letter first, ``_`` last.
    SUPPORTED_EXTENSIONS : set of str
        File extensions that can be shown, in lower case, compound ones (``".roi.zip"``) included.

    Examples
    --------
    >>> import numpy as np
    >>> class MyBackend(StreamingBackend):
    ...     VIEWER_TYPE = "headless"
    ...     SHM_PREFIX = "mine_"
    ...     SUPPORTED_EXTENSIONS = {".tif"}
    >>> with MyBackend(launch=False) as live:
    ...     print(live.save_batch([np.zeros((8, 8), "uint8")], ["notes.csv"]))
    0 sent (0 frames), 1 skipped: notes.csv (extension '.csv')
    """

    VIEWER_TYPE: ClassVar[str] = ""
    SHM_PREFIX: ClassVar[str] = ""
    SUPPORTED_EXTENSIONS: ClassVar[Iterable[str]] = _IMAGES

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        prefix = cls.SHM_PREFIX
        if prefix and not _PREFIX.match(prefix):
            msg = (
                f"{cls.__qualname__}.SHM_PREFIX is {prefix!r}; it must be a lower-case letter, then at most 13 "
                f"lower-case letters or digits, then '_' (names in shared memory have 30 characters on macOS)"
            )
            raise ValueError(msg)
        register_backend(cls)

    @suggesting
    def __init__(
        self,
        *,
        title: str | None = None,
        launch: bool = True,
        policy: Policy | None = None,
        timeout: float = 60.0,
        linger: float = 30.0,
        budget: int | None = None,
        pattern: str | None = None,
        run: str = "",
        scale: float | Sequence[float] | None = None,
        units: str | None = None,
        steps: Mapping[str, float] | None = None,
        channels: str | Sequence[str] = (),
        colors: str | Sequence[str] | Mapping[str, str] = (),
    ) -> None:
        if not self.VIEWER_TYPE:
            msg = f"{type(self).__qualname__} has no viewer; set VIEWER_TYPE, for example to 'napari'"
            raise TypeError(msg)
        load()
        self._about = given(scale=scale, units=units, steps=steps, channels=channels, colors=colors)
        FrameStream(0, "", **self._about)  # what is wrong with it is said now, and not in the midst of an acquisition
        axes_from_path("", pattern)
        self.policy, self.pattern = policy, pattern
        self._arguments: dict[str, Any] = {
            "kind": self.VIEWER_TYPE,
            "prefix": self.SHM_PREFIX or None,
            "title": printable(title or ""),
            "launch": launch,
            "timeout": timeout,
            "linger": linger,
            "budget": budget,
            "run": run,
        }
        self._locks: dict[int, AbstractContextManager[Any]] = {}  # see `_lock`
        self._publisher: Publisher | None = None
        self._closed = False
        self._files: FrameStream | None = None  # what save_batch shows
        self._files_about = ""
        self._places: Places | None = None
        self._placed: dict[str, dict[str, AxisValue]] = {}  # where the images are, by their stem
        self._run: FrameStream | None = None  # the sequence that runs
        self._run_key: object = None
        self._channels = ChannelNames()  # of the run
        self._first_index: dict[str, AxisValue] | None = None
        self._elapsed_ms = 0.0  # of its newest frame, since it began
        self._affine: tuple[float, ...] | None = None  # from pixels to the stage
        self._region: tuple[int, int] | None = None  # where that of the sensor begins that the run reads
        self._preview: FrameStream | None = None  # frames that belong to no sequence
        self._preview_size: float | None = None  # of its pixels, in µm
        self._fallback_number = 0
        self.errors = 0

    # ---- batches of files ----------------------------------------------------------------------------------------

    def save(self, data: Any, file_path: str | os.PathLike[str], **where: Unpack[Where]) -> Receipt:
        """Show one image. See `save_batch`."""
        return self.save_batch([data], [file_path], **where)

    @suggesting
    def save_batch(
        self,
        data_list: Sequence[Any],
        file_paths: Sequence[str | os.PathLike[str]],
        *,
        axes: Mapping[str, AxisValue] | None = None,
        pattern: str | None = None,
        dims: str | Sequence[str] | None = None,
        rgb: bool | None = None,
        translate: Sequence[float] | None = None,
        metadata: Any = None,
        kind: str = "image",
        name: str | None = None,
        properties: Any = None,
        style: Mapping[str, Any] | None = None,
        shape_type: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        graph: Mapping[int, Any] | None = None,
        scale: float | Sequence[float] | None = None,
        units: str | None = None,
        steps: Mapping[str, float] | None = None,
        channels: str | Sequence[str] = (),
        colors: str | Sequence[str] | Mapping[str, str] = (),
    ) -> Receipt:
        """Show a batch of images where their file names say that they belong.

        Waits for the viewer that it starts, and while an attached viewer holds all slots: nothing is lost.

        Parameters
        ----------
        data_list
            Arrays; see `Publisher.publish` for what they may be. A volume counts as one item and is published plane
            by plane. For a path that ends in ``.roi`` or ``.roi.zip``, regions of interest: roifile's ``ImagejRoi``, a
            list of them, bytes or paths; None or an empty list reads the file of that path.
            For any other path None reads that file, plane by plane (the extra ``files``).
        file_paths
            A path for each; its extension must be in `SUPPORTED_EXTENSIONS`.
        axes
            Where all of them belong; what the file name says takes precedence.
        pattern
            Reads the axes from the file names; by default the backend's.
        dims, rgb, translate, metadata, kind, name, properties, style, shape_type, names, graph
            As in `Publisher.publish`, for each of them.
        scale, units, steps, channels, colors
            What holds for all batches of a stream, see `FrameStream`; by default the backend's. Values that
            differ from those of the batch before begin another stream.

        Returns
        -------
        Receipt
            What was sent, and what was skipped and why.

        Raises
        ------
        TypeError
            If there is any other argument; the text suggests which one may have been meant.
        ValueError
            If the lists differ in length; nothing is sent then. If a value is not allowed.
        UnsupportedDtypeError
            If an item can't be shown; those before it are sent.
        ViewerLagging
            If an attached viewer freed no slot within the timeout.
        """
        where = given(
            axes=axes,
            pattern=pattern,
            dims=dims,
            rgb=rgb,
            translate=translate,
            metadata=metadata,
            kind=kind,
            name=name,
            properties=properties,
            style=style,
            shape_type=shape_type,
            names=names,
            graph=graph,
            scale=scale,
            units=units,
            steps=steps,
            channels=channels,
            colors=colors,
        )
        data, paths, skipped = self._filter_streamable_files(data_list, file_paths)
        reasons = [Skipped(path, f"extension {_extension(path)!r}") for path in skipped]
        sent: list[str] = []
        partly: list[Skipped] = []
        frames = 0
        for item, path in zip(data, paths, strict=True):
            count, reason = self._stream(item, str(path), where)
            frames += count
            if count or not reason:
                sent.append(str(path))
            if reason:
                (partly if count else reasons).append(Skipped(str(path), reason))
        return Receipt(tuple(sent), tuple(reasons), frames, tuple(partly))

    def _filter_streamable_files(
        self, data_list: Sequence[Any], file_paths: Sequence[str | os.PathLike[str]]
    ) -> tuple[list[Any], list[str | os.PathLike[str]], list[str]]:
        """Split a batch by `SUPPORTED_EXTENSIONS`.

        Parameters
        ----------
        data_list, file_paths
            The batch.

        Returns
        -------
        data : list
            The items that can be shown.
        paths : list
            Their paths.
        skipped : list of str
            The paths of the others, logged once a batch at INFO.

        Raises
        ------
        ValueError
            If the lists differ in length.
        """
        check_lengths(data_list, file_paths)
        supported = tuple(extension.lower() for extension in self.SUPPORTED_EXTENSIONS)
        data: list[Any] = []
        paths: list[str | os.PathLike[str]] = []
        skipped: list[str] = []
        for item, path in zip(data_list, file_paths, strict=True):
            if os.fspath(path).lower().endswith(supported):
                data.append(item)
                paths.append(path)
            else:
                skipped.append(os.fspath(path))
        if skipped:
            shown = ", ".join(skipped[:5]) + (" …" if len(skipped) > 5 else "")
            logger.info(
                "scopecast: %d of %d files are not images and are not shown: %s",
                len(skipped),
                len(file_paths),
                printable(shown),
            )
        return data, paths, skipped

    def _stream_data(self, data: Any, path: str | os.PathLike[str], **where: Any) -> None:
        """Show one image, whatever its extension; for a subclass's own `save_batch`.

        It takes the keywords of `save_batch`, and ignores any other: a host may pass on options for other backends.
        """
        self._stream(data, os.fspath(path), known_keywords(StreamingBackend.save_batch, where))

    def _stream_file(self, path: str, where: Mapping[str, Any]) -> tuple[int, str]:
        """Publish a file that is on the disk, plane by plane. Return what `_stream` does."""
        from scopecast.images.open import open_image

        frames = total = 0
        try:
            with open_image(path, dims=where.get("dims")) as image:
                total, why = len(image), ""
                for plane in image.planes():
                    count, reason = self._stream(plane.array, path, {**where, "dims": plane.dims}, plane.axes)
                    frames += count
                    why = why or reason
        except FileError as error:
            why = str(error)
        if frames and why:
            return frames, f"{frames} of {total} planes shown; the others: {why}"
        return frames, why or ("" if frames else Reason.EMPTY)

    def _stream(
        self, data: Any, path: str, where: Mapping[str, Any], inner: Mapping[str, AxisValue] = {}
    ) -> tuple[int, str]:
        """Publish one item.

        Parameters
        ----------
        data, path
            The item.
        where
            The keywords of `save_batch`.
        inner
            Its place within its file.

        Returns
        -------
        int
            How many planes are shown.
        str
            Why it, or some of its planes, are not; or ``""``.
        """
        if data is None and not is_roi_path(path):
            return self._stream_file(path, where)
        publisher = self._open_publisher()
        as_given, path = path, printable(path)
        kind, dims = where.get("kind") or "image", where.get("dims")
        if kind == "image" and is_roi_path(path):
            if data is None or (isinstance(data, list | tuple | bytes) and not len(data)):
                data = as_given
        elif kind == "image":  # what can't be shown takes no place
            dims = dims or dims_of(data)
            data = as_array(data)
            check_dtype(data.dtype)
        with self._lock:
            self._begin_files(publisher, {name: where[name] for name in _ABOUT if name in where})
            stream = self._files
            named, kind, more = self._place_item(path, kind, where, size=getattr(data, "size", 1))
        outcome = publisher.offer(
            data,
            axes={**named, **inner},
            path=path,
            kind=kind,
            translate=where.get("translate") or (),
            metadata=where.get("metadata"),
            dims=None if kind == "rois" else dims,
            rgb=where.get("rgb"),
            stream=stream,
            policy=self.policy or "every",
            **more,
        )
        return outcome.shown, str(outcome)

    def _place_item(
        self, path: str, kind: str, where: Mapping[str, Any], size: int
    ) -> tuple[dict[str, AxisValue], str, dict[str, Any]]:
        """Find where an item belongs. Return its axes, kind and keywords."""
        named: dict[str, AxisValue] = check_axes(where.get("axes") or {})
        pattern = where.get("pattern") or self.pattern
        named.update(axes_from_path(path, pattern))
        file = os.path.basename(path)  # noqa: PTH119 - paths of any host
        more = keywords_of(kind, where)
        if kind == "image" and is_roi_path(path):
            kind, more = "rois", keywords_of("rois", where)
            # Of the image of the same name, or of all where there is none.
            stem = path[: path.lower().rindex(".roi")]
            short = file[: file.lower().rindex(".roi")]
            if (home := self._placed.get(stem) or self._placed.get(short)) is not None:
                named.update(home)
            elif not named:
                more.setdefault("name", short_label(short, keep_end=True))
        else:
            if not named:
                # Nothing tells where it belongs: a place of its own, the same whenever the file is written again.
                named["file"] = short_label(file or "unnamed", keep_end=True)
            assert self._places is not None
            if kind != "image" or size:
                named, note = self._places.settle(path, named, pattern, f"{kind} {more.get('name') or ''}")
                if note:
                    logger.warning("scopecast: %s: %s", path, note)
            if kind == "image":
                for each in (path, file):
                    self._placed[os.path.splitext(each)[0]] = named  # noqa: PTH122
        return named, kind, more

    def _begin_files(self, publisher: Publisher, about: Mapping[str, Any]) -> None:
        """Begin a stream for batches, if there is none, or if something else is said about it than before."""
        said = {**self._about, **about}
        if self._files is None or self._files.ended or (about and repr(said) != self._files_about):
            title = self._arguments["title"] or self._arguments["run"] or "files"
            self._files = publisher.new_stream(title, **said)
            self._files_about = repr(said)
            self._places = Places(partial(publisher.place, self._files))
            self._placed.clear()

    # ---- a running acquisition -----------------------------------------------------------------------------------

    def frame_ready(self, image: Any, event: Any = None, metadata: Any = None) -> None:
        """Show a frame of a running acquisition; never waits, never raises.

        To be connected to pymmcore-plus's ``core.mda.events.frameReady``.

        Parameters
        ----------
        image
            The frame, (y, x) or (y, x, 3 or 4).
        event
            The ``useq.MDAEvent``, whose index tells where the frame belongs; without one, the frame takes the place
            of the last.
        metadata
            The ``FrameMetaV1`` of pymmcore-plus: its pixel size (of a run, that of the first frame), the stage's
            position (frames of positions and grids are placed there), the region of the sensor (other frames are
            placed there), the camera's name, the exposure and the elapsed time are used.
        """
        try:
            publisher = self._open_publisher()
            with self._lock:
                axes = place_event(event, metadata, self._channels) if event is not None else {}
                stream = self._stream_of(publisher, event, axes, metadata)
            translate = self._corner(stream, axes, event, metadata, getattr(image, "shape", ()))
            recorded = recorded_with(event, metadata)
            policy = self.policy or "latest"
            publisher.publish(image, axes=axes, stream=stream, translate=translate, metadata=recorded, policy=policy)
        except Exception as error:  # noqa: BLE001 - an acquisition must not end because of its live view; counted
            self._failed("a frame", error)

    def _corner(
        self, stream: FrameStream, axes: Mapping[str, AxisValue], event: Any, metadata: Any, shape: Sequence[int]
    ) -> tuple[float, ...]:
        """Return where a frame lies: on the stage where it is one of several positions, else on the sensor."""
        if "p" in axes or "g" in axes:
            return corner_on_stage(axes, event, metadata, shape, self._affine)
        region = corner_on_sensor(metadata)
        if region is None and stream is self._run:
            region = self._region
        if region is None or not any(region):
            return ()
        return (region[0] * stream.scale[0], region[1] * stream.scale[1])

    def _stream_of(self, publisher: Publisher, event: Any, axes: dict[str, AxisValue], metadata: Any) -> FrameStream:
        """Return the stream that a frame belongs to; a new one for a new sequence."""
        if not axes or (len(axes) == 1 and "cam" in axes):
            size = pixel_size(metadata)
            if self._preview is None or size != self._preview_size:
                # Another objective or binning. What a stream says of its pixels holds for all of its frames; viewers
                # put the new one in the place of the old.
                said = {**describe_sequence(None, size), "affine": pixel_affine(metadata), **self._about}
                self._preview = publisher.new_stream("live", **said, run="")
                self._preview_size = size
            return self._preview
        sequence = getattr(event, "sequence", None)
        key = getattr(sequence, "uid", None) or self._run_key
        # Where nobody calls sequenceStarted, a run that begins again (the same sequence, or a generator of events, that
        # has none) shows by its first place coming again, and its clock too: a retake is later in the same run.
        elapsed = elapsed_ms(metadata) or 0.0
        again = self._run is not None and axes == self._first_index and elapsed <= self._elapsed_ms
        self._elapsed_ms = elapsed
        if self._run is None or self._run.ended or key != self._run_key or again:
            self._begin_run(publisher, sequence, key, pixel_size(metadata))
            axes.update(place_event(event, metadata, self._channels))  # its channels may be called otherwise
            self._first_index = axes
        assert self._run is not None
        return self._run

    def _begin_run(self, publisher: Publisher, sequence: Any, key: object, pixel_size_um: float | None) -> None:
        if self._run is not None and not self._run.ended:
            publisher.end_stream(self._run)
        self._fallback_number += 1
        title = self._arguments["title"] or self._arguments["run"] or "run"
        name = title if self._fallback_number == 1 else f"{title} {self._fallback_number}"
        self._channels = ChannelNames()
        said = {**describe_sequence(sequence, pixel_size_um, self._channels), "affine": self._affine, **self._about}
        self._run = publisher.new_stream(name, **said)
        self._run_key = key

    def sequenceStarted(self, sequence: Any, metadata: Any = None) -> None:
        """Begin a run; called by pymmcore-plus. The next frames get layers of their own."""
        try:
            publisher = self._open_publisher()
            with self._lock:
                self._first_index, self._affine = None, pixel_affine(metadata)
                self._begin_run(publisher, sequence, getattr(sequence, "uid", None), pixel_size(metadata))
                self._region = corner_on_sensor(metadata)
            shape, dtype = announced_plane(metadata)
            if shape:
                publisher.open(shape, dtype)
        except Exception as error:  # noqa: BLE001 - see frame_ready
            self._failed("the start of a sequence", error)

    def frameReady(self, image: Any, event: Any = None, metadata: Any = None) -> None:
        """Call `frame_ready`; pymmcore-plus finds a handler's methods by these names."""
        self.frame_ready(image, event, metadata)

    def sequenceFinished(self, sequence: Any) -> None:
        """End a run; called by pymmcore-plus."""
        try:
            if self._run is not None and self._publisher is not None:
                with suppress(ClosedError):  # closing has ended it
                    self._publisher.end_stream(self._run)
        except Exception as error:  # noqa: BLE001 - see frame_ready
            self._failed("the end of a sequence", error)

    def attempt(self, what: str, work: Callable[..., T], *arguments: Any) -> T | None:
        """Run a step of the live view; an error is counted and logged, never raised into the acquisition.

        Parameters
        ----------
        what
            What it is, for the log: ``"a snap"``.
        work
            Called with `arguments`.

        Returns
        -------
        object
            What `work` returns; None if it failed.
        """
        try:
            return work(*arguments)
        except Exception as error:  # noqa: BLE001 - see frame_ready
            self._failed(what, error)
            return None

    def _failed(self, what: str, error: Exception) -> None:
        self.errors += 1
        if self.errors == 1:
            logger.warning("scopecast: %s", printable(f"{what} could not be shown: {type(error).__name__}: {error}"))
        else:
            logger.debug("scopecast: %s could not be shown", what, exc_info=error)

    # ---- life ----------------------------------------------------------------------------------------------------

    @suggesting
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
        """Reserve a slot of shared memory that the camera writes into itself; see `Publisher.reserve`."""
        return self._open_publisher().reserve(
            shape,
            dtype,
            axes=axes,
            path=path,
            translate=translate,
            metadata=metadata,
            stream=stream,
            policy=policy or self.policy,
        )

    def marks(self, *, timeout: float | None = None, max_age_s: float | None = None) -> Listener:
        """Take what users point at in their viewers: ``for marks in live.marks(): …``; see `Publisher.marks`."""
        return self._open_publisher().marks(timeout=timeout, max_age_s=max_age_s)

    def on_marks(self, callback: Callable[[Marks], object], *, max_age_s: float | None = None) -> Listener:
        """Call a function with what users point at in their viewers; see `Publisher.on_marks`."""
        return self._open_publisher().on_marks(callback, max_age_s=max_age_s)

    def keep(self) -> int:
        """Have the flight recorders write what they have in memory; see `Publisher.keep`."""
        return self._open_publisher().keep()

    @property
    def publisher(self) -> Publisher:
        """The backend's publisher, created when it is first needed."""
        return self._open_publisher()

    @property
    def problem(self) -> str:
        """Why frames are not shown, as a line for the user; ``""`` if nothing is wrong. See `Publisher.problem`."""
        return self._publisher.problem if self._is_ours(self._publisher) else ""

    @property
    def _lock(self) -> AbstractContextManager[Any]:
        """Guards all of this but the publisher, which has a lock of its own. One for each process.

        In a forked child a thread that only the parent has may hold the parent's for ever.
        """
        return self._locks.get(os.getpid()) or self._locks.setdefault(os.getpid(), threading.RLock())

    def _open_publisher(self) -> Publisher:
        with self._lock:  # two threads that publish first at the same time share one publisher
            if self._closed:
                msg = f"this {type(self).__name__} is closed; make a new one"
                raise ClosedError(msg)
            if not self._is_ours(self._publisher):
                # In a forked child the parent's publisher is inert: the child streams for itself.
                self._publisher = Publisher(**self._arguments)
                self._files = self._run = self._preview = None
            return self._publisher

    @staticmethod
    def _is_ours(publisher: Publisher | None) -> TypeGuard[Publisher]:
        return publisher is not None and publisher.opened_by == os.getpid()

    def stats(self) -> Stats:
        """Return what became of every frame; see `Stats`."""
        # In a forked child that has streamed nothing yet, there is nothing to tell, whatever its parent did.
        return self._publisher.stats() if self._is_ours(self._publisher) else Stats()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until no frame is in flight. Return whether that happened within `timeout` seconds."""
        return not self._is_ours(self._publisher) or self._publisher.flush(timeout)

    def close(self, linger: float | None = None) -> None:
        """Wait for what is in flight, say goodbye to the viewers, remove the shared memory. Idempotent."""
        with self._lock:
            self._closed = True
            publisher = self._publisher
        if publisher is not None:
            publisher.close(linger)

    def cleanup(self) -> None:
        """Call `close`; another name for it."""
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NapariStreamingBackend(StreamingBackend):
    """Streams to napari: a layer for each stream and channel. See `StreamingBackend`."""

    _backend_type = "napari_stream"
    VIEWER_TYPE = "napari"
    SHM_PREFIX = "napari_"
    SUPPORTED_EXTENSIONS = _IMAGES.union(ROI_EXTENSIONS)


class FijiStreamingBackend(StreamingBackend):
    """Streams to Fiji or ImageJ: a hyperstack for each stream.

    Parameters
    ----------
    fiji
        Which ImageJ the viewer is that this backend starts: the path of a Fiji, or a Maven endpoint such as
        ``"sc.fiji:fiji"``, or ``"imagej"`` for plain ImageJ. By default what ``SCOPECAST_FIJI`` or ``FIJI_HOME`` name,
        or plain ImageJ. An ImageJ viewer that runs already is used as it is: quit it first to get another one.
    **arguments
        See `StreamingBackend`.
    """

    _backend_type = "fiji_stream"
    VIEWER_TYPE = "fiji"
    SHM_PREFIX = "fiji_"
    SUPPORTED_EXTENSIONS = _IMAGES.union(ROI_EXTENSIONS)

    def __init__(self, *, fiji: str | os.PathLike[str] | None = None, **arguments: Unpack[Arguments]) -> None:
        super().__init__(**arguments)
        self._arguments["environment"] = imagej_variables(fiji)


def _extension(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - paths of any host
