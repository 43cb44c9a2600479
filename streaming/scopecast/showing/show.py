"""``scopecast.show``: show an array or image files in a viewer, in one call."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from scopecast.errors import FileError, ViewerStartError
from scopecast.frames.arrays import as_array, check_dtype, dims_of, split_planes
from scopecast.frames.axes import axes_from_path, axis_name, check_axes
from scopecast.frames.streams import FrameStream, given
from scopecast.keywords import suggesting
from scopecast.publishing.accounts import Receipt, Skipped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from scopecast.frames.axes import AxisValue

__all__ = ["check_names", "check_viewer", "opened_viewer", "show"]

#: Seconds that a viewer may take to open.
START_S: Final = 90.0
#: Seconds that a viewer may take to close, of a call that failed or was interrupted, before it is killed.
BREAK_OFF_S: Final = 3.0


@suggesting
def show(
    what: Any,
    *,
    viewer: str = "napari",
    title: str = "",
    axes: Mapping[str, AxisValue] = {},
    dims: str | Sequence[str] | None = None,
    pattern: str | None = None,
    scale: float | Sequence[float] | None = None,
    units: str | None = None,
    steps: Mapping[str, float] = {},
    channels: str | Sequence[str] = (),
    colors: str | Sequence[str] | Mapping[str, str] = (),
    rgb: bool | None = None,
    timeout: float = 30.0,
) -> Receipt:
    r"""Show an array or image files in a viewer: the running one, or a new one.

    Returns when the viewer has everything; the window stays open when this process ends. Every call makes layers of its
    own, and so does a notebook cell that runs again.

    Parameters
    ----------
    what
        An array of any library, (…, y, x) or (…, y, x, 3 or 4) for colour; dask, zarr and h5py arrays are read plane by
        plane. Or a path of a TIFF, PNG, JPEG or NPY file, of a folder, a pattern such as ``"run*/*.tif"``, or a list of
        these; regions of interest of ImageJ (``.roi``, ``.roi.zip``) go on the image of the same name, or on the one
        before.
    viewer
        The kind of viewer.
    title
        The title of the layers; by default the name of the file or folder.
    axes
        Where all of it belongs, such as ``{"t": 3}``.
    dims
        Names of an array's dimensions, such as ``"tczyx"``, or of the axes that a file does not name itself.
    pattern
        Of files: a regular expression with named groups that reads the axes from their names, such as
        ``r"t(?P<t>\d+)_(?P<c>\w+)"``.
    scale
        Size of a pixel in `units`, one number or two (y, x); by default what the file says.
    units
        ``"um"`` by default, where `scale` is given.
    steps
        Distance of the planes along an axis, such as ``{"z": 0.5}``, in `units`; of ``"t"`` in seconds.
    channels
        Names of the channels, in order.
    colors
        Their colours in order, or by their names; see `FrameStream`.
    rgb
        Whether an array's last dimension of 3 or 4 is colour; by default it is, for uint8, uint16 and floats.
    timeout
        Seconds to wait for a viewer that accepts no more frames.

    Returns
    -------
    Receipt
        What was sent, and what was skipped and why.

    Raises
    ------
    ViewerStartError
        If no viewer is running, and none could be started.
    UnsupportedDtypeError, ValueError
        If an array can't be shown; files that can't are in the receipt.
    ViewerLagging
        If the viewer freed no slot within the timeout.

    Examples
    --------
    >>> import numpy as np, scopecast
    >>> scopecast.show(np.zeros((3, 64, 64), "uint16"), dims="tyx", scale=0.65)  # doctest: +SKIP
    Receipt(sent=('array',), skipped=(), frames=3)
    >>> print(scopecast.show("run7/", pattern=r"t(?P<t>\d+)"))  # doctest: +SKIP
    120 sent (120 frames)
    """
    from scopecast.frames.rois import ROI_EXTENSIONS
    from scopecast.images.base import common_folder
    from scopecast.images.open import EXTENSIONS, find_files, which_open
    from scopecast.showing.pairing import has_regions, pair_up
    from scopecast.showing.stacks import Showing

    about = given(scale=scale, units=units, steps=steps, channels=channels, colors=colors)
    FrameStream(0, "", **about)  # raises where a value is not allowed, before anything is started
    where = check_axes(axes)
    check_names(dims, pattern)
    paths = _as_paths(what)
    sent: list[str] = []
    skipped: list[Skipped] = []
    partly: list[Skipped] = []
    frames = 0
    files: list[Path] = []
    planes: Iterator[tuple[dict[str, int | str], Any]] = iter(())
    if paths is None:
        # Before anything is started: what is wrong with the array is the caller's to know at once.
        planes = _planes_of(what, dims, where, rgb)
    else:
        files = pair_up(find_files(paths, extensions=(*EXTENSIONS, *ROI_EXTENSIONS))[0])
    images = [file for file in files if not has_regions(file)]
    if paths is not None and (not images or (failed := which_open(images, dims))):
        reasons = failed if images else {}
        none = "regions of interest belong to an image, and none is named"
        return Receipt((), tuple(Skipped(str(file), str(reasons.get(file, none))) for file in files), 0)
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
            root=common_folder(images),
            lone=len(images) == 1,
        ) as showing,
    ):
        if paths is None:
            frames, reason = showing.array(planes, title or "array")
            if frames or not reason:
                sent.append(title or "array")
            if reason:
                (partly if frames else skipped).append(Skipped(title or "array", reason))
        for file in files:
            before = showing.planes
            try:
                showing.file(file)
                sent.append(str(file))
            except FileError as error:
                if showing.planes > before:
                    sent.append(str(file))
                (partly if showing.planes > before else skipped).append(Skipped(str(file), str(error)))
        partly += [Skipped(str(file), why) for file, why in showing.damaged.items()]
        showing.finish()
        frames = showing.planes
    return Receipt(tuple(sent), tuple(skipped), frames, tuple(partly))


def check_names(dims: str | Sequence[str] | None, pattern: str | None) -> None:
    r"""Check the names of dimensions, and the pattern for file names, that a user gives.

    Raises
    ------
    ValueError
        If one of them can't be used.

    Examples
    --------
    >>> check_names("tzyx", r"_(?P<t>\d+)\.")
    """
    if pattern is not None:
        axes_from_path("", pattern)
    if dims is None:
        return
    try:
        names = [axis_name(name) for name in dims]
    except ValueError:
        names = []
    if not names or len(set(names)) < len(names):
        hint = "; a regular expression for file names is a pattern" if "(" in dims else ""
        msg = f"dims {dims!r} are not the names of dimensions, each once, such as 'tczyx'{hint}"
        raise ValueError(msg)


def _as_paths(what: Any) -> list[str | os.PathLike[str]] | None:
    """Return the paths that a user means, or None for an array."""
    if isinstance(what, str | os.PathLike):
        return [what]
    if isinstance(what, list | tuple | set) and what and all(isinstance(item, str | os.PathLike) for item in what):
        return list(what)
    return None


def _planes_of(
    data: Any, dims: str | Sequence[str] | None, where: Mapping[str, AxisValue], rgb: bool | None
) -> Iterator[tuple[dict[str, int | str], Any]]:
    """Take an array apart; one that is stored in chunks (dask, zarr, h5py) is read plane by plane."""
    dims = dims_of(data) if dims is None else dims
    if hasattr(data, "dtype"):
        check_dtype(data.dtype)
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


def check_viewer(kind: str) -> None:
    """Raise ViewerStartError if there is no viewer of a kind."""
    from scopecast.publishing.launch import WITHOUT_WINDOW, known_viewers

    usable = sorted(known_viewers(), key=lambda name: (name != "napari", name in WITHOUT_WINDOW, name))
    if kind not in usable:
        there = " or ".join(part for part in (", ".join(usable[:-1]), *usable[-1:]) if part)
        msg = f"there is no viewer {kind!r} here; use {there or 'another installation'}"
        raise ViewerStartError(msg)


@contextlib.contextmanager
def opened_viewer(kind: str, environment: Mapping[str, str] = {}) -> Iterator[None]:
    """Find the running viewer of a kind, or start one.

    A window that is started stays open, as it is the user's; a viewer without a window ends with the context. If the
    start is interrupted, nothing of it stays.

    Parameters
    ----------
    kind
        The kind of viewer.
    environment
        Variables for a viewer that is started, in addition to this process's own.

    Raises
    ------
    ViewerStartError
        If there is none, and none could be started.
    """
    from scopecast.publishing.launch import WITHOUT_WINDOW, end_viewer, find_or_start_viewer
    from scopecast.rundir.directory import RunDirectory

    check_viewer(kind)
    directory = RunDirectory()
    starts: list[None] = []  # ours, if there is one
    entry = find_or_start_viewer(
        directory, kind, timeout=START_S, environment=environment, starting=lambda: starts.append(None)
    )
    try:
        yield
    finally:
        if starts and kind in WITHOUT_WINDOW:
            end_viewer(entry, directory, BREAK_OFF_S)
