"""A real napari window that the tests of a module share, and a live view in it for each test."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import napari
import pytest

from napari_live import Live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast_viewers.stacks.history import History


@pytest.fixture(scope="module")
def window(qapp: Any, request: pytest.FixtureRequest) -> Iterator[napari.Viewer]:
    """The window, small, as pixels cost time; a module whose tests need a larger one names its size as WINDOW."""
    viewer = napari.Viewer(show=True)
    viewer.window.resize(*getattr(request.module, "WINDOW", (760, 600)))
    # As the display does: napari collects garbage whenever a layer goes, through all that the tests have imported.
    gc.collect()
    gc.freeze()
    yield viewer
    gc.unfreeze()
    viewer.close()
    qapp.processEvents()
    gc.collect()
    gc.freeze()


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program counts as idle, however long a busy machine takes between two of its frames."""
    monkeypatch.setattr("scopecast_viewers.napari.scene.IDLE_S", 60.0)


@pytest.fixture
def live(window: napari.Viewer, qtbot: Any) -> Iterator[Live]:
    gc.freeze()  # what former tests have left
    made = Live(window, qtbot)
    yield made
    made.close()


@pytest.fixture
def live_with(window: napari.Viewer, qtbot: Any) -> Iterator[Any]:
    """A live view with a history of the test's own."""
    made: list[Live] = []

    def make(history: History) -> Live:
        made.append(Live(window, qtbot, history))
        return made[0]

    yield make
    for each in made:
        each.close()
