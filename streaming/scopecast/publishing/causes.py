"""Why a program ended, from its log."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["cause_in"]

_STAMP: Final = r"^[\d-]+ [\d:,.]+ "  # date and time by `logging` in the receivers; level and logger's name follow
_UNIMPORTANT: Final = re.compile(_STAMP + r"(?:DEBUG|INFO) ")
_NAMED: Final = re.compile(_STAMP + r"(?:[A-Z]+ [\w.]+: )?")
#: Lines that name the cause, in the order in which they are searched for. The last match counts: with chained
#: exceptions it is the outermost one in Python, and the root in Java, where causes follow ("Caused by: …").
_CAUSES: Final = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        # The last message of one of our programs, or of argparse.
        r"^(?:scopecast|[\w./ -]+: error): (?P<cause>.+)",
        # The exception is on the first unindented line after a traceback; it may have any name.
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
    r"""Return the line of a log that says why its program ended; ``""`` if the log is empty.

    That is the last exception, or else an error that was logged, or else any other line about a failure; without any
    of these it is the last line.

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
