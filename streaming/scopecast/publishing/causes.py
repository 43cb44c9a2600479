"""Why a program ended, from what it has written."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cause_in"]

_STAMP: Final = r"^[\d-]+ [\d:,.]+ "  # as `logging` writes it for the receivers: date, time, level, name of the logger
_UNIMPORTANT: Final = re.compile(_STAMP + r"(?:DEBUG|INFO) ")
_NAMED: Final = re.compile(_STAMP + r"(?:[A-Z]+ [\w.]+: )?")
#: Lines that tell the cause, in the order in which they are looked for; of several the last one counts, as it is the
#: outermost of chained exceptions in Python, and the root in Java, whose causes follow ("Caused by: …").
_CAUSES: Final = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        # What a program of ours, or argparse, says as its last word.
        r"^(?:scopecast|[\w./ -]+: error): (?P<cause>.+)",
        # The exception's line is the first after a traceback that is not indented; its name may be any.
        r"^Traceback \(most recent call last\):\n(?:[ \t].*\n)*(?P<cause>\S.*)"
        r"|^(?:Exception in thread .+?[\"'] |Caused by: )?(?P<name>[\w.$]*(?:Error|Exception)(?:: .*)?)$"
        r"|^.*?(?P<platform>(?:qt\.[\w.]+: )?Could not \w+ the Qt platform plugin .*)"
        r"|^(?P<qt>qt\.[\w.]+: (?i:could not|cannot|failed) .*)",
        _STAMP + r"(?:ERROR|CRITICAL) .*",
        r"^\W*(?:\w+\W+)??(?:ERROR|CRITICAL|FATAL|SEVERE)\b.*",
        r"^.*\b(?:(?i:could not|cannot|can't|fatal|failed)|\w*(?:Error|Exception))\b.*",
    )
)


def cause_in(log: str) -> str:
    r"""Return the line of a log that tells why its program ended; ``""`` if it is empty.

    That is the last exception, or what was logged as an error, or any other line that tells of a failure; only a log
    without these is told by its last line.

    Examples
    --------
    >>> cause_in("Traceback (most recent call last):\n  File …\nImportError: no Qt\n2026-01-31 12:00:00,000 INFO a: b")
    'ImportError: no Qt'
    """
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    important = [line for line in lines if not _UNIMPORTANT.match(line)]
    text = "\n".join(important)
    for pattern in _CAUSES:
        if found := list(pattern.finditer(text)):
            cause = next((value for value in found[-1].groupdict().values() if value), found[-1][0])
            return _NAMED.sub("", cause).strip()
    return _NAMED.sub("", (important or lines or [""])[-1]).strip()
