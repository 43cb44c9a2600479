"""What is published with a frame as its metadata, and what a viewer has of it."""

from __future__ import annotations

import numpy as np
import pytest

from receivers import Viewer
from scopecast import Publisher, StreamingBackend
from scopecast_viewers.receiving.metadata import metadata_lines
from scopecast_viewers.stacks.plane import Tag


def tag(metadata: bytes) -> Tag:
    return Tag(0, 0, "", (), metadata)


def test_metadata_of_a_frame_is_kept_beside_its_plane():
    said = {"exposure_ms": 10, "camera": {"name": "Andor", "gain": np.float32(2.5)}, "lamps": ["red", "blue"]}
    lines = ["exposure_ms: 10", "camera.name: Andor", "camera.gain: 2.5", "lamps: ['red', 'blue']"]
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((4, 5), "uint16", wait=20)
        publisher.publish(np.zeros((2, 4, 5), "uint16"), axes={"t": 0}, metadata=said)
        publisher.publish(np.zeros((4, 5), "uint16"), axes={"t": 1})
        publisher.publish(np.zeros((4, 2)), kind="points", metadata=said)
        with publisher.reserve((4, 5), "uint16", axes={"t": 2}, metadata="by hand") as slot:
            slot.array[:] = 1
        assert publisher.flush(20)
        (stream,) = viewer.streams
        (stack,) = stream.stacks
        seen = {index: metadata_lines(stack.tag(index)) for index in stack.layout.planes}
        assert seen == {(0, 0): lines, (0, 1): lines, (1, 0): [], (2, 0): ["by hand"]}
        (points,) = stream.annotations
        assert [metadata_lines(item.tag) for item in points] == [lines]


def test_metadata_of_a_batch_is_kept():
    class Backend(StreamingBackend):
        VIEWER_TYPE = "headless"

    with Viewer() as viewer, Backend(launch=False) as live:
        live.publisher.open((4, 5), "uint16", wait=20)
        live.save_batch([np.zeros((4, 5), "uint16")], ["t0.tif"], metadata={"gain": 2})
        assert live.flush(20)
        (stream,) = viewer.streams
        assert metadata_lines(stream.newest[2]) == ["gain: 2"]


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(b"\xc1", ["metadata that can't be read"], id="no MessagePack"),
        pytest.param(b"\x91" * 5000 + b"\xc0", ["metadata that can't be read"], id="deep"),
        pytest.param(b"\xa1\xff", ["metadata that can't be read"], id="no UTF-8"),
        pytest.param(b"\xa5a\x1b[1m", ["a [1m"], id="control characters"),
        pytest.param(b"\x80", ["{}"], id="empty"),
        pytest.param(b"\xda\x01\x40" + b"x" * 320, ["x" * 299 + "…"], id="long"),
    ],
)
def test_whatever_metadata_is_it_becomes_short_lines(data, lines):
    assert metadata_lines(tag(data)) == lines
