"""The relay, in this process, and a desk that is as slow as it is told to be."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

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
T = TypeVar("T")


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
def desk(endpoint: str, *, every: bool = False, session: str = "abcdefgh") -> Iterator[zmq.Socket[bytes]]:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)
        socket.send(messages.encode(messages.Hello(1, 1, session, "desk", every)))
        yield socket


def next_of(socket: zmq.Socket[bytes], kind: type[T]) -> T:
    """Return the next message of a kind; heartbeats on the way are answered."""
    while True:
        assert socket.poll(30_000), "nothing comes"
        message = messages.decode_from_relay(socket.recv())
        if isinstance(message, messages.Ping):
            socket.send(messages.encode(messages.Pong(message.number)))
        elif isinstance(message, kind):
            return message


def next_piece(socket: zmq.Socket[bytes]) -> messages.Piece:
    return next_of(socket, messages.Piece)


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
        socket.send(messages.encode(messages.Fetch(next_of(socket, messages.Source).id, 7)))
        assert next_of(socket, messages.Pong).number == 7
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


def test_what_goes_on_is_sent_before_what_has_ended_and_that_before_what_is_older():
    """By a slow link each frame takes seconds; in the viewers, the newest is what is to be seen."""
    with (
        relay() as endpoint,
        Publisher("headless", title="first", policy="every") as first,
        Publisher("headless", title="second", policy="every") as second,
        Publisher("headless", title="goes on", policy="every") as third,
    ):
        for publisher in (third, first, second):
            publisher.open(SHAPE, wait=30.0)
            wait_until(lambda publisher=publisher: any(row.attached for row in publisher.stats().receivers))
        for number, publisher in enumerate((third, first, second)):
            for c in range(2):
                publisher.publish(stamped(number, c), axes={"t": 0, "c": c})
            wait_until(lambda publisher=publisher: publisher.stats().receivers[0].frames.delivered == 2)
        with desk(endpoint, session="bcdefghi") as socket:
            first.close()
            second.close()
            assert {next_of(socket, messages.End).stream for _ in range(2)} == {2, 3}
        with desk(endpoint) as socket:
            pieces = []
            for _ in range(6):
                pieces.append(next_piece(socket))
                socket.send(messages.encode(messages.Ack(pieces[-1].number)))
            came = [(piece.stream, piece.index[1]) for piece in pieces]
            assert came == [(1, 0), (1, 1), (3, 0), (3, 1), (2, 0), (2, 1)]
