"""``scopecast replay``: show a recording as if it were being acquired now."""

from __future__ import annotations

import math
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
    duration,
    report,
    say_notes,
    showing_for,
    variables_of,
)
from scopecast.protocol import printable
from scopecast.showing.replay import Recording, check_recording, parse_speed, play
from scopecast.showing.show import opened_viewer

__all__ = ["replay"]

_BEHIND_S = 0.2


def replay(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A recorded stack, a folder of images, or an NDTiff dataset.")
    ],
    speed: Annotated[
        str,
        typer.Option(metavar="1|N|max", help="1 is as recorded, 10 is ten times as fast, max is as fast as possible."),
    ] = "1",
    fps: Annotated[
        float | None, typer.Option(metavar="F", help="Frames per second, instead of the recorded times.")
    ] = None,
    loop: Annotated[bool, typer.Option("--loop", help="Start over at the end, until Ctrl-C.")] = False,
    axes: AxesOption = None,
    dims: DimsOption = None,
    pattern: PatternOption = None,
    viewer: ViewerOption = "napari",
    fiji: FijiOption = None,
    title: TitleOption = "",
    scale: ScaleOption = None,
    z_step: ZStepOption = None,
) -> None:
    """Show a recording as if it were being acquired now, each frame at its time. Stop with Ctrl-C.

    The times are those recorded in OME-TIFF, Micro-Manager (also metadata.txt) and NDTiff metadata, or ImageJ's frame
    interval; for single images without times, the dates of the files. As in an acquisition, nothing waits for the
    viewer: a frame that it cannot take in time is superseded by the next.
    """
    with values():
        variables = variables_of(viewer, fiji)
        pace = parse_speed(speed)
        check_recording(path, fps)
        showing_for(viewer, dims, pattern, title, scale, z_step, axes)
    recording = Recording(path, dims=dims, fps=fps)
    root, lone = recording.files[0].absolute().parent, len(recording.files) == 1
    showing = showing_for(viewer, dims, pattern, title, scale, z_step, axes, root=root, lone=lone, policy="latest")
    failed = [file for file, _ in recording.unreadable]
    for file, error in recording.unreadable:
        report(file, error, err)
    frames = 0
    behind = 0.0
    with (
        Live(Text(f"opening {viewer} …"), console=err, refresh_per_second=4, transient=True) as live,
        opened_viewer(viewer, variables),
        showing,
    ):
        pace_text = (
            "as fast as possible" if math.isinf(pace) else f"at {pace:g} times the recorded speed" if pace != 1 else ""
        )
        length = f", {duration(recording.seconds / pace)}" if math.isfinite(pace) else ""
        total = len(recording.moments)
        if not fps or math.isinf(pace):
            pace_text = pace_text or "at its own speed"
        out.print(
            f"Replaying {printable(str(path))} {pace_text}".rstrip()
            + f": {count(total, 'frame')}{length}. Times: {recording.source}.",
            soft_wrap=True,
        )

        def tell_failed(file: Path, error: Exception) -> None:
            failed.append(file)
            report(file, error, live.console)

        try:
            for played in play(recording, showing, speed=pace, loop=loop, failed=tell_failed):
                frames = played.frames
                behind = max(behind, played.behind_s)
                waits = f", next in {duration(played.wait_s)}" if played.wait_s >= 1 else ""
                late = f", {played.behind_s:.1f} s behind" if played.behind_s > _BEHIND_S else ""
                rounds = f", round {frames // total + 1}" if loop else ""
                done = frames % total if loop else frames
                live.update(Text(f"{done} of {count(total, 'frame')}{rounds}{waits}{late}"))
                say_notes(showing.notes, live.console)
            showing.finish()
        finally:
            live.update(Text(""))
            counts = showing.counts()
            fates = f", {counts.delivered} delivered, {counts.superseded + counts.dropped} superseded" if counts else ""
            late = f"; at most {behind:.1f} s behind: the files can't be read faster" if behind > _BEHIND_S else ""
            files = len(recording.files) + len(recording.unreadable)
            of_files = f" of {count(files - len(failed), 'file', of=files)}" if failed else ""
            told = count(frames, "frame", of=total)
            out.print(f"Replayed in {viewer}: {told}{of_files}{fates}{late}.")
    if failed:
        raise typer.Exit(1)
