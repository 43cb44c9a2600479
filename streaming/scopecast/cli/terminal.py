"""What the commands that show files share: options, and reporting."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.text import Text

from scopecast.frames.axes import check_axes
from scopecast.protocol import printable
from scopecast.publishing.environment import imagej_variables
from scopecast.showing.show import check_names, check_viewer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.console import Console

    from scopecast.showing.stacks import Showing

__all__ = [
    "AxesOption",
    "DimsOption",
    "FijiOption",
    "OnlyChannelOption",
    "OnlyStreamOption",
    "OnlyTitleOption",
    "PatternOption",
    "ScaleOption",
    "TitleOption",
    "ViewerOption",
    "WaitOption",
    "ZStepOption",
    "count",
    "duration",
    "help_of",
    "report",
    "say_notes",
    "seconds",
    "shorten",
    "showing_for",
    "variables_of",
    "viewer_kinds",
    "with_unit",
]

DimsOption = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="The dimensions of stacks that don't name their own, such as 'tzyx'."),
]
AxesOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME=PLACE,…",
        help="Where all of it belongs, such as 't=3,c=DAPI': a number or a name. What a file says takes precedence.",
    ),
]
PatternOption = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help=r"How to read axes from file names, as a regular expression: 't(?P<t>\d+)_(?P<c>[A-Za-z]+)'. Names "
        "such as img_t003_c1_z05.tif need none.",
    ),
]


def viewer_kinds() -> list[str]:
    """Return the kinds of viewers that are installed, for the shell's completion."""
    from scopecast.publishing.launch import known_viewers

    return sorted(known_viewers())


ViewerOption = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        autocompletion=viewer_kinds,
        help="The viewer: napari, fiji (ImageJ), or headless (no window).",
    ),
]
FijiOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH|ENDPOINT",
        help="With --viewer fiji: the folder of your Fiji, or an endpoint such as sc.fiji:fiji; default: plain ImageJ.",
    ),
]
OnlyTitleOption = Annotated[str, typer.Option(help="Only programs that publish under this title.")]
OnlyStreamOption = Annotated[str, typer.Option(help="Only runs with this title.")]
OnlyChannelOption = Annotated[
    list[str] | None, typer.Option(help="Only this channel, by its name or number; may be given several times.")
]
WaitOption = Annotated[
    float | None,
    typer.Option(metavar="S", min=0, help="End after this many seconds without a program that publishes."),
]
TitleOption = Annotated[str, typer.Option(help="The title in the viewer; by default the name of the file or folder.")]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        metavar="µm|Y,X",
        help="Size of a pixel in µm, one number or two (y,x), if the files don't give it, or give it wrong.",
    ),
]
ZStepOption = Annotated[
    float | None, typer.Option(metavar="µm", help="Distance between z planes in µm, if the files don't give it.")
]
_MOST_NAMES: Final = 3
_SECONDS: Final[dict[str, float]] = {"": 1, "ms": 1e-3, "s": 1, "m": 60, "min": 60, "h": 3600}


def help_of(command: Callable[..., Any]) -> str:
    """Return a command's docstring with one line per paragraph, for the terminal to wrap."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def report(file: object, error: object, console: Console, verdict: str = "not shown") -> None:
    """Report in one line why a file is not shown."""
    console.print(Text.assemble((f"{verdict}: ", "bold red"), printable(f"{file}: {error}")), soft_wrap=True)


def say_notes(notes: dict[str, list[str]], console: Console) -> None:
    """Print each note of the file readers once, with the files that it concerns."""
    for note, names in notes.items():
        more = len(names) - _MOST_NAMES
        listed = ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        console.print(Text.assemble(("note: ", "bold"), printable(f"{listed}: {note}")), soft_wrap=True)
    notes.clear()


def count(number: int, noun: str, of: int = 0) -> str:
    """Return a number with its noun; of how many, where those are more.

    >>> count(1, "plane"), count(3, "plane"), count(5, "file", of=6)
    ('1 plane', '3 planes', '5 of 6 files')
    """
    return f"{f'{number} of ' if number < of else ''}{max(number, of)} {noun}{'' if max(number, of) == 1 else 's'}"


def seconds(option: str, text: str, least: float = 0.001) -> float:
    """Return a time in seconds.

    Raises
    ------
    ValueError
        If it is none, or less than `least`; the text names the option.

    Examples
    --------
    >>> seconds("--last", "5 min"), seconds("--last", "1h30m"), seconds("--last", "500ms")
    (300.0, 5400.0, 0.5)
    """
    return with_unit(text, _SECONDS, f"{option} is a time, such as 30s, 5m or 1h30m", least)


def with_unit(text: str, units: Mapping[str, float], wanted: str, least: float) -> float:
    """Return a number with its unit, or the sum of several.

    Raises
    ------
    ValueError
        If it is none, or less than `least`; the text begins with `wanted`.
    """
    lower = {unit.lower(): factor for unit, factor in units.items()}
    parts = re.findall(r"(\d+(?:\.\d+)?) *([a-z]*)", text.lower())
    whole = "".join("".join(part) for part in parts) == re.sub(r"\s", "", text.lower())
    if not parts or not whole or any(unit not in lower for _, unit in parts):
        msg = f"{wanted}; not {text}"
        raise ValueError(msg)
    number = sum(float(number) * lower[unit] for number, unit in parts)
    if number < least:
        msg = f"{wanted}, and {least:.10g} at least; not {text}"
        raise ValueError(msg)
    return number


def shorten(name: str, most: int = 40) -> str:
    """Return a name as it fits a line: its end, if it is too long.

    >>> shorten("a_very_long_name.tif", 12)
    '…ng_name.tif'
    """
    name = printable(name)
    return name if len(name) <= most else f"…{name[-most + 1 :]}"


def showing_for(
    viewer: str,
    dims: str | None,
    pattern: str | None,
    title: str,
    scale: str | None,
    z_step: float | None,
    axes: str | None,
    **more: Any,
) -> Showing:
    """Return a `Showing` for the options that the commands share; `more` are its other arguments.

    Raises
    ------
    ValueError, ViewerStartError
        If an option is not valid.
    """
    from scopecast.showing.stacks import Showing

    check_viewer(viewer)
    check_names(dims, pattern)
    about = _calibration(scale, z_step)
    return Showing(viewer, title=title, pattern=pattern, dims=dims, where=_places(axes), about=about, **more)


def _places(axes: str | None) -> dict[str, int | str]:
    """Return where everything belongs.

    >>> _places("t=3, c=DAPI")
    {'t': 3, 'c': 'DAPI'}
    """
    given: dict[str, int | str] = {}
    for each in axes.split(",") if axes is not None else ():
        name, _, place = (part.strip() for part in each.partition("="))
        if not name or not place or name in given:
            msg = f"--axes are places along axes, each once, such as t=3 or t=3,c=DAPI; not {axes}"
            raise ValueError(msg)
        given[name] = int(place) if place.lstrip("-").isdecimal() else place
    return check_axes(given)


def _calibration(scale: str | None, z_step: float | None) -> dict[str, Any]:
    """Return the sizes that the options give, as arguments of a stream."""
    about: dict[str, Any] = {}
    if scale is not None:
        sides = scale.split(",")
        if not 1 <= len(sides) <= 2 or not all(map(_is_length, sides)):
            msg = f"--scale is the size of a pixel in µm, such as 0.65, or 0.65,0.5 (y,x); not {scale}"
            raise ValueError(msg)
        about.update(scale=(float(sides[0]), float(sides[-1])), units="um")
    if z_step is not None:
        if not _is_length(z_step):
            msg = f"--z-step is a length in µm, such as 0.65; not {z_step:g}"
            raise ValueError(msg)
        about["steps"] = {"z": z_step}
    return about


def _is_length(value: str | float) -> bool:
    try:
        return 0 < float(value) < 1e9
    except ValueError:
        return False


def variables_of(viewer: str, fiji: str | None) -> dict[str, str]:
    """Return the environment variables for a viewer that the command starts.

    Raises
    ------
    ValueError
        If a Fiji is given for another viewer.
    """
    if fiji and viewer != "fiji":
        msg = f"--fiji belongs to --viewer fiji, but the viewer is {viewer}; add --viewer fiji, or leave --fiji out"
        raise ValueError(msg)
    return imagej_variables(fiji)


def duration(seconds: float) -> str:
    """Return a duration in readable form.

    >>> duration(0.25), duration(75), duration(7265)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
