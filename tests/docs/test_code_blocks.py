"""Every Python block of every page of the manual runs, from the page's top to its bottom, as a reader would run it.

A page is one program, in a process and a directory of its own; viewers without a window receive what it shows. Where
it defines tests, pytest runs it. A block after ``<!-- not run: reason -->`` is left out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from receivers import Viewer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
VIEWERS = ("napari", "fiji", "headless")
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?:python|\{code-block\} python)\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_LEFT_OUT = re.compile(r"<!-- not run: \S[^>]*-->\s*\Z")


def program(page: str) -> str:
    """Return the blocks of a page, each at the line where it stands there; "" if it has none."""
    lines = [""] * (page.count("\n") + 1)
    for block in _BLOCK.finditer(page):
        if _LEFT_OUT.search(page[: block.start()]):
            continue
        first, indent = page[: block.start("code")].count("\n"), len(block["indent"])
        for number, line in enumerate(block["code"].splitlines(), first):
            lines[number] = line[indent:]
    return "\n".join(lines).rstrip()


def run(source: str, folder: Path) -> subprocess.CompletedProcess[str]:
    script = folder / "test_page.py"
    script.write_text(source + "\n", encoding="utf-8")
    has_tests = re.search(r"^(class Test|def test_)", source, re.MULTILINE)
    with_pytest = ("-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider")
    return subprocess.run(
        [sys.executable, *(with_pytest if has_tests else ()), script.name],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "PYTHONWARNINGS": "error::ResourceWarning", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES if program(page.read_text("utf-8"))],
)
def test_the_code_of_a_page_runs(page: Path, tmp_path: Path):
    with ExitStack() as viewers:
        for kind in VIEWERS:
            viewers.enter_context(Viewer(kind))
        done = run(program(page.read_text("utf-8")), tmp_path)
    assert done.returncode == 0, f"{page.relative_to(ROOT)} (lines are those of the page)\n{done.stdout}{done.stderr}"


# ---- the runner itself -------------------------------------------------------------------------------------------

PAGE = """# A page

```python
x = 1
```

<!-- not run: needs a microscope -->
```python
raise SystemExit(1)
```

- in a list

  ```python
  assert x == {value}
  ```

```sh
exit 1
```
"""


def test_blocks_keep_their_lines_and_share_names():
    lines = program(PAGE.format(value=1)).split("\n")
    assert [(number, line) for number, line in enumerate(lines, 1) if line] == [(4, "x = 1"), (15, "assert x == 1")]
    assert program("no code\n") == ""


@pytest.mark.parametrize(("value", "code"), [(1, 0), (2, 1)])
def test_a_page_that_is_wrong_fails(tmp_path: Path, value: int, code: int):
    done = run(program(PAGE.format(value=value)), tmp_path)
    assert done.returncode == code
    assert (code == 0) or "line 15" in done.stderr


def test_a_page_with_tests_is_run_by_pytest(tmp_path: Path):
    page = PAGE.format(value=1) + "\n```python\ndef test_it():\n    assert x == 2\n```\n"
    done = run(program(page), tmp_path)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
