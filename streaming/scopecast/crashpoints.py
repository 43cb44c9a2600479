"""Steps at which tests kill this process, as a power cut or the kernel's out-of-memory killer would."""

import os
import signal

__all__ = ["LAUNCH_STEPS", "STEPS", "crash_point"]

#: Every step, in the order in which a publisher comes to them.
STEPS = (
    "locked",  # the lock file is there, and held
    "drafted",  # what it says of itself lies in another file than its entry
    "joined",
    "segment-planned",  # the entry names a segment that is not there yet
    "segment-created",  # it is there, with no pages
    "segment-reserved",
    "segment-mapped",
    "segment-made",  # its header is whole
    "socket-made",
    "socket-bound",
    "ring-in-use",  # the entry does not say yet that the publisher can be reached
    "ready",
    "slot-odd",
    "slot-copied",
    "frame-committed",
    "ring-replaced",  # by a larger one; both have a name
)
#: The steps of starting a viewer, which has a process of its own by the second.
LAUNCH_STEPS = ("launch-locked", "viewer-started")

_armed, _, _times = os.environ.get("SCOPECAST_FAULT", "").partition(":")
_left = int(_times or 1)


def crash_point(step: str) -> None:
    """Kill this process here if the environment's ``SCOPECAST_FAULT`` names this step.

    ``SCOPECAST_FAULT=slot-odd:20`` is the twentieth time that it comes here.
    """
    global _left
    if _armed == step:
        _left -= 1
        if not _left:
            # On Windows SIGTERM is no signal but the end: nothing of the process runs any more.
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
