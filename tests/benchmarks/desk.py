"""A desk that acknowledges what it gets and does nothing with it: many of them cost what the relay takes, and little else.

``python -m benchmarks.desk TITLE COMMAND…`` connects by that command, reports ``"connected"``, and goes on until its
standard input closes. ``--region SIDE`` in the place of COMMAND's first word: it fetches the exact pixels of the middle of
the newest frame, reports the seconds that they took, and ends.
"""

from __future__ import annotations

import sys
import time

from benchmarks.programs import end_with_parent, report
from scopecast.errors import ProtocolError
from scopecast.remote import messages
from scopecast.remote.link import Link
from scopecast.rundir.directory import new_token

__all__: list[str] = []


def _watch(link: Link, title: str, region: int) -> None:
    link.send(messages.encode(messages.Hello(messages.WIRE, messages.WIRE, new_token(), title)))
    source, paused_at, last_at, connected = 0, 0.0, time.monotonic(), False
    wanted: messages.Piece | None = None
    while True:
        data = link.receive(0.1)
        now = time.monotonic()
        if region and wanted is not None and not paused_at and now - last_at > _PAUSED_S:
            paused_at = now
            y, x = (max(0, side - region) // 2 for side in wanted.shape[:2])
            link.send(messages.encode(messages.Fetch(source)))
            link.send(messages.encode(messages.View(wanted.stream, wanted.index, [y, x, region, region])))
        if data is None:
            continue
        message = messages.decode_from_relay(data)
        if isinstance(message, messages.Welcome) and not connected:
            connected = True
            report("connected")
        elif isinstance(message, messages.Source):
            source = message.id
        elif isinstance(message, messages.Ping):
            link.send(messages.encode(messages.Pong(message.number)))
        elif isinstance(message, messages.Piece):
            link.send(messages.encode(messages.Ack(message.number)))
            wanted, last_at = wanted if paused_at else message, now
            if paused_at and message.quality == 0:
                left = region * region - _covered(message, region)
                region_left.append(left)
                if sum(region * region - each for each in region_left) >= region * region:
                    report(now - paused_at)
                    return
        elif isinstance(message, messages.Reject | messages.Bye):
            raise ProtocolError(message.reason)
