"""A real ImageJ that all tests of the session share (a process can start Java only once), and a live view for each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fiji_folder import make_fiji, make_pyimagej_jars
from fiji_live import LiveFiji, start_imagej

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from scopecast_viewers.stacks.history import History


@pytest.fixture(scope="session")
def imagej(screen: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return start_imagej(str(tmp_path_factory.mktemp("imagej")))


@pytest.fixture
def live(imagej: Any) -> Iterator[LiveFiji]:
    made = LiveFiji(imagej)
    yield made
    made.close()


@pytest.fixture
def live_with(imagej: Any) -> Iterator[Any]:
    """A live view with a history of the test's own."""
    made: list[LiveFiji] = []

    def make(history: History) -> LiveFiji:
        made.append(LiveFiji(imagej, history))
        return made[0]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def stock_fiji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with as much as a stock Fiji has; not to be changed."""
    return make_fiji(tmp_path_factory.mktemp("stock") / "Fiji")


@pytest.fixture(scope="session")
def maven_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Maven would have kept what PyImageJ needs beside a stock Fiji; not to be changed."""
    repository = tmp_path_factory.mktemp("maven") / "repository"
    make_pyimagej_jars(repository)
    return repository
