"""Colours of channels, for every viewer: what the publisher says, else what the channel's name usually means."""

from __future__ import annotations

from typing import Final

__all__ = ["GRAY", "channel_color"]

GRAY: Final = "#ffffff"
#: Colours that add up legibly, in the order in which channels without a telling name get them.
_PALETTE: Final = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00", "#ff0000", "#4080ff")
#: Dyes and filter names, by the colour that microscopists show them in.
_NAMES: Final = {
    "#4080ff": ("dapi", "hoechst", "bfp", "405"),
    "#00ffff": ("cfp", "cyan", "445"),
    "#00ff00": ("gfp", "egfp", "fitc", "alexa488", "alexa 488", "488"),
    "#ffff00": ("yfp", "venus", "cy3", "514"),
    "#ff8000": ("tritc", "orange", "546"),
    "#ff0000": ("rfp", "mcherry", "rhodamine", "texas red", "texasred", "561", "594"),
    "#ff00ff": ("cy5", "far red", "farred", "640", "647"),
    GRAY: ("bf", "brightfield", "dic", "phase", "transmitted", "tl"),
}
_COLOR_OF: Final = {name: color for color, names in _NAMES.items() for name in names}


def channel_color(name: str, index: int, count: int, announced: str = "") -> str:
    """Return the colour to show a channel in.

    Parameters
    ----------
    name
        The channel's name.
    index, count
        Which of how many channels it is.
    announced
        What the publisher says, or ``""``.

    Returns
    -------
    str
        ``#rrggbb``, or what was announced.

    Examples
    --------
    >>> channel_color("DAPI", 0, 3)
    '#4080ff'
    >>> channel_color("0", 0, 1)
    '#ffffff'
    >>> channel_color("1", 1, 2)
    '#ff00ff'
    """
    if announced:
        return announced
    if known := _COLOR_OF.get(name.strip().lower()):
        return known
    return GRAY if count < 2 else _PALETTE[index % len(_PALETTE)]
