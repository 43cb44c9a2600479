"""``scopecast record`` and ``scopecast recover``: files of what is live."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import time
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live
from rich.text import Text

from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.terminal import (
    OnlyChannelOption,
    OnlyStreamOption,
    OnlyTitleOption,
    WaitOption,
    count,
    seconds,
    with_unit,
)
from scopecast.protocol import printable
from scopecast.rundir.directory import Format, Rescue, RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.rundir.directory import Entry, Leftover

__all__ = ["record", "recover"]

_BYTES: Final[dict[str, float]] = {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_BYTES_2: Final = {f"{letter}iB": 2.0 ** (10 * power) for power, letter in enumerate("KMGT", 1)}
_LOOK_S: Final = 0.25
#: A viewer takes what it is asked for at its next look into the run directory, every 0.2 s.
_ANSWER_S: Final = 10.0

FormatOption = Annotated[
    bool, typer.Option("--zarr", help=r"Write OME-Zarr (pip install 'scopecast\[zarr]') instead of OME-TIFF.")
]


def record(
    folder: Annotated[
        Path, typer.Argument(metavar="OUT", help="The folder that the files go to; created if it does not exist.")
    ],
    last: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Keep the last 30s, 5m, … in memory, and write them when asked to."),
    ] = None,
    title: OnlyTitleOption = "",
    stream: OnlyStreamOption = "",
    channel: OnlyChannelOption = None,
    zarr: FormatOption = False,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory for frames that wait for the disk, or for the last seconds; by default 2GiB, or a quarter of "
            "the RAM if that is less.",
        ),
    ] = None,
    leave_free: Annotated[
        str, typer.Option(metavar="SIZE", help="Leave so much of the disk to others, such as the acquisition.")
    ] = "1GB",
    wait: WaitOption = None,
) -> None:
    """Write what is live to files, each run to one of its own. Stop with Ctrl-C.

    Every image and all labels that are published are recorded, whichever viewer they are for. An acquisition that
    publishes with policy="every" waits for the recorder if the disk is slow, so that nothing is lost; one of "latest"
    does not; missing frames are reported. A file is there when its run is over. Should the recorder be killed,
    `scopecast recover OUT` makes files of what it has recorded.

    With --last nothing is written until you press Enter, a program calls live.keep(), or the acquisition crashes.
    """
    with values():
        form = _form(zarr)
        last_s = None if last is None else seconds("--last", last)
        room = None if memory is None else int(_size("--memory", memory))
        left = int(_size("--leave-free", leave_free))
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            msg = f"you have no permission to write into {folder}: name another folder"
            raise ValueError(msg)
    # By its name, as the viewers are: nothing of the acquisition's side imports them.
    recording = importlib.import_module("scopecast_viewers.recording.recorder")
    taps = importlib.import_module("scopecast_viewers.recording.tap")
    history = importlib.import_module("scopecast_viewers.stacks.history")
    tap = taps.Tap(title=title, stream=stream, channels=channel or (), wait=wait, name=folder.name, keeps=last or "")
    _tell_of_unfinished(folder)
    recorder: Any = None
    line = Live(console=err, refresh_per_second=4, transient=True, get_renderable=lambda: Text(_line(tap, recorder)))
    with line as live:
        recorder = recording.Recorder(
            tap,
            folder,
            form,
            memory=history.default_budget() if room is None else room,
            leave_free=left,
            last_s=last_s,
            tell=lambda text: out.print(printable(text)),
        )
        try:
            with recorder:
                how = f"; press Enter to write the last {last}" if last else ""
                out.print(f"Recording to {printable(str(folder))}{how}; stop with Ctrl-C.")
                if last:
                    _listen(recorder.keep)
                while not recorder.wait(_LOOK_S):
                    live.refresh()
        finally:
            _summarize(recorder.counts, last)


def _tell_of_unfinished(folder: Path) -> None:
    journal = importlib.import_module("scopecast_viewers.recording.journal")
    if left := journal.unfinished(folder):
        how = f"`scopecast recover {printable(str(folder))}` makes files."
        out.print(f"{count(len(left), 'recording')} of a recorder that was killed: {how}")


def _summarize(counts: Any, last: str | None) -> None:
    missed = f"; {counts.missed} were published but did not arrive" if counts.missed else ""
    if last:
        out.print(f"{count(counts.taken, 'frame')} came{missed}.")
        return
    lost = f"; {counts.lost} could not be written" if counts.lost else ""
    out.print(f"{count(counts.written, 'frame', of=counts.taken)} recorded{lost}{missed}.")


def _listen(keep: Callable[[], None]) -> None:
    """Call a function whenever Enter is pressed, as long as this process may read from its terminal."""
    if sys.stdin is None or sys.stdin.closed:
        return
    descriptor = sys.stdin.fileno()
    if sys.platform != "win32" and os.isatty(descriptor) and os.tcgetpgrp(descriptor) != os.getpgrp():
        return  # in the background, reading would stop it

    def read() -> None:
        # Not by sys.stdin, whose lock a thread that waits for a line would hold when Python ends.
        while got := os.read(descriptor, 1024):
            for _ in range(got.count(b"\n")):
                keep()

    threading.Thread(target=read, name="scopecast-keys", daemon=True).start()


def _line(tap: Any, recorder: Any) -> str:
    if recorder is None or not tap.sources:
        return printable(f"waiting for frames{f': {tap.problem}' if tap.problem else ''}")
    counts = recorder.counts
    parts = [f"{count(counts.waiting, 'frame')} in memory", f"{counts.written} on the disk" * bool(counts.written)]
    parts += [f"{counts.lost} could not be written" * bool(counts.lost), tap.problem]
    return printable(f"{', '.join(tap.sources)}: {', '.join(filter(None, parts))}")


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
        form = _form(zarr)
        viewers, leftovers = directory.living("receiver"), directory.leftovers()
        if not folder.is_dir() and not viewers and not leftovers:
            msg = f"there is no folder {folder}: name the one that `scopecast record` was given"
            raise ValueError(msg)
        target = to or folder
        target.mkdir(parents=True, exist_ok=True)
    found = _Found()
    _finish_journals(folder, to, form, found)
    seen: dict[str, bool] = {}
    for viewer in viewers:
        written, tokens = _ask_viewer(directory, viewer, target, form, found)
        seen |= {token: written or seen.get(token, False) for token in tokens}
    for leftover in leftovers:
        with directory.hold(leftover.entry.token) as held:
            token = leftover.entry.token
            if held and (seen[token] if token in seen else _write_leftover(leftover, target, form, found)):
                directory.bury(token)
    if not found.written and not found.problems:
        out.print("There was nothing to recover.")
    if found.problems:
        raise typer.Exit(1)


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
                found.fail(f"{each.name} stays as it is: {error}")
                continue
        found.tell(f"{each.name}: no frame was in it" if written is None else f"Recovered {written}")


def _ask_viewer(
    directory: RunDirectory, viewer: Entry, folder: Path, form: Format, found: _Found
) -> tuple[bool, list[str]]:
    """Have a viewer write what it has of programs that were killed; return whether it has, and the tokens of those."""
    name = viewer.title or viewer.kind
    directory.ask_to_rescue(viewer.token, Rescue(str(folder.resolve()), form))
    asked = time.monotonic()
    with err.status(Text(printable(f"recovering what {name} has …"))):
        while (rescued := directory.rescued(viewer.token)) is None:
            taken = not directory.file(viewer.token, "rescue").exists()
            if not directory.alive(viewer.token) or not (taken or time.monotonic() < asked + _ANSWER_S):
                if directory.asked_to_rescue(viewer.token) is not None:
                    found.fail(f"{name} does not answer: what it has can't be recovered")
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
            found.fail(f"the last frames of {name} stay in memory: {error}")
            return False
    return True


def _form(zarr: bool) -> Format:
    needed = "ome_writers" if zarr else "tifffile"
    try:
        importlib.import_module(needed)
    except ImportError as error:
        extra = "zarr" if zarr else "files"
        msg = f"the files can't be written: {error}; pip install 'scopecast[{extra}]'"
        raise ValueError(msg) from error
    return ".ome.zarr" if zarr else ".ome.tiff"


def _size(option: str, text: str) -> float:
    """Return a number of bytes.

    >>> _size("", "2GiB")
    2147483648.0
    """
    return with_unit(text, {**_BYTES, **_BYTES_2}, f"{option} is a number of bytes, such as 500MB or 2GiB")
