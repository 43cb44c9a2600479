"""What came of a run, as files that others read."""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import pytest
import tifffile
import zarr

from scopecast.frames.streams import FrameStream
from scopecast.images.open import open_image
from scopecast.link.messages import Frame, encode_metadata
from scopecast_viewers.receiving.exporting import exports
from scopecast_viewers.receiving.live import LiveStream, PaintLog
from scopecast_viewers.receiving.saving import StoppedError, claimed, save_all
from scopecast_viewers.stacks.history import History

SHAPE = (6, 8)


def stamped(*numbers, shape=SHAPE, dtype="uint16"):
    return np.full(shape, sum(number * 10**at for at, number in enumerate(numbers)), dtype)


@pytest.fixture
def history():
    with History() as made:
        yield made


class Run:
    """A run as it comes, without a publisher."""

    def __init__(self, history, **about):
        self.announced = FrameStream(0, "cells", **about)
        self.stream = LiveStream("token", "scope", self.announced.message(), history, PaintLog())
        self.sequence = 0

    def put(self, plane, metadata=None, name="", kind="image", sent_ns=None, translate=(), **axes):
        index = self.announced.place(axes)
        self.stream.update(self.announced.message())
        self.sequence += 1
        frame = Frame(
            0, self.sequence, 0, 0, 0, kind, plane.dtype.str, list(plane.shape), index, sent_ns or time.monotonic_ns()
        )
        frame.name, frame.translate = name, list(translate)
        if metadata is not None:
            frame.metadata = type(frame.metadata)(encode_metadata(metadata))
        self.stream.put(frame, plane)


def series(history):
    run = Run(
        history, sizes={"t": 3, "z": 2}, channels=["DAPI", "GFP"], colors=["blue", "#00ff00"], scale=(0.5, 0.25),
        steps={"z": 2.0, "t": 1.5},
    )  # fmt: skip
    for t, c, z in np.ndindex(3, 2, 2):
        if (t, c, z) != (1, 1, 0):
            about = {"elapsed_s": 1.5 * t, "exposure_ms": 10 + c, "x_um": 5.0, "filter": f"cube {c}"}
            run.put(stamped(z, c, t), about, t=t, c=("DAPI", "GFP")[c], z=z)
    return run.stream


def test_an_ome_tiff_has_pixels_scale_channels_and_metadata_and_says_what_is_missing(history, tmp_path):
    told = []
    saved = save_all(exports(series(history)), tmp_path / "cells.ome.tiff", lambda *at: told.append(at))
    assert (saved.planes, saved.missing, saved.forgotten) == (11, 1, 0)
    assert told == [(number, 12) for number in range(1, 13)]
    assert [path.name for path in tmp_path.iterdir()] == ["cells.ome.tiff"]
    with tifffile.TiffFile(tmp_path / "cells.ome.tiff") as file:
        pixels, xml = file.asarray(), file.ome_metadata
        assert file.series[0].axes == "TCZYX"
    for t, c, z in np.ndindex(3, 2, 2):
        assert (pixels[t, c, z] == (0 if (t, c, z) == (1, 1, 0) else z + 10 * c + 100 * t)).all()
    ome = tifffile.xml2dict(xml)["OME"]
    about = ome["Image"]["Pixels"]
    assert (about["PhysicalSizeY"], about["PhysicalSizeX"], about["PhysicalSizeZ"]) == (0.5, 0.25, 2.0)
    assert (about["PhysicalSizeXUnit"], about["TimeIncrement"]) == ("µm", 1.5)
    assert [each["Name"] for each in about["Channel"]] == ["DAPI", "GFP"]
    assert [each["Color"] for each in about["Channel"]] == [0x0000FFFF, 0x00FF00FF]
    plane = next(each for each in about["Plane"] if (each["TheT"], each["TheC"], each["TheZ"]) == (2, 1, 0))
    assert (plane["DeltaT"], plane["ExposureTime"], plane["PositionX"]) == (3.0, 11.0, 5.0)
    assert "cube 1" in xml


def test_an_ome_zarr_has_pixels_scale_and_channels(history, tmp_path):
    pytest.importorskip("ome_writers")
    saved = save_all(exports(series(history)), tmp_path / "cells.ome.zarr")
    assert (saved.planes, saved.missing) == (11, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["cells.ome.zarr"]
    group = zarr.open_group(tmp_path / "cells.ome.zarr", mode="r")
    about = group.attrs["ome"]
    pixels = group["0"][:]
    assert pixels.shape == (3, 2, 2, *SHAPE)
    for t, c, z in np.ndindex(3, 2, 2):
        assert (pixels[t, c, z] == (0 if (t, c, z) == (1, 1, 0) else z + 10 * c + 100 * t)).all()
    (scales,) = about["multiscales"]
    assert [axis["name"] for axis in scales["axes"]] == list("tczyx")
    assert scales["datasets"][0]["coordinateTransformations"][0]["scale"] == [1.5, 1.0, 2.0, 0.5, 0.25]
    assert scales["axes"][-1]["unit"] == "micrometer"
    assert [each["label"] for each in about["omero"]["channels"]] == ["DAPI", "GFP"]


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_who_opens_an_ome_zarr_sees_what_the_live_view_has_shown(history, tmp_path, dtype):
    pytest.importorskip("ome_writers")
    run = Run(history, channels=["DAPI", "GFP"])
    noise = np.random.default_rng(3)
    for t in range(2):
        for channel, high in (("DAPI", 300), ("GFP", 4000)):
            plane = noise.integers(100, high, (64, 64)).astype(dtype)
            plane[5, 5] = 30_000  # a hot pixel
            run.put(plane, t=t, c=channel)
    run.put(plane, t=3, c="GFP")  # what is missing before it is not seen as dark
    save_all(exports(run.stream), tmp_path / "cells.ome.zarr")
    about = zarr.open_group(tmp_path / "cells.ome.zarr", mode="r").attrs["ome"]
    windows = [each["window"] for each in about["omero"]["channels"]]
    for window, high in zip(windows, (300, 4000), strict=True):
        assert window["start"] == pytest.approx(100, abs=0.05 * high)
        assert window["end"] == pytest.approx(high, rel=0.1)
        assert window["min"] <= window["start"] < window["end"] <= window["max"]


@pytest.mark.parametrize("form", [".ome.tiff", ".ome.zarr"])
def test_positions_are_images_of_their_own_and_live_mode_and_colour_are_saved(history, tmp_path, form):
    run = Run(history, positions=["A1", "B2"])
    for t, p in np.ndindex(2, 2):
        run.put(stamped(t, p), t=t, p=p)
    save_all(exports(run.stream), tmp_path / f"plate{form}")
    color = Run(history)
    color.put(np.arange(6 * 8 * 3, dtype="uint8").reshape(6, 8, 3))
    save_all(exports(color.stream), tmp_path / f"color{form}")
    if form == ".ome.tiff":
        with tifffile.TiffFile(tmp_path / "plate.ome.tiff") as file:
            assert [series.name for series in file.series] == ["cells A1", "cells B2"]
            pixels = [series.asarray() for series in file.series]
        rgb = tifffile.imread(tmp_path / "color.ome.tiff")
    else:
        plate = zarr.open_group(tmp_path / "plate.ome.zarr", mode="r")
        pixels = [plate[name]["0"][:] for name in ("A1", "B2")]
        rgb = np.moveaxis(zarr.open_group(tmp_path / "color.ome.zarr", mode="r")["0"][:].squeeze(), 0, -1)
    for t, p in np.ndindex(2, 2):
        assert (pixels[p].reshape(2, *SHAPE)[t] == t + 10 * p).all()
    assert (rgb == np.arange(6 * 8 * 3).reshape(6, 8, 3)).all()


@pytest.mark.parametrize(("units", "um"), [("um", 1.0), ("mm", 1e3), ("pixel", 0.0)])
def test_positions_are_shown_again_where_they_lay_on_the_canvas(history, tmp_path, units, um):
    """Also those of a camera that is turned: here a step of the stage along x is one along y on the canvas."""
    run = Run(history, positions=["A1", "B2"], scale=0.5, units=units)
    for t, p in np.ndindex(2, 2):
        stage = {"x_um": 100.0 * p, "y_um": 7.0}
        run.put(stamped(t, p), stage if t else {**stage, "lens": "<10x>"}, t=t, p=p, translate=(20.0 + 0.1 * p, 3.0))
    save_all(exports(run.stream), tmp_path / "plate.ome.tiff")
    with open_image(tmp_path / "plate.ome.tiff") as image:
        sites = image.about.sites
        assert list(sites.names) == ["A1", "B2"]
        assert sites.stage == {p: (100.0 * p, 7.0) for p in range(2)}
        wanted = {p: pytest.approx(((20.0 + 0.1 * p) * um, 3.0 * um)) for p in range(2)}
        assert sites.corners == (wanted if um else {})
        for t, p in np.ndindex(2, 2):
            plane = image.read(2 * p + t)
            assert (dict(plane.axes), plane.array[0, 0]) == ({"p": p, "t": t}, t + 10 * p)


@pytest.mark.parametrize("form", [".ome.tiff", ".ome.zarr"])
def test_stopped_or_failed_nothing_is_left_and_what_was_there_stays(history, tmp_path, form):
    stream = series(history)
    save_all(exports(stream), tmp_path / f"cells{form}")

    def stop(done, _of):
        if done == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        save_all(exports(stream), tmp_path / f"cells{form}", stop)
    assert [path.name for path in tmp_path.iterdir()] == [f"cells{form}"]
    assert save_all(exports(stream), tmp_path / f"cells{form}").planes == 11, "and it may be replaced"
    (tmp_path / f"mine{form}").mkdir()
    (tmp_path / f"mine{form}" / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="a folder of something else, which is not replaced"):
        save_all(exports(stream), tmp_path / f"mine{form}")
    assert (tmp_path / f"mine{form}" / "letter.txt").read_text() == "dear"
    with pytest.raises(ValueError, match=r"ends with neither \.ome\.tiff nor \.ome\.zarr"):
        save_all(exports(stream), tmp_path / "cells.png")


def test_planes_that_are_forgotten_before_their_turn_are_counted(tmp_path):
    with History(budget=1 << 20, scratch=None) as history:
        run = Run(history, sizes={"t": 4})
        for t in range(4):
            run.put(stamped(t + 1, shape=(256, 512)), t=t)
        made = exports(run.stream)
        for t in range(4, 6):  # too many for the budget, and there is no file for the oldest
            run.put(stamped(t + 1, shape=(256, 512)), t=t)
        saved = save_all(made, tmp_path / "cells.ome.tiff")
        assert (saved.planes, saved.missing) == (4 - saved.forgotten, 0)
        assert saved.forgotten >= 1
        first = [int(plane.max()) for plane in tifffile.imread(tmp_path / "cells.ome.tiff")]
        assert first == [0] * saved.forgotten + [1, 2, 3, 4][saved.forgotten :]


def test_images_of_several_sizes_are_files_beside_each_other(history, tmp_path):
    run = Run(history, sizes={"t": 2})
    run.put(stamped(1), t=0)
    run.put(stamped(2, shape=(4, 4)), t=1)
    saved = save_all(exports(run.stream), tmp_path / "cells.ome.tiff")
    assert [path.name for path in saved.paths] == ["cells.ome.tiff", "cells 4x4 uint16.ome.tiff"]
    assert [int(tifffile.imread(path).max()) for path in saved.paths] == [1, 2]


def test_images_of_one_size_are_told_apart_by_their_names_and_none_replaces_another(history, tmp_path):
    run = Run(history)
    run.put(stamped(1))
    run.put(stamped(2), name="denoised")
    run.put(stamped(3), name="Denoised")  # the same file where case does not count
    run.put(stamped(4), name="a/b")
    run.put(stamped(5), kind="labels", name="cells")
    saved = save_all(exports(run.stream), tmp_path / "cells.ome.tiff")
    assert [path.name.removesuffix(".ome.tiff") for path in saved.paths] == [
        "cells",
        "cells denoised 8x6 uint16",
        "cells Denoised 8x6 uint16 (3)",
        "cells a_b 8x6 uint16",
        "cells cells 8x6",
    ]
    assert [int(tifffile.imread(path).max()) for path in saved.paths] == [1, 2, 3, 4, 5]


def test_time_begins_with_the_frame_that_was_sent_first(history, tmp_path):
    run = Run(history, sizes={"t": 3})
    for t, seconds in (1, 20), (0, 10), (2, 40):
        run.put(stamped(t), sent_ns=seconds * 10**9, t=t)
    save_all(exports(run.stream), tmp_path / "cells.ome.tiff")
    with tifffile.TiffFile(tmp_path / "cells.ome.tiff") as file:
        planes = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]["Plane"]
    assert [plane["DeltaT"] for plane in planes] == [0.0, 10.0, 30.0]


def test_without_ome_writers_the_sentence_says_what_to_install(history, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ome_writers", None)
    with pytest.raises(ImportError, match=r"pip install 'scopecast\[zarr\]', or save as OME-TIFF"):
        save_all(exports(series(history)), tmp_path / "cells.ome.zarr")
    assert list(tmp_path.iterdir()) == []


NAMES = ["/tmp/elsewhere", "../../up", ".", "..", "//", "OME", "zarr.json", "A/1", "A", "a", "c\\d", "__x", "CON"]


def test_what_a_position_is_called_is_no_path_and_stays_what_it_is_called(history, tmp_path):
    run = Run(history)
    for number, name in enumerate(NAMES):
        run.put(stamped(number), t=0, p=name)
    folder = tmp_path / "in" / "here"
    folder.mkdir(parents=True)
    save_all(exports(run.stream), folder / "plate.ome.zarr")
    assert list((tmp_path / "in").iterdir()) == [folder], "nothing is written elsewhere"
    root = zarr.open_group(folder / "plate.ome.zarr", mode="r")
    groups = dict(root.groups())
    assert {path.name for path in (folder / "plate.ome.zarr").iterdir() if path.is_dir()} <= {*groups, "OME"}
    images = [group for name, group in groups.items() if name != "OME"]
    assert {group.attrs["ome"]["multiscales"][0]["name"]: int(group["0"][:].max()) for group in images} == {
        name: number for number, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("form", [".ome.tiff", ".ome.zarr"])
@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint32", "int64", "uint64", "float16", "float32", "float64", "complex64", "complex128"]
)
def test_pixels_of_every_type_come_back_as_they_were_whatever_the_format(history, tmp_path, form, dtype):
    run = Run(history, channels=["DAPI"])
    planes = [(np.arange(48).reshape(6, 8) * 3 + t).astype(dtype) for t in range(2)]
    if np.dtype(dtype).kind == "f":
        planes[0][0, :2] = np.nan, np.inf
    if np.dtype(dtype).kind == "c":
        planes[0] += planes[0].dtype.type(2.5j)
    for t, plane in enumerate(planes):
        run.put(plane.view("uint8") if dtype == "bool" else plane, t=t, c="DAPI")
    saved = save_all(exports(run.stream), tmp_path / f"cells{form}")
    (path,) = saved.paths
    assert list(tmp_path.iterdir()) == [path]
    if dtype in ("int64", "uint64") and form == ".ome.tiff":
        assert f"in cells.ome.zarr (OME-Zarr, as OME-TIFF has no pixels of type {dtype})" in str(saved)
    else:
        assert path.name == f"cells{form}"
    if path.suffix == ".tiff":
        pixels = tifffile.imread(path)
    else:
        group = zarr.open_group(path, mode="r")
        pixels = group["0"][:].reshape(2, *SHAPE)
        (channel,) = group.attrs["ome"]["omero"]["channels"]
        assert channel["label"] == "DAPI"
        assert np.isfinite([channel["window"]["min"], channel["window"]["max"]]).all()
    np.testing.assert_array_equal(pixels, np.stack(planes))


def test_the_files_of_a_run_have_the_same_t_and_z_and_say_which_they_are_in_the_run(history, tmp_path):
    run = Run(history, steps={"t": 2.0})
    for t, z in np.ndindex(8, 2):
        run.put(stamped(t, z), t=528 + t, z=3 + z, sent_ns=(t + 1) * 10**9)
    for t in (3, 5):
        run.put(stamped(t), kind="labels", name="cells", t=528 + t, z=4, sent_ns=(t + 1) * 10**9)
    run.put(stamped(7, shape=(3, 4)), t=532, z=4, sent_ns=5 * 10**9)
    for form in (".ome.tiff", ".ome.zarr"):
        saved = save_all(exports(run.stream), tmp_path / f"cells{form}")
        assert (saved.planes, saved.missing) == (19, 0), "of labels, nobody expects one for each place"
        assert f"cells{form}" in str(saved)
        assert "the first is t = 528" in str(saved)
    images, labels, crop = (tmp_path / f"cells{name}.ome.tiff" for name in ("", " cells 8x6", " 4x3 uint16"))
    for path, came in (labels, [(3, 1), (5, 1)]), (crop, [(4, 1)]):
        with tifffile.TiffFile(path) as file:
            assert file.series[0].get_shape(squeeze=False)[:3] == (8, 1, 2)
            ome = tifffile.xml2dict(file.ome_metadata)["OME"]
            pixels = file.asarray()
        assert [at for at in np.ndindex(8, 2) if pixels[at].any()] == came
        planes = {(plane["TheT"], plane["TheZ"]): plane for plane in ome["Image"]["Pixels"]["Plane"]}
        assert [planes[at]["DeltaT"] for at in came] == [float(t) for t, _ in came], "since the run began"
        assert all("DeltaT" not in plane for at, plane in planes.items() if at not in came)
    dates = []
    for path in images, labels, crop:
        with tifffile.TiffFile(path) as file:
            ome = tifffile.xml2dict(file.ome_metadata)["OME"]
        dates.append(ome["Image"]["AcquisitionDate"])
        notes = ome["StructuredAnnotations"]["MapAnnotation"]
        (told,) = [each["Value"]["M"] for each in [notes] if not isinstance(notes, list)]
        origin = json.loads(next(each["value"] for each in [told] if each["K"] == "scopecast"))
        assert origin["indices"]["t"] == {"first": 528, "count": 8}
        assert origin["indices"]["z"] == {"first": 3, "count": 2}
    assert len(set(dates)) == 1
    group = zarr.open_group(tmp_path / "cells cells 8x6.ome.zarr", mode="r")
    _, lies = group.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert lies == {"type": "translation", "translation": [2.0 * 528, 0.0, 3.0, 0.0, 0.0]}
    assert group.attrs["scopecast"]["indices"]["t"] == {"first": 528, "count": 8}


def test_a_large_image_of_a_long_run_does_not_fill_the_disk_with_zeros(history, tmp_path):
    run = Run(history)
    for t in (0, 1, 50_000_000):
        run.put(stamped(t % 7), t=t)
    run.put(stamped(9, shape=(60, 80)), t=1)
    first, second = exports(run.stream)
    assert (first.shape, list(first.indices["t"])) == ((1, 3, 1, 1), [0, 1, 50_000_000])
    assert (second.shape, second.origin["indices"]["t"]) == ((1, 1, 1, 1), {"first": 1, "count": 1})
    save_all((first, second), tmp_path / "cells.ome.tiff")


def test_a_long_name_is_cut_where_no_file_could_have_it(history, tmp_path):
    run = Run(history)
    run.put(stamped(1))
    run.put(stamped(2), kind="labels", name="é" * 200)
    with claimed(tmp_path, "😀" * 90, "é" * 200, ".ome.tiff") as path:
        saved = save_all(exports(run.stream), path)
    assert len(list(tmp_path.iterdir())) == len(saved.paths) == 2
