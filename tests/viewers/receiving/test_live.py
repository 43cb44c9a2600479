"""A live stream as the viewers see it."""

from scopecast.frames.streams import FrameStream
from scopecast_viewers.receiving.live import LiveStream, PaintLog
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
