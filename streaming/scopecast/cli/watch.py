"""``scopecast watch``: show the files that other software writes, as they arrive."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path  # noqa: TC003 - typer reads it
from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.terminal import (
    AxesOption,
    DimsOption,
    FijiOption,
    PatternOption,
    ScaleOption,
    TitleOption,
    ViewerOption,
    ZStepOption,
    count,
    report,
    say_notes,
    shorten,
    showing_for,
    variables_of,
)
from scopecast.errors import FileError, ScopecastError
from scopecast.protocol import printable
from scopecast.showing.show import opened_viewer
from scopecast.showing.watch import FolderWatch

__all__ = ["watch"]

_SHOWN = "shown"
_OTHERS = _GIVEN_UP, _INCOMPLETE, _GONE, _NOT_SHOWN = (
    "given up",
    "not complete",
    "removed before complete",
    "not shown by the viewer",
)


def watch(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder that the images are written to.")],
    axes: AxesOption = None,
    dims: DimsOption = None,
    pattern: PatternOption = None,
    glob: Annotated[
        str, typer.Option(metavar="GLOB", help="Only files whose names match, such as '*_processed.tif'.")
    ] = "*",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Include subfolders.")] = False,
    existing: Annotated[bool, typer.Option("--existing", help="Also show the files that are already there.")] = False,
    viewer: ViewerOption = "napari",
    fiji: FijiOption = None,
    title: TitleOption = "",
    scale: ScaleOption = None,
    z_step: ZStepOption = None,
    poll: Annotated[
        bool, typer.Option("--poll", help="Poll the folder: for network drives, where the system reports no changes.")
    ] = False,
) -> None:
    """Show the images that other software writes into a folder, as they arrive. Stop with Ctrl-C.

    A file (TIFF, PNG, JPEG, NPY) is shown as soon as it is complete, never before: no program is writing it any more,
    and it can be read to its end. If it stays incomplete, the planes that it has are shown after some tries. A file
    that is written again is shown again. Files whose names say where they belong (img_t003_c1.tif) become one stack;
    the others lie one after the other on a slider "file". The window stays open when this command ends.
    """
    with values():
        variables = variables_of(viewer, fiji)
        watched = FolderWatch(folder, pattern=glob, recursive=recursive, existing=existing, poll=poll)
        showing = showing_for(viewer, dims, pattern, title, scale, z_step, axes, root=watched.folder)
    named = printable(str(folder))
    became: dict[Path, str] = {}  # what became of each file at last, as the last line says it
    problem = ""
    with (
        Live(Text(f"opening {viewer} …"), console=err, refresh_per_second=4, transient=True) as live,
        opened_viewer(viewer, variables),
        showing,
    ):

        def show(path: Path, *, settled: bool = False) -> None:
            nonlocal problem
            try:
                showing.file(path, settled=settled)
                problem = ""
            except FileError:
                raise
            except ScopecastError as error:  # it is about the viewer: the next file may be shown
                if str(error) != problem:
                    problem = str(error)
                    report(path, error, live.console)

        newest = ""
        try:
            for number, news in enumerate(watched.run(show)):
                if not number:
                    out.print(f"Watching {named}; stop with Ctrl-C.")
                if news is not None:
                    if news.verdict == "shown":
                        became[news.path] = _SHOWN if not problem else _NOT_SHOWN
                        newest = shorten(news.path.name)
                        if not problem and not err.is_terminal:  # no line that changes tells of it
                            out.print(printable(f"shown: {news.path}"))
                    elif news.verdict == "incomplete":
                        became[news.path] = _INCOMPLETE
                        report(news.path, news.reason, live.console, "not complete yet, will be tried again")
                    else:  # who wrote it may have ended early: what is there is shown
                        became[news.path] = verdict = _GIVEN_UP
                        with contextlib.suppress(FileError):
                            show(news.path, settled=True)
                            verdict = "shown in part"
                            became[news.path] = _SHOWN if not problem else _NOT_SHOWN
                        report(news.path, news.reason, live.console, verdict)
                    say_notes(showing.notes, live.console)
                shown = count([*became.values()].count(_SHOWN), "file")
                waits = f", {watched.waiting} not complete yet" if watched.waiting else ""
                live.update(Text(f"{named}: {shown} shown{waits}{newest and '; newest: '}{newest}"))
        finally:
            live.update(Text(""))
            became = {**dict.fromkeys(watched.incomplete, _INCOMPLETE), **became}
            counts = Counter(
                _GONE if verdict == _INCOMPLETE and path not in watched.incomplete else verdict
                for path, verdict in became.items()
            )
            rest = "".join(f"; {count(counts[verdict], 'file')} {verdict}" for verdict in _OTHERS if counts[verdict])
            out.print(f"Shown in {viewer}: {count(counts[_SHOWN], 'file', of=len(became))} of {named}{rest}.")
