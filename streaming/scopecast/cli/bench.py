"""The benchmark of this machine: what publishing costs here, in time and memory, and how fast frames arrive.

It uses processes and a run directory of its own, and leaves nothing behind, even after Ctrl-C.
"""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import msgspec

from scopecast.benchmarks import footprint, publish, report, startup, subscriber, sustained
from scopecast.benchmarks.figures import Bench, Effort, Row
from scopecast.benchmarks.processes import private_run_directory
from scopecast.cli.console import wide
from scopecast.cli.errors import STDOUT, write_json
from scopecast.errors import ScopecastError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

__all__ = ["Benchmark", "run"]

_FILE_WIDTH = 140
#: About a minute.
EFFORT = Effort(rounds=1, starts=5, loop=200, paced=100, large=300, small=2000, growth=10_000)


class Benchmark(Protocol):
    """A module that measures."""

    def measure(self, bench: Bench) -> Iterable[Row]:
        """Measure, and yield one figure after the other."""


PARTS: tuple[Benchmark, ...] = (startup, publish, sustained, subscriber, footprint)


def run(
    json_path: Path | None = None,
    effort: Effort = EFFORT,
    parts: Sequence[Benchmark] = PARTS,
    packages: Sequence[str] = report.PACKAGES,
) -> list[Row]:
    """Measure, and show the figures as tables on the terminal.

    Parameters
    ----------
    json_path
        Where to write the figures as JSON: a list of objects with the fields of `Row`. ``-`` is standard output; the
        tables are on stderr then.
    effort
        How long to measure.
    parts
        What is measured.
    packages
        The names of distributions whose versions are shown.

    Returns
    -------
    list of Row
        The figures.

    Raises
    ------
    ScopecastError
        On Windows.
    """
    if sys.platform == "win32":
        msg = "the benchmark stops processes in ways that Windows lacks: run it on Linux or macOS"
        raise ScopecastError(msg)
    to_stdout = json_path is not None and str(json_path) == STDOUT
    console = wide(_FILE_WIDTH, stderr=to_stdout)
    rows: list[Row] = []
    with private_run_directory() as directory, _quiet_logs(), console.status("measuring") as status:
        bench = Bench(effort, directory, lambda what: status.update(f"measuring {what}"))
        for part in parts:
            rows.extend(part.measure(bench))
    for block in report.terminal_tables(rows):
        console.print(block, highlight=False)
    console.print(", ".join(f"{name}: {value}" for name, value in report.machine(packages).items()))
    if json_path is not None:
        write_json(json_path, msgspec.to_builtins(rows))
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
