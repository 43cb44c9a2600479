"""The link that `scopecast share` prints: where the gateway is, its public key, and a key that admits once."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from zmq.utils import z85

__all__ = ["Address", "Invitation", "is_link", "parse"]

_SCHEME: Final = "scopecast"
_FORM: Final = (
    "a link looks like scopecast://192.168.1.20:51234/… and is what `scopecast share` prints, with the whole key after "
    "the last slash"
)
_KEY: Final = 32  # bytes
_CHECK: Final = 2  # bytes that tell a slip of the pen
_LETTERS: Final = (2 * _KEY + _CHECK) * 4 // 3


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway is reached.

    Attributes
    ----------
    host
        A name or an IP address.
    port
        The port, of tcp.
    """

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link.

    Attributes
    ----------
    address
        Where the gateway is.
    server
        Its public CURVE key, in Z85; ``""`` in a link that is an address only.
    secret
        The secret CURVE key that admits once, in Z85; ``""`` likewise.
    """

    address: Address
    server: str = ""
    secret: str = field(default="", repr=False)

    @property
    def link(self) -> str:
        """The link as text. It holds the secret."""
        keys = z85.decode(self.server) + z85.decode(self.secret)
        return f"{_SCHEME}://{self.address}/{base64.urlsafe_b64encode(keys + _check(keys)).decode()}"


def _check(keys: bytes) -> bytes:
    return hashlib.blake2b(keys, digest_size=_CHECK).digest()


def is_link(text: str) -> bool:
    """Whether a text is meant as a link, be it a wrong one, and not as a machine's name."""
    return "://" in text or text.strip().startswith(f"{_SCHEME}:")


def parse(text: str) -> Invitation:
    """Return what a link says.

    Parameters
    ----------
    text
        ``scopecast://HOST:PORT/KEYS``, or ``scopecast://HOST:PORT``.

    Raises
    ------
    ValueError
        If it is none. The error says what is wrong, and never holds a key.

    Examples
    --------
    >>> parse("scopecast://lab-pc:51234").address
    Address(host='lab-pc', port=51234)
    """
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port or 0
    except ValueError:
        raise ValueError(f"this link has no machine and port that can be read: {_FORM}") from None
    if parts.scheme != _SCHEME:
        raise ValueError(f"this link begins with {parts.scheme or 'something else'}:, not {_SCHEME}://: {_FORM}")
    if not host or not port or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"this link does not name a machine and a port: {_FORM}")
    address, keys = Address(host, port), parts.path.strip("/")
    if not keys:
        return Invitation(address)
    if len(keys) != _LETTERS or not re.fullmatch(r"[0-9A-Za-z_-]+", keys):
        what = (
            f"has {len(keys)} characters, not {_LETTERS}" if len(keys) != _LETTERS else "has characters that no key has"
        )
        raise ValueError(f"this link was not copied as a whole: its key {what}; {_FORM}")
    data = base64.urlsafe_b64decode(keys)
    if _check(data[: 2 * _KEY]) != data[2 * _KEY :]:
        raise ValueError(f"there is a mistake in the key of this link: copy it once more; {_FORM}")
    return Invitation(address, z85.encode(data[:_KEY]).decode(), z85.encode(data[_KEY : 2 * _KEY]).decode())
