"""`scopecast relay --to`: a machine that nobody can log in to shows on another one what is published on it."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import psutil
import pytest

from children import wait_until
from desks import OtherMachine
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher
from scopecast.remote import dial as dialling
from scopecast.remote import messages
from scopecast.remote.command import Command
from scopecast.remote.dial import Dial
from scopecast.rundir.directory import RunDirectory
from talking import Talking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast_viewers.receiving.live import LiveStream

pytestmark = pytest.mark.needs("a shell", "signals", "unix sockets")
SHAPE = (64, 48)


class DialProcess(Talking):
    """``scopecast relay --to`` in a process of its own."""

    def __init__(self, machine: OtherMachine, *options: str) -> None:
        command = f"{shlex.quote(sys.executable)} -m scopecast"
        where = ("--to", "me@workstation", "--viewer", "headless", "--ssh", machine.ssh, "--command", command)
        ends = ("--name", "node7", "--end-after", "1s")
        super().__init__([sys.executable, "-m", "scopecast", "relay", *where, *ends, *options])


def desks_of(machine: OtherMachine) -> list[psutil.Process]:
    """The processes on a machine that wait for others to dial in."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "--dialled" in process.cmdline() and process.environ()["SCOPECAST_RUNTIME_DIR"] == str(machine.path):
                found.append(process)
    return found


@pytest.fixture
def workstation() -> Iterator[OtherMachine]:
    with OtherMachine.made() as made:
        yield made
        for process in desks_of(made):
            process.terminate()
            process.wait(30)
    for relay in RunDirectory().living("relay"):  # it waits for a desk that did not get all
        os.kill(relay.pid, signal.SIGTERM)
    wait_until(lambda: not RunDirectory().living("relay"), "the relay ends")


@pytest.fixture
def viewer(workstation: OtherMachine) -> Iterator[Viewer]:
    """A viewer there."""
    with workstation.there():
        made = Viewer()
    with made:
        yield made


@pytest.fixture
def camera() -> Iterator[Publisher]:
    """A program that publishes here."""
    with Publisher("headless", title="camera 1", policy="every", budget=8 * 2**20) as made:
        made.open(SHAPE, wait=30.0)
        yield made


def numbers(stream: LiveStream) -> list[int]:
    """The numbers of the frames that a run has, exact."""
    if not stream.stacks:
        return []
    planes = planes_of(stream)
    return sorted(check_stamp(plane)[0] for at, plane in planes.items() if not stream.stacks[0].tag(at).preview)


def publish(camera: Publisher, first: int, end: int) -> None:
    for t in range(first, end):
        camera.publish(stamped(t), axes={"t": t})


def watched(camera: Publisher) -> bool:
    return any(row.attached and row.kind == "*" for row in camera.stats().receivers)


def test_two_runs_in_a_row_are_shown_there_as_they_are_here(workstation, viewer, camera):
    with DialProcess(workstation) as dial:
        dial.line("Connected")
        wait_until(lambda: watched(camera))
        for number in range(2):
            camera.new_stream(f"run {number}", sizes={"t": 5})
            publish(camera, 0, 5)
            viewer.wait_for(lambda number=number: len(viewer.streams) == number + 1)
            viewer.wait_for(lambda: numbers(viewer.streams[-1]) == [0, 1, 2, 3, 4])
        assert {stream.title for stream in viewer.streams} == {"camera 1 @ node7"}
        camera.close()
        viewer.wait_for(lambda: all(stream.state == "ended" for stream in viewer.streams))
        assert dial.process.wait(60) == 0, "it ends by itself, once nobody has published for so long"


@pytest.mark.fault("W1")
def test_when_the_connection_breaks_the_run_goes_on_and_every_frame_arrives(workstation, viewer, camera):
    with DialProcess(workstation, "--every") as dial:
        dial.line("Connected")
        wait_until(lambda: watched(camera))
        camera.new_stream("run", sizes={"t": 40})
        publish(camera, 0, 10)
        viewer.wait_for(lambda: viewer.streams and numbers(viewer.streams[0]) == [*range(10)])
        (desk,) = desks_of(workstation)
        for first in (10, 20, 30):
            os.kill(workstation.pids[-1], signal.SIGKILL)
            publish(camera, first, first + 10)
            dialled = len(workstation.pids)
            wait_until(lambda dialled=dialled: len(workstation.pids) > dialled, "it dials again")
            dial.line("Connected again")
            viewer.wait_for(lambda first=first: numbers(viewer.streams[0]) == [*range(first + 10)])
        assert len(viewer.streams) == 1
        assert desks_of(workstation) == [desk]


@pytest.mark.parametrize("end", ["waits", "is killed"])
def test_a_job_that_ends_while_the_link_is_down_is_not_over_before_all_has_arrived_or_says_what_is_lost(
    workstation, viewer, camera, end
):
    with DialProcess(workstation, "--every") as dial:
        dial.line("Connected")
        wait_until(lambda: watched(camera))
        camera.new_stream("run", sizes={"t": 30})
        publish(camera, 0, 10)
        viewer.wait_for(lambda: viewer.streams and numbers(viewer.streams[0]) == [*range(10)])
        workstation.close_the_way()
        os.kill(workstation.pids[-1], signal.SIGKILL)
        dial.line("trying again")
        publish(camera, 10, 20)
        camera.new_stream("another run")
        publish(camera, 0, 5)
        assert camera.flush()
        camera.close()
        (relay,) = RunDirectory().living("relay")
        if end == "is killed":
            os.kill(relay.pid, signal.SIGKILL)
        else:
            for _ in range(12):  # it would have ended by itself within a second
                assert not relay_ends_within(1.0, relay.token)
        workstation.close_the_way(False)
        dial.line("Connected again")
        if end == "is killed":
            dial.line("started anew: what it had not sent by then is lost")
        else:
            viewer.wait_for(lambda: [numbers(each) for each in viewer.streams] == [[*range(20)], [*range(5)]])
        assert dial.process.wait(60) == (1 if end == "is killed" else 0)


def relay_ends_within(seconds: float, token: str) -> bool:
    return threading.Event().wait(seconds) or not RunDirectory().alive(token)


def test_a_second_one_to_the_same_machine_is_refused(workstation, viewer, camera):
    with DialProcess(workstation) as one:
        one.line("Connected")
        with DialProcess(workstation) as two:
            assert two.process.wait(60) == 1
            assert two.process.stderr is not None
            said = " ".join(two.process.stderr.read().split())
            assert "another `scopecast relay --to me@workstation` shows there already" in said
        wait_until(lambda: watched(camera))
        assert len(desks_of(workstation)) == 1
        assert one.end(signal.SIGINT) == 130


def test_it_is_over_once_the_desks_that_are_there_have_all(monkeypatch):
    now, desks = [1000.0], []
    monkeypatch.setattr(dialling, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(dialling, "ask", lambda directory: messages.Listed([("desk", *each) for each in desks]))
    done, lacking = messages.DeskAccount(came=3, exact=3), messages.DeskAccount(came=3, exact=1, waiting=2)
    dial = Dial(Command(["ssh"], "workstation"), end_after_s=8.0)

    def is_over(seconds: float, *there: tuple[str, str, messages.DeskAccount]) -> bool:
        now[0] += seconds
        desks[:] = there
        return dial._is_over()

    former = ("away", "exact", lacking)  # of a job before this one
    assert not is_over(9.0, former), "its own desk is not there yet, or is not back"
    assert not is_over(9.0, former, ("connected", "exact", lacking))
    dial._connected()
    assert not is_over(7.0, former, ("connected", "exact", done)), "so soon the relay may not know of it"
    assert is_over(2.0, former, ("connected", "exact", done))


def test_a_desk_that_cannot_be_reached_is_told_at_once(workstation):
    workstation.close_the_way()
    with DialProcess(workstation) as dial:
        assert dial.process.wait(60) == 1
        assert dial.process.stderr is not None
        said = " ".join(dial.process.stderr.read().split())
        assert "No route to host" in said
        assert "in a terminal" in said
    assert not desks_of(workstation)


def test_a_desk_that_cannot_start_says_why(workstation):
    with DialProcess(workstation, "--viewer", "no-such-viewer") as dial:
        assert dial.process.wait(120) == 1
        assert dial.process.stderr is not None
        assert "no-such-viewer" in dial.process.stderr.read()
