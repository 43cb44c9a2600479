"""`scopecast share`: who has no account on the other machine watches by a link, and nobody else does."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq

from children import wait_until
from desks import ConnectProcess, OtherMachine, ShareProcess
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher
from scopecast.link import messages as local
from scopecast.link.transport import KeyPair
from scopecast.remote import messages
from scopecast.remote.command import LinkError
from scopecast.remote.invitation import parse
from scopecast.remote.visit import GatewayLink, Visit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scopecast_viewers.receiving.live import LiveStream

pytestmark = pytest.mark.needs("a shell", "signals", "unix sockets")
SHAPE = (64, 48)
MIB = 2**20


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SCOPECAST_CONFIG", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def machine() -> Iterator[OtherMachine]:
    with OtherMachine.made() as made:
        yield made


@pytest.fixture
def camera(machine: OtherMachine) -> Iterator[Publisher]:
    with Publisher("headless", title="camera 1", policy="every", budget=8 * MIB) as made:
        with machine.there():
            made.open(SHAPE, wait=30.0)
        yield made


def publish(camera: Publisher, title: str, *timepoints: int) -> None:
    camera.new_stream(title, sizes={"t": 5})
    for t in timepoints:
        camera.publish(stamped(t), axes={"t": t})


def watched(camera: Publisher) -> bool:
    return any(row.attached and row.kind == "*" for row in camera.stats().receivers)


def run_of(viewer: Viewer, title: str) -> LiveStream | None:
    return next((each for each in viewer.streams if each.about.title == title), None)


def has(viewer: Viewer, title: str, *timepoints: int) -> bool:
    """Whether a run has exactly these frames, and all pixels of them."""
    stream = run_of(viewer, title)
    if stream is None or not stream.stacks:
        return False
    planes = planes_of(stream)
    exact = not any(stream.stacks[0].tag(index).preview for index in planes)
    return exact and sorted(check_stamp(plane)[0] for plane in planes.values()) == [*timepoints]


def refusal(machine: OtherMachine, link: str) -> str:
    """Return why `scopecast connect` does not connect."""
    with ConnectProcess(machine, host=link) as desk:
        assert desk.process.wait(60) == 1
        assert desk.process.stderr is not None
        (line,) = desk.process.stderr.read().splitlines()
        return line


class Stranger:
    """A ZeroMQ socket that speaks to a gateway as no desk would."""

    def __init__(self, link: str, keys: KeyPair, most: int = 1000) -> None:
        invitation = parse(link)
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        for option, value in ((zmq.LINGER, 0), (zmq.RECONNECT_IVL, -1), (zmq.RCVHWM, most), (zmq.SNDTIMEO, 20_000)):
            self.socket.setsockopt(option, value)
        keys.use(self.socket)
        self.socket.setsockopt(zmq.CURVE_SERVERKEY, Visit(invitation).server.encode())
        self._monitor = self.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED)
        self.socket.connect(f"tcp://{invitation.address}")

    def is_parted(self, seconds: float = 20.0) -> bool:
        """Whether the gateway has refused it, or ended the connection, within some time."""
        return bool(self._monitor.poll(int(1000 * seconds)))

    def until(self, kind: type[Any]) -> Any:
        """Return the next message of a kind."""
        while self.socket.poll(20_000):
            message = messages.decode_from_relay(self.socket.recv())
            if isinstance(message, kind):
                return message
        raise AssertionError(f"no {kind.__name__}")

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.disable_monitor()
        self._monitor.close(0)
        self.socket.close(0)
        self._context.term()


def admitted(link: str) -> KeyPair:
    """Use a link up, and return the keys that are known now."""
    visit = Visit(parse(link))
    with GatewayLink(visit, "lab-pc") as opened:
        opened.open()
    return visit.keys


HELLO = messages.encode(messages.Hello(1, 1, "abcdefgh", "not Ana", every=True))


@pytest.mark.usefixtures("transport")
def test_two_runs_in_a_row_are_shown_by_a_link_and_later_without_it(machine, camera):
    with Viewer() as viewer, ShareProcess(machine, "--name", "Ana") as share:
        assert share.link.startswith(share.address)
        with ConnectProcess(machine, host=share.link) as desk:
            desk.line("camera 1 @ 127.0.0.1 is live")
            share.line("Ana has been admitted, from 127.0.0.1")
            share.line("Ana is connected, from 127.0.0.1")
            wait_until(lambda: watched(camera))
            for number in range(2):
                publish(camera, f"run {number}", 0, 1, 2)
                viewer.wait_for(lambda number=number: has(viewer, f"run {number}", 0, 1, 2))
            (row,) = machine.listed()
            assert row["title"] == "Ana, by a link"
            assert json.loads(ShareProcess.said(machine, "--list", "--json"))["guests"][0]["connected"]
            assert "connected" in ShareProcess.said(machine, "--list")
            assert desk.end() == 130
        share.line("Ana has left")
        for link in (share.link, share.address):
            with ConnectProcess(machine, host=link) as desk:
                desk.line("camera 1 @ 127.0.0.1 is live")
            share.line("Ana has left")
        listed = json.loads(ShareProcess.said(machine, "--list", "--json"))
        ((guest,), links) = listed["guests"], listed["links"]
        assert (guest["name"], guest["role"], links) == ("Ana", "watch", [])
        assert guest["seen"] > guest["since"]
        assert not guest["connected"]
        assert parse(share.link).secret not in (machine.path / "config/remote/guests.json").read_text()
        assert share.end(signal.SIGINT) == 130
    with ShareProcess(machine, "--no-invite") as again, ConnectProcess(machine, host=share.address) as desk:
        assert again.address == share.address
        desk.line("camera 1 @ 127.0.0.1 is live")


@pytest.mark.fault("W7")
def test_a_link_that_was_used_or_has_expired_is_denied(machine, camera, config, monkeypatch):
    with ShareProcess(machine) as share:
        admitted(share.link)
        said = ShareProcess.said(machine, "--name", "Bob", "--for", "1s")
        expired = said.split("'")[1]
        wait_until(lambda: "Bob" not in ShareProcess.said(machine, "--list"))
        for link in (share.link, expired):
            monkeypatch.setenv("SCOPECAST_CONFIG", str(config / secrets.token_hex(4)))
            assert "does not take this link: it has been used, or has expired" in refusal(machine, link)
        assert "has not been admitted at" in error_of(lambda: Visit(parse(share.address)))
        with Stranger(share.link, KeyPair(parse(share.link).secret)) as stranger:
            assert stranger.is_parted()
        assert not machine.listed()


def is_greeted(connection: socket.socket) -> bool:
    with contextlib.suppress(ConnectionError):
        return bool(connection.recv(64))
    return False


def is_admitted(link: str) -> bool:
    with contextlib.suppress(LinkError):
        return bool(admitted(link))
    return False


def error_of(act: Callable[[], Any]) -> str:
    with pytest.raises(Exception, match=r".") as error:
        act()
    return str(error.value)


@pytest.mark.fault("W7")
def test_an_unknown_key_gets_nothing_and_a_link_does_nothing_but_enrol(machine, camera):
    with ShareProcess(machine) as share, Stranger(share.link, KeyPair()) as stranger:
        stranger.socket.send(HELLO)
        assert stranger.is_parted()
        assert not stranger.socket.poll(0)
        with Stranger(share.link, KeyPair(parse(share.link).secret)) as hasty:
            hasty.socket.send(HELLO)
            assert hasty.is_parted()
            assert not hasty.socket.poll(0)
        address = parse(share.address).address
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01NULL" + bytes(50)):
            with socket.create_connection((address.host, address.port), 20) as raw:
                raw.sendall(garbage)
                greeting = b""
                with contextlib.suppress(ConnectionError):
                    while data := raw.recv(4096):
                        greeting += data
            assert len(greeting) <= 64, "ZeroMQ's greeting, and nothing else"
        with contextlib.ExitStack() as silent:
            for number in range(9):
                each = silent.enter_context(socket.create_connection((address.host, address.port), 20))
                assert is_greeted(each) == (number < 8), "the ninth is closed at once"
        assert not machine.listed()
        wait_until(lambda: is_admitted(share.link))


@pytest.mark.fault("W7")
def test_a_guest_that_is_revoked_is_parted_and_stays_out(machine, camera):
    with ShareProcess(machine, "--name", "Ana") as share, ConnectProcess(machine, host=share.link) as desk:
        desk.line("is live")
        with Stranger(share.address, Visit(parse(share.address)).keys) as same:
            same.socket.send(HELLO)
            same.until(messages.Welcome)
            assert "Ana is no longer admitted" in ShareProcess.said(machine, "--revoke", "Ana")
            assert same.is_parted(), "the connection itself is ended"
        assert desk.process.wait(60) == 1
        assert "no longer admits this account: it was revoked" in desk.process.stderr.read().splitlines()[-1]
        share.line("Ana has left: revoked")
        assert "no longer admits this account" in refusal(machine, share.link)
        assert machine.listed() == [], "it is not awaited"
        assert ShareProcess.said(machine, "--list").strip() == "Nobody has been invited."


@pytest.mark.parametrize(("role", "said"), [("watch", "you were invited to watch only"), ("marks", "stale")])
def test_only_who_may_sends_marks(machine, camera, role, said):
    with ShareProcess(machine, "--role", role) as share, Stranger(share.link, admitted(share.link)) as guest:
        guest.socket.send(HELLO)
        guest.until(messages.Welcome)
        marks = local.Marks(1, "abcdefgh", 0, 0, {"t": 3}, {}, [512, 256], [], ["point"], [1], [1.5, 2.5], [""], "")
        guest.socket.send(messages.encode(messages.DeskMarks(7, 99, marks)))
        answer = guest.until(messages.Marked)
        assert (answer.number, answer.fate) == (7, "refused")
        assert said in answer.reason


@pytest.mark.fault("W1", "W2")
@pytest.mark.parametrize("killed", ["the gateway", "the relay"])
def test_what_was_killed_and_is_started_again_goes_on_in_the_same_layers(machine, camera, killed):
    with Viewer() as viewer, ShareProcess(machine) as share, ConnectProcess(machine, host=share.link) as desk:
        desk.line("is live")
        wait_until(lambda: watched(camera))
        publish(camera, "run", 0, 1)
        viewer.wait_for(lambda: has(viewer, "run", 0, 1))
        if killed == "the gateway":
            share.process.kill()
            share.process.wait(20)
        else:
            os.kill(machine.directory.living("relay")[0].pid, signal.SIGKILL)
        desk.line("trying again")
        with ShareProcess(machine, "--no-invite") if killed == "the gateway" else contextlib.nullcontext():
            desk.line("Connected")
            wait_until(lambda: watched(camera))
            camera.publish(stamped(2), axes={"t": 2})
            viewer.wait_for(lambda: has(viewer, "run", 0, 1, 2))
            assert len(viewer.streams) == 1


@pytest.mark.fault("W8")
@pytest.mark.needs("stopped processes", "/dev/shm")
def test_a_guest_that_does_not_read_takes_no_memory_and_holds_up_nobody(machine):
    """One is stopped; the other says of all frames that it has them, and reads none."""
    random = np.random.default_rng(0)
    with (
        ShareProcess(machine, "--name", "stopped") as share,
        Viewer() as viewer,
        Publisher("headless", title="camera 1", budget=16 * MIB) as camera,
        ConnectProcess(machine, host=share.link) as stopped,
        ConnectProcess(machine, host="me@other") as desk,
        machine.there(),
    ):
        camera.open((1024, 1024), wait=30.0)
        for each in (stopped, desk):
            each.line("is live")
        wait_until(lambda: watched(camera))
        link = ShareProcess.said(machine, "--name", "liar").split("'")[1]
        with Stranger(link, admitted(link), most=1) as liar:
            liar.socket.send(HELLO)
            wait_until(lambda: len(machine.listed()) == 3)
            os.kill(stopped.process.pid, signal.SIGSTOP)
            before = peak(share)
            acks = [messages.encode(messages.Ack(number)) for number in range(1, 400)]
            camera.new_stream("run", sizes={"t": 100})
            for t in range(100):
                labels = random.integers(0, 2**16, (1024, 1024)).astype(np.uint16)  # 2 MiB, which always go exact
                camera.publish(labels, axes={"t": t}, kind="labels", name="cells")
                for ack in acks:
                    liar.socket.send(ack)
            assert camera.flush(60.0), "the acquisition does not wait"
            viewer.wait_for(lambda: any((99,) in stream.stacks[0].layout.planes for stream in runs_of(viewer, "other")))
            rows = {row["title"]: row for row in machine.listed()}

            assert peak(share) - before < 48 * MIB, "of 400 MiB"
            assert rows["liar, by a link"]["exact"] + rows["liar, by a link"]["preview"] < 20
            os.kill(stopped.process.pid, signal.SIGCONT)


def peak(share: ShareProcess) -> int:
    """The most memory that the gateway has had, in bytes."""
    status = Path(f"/proc/{share.process.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def runs_of(viewer: Viewer, host: str) -> list[LiveStream]:
    return [stream for stream in viewer.streams if stream.title.endswith(f"@ {host}") and stream.stacks]


@pytest.mark.fault("W8")
@pytest.mark.needs("/dev/shm")  # Linux, which tells the peak
def test_what_a_guest_sends_is_checked_and_disturbs_nobody(machine, camera):
    with ShareProcess(machine) as share, Viewer() as viewer, ConnectProcess(machine, host="lab-pc") as desk:
        keys = admitted(share.link)
        desk.line("is live")
        wait_until(lambda: watched(camera))
        with Stranger(share.address, keys) as guest:
            for data in (b"", b"\xc1", b"\x91" * 50_000, secrets.token_bytes(1000), messages.encode(messages.Ack(5))):
                guest.socket.send(data)
            guest.socket.send_multipart([b"two", b"parts"])
            for message in (messages.ListDesks(), messages.Enrol(KeyPair().public)):
                guest.socket.send(messages.encode(message))
            guest.socket.send(HELLO)
            guest.until(messages.Welcome)
            for message in (messages.ListDesks(), messages.Ack(2**62), messages.Fetch(99), messages.View(9, [7])):
                guest.socket.send(messages.encode(message))
            guest.socket.send(b"\xc1")
            guest.until(messages.Ping)
            guest.socket.send(bytes(messages.MAX_FROM_DESK + 1))
            assert guest.is_parted()
        before = peak(share)
        with Stranger(share.address, keys) as endless:
            for _ in range(5000):  # of which it takes none before the last
                endless.socket.send(bytes(60_000), zmq.SNDMORE)
            endless.socket.send(b"")
            assert endless.is_parted()
        assert peak(share) - before < 150 * MIB, "of 300 MB"
        publish(camera, "run", 0, 1)
        viewer.wait_for(lambda: has(viewer, "run", 0, 1))
        with contextlib.ExitStack() as stack:
            same = [stack.enter_context(Stranger(share.address, keys)) for _ in range(5)]
            for each in same:
                each.socket.send(HELLO)
            wait_until(lambda: sum(each.is_parted(0.0) for each in same) == 1, "four of one guest are enough")
        with Stranger(share.address, keys) as guest:
            for number in range(20):
                hello = messages.Hello(1, 1, "abcdef" + "abcdefgh"[number // 8] + "abcdefgh"[number % 8])
                guest.socket.send(messages.encode(hello))
            assert "wait ten minutes" in guest.until(messages.Bye).reason
            assert len(machine.listed()) <= 17, "16 of the guest, and the other desk"


def test_what_does_not_work_is_said_in_one_line(machine, camera):
    with ShareProcess(machine) as share:
        link = share.link
    with socket.socket() as taken:
        address = parse(link).address
        taken.bind((address.host, address.port))
        again = ShareProcess.refused(machine, "--no-invite")
        assert f"the port {address.port} can't be had" in again
    assert "see whether `scopecast share` runs there" in refusal(machine, link)
    with socket.create_server((address.host, address.port)):  # which takes connections, and never says anything
        assert "takes connections, and says nothing: see whether it is the `scopecast share`" in refusal(machine, link)
    with pytest.raises(LinkError, match="no machine is called nowhere"):
        Visit(parse(link.replace("127.0.0.1", "nowhere.invalid"))).dial()
    with ConnectProcess(machine, host=link[:-1]) as desk:
        assert desk.process.wait(60) == 2
        assert "a link looks like scopecast://" in desk.process.stderr.read()
    with ConnectProcess(machine, "--every", host=link) as desk:
        assert desk.process.wait(60) == 2
        assert "not for guests" in desk.process.stderr.read()
