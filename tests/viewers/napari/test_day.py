"""A microscopist's day in one window: live mode, objectives, snaps, runs of all kinds, and looks back.

After each step the screen is compared with what the microscope saw, pixel by pixel; nobody repairs the view: what is
new is followed, fitted to the canvas, in a contrast in which it is seen.
"""

from __future__ import annotations

import functools
import sys
import threading
import time
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
pytest.importorskip("mm_test_adapters", reason="needs the extra 'pymmcore'")

sys.path.append(str(Path(__file__).resolve().parents[3] / "docs" / "pictures"))

from _microscope import CHANNELS, RUNS, Remote, microscope, sample

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_live import Live

SIDE = 192
SHAPE = (SIDE, SIDE)
DAPI, HERE = CHANNELS[0], (0.0, 0.0, 0.0)
#: Of the canvas, from its edges: nothing is written over the picture within.
_INSIDE = (0.15, 0.85)

#: Between two looks at the screen, each of which has it painted.
_PAUSE_S = 0.25
#: Of the light of the picture that is expected; all of it would be black.
_MOST_OFF = 0.3

Fields = list[tuple[tuple[float, float], dict[str, np.ndarray]]]


class Day:
    """The window, and the microscope."""

    def __init__(self, live: Live) -> None:
        self.live, self.view = live, live.view

    def told(self, remote: Remote, *command: Any) -> None:
        """Have a microscope do something, while the window goes on."""
        doing = threading.Thread(target=remote.do if command else remote.wait, args=command, daemon=True)
        doing.start()
        self.live.until(lambda: not doing.is_alive(), 120)

    def mine(self) -> list[Any]:
        """The layers of the run that is on top."""
        return [each for each in self.view.layers if each.stream is self.view.scene.on_top]

    def off(self, fields: Fields) -> float:
        """Return by how much of its light the screen differs from fields at their corners (y, x) on the canvas."""
        camera = self.live.viewer.scene.camera
        screen = self.live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(float)
        size = np.array(screen.shape[:2])
        looks = {each.channel_name: each.layer for each in self.mine()}
        if not fields or set(looks) != set(fields[0][1]):
            return inf  # its layers are not all there yet
        differences, light = [], 0.0
        for corner, planes in fields:
            shape = next(iter(planes.values())).shape
            pixel = np.array(next(iter(looks.values())).scale[-2:]) / getattr(self.mine()[0].data, "every", 1)
            at = np.stack(np.meshgrid(*(np.arange(2, extent - 2, 3) for extent in shape), indexing="ij"), -1).reshape(
                -1, 2
            )
            spots = np.floor((corner + at * pixel - camera.center[-2:]) * camera.zoom + size / 2).astype(int)
            seen = ((spots > _INSIDE[0] * size) & (spots < _INSIDE[1] * size)).all(axis=1)
            at, spots = at[seen], spots[seen]
            expected = np.zeros((len(at), 3))
            for channel, plane in planes.items():
                layer = looks[channel]
                low, high = layer.contrast_limits
                values = np.clip((plane[at[:, 0], at[:, 1]] - low) / (high - low), 0, 1)
                expected += layer.colormap.map(values)[:, :3] * 255
            differences.append(np.abs(np.minimum(expected, 255) - screen[spots[:, 0], spots[:, 1]]).sum(axis=1))
            light += np.minimum(expected, 255).sum()
        count = sum(map(len, differences))
        return float(sum(map(np.sum, differences)) / light) if count > 300 else inf  # else most of it is out of sight

    def shows(self, fields: Callable[[], Fields], *, newest: bool = True) -> None:
        """Wait until the screen shows these fields, and nothing has to be repaired in the window."""
        looked = 0.0

        def there() -> None:
            nonlocal looked
            assert not self.view.layers.incomplete
            assert time.monotonic() - looked > _PAUSE_S, "soon"
            looked = time.monotonic()
            assert self.off(fields()) < _MOST_OFF

        self.live.qtbot.waitUntil(there, timeout=120_000)
        viewer, view = self.live.viewer, self.view
        screen = viewer.screenshot(canvas_only=True, flash=False)[..., :3].max(axis=2)
        assert (screen > 150).mean() > 0.01, "cells are bright"
        assert np.median(screen) < 60, "the ground is dark"
        assert view.problems == ()
        assert viewer.layers.selection.active in [each.layer for each in self.mine()]
        assert len(viewer.layers) == len(list(view.layers)) + ("positions" in viewer.layers[-1].name)
        worlds = np.array([each.layer.extent.world[:, -2:] for each in self.mine()])
        extent = worlds[:, 1].max(axis=0) - worlds[:, 0].min(axis=0)
        fills = extent * viewer.scene.camera.zoom / viewer.canvas.size
        assert 0.75 < fills.max() <= 1.01, "the picture is as large as the canvas"
        if newest:
            assert view.follower.following
            assert view.scene.on_top is view.followed


def planes(stage: tuple[float, float, float], t: int, pixel_um: float) -> dict[str, np.ndarray]:
    return {channel: seen(channel, stage, t, pixel_um) for channel in CHANNELS}


@functools.lru_cache
def seen(channel: str, stage: tuple[float, float, float], t: int, pixel_um: float) -> np.ndarray:
    return sample(channel, stage, t, pixel_um, SHAPE)


def run(t: int, pixel_um: float) -> Callable[[], Fields]:
    """Return what a time lapse shows, of one field."""
    return lambda: [((0.0, 0.0), planes(HERE, t, pixel_um))]


def alone(x: float, y: float, pixel_um: float) -> Callable[[], Fields]:
    """Return what live mode and snaps show: one picture without a channel."""
    return lambda: [((0.0, 0.0), {"": seen(DAPI, (x, y, 0.0), 0, pixel_um)})]


def mosaic(day: Day, pixel_um: float) -> Callable[[], Fields]:
    """Return the fields of a grid, which lie on the canvas where the stage was, y downwards."""

    def fields() -> Fields:
        corners = [tuple(each.layer.translate[-2:]) for each in day.mine() if each.channel_name == DAPI]
        half = SIDE * pixel_um / 2
        return [((y, x), planes((x + half, -(y + half), 0.0), 0, pixel_um)) for y, x in corners]

    return fields


def wells(day: Day, z: float, pixel_um: float) -> Callable[[], Fields]:
    """Return the fields of the run "wells", at the places that they have on the canvas."""

    def fields() -> Fields:
        corners = getattr(getattr(day.mine()[0].data, "stage_layout", None), "corners", {}) if day.mine() else {}
        positions = RUNS["wells"]["stage_positions"] if len(corners) == 4 else ()
        return [(corners[(("p", p),)], planes((at["x"], at["y"], z), 0, pixel_um)) for p, at in enumerate(positions)]

    return fields


@pytest.mark.timeout(600)
def test_after_a_microscopist_s_day_the_window_needs_no_repair(live: Live):
    day, view, viewer = Day(live), live.view, live.viewer
    with microscope("microscope", SIDE) as scope:
        day.told(scope)

        # Live mode, and another objective: the same layer in the new pixel size, with what the user set of it.
        day.told(scope, "watch", True)
        day.shows(alone(0.0, 0.0, 1.0))
        (layer,) = viewer.layers
        layer.colormap = "magenta"
        day.told(scope, "objective", "20X")
        day.shows(alone(0.0, 0.0, 0.5))
        assert list(viewer.layers) == [layer]
        assert layer.colormap.name == "magenta"
        assert tuple(layer.scale[-2:]) == (0.5, 0.5)
        day.told(scope, "move", 150.0, -60.0)
        day.shows(alone(150.0, -60.0, 0.5))
        day.told(scope, "watch", False)

        # Snaps, at two places.
        for x, y in ((300.0, 80.0), (0.0, 0.0)):
            day.told(scope, "move", x, y)
            day.told(scope, "snap")
            day.shows(alone(x, y, 0.5))
        assert list(viewer.layers) == [layer]

        # A run over time; then a look back.
        day.told(scope, "run", "time lapse")
        day.shows(run(2, 0.5))
        lapse = view.followed
        live.until(lambda: live.point()[0] == 2)  # the sliders come after the picture
        viewer.dims.set_point(0, 0)
        day.shows(run(0, 0.5), newest=False)
        assert not view.follower.following
        next(each for each in day.mine() if each.channel_name == "FITC").layer.colormap = "yellow"

        # A mosaic is followed although the user has looked back, with the colour that was chosen.
        day.told(scope, "run", "mosaic")
        live.until(lambda: view.scene.on_top is not lapse and len(day.mine()) == 4 * len(CHANNELS))
        day.shows(mosaic(day, 0.5))
        former = view.followed
        corners = [corner for corner, _ in mosaic(day, 0.5)()]
        assert np.ptp(corners, axis=0) == pytest.approx((SIDE / 2, SIDE / 2))
        assert {each.layer.colormap.name for each in day.mine() if each.channel_name == "FITC"} == {"yellow"}

        # Stacks at places far apart are one picture; the slider goes through them.
        day.told(scope, "objective", "40X")
        day.told(scope, "run", "wells")
        day.shows(wells(day, 4.0, 0.25))
        assert [name for name in view.layers.axes if name in "tz"] == ["z"]
        live.until(lambda: live.point()[0] == viewer.layers[0].translate[0] + 2 * viewer.layers[0].scale[0])
        viewer.dims.set_point(0, viewer.dims.range[0].start)
        day.shows(wells(day, -4.0, 0.25), newest=False)

        # The mosaic is had back, on top of the wells.
        view.show_run(former)
        day.shows(mosaic(day, 0.5), newest=False)
        assert view.scene.on_top is former
