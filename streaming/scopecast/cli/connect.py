"""``scopecast connect``: watch what is published on another machine."""

from __future__ import annotations

import platform
import threading
from typing import Annotated, Final

import typer
from rich.live import Live
from rich.text import Text

from scopecast.cli.console import err, out
from scopecast.cli.errors import values
from scopecast.cli.terminal import FijiOption, count, variables_of, viewer_kinds
from scopecast.errors import ScopecastError
from scopecast.protocol import printable
from scopecast.remote.codec import check_available
from scopecast.remote.connection import Connection
from scopecast.remote.link import command_for
from scopecast.showing.show import check_viewer

__all__ = ["connect"]

#: Seconds that viewers here have at the end for the last frames.
_LINGER_S: Final = 2.0


def connect(
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="The other machine, as ssh takes it: a name, or user@name.")
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
) -> None:
    """Show here what is published on another machine, in napari, Fiji, and programs that subscribe. Stop with Ctrl-C.

    ssh connects, with its configuration, keys and jump hosts; scopecast must be installed there, too, and no port has
    to be open. The other machine's acquisition pays for one more receiver, whoever watches. If the connection breaks it
    is tried again until you stop this command.
    """
    with values():
        kinds = list(dict.fromkeys(viewer or ["napari"]))
        for kind in kinds:
            check_viewer(kind)
        variables = variables_of("fiji" if "fiji" in kinds else kinds[0], fiji)
        _check_codecs()
        line = command_for(host, ssh=ssh, command=command, end_after=end_after)
    connection = Connection(
        line,
        host.rpartition("@")[2],
        kinds,
        launch=open_window,
        every=every,
        title=f"{platform.node()}",
        options={"environment": variables, "linger": _LINGER_S},
        tell=lambda text: out.print(printable(text)),
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
        with connection:
            connection.run()
    finally:
        beat.set()
        showing.join()
        shown.stop()
        _summarize(connection)


def _check_codecs() -> None:
    try:
        check_available()
    except ImportError as error:
        raise ScopecastError(str(error)) from error


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
