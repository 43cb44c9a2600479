"""Our own displays, by the contract that every display is held to; each in a process of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from scopecast.testing import DisplayContract

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(180)


class TestHeadless(DisplayContract):
    kind = "headless"
    has_window = False


@pytest.mark.fault("V5")
class TestNapari(DisplayContract):
    """A napari window, by the contract of every viewer: at its end it says goodbye."""

    kind = "napari"


@pytest.mark.fault("V5")
class TestFiji(DisplayContract):
    """An ImageJ, by the contract of every viewer: at its end it says goodbye."""

    kind = "fiji"

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def preferences(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Keep ImageJ's preferences out of the home of whoever runs the tests."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(
                "SCOPECAST_JAVA_OPTIONS",
                f"{os.environ['SCOPECAST_JAVA_OPTIONS']} -Duser.home={tmp_path_factory.mktemp('imagej')}",
            )
            yield
