"""``scopecast record``: files of what is live."""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.live import Live
from rich.text import Text

from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.terminal import OnlyChannelOption, OnlyStreamOption, OnlyTitleOption, WaitOption, count
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from scopecast.rundir.directory import Format

__all__ = ["FormatOption", "format_of", "record"]

_SECONDS: Final[dict[str, float]] = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600}
_BYTES: Final[dict[str, float]] = {"": 1, "B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}
_BYTES_2: Final = {f"{letter}iB": 2.0 ** (10 * power) for power, letter in enumerate("KMGT", 1)}
_LOOK_S: Final = 0.25

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
        last_s = None if last is None else _parse(last, _SECONDS, "--last is a time, such as 30s, 5m or 1h")
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


def _size(option: str, text: str) -> float:
    return _parse(text, {**_BYTES, **_BYTES_2}, f"{option} is a number of bytes, such as 500MB or 2GiB")


def _parse(text: str, units: dict[str, float], wanted: str) -> float:
    """Return a number with its unit.

    >>> _parse("5 min", _SECONDS, ""), _size("", "2GiB")
    (300.0, 2147483648.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *([A-Za-z]*)", text.strip())
    if found is None or found[2] not in units or not float(found[1]):
        msg = f"{wanted}; not {text}"
        raise ValueError(msg)
    return float(found[1]) * units[found[2]]
