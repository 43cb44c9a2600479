"""``scopecast record``: files of what is live."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopecast.rundir.directory import Format

__all__ = ["FormatOption", "format_of", "record"]

_BYTES: Final[dict[str, float]] = {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_BYTES_2: Final = {f"{letter}iB": 2.0 ** (10 * power) for power, letter in enumerate("KMGT", 1)}
_LEAST_S: Final = 0.01
#: Of frames that wait for the disk: less would be one or two, and an acquisition would wait for each.
_LEAST_MEMORY: Final = 2**20
_LOOK_S: Final = 0.25
#: Titles that are named where none is that which was chosen.
_MOST_NAMES: Final = 5

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
        form = format_of(zarr)
        last_s = None if last is None else seconds("--last", last, _LEAST_S)
        room = None if memory is None else int(_size("--memory", memory, _LEAST_MEMORY))
        left = int(_size("--leave-free", leave_free))
        if last is not None and last.strip().replace(".", "").isdigit():
            last = f"{last.strip()}s"
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
    with _failing_if(lambda: recorder and (recorder.counts.lost or recorder.failed)), line as live:
        recorder = recording.Recorder(
            tap,
            folder,
            form,
            memory=history.default_budget() if room is None else room,
            leave_free=left,
            last_s=last_s,
            tell=out.print,
        )
        recorder.start()  # before anything is said of it
        try:
            with recorder:
                how = f"; press Enter to write the last {last}" if last else ""
                out.print(f"Recording to {printable(str(folder))}{how}; stop with Ctrl-C.")
                if (problem := recorder.problem()) and not last:
                    out.print(printable(f"Nothing can be written as it is: {problem}."))
                if last:
                    _listen(recorder.keep)
                while not recorder.wait(_LOOK_S):
                    live.refresh()
        finally:
            _summarize(recorder.counts, last)
            _tell_unwanted(tap, title, stream, channel or [])


@contextlib.contextmanager
def _failing_if(failed: Callable[[], Any]) -> Iterator[None]:
    """Exit with 1 if something was lost, also where the user or the system has stopped it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if not failed():
            raise
    if failed():
        raise typer.Exit(1)


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


def _tell_unwanted(tap: Any, title: str, stream: str, channels: list[str]) -> None:
    """Say what came and was not chosen where an option matches nothing: it may be misspelt."""
    if tap.stats().looked_at or not tap.unwanted:
        return
    columns = [sorted(set(column)) for column in zip(*tap.unwanted, strict=True)]
    options = ("--title", title), ("--stream", stream), ("--channel", " ".join(channels))
    for (option, wanted), names in zip(options, columns, strict=True):
        if wanted:
            came = ", ".join(names[:_MOST_NAMES]) + ", …" * (len(names) > _MOST_NAMES)
            out.print(printable(f"{option} is {wanted}; what came has {came}."))
    out.print(
        f"{count(tap.unwanted.total(), 'frame')} came that {'was' if tap.unwanted.total() == 1 else 'were'} not chosen."
    )


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


def format_of(zarr: bool) -> Format:
    """Return the end of the files' names; ValueError if what writes them is not installed."""
    needed = "ome_writers" if zarr else "tifffile"
    try:
        importlib.import_module(needed)
    except ImportError as error:
        extra = "zarr" if zarr else "files"
        msg = f"the files can't be written: {error}; pip install 'scopecast[{extra}]'"
        raise ValueError(msg) from error
    return ".ome.zarr" if zarr else ".ome.tiff"


def _size(option: str, text: str, least: float = 0) -> float:
    """Return a number of bytes.

    >>> _size("", "2gib")
    2147483648.0
    """
    return with_unit(text, {**_BYTES, **_BYTES_2}, f"{option} is a number of bytes, such as 500MB or 2GiB", least)
