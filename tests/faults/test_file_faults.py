"""Files that other programs cut short: while they are read, and before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from imagefiles import hyperstack, write_imagej, write_ome
from receivers import check_stamp, stamped
from scopecast import FileError, IncompleteFileError
from scopecast.images.open import open_image

if TYPE_CHECKING:
    from pathlib import Path


OPTIONS = {
    "zlib": {"compression": "zlib"},
    "lzw": {"compression": "lzw", "tile": (64, 64)},
    "one": {"truncate": True},
}


def write(path: Path) -> None:
    """Write the kind of file that the name says."""
    kind = path.name.partition(".")[0]
    stack = hyperstack(1, 1, 5, shape=(256, 256))[0, 0]
    if kind == "npy":
        np.save(path, stack)
    elif kind == "ome":
        write_ome(path)
    elif kind == "imagej":
        write_imagej(path)
    elif kind in ("png", "jpg"):
        iio.imwrite(path, stamped(1, shape=(256, 256), dtype="uint8"))
    else:
        tifffile.imwrite(path, stack, photometric="minisblack", **OPTIONS.get(kind, {}))


NAMES = ["plain.tif", "one.tif", "zlib.tif", "lzw.tif", "imagej.tif", "ome.ome.tif", "npy.npy", "png.png", "jpg.jpg"]


@pytest.mark.fault("R8")
@pytest.mark.parametrize("name", [name for name in NAMES if name.split(".")[0] in ("plain", "one", "zlib", "npy")])
def test_a_file_cut_short_while_it_is_read_is_an_error_and_no_sigbus(tmp_path: Path, name: str):
    path = tmp_path / name
    write(path)
    with open_image(path) as image:
        first = image.read(0)
        assert first is not None
        # A mapping of a file that is cut short kills whoever touches it: there must be none, of the file or its parts.
        with open("/proc/self/maps") as maps:  # noqa: PTH123
            assert not [line for line in maps if name in line]
        os.truncate(path, path.stat().st_size // 4)
        with pytest.raises(FileError):
            list(image.planes())
        assert check_stamp(first.array) == (0, 0, 0)  # what was read before is nobody else's memory


@pytest.mark.fault("R9")
@pytest.mark.parametrize("name", NAMES)
def test_a_file_cut_short_anywhere_is_an_error_with_a_reason(tmp_path: Path, name: str):
    path = tmp_path / name
    write(path)
    content = path.read_bytes()
    with open_image(path) as image:
        whole = [plane.array.copy() for plane in image.planes()]
    cuts = sorted({0, 1, 7, 200, *(len(content) * tenth // 10 for tenth in range(1, 10)), len(content) - 1})
    reasons = []
    for cut in cuts:
        path.write_bytes(content[:cut])
        try:
            with open_image(path) as image:
                planes = [plane.array for plane in image.planes()]
        except FileError as error:
            reasons.append(str(error))
        else:  # nothing of the pixels is missing: what was cut off is behind them
            assert len(planes) == len(whole)
            assert all(np.array_equal(plane, other) for plane, other in zip(planes, whole, strict=True))
            assert cut > len(content) * 0.9
    assert len(reasons) >= len(cuts) - 1 >= 9
    assert all(reason and "\n" not in reason for reason in reasons)


@pytest.mark.fault("R9")
def test_the_reason_names_the_sizes(tmp_path: Path):
    tifffile.imwrite(tmp_path / "a.tif", stamped(1))
    size = (tmp_path / "a.tif").stat().st_size
    os.truncate(tmp_path / "a.tif", size - 100)
    with pytest.raises(IncompleteFileError, match=f"it has {size - 100} of at least {size} bytes"):
        open_image(tmp_path / "a.tif")
