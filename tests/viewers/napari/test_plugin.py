"""The plugin in the user's own napari: what its panel lists, what its buttons do, and what stays when it goes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from napari.utils.theme import get_theme
from npe2 import PluginManifest
from qtpy.QtGui import QTextDocument
from qtpy.QtWidgets import QMessageBox, QPushButton

from napari_buttons import odd_buttons
from napari_panel import Opened, rows_of, words
from receivers import check_stamp, stamped
from scopecast.link import messages
from scopecast.publishing.launch import python
from scopecast.rundir.directory import RunDirectory
from scopecast_viewers.listing import Listed
from scopecast_viewers.napari import sample
from scopecast_viewers.napari import snapshot as snapshot_module
from scopecast_viewers.napari.rows import StreamRow

SHAPE = (64, 48)
pytestmark = pytest.mark.timeout(180)

WINDOW = (900, 700)


@pytest.fixture
def opened(window, qtbot):
    made = Opened(window, qtbot)
    yield made
    made.end()


def test_the_manifest_is_valid_and_names_what_the_distribution_has():
    manifest = PluginManifest.from_distribution("scopecast")
    manifest.validate_imports()
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["Live streams"]
    assert [sample.display_name for sample in manifest.contributions.sample_data] == ["Simulated live stream"]


def test_a_napari_that_is_a_program_of_its_own_is_not_started_once_more_for_the_sample(monkeypatch):
    def start(command, **_):
        started.append(command[0])
        raise OSError

    started, this = [], python()
    monkeypatch.setattr(sample, "open_panel", lambda: None)
    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(sys, "executable", "napari.exe")
    with pytest.raises(OSError):  # noqa: PT011
        sample.simulated_stream()
    assert started == [this]


def test_streams_are_listed_by_name_attached_and_detached_one_by_one(opened):
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(opened.publisher(host="rig 2"))
        opened.until_row("cells", "waiting for frames")
        two = stack.enter_context(opened.publisher())
        opened.until_row("cells (2)", "waiting for frames")
        assert "rig 2" in words(opened.row("cells"))
        for t in range(5):
            one.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        opened.shown(one)
        opened.until_row("cells", "5 delivered · 0 superseded · 0 dropped")
        opened.until_row("cells", "old")
        assert check_stamp(opened.pixels("live")) == (4, 0, 0)

        # Detached: the layer stays, the other stream goes on.
        opened.click(opened.row("cells").button)
        opened.until_row("cells", "not attached")
        assert not rows_of(one)
        assert rows_of(two)
        assert opened.row("cells").button.text() == "Attach"
        assert check_stamp(opened.pixels("live")) == (4, 0, 0)
        opened.click(opened.row("cells").button)
        opened.until(lambda: rows_of(one))
        one.publish(stamped(5, 0, 0, SHAPE), axes={"t": 5})
        opened.shown(one)
        assert check_stamp(opened.pixels("live")) == (5, 0, 0)
        assert len(opened.viewer.layers) == 1

        # A third that comes when new ones are not to be attached is listed all the same.
        opened.panel.attach_to_new.setChecked(False)
        with opened.publisher("third", attached=False) as third:
            opened.until_row("third", "not attached")
            assert not rows_of(third)
            opened.click(opened.row("third").button)
            opened.until(lambda: rows_of(third))
        opened.until_row("third", "ended")
        assert not opened.row("third").button.isVisible()


def test_who_has_ended_is_listed_below_those_that_are_alive(opened):
    def listed():
        layout = opened.panel._list
        rows = [layout.itemAt(at).widget() for at in range(layout.count())]
        return [row.name.text() for row in rows if isinstance(row, StreamRow) and row.isVisible()]

    with contextlib.ExitStack() as stack:
        first = stack.enter_context(opened.publisher("first"))
        first.publish(stamped(0, 0, 0, SHAPE))
        opened.shown(first)
        opened.until(lambda: listed() == ["first"])  # of two that are new to the list, either may be the first
        stack.enter_context(opened.publisher("second"))
        opened.until(lambda: listed() == ["first", "second"])
        first.close()
        opened.until(lambda: listed() == ["second", "first"])
        stack.enter_context(opened.publisher("third"))
        opened.until(lambda: listed() == ["second", "third", "first"])
        places = [opened.row(name).y() for name in ("second", "third", "first")]
        assert places == sorted(set(places))


def test_a_producer_that_is_killed_stays_listed_with_its_last_frames(opened):
    producer = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, numpy as np\n"
            "from scopecast import Publisher\n"
            "p = Publisher('napari', policy='every', title='doomed', budget=8 * 2**20)\n"
            "p.open((64, 48), wait=10.0)\n"
            "for line in sys.stdin:\n"
            "    p.publish(np.full((64, 48), int(line), 'uint16'), axes={'t': int(line)}); p.flush()\n",
        ],
        stdin=subprocess.PIPE,
        text=True,
    )
    try:
        opened.until_row("doomed", "waiting for frames")
        for t in range(3):
            producer.stdin.write(f"{t}\n")
        producer.stdin.flush()
        opened.until_row("doomed", "3 delivered")
        opened.until(lambda: opened.viewer.layers and opened.viewer.layers[0].data.shape[0] == 3)
        os.kill(producer.pid, signal.SIGKILL)
        producer.wait(10)
        opened.until_row("doomed", "source lost")
        assert not opened.row("doomed").button.isVisible()
        layer = opened.viewer.layers[0]
        np.testing.assert_array_equal(np.asarray(layer.data)[:, 0, 0], [0, 1, 2])
    finally:
        producer.kill()
        producer.communicate()
    assert len(RunDirectory().clean().segments) == 1


def test_a_refusal_is_told_in_words(opened):
    hello = opened.receiver._hello
    opened.receiver._hello = messages.Hello(7, 9, hello.token, hello.kind, hello.pid, hello.title)
    with opened.publisher("newer", attached=False):
        opened.until_row("newer", "update scopecast in the acquisition")
        assert "refused" in words(opened.row("newer"))


@pytest.mark.usefixtures("unhurried")
def test_paused_the_picture_stays_and_frames_go_on_into_the_stack(opened):
    # The sliders follow the stream that came last.
    with opened.publisher("preview") as preview, opened.publisher("series") as series:
        preview.new_stream("preview")
        series.new_stream("series")
        preview.publish(stamped(50, 0, 0, SHAPE))
        opened.shown(preview)  # a single image that comes after a series would be left out
        for t in range(3):
            series.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        opened.shown(series)
        opened.until(lambda: opened.viewer.dims.point[0] == 2)
        opened.click(opened.panel.freeze)
        assert opened.panel.freeze.isChecked()
        for t in range(3, 6):
            preview.publish(stamped(50 + t, 0, 0, SHAPE))
            series.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        assert series.flush(10)
        assert preview.flush(10)
        # Whatever makes napari slice anew: the user refreshes a layer, or moves a slider back and forth.
        opened.viewer.layers["series"].refresh()
        assert check_stamp(opened.pixels("series")) == (2, 0, 0)
        opened.viewer.dims.set_point(0, 0)
        assert check_stamp(opened.pixels("preview")) == (50, 0, 0), "a preview is at the beginning of all axes"
        opened.viewer.dims.set_point(0, 2)
        assert check_stamp(opened.pixels("series")) == (2, 0, 0)
        assert opened.viewer.layers["series"].data.shape[0] == 3
        assert {stream.received for stream in opened.receiver.streams} == {6, 4}
        opened.click(opened.panel.freeze)
        opened.until(lambda: opened.viewer.dims.point[0] == 5)
        opened.shown(series)
        assert check_stamp(opened.pixels("series")) == (5, 0, 0)
        assert opened.panel.follow.isChecked()
        opened.viewer.dims.set_point(0, 0)
        assert not opened.panel.follow.isChecked()
        assert check_stamp(opened.pixels("preview")) == (55, 0, 0)


def test_marks_are_sent_from_the_panel_while_the_program_takes_them(opened):
    with opened.publisher("cells") as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        opened.shown(publisher)
        (button,) = [each for each in opened.panel.findChildren(QPushButton) if each.text() == "send to acquisition"]
        assert not button.isVisible()
        with publisher.marks(timeout=60) as listener:
            opened.until(button.isVisible)
            points = opened.viewer.add_points([[5.0, 7.0]], name="mine")
            opened.click(button)
            (mark,) = next(listener)
            assert mark.vertices.tolist() == [[5.0, 7.0]]
            opened.viewer.layers.remove(points)
        opened.until(lambda: not button.isVisible())


def test_a_snapshot_is_an_exact_copy_that_no_frame_touches(opened, monkeypatch):
    with opened.publisher() as publisher:
        publisher.new_stream("run", scale=(0.5, 0.5), units="um", steps={"z": 2.0})
        came = [(3, 0, 1), (3, 1, 1), (5, 0, 2), (4, 1, 1)]
        for t, c, z in came:
            publisher.publish(stamped(t, c, z, SHAPE), axes={"t": t, "c": f"ch{c}", "z": z})
        opened.shown(publisher)
        live = opened.viewer.layers["ch0 · run"]
        live.colormap, live.contrast_limits, live.gamma, live.rotate = "viridis", (5, 500), 0.8, 10
        opened.viewer.layers.selection = {live}
        expected = np.asarray(live.data).copy()
        assert expected.shape == (3, 2, *SHAPE)
        opened.panel.refresh()
        opened.view.tools.copy_run.trigger()
        opened.until(lambda: "ch0 · run (snapshot)" in opened.viewer.layers)
        copy = opened.viewer.layers["ch0 · run (snapshot)"]
        assert opened.viewer.layers.selection.active is live
        assert isinstance(copy.data, np.ndarray)
        assert copy.data.dtype == np.uint16
        for attribute in ("scale", "translate", "rotate", "contrast_limits", "contrast_limits_range", "gamma"):
            np.testing.assert_array_equal(getattr(copy, attribute), getattr(live, attribute), err_msg=attribute)
        assert copy.colormap.name == "viridis"
        assert copy.units == live.units
        assert copy.axis_labels == live.axis_labels
        for t, z in itertools.product(range(3, 6), (1, 2)):
            publisher.publish(stamped(t, 9, z, SHAPE), axes={"t": t, "c": "ch0", "z": z})
        opened.shown(publisher)
        np.testing.assert_array_equal(copy.data, expected)
        assert {check_stamp(plane) for plane in copy.data.reshape(-1, *SHAPE) if plane.any()} == {(3, 0, 1), (5, 0, 2)}
        assert len(opened.viewer.layers) == 3, "the other channel was not selected"

        # A big one is asked for first, with its size.
        monkeypatch.setattr(snapshot_module, "ASK_FROM", 10)
        asked = []

        def answer(_parent, _title, text):
            asked.append(text)
            return QMessageBox.StandardButton.No

        monkeypatch.setattr(QMessageBox, "question", answer)
        opened.until(lambda: not opened.view.tools.snapshots.busy)
        opened.view.tools.copy_run.trigger()
        assert len(asked) == 1
        assert "The copy takes 0.0 MiB of memory" in asked[0]
        assert len(opened.viewer.layers) == 3


def test_a_snapshot_of_a_run_that_has_just_begun_has_what_is_there(opened):
    with opened.publisher() as publisher:
        publisher.new_stream("run", sizes={"t": 5000, "z": 40}, steps={"z": 2.0})
        for t, z in ((0, 0), (2, 1)):
            publisher.publish(stamped(t, 0, z, SHAPE), axes={"t": t, "z": z})
        opened.shown(publisher)
        live = opened.viewer.layers["run"]
        assert live.data.shape == (5000, 40, *SHAPE), "the sliders reach to the end that is announced"
        opened.view.tools.copy_run.trigger()
        opened.until(lambda: "run (snapshot)" in opened.viewer.layers)
        copy = opened.viewer.layers["run (snapshot)"]
        assert copy.data.shape == (3, 2, *SHAPE)
        assert {index for index in np.ndindex(3, 2) if copy.data[index].any()} == {(0, 0), (2, 1)}
        assert check_stamp(copy.data[2, 1]) == (2, 0, 1)
        np.testing.assert_array_equal(copy.scale, live.scale)
        np.testing.assert_array_equal(copy.translate, live.translate)
        assert live.data.shape == (5000, 40, *SHAPE)


def test_a_snapshot_while_frames_come_is_of_one_moment(opened):
    with opened.publisher(policy="latest") as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        opened.shown(publisher)
        ended = threading.Event()

        def feed():
            for number in itertools.count(1):
                publisher.publish(stamped(number, 0, 0, SHAPE), axes={"t": number % 40})
                if ended.wait(0.002):
                    return

        feeder = threading.Thread(target=feed)
        feeder.start()
        try:
            opened.until(lambda: opened.viewer.layers[0].data.shape[0] == 40)
            opened.view.tools.copy_run.trigger()
            opened.until(lambda: len(opened.viewer.layers) == 2)
        finally:
            ended.set()
            feeder.join()
        stamps = [check_stamp(plane)[0] for plane in opened.viewer.layers[1].data]
        assert all(number % 40 == t for t, number in enumerate(stamps) if number)
        assert max(stamps) - min(number for number in stamps if number) < 80, "planes of different rounds"


def test_the_budget_is_changed_while_frames_are_there(opened):
    with opened.publisher() as publisher:
        for t in range(20):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        opened.shown(publisher)
        history = opened.receiver.history
        assert opened.panel.budget.value() * 2**30 == pytest.approx(history.budget, abs=2**30 / 100)
        opened.panel.budget.setValue(0.0)
        assert history.budget == 0
        opened.until(lambda: history.stats().resident_bytes <= 2 * 64 * 48 * 2)
        opened.view.set_following(False)
        for t in range(20):  # on the disk
            opened.viewer.dims.set_point(0, t)
            assert check_stamp(opened.pixels("live")) == (t, 0, 0)


def test_beside_the_user_s_own_layers_a_new_run_leaves_view_and_selection_alone(opened):
    viewer, camera = opened.viewer, opened.viewer.scene.camera
    mine = viewer.add_image(np.full((256, 256), 90, "uint8"), contrast_limits=(0, 255), name="mine")
    viewer.reset_view()
    view = (tuple(camera.center), camera.zoom)
    with opened.publisher(dtype="uint8") as publisher:
        for run in range(3):
            publisher.new_stream(f"run {run}")
            for t in range(2):
                publisher.publish(np.full(SHAPE, 200 + run, "uint8"), axes={"t": t})
            opened.shown(publisher)
            assert [layer.name for layer in viewer.layers] == ["mine", f"run {run}"], "the former ones leave"
            assert viewer.layers.selection.active is mine
            assert (tuple(camera.center), camera.zoom) == view
            viewer.layers[f"run {run}"].contrast_limits = (0, 255)
            opened.until(lambda: viewer.dims.point[0] == 1)
            picture = viewer.screenshot(canvas_only=True, flash=False)[..., 0]
            height, width = picture.shape
            assert int(picture[height // 2, width // 2]) == 90
            corner = (height / 2 - 120 * camera.zoom, width / 2 - 120 * camera.zoom)
            assert int(picture[round(corner[0]), round(corner[1])]) == 200 + run
        opened.panel.runs.fill()
        entries = [action for action in opened.panel.runs.runs.actions() if action.isCheckable()]
        assert [action.isChecked() for action in entries] == [True, False, False]
        entries[1].trigger()
        opened.until(lambda: "run 1" in viewer.layers)
        assert viewer.layers.selection.active is mine
        assert (tuple(camera.center), camera.zoom) == view


def test_a_name_is_no_markup(qtbot):
    name = "<i></i> & <img src='x'>"
    row = StreamRow({"text": "#ffffff", "faint": "#cccccc", "card": "#000000", "error": "#ff0000"})
    qtbot.addWidget(row)
    row.resize(600, 200)
    row.show_stream(Listed("abcdefgh", name, "", "napari", 1, "refused", "", 0.0, None, 0, 0, 0, f"refused: {name}"))
    row.show()
    shown = QTextDocument()
    shown.setHtml(row.toolTip())
    assert shown.toPlainText().splitlines()[0] == name
    for label in (row.name, row.problem):
        picture = label.grab().toImage()
        wide = max(x for x in range(picture.width()) if picture.pixelColor(x, picture.height() // 2).lightness() > 100)
        assert wide > label.fontMetrics().horizontalAdvance("<i></i> & <img"), "all of it is drawn"


def test_all_buttons_are_legible_and_have_the_look_of_the_theme(opened):
    """At the least width of the panel; whether they are down, have a menu, or both."""
    before = opened.viewer.theme
    opened.panel.resize(opened.panel.minimumSizeHint())
    with opened.publisher() as publisher:
        publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
        opened.shown(publisher)
        opened.until(lambda: opened.panel.snapshot.isEnabled())
        try:
            for theme in ("dark", "light"):
                opened.viewer.theme = theme
                colors = get_theme(theme)
                backgrounds = {color.as_hex(format="long") for color in (colors.primary, colors.current)}
                assert odd_buttons(opened.panel, backgrounds) == [], theme
        finally:
            opened.viewer.theme = before
