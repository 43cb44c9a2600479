"""Colours of channels and of marks, for every viewer: what the publisher says, else what a name usually means.

What a name means is `cmap`'s, so that it means the same in every viewer.
"""

from __future__ import annotations

import difflib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from cmap import Color, Colormap

if TYPE_CHECKING:
    import numpy.typing as npt

    from scopecast.frames.documents import Style
    from scopecast.link.messages import Stream

__all__ = [
    "GRAY",
    "YELLOW",
    "channel_color",
    "channel_colormap",
    "color_problem",
    "colormap_of",
    "known_style",
    "plain_color",
    "table_of",
]

logger = logging.getLogger(__name__)

GRAY: Final = "#ffffff"
#: ImageJ's own colour for a selection that has none.
YELLOW: Final = "#ffff00"
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


@lru_cache(maxsize=1024)
def plain_color(text: str) -> str:
    """Return a colour as ``#rrggbb`` or ``#rrggbbaa``, ``""`` if there is none of this name.

    Parameters
    ----------
    text
        As CSS has it: ``#rrggbb``, ``#rrggbbaa``, ``rgb(255, 0, 170)``, ``"hotpink"``; or a dye.
    """
    try:
        return str(Color(_COLOR_OF.get(text.strip().lower(), text)).hex).lower()
    except ValueError:
        return ""


@lru_cache(maxsize=1024)
def colormap_of(text: str) -> Colormap | None:
    """Return the colormap of a name, or from black to a colour; None, and a line in the log, if there is neither.

    Parameters
    ----------
    text
        A colormap's name in `cmap`'s catalog, such as ``"viridis"`` or ``"imagej:fire"``, or a colour as `plain_color`
        takes it. What is both, such as ``"green"``, is the colormap.
    """
    name = text.strip()
    if name.lower() not in _COLOR_OF and not name.startswith("#"):  # the catalog takes a while to be read
        try:  # resolved, as cmap would log that other collections have one of the same name
            reverse = "_r" if name.lower().endswith("_r") else ""
            return Colormap(Colormap.catalog().resolve(name[: len(name) - len(reverse)]) + reverse)
        except KeyError:
            pass
    if color := plain_color(name):
        return Colormap(["black", color[:7]], name=color[:7])
    _unknown(text)
    return None


@lru_cache(maxsize=1024)
def _unknown(text: str) -> str:
    """Return what is said of a colour that is not known; the first time, log it."""
    names = {*_COLOR_OF, *(name.lower() for name in Colormap.catalog().short_keys())}
    close = difflib.get_close_matches(text.strip().lower(), names, 1)
    hint = (
        f"did you mean {close[0]!r}?" if close else "give #rrggbb, or the name of a colour (CSS) or a colormap (cmap)"
    )
    problem = f"the colour {text!r} is not known: {hint}"
    logger.warning("%s", problem)
    return problem


def color_problem(about: Stream) -> str:
    """Return which of a stream's colours are not known, and what may have been meant; or ``""``."""
    return "; ".join(_unknown(text) for text in dict.fromkeys(about.colors) if text and colormap_of(text) is None)


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
        ``#rrggbb``, or what was announced, if that is known.

    Examples
    --------
    >>> channel_color("DAPI", 0, 3)
    '#4080ff'
    >>> channel_color("0", 0, 1)
    '#ffffff'
    >>> channel_color("1", 1, 2)
    '#ff00ff'
    """
    if announced and colormap_of(announced):
        return announced
    if known := _COLOR_OF.get(name.strip().lower()):
        return known
    return GRAY if count < 2 else _PALETTE[index % len(_PALETTE)]


def channel_colormap(about: Stream, channel: int, seen: int) -> Colormap:
    """Return the colormap to show a channel in.

    Parameters
    ----------
    about
        The announcement of its stream.
    channel
        Its index on the axis ``"c"``.
    seen
        How many channels have come.
    """
    labels = about.labels.get("c", ())
    name = labels[channel] if channel < len(labels) else ""
    announced = about.colors[channel] if channel < len(about.colors) else ""
    made = colormap_of(channel_color(name, channel, max(seen, len(labels)), announced))
    assert made is not None  # our own are known
    return made


def table_of(colormap: Colormap) -> npt.NDArray[np.uint8]:
    """Return the 256 colours of a colormap, (256, 3): red, green, blue."""
    return np.rint(255 * np.asarray(colormap(np.linspace(0, 1, 256)))[:, :3]).astype(np.uint8)


def known_style(style: Style) -> Style:
    """Return a style with its colours as `plain_color` has them; those that are not known are left out, and logged."""
    known = {name: plain_color(getattr(style, name)) for name in ("color", "edge_color")}
    for name, color in known.items():
        if not color and getattr(style, name):
            _unknown(getattr(style, name))
    return msgspec.structs.replace(style, **known)
