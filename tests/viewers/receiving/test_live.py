"""A live stream as the viewers see it."""

import time

import numpy as np

from scopecast.frames.streams import FrameStream
from scopecast.link.messages import Frame
from scopecast_viewers.receiving.live import LiveStream, PaintLog
from scopecast_viewers.receiving.status import figures_of
from scopecast_viewers.stacks.history import History


def test_planes_are_apart_by_their_steps_and_time_points_by_one():
    announced = FrameStream(
        0, "run", sizes={"t": 3, "z": 2, "p": 2}, steps={"t": 0.25, "z": 1.0}, scale=(0.5, 0.5), units="um"
    ).message()
    with History() as history:
        stream = LiveStream("token", "scope", announced, history, PaintLog())
        # Where no step is known, none is announced; it is told apart from one of 1 µm, or 1 s.
        assert dict(zip(announced.axes, announced.steps, strict=True)) == {"p": 0.0, "t": 0.25, "z": 1.0}
        assert stream.spacing == {"p": 1.0, "t": 1.0, "z": 1.0}


def stream_of(history: History) -> LiveStream:
    return LiveStream("token", "scope", FrameStream(0, "run").message(), history, PaintLog())


def put(stream: LiveStream, count: int) -> None:
    for t in range(count):
        index = [t] if stream.axes else []
        frame = Frame(0, t, 0, 0, 0, "image", "|u1", [4, 4], index, time.monotonic_ns())
        stream.put(frame, np.zeros((4, 4), "uint8"))


def test_losses_are_told_only_where_there_are_some():
    with History() as history:
        stream = stream_of(history)
        put(stream, 2)
        assert figures_of(stream, [])[0] == "2 frames"
        assert not any("dropped" in text or "superseded" in text for text in figures_of(stream, []))
        stream.dropped = 3
        assert figures_of(stream, [])[-1] == "3 dropped"
        assert "newest 2.0 s old" in figures_of(stream, [], age_s=2.0)


def test_live_mode_has_one_image_of_a_channel_whenever_one_looks():
    class Watched(LiveStream):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name == "parts":
                seen.append([(stack.plane_shape[0], channel) for stack, channel in value])  # type: ignore[attr-defined]
                assert all(channel in stack.channels for stack, channel in value)  # type: ignore[attr-defined]

    seen: list[list[tuple[int, int]]] = []
    announced = FrameStream(0, "live", channels=["DAPI", "FITC"])
    announced.place({"c": "DAPI"})
    with History() as history:
        stream = Watched("token", "scope", announced.message(), history, PaintLog())
        for sequence, (side, c) in enumerate([(4, 0), (4, 1), (2, 0), (2, 1), (4, 1), (2, 1)]):
            frame = Frame(0, sequence, 0, 0, 0, "image", "|u1", [side, side], [c], time.monotonic_ns())
            stream.put(frame, np.zeros((side, side), "uint8"))
        assert seen[1:] == [
            [(4, 0)],
            [(4, 0), (4, 1)],
            [(4, 1), (2, 0)],
            [(2, 0), (2, 1)],
            [(2, 0), (4, 1)],
            [(2, 0), (2, 1)],
        ]
        assert [stack.plane_shape for stack in stream.stacks] == [(2, 2)]


def test_a_run_began_when_its_publisher_says_so_and_late_frames_that_are_newer_are_followed():
    now, minute = time.monotonic_ns(), 60 * 10**9
    announced = FrameStream(0, "run", sizes={"t": 3})
    announced.began_ns = now - minute
    with History() as history:
        stream = LiveStream("token", "scope", announced.message(), history, PaintLog())
        assert abs(stream.began - (time.time() - 60)) < 30
        assert stream.first_sent_ns == now - minute
        for sequence, (t, ago) in enumerate([(1, 2 * 10**9), (0, 10 * 10**9), (2, 10**9), (2, 0)]):
            frame = Frame(0, sequence, 0, 0, 0, "image", "|u1", [4, 4], [t], now, late=True, origin_ns=now - ago or 1)
            stream.put(frame, np.zeros((4, 4), "uint8"))
        assert stream.received == 3, "a frame that comes again is counted once"
        assert stream.newest[1] == (2,)
        assert stream.stacks[0].newest == (2,)
        assert stream.first_sent_ns == now - minute


def test_what_comes_late_has_its_own_time_and_says_nothing_of_how_live_the_view_is():
    now, hour = time.monotonic_ns(), 3600 * 10**9
    about = FrameStream(0, "run", sizes={"t": 3}).message()
    with History() as history:
        stream = LiveStream("token", "scope", about, history, PaintLog())
        for sequence, (t, ago, late) in enumerate([(2, hour, False), (1, 2 * hour, True), (0, 10**9, False)]):
            frame = Frame(0, sequence, 0, 0, 0, "image", "|u1", [4, 4], [t], now, late=late, origin_ns=now - ago)
            stream.put(frame, np.zeros((4, 4), "uint8"))
        (stack,) = stream.stacks
        tags = [stack.tag((t,)) for t in range(3)]
        assert [(tag.sent_ns, tag.news) for tag in tags] == [
            (now - 10**9, True),
            (now - 2 * hour, False),
            (now - hour, False),
        ]
        assert stream.first_sent_ns == now - 2 * hour
        stream.log.paint(tags[1:], first=True)
        assert (stream.log.painted, stream.log.first_ms, stream.log.percentiles()) == (2, 0.0, (0.0, 0.0))
        stream.log.paint(tags[:1])
        assert stream.log.painted == 3
        assert stream.log.percentiles()[0] >= 1000
