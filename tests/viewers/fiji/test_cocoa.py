"""As on macOS, where the main thread has to run Cocoa's event loop for Java's windows to open."""

import sys
import threading
from types import ModuleType

import pytest

from scopecast_viewers.fiji import cocoa


@pytest.fixture
def loops(monkeypatch: pytest.MonkeyPatch) -> list[threading.Thread]:
    """The threads that have run the event loop, of a PyObjC that is not there."""
    ran: list[threading.Thread] = []
    stopped = threading.Event()
    helper = ModuleType("PyObjCTools.AppHelper")
    helper.stopEventLoop = stopped.set
    helper.callAfter = lambda call: call()
    helper.runConsoleEventLoop = lambda maxTimeout: (ran.append(threading.current_thread()), stopped.wait(60))  # noqa: N803
    package = ModuleType("PyObjCTools")
    package.AppHelper = helper
    monkeypatch.setitem(sys.modules, "PyObjCTools", package)
    monkeypatch.setattr(cocoa, "_COCOA", True)
    return ran


def test_the_viewer_runs_beside_the_event_loop_of_the_main_thread(loops: list[threading.Thread]):
    worked: list[threading.Thread] = []
    cocoa.beside_event_loop(lambda: worked.append(threading.current_thread()))
    assert loops == [threading.main_thread()]
    assert worked != loops


def test_what_goes_wrong_in_it_ends_the_process_as_ever(loops: list[threading.Thread]):
    def fail() -> None:
        raise SystemExit("scopecast: no Java")

    with pytest.raises(SystemExit, match="no Java"):
        cocoa.beside_event_loop(fail)


def test_without_pyobjc_it_refuses_at_once_and_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cocoa, "_COCOA", True)
    monkeypatch.setitem(sys.modules, "PyObjCTools", None)
    with pytest.raises(SystemExit, match="pip install pyobjc-framework-Cocoa"):
        cocoa.beside_event_loop(lambda: pytest.fail("Java's windows would wait for ever"))
