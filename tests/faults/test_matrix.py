"""Every row of the table of faults has its tests, and every mark its row."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


matrix = load(ROOT / "docs" / "fault_matrix.py")
rows = load(Path(__file__).with_name("rows.py"))
PROOFS = matrix.proofs()


@pytest.mark.parametrize("row", rows.ROWS)
def test_a_row_has_a_test(row: str):
    proving = [proof for proof in PROOFS if row in proof.rows]
    assert proving, f"nothing proves {row}: {rows.ROWS[row].fault}"


def test_a_mark_names_rows_that_there_are():
    assert {row for proof in PROOFS for row in proof.rows} <= set(rows.ROWS)


def test_the_tests_that_are_marked_are_run(request: pytest.FixtureRequest):
    """What the source says against what pytest found, for the files of this run."""
    option = request.config.option
    if option.keyword or option.markexpr or getattr(option, "lf", False) or "::" in "".join(request.config.args):
        pytest.skip("only some tests were asked for")
    marked: dict[str, set[str]] = {}
    for item in request.session.items:
        names = marked.setdefault(item.path.relative_to(ROOT / "tests").as_posix(), set())
        if item.get_closest_marker("fault"):
            names.update((getattr(item, "originalname", item.name), item.cls.__name__ if item.cls else ""))
    missing = [proof for proof in PROOFS if proof.path in marked and proof.name not in marked[proof.path]]
    assert missing == []


def test_the_table_has_every_row_with_its_tests():
    text = matrix.table(found=PROOFS)
    for row, (fault, promise) in rows.ROWS.items():
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
        assert fault in line
        assert promise in line
        for proof in PROOFS:
            assert (proof.scenario in line) == (row in proof.rows) or proof.scenario in promise + fault


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("@pytest.mark.fault()\ndef test_a(): ...", "names rows"),
        ("@pytest.mark.fault(ROW)\ndef test_a(): ...", "names rows"),
        ("@pytest.mark.fault('V1')\ndef helper(): ...", "no test"),
    ],
)
def test_a_mark_that_says_nothing_is_an_error(tmp_path: Path, source: str, problem: str):
    (tmp_path / "test_it.py").write_text(source)
    with pytest.raises(ValueError, match=problem):
        matrix.proofs(tmp_path)


def test_a_row_that_nothing_proves_is_found(tmp_path: Path):
    (tmp_path / "test_it.py").write_text("@pytest.mark.fault('V1', 'P2')\ndef test_a_thing(): ...\n")
    (proof,) = matrix.proofs(tmp_path)
    assert (proof.path, proof.scenario, proof.rows) == ("test_it.py", "a thing", ("V1", "P2"))
