"""What another machine publishes, on the screen of this one: first a preview, which says so, then exact pixels."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from children import wait_until
from desks import ConnectProcess, OtherMachine
from scopecast import Publisher
from scopecast.errors import ScopecastError
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("a shell", "unix sockets", "/dev/shm")
PREVIEW = "preview: the exact pixels are still on their way"
SHAPE = (512, 512)


@pytest.fixture
def machine() -> Iterator[OtherMachine]:
    with OtherMachine.made() as made:
        yield made


def picture(live) -> np.ndarray:
    return live.viewer.screenshot(canvas_only=True, flash=False)[..., :3].astype(int)


def halves(left: int, right: int) -> np.ndarray:
    """Noise that takes long to send, darker on one side."""
    noise = np.random.default_rng(7).integers(0, 200, SHAPE)
    return (noise + np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, left, right)).astype(np.uint16)


def test_what_is_looked_at_is_exact_before_what_is_not(live, machine):
    machine.slow_down(60_000)
    with (
        Publisher("napari", title="camera 1", budget=16 * 2**20) as camera,
        ConnectProcess(machine, "--viewer", "napari") as desk,
    ):
        with machine.there():
            camera.open(SHAPE, wait=30.0)
        desk.line("is live")
        wait_until(lambda: any(row.attached for row in camera.stats().receivers))
        camera.new_stream("run")
        camera.publish(halves(1000, 30_000), axes={"t": 0})
        live.until(lambda: len(live.viewer.layers) == 1)
        (stack,) = live.receiver.streams[0].stacks
        for t in range(1, 4):
            camera.publish(halves(1000 * t, 30_000), axes={"t": t})
            live.until(lambda t=t: (t,) in stack.layout.planes)
        live.view.set_following(False)
        live.viewer.dims.set_point(0, 1)
        live.until(lambda: not stack.tag((1,)).preview)
        assert stack.tag((2,)).preview
        desk.process.kill()
        live.viewer.dims.set_point(0, 2)
        live.until(lambda: live.view.hint() == "preview: the exact pixels had not come when the connection ended")
        RunDirectory().clean(everything=True)


def test_a_preview_of_another_machine_is_on_the_screen_and_then_the_exact_pixels(live, machine, tmp_path):
    machine.slow_down(25_000)
    sent = halves(1000, 30_000)
    with (
        Publisher("napari", title="camera 1", budget=16 * 2**20) as camera,
        ConnectProcess(machine, "--viewer", "napari") as desk,
    ):
        with machine.there():
            camera.open(SHAPE, wait=30.0)
        desk.line("is live")
        wait_until(lambda: any(row.attached for row in camera.stats().receivers))
        camera.new_stream("run")
        camera.publish(sent, axes={"t": 3})
        live.until(lambda: len(live.viewer.layers) == 1)
        live.until(lambda: live.view.hint() == PREVIEW)
        layer = live.viewer.layers[0]
        layer.contrast_limits = (0, 31_000)
        live.until(lambda: PREVIEW in live.view.status.text)
        for keep in (lambda: layer.save(str(tmp_path / "saved.tif")), lambda: copy.deepcopy(layer.data)):
            with pytest.raises(ScopecastError, match="neither saved nor copied: 1 of its planes"):
                keep()
        assert not any(tmp_path.glob("saved*")), "what was there is not replaced by nothing"

        def is_on_the_screen() -> bool:
            seen = picture(live)
            rows = seen[seen.shape[0] // 2 - 20 : seen.shape[0] // 2 + 20].max(axis=2)
            middle = rows.shape[1] // 2
            return rows[:, middle - 40 : middle - 10].mean() < 60 and rows[:, middle + 10 : middle + 40].mean() > 180

        live.until(is_on_the_screen)
        live.until(lambda: live.view.hint() == "")
        live.until(lambda: np.array_equal(live.shown(layer.name), sent))
        assert is_on_the_screen()
        live.until(lambda: PREVIEW not in live.view.status.text)
        (path,) = layer.save(str(tmp_path / "saved.tif"))
        np.testing.assert_array_equal(tifffile.imread(path).reshape(SHAPE), sent)
