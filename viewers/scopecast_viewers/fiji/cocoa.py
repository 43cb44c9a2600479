"""macOS opens windows only for a process whose main thread runs Cocoa's event loop; elsewhere nothing needs it."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["beside_event_loop"]

_COCOA = sys.platform == "darwin"
#: The loop comes back to Python so often, which then handles signals such as SIGTERM.
_LOOP_S = 0.2


def beside_event_loop(work: Callable[[], None]) -> None:
    """Do what opens windows of Java, and return when it is done.

    On macOS it is done in a thread of its own, as the main thread has to run the event loop (what
    ``jpype.setupGuiEnvironment`` does once Java runs; here Java is started by `work`).

    Raises
    ------
    SystemExit
        On macOS, if PyObjC is not installed: every window of Java would wait for ever.
    """
    if not _COCOA:
        work()
        return
    try:
        from PyObjCTools import AppHelper
    except ImportError:
        raise SystemExit("scopecast: on macOS ImageJ needs PyObjC: pip install pyobjc-framework-Cocoa") from None
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)
        finally:
            AppHelper.callAfter(AppHelper.stopEventLoop)

    thread = threading.Thread(target=run, name="scopecast-imagej", daemon=True)
    thread.start()
    AppHelper.runConsoleEventLoop(maxTimeout=_LOOP_S)
    thread.join()
    if raised:
        raise raised[0]
