"""Files as other programs may leave them: one good file of each format that is read, and many damaged copies of it.

A copy is cut at an offset, has bytes flipped or overwritten with extreme numbers, or text of its metadata replaced. The
damage depends on the seed only, so that a failure can be repeated.
"""

from __future__ import annotations

import json
import random
import shutil
import struct
import uuid
import zlib
from typing import TYPE_CHECKING, Final, NamedTuple

import imageio.v3 as iio
import numpy as np
import tifffile

from imagefiles import hyperstack, write_imagej, write_ome
from receivers import stamped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["FORMATS", "Damaged", "damage", "write_good"]

#: The formats, by what their files are called.
FORMATS: Final = (
    "plain.tif", "zlib.tif", "tiles.tif", "big.tif", "one.tif", "imagej.tif", "ome.ome.tif", "set.ome.tif",
    "micromanager.tif", "ndtiff", "folder/img_000000000_DAPI_000.tif", "png.png", "jpeg.jpg", "bmp.bmp", "npy.npy",
)  # fmt: skip
_EXTREME: Final = (0, 1, 0xFF, 0x7F, 0x80)
_NUMBERS: Final = (b"0", b"-1", b"nan", b"1e999", b"2000000000", b"9" * 30, b'"', b"{", b"<", b"", b"\n", b"\xff\xfe")


class Damaged(NamedTuple):
    """One damaged file.

    Attributes
    ----------
    how
        What was done to it, to repeat it.
    part
        The file that is damaged: the image, one of a dataset's files, or what lies beside the image.
    content
        Its bytes.
    """

    how: str
    part: Path
    content: bytes


def write_good(folder: Path, name: str) -> Path:
    """Write the good file of a format, one of `FORMATS`; return what is to be opened."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = name.partition(".")[0]
    stack = hyperstack(1, 1, 5)[0, 0]
    options: dict[str, dict[str, object]] = {
        "zlib": {"compression": "zlib"},
        "tiles": {"tile": (32, 32), "compression": "lzw"},
        "big": {"bigtiff": True},
        "one": {"description": "ImageJ=1.53c\nimages=5\nslices=5\n", "metadata": None, "truncate": True},
    }
    if kind == "npy":
        np.save(path, stack)
    elif kind in ("png", "jpeg", "bmp"):
        iio.imwrite(path, stamped(1, dtype="uint8"))
    elif kind == "imagej":
        write_imagej(path)
    elif kind == "ome":
        write_ome(path)
    elif kind == "set":
        _write_member(path)
    elif kind == "micromanager":
        _write_micromanager(path, stack)
    elif kind == "ndtiff":
        _write_ndtiff(path, stack)
    elif kind.startswith("folder"):
        tifffile.imwrite(path, stack[0])
        frame = {"FileName": path.name, "ElapsedTime-ms": 12.5, "PixelSizeUm": 0.65}
        about = {"Summary": {"PixelSize_um": 0.65, "ChNames": ["DAPI"]}, "FrameKey-0-0-0": frame}
        (path.parent / "metadata.txt").write_text(json.dumps(about))
    else:
        tifffile.imwrite(path, stack, photometric="minisblack", **options.get(kind, {}))
    return path


def _write_member(path: Path) -> None:
    """Write one file of a set of three."""
    ids = [uuid.UUID(int=at + 1).urn for at in range(3)]
    blocks = "".join(
        f'<TiffData IFD="0" FirstT="{t}" PlaneCount="1"><UUID FileName="m{t}.ome.tif">{own}</UUID></TiffData>'
        for t, own in enumerate(ids)
    )
    xml = (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{ids[1]}">'
        f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="48" SizeY="64" '
        f'SizeC="1" SizeZ="1" SizeT="3">{blocks}</Pixels></Image></OME>'
    )
    tifffile.imwrite(path, stamped(1), description=xml.encode(), metadata=None)


def _write_micromanager(path: Path, stack: np.ndarray) -> None:
    """Write a stack with Micro-Manager's tag for each frame."""
    with tifffile.TiffWriter(path) as file:
        for z, plane in enumerate(stack):
            about = json.dumps({"ElapsedTime-ms": 100.0 * z, "PixelSizeUm": 0.65, "Slice": z}).encode() + b"\0"
            file.write(plane, contiguous=False, metadata=None, extratags=[(51123, 2, len(about), about, True)])


def _write_ndtiff(path: Path, stack: np.ndarray) -> None:
    from ndstorage import NDTiffDataset

    made = NDTiffDataset(
        str(path.parent), name="made", summary_metadata={"PixelSize_um": 0.65, "z-step_um": 1.5}, writable=True
    )
    for z, plane in enumerate(stack):
        made.put_image({"z": z, "channel": "DAPI"}, plane, {"ElapsedTime-ms": 100.0 * z, "PixelSizeUm": 0.65})
    made.finish()
    made.close()
    shutil.move(path.parent / "made_1", path)


def damage(image: Path, count: int, seed: int = 0) -> Iterator[Damaged]:
    """Yield damaged copies of a good image: cuts, flipped bytes, extreme numbers, replaced text, by turns."""
    parts = [image] if image.is_file() else sorted(path for path in image.iterdir() if path.is_file())
    if (beside := image.with_name("metadata.txt")).exists():
        parts.append(beside)
    contents = {part: part.read_bytes() for part in parts}
    for number in range(count):
        source = random.Random(f"{image.name} {seed} {number}")
        part = parts[number // 4 % len(parts)]
        how, content = _DAMAGES[number % 4](bytearray(contents[part]), source)
        if part.suffix == ".png" and how != "cut" and source.random() < 0.5:
            content = _checksummed(content)
        yield Damaged(f"{part.name}, seed {seed}, number {number}: {how}", part, bytes(content))


def _cut(content: bytearray, source: random.Random) -> tuple[str, bytearray]:
    at = source.randrange(len(content) + 1)
    if source.random() < 0.3:  # the pixels are there, and nothing is in them, as in a file with room kept for it
        return f"zeros from {at}", content[:at] + bytes(len(content) - at)
    return "cut", content[:at]


def _flip(content: bytearray, source: random.Random) -> tuple[str, bytearray]:
    places = [_place(content, source) for _ in range(source.choice((1, 1, 3, 20)))]
    for at in places:
        content[at] ^= 1 << source.randrange(8)
    return f"flipped at {places}", content


def _overwrite(content: bytearray, source: random.Random) -> tuple[str, bytearray]:
    at, width = _place(content, source), source.choice((1, 2, 4, 8))
    content[at : at + width] = bytes([source.choice(_EXTREME)]) * width
    return f"{width} extreme bytes at {at}", content


def _reword(content: bytearray, source: random.Random) -> tuple[str, bytearray]:
    """Replace a number of the metadata; the offsets of what follows stay."""
    start = _place(content, source)
    end = min(start + source.choice((1, 2, 5, 12)), len(content))
    text = source.choice(_NUMBERS)[: end - start].ljust(end - start, source.choice((b" ", b"0", b"9", b"\0")))
    content[start:end] = text
    return f"{text!r} at {start}", content


_DAMAGES: Final = (_cut, _flip, _overwrite, _reword)


def _place(content: bytearray, source: random.Random) -> int:
    """Return a place; rather where the structure and metadata are (the first and the last bytes) than in the pixels."""
    size = len(content)
    near = min(size, 600)
    return source.choice((source.randrange(size), source.randrange(near), size - 1 - source.randrange(near)))


def _checksummed(content: bytearray) -> bytearray:
    """Return a PNG with checksums that fit its chunks, so that a decoder believes what is in them."""
    at = 8
    while at + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, at)
        if at + 12 + length > len(content):
            break
        struct.pack_into(">I", content, at + 8 + length, zlib.crc32(content[at + 4 : at + 8 + length]))
        at += 12 + length
    return content
