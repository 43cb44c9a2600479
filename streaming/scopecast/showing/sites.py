"""Where the planes of files lie on the canvas: where the stage was, as in an acquisition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopecast.frames.stage import corner_of_frame
from scopecast.images.ome import micrometers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream
    from scopecast.images.micromanager import Beside
    from scopecast.images.sites import Site, Sites

__all__ = ["PlacesOnStage", "site_beside"]


def site_beside(path: Path, beside: Beside, root: Path) -> Site | None:
    """Return what the ``metadata.txt`` beside a file says of its position.

    Returns
    -------
    Site or None
        None where it does not tell positions apart. Those of Micro-Manager have a folder each, of the same name.
    """
    site, folder = beside.sites.get(path.name), path.absolute().parent
    if site is None or beside.several:
        return site
    return site if folder != root and site.name == folder.name else None


class PlacesOnStage:
    """Places the planes of the positions of streams.

    A position is where its first plane was taken: a stage does not return to the very same place, and a picture that
    moves with each time point is of no use.
    """

    def __init__(self) -> None:
        self._first: dict[tuple[FrameStream, AxisValue], tuple[float, float]] = {}

    def corner(
        self,
        stream: FrameStream,
        where: Mapping[str, AxisValue],
        plane_shape: Sequence[int],
        sites: Sites,
        site: Site | None,
        affine: tuple[float, ...] | None,
    ) -> tuple[float, ...]:
        """Return where a plane belongs on the canvas.

        Parameters
        ----------
        stream, where
            Its place in the stream; without a position (``p``), planes are not placed.
        plane_shape
            (y, x, …) in pixels.
        sites, site
            What the file says of its positions, and what is said of the file.
        affine
            From pixels to µm of the stage.

        Returns
        -------
        tuple of float
            (y, x) of the middle of its first pixel in the stream's unit; () where it is not known.
        """
        position = where.get("p")
        um = micrometers(stream.units)
        if position is None or not um:
            return ()
        stage = sites.stage.get(position)
        if stage is None and (told := (site and site.stage) or sites.lone):
            stage = self._first.setdefault((stream, position), told)
            stage = stage if any(stage) else None  # at 0, 0: one that is not there, as for `Sites`
        if stage is None:
            return ()
        pixel = [size * um for size in stream.scale]
        y, x = corner_of_frame(stage, pixel, plane_shape, affine)
        return (y / um, x / um)
