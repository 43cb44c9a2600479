"""A desk that acknowledges what it gets and does nothing with it: many of them cost what the relay takes, and no more.

``python -m benchmarks.desk TITLE REGION COMMAND…`` connects by that command, reports ``"connected"``, and goes on until
its standard input closes. With a REGION other than 0 it waits until the camera pauses, asks for the exact pixels of so
many rows and columns in the middle, reports the seconds until it has all of them, and stays.
"""

from __future__ import annotations

import sys
import time
from typing import Final

import numpy as np

from benchmarks.programs import end_with_parent, report
from scopecast.errors import ProtocolError
from scopecast.remote import codec, messages
from scopecast.remote.command import Command
from scopecast.remote.link import Link
from scopecast.remote.quality import LADDER
from scopecast.rundir.directory import new_token

__all__: list[str] = []

#: A camera that has sent nothing for so long is taken to pause.
_PAUSED_S: Final = 0.5


class _Region:
    """Asks for the exact pixels of the middle of a frame, and sees them come."""

    def __init__(self, side: int) -> None:
        self._side = side
        self._asked_at = 0.0
        self._missing: np.ndarray | None = None
        self._newest: messages.Piece | None = None
        self._news_at = 0.0

    def ask(self, link: Link, source: int) -> None:
        """Ask, once the camera pauses."""
        newest, now = self._newest, time.monotonic()
        if self._asked_at or newest is None or now - self._news_at < _PAUSED_S:
            return
        self._asked_at = now
        y, x = ((side - self._side) // 2 for side in newest.shape[:2])
        self._missing = np.zeros(newest.shape[:2], bool)
        self._missing[y : y + self._side, x : x + self._side] = True
        link.send(messages.encode(messages.View(newest.stream, newest.index, [y, x, self._side, self._side])))
        link.send(messages.encode(messages.Fetch(source)))

    def take(self, piece: messages.Piece) -> float | None:
        """Take a piece; return the seconds until all of the region was there, once it is."""
        if self._missing is None:
            self._newest, self._news_at = piece, time.monotonic()
        elif LADDER[piece.quality].is_exact and self._missing.any():
            y, x, rows, columns = piece.piece or [0, 0, *piece.shape[:2]]
            codec.decode(piece.data, LADDER[0], (rows, columns), np.dtype(piece.dtype), None)
            self._missing[y : y + rows, x : x + columns] = False
            if not self._missing.any():
                return time.monotonic() - self._asked_at
        return None


def _watch(link: Link, title: str, region: _Region | None) -> None:
    link.open()
    link.send(messages.encode(messages.Hello(messages.WIRE, messages.WIRE, new_token(), title)))
    source = 0
    while True:
        data = link.receive(0.1)
        if region is not None:
            region.ask(link, source)
        if data is None:
            continue
        message = messages.decode_from_relay(data)
        if isinstance(message, messages.Welcome):
            report("connected")
        elif isinstance(message, messages.Source):
            source = message.id
        elif isinstance(message, messages.Ping):
            link.send(messages.encode(messages.Pong(message.number)))
        elif isinstance(message, messages.Piece):
            seconds = region.take(message) if region is not None else None
            link.send(messages.encode(messages.Ack(message.number)))
            if seconds is not None:
                report(seconds)
        elif isinstance(message, messages.Reject | messages.Bye):
            raise ProtocolError(f"the relay says: {message.reason}")


if __name__ == "__main__":
    end_with_parent()
    name, side, *command = sys.argv[1:]
    codec.check_available()  # which is imported only when it is used, and takes its time
    with Link(Command(command, "microscope"), "microscope") as opened:
        _watch(opened, name, _Region(int(side)) if int(side) else None)
