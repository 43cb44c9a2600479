"""``scopecast relay``: let other machines watch what is published on this one."""

from __future__ import annotations

import importlib
import sys
import time
from contextlib import suppress
from typing import Annotated, Any

import filelock
import typer
import zmq
from rich.table import Table

from scopecast.cli.console import out
from scopecast.cli.errors import print_json, values
from scopecast.cli.terminal import seconds
from scopecast.errors import ProtocolError, ScopecastError
from scopecast.link import transport
from scopecast.link.transport import KeyPair
from scopecast.protocol import ANY_KIND
from scopecast.remote import messages, stdio
from scopecast.remote.codec import check_available
from scopecast.rundir.directory import RunDirectory

__all__ = ["relay"]

_ANSWER_S = 5.0
#: A relay that is started for a desk stays so long without desks and publishers.
_STARTED_ENDS = "10m"


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
    started: Annotated[bool, typer.Option("--started", hidden=True)] = False,
) -> None:
    """Let other machines watch what is published on this one. Stop with Ctrl-C.

    There is no need to start it: `scopecast connect` on the other machine does so through ssh. It takes each frame from
    the acquisition once, whoever watches, and keeps the last ones in memory. It opens no port: who can log in as you
    can watch.
    """
    with values():
        idle_s = None if end_after is None else seconds("--end-after", end_after)
    if listed:
        _list(as_json)
    elif carried:
        reading, writing = stdio.binary_stdio()
        stdio.carry(reading, writing, end_after or _STARTED_ENDS)
    else:
        _run(idle_s, quiet=started)


def _run(end_after_s: float | None, *, quiet: bool) -> None:
    relaying = importlib.import_module("scopecast_viewers.relaying.relay")
    history = importlib.import_module("scopecast_viewers.stacks.history")
    receiver = importlib.import_module("scopecast_viewers.receiver")
    try:
        check_available()
    except ImportError as error:
        raise ScopecastError(str(error)) from error
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


def _list(as_json: bool) -> None:
    desks = _ask().desks
    if as_json:
        names = messages.DeskAccount.__struct_fields__
        print_json(
            [
                {"title": title, "state": state, "quality": quality, **{name: getattr(account, name) for name in names}}
                for title, state, quality, account in desks
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
    for title, state, quality, a in desks:
        numbers = (a.came, a.exact, a.preview, a.superseded, a.refused, a.waiting + a.sending)
        table.add_row(title or "a desk", state, quality, *map(str, numbers))
    out.print(table, soft_wrap=False)


def _ask() -> messages.Listed:
    """Return what the relay says of who watches."""
    directory = RunDirectory()
    entry = stdio.running_relay(directory)
    if entry is None:
        return messages.Listed([])
    keys = KeyPair.if_possible()
    context: zmq.Context[Any] = zmq.Context()
    try:
        with directory.join("subscriber", ANY_KIND, key=keys.public if keys is not None else ""):
            socket = context.socket(zmq.DEALER)
            try:
                transport.limit(socket)
                transport.connect(socket, entry, keys)
                socket.send(messages.encode(messages.ListDesks()), zmq.NOBLOCK)
                deadline = time.monotonic() + _ANSWER_S
                while (left := deadline - time.monotonic()) > 0:
                    if socket.poll(int(1000 * left) + 1):
                        with suppress(ProtocolError):
                            answer = messages.decode_from_relay(socket.recv(zmq.NOBLOCK))
                            if isinstance(answer, messages.Listed):
                                return answer
            finally:
                socket.close(0)
    finally:
        context.term()
    msg = f"the relay (process {entry.pid}) has not answered for {_ANSWER_S:.0f} s: end that process, and connect again"
    raise ScopecastError(msg)
