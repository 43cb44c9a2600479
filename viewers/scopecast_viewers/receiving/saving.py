"""What came of a run, or the frames that are shown of it, as files: OME-TIFF or OME-Zarr.

Planes are read one after the other while they are written, so that saving takes the memory of a few of them, and a
viewer that keeps its history small may forget some before their turn: those are counted, and zeros in the file.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from scopecast_viewers.receiving.formats import FORMATS, UNFIT, PlaneReader, fitting, write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from scopecast_viewers.receiving.exporting import Export

__all__ = ["UNFINISHED", "Saved", "StoppedError", "claim", "claimed", "counted", "save", "save_all"]

#: How the folder of a run is called that is not in its file yet.
UNFINISHED: Final = ".unfinished"
#: Bytes of a run's title, and of what tells its files apart, in the names of files, which may have 255.
_MOST_BYTES: Final = 120
_MOST_BYTES_APART: Final = 60


class StoppedError(Exception):
    """The user has stopped the saving; nothing is left of the file."""


class Saved(NamedTuple):
    """What has been written.

    Attributes
    ----------
    paths
        The files; a folder where it is OME-Zarr.
    planes
        Planes of frames in them.
    missing
        Places of images for which none had come; zeros.
    forgotten
        Frames that had come, and that the history had let go of before their turn; zeros.
    begin
        The t of the run with which the files begin; more than 0 if those before it are not here.
    instead
        Why files are of another format than was wanted; ``""`` if none is.
    """

    paths: tuple[Path, ...]
    planes: int
    missing: int
    forgotten: int
    begin: int = 0
    instead: str = ""

    def __str__(self) -> str:
        """Say what is where, and what is missing."""
        names = ", ".join(path.name for path in self.paths)
        since = f"; the first is t = {self.begin}" if self.begin else ""
        gaps = f"; no frame had arrived for {counted(self.missing, 'place')}" if self.missing else ""
        gone = f"; {counted(self.forgotten, 'frame')} had been forgotten" if self.forgotten else ""
        return (
            f"{counted(self.planes, 'frame')} in {names}{f' ({self.instead})' * bool(self.instead)}{since}{gaps}{gone}"
        )


def counted(number: int, what: str) -> str:
    """Return how many there are of a thing.

    >>> counted(1, "frame"), counted(0, "place")
    ('1 frame', '0 places')
    """
    return f"{number} {what}{'s' * (number != 1)}"


def claim(folder: Path, source: str, run: str, began: float | None = None) -> Path:
    """Make the folder for a run, with a name that is not taken; return it.

    Parameters
    ----------
    folder
        Where it is made.
    source, run
        The titles of the program and of the run.
    began
        When the run began, in seconds since 1970; now by default.
    """
    named = " ".join(dict.fromkeys(filter(None, (source, run))))
    plain = _fit(named, _MOST_BYTES).strip(" .") or "run"
    stem, number = f"{plain} {time.strftime('%Y-%m-%d %H-%M-%S', time.localtime(began))}", 1
    while True:
        name = stem if number == 1 else f"{stem} ({number})"
        number += 1
        if any((folder / (name + form)).exists() for form in FORMATS):
            continue
        try:
            (folder / (name + UNFINISHED)).mkdir()
        except FileExistsError:
            continue
        return folder / (name + UNFINISHED)


@contextmanager
def claimed(folder: Path, source: str, run: str, form: str, began: float | None = None) -> Iterator[Path]:
    """Yield the path of a file for a run, whose name nobody else takes meanwhile; see `claim`."""
    place = claim(folder, source, run, began)
    try:
        yield folder / (place.name.removesuffix(UNFINISHED) + form)
    finally:
        place.rmdir()


def save_all(parts: Sequence[Export], path: Path, told: Callable[[int, int], None] = lambda done, of: None) -> Saved:
    """Write exports: one as the file that is named, several beside it, each with its name, and a number if need be.

    Called from any thread but the receiver's and the GUI's; waits for the disk. Parameters as of `save`.
    """
    form = _format_of(path)
    stem = path.name[: -len(form)]
    of, before = sum(each.places for each in parts), 0
    results: list[Saved] = []
    named: set[str] = set()
    for number, each in enumerate(parts):
        wanted = name = f"{stem} {_fit(each.name, _MOST_BYTES_APART)}" if each.name and number else stem
        while name.lower() in named:  # which is the same file on some systems
            name = f"{wanted} ({len(named) + 1})"
        named.add(name.lower())

        def told_of_all(done: int, _of: int, before: int = before) -> None:
            told(before + done, of)

        results.append(save(each, path.with_name(name + form), told_of_all))
        before += each.places
    return Saved(
        tuple(path for each in results for path in each.paths),
        sum(each.planes for each in results),
        sum(each.missing for each in results),
        sum(each.forgotten for each in results),
        min((each.begin for each in results), default=0),
        next((each.instead for each in results if each.instead), ""),
    )


def _fit(name: str, nbytes: int) -> str:
    """Return a name that may be one of a file's, of so many bytes at most."""
    return UNFIT.sub("_", name).encode()[:nbytes].decode(errors="ignore")


def save(export: Export, path: Path, told: Callable[[int, int], None] = lambda done, of: None) -> Saved:
    """Write an export as OME-TIFF or OME-Zarr, under its name only when all of it is written.

    Parameters
    ----------
    export
        What to write.
    path
        The file, whose name ends with ``.ome.tiff`` or ``.ome.zarr``; one that is there is replaced. Whole numbers of
        64 bits, which OME-TIFF does not have, become OME-Zarr.
    told
        Called after each plane with how many of how many are done; it may raise `StoppedError`.

    Raises
    ------
    ValueError
        If the name ends otherwise.
    ImportError
        If what writes the format is not installed.
    OSError
        If it can't be written.
    """
    wanted = _format_of(path)
    form, instead = fitting(export, wanted), ""
    if form != wanted:
        path = path.with_name(path.name[: -len(wanted)] + form)
        instead = f"{FORMATS[form]}, as {FORMATS[wanted]} has no pixels of type {export.stack.dtype}"
        if path.exists():  # nobody has said that it may be replaced
            raise FileExistsError(f"{path.name} is there already, and it would be {instead}: choose another name")
    # The end of the name stays, by which the writers know the format.
    partial = path.with_name(f".{path.name[: -len(form)]}.partial{form}")
    if path.is_dir() and not (path / "zarr.json").exists():
        raise FileExistsError(f"{path} is a folder of something else, which is not replaced: choose another name")
    reader = PlaneReader(export, told)
    _remove(partial)
    try:
        write(export, partial, reader)
        _remove(path, only_folder=True)
        partial.replace(path)
    except BaseException as error:
        _remove(partial)
        if isinstance(error, OSError) and error.errno is None:
            # "1048576 requested and 1048408 written", of numpy: the system took less than it was given.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    return Saved((path,), reader.planes, export.gaps, reader.forgotten, export.indices.get("t", (0,))[0], instead)


def _format_of(path: Path) -> str:
    for form in FORMATS:
        if path.name.endswith(form):
            return form
    raise ValueError(f"{path.name} ends with neither {' nor '.join(FORMATS)}, by which the format is known")


def _remove(path: Path, *, only_folder: bool = False) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif not only_folder:
        path.unlink(missing_ok=True)
