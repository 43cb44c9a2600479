"""``scopecast recover``: files of what a killed acquisition, or a killed recorder, has left."""

from __future__ import annotations

import errno
import importlib
import time
from contextlib import contextmanager, suppress
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.text import Text

from scopecast.cli.console import err, out
from scopecast.cli.errors import text_of, values
from scopecast.cli.record import FormatOption, format_of
from scopecast.protocol import printable
from scopecast.rundir.directory import Rescue, RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.rundir.directory import Entry, Format, Leftover

__all__ = ["recover"]

_LOOK_S: Final = 0.25
#: A viewer takes what it is asked for at its next look into the run directory, every 0.2 s.
_ANSWER_S: Final = 10.0
#: While it writes, it says so every second; one plane may take a while on a slow disk.
_WORK_S: Final = 60.0
#: The name of the lock that who recovers holds.
_ALONE: Final = "recover"


def recover(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder that a recorder wrote to, or that the files go to.")
    ],
    to: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the files go, such as on another disk; default: OUT.")
    ] = None,
    zarr: FormatOption = False,
) -> None:
    """Make files of what is left of an acquisition, or of a recorder, that was killed.

    That is: the recordings in OUT whose recorder was killed or ran out of disk; what open viewers have of acquisitions
    that crashed or were killed; and, if no viewer has them, the last frames of those, which stay in shared memory for
    ten minutes.
    """
    directory = RunDirectory()
    with values():
        form = format_of(zarr)
    is_there = folder.is_dir()
    found = _Found()
    with _alone(directory, to or folder) as other:
        _finish_journals(folder, to, form, found)
        viewers, leftovers = directory.living("receiver"), directory.leftovers()
        seen: dict[str, bool] = {}
        for viewer in viewers:
            written, tokens = _ask_viewer(directory, viewer, to or folder, form, found)
            seen |= {token: written or seen.get(token, False) for token in tokens}
        for leftover in leftovers:
            with directory.hold(leftover.entry.token) as held:
                token = leftover.entry.token
                if held and (seen[token] if token in seen else _write_leftover(leftover, to or folder, form, found)):
                    directory.bury(token)
    if not found.written and not found.problems:
        why = f": what there was is in {other}" if other else ""
        if not (is_there or other):
            why = f": there is no folder {folder}, and nothing is left of a program that has crashed"
        out.print(printable(f"There was nothing {'else ' * bool(other)}to recover{why}."))
    if found.problems:
        raise typer.Exit(1)


@contextmanager
def _alone(directory: RunDirectory, folder: Path) -> Iterator[str]:
    """Be the only one of this user who recovers; wait for another, and yield where that one has written to."""
    other, where = "", directory.file(_ALONE, "txt")
    with values():
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        with directory.hold(_ALONE) as held:
            if held:
                where.write_text(str(folder.resolve()))
                try:
                    yield other
                finally:
                    where.unlink(missing_ok=True)
                    if is_new:
                        with suppress(OSError):  # there are files in it
                            folder.rmdir()
                break
        with suppress(OSError):  # it has just come, or gone
            before, other = other, where.read_text()
            if other != before:
                text = f"Another `scopecast recover` is writing files to {other}: waiting until it is done."
                out.print(printable(text))
        time.sleep(_LOOK_S)


class _Found:
    """What has been recovered; told at once."""

    def __init__(self) -> None:
        self.written = self.problems = 0

    def tell(self, text: str) -> None:
        self.written += 1
        out.print(printable(text))

    def fail(self, text: str) -> None:
        self.problems += 1
        err.print(printable(text))


def _finish_journals(folder: Path, to: Path | None, form: Format, found: _Found) -> None:
    assembly = importlib.import_module("scopecast_viewers.recording.assembly")
    journal = importlib.import_module("scopecast_viewers.recording.journal")
    for each in journal.unfinished(folder):
        with err.status(Text(printable(f"recovering {each.name} …"))):
            try:
                written = assembly.finish(each, form, to)
            except (ValueError, OSError, ImportError) as error:
                found.fail(f"{each.name} stays as it is: {_why(error)}")
                continue
        found.tell(f"{each.name}: no frame was in it" if written is None else f"Recovered {written}")


def _ask_viewer(
    directory: RunDirectory, viewer: Entry, folder: Path, form: Format, found: _Found
) -> tuple[bool, list[str]]:
    """Have a viewer write what it has of programs that were killed; return whether it has, and the tokens of those."""
    name = viewer.title or viewer.kind
    asked = Rescue(str(folder.resolve()), form, new_token())
    directory.ask_to_rescue(viewer.token, asked)
    worked, since = 0, time.monotonic()
    with err.status(Text(printable(f"recovering what {name} has …"))):
        while (rescued := directory.rescued(viewer.token, asked.name)) is None:
            if (now := directory.worked_on_rescue(viewer.token)) != worked:
                worked, since = now, time.monotonic()
            gone = not directory.alive(viewer.token)
            if gone or time.monotonic() - since > (_WORK_S if worked else _ANSWER_S):
                directory.asked_to_rescue(viewer.token)  # nobody waits for it any more
                found.fail(f"{name} {'has ended' if gone else 'does not answer'}: what it has can't be recovered")
                return False, []
            time.sleep(_LOOK_S)
    for text in rescued.written:
        found.tell(f"Recovered from {name}: {text}")
    for text in rescued.problems:
        found.fail(f"{name} could not write it: {text}")
    return not rescued.problems, rescued.publishers


def _write_leftover(leftover: Leftover, folder: Path, form: Format, found: _Found) -> bool:
    """Write the last frames of a program that was killed; return whether all of them could be."""
    remains = importlib.import_module("scopecast_viewers.recording.remains")
    name = leftover.entry.title or leftover.entry.kind
    with err.status(Text(printable(f"recovering the last frames of {name} …"))):
        try:
            for written in remains.write_ring(leftover, folder, form):
                found.tell(f"Recovered the last frames of {name}: {written}")
        except (ValueError, OSError, ImportError) as error:
            found.fail(f"the last frames of {name} stay in memory: {_why(error)}")
            return False
    return True


def _why(error: Exception) -> str:
    """Return what is wrong, and what helps where a disk is full."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error.strerror}; --to FOLDER writes the files to another disk"
    return text_of(error)
