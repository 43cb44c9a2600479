"""Take the picture of the live view's tools, on a screen that is there: ``python docs/pictures tools``."""

from __future__ import annotations

import sys
import threading

import numpy as np

from scopecast import Publisher

SHAPE, TIMES, CHANNELS = (512, 512), 24, ("DAPI", "FITC")


def cells() -> tuple[np.ndarray, np.ndarray]:
    """Return where the cells are, and frames of them as (t, c, y, x)."""
    random = np.random.default_rng(1)
    places = random.uniform(20, 490, (60, 2))
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    spots = np.exp([-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 162 for at in places])
    frames = random.normal(100, 8, (TIMES, len(CHANNELS), *SHAPE))
    for t, c in np.ndindex(frames.shape[:2]):
        phases = t / 4 + np.arange(len(places[c::2]))
        frames[t, c] += np.tensordot(800 + 600 * np.sin(phases), spots[c::2], 1)
    return places, frames.astype("uint16")


def main(path: str) -> None:
    import napari
    from qtpy.QtCore import QEventLoop, QTimer

    from scopecast_viewers.napari.display import WINDOW, NapariDisplay
    from scopecast_viewers.receiver import Receiver

    def wait(milliseconds: int) -> None:
        loop = QEventLoop()
        QTimer.singleShot(milliseconds, loop.quit)
        loop.exec()

    places, frames = cells()
    over = threading.Event()

    def publish() -> None:
        with Publisher("napari", title="demo", policy="every") as publisher:
            publisher.open(SHAPE, "uint16", wait=60)
            publisher.new_stream("demo", channels=CHANNELS, scale=0.65)
            for t, c in np.ndindex(frames.shape[:2]):
                publisher.publish(frames[t, c], axes={"t": t, "c": CHANNELS[c]})
                over.wait(0.05)
            over.wait(120)

    viewer = napari.Viewer()
    viewer.window.resize(*WINDOW)
    display = NapariDisplay()
    receiver = Receiver(display)
    view = display.show_in(viewer, receiver)
    receiver.start()
    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        while view.followed is None or view.followed.received < frames[:, :, 0, 0].size or view.layers.incomplete:
            wait(50)
        for action in (view.tools.crosshair, view.tools.grid, view.tools.measure):
            action.trigger()
        shapes = viewer.layers["measure"]
        for y, x in places[[0, 5]]:
            shapes.add_ellipses(np.array([(y - 14, x - 14), (y - 14, x + 14), (y + 14, x + 14), (y + 14, x - 14)]))
        shapes.add_lines(np.array([places[2] - (0, 40), places[2] + (6, 40)]))
        shapes.mode, shapes.selected_data = "pan_zoom", set()
        wait(2000)
        viewer.screenshot(path, canvas_only=False, flash=False)
    finally:
        over.set()
        publisher.join()
        view.close()
        receiver.close()


if __name__ == "__main__":
    main(sys.argv[1])
