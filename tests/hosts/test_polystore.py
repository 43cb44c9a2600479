"""polystore's own file manager, with our backends in its registry."""

from __future__ import annotations

import logging
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from polystore_worker import save
from receivers import Viewer, check_stamp, planes_of, stamped

pytest.importorskip("polystore", reason="needs the extra 'polystore'")

import polystore
from polystore import FileManager
from polystore.backend_registry import (
    STORAGE_BACKENDS,
    _backend_instances,
    cleanup_all_backends,
    cleanup_backend_connections,
    get_backend_instance,
)
from polystore.exceptions import StorageResolutionError
from polystore.roi import ROI, EllipseShape, MaskShape, PointShape, PolygonShape, PolylineShape

from scopecast.hosts.polystore import PolystoreFiji, PolystoreNapari
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast import Receipt

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:polystore")


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer("napari") as made:
        yield made


@pytest.fixture
def sink() -> Iterator[PolystoreNapari]:
    made = PolystoreNapari(launch=False, linger=10.0)
    yield made
    made.cleanup()


def times(viewer: Viewer, stream: int = 0) -> dict[int, int]:
    return {index[0]: check_stamp(plane)[0] for index, plane in planes_of(viewer.streams[stream]).items()}


# ---- the registry ------------------------------------------------------------------------------------------------


def test_importing_the_module_registers_both_beside_polystores_own():
    code = (
        "import scopecast.hosts.polystore\n"
        "from polystore.backend_registry import STORAGE_BACKENDS, get_backend_instance\n"
        "keys = set(STORAGE_BACKENDS.keys())\n"
        "assert {'scopecast_napari', 'scopecast_fiji', 'napari_stream', 'fiji_stream', 'disk'} <= keys, keys\n"
        "made = get_backend_instance('Scopecast_Napari')\n"
        "assert type(made).__name__ == 'PolystoreNapari' and made.VIEWER_TYPE == 'napari'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_they_say_of_themselves_what_polystore_asks(sink: PolystoreNapari):
    assert issubclass(STORAGE_BACKENDS["scopecast_fiji"], polystore.StreamingBackend)
    assert isinstance(sink, polystore.DataSink)
    assert not sink.requires_filesystem_validation
    assert sink.supports_file_path("a.TIF")
    assert not sink.supports_file_path("a.csv")
    assert not sink.accepts_payload(np.zeros((0, 4)), "a.tif")
    assert sink.accepts_payload(np.zeros((4, 4)), "a.tif")
    kept, paths, skipped = sink._filter_streamable_files([stamped(0), "a,b"], ["a.tif", "a.csv"])
    assert (len(kept), paths, skipped) == (1, ["a.tif"], ["a.csv"])


# ---- saving ------------------------------------------------------------------------------------------------------


def test_save_and_save_batch_reach_the_viewer(viewer: Viewer, sink: PolystoreNapari):
    files = FileManager({"scopecast_napari": sink})
    files.save(stamped(0), "run/t0.tif", "scopecast_napari")
    files.save_batch([stamped(t) for t in (1, 2)], ["run/t1.tif", "run/t2.tif"], "scopecast_napari", site=3)
    assert sink.live.flush(10)
    assert times(viewer) == {0: 0, 1: 1, 2: 2}


def test_a_backend_that_polystore_makes_itself_reaches_the_viewer(viewer: Viewer):
    files = FileManager({"scopecast_napari": get_backend_instance("scopecast_napari")})
    files.save(stamped(5), "t5.tif", "scopecast_napari")
    made = _backend_instances["scopecast_napari"]
    assert made.live.flush(10)
    assert times(viewer) == {5: 5}
    cleanup_all_backends()
    assert made.stats().segment_bytes == 0
    assert "scopecast_napari" not in _backend_instances
    viewer.wait_for(lambda: viewer.sources and viewer.sources[0].state == "ended")


def test_after_a_clean_up_the_next_batch_opens_a_live_view_of_its_own(viewer: Viewer, sink: PolystoreNapari):
    _backend_instances["scopecast_napari"] = sink
    files = FileManager({"scopecast_napari": sink})
    for run in range(2):
        files.save(stamped(run), "t0.tif", "scopecast_napari")
        cleanup_backend_connections()
        viewer.wait_for(lambda run=run: [source.state for source in viewer.sources] == ["ended"] * (run + 1))
    assert [times(viewer, stream) for stream in range(2)] == [{0: 0}, {0: 1}]
    del _backend_instances["scopecast_napari"]


def test_a_mixed_batch_shows_what_it_can_and_tells_the_rest(
    viewer: Viewer, sink: PolystoreNapari, caplog: pytest.LogCaptureFixture
):
    receipts: list[Receipt] = []
    sink.on_receipt = receipts.append
    files = FileManager({"scopecast_napari": sink})
    batch = {
        "run/t0.tif": stamped(0),
        "run/cells.csv": "cell,area\n1,2\n",
        "run/text.png": np.array(["no", "pixels"]),
        "run/t1.png": stamped(1),
        "run/about.json": {"gain": 2},
        "run/object.tif": object(),
        "run/empty.tif": np.zeros((0, 4), "uint8"),
        "run/t2.tif": stamped(2),
    }
    with caplog.at_level(logging.INFO, logger="scopecast"):
        files.save_batch(list(batch.values()), list(batch), "scopecast_napari")
    (receipt,) = receipts
    assert sink.last_receipt is receipt
    assert receipt.sent == ("run/t0.tif", "run/t1.png", "run/t2.tif")
    reasons = {skipped.path.partition("/")[2]: skipped.reason for skipped in receipt.skipped}
    assert set(reasons) == {"cells.csv", "text.png", "about.json", "object.tif", "empty.tif"}
    assert reasons["cells.csv"] == "extension '.csv'"
    assert reasons["empty.tif"] == "empty"
    assert reasons["text.png"].startswith("UnsupportedDtypeError: ")
    assert sink.live.errors == 2
    assert "run/text.png could not be shown" in caplog.text
    assert "run/cells.csv" in caplog.text
    assert sink.live.flush(10)
    assert times(viewer) == {0: 0, 1: 1, 2: 2}


def test_regions_of_interest_lie_on_the_image_of_their_name(viewer: Viewer, sink: PolystoreNapari, tmp_path: Path):
    square = np.array([[10.0, 20.0], [10, 30], [25, 30], [25, 20]])  # (y, x), of pixels' centres
    rois = [
        ROI([PolygonShape(square)], {"label": 7}),
        ROI([PointShape(5, 6), EllipseShape(12, 14, 4, 3)]),
        ROI([PolylineShape(square[:2]), MaskShape(np.ones((4, 4), bool), (0, 0, 4, 4))]),
    ]
    masks = [ROI([MaskShape(np.ones((4, 4), bool), (0, 0, 4, 4))])]
    batch = {"w/t3.tif": stamped(3), "w/t3.roi.zip": rois, "w/t4.roi.zip": masks, "w/t5.roi.zip": [], "w/t6.csv": "a"}
    FileManager({"scopecast_napari": sink}).save_batch(list(batch.values()), list(batch), "scopecast_napari")
    assert sink.last_receipt is not None
    assert sink.last_receipt.sent == ("w/t3.tif", "w/t3.roi.zip")
    reasons = {skipped.path: skipped.reason for skipped in sink.last_receipt.skipped}
    assert reasons["w/t5.roi.zip"] == "empty"
    assert "MaskShape of region 1" in reasons["w/t4.roi.zip"]
    assert sink.live.errors == 3, "two masks, and the file that had nothing else"
    assert sink.live.flush(10)
    (stream,) = viewer.streams
    (regions,) = [item for each in stream.annotations for item in each]
    assert regions.where == {"t": 3}
    roifile = pytest.importorskip("roifile")
    shown = [roifile.ImagejRoi.frombytes(data) for data in regions.document.items]
    assert regions.document.names == ["7", "ROI_2_1", "ROI_2_2", "ROI_3_1"]
    np.testing.assert_allclose(shown[0].coordinates(), square[:, ::-1] + 0.5)
    np.testing.assert_allclose(shown[1].coordinates(), [[6.5, 5.5]])
    assert (shown[2].xd, shown[2].yd, shown[2].widthd, shown[2].heightd) == (11.5, 8.5, 6, 8)


def test_an_archive_that_polystore_wrote_can_be_shown(viewer: Viewer, sink: PolystoreNapari, tmp_path: Path):
    path = tmp_path / "w_t3.roi.zip"
    square = np.array([[10.0, 20.0], [10, 30], [25, 30], [25, 20]])
    FileManager({"disk": get_backend_instance("disk")}).save([ROI([PolygonShape(square)], {"label": 7})], path, "disk")
    FileManager({"scopecast_napari": sink}).save(None, path, "scopecast_napari")
    assert sink.last_receipt is not None
    assert sink.last_receipt.sent == (str(path),)


def test_without_a_viewer_a_batch_is_skipped_and_says_so(sink: PolystoreNapari):
    FileManager({"scopecast_napari": sink}).save(stamped(0), "t0.tif", "scopecast_napari")
    assert sink.last_receipt is not None
    assert [skipped.reason for skipped in sink.last_receipt.skipped] == ["no viewer"]
    assert sink.stats().balanced


def test_what_a_sink_is_made_with_is_checked_at_once():
    with pytest.raises(TypeError, match="has no argument 'pixel_size': did you mean 'scale'"):
        PolystoreNapari(pixel_size=0.3)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="scale must be above 0"):
        PolystoreFiji(scale=0.0)


def test_only_lists_of_different_lengths_are_an_error(sink: PolystoreNapari):
    files = FileManager({"scopecast_napari": sink})
    with pytest.raises(StorageResolutionError) as raised:
        files.save_batch([stamped(0)], ["a.tif", "b.tif"], "scopecast_napari")
    assert isinstance(raised.value.__cause__, ValueError)
    assert "1 items, but 2 paths" in str(raised.value.__cause__)


def test_fiji_gets_what_is_saved_to_fiji():
    sink = PolystoreFiji(launch=False)
    with Viewer("fiji") as viewer:
        FileManager({"scopecast_fiji": sink}).save(stamped(4), "t4.tif", "scopecast_fiji")
        assert sink.live.flush(10)
        assert times(viewer) == {4: 4}
        sink.cleanup()


# ---- worker processes --------------------------------------------------------------------------------------------


def test_a_pickled_file_manager_keeps_what_its_backends_were_made_with(sink: PolystoreNapari):
    files = FileManager({"scopecast_napari": PolystoreNapari(launch=False, title="screen", timeout=7.0)})
    copied = pickle.loads(pickle.dumps(files)).registry["scopecast_napari"]
    assert type(copied) is PolystoreNapari
    assert copied.get_connection_params() == {"launch": False, "title": "screen", "timeout": 7.0}


def test_workers_of_sinks_with_one_run_make_one_run(viewer: Viewer):
    files = FileManager({"scopecast_napari": PolystoreNapari(launch=False, linger=10.0, run="plate 7")})
    context: Any = multiprocessing.get_context("spawn")
    workers = [context.Process(target=save, args=(files, first, 3, "return")) for first in (0, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    viewer.wait_for(lambda: sum(len(planes_of(stream)) for stream in viewer.streams) == 6)
    (stream,) = viewer.streams
    assert stream.about.title == "plate 7"
    assert sorted(times(viewer)) == [0, 1, 2, 1000, 1001, 1002]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("end", ["return", "os._exit"])
@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_each_worker_streams_for_itself_and_loses_nothing(viewer: Viewer, sink: PolystoreNapari, method: str, end: str):
    files = FileManager({"scopecast_napari": sink})
    files.save(stamped(9000), "w9000_t9000.tif", "scopecast_napari")
    context: Any = multiprocessing.get_context(method)
    workers = [context.Process(target=save, args=(files, first, 40, end)) for first in (0, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    files.save(stamped(9001), "w9001_t9001.tif", "scopecast_napari")
    assert sink.live.flush(10)
    came = sorted(t for stream in range(3) for t in times(viewer, stream))
    assert came == [*range(40), *range(1000, 1040), 9000, 9001]
    assert len({stream.source for stream in viewer.streams}) == 3
    # Who ends by os._exit (or a signal) leaves memory behind, as the dead do; it goes with the next start, which may be
    # the other worker's.
    cleaned = RunDirectory().clean().segments
    assert bool(cleaned) == (end == "os._exit")
    alive = {entry.token for entry in RunDirectory().living("publisher")}
    dead = {stream.source for stream in viewer.streams} - alive
    assert len(dead) == 2
    assert not [path for token in dead for path in Path("/dev/shm").glob(f"*_{token}_*")]
