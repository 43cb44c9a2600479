"""The command line: what all commands share, and those without a module of their own."""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

import scopecast
from scopecast.cli.connect import connect
from scopecast.cli.console import err, out
from scopecast.cli.doctor import doctor
from scopecast.cli.errors import STDOUT, Commands, check_writable, print_json, values, write_json
from scopecast.cli.output import guard_streams
from scopecast.cli.pipe import pipe
from scopecast.cli.record import record
from scopecast.cli.recover import recover
from scopecast.cli.relay import relay
from scopecast.cli.replay import replay
from scopecast.cli.share import share
from scopecast.cli.show import show
from scopecast.cli.terminal import FijiOption, count, help_of, variables_of, viewer_kinds
from scopecast.cli.watch import watch
from scopecast.demo.demo import Demo, DemoError, Figures, Percentiles, prepare
from scopecast.demo.options import Options
from scopecast.errors import ScopecastError
from scopecast.memory.segment import own_bytes
from scopecast.protocol import ANY_KIND, printable, printable_lines
from scopecast.publishing.launch import WITHOUT_WINDOW
from scopecast.rundir.directory import ROLES, RunDirectory, display_names
from scopecast.showing.show import check_viewer, opened_viewer

if TYPE_CHECKING:
    from rich.console import Console

    from scopecast.publishing.accounts import Stats
    from scopecast.rundir.directory import Entry

__all__ = ["app", "main"]

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="The live view of microscopes and imaging pipelines.",
    epilog="New here? Try `scopecast demo`. Something is wrong? Run `scopecast doctor`.",
)


def main() -> None:
    """Run the command line."""
    guard_streams()
    try:
        app(prog_name="scopecast")
    finally:
        sys.stdout.flush()  # an error at interpreter exit could not be handled


def _say_version(wanted: bool) -> None:
    if wanted:
        out.print(f"scopecast {scopecast.__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the log, and errors with their tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Set up the log: each warning is a line above whatever is shown."""
    logger = logging.getLogger("scopecast")
    for handler in [handler for handler in logger.handlers if isinstance(handler, RichHandler)]:
        logger.removeHandler(handler)
    logger.addHandler(_LogHandler(console=err, show_path=False, show_time=debug, markup=False))
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False


class _LogHandler(RichHandler):
    """Shows log lines, which may quote what others wrote."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's text."""
        return printable_lines(super().format(record))

    def get_level_text(self, record: logging.LogRecord) -> Text:
        """Return a record's level; none if all is as it should be, and a warning only to be seen in any program."""
        return Text() if getattr(record, "notice", False) else super().get_level_text(record)


JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the figures as JSON; - is standard output.")
]


# ---- demo ------------------------------------------------------------------------------------------------------------


@app.command()
def demo(
    viewer: Annotated[
        str,
        typer.Option(
            metavar="KIND",
            autocompletion=lambda: [*viewer_kinds(), "both"],
            help="napari, fiji (ImageJ), both, or headless (no window).",
        ),
    ] = "napari",
    size: Annotated[str, typer.Option(metavar="N|WxH", help="Pixels of a frame.")] = "1536",
    timepoints: Annotated[int, typer.Option("--timepoints", "-t", help="Number of time points.")] = 12,
    channels: Annotated[
        str,
        typer.Option(
            "--channels", "-c", metavar="NAMES", help="Any of DAPI, FITC, Rhodamine, Cy5, separated by commas."
        ),
    ] = "DAPI,FITC,Rhodamine",
    z: Annotated[int, typer.Option("--z", "-z", help="Number of z planes.")] = 5,
    z_step: Annotated[float, typer.Option(help="Distance between z planes in µm.")] = 2.0,
    exposure: Annotated[float, typer.Option(help="Exposure in ms.")] = 15.0,
    interval: Annotated[float, typer.Option(help="Seconds from one time point to the next.")] = 1.0,
    keep: Annotated[
        bool | None,
        typer.Option(help="Leave the window open afterwards; the default on a real screen."),
    ] = None,
    screenshot: Annotated[Path | None, typer.Option(metavar="FILE", help="Save a picture of the window (PNG).")] = None,
    json_file: JsonFile = None,
    title: Annotated[str, typer.Option(help="The run's title in the viewer.")] = "demo",
    fiji: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|ENDPOINT",
            help="The folder of your Fiji, or an endpoint such as sc.fiji:fiji; default: plain ImageJ.",
        ),
    ] = None,
) -> None:
    """Show a simulated acquisition live: Micro-Manager's core runs a sequence, and a viewer shows its frames."""
    if fiji:
        os.environ["SCOPECAST_FIJI"] = fiji  # for the viewer that is started
    with values():
        if screenshot is not None and viewer == "headless":
            raise DemoError("a headless viewer has no window, so there can be no screenshot; leave out --screenshot")
        check_writable(screenshot, json_file)
        width, height = _parse_size(size)
        wanted = Options(
            viewer=viewer,
            width=width,
            height=height,
            timepoints=timepoints,
            channels=tuple(name.strip() for name in channels.split(",") if name.strip()),
            z=z,
            z_step=z_step,
            exposure=exposure,
            interval=interval,
            keep=keep,
            title=title,
        )
        wanted.check()
    say = err if json_file is not None and str(json_file) == STDOUT else out
    progress = _TerminalProgress()
    with progress, prepare(wanted, progress) as ready:
        figures = ready.run()
        progress.close()
        say.print(_figures_table(figures, wanted), soft_wrap=False)
        if json_file is not None:
            write_json(json_file, figures.as_json())
        if screenshot is not None:
            for saved in ready.capture(screenshot):
                say.print(f"The window is saved as {saved}.")
        _keep_window(ready, say)


def _keep_window(ready: Demo, say: Console) -> None:
    """Leave the window open; on a virtual screen, which ends with this process, wait until it is closed."""
    if not ready.stays or ready.options.viewer == "headless":
        return
    if ready.screen_is_virtual:
        say.print("The window stays on the virtual screen until it is closed, or Ctrl-C is pressed.")
        ready.wait_until_closed()
    else:
        say.print("The window stays, with its frames to scroll through, until you close it.")


def _parse_size(text: str) -> tuple[int, int]:
    """Return width and height.

    >>> _parse_size("512"), _parse_size("640x480")
    ((512, 512), (640, 480))
    """
    width, _, height = text.lower().partition("x")
    if not width.isdecimal() or not (height.isdecimal() or width == text):
        raise DemoError(f"--size {text!r} is not a size; write 2048 or 640x480 (width x height)")
    return int(width), int(height or width)


class _TerminalProgress:
    """Shows the demo's progress on the terminal: the current step, and a bar while frames are acquired."""

    def __init__(self) -> None:
        self._line = Spinner("dots", "")
        self._bar = Progress(
            TextColumn("acquiring"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("frames"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[about]}", style="dim", markup=False),
            console=err,
        )
        self._task = self._bar.add_task("", total=None, about="", visible=False)
        self._began = self._rate = 0.0
        self._live = Live(Group(self._line), console=err, refresh_per_second=10)

    def doing(self, what: str) -> None:
        """Show what begins."""
        self._line.update(text=Text(f"{what} …"))
        self._live.update(Group(self._bar, self._line) if self._began else Group(self._line))

    def progress(self, done: int, total: int, stats: Stats) -> None:
        """Move the bar."""
        if not self._began:
            self._began = time.monotonic()
            self._bar.reset(self._task, total=total, visible=True)
            self._live.update(self._bar)
        if not self._bar.finished:
            self._rate = done / max(time.monotonic() - self._began, 0.1)
        about = f"{self._rate:.0f}/s"
        if attached := [row for row in stats.receivers if row.attached and row.kind != ANY_KIND]:
            about += f"  delivered {attached[0].frames.delivered}  painted {attached[0].painted}"
        self._bar.update(self._task, completed=done, about=about)

    def close(self) -> None:
        """Show the bar as it is at the end, without the line."""
        if self._live.is_started:
            self._live.update(self._bar if self._began else Text(""))
            self._live.stop()
            if self._began and not err.is_terminal:
                err.line()  # rich leaves a log's last line open

    def __enter__(self) -> None:
        self._live.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def _figures_table(figures: Figures, wanted: Options) -> Table:
    """Return what the demo measured as a table."""
    table = Table(
        title=f"{wanted.frames} frames of {wanted.width}x{wanted.height} uint16 in {figures.seconds:.1f} s "
        f"({figures.fps:.1f}/s)",
        title_justify="left",
        show_header=False,
    )
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    skipped = ", ".join(f"{reason}: {count}" for reason, count in figures.skipped_because.items())
    table.add_row("published", str(figures.published), "frames given to publish()")
    table.add_row("  delivered", str(figures.delivered), "in the viewer")
    table.add_row("  superseded", str(figures.superseded), "a newer frame took their place")
    table.add_row("  dropped", str(figures.dropped), "no free slot, or the viewer died")
    table.add_row("  skipped", str(figures.skipped), skipped or "never sent")
    if figures.in_flight:
        table.add_row("  in flight", str(figures.in_flight), "not accounted for yet")
    if wanted.viewer != "headless":
        table.add_row("painted", str(figures.painted), "drawn on the screen")
    table.add_section()
    table.add_row("publish()", _milliseconds(figures.publish_ms), "p50 / p99, time taken from the acquisition")
    table.add_row("memcpy", _milliseconds(figures.memcpy_ms), "p50 / p99, a plain copy at this rate")
    if figures.painted:
        table.add_row("age when painted", _milliseconds(figures.age_ms), "p50 / p99, since publish()")
    return table


def _milliseconds(value: Percentiles) -> str:
    return f"{value.p50:.2f} / {value.p99:.2f} ms"


# ---- commands of their own modules ----------------------------------------------------------------------------------

for _command in (show, watch, replay, pipe, record, recover, relay, connect, share):
    app.command(help=help_of(_command))(_command)


# ---- the run directory -----------------------------------------------------------------------------------------------


@app.command()
def viewers(as_json: JsonFlag = False) -> None:
    """List the viewers, publishers, subscribers, recorders and relays that are running."""
    entries = RunDirectory().living()
    names = display_names(entries)
    if as_json:
        print_json([_describe(entry) | {"name": names[entry.token]} for entry in entries])
        return
    if not entries:
        out.print("Nothing is running: no viewer, no publisher, no subscriber, no recorder, no relay.")
        return
    table = Table()
    for name in ("role", "kind", "title", "state", "process", "since", "shared memory"):
        table.add_column(name, justify="right" if name in ("process", "shared memory") else "left")
    for entry in entries:
        started = time.localtime(entry.created)
        since = time.strftime("%X" if started[:3] == time.localtime()[:3] else "%x %X", started)
        memory = f"{_segment_bytes(entry) / 2**20:.0f} MiB" if entry.segments else ""
        kind = "any" if entry.kind == ANY_KIND else entry.kind
        table.add_row(ROLES[entry.role], kind, names[entry.token], entry.state, str(entry.pid), since, memory)
    out.print(table, soft_wrap=False)


def _describe(entry: Entry) -> dict[str, Any]:
    names = ("token", "role", "kind", "title", "host", "pid", "created", "state", "endpoint", "segments")
    return {**{name: getattr(entry, name) for name in names}, "segment_bytes": _segment_bytes(entry)}


def _segment_bytes(entry: Entry) -> int:
    return sum(own_bytes(name) or 0 for name in entry.segments)


@app.command("open")
def open_viewer(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", autocompletion=viewer_kinds, help="The viewer: napari or fiji (ImageJ).")
    ] = "napari",
    fiji: FijiOption = None,
) -> None:
    """Open a viewer: it shows whatever acquisitions publish, including those already running.

    If one is already open, no other is started, and a line says so. The window stays open until you close it.
    """
    with values():
        if kind in WITHOUT_WINDOW:
            raise ScopecastError("a headless viewer has no window to open; use napari or fiji")
        check_viewer(kind)
        variables = variables_of(kind, fiji)
    running = [entry for entry in RunDirectory().living("receiver", kind) if entry.state == "ready"]
    with err.status(Text(f"opening {kind} …")), opened_viewer(kind, variables):
        pass
    out.print(f"{kind} is already open." if running else f"{kind} is open.")


@app.command()
def clean(
    everything: Annotated[bool, typer.Option("--all", help="Also remove the last frames of acquisitions.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove leftovers of crashed programs and viewers: shared memory, sockets, files.

    The last frames of an acquisition that was killed, which no viewer has, are kept for ten minutes, if memory is left.
    """
    cleaned = RunDirectory().clean(everything=everything)
    if as_json:
        kept = [_describe(each.entry) | {"until": each.until} for each in cleaned.kept]
        print_json(cleaned._asdict() | {"kept": kept})
        return
    for leftover in cleaned.kept:
        out.print(printable(f"Not removed: {leftover}, 'scopecast clean --all' removes them."))
    if not cleaned.members and not cleaned.segments:
        out.print(f"There was nothing {'else ' * bool(cleaned.kept)}to clean up.")
        return
    out.print(
        f"Removed the leftovers of {count(len(cleaned.members), 'crashed program')}: {', '.join(cleaned.members)}"
    )
    for name in cleaned.segments:
        out.print(f"  shared memory {name}")
    out.print(f"Freed {cleaned.bytes / 2**20:.0f} MiB of shared memory.")


app.command()(doctor)


# ---- bench -----------------------------------------------------------------------------------------------------------


@app.command()
def bench(json_file: JsonFile = None) -> None:
    """Measure what importing and publishing cost on this machine, and how fast frames arrive; takes about a minute."""
    from scopecast.cli import bench as benchmark

    with values():
        check_writable(json_file)
    benchmark.run(json_file)
