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

_armed = os.environ.get("SCOPECAST_FAULT")


def crash_point(step: str) -> None:
    """Kill this process here if the environment's ``SCOPECAST_FAULT`` names this step."""
    if _armed == step:
        os.kill(os.getpid(), signal.SIGKILL)
