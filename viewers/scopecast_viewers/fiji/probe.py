"""Open the ImageJ that the viewer would open, step by step: a line of JSON after each.

``python -m scopecast_viewers.fiji.probe``; with ``--java`` it says only which Java that would be. A process of its own,
as Java can be started only once, and may crash or hang. Whoever runs it sees by the last line how far it came; see
`scopecast.doctor`.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Final

from scopecast.errors import ViewerStartError
from scopecast_viewers.fiji.jar import kept_jar
from scopecast_viewers.fiji.jvm import choose, java_for, start

_BUDGET: Final = 64 << 20


def _tell(step: str, **found: Any) -> None:
    sys.stdout.write(json.dumps({"step": step, **found}) + "\n")
    sys.stdout.flush()


class _Notes(logging.Handler):
    """Keeps what the viewer would write to its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def main() -> None:
    """Choose, find a Java, open the window."""
    notes = _Notes()
    logging.getLogger("scopecast_viewers.fiji").addHandler(notes)
    try:
        choice = choose()
        _tell("choice", kind=choice.kind, name=str(choice))
        java = java_for(choice)
        _tell("java", name=str(java), home=str(java.home), library=str(java.library), passed=java.passed)
        if "--java" in sys.argv or choice.kind == "endpoint" or (choice.kind == "plain" and kept_jar() is None):
            return
        window = start(choice, _BUDGET)
    except ViewerStartError as error:
        _tell("failed", error=str(error))
        return
    from scopecast_viewers.fiji.awt import java as class_of

    told = [note for note in notes.texts if note not in java.passed]
    _tell("open", version=str(class_of("ij.IJ").getVersion()), title=str(window.getTitle()), notes=told)


if __name__ == "__main__":
    main()
