"""Runs that several processes share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from receivers import Viewer, planes_of
from run_workers import WELLS, frame, worker, workers
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from scopecast_viewers.receiving.live import LiveStream


def wells_of(stream: LiveStream) -> dict[tuple[str, int], int]:
    """Return the value of each plane, by its well and time."""
    axes = stream.axes
    found = {}
    for index, plane in planes_of(stream).items():
        at = dict(zip(axes, index, strict=True))
        well, t = stream.label("well", at["well"]), at["t"]
        np.testing.assert_array_equal(np.asarray(plane), frame(well, t))
        found[well, t] = int(plane[-1, -1])
    return found


EXPECTED = {(well, t): int(frame(well, t)[-1, -1]) for well in WELLS for t in range(2)}


def test_six_workers_make_one_run():
    with Viewer() as viewer, workers("headless") as six:
        for each in six:
            each.done()
        (stream,) = viewer.streams
        assert wells_of(stream) == EXPECTED
        assert (stream.about.title, stream.received, len(stream.publishers)) == ("plate 7", 12, 6)
        six[0].end()
        viewer.wait_for(lambda: "ended" in {source.state for source in viewer.sources})
        assert stream.state == "live", "as long as one of them is there"
        six[1].process.kill()
        viewer.wait_for(lambda: "lost" in {source.state for source in viewer.sources})
        assert viewer.streams == (stream,)
        for each in six[2:]:
            each.end()
        viewer.wait_for(lambda: stream.state != "live")
        assert wells_of(stream) == EXPECTED, "what has arrived stays"
    RunDirectory().clean(everything=True)  # after the one that was killed


def test_workers_that_come_one_after_the_other_make_one_run_and_the_pipeline_run_again_another():
    with Viewer() as viewer:
        for _ in range(2):
            for well in WELLS:
                one = worker("headless", well)
                one.done()
                one.end()
                viewer.wait_for(lambda: all(source.state == "ended" for source in viewer.sources))
        first, second = viewer.streams
        assert wells_of(first) == wells_of(second) == EXPECTED
        assert first.source == second.source
        assert first.key != second.key


def test_more_workers_than_publishers_are_kept_and_a_run_goes_with_the_last_of_them():
    with Viewer() as viewer, Publisher("headless", run="night", policy="every") as stays:
        stays.open((4, 5), "uint16", wait=20)
        stays.publish(np.zeros((4, 5), "uint16"), axes={"t": 0})
        for t in range(1, 13):
            with Publisher("headless", run="night", policy="every", budget=2**16) as publisher:
                publisher.open((4, 5), "uint16", wait=20)
                publisher.publish(np.full((4, 5), t, "uint16"), axes={"t": t})
                assert publisher.flush(20)
        viewer.wait_for(lambda: len(viewer.sources) <= 9)
        (stream,) = viewer.streams
        assert sorted(planes_of(stream)) == [(t,) for t in range(13)]
        viewer.receiver.forget(stream)
        viewer.wait_for(lambda: not stream.stacks)
        stays.publish(np.full((4, 5), 99, "uint16"), axes={"t": 1})
        viewer.wait_for(lambda: stream.stacks)
        assert [int(plane[0, 0]) for plane in planes_of(stream).values()] == [99]


def test_channels_are_one_by_their_names_whatever_order_each_process_has_them_in():
    with (
        Viewer() as viewer,
        Publisher("headless", policy="every") as one,
        Publisher("headless", policy="every") as other,
    ):
        one.new_stream(run="night", channels=["DAPI", "FITC"], colors={"DAPI": "blue"}, scale=0.5)
        other.new_stream(run="night", channels=["Cy5", "FITC"], colors={"Cy5": "red"}, scale=0.5)
        for publisher, names in ((one, ("DAPI", "FITC")), (other, ("Cy5", "FITC"))):
            publisher.open((4, 5), "uint16", wait=20)
            for name in names:
                publisher.publish(np.zeros((4, 5), "uint16"), axes={"c": name, "z": 0, "t": names.index(name)})
            assert publisher.flush(20)
        (stream,) = viewer.streams
        assert stream.about.labels["c"] == ["DAPI", "FITC", "Cy5"]
        assert stream.about.colors == ["blue", "", "red"]
        assert (stream.about.scale, stream.about.units) == ([0.5, 0.5], "um")
        assert sorted(planes_of(stream)) == [(0, 0, 0), (0, 2, 0), (1, 1, 0)]


def test_pixels_of_another_size_make_a_run_of_their_own():
    with Viewer() as viewer, Publisher("headless", policy="every", run="night") as publisher:
        publisher.open((4, 5), "uint16", wait=20)
        for scale in (0.5, 0.25):
            stream = publisher.new_stream(scale=scale)
            publisher.publish(np.zeros((4, 5), "uint16"), axes={"t": 0}, stream=stream)
        assert publisher.flush(20)
        assert [stream.about.scale for stream in viewer.streams] == [[0.5, 0.5], [0.25, 0.25]]


def test_each_publisher_is_told_what_was_painted_of_its_own_frames():
    with (
        Viewer() as viewer,
        Publisher("headless", policy="every", run="night") as one,
        Publisher("headless", policy="every", run="night") as other,
    ):
        for at, publisher in enumerate((one, other)):
            publisher.open((4, 5), "uint16", wait=20)
            publisher.publish(np.zeros((4, 5), "uint16"), axes={"t": at})
            assert publisher.flush(20)
        (stream,) = viewer.streams
        (stack,) = stream.stacks
        stream.log.paint([stack.tag((1,))])
        viewer.wait_for(lambda: [row.painted for row in other.stats()] == [1])
        assert [row.painted for row in one.stats()] == [0]
