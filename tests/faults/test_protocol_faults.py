"""Peers of another version, floods, wake-ups that get lost."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq

from children import Child, wait_until
from peers import entry_of, peers
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher
from scopecast.link import messages
from scopecast.publishing.receivers import MAX_RECEIVERS
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher("headless", title="scope") as publisher:
        publisher.open((64, 48), wait=10)
        yield publisher


@pytest.mark.fault("V7")
@pytest.mark.parametrize(
    ("low", "high", "what"), [(0, 0, "update this viewer"), (2, 3, "update scopecast in the acquisition")]
)
@pytest.mark.usefixtures("transport")
def test_a_viewer_of_another_protocol_is_told_what_to_update(publisher, low, high, what):
    with peers(publisher) as (peer,):
        peer.hello(low, high)
        answer = peer.answer()
        assert isinstance(answer, messages.Reject)
        assert what in answer.reason
        assert not answer.again
        assert publisher.publish(stamped(0), axes={"t": 0}) == 0
        assert list(publisher.stats()) == []
        # The same peer, updated.
        peer.hello(0, 7)
        assert isinstance(peer.answer(), messages.Welcome)


@pytest.mark.fault("V7")
@pytest.mark.parametrize("spoken", [0, 2])
def test_the_viewer_says_what_to_update(publisher, spoken):
    viewer = Viewer()
    viewer.receiver._hello = messages.Hello(spoken, spoken, viewer.token, "headless", os.getpid())
    with viewer, Viewer() as good:
        viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "refused")
        assert "update" in viewer.sources[0].problem
        good.wait_for(lambda: good.attached)
        publisher.publish(stamped(0), axes={"t": 0})
        good.wait_for(lambda: good.streams and good.streams[0].received == 1)
        assert viewer.streams == ()


@pytest.mark.fault("V7")
@pytest.mark.usefixtures("transport")
def test_fields_that_a_newer_peer_appends_are_ignored(publisher):
    with peers(publisher) as (peer,):
        hello = ["HELLO", 1, 2, new_token(), "headless", 7, "newer", False, {"gpu": True}, [1, 2, 3], None]
        peer.socket.send(msgspec.msgpack.encode(hello))
        assert isinstance(peer.answer(), messages.Welcome)
        publisher.publish(stamped(0), axes={"t": 0})
        assert isinstance(peer.answer(), messages.Stream)
        frame = peer.answer()
        ack = ["ACK", frame.epoch, frame.slot, frame.generation, "delivered", "in colour"]
        peer.socket.send(msgspec.msgpack.encode(ack))
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 1


@pytest.mark.fault("V8")
@pytest.mark.usefixtures("transport")
def test_frames_flow_to_a_good_viewer_through_a_flood(publisher):
    with Viewer() as good, Child("flood", entry_of(publisher).token, 100_000) as flood:
        good.wait_for(lambda: good.attached)
        assert flood.line() == "flooding"
        for t in range(300):
            publisher.publish(stamped(t), axes={"t": t}, policy="every")
        assert flood.line(60) == "done"
        good.wait_for(lambda: good.streams and good.streams[0].received == 300, timeout=30)
        shown = [check_stamp(plane)[0] for _, plane in sorted(planes_of(good.streams[0]).items())]
        assert shown == list(range(300))
        assert publisher.flush(10), "its last answers come among those of the flood"
        row = next(row for row in publisher.stats() if row.token == good.token)
        assert row.attached
        assert row.frames.delivered == 300
        assert publisher.session.receivers.protocol_errors > 1000
        assert publisher.session.keeper.errors == 0
    wait_until(lambda: len(publisher.session.receivers.attached) == 0)
    assert publisher.flush(10)
    assert publisher.stats().balanced


@pytest.mark.fault("V8")
@pytest.mark.usefixtures("transport")
def test_only_so_many_viewers_are_served(publisher):
    directory = RunDirectory()
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(peers(publisher, MAX_RECEIVERS + 1))
        members = [stack.enter_context(directory.join("receiver", "headless")) for _ in found]
        for peer, member in zip(found, members, strict=True):
            peer.hello(token=member.token)
        answers = [peer.answer() for peer in found]
        (refused,) = [answer for answer in answers if isinstance(answer, messages.Reject)]
        assert f"{MAX_RECEIVERS} viewers" in refused.reason
        assert sum(isinstance(answer, messages.Welcome) for answer in answers) == MAX_RECEIVERS
        assert publisher.publish(stamped(0), axes={"t": 0}) == 0


def test_a_receiver_that_vanishes_while_it_is_greeted_leaves_no_account(publisher):
    for _ in range(20):
        with peers(publisher, 4) as found:
            for peer in found:
                peer.hello()
    hub = publisher.session.receivers
    publisher.publish(stamped(0), axes={"t": 0})
    wait_until(lambda: not hub.attached)
    assert publisher.session.accounts.receivers == {}
    assert publisher.flush(10)


# ---- what is no peer at all --------------------------------------------------------------------------------------

#: ZMTP 3.1 (RFC 37): signature, version, mechanism, as-server, filler.
GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


@pytest.mark.fault("H1")
@pytest.mark.parametrize(
    "says",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", id="http"),
        pytest.param(bytes(range(256)) * 64, id="garbage"),
        pytest.param(b"\xff" * 4096, id="ones"),
        pytest.param(GREETING[:5], id="half a signature"),
        pytest.param(GREETING[:40], id="half a greeting"),
        pytest.param(GREETING, id="a greeting and no more"),
        pytest.param(GREETING + b"\x04\xff" + b"garbage" * 99, id="a garbled handshake"),
        pytest.param(GREETING.replace(b"NULL", b"EVIL"), id="an unknown mechanism"),
    ],
)
@pytest.mark.parametrize("stays", [True, False])
def test_what_is_no_peer_harms_nobody(publisher, says, stays):
    endpoint = entry_of(publisher).endpoint.removeprefix("ipc://")
    with Viewer() as viewer, contextlib.ExitStack() as stack:
        viewer.wait_for(lambda: viewer.attached)
        for _ in range(MAX_RECEIVERS + 2):  # they take no viewer's place
            raw = stack.enter_context(socket.socket(socket.AF_UNIX))
            raw.settimeout(10)
            raw.connect(endpoint)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # closed before all of it was said
                raw.sendall(says)
            if not stays:
                raw.close()
        with Viewer(title="late") as late:
            late.wait_for(lambda: late.attached)
            for t in range(20):
                publisher.publish(stamped(t), axes={"t": t}, policy="every")
            assert publisher.flush(10)
        row = next(row for row in publisher.stats() if row.token == viewer.token)
        assert row.frames.delivered == 20
        assert publisher.session.keeper.errors == 0


@pytest.mark.fault("H1")
def test_one_that_says_nothing_is_hung_up_on(publisher):
    """Otherwise each of them would hold one of the producer's descriptors for ever."""
    endpoint = entry_of(publisher).endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(20)  # the handshake has 2 s
        raw.connect(endpoint)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(4096):
                pass


@pytest.mark.fault("H2")
def test_a_message_that_is_one_byte_too_large_is_not_taken_in(publisher):
    hub = publisher.session.receivers
    with peers(publisher, 2) as (peer, large):
        for each in (peer, large):
            each.hello(token=each.member.token)
            assert isinstance(each.answer(), messages.Welcome)
        peer.socket.send(bytes(messages.MAX_MESSAGE_BYTES))
        wait_until(lambda: hub.protocol_errors == 1, "read, and no message of ours")
        monitor = large.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        large.socket.send(bytes(messages.MAX_MESSAGE_BYTES + 1))
        assert monitor.poll(20_000), "its connection is closed"
        large.socket.disable_monitor()
        monitor.close(0)
        assert hub.protocol_errors == 1, "it was not delivered"
        assert publisher.publish(stamped(0), axes={"t": 0}) == 0


# ---- ZMQ_FD tells of an arrival only once ------------------------------------------------------------------------


@pytest.fixture
def without_heartbeat(monkeypatch):
    """Nothing wakes the keeper but messages, and those who took their signal from it."""
    monkeypatch.setattr("scopecast.publishing.keeper.HEARTBEAT_S", 3600.0)
    with Publisher("headless", linger=0.0) as publisher:
        publisher.open((64, 48), wait=10)
        yield publisher


@pytest.mark.parametrize("use", ["broadcast", "drain", "publish"])
@pytest.mark.usefixtures("transport")
def test_what_arrives_while_the_socket_is_used_is_read_without_delay(without_heartbeat, use):
    publisher = without_heartbeat
    hub = publisher.session.receivers
    with peers(publisher) as (peer,):
        peer.hello()
        assert isinstance(peer.answer(), messages.Welcome)
        wait_until(lambda: hub.attached)
        count = 2000 if use != "broadcast" else 1
        for _ in range(5):
            before = hub.protocol_errors
            with publisher.session.guard.lock:
                for _ in range(count):
                    peer.socket.send(b"nonsense")
                # Asking takes the signal from the keeper.
                wait_until(lambda: hub.router.readable)
                if use == "broadcast":
                    hub.end(99)
                elif use == "drain":
                    hub.drain_if_any()
                    assert hub.protocol_errors < before + count, "bounded work in publish()"
            if use == "publish":
                publisher.publish(stamped(0), axes={"t": 0})
            wait_until(lambda: hub.protocol_errors == before + count, "read by the keeper", 10)  # noqa: B023


def test_the_keeper_survives_a_mistake_and_says_so(publisher, monkeypatch, caplog):
    with Viewer() as viewer:
        viewer.wait_for(lambda: viewer.attached)
        monkeypatch.setattr(publisher.session.keeper, "_beat", lambda: 1 / 0)
        wait_until(lambda: publisher.session.keeper.errors >= 2)
        for t in range(20):
            publisher.publish(stamped(t), axes={"t": t}, policy="every")
        assert publisher.flush(10)
    assert sum(record.levelname == "ERROR" for record in caplog.records) == 1
