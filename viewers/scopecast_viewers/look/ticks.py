"""How often a window looks at what is new, and tells of it."""

from typing import Final

__all__ = ["MAX_WAIT_S", "SLIDERS_MAX_S", "SLIDERS_MIN_S", "SLIDERS_REST", "STATUS_S", "TICK_MS"]

TICK_MS: Final = 15
#: An update waits until the one before it is painted, but never longer than this: a steady stream is always painted.
MAX_WAIT_S: Final = 0.1
STATUS_S: Final = 0.25
#: After a step of the sliders that took a while, the next one waits this many times as long, within these limits:
#: numbers that change faster can't be read.
SLIDERS_REST: Final = 5.0
SLIDERS_MIN_S: Final = 0.2
SLIDERS_MAX_S: Final = 0.5
