"""The figures as tables on the terminal, and what they were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scopecast.benchmarks.figures import Row

__all__ = ["COLUMNS", "PACKAGES", "by_figure", "cells", "machine", "notes", "terminal_tables"]

#: What the figures depend on, beside the machine.
PACKAGES = ("numpy", "pyzmq", "msgspec")
COLUMNS = ("what", "p50 / p99, ms", "frames/s", "memcpy, ms", "ratio", "target")


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def _pair(p50: float | None, p99: float | None) -> str:
    return "" if p50 is None or p99 is None else f"{_number(p50)} / {_number(p99)}"


def _what(row: Row) -> str:
    return f"{row.frame}, {row.mode}" if row.frame else row.mode


def cells(row: Row) -> tuple[str, ...]:
    """Return a row's cells, its frames and mode in one, and its target with whether it was reached."""
    met = {True: "yes: ", False: "NO: ", None: ""}[row.met]
    return (
        _what(row),
        f"{row.mib:.1f} MiB" if row.mib is not None else _pair(row.p50_ms, row.p99_ms),
        "" if row.per_s is None else f"{row.per_s:,.0f}",
        _pair(row.memcpy_p50_ms, row.memcpy_p99_ms),
        "" if row.ratio is None else f"{row.ratio:.2f}",
        met + row.target,
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """Return what else is to be said of rows."""
    return [f"{_what(row)}: {row.note}" for row in rows if row.note]


def by_figure(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each figure."""
    figures: dict[str, list[Row]] = {}
    for row in rows:
        figures.setdefault(row.figure, []).append(row)
    return figures


def terminal_tables(rows: Sequence[Row]) -> Iterator[Table | str]:
    """Yield a table for each figure, followed by its notes."""
    for figure, members in by_figure(rows).items():
        table = Table(title=figure, title_justify="left", title_style="bold")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in ("what", "target") else "right")
        for row in members:
            table.add_row(*cells(row), style="red" if row.met is False else None)
        yield table
        yield from (f"  {note}" for note in notes(members))


def machine(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Describe the machine and the software, without anything that names it or its user.

    Parameters
    ----------
    packages
        The names of distributions whose versions matter, where they are installed.
    """
    versions = []
    for package in packages:
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
