"""What both sides agree on before the first message: the protocol's version, and text that can be sent."""

from __future__ import annotations

from typing import Final

__all__ = ["PROTOCOL", "printable"]


#: The version of the protocol; a receiver and a publisher must have one in common.
PROTOCOL: Final = 1


def printable(text: str) -> str:
    """Return a text that can be sent: file names that are not UTF-8 have half characters (lone surrogates) in them."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
