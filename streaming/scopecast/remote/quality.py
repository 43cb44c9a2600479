"""In which qualities a plane can cross to another machine, from exact pixels to a preview of a quarter of the size.

This module knows the list and the numbers that name its entries on the wire; `codec` makes and reads them, and `ladder`
chooses one for a link.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from scopecast.errors import ProtocolError

__all__ = ["EXACT", "LADDER", "Quality", "number_of", "quality_of"]


@dataclass(frozen=True, slots=True)
class Quality:
    """How a plane is encoded.

    Attributes
    ----------
    name : str
        What users see, such as ``"exact"`` or ``"half size, JPEG 85"``.
    step : int
        Pixels of the plane along each side of one pixel that is sent: 1, 2 or 4. Those of a block are averaged.
    jpeg : int or None
        The JPEG quality, 1 to 100, of pixels that have been companded to 8 bits; None for the pixels as they are.
    """

    name: str
    step: int = 1
    jpeg: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether every pixel arrives as it was."""
        return self.jpeg is None


EXACT: Final = Quality("exact")
#: All qualities, best first. The number of a quality on the wire is its index: the order is a part of the protocol.
LADDER: Final[tuple[Quality, ...]] = (
    EXACT,
    Quality("full size, JPEG 85", 1, 85),
    Quality("full size, JPEG 65", 1, 65),
    Quality("full size, JPEG 40", 1, 40),
    Quality("half size, JPEG 85", 2, 85),
    Quality("half size, JPEG 65", 2, 65),
    Quality("quarter size, JPEG 65", 4, 65),
)


def number_of(quality: Quality) -> int:
    """Return the number that names a quality of `LADDER` on the wire.

    >>> number_of(EXACT)
    0
    """
    return LADDER.index(quality)


def quality_of(number: int) -> Quality:
    """Return the quality that a peer names by its number.

    Raises
    ------
    ProtocolError
        If there is no such quality in this version.

    Examples
    --------
    >>> quality_of(6).step
    4
    """
    if not 0 <= number < len(LADDER):
        raise ProtocolError(
            f"there is no quality {number}, only 0 to {len(LADDER) - 1}: install the same scopecast on both machines"
        )
    return LADDER[number]
