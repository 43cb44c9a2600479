"""Make docs/images/plugin.png: the napari plugin with live streams, as a user sees it.

Run it from the repository's root, with a screen or without: ``python docs/pictures/plugin.py [FILE] [--theme light]``.
It starts three simulated acquisitions in processes of their own; one of them is killed while it is attached.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

IMAGES = Path(__file__).parent.parent / "images"
SIMULATION = (sys.executable, "-P", "-m", "scopecast.demo.simulation", "--title", "Plate 7, well B4")


def picture(path: Path, theme: str) -> None:
    """Save the picture of a napari window with the panel open."""
    import napari
    from qtpy.QtCore import QEventLoop, QTimer

    def wait(milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    def wait_until(condition: object, what: str) -> None:
        for _ in range(600):
            if condition():  # type: ignore[operator]
                return
            wait(50)
        raise TimeoutError(f"{what}: not within 30 s")

    viewer = napari.Viewer(title="napari")
    viewer.theme = theme
    viewer.window.resize(1280, 800)
    processes: list[subprocess.Popen[bytes]] = []

    def simulate(*arguments: str) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([*SIMULATION, *arguments], stdin=subprocess.PIPE))
        return processes[-1]

    try:
        viewer.open_sample("scopecast", "simulated")
        panel = viewer.window.dock_widgets["Live streams (scopecast)"]
        wait_until(lambda: len(panel.session.view.layers) == 2, "the simulated stream")
        panel.attach_to_new.setChecked(False)
        killed = simulate("--rate", "5", "--size", "128")
        wait_until(lambda: len(panel.session.receiver.publishers) == 2, "the second stream")
        panel.expect(killed.pid)
        wait_until(lambda: len(panel.session.receiver.sources) == 2, "the second stream, attached")
        wait_until(lambda: panel.session.receiver.sources[1].delivered > 20, "its frames")
        killed.kill()
        killed.wait()
        third = simulate("--size", "128")
        wait_until(lambda: third.pid in {each.pid for each in panel.session.receiver.publishers}, "the third stream")
        wait_until(lambda: panel.session.receiver.sources[1].state == "lost", "the end of the second stream")
        for live in panel.session.view.layers:
            if live.stream.state == "lost":
                live.layer.visible = False
        panel.session.view.set_following(True)
        wait_until(lambda: panel.session.receiver.sources[0].delivered > 160, "frames")
        wait(500)
        viewer.screenshot(str(path), canvas_only=False, flash=False)
    finally:
        viewer.close()
        for process in processes:
            process.kill()
            process.communicate()


def main() -> None:
    """Make the picture, in a process of its own: the screen must outlive it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=IMAGES / "plugin.png")
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        picture(options.file.absolute(), options.theme)
        return
    from scopecast.demo.virtual_screen import ensure_screen
    from scopecast.rundir.directory import RunDirectory

    with tempfile.TemporaryDirectory(prefix="sc-") as directory, ensure_screen():
        os.environ["SCOPECAST_RUNTIME_DIR"] = directory
        os.environ["NAPARI_CONFIG"] = str(Path(directory, "napari.yaml"))
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--here"], check=True)
        RunDirectory().clean()


if __name__ == "__main__":
    main()
