"""What is published with a frame as its metadata, and what a viewer has of it."""

from __future__ import annotations

import re
from datetime import datetime

import msgspec
import numpy as np
import pytest
import tifffile
from ndstorage import NDTiffDataset

import scopecast
from imagefiles import hyperstack
from receivers import Viewer, stamped
from scopecast import Publisher, StreamingBackend
from scopecast_viewers.receiving.metadata import metadata_lines, metadata_rows, read_recorded, recorded_of
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


def rows_of(stream):
    """Return what is told of each frame, by (t, c, z) as far as the run has these."""
    (stack,) = stream.stacks
    tags = {index: stack.tag(index) for index in stack.layout.planes}
    return {index: dict(metadata_rows(recorded_of(stream, index, tag), tag)) for index, tag in tags.items()}


def test_what_an_ome_tiff_says_of_its_planes_is_told(tmp_path):
    count = range(2 * 2 * 3)
    plane = {
        "DeltaT": [100.0 * at for at in count],
        "ExposureTime": [10.0 + at for at in count],
        "ExposureTimeUnit": ["ms" for _ in count],
        **{f"Position{axis}": [1000.0 * at for at in count] for axis in "XY"},
        **{f"Position{axis}Unit": ["nm" for _ in count] for axis in "XY"},
        "PositionZ": [1.5 for _ in count],  # without a unit: nobody knows how far that is
    }
    said = {"axes": "TCZYX", "AcquisitionDate": "2024-02-03T10:00:00", "Plane": plane}
    tifffile.imwrite(tmp_path / "a.ome.tif", hyperstack(2, 2, 3), metadata=said)
    with Viewer() as viewer:
        for run in range(2):
            scopecast.show(tmp_path / "a.ome.tif", viewer="headless")
            seen = rows_of(viewer.streams[run])
            assert len(seen) == 12
            for (t, c, z), told in seen.items():
                at = 6 * t + 3 * c + z
                elapsed = f"{100 * at}.00 s" if not at else f"0:{100 * at // 60:02}:{100 * at % 60:02}.00"
                assert told["elapsed"] == elapsed
                assert told["exposure"] == f"{10 + at} ms"
                assert (told["stage x"], told["stage y"], told.get("stage z")) == (f"{at}.000 µm", f"{at}.000 µm", None)
                assert datetime.fromisoformat(told["time"]).minute == 100 * at // 60
                assert told["file"].endswith("a.ome.tif")


@pytest.mark.filterwarnings("ignore:unclosed file .*NDTiff:ResourceWarning")
@pytest.mark.parametrize("many", [False, True], ids=["few properties", "hundreds of properties"])
def test_what_micro_manager_says_of_its_planes_is_told(tmp_path, many):
    dataset = NDTiffDataset(str(tmp_path), name="run", writable=True)
    dataset.initialize({"PixelSize_um": 0.5})
    for t in range(2):
        said = {"ElapsedTime-ms": 250 * t, "Exposure": 20, "XPositionUm": 7, "YPositionUm": 8, "ZPositionUm": 9 + t}
        said |= {"Time": f"2024-02-03 10:00:0{t}.250 +0000", "PositionName": "B03", "Camera-Gain": "4"}
        said |= {f"Device {number}-Property": "x" * 100 for number in range(300 * many)}
        dataset.put_image({"time": t}, stamped(t), said)
    dataset.finish()
    dataset.close()
    with Viewer() as viewer:
        for run in range(2):
            scopecast.show(tmp_path / "run_1", viewer="headless")
            for (t,), told in rows_of(viewer.streams[run]).items():
                assert told["elapsed"] == f"{0.25 * t:.2f} s"
                assert (told["exposure"], told["position"], told.get("Camera-Gain")) == (
                    "20 ms",
                    "B03",
                    None if many else "4",
                )
                assert [told[f"stage {axis}"] for axis in "xyz"] == ["7.000 µm", "8.000 µm", f"{9 + t}.000 µm"]
                assert datetime.fromisoformat(told["time"]).timestamp() == 1706954400.25 + t


def test_of_a_frame_that_says_nothing_the_time_of_publishing_is_told():
    before = datetime.now().astimezone()
    with Viewer() as viewer, Publisher("headless", policy="every") as publisher:
        publisher.open((4, 5), "uint16", wait=20)
        publisher.new_stream("run", positions=("A1", "B2"))
        for p in range(2):
            publisher.publish(np.zeros((4, 5), "uint16"), axes={"t": 0, "p": p})
        assert publisher.flush(20)
        seen = rows_of(viewer.streams[0])
        assert [told["position"] for told in seen.values()] == ["A1", "B2"]
        for told in seen.values():
            assert re.fullmatch(r"\d+\.\d\d s", told["elapsed"])
            assert abs((datetime.fromisoformat(told["time"]) - before).total_seconds()) < 60
            assert told.keys() == {"position", "elapsed", "time"}


@pytest.mark.parametrize("clock", [-62135596800.0, -9e10, -1.0, float("nan"), 1e300])
def test_a_clock_that_cannot_be_is_not_told(clock):
    recorded = read_recorded(msgspec.msgpack.encode({"clock_s": clock, "elapsed_s": 2}))
    assert (recorded.clock, recorded.date, recorded.elapsed) == ("", "", "2.00 s")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        pytest.param(b"", [], id="none"),
        pytest.param(b"\xc1", ["metadata that can't be read"], id="no MessagePack"),
        pytest.param(b"\x91" * 64 + b"\xc0", ["[" * 64 + "None" + "]" * 64], id="nested"),
        pytest.param(b"\x91" * 65 + b"\xc0", ["metadata that can't be read"], id="nested deeper than is read"),
        pytest.param(b"\x81\xa1a" * 65 + b"\xc0", ["metadata that can't be read"], id="dicts likewise"),
        pytest.param(b"\x91" * 5000 + b"\xc0", ["metadata that can't be read"], id="deep"),
        pytest.param(b"\xa1\xff", ["metadata that can't be read"], id="no UTF-8"),
        pytest.param(b"\xa5a\x1b[1m", ["a [1m"], id="control characters"),
        pytest.param(b"\x80", ["{}"], id="empty"),
        pytest.param(b"\xda\x01\x40" + b"x" * 320, ["x" * 299 + "…"], id="long"),
    ],
)
def test_whatever_metadata_is_it_becomes_short_lines(data, lines):
    assert metadata_lines(tag(data)) == lines
