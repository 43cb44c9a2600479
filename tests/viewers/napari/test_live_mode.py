"""Where the picture of a camera's region lies on napari's canvas: by Micro-Manager's demo camera, to the pixels."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import scopecast

pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
pytest.importorskip("mm_test_adapters", reason="needs the extra 'pymmcore'")

import mm_test_adapters
from pymmcore_plus import CMMCorePlus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_live import Live

SIDE = 64


class Scene(CMMCorePlus):
    """A microscope whose sample is one bright square, which each region and binning shows where it is."""

    def getImage(self, *_: Any, **_options: Any) -> np.ndarray:
        binning = int(self.getProperty("Camera", "Binning"))
        x, y, width, height = (each * binning for each in self.getROI())
        whole = np.full((SIDE, SIDE), 20, "uint8")
        whole[20:28, 24:36] = 200
        return np.ascontiguousarray(whole[y : y + height : binning, x : x + width : binning])


@pytest.fixture
def core() -> Iterator[Scene]:
    adapters = Path(mm_test_adapters.device_adapter_path())
    core = Scene()
    core.setDeviceAdapterSearchPaths([str(adapters)])
    core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
    core.setProperty("Camera", "PixelType", "8bit")
    core.setProperty("Camera", "OnCameraCCDXSize", SIDE)
    core.setProperty("Camera", "OnCameraCCDYSize", SIDE)
    yield core
    core.unloadAllDevices()
    gc.collect()


def bright(live: Live) -> tuple[float, ...]:
    """Return where the square's edges are on the screen, (top, left, bottom, right), in the canvas's unit."""
    seen = live.viewer.screenshot(canvas_only=True, flash=False)
    middle = np.array(seen.shape[:2]) / 2
    rows, columns = np.nonzero((seen[..., 1] > 100) & (seen[..., 0] < 50))  # green, which the scale bar is not
    zoom, center = live.viewer.scene.camera.zoom, np.array(live.viewer.scene.camera.center[-2:])
    corners = np.array([[rows.min(), columns.min()], [rows.max() + 1, columns.max() + 1]])
    return tuple(((corners - middle) / zoom + center).ravel())


def test_a_region_and_binning_show_the_sample_where_it_was(live: Live, core: Scene):
    with scopecast.live(core, "napari", launch=False, policy="every") as backend:
        backend.publisher.open((SIDE, SIDE), "uint8")
        live.attach(backend.publisher)

        def look() -> tuple[float, ...]:
            core.snap()
            live.settled(backend.publisher)
            (layer,) = live.viewer.layers
            layer.contrast_limits, layer.colormap = (0, 255), "green"
            return bright(live)

        at = pytest.approx((19.5, 23.5, 27.5, 35.5), abs=0.6)  # napari has the middle of the first pixel at 0
        assert look() == at
        core.setROI(16, 8, 32, 40)
        assert look() == at
        core.setProperty("Camera", "Binning", "2")
        assert look() == pytest.approx((19.0, 23.0, 27.0, 35.0), abs=0.6)  # as that of a pixel twice as large
        core.setROI(8, 8, 16, 8)
        assert look() == pytest.approx((19.0, 23.0, 27.0, 35.0), abs=0.6)
        core.setProperty("Camera", "Binning", "1")
        core.clearROI()
        assert look() == at
        assert backend.errors == 0
