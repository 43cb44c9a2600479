"""A third viewer, installed as the package that it is: found by its entry points, held to the contract, seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ndv")
pytest.importorskip("vispy")

PACKAGE = Path(__file__).resolve().parents[2] / "examples" / "scopecast-ndv"

PROGRAM = """
import sys
import numpy as np
from scopecast import BackendRegistry

with BackendRegistry() as registry:
    assert "ndv_stream" in registry
    live = registry["ndv_stream"]
    live.publisher.open((64, 64), "uint16", wait=60)
    y, x = np.mgrid[:64, :64]
    for t in range(4):
        frames = [1000 * (x > 30) + 10 * t, 1000 * (y > 30) + 10 * t]
        live.save_batch([frame.astype("uint16") for frame in frames], [f"t{t}_c0.tif", f"t{t}_c1.tif"])
    assert live.flush(30)
    stats = live.stats()
    assert stats.frames.delivered == 8, stats
    live.publisher.capture(sys.argv[1])
    (row,) = stats.receivers
    print(row.pid, row.kind)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the plug-in is installed in; no network is needed."""
    target = tmp_path_factory.mktemp("site")
    build = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "-q")
    command = [sys.executable, "-m", "pip", "install", *build, "--target", str(target), str(PACKAGE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    return target


def run(installed: Path, *command: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_held_to_the_contract(installed: Path, tmp_path: Path):
    options = ("-q", "-c", os.devnull, "--rootdir", str(tmp_path), "-p", "no:cacheprovider")
    told = run(installed, "-m", "pytest", *options, str(PACKAGE / "tests"), folder=tmp_path)
    assert " passed" in told
    assert "skipped" not in told


def test_its_window_opens_and_shows_what_is_saved_to_it(installed: Path, tmp_path: Path):
    import psutil
    from PyQt6.QtGui import QImage

    picture = tmp_path / "window.png"
    pid, kind = run(installed, "-c", PROGRAM, str(picture), folder=tmp_path).split()
    try:
        assert kind == "ndv"
        image = QImage(str(picture))
        assert image.width() > 400
        columns, rows = range(0, image.width(), 7), range(0, image.height(), 7)
        colors = [image.pixelColor(x, y) for x in columns for y in rows]
        shown = [color for color in colors if color.hsvSaturation() > 100 and color.value() > 100]
        assert len(shown) > len(colors) / 10, "two channels, each bright in half of the picture, in colours"
    finally:
        viewer = psutil.Process(int(pid))  # the window outlives the program
        viewer.terminate()
        viewer.wait(20)
