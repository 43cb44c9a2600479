"""Arrays and files into a viewer: which of them make one stack, and what became of each.

A `Showing` decides for each file which stream it joins:

- Files whose names give axes (``t000_c1.tif``, or the user's own pattern) are one stack; those of several folders
  differ by an axis ``folder``, or by ``p`` if the folders are positions of Micro-Manager's, and those whose names give
  them one place by an axis ``file``.
- Files whose names say nothing lie side by side along an axis ``file``, as long as they have the same axes, channels
  and pixel size.
- A file whose own axes are also in its name has a stream of its own: nobody can tell which of the two is meant.
- Regions of interest lie on the image of the same name, else on the last one; see `scopecast.showing.pairing`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final
from unicodedata import normalize

from scopecast.errors import FileError, IncompleteFileError, ScopecastError, UnreadableFileError
from scopecast.frames.axes import MAX_LABEL, axes_from_path
from scopecast.frames.places import Places
from scopecast.frames.rois import read_rois
from scopecast.images.base import Sight, check_regular, reading
from scopecast.images.micromanager import METADATA, TOLD, Beside, read_metadata
from scopecast.images.open import open_image
from scopecast.link.messages import KEPT_STREAMS, encode_metadata
from scopecast.protocol import printable
from scopecast.publishing.accounts import Reason
from scopecast.publishing.publisher import Publisher
from scopecast.showing.pairing import ShownImages, has_regions
from scopecast.showing.sites import PlacesOnStage, is_position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream
    from scopecast.images.base import FilePlane, ImageFile
    from scopecast.publishing.accounts import FrameCounts
    from scopecast.publishing.publisher import Policy

__all__ = ["Showing"]

#: What may happen to a frame that nobody waits for, and is counted.
_ACCEPTED: Final = frozenset({Reason.NO_ROOM, Reason.OPENING})


class Showing:
    """Puts files and arrays into the viewers of one kind; a context manager.

    Parameters
    ----------
    viewer
        The kind of viewer.
    title
        The title of the layers; by default the name of the file or folder.
    pattern
        Reads the axes from file names, see `scopecast.frames.axes.axes_from_path`.
    dims
        Names for the axes of files that don't name theirs.
    where
        Axes for all of it.
    about
        What the user says of pixel size and channels, in place of what the files say.
    timeout
        Seconds to wait for a viewer that accepts no more frames.
    root
        The folder that all files are below; files of the folders in it differ by an axis ``folder``.
    lone
        Whether only one file comes, which then needs no axis ``file``.
    policy
        ``"every"`` loses nothing; ``"latest"`` never waits.

    Attributes
    ----------
    notes : dict of str to list of str
        What the user should know, and the names of the files that it is about.
    planes, regions : int
        Planes and regions of interest that were shown.
    missing : int
        Planes that the files shown tell of, and that are not shown.
    damaged : dict of Path to str
        The files of which some planes can't be read: how many, and why.
    """

    def __init__(
        self,
        viewer: str = "napari",
        *,
        title: str = "",
        pattern: str | None = None,
        dims: str | Sequence[str] | None = None,
        where: Mapping[str, AxisValue] = {},
        about: Mapping[str, Any] = {},
        timeout: float = 30.0,
        root: Path | None = None,
        lone: bool = False,
        policy: Policy = "every",
    ) -> None:
        self.viewer, self.title, self.pattern, self.dims = viewer, title, pattern, dims
        self._where, self._about, self._root, self._lone = dict(where), dict(about), root, lone
        self._timeout, self._policy, self._opened = timeout, policy, False
        self._accepted = _ACCEPTED if policy == "latest" else frozenset()
        self._publisher: Publisher | None = None
        self._streams: dict[object, FrameStream] = {}
        self._labels: dict[str, Path] = {}
        self._members: dict[tuple[str, str], Path] = {}  # of recordings of several files
        self._places: dict[FrameStream, Places] = {}
        self._placed: tuple[ImageFile, dict[str, AxisValue], FrameStream] | None = None  # that of the last plane
        self._images = ShownImages()
        self._on_stage = PlacesOnStage(self._read_beside)
        self._total = 0  # planes of the file that is being shown
        self._beside: dict[Path, Beside] = {}
        self._waiting: dict[Path, None] = {}  # regions whose image is not shown yet
        self.notes: dict[str, list[str]] = {}
        self.planes = self.regions = self.missing = 0
        self.damaged: dict[Path, str] = {}

    def file(
        self,
        path: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        settled: bool = True,
    ) -> int:
        """Show a file: an image, or regions of interest on an image that is shown.

        Parameters
        ----------
        path
            The file.
        progress
            Called with the planes done and the planes in all, before the first and after each.
        settled
            False for a file that another program may be writing: its last plane is read first, and nothing is shown
            that was read while the file changed, or as long as it lacks planes. Regions wait for their image.

        Returns
        -------
        int
            How many planes were shown; 0 for regions. Of a file whose other planes can't be read, `damaged` tells.

        Raises
        ------
        IncompleteFileError
            If the file ends too early, or changed while it was read.
        FileError
            If it can't be shown for another reason; the text says why.
        ScopecastError
            If no viewer is left to show it.
        ViewerLagging
            If an attached viewer freed no slot within the timeout.
        """
        if has_regions(path):
            self._show_regions(path, settled=settled)
            return 0
        before = self.planes
        try:
            frames = self._show_image(path, progress, settled=settled)
        except FileError as error:
            if settled:
                self._images.miss(path)
            if shown := self.planes - before:
                raise type(error)(f"{shown} of {self._total} planes shown; the others: {error}") from error
            raise
        self._show_waiting()
        return frames

    def _show_image(self, path: Path, progress: Callable[[int, int], None], *, settled: bool) -> int:
        frames = 0
        before = Sight.of(path)
        problem: FileError | None = None
        with open_image(path, dims=self.dims) as image:
            self._total = total = len(image)
            if not settled and not image.about.complete:
                raise IncompleteFileError(f"it has {total} of {total + image.about.missing} planes")
            if not settled and total > 1:
                image.read(total - 1)
            progress(0, total)
            for number in range(total):
                try:
                    plane = image.read(number)
                except FileError as error:
                    if not settled:
                        raise
                    problem = problem or error
                    if isinstance(error, UnreadableFileError):  # no other one will be read, either
                        break
                    continue  # a damaged plane keeps none of the others from being shown
                if not settled and Sight.of(path) != before:
                    raise IncompleteFileError("it changed while it was being read")
                if plane is not None:
                    frames += self.plane(image, plane)
                progress(number + 1, total)
        if problem is not None and not frames:
            raise problem
        whole = total + image.about.missing
        if problem is not None:
            self.damaged[path] = f"{frames} of its {whole} planes are shown: {problem}"
        self.missing += whole - frames
        return frames

    def _show_regions(self, path: Path, *, settled: bool) -> None:
        before = Sight.of(path)
        with reading():
            check_regular(path)
            try:
                found = read_rois(path, called="it")
            except ValueError as error:
                raise (FileError if before.size else IncompleteFileError)(str(error)) from error
        if not settled and Sight.of(path) != before:
            raise IncompleteFileError("it changed while it was being read")
        home = None if not settled and self._images.awaits(path) else self._images.home_of(path, self.pattern)
        if home is None and settled:
            raise FileError("regions of interest belong to an image, and none is shown: name their image, too")
        if home is None:
            self._waiting[path] = None
            self.notes.setdefault("shown as soon as the image that they belong to arrives", []).append(path.name)
            return
        names, items = [name for name, _ in found], [item for _, item in found]
        self._offer(items, home.axes, home.stream, None, str(path), kind="rois", name=home.name, names=names)
        self.regions += len(items)

    def _show_waiting(self) -> None:
        """Show the regions whose image is there now."""
        for path in [path for path in self._waiting if not self._images.awaits(path)]:
            del self._waiting[path]
            try:
                self._show_regions(path, settled=False)
            except FileError as error:  # no fault of the image
                self.notes.setdefault(f"not shown: {error}", []).append(path.name)

    def plane(self, image: ImageFile, plane: FilePlane) -> int:
        """Show what was read of a file that is open; return how many frames it had. Raises as `file` does."""
        if self._placed is None or self._placed[0] is not image:
            for note in image.about.notes:
                self.notes.setdefault(note, []).append(image.path.name)
            self._placed = (image, *self._place(image.path, image))
            self._images.note(image.path, *self._placed[1:])
        _, axes, stream = self._placed
        metadata = plane.metadata or self._read_beside(image.path.absolute().parent).told(image.path.name)
        if encode_metadata(metadata) is None:  # as of a microscope with hundreds of properties
            metadata = {name: value for name, value in metadata.items() if name in TOLD}
        where = {**axes, **plane.axes}
        more: dict[str, Any] = {"metadata": metadata or None}
        more["translate"] = self._on_stage.corner(stream, {**self._where, **where}, image, plane)
        return self._offer(plane.array, where, stream, plane.dims, str(image.path), **more)

    def array(self, planes: Iterator[tuple[dict[str, int | str], Any]], title: str) -> tuple[int, str]:
        """Show an array as a stream of its own, plane by plane; return how many those were, or why it is not shown."""
        stream = None
        frames = 0
        for axes, plane in planes:
            if stream is None:
                stream = self._stream(object(), title, {})
            try:
                frames += self._offer(plane, axes, stream, None, "", rgb=plane.ndim == 3)
            except FileError as error:
                why = str(error)
                if not frames:
                    return 0, why
                return frames, f"only the first {frames} planes are shown; the next: {why}"
        return frames, "" if frames else Reason.EMPTY

    def _offer(
        self,
        array: Any,
        axes: dict[str, Any],
        stream: FrameStream,
        dims: tuple[str, ...] | None,
        path: str,
        **more: Any,
    ) -> int:
        assert self._publisher is not None
        if self._policy == "latest" and not self._opened:  # else the first frames would be skipped, until it is open
            self._publisher.open(array.shape, array.dtype, wait=self._timeout)
            self._opened = True
        try:
            where = {**self._where, **axes}
            outcome = self._publisher.offer(array, axes=where, dims=dims, stream=stream, path=path, **more)
        except (ValueError, TypeError) as error:
            raise FileError(str(error)) from error
        self.planes += outcome.shown if more.get("kind") != "rois" else 0
        if outcome.reason is Reason.NO_VIEWER:
            raise ScopecastError(f"no {self.viewer} viewer is left to show it: the window was closed")
        if outcome.reason is Reason.TOO_LARGE:
            nbytes = array.nbytes if hasattr(array, "nbytes") else sum(map(len, array))
            what = "planes" if hasattr(array, "nbytes") else "regions"
            raise FileError(f"its {what} of {nbytes / 2**20:.0f} MiB are too large for the shared memory")
        if outcome.reason is not None and outcome.reason not in self._accepted:
            raise FileError(str(outcome))
        return outcome.frames

    def _place(self, path: Path, image: ImageFile) -> tuple[dict[str, AxisValue], FrameStream]:
        """Return where a file's planes belong besides their own axes, and in which stream."""
        about, own = image.about, set(image.about.sizes)
        folder = path.absolute().parent
        beside = self._read_beside(folder)
        described = beside.complete(about.stream())
        if about.recording:  # what its files say of their own planes tells them apart
            key: tuple[object, ...] = (about.recording, tuple(about.sizes), repr(described))
            first = self._members.setdefault((about.recording, about.member), path)
            if first != path:
                note = f"it is a copy of {first.name}, or claims to be the same part of the recording, and replaces it"
                self.notes.setdefault(note, []).append(path.name)
            return {}, self._stream(key, (self._root or folder).name or path.name, described)
        named = {} if self._lone and self.pattern is None else axes_from_path(printable(path.name), self.pattern)
        if (self._lone and not named) or own & set(named):
            return {}, self._stream(("alone", path.absolute(), tuple(about.sizes)), path.name, described)
        root = self._root or folder
        if not named:
            key = ("files", tuple(about.sizes), repr(described))
            return {"file": self._label(path)}, self._stream(key, root.name or "files", described)
        if "c" in named:  # the channels of one file are not those of the stack
            described = {**described, "channels": (), "colors": ()}
        axes: dict[str, AxisValue] = dict(named)
        if "c" in axes:
            axes["c"] = beside.channel(path.name, str(axes["c"]))
        if folder != root and is_position(folder, path.name, beside):
            axes["p"] = folder.name
        elif folder != root and "folder" not in axes:
            axes["folder"] = self._label(folder)
        key = ("named", root, tuple(sorted(own)), repr(described))
        stream = self._stream(key, root.name or str(root), described)
        settled = self._places[stream].settle(str(path.absolute()), axes, self.pattern)
        if settled.note:
            self.notes.setdefault(settled.note, []).append(path.name)
        return settled.axes, stream

    def _read_beside(self, folder: Path) -> Beside:
        """Return what the ``metadata.txt`` of a folder says of its files."""
        beside = self._beside.get(folder)
        if beside is None:
            beside = self._beside[folder] = read_metadata(folder)
            for note in beside.notes:
                self.notes.setdefault(note, []).append(METADATA)
        return beside

    def _label(self, path: Path) -> str:
        """Return what a file or folder is called along its axis: always the same, and like no other's."""
        path = path.absolute()
        name = printable(path.name)
        if self._root is not None and path.is_relative_to(self._root):
            name = printable(path.relative_to(self._root).as_posix())
        name = normalize("NFC", name)  # two names that look alike are numbered
        label, number = name[-MAX_LABEL:], 1
        while self._labels.setdefault(label, path) != path:
            number += 1
            label = f"{name[-MAX_LABEL + 8 :]} ({number})"
        return label

    def _stream(self, key: object, title: str, about: dict[str, Any]) -> FrameStream:
        """Return the stream of a key; of a new publisher where viewers would drop the oldest."""
        stream = self._streams.get(key)
        if stream is None:
            if self._publisher is None or len(self._streams) >= KEPT_STREAMS:
                self._renew(title)
            assert self._publisher is not None
            said = {**about, **self._about}
            stream = self._streams[key] = self._publisher.new_stream(self.title or title, **said)
            self._places[stream] = Places(partial(self._publisher.place, stream))
        return stream

    def _renew(self, title: str) -> None:
        """Begin a publisher; what the former one has shown stays in the viewers."""
        self.finish()
        if self._publisher is not None:
            self._publisher.close()
        self._streams.clear()
        self._places.clear()
        self._opened, self._placed = False, None
        self._images.forget()
        self._publisher = Publisher(
            self.viewer,
            title=self.title or title,
            host="scopecast",
            policy=self._policy,
            launch=False,
            timeout=self._timeout,
        )

    @property
    def publisher(self) -> Publisher | None:
        """The publisher underneath; None before the first frame."""
        return self._publisher

    def counts(self) -> FrameCounts | None:
        """Return what became of the frames so far; None before the first."""
        return self._publisher.stats().frames if self._publisher is not None else None

    def finish(self) -> None:
        """Wait until the viewers have all that was shown.

        Raises
        ------
        ScopecastError
            If they have not within the timeout, or are gone.
        """
        if self._publisher is None:
            return
        if not self._publisher.flush(self._timeout):
            left = self._publisher.stats().frames.in_flight
            msg = f"the {self.viewer} viewer has not accepted {left} frames within {self._timeout:g} s"
            raise ScopecastError(msg)
        counts = self._publisher.stats().frames
        if counts.dropped and self._policy == "every":
            msg = f"the {self.viewer} viewer ended before it had {counts.dropped} of {counts.published} frames"
            raise ScopecastError(msg)

    def close(self, *, at_once: bool = False) -> None:
        """Say goodbye to the viewers, and remove the shared memory; what was shown stays. Idempotent."""
        if self._publisher is not None:
            self._publisher.close(0.0 if at_once else None)

    def __enter__(self) -> Showing:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)
