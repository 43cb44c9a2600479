"""`scopecast connect` and the relay that it starts, as a user starts them: the frames of another machine, here."""

from __future__ import annotations

import errno
import gc
import itertools
import os
import signal
import socket
import subprocess
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import zmq

from children import wait_until
from desks import ConnectProcess, OtherMachine, SshServer
from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import Publisher, subscribe
from scopecast.frames.documents import Points
from scopecast.link import messages as local
from scopecast.protocol import clock_ns
from scopecast.remote import connection as connecting
from scopecast.remote import messages
from scopecast.remote.command import Command, LinkError
from scopecast.remote.connection import Connection
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.receiving.exporting import exports
from scopecast_viewers.receiving.marks import Drawn, MarkedFrame, message_of
from scopecast_viewers.receiving.status import figures_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.subscribing.subscription import Subscription
    from scopecast_viewers.receiving.live import LiveStream

pytestmark = pytest.mark.needs("a shell", "signals", "unix sockets")
SHAPE = (64, 48)


@pytest.fixture
def machine() -> Iterator[OtherMachine]:
    with OtherMachine.made() as made:
        yield made


@pytest.fixture
def camera(machine: OtherMachine) -> Iterator[Publisher]:
    """A program that publishes on the other machine."""
    with Publisher("headless", title="camera 1", host="pymmcore", policy="every", budget=8 * 2**20) as made:
        with machine.there():
            made.open(SHAPE, wait=30.0)
        yield made


def begin(publisher: Publisher, title: str) -> None:
    publisher.new_stream(
        title, sizes={"t": 5}, channels=["DAPI", "FITC"], colors=["blue", ""], scale=(0.65, 0.5), steps={"t": 2.0}
    )


def publish(publisher: Publisher, first: int = 0, timepoints: int = 5) -> None:
    for t in range(timepoints):
        for c, channel in enumerate(("DAPI", "FITC")):
            publisher.publish(
                stamped(first + t, c), axes={"t": t, "c": channel}, metadata={"gain": t}, translate=(1.5, -2.0)
            )


def run_of(viewer: Viewer, title: str) -> LiveStream | None:
    return next((each for each in viewer.streams if each.about.title == title), None)


def is_exact(stream: LiveStream, stamps: list[tuple[int, int, int]]) -> bool:
    """Whether a run has exactly these frames, and all pixels of them."""
    if not stream.stacks:
        return False
    planes = planes_of(stream)
    if any(stream.stacks[0].tag(index).preview for index in planes):
        return False
    return sorted(check_stamp(plane) for plane in planes.values()) == stamps


def has(viewer: Viewer, title: str, stamps: list[tuple[int, int, int]]) -> bool:
    stream = run_of(viewer, title)
    return stream is not None and is_exact(stream, stamps)


def stamps(first: int = 0, timepoints: int = 5) -> list[tuple[int, int, int]]:
    return [(first + t, c, 0) for t in range(timepoints) for c in range(2)]


def watched(camera: Publisher) -> bool:
    """Whether a relay gets the frames."""
    return any(row.attached and row.kind == "*" for row in camera.stats().receivers)


def test_a_frame_has_the_time_at_which_it_was_published_there(machine, camera):
    with ConnectProcess(machine) as desk:
        desk.line("Connected to ")
        wait_until(lambda: watched(camera))
    began = clock_ns()
    for number in range(2):
        begin(camera, f"run {number}")
        publish(camera, 100 * number)
    ended = clock_ns()
    with ConnectProcess(machine) as desk:
        desk.line("Connected to ")
        connected = clock_ns()
        with Viewer() as viewer:
            for number in range(2):
                viewer.wait_for(lambda number=number: has(viewer, f"run {number}", stamps(100 * number)))
            runs = [run_of(viewer, f"run {number}") for number in range(2)]
            times = [[run.stacks[0].tag(index).sent_ns for index in planes_of(run)] for run in runs]
            # Both clocks are the same one here. It is read between a question and its answer, which came before the
            # line: whatever took long, a time is wrong by less than the time until then.
            assert all(began - (connected - ended) <= each < connected for each in (*times[0], *times[1]))
            off = connected - ended
            assert all(abs(run.first_sent_ns - min(each)) < off for run, each in zip(runs, times, strict=True))
            assert not any(runs[0].log.ages_ms), "what was published before says nothing of how live the view is"


@pytest.mark.usefixtures("transport")
def test_two_runs_in_a_row_are_shown_here_as_they_are_there(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("Connected to ")
        wait_until(lambda: watched(camera))
        for number in range(2):
            begin(camera, f"run {number}")
            publish(camera, 100 * number)
        for number in range(2):
            viewer.wait_for(lambda number=number: has(viewer, f"run {number}", stamps(100 * number)))
        first = run_of(viewer, "run 0")
        about = first.about
        assert first.title == "camera 1 @ lab-pc"
        assert (about.axes, about.labels, about.sizes) == (["t", "c"], {"c": ["DAPI", "FITC"]}, [5, 0])
        assert (about.scale, about.units, about.steps, about.colors) == ([0.65, 0.5], "um", [2.0, 0.0], ["blue", ""])
        (stack,) = first.stacks
        tag = stack.tag((3, 1))
        assert (tag.translate, tag.metadata, tag.path, tag.preview) == ((1.5, -2.0), b"\x81\xa4gain\x03", "", False)
        (here,) = RunDirectory().living("publisher")
        assert (here.title, here.host, here.origin) == ("camera 1 @ lab-pc", "pymmcore", camera.session.member.token)
        # The account of the relay, which is asked there, has every frame.
        (row,) = wait_until(lambda: [row for row in machine.listed() if row["exact"] == 20])
        assert row["came"] == 20
        assert not any(row[name] for name in ("preview", "superseded", "refused", "waiting", "sending"))
        camera.close()
        viewer.wait_for(lambda: all(stream.state == "ended" for stream in viewer.streams))
        desk.line("camera 1 @ lab-pc has ended")
        assert desk.end() == 130
    camera.close()


def test_several_desks_watch_and_the_acquisition_has_one_more_receiver(machine, camera):
    with (
        Viewer() as viewer,
        Viewer("napari") as another,
        ConnectProcess(machine) as one,
        ConnectProcess(machine, host="me@other", kind="napari") as other,
    ):
        one.line("is live|Connected")
        other.line("is live|Connected")
        wait_until(lambda: len(machine.listed()) == 2)
        begin(camera, "run")
        publish(camera)
        for each, title in ((viewer, "camera 1 @ lab-pc"), (another, "camera 1 @ other")):
            each.wait_for(lambda each=each: has(each, "run", stamps()))
            assert run_of(each, "run").title == title
        assert [row.kind for row in camera.stats().receivers] == ["*"]
        assert len(machine.directory.living("relay")) == 1


def test_a_desk_that_comes_late_has_what_the_relay_has(machine, camera):
    with ConnectProcess(machine, kind="napari") as first:
        first.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera)
        with Viewer() as viewer, ConnectProcess(machine) as second:
            second.line("is live")
            viewer.wait_for(lambda: has(viewer, "run", stamps()))
            # What came to fill the past moves nobody who follows the newest.
            assert run_of(viewer, "run").newest[1] == (4, 1)


def test_a_viewer_that_is_attached_again_gets_what_it_lacks(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("is live")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera, timepoints=2)
        viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=2)))
        (source,) = viewer.sources
        viewer.receiver.detach(source.entry.token)
        viewer.wait_for(lambda: source.state == "detached")
        publish(camera)
        wait_until(lambda: [row["exact"] for row in machine.listed()] == [14], "the desk has all")
        viewer.receiver.attach(source.entry.token)
        viewer.wait_for(lambda: has(viewer, "run", stamps()))


def test_a_run_that_is_over_is_shown_to_who_comes_then_and_is_over_for_who_comes_back(machine, camera):
    with ConnectProcess(machine, kind="napari") as keeper:
        keeper.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera)
        camera.flush()
        camera.close()
        with Viewer() as viewer, ConnectProcess(machine, host="late") as desk:
            viewer.wait_for(lambda: any(s.title.endswith("@ late") and is_exact(s, stamps()) for s in viewer.streams))
            desk.line("camera 1 @ late has ended; its last runs follow")
            desk.line(r"camera 1 @ late has ended\.")
            os.kill(machine.pids[-1], signal.SIGKILL)
            desk.line("Connected")
            wait_until(lambda: [row["state"] for row in machine.listed()].count("connected") == 2)
            desk.process.send_signal(signal.SIGINT)
            assert desk.process.wait(60) == 130
        assert not any("is live" in line for line in desk.lines[desk.lines.index("camera 1 @ late has ended.") :])


@pytest.mark.parametrize("every", [False, True])
def test_viewers_that_are_opened_after_a_program_has_ended_have_its_runs_and_others_get_nothing_twice(
    machine, camera, every
):
    options = {"policy": "every" if every else "latest", "title": "camera 1 @ lab-pc"}
    with ConnectProcess(machine, *["--every"] * every) as desk, Viewer() as first, subscribe(**options) as program:
        desk.line("is live")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera)
        first.wait_for(lambda: has(first, "run", stamps()))
        for _ in range(10 if every else 2):
            next(program)
        camera.flush()
        camera.close()
        desk.line(r"camera 1 @ lab-pc has ended\.")
        received = run_of(first, "run").received
        for _ in range(2):
            with Viewer() as late:
                late.wait_for(lambda late=late: has(late, "run", stamps()))
                desk.line("camera 1 @ lab-pc has ended; its last runs follow")
                desk.line(r"camera 1 @ lab-pc has ended\.")
        assert run_of(first, "run").received == received
        assert len([stream for stream in first.streams if stream.about.title == "run"]) == 1
        if every:
            assert (program.stats().received, program.stats().balanced) == (10, True)


def test_documents_replies_and_labels_come_as_they_are(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        labels = np.arange(64 * 48, dtype=np.uint32).reshape(SHAPE)
        mask = labels % 3 == 0
        spots = np.array([[1.5, 2.25], [3.0, 4.0]])
        with machine.there():
            frames = subscribe(title="camera 1")
            with frames:
                wait_until(lambda: sum(row.attached for row in camera.stats().receivers) == 2)
                camera.publish(stamped(0), axes={"t": 0, "c": "DAPI"})
                frame = next(iter(frames))
                assert frame.reply(labels, name="cells")
                assert frame.reply(np.abs(frame.copy().astype("f4") - 7), kind="image", name="sharper")
                wait_until(lambda: frames.stats().taken == 2)
        camera.publish(spots, kind="points", name="spots", axes={"t": 0}, properties={"score": [0.5, 0.25]})
        camera.publish(mask, kind="labels", name="mask", axes={"t": 0, "c": "DAPI"})
        stream = viewer.wait_for(lambda: run_of(viewer, "run"))
        viewer.wait_for(
            lambda: len(stream.stacks) == 4 and not any(stack.tag((0, 0)).preview for stack in stream.stacks)
        )
        found = {(stack.sent.kind, stack.sent.name): np.asarray(stack.plane((0, 0))) for stack in stream.stacks}
        assert check_stamp(found["image", ""]) == (0, 0, 0)
        np.testing.assert_array_equal(found["labels", "cells"], labels)
        np.testing.assert_array_equal(found["labels", "mask"], mask)
        np.testing.assert_array_equal(found["image", "sharper"], np.abs(stamped(0).astype("f4") - 7))
        viewer.wait_for(lambda: document_of(stream, "spots"))
        points = document_of(stream, "spots")
        assert isinstance(points, Points)
        np.testing.assert_array_equal(points.coordinates, spots)
        assert points.properties[0].values.tolist() == [0.5, 0.25]


def document_of(stream: LiveStream, name: str) -> Any:
    for layer in stream.annotations:
        if layer.name == name:
            return next(iter(layer)).document
    return None


def send_a_mark(viewer: Viewer, stream: LiveStream, place: tuple[int, int]) -> list[tuple[bool, str]]:
    """Send a point in a frame; the list gets what is answered."""
    (stack,) = stream.stacks
    frame = MarkedFrame(stream, place, stack.tag(place), SHAPE)
    answers: list[tuple[bool, str]] = []
    drawn = [Drawn("point", np.array([[10.0, 20.0]]), "cell")]
    viewer.receiver.send_marks(
        stream, message_of(frame, drawn, "spots"), lambda taken, text: answers.append((taken, text))
    )
    return answers


def test_marks_go_to_the_acquisition_and_its_answer_comes_back(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera)
        viewer.wait_for(lambda: has(viewer, "run", stamps()))
        stream = run_of(viewer, "run")
        with camera.marks(timeout=60.0) as listener:
            viewer.wait_for(lambda: any(source.listens for source in viewer.sources))
            answers = send_a_mark(viewer, stream, (3, 1))
            marks = next(listener)
            assert marks.axes == {"t": 3, "c": "FITC"}
            assert (marks.stream, marks.layer, marks[0].name) == ("run", "spots", "cell")
            assert marks[0].vertices.tolist() == [[10.0, 20.0]]
            viewer.wait_for(lambda: answers)
            marks.refuse("out of reach")
            viewer.wait_for(lambda: len(answers) == 2)
        assert [taken for taken, _ in answers] == [True, False]
        assert "out of reach" in answers[1][1]
        viewer.wait_for(lambda: not any(source.listens for source in viewer.sources))


@pytest.mark.fault("W1", "W2")
@pytest.mark.parametrize("killed", ["the connection", "the relay"])
def test_a_broken_connection_comes_back_by_itself_and_the_stream_goes_on(machine, camera, killed):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera, timepoints=3)
        viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=3)))
        if killed == "the connection":
            os.kill(machine.pids[-1], signal.SIGKILL)
        else:
            (relay,) = machine.directory.living("relay")
            os.kill(relay.pid, signal.SIGKILL)
        desk.line("trying again")
        desk.line("Connected")
        wait_until(lambda: watched(camera))
        for c, channel in enumerate(("DAPI", "FITC")):
            camera.publish(stamped(3, c), axes={"t": 3, "c": channel})
        viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=4)))
        assert len(viewer.streams) == 1, "it is the same run, in the same stream"


def test_a_relay_that_has_just_been_started_has_time_to_find_the_programs(monkeypatch):
    source = messages.Source(1, "abcdefgh", "camera 1")

    def welcome(*origins: str, resumed: bool = False) -> None:
        connection._handle(messages.Welcome(1, "bcdefghi", resumed, origins=[*origins]))
        connection._look()

    with Connection(Command(["ssh"], "lab-pc"), "lab-pc", ["headless"]) as connection:
        for resumed in (False, True):
            welcome("abcdefgh")
            connection._handle(source)
            (mirror,) = connection._mirrors.values()
            welcome()
            connection._handle(source)
            connection._look()
            assert [*connection._mirrors.values()] == [mirror], "it is found a moment later"
            if not resumed:
                monkeypatch.setattr(connecting, "FOUND_S", 0.0)
            welcome(resumed=resumed)
            assert not connection.titles
            monkeypatch.undo()


def test_nothing_is_kept_of_a_program_that_has_gone_but_who_has_had_its_frames():
    with Connection(Command(["ssh"], "lab-pc"), "lab-pc", ["headless"]) as connection:
        connection._handle(messages.Welcome(1, "bcdefghi", False))
        gone = []
        for number in range(3):
            connection._handle(messages.Source(number, f"abcdefg{number + 2}", "camera 1"))
            connection._handle(
                messages.Stream(10 + number, number, local.Stream(0, "run", ["t"], {}, [0], [], [1.0], ""))
            )
            (mirror,) = connection._mirrors.values()
            gone.append(weakref.ref(mirror))
            del mirror
            connection._handle(messages.Gone(number))
        gc.collect()
        assert [mirror() for mirror in gone] == [None] * 3


@pytest.mark.parametrize(
    ("number", "hopeless"), [(errno.ENOENT, True), (errno.EACCES, True), (errno.EAGAIN, False), (errno.ENOMEM, False)]
)
def test_a_command_that_there_is_no_room_for_now_is_tried_again(monkeypatch, number, hopeless):
    def start(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "Popen", start)
    with pytest.raises(LinkError, match=f"ssh can't be started: {os.strerror(number)}") as raised:
        Command(["ssh"], "lab-pc").open()
    assert raised.value.hopeless == hopeless
    assert ("--ssh" in str(raised.value)) == hopeless


@pytest.mark.parametrize(
    ("said", "hopeless"),
    [
        ("Host key verification failed.", True),
        ("user@lab-pc: Permission denied (publickey).", True),
        ("Connection to lab-pc closed by remote host.", False),
        ("ssh: connect to host lab-pc port 22: No route to host", False),
    ],
)
def test_what_trying_again_can_not_mend_ends_the_connection(said, hopeless):
    command = Command(["sh", "-c", f"echo '{said}' >&2; exit 255"], "lab-pc")
    command.open()
    error = command.why(was_there=True)
    command.end()
    assert error.hopeless == hopeless
    assert said.rstrip(".") in str(error)


def test_the_account_at_the_end_is_of_all_frames(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("Connected to ")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera)
        viewer.wait_for(lambda: has(viewer, "run", stamps()))
        assert desk.end() in (0, 130)
        desk.line(r"^10 frames came there; 10 are here exact\.$")


def test_what_is_looked_at_is_told_once_whatever_was_looked_at_of_other_sources(monkeypatch):
    with Connection(Command(["ssh"], "lab-pc"), "lab-pc", ["headless"]) as connection:
        sent: list[messages.View] = []
        monkeypatch.setattr(connection, "_send", sent.append)
        mirrors = [SimpleNamespace(origin=origin) for origin in ("abcdefgh", "bcdefghi")]
        connection._runs = {number: (mirror, 0) for number, mirror in enumerate(mirrors)}
        for place in (7, 8):
            for _ in range(3):
                for mirror in mirrors:
                    connection._tell_look(mirror, local.Look(0, [place], []))
        assert [(view.stream, view.index) for view in sent] == [(0, [7]), (1, [7]), (0, [8]), (1, [8])]


@pytest.mark.fault("W1")
def test_who_is_away_gets_what_has_come_meanwhile(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk, ConnectProcess(machine, kind="napari") as keeper:
        desk.line("Connected")
        keeper.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera, timepoints=1)
        viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=1)))
        machine.close_the_way()
        for pid in machine.pids[-2:]:
            os.kill(pid, signal.SIGKILL)
        desk.line("No route to host.*trying again")
        publish(camera)
        machine.close_the_way(closed=False)
        desk.line("Connected")
        viewer.wait_for(lambda: len(planes_of(run_of(viewer, "run"))) == 10)


@pytest.mark.fault("W1", "W2")
def test_with_every_each_frame_comes_once_and_in_order_whatever_breaks(machine, camera):
    def came(frames: Subscription, number: int) -> list[tuple[str, int, int]]:
        told = [(frame.stream, *check_stamp(frame.array)[:2]) for frame in itertools.islice(frames, number)]
        assert len(told) == number
        return told

    def wanted(title: str, first: int, timepoints: int) -> list[tuple[str, int, int]]:
        return [(title, t, c) for t, c, _ in stamps(first, timepoints)]

    with (
        subscribe(policy="every", title="camera 1 @ lab-pc", wait=60.0) as early,
        ConnectProcess(machine, "--every") as desk,
    ):
        desk.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run 1")
        publish(camera)
        assert came(early, 10) == wanted("run 1", 0, 5)
        with subscribe(policy="every", title="camera 1 @ lab-pc", wait=60.0) as late, Viewer() as viewer:
            assert came(late, 10) == wanted("run 1", 0, 5), "what the relay has is sent once more"
            viewer.wait_for(lambda: has(viewer, "run 1", stamps()))
            begin(camera, "run 2")
            for first, killed in ((0, "the connection"), (10, "the relay"), (20, "")):
                publish(camera, first)
                assert came(early, 10) == wanted("run 2", first, 5)
                assert came(late, 10) == wanted("run 2", first, 5)
                if killed:
                    (relay,) = machine.directory.living("relay")
                    os.kill(machine.pids[-1] if killed == "the connection" else relay.pid, signal.SIGKILL)
                    desk.line("trying again")
                    desk.line("Connected")
                    wait_until(lambda: watched(camera))
            assert not any("has been started anew" in line for line in desk.lines), "not for a connection that broke"
            desk.line("The relay there has been started anew")
            assert early.stats().balanced
            assert late.stats().balanced


@pytest.mark.fault("W9")
@pytest.mark.parametrize("ends", ["in order", "killed"])
def test_when_it_is_started_again_the_runs_go_on_in_the_same_streams(machine, camera, ends):
    with Viewer() as viewer:
        with ConnectProcess(machine) as desk:
            desk.line("Connected")
            wait_until(lambda: watched(camera))
            for number in range(2):
                begin(camera, f"run {number}")
                publish(camera, 100 * number, timepoints=3)
                viewer.wait_for(lambda number=number: has(viewer, f"run {number}", stamps(100 * number, 3)))
            former = viewer.streams
            if ends == "killed":
                os.kill(desk.process.pid, signal.SIGKILL)
        viewer.wait_for(lambda: [stream.state for stream in viewer.streams] == ["lost"] * 2)
        assert "no longer connected, its last frames stay" in figures_of(former[1], viewer.sources)
        with ConnectProcess(machine) as desk:
            desk.line("Connected")
            viewer.wait_for(lambda: run_of(viewer, "run 1").state == "live")
            wait_until(lambda: watched(camera))
            for c, channel in enumerate(("DAPI", "FITC")):
                camera.publish(stamped(103, c), axes={"t": 3, "c": channel})
            viewer.wait_for(lambda: has(viewer, "run 1", stamps(100, 4)))
            assert viewer.streams == former, "what comes again goes where it was"
            assert [stream.received for stream in viewer.streams] == [6, 8], "each frame counts once"
            with camera.marks(timeout=60.0) as listener:
                viewer.wait_for(lambda: viewer.receiver.listens(former[1]))
                answers = send_a_mark(viewer, former[1], (1, 0))
                assert next(listener).axes == {"t": 1, "c": "DAPI"}
                viewer.wait_for(lambda: answers)
            begin(camera, "run 2")
            publish(camera, 200, timepoints=1)
            viewer.wait_for(lambda: has(viewer, "run 2", stamps(200, 1)))
            assert len({stream.source for stream in viewer.streams}) == 1, "it is the same program to the viewer"


@pytest.mark.fault("W9")
def test_a_preview_never_takes_the_place_of_exact_pixels_when_it_is_started_again(machine, camera):
    with Viewer() as viewer:
        with ConnectProcess(machine) as desk:
            desk.line("is live")
            wait_until(lambda: watched(camera))
            stream = camera.new_stream("run", sizes={"t": 2})
            noise = np.random.default_rng(7).integers(0, 4000, (512, 512)).astype("uint16")
            for t in range(2):
                camera.publish(noise + t, axes={"t": t})
            viewer.wait_for(lambda: (run := run_of(viewer, "run")) is not None and run.stacks)
            (stack,) = run_of(viewer, "run").stacks
            viewer.wait_for(lambda: len(stack.layout.planes) == 2)
            viewer.wait_for(lambda: not any(stack.tag((t,)).preview for t in range(2)))
            camera.end_stream(stream)
            viewer.wait_for(lambda: run_of(viewer, "run").state == "ended")
            assert desk.end() == 130
            assert machine.listed() == [], "it has said goodbye"
        machine.slow_down(60_000.0)
        with ConnectProcess(machine) as desk:
            desk.line("is live")
            came = viewer.wait_for(lambda: [each.delivered for each in viewer.sources if each.state == "attached"])
            viewer.wait_for(lambda: sum(each.delivered for each in viewer.sources) > came[0])
            assert [stack.tag((t,)).preview for t in range(2)] == [False, False]
            viewer.wait_for(lambda: run_of(viewer, "run").state == "ended")
            np.testing.assert_array_equal(np.asarray(stack.plane((1,))), noise + 1)


@pytest.mark.fault("W9")
def test_what_comes_by_two_ways_is_shown_once(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as one, ConnectProcess(machine, host="lab-pc.local") as other:
        for desk in (one, other):
            desk.line("is live")
        begin(camera, "run")
        publish(camera, timepoints=3)
        viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=3)))
        stay = other if any(source.entry.title.endswith("lab-pc") for source in viewer.sources) else one
        (one if stay is other else other).end()
        viewer.wait_for(lambda: [source.state for source in viewer.sources] == ["attached"])
        for c, channel in enumerate(("DAPI", "FITC")):
            camera.publish(stamped(3, c), axes={"t": 3, "c": channel})
        viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=4)))
        assert [stream.received for stream in viewer.streams] == [8]


def test_two_connections_to_one_machine_are_for_viewers_of_two_kinds(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as first:
        first.line("is live")
        with ConnectProcess(machine) as second, ConnectProcess(machine, kind="napari") as other:
            assert second.process.wait(60) == 1
            assert second.process.stderr is not None
            assert "another `scopecast connect` shows lab-pc in headless already" in second.process.stderr.read()
            other.line("camera 1 @ lab-pc is live")
            for number in range(2):
                begin(camera, f"run {number}")
                publish(camera, 100 * number)
                viewer.wait_for(lambda number=number: has(viewer, f"run {number}", stamps(100 * number)))
            assert [entry.kind for entry in RunDirectory().living("publisher")] == ["headless", "napari"]
            assert len(viewer.streams) == 2


def test_what_is_shown_here_can_be_watched_from_a_third_machine(machine, camera, runtime_dir):
    here = OtherMachine(runtime_dir)
    with OtherMachine.made() as third, ConnectProcess(machine) as desk:
        desk.line("is live")
        with third.there():
            viewer, far = Viewer(), ConnectProcess(here, host="office")
        with viewer, far:
            begin(camera, "run")
            publish(camera)
            far.line("camera 1 @ lab-pc @ office is live")
            wait_until(lambda: here.listed())
            publish(camera)
            viewer.wait_for(lambda: has(viewer, "run", stamps()))
            assert run_of(viewer, "run").title == "camera 1 @ lab-pc @ office"
    here.relay_ends()


@pytest.mark.fault("W5")
def test_what_goes_round_in_a_circle_is_shown_once(machine, camera, runtime_dir):
    """This machine shows the other's frames, and the other shows this one's: there it has them already."""
    here = OtherMachine(runtime_dir)
    with Viewer() as viewer, ConnectProcess(machine) as desk, Publisher("headless", title="local") as own:
        desk.line("is live")
        own.open(SHAPE, wait=30.0)
        own.publish(stamped(7), axes={"t": 7})
        with machine.there():
            back = ConnectProcess(here)
        with back:
            back.line("local @ lab-pc is live")
            begin(camera, "run")
            publish(camera)
            viewer.wait_for(lambda: has(viewer, "run", stamps()))
            there = ["camera 1", "local @ lab-pc"]
            wait_until(lambda: sorted(entry.title for entry in machine.directory.living("publisher")) == there)
            assert not any("camera" in line for line in back.lines)
    here.relay_ends()


@pytest.mark.fault("W6")
@pytest.mark.parametrize(
    ("command", "said", "code"),
    [
        pytest.param(
            "/nowhere/scopecast", "scopecast is not found on lab-pc: install it there, or say where", 1, id="no"
        ),
        pytest.param("echo hello;", "lab-pc", 1, id="other"),
    ],
)
def test_what_does_not_work_is_said_in_one_line(machine, command, said, code):
    with ConnectProcess(machine, "--command", command) as desk:
        assert desk.process.wait(60) == code
        assert desk.process.stderr is not None
        (line,) = desk.process.stderr.read().splitlines()
        assert said in line


def test_a_host_that_is_an_option_of_ssh_is_refused(machine):
    with ConnectProcess(machine, host="-oProxyCommand=touch /tmp/x") as desk:
        assert desk.process.wait(60) == 2


@pytest.mark.fault("W4")
@pytest.mark.needs("stopped processes")
def test_a_desk_that_is_stopped_holds_up_nobody_and_gets_the_rest_when_it_wakes(machine, camera):
    with (
        Viewer() as viewer,
        Viewer("napari") as another,
        ConnectProcess(machine) as stopped,
        ConnectProcess(machine, host="me@other", kind="napari") as desk,
    ):
        stopped.line("Connected")
        desk.line("Connected")
        wait_until(lambda: watched(camera))
        begin(camera, "run")
        publish(camera, timepoints=1)
        for each in (viewer, another):
            each.wait_for(lambda each=each: has(each, "run", stamps(timepoints=1)))
        os.kill(stopped.process.pid, signal.SIGSTOP)
        try:
            publish(camera)
            assert camera.flush(20.0), "the acquisition does not wait"
            another.wait_for(lambda: has(another, "run", stamps()))
            wait_until(lambda: {row["state"] for row in machine.listed()} == {"connected", "does not answer"})
        finally:
            os.kill(stopped.process.pid, signal.SIGCONT)
        viewer.wait_for(lambda: has(viewer, "run", stamps()))


@pytest.mark.fault("H14")
def test_what_comes_to_a_relay_is_checked_and_disturbs_nobody(machine, camera):
    with Viewer() as viewer, ConnectProcess(machine) as desk:
        desk.line("is live")
        wait_until(lambda: watched(camera))
        (relay,) = machine.directory.living("relay")
        path = relay.endpoint.removeprefix("ipc://")
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 5000, b"\xff\0\0\0\0\0\0\0\x01\x7f"):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(path)
                stranger.sendall(garbage)
        with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
            stranger.setsockopt(zmq.LINGER, 0)
            stranger.connect(relay.endpoint)
            hello = messages.Hello(1, 1, "abcdefgh", "stranger")
            about = local.Stream(0, "run", [], {}, [], [1.0, 1.0], [], "pixel")
            wrong = [
                b"",
                b"\xc1",
                b"\x91" * 50_000,
                messages.encode(messages.Stream(1, 1, about)),  # which only a relay says
                messages.encode(messages.Ack(5)),  # of one that has not said HELLO
                messages.encode(msgspec.structs.replace(hello, wire_min=7, wire_max=9)),
                messages.encode(hello),
                messages.encode(messages.Ack(2**62)),
                messages.encode(messages.Fetch(99)),
                messages.encode(messages.Decline(99)),
                messages.encode(messages.View(99, [1, 2, 3], [4, 5, 6, 7])),
                messages.encode(messages.View(1, [7])),
                messages.encode(messages.Pong(2**62)),
            ]
            for data in wrong:
                stranger.send(data)
            stranger.send_multipart([b"two", b"parts"])
            answers = []
            while not answers or not isinstance(answers[-1], messages.Ping):
                assert stranger.poll(20_000)
                answers.append(messages.decode_from_relay(stranger.recv()))
            assert [type(answer).__name__ for answer in answers[:3]] == ["Reject", "Reject", "Welcome"]
            assert "speaks version 1: update scopecast on the other machine" in answers[1].reason
            begin(camera, "run")
            publish(camera)
            viewer.wait_for(lambda: has(viewer, "run", stamps()))
            stranger.send(bytes(messages.MAX_FROM_DESK + 1))
            camera.publish(stamped(9, 0), axes={"t": 5, "c": "DAPI"})
            viewer.wait_for(lambda: has(viewer, "run", sorted([*stamps(), (9, 0, 0)])))


def noisy(t: int, shape: tuple[int, int] = (768, 768)) -> np.ndarray:
    """A camera's image: it does not compress well."""
    random = np.random.default_rng(t)
    return (random.poisson(400, shape) + 100 * np.add.outer(np.arange(shape[0]) // 64 % 2, t)).astype(np.uint16)


@pytest.mark.fault("W3")
@pytest.mark.needs("/dev/shm")  # Linux, where a pipe can be made short
def test_a_slow_link_shows_previews_that_say_so_and_exact_pixels_as_soon_as_it_rests(machine, runtime_dir):
    machine.slow_down(400_000)
    with (
        Viewer() as viewer,
        Publisher("headless", title="camera 1", budget=64 * 2**20) as camera,
        subscribe(title="camera 1 @ lab-pc", policy="every") as exact,
        subscribe(title="camera 1 @ lab-pc") as newest,
        ConnectProcess(machine) as desk,
    ):
        with machine.there():
            camera.open((768, 768), wait=30.0)
        desk.line("camera 1 @ lab-pc is live")
        wait_until(lambda: watched(camera))
        camera.new_stream("run")
        for t in range(3):
            camera.publish(noisy(t), axes={"t": t})
            camera.flush()
        stream = viewer.wait_for(lambda: run_of(viewer, "run"))
        viewer.wait_for(lambda: stream.stacks and (2,) in stream.stacks[0].layout.planes)
        (stack,) = stream.stacks
        assert stack.tag((2,)).preview, "its exact pixels take a second at least"
        preview = np.asarray(stack.plane((2,))).astype(float)
        assert preview.shape == (768, 768)
        assert abs(preview - noisy(2)).mean() < 100, "it is the same picture, coarser"
        with pytest.raises(ValueError, match=r"of . frames are previews, whose exact pixels are still on their way"):
            exports(stream)
        viewer.wait_for(lambda: len(stack.layout.planes) == 3 and not any(stack.tag((t,)).preview for t in range(3)))
        for t in range(3):
            np.testing.assert_array_equal(stack.plane((t,)), noisy(t))
        assert stream.newest[1] == (2,), "what fills the past moves nobody"
        assert not stream.newest[2].preview
        assert stream.received == 3
        (part,) = exports(stream)
        assert part.shape == (1, 3, 1, 1)
        seen = {frame.axes["t"]: frame.copy() for _, frame in zip(range(3), exact, strict=False)}
        for t in range(3):
            np.testing.assert_array_equal(seen[t], noisy(t))
        frame = next(newest)
        assert frame.axes == {"t": 2}
        assert frame.preview
        (row,) = machine.listed()
        assert (row["came"], row["exact"], row["preview"], row["waiting"]) == (3, 3, 0, 0)


@pytest.mark.fault("W1", "W6")
@pytest.mark.needs("sshd")
def test_through_a_real_sshd_and_again_when_its_connection_was_killed(machine, camera, tmp_path):
    with Viewer() as viewer, SshServer(machine, tmp_path) as server:
        with ConnectProcess(machine, host="127.0.0.1", ssh=server.ssh) as desk:
            desk.line("camera 1 @ 127.0.0.1 is live")
            wait_until(lambda: watched(camera))
            begin(camera, "run")
            publish(camera, timepoints=3)
            viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=3)))
            for process in server.sessions():
                process.kill()
            desk.line("trying again")
            desk.line("Connected")
            for c, channel in enumerate(("DAPI", "FITC")):
                camera.publish(stamped(3, c), axes={"t": 3, "c": channel})
            viewer.wait_for(lambda: has(viewer, "run", stamps(timepoints=4)))
        server.admit(False)
        with ConnectProcess(machine, host="127.0.0.1", ssh=server.ssh) as desk:
            assert desk.process.wait(60) == 1
            assert desk.process.stderr is not None
            (line,) = desk.process.stderr.read().splitlines()
            assert "127.0.0.1 refuses" in line
            assert "Permission denied" in line
            assert "; try `ssh -" in line, "with its options"
            assert line.endswith(" 127.0.0.1` in a terminal")
