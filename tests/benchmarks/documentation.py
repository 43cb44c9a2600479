"""The figures as a part of docs/performance.md."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from scopecast.benchmarks.report import COLUMNS, by_figure, cells, machine, notes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopecast.benchmarks.figures import Row

__all__ = ["BEGIN", "END", "PACKAGES", "PAGE", "REMOTE", "markdown", "write_documentation"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
BEGIN = "<!-- measured: begin (written by `make bench ARGS=--write-docs`) -->"
END = "<!-- measured: end -->"
#: The markers of the views on another machine, which are measured by a command of their own.
REMOTE = (
    "<!-- measured remotely: begin (written by `make bench-remote ARGS=--write-docs`) -->",
    "<!-- measured remotely: end -->",
)
#: What the figures depend on, beside the machine.
PACKAGES = ("numpy", "pyzmq", "msgspec", "napari", "imagezmq", "polystore", "blosc2", "simplejpeg")


def markdown(rows: Sequence[Row]) -> str:
    """Return the figures as Markdown: a section, a table and its notes for each."""
    lines = []
    for figure, members in by_figure(rows).items():
        lines += [f"### {figure}", "", f"| {' | '.join(COLUMNS)} |", "|:--|--:|--:|--:|--:|:--|"]
        lines += ["| " + " | ".join(cell.replace("|", "/") for cell in cells(row)) + " |" for row in members]
        said = [f"- {note}" for note in notes(members)]
        lines += ["", *said, ""] if said else [""]
    return "\n".join(lines).strip()


def write_documentation(page: Path, rows: Sequence[Row], command: str, markers: tuple[str, str] = (BEGIN, END)) -> None:
    """Put the figures between the two markers of a page, in place of those before.

    Parameters
    ----------
    page
        The page; what is outside of the markers stays.
    rows
        The figures.
    command
        What they were measured with.
    markers
        The lines before and after.

    Raises
    ------
    ValueError
        If the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(markers[0])
    _, end, tail = rest.partition(markers[1])
    if not begin or not end:
        msg = f"{page.name} has no place for the figures: it must hold the lines {markers[0]!r} and {markers[1]!r}"
        raise ValueError(msg)
    missed = sum(row.met is False for row in rows)
    reached = sum(row.met is True for row in rows)
    facts = "\n".join(f"- {name}: {value}" for name, value in machine(PACKAGES).items())
    measured = (
        f"Measured on {time.strftime('%Y-%m-%d')} with `{command}`; {reached} targets reached, {missed} missed.\n\n"
        f"{facts}\n\n{markdown(rows)}"
    )
    page.write_text(f"{head}{begin}\n\n{measured}\n\n{end}{tail}", encoding="utf-8")
