"""Arrays and files into a viewer: which of them make one stack, and what became of each.

A `Showing` decides for each file which stream it joins:

- Files whose names give axes (``t000_c1.tif``, or the user's own pattern) are one stack; those of several folders
  differ by an axis ``folder``.
- Files whose names say nothing lie side by side along an axis ``file``, as long as they have the same axes, channels
  and pixel size.
- A file whose own axes are also in its name has a stream of its own: nobody can tell which of the two is meant.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.accounting import Receipt, Skipped
from scopecast.arrays import as_array, split_planes
from scopecast.axes import MAX_LABEL, axes_from_path, axis_name, check_axes
from scopecast.errors import FileError, IncompleteFileError, ScopecastError, ViewerStartError
from scopecast.files import Sight, common_folder, find_files, open_image
from scopecast.hub import KEPT_STREAMS
from scopecast.launch import end_viewers, find_or_start_viewer, known_viewers, viewers_started_here
from scopecast.publisher import Publisher
from scopecast.runs import RunDirectory
from scopecast.wire import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from scopecast.accounting import FrameCounts
    from scopecast.axes import AxisValue
    from scopecast.files import ImageFile, Plane
    from scopecast.publisher import Policy
    from scopecast.streams import FrameStream

__all__ = ["Showing", "opened_viewer", "show", "split_axes_option"]

#: Seconds that a viewer may take to open.
START_S: Final = 90.0
_BREAK_OFF_S: Final = 3.0
_WITHOUT_WINDOW: Final = frozenset({"headless"})
_NO_VIEWER: Final = "no viewer"
#: What may happen to a frame that nobody waits for, and is counted.
_ACCEPTED: Final = frozenset({"no room", "opening"})


def show(
    what: Any,
    *,
    viewer: str = "napari",
    title: str = "",
    axes: str | Mapping[str, AxisValue] | None = None,
    scale: float | Sequence[float] | None = None,
    units: str = "",
    steps: Mapping[str, float] = {},
    channels: Sequence[str] = (),
    colors: Sequence[str] = (),
    rgb: bool | None = None,
    timeout: float = 30.0,
) -> Receipt:
    r"""Show an array or image files in a viewer: the one that runs, or a new one.

    Returns when the viewer has everything; the window stays when this process ends. Every call makes layers of its own,
    and so does a notebook cell that runs again.

    Parameters
    ----------
    what
        An array of any library, (…, y, x) or (…, y, x, 3 or 4) for colour; dask, zarr and h5py arrays are read plane by
        plane. Or a path of a TIFF, PNG, JPEG or NPY file, of a folder, a pattern such as ``"run*/*.tif"``, or a list of
        these.
    viewer
        The kind of viewer.
    title
        What the layers are called; by default the file's or the folder's name.
    axes
        Names of an array's dimensions, such as ``"tczyx"``, or of the axes that a file does not name itself. For files:
        also a regular expression with named groups that reads the axes from their names, such as
        ``r"t(?P<t>\d+)_(?P<c>\w+)"``. Or a mapping, such as ``{"t": 3}``: where all of it belongs.
    scale
        Size of a pixel, (y, x) or one number for both, in `units`; by default what the file says.
    units
        Such as ``"um"``; that is the default where `scale` is given.
    steps
        Distance of the planes along an axis, such as ``{"z": 0.5}``, in `units`; of ``"t"`` in seconds.
    channels
        Names of the channels, in order.
    colors
        Their colours, ``#rrggbb``.
    rgb
        Whether an array's last dimension of 3 or 4 is colour; by default it is, for uint8, uint16 and floats.
    timeout
        Seconds to wait for a viewer that makes no room.

    Returns
    -------
    Receipt
        What was sent, and what was skipped and why.

    Raises
    ------
    ViewerStartError
        If no viewer runs, and none could be started.
    UnsupportedDtypeError, ValueError
        If an array can't be shown; files that can't are in the receipt.
    ViewerLagging
        If the viewer made no room within the timeout.

    Examples
    --------
    >>> import numpy as np, scopecast
    >>> scopecast.show(np.zeros((3, 64, 64), "uint16"), axes="tyx", scale=0.65)  # doctest: +SKIP
    Receipt(sent=('array',), skipped=(), frames=3)
    >>> print(scopecast.show("run7/", axes=r"t(?P<t>\d+)"))  # doctest: +SKIP
    120 sent (120 frames)
    """
    about = _given(scale, units, steps, channels, colors)
    dims, pattern, where = split_axes_option(axes)
    paths = _as_paths(what)
    sent: list[str] = []
    skipped: list[Skipped] = []
    frames = 0
    files: list[Path] = []
    planes: Iterator[tuple[dict[str, int | str], Any]] = iter(())
    if paths is None:
        # Before anything is started: what is wrong with the array is the caller's to know at once.
        planes = _planes_of(what, dims, where, rgb)
    else:
        files = find_files(paths)[0]
    with (
        opened_viewer(viewer),
        Showing(
            viewer,
            title=title,
            pattern=pattern,
            dims=dims,
            where=where,
            about=about,
            timeout=timeout,
            root=common_folder(files),
            lone=len(files) == 1,
        ) as showing,
    ):
        if paths is None:
            frames, reason = showing.array(planes, title or "array")
            (skipped.append(Skipped(title or "array", reason)) if reason else sent.append(title or "array"))
        for file in files:
            try:
                frames += showing.file(file)
                sent.append(str(file))
            except FileError as error:
                skipped.append(Skipped(str(file), str(error)))
        showing.finish()
    return Receipt(tuple(sent), tuple(skipped), frames)


def split_axes_option(
    axes: str | Mapping[str, AxisValue] | None,
) -> tuple[str | None, str | None, dict[str, AxisValue]]:
    r"""Return the names of dimensions, the pattern for file names, and the place that `axes` stands for.

    Raises
    ------
    ValueError
        If it is none of these.

    Examples
    --------
    >>> split_axes_option("tzyx"), split_axes_option(r"_(?P<t>\d+)\.")
    (('tzyx', None, {}), (None, '_(?P<t>\\d+)\\.', {}))
    """
    if axes is None:
        return None, None, {}
    if isinstance(axes, Mapping):
        return None, None, check_axes(axes)
    if "(?P<" in axes:
        axes_from_path("", axes)  # raises where it is no pattern
        return None, axes, {}
    try:
        names = [axis_name(name) for name in axes]
    except ValueError:
        names = []
    if not names or len(set(names)) < len(names):
        msg = (
            f"axes {axes!r} are neither the names of dimensions, such as 'tczyx', nor a regular expression with named "
            f"groups, such as 't(?P<t>\\d+)'"
        )
        raise ValueError(msg)
    return axes, None, {}


def _as_paths(what: Any) -> list[str | os.PathLike[str]] | None:
    """Return the paths that a user means, or None for an array."""
    if isinstance(what, str | os.PathLike):
        return [what]
    if isinstance(what, list | tuple | set) and what and all(isinstance(item, str | os.PathLike) for item in what):
        return list(what)
    return None


def _given(
    scale: float | Sequence[float] | None,
    units: str,
    steps: Mapping[str, float],
    channels: Sequence[str],
    colors: Sequence[str],
) -> dict[str, Any]:
    """Return what the user says of a stream, as arguments of `Publisher.new_stream`; without what they leave open."""
    about: dict[str, Any] = {}
    if scale is not None:
        about["scale"] = (float(scale),) * 2 if isinstance(scale, int | float) else tuple(float(size) for size in scale)
        about["units"] = units or "um"
    elif units:
        about["units"] = units
    if steps:
        about["steps"] = dict(steps)
    if channels:
        about["channels"] = tuple(channels)
    if colors:
        about["colors"] = tuple(colors)
    return about


def _planes_of(
    data: Any, dims: str | Sequence[str] | None, where: Mapping[str, AxisValue], rgb: bool | None
) -> Iterator[tuple[dict[str, int | str], Any]]:
    """Take an array apart; one that is stored in chunks (dask, zarr, h5py) is read plane by plane."""
    said = getattr(data, "dims", ())  # xarray's
    if dims is None and isinstance(said, tuple) and {"y", "x"} <= set(said) and all(isinstance(it, str) for it in said):
        dims = said
    chunked = not isinstance(data, np.ndarray) and hasattr(data, "chunks") and len(getattr(data, "shape", ())) > 2
    if not chunked:
        return split_planes(as_array(data), dims=dims, axes=where, rgb=rgb)
    names = tuple(map(axis_name, dims or ()))
    if dims is not None and names[-2:] != ("y", "x") and names[-3:] != ("y", "x", "s"):
        return split_planes(as_array(data), dims=dims, axes=where, rgb=rgb)
    # What planes there are is found with an array of the same form that takes no memory.
    stand_in = np.broadcast_to(np.zeros((), data.dtype), tuple(int(extent) for extent in data.shape))
    return _read_planes(data, split_planes(stand_in, dims=dims, axes=where, rgb=rgb))


def _read_planes(
    data: Any, planes: Iterator[tuple[dict[str, int | str], Any]]
) -> Iterator[tuple[dict[str, int | str], Any]]:
    for number, (axes, plane) in enumerate(planes):
        index = np.unravel_index(number, data.shape[: len(data.shape) - plane.ndim])
        yield axes, np.asarray(data[tuple(int(at) for at in index)])


@contextlib.contextmanager
def opened_viewer(kind: str) -> Iterator[None]:
    """Find the viewer of a kind that runs, or start one.

    A window that is started stays, as it is the user's now; a viewer without a window ends with the context. If the
    start is interrupted, nothing of it stays.

    Raises
    ------
    ViewerStartError
        If there is none, and none could be started.
    """
    if kind not in known_viewers():
        msg = f"there is no viewer {kind!r} here; use {' or '.join(sorted(known_viewers(), reverse=True)) or 'none'}"
        raise ViewerStartError(msg)
    directory = RunDirectory()
    before = viewers_started_here()
    try:
        find_or_start_viewer(directory, kind, timeout=START_S)
    except BaseException:
        end_viewers(viewers_started_here() - before, directory, _BREAK_OFF_S)
        raise
    started = viewers_started_here() - before if kind in _WITHOUT_WINDOW else set()
    try:
        yield
    finally:
        end_viewers(started, directory, _BREAK_OFF_S)


class Showing:
    """Puts files and arrays into the viewers of one kind; a context manager.

    Parameters
    ----------
    viewer
        The kind of viewer.
    title
        What the layers are called; by default the file's or the folder's name.
    pattern
        Reads the axes from file names, see `scopecast.axes.axes_from_path`.
    dims
        Names for the axes of files that don't name theirs.
    where
        Axes for all of it.
    about
        What the user says of pixel size and channels, in place of what the files say.
    timeout
        Seconds to wait for a viewer that makes no room.
    root
        The folder that all files are below; files of the folders in it differ by an axis ``folder``.
    lone
        Whether only one file comes, which then needs no axis ``file``.
    policy
        ``"every"`` loses nothing; ``"latest"`` never waits.
    """

    def __init__(
        self,
        viewer: str = "napari",
        *,
        title: str = "",
        pattern: str | None = None,
        dims: str | None = None,
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
        self._placed: tuple[ImageFile, dict[str, AxisValue], FrameStream] | None = None  # that of the last plane
        self.notes: dict[str, list[str]] = {}

    def file(
        self,
        path: Path,
        progress: Callable[[int, int], None] = lambda done, total: None,
        *,
        settled: bool = True,
    ) -> int:
        """Show a file.

        Parameters
        ----------
        path
            The file.
        progress
            Called with the planes done and the planes in all, before the first and after each.
        settled
            False for a file that another program may be writing: its last plane is read first, and nothing is shown
            that was read while the file changed.

        Returns
        -------
        int
            How many frames it had.

        Raises
        ------
        IncompleteFileError
            If the file ends too early, or changed while it was read.
        FileError
            If it can't be shown for another reason; the text says why.
        ScopecastError
            If no viewer is left to show it.
        ViewerLagging
            If an attached viewer made no room within the timeout.
        """
        frames = 0
        before = Sight.of(path)
        with open_image(path, dims=self.dims) as image:
            total = len(image)
            if not settled and total > 1:
                image.read(total - 1)
            progress(0, total)
            for number in range(total):
                plane = image.read(number)
                if not settled and Sight.of(path) != before:
                    raise IncompleteFileError("it changed while it was read")
                if plane is not None:
                    frames += self.plane(image, plane)
                progress(number + 1, total)
        return frames

    def plane(self, image: ImageFile, plane: Plane) -> int:
        """Show what was read of a file that is open; return how many frames it had. Raises as `file` does."""
        if self._placed is None or self._placed[0] is not image:
            for note in image.about.notes:
                self.notes.setdefault(note, []).append(image.path.name)
            self._placed = (image, *self._place(image.path, image))
        _, axes, stream = self._placed
        return self._offer(plane.array, {**axes, **plane.axes}, stream, plane.dims, str(image.path))

    def array(self, planes: Iterator[tuple[dict[str, int | str], Any]], title: str) -> tuple[int, str]:
        """Show an array as a stream of its own, plane by plane; return how many those were, or why it is not shown."""
        stream = None
        frames = 0
        for axes, plane in planes:
            if stream is None:
                stream = self._stream(object(), title, {})
            try:
                frames += self._offer(plane, axes, stream, None, "", colour=plane.ndim == 3)
            except FileError as error:
                return frames, str(error)
        return frames, "" if frames else "empty"

    def _offer(
        self,
        array: Any,
        axes: dict[str, Any],
        stream: FrameStream,
        dims: tuple[str, ...] | None,
        path: str,
        colour: bool | None = None,
    ) -> int:
        assert self._publisher is not None
        if self._policy == "latest" and not self._opened:  # else the first frames would be skipped, until it is open
            self._publisher.open(array.shape, array.dtype, wait=self._timeout)
            self._opened = True
        try:
            outcome = self._publisher.offer(
                array, axes={**self._where, **axes}, dims=dims, stream=stream, path=path, rgb=colour
            )
        except (ValueError, TypeError) as error:
            raise FileError(str(error)) from error
        if outcome.reason == _NO_VIEWER:
            raise ScopecastError(f"no {self.viewer} viewer is left to show it: its window was closed")
        if outcome.reason == "larger than the budget":
            raise FileError(f"its planes of {array.nbytes / 2**20:.0f} MiB are too large for the shared memory")
        if outcome.reason and outcome.reason not in self._accepted:
            raise FileError(outcome.reason)
        return outcome.frames

    def _place(self, path: Path, image: ImageFile) -> tuple[dict[str, AxisValue], FrameStream]:
        """Return where a file's planes belong besides their own axes, and in which stream."""
        about, own = image.about, set(image.about.sizes)
        described = about.stream()
        folder = path.absolute().parent
        named = {} if self._lone and self.pattern is None else axes_from_path(printable(path.name), self.pattern)
        if (self._lone and not named) or own & set(named):
            return {}, self._stream(("alone", path.absolute(), tuple(about.sizes)), path.name, described)
        root = self._root or folder
        if not named:
            key: tuple[object, ...] = ("files", tuple(about.sizes), repr(described))
            return {"file": self._label(path)}, self._stream(key, root.name or "files", described)
        if "c" in named:  # the channels of one file are not those of the stack
            described = {**described, "channels": (), "colors": ()}
        axes: dict[str, AxisValue] = dict(named)
        if folder != root and "folder" not in axes:
            axes["folder"] = self._label(folder)
        key = ("named", root, tuple(sorted(own)), repr(described))
        return axes, self._stream(key, root.name or str(root), described)

    def _label(self, path: Path) -> str:
        """Return what a file or folder is called along its axis: always the same, and like no other's."""
        path = path.absolute()
        name = printable(path.name)
        if self._root is not None and path.is_relative_to(self._root):
            name = printable(path.relative_to(self._root).as_posix())
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
        return stream

    def _renew(self, title: str) -> None:
        """Begin a publisher; what the former one has shown stays in the viewers."""
        self.finish()
        if self._publisher is not None:
            self._publisher.close()
        self._streams.clear()
        self._opened, self._placed = False, None
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
            msg = f"the {self.viewer} viewer has not taken {left} frames within {self._timeout:g} s"
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
