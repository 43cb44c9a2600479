"""A microscope with a sample, which does as it is told: Micro-Manager's demo core by pymmcore-plus, shown by `live()`.

A program of its own, ``python docs/pictures/_microscope.py TITLE SIDE``. Each line of its input is a command of
`Microscope` with its arguments, as JSON: ``["objective", "20X"]``. It answers ``done`` when viewers have all of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["CHANNELS", "RUNS", "Remote", "microscope", "sample"]

CHANNELS = ("DAPI", "FITC")
_LIVE_MS = 100.0
_OFFSET, _NOISE = 100.0, 3.0  # of the camera
_REACH_UM, _APART_UM = 4000.0, 34.0

#: Runs of a day, as arguments of ``useq.MDASequence``: a time lapse, a mosaic, and stacks at places far apart.
RUNS: dict[str, dict[str, Any]] = {
    "time lapse": {"time_plan": {"interval": 0, "loops": 3}, "channels": CHANNELS},
    "mosaic": {
        "grid_plan": {"rows": 2, "columns": 2},
        "channels": CHANNELS,
        "stage_positions": [{"x": 0.0, "y": 0.0, "z": 0.0}],
    },
    "wells": {
        "z_plan": {"range": 8, "step": 4},
        "channels": CHANNELS,
        "stage_positions": [
            {"x": 1500.0 * column, "y": -1500.0 * row, "z": 0.0, "name": f"{'BC'[row]}{column + 2}"}
            for row in range(2)
            for column in range(2)
        ],
    },
}


def sample(
    channel: str, stage: tuple[float, float, float], t: int, pixel_um: float, shape: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Return what is seen of the sample: cells, which crawl; nuclei in the first channel, bodies in the other.

    Parameters
    ----------
    channel
        One of `CHANNELS`.
    stage
        x, y and z of the middle of the picture in µm, with y upwards. Cells are in focus at z = 0.
    t
        Time point.
    pixel_um, shape
        Size of a pixel, and how many there are.
    """
    x0, y0, z = stage
    height, width = (extent * pixel_um for extent in shape)
    # A cell somewhere in each square of a lattice, so that all of the sample has some.
    rows, columns = (
        np.arange(np.floor((middle - extent / 2) / _APART_UM) - 1, np.ceil((middle + extent / 2) / _APART_UM) + 1)
        for middle, extent in ((-y0, height), (x0, width))
    )
    y = (np.arange(shape[0]) + 0.5) * pixel_um - height / 2 - y0
    x = (np.arange(shape[1]) + 0.5) * pixel_um - width / 2 + x0
    light = np.zeros(shape)
    blur, dim = 1 + 0.08 * abs(z), 1 / (1 + (z / 7) ** 2)
    for row in rows:
        for column in columns:
            random = np.random.default_rng((int(row) % 9973, int(column) % 9973))
            at = (np.array((row, column)) + random.uniform(0.2, 0.8, 2)) * _APART_UM + t * random.normal(0, 2.5, 2)
            radius, bright, turn, long = random.uniform((6, 0.5, 0, 1.0), (9, 1, np.pi, 1.6))
            reach = 2.5 * radius * long * blur
            ys, xs = (slice(*np.searchsorted(axis, (mid - reach, mid + reach))) for axis, mid in zip((y, x), at))  # noqa: B905
            dy, dx = (y[ys] - at[0])[:, None], x[xs] - at[1]
            along, across = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
            r = np.hypot(along / long, across) / (radius * blur)
            seen = np.exp(-((r / 0.55) ** 4)) if channel == CHANNELS[0] else np.exp(-(((r - 0.8) / 0.3) ** 2))
            light[ys, xs] = np.maximum(light[ys, xs], bright * seen)
    return _OFFSET + dim * (2600 if channel == CHANNELS[0] else 1400) * light


class Microscope:
    """Micro-Manager's demo core, whose camera sees the sample."""

    def __init__(self, side: int) -> None:
        import mm_test_adapters
        from pymmcore_plus import CMMCorePlus

        self.t = 0
        camera, random = self, np.random.default_rng(1)

        class Core(CMMCorePlus):
            """The camera's pictures are those of the sample."""

            def getImage(self, *_: Any, **_options: Any) -> npt.NDArray[np.uint16]:
                channel = self.getCurrentConfig("Channel")
                stage = (*self.getXYPosition(), self.getZPosition())
                light = sample(
                    channel if channel in CHANNELS else CHANNELS[0],
                    stage,
                    camera.t,
                    self.getPixelSizeUm(),
                    (side, side),
                )
                return (light + random.normal(0, _NOISE, light.shape)).clip(0).astype("uint16")

            def getLastImageAndMD(self, *_: Any, **_options: Any) -> tuple[npt.NDArray[np.uint16], Any]:
                return self.getImage(), super().getLastImageAndMD()[1]

        adapters = Path(mm_test_adapters.device_adapter_path())
        self.core = core = Core()
        core.setDeviceAdapterSearchPaths([str(adapters)])
        core.loadSystemConfiguration(str(adapters / "MMConfig_demo.cfg"))
        core.setProperty("Camera", "PixelType", "16bit")
        for axis in "XY":
            core.setProperty("Camera", f"OnCameraCCD{axis}Size", side)
        core.setExposure(_LIVE_MS)
        core.mda.engine.use_hardware_sequencing = False  # type: ignore[union-attr]
        core.mda.events.eventStarted.connect(lambda event: setattr(camera, "t", event.index.get("t", 0)))
        self.objective("10X")

    def objective(self, name: str) -> None:
        """Turn to another objective."""
        self.core.setConfig("Objective", name)
        self.core.waitForConfig("Objective", name)

    def move(self, x: float, y: float) -> None:
        """Move the stage."""
        self.core.setXYPosition(x, y)
        self.core.waitForDevice(self.core.getXYStageDevice())

    def watch(self, on: bool) -> None:
        """Begin live mode, or end it."""
        if on:
            self.core.setConfig("Channel", CHANNELS[0])
            self.t = 0
            self.core.startContinuousSequenceAcquisition(_LIVE_MS)
        else:
            self.core.stopSequenceAcquisition()

    def snap(self) -> None:
        """Take a picture."""
        self.core.snap()

    def run(self, title: str) -> None:
        """Do one of `RUNS`."""
        import useq

        self.core.run_mda(useq.MDASequence(**RUNS[title])).join()


def main(title: str, side: int) -> None:
    """Do what the lines of the input say, until it ends."""
    import scopecast

    scope = Microscope(side)
    with scopecast.live(scope.core, "napari", launch=False, policy="every", title=title, timeout=90) as live:
        live.publisher.open((side, side), "uint16", wait=90)
        print("done", flush=True)
        for line in sys.stdin:
            command, *arguments = json.loads(line)
            if command == "capture":
                live.publisher.capture(*arguments, 90)
            else:
                getattr(scope, command)(*arguments)
            live.flush(90)
            print("done", flush=True)
        scope.watch(False)
    scope.core.unloadAllDevices()


class Remote:
    """A microscope in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait(self) -> Self:
        """Wait until it has done what it was told."""
        assert self._process.stdout is not None
        if (said := self._process.stdout.readline().strip()) != "done":
            raise RuntimeError(f"the microscope said {said!r}")
        return self

    def tell(self, *command: Any) -> None:
        """Have it do something, and return at once."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def do(self, *command: Any) -> None:
        """Have it do something, and wait."""
        self.tell(*command)
        self.wait()


@contextmanager
def microscope(title: str, side: int) -> Iterator[Remote]:
    """Start a microscope, which ends with the block; wait for it before its first command."""
    command = [sys.executable, __file__, title, str(side)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Remote(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
