"""``scopecast connect``: watch what is published on another machine."""

from __future__ import annotations

import contextlib
import getpass
import platform
import threading
from typing import Annotated, Final

import msgspec
import typer
from rich.live import Live
from rich.text import Text

from scopecast.cli.alone import alone
from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.relay import check_codecs
from scopecast.cli.terminal import FijiOption, count, variables_of, viewer_kinds
from scopecast.errors import ScopecastError
from scopecast.protocol import Token, printable
from scopecast.remote import stdio
from scopecast.remote.command import Command, command_for
from scopecast.remote.connection import Connection
from scopecast.remote.dialled import DialledIn, carry_to_desk
from scopecast.remote.invitation import is_link, parse
from scopecast.remote.visit import Visit
from scopecast.showing.show import check_viewer

__all__ = ["connect"]

#: Seconds that viewers here have at the end for the last frames.
_LINGER_S: Final = 2.0


def _token(value: str) -> str:
    if value:
        try:
            msgspec.convert(value, Token)
        except msgspec.ValidationError as error:
            raise typer.BadParameter(str(error)) from error
    return value


def connect(
    host: Annotated[
        str,
        typer.Argument(
            metavar="HOST|LINK",
            help="The other machine, as ssh takes it: a name, or user@name; or a link of `scopecast share`.",
        ),
    ],
    viewer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            autocompletion=viewer_kinds,
            help="The viewer: napari (the default), fiji (ImageJ), headless (no window); may be given several times.",
        ),
    ] = None,
    fiji: FijiOption = None,
    open_window: Annotated[bool, typer.Option("--open/--no-open", help="Open the viewer if it is not running.")] = True,
    every: Annotated[
        bool, typer.Option("--every", help="Every frame, exact, one after the other, instead of the newest.")
    ] = False,
    ssh: Annotated[str, typer.Option(metavar="PROGRAM", help="ssh with its options, such as 'ssh -p 2222'.")] = "ssh",
    command: Annotated[
        str, typer.Option(metavar="PATH", help="How scopecast is started there, if not by its name.")
    ] = "scopecast",
    end_after: Annotated[str, typer.Option(hidden=True)] = "",
    carried: Annotated[str, typer.Option("--stdio", hidden=True, callback=_token)] = "",
    dialled: Annotated[str, typer.Option(hidden=True, callback=_token)] = "",
) -> None:
    """Show here what is published on another machine, in napari, Fiji, and programs that subscribe. Stop with Ctrl-C.

    ssh connects, with its configuration, keys and jump hosts; scopecast must be installed there, too, and no port has
    to be open. The other machine's acquisition pays for one more receiver, whoever watches. If the connection breaks it
    is tried again until you stop this command.

    With a link there is no ssh, and no need for an account there. It is used once; from then on scopecast://HOST:PORT
    is enough on this account.
    """
    if carried:  # this is at the end of an ssh that another machine has started
        reading, writing = stdio.binary_stdio()
        given = [word for kind in viewer or () for word in ("--viewer", kind)]
        given += ["--every"] * every + ["--no-open"]  # nobody who logs in by ssh has a screen
        carry_to_desk(reading, writing, carried, ["connect", *given, "--dialled", carried, "--", host])
        return
    with values():
        kinds = list(dict.fromkeys(viewer or ["napari"]))
        for kind in kinds:
            check_viewer(kind)
        variables = variables_of("fiji" if "fiji" in kinds else kinds[0], fiji)
        check_codecs()
        more = ["--end-after", end_after] if end_after else []
        if every and is_link(host):
            raise ScopecastError("--every can make the acquisition wait for you, and is not for guests: leave it out")
        visit = Visit(parse(host)) if is_link(host) else None
        line = command_for(host, ["relay", "--stdio", *more], ssh=ssh, command=command) if visit is None else []
    place = host.rpartition("@")[2] if visit is None else visit.address.host
    way = visit or (DialledIn(dialled, place) if dialled else Command(line, place))
    connection = Connection(
        way,
        place,
        kinds,
        launch=open_window,
        every=every,
        title=f"{getpass.getuser()}@{platform.node()}: {', '.join(kinds)}",
        options={"environment": variables, "linger": _LINGER_S},
        tell=out.print,
    )
    # The terminal is ssh's until it is connected: it may ask for a password.
    shown = Live(console=err, refresh_per_second=4, transient=True, get_renderable=lambda: Text(_line(connection)))
    beat = threading.Event()

    def show() -> None:
        while not beat.wait(0.25):
            if connection.state == "connected" and not shown.is_started:
                shown.start()
            elif connection.state == "connecting" and shown.is_started:
                shown.stop()

    showing = threading.Thread(target=show, name="scopecast-status", daemon=True)
    showing.start()
    try:
        address = place if visit is None else str(visit.address)
        with contextlib.ExitStack() as stack:
            for kind in kinds if not dialled else ():  # all would come twice
                other = f"another `scopecast connect` shows {address} in {kind} already: stop that one first"
                stack.enter_context(alone(f"{kind}-{address}", other))
            stack.enter_context(contextlib.closing(way))
            stack.enter_context(connection)
            connection.run()
    finally:
        beat.set()
        showing.join()
        shown.stop()
        _summarize(connection)


def _summarize(connection: Connection) -> None:
    account = connection.account
    if account.came:
        rest = f", {account.preview} as previews" if account.preview else ""
        out.print(f"{count(account.came, 'frame')} came there; {account.exact} are here exact{rest}.")


def _line(connection: Connection) -> str:
    if connection.state != "connected":
        return printable(connection.problem or "connecting")
    account = connection.account
    titles = ", ".join(connection.titles) or f"{connection.host}: nobody publishes"
    parts = [f"{account.exact} exact", f"{account.preview} preview" * bool(account.preview)]
    parts += [f"{account.waiting} waiting" * bool(account.waiting), connection.quality]
    return printable(f"{titles}: {', '.join(filter(None, parts))}")
