"""How often a window looks at what is new."""

from typing import Final

__all__ = ["MAX_WAIT_S", "STATUS_S", "TICK_MS"]

TICK_MS: Final = 15
#: An update waits until the one before it is painted, but never longer than this: a steady stream is always painted.
MAX_WAIT_S: Final = 0.1
STATUS_S: Final = 0.25
