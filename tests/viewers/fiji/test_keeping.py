"""Plugins ▸ scopecast ▸ Keep the last …: while a recorder keeps the past, the entry has it written."""

from __future__ import annotations

import tifffile

from receivers import check_stamp, stamped
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.recording.recorder import Recorder
from scopecast_viewers.recording.tap import Tap


def test_the_entry_has_the_last_seconds_written(live, tmp_path):
    menu = live.display.menu.menu

    def entry():
        items = (menu.getItem(number) for number in range(menu.getItemCount()))
        return next(item for item in items if str(item.getLabel()).startswith("Keep"))

    said: list[str] = []
    tap = Tap(title="camera 1", keeps="10min")
    recorder = Recorder(tap, tmp_path, ".ome.tiff", memory=2**20, leave_free=0, last_s=600.0, tell=said.append)
    with live.publisher(title="camera 1") as publisher:
        assert live.on_awt(lambda: (str(entry().getLabel()), entry().isEnabled())) == ("Keep the last seconds", False)
        with recorder:
            live.until(lambda: entry().isEnabled())
            assert str(entry().getLabel()) == "Keep the last 10min"
            live.until(lambda: sum(row.attached for row in publisher.stats()) == 2)
            for t in range(3):
                publisher.publish(stamped(t), axes={"t": t})
            live.settled(publisher)
            event = java("java.awt.event.ActionEvent")
            live.on_awt(lambda: entry().dispatchEvent(event(entry(), event.ACTION_PERFORMED, "keep")))
            assert "scopecast: the recorder writes the last seconds to files" in live.told
            live.until(lambda: said)
        live.until(lambda: not entry().isEnabled())
    (path,) = tmp_path.iterdir()
    assert said[0].endswith(f"of live: 3 frames in {path.name}.")
    with tifffile.TiffFile(path) as file:
        assert [check_stamp(page.asarray()) for page in file.pages] == [(t, 0, 0) for t in range(3)]
