"""The publisher: every frame arrives as it was, or is accounted for, and nothing stays behind."""

from __future__ import annotations

import gc
import logging
import os
import re
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest
import zmq

from receivers import Viewer, check_stamp, planes_of, stamped
from scopecast import (
    ClosedError,
    ForkedError,
    Publisher,
    ScopecastError,
    SharedMemoryError,
    UnsupportedDtypeError,
    ViewerLagging,
)
from scopecast.frames.arrays import SHOWABLE
from scopecast.link import messages
from scopecast.link.router import GoneError
from scopecast.link.transport import KeyPair, chosen_transport, connect
from scopecast.memory.ring import RingLayout, RingReader
from scopecast.memory.segment import PAGE, Segment, own_bytes
from scopecast.publishing.keeper import Keeper
from scopecast.rundir.directory import RunDirectory, new_token
from systems import HAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHM = Path("/dev/shm")
#: Other programs, and other runs of these tests, have segments too; ours are told by their prefix.
PREFIX = f"t{new_token()}_"
#: The ending of what a publisher has in the run directory for its connection.
SOCKET = {".sock"} if chosen_transport() == "ipc" else set()


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def segments() -> set[str]:
    """The segments of these tests; where none can be listed, those that a publisher tells of and that are there."""
    if HAS["/dev/shm"]:
        return {path.name for path in SHM.iterdir() if path.name.startswith(PREFIX)}
    told = {name for entry in RunDirectory().entries("publisher") for name in entry.segments}
    return {name for name in told if name.startswith(PREFIX) and own_bytes(name) is not None}


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged for the user to see; other libraries may have set any level for the rest."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def every(**arguments: Any) -> Publisher:
    return Publisher("headless", prefix=PREFIX, policy="every", linger=10, **arguments)


def attached(publisher: Publisher) -> int:
    return sum(row.attached for row in publisher.stats())


def until(condition: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 40.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class RawReceiver:
    """A receiver that says only what the test has it say."""

    def __init__(self, publisher: Publisher) -> None:
        directory = RunDirectory()
        until(lambda: directory.living("publisher", publisher.kind))
        (entry,) = directory.living("publisher", publisher.kind)
        keys = KeyPair()
        self.member = directory.join("receiver", publisher.kind, title="raw", key=keys.public)
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.set(zmq.LINGER, 0)
        self.socket.set(zmq.RCVTIMEO, 10_000)
        connect(self.socket, entry, keys)
        self.send(messages.Hello(1, 1, self.member.token, publisher.kind, os.getpid(), "raw"))
        self.welcome = self.receive(messages.Welcome)
        self.frames: list[messages.Frame] = []

    def send(self, message: messages.FromReceiver) -> None:
        self.socket.send(messages.encode(message))

    def receive(self, kind: type[Any]) -> Any:
        """Return the next message of a kind; pings are answered, others ignored."""
        while True:
            message = messages.decode_from_publisher(self.socket.recv())
            if isinstance(message, kind):
                return message
            if isinstance(message, messages.Ping):
                self.send(messages.Pong(message.number))

    def ack(self, frame: messages.Frame) -> None:
        self.send(messages.Ack(frame.epoch, frame.slot, frame.generation, "delivered"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close(0)
        self.context.term()
        self.member.close()


# ---- what arrives ------------------------------------------------------------------------------------------------


def test_every_frame_arrives_where_it_belongs(viewer: Viewer):
    with every(title="camera") as publisher:
        for t in range(12):
            for c, channel in enumerate(("DAPI", "FITC")):
                sequence = publisher.publish(stamped(t, c), axes={"t": t, "c": channel})
                assert sequence == 2 * t + c
                assert publisher.stats().balanced
        assert publisher.flush(10)
        assert publisher.stats().frames == (24, 24, 0, 0, 0, 0)
        (stream,) = viewer.streams
        planes = planes_of(stream)
        assert {index: check_stamp(plane)[:2] for index, plane in planes.items()} == {
            (t, c): (t, c) for t in range(12) for c in range(2)
        }
        assert stream.about.labels == {"c": ["DAPI", "FITC"]}
        assert stream.title == "camera"


def test_a_volume_is_published_plane_by_plane(viewer: Viewer):
    volume = np.stack([[stamped(t, 0, z) for z in range(4)] for t in range(3)])
    with every() as publisher:
        outcome = publisher.offer(volume)
        assert (outcome.sequence, outcome.frames, outcome.reason) == (11, 12, None)
        publisher.publish(np.moveaxis(volume, 0, -1) + 0, dims="zyxt", axes={"c": "again"})
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 24
        (stream,) = viewer.streams
        assert stream.axes == ("t", "c", "z")
        places = {index: check_stamp(plane) for index, plane in planes_of(stream).items()}
        assert places == {(t, 0, z): (t, 0, z) for t in range(3) for z in range(4)}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour_stays_together(viewer: Viewer, samples: int, dtype: str):
    frame = stamped(5, 1, 2, (30, 20, samples), dtype)
    with every() as publisher:
        publisher.publish(np.stack([frame, frame]))
        assert publisher.flush(10)
        (stream,) = viewer.streams
        (stack,) = stream.stacks
        assert stack.full_shape == (2, 30, 20, samples)
        assert [check_stamp(plane) for plane in planes_of(stream).values()] == [(5, 1, 2)] * 2


def test_an_image_with_empty_keywords_of_annotations_is_an_image(viewer: Viewer):
    with every() as publisher:
        publisher.publish(stamped(0, shape=(5, 6, 3), dtype="uint8"), properties={}, style={}, names=[], graph={})
        assert publisher.flush(10)
        (stack,) = viewer.streams[0].stacks
        assert (stack.sent.kind, stack.full_shape) == ("image", (5, 6, 3))


def test_colour_by_name_is_planes_where_that_is_said(viewer: Viewer):
    with every() as publisher:
        publisher.publish(stamped(0, shape=(5, 6, 4)), rgb=False)
        assert publisher.flush(10)
        assert viewer.streams[0].stacks[0].full_shape == (5, 6, 4)


@pytest.mark.fault("D2")
def test_every_dtype_arrives_as_it_was_in_either_byte_order(viewer: Viewer):
    dtypes = [np.dtype(name).newbyteorder(order) for name in sorted(SHOWABLE) for order in "=>"]
    arrays = {}
    for t, dtype in enumerate(dtypes):
        numbers = np.arange(63).reshape(7, 9) + t
        arrays[t] = (numbers % 2 if dtype.kind == "b" else numbers * (1 + 2j) if dtype.kind == "c" else numbers).astype(
            dtype
        )
    with every() as publisher:
        for t, array in arrays.items():
            publisher.publish(array, axes={"t": t})
        assert publisher.flush(10)
        found = {
            index[0]: stack.plane(index) for stack in viewer.streams[0].stacks for index in tuple(stack.layout.planes)
        }
        assert found.keys() == arrays.keys()
        for t, array in arrays.items():
            plane = found[t]
            assert plane is not None
            expected = np.abs(array) if array.dtype.kind == "c" else array
            assert plane.dtype == expected.dtype.newbyteorder("="), array.dtype
            np.testing.assert_array_equal(plane, expected)


LOOKS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "Fortran": np.asfortranarray,
    "transposed": lambda array: array.T.copy().T,
    "negative strides": lambda array: array[::-1, ::-1][::-1, ::-1].copy()[::-1][::-1],
    "every other": lambda array: np.repeat(array, 2, axis=1)[:, ::2],
    "broadcast": lambda array: np.broadcast_to(array, (1, *array.shape))[0],
    "big-endian": lambda array: array.astype(">u2"),
    "masked": lambda array: np.ma.masked_array(array, mask=False),
    "lists": lambda array: array.tolist(),
}


@pytest.mark.fault("D1")
@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_every_look_at_an_array_arrives(viewer: Viewer, look: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]):
    with every() as publisher:
        publisher.publish(look(stamped(3, 1, 4, (40, 30))))
        assert publisher.flush(10)
        (plane,) = planes_of(viewer.streams[0]).values()
        assert check_stamp(plane) == (3, 1, 4)


def test_the_buffer_is_free_when_publish_returns(viewer: Viewer):
    buffer = np.empty((64, 48), "uint16")
    with every() as publisher:
        for t in range(30):
            buffer[:] = stamped(t)
            publisher.publish(buffer, axes={"t": t})
            buffer[:] = 0
        assert publisher.flush(10)
        assert {check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()} == set(range(30))


def test_what_is_said_of_a_frame_arrives_with_it(viewer: Viewer):
    with every() as publisher:
        stream = publisher.new_stream("run 7", sizes={"t": 5}, scale=(0.5, 0.25), units="um", steps={"t": 2.0})
        publisher.publish(stamped(0), axes={"t": 0}, path="a/b.tif", translate=(10, -20.5), stream=stream)
        assert publisher.flush(10)
        (live,) = viewer.streams
        assert live.newest is not None
        _stack, index, tag = live.newest
        assert (index, tag.path, tag.translate, tag.sequence) == ((0,), "a/b.tif", (10.0, -20.5), 0)
        assert (live.about.title, live.about.sizes, live.about.steps) == ("run 7", [5], [2.0])
        assert (live.about.scale, live.about.units) == ([0.5, 0.25], "um")


@pytest.mark.parametrize(
    "path", ["caf\udce9.tif", "\U0001f52c.tif", "p" * 5000 + ".tif"], ids=["bytes", "wide", "long"]
)
def test_no_path_keeps_a_frame_from_arriving(viewer: Viewer, path: str):
    with every(title="title \udce9") as publisher:
        publisher.publish(stamped(0), path=path)
        assert publisher.flush(10)
        assert publisher.stats().frames.delivered == 1
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].newest)
        assert viewer.streams[0].newest[2].path.endswith(".tif")


def test_frames_without_axes_take_the_place_of_the_last(viewer: Viewer):
    with every() as publisher:
        for t in range(5):
            publisher.publish(stamped(t))
        assert publisher.flush(10)
        (plane,) = planes_of(viewer.streams[0]).values()
        assert check_stamp(plane)[0] == 4


def test_a_run_is_a_stream_of_its_own_and_ends(viewer: Viewer):
    with every() as publisher:
        first = publisher.new_stream("first")
        publisher.publish(stamped(1), axes={"t": 0})
        second = publisher.new_stream("second")
        publisher.publish(stamped(2), axes={"t": 0})
        publisher.publish(stamped(3), axes={"t": 1}, stream=first)
        publisher.end_stream(first)
        assert publisher.flush(10)
        viewer.wait_for(lambda: viewer.streams and viewer.streams[0].state == "ended")
        one, two = viewer.streams
        assert (one.about.title, two.about.title, two.state) == ("first", "second", "live")
        assert {check_stamp(plane)[0] for plane in planes_of(one).values()} == {1, 3}
        assert {check_stamp(plane)[0] for plane in planes_of(two).values()} == {2}
        assert first.ended
        assert not second.ended
    viewer.wait_for(lambda: two.state == "ended")


def test_a_viewer_that_comes_late_gets_the_newest_of_each_channel():
    with every() as publisher:
        for t in range(6):
            for channel in ("DAPI", "FITC"):
                publisher.publish(stamped(t, int(channel == "FITC")), axes={"t": t, "c": channel})
        assert publisher.stats().skipped == {"no viewer": 12}
        with Viewer() as viewer:
            viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received == 2)
            places = {index: check_stamp(plane)[:2] for index, plane in planes_of(viewer.streams[0]).items()}
            assert places == {(5, 0): (5, 0), (5, 1): (5, 1)}
            viewer.wait_for(lambda: publisher.stats().frames.delivered == 2)
            assert publisher.stats().balanced


def test_viewers_come_and_go_while_frames_are_published_without_a_pause(monkeypatch: pytest.MonkeyPatch):
    """publish() reads for the keeper thread then, which must not wait for its heartbeat to look who comes."""
    monkeypatch.setattr("scopecast.publishing.keeper.HEARTBEAT_S", 600.0)
    done = threading.Event()

    def publish() -> None:
        while not done.is_set():
            publisher.publish(stamped(0))

    with Publisher("headless", linger=5.0) as publisher:
        publisher.open((64, 48), wait=20)
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            for _ in range(3):
                with Viewer() as one:
                    one.wait_for(lambda: any(stream.received for stream in one.streams))
                    with Viewer() as other:
                        other.wait_for(lambda: any(stream.received for stream in other.streams))
                        assert attached(publisher) == 2
                one.wait_for(lambda: attached(publisher) == 0)
        finally:
            done.set()
            thread.join()
        assert publisher.stats().balanced


def test_several_viewers_get_every_frame():
    with Viewer(title="one") as one, Viewer(title="two") as two, every() as publisher:
        for t in range(20):
            publisher.publish(stamped(t), axes={"t": t})
        assert publisher.flush(10)
        stats = publisher.stats()
        assert stats.balanced
        assert {row.title: row.frames.delivered for row in stats} == {"one": 20, "two": 20}
        for viewer in (one, two):
            assert {check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()} == set(range(20))


def test_under_latest_every_frame_is_accounted_for_and_the_newest_arrives(viewer: Viewer):
    with Publisher("headless", policy="latest", linger=10) as publisher:
        publisher.open((64, 48), wait=10)
        for t in range(300):
            publisher.publish(stamped(t), axes={"t": t})
            assert publisher.stats().balanced
        assert publisher.flush(60)
        frames = publisher.stats().frames
        assert frames.published == 300
        assert frames.delivered + frames.superseded == 300
        places = {index[0]: check_stamp(plane)[0] for index, plane in planes_of(viewer.streams[0]).items()}
        assert len(places) == frames.delivered
        assert all(place == stamp for place, stamp in places.items())
        assert 299 in places


# ---- what does not -----------------------------------------------------------------------------------------------


@pytest.mark.fault("R6")
@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0, 4)], ids=str)
def test_an_empty_array_is_skipped_and_counted(viewer: Viewer, shape: tuple[int, ...]):
    with every() as publisher:
        assert publisher.publish(np.zeros(shape, "uint8")) == -1
        assert publisher.stats().frames == (1, 0, 0, 0, 1, 0)
        assert publisher.stats().skipped == {"empty": 1}
        publisher.publish(stamped(0))
        assert publisher.publish(np.zeros(shape, "uint8")) == -1
        assert publisher.flush(10)
        assert publisher.stats().frames == (3, 1, 0, 0, 2, 0)
        (row,) = publisher.stats()
        assert row.frames.balanced


@pytest.mark.fault("R6")
def test_a_single_number_is_a_plane_of_one_pixel(viewer: Viewer):
    with every() as publisher:
        publisher.publish(np.array(17, "uint16"))
        assert publisher.flush(10)
        (plane,) = planes_of(viewer.streams[0]).values()
        assert plane.tolist() == [[17]]


WRONG_DTYPES = {
    "object": (np.array([[1, None]], object), r"dtype object cannot be shown.*np\.stack"),
    "text": (np.array([["a"]]), "dtype <U1 cannot be shown"),
    "bytes": (np.array([[b"a"]]), r"dtype \|S1 cannot be shown"),
    "void": (np.zeros((2, 2), "V4"), r"dtype \|V4 cannot be shown"),
    "structured": (np.zeros((2, 2), [("a", "u2")]), r"pick one field, such as array\['a'\]"),
    "datetime": (np.zeros((2, 2), "M8[s]"), r"dtype datetime64\[s\] cannot be shown.*astype\('int64'\)"),
    "float128": (np.zeros((2, 2), "g"), r"float128 cannot be shown.*astype\('float64'\)"),
    "no array": ("image.tif", "str cannot be shown as an image"),
}


@pytest.mark.fault("D3")
@pytest.mark.parametrize(
    ("array", "problem"),
    [
        pytest.param(*given, id=name, marks=[pytest.mark.needs("long doubles")] if name == "float128" else [])
        for name, given in WRONG_DTYPES.items()
    ],
)
def test_a_dtype_that_cannot_be_shown_is_the_callers_mistake(array: Any, problem: str):
    with every() as publisher:
        with pytest.raises(UnsupportedDtypeError, match=problem) as caught:
            publisher.publish(array)
        assert isinstance(caught.value, TypeError)
        assert publisher.stats().frames.published == 0
        assert segments() == set()


WRONG_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "a name with a space": ({"axes": {"time point": 1}}, ValueError, "'time point' cannot name an axis"),
    "dims for axes": ({"axes": "tyx"}, TypeError, "dims name dimensions"),
    "a channel twice": ({"axes": {"Channel": 1}, "channel": 0}, ValueError, "channel is given twice"),
    "no such keyword": ({"pixel_size": 0.3}, TypeError, "publish\\(\\) has no argument 'pixel_size'"),
    "misspelt": ({"axis": {"t": 0}}, TypeError, "did you mean 'axes'"),
    "axis x": ({"axes": {"x": 1}}, ValueError, "axis 'x' is the plane's own"),
    "negative": ({"axes": {"t": -1}}, ValueError, "axis 't' is -1"),
    "float": ({"axes": {"t": 0.5}}, TypeError, "index .int. or a label"),
    "nine axes": ({"axes": {f"a{n}": n for n in range(9)}}, ValueError, "too many"),
    "twice": ({"axes": {"t": 0, "time": 1}}, ValueError, "given twice"),
    "dims": ({"dims": "tzyx"}, ValueError, "name 4 dimensions"),
    "rgb": ({"rgb": True, "dims": "yx"}, ValueError, "no dimension of 3 or 4"),
    "kind": ({"kind": "table"}, ValueError, "use one of image, labels, points"),
    "keyword of another kind": ({"name": "cells"}, TypeError, "only the common ones"),
    "translate": ({"translate": (1.0, float("nan"))}, ValueError, "translate"),
    "translate of three": ({"translate": (1.0, 2.0, 3.0)}, ValueError, "translate"),
}


@pytest.mark.parametrize(("arguments", "error", "problem"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_what_the_caller_did_wrong_is_raised_and_harms_no_later_frame(
    viewer: Viewer, arguments: dict[str, Any], error: type[Exception], problem: str
):
    with every() as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        for _ in range(3):
            with pytest.raises(error, match=problem):
                publisher.publish(stamped(9), **arguments)
        publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(10)
        assert publisher.stats().frames == (2, 2, 0, 0, 0, 0)
        assert {check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()} == {0, 1}


@pytest.mark.parametrize("array", [stamped(9), np.zeros((0, 4), "uint16"), np.zeros((2, 3, 4), "uint8")])
@pytest.mark.parametrize("axes", [{"t": -1}, {"time point": 1}, {"t": 0, "time": 1}, {"x": 1}])
def test_axes_are_checked_the_same_without_a_viewer(array: Any, axes: Any):
    with Publisher("headless") as publisher:
        with pytest.raises(ValueError, match=r"axis|axes"):
            publisher.publish(array, axes=axes)
        assert publisher.stats().frames.published == 0


def test_a_channel_by_number_is_the_same_place_as_among_the_axes(viewer: Viewer):
    with every() as publisher:
        publisher.publish(stamped(0), channel=1)
        publisher.publish(stamped(1), axes={"c": 1})
        publisher.publish(stamped(2), channel="1")  # a name, and not the number
        assert publisher.flush(10)
    assert {index: check_stamp(plane)[0] for index, plane in planes_of(viewer.streams[0]).items()} == {(1,): 1, (2,): 2}


class Named:
    """As much of an xarray.DataArray as names its dimensions."""

    def __init__(self, array: Any, dims: tuple[str, ...]) -> None:
        self.array, self.dims = array, dims

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self.array


def test_dimensions_that_an_array_names_are_used_in_a_form_that_works(viewer: Viewer):
    array = np.stack([[stamped(t, c) for c in range(2)] for t in range(3)])
    with every() as publisher:
        outcome = publisher.offer(Named(np.moveaxis(array, 2, 0), ("y", "stim phase", "Channel", "x")))
        publisher.offer(Named(stamped(7), ("row", "column")), axes={"stim_phase": 5})  # tell nothing
        assert publisher.flush(10)
        assert (outcome.frames, outcome.shown, outcome.missing) == (6, 6, 0)
    (stream,) = viewer.streams
    assert stream.axes == ("stim_phase", "c")
    seen = {index: check_stamp(plane)[:2] for index, plane in planes_of(stream).items()}
    assert seen == {**{(t, c): (t, c) for t in range(3) for c in range(2)}, (5, 0): (7, 0)}


def test_an_unknown_policy_is_an_error():
    with pytest.raises(ValueError, match="policy 'newest' is not known; use 'latest'"):
        Publisher("headless", policy="newest")  # type: ignore[arg-type]


def test_metadata_that_is_too_long_is_left_out_and_counted(viewer: Viewer):
    with every() as publisher:
        publisher.publish(stamped(0), metadata={"exposure_ms": 10})
        assert publisher.stats().metadata_cut == 0
        publisher.publish(stamped(1), metadata={"blob": "x" * 20_000})
        publisher.publish(stamped(2), metadata=np.zeros(100_000))
        assert publisher.flush(10)
        stats = publisher.stats()
        assert (stats.metadata_cut, stats.frames.delivered) == (2, 3)


# ---- the policy that loses nothing -------------------------------------------------------------------------------


def test_every_waits_for_a_viewer_that_does_not_acknowledge():
    with every(budget=RingLayout(6, PAGE).size, timeout=30) as publisher:
        publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": 0})
        with RawReceiver(publisher) as raw:
            done = threading.Event()

            def publish() -> None:
                for t in range(1, 31):
                    publisher.publish(np.full((8, 8), t, "uint8"), axes={"t": t})
                done.set()

            thread = threading.Thread(target=publish)
            thread.start()
            reader = RingReader(raw.welcome.segment, raw.welcome.token, raw.welcome.epoch)
            seen = []
            while not seen or seen[-1] < 30:
                frame = raw.receive(messages.Frame)
                # All that this viewer has not acknowledged fits the ring: the publisher has waited.
                assert publisher.stats().balanced
                assert publisher.stats().frames.in_flight <= 6
                if len(seen) < 5:
                    assert not done.is_set()
                assert reader.generation(frame.slot) == frame.generation
                seen.append(int(reader.view(frame.slot, frame.shape, np.dtype(frame.dtype))[0, 0]))
                raw.ack(frame)
            thread.join(10)
            reader.close()
            assert done.is_set()
            assert seen == list(range(31))
            assert publisher.flush(10)
            assert publisher.stats().frames == (31, 31, 0, 0, 0, 0)


def test_a_slot_that_is_given_back_is_used_before_a_frame_is_dropped(monkeypatch: pytest.MonkeyPatch):
    """While frames follow each other closely, nobody but publish() reads what viewers acknowledge."""
    busy = threading.Event()
    monkeypatch.setattr(Keeper, "_is_busy", lambda _: busy.is_set())
    monkeypatch.setattr("scopecast.publishing.keeper.HEARTBEAT_S", 600.0)
    with Publisher("headless", budget=RingLayout(3, PAGE).size) as publisher, ExitStack() as stack:
        publisher.publish(np.zeros((8, 8), "uint8"), policy="every")
        hub = publisher.session.receivers
        _, second, third = (stack.enter_context(RawReceiver(publisher)) for _ in range(3))

        def publish(leases: int) -> int:
            """Publish a frame once there are this many leases."""
            accounts = publisher.session.accounts.receivers
            until(lambda: sum(len(account.leased) for account in accounts.values()) == leases)
            return publisher.publish(np.zeros((8, 8), "uint8"))

        for viewer in (second, third):
            viewer.ack(viewer.receive(messages.Frame))
        publish(1)
        third.ack(third.receive(messages.Frame))
        publish(2)  # each viewer holds another one of the three slots now
        frame = third.receive(messages.Frame)
        busy.set()
        third.ack(frame)
        with publisher.session.guard.lock:
            until(lambda: hub.router.readable)
        assert publish(3) >= 0
        assert publisher.stats().frames.dropped == 0
        busy.clear()


def test_the_timeout_can_be_changed():
    with every(budget=RingLayout(6, PAGE).size, timeout=60) as publisher:
        publisher.publish(np.zeros((8, 8), "uint8"))
        publisher.timeout = 0.2

        def publish_until_it_lags() -> None:
            for _ in range(20):
                publisher.publish(np.zeros((8, 8), "uint8"))

        with RawReceiver(publisher), pytest.raises(ViewerLagging, match=r"after 0\.2 s"):
            publish_until_it_lags()


@pytest.mark.fault("V4")
def test_every_names_the_viewer_that_lags():
    with every(budget=RingLayout(6, PAGE).size, timeout=0.3) as publisher:
        publisher.publish(np.zeros((8, 8), "uint8"))
        with RawReceiver(publisher) as raw:
            published = 1

            def publish_until_it_lags() -> None:
                nonlocal published
                for t in range(1, 20):
                    publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": t})
                    published += 1

            with pytest.raises(ViewerLagging, match=rf"after 0\.3 s: raw .process {os.getpid()}. holds \d+ frames"):
                publish_until_it_lags()
            assert 1 < published <= 6
            stats = publisher.stats()
            assert stats.balanced
            assert stats.frames.published == published
            for _ in range(published):
                raw.ack(raw.receive(messages.Frame))
            publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": 20})  # there is room again
            assert publisher.stats().frames.published == published + 1


def test_a_viewer_that_leaves_is_not_waited_for():
    with every(budget=RingLayout(6, PAGE).size, timeout=30) as publisher:
        publisher.publish(np.zeros((8, 8), "uint8"))
        with RawReceiver(publisher) as raw:
            raw.receive(messages.Frame)
            thread = threading.Thread(
                target=lambda: [publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": t}) for t in range(1, 40)]
            )
            thread.start()
            raw.receive(messages.Frame)
            raw.send(messages.Bye("enough"))
            thread.join(10)
            assert not thread.is_alive()
        stats = publisher.stats()
        assert stats.balanced
        assert stats.frames.in_flight == 0
        (row,) = stats
        assert not row.attached
        assert row.frames.dropped > 0


# ---- reservations ------------------------------------------------------------------------------------------------


def test_a_reserved_slot_is_published_at_the_end_of_the_block(viewer: Viewer):
    with every() as publisher:
        with publisher.reserve((64, 48), ">u2", axes={"t": 0}) as slot:
            assert slot.array.dtype == np.dtype("=u2")
            assert slot.array.flags.c_contiguous
            slot.array[:] = stamped(7)
            assert publisher.stats().frames.published == 0
        assert publisher.flush(10)
        assert publisher.stats().frames == (1, 1, 0, 0, 0, 0)
        (plane,) = planes_of(viewer.streams[0]).values()
        assert check_stamp(plane)[0] == 7
        with pytest.raises(ValueError, match="read-only"):
            slot.array[0, 0] = 1
        with pytest.raises(ClosedError, match="committed or aborted already"):
            slot.commit()


def test_commit_returns_the_sequence_number(viewer: Viewer):
    with every() as publisher:
        assert publisher.publish(stamped(0)) == 0
        slot = publisher.reserve((4, 4), "uint8")
        slot.array[:] = 0
        assert slot.commit() == 1


def _fail(publisher: Publisher) -> None:
    with pytest.raises(ZeroDivisionError), publisher.reserve((64, 48), "uint16", axes={"t": 9}):
        raise ZeroDivisionError


def _abort(publisher: Publisher) -> None:
    slot = publisher.reserve((64, 48), "uint16", axes={"t": 9})
    slot.abort()
    slot.abort()
    with pytest.raises(ValueError, match="read-only"):
        slot.array[0, 0] = 1
    with pytest.raises(ClosedError):
        slot.commit()


def _forget(publisher: Publisher) -> None:
    publisher.reserve((64, 48), "uint16", axes={"t": 9})


def _forget_in_a_cycle(publisher: Publisher) -> None:
    slot: Any = publisher.reserve((64, 48), "uint16", axes={"t": 9})
    slot.itself = slot
    del slot
    gc.collect()


ENDS = {"raised": _fail, "aborted": _abort, "forgotten": _forget, "forgotten in a cycle": _forget_in_a_cycle}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_slot_that_is_given_up_is_neither_published_nor_lost(viewer: Viewer, end: Callable[[Publisher], None]):
    with every(budget=RingLayout(4, 2 * PAGE).size) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        for _ in range(20):  # five times as many as there are slots
            end(publisher)
        publisher.publish(stamped(1), axes={"t": 1})
        assert publisher.flush(10)
        assert publisher.stats().frames == (2, 2, 0, 0, 0, 0)
        assert {check_stamp(plane)[0] for plane in planes_of(viewer.streams[0]).values()} == {0, 1}


class Collecting(dict[str, int]):
    """Axes that have the garbage collector run while the publisher reads them."""

    def items(self) -> Any:
        gc.collect()
        return super().items()


def test_a_slot_that_is_collected_in_the_middle_of_publish(viewer: Viewer):
    with every() as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        gc.disable()
        try:
            slot: Any = publisher.reserve((64, 48), "uint16")
            slot.itself = slot
            del slot
            publisher.publish(stamped(1), axes=Collecting(t=1))
        finally:
            gc.enable()
        assert publisher.flush(10)
        assert publisher.stats().frames == (2, 2, 0, 0, 0, 0)


@pytest.mark.parametrize("shape", [(4,), (4, 5, 6), (0, 4), (4, 5, 5, 3), ()], ids=str)
def test_a_shape_that_is_no_plane_cannot_be_reserved(shape: tuple[int, ...]):
    with every() as publisher, pytest.raises(ValueError, match="a slot holds one plane"):
        publisher.reserve(shape, "uint8")


def test_a_reservation_for_which_there_is_no_slot_takes_the_pixels_all_the_same():
    with every(budget=RingLayout(3, PAGE).size) as publisher:
        with publisher.reserve((1000, 1000), "uint16") as slot:
            slot.array[:] = 1
        assert slot.commit is not None
        assert publisher.stats().frames == (1, 0, 0, 0, 1, 0)
        assert publisher.stats().skipped == {"larger than the budget": 1}


# ---- sizes and memory --------------------------------------------------------------------------------------------


def test_nothing_is_made_before_the_first_frame(runtime_dir: Path):
    with Publisher("headless", prefix=PREFIX) as publisher:
        assert publisher.stats().frames.published == 0
        assert publisher.stats().segment_bytes == 0
        assert publisher.flush(1)
        publisher.new_stream("run")
        assert list(runtime_dir.iterdir()) == []
        assert segments() == set()


@pytest.mark.fault("R5")
def test_a_larger_frame_has_a_larger_ring_made_and_later_frames_arrive(viewer: Viewer):
    budget = RingLayout(8, 16 * PAGE).size
    with every(budget=budget) as publisher:
        publisher.publish(stamped(0, shape=(32, 32)), axes={"t": 0})
        slot_bytes = RingReaderOf(publisher).slot_bytes
        larger = slot_bytes // 64 + 1  # of 32 pixels with two bytes: just more than a slot
        publisher.publish(stamped(1, shape=(larger, 32)), axes={"t": 1})
        publisher.publish(stamped(2, shape=(32, 32)), axes={"t": 2})
        assert publisher.flush(10)
        assert publisher.stats().frames == (3, 3, 0, 0, 0, 0)
        assert RingReaderOf(publisher).name.endswith("_1")
        (made,) = segments()
        assert made.endswith("_1"), "the old one is unlinked at once"
        assert publisher.stats().segment_bytes <= budget
        stamps = {
            index: check_stamp(stack.plane(index))[0]
            for stack in viewer.streams[0].stacks
            for index in tuple(stack.layout.planes)
        }
        assert stamps == {(0,): 0, (1,): 1, (2,): 2}


class RingReaderOf:
    """What the segment of a publisher says of itself."""

    def __init__(self, publisher: Publisher) -> None:
        (entry,) = RunDirectory().living("publisher", publisher.kind)
        (self.name,) = entry.segments
        reader = RingReader(self.name, entry.token, int(self.name.rsplit("_", 1)[1]))
        self.slot_bytes = reader.layout.slot_bytes
        reader.close()


@pytest.mark.fault("R5")
def test_a_frame_beyond_the_budget_is_skipped_with_one_warning(viewer: Viewer, caplog: pytest.LogCaptureFixture):
    with every(budget=2**20) as publisher:
        publisher.publish(stamped(0), axes={"t": 0})
        with caplog.at_level(logging.WARNING):
            for t in range(1, 6):
                assert publisher.publish(np.zeros((1280, 1024), "uint16"), axes={"t": t}) == -1
            publisher.publish(stamped(6, shape=(256, 256)), axes={"t": 6})  # has a new ring made
            assert publisher.publish(np.zeros((1280, 1024), "uint16"), axes={"t": 7}) == -1
        (record,) = warnings_in(caplog)
        assert "2.5 MiB does not fit the budget of 1.0 MiB" in record.getMessage()
        publisher.publish(stamped(8), axes={"t": 8})
        assert publisher.flush(10)
        stats = publisher.stats()
        assert stats.frames == (9, 3, 0, 0, 6, 0)
        assert stats.skipped == {"larger than the budget": 6}
        assert stats.balanced


@pytest.mark.fault("R5")
def test_the_budget_is_kept_as_frames_grow(viewer: Viewer):
    budget = 4 * 2**20
    with every(budget=budget) as publisher:
        for power in range(4, 21):
            publisher.publish(np.zeros((2 ** (power // 2), 2 ** (power - power // 2)), "uint8"), axes={"t": power})
            assert publisher.flush(10)
            stats = publisher.stats()
            assert stats.segment_bytes <= budget
            assert stats.balanced
        assert stats.frames.delivered == 17


@pytest.mark.fault("R1")
def test_without_shared_memory_the_frames_are_skipped_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse(name: str, size: int, *_: int) -> Segment:
        raise SharedMemoryError(28, f"needs {size} bytes")

    monkeypatch.setattr(Segment, "create", refuse)
    with every() as publisher, caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert publisher.publish(stamped(0)) == -1
        assert publisher.stats().frames == (3, 0, 0, 0, 3, 0)
    (record,) = warnings_in(caplog)
    assert "headless viewers disabled: [Errno 28] needs" in record.getMessage()


# ---- the end -----------------------------------------------------------------------------------------------------


def test_closing_removes_everything_and_is_idempotent(runtime_dir: Path):
    threads = set(threading.enumerate())
    publisher = every()
    publisher.publish(stamped(0))
    assert len(segments()) == 1
    assert {path.suffix for path in runtime_dir.iterdir()} == {".json", ".lock", *SOCKET}
    publisher.close()
    publisher.close()
    assert segments() == set()
    assert list(runtime_dir.iterdir()) == []
    assert set(threading.enumerate()) == threads
    assert publisher.stats().frames.published == 1


def test_what_is_closed_cannot_be_used():
    publisher = every()
    publisher.publish(stamped(0))
    slot = publisher.reserve((4, 4), "uint8")
    publisher.close()
    for use in (
        lambda: publisher.publish(stamped(0)),
        lambda: publisher.reserve((4, 4), "uint8"),
        lambda: publisher.open((4, 4)),
        lambda: publisher.new_stream("x"),
        slot.commit,
    ):
        with pytest.raises(ClosedError, match="closed"):
            use()


def test_a_publisher_that_is_forgotten_warns_and_removes_everything(runtime_dir: Path):

    def forget() -> None:
        every().publish(stamped(0))
        gc.collect()

    with pytest.warns(ResourceWarning, match="a publisher of headless frames was not closed"):
        forget()
    assert segments() == set()
    assert list(runtime_dir.iterdir()) == []


def test_a_publisher_that_made_nothing_may_be_forgotten(recwarn: pytest.WarningsRecorder):
    Publisher("headless").stats()
    gc.collect()
    assert not recwarn.list


BEGIN = (
    "import os, sys, numpy as np; from scopecast import Publisher\n"
    f"publisher = Publisher('headless', prefix='{PREFIX}', policy='every', linger=1)\n"
    "publisher.publish(np.zeros((8, 8), 'uint8'))\n"
    f"print([name for name in os.listdir('/dev/shm') if name.startswith('{PREFIX}')][0], flush=True)\n"
)
EXITS = {
    "the end of the script": ("", 0),
    "sys.exit": ("sys.exit(3)", 3),
    "an exception": ("raise RuntimeError", 1),
    "Ctrl-C": ("raise KeyboardInterrupt", -2),
}


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.fault("P2")
@pytest.mark.needs("/dev/shm")
@pytest.mark.parametrize(("code", "status"), EXITS.values(), ids=EXITS)
def test_a_script_that_ends_without_close_leaves_nothing(runtime_dir: Path, code: str, status: int):
    child = run(BEGIN + code)
    assert child.returncode == status, child.stderr
    assert child.stdout.startswith(PREFIX)
    assert segments() == set()
    assert list(runtime_dir.iterdir()) == []


@pytest.mark.fault("P2")
@pytest.mark.needs("/dev/shm")
def test_a_process_that_ends_at_once_is_cleaned_after(runtime_dir: Path):
    child = run(BEGIN + "os._exit(5)")
    assert child.returncode == 5
    name = child.stdout.strip()
    assert name in segments()
    assert [leftover.segment for leftover in RunDirectory().clean().kept] == [name], "its frames may be wanted"
    cleaned = RunDirectory().clean(everything=True)
    assert cleaned.segments == [name]
    assert cleaned.bytes >= 64 * 2**20
    assert segments() == set()
    assert list(runtime_dir.iterdir()) == []


@pytest.mark.fault("P7")
@pytest.mark.needs("/dev/shm")
def test_the_next_publisher_cleans_after_the_dead_and_keeps_their_last_frames_for_a_while(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    assert run(BEGIN + "os._exit(5)").returncode == 5
    for _ in range(2):
        with every() as publisher:
            publisher.publish(stamped(0))
            assert len(segments()) == 2
    (told,) = caplog.messages
    assert re.search("the last frames of .* are kept until ..:..: 'scopecast recover FOLDER' saves them", told)
    monkeypatch.setattr("scopecast.rundir.directory.KEEP_S", 0.0)
    with every() as publisher:
        publisher.publish(stamped(0))
        assert len(segments()) == 1
    assert list(runtime_dir.iterdir()) == []


def test_a_script_that_ends_at_once_still_waits_for_the_viewer_that_it_starts(runtime_dir: Path):
    code = (
        "import atexit, time, numpy as np\n"
        "from scopecast import Publisher\n"
        "atexit.register(lambda: None)\n"
        "publisher = Publisher('headless', launch=True, linger=30)\n"
        "publisher.open((8, 8), 'uint8')\n"
        "while not publisher.stats().segment_bytes: time.sleep(0.01)\n"
        "publisher.publish(np.zeros((8, 8), 'uint8'), axes={'t': 0})\n"
        "print(publisher.stats().frames.delivered, flush=True)\n"
        "close = publisher.session._tear_down\n"
        "publisher.session._tear_down = lambda: (print(publisher.stats().frames.delivered, flush=True), close())\n"
    )
    child = run(code)
    (entry,) = RunDirectory().living("receiver", "headless")
    os.kill(entry.pid, 15)
    deadline = time.monotonic() + 10
    while RunDirectory().alive(entry.token) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.stdout == "0\n1\n", child.stderr


@pytest.mark.fault("P4")
@pytest.mark.needs("fork")
def test_a_forked_child_can_do_nothing_and_harms_nothing(viewer: Viewer):
    code = (
        "import os, sys, numpy as np; from scopecast import ForkedError, Publisher\n"
        "publisher = Publisher('headless', policy='every', linger=10)\n"
        "frame = np.zeros((8, 8), 'uint8')\n"
        "publisher.publish(frame, axes={'t': 0})\n"
        "slot = publisher.reserve((8, 8), 'uint8', axes={'t': 1})\n"
        "if os.fork() == 0:\n"
        "    for use in (lambda: publisher.publish(frame), lambda: publisher.reserve((8, 8), 'uint8'), slot.commit,\n"
        "                lambda: publisher.flush(1), lambda: publisher.new_stream('x'),\n"
        "                lambda: publisher.open((8, 8))):\n"
        "        try:\n            use()\n"
        "        except ForkedError:\n            continue\n"
        "        os._exit(1)\n"
        "    slot.abort(); publisher.close(); sys.exit(0)\n"
        "assert os.wait()[1] == 0\n"
        "slot.array[:] = 1; slot.commit()\n"
        "publisher.publish(frame, axes={'t': 2})\n"
        "assert publisher.flush(10)\n"
        "print(*publisher.stats().frames); publisher.close()"
    )
    child = run(code)
    assert child.stdout == "3 3 0 0 0 0\n", child.stderr
    assert issubclass(ForkedError, ScopecastError)
    viewer.wait_for(lambda: viewer.streams and viewer.streams[0].received == 3)


@pytest.mark.fault("P10")
def test_frames_of_several_threads_all_arrive(viewer: Viewer):
    problems: list[BaseException] = []
    with every() as publisher:

        def publish(c: int) -> None:
            try:
                for t in range(100):
                    publisher.publish(stamped(t, c), axes={"t": t, "c": f"camera {c}"})
            except BaseException as error:  # noqa: BLE001 - told by the test
                problems.append(error)

        threads = [threading.Thread(target=publish, args=(c,)) for c in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert publisher.flush(10)
        assert problems == []
        assert publisher.stats().frames == (400, 400, 0, 0, 0, 0)
        (stream,) = viewer.streams
        numbers = {name: index for index, name in enumerate(stream.about.labels["c"])}
        found = {(index[0], index[1]): check_stamp(plane)[:2] for index, plane in planes_of(stream).items()}
        assert found == {(t, numbers[f"camera {c}"]): (t, c) for t in range(100) for c in range(4)}


def test_stats_tell_what_publish_costs_and_how_old_the_newest_frame_is(viewer: Viewer):
    with every() as publisher:
        assert publisher.stats().newest_age_s is None
        publisher.publish(stamped(0))
        stats = publisher.stats()
        assert 0 < stats.publish_ms[0] <= stats.publish_ms[1]
        assert stats.newest_age_s is not None
        assert stats.newest_age_s >= 0
        (row,) = stats
        assert (row.token, row.kind, row.pid, row.attached) == (viewer.token, "headless", os.getpid(), True)
        viewer.close()
        with suppress(ScopecastError):
            publisher.flush(10)
        viewer_gone = publisher.stats().receivers
        assert [one.attached for one in viewer_gone] == [False]


def test_a_publisher_its_stream_and_its_accounts_say_what_they_are():
    with every() as publisher:
        assert repr(publisher) == "<Publisher of headless frames, every: not open yet>"
        stream = publisher.new_stream("plate 7", channels=("DAPI",))
        publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": 2, "c": "DAPI"})
        assert repr(stream) == "<FrameStream 0 'plate 7': t 3, c 1>"
        assert "skipped: no viewer 1" in str(publisher.stats())
        publisher.end_stream(stream)
        assert repr(stream).endswith(", ended>")
        assert "0 viewers attached" in repr(publisher)
        with RawReceiver(publisher) as viewer:
            publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": 3})
            viewer.ack(viewer.receive(messages.Frame))
            viewer.socket.send(b"nonsense")
            until(lambda: publisher.stats().protocol_errors == 1)
            stats = publisher.stats()
        for said in ("ignored messages: 1", "all", "superseded"):
            assert said in str(stats)
            assert said in stats._repr_html_()
    assert "closed" in repr(publisher)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("pixel_size", "scale"),
        ("pixel_size_um", "scale"),
        ("z_step", "steps"),
        ("colour", "colors"),
        ("chanels", "channels"),
    ],
)
def test_an_argument_that_a_stream_has_not_is_an_error_that_says_what_was_meant(given: str, meant: str):
    with every() as publisher, pytest.raises(TypeError, match=rf"no argument '{given}': did you mean '{meant}'\?"):
        publisher.new_stream("run", **{given: 0.3})


def test_one_number_is_the_size_of_a_square_pixel_and_one_text_is_one_name():
    with every() as publisher:
        stream = publisher.new_stream(channels="DAPI", colors="blue", positions="A1", scale=0.3, units="um")
    announced = stream.message()
    assert (list(announced.scale), announced.labels, announced.colors) == (
        [0.3, 0.3],
        {"c": ["DAPI"], "p": ["A1"]},
        ["blue"],
    )


@pytest.mark.parametrize(
    ("free_mib", "side", "slots"),
    [
        pytest.param(64, 2048, 3, id="a container's 64 MiB have room for three frames of 2048x2048"),
        pytest.param(24 * 1024, 10_000, 3, id="three frames of 10,000x10,000 are more than 512 MiB"),
        pytest.param(24 * 1024, 2048, 32, id="the usual"),
        pytest.param(20, 2048, 0, id="no room for three", marks=pytest.mark.needs("/dev/shm")),
        pytest.param(
            *(1024, 10_000, 0),
            id="a quarter of the memory has no room for three large ones",
            marks=pytest.mark.needs("/dev/shm"),
        ),
    ],
)
def test_the_budget_has_room_for_three_frames_where_memory_has(monkeypatch, caplog, free_mib, side, slots):
    monkeypatch.setattr("scopecast.publishing.budget.free_bytes", lambda: free_mib * 2**20)
    session = every().session
    layout = session.budget.plan(2 * side**2)
    assert (layout.slots if layout else 0) == slots
    if not slots:
        session.ensure(2 * side**2, wait=20)
        assert "--shm-size" in session.problem
    session.close(0)


def test_who_leaves_while_its_process_goes_on_has_time_to_say_goodbye(caplog: pytest.LogCaptureFixture):
    """Its entry may be gone before its last words are here: they are sent by a thread of ZeroMQ's."""
    with every() as publisher, caplog.at_level(logging.INFO):
        publisher.publish(np.zeros((8, 8), "uint8"))
        keeper, receivers = publisher.session.keeper, publisher.session.receivers
        with RawReceiver(publisher) as viewer:
            viewer.receive(messages.Frame)
            (peer,) = receivers.attached.values()
            viewer.member.close()
            looks = []
            until(lambda: looks.append(keeper._why_dead(peer)) or len(looks) == 20)
            assert not any(looks)
            assert peer.attached
            viewer.socket.send(messages.encode(messages.Bye("the window was closed")))
            until(lambda: "has left: the window was closed" in caplog.text)
            assert not peer.attached


def test_who_leaves_without_a_word_is_given_up(caplog: pytest.LogCaptureFixture, monkeypatch):
    monkeypatch.setattr("scopecast.publishing.keeper.GOODBYE_S", 0.2)
    with every() as publisher:
        publisher.publish(np.zeros((8, 8), "uint8"))
        with RawReceiver(publisher) as viewer:
            viewer.receive(messages.Frame)
            viewer.member.close()
            viewer.socket.close(linger=0)
            until(lambda: "it is gone without a goodbye" in caplog.text)
            assert not publisher.session.receivers.attached


def test_a_goodbye_that_is_not_read_yet_is_the_reason_why_a_viewer_has_left(
    caplog: pytest.LogCaptureFixture, monkeypatch
):
    """Its connection is gone when the next frame is sent to it, and its last words are in our socket."""
    busy = threading.Event()
    monkeypatch.setattr(Keeper, "_is_busy", lambda _: busy.is_set())
    monkeypatch.setattr("scopecast.publishing.keeper.HEARTBEAT_S", 600.0)
    monkeypatch.setattr("scopecast.publishing.keeper.LOOK_S", 600.0)
    with every() as publisher:
        publisher.publish(np.zeros((8, 8), "uint8"))
        receivers = publisher.session.receivers
        with RawReceiver(publisher) as viewer:
            viewer.receive(messages.Frame)
            busy.set()
            with publisher.session.guard.lock, caplog.at_level(logging.INFO):
                viewer.socket.send(messages.encode(messages.Bye("the window was closed")))
                until(lambda: receivers.router.readable)
                viewer.socket.close(linger=1000)
                peer = next(iter(receivers.attached.values()))

                def is_gone() -> bool:
                    try:
                        return not receivers.router.send(peer.address, b"")
                    except GoneError:
                        return True

                until(is_gone)
                assert not receivers.send(peer, b"")
                assert "has left: the window was closed" in caplog.text
                assert "its connection is gone" not in caplog.text
            busy.clear()
