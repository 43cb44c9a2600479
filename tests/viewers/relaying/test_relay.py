"""The relay, in this process, and a desk that is as slow as it is told to be."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import zmq

from children import wait_until
from receivers import check_stamp, stamped
from scopecast import Publisher
from scopecast.remote import codec, messages
from scopecast.remote.quality import EXACT
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.relaying import relay as relaying
from scopecast_viewers.relaying.relay import Relay
from scopecast_viewers.stacks.history import History

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = (64, 48)


@contextmanager
def relay() -> Iterator[str]:
    """A relay that serves; its endpoint."""
    with Relay(History(2**24, None)) as running:
        thread = threading.Thread(target=running.run, daemon=True)
        thread.start()
        (entry,) = RunDirectory().living("relay")
        yield entry.endpoint
        running.stop()
        thread.join(20.0)
        assert not thread.is_alive()


@contextmanager
def desk(endpoint: str, *, every: bool = False) -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(messages.encode(messages.Hello(1, 1, "abcdefgh", "desk", every)))
        yield socket


def next_piece(socket: zmq.Socket[bytes]) -> messages.Piece:
    """Return the next frame; heartbeats on the way are answered."""
    while True:
        assert socket.poll(30_000), "nothing comes"
        message = messages.decode_from_relay(socket.recv())
        if isinstance(message, messages.Ping):
            socket.send(messages.encode(messages.Pong(message.number)))
        elif isinstance(message, messages.Piece):
            return message


def test_with_every_no_frame_is_lost_and_an_acquisition_of_that_policy_waits(monkeypatch):
    """Also of live mode, in which each frame takes the place of the one before; and beyond what is held in memory."""
    monkeypatch.setattr(relaying, "MOST_PINNED", 5 * 64 * 48 * 2)
    frames = 60
    with (
        relay() as endpoint,
        desk(endpoint, every=True) as socket,
        Publisher("headless", policy="every", timeout=60.0, budget=2**17) as camera,
    ):
        camera.open(SHAPE, wait=30.0)
        wait_until(lambda: any(row.attached for row in camera.stats().receivers))
        publishing = threading.Thread(target=lambda: [camera.publish(stamped(t)) for t in range(frames)])
        publishing.start()
        pieces = [next_piece(socket), next_piece(socket)]
        wait_until(lambda: camera.stats().receivers[0].frames.in_flight > 5, "it waits for the desk")
        assert publishing.is_alive()
        for number in range(frames):
            piece = pieces.pop(0)
            plane = codec.decode(piece.data, EXACT, piece.shape, piece.dtype)
            assert check_stamp(plane) == (number, 0, 0)
            socket.send(messages.encode(messages.Ack(piece.number)))
            if number + len(pieces) + 1 < frames:
                pieces.append(next_piece(socket))
        publishing.join(30.0)
        assert camera.stats().frames.superseded == 0
