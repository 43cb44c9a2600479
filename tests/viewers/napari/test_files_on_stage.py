"""The positions of files are seen as those of an acquisition: where the stage was, or as a plate with their names."""

from __future__ import annotations

import threading
from functools import partial

import numpy as np
import pytest

import scopecast
from imagefiles import POSITION_WRITERS
from napari_live import sliced

# ndstorage leaves the files of a finished dataset to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*NDTiff:ResourceWarning")

SHAPE = (64, 48)
PIXEL_UM = 0.5
HEIGHT, WIDTH = SHAPE[0] * PIXEL_UM, SHAPE[1] * PIXEL_UM
LEVEL = 20000
#: Bright are one in a corner, and one beside it: neither a flip nor a turn of the picture looks the same.
BRIGHT = {0, 1}


def level(t, p, *, bright=BRIGHT):
    """Return a plane of one level."""
    return np.full(SHAPE, LEVEL if p in bright else t + 1, "uint16")


def show(live, tmp_path, write, stage, names, title):
    """Write a run and show it, while the window goes on."""
    folder = tmp_path / title
    folder.mkdir()
    path = str(folder / write(folder, stage, names, level))
    done = threading.Thread(target=partial(scopecast.show, path, viewer="napari", title=title), name="show")
    done.start()
    live.until(lambda: not done.is_alive())
    done.join()
    live.caught_up()


def bright_places(live, corners):
    """Return which fields, by the corners (y, x) in µm at which they are to be, are bright on the screen."""
    camera = live.viewer.scene.camera
    seen = live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int).max(axis=2)
    found = set()
    for p, corner in enumerate(corners):
        spot = np.add(corner, (0.75 * HEIGHT, 0.5 * WIDTH))
        at = tuple(np.round((spot - camera.center[-2:]) * camera.zoom + np.array(seen.shape) / 2).astype(int))
        assert all(0 <= one < extent for one, extent in zip(at, seen.shape, strict=True)), "it is out of sight"
        if seen[at] > 150:
            found.add(p)
    return found


@pytest.mark.parametrize("write", POSITION_WRITERS.values(), ids=list(POSITION_WRITERS))
def test_fields_that_adjoin_are_a_mosaic_and_wells_are_a_plate(live, tmp_path, write):
    for run in range(2):
        grid = [(1000 + WIDTH * (p % 2), 500 - HEIGHT * (p // 2)) for p in range(4)]
        show(live, tmp_path, write, grid, [f"Pos{p}" for p in range(4)], f"grid {run}")
        assert [layer.name for layer in live.viewer.layers if "positions" in layer.name] == []
        assert len(live.viewer.layers) == 4
        corners = [(-y - (HEIGHT - PIXEL_UM) / 2, x - (WIDTH - PIXEL_UM) / 2) for x, y in grid]
        for p, corner in enumerate(corners):
            (layer,) = (each for each in live.viewer.layers if f"Pos{p}" in each.name)
            assert tuple(layer.translate[-2:]) == pytest.approx(corner)
            np.testing.assert_array_equal(sliced(layer), level(1, p))
        assert bright_places(live, corners) == BRIGHT

        names = ["A1", "A2", "A3", "B1", "B2", "B3"]
        plate = [(9000.0 * (p % 3), -9000.0 * (p // 3)) for p in range(6)]
        show(live, tmp_path, write, plate, names, f"plate {run}")
        (texts,) = (layer for layer in live.viewer.layers if "positions" in layer.name)
        assert list(texts.features["name"]) == names
        assert len(live.viewer.layers) == 2, "one picture, and the names"
        (shown,) = (each for each in live.view.layers if each.layer in live.viewer.layers)
        places = [shown.data.stage_layout.corners[(("p", p),)] for p in range(6)]
        assert places[0][0] == places[1][0] < places[3][0] == places[4][0]
        assert places[0][1] == places[3][1] < places[1][1] == places[4][1]
        assert bright_places(live, places) == BRIGHT
