"""``scopecast relay``: let other machines watch what is published on this one."""

from __future__ import annotations

import importlib
import itertools
import platform
import sys
from typing import Annotated

import filelock
import typer
from rich.table import Table

from scopecast.cli.alone import alone
from scopecast.cli.console import out, wide
from scopecast.cli.errors import print_json, values
from scopecast.cli.terminal import duration, seconds
from scopecast.errors import ScopecastError
from scopecast.remote import messages, stdio
from scopecast.remote.asking import ask
from scopecast.remote.codec import check_available
from scopecast.remote.command import Command, command_for
from scopecast.remote.dial import Dial
from scopecast.rundir.directory import RunDirectory, new_token

__all__ = ["STARTED_ENDS", "WIDTH", "check_codecs", "relay"]

#: A relay that is started for a desk stays so long without desks and publishers.
STARTED_ENDS = "10m"
#: Columns of a table in a file.
WIDTH = 200


def relay(
    carried: Annotated[
        bool, typer.Option("--stdio", help="Connect standard input and output with the relay: for `scopecast connect`.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List who watches, and what each has got.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: print JSON.")] = False,
    end_after: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="End after so long without a program that publishes and anybody who watches."
        ),
    ] = None,
    to: Annotated[
        str,
        typer.Option("--to", metavar="HOST", help="Dial out, and show there what is published here; HOST as for ssh."),
    ] = "",
    viewer: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help="With --to: the viewer there (napari); may be given several times."),
    ] = None,
    every: Annotated[
        bool, typer.Option("--every", help="With --to: every frame, exact, instead of the newest.")
    ] = False,
    name: Annotated[str, typer.Option(metavar="NAME", help="With --to: what this machine is called there.")] = "",
    ssh: Annotated[str, typer.Option(metavar="PROGRAM", help="With --to: ssh with its options.")] = "ssh",
    command: Annotated[
        str, typer.Option(metavar="PATH", help="With --to: how scopecast is started there, if not by its name.")
    ] = "scopecast",
    started: Annotated[bool, typer.Option("--started", hidden=True)] = False,
) -> None:
    """Let other machines watch what is published on this one. Stop with Ctrl-C.

    There is no need to start it: `scopecast connect` on the other machine does so through ssh. It takes each frame from
    the acquisition once, whoever watches, and keeps the last ones in memory. It opens no port: who can log in as you
    can watch. From a machine that nobody can log in to (the node of a cluster, a container), `--to HOST` goes the
    other way.
    """
    with values():
        idle_s = None if end_after is None else seconds("--end-after", end_after)
        called = name or platform.node().partition(".")[0] or "node"
        if to:
            arguments = ["connect", "--stdio", new_token()]
            arguments += ["--every"] * every + [word for kind in viewer or () for word in ("--viewer", kind)]
            line = command_for(to, [*arguments, "--", called], ssh=ssh, command=command)
    if listed:
        _list(as_json)
    elif to:
        check_codecs()
        way = Command(line, to.rpartition("@")[2])
        other = f"another `scopecast relay --to {to}` shows there already what is published here: stop that one first"
        with alone(f"to-{to}", other):
            dial = Dial(way, end_after_s=idle_s, end_after=end_after or STARTED_ENDS, tell=out.print)
            dial.run()
            if dial.lost:
                raise typer.Exit(1)
    elif carried:
        reading, writing = stdio.binary_stdio()
        stdio.carry(reading, writing, end_after or STARTED_ENDS)
    else:
        _run(idle_s, quiet=started)


def _run(end_after_s: float | None, *, quiet: bool) -> None:
    relaying = importlib.import_module("scopecast_viewers.relaying.relay")
    history = importlib.import_module("scopecast_viewers.stacks.history")
    receiver = importlib.import_module("scopecast_viewers.receiver")
    check_codecs()
    lock = RunDirectory().launch_lock("relay")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        if not quiet:
            raise ScopecastError("a relay is already running: `scopecast relay --list` says who watches") from None
        return
    try:
        sys.setswitchinterval(receiver.SWITCH_INTERVAL_S)
        with relaying.Relay(history.history_from_environment(), end_after_s=end_after_s) as running:
            if not quiet:
                out.print("Other machines can watch: `scopecast connect` and the name of this one. Stop with Ctrl-C.")
            running.run()
    finally:
        lock.release()


def check_codecs() -> None:
    """Raise a ScopecastError, which says how to install it, if a codec is missing."""
    try:
        check_available()
    except ImportError as error:
        raise ScopecastError(str(error)) from error


def _list(as_json: bool) -> None:
    listed = ask(RunDirectory())
    # A relay of before does not say since when.
    desks = list(itertools.zip_longest(listed.desks, listed.seconds[: len(listed.desks)]))
    if as_json:
        names = messages.DeskAccount.__struct_fields__
        print_json(
            [
                {
                    "title": title,
                    "state": state,
                    "seconds": since,
                    "quality": quality,
                    **{name: getattr(account, name) for name in names},
                }
                for (title, state, quality, account), since in desks
            ]
        )
        return
    if not desks:
        out.print("Nobody watches.")
        return
    table = Table()
    names = ("desk", "state", "quality", "frames", "exact", "preview", "superseded", "refused", "on the way")
    for name in names:
        table.add_column(name, justify="left" if name in ("desk", "state", "quality") else "right")
    for (title, state, quality, a), since in desks:
        state += "" if since is None else f", {duration(since)}"
        numbers = (a.came, a.exact, a.preview, a.superseded, a.refused, a.waiting + a.sending)
        table.add_row(title or "a desk", state, quality, *map(str, numbers))
    wide(WIDTH).print(table)
