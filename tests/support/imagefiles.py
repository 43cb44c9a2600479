"""Image files for the tests, written by tifffile, imageio and numpy; every plane tells where it belongs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from receivers import stamped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    _Plane = Callable[[int, int], np.ndarray]

__all__ = ["POSITION_WRITERS", "hyperstack", "write_imagej", "write_ome"]

_PIXEL_UM = 0.5


def hyperstack(t: int, c: int, z: int, **about: Any) -> np.ndarray:
    """Return stamped planes, (t, c, z, y, x)."""
    return np.stack(
        [np.stack([np.stack([stamped(it, ic, iz, **about) for iz in range(z)]) for ic in range(c)]) for it in range(t)]
    )


def write_ome(path: Path, t: int = 2, c: int = 2, z: int = 3, **options: Any) -> np.ndarray:
    """Write an OME-TIFF with channels, sizes and times; return its planes, (t, c, z, y, x)."""
    import tifffile

    planes = hyperstack(t, c, z)
    metadata = {
        "axes": "TCZYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeY": 300.0,
        "PhysicalSizeYUnit": "nm",
        "PhysicalSizeZ": 1.5,
        "TimeIncrement": 10.0,
        "Channel": {"Name": ["DAPI", "GFP"][:c], "Color": [65535, 16711935][:c]},
        "Plane": {"DeltaT": [10.0 * it + ic + 0.1 * iz for it in range(t) for ic in range(c) for iz in range(z)]},
    }
    tifffile.imwrite(path, planes, metadata=metadata, **options)
    return planes


def write_imagej(path: Path, t: int = 2, c: int = 2, z: int = 3, **metadata: Any) -> np.ndarray:
    """Write a hyperstack as ImageJ does; return its planes, (t, c, z, y, x)."""
    import tifffile

    planes = hyperstack(t, c, z)
    tifffile.imwrite(
        path,
        planes.transpose(0, 2, 1, 3, 4),
        imagej=True,
        resolution=(1 / 0.65, 1 / 0.65),
        metadata={"axes": "TZCYX", "unit": "um", "spacing": 2.0, "finterval": 5.0, **metadata},
    )
    return planes


# ---- positions of a stage --------------------------------------------------------------------------------------------


def _plane(t: int, p: int) -> np.ndarray:
    return stamped(t, 0, p)


def _write_ome_positions(
    folder: Path, stage: Sequence[tuple[float, float]], names: Sequence[str], plane: _Plane = _plane
) -> str:
    import tifffile

    with tifffile.TiffWriter(folder / "run.ome.tif", ome=True) as writer:
        for p, ((x, y), name) in enumerate(zip(stage, names, strict=True)):
            about = {
                "axes": "TYX",
                "Name": f"run 7 {name}",
                **{f"PhysicalSize{axis}": 1e3 * _PIXEL_UM for axis in "XY"},
                **{f"PhysicalSize{axis}Unit": "nm" for axis in "XY"},
                # A stage that is not quite where it was.
                "Plane": {
                    "PositionX": [x, x + 0.3],
                    "PositionXUnit": ["µm"] * 2,
                    "PositionY": [y / 1e3] * 2,
                    "PositionYUnit": ["mm"] * 2,
                },
            }
            writer.write(np.stack([plane(t, p) for t in range(2)]), photometric="minisblack", metadata=about)
    return "run.ome.tif"


def _write_ndtiff_positions(
    folder: Path, stage: Sequence[tuple[float, float]], names: Sequence[str], plane: _Plane = _plane, affine: str = ""
) -> str:
    from ndstorage import NDTiffDataset

    dataset = NDTiffDataset(str(folder), name="run", writable=True)
    dataset.initialize({"PixelSize_um": _PIXEL_UM} | ({"AffineTransform": affine} if affine else {}))
    for t in range(2):
        for p, ((x, y), name) in enumerate(zip(stage, names, strict=True)):
            about = {"XPositionUm": x + 0.3 * t, "YPositionUm": y, "PositionName": name, "ElapsedTime-ms": 100 * t}
            dataset.put_image({"time": t, "position": p}, plane(t, p), about)
    dataset.finish()
    dataset.close()
    return "run_1"


def _write_image_files(
    folder: Path, stage: Sequence[tuple[float, float]], names: Sequence[str], plane: _Plane = _plane, affine: str = ""
) -> str:
    """Write as Micro-Manager 2 does: a folder for each position, with a file for each image and a ``metadata.txt``."""
    import tifffile

    for p, ((x, y), name) in enumerate(zip(stage, names, strict=True)):
        about: dict[str, Any] = {"Summary": {"ChNames": ["DAPI"]}}
        (folder / name).mkdir()
        for t in range(2):
            file = f"img_channel000_position{p:03d}_time{t:09d}_z000.tif"
            tifffile.imwrite(folder / name / file, plane(t, p))
            frame = {"PixelSizeUm": _PIXEL_UM, "XPositionUm": x + 0.3 * t, "YPositionUm": y, "PositionName": name}
            about[f"Metadata-{name}/{file}"] = frame | ({"PixelSizeAffine": affine} if affine else {})
        (folder / name / "metadata.txt").write_text(json.dumps(about))
    return "*/*.tif"


#: Write a run of two time points, of pixels of 0.5 µm: ``(folder, [(x, y) of each position in µm], names)``; plane
#: (t, p) is what `plane` makes, by default stamped (t, 0, p). They return what in the folder is to be shown.
POSITION_WRITERS = {
    "OME-TIFF": _write_ome_positions,
    "NDTiff": _write_ndtiff_positions,
    "files of Micro-Manager": _write_image_files,
}
