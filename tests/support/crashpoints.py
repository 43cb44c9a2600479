"""Programs that die at a step of the producer's, as by a power cut or the kernel's out-of-memory killer.

``python crashpoints.py STEP[:TIMES] PROGRAM ARGUMENTS…`` runs a program that kills itself when it comes to the step, or
comes to it the given time. A step is the beginning or the end of a function of the product, which is wrapped before the
program begins: the product knows nothing of it.
"""

from __future__ import annotations

import functools
import importlib
import os
import runpy
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LAUNCH_STEPS", "STEPS"]


class Step(NamedTuple):
    """``before`` or ``after`` a function, which is called `name` in `module`."""

    when: str
    module: str
    name: str


def before(where: str) -> Step:
    return Step("before", *where.split(":"))


def after(where: str) -> Step:
    return Step("after", *where.split(":"))


#: Every step, in the order in which a publisher comes to them.
STEPS = {
    # The lock file is there, and held.
    "locked": after("scopecast.rundir.directory:Member._acquire"),
    # What it says of itself lies in another file than its entry.
    "drafted": before("pathlib:Path.replace"),
    "joined": after("scopecast.rundir.directory:RunDirectory.join"),
    # The entry names a segment that is not there yet.
    "segment-planned": before("scopecast.memory.ring:Ring.__init__"),
    # It is there, with no pages.
    "segment-created": before("scopecast.memory.posix:_allocate"),
    "segment-reserved": after("scopecast.memory.posix:_allocate"),
    "segment-mapped": after("scopecast.memory.posix:create"),
    # Its header is whole.
    "segment-made": after("scopecast.memory.ring:Ring.__init__"),
    "socket-made": before("scopecast.link.transport:bind"),
    "socket-bound": after("scopecast.publishing.receivers:Receivers.__init__"),
    # The entry does not say yet that the publisher can be reached.
    "ring-in-use": after("scopecast.publishing.receivers:Receivers.expect"),
    "ready": before("scopecast.publishing.early:EarlyFrames.move"),
    "slot-odd": after("scopecast.publishing.publisher:Publisher._claim"),
    "slot-copied": before("scopecast.publishing.publisher:Publisher._commit"),
    "frame-committed": after("scopecast.publishing.publisher:Publisher._commit"),
    # By a larger one; both have a name.
    "ring-replaced": before("scopecast.memory.ring:Ring.close"),
}
#: The steps of starting a viewer, which has a process of its own by the second.
LAUNCH_STEPS = {
    "launch-locked": before("scopecast.publishing.launch:_start"),
    "viewer-started": before("scopecast.publishing.launch:_await_ready"),
}


def crash(step: Step, times: int) -> None:
    """Wrap a step's function so that the process dies there, the given time."""
    *outer, name = step.name.split(".")
    owner: Any = functools.reduce(getattr, outer, importlib.import_module(step.module))
    function: Callable[..., Any] = getattr(owner, name)
    left = times

    def die() -> None:
        nonlocal left
        left -= 1
        if not left:
            # On Windows SIGTERM is no signal but the end: nothing of the process runs any more.
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if step.when == "before":
            die()
        result = function(*arguments, **named)
        if step.when == "after":
            die()
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    wanted, _, number = sys.argv[1].partition(":")
    crash((STEPS | LAUNCH_STEPS)[wanted], int(number or 1))
    sys.argv = sys.argv[2:]
    sys.path[0] = os.path.dirname(sys.argv[0])  # noqa: PTH120
    runpy.run_path(sys.argv[0], run_name="__main__")
