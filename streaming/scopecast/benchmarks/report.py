"""The figures as a table: on the terminal, and in docs/performance.md."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scopecast.benchmarks.figures import Row

__all__ = ["documentation", "machine", "markdown", "terminal_tables", "write_documentation"]

BEGIN = "<!-- measured: begin (written by `scopecast bench --write-docs`) -->"
END = "<!-- measured: end -->"
_COLUMNS = ("what", "p50 / p99, ms", "frames/s", "memcpy, ms", "ratio", "target")
_PACKAGES = ("numpy", "pyzmq", "msgspec", "napari", "imagezmq", "polystore")


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _pair(p50: float | None, p99: float | None) -> str:
    return "" if p50 is None or p99 is None else f"{_number(p50)} / {_number(p99)}"


def _cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells, its frames and mode in one, and its target with whether it was reached."""
    met = {True: "yes: ", False: "NO: ", None: ""}[row.met]
    return (
        f"{row.frame}, {row.mode}",
        f"{row.mib:.1f} MiB" if row.mib is not None else _pair(row.p50_ms, row.p99_ms),
        "" if row.per_s is None else f"{row.per_s:,.0f}",
        _pair(row.memcpy_p50_ms, row.memcpy_p99_ms),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        met + row.target,
    )


def _by_figure(rows: Sequence[Row]) -> dict[str, list[Row]]:
    figures: dict[str, list[Row]] = {}
    for row in rows:
        figures.setdefault(row.figure, []).append(row)
    return figures


def terminal_tables(rows: Sequence[Row]) -> Iterator[Table | str]:
    """Yield a table for each figure, followed by its notes."""
    for figure, members in _by_figure(rows).items():
        table = Table(title=figure, title_justify="left", title_style="bold")
        for column in _COLUMNS:
            table.add_column(column, justify="left" if column in ("what", "target") else "right")
        for row in members:
            table.add_row(*_cells(row), style="red" if row.met is False else None)
        yield table
        yield from (f"  {row.frame}, {row.mode}: {row.note}" for row in members if row.note)


def markdown(rows: Sequence[Row]) -> str:
    """Return the figures as Markdown: a section, a table and its notes for each."""
    lines = []
    for figure, members in _by_figure(rows).items():
        lines += [f"### {figure}", "", f"| {' | '.join(_COLUMNS)} |", "|:--|--:|--:|--:|--:|:--|"]
        lines += ["| " + " | ".join(cell.replace("|", "/") for cell in _cells(row)) + " |" for row in members]
        lines.append("")
        notes = [f"- {row.frame}, {row.mode}: {row.note}" for row in members if row.note]
        lines += [*notes, ""] if notes else []
    return "\n".join(lines).strip()


def machine() -> dict[str, str]:
    """Describe the machine and the software, without anything that names it or its user."""
    versions = []
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(versions),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def documentation() -> Path | None:
    """Return the page that the figures belong in, or None outside of a checkout."""
    root = Path(__file__).resolve().parents[3]
    page = root / "docs" / "performance.md"
    return page if (root / "pyproject.toml").is_file() and page.is_file() else None


def write_documentation(page: Path, rows: Sequence[Row], command: str) -> None:
    """Put the figures between the two markers of a page, in place of those before.

    Parameters
    ----------
    page
        The page; what is outside of the markers stays.
    rows
        The figures.
    command
        What they were measured with.

    Raises
    ------
    ValueError
        If the page has no markers.
    """
    text = page.read_text(encoding="utf-8")
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        msg = f"{page.name} has no place for the figures: it must hold the lines {BEGIN!r} and {END!r}"
        raise ValueError(msg)
    missed = sum(row.met is False for row in rows)
    reached = sum(row.met is True for row in rows)
    facts = "\n".join(f"- {name}: {value}" for name, value in machine().items())
    measured = (
        f"Measured on {time.strftime('%Y-%m-%d')} with `{command}`; {reached} targets reached, {missed} missed.\n\n"
        f"{facts}\n\n{markdown(rows)}"
    )
    page.write_text(f"{head}{BEGIN}\n\n{measured}\n\n{END}{tail}", encoding="utf-8")
