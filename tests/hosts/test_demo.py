"""The demo as a whole: Micro-Manager's core, the publisher, napari in another process, a screen of its own."""

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from receivers import viewer_process
from scopecast.rundir.directory import RunDirectory

pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
pytest.importorskip("mm_test_adapters", reason="needs the extra 'pymmcore'")

from scopecast.demo import demo
from scopecast.demo import microscope as demo_microscope_module
from scopecast.demo.microscope import demo_microscope, demo_sequence
from scopecast.demo.options import Options

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))


class Silent:
    """A watch that hears and says nothing."""

    def doing(self, what: str) -> None: ...

    def progress(self, done: int, total: int, stats: object) -> None: ...


@pytest.mark.skipif(not shutil.which("Xvfb"), reason="needs Xvfb")
def test_napari_shows_the_demo_on_a_screen_of_its_own(tmp_path: Path):
    pytest.importorskip("napari", reason="needs the extra 'napari'")
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    picture, figures_file = tmp_path / "window.png", tmp_path / "figures.json"
    command = [sys.executable, "-P", "-m", "scopecast", "demo"]
    small = ["--size", "256", "-t", "2", "-c", "DAPI,FITC", "-z", "2"]
    done = subprocess.run(
        [*command, *small, "--screenshot", str(picture), "--json", str(figures_file)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(figures_file.read_text())
    assert figures["published"] == 8
    assert sum(figures[fate] for fate in ("delivered", "superseded", "dropped", "skipped")) == 8
    assert figures["in_flight"] == 0
    assert 1 <= figures["painted"] <= 8
    assert 0 < figures["age_ms"]["p50"] <= figures["age_ms"]["p99"]
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert (width, height) > (600, 400)
    assert len(content) > 20_000  # an empty window would be less
    assert RunDirectory().living() == []


def test_the_simulated_images_differ_in_time_channel_and_focus():
    options = Options(viewer="headless", width=96, height=80, timepoints=2, channels=("FITC", "Cy5"), z=3)
    with demo_microscope(options) as core:
        images: dict[tuple[int, int, int], np.ndarray] = {}

        class Keep:
            def frameReady(self, image: np.ndarray, event: object) -> None:
                images[tuple(event.index[axis] for axis in "tcz")] = image.copy()

        core.mda.run(demo_sequence(options), output=Keep())
        assert core.getPixelSizeUm() == 1.0
    assert len(images) == options.frames == 12
    assert {image.shape for image in images.values()} == {(80, 96)}
    assert {image.dtype for image in images.values()} == {np.dtype("uint16")}
    assert len({image.tobytes() for (_, _, z), image in images.items() if z < 2}) == 8  # the focus is symmetric
    assert all(image.max() > 500 for image in images.values())


@pytest.mark.parametrize("z", [1, 2, 5, 11])
@pytest.mark.parametrize("step", [0.1, 1 / 3, 2.0])
def test_a_sequence_has_the_frames_that_were_asked_for(z: int, step: float):
    options = Options(timepoints=3, channels=("DAPI", "Cy5"), z=z, z_step=step)
    sequence = demo_sequence(options)
    assert len(list(sequence)) == options.frames == 6 * z
    assert [event.index["t"] for event in sequence] == sorted(event.index["t"] for event in sequence)


def test_a_failed_acquisition_is_raised(monkeypatch: pytest.MonkeyPatch):
    options = Options(viewer="headless", width=64, height=64, timepoints=1, channels=("DAPI",), z=1)
    monkeypatch.setattr(
        demo_microscope_module, "_move", lambda core, event: core.getProperty("Camera", "nothing of the kind")
    )
    with (
        viewer_process(),
        demo.prepare(options, Silent()) as ready,
        pytest.raises(demo.DemoError, match=r"^the acquisition failed: .*nothing of the kind"),
    ):
        ready.run()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_deliver_every_frame_to_the_viewer_that_runs(example: Path):
    with viewer_process():
        done = subprocess.run(
            [sys.executable, str(example)],
            env={**os.environ, "SCOPECAST_EXAMPLE_VIEWER": "headless"},
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert done.returncode == 0, done.stderr
    assert "dropped=0, skipped=0, in_flight=0" in done.stdout
    assert example.read_text().startswith("# /// script\n")
    assert len(example.read_text().splitlines()) < 50
