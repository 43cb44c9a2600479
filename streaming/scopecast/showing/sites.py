"""Where the planes of files lie on the canvas: where the stage was, as in an acquisition."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scopecast.frames.stage import corner_of_frame
from scopecast.images.micromanager import METADATA
from scopecast.images.ome import micrometers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream
    from scopecast.images.base import FilePlane, ImageFile
    from scopecast.images.micromanager import Beside

__all__ = ["PlacesOnStage", "is_position"]


def is_position(folder: Path, name: str, beside: Beside) -> bool:
    """Whether Micro-Manager has a folder for a position, of which a file is: that is called as the position is."""
    site = beside.sites.get(name)
    return site is not None and site.name == folder.name


class PlacesOnStage:
    """Places the planes of the positions of streams.

    A position is where its first plane was taken: a stage does not return to the very same place, and a picture that
    moves with each time point is of no use.

    Parameters
    ----------
    beside
        Returns what the ``metadata.txt`` of a folder says.
    """

    def __init__(self, beside: Callable[[Path], Beside]) -> None:
        self._beside = beside
        self._at_several: dict[Path, bool] = {}
        self._first: dict[tuple[FrameStream, AxisValue], tuple[float, float]] = {}

    def corner(
        self,
        stream: FrameStream,
        where: Mapping[str, AxisValue],
        image: ImageFile,
        plane: FilePlane,
    ) -> tuple[float, ...]:
        """Return where a plane belongs on the canvas.

        Parameters
        ----------
        stream, where
            Its place in the stream; without a position (``p``), planes are not placed.
        image, plane
            The file, and what was read of it.

        Returns
        -------
        tuple of float
            (y, x) of the middle of its first pixel in the stream's unit; () where it is not known.
        """
        position = where.get("p")
        um = micrometers(stream.units)
        if position is None or not um:
            return ()
        sites, folder = image.about.sites, image.path.absolute().parent
        if (corner := sites.corners.get(position)) is not None:
            return (corner[0] / um, corner[1] / um)
        beside = self._beside(folder)
        stage = sites.stage.get(position)
        if stage is None and (told := self._told_beside(image.path.name, folder, beside)):
            stage = self._first.setdefault((stream, position), told)
        extents = dict(zip(plane.dims or ("y", "x"), plane.array.shape, strict=False))
        if stage is None or not {"y", "x"} <= extents.keys():
            return ()
        pixel = [size * um for size in stream.scale]
        y, x = corner_of_frame(stage, pixel, (extents["y"], extents["x"]), sites.affine or beside.affine)
        return (y / um, x / um)

    def _told_beside(self, name: str, folder: Path, beside: Beside) -> tuple[float, float] | None:
        """Return where a file was taken; None unless the stage was at several places, see `scopecast.images.sites`."""
        site = beside.sites.get(name)
        if site is None:
            return None
        if is_position(folder, name, beside):
            if folder.parent not in self._at_several:
                others = [each for each in folder.parent.iterdir() if (each / METADATA).is_file()]
                found = {next((site.stage for site in self._beside(each).sites.values()), None) for each in others}
                self._at_several[folder.parent] = len(found - {None}) > 1
            return site.stage if self._at_several[folder.parent] else None
        return site.stage if beside.several else None
