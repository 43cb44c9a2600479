"""Colours of channels and of marks, for every viewer: what the publisher says, else what a name usually means.

What a name means is `cmap`'s, so that it means the same in every viewer.
"""

from __future__ import annotations

import colorsys
import difflib
import itertools
import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from cmap import Color, Colormap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from scopecast.frames.documents import Style
    from scopecast.link.messages import Stream

__all__ = [
    "GRAY",
    "MARKED",
    "YELLOW",
    "channel_colormap",
    "channel_colors",
    "color_problem",
    "colormap_of",
    "dye_color",
    "known_style",
    "plain_color",
    "table_of",
]

logger = logging.getLogger(__name__)

GRAY: Final = "#ffffff"
#: ImageJ's own colour for a selection that has none.
YELLOW: Final = "#ffff00"
#: 256 grays, (256, 3), but red for the highest: it marks saturated pixels.
MARKED: Final = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
MARKED[-1] = (255, 0, 0)
#: Colours that add up legibly, in the order in which channels without a telling name get them.
_PALETTE: Final = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00", "#ff0000", "#4080ff", "#ff8000", "#00ff80", "#a050ff")
_BLUE, _CYAN, _GREEN, _YELLOW, _ORANGE, _RED, _FAR_RED = (
    *("#4080ff", "#00ffff", "#00ff00", "#ffff00", "#ff8000", "#ff0000", "#ff00ff"),
)
#: Names of colours here that mean something else, or nothing, in CSS.
_NAMES: Final = {"orange": _ORANGE, "cyan": _CYAN, "far red": _FAR_RED, "farred": _FAR_RED}
#: Dyes, proteins and filters, by the colour that microscopists show them in; the first that a name has in it counts.
_DYES: Final = [
    (color, re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])"))
    for color, pattern in (
        (GRAY, r"bf|bright ?field|dark ?field|dic|nomarski|phase( ?contrast)?|ph ?[1-3]|trans(mitted|mission)?"),
        (GRAY, r"t?pmt|tl|reflect(ed|ion)|widefield transmitted"),
        (_FAR_RED, r"s?m?irfp|mi(rfp)?rfp|cy ?(5|7)([. ]?5)?|(far|deep) ?red|near ?infra ?red|nir|draq ?[57]|apc|sir"),
        (_BLUE, r"dapi|hoechst|[em]{0,2}(tag)?bfp|cascade blue|pacific blue"),
        (_CYAN, r"[em]{0,2}cfp|m?cerulean|m?turquoise|m?tfp"),
        (_GREEN, r"(m|e|me|sf|msf|pa|td)?gfp|fitc|fluorescein|j?gcamp|fluo|calcein|oregon green|bodipy|sybr|cal"),
        (_GREEN, r"(m|td)?(neon|stay)(green|gold)|m?clover|m?emerald|zsgreen|sytox green|mitotracker green"),
        (_YELLOW, r"[em]{0,2}yfp|m?venus|m?citrine|cy ?3(?![. ]?5)"),
        (_ORANGE, r"tritc|cy ?3[. ]?5|m?ko|m?orange|phycoerythrin|pe"),
        (_RED, r"(m|td|e|tag)?rfp|m?cherry|m?scarlet|(td|dt)?tomato|m?ruby|m?kate|(ds|hc)red|te?xa?s? ?red|tx ?r(ed)?"),
        (_RED, r"rhod(amine)?|j?rgeco|r-?geco|rcamp|m?plum|m?apple|propidium( iodide)?|pi|mitotracker red|evans blue"),
        (_BLUE, "blue"),
        (_CYAN, "cyan"),
        (_GREEN, "green"),
        (_YELLOW, "yellow"),
        (_ORANGE, "orange"),
        (_RED, "red"),
    )
]
#: Wavelengths in nm: of light that excites, of lasers, and in the names of dyes (Alexa 568); each up to a limit.
_WAVELENGTHS: Final = ((430, _BLUE), (465, _CYAN), (506, _GREEN), (540, _YELLOW), (560, _ORANGE), (625, _RED))
_NUMBER: Final = re.compile(r"(?<!\d)[3-8]\d\d(?!\d)")


@lru_cache(maxsize=1024)
def dye_color(name: str) -> str:
    """Return the colour in which microscopists show a dye, a protein, a laser line or transmitted light.

    Parameters
    ----------
    name
        As they write it, with whatever else: ``"Widefield DAPI"``, ``"AF647"``, ``"488 nm"``, ``"H2B-mScarlet"``.

    Returns
    -------
    str
        ``#rrggbb``; ``""`` if the name tells nothing.

    Examples
    --------
    >>> dye_color("Alexa 568"), dye_color("TxRed"), dye_color("Camera 1")
    ('#ff0000', '#ff0000', '')
    """
    words = re.sub(r"[^a-z0-9.]+", " ", name.lower())
    for color, pattern in _DYES:
        if pattern.search(words):
            return color
    for found in _NUMBER.findall(words):
        if 350 <= (wavelength := int(found)) <= 850:
            return next((color for limit, color in _WAVELENGTHS if wavelength < limit), _FAR_RED)
    return ""


@lru_cache(maxsize=1024)
def plain_color(text: str) -> str:
    """Return a colour as ``#rrggbb`` or ``#rrggbbaa``, ``""`` if there is none of this name.

    Parameters
    ----------
    text
        As CSS has it: ``#rrggbb``, ``#rrggbbaa``, ``rgb(255, 0, 170)``, ``"hotpink"``; or a dye.
    """
    try:
        return str(Color(_NAMES.get(text.strip().lower(), text)).hex).lower()
    except ValueError:
        return dye_color(text)


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
    if name.lower() not in _NAMES and not name.startswith("#"):  # the catalog takes a while to be read
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
    names = {*_NAMES, *(name.lower() for name in Colormap.catalog().short_keys())}
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


def channel_colors(names: Sequence[str], announced: Sequence[str] = ()) -> list[str]:
    """Return the colours to show channels in; no two have the same, unless the publisher says so.

    What is announced comes first, then what the names mean. Of two that mean the same, the later gets another one.

    Parameters
    ----------
    names
        Of the channels.
    announced
        What the publisher says of each; ``""``, or less of them, where it says nothing.

    Returns
    -------
    list of str
        ``#rrggbb``, or what was announced, if that is known.

    Examples
    --------
    >>> channel_colors(["DAPI", "GFP", "FITC"])
    ['#4080ff', '#00ff00', '#ff00ff']
    >>> channel_colors(["0"]), channel_colors(["0", "1"])
    (['#ffffff'], ['#00ff00', '#ff00ff'])
    """
    colors = [color if color and colormap_of(color) else "" for color in announced[: len(names)]]
    colors += [""] * (len(names) - len(colors))
    taken = {str(made(1.0).hex).lower() for color in colors if color and (made := colormap_of(color))}
    for at, name in enumerate(names):
        if not colors[at] and (known := dye_color(name)) and known not in taken:
            colors[at] = known
            taken.add(known)
    if len(names) == 1 and not colors[0]:
        return [GRAY]
    free = (color for color in itertools.chain(_PALETTE, _more_colors()) if color not in taken)
    return [color or next(free) for color in colors]


def _more_colors() -> Iterator[str]:
    """Yield colours whose hues are as far from each other as can be (steps of the golden ratio)."""
    for number in itertools.count(1):
        red, green, blue = colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.6, 1)
        yield f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


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
    labels = tuple(about.labels.get("c", ()))
    count = max(seen, len(labels), channel + 1)
    names = (*labels, *map(str, range(len(labels), count)))
    made = colormap_of(channel_colors(names, about.colors)[channel])
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
