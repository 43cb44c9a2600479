"""``scopecast pipe``: call a function with each live frame."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.live import Live
from rich.text import Text

from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.terminal import OnlyChannelOption, OnlyStreamOption, OnlyTitleOption, WaitOption, count
from scopecast.frames.annotations import KINDS
from scopecast.protocol import printable
from scopecast.subscribing.pipe import NamedFunction, Pipe
from scopecast.subscribing.subscription import subscribe

__all__ = ["pipe"]


def pipe(
    function: Annotated[
        str, typer.Argument(metavar="FUNCTION", help="file.py:function, or an import path, package.module:function.")
    ],
    title: OnlyTitleOption = "",
    stream: OnlyStreamOption = "",
    channel: OnlyChannelOption = None,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help=f"What the function returns: {', '.join(KINDS)}.")
    ] = "labels",
    name: Annotated[str, typer.Option(help="The layer's name in viewers; by default the function's.")] = "",
    every: Annotated[
        bool, typer.Option("--every", help="Every frame, one after the other, instead of the newest of each channel.")
    ] = False,
    wait: WaitOption = None,
) -> None:
    """Call a function with each live frame, and show what it returns on that frame. Stop with Ctrl-C.

    The function is called with a frame: frame.array is the image, frame.axes says where it belongs. What it returns is
    shown in every viewer of the stream; if it returns None, nothing is. An error that it raises is reported and
    counted, and the next frame is tried. When its file is saved, it is loaded again.
    """
    with values():
        if kind not in KINDS:
            msg = f"--kind {kind} is not known: use one of {', '.join(KINDS)}"
            raise ValueError(msg)
        named = NamedFunction(function)
        subscribed = subscribe(
            title=title,
            stream=stream,
            channels=channel or (),
            policy="every" if every else "latest",
            wait=wait,
            name=name or named.name,
        )
    running = Pipe(subscribed, named, kind, name or named.name)
    line = Live(console=err, refresh_per_second=4, transient=True, get_renderable=lambda: Text(_line(running)))
    try:
        with line as live, subscribed:
            out.print("Waiting for frames; stop with Ctrl-C.")
            for told in running.run():
                if told:
                    live.console.print(printable(told))
    finally:
        stats = subscribed.stats()
        failed = f"; {count(running.failed, 'frame')} failed" if running.failed else ""
        problem = f"; {subscribed.problem}" if subscribed.problem else ""
        out.print(
            f"Looked at {count(running.looked_at, 'frame')} ({running.rate:.1f}/s), {stats.superseded} superseded; "
            f"{stats.taken} of {stats.replies} replies taken{failed}{problem}."
        )
    if 0 < running.failed == running.looked_at:
        raise typer.Exit(1)


def _line(running: Pipe) -> str:
    frames = running.frames
    if not frames.sources:
        return printable(f"waiting for frames{f': {frames.problem}' if frames.problem else ''}")
    failed = f", {running.failed} failed" if running.failed else ""
    problem = f"; {frames.problem}" if frames.problem else ""
    return printable(
        f"{', '.join(frames.sources)}: {count(running.looked_at, 'frame')}{failed}, {running.rate:.1f}/s{problem}"
    )
