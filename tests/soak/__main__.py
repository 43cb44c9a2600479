"""``python -m soak [--seconds N] [--seed N] [--window | --no-window] [--json FILE]``: run it, and tell how it went.

What is deterministic: who comes, in which kind and policy, when they are started, stopped, resumed, killed and ended,
and the shapes, dtypes and pauses that each draws. What is not: how the system schedules the processes, and so which
frame is on its way when a signal strikes. A seed that fails is worth several runs.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scopecast.demo.virtual_screen import ensure_screen
from soak.conductor import conduct
from soak.plan import make_plan
from soak.producer import LIMIT_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from soak.conductor import Outcome

#: From so many seconds on a napari window takes part.
_WINDOW_FROM_S = 120.0
_STYLES = {"start": "green", "stop": "yellow", "resume": "cyan", "kill": "bold red", "end": "blue", "clean": "magenta"}


@contextlib.contextmanager
def private_run_directory() -> Iterator[None]:
    """A run directory of its own, with a short path; what others run on this machine is not met."""
    folder = tempfile.mkdtemp(prefix="sc-soak-", dir="/tmp" if Path("/tmp").is_dir() else None)
    before = os.environ.get("SCOPECAST_RUNTIME_DIR")
    os.environ["SCOPECAST_RUNTIME_DIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["SCOPECAST_RUNTIME_DIR"]
        else:
            os.environ["SCOPECAST_RUNTIME_DIR"] = before
        shutil.rmtree(folder, ignore_errors=True)


def producers_table(outcome: Outcome) -> Table:
    """Return what became of the frames."""
    table = Table(title="producers", title_justify="left", title_style="bold")
    columns = ("published", "delivered", "superseded", "dropped", "skipped", "in_flight")
    for name in ("", "for", "policy", "fate"):
        table.add_column(name)
    for name in (*columns, "looks", "longest ms"):
        table.add_column(name.replace("_", " "), justify="right")
    for one in outcome.of("producer"):
        frames = one.said.get("frames", {})
        longest = f"{one.said.get('longest_s', 0.0) * 1000:.1f}" if one.actor.policy == "latest" else ""
        table.add_row(
            *(one.actor.name, one.actor.kind, one.actor.policy, one.fate),
            *(str(frames.get(name, "")) for name in columns),
            *(str(one.said.get("looks", "")), longest),
        )
    return table


def viewers_table(outcome: Outcome) -> Table:
    """Return what the viewers saw."""
    table = Table(title="viewers", title_justify="left", title_style="bold")
    for name in ("", "kind", "fate"):
        table.add_column(name)
    for name in ("checked", "torn", "rejected", "planes at the end"):
        table.add_column(name, justify="right")
    for one in outcome.of("viewer"):
        torn = sum("is torn" in text for text in one.said.get("wrong", ()))
        kind = f"{one.actor.kind}{', window' if one.actor.window else ''}"
        figures = (one.said.get("checked", 0), torn, one.said.get("rejected", 0), one.said.get("planes", ""))
        table.add_row(one.actor.name, kind, one.fate, *map(str, figures))
    return table


def main() -> int:
    """Run a soak. Return 0 if all that must hold held."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.split("\n\n")[1])
    parser.add_argument("--seconds", type=float, default=600.0, help="how long it goes on (600)")
    parser.add_argument("--seed", type=int, default=None, help="of an earlier run, to do the same again")
    parser.add_argument(
        "--window", action=argparse.BooleanOptionalAction, help="with a napari window (from 120 seconds on)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    window = options.seconds >= _WINDOW_FROM_S if options.window is None else options.window
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=140)
    plan = make_plan(seed, options.seconds, window=window)
    repeat = f'make soak ARGS="--seconds {options.seconds:g} --seed {seed}{" --window" if options.window else ""}"'
    console.print(f"seed {seed}: {len(plan)} actions in {options.seconds:g} s; again with {repeat}", soft_wrap=True)

    def tell(at: float, verb: str, who: str) -> None:
        console.print(Text.assemble(f"{at:7.1f} s  ", (f"{verb:<7}", _STYLES[verb]), who))

    with contextlib.ExitStack() as stack:
        stack.enter_context(private_run_directory())
        if window:
            stack.enter_context(ensure_screen())
        outcome = conduct(plan, tell)
    console.print(producers_table(outcome), viewers_table(outcome))
    _say(console, outcome)
    if options.json is not None:
        options.json.write_text(json.dumps({"seed": seed, **outcome.as_json()}, indent=2) + "\n")
    if outcome.wrong:
        console.print(f"[bold red]Failed.[/] Try again with {repeat}", soft_wrap=True)
    return 1 if outcome.wrong else 0


def _say(console: Console, outcome: Outcome) -> None:
    """Print what the tables amount to, and what was wrong."""
    figures = outcome.as_json()
    console.print(
        f"{figures['published']} frames published, {figures['checked']} compared with their stamps, "
        f"{figures['looks']} looks at the accounts; {figures['killed']} killed, {figures['ended']} ended in good order"
    )
    members, segments, nbytes = outcome.cleaned
    console.print(f"clean removed {members} crashed programs and {segments} segments ({nbytes / 2**20:.0f} MiB)")
    if ratios := outcome.ratios:
        console.print(
            f"publish() with viewers costs {statistics.median(ratios):.2f} times what it costs without "
            f"(median of {len(ratios)}; {ratios[0]:.2f} to {ratios[-1]:.2f})"
        )
    console.print(f"the longest publish() of 'latest' took {outcome.longest_s * 1000:.1f} ms (limit {LIMIT_S:g} s)")
    for text in outcome.wrong:
        console.print(Text.assemble(("✗ ", "bold red"), text), soft_wrap=True)
    if not outcome.wrong:
        console.print("[green]✓[/] nothing torn, nothing leaked, every frame accounted for")


if __name__ == "__main__":
    sys.exit(main())
