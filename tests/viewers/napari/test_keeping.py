"""The button "keep the last …": there while a recorder keeps the past, which it writes when the button is clicked."""

from __future__ import annotations

import tifffile
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPushButton

from receivers import check_stamp, stamped
from scopecast_viewers.recording.recorder import Recorder
from scopecast_viewers.recording.tap import Tap


def test_a_click_has_the_last_seconds_written(live, tmp_path):
    said: list[str] = []
    tap = Tap(title="camera 1", keeps="10min")
    recorder = Recorder(tap, tmp_path, ".ome.tiff", memory=2**20, leave_free=0, last_s=600.0, tell=said.append)
    with live.publisher(title="camera 1") as publisher:
        assert not live.view.tools.keep.isVisible()
        with recorder:
            live.until(lambda: live.view.tools.keep.isVisible())
            live.until(lambda: sum(row.attached for row in publisher.stats()) == 2)
            for t in range(3):
                publisher.publish(stamped(t), axes={"t": t})
            (button,) = [
                each
                for each in live.view.window.findChildren(QPushButton)
                if each.text() == "keep the last 10min" and each.isVisible()
            ]
            live.qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
            live.until(lambda: said)
        live.until(lambda: not button.isVisible())
    (path,) = tmp_path.iterdir()
    assert said[0].endswith(f"of live: 3 frames in {path.name}.")
    with tifffile.TiffFile(path) as file:
        assert [check_stamp(page.asarray()) for page in file.pages] == [(t, 0, 0) for t in range(3)]
