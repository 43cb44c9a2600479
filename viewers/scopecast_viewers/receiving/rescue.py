"""What a viewer has of programs that were killed, as files, when the user asks for it (``scopecast recover``)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from scopecast.rundir.directory import Rescued
from scopecast_viewers.receiving.exporting import exports
from scopecast_viewers.receiving.saving import claimed, save_all

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from scopecast.rundir.directory import Rescue
    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["rescue"]


#: Seconds between two words that it is still being written.
_WORD_S: Final = 1.0


def rescue(asked: Rescue, streams: Iterable[tuple[str, LiveStream]], working: Callable[[], None]) -> Rescued:
    """Write each of the streams to a file; waits for the disk.

    Parameters
    ----------
    asked
        Where, and in which format.
    streams
        Those of programs that were killed, each with the name of its program. One without frames has no file.
    working
        Called now and then while it writes.

    Returns
    -------
    Rescued
        What is where, and what could not be written.
    """
    found = Rescued(name=asked.name)
    told = 0.0

    def tell(_done: int, _of: int) -> None:
        nonlocal told
        if time.monotonic() - told > _WORD_S:
            told = time.monotonic()
            working()

    for source, stream in streams:
        try:
            if not (parts := exports(stream)):
                continue
            with claimed(Path(asked.folder), source, stream.about.title, asked.form, stream.began) as path:
                saved = save_all(parts, path, tell)
        except Exception as error:  # noqa: BLE001 - told to who has asked; the others are written
            found.problems.append(f"{source} {stream.about.title}: {error}")
        else:
            found.written.append(f"{stream.about.title}: {saved}")
    return found
