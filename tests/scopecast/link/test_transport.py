"""The way to a publisher: which transport is chosen, what is said where there is none, and what a receiver is told."""

from __future__ import annotations

import logging
import stat
import sys
from typing import ClassVar

import pytest
import zmq

from children import wait_until
from peers import entry_of, peers
from receivers import Viewer, check_stamp, planes_of, stamped, viewer_process
from scopecast import Publisher, StreamingBackend
from scopecast.errors import TransportError
from scopecast.link import messages
from scopecast.link.transport import ENVIRONMENT, KeyPair, chosen_transport
from scopecast.rundir.directory import RunDirectory

#: A HELLO of protocol 1, as in tests/scopecast/link/test_messages.py, of a headless viewer.
HELLO = bytes.fromhex("97a548454c4c4f0101a86162636432333435a8686561646c657373cd1267a46465736b")


class Headless(StreamingBackend):
    """Streams to a viewer without a window."""

    VIEWER_TYPE = "headless"
    SHM_PREFIX = "transport_"
    SUPPORTED_EXTENSIONS: ClassVar = {".tif"}


def without(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    """Let ZeroMQ be built without something."""
    has = zmq.has
    monkeypatch.setattr(zmq, "has", lambda name: name != capability and has(name))


# ---- choosing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "chosen"),
    [
        *[("tcp", "tcp"), (" TCP ", "tcp"), ("", None)],
        pytest.param("ipc", "ipc", marks=pytest.mark.needs("unix sockets")),
    ],
)
def test_the_environment_chooses(monkeypatch, value, chosen):
    monkeypatch.setenv(ENVIRONMENT, value)
    assert chosen_transport() == (chosen or ("tcp" if sys.platform == "win32" else "ipc"))


@pytest.mark.parametrize(
    ("value", "lacking", "words"),
    [
        ("udp", "", ["'udp'", "'ipc'", "'tcp'", ENVIRONMENT]),
        ("tcp", "curve", ["CURVE", "pip install"]),
        ("ipc", "ipc", [f"{ENVIRONMENT}=tcp"]),
    ],
)
def test_what_can_not_be_had_is_said_once_and_publish_goes_on(monkeypatch, caplog, value, lacking, words):
    monkeypatch.setenv(ENVIRONMENT, value)
    without(monkeypatch, lacking)
    with pytest.raises(TransportError):
        chosen_transport()
    with Publisher("headless", policy="every") as publisher:
        assert [publisher.publish(stamped(t), axes={"t": t}) for t in range(5)] == [-1] * 5
        assert publisher.stats().skipped == {"no connection to viewers": 5}
        assert publisher.stats().balanced
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "headless viewers disabled" in line
    assert [word for word in words if word not in line] == []


def test_a_viewer_whose_zeromq_has_no_curve_says_what_to_install(monkeypatch):
    monkeypatch.setenv(ENVIRONMENT, "tcp")
    with Publisher("headless", title="scope") as publisher:
        publisher.open((64, 48), wait=10)
        with Viewer() as good, monkeypatch.context() as patch:
            without(patch, "curve")
            with Viewer() as poor:
                poor.wait_for(lambda: poor.sources and poor.sources[0].state == "refused")
                assert "pip install" in poor.sources[0].problem
                good.wait_for(lambda: good.attached)
                assert [row.token for row in publisher.stats()] == [good.token]


# ---- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="has no modes")
def test_keys_are_new_each_time_and_no_secret_leaves_the_process(monkeypatch, runtime_dir):
    monkeypatch.setenv(ENVIRONMENT, "tcp")
    with Viewer() as one, Viewer() as two, Publisher("headless") as first, Publisher("headless") as second:
        for publisher in (first, second):
            publisher.open((64, 48), wait=10)
        keys = [entry.key for entry in RunDirectory().entries()]
        assert len(set(keys)) == 4
        secrets = [viewer.receiver._keys.secret.encode() for viewer in (one, two)]
        for path in runtime_dir.iterdir():
            assert not [secret for secret in secrets if secret in path.read_bytes()]
            if path.suffix == ".json":
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
    pair = KeyPair()
    assert pair.secret not in repr(pair)


# ---- the same by both --------------------------------------------------------------------------------------------


def test_the_endpoint_is_what_was_chosen(transport):
    with Publisher("headless") as publisher:
        publisher.open((64, 48), wait=10)
        entry = entry_of(publisher)
        assert entry.endpoint.startswith("tcp://127.0.0.1:" if transport == "tcp" else "ipc:///")
        assert bool(entry.key) == (transport == "tcp")


@pytest.mark.usefixtures("transport")
def test_the_golden_hello_is_welcome():
    with Publisher("headless", title="camera") as publisher:
        publisher.open((64, 48), wait=10)
        with peers(publisher) as (peer,):
            peer.socket.send(HELLO)
            welcome = peer.answer()
            assert isinstance(welcome, messages.Welcome)
            assert welcome.token == entry_of(publisher).token
            (row,) = publisher.stats()
            assert (row.token, row.pid, row.title) == ("abcd2345", 4711, "desk")


@pytest.mark.usefixtures("transport")
def test_a_batch_reaches_a_viewer_in_a_process_of_its_own():
    with viewer_process() as viewer, Headless(launch=False) as backend:
        receipt = backend.save_batch([stamped(t) for t in range(40)], [f"t{t:03d}.tif" for t in range(40)])
        assert receipt.frames == 40
        assert backend.flush(20)
        (row,) = backend.stats()
        assert (row.token, row.pid) == (viewer.token, viewer.pid)
        assert (row.frames.delivered, row.frames.in_flight) == (40, 0)
        assert backend.stats().balanced


@pytest.mark.needs("unix sockets")
def test_a_viewer_shows_publishers_of_either_transport_at_once(monkeypatch):
    with Viewer() as viewer:
        for name in ("ipc", "tcp"):
            monkeypatch.setenv(ENVIRONMENT, name)
            with Publisher("headless", title=name, policy="every") as publisher:
                for t in range(20):
                    publisher.publish(stamped(t), axes={"t": t})
                assert publisher.flush(10)
        assert sorted(stream.title for stream in viewer.streams) == ["ipc", "tcp"]
        for stream in viewer.streams:
            assert sorted(check_stamp(plane)[0] for plane in planes_of(stream).values()) == list(range(20))


@pytest.mark.usefixtures("transport")
def test_a_viewer_that_lost_its_connection_comes_back():
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        (source,) = viewer.sources
        source._broken = True  # as the monitor would tell it
        wait_until(lambda: [row.attached for row in publisher.stats()] == [False, True], "attached anew")
        for t in range(1, 20):
            publisher.publish(stamped(t), axes={"t": t})
        assert publisher.flush(10)
        rows = list(publisher.stats())
        assert {row.token for row in rows} == {viewer.token}
        assert rows[-1].frames.delivered == 20, "the newest from before, and all that came since"
        assert publisher.stats().balanced
