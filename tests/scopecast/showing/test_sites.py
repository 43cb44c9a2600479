"""Positions of files lie where the stage was, by what the files say of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

import scopecast
from imagefiles import POSITION_WRITERS
from receivers import Viewer, stamped
from scopecast.images.open import open_image
from scopecast.images.sites import Site, Sites
from scopecast.showing.replay import Recording, play
from scopecast.showing.stacks import Showing
from scopecast_viewers.receiving.metadata import read_recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# ndstorage leaves the files of a finished dataset to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file .*NDTiff:ResourceWarning")

STAGE = [(0.0, 0.0), (30.0, 0.0), (0.0, 9500.0)]
NAMES = ["A1", "A2", "B1"]
#: Of frames of 64 x 48 pixels of 0.5 µm, whose centres are those places; the stage's y points up.
CORNERS = [(-15.75, -11.75), (-15.75, 30 - 11.75), (-9500 - 15.75, -11.75)]


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    with Viewer() as made:
        yield made


def corners_of(viewer: Viewer) -> dict[str, set[tuple[float, ...]]]:
    """Return where the planes of each position lie, by its name."""
    (stream,) = viewer.streams
    (stack,) = stream.stacks
    found: dict[str, set[tuple[float, ...]]] = {}
    for index in stack.layout.planes:
        name = stream.label("p", index[stack.axes.index("p")]) if "p" in stack.axes else ""
        found.setdefault(name, set()).add(tuple(round(at, 6) for at in stack.tag(index).translate))  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("write", POSITION_WRITERS.values(), ids=list(POSITION_WRITERS))
def test_each_position_lies_where_its_first_plane_was_taken(viewer: Viewer, tmp_path: Path, write: Any):
    shown = write(tmp_path, STAGE, NAMES)
    assert scopecast.show(str(tmp_path / shown), viewer="headless").frames == 6
    assert corners_of(viewer) == {name: {corner} for name, corner in zip(NAMES, CORNERS, strict=True)}
    (stream,) = viewer.streams
    assert "folder" not in stream.axes


@pytest.mark.parametrize("write", POSITION_WRITERS.values(), ids=list(POSITION_WRITERS))
def test_viewers_are_told_where_each_plane_was_taken(viewer: Viewer, tmp_path: Path, write: Any):
    scopecast.show(str(tmp_path / write(tmp_path, STAGE, NAMES)), viewer="headless")
    (stream,) = viewer.streams
    (stack,) = stream.stacks
    for index in stack.layout.planes:
        t, p = (index[stack.axes.index(axis)] for axis in "tp")
        said = read_recorded(stack.tag(index).metadata)
        assert (said.x_um, said.y_um, said.position) == (STAGE[p][0] + 0.3 * t, STAGE[p][1], NAMES[p])


@pytest.mark.parametrize("write", list(POSITION_WRITERS.values())[:2], ids=list(POSITION_WRITERS)[:2])
def test_a_replay_puts_them_there_too(viewer: Viewer, tmp_path: Path, write: Any):
    recording = Recording(tmp_path / write(tmp_path, STAGE, NAMES))
    with Showing("headless", policy="latest", lone=True) as showing:
        assert sum(played.moment is not None for played in play(recording, showing, speed=math.inf)) == 6
        showing.finish()
        assert set().union(*corners_of(viewer).values()) <= set(CORNERS)
        assert len(corners_of(viewer)) == 3


@pytest.mark.parametrize(
    ("kind", "affine"),
    [("NDTiff", "0.0_-0.5_0.5_0.0"), ("files of Micro-Manager", "0.0;0.5;0.0;-0.5;0.0;0.0")],
)
def test_a_camera_that_is_turned_counts(viewer: Viewer, tmp_path: Path, kind: str, affine: str):
    """A step in x of the pixels is one in -y of the stage; a step in y, one in x."""
    shown = POSITION_WRITERS[kind](tmp_path, STAGE, NAMES, affine=affine)
    scopecast.show(str(tmp_path / shown), viewer="headless")
    expected = [(x - 15.75, -y - 11.75) for x, y in STAGE]
    assert corners_of(viewer) == {name: {corner} for name, corner in zip(NAMES, expected, strict=True)}


@pytest.mark.parametrize("write", POSITION_WRITERS.values(), ids=list(POSITION_WRITERS))
def test_a_stage_that_was_in_one_place_is_none(viewer: Viewer, tmp_path: Path, write: Any):
    """Many programs write zeros for lack of a stage; the positions would lie on top of each other."""
    shown = write(tmp_path, [(0.0, 0.0)] * 3, NAMES)  # but for what the time points differ by
    scopecast.show(str(tmp_path / shown), viewer="headless")
    assert corners_of(viewer) == {name: {()} for name in NAMES}


def test_positions_that_a_recording_has_placed_lie_there(viewer: Viewer, tmp_path: Path):
    """As in a file that scopecast has recorded, whatever the stage's coordinates would make of it."""
    corners = [(-100.5, 20.0), (31.25, 20.0), (-100.5, -7.0)]
    with tifffile.TiffWriter(tmp_path / "run.ome.tif", ome=True) as writer:
        for p, (y, x) in enumerate(corners):
            plane = {"PositionX": [9.0 * p], "PositionXUnit": ["µm"], "PositionY": [0.0], "PositionYUnit": ["µm"]}
            about = {"Name": NAMES[p], "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": plane}
            about["MapAnnotation"] = {"canvas_um": f"{y} {x}", "t0 c0 z0": '{"gain": 2}'}
            writer.write(stamped(0, 0, p), metadata=about)
    scopecast.show(tmp_path / "run.ome.tif", viewer="headless")
    assert corners_of(viewer) == {name: {corner} for name, corner in zip(NAMES, corners, strict=True)}


def test_positions_in_colour_are_placed_too(viewer: Viewer, tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "run.ome.tif", ome=True) as writer:
        for (x, y), name in zip(STAGE, NAMES, strict=True):
            plane = {"PositionX": [x], "PositionXUnit": ["µm"], "PositionY": [y], "PositionYUnit": ["µm"]}
            about = {"Name": name, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Plane": plane}
            writer.write(stamped(0, 0, 0, (64, 48, 3), "uint8"), photometric="rgb", metadata=about)
    scopecast.show(tmp_path / "run.ome.tif", viewer="headless")
    assert corners_of(viewer) == {name: {corner} for name, corner in zip(NAMES, CORNERS, strict=True)}


def test_pixels_of_no_size_lie_nowhere(viewer: Viewer, tmp_path: Path):
    with tifffile.TiffWriter(tmp_path / "run.ome.tif", ome=True) as writer:
        for p in range(2):
            plane = {"PositionX": [9.0 * p], "PositionXUnit": ["µm"], "PositionY": [0.0], "PositionYUnit": ["µm"]}
            writer.write(stamped(0, 0, p), metadata={"Plane": plane})
    scopecast.show(tmp_path / "run.ome.tif", viewer="headless")
    assert set().union(*corners_of(viewer).values()) == {()}


def test_the_size_that_the_user_gives_counts(viewer: Viewer, tmp_path: Path):
    shown = POSITION_WRITERS["OME-TIFF"](tmp_path, STAGE, NAMES)
    scopecast.show(tmp_path / shown, viewer="headless", scale=0.001, units="mm")
    expected = {((-y - 31.5) / 1e3, (x - 23.5) / 1e3) for x, y in STAGE}
    found = sorted(corner for each in corners_of(viewer).values() for corner in each)
    np.testing.assert_allclose(found, sorted(expected), atol=1e-9)


def test_a_line_of_pixels_is_shown_though_it_has_no_place(viewer: Viewer, tmp_path: Path):
    np.save(tmp_path / "line.npy", np.arange(5))
    np.save(tmp_path / "plane.npy", stamped(3))
    receipt = scopecast.show([tmp_path / "line.npy", tmp_path / "plane.npy"], viewer="headless", axes={"p": 1}, scale=2)
    assert (len(receipt.sent), len(receipt.skipped), receipt.frames) == (2, 0, 2)


@pytest.mark.parametrize(
    ("sites", "stage", "names"),
    [
        ({0: Site((0.0, 1.0), "a"), 1: Site(None, "b")}, {}, ("a", "b")),
        ({0: Site((0.0, 1.0)), 2: Site((5.0, 1.0), "c")}, {0: (0.0, 1.0), 2: (5.0, 1.0)}, ("", "", "c")),
        ({"A1": Site((0.0, 1.0), "x"), "A2": Site((1.0, 1.0))}, {"A1": (0.0, 1.0), "A2": (1.0, 1.0)}, ()),
        ({0: Site((4.0, 4.0))}, {}, ()),
    ],
    ids=["one is not known", "a gap", "labels", "only one"],
)
def test_what_is_taken_of_positions(sites: Any, stage: Any, names: Any):
    made = Sites.of(sites)
    assert (made.stage, tuple(made.names)) == (stage, names)


@pytest.mark.parametrize(
    "place",
    [{"XPositionUm": 10**400, "YPositionUm": 1}, {"XPositionUm": "1", "YPositionUm": 1}, {}, {"XPositionUm": 1}],
)
def test_places_that_make_no_sense_are_none(tmp_path: Path, place: dict[str, Any]):
    from ndstorage import NDTiffDataset

    dataset = NDTiffDataset(str(tmp_path), name="run", writable=True)
    dataset.initialize({"PixelSize_um": 0.5, "AffineTransform": "1_2_nan_4"})
    for p in range(2):
        dataset.put_image({"position": p}, stamped(p), place)
    dataset.finish()
    dataset.close()
    with open_image(tmp_path / "run_1") as image:
        assert not image.about.sites.stage
        assert image.about.sites.affine is None
