"""Who may watch without an account on this machine: the gateway's list of keys, and its own key.

Both are files that only this user may read. The list has public keys only: who steals it can't come in by it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from scopecast.errors import ScopecastError
from scopecast.link.transport import KeyPair
from scopecast.protocol import printable
from scopecast.remote import messages
from scopecast.remote.private import PrivateFile

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_NAME", "ROLES", "Guest", "Guests", "Invited", "Role", "own_keys", "own_port", "remember_port"]

logger = logging.getLogger(__name__)

Role = Literal["watch", "marks"]
#: What each role allows.
ROLES: Final[dict[Role, str]] = {"watch": "watch", "marks": "watch, and send marks"}
#: Characters of a name; and so many guests and invitations there can be.
MAX_NAME: Final = 64
MAX_GUESTS: Final = 256
_NEVER: Final = (-1, -1)
_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
_Key = messages.CurveKey
_Port = Annotated[int, Meta(ge=0, le=65535)]


class Guest(msgspec.Struct):
    """Who has been admitted: one account on one computer.

    Attributes
    ----------
    name
        What it is called here.
    role
        What it may do.
    key
        Its public key.
    since, seen
        When it was admitted, and when it was connected last, in seconds since 1970; 0: never.
    """

    name: _Name
    role: Role
    key: _Key
    since: float
    seen: float = 0.0


class Invited(msgspec.Struct):
    """A link that has not been used.

    Attributes
    ----------
    name, role
        Those of who will use it.
    key
        The public key to the secret one in the link.
    until
        When it expires, in seconds since 1970.
    """

    name: _Name
    role: Role
    key: _Key
    until: float

    @property
    def expired(self) -> bool:
        """Whether it is too late to use it."""
        return time.time() >= self.until


class _Lists(msgspec.Struct):
    guests: list[Guest] = []
    invited: list[Invited] = []


class _Own(msgspec.Struct):
    secret: str = ""
    port: _Port = 0


def own_keys() -> KeyPair:
    """Return the keys of this user's gateway, which are made once.

    Raises
    ------
    ScopecastError
        If their file is not one of this user alone, or is damaged.
    """
    file = PrivateFile("gateway")
    with file.lock:
        own = file.read(_Own)
        try:
            keys = KeyPair(own.secret)
        except ValueError as error:
            msg = f"{file.path} is damaged; restore it, or remove it and invite everybody anew"
            raise ScopecastError(msg) from error
        if not own.secret:
            own.secret = keys.secret
            file.write(own)
    return keys


def own_port() -> int:
    """Return the port at which the gateway was last; 0 if there was none. Guests come back to it."""
    return PrivateFile("gateway").read(_Own).port


def remember_port(port: int) -> None:
    """Keep the port for the next time."""
    file = PrivateFile("gateway")
    with file.lock:
        own = file.read(_Own)
        if own.port != port:
            own.port = port
            file.write(own)


class Guests:
    """The list, as it is in its file now: other processes may change it at any time.

    If it is damaged meanwhile, it stays as it was, and can't be changed until the file is right again.

    Raises
    ------
    ScopecastError
        If the file is not one of this user alone, or is damaged; so do all methods.
    """

    def __init__(self) -> None:
        self._file = PrivateFile("guests")
        self._state, self._problem = _NEVER, ""
        self._lists = _Lists()
        self.refresh()

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        if (state := self._file.state) != self._state:
            try:
                self._lists = self._file.read(_Lists)
            except ScopecastError as error:
                if self._state == _NEVER:
                    raise
                self._problem = str(error)
                logger.warning("%s; until then the guests are those from before, and nobody is admitted", error)
            else:
                self._problem = ""
            self._state = state

    def _reread(self) -> None:
        """Read it before it is changed; under its lock."""
        self.refresh()
        if self._problem:
            raise ScopecastError(self._problem)

    def _write(self) -> None:
        self._lists.invited = [each for each in self._lists.invited if not each.expired]
        self._file.write(self._lists)
        self._state = self._file.state

    @property
    def guests(self) -> tuple[Guest, ...]:
        """Who has been admitted."""
        return tuple(self._lists.guests)

    @property
    def invited(self) -> tuple[Invited, ...]:
        """The links that can still be used."""
        return tuple(each for each in self._lists.invited if not each.expired)

    @property
    def everybody(self) -> tuple[Guest | Invited, ...]:
        """Both."""
        return (*self.guests, *self.invited)

    def find(self, key: str) -> Guest | Invited | None:
        """Return to whom a public key belongs; None if its owner may not come in."""
        return next((each for each in self.everybody if each.key == key), None)

    def invite(self, name: str, role: Role, lasts_s: float) -> str:
        """Add an invitation, in the place of an earlier one for the same name.

        Parameters
        ----------
        name
            What the guest will be called; ``""``: guest 1, guest 2 …
        role
            What the guest may do.
        lasts_s
            Seconds for which the link can be used.

        Returns
        -------
        str
            The secret key that admits once, in Z85. It is kept nowhere.

        Raises
        ------
        ScopecastError
            If there is such a guest already, or there are too many.
        """
        keys = KeyPair()
        with self._file.lock:
            self._reread()
            taken = {each.name for each in self.everybody}
            if not name:
                name = next(each for number in range(1, len(taken) + 2) if (each := f"guest {number}") not in taken)
            if name != printable(name) or len(name) > MAX_NAME:
                raise ScopecastError(f"the name of a guest has at most {MAX_NAME} characters, all of them printable")
            if any(each.name == name for each in self.guests):
                raise ScopecastError(
                    f"{name} has been admitted already, and needs no new link: `scopecast share --no-invite`. For "
                    f"another computer take another name; to begin anew, `scopecast share --revoke` first"
                )
            if len(taken) >= MAX_GUESTS:
                raise ScopecastError(f"there are {MAX_GUESTS} guests, and no more are possible: revoke some first")
            self._lists.invited = [each for each in self._lists.invited if each.name != name]
            self._lists.invited.append(Invited(name, role, keys.public, time.time() + lasts_s))
            self._write()
        return keys.secret

    def enrol(self, invitation: str, key: str) -> Guest | None:
        """Admit a key in the place of an invitation, which is gone then; None if there is no such invitation.

        Who had that key before, or that name, is replaced.
        """
        with self._file.lock:
            self._reread()
            found = next((each for each in self.invited if each.key == invitation), None)
            if found is None:
                return None
            guest = Guest(found.name, found.role, key, time.time())
            self._lists.invited.remove(found)
            self._lists.guests = [each for each in self._lists.guests if each.key != key and each.name != found.name]
            self._lists.guests.append(guest)
            self._write()
        return guest

    def revoke(self, name: str) -> None:
        """Take a guest, or an invitation, from the list.

        Raises
        ------
        ScopecastError
            If there is none of that name.
        """
        with self._file.lock:
            self._reread()
            names = [each.name for each in self.everybody]
            if name not in names:
                there = f"there are: {', '.join(names)}" if names else "there is nobody"
                raise ScopecastError(f"there is no guest {printable(name)}; {there}")
            self._lists.guests = [each for each in self.guests if each.name != name]
            self._lists.invited = [each for each in self.invited if each.name != name]
            self._write()

    def saw(self, keys: Iterable[str]) -> None:
        """Note that the guests with these keys are connected now."""
        wanted = set(keys)
        with self._file.lock:
            self._reread()
            for guest in self._lists.guests:
                if guest.key in wanted:
                    guest.seen = time.time()
            self._write()
