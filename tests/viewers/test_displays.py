"""Our own displays, by the contract that every display is held to; each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
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


#: A main thread that waits for ever, and a signal that the system gives to another one.
SIGNALLED = """
import queue, signal, threading, time
from scopecast_viewers.__main__ import when_told_to_end
told = queue.SimpleQueue()
when_told_to_end(lambda: told.put("told"))
def other():
    time.sleep(0.3)  # the main thread waits
    signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
threading.Thread(target=other).start()
print(told.get())
"""


@pytest.mark.needs("signals")
def test_a_signal_that_another_thread_is_given_ends_a_viewer():
    command = [sys.executable, "-P", "-c", SIGNALLED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "told\n"
