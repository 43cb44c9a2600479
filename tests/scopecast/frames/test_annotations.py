"""Labels, points, shapes, tracks and regions of interest: published, and found beside the images in the viewer."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import roifile

from receivers import Viewer, WatchedDisplay, check_stamp, stamped
from scopecast import FijiStreamingBackend, NapariStreamingBackend, Publisher, StreamingBackend
from scopecast.publishing.draft import What
from scopecast.rundir.directory import new_token
from scopecast_viewers.look.annotation_sets import Annotation, Annotations, AnnotationSet

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scopecast_viewers.receiving.live import LiveStream

PREFIX = f"t{new_token()}_"
SHAPE = (64, 48)


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


@pytest.fixture
def publisher(viewer: Viewer) -> Iterator[Publisher]:
    with Publisher("headless", prefix=PREFIX, policy="every", linger=10, budget=2**24) as made:
        made.open(SHAPE, "uint16", wait=10)
        viewer.wait_for(lambda: viewer.attached)
        yield made


def settled(viewer: Viewer, publisher: Publisher) -> LiveStream:
    assert publisher.flush(10)
    assert publisher.stats().balanced
    assert publisher.stats().frames.delivered == publisher.stats().frames.published
    return viewer.streams[-1]


def the_set(stream: LiveStream, kind: str, name: str = "") -> AnnotationSet:
    (found,) = [each for each in stream.annotations if (each.kind, each.name) == (kind, name)]
    return found


# ---- labels ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int16", "uint16", "int32", ">u4", "int64", "uint64"])
def test_labels_have_a_stack_of_their_own_beside_the_images(viewer: Viewer, publisher: Publisher, dtype: str):
    cells = (np.arange(64 * 48).reshape(SHAPE) % 100 > 50).astype(dtype)
    for t in range(3):
        publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        publisher.publish(cells * np.array(t, cells.dtype), kind="labels", name="cells", axes={"t": t})
    stream = settled(viewer, publisher)
    images, labels = stream.stacks
    assert labels.sent[:2] == ("labels", "cells")
    assert labels.dtype == (np.uint8 if dtype == "bool" else np.dtype(dtype).newbyteorder("="))
    for t in range(3):
        assert check_stamp(images.plane((t,))) == (t, 0, 0)
        np.testing.assert_array_equal(labels.plane((t,)), cells * np.array(t, cells.dtype))
    assert stream.received == 3


def test_a_volume_of_labels_is_split_like_one_of_images_and_never_colour(viewer: Viewer, publisher: Publisher):
    volume = np.arange(4 * 6 * 3, dtype="uint8").reshape(4, 6, 3)
    publisher.publish(volume, kind="labels", axes={"t": 1})
    stream = settled(viewer, publisher)
    (stack,) = stream.stacks
    assert (stack.axes, stack.full_shape) == (("t", "z"), (1, 4, 6, 3))


def test_labels_of_an_earlier_frame_do_not_call_the_sliders_back(viewer: Viewer, publisher: Publisher):
    publisher.publish(np.ones(SHAPE, "uint8"), kind="labels", axes={"t": 0})
    assert settled(viewer, publisher).newest[1] == (0,)  # nothing else there yet
    publisher.publish(stamped(7, 0, 0, SHAPE), axes={"t": 7})
    publisher.publish(np.ones(SHAPE, "uint8"), kind="labels", axes={"t": 5})
    publisher.publish([[1, 2]], kind="points", axes={"t": 6})
    assert settled(viewer, publisher).newest[1] == (7,)


# ---- documents ---------------------------------------------------------------------------------------------------


def test_the_same_place_is_replaced_and_another_one_is_added(viewer: Viewer, publisher: Publisher):
    publisher.publish([[1, 1]], kind="points", name="spots", axes={"t": 3})
    publisher.publish([[4, 4]], kind="points", name="spots", axes={"t": 4})
    publisher.publish([[2, 2], [3, 3]], kind="points", name="spots", axes={"t": 3})
    publisher.publish([[9, 9]], kind="points", name="others", axes={"t": 3})
    stream = settled(viewer, publisher)
    spots = the_set(stream, "points", "spots")
    assert [(dict(each.where), each.document.coordinates.tolist()) for each in spots] == [
        ({"t": 3}, [[2, 2], [3, 3]]),
        ({"t": 4}, [[4, 4]]),
    ]
    assert [len(each.document) for each in spots.at({"t": 3})] == [2]
    assert spots.at({"t": 5}) == ()
    assert spots.reach == {"t": (3, 4)}
    publisher.publish(np.empty((0, 2)), kind="points", name="spots", axes={"t": 3})
    settled(viewer, publisher)
    assert [len(each.document) for each in spots.at({"t": 3})] == [0]


def test_what_is_not_fixed_on_an_axis_is_at_all_of_it_even_one_that_joins(viewer: Viewer, publisher: Publisher):
    publisher.publish([np.zeros((3, 2))], kind="shapes", axes={"t": 2})
    publisher.publish([np.zeros((3, 2))], kind="shapes")
    publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0, "z": 5, "c": "DAPI"})
    stream = settled(viewer, publisher)
    shapes = the_set(stream, "shapes")
    assert stream.axes == ("t", "c", "z")
    assert [dict(each.where) for each in shapes.at({"t": 2, "z": 5})] == [{"t": 2}, {}]
    assert [dict(each.where) for each in shapes.at({"t": 1, "z": 0})] == [{}]
    assert len(shapes.at({})) == 2


def test_columns_bring_their_axes_along(viewer: Viewer, publisher: Publisher):
    publisher.publish([[0.0, 3.0, 10.0, 20.0]], kind="tracks", dims="tyx")
    publisher.publish([[5.0, 10.0, 20.0]], kind="points", axes={"t": 1, "c": "DAPI"})
    stream = settled(viewer, publisher)
    assert stream.axes == ("t", "c", "z")
    (points,) = the_set(stream, "points")
    assert (dict(points.where), points.document.dims) == ({"t": 1}, ["z", "y", "x"])
    assert the_set(stream, "points").channel == 0
    assert the_set(stream, "tracks").channel is None


def test_a_document_larger_than_a_slot_gets_a_ring_with_room_to_grow(viewer: Viewer, publisher: Publisher):
    publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
    for count in (10_000, 15_000, 20_000):
        points = np.random.default_rng(0).uniform(0, 48, (count, 2))
        publisher.publish(points, kind="points", axes={"t": 0})
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        (found,) = the_set(settled(viewer, publisher), "points").at({"t": 0})
        np.testing.assert_array_equal(found.document.coordinates, points)
    assert publisher.session.slots.ring.epoch == 1, "the second one grew into the room that the first had made"


def test_a_document_beyond_the_budget_is_skipped_with_the_reason(publisher: Publisher):
    outcome = publisher.offer(np.zeros((400_000, 2)), kind="points")  # 6.1 MiB; three of them need 18.3 of 16
    assert str(outcome).startswith("larger than the budget: ")
    assert publisher.stats().balanced


def test_who_comes_late_gets_the_newest_of_every_kind_and_name():
    with Publisher("headless", prefix=PREFIX, policy="latest", budget=2**24) as publisher:
        publisher.open(SHAPE, "uint16")
        with Viewer() as early:  # until the ring is there, nothing is kept for anybody
            early.wait_for(lambda: publisher.stats().receivers)
        for t in range(20):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
            for name in ("cells", "nuclei"):
                publisher.publish(np.full(SHAPE, t, "uint8"), kind="labels", name=name, axes={"t": t})
            publisher.publish([[t, t]], kind="points", axes={"t": t})
        with Viewer() as late:
            late.wait_for(lambda: late.streams and late.streams[0].received and len(late.streams[0].stacks) == 3)
            assert publisher.flush(10)
            stream = late.streams[0]
            image, *labels = stream.stacks
            assert check_stamp(image.plane((19,))) == (19, 0, 0)
            assert [int(each.plane((19,)).max()) for each in labels] == [19, 19]
            assert [dict(each.where) for each in the_set(stream, "points")] == [{"t": 19}]
        assert publisher.stats().balanced


class ImagesOnly(WatchedDisplay):
    def shows(self, dtype: np.dtype[Any], kind: str) -> bool:
        return kind == "image"


def test_a_viewer_without_a_kind_acknowledges_it_as_skipped():
    with Viewer(display=ImagesOnly()) as viewer, Publisher("headless", prefix=PREFIX, policy="every") as publisher:
        publisher.open(SHAPE, "uint16", wait=10)
        publisher.publish(stamped(0, 0, 0, SHAPE))
        publisher.publish(np.ones(SHAPE, "uint8"), kind="labels")
        publisher.publish([[1, 2]], kind="points")
        assert publisher.flush(10)
        (row,) = publisher.stats()
        assert (row.frames.delivered, row.frames.skipped) == (1, 2)
        (stream,) = viewer.streams
        assert (len(stream.stacks), len(stream.annotations)) == (1, 0)


def test_a_kind_of_a_newer_publisher_is_acknowledged_as_skipped(viewer: Viewer, publisher: Publisher):
    about = publisher._about("", (), None)
    publisher._publish_plane(np.zeros(100, "uint8"), {}, None, "every", What("table"), about)
    publisher._publish_plane(np.zeros(SHAPE, "uint8"), {}, None, "every", What("surface"), about)
    publisher._publish_plane(np.zeros(100, "uint8"), {}, None, "every", What("points"), about)  # no document at all
    publisher._publish_plane(np.zeros(SHAPE, "float32"), {}, None, "every", What("labels"), about)
    assert publisher.flush(10)
    assert publisher.stats().frames == (4, 0, 0, 0, 4, 0)
    assert viewer.sources[0].errors == 1


# ---- the budget of a viewer --------------------------------------------------------------------------------------


def test_the_oldest_documents_are_forgotten_and_counted():
    kept = Annotations(budget=100)
    for t in range(6):
        kept.put("points", "", Annotation({"t": t}, None, None, 30))
    (points,) = kept
    assert [each.where["t"] for each in points] == [3, 4, 5]
    assert (kept.received, kept.forgotten) == (6, 3)
    kept.put("points", "", Annotation({"t": 3}, None, None, 30))  # published anew: the youngest now
    kept.put("points", "", Annotation({"t": 6}, None, None, 30))
    assert sorted(each.where["t"] for each in points) == [3, 5, 6]
    kept.put("points", "", Annotation({"t": 7}, None, None, 10**9))
    assert [each.where["t"] for each in points] == [7], "the newest stays, whatever its size"


def test_names_without_end_do_not_make_layers_without_end():
    kept = Annotations()
    assert [kept.put("points", str(n), Annotation({}, None, None, 1)) for n in range(70)] == [True] * 64 + [False] * 6
    assert len(kept) == 64


# ---- regions of interest -----------------------------------------------------------------------------------------


class Headless(StreamingBackend):
    VIEWER_TYPE = "headless"
    SHM_PREFIX = PREFIX
    SUPPORTED_EXTENSIONS = NapariStreamingBackend.SUPPORTED_EXTENSIONS


@pytest.fixture
def backend(viewer: Viewer) -> Iterator[Headless]:
    with Headless(launch=False, linger=10) as made:
        made.publisher.open(SHAPE, "uint16", wait=10)
        yield made


def region(name: str = "", **more: Any) -> roifile.ImagejRoi:
    return roifile.ImagejRoi.frompoints([[1, 2], [10, 2], [10, 12]], name=name, **more)


@pytest.mark.parametrize("backend_class", [NapariStreamingBackend, FijiStreamingBackend])
def test_regions_are_among_the_extensions(backend_class: type[StreamingBackend]):
    assert {".roi", ".roi.zip", ".tif"} <= set(backend_class.SUPPORTED_EXTENSIONS)


def test_regions_come_as_objects_bytes_and_paths_and_their_bytes_arrive_as_they_are(
    viewer: Viewer, backend: Headless, tmp_path: Path
):
    first, second = region("one"), region("two", z=3)
    roifile.roiwrite(tmp_path / "set_t002.roi.zip", [first, second])
    roifile.roiwrite(tmp_path / "single_t003.roi", second)
    paths = ["set_t000.roi.zip", "set_t001.ROI", tmp_path / "set_t002.roi.zip", tmp_path / "single_t003.roi"]
    receipt = backend.save_batch([[first, second.tobytes()], first, [], None], paths)
    assert (len(receipt.sent), receipt.skipped, receipt.frames) == (4, (), 4)
    assert backend.flush(10)
    rois = the_set(viewer.streams[0], "rois")
    found = {each.where["t"]: (each.document.names, each.document.items) for each in rois}
    one, two = first.tobytes(), second.tobytes()
    assert found == {
        0: (["one", ""], [one, two]),
        1: (["one"], [one]),
        2: (["one", "two"], [one, two]),
        3: (["single_t003"], [two]),
    }


def test_regions_go_with_the_image_of_the_same_name_or_with_all(viewer: Viewer, backend: Headless):
    batch = [stamped(0, 0, 0, SHAPE), stamped(1, 0, 0, SHAPE), [region()], [region()]]
    backend.save_batch(batch, ["left.tif", "right.tif", "right.roi.zip", "elsewhere.roi.zip"])
    assert backend.flush(10)
    (stream,) = viewer.streams
    assert stream.about.labels["file"] == ["left.tif", "right.tif"]
    assert [dict(each.where) for each in the_set(stream, "rois")] == [{"file": 1}]
    assert [dict(each.where) for each in the_set(stream, "rois", "elsewhere")] == [{}]


def test_a_batch_of_labels_is_published_as_such(viewer: Viewer, backend: Headless):
    backend.save_batch([np.ones(SHAPE, "uint8")], ["mask_t004.tif"], kind="labels", name="cells")
    assert backend.flush(10)
    (stream,) = viewer.streams
    assert [stack.sent.name for stack in stream.stacks if stack.is_labels] == ["cells"]
    assert stream.stacks[0].origin == (4,)


def test_a_file_that_is_no_archive_is_an_error_that_names_it(backend: Headless, tmp_path: Path):
    (tmp_path / "set.roi.zip").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"set\.roi\.zip is not an archive of regions"):
        backend.save([], tmp_path / "set.roi.zip")
    with zipfile.ZipFile(tmp_path / "other.roi.zip", "w") as archive:
        archive.writestr("notes.txt", "x" * 100)
    with pytest.raises(ValueError, match=r"not an ImageJ region of interest: 'notes\.txt' in .*other\.roi\.zip"):
        backend.save([], tmp_path / "other.roi.zip")
