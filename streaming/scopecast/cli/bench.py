"""The benchmark: everything that scopecast promises about speed and memory, measured in one run.

    from scopecast.cli import bench as bench
    bench.run(quick=True)

All of it happens in processes and a run directory of its own; nothing is left behind, also after Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from scopecast.benchmarks import acquisition, imagej, memory, publish, report, startup, sustained, window
from scopecast.benchmarks.figures import FULL, QUICK, Bench, Row
from scopecast.benchmarks.processes import private_run_directory
from scopecast.cli.console import wide
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
        Measure next to nothing, to see that everything runs: the figures mean little.
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
        If the table is to be written of quick figures, or there is no such page.
    """
    if sys.platform == "win32":
        msg = "the benchmark stops processes and waits for pipes in ways that Windows lacks: run it on Linux or macOS"
        raise ScopecastError(msg)
    page = report.documentation() if write_docs else None
    if write_docs and quick:
        msg = "the figures of a quick run mean little, and are not written into docs/performance.md"
        raise ValueError(msg)
    if write_docs and page is None:
        msg = "docs/performance.md is part of a checkout of scopecast, and this is none"
        raise ValueError(msg)
    console = wide(_FILE_WIDTH)
    rows: list[Row] = []
    with private_run_directory() as directory, _quiet_logs(), console.status("measuring") as status:
        bench = Bench(QUICK if quick else FULL, directory, lambda what: status.update(f"measuring {what}"))
        for part in (startup, publish, sustained, memory, acquisition, window, imagej):
            rows.extend(part.measure(bench))
    for block in report.terminal_tables(rows):
        console.print(block)
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
