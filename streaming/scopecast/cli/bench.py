"""The benchmark: all that scopecast promises about speed and memory, measured in one run.

    from scopecast.cli import bench as bench
    bench.run(quick=True)

It uses processes and a run directory of its own, and leaves nothing behind, even after Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console

from scopecast.benchmarks import acquisition, imagej, memory, publish, report, startup, sustained, window
from scopecast.benchmarks.figures import FULL, QUICK, Bench, Row
from scopecast.benchmarks.processes import private_run_directory
from scopecast.errors import ScopecastError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Row", "run"]

_COMMAND = "make bench"
_FILE_WIDTH = 140


def run(json_path: Path | None = None, quick: bool = False, write_docs: bool = False) -> list[Row]:
    """Measure everything, and show it as a table on the terminal.

    Parameters
    ----------
    json_path
        Where to write the figures as JSON: a list of objects with the fields of `Row`.
    quick
        Only check that everything runs; the figures mean little.
    write_docs
        Also write the table into the ``docs/performance.md`` of the checkout that this runs from.

    Returns
    -------
    list of Row
        The figures.

    Raises
    ------
    ScopecastError
        On Windows.
    ValueError
        If quick figures are to be written into the page, or there is no such page.
    """
    if sys.platform == "win32":
        msg = "the benchmark needs ways to stop processes that Windows lacks: run it on Linux or macOS"
        raise ScopecastError(msg)
    page = report.documentation() if write_docs else None
    if write_docs and quick:
        msg = "the figures of a quick run mean little: they are not written into docs/performance.md"
        raise ValueError(msg)
    if write_docs and page is None:
        msg = "docs/performance.md exists only in a checkout of scopecast, and this is not one"
        raise ValueError(msg)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_FILE_WIDTH)  # else tables in a log are folded to 80 columns
    rows: list[Row] = []
    with private_run_directory() as directory, _quiet_logs(), console.status("measuring") as status:
        bench = Bench(QUICK if quick else FULL, directory, lambda what: status.update(f"measuring {what}"))
        for part in (startup, publish, sustained, memory, acquisition, window, imagej):
            rows.extend(part.measure(bench))
    for block in report.terminal_tables(rows):
        console.print(block, highlight=False)
    console.print(", ".join(f"{name}: {value}" for name, value in report.machine().items()))
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(rows)) + b"\n")
    if page is not None:
        report.write_documentation(page, rows, _COMMAND)
    return rows


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep the warnings about viewers that were killed on purpose from the terminal."""
    logger, handler = logging.getLogger("scopecast"), logging.NullHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
