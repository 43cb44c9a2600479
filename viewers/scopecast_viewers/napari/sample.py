"""File > Open Sample > Simulated live stream (scopecast): a newcomer sees a live view at once."""

from __future__ import annotations

import logging
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from scopecast.demo.simulation import PIXEL_UM
from scopecast.publishing.causes import cause_in
from scopecast.publishing.launch import python

if TYPE_CHECKING:
    from scopecast_viewers.napari.panel import LiveStreams

__all__ = ["open_panel", "simulated_stream"]

logger = logging.getLogger(__name__)

SIZE = 512
TIMEPOINTS = 900


def open_panel() -> LiveStreams:
    """Open the panel in napari's current window, and return it.

    Raises
    ------
    RuntimeError
        If there is no window.
    """
    import napari

    viewer = napari.current_viewer()
    if viewer is None:
        msg = "the simulated stream needs a napari window, and there is none; open one with napari.Viewer()"
        raise RuntimeError(msg)
    dock, panel = viewer.window.add_plugin_dock_widget("scopecast", "Live streams")
    dock.show()
    dock.raise_()
    return panel  # type: ignore[no-any-return]


def simulated_stream() -> list[tuple[Any, dict[str, Any], str]]:
    """Start a simulated acquisition in a process of its own, and the panel that shows it.

    It ends after 90 seconds, or with napari.

    Returns
    -------
    list of layer data tuples
        napari wants a sample to have a layer: the border of the simulated field of view.
    """
    panel = open_panel()
    process = subprocess.Popen(
        [python(), "-P", "-m", "scopecast.demo.simulation", "--size", str(SIZE), "--timepoints", str(TIMEPOINTS)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    threading.Thread(target=_attend, args=(process,), name="scopecast-simulation", daemon=True).start()

    def end() -> None:
        with suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]

    panel.expect(process.pid)
    panel.window().destroyed.connect(end)
    side = SIZE * PIXEL_UM
    low, high = -PIXEL_UM / 2, side - PIXEL_UM / 2
    border = [[low, low], [low, high], [high, high], [high, low]]
    about = {
        "name": "simulated field of view",
        "shape_type": "rectangle",
        "edge_color": "#808080",
        "face_color": "transparent",
        "edge_width": PIXEL_UM,
        "units": ("um", "um"),
    }
    return [([border], about, "shapes")]


def _attend(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of the simulation, and say why if it failed."""
    said = process.stderr.read() if process.stderr is not None else b""
    if process.wait():
        cause = cause_in(said.decode(errors="replace"))
        logger.error("the simulated stream has failed: %s", cause or f"exit code {process.returncode}")
    for stream in (process.stdin, process.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.close()
