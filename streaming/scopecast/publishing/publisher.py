"""The publisher, which writes each frame into a slot of shared memory, and announces it to the receivers.

Under the policy ``latest``, ``publish()`` never waits for a viewer or raises because of one; under ``every`` it waits,
and raises `ViewerLagging` after the timeout.
"""

from __future__ import annotations

import itertools
import math
import os
import time
import weakref
from array import array as number_array
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from scopecast.errors import ClosedError, ViewerLagging
from scopecast.frames.arrays import as_array, check_dtype, dims_of, native, split_planes
from scopecast.frames.axes import check_axes, join_channel
from scopecast.frames.documents import DOCUMENTS
from scopecast.frames.streams import FrameStream, given
from scopecast.keywords import suggesting
from scopecast.link import messages
from scopecast.memory.copying import copy_frame
from scopecast.protocol import clock_ns
from scopecast.publishing.accounts import Outcome, Reason, Stats
from scopecast.publishing.draft import IMAGE, NOTHING, Draft, Extras, Policy, What
from scopecast.publishing.reservation import Reservation
from scopecast.publishing.session import Session, load, remember

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.marks import Marks
    from scopecast.publishing.draft import Audience
    from scopecast.publishing.listening import Listener

__all__ = ["Outcome", "Policy", "Publisher", "Reservation"]

_COSTS = 4096


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
    run
        A name for the run that the frames are part of, such as ``"plate 7"``, if several processes publish it: viewers
        show the frames of all publishers that give the same name as one run of that name, each frame at its own axes.
        A new run begins if all of them have gone and a frame comes for a place that is taken.
    policy
        ``"latest"``: `publish` never waits, and frames that a slow viewer can't take are superseded by newer
        ones. ``"every"``: `publish` waits up to `timeout` for the attached viewers, and loses nothing.
    launch
        Whether to start a viewer if none of this kind is running.
    timeout
        Seconds that `publish` waits under ``"every"``, including for a viewer that is being started.
    linger
        Seconds that `close` waits for frames that are in flight, and for a viewer that is being started.
    budget
        The most bytes of shared memory; by default 512 MiB, or a quarter of what is free if that is less, and more if
        three frames need it (see `scopecast.publishing.budget`).
    environment
        Variables for a viewer that is started, in addition to this process's own.

    Attributes
    ----------
    session : Session
        The ring, the receivers and the run directory's entry, for diagnosis; not part of the public API.

    Examples
    --------
    >>> import numpy as np
    >>> with Publisher("headless") as publisher:
    ...     publisher.publish(np.zeros((4, 5), "uint16"), axes={"t": 0}, policy="every")
    ...     publisher.stats().frames.skipped  # no viewer runs
    0
    1
    """

    @suggesting
    def __init__(
        self,
        kind: str = "napari",
        *,
        prefix: str | None = None,
        title: str = "",
        host: str = "",
        run: str = "",
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
        self.kind, self.run, self.policy, self.timeout, self.linger = kind, run, policy, timeout, linger
        self.session = Session(
            kind,
            prefix=f"{kind}_" if prefix is None else prefix,
            title=title,
            host=host,
            launch=launch,
            linger=linger,
            budget=budget,
            environment=environment,
        )
        self._guard, self._accounts = self.session.guard, self.session.accounts
        self._sequence, self._numbers = self.session.sequence, itertools.count()
        self._stream: FrameStream | None = None  # for frames published without one
        self._costs = number_array("d", bytes(8 * _COSTS))
        self._calls = 0
        self._metadata_cut = 0
        remember(self.session)
        self._finalizer = weakref.finalize(self, self.session.abandon)
        self._finalizer.atexit = False  # at exit, scopecast.publishing.session closes it properly

    # ---- frames --------------------------------------------------------------------------------------------------

    @suggesting
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
        name: str = "",
        properties: Any = None,
        style: Mapping[str, Any] | None = None,
        shape_type: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        graph: Mapping[int, Any] | None = None,
    ) -> int:
        """Publish an array, or annotations of images; its memory may be reused once this returns.

        Parameters
        ----------
        array
            The pixels, (y, x) or (y, x, 3 or 4) for colour; more dimensions are published plane by plane. bool, int8 to
            int64, uint8 to uint64, float16 to float64, complex64 and complex128; any strides and byte order.
            Also objects that offer ``__array__`` or DLPack, and tensors of torch and cupy.
        axes
            Where the frame belongs, such as ``{"t": 3, "c": "DAPI", "z": 7}``; strings are labels, which are placed in
            the order in which they appear. A frame without axes replaces the one before it.
        path
            The file that holds the frame, or will hold it.
        kind
            ``"image"``, or an annotation that is shown with the images of the stream, in its own layer:

            - ``"labels"``: an array of whole numbers or bool, placed like an image
            - ``"points"``: (N, D) coordinates in pixels of the images, ending in y, x; (0, 0) is the middle of the
              first pixel
            - ``"shapes"``: a list of (n, D) vertices, likewise
            - ``"tracks"``: (N, D + 1): the number of the track, then t and the coordinates
            - ``"rois"``: regions of interest of ImageJ, see `scopecast.frames.rois.rois_document`

            Annotations are shown where `axes` say, and everywhere along an axis that is neither in `axes` nor among
            their columns (labels, like images, only at index 0 of such an axis). They replace earlier ones of the same
            kind, name and axes.
        channel
            Short for ``axes={"c": channel}``.
        translate
            Position (y, x) of the frame's first pixel, in the stream's unit.
        metadata
            Anything that can be encoded in up to 16 KiB; otherwise it is left out, and that is counted.
        dims
            Names of the array's dimensions, such as ``"tczyx"``, if they are not the usual ones. For points, shapes
            and tracks, the names of the columns, such as ``"zyx"``.
        rgb
            Whether a last dimension of 3 or 4 is colour; by default it is, for uint8, uint16, float32 and float64.
        stream
            The stream that the frame is part of; by default the newest.
        policy
            A policy for this call, instead of the publisher's.
        name
            Of kinds other than images: the name of the layer.
        properties
            Of points, shapes and tracks: a mapping or DataFrame with a number or text for each item.
        style
            Likewise: a mapping with ``color``, ``edge_color``, ``size``, ``edge_width`` (pixels), ``symbol``, and names
            of properties as ``color_by`` and ``text``.
        shape_type
            Of shapes: rectangle, ellipse, polygon, path or line; one, or one for each.
        names
            Of shapes and rois: a name for each.
        graph
            Of tracks: maps a track to those that it came from.

        Returns
        -------
        int
            The sequence number of the (last) frame, from 0; -1 if there was nothing to publish.

        Raises
        ------
        UnsupportedDtypeError
            If arrays of this dtype can't be shown; the text names it and what to convert it to.
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
            name=name,
            properties=properties,
            style=style,
            shape_type=shape_type,
            names=names,
            graph=graph,
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
        name: str = "",
        properties: Any = None,
        style: Mapping[str, Any] | None = None,
        shape_type: str | Sequence[str] | None = None,
        names: Sequence[str] | None = None,
        graph: Mapping[int, Any] | None = None,
    ) -> Outcome:
        """Publish an array as `publish` does, and return the result."""
        began = time.perf_counter_ns()
        self._guard.check_usable()
        if channel is not None:
            axes = join_channel(axes, channel)
        if dims is None and type(array) is not np.ndarray and kind in ("image", "labels"):
            dims = dims_of(array)
        what = IMAGE
        others = properties is not None or style is not None or shape_type is not None
        if kind != "image" or name or others or names is not None or graph is not None:
            more = given(name=name, properties=properties, style=style, shape_type=shape_type, names=names, graph=graph)
            if kind != "image" or more:  # an empty one says nothing
                from scopecast.frames.annotations import prepare

                array, axes, dims, (kind, name) = prepare(kind, array, axes, dims, more)
                what = What(kind, name)
                rgb = False
        if type(array) is not np.ndarray:
            array = as_array(array)
        check_dtype(array.dtype)
        about = self._about(path, translate, metadata)
        how = policy or self.policy
        if (array.ndim == 2 and dims is None and array.size) or what.kind in DOCUMENTS:
            outcome = self._publish_plane(array, axes, stream, how, what, about)
        elif not array.size:
            check_axes(axes)
            outcome = self._skipped(Reason.EMPTY, frames=0)
        else:
            outcome = self._publish_planes(split_planes(array, dims=dims, axes=axes, rgb=rgb), stream, how, what, about)
        self._costs[self._calls % _COSTS] = time.perf_counter_ns() - began
        self._calls += 1
        return outcome

    def _about(self, path: str, translate: Sequence[float], metadata: Any) -> Extras:
        """Check and encode a frame's path, translation and metadata, before it has a slot."""
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
        # A file's name may contain bytes that are not valid text; they are shown as "?".
        return path[-4096:].encode("utf-8", "replace").decode(), position, encoded

    def _publish_planes(
        self,
        planes: Iterator[tuple[dict[str, AxisValue], npt.NDArray[Any]]],
        stream: FrameStream | None,
        policy: Policy,
        what: What,
        about: Extras,
    ) -> Outcome:
        """Publish one plane after the other, and return what became of all of them."""
        frames = missing = 0
        sequence, why = -1, Outcome(-1, 0)
        for where, plane in planes:
            outcome = self._publish_plane(plane, where, stream, policy, what, about)
            frames += 1
            sequence = max(sequence, outcome.sequence)
            if outcome.reason:
                why = why if missing else outcome
                missing += 1
        return Outcome(sequence, frames, why.reason, why.cause, missing)

    def _publish_plane(
        self,
        plane: npt.NDArray[Any],
        axes: Mapping[str, AxisValue],
        stream: FrameStream | None,
        policy: Policy,
        what: What,
        about: Extras,
        audience: Audience | None = None,
    ) -> Outcome:
        """Copy one plane (or document) into a slot and announce it."""
        stream = stream or self._newest_stream()
        draft = Draft(stream, axes, plane.shape, native(plane.dtype), policy, what, about, audience=audience)
        try:
            if reason := self._claim(draft):
                return Outcome(-1, 1, reason, self.problem, 1)
            assert draft.array is not None
            copy_frame(draft.array, plane)
            sequence = self._commit(draft)
        except BaseException:
            self.session.give_back(draft)
            raise
        receivers = self.session.receivers
        unseen = receivers is not None and not self._accounts.receivers  # else it has a viewer, or waits for a slot
        return Outcome(sequence, 1, Reason.NO_VIEWER, self.problem, 1) if unseen else Outcome(sequence, 1)

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
        """Reserve a slot for the camera to write into: nothing is copied.

        Use it as a context manager: the frame is published at the end of the block, and discarded if the block raises.

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
        self._guard.check_usable()
        check_dtype(dtype)
        size = tuple(int(extent) for extent in shape)
        if len(size) not in (2, 3) or min(size) < 1 or (len(size) == 3 and size[2] not in (3, 4)):
            msg = f"a slot holds one plane, (y, x) or (y, x, 3 or 4); the shape {size} is not one"
            raise ValueError(msg)
        about = self._about(path, translate, metadata)
        stream = stream or self._newest_stream()
        draft = Draft(stream, axes, size, native(dtype), policy or self.policy, about=about)
        try:
            if self._claim(draft):  # the camera needs memory in any case; the frame is already counted
                draft.array = np.empty(size, draft.dtype)
                return Reservation(self.session, draft, lambda _: -1)
            return Reservation(self.session, draft, self._commit)
        except BaseException:
            self.session.give_back(draft)
            raise

    # ---- the path of a frame -------------------------------------------------------------------------------------

    def _claim(self, draft: Draft) -> Reason | None:
        """Give a draft a slot, under ``"every"`` wait for one; or count the frame, and return why it has none.

        Under ``"latest"`` it may be given memory of this process instead, while slots are being made.
        """
        session, nbytes = self.session, draft.nbytes
        deadline = 0.0
        while True:
            if nbytes > session.slot_bytes or not session.viewers.met:
                grows = nbytes > session.slot_bytes and draft.what.kind in DOCUMENTS
                room = session.budget.with_room(nbytes) if grows else nbytes
                reason = session.ensure(room, wait=self.timeout if draft.policy == "every" else 0.0)
                if reason:
                    with self._guard.lock:
                        draft.place()  # a wrong place raises an error also without a viewer
                        if reason is Reason.OPENING and draft.policy == "latest":
                            self._guard.check_usable()
                            if nbytes <= session.slot_bytes:
                                continue  # a ring has been made meanwhile
                            with self._guard:
                                if session.early.take(draft):
                                    return None
                        with self._guard:
                            self._accounts.skip(reason)
                        return reason
            with self._guard.lock:
                self._guard.check_usable()  # another thread may have closed it meanwhile
                draft.place()  # a caller's mistake is found before anything is changed
                with self._guard:
                    claimed, reason = self._claim_slot(draft)
                    if claimed or reason:
                        return reason
                    if not session.slot_bytes:
                        continue
                    assert session.receivers is not None
                    ticket, laggards = session.receivers.news.ticket(), session.receivers.laggards()
            now = time.monotonic()
            deadline = deadline or now + self.timeout
            if now >= deadline:
                msg = f"no free slot for a frame after {self.timeout:g} s: {laggards}"
                raise ViewerLagging(msg)
            ticket.acquire(timeout=min(0.05, deadline - now))

    def _claim_slot(self, draft: Draft) -> tuple[bool, Reason | None]:
        """Give a draft a slot. Return whether it has one, or why it is dropped; neither if it must wait.

        Call it under the lock.
        """
        session = self.session
        slots = session.slots
        if slots is None or not slots.ring.whole:  # truncated by another process: writing to it would kill this one
            session.slot_bytes = 0
            return False, None
        assert session.receivers is not None
        while session.forgotten:
            forgotten = session.forgotten.popleft()
            forgotten.slots.cancel(forgotten)
        may_wait = draft.policy == "latest" and session.growing
        if not (may_wait and slots.crowded(draft.channel)) and session.receivers.claim(draft):
            session.early.supersede(draft.channel)
            return True, None
        if draft.policy == "every":
            return False, None
        if may_wait and session.early.take(draft):
            return True, None
        self._accounts.drop()
        return False, Reason.NO_ROOM

    def _commit(self, draft: Draft) -> int:
        """Announce a frame that has been written. Return its sequence number; -1 if it has no room any more."""
        while True:
            with self._guard.lock:
                if self._guard.closed:
                    msg = "this publisher was closed before the frame was published"
                    raise ClosedError(msg)
                with self._guard:
                    session = self.session
                    if draft.frame is None:
                        if draft.nbytes > session.slot_bytes or session.growing:
                            sequence = next(self._sequence)
                            session.early.put(draft, sequence)  # until there is a slot
                            return sequence
                    elif not draft.frame.slots.retired:
                        assert session.receivers is not None
                        sequence = next(self._sequence)
                        session.receivers.publish(draft, sequence)
                        return sequence
            # A new ring was made meanwhile, so this slot or memory can't be announced any more.
            written, draft.frame = draft.array, None
            if self._claim(draft):
                return -1
            assert draft.array is not None
            assert written is not None
            copy_frame(draft.array, written)

    def _skipped(self, reason: Reason, *, frames: int) -> Outcome:
        """Count a frame that is not shown."""
        with self._guard.lock, self._guard:
            self._accounts.skip(reason)
        return Outcome(-1, frames, reason, self.problem)

    # ---- streams -------------------------------------------------------------------------------------------------

    @suggesting
    def new_stream(
        self,
        title: str = "",
        *,
        sizes: Mapping[str, int] = {},
        channels: str | Sequence[str] = (),
        positions: str | Sequence[str] = (),
        colors: str | Sequence[str] | Mapping[str, str] = (),
        scale: float | Sequence[float] | None = None,
        steps: Mapping[str, float] = {},
        units: str | None = None,
        affine: Sequence[float] | None = None,
        run: str | None = None,
    ) -> FrameStream:
        """Begin a stream: a run whose frames get layers of their own. Frames are part of it from now on.

        Parameters
        ----------
        title
            Shown with its layers; by default the name of its run, or a number.
        sizes, channels, positions, colors, scale, steps, units, affine
            See `FrameStream`.
        run
            The run that it is part of, if other publishers are too; by default that of this publisher. ``""`` for none.

        Raises
        ------
        TypeError
            If there is any other argument; the text suggests which one may have been meant.
        ValueError
            If a value is not allowed.
        """
        self._guard.check_usable()
        about = {
            "sizes": sizes,
            "channels": channels,
            "positions": positions,
            "colors": colors,
            "scale": scale,
            "steps": steps,
            "units": units,
            "affine": affine,
            "run": self.run if run is None else run,
        }
        with self._guard.lock:
            return self._begin_stream(title, **about)

    def _begin_stream(self, title: str = "", **about: Any) -> FrameStream:
        number = next(self._numbers)
        name = title or about["run"] or (f"run {number + 1}" if number else "live")
        self._stream = FrameStream(number, name, **about)
        return self._stream

    def _newest_stream(self) -> FrameStream:
        if self._stream is None:
            with self._guard.lock:
                return self._stream or self._begin_stream(run=self.run)
        return self._stream

    def place(self, stream: FrameStream, axes: Mapping[str, AxisValue]) -> dict[str, int]:
        """Return the place of a frame in a stream; new labels are added to the stream.

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
        with self._guard.lock:
            index = stream.place(axes)
            return dict(zip(stream.axes, index, strict=True))

    def end_stream(self, stream: FrameStream) -> None:
        """Announce that a stream gets no more frames; viewers keep those that they have."""
        self._guard.check_usable()
        with self._guard.lock, self._guard:
            if not stream.ended and stream.announced and self.session.receivers is not None:
                self.session.receivers.end(stream.number)
            stream.ended = True

    # ---- what users point at -------------------------------------------------------------------------------------

    def marks(self, *, timeout: float | None = None, max_age_s: float | None = None) -> Listener:
        """Take what users point at in their viewers: ``for marks in publisher.marks(): …``.

        Viewers offer *Send to acquisition* from now on, until the listener is closed or this publisher is. The user is
        told when the loop takes the marks, and why if `Marks.refuse` is called; what nobody takes is refused.

        Parameters
        ----------
        timeout
            Seconds without marks after which the loop ends; by default none.
        max_age_s
            Marks in frames that were published longer ago are refused; by default any frame of the last three runs
            counts.

        Returns
        -------
        Listener
            An iterator of `Marks`, each what was sent at once. It is closed when nobody has it any more: at the end of
            the loop that was written as above.

        Raises
        ------
        RuntimeError
            If there is a listener already.
        ClosedError
            If the publisher was closed.
        """
        self._guard.check_usable()
        return self.session.listen(timeout, max_age_s)

    def on_marks(self, callback: Callable[[Marks], object], *, max_age_s: float | None = None) -> Listener:
        """Call a function with what users point at in their viewers, on a thread of its own; see `marks`.

        Parameters
        ----------
        callback
            Called with one `Marks` after the other. If it raises, the user is told, and the next one is called for.
        max_age_s
            As in `marks`.

        Returns
        -------
        Listener
            To be closed when no more marks are wanted.

        Raises
        ------
        RuntimeError, ClosedError
            As `marks` does.
        """
        self._guard.check_usable()
        listener = self.session.listen(None, max_age_s)
        listener.call(callback)
        return listener

    @property
    def listens(self) -> bool:
        """Whether somebody takes marks."""
        return self.session.listening.active

    # ---- flight recorders ----------------------------------------------------------------------------------------

    def keep(self) -> int:
        """Let the flight recorders write what they have in memory: ``scopecast record … --last 30s``.

        It returns at once; all that was published before is written.

        Returns
        -------
        int
            How many recorders of this user there are on this machine; 0 if nothing is kept.
        """
        self._guard.check_usable()
        member = self.session.member
        return 0 if member is None else member.directory.ask_to_keep()

    # ---- opening, state, closing ---------------------------------------------------------------------------------

    def open(self, shape: Sequence[int], dtype: npt.DTypeLike = "uint16", *, wait: float = 0.0) -> None:
        """Create the shared memory for frames of this shape, and start a viewer if `launch` is set.

        Parameters
        ----------
        shape
            The shape of one frame.
        dtype
            Its dtype.
        wait
            Seconds to wait until a viewer is attached; with 0 the work is done in the background. If no viewer is
            attached in the end, `problem` says why.
        """
        self._guard.check_usable()
        nbytes = int(np.dtype(dtype).itemsize)
        for extent in shape:
            nbytes *= int(extent)
        self.session.ensure(nbytes, wait=wait)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until no frame is on its way to a viewer. Return whether that happened within `timeout` seconds.

        Programs that subscribe, recorders and relays are not waited for: they may take as long as they like.
        """
        self._guard.check_usable()
        return self.session.flush(time.monotonic() + (self.linger if timeout is None else timeout))

    def capture(self, path: str | os.PathLike[str], timeout: float = 30.0) -> None:
        """Have the viewer save a picture of its window.

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
        self._guard.check_usable()
        if (receivers := self.session.receivers) is None:
            msg = "no picture of the window: no viewer is attached"
            raise RuntimeError(msg)
        receivers.capture(os.path.abspath(path), timeout)  # noqa: PTH100 - the viewer has another working directory

    @property
    def problem(self) -> str:
        """Why frames are not shown, as a line for the user; ``""`` if nothing is wrong.

        For example ``"napari is not installed; install it with: …"``, or the cause that a crashed viewer wrote.

        What may be temporary (shared memory is full, file descriptors are used up) is tried again, first after a second
        and later after up to a minute; the line says when.
        """
        return self.session.problem

    def stats(self) -> Stats:
        """Return the fates of all frames, the cost of `publish`, and the age of the newest frame."""
        self._guard.check_process()
        costs = np.frombuffer(self._costs, float, min(self._calls, _COSTS)) / 1e6
        p50, p99 = np.percentile(costs, (50, 99)) if len(costs) else (0.0, 0.0)
        with self._guard.lock, self._guard:
            receivers, slots = self.session.receivers, self.session.slots
            last_ns = receivers.last_publish_ns if receivers else 0
            return Stats(
                frames=self._accounts.total.counts,
                receivers=receivers.rows() if receivers else (),
                skipped=dict(self._accounts.skipped),
                publish_ms=(float(p50), float(p99)),
                newest_age_s=(clock_ns() - last_ns) / 1e9 if last_ns else None,
                segment_bytes=slots.ring.layout.size if slots and not slots.retired else 0,
                metadata_cut=self._metadata_cut,
                protocol_errors=receivers.protocol_errors if receivers else 0,
                keeper_errors=self.session.keeper.errors if self.session.keeper else 0,
                problem=self.problem,
                replies=self._accounts.replies.counts,
            )

    @property
    def opened_by(self) -> int:
        """The process that this publisher belongs to; in any other process it is inert."""
        return self._guard.pid

    def close(self, linger: float | None = None) -> None:
        """Wait for frames in flight, say goodbye to the viewers, and remove the shared memory. Idempotent.

        Parameters
        ----------
        linger
            Seconds to wait for frames in flight, and for a viewer that is being started; by default the publisher's.
        """
        self._finalizer.detach()
        self.session.close(self.linger if linger is None else linger)

    def __repr__(self) -> str:
        """Return its kind, policy, state and problem."""
        if self._guard.closed:
            state = "closed"
        elif (receivers := self.session.receivers) is None:
            state = "not open yet"
        else:
            state = f"{len(receivers.viewers)} viewers attached"
        return f"<Publisher of {self.kind} frames, {self.policy}: {state}{f'; {self.problem}' if self.problem else ''}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
