"""Write the table of faults, each with the tests that prove what happens then, as Markdown.

``python docs/fault_matrix.py`` prints it. The tests are found by their marks in the source, and are not run.
"""

from __future__ import annotations

import ast
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests"
_MARK = "pytest.mark.fault"


class Proof(NamedTuple):
    """A test that proves rows of the table.

    Attributes
    ----------
    path
        Its file, below ``tests``.
    name
        Its function or class.
    rows
        The rows that it names.
    scenario
        A function's name as a sentence, or the first line of what a class says of itself.
    """

    path: str
    name: str
    rows: tuple[str, ...]
    scenario: str


def proofs(folder: Path = TESTS) -> list[Proof]:
    """Return the tests below a folder that are marked with ``pytest.mark.fault``.

    Raises
    ------
    ValueError
        If a mark's arguments are not plain texts, or it is not on a test.
    """
    return [proof for path in sorted(folder.rglob("*.py")) for proof in _proofs_in(path, folder)]


def _proofs_in(path: Path, folder: Path) -> Iterator[Proof]:
    source = path.read_text("utf-8")
    if _MARK not in source:  # to parse all tests takes seconds
        return
    tree = ast.parse(source)
    methods = (node for outer in tree.body if isinstance(outer, ast.ClassDef) for node in outer.body)
    for node in (*tree.body, *methods):
        if not isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == _MARK:
                rows = tuple(argument.value for argument in decorator.args if isinstance(argument, ast.Constant))
                where = f"{path.relative_to(folder)}:{node.lineno}"
                if not rows or len(rows) != len(decorator.args) or decorator.keywords:
                    msg = f"{where}: the mark names rows as plain texts, such as fault('V1', 'P2')"
                    raise ValueError(msg)
                if not node.name.lower().startswith("test"):
                    msg = f"{where}: {node.name} is marked with a fault, and no test"
                    raise ValueError(msg)
                scenario = node.name.removeprefix("test_").replace("_", " ")
                if isinstance(node, ast.ClassDef):
                    scenario = (ast.get_docstring(node) or node.name).partition("\n")[0].rstrip(".")
                    scenario = scenario[:1].lower() + scenario[1:]
                yield Proof(path.relative_to(folder).as_posix(), node.name, rows, scenario)


def table(known: dict[str, Any] | None = None, found: list[Proof] | None = None) -> str:
    """Return the table of faults as Markdown, a section for each of its parts."""
    known = known if known is not None else runpy.run_path(str(TESTS / "faults" / "rows.py"))
    found = proofs() if found is None else found
    lines = []
    for letter, part in known["PARTS"].items():
        lines += [f"## {part}", "", "| | fault | what happens | proved by |", "|---|---|---|---|"]
        for row, (fault, promise) in known["ROWS"].items():
            if row[0] == letter:
                tests = "<br>".join(_cell(proof.scenario) for proof in found if row in proof.rows)
                lines.append(f"| {row} | {_cell(fault)} | {_cell(promise)} | {tests} |")
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(table())
