"""``scopecast share``: let people watch who have no account on this machine."""

from __future__ import annotations

import ipaddress
import socket
import time
from contextlib import suppress
from typing import Annotated, Any, Final

import filelock
import msgspec
import typer
from rich.table import Table

from scopecast.cli.console import err, out, wide
from scopecast.cli.errors import print_json, values
from scopecast.cli.relay import STARTED_ENDS, WIDTH, check_codecs
from scopecast.cli.terminal import seconds
from scopecast.errors import ScopecastError
from scopecast.protocol import printable
from scopecast.remote.gateway import Gateway, connected_guests
from scopecast.remote.guests import ROLES, Guest, Guests, Invited, own_keys, own_port, remember_port
from scopecast.remote.invitation import Address, Invitation
from scopecast.rundir.directory import RunDirectory

__all__ = ["share"]

_LONGEST_S: Final = 30 * 86_400.0
#: An address of no machine (RFC 5737): what would go there goes out by the network that others are in.
_ELSEWHERE: Final = ("192.0.2.1", 9)


class _Serving(msgspec.Struct):
    """Where the gateway of this machine is, for who invites somebody else meanwhile."""

    host: str = ""
    port: int = 0


def share(
    name: Annotated[str, typer.Option(metavar="NAME", help="What the guest is called here.")] = "",
    role: Annotated[
        str, typer.Option(metavar="ROLE", help="watch, or marks: also send marks to the acquisition.")
    ] = "watch",
    lasts: Annotated[str, typer.Option("--for", metavar="TIME", help="How long the link can be used, once.")] = "24h",
    port: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=65535, help="The port; by default that of the last time, or a free one."),
    ] = 0,
    address: Annotated[
        str,
        typer.Option(
            metavar="HOST-OR-IP", help="What this machine is called in the link; by default its address in the network."
        ),
    ] = "",
    invite: Annotated[
        bool, typer.Option("--invite/--no-invite", help="Print a new link, or serve those who have been admitted.")
    ] = True,
    listed: Annotated[bool, typer.Option("--list", help="List the guests, and the links that can be used.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --list: print JSON.")] = False,
    revoke: Annotated[
        str | None, typer.Option(metavar="NAME", help="Admit a guest no longer, or withdraw a link.")
    ] = None,
    end_after: Annotated[str, typer.Option(hidden=True)] = STARTED_ENDS,
) -> None:
    """Let people watch who have no account on this machine, for as long as this command runs. Stop with Ctrl-C.

    It prints a link for one person, who gives it to `scopecast connect` on another computer; that computer is known by
    a key of its own from then on. A port is open meanwhile. What goes through it is encrypted, and without a key
    nobody is heard. Guests see the streams; only those with the role marks can send marks to the acquisition.
    """
    with values():
        if as_json and not listed:
            raise ScopecastError("--json goes with --list")
        if (listed or revoke is not None) and (name or (listed and revoke is not None)):
            raise ScopecastError("--list and --revoke each go alone: what is to be done first?")
    if listed:
        _list(as_json)
        return
    if revoke is not None:
        Guests().revoke(revoke)
        out.print(f"{printable(revoke)} is no longer admitted.")
        return
    with values():
        lasts_s = seconds("--for", lasts, least=1.0)
        if lasts_s > _LONGEST_S:
            raise ScopecastError(f"--for is {_LONGEST_S / 86_400:.0f} days (720h) at most, not {lasts}")
        if role not in ROLES:
            raise ScopecastError(f"--role is watch or marks, not {role}")
        host = address or _own_address()
        _check_host(host)
    check_codecs()
    lock = RunDirectory().launch_lock("gateway")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _invite_beside(name, role, lasts_s, address, port=port, invite=invite)
        return
    try:
        _serve(name, role, lasts_s, host, port=port, invite=invite, end_after=end_after)
    finally:
        _serving_file().unlink(missing_ok=True)
        lock.release()


def _serve(name: str, role: Any, lasts_s: float, host: str, *, port: int, invite: bool, end_after: str) -> None:
    guests, keys = Guests(), own_keys()
    if not invite and not guests.guests and not guests.invited:
        raise ScopecastError("nobody has been admitted yet: leave out --no-invite, for a link")
    with Gateway(
        guests, keys, host=_where_to_listen(host), port=port or own_port(), end_after=end_after, tell=out.print
    ) as gateway:
        remember_port(gateway.port)
        place = Address(host, gateway.port)
        _serving_file().write_bytes(msgspec.json.encode(_Serving(host, gateway.port)))
        if invite:
            _print_link(guests, name, role, lasts_s, place, keys.public)
        out.print(f"Guests who have been admitted: scopecast connect scopecast://{place}. Stop with Ctrl-C.")
        gateway.run()


def _invite_beside(name: str, role: Any, lasts_s: float, address: str, *, port: int, invite: bool) -> None:
    """Print a link to the gateway that runs: it finds the invitation in the list."""
    serving = _Serving()
    with suppress(OSError, msgspec.DecodeError):
        serving = msgspec.json.decode(_serving_file().read_bytes(), type=_Serving)
    if not serving.port or not invite or port not in (0, serving.port):
        raise ScopecastError("`scopecast share` runs on this machine already: stop that one first")
    _print_link(Guests(), name, role, lasts_s, Address(address or serving.host, serving.port), own_keys().public)
    err.print("`scopecast share` runs on this machine already, and serves this guest, too.")


def _print_link(guests: Guests, name: str, role: Any, lasts_s: float, place: Address, public: str) -> None:
    replaced = any(each.name == name for each in guests.invited)
    secret = guests.invite(name, role, lasts_s)
    invited = guests.invited[-1]
    until = _moment(invited.until)
    out.print(f"{invited.name} can {ROLES[invited.role]}, with this link, which works once and until {until}:")
    out.print(f"  scopecast connect '{Invitation(place, public, secret).link}'")
    if replaced:
        err.print(f"It takes the place of the link that {name} had before, which does not work any more.")


def _serving_file() -> Any:
    return RunDirectory().file("gateway", "json")


def _own_address() -> str:
    """Return the address of this machine in the network that others are in; nothing is sent for that."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(_ELSEWHERE)
            found: str = asked.getsockname()[0]
        except OSError:
            raise ScopecastError("this machine seems to be in no network: name its address by --address") from None
    return found


def _check_host(host: str) -> None:
    with suppress(ValueError):
        ipaddress.ip_address(host)
        return
    if not all(part.replace("-", "").isalnum() and part.isascii() for part in host.split(".")):
        raise ScopecastError(f"--address is a name or an IP address, such as lab-pc or 192.168.1.20, not {host}")


def _where_to_listen(host: str) -> str:
    """Return an address of the loopback, if that is what the link has; else "": everywhere."""
    with suppress(ValueError):
        return host if ipaddress.ip_address(host).is_loopback else ""
    return "127.0.0.1" if host == "localhost" else ""


def _list(as_json: bool) -> None:
    guests = Guests()
    there = connected_guests()
    if as_json:
        print_json(
            {
                "guests": [{**_plain(each), "connected": each.name in there} for each in guests.guests],
                "links": [_plain(each) for each in guests.invited],
            }
        )
        return
    if not guests.guests and not guests.invited:
        out.print("Nobody has been invited.")
        return
    table = Table()
    for column in ("guest", "may", "since", "last seen"):
        table.add_column(column)
    for guest in guests.guests:
        seen = "connected" if guest.name in there else _moment(guest.seen) if guest.seen else "never"
        table.add_row(guest.name, ROLES[guest.role], _moment(guest.since), seen)
    for invited in guests.invited:
        table.add_row(invited.name, ROLES[invited.role], "", f"invited; the link works until {_moment(invited.until)}")
    wide(WIDTH).print(table)


def _plain(each: Guest | Invited) -> dict[str, Any]:
    return {field: getattr(each, field) for field in each.__struct_fields__ if field != "key"}


def _moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
