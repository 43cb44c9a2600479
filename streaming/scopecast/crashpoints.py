"""Steps at which the tests let this process die, as a power cut or the kernel's out-of-memory killer would."""

import os
import signal

__all__ = ["STEPS", "crash_point"]

#: Every step, in the order in which a publisher comes to them.
STEPS = (
    "joined",
    "segment-planned",
    "segment-made",
    "socket-bound",
    "ready",
    "slot-odd",
    "slot-copied",
    "frame-committed",
)

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
