"""What both sides agree on before the first message: the protocol's version, the types of fields, text for all eyes."""

from __future__ import annotations

import re
import time
from typing import Annotated, Final

from msgspec import Meta

__all__ = [
    "ANY_KIND",
    "MAX_PATH",
    "MAX_TEXT",
    "MAX_TITLE",
    "PROTOCOL",
    "U32",
    "Kind",
    "Label",
    "Path",
    "Title",
    "Token",
    "clock_ns",
    "printable",
    "printable_lines",
]


#: The version of the protocol; a receiver and a publisher must have one in common.
PROTOCOL: Final = 1

#: The clock of frames' ages, in nanoseconds: the same for all processes of a machine, whatever their Python. On Windows
#: ``time.monotonic_ns`` is not: it is another clock from Python 3.13 on, and before that has steps of 16 ms.
clock_ns = time.perf_counter_ns

#: Characters of a title, a text such as a reason, and a path.
MAX_TITLE: Final = 200
MAX_TEXT: Final = 2000
MAX_PATH: Final = 4096

U32 = Annotated[int, Meta(ge=0, lt=2**32)]
Token = Annotated[str, Meta(pattern=r"\A[a-z2-7]{8}\Z")]
Kind = Annotated[str, Meta(pattern=r"\A(?:[a-z][a-z0-9_]{0,31}|\*)\Z")]
#: In the place of a kind of viewer: a subscriber, which is none, and takes the frames of publishers of every kind.
ANY_KIND: Final = "*"
Title = Annotated[str, Meta(max_length=MAX_TITLE)]
Label = Annotated[str, Meta(max_length=64)]
Path = Annotated[str, Meta(max_length=MAX_PATH)]

#: Characters that act on whatever shows them: controls (C0, DEL, C1), ends of lines, marks that reorder what follows
#: (bidi) or stand between the lines; and half characters (surrogates), which can't be encoded.
_ACTING: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def printable(text: str, most: int | None = None) -> str:
    r"""Return a text that is safe to send, to log, and to show on a terminal or in a window, in one line.

    Whatever others wrote goes through here: titles, reasons, paths, what a file says of itself. Characters that would
    act instead of being seen become escapes.

    Parameters
    ----------
    text
        The text.
    most
        How many characters to return at most.

    Examples
    --------
    >>> printable("\x1b[2Jrun\n1, 5\xa0µm")
    '\\x1b[2Jrun\\n1, 5\xa0µm'
    """
    if not text.isprintable():
        text = _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return text if most is None else text[:most]


def printable_lines(text: str) -> str:
    r"""Return a text of several lines that is safe to show, its lines kept.

    Examples
    --------
    >>> printable_lines("cell 1\narea\t7")
    'cell 1\narea\\t7'
    """
    return text if text.isprintable() else "\n".join(printable(line) for line in text.split("\n"))
