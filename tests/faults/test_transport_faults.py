"""Strangers at the door: other users on tcp, keys that are stale, garbage, and messages that are too large."""

from __future__ import annotations

import shutil
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import zmq

from children import Child, wait_until
from peers import Peer, entry_of, peers
from receivers import Viewer, check_stamp, planes_of, stamped, viewer_process
from scopecast import Publisher
from scopecast.link import messages as wire
from scopecast.link.transport import KeyPair, bind, connect
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NOBODY = 65534
as_root = pytest.mark.needs("a user to switch to")


@pytest.fixture
def by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCOPECAST_TRANSPORT", "tcp")


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("headless", title="scope") as publisher:
        publisher.open((64, 48), wait=10)
        yield publisher


def publish_to(viewer: Viewer, publisher: Publisher, count: int) -> None:
    """Publish frames, and see that the viewer has them all."""
    wait_until(lambda: any(row.attached and row.token == viewer.token for row in publisher.stats()), "attached")
    for t in range(count):
        publisher.publish(stamped(t), axes={"t": t}, policy="every")
    assert publisher.flush(20)
    (stream,) = viewer.streams
    assert [check_stamp(plane)[0] for _, plane in sorted(planes_of(stream).items())] == list(range(count))
    assert publisher.stats().balanced


# ---- other users -------------------------------------------------------------------------------------------------


@pytest.mark.fault("H8")
@pytest.mark.usefixtures("by_tcp")
@pytest.mark.parametrize("user", [pytest.param(NOBODY, marks=as_root, id="another user"), pytest.param(0, id="no key")])
def test_a_stranger_on_tcp_is_refused_and_never_heard(publisher, runtime_dir, user):
    entry = entry_of(publisher)
    hub = publisher.session.receivers
    with Viewer() as viewer, Child("stranger", entry.endpoint, entry.key, runtime_dir, user) as stranger:
        answers = stranger.line(90)
        assert stranger.wait() == 0
        may_read = answers.pop("may read")
        assert may_read == (not user)
        assert answers == dict.fromkeys(("null", "plain", "wrong key", "unknown key"), False)
        publish_to(viewer, publisher, 20)
        assert [row.token for row in publisher.stats()] == [viewer.token]
        assert hub.protocol_errors == 0, "not a word of the stranger's was read"
        # The others did not come as far as the gate.
        assert (hub.router.gate.admitted, hub.router.gate.refused) == (1, 1)


def handshake(context: zmq.Context, act: Callable[[zmq.Socket], None]) -> bool:
    """Whether the socket that `act` connects is let in."""
    with context.socket(zmq.DEALER) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
        act(socket)
        event = int.from_bytes(monitor.recv_multipart()[0][:2], sys.byteorder) if monitor.poll(20_000) else None
        socket.disable_monitor()
        monitor.close(0)
        assert event is not None, "no answer"
        return event == zmq.EVENT_HANDSHAKE_SUCCEEDED


@pytest.mark.fault("H8")
@pytest.mark.usefixtures("by_tcp")
def test_a_key_is_good_as_long_as_its_receiver_lives(publisher):
    directory, keys, entry = RunDirectory(), KeyPair(), entry_of(publisher)
    member = directory.join("receiver", "headless", key=keys.public)
    with zmq.Context() as context:
        assert handshake(context, lambda socket: connect(socket, entry, keys))
        written = directory.file(member.token, "json").read_bytes()
        member.close()
        directory.file(member.token, "json").write_bytes(written)  # as it stays behind one that was killed
        assert directory.entries("receiver")[0].key == keys.public
        assert not handshake(context, lambda socket: connect(socket, entry, keys))
        # Nor is the key of one that publishes a key to come in with.
        with directory.join("publisher", "headless", key=keys.public):
            assert not handshake(context, lambda socket: connect(socket, entry, keys))


@pytest.mark.fault("H8")
@pytest.mark.usefixtures("by_tcp")
def test_without_anyone_at_the_gate_nobody_comes_in():
    keys = KeyPair()
    directory = RunDirectory()
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        directory.join("publisher", "headless") as publisher,
        directory.join("receiver", "headless", key=keys.public),
    ):
        router.setsockopt(zmq.LINGER, 0)
        # As the hub's: a gate that is being closed may still take a question, which nobody answers.
        router.setsockopt(zmq.HANDSHAKE_IVL, 2000)
        gate = bind(router, publisher)
        assert gate is not None
        gate.close()
        with zmq.Context() as elsewhere:
            assert not handshake(elsewhere, lambda socket: connect(socket, publisher.entry, keys))
        assert not router.poll(0)


@pytest.mark.fault("H8")
@pytest.mark.parametrize("curve", [True, False], ids=["with a key of its own", "without a key"])
def test_a_stranger_on_a_publishers_port_hears_nothing_from_a_viewer(curve):
    """Another user's process may get the port of a publisher that ended without closing, or of one that froze."""
    directory = RunDirectory()
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        directory.join("publisher", "headless", title="scope") as member,
    ):
        router.setsockopt(zmq.LINGER, 0)
        if curve:
            KeyPair().use(router)
            router.setsockopt(zmq.CURVE_SERVER, 1)
        events = router.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        router.bind("tcp://127.0.0.1:*")
        member.entry.endpoint = router.getsockopt_string(zmq.LAST_ENDPOINT)
        member.entry.key = KeyPair().public
        member.entry.state = "ready"
        member.write()
        with Viewer() as viewer:
            viewer.wait_for(lambda: viewer.sources)
            for _ in range(3):  # it tries again and again
                assert events.poll(20_000)
                assert int.from_bytes(events.recv_multipart()[0][:2], sys.byteorder) == zmq.EVENT_DISCONNECTED
            assert not router.poll(0), "not a word"
            assert not viewer.attached
        router.disable_monitor()
        events.close(0)


@pytest.mark.fault("H8")
def test_a_publisher_without_a_key_is_not_talked_to():
    directory = RunDirectory()
    with (
        zmq.Context() as context,
        context.socket(zmq.ROUTER) as router,
        directory.join("publisher", "headless", title="an old one") as member,
    ):
        router.setsockopt(zmq.LINGER, 0)
        router.bind("tcp://127.0.0.1:*")
        member.entry.endpoint, member.entry.state = router.getsockopt_string(zmq.LAST_ENDPOINT), "ready"
        member.write()
        with Viewer() as viewer:
            viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "refused")
            assert "'an old one'" in viewer.sources[0].problem
            assert "no key" in viewer.sources[0].problem
            assert not router.poll(0)


# ---- garbage -----------------------------------------------------------------------------------------------------

GARBAGE = {
    "http": b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nHELLO",
    "wrong magic": b"\x00" * 64,
    "noise": bytes(range(256)) * 64,
    "half a greeting": b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f",
    "another mechanism": b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01GSSAPI" + bytes(46),
    "an old version": b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01\x05",
    "a ready without a greeting": b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER",
    "nothing": b"",
}
#: To ZeroMQ these look like peers from before version 3 of its protocol, of which it can expect no more than patience.
#: With CURVE there are no such peers; without it, in the run directory, they can only be this user's own.
ANCIENT = {"http", "an old version", "a ready without a greeting"}


def raw_connection(endpoint: str) -> socket.socket:
    kind, _, address = endpoint.partition("://")
    if kind == "ipc":
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(20)
        raw.connect(address)
        return raw
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def read_to_the_end(raw: socket.socket) -> None:
    """Return once the publisher has closed the connection; TimeoutError if it does not in time."""
    try:
        while raw.recv(4096):
            pass
    except ConnectionError:  # it did not even read what we sent
        pass


@pytest.mark.fault("H1")
def test_garbage_is_ignored_and_its_connection_closed(transport, publisher):
    endpoint = entry_of(publisher).endpoint
    assert endpoint.startswith(transport)
    with Viewer() as viewer, ExitStack() as stack:
        raws = [stack.enter_context(raw_connection(endpoint)) for _ in GARBAGE]
        for raw, data in zip(raws, GARBAGE.values(), strict=True):
            raw.sendall(data)
        publish_to(viewer, publisher, 30)
        for raw, what in zip(raws, GARBAGE, strict=True):
            if transport == "tcp" or what not in ANCIENT:
                read_to_the_end(raw)
        hub = publisher.session.receivers
        assert (hub.protocol_errors, publisher.session.keeper.errors) == (0, 0)
        assert [row.token for row in publisher.stats() if row.attached] == [viewer.token]


@pytest.mark.fault("H2")
@pytest.mark.usefixtures("transport")
def test_a_huge_message_closes_the_connection_that_brought_it(publisher):
    hub = publisher.session.receivers
    with Viewer() as viewer, peers(publisher) as (peer,):
        peer.hello(token=peer.member.token)
        assert isinstance(peer.answer(), wire.Welcome)
        monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        # One that is just small enough is read, and makes no sense.
        peer.socket.send(bytes(60_000))
        wait_until(lambda: hub.protocol_errors == 1)
        peer.socket.send(bytes(100_000))
        assert monitor.poll(20_000), "not closed"
        peer.socket.disable_monitor()
        monitor.close(0)
        publish_to(viewer, publisher, 20)
        assert hub.protocol_errors == 1
        assert publisher.stats().balanced


# ---- a viewer dies -----------------------------------------------------------------------------------------------


@pytest.mark.fault("V1")
@pytest.mark.usefixtures("transport")
def test_a_death_is_noticed_without_any_heartbeat(monkeypatch, caplog):
    """By the connection that breaks, and then by the lock, which the kernel may free a little later."""
    monkeypatch.setattr("scopecast.publishing.keeper.HEARTBEAT_S", 3600.0)
    monkeypatch.setattr("scopecast.publishing.keeper.SUSPECT_S", 60.0)
    with Publisher("headless", linger=0.0) as publisher:
        publisher.open((64, 48), wait=10)
        for number in range(3):
            with viewer_process() as viewer:
                wait_until(lambda: any(row.attached for row in publisher.stats()), "attached")
                viewer.process.kill()
                wait_until(lambda: not any(row.attached for row in publisher.stats()), f"noticed, death {number}")
                viewer.process.wait(10)
        assert sum("its process died" in message for message in caplog.messages) == 3


# ---- the run directory goes --------------------------------------------------------------------------------------


@pytest.mark.fault("P12")
@pytest.mark.usefixtures("by_tcp")
@pytest.mark.skipif(sys.platform == "win32", reason="files that are open can't be removed there")
def test_without_the_run_directory_who_is_attached_by_tcp_stays_so(publisher, runtime_dir: Path):
    with Viewer() as viewer:
        publish_to(viewer, publisher, 5)
        aside = runtime_dir.with_suffix(".removed")  # at once: who lives writes anew what is missing
        runtime_dir.rename(aside)
        shutil.rmtree(aside)
        for t in range(5, 40):
            publisher.publish(stamped(t), axes={"t": t}, policy="every")
        assert publisher.flush(20)
        assert viewer.sources[0].delivered == 40
        (row,) = publisher.stats()
        assert (row.attached, row.frames.delivered) == (True, 40)
        # Nobody can read the keys any more, so nobody new comes in, until those that run have entered anew.
        wait_until(runtime_dir.is_dir, "the viewer has made it again")
        with zmq.Context() as context:
            peer = Peer(context, publisher.session.member.entry)
            peer.hello(token=peer.member.token)
            assert isinstance(peer.answer(), wire.Welcome)
            peer.close()
