"""Marks on their way from a viewer to the program that listens: taken, refused and why, and never lost in silence."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from receivers import Viewer, stamped
from scopecast import ClosedError, Marks, Publisher
from scopecast.link import messages
from scopecast.publishing.listening import MOST_WAITING
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.receiving.marks import Drawn, MarkedFrame, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator

POINT = Drawn("point", np.array([[31.5, 23.5]]))
BOX = Drawn("rectangle", np.array([[0.0, 0.0], [0.0, 10.0], [20.0, 10.0], [20.0, 0.0]]), "cell 1")
STAGE = {"x_um": 100.0, "y_um": 50.0, "z_um": 3.0}


class Sent:
    """What a viewer is told of the marks that it has sent."""

    def __init__(self) -> None:
        self.answers: list[tuple[bool, str]] = []

    def __call__(self, taken: bool, text: str) -> None:
        self.answers.append((taken, text))


class Pair:
    """A publisher, a viewer that is attached to it, and one frame on its way from the one to the other."""

    def __init__(self, publisher: Any, viewer: Viewer) -> None:
        self.publisher, self.viewer = publisher, viewer

    def show(self, metadata: Any = STAGE, **about: Any) -> None:
        """Publish a frame of a new stream, and wait until the viewer has it."""
        before = sum(source.delivered for source in self.viewer.sources)
        run = self.publisher.new_stream("overview", **{"scale": 0.5, **about})
        axes = {"t": 2, "c": "DAPI"}
        self.publisher.publish(stamped(1), axes=axes, stream=run, metadata=metadata, policy="every")
        self.viewer.wait_for(lambda: sum(source.delivered for source in self.viewer.sources) > before)

    def message(self, *drawn: Drawn, layer: str = "Points", frame: int = -1) -> messages.Marks:
        stream = self.viewer.streams[frame]
        assert stream.newest is not None
        _, index, tag = stream.newest
        return message_of(MarkedFrame(stream, index, tag, (64, 48)), drawn, layer)

    def listened_to(self) -> None:
        self.viewer.wait_for(lambda: self.viewer.sources[0].listens)

    def send(self, message: messages.Marks, frame: int = -1) -> Sent:
        told = Sent()
        self.viewer.receiver.send_marks(self.viewer.streams[frame], message, told)
        return told

    def ask(self, work: Any) -> None:
        """Have something done on the receiver's thread, whose the socket is."""
        self.viewer.receiver._ask(work)

    def told(self, sent: Sent, number: int = 1) -> list[tuple[bool, str]]:
        self.viewer.wait_for(lambda: len(sent.answers) >= number)
        return sent.answers


def wild(marks: messages.Marks, **wrong: Any) -> bytes:
    """Return marks as a peer may send them that checks nothing."""
    fields = dict(zip(("tag", *marks.__struct_fields__), msgspec.msgpack.decode(messages.encode(marks)), strict=True))
    return msgspec.msgpack.encode([*{**fields, **wrong}.values()])


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Publisher("headless", title="camera 1") as publisher, Viewer() as viewer:
        publisher.open((64, 48), wait=30)
        viewer.wait_for(lambda: viewer.attached)
        made = Pair(publisher, viewer)
        made.show()
        yield made


# ---- taken -------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_taken_with_its_frame_and_its_place_on_the_stage(pair: Pair):
    with pair.publisher.marks(timeout=40) as listener:
        pair.listened_to()
        sent = pair.send(pair.message(POINT, BOX))
        marks = next(listener)
        assert pair.told(sent) == [(True, "camera 1 has taken the 2 marks")]
    assert [(mark.kind, mark.name) for mark in marks] == [("point", ""), ("rectangle", "cell 1")]
    assert (marks.axes, marks.shape, marks.stream) == ({"t": 2, "c": "DAPI"}, (64, 48), "overview")
    assert (marks.layer, marks.position) == ("Points", (100.0, 50.0, 3.0))
    assert marks.viewer.startswith("headless")
    assert marks[0].vertices.tolist() == [[31.5, 23.5]]  # the middle of 64 x 48 pixels: where the stage was
    assert marks[0].stage is not None
    assert marks[0].stage.tolist() == [[100.0, 50.0]]
    # 31.5 rows above the middle are 15.75 um up, 23.5 columns left of it 11.75 um left.
    assert marks[1].stage is not None
    assert marks[1].stage.tolist() == [[88.25, 65.75], [93.25, 65.75], [93.25, 55.75], [88.25, 55.75]]
    assert 0 <= marks.age_s < 60


def test_an_affine_says_where_pixels_are_on_the_stage(pair: Pair):
    pair.show(affine=(0.0, -0.5, 0.0, 0.5, 0.0, 0.0))
    with pair.publisher.marks(timeout=40) as listener:
        pair.listened_to()
        pair.send(pair.message(Drawn("point", np.array([[31.5, 33.5]]))))
        (mark,) = next(listener)
    assert mark.stage is not None
    assert mark.stage.tolist() == [[100.0, 55.0]]  # ten columns to the right: the stage's y, 5 um up


def test_no_place_on_the_stage_is_made_up(pair: Pair):
    with pair.publisher.marks(timeout=40) as listener:
        pair.listened_to()
        for metadata, about in (
            ({}, {}),
            ({"x_um": 1.0}, {}),
            (STAGE, {"scale": None}),
            (STAGE, {"units": "pixel"}),
            ("no mapping", {}),
        ):
            pair.show(metadata, **about)
            pair.send(pair.message(POINT))
            marks = next(listener)
            assert [mark.stage for mark in marks] == [None], (metadata, about)
            for use in (marks.positions, marks.grid):
                with pytest.raises(ValueError, match="it is not known where on the stage the marks are"):
                    use()


def test_a_callback_gets_marks_on_a_thread_of_its_own_and_what_it_raises_is_told(pair: Pair, caplog: Any):
    seen: list[tuple[str, Marks]] = []

    def use(marks: Marks) -> None:
        seen.append((threading.current_thread().name, marks))
        if len(seen) == 1:
            raise ValueError("no such objective")

    listener = pair.publisher.on_marks(use)
    pair.listened_to()
    first, second = pair.send(pair.message(POINT)), pair.send(pair.message(POINT))
    assert pair.told(first, 2) == [
        (True, "camera 1 has taken the mark"),
        (False, "camera 1 has not taken the mark: ValueError: no such objective"),
    ]
    assert pair.told(second) == [(True, "camera 1 has taken the mark")]
    pair.viewer.wait_for(lambda: len(seen) == 2)
    assert [name for name, _ in seen] == ["scopecast-marks"] * 2
    assert listener.errors == 1
    listener.close()
    pair.viewer.wait_for(lambda: not pair.viewer.sources[0].listens)


def test_the_loops_body_may_refuse_what_it_has_taken(pair: Pair):
    listener = pair.publisher.marks(timeout=40)
    pair.listened_to()
    sent = pair.send(pair.message(POINT))
    next(listener).refuse("outside of the well")
    assert pair.told(sent, 2)[-1] == (False, "camera 1 has not taken the mark: outside of the well")


def test_a_run_of_several_publishers_is_marked_at_the_one_that_sent_the_frame():
    with (
        Publisher("headless", title="one", run="night") as one,
        Publisher("headless", title="two", run="night") as two,
        Viewer() as viewer,
    ):
        for number, publisher in enumerate((one, two)):
            publisher.open((64, 48), wait=30)
            publisher.new_stream("unused", run="")
            publisher.new_stream()
            publisher.publish(stamped(number), axes={"p": f"worker {number}"}, policy="every")
            publisher.flush(30)
        viewer.wait_for(lambda: [stream.received for stream in viewer.streams] == [2])
        pair = Pair(two, viewer)
        with two.marks(timeout=40) as listener, one.marks() as other:
            viewer.wait_for(lambda: all(source.listens for source in viewer.sources))
            sent = pair.send(pair.message(POINT))
            assert next(listener).axes == {"p": "worker 1"}
            assert pair.told(sent) == [(True, "two has taken the mark")]
            assert other.waiting == 0


# ---- nothing happens unless the program asks for it --------------------------------------------------------------


@pytest.mark.fault("H12")
def test_nobody_is_offered_to_send_what_no_program_takes(pair: Pair):
    assert not pair.viewer.receiver.listens(pair.viewer.streams[0])
    sent = pair.send(pair.message(POINT))
    assert pair.told(sent) == [(False, "camera 1 has not taken the mark: it is not taking marks now")]
    # A viewer that sends all the same is refused by the publisher.
    pair.viewer.sources[0].listens = True
    sent = pair.send(pair.message(POINT))
    assert pair.told(sent) == [(False, "camera 1 has not taken the mark: the program no longer takes marks")]


def test_a_loop_that_is_left_takes_no_more(pair: Pair):
    def first() -> Marks:
        for marks in pair.publisher.marks(timeout=40):
            return marks
        raise AssertionError

    def send() -> None:
        pair.listened_to()
        sent.extend(pair.send(pair.message(POINT)) for _ in range(3))

    sent: list[Sent] = []
    sender = threading.Thread(target=send)
    sender.start()
    first()
    sender.join(60)
    gc.collect()
    fates = [pair.told(each)[-1] for each in sent]
    assert fates[0] == (True, "camera 1 has taken the mark")
    assert {taken for taken, _ in fates[1:]} == {False}
    pair.viewer.wait_for(lambda: not pair.viewer.sources[0].listens)
    with pair.publisher.marks():  # and another may listen
        pair.listened_to()


def test_one_at_a_time_listens(pair: Pair):
    with pair.publisher.marks(), pytest.raises(RuntimeError, match="already taken by another listener"):
        pair.publisher.on_marks(print)


def test_a_loop_ends_when_nothing_comes_for_so_long(pair: Pair):
    assert list(pair.publisher.marks(timeout=0.01)) == []


# ---- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("H12")
def test_a_frame_of_another_program_is_refused(pair: Pair):
    with pair.publisher.marks() as listener:
        pair.listened_to()
        marks = msgspec.structs.replace(pair.message(POINT), token="aaaaaaaa")
        told = Sent()
        source, stream = pair.viewer.sources[0], pair.viewer.streams[0]
        pair.ask(lambda: source.send_marks(stream, marks, told))
        assert pair.told(told) == [(False, "the frame is of another program")]
        sent = pair.send(marks)
        assert pair.told(sent) == [
            (False, "camera 1 has not taken the mark: the program that sent this frame is no longer there")
        ]
        assert listener.waiting == 0


@pytest.mark.fault("H12")
def test_a_stale_frame_is_refused(pair: Pair):
    old, stream = pair.message(POINT), pair.viewer.streams[0]
    for _ in range(messages.KEPT_STREAMS):
        pair.show()
    with pair.publisher.marks() as listener:
        pair.listened_to()
        stale = Sent()
        pair.viewer.receiver.send_marks(stream, old, stale)
        assert pair.told(stale) == [
            (False, "camera 1 has not taken the mark: the frame is stale: its run has been removed")
        ]
        source = pair.viewer.sources[0]
        source._marks_sent[77] = stale
        pair.ask(lambda: source.socket.send(messages.encode(msgspec.structs.replace(old, number=77))))
        assert pair.told(stale, 2)[1][1].startswith("the frame is stale: it is not from this program's last 3 runs")
        assert listener.waiting == 0


@pytest.mark.fault("H12")
def test_a_frame_that_is_older_than_the_program_wants_is_refused(pair: Pair):
    with pair.publisher.marks(max_age_s=0.0):
        pair.listened_to()
        assert "s old, and the program takes 0 s at most" in pair.told(pair.send(pair.message(POINT)))[0][1]


@pytest.mark.fault("H13")
def test_more_than_the_program_takes_is_refused_and_the_rest_is_not_lost(pair: Pair):
    with pair.publisher.marks(timeout=40) as listener:
        pair.listened_to()
        sent = [pair.send(pair.message(POINT, layer=str(number))) for number in range(MOST_WAITING + 2)]
        for each in sent[MOST_WAITING:]:
            assert pair.told(each) == [
                (
                    False,
                    "camera 1 has not taken the mark: the last 16 still wait for the program: try again later",
                )
            ]
        assert [next(listener).layer for _ in range(MOST_WAITING)] == [str(number) for number in range(MOST_WAITING)]
        assert all(pair.told(each)[0][0] for each in sent[:MOST_WAITING])


@pytest.mark.fault("H13")
def test_what_can_not_be_sent_is_said_and_nothing_is_sent(pair: Pair):
    for drawn, problem in (
        ([], "nothing is marked"),
        ([POINT] * 1_000_000, "1,000,000 items are too many: at most 1,024"),
        ([Drawn("polygon", np.zeros((3000, 2)))], "3,000 vertices are too many: at most 2,048"),
        ([POINT, Drawn("point", np.array([[np.nan, 0.0]]))], "a vertex is NaN or infinite"),
        ([Drawn("point", np.array([[np.inf, 0.0]]))], "a vertex is NaN or infinite"),
        ([Drawn("point", np.array([[1e9, 0.0]]))], "the marks can't be sent: .*<= 10000000"),
        ([Drawn("line", np.zeros((3, 2)))], "the marks can't be sent: .*a line of 3 vertices"),
        ([Drawn("heart", np.zeros((3, 2)))], "the marks can't be sent: .*a heart of 3 vertices"),
        ([POINT._replace(name="ß" * 64)] * 1024, "bytes are too many: select fewer items"),
    ):
        with pytest.raises(ValueError, match=problem):
            pair.message(*drawn)


@pytest.mark.fault("H13")
def test_a_peer_that_sends_wild_marks_harms_nobody(pair: Pair):
    source, good = pair.viewer.sources[0], pair.message(POINT)
    with pair.publisher.marks(timeout=40) as listener:
        pair.listened_to()
        for wrong in (
            {"vertices": [float("nan"), 0.0]},
            {"vertices": [0.0] * 100},
            {"types": []},
            {"lengths": [2**31]},
            {"shape": [0, 5]},
            {"position": [1.0]},
            {"names": ["a", "b"]},
        ):
            data = wild(good, **wrong)
            pair.ask(partial(source.socket.send, data))
        sent = pair.send(good)
        assert len(next(listener)) == 1
        assert pair.told(sent) == [(True, "camera 1 has taken the mark")]
        assert pair.publisher.stats().protocol_errors == 7
        # More than a message may have closes the connection; the viewer comes back, and frames go on.
        pair.ask(lambda: source.socket.send(wild(good, vertices=[1.5] * 2_000_000)))
        pair.show()
        assert pair.publisher.stats().frames.balanced


# ---- the end -----------------------------------------------------------------------------------------------------


@pytest.mark.fault("P14")
def test_what_waits_when_the_program_ends_is_refused(pair: Pair):
    listener = pair.publisher.marks()
    pair.listened_to()
    sent = [pair.send(pair.message(POINT)) for _ in range(3)]
    next(listener)
    pair.viewer.wait_for(lambda: listener.waiting == 2)
    pair.publisher.close()
    assert [pair.told(each)[-1] for each in sent] == [
        (True, "camera 1 has taken the mark"),
        (False, "camera 1 has not taken the mark: the acquisition has ended"),
        (False, "camera 1 has not taken the mark: the acquisition has ended"),
    ]
    assert list(listener) == []
    with pytest.raises(ClosedError):
        pair.publisher.marks()
    late = pair.send(pair.message(POINT))
    assert pair.told(late)[0][0] is False


@pytest.mark.fault("P14")
def test_a_thread_that_waits_for_marks_ends_with_the_publisher(pair: Pair):
    ended = threading.Event()

    def wait() -> None:
        for _ in pair.publisher.marks():
            raise AssertionError
        ended.set()

    threading.Thread(target=wait).start()
    pair.listened_to()
    pair.publisher.close()
    assert ended.wait(40)


@pytest.mark.fault("P14")
def test_a_viewer_that_never_hears_of_its_marks_is_told_so(pair: Pair):
    with pair.publisher.marks():
        pair.listened_to()
        sent = pair.send(pair.message(POINT))
        source = pair.viewer.sources[0]
        pair.viewer.wait_for(lambda: source._unanswered)
        pair.viewer.receiver.detach(source.entry.token)
        assert pair.told(sent) == [(False, "camera 1 has not taken the mark: it was detached before")]


PROGRAM = """
import numpy as np
from scopecast import Publisher

with Publisher("headless", title="camera 1") as publisher:
    publisher.open((64, 48), wait=30)
    publisher.publish(np.zeros((64, 48), "uint16"), policy="every")
    listener = publisher.marks()
    input()
"""


@pytest.mark.fault("P14")
def test_a_program_that_dies_before_it_takes_them_is_told_of():
    with Viewer() as viewer:
        program = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE)
        try:
            viewer.wait_for(lambda: viewer.streams and viewer.streams[0].newest and viewer.sources[0].listens)
            pair = Pair(None, viewer)
            sent = pair.send(pair.message(POINT))
            viewer.wait_for(lambda: viewer.sources[0]._unanswered)
        finally:
            program.kill()
            program.communicate()
        # Which of the two is noticed first, the end or the broken connection, is for the system to say.
        ((taken, text),) = pair.told(sent)
    RunDirectory().clean(everything=True)
    assert not taken
    assert text.endswith(("it ended before it took them", "it may or may not have taken them"))
