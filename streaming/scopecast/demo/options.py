"""The demo's options: what it acquires, and which viewer shows it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from scopecast.backends.streaming import FijiStreamingBackend, NapariStreamingBackend, StreamingBackend
from scopecast.errors import DemoError
from scopecast.publishing.launch import known_viewers

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["HeadlessStreamingBackend", "Options"]


class HeadlessStreamingBackend(StreamingBackend):
    """Streams to the viewer without a window."""

    VIEWER_TYPE = "headless"
    SHM_PREFIX = "headless_"


BACKENDS: Final[dict[str, type[StreamingBackend]]] = {
    backend.VIEWER_TYPE: backend for backend in (NapariStreamingBackend, FijiStreamingBackend, HeadlessStreamingBackend)
}


#: Those of the group "Channel" in the demo configuration of Micro-Manager.
CHANNELS: Final = ("Cy5", "DAPI", "FITC", "Rhodamine")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the demo acquires, and what shows it.

    Attributes
    ----------
    viewer
        The kind of viewer; ``"both"`` is napari and fiji side by side.
    width, height
        Pixels of a frame.
    timepoints, z
        Number of time points and of z planes.
    channels
        Presets of the simulated microscope's channel group.
    z_step
        Distance of the z planes in µm.
    exposure
        In milliseconds.
    interval
        Seconds from one time point to the next.
    keep
        Whether the viewer stays open after the run; None: if it has a window that can be seen.
    title
        What the viewer calls the run.
    """

    viewer: str = "napari"
    width: int = 1536  # as large as the simulated sample: more would be an empty margin
    height: int = 1536
    timepoints: int = 12
    channels: Sequence[str] = ("DAPI", "FITC", "Rhodamine")
    z: int = 5
    z_step: float = 2.0
    exposure: float = 15.0
    interval: float = 1.0
    keep: bool | None = None
    title: str = "demo"

    @property
    def frames(self) -> int:
        """How many frames the sequence has."""
        return self.timepoints * len(self.channels) * self.z

    @property
    def viewers(self) -> tuple[str, ...]:
        """The kinds of viewers; the figures are those of the first."""
        return ("napari", "fiji") if self.viewer == "both" else (self.viewer,)

    def check(self) -> None:
        """Raise DemoError if the demo can't be run with these values here."""
        if any(kind not in BACKENDS or kind not in known_viewers() for kind in self.viewers):
            usable = " or ".join(sorted((set(BACKENDS) & known_viewers()), reverse=True))
            raise DemoError(f"there is no viewer {self.viewer!r} here; use {usable or 'another installation'}")
        if not (16 <= self.width <= 16384 and 16 <= self.height <= 16384):
            raise DemoError(f"the camera has 16 to 16384 pixels per side, not {self.width}x{self.height}")
        if self.timepoints < 1 or self.z < 1 or not self.channels:
            raise DemoError("a run needs at least one time point, one channel and one z plane")
        if unknown := [name for name in self.channels if name not in CHANNELS]:
            there = ", ".join(CHANNELS)
            raise DemoError(f"the demo microscope has no channel {unknown[0]!r}; its channels are {there}")
        if len(set(self.channels)) < len(self.channels):
            raise DemoError("a channel is named twice; name each channel once")
        # Written so that a "nan" is out of range as well.
        if not (0.1 <= self.exposure <= 10_000 and 0 <= self.interval <= 86_400 and 0 < self.z_step <= 10_000):
            raise DemoError(
                "the exposure is 0.1 to 10000 ms, the interval is not negative (and at most a day), "
                "and the z step is positive (and at most 10000 µm)"
            )

    def require(self) -> None:
        """Raise DemoError if packages that the demo needs are not installed."""
        missing = [name for name in ("pymmcore_plus", "useq", "mm_test_adapters") if not importlib.util.find_spec(name)]
        if missing:
            names = ", ".join(missing)
            raise DemoError(f"the demo needs {names}; install what is missing: pip install 'scopecast[pymmcore]'")
