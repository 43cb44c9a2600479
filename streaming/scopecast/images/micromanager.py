"""What Micro-Manager writes into ``metadata.txt`` beside the single images of an acquisition."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scopecast.errors import FileError
from scopecast.images.about import About, as_length, elapsed_s
from scopecast.images.base import open_regular, reading
from scopecast.images.sites import Site, affine_of, site_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["METADATA", "TOLD", "Beside", "read_metadata"]

METADATA: Final = "metadata.txt"
#: What viewers tell of a frame, of all that Micro-Manager says of it.
TOLD: Final = frozenset(
    (
        *("ElapsedTime-ms", "Exposure-ms", "Exposure", "Time", "PositionName"),
        *(f"{axis}{key}" for axis in "XYZ" for key in ("PositionUm", "Position_um_Intended")),
    )
)
_MOST_BYTES: Final = 1 << 28


class Beside(NamedTuple):
    """What is known of the images of a folder.

    Attributes
    ----------
    times
        When each file was recorded, in seconds.
    scale_um, z_step_um
        Size of a pixel and distance of the planes in µm; 0 where it is not told.
    channels
        Names of the channels; Micro-Manager 2 has only their numbers in the files' names.
    sites, several
        Where the stage was at each file, and what the position is called; whether there are several.
    affine
        As from `scopecast.frames.stage.usable_affine`.
    notes
        What the user should know of it.
    """

    times: Mapping[str, float] = {}
    scale_um: float = 0.0
    z_step_um: float = 0.0
    channels: tuple[str, ...] = ()
    sites: Mapping[str, Site] = {}
    several: bool = False
    affine: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()

    def complete(self, described: dict[str, Any]) -> dict[str, Any]:
        """Return what a file says of itself, as arguments of a stream, with the sizes that it does not tell."""
        if described["units"] != "pixel" or not self.scale_um:
            return described
        steps = {"z": self.z_step_um, **described["steps"]} if self.z_step_um else described["steps"]
        return {**described, "scale": (self.scale_um, self.scale_um), "units": "um", "steps": steps}

    def told(self, name: str) -> dict[str, float | str]:
        """Return what viewers tell of a file, by the names that scopecast has for it."""
        found: dict[str, float | str] = {}
        if name in self.times:
            found["elapsed_s"] = self.times[name]
        if (site := self.sites.get(name)) is not None:
            if site.stage is not None:
                found |= {"x_um": site.stage[0], "y_um": site.stage[1]}
            if site.name:
                found["position"] = site.name
        return found

    def channel(self, name: str, label: str) -> str:
        """Return the channel of a file, where its name has only the number: ``img_channel000_….tif``.

        >>> Beside(channels=("DAPI", "FITC")).channel("img_channel001_z000.tif", "1")
        'FITC'
        """
        counted = "_channel" in name.lower() and label.isdecimal() and int(label) < len(self.channels)
        return self.channels[int(label)] if counted else label


def read_metadata(folder: Path) -> Beside:
    """Read the ``metadata.txt`` of a folder; what is not there, or can't be read, is left out.

    In version 2 each image has a key ``Metadata-<folder>/<file>``, in 1.4 ``FrameKey-<t>-<c>-<z>`` with a ``FileName``.
    """
    try:
        with reading(), open_regular(folder / METADATA) as file:
            text = file.read(_MOST_BYTES).decode("utf-8", "replace")
    except FileError:
        return Beside()
    about: Any = None
    for ending in ("", "}", "}}"):  # what an acquisition that was broken off did not write any more
        with contextlib.suppress(ValueError, RecursionError):
            about = json.loads(text.rstrip().rstrip(",") + ending)
            break
    if not isinstance(about, dict):
        return Beside()
    times: dict[str, float] = {}
    sites: dict[str, Site] = {}
    affine = None
    summary = about.get("Summary")
    summary = summary if isinstance(summary, dict) else {}
    size: Any = summary.get("PixelSize_um")
    for key, frame in about.items():
        if not isinstance(frame, dict) or not key.startswith(("Metadata-", "FrameKey-")):
            continue
        name = frame.get("FileName") or key.partition("-")[2]
        if as_length(of_frame := frame.get("PixelSizeUm")):
            size = of_frame
        if not isinstance(name, str):
            continue
        name = name.replace("\\", "/").rpartition("/")[2]
        if (elapsed := elapsed_s(frame)) is not None:
            times[name] = elapsed
        sites[name] = site_of(frame)
        affine = affine or affine_of(frame, as_length(size) or None)
    names = summary.get("ChNames")
    checked = About(
        scale=(size, size),
        units="um",
        steps={"z": summary.get("z-step_um")},
        channels=names if isinstance(names, list) else (),
    )
    scale = checked.scale[0] if checked.units == "um" else 0.0
    step = checked.steps.get("z", 0.0)
    several = len({site.name for site in sites.values()}) > 1 < len({site.stage for site in sites.values()})
    return Beside(times, scale, step, tuple(checked.channels), sites, several, affine, checked.notes)
