"""``python -m benchmarks``: everything that scopecast promises about speed and memory, measured in one run.

All of it happens in processes and a run directory of its own; nothing is left behind, also after Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import acquisition, beside, codecs, demo_run, documentation, first_frames, imagej, streaming, window
from benchmarks.effort import FULL, QUICK
from scopecast.benchmarks import footprint, publish, startup, subscriber
from scopecast.cli import bench

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopecast.benchmarks.figures import Row

PARTS = (
    startup,
    publish,
    first_frames,
    streaming,
    subscriber,
    footprint,
    codecs,
    acquisition,
    window,
    demo_run,
    beside,
    imagej,
)


def run(
    json_path: Path | None = None,
    *,
    quick: bool = False,
    write_docs: bool = False,
    parts: Sequence[bench.Benchmark] = PARTS,
) -> list[Row]:
    """Measure everything, show it as tables, and write it where it is to be written.

    Parameters
    ----------
    json_path
        Where to write the figures as JSON: a list of objects with the fields of `Row`.
    quick
        Measure next to nothing, to see that everything runs: the figures mean little.
    write_docs
        Also write the tables into ``docs/performance.md``.
    parts
        What is measured: everything, by default.
    """
    if write_docs and quick:
        msg = "the figures of a quick run mean little, and are not written into docs/performance.md"
        raise ValueError(msg)
    rows = bench.run(json_path, QUICK if quick else FULL, parts, documentation.PACKAGES)
    if write_docs:
        documentation.write_documentation(documentation.PAGE, rows, "make bench")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Read the options, and run."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure all that is promised.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="measure next to nothing, to see that it runs")
    parser.add_argument("--write-docs", action="store_true", help="write the tables into docs/performance.md")
    options = parser.parse_args(arguments)
    if options.json is not None and not options.json.resolve().parent.is_dir():
        parser.error(f"there is no folder {options.json.resolve().parent}")
    if options.quick and options.write_docs:
        parser.error("the figures of a quick run mean little, and are not written into docs/performance.md")
    run(options.json, quick=options.quick, write_docs=options.write_docs)


if __name__ == "__main__":
    sys.exit(main())
