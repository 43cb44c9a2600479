"""A simulated acquisition without any hardware: crawling cells in two channels, as a live stream.

``python -m scopecast.demo.simulation`` publishes it until its frames are all, or its standard input closes.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast.publishing.publisher import Publisher

__all__ = ["CHANNELS", "PIXEL_UM", "Cells", "main"]

CHANNELS: Final = ("DAPI", "FITC")
PIXEL_UM: Final = 0.65
_OFFSET: Final = 100.0  # of the camera, in counts
_NOISE: Final = 6.0
_SPEED: Final = 1.1  # pixels a time point
_TURN: Final = 0.12  # radians a time point


class Cells:
    """Cells that crawl on a field, and turn back at its border.

    Parameters
    ----------
    size
        Pixels along each side of the field.
    count
        Number of cells.
    seed
        The same seed makes the same cells, and the same paths.
    """

    def __init__(self, size: int = 512, count: int = 22, seed: int = 7) -> None:
        self.size = size
        self._random = np.random.default_rng(seed)
        draw = self._random.uniform
        self._center = draw(0.08 * size, 0.92 * size, (count, 2))
        self._heading = draw(0, 2 * np.pi, count)
        self._radius = draw(15.0, 24.0, count)
        self._stretch = draw(1.1, 1.6, count)
        self._brightness = draw(0.5, 1.0, (count, len(CHANNELS)))
        self._phase = draw(0, 2 * np.pi, count)
        self._time = 0

    def step(self) -> None:
        """Move on by a time point."""
        self._time += 1
        self._heading += self._random.normal(0, _TURN, len(self._heading))
        step = np.stack([np.sin(self._heading), np.cos(self._heading)], axis=1)
        self._center += _SPEED * step
        outside = (self._center < 0.05 * self.size) | (self._center > 0.95 * self.size)
        inwards = np.sign(self.size / 2 - self._center)
        step = np.where(outside, inwards * np.abs(step), step)
        self._heading = np.arctan2(step[:, 0], step[:, 1])

    def image(self) -> npt.NDArray[np.uint16]:
        """Return what a camera sees now.

        Returns
        -------
        ndarray of uint16
            (channel, y, x): the nuclei, and the cells' bodies.
        """
        light = np.zeros((len(CHANNELS), self.size, self.size), np.float32)
        for cell in range(len(self._heading)):
            self._draw(cell, light)
        noise = self._random.normal(0, 1, light.shape).astype(np.float32)
        light += _OFFSET + noise * (_NOISE + 0.5 * np.sqrt(light))
        return np.clip(light, 0, 65535).astype(np.uint16)

    def _draw(self, cell: int, light: npt.NDArray[np.float32]) -> None:
        reach = int(self._radius[cell] * 2.6)
        y, x = self._center[cell]
        rows = slice(max(0, int(y) - reach), min(self.size, int(y) + reach))
        columns = slice(max(0, int(x) - reach), min(self.size, int(x) + reach))
        dy = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - y
        dx = np.arange(columns.start, columns.stop, dtype=np.float32) - x
        sine, cosine = np.sin(self._heading[cell]), np.cos(self._heading[cell])
        along, across = dx * cosine + dy * sine, dy * cosine - dx * sine
        # It breathes a little as it crawls.
        stretch = self._stretch[cell] + 0.12 * np.sin(0.25 * self._time + self._phase[cell])
        distance = np.hypot(along / stretch, across * stretch) / self._radius[cell]
        nucleus = np.exp(-((distance / 0.48) ** 4))
        grains = 0.85 + 0.15 * np.sin(along * 0.9 + self._phase[cell]) * np.sin(across * 0.9)
        body = np.exp(-((distance / 1.05) ** 4)) * (0.45 + 0.55 * np.exp(-(((distance - 0.95) / 0.22) ** 2)))
        light[0, rows, columns] += 3000 * self._brightness[cell, 0] * nucleus * grains
        light[1, rows, columns] += 2000 * self._brightness[cell, 1] * body * (1 - 0.7 * nucleus)


def publish(
    publisher: Publisher, *, title: str, size: int, timepoints: int, rate: float, ended: threading.Event
) -> int:
    """Publish a run.

    Parameters
    ----------
    publisher
        Whose viewers are to see it.
    title
        Of the run.
    size
        Pixels along each side.
    timepoints
        Number of time points, of a frame in each channel.
    rate
        Time points per second.
    ended
        Ends the run early.

    Returns
    -------
    int
        How many time points there were.
    """
    cells = Cells(size)
    publisher.new_stream(title, channels=CHANNELS, scale=(PIXEL_UM, PIXEL_UM), units="um")
    began = time.monotonic()
    for t in range(timepoints):
        for channel, frame in zip(CHANNELS, cells.image(), strict=True):
            publisher.publish(frame, axes={"t": t, "c": channel})
        cells.step()
        if ended.wait(max(0.0, began + (t + 1) / rate - time.monotonic())):
            return t + 1
    return timepoints


def _watch_input(ended: threading.Event) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    ended.set()


def main(arguments: list[str] | None = None) -> int:
    """Publish until all is published, or the standard input closes."""
    from scopecast.publishing.publisher import Publisher

    parser = argparse.ArgumentParser(prog="python -m scopecast.demo.simulation", description="Publish simulated cells.")
    parser.add_argument("--viewer", default="napari", help="the kind of viewer")
    parser.add_argument("--size", type=int, default=512, help="pixels along each side")
    parser.add_argument("--timepoints", type=int, default=900)
    parser.add_argument("--rate", type=float, default=10.0, help="time points per second")
    parser.add_argument("--title", default="Simulated cells")
    parser.add_argument("--wait", type=float, default=60.0, help="seconds to wait for a viewer before it begins")
    options = parser.parse_args(arguments)
    ended = threading.Event()
    threading.Thread(target=_watch_input, args=(ended,), name="scopecast-parent", daemon=True).start()
    with Publisher(options.viewer, title=options.title, host="scopecast simulation", budget=64 << 20) as publisher:
        publisher.open((options.size, options.size), "uint16")
        deadline = time.monotonic() + options.wait
        while not any(row.attached and row.kind == options.viewer for row in publisher.stats().receivers):
            if time.monotonic() > deadline or ended.wait(0.05):
                return 0
        publish(
            publisher,
            title="cells",
            size=options.size,
            timepoints=options.timepoints,
            rate=options.rate,
            ended=ended,
        )
        if ended.is_set():
            publisher.close(0.0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
