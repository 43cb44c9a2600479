"""Image files: every plane comes out as it was written, where it belongs, with its pixel size."""

from __future__ import annotations

import importlib.util
import itertools
import os
import struct
import zlib
from typing import TYPE_CHECKING, Any

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from PIL import Image

from imagefiles import hyperstack, write_imagej, write_ome
from receivers import check_stamp, stamped
from scopecast import FileError, IncompleteFileError
from scopecast.images import base
from scopecast.images.base import open_regular, read_exactly
from scopecast.images.open import find_files, open_image

if TYPE_CHECKING:
    from pathlib import Path


def stamps(path: Path, **options: Any) -> dict[tuple[tuple[str, int], ...], tuple[int, int, int]]:
    """Where each plane belongs, and what it says itself."""
    with open_image(path, **options) as image:
        found = {tuple(sorted(plane.axes.items())): check_stamp(plane.array) for plane in image.planes()}
        assert len(found) == len(image)
        return found


def placed(**extents: int) -> list[tuple[tuple[str, int], ...]]:
    """Every place in the given extents."""
    return [
        tuple(sorted(zip(extents, index, strict=True)))
        for index in itertools.product(*(range(extent) for extent in extents.values()))
    ]


# ---- TIFF ------------------------------------------------------------------------------------------------------------


def test_an_imagej_hyperstack_keeps_its_axes_and_sizes(tmp_path: Path):
    write_imagej(tmp_path / "a.tif")
    found = stamps(tmp_path / "a.tif")
    assert sorted(found) == sorted(placed(t=2, z=3, c=2))
    assert all(stamp == (dict(where)["t"], dict(where)["c"], dict(where)["z"]) for where, stamp in found.items())
    with open_image(tmp_path / "a.tif") as image:
        assert (image.about.scale, image.about.units) == ((0.65, 0.65), "um")
        assert image.about.steps == {"z": 2.0, "t": 5.0}
        assert image.time_s(11) == 5.0
        assert image.about.notes == ()


def test_an_imagej_files_colours_are_those_of_its_tables(tmp_path: Path):
    ramp = np.arange(256, dtype=np.uint8)
    none = np.zeros_like(ramp)
    fire = np.stack([ramp, np.sort(ramp // 2), 255 - ramp])
    write_imagej(tmp_path / "a.tif", mode="composite", LUTs=[np.stack([none, ramp, none]), fire])
    with open_image(tmp_path / "a.tif") as image:
        assert image.about.colors == ("#00ff00", "")


def test_an_ome_tiff_keeps_channels_colours_sizes_and_times(tmp_path: Path):
    write_ome(tmp_path / "a.ome.tif")
    found = stamps(tmp_path / "a.ome.tif")
    assert sorted(found) == sorted(placed(t=2, c=2, z=3))
    assert all(stamp == (dict(where)["t"], dict(where)["c"], dict(where)["z"]) for where, stamp in found.items())
    with open_image(tmp_path / "a.ome.tif") as image:
        assert image.about.sizes == {"t": 2, "c": 2, "z": 3}
        assert image.about.channels == ("DAPI", "GFP")
        assert image.about.colors == ("#0000ff", "#00ff00")
        assert (image.about.scale, image.about.units) == ((0.3, 0.2), "um")
        assert image.about.steps == {"z": 1.5, "t": 10.0}
        assert [image.time_s(number) for number in (0, 1, 3, 11)] == pytest.approx([0.0, 0.1, 1.0, 11.2])


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"byteorder": ">"}, id="big-endian"),
        pytest.param({"bigtiff": True}, id="bigtiff"),
        pytest.param({"compression": "lzw"}, id="lzw"),
        pytest.param({"compression": "zlib", "predictor": True}, id="deflate"),
        pytest.param({"tile": (16, 16), "compression": "zlib"}, id="tiles"),
        pytest.param({"rowsperstrip": 5}, id="strips"),
        pytest.param({"metadata": None}, id="pages without metadata"),
        pytest.param({"truncate": True}, id="one directory for all"),
    ],
)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_a_stack_however_it_is_stored(tmp_path: Path, dtype: str, options: dict[str, Any]):
    if "predictor" in options and dtype == "float32":
        pytest.skip("a predictor of floats is another one")
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, hyperstack(1, 1, 5, dtype=dtype)[0, 0], photometric="minisblack", **options)
    assert stamps(path) == {(("z", z),): (0, 0, z) for z in range(5)}
    assert stamps(path, dims="tyx") == {(("t", z),): (0, 0, z) for z in range(5)}
    with open_image(path) as image:
        assert "taken as z" in image.about.notes[0]


def test_names_for_the_axes_must_be_as_many_as_there_are(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", hyperstack(1, 1, 5)[0, 0])
    with pytest.raises(FileError, match="dims t, c name 2 axes besides y and x, and the file has 1"):
        open_image(tmp_path / "a.tif", dims="tczyx"[:2])


@pytest.mark.parametrize("planar", [False, True])
def test_colours_stay_together(tmp_path: Path, planar: bool):
    pixels = np.stack([stamped(z, shape=(64, 48, 3), dtype="uint8") for z in range(2)])
    stored = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if planar else pixels
    config = "separate" if planar else "contig"
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=config)
    with open_image(tmp_path / "a.tif") as image:
        planes = list(image.planes())
    assert [plane.axes for plane in planes] == [{"z": 0}, {"z": 1}]
    for z, plane in enumerate(planes):
        assert plane.dims is not None
        array = np.moveaxis(plane.array, plane.dims.index("s"), -1)
        assert check_stamp(np.ascontiguousarray(array)) == (z, 0, 0)


def test_positions_of_an_ome_file_are_an_axis(tmp_path: Path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as writer:
        for p in range(3):
            writer.write(np.stack([stamped(t, p) for t in range(2)]), metadata={"axes": "TYX", "Name": f"Pos{p}"})
    assert stamps(path) == {(("p", p), ("t", t)): (t, p, 0) for p in range(3) for t in range(2)}


def test_series_of_different_forms_are_told(tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(stamped(1))
        writer.write(stamped(2, shape=(32, 32)))
    assert stamps(tmp_path / "a.tif") == {(): (1, 0, 0)}
    with open_image(tmp_path / "a.tif") as image:
        assert image.about.notes == ("it has 2 series of different shapes; the first is shown",)


def test_of_a_pyramid_the_full_resolution_is_shown(tmp_path: Path):
    full = stamped(1, shape=(128, 128))
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(full, subifds=1, tile=(32, 32), metadata={"axes": "YX"})
        writer.write(full[::2, ::2], subfiletype=1, tile=(32, 32))
    assert stamps(tmp_path / "a.ome.tif") == {(): (1, 0, 0)}
    with open_image(tmp_path / "a.ome.tif") as image:
        assert image.about.notes == ("it is a pyramid of 2 levels; the full resolution is shown",)


def test_a_file_of_a_set_has_its_own_planes_only(tmp_path: Path):
    uuids = [f"urn:uuid:{number:08d}-0000-0000-0000-000000000000" for number in range(2)]
    blocks = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="set{t}.ome.tif">{uuids[t]}</UUID></TiffData>'
        for t in range(2)
    )
    for t in range(2):
        xml = (
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuids[t]}"><Image ID="Image:0">'
            f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="48" SizeY="64" SizeZ="1" SizeC="1" '
            f'SizeT="2"><Channel ID="Channel:0:0"/>{blocks}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"set{t}.ome.tif", stamped(t), description=xml, metadata=None)
    for t in range(2):
        with open_image(tmp_path / f"set{t}.ome.tif") as image:
            (plane,) = image.planes()
            assert (plane.axes, check_stamp(plane.array)) == ({"t": t}, (t, 0, 0))


# ---- the others ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("dtype", [">u2", "<f4", "|i1"])
def test_npy_plane_by_plane(tmp_path: Path, dtype: str, fortran: bool):
    planes = hyperstack(2, 1, 3, dtype=dtype)[:, 0]
    np.save(tmp_path / "a.npy", np.asfortranarray(planes) if fortran else planes)
    assert stamps(tmp_path / "a.npy") == {(("t", t), ("z", z)): (t, 0, z) for t in range(2) for z in range(3)}


def test_npy_of_colours_and_of_a_single_plane(tmp_path: Path):
    np.save(tmp_path / "rgb.npy", stamped(3, shape=(64, 48, 3), dtype="uint8"))
    np.save(tmp_path / "flat.npy", stamped(4))
    assert stamps(tmp_path / "rgb.npy") == {(): (3, 0, 0)}
    assert stamps(tmp_path / "flat.npy") == {(): (4, 0, 0)}


@pytest.mark.parametrize(("shape", "dtype"), [((64, 48), "uint8"), ((64, 48), "uint16"), ((64, 48, 3), "uint8")])
def test_png_as_it_was_written(tmp_path: Path, shape: tuple[int, ...], dtype: str):
    iio.imwrite(tmp_path / "a.PNG", stamped(7, shape=shape, dtype=dtype), extension=".png")
    assert stamps(tmp_path / "a.PNG") == {(): (7, 0, 0)}


@pytest.mark.skipif(not importlib.util.find_spec("imagecodecs"), reason="needs imagecodecs")
def test_png_with_16_bits_for_each_colour(tmp_path: Path):
    pixels = stamped(5, shape=(64, 48, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 48, 64, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    (tmp_path / "a.png").write_bytes(content)
    assert stamps(tmp_path / "a.png") == {(): (5, 0, 0)}


@pytest.mark.parametrize(
    ("mode", "shape"), [("P", (8, 9, 3)), ("RGBA", (8, 9, 4)), ("LA", (8, 9)), ("1", (8, 9)), ("L", (8, 9))]
)
def test_a_png_of_any_mode_is_an_image(tmp_path: Path, mode: str, shape: tuple[int, ...]):
    grey = (np.arange(72).reshape(8, 9) > 35).astype("uint8") * 255
    picture = Image.fromarray(grey).convert("RGB").quantize(4) if mode == "P" else Image.fromarray(grey).convert(mode)
    picture.save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as image:
        (plane,) = image.planes()
    assert plane.array.shape == shape
    values = plane.array if plane.array.ndim == 2 else plane.array[..., 0]
    assert np.array_equal(values.astype(bool), grey.astype(bool))


def test_jpeg_nearly_as_it_was_written(tmp_path: Path):
    y, x = np.mgrid[:64, :96]
    picture = np.stack([y * 3, x * 2, (x + y)], axis=-1).astype("uint8")
    iio.imwrite(tmp_path / "a.jpg", picture, quality=95)
    with open_image(tmp_path / "a.jpg") as image:
        (plane,) = image.planes()
    assert plane.array.shape == (64, 96, 3)
    assert np.abs(plane.array.astype(int) - picture).max() < 30


# ---- what can't be shown, and what is asked for ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("notes.csv", b"a,b", "extension '.csv'"),
        ("none", b"a", "no extension"),
        ("empty.tif", b"", "it is empty"),
        ("text.tif", b"this is no image", "not a TIFF file"),
        ("text.png", b"this is no image, however it is called" * 4, "can't be decoded"),
        ("text.npy", b"this is no image", "not a valid NPY file"),
        ("missing.tif", None, "there is no such file"),
    ],
)
def test_what_is_no_image_says_why(tmp_path: Path, name: str, content: bytes | None, text: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(FileError, match=text), open_image(tmp_path / name) as image:
        list(image.planes())


def test_objects_in_an_npy_file_are_never_unpickled(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FileError, match="object"):
        open_image(tmp_path / "a.npy")


def test_directories_in_a_circle_end(tmp_path: Path):
    entry = struct.pack("<HHII", 256, 3, 1, 4)
    (tmp_path / "a.tif").write_bytes(
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + entry + struct.pack("<I", 8)
    )
    with pytest.raises(FileError, match="loop"):
        open_image(tmp_path / "a.tif")


def test_a_directory_that_is_not_written_yet_is_incomplete(tmp_path: Path):
    (tmp_path / "a.tif").write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(IncompleteFileError, match="not been written yet"):
        open_image(tmp_path / "a.tif")


def test_folders_and_patterns_come_in_natural_order(tmp_path: Path):
    for name in ("t10.tif", "t9.tif", "T1.tif", "notes.txt", ".hidden.tif"):
        (tmp_path / name).touch()
    names = ["T1.tif", "t9.tif", "t10.tif"]
    assert [path.name for path in find_files([tmp_path])[0]] == names
    assert find_files([tmp_path])[1] == 2
    assert [path.name for path in find_files([str(tmp_path / "*[0-9].tif")])[0]] == names
    assert [path.name for path in find_files([tmp_path / "t9.tif", tmp_path])[0]] == ["t9.tif", "T1.tif", "t10.tif"]
    (missing,), _ = find_files([str(tmp_path / "*.png")])
    assert missing.name == "*.png"


def test_folders_below_are_looked_into_where_that_is_asked_for(tmp_path: Path):
    for name in ("run/t1.tif", "run/t0.tif", "run/notes.txt", "a.tif", ".hidden/b.tif", "run/deep/c.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert find_files([tmp_path]) == ([tmp_path / "a.tif"], 0)
    found, others = find_files([tmp_path], recursive=True)
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "a.tif",
        "run/t0.tif",
        "run/t1.tif",
        "run/deep/c.tif",
    ]
    assert others == 1


@pytest.mark.needs("positioned writes")
def test_no_more_is_read_at_once_than_every_system_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """macOS refuses reads of 2 GiB and more."""
    path, sizes, preadv = tmp_path / "plane", [], os.preadv
    path.write_bytes(bytes(range(100)))
    monkeypatch.setattr(base, "MOST_AT_ONCE", 7)
    monkeypatch.setattr(
        os, "preadv", lambda file, buffers, at: (sizes.append(len(buffers[0])), preadv(file, buffers, at))[1]
    )
    with open_regular(path) as file:
        assert read_exactly(file.fileno(), 10, (9, 10), np.dtype("uint8")).tobytes() == bytes(range(10, 100))
    assert max(sizes) == 7
