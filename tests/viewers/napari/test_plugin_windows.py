"""The plugin's panel opened and closed, and napari closed with it, each in a window and a process of its own."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from napari_panel import rows_of
from receivers import stamped
from scopecast import Publisher

SHAPE = (64, 48)
SCENARIOS = Path(__file__).with_name("plugin_windows.py")
pytestmark = pytest.mark.timeout(240)


def test_panels_closed_reopened_and_that_can_not_receive_yet_in_a_process_of_their_own():
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(SCENARIOS))
    done = subprocess.run(
        command, cwd=SCENARIOS.parents[3], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


NAPARI = """
import json, time
import napari
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QApplication
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.napari.panel import LiveStreams

init = LiveStreams.__init__
def spy(self, napari_viewer):
    print("given a", type(napari_viewer).__name__)
    init(self, napari_viewer)
LiveStreams.__init__ = spy

def simulations():
    return [entry for entry in RunDirectory().living("publisher") if entry.title == "Simulated cells"]

def tell():
    view = panel.session.view
    print(json.dumps({
        "layers": [layer.name for layer in viewer.layers if layer.name != "live"],
        "units": [str(unit) for unit in viewer.layers["DAPI · cells"].units],
        "hosts": [entry.host for entry in simulations()],
        "follows": view.follower.following,
        "problems": view.problems,
    }))
    panel.freeze.click()

viewer = napari.Viewer()
viewer.open_sample("scopecast", "simulated")
panel = viewer.window.dock_widgets["Live streams (scopecast)"]
steps = [
    (lambda: len(viewer.layers) == 4 and viewer.layers["DAPI · cells"].data.shape[0] > 3
        and viewer.layers["live"].data.shape[0] > 10 and viewer.dims.point[0] >= 3, tell),
    (lambda: panel.session.view.paused, lambda: panel.freeze.click()),
    (lambda: not panel.session.view.paused, lambda: panel.session.view.tools.copy_run.trigger()),
    (lambda: any("(snapshot)" in layer.name for layer in viewer.layers), lambda: viewer.close()),
]
timer = QTimer()
def look():
    if steps and steps[0][0]():
        steps.pop(0)[1]()
    if not steps:
        timer.stop()
timer.timeout.connect(look)
timer.start(20)
napari.run()
deadline = time.monotonic() + 60
while simulations() and time.monotonic() < deadline:
    QApplication.processEvents()
    time.sleep(0.01)
print("napari has ended, and", len(simulations()), "simulations go on")
"""


def test_the_sample_opens_the_panel_which_copies_and_pauses_and_ends_without_a_word_with_napari_while_it_streams():
    # napari gives a plugin's widget its public face only: the panel must do with that.
    with Publisher("napari", title="goes on", budget=8 * 2**20, linger=0.0) as publisher:
        publisher.open(SHAPE, "uint16", wait=10.0)
        publisher.new_stream("live", scale=(0.5, 0.5), units="um")  # in units that agree with the simulation's
        viewer = subprocess.Popen(
            [sys.executable, "-c", NAPARI], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            for t in itertools.count():
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                try:
                    viewer.wait(0.05)
                    break
                except subprocess.TimeoutExpired:
                    continue
            said, errors = viewer.communicate(timeout=30)
        finally:
            viewer.kill()
        assert viewer.returncode == 0, errors
        *lines, ended = said.splitlines()
        assert [line for line in lines if "given" in line] == ["given a PublicOnlyProxy"]
        told = json.loads(next(line for line in lines if line.startswith("{")))
        assert told["layers"] == ["simulated field of view", "DAPI · cells", "FITC · cells"]
        assert told["units"] == ["pixel", "micrometer", "micrometer"]
        assert told["hosts"] == ["scopecast simulation"]
        assert told["follows"]
        assert not told["problems"]
        assert any("(snapshot)" in line for line in lines), lines
        assert ended == "napari has ended, and 0 simulations go on"
        assert "Traceback" not in errors
        assert "Warning" not in errors
        assert not rows_of(publisher)
        assert publisher.stats().balanced
