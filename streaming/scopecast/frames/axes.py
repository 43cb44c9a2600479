"""Where a frame belongs: axes from metadata or from file names.

A frame's place is a mapping such as ``{"t": 3, "c": "DAPI", "z": 7}``. An int is an index as it stands; a str is a
label, and labels are placed in their order of appearance. This module knows the names of axes and what a name or a
value may be; it knows nothing of arrays.
"""

import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias
from unicodedata import normalize

import numpy as np

__all__ = [
    "CANONICAL",
    "MAX_AXES",
    "MAX_INDEX",
    "MAX_LABEL",
    "Axes",
    "AxisValue",
    "axes_from_path",
    "axis_name",
    "check_axes",
    "join_channel",
    "rest_of_name",
    "short_label",
    "sort_axes",
    "spell_axes",
    "spell_axis",
]

AxisValue: TypeAlias = int | str
Axes: TypeAlias = Mapping[str, AxisValue]

CANONICAL: Final = ("p", "g", "cam", "t", "c", "z")
"""The axes that are known by name, outermost first: position, grid, camera, time, channel, z."""

MAX_AXES: Final = 8
"""The most axes that one frame may have, besides the y and x of its plane."""

MAX_INDEX: Final = 2**31 - 1
"""The largest int that an axis may have."""

MAX_LABEL: Final = 64
"""The most characters that a label may have."""

_PLANE: Final = ("y", "x")
_RANK: Final = {name: rank for rank, name in enumerate(CANONICAL)}
_ALIASES: Final = {"camera": "cam", "channel": "c", "grid": "g", "position": "p", "slice": "z", "time": "t"}
_SPELLINGS: Final = {**{name: name for name in CANONICAL}, **_ALIASES}
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")

# Words that may stand before a number in a file name, for each axis. Only these: "frame", "w" or "s" mean different
# things to different programs, and a wrong place is worse than none.
_WORDS: Final = {
    "t": "t", "time": "t", "timepoint": "t",
    "c": "c", "ch": "c", "channel": "c",
    "z": "z", "slice": "z",
    "p": "p", "pos": "p", "position": "p", "xy": "p",
    "grid": "g",
}  # fmt: skip
_PLATE_WORDS: Final = {**_WORDS, "s": "site", "w": "c"}

_SEPARATOR: Final = r"[_\-. ]"


def _tokens(words: Iterable[str]) -> re.Pattern[str]:
    """Compile what finds ``t000``, or a chain such as ``t000c1z05``, between separators.

    What is glued to other letters is not found (``cat3``, ``c57bl6``), and neither is the start of a decimal
    (``t1.5s``): t1.5 and t1.8 are two moments, and would both become t = 1.
    """
    word = "|".join(words)
    return re.compile(
        rf"(?:^|(?<={_SEPARATOR}))(?:(?:{word})[0-9]++)++(?={_SEPARATOR}|$)(?!\.[0-9])", re.ASCII | re.IGNORECASE
    )


_TOKENS: Final = _tokens(_WORDS)
_PLATE_TOKENS: Final = _tokens(_PLATE_WORDS)
_EXAMPLE: Final = r"write one with a named group for each axis, such as r'_t(?P<t>\d+)_(?P<c>[^_]+)\.tif'"
_WORD_AND_NUMBER: Final = re.compile(r"([A-Za-z]+)([0-9]+)")

# MetaMorph (w1DAPI), and others that say it in words (w_DAPI, ch_GFP). Not ch1_final, whose channel is 1.
_CHANNEL_NAME: Final = re.compile(
    rf"(?:^|(?<={_SEPARATOR}))(?:w[0-9]+|(?:w|ch|channel|wavelength){_SEPARATOR})"
    rf"(?!(?:{'|'.join(_PLATE_WORDS)})[0-9]+(?:{_SEPARATOR}|$))([A-Z][A-Z0-9]*)(?={_SEPARATOR}|$)",
    re.ASCII | re.IGNORECASE,
)
# MetaXpress and OpenHCS: a well of a plate of up to 384, followed by its site (s) or wavelength (w). Without one of
# these, C01 is a channel.
_WELL: Final = re.compile(rf"(?:^|{_SEPARATOR})([A-P][0-9]{{2}})_(?=[sw][0-9]+(?:{_SEPARATOR}|$))", re.IGNORECASE)
# MetaXpress glues one of these to the wavelength, and a part of it such as "-C123-" would read as a channel.
_UUID: Final = re.compile(r"[0-9A-F]{8}-(?:[0-9A-F]{4}-){3}[0-9A-F]{12}", re.IGNORECASE)
# Micro-Manager 1.4: img_<time>_<the channel's name>_<z>.tif
_MICROMANAGER_14: Final = re.compile(r"img_([0-9]{9})_(.*)_([0-9]{3,})\.tiff?", re.IGNORECASE)


def axis_name(name: object) -> str:
    """Return the canonical spelling of an axis: lower case, the common long names shortened.

    Parameters
    ----------
    name : str
        A letter, then up to 31 letters, digits or underscores. ``y`` and ``x`` are names too.

    Returns
    -------
    str
        ``"t"`` for ``"Time"``; likewise for channel, position, slice, grid and camera.

    Raises
    ------
    TypeError
        If `name` is no str.
    ValueError
        If it has other characters, or too many.

    Examples
    --------
    >>> axis_name("Time"), axis_name("Z"), axis_name("well")
    ('t', 'z', 'well')
    """
    if not isinstance(name, str):
        raise TypeError(f"an axis is named by a str, and {name!r} is of type {type(name).__name__}: name it as in 't'")
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} cannot name an axis: use a letter, then at most 31 letters, digits or underscores, "
            f"such as 't' or 'well'"
        )
    lowered = name.lower()
    return _ALIASES.get(lowered, lowered)


def spell_axis(name: str) -> str:
    """Return what an axis of another program is called here, where names have fewer letters.

    Parameters
    ----------
    name
        Any text.

    Returns
    -------
    str
        As from `axis_name`, which may be refused no more. Names that differ by nothing else than such letters become
        one: `check_axes` tells of two in one frame.

    Examples
    --------
    >>> spell_axis("stim phase"), spell_axis("view-angle"), spell_axis("Time"), spell_axis("2nd"), spell_axis("x")
    ('stim_phase', 'view_angle', 't', 'axis_2nd', 'axis_x')
    """
    made = re.sub(r"[^A-Za-z0-9_]", "_", name.strip())[:32]
    if not made[:1].isascii() or not made[:1].isalpha() or made.lower() in _PLANE:
        made = f"axis_{made}"[:32]
    return axis_name(made)


def spell_axes(axes: Mapping[str, AxisValue]) -> dict[str, AxisValue]:
    """Return a place that another program names, with axes as they are called here.

    Raises
    ------
    ValueError
        If two of its axes would be one.

    Examples
    --------
    >>> spell_axes({"stim phase": 2, "Channel": "DAPI"})
    {'stim_phase': 2, 'c': 'DAPI'}
    """
    spelt = {spell_axis(str(name)): value for name, value in axes.items()}
    if len(spelt) < len(axes):
        raise ValueError(f"two of the axes {', '.join(map(str, axes))} have the same name here: rename one of them")
    return spelt


def sort_axes(names: Iterable[str]) -> tuple[str, ...]:
    """Order axes as sliders show them, outermost first.

    Parameters
    ----------
    names : iterable of str
        Names as `check_axes` gives them; repeated ones count once.

    Returns
    -------
    tuple of str
        Axes of unknown name first, by the alphabet, so that all streams have them in one order; then those of
        `CANONICAL`.

    Examples
    --------
    >>> sort_axes(["z", "t", "well", "c", "site"])
    ('site', 'well', 't', 'c', 'z')
    """
    return tuple(sorted(dict.fromkeys(names), key=lambda name: (_RANK.get(name, -1), name)))


def check_axes(axes: Mapping[str, object]) -> dict[str, int | str]:
    """Check where a user says that a frame belongs, and return it in canonical spelling.

    Parameters
    ----------
    axes : mapping of str to int or str
        At most 8 axes. Ints (numpy's too) from 0 to 2**31 - 1 are indices, not rebased; strs of 1 to 64 characters are
        labels.

    Returns
    -------
    dict of str to int or str
        A new dict in the same order: names as from `axis_name`, values as plain int and str.

    Raises
    ------
    TypeError
        If `axes` is no mapping, a name no str, or a value neither int nor str. A bool is no index.
    ValueError
        If there are too many axes, one is named twice (``t`` and ``time``), a name or a value is outside its limits,
        or an axis is ``y`` or ``x``: these are the plane's.

    Examples
    --------
    >>> check_axes({"Time": 3, "channel": "DAPI", "well": "A01"})
    {'t': 3, 'c': 'DAPI', 'well': 'A01'}
    """
    if not isinstance(axes, Mapping):
        hint = "; dims name dimensions, and a pattern reads file names" if isinstance(axes, str) else ""
        raise TypeError(f"axes are a mapping such as {{'t': 3, 'c': 'DAPI'}}, not of type {type(axes).__name__}{hint}")
    if len(axes) > MAX_AXES:
        raise ValueError(
            f"{len(axes)} axes ({', '.join(str(name)[:33] for name in axes)}) are too many: a frame has at most "
            f"{MAX_AXES} besides y and x; leave some out, or join them into one label"
        )
    checked: dict[str, int | str] = {}
    for given, value in axes.items():
        # The known names, nearly every frame's, need no regular expression: this runs for each frame.
        name = _SPELLINGS.get(given) or axis_name(given)
        if name in _PLANE:
            raise ValueError(
                f"axis {name!r} is the plane's own: axes say where the plane belongs; leave {name!r} out, and give "
                f"an offset within the field as translate="
            )
        if name in checked:
            raise ValueError(f"axis {name!r} is given twice, the second time as {given!r}: keep one of them")
        checked[name] = _check_value(name, value)
    return checked


def join_channel(axes: Mapping[str, AxisValue], channel: AxisValue) -> dict[str, AxisValue]:
    """Return axes with a channel, which is the same place as if it had been given among them.

    Raises
    ------
    ValueError
        If they have one already.
    """
    if twice := [name for name in axes if (_SPELLINGS.get(name) or axis_name(name)) == "c"]:
        raise ValueError(f"the channel is given twice, as channel={channel!r} and as {twice[0]!r} in axes: keep one")
    return {**axes, "c": channel}


def _check_value(name: str, value: object) -> int | str:
    """Return an axis' value as a plain int or str, or say what is wrong with it."""
    if isinstance(value, str):
        if not 1 <= len(value) <= MAX_LABEL:
            raise ValueError(
                f"axis {name!r} has a label of {len(value)} characters ({value[:20]!r}): a label has 1 to {MAX_LABEL}; "
                + ("shorten it" if value else "leave the axis out")
            )
        if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError(
                f"axis {name!r} has the label {value!r}, which contains a lone surrogate: a label must be "
                f"valid Unicode; decode it with errors='backslashreplace'"
            )
        return str(value)
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        index = int(value)
        if not 0 <= index <= MAX_INDEX:
            # Not all digits: str() refuses an int of more than 4300 of them.
            shown = str(index) if index.bit_length() <= 128 else f"an int of {index.bit_length()} bits"
            raise ValueError(
                f"axis {name!r} is {shown}: an index is from 0 to {MAX_INDEX}; count from 0, or give a label (str)"
            )
        return index
    raise TypeError(
        f"axis {name!r} is {repr(value)[:80]}, of type {type(value).__name__}: a place is an index (int) or a label "
        f"(str); convert it with int() or str()"
    )


def short_label(text: str, *, keep_end: bool = False) -> str:
    """Return a text as a label; of one that is too long, a part and a mark that tells it from others like it.

    Parameters
    ----------
    text
        At least one character.
    keep_end
        Whether the end is kept instead of the beginning, which tells more of a path.

    Examples
    --------
    >>> short_label("DAPI"), short_label("x" * 100), len(short_label("x" * 100))
    ('DAPI', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx~4ee17817', 64)
    """
    if len(text) <= MAX_LABEL:
        return text
    import hashlib

    mark = "~" + hashlib.blake2s(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    room = MAX_LABEL - len(mark)
    return mark[1:] + "~" + text[-room:] if keep_end else text[:room] + mark


def axes_from_path(path: str | os.PathLike[str], pattern: str | re.Pattern[str] | None = None) -> dict[str, int | str]:
    r"""Read the axes of a frame from the name of its file.

    Without a pattern, a word for an axis directly followed by its number counts where it begins the name or follows
    ``_``, ``-``, ``.``, a space or another such number, in upper or lower case: t, time, timepoint · c, ch, channel ·
    z, slice · p, pos, position, xy · grid. Beside one of these, w_DAPI, w1DAPI and ch_GFP name a channel. The names of
    Micro-Manager 1.4 and 2, and of MetaXpress and OpenHCS (axes ``well`` and ``site``), are known as well. Where an
    axis comes twice, the last one counts.

    Parameters
    ----------
    path : str or path-like
        Only its last component is read; both ``/`` and ``\`` separate components, so that a name that was noted on
        another system is read alike. No file needs to exist.
    pattern : str or re.Pattern, optional
        Your own regular expression, searched for in the name, in place of all of the above. Its named groups are axes
        (``(?P<t>\d+)``, ``(?P<time>\d+)``); groups that took no part, or matched nothing, are left out.

    Returns
    -------
    dict of str to int or str
        As `check_axes` would give it. Numbers are ints as they stand, except a channel's: that is always a label,
        without leading zeros, since a name does not tell whether its channels count from 0 or from 1. With a pattern,
        text that is not a number, or one past 2**31 - 1 (a date, say), is a label. Empty where nothing is recognised.

    Raises
    ------
    TypeError
        If `path` is not a path, or `pattern` neither str nor a compiled pattern of str.
    ValueError
        If `pattern` is not a regular expression, has no named groups, or one of them cannot be an axis or matched what
        cannot be a label.

    Examples
    --------
    >>> axes_from_path("run7/img_t000_c1_z05.tif")
    {'t': 0, 'c': '1', 'z': 5}
    >>> axes_from_path("A01_s2_w1_z3_t4.tif")
    {'well': 'A01', 'site': 2, 'c': '1', 'z': 3, 't': 4}
    >>> axes_from_path("DAPI at 12 h.tif", r"(?P<c>\w+) at (?P<t>\d+) h")
    {'c': 'DAPI', 't': 12}
    """
    # One name at a time, so that a file's place never depends on which others came with it. tifffile.parse_filenames
    # is not used for that reason: it rebases the indices of every batch to begin at 0, and the second batch of a
    # series would land on the first.
    name = _last_component(path)
    if pattern is not None:
        return _by_pattern(name, pattern)
    if match := _MICROMANAGER_14.fullmatch(name):
        time, channel, z = match.groups()
        return _places([("t", time), ("c", channel), ("z", z)])
    name = _UUID.sub("", name)
    if (well := _WELL.search(name)) is None:
        axes = _places(_pairs(_TOKENS, _WORDS, name))
        stem = os.path.splitext(name)[0]  # noqa: PTH122
        if axes and "c" not in axes and (channel := _CHANNEL_NAME.search(stem)):
            axes["c"] = short_label(channel[1])
        return axes
    before = _pairs(_TOKENS, _WORDS, name[: well.start()])
    after = _pairs(_PLATE_TOKENS, _PLATE_WORDS, name[well.end() :])
    return {"well": well[1].upper(), **_places(before + after)}


def rest_of_name(path: str | os.PathLike[str], pattern: str | re.Pattern[str] | None = None) -> str:
    """Return what a file's name has besides its axes and its extension.

    Parameters
    ----------
    path, pattern
        As for `axes_from_path`.

    Examples
    --------
    >>> rest_of_name("run7/mouse_t000_c1.tif"), rest_of_name("t5.tif")
    ('mouse', '')
    """
    name = os.path.splitext(_last_component(path))[0]  # noqa: PTH122
    if pattern is not None:
        match = _compiled(pattern).search(_last_component(path))
        spans = sorted(match.span(group) for group in match.re.groupindex) if match else []
        for start, end in reversed(spans):
            name = name[:start] + name[end:] if start >= 0 else name
    else:
        name = _UUID.sub("", name)
        tokens = _PLATE_TOKENS if _WELL.search(name) else _TOKENS
        name = _CHANNEL_NAME.sub("", tokens.sub("", name))
    return re.sub(rf"{_SEPARATOR}{{2,}}", "_", name).strip("_-. ")


def _last_component(path: str | os.PathLike[str]) -> str:
    """Return the file's name, with what is not valid Unicode in it written out."""
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"a path is a str or a pathlib.Path, not {type(text).__name__}: decode it with os.fsdecode()")
    name = re.split(r"[/\\]", text.rstrip("/\\"))[-1]
    # A name that is not UTF-8 comes from the system with lone surrogates, which no message can carry. macOS takes
    # letters with accents apart: one channel would become two that look alike.
    return name if name.isascii() else normalize("NFC", name.encode("utf-8", "backslashreplace").decode("utf-8"))


def _pairs(tokens: re.Pattern[str], words: Mapping[str, str], text: str) -> list[tuple[str, str]]:
    """Return the axes and their digits, as they stand in a name."""
    return [
        (words[word.lower()], digits)
        for token in tokens.finditer(text)
        for word, digits in _WORD_AND_NUMBER.findall(token[0])
    ]


def _places(pairs: Iterable[tuple[str, str]]) -> dict[str, int | str]:
    """Turn text into values; what cannot be one (a date glued to a ``t``, no channel's name) is not read as an axis."""
    axes: dict[str, int | str] = {}
    for axis, text in pairs:
        value = _value(axis, text)
        if (isinstance(value, int) and value <= MAX_INDEX) or (axis == "c" and 1 <= len(text) <= MAX_LABEL):
            axes[axis] = value
    return axes


def _value(axis: str, text: str) -> int | str:
    """Return an index for a number within the limits, else a label; for a channel always a label."""
    if not (text.isascii() and text.isdecimal()):
        return text
    digits = text.lstrip("0") or "0"
    if axis == "c":
        return digits
    # The length first: int() refuses text of more than 4300 digits.
    return int(digits) if len(digits) <= len(str(MAX_INDEX)) and int(digits) <= MAX_INDEX else text


def _by_pattern(name: str, pattern: str | re.Pattern[str]) -> dict[str, int | str]:
    """Read a name by the user's own pattern."""
    if not isinstance(pattern, str) and not (isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str)):
        raise TypeError(f"a pattern is a str or a compiled pattern of str, not {pattern!r}: {_EXAMPLE}")
    match = _compiled(pattern).search(name)
    if match is None:
        return {}
    # By the groups' own names: two of them may spell one axis, as alternatives, but not both take part.
    return check_axes({axis: _value(axis_name(axis), text) for axis, text in match.groupdict().items() if text})


@lru_cache(maxsize=32)
def _compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """Compile and check a pattern, once for all the files that it is used on."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is not a valid regular expression ({error}): {_EXAMPLE}") from error
    if not compiled.groupindex:
        raise ValueError(f"the pattern {compiled.pattern!r} has no named groups: {_EXAMPLE}")
    try:
        for group in compiled.groupindex:
            check_axes({group: 0})
    except ValueError as error:
        raise ValueError(f"the pattern {compiled.pattern!r} has a group that is not an axis: {error}") from error
    return compiled
