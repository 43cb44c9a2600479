"""Image files for the tests, written by tifffile, imageio and numpy; every plane tells where it belongs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from receivers import stamped

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["hyperstack", "write_imagej", "write_ome"]


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
