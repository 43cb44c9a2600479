"""``scopecast doctor``: problems on this machine, each with its fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from scopecast.cli.console import err, wide
from scopecast.cli.errors import print_json
from scopecast.doctor import Finding, diagnose
from scopecast.protocol import printable

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["doctor"]

_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "broken": ("✗", "bold red"), "absent": ("-", "dim")}
_FILE_WIDTH = 240
_ASCII = {"✓": "+", "✗": "x"}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Report what is wrong on this machine, and how to fix it. Changes and downloads nothing.

    The exit code is 1 if something that is installed cannot work.
    """
    with err.status("looking") as status:
        findings = diagnose(watch=lambda name: status.update(f"looking at {name}"))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        out = wide(_FILE_WIDTH)  # a finding a line, for grep
        out.print(_table(findings, out), _summary(findings), sep="\n")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _table(findings: list[Finding], out: Console) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    table.add_column(width=1)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    before = ""
    for finding in findings:
        mark, style = _MARKS[finding.state]
        if not out.encoding.lower().startswith("utf"):
            mark = _ASCII.get(mark, mark)
        text = Text(printable(finding.message), "dim" if finding.state == "absent" else "")
        if finding.fix:
            shown = "dim" if finding.state == "absent" else "cyan"
            text.append(f"\n{'→' if out.encoding.lower().startswith('utf') else '->'} {printable(finding.fix)}", shown)
        table.add_row(Text(mark, style), finding.check if finding.check != before else "", text)
        before = finding.check
    return table


def _summary(findings: list[Finding]) -> Text:
    broken = sum(finding.state == "broken" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if not broken and not warnings:
        return Text("Everything is in order.", "green")
    parts = [f"{broken} broken"] if broken else []
    parts += [f"{warnings} warning{'s' * (warnings > 1)}"] if warnings else []
    return Text(", ".join(parts) + ".", "bold red" if broken else "yellow")
