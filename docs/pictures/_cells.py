"""Simulated cells, and a napari that shows what is published, for the pictures of the manual."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from scopecast import Publisher
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.publishing.launch import end_viewer, find_or_start_viewer
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

__all__ = ["cells", "napari_viewer", "napari_window"]


def cells(
    shape: tuple[int, int], count: int, seed: int, *, drift: float = 0.0, radius: float = 7.0
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Return nuclei, and the cells around them, moved by some pixels each: two channels with the noise of a camera."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[: shape[0], : shape[1]]
    nuclei, bodies = np.zeros(shape), np.zeros(shape)
    for _ in range(count):
        at, way = random.uniform((0, 0), shape), random.normal(0, drift, 2) if drift else (0, 0)
        size, bright, turn = radius * random.uniform(0.8, 1.25), random.uniform(0.5, 1), random.uniform(0, np.pi)
        dy, dx = y - at[0] - way[0], x - at[1] - way[1]
        u, v = dy * np.cos(turn) + dx * np.sin(turn), 0.7 * (dx * np.cos(turn) - dy * np.sin(turn))
        r = np.hypot(u, v)
        nuclei = np.maximum(nuclei, bright / (1 + np.exp((r - size) / 0.8)))
        bodies = np.maximum(bodies, bright * np.exp(-(((r - 1.4 * size) / (0.8 * size)) ** 2)))
    noise = np.random.default_rng(seed + 1)
    made = [noise.normal(120 + 2400 * each, 12 + 25 * np.sqrt(each)) for each in (nuclei, 0.8 * bodies)]
    return made[0].clip(0, 65535).astype("uint16"), made[1].clip(0, 65535).astype("uint16")


@contextmanager
def napari_viewer() -> Iterator[None]:
    """Have a napari of our own open, on a screen, within the block."""
    directory = RunDirectory()
    with ensure_screen():
        viewer = find_or_start_viewer(directory, "napari", timeout=90)
        try:
            yield
        finally:
            end_viewer(viewer, directory, 10.0)


@contextmanager
def napari_window(title: str, path: str) -> Iterator[Publisher]:
    """Give a publisher whose frames are shown in a napari of their own, of which a picture is taken at the end."""
    with napari_viewer(), Publisher("napari", title=title, launch=False, policy="every", timeout=90) as publisher:
        publisher.open((512, 512), "uint16", wait=90)
        yield publisher
        publisher.flush(90)
        publisher.capture(path, 90)
