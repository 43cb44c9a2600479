"""The plugin's panel opened and closed, and napari closed with it, each in a window and a process of its own."""

from __future__ import annotations

import itertools
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


@pytest.mark.parametrize(
    "scenario",
    [
        "closed_it_detaches_and_its_layers_stay_and_reopened_it_attaches_again",
        "the_sample_opens_the_panel_and_streams_until_napari_ends",
    ],
)
def test_in_a_process_of_its_own(scenario):
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{SCENARIOS}::test_{scenario}")
    done = subprocess.run(
        command, cwd=SCENARIOS.parents[3], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=220
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_scenarios_above_are_all_that_there_are():
    run = next(mark for mark in test_in_a_process_of_its_own.pytestmark if mark.name == "parametrize").args[1]
    there = {line[9:].partition("(")[0] for line in SCENARIOS.read_text().splitlines() if line.startswith("def test_")}
    assert there == set(run)


NAPARI = """
import napari
from napari.utils._proxies import PublicOnlyProxy
from qtpy.QtCore import QTimer
from scopecast_viewers.napari.panel import LiveStreams

init = LiveStreams.__init__
def spy(self, napari_viewer):
    print("given a", type(napari_viewer).__name__)
    init(self, napari_viewer)
LiveStreams.__init__ = spy

viewer = napari.Viewer()
dock, panel = viewer.window.add_plugin_dock_widget("scopecast", "Live streams")
steps = [
    (lambda: viewer.layers and viewer.layers[0].data.shape[0] > 10, panel.pause.click),
    (lambda: panel.session.view.paused, panel.pause.click),
    (lambda: not panel.session.view.paused, panel.snapshot.click),
    (lambda: len(viewer.layers) == 2, lambda: viewer.close()),
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
print("napari has ended")
"""


def test_behind_napari_s_proxy_the_panel_pauses_and_copies_and_napari_closed_while_streaming_ends_without_a_word():
    # napari gives a plugin's widget its public face only: the panel must do with that.
    with Publisher("napari", title="goes on", budget=8 * 2**20, linger=0.0) as publisher:
        publisher.open(SHAPE, "uint16", wait=10.0)
        viewer = subprocess.Popen(
            [sys.executable, "-c", NAPARI], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            for t in itertools.count():
                publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
                try:
                    viewer.wait(0.01)
                    break
                except subprocess.TimeoutExpired:
                    continue
            said, errors = viewer.communicate(timeout=30)
        finally:
            viewer.kill()
        assert viewer.returncode == 0, errors
        given, copied, ended = said.splitlines()
        assert given == "given a PublicOnlyProxy"
        assert "live (snapshot)" in copied
        assert ended == "napari has ended"
        assert "Traceback" not in errors
        assert "Warning" not in errors
        assert not rows_of(publisher)
        assert publisher.stats().balanced
