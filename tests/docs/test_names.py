"""What the manual names exists: objects, files, variables and messages; and the reference has what the pages use."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for half in ("streaming", "viewers") for path in (ROOT / half).rglob("*.py"))
PAGES = [path for path in sorted((ROOT / "docs").rglob("*.md")) if not path.parent.name.startswith("_")]
#: Pages that name files of the repository; in the others, such names are a reader's own files.
ABOUT_THE_CODE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/explanation/design.md")]
PARTS = ("", "docs", "streaming/scopecast", "viewers/scopecast_viewers")


def each(pages: list[Path]) -> list[Any]:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages]


def find(name: str) -> Any:
    """Return what a dotted name stands for."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


def imported(page: str) -> set[str]:
    """Return the names of scopecast that the Python blocks of a page import, or reach through `scopecast.`."""
    names: set[str] = set()
    for block in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names if "." in alias.name}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Attribute) and ast.unparse(node).startswith("scopecast."):
                names.add(ast.unparse(node))
    return {name for name in names if re.match(r"scopecast(_viewers)?\.", name)}


def listed() -> list[Any]:
    """Return what the reference of Python has entries for."""
    found, module = [], "scopecast"
    page = (ROOT / "docs/reference/python.md").read_text("utf-8")
    for directive, name in re.findall(r"^\.\. (\w+):: (\S+)", page, re.MULTILINE):
        if directive in ("currentmodule", "module"):
            module = name
        if directive in ("module", "automodule"):
            found.append(find(name))
        elif directive != "currentmodule":
            found.append(find(f"{module}.{name}"))
    return found


@pytest.mark.parametrize("page", each([page for page in PAGES if imported(page.read_text("utf-8"))]))
def test_the_reference_has_every_name_that_a_page_uses(page: Path):
    entries = listed()
    names = sorted(imported(page.read_text("utf-8")))
    missing = [name for name in names if not any(find(name) is entry for entry in entries)]
    assert missing == [], "docs/reference/python.md has no entry for them"


def test_the_reference_has_every_public_name():
    entries = listed()
    errors = importlib.import_module("scopecast.errors")
    modules = (
        importlib.import_module(name) for name in ("scopecast", "scopecast.testing", "scopecast_viewers.display")
    )
    names = {f"{module.__name__}.{name}" for module in modules for name in module.__all__ if not hasattr(errors, name)}
    assert [name for name in sorted(names) if not any(find(name) is entry for entry in entries)] == []


@pytest.mark.parametrize("page", each(PAGES))
def test_every_dotted_name_of_a_page_exists(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for name in re.findall(r"`~?(scopecast(?:_viewers)?\.[\w.]+)(?:\(.*?\))?`", text):
        if name != "scopecast.viewers":  # an entry point
            assert find(name) is not None


@pytest.mark.parametrize("page", each(ABOUT_THE_CODE))
def test_every_file_of_a_page_exists(page: Path):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    files = re.findall(r"`((?:[\w.-]+/)+|(?:[\w.-]+/)*[\w-]+\.(?:py|c|md|toml|yml|yaml|txt))`", text)
    assert links or files
    made = ("_pictures", "_build", "_generated")
    gone = [link for link in links if not (page.parent / link).exists() and not link.startswith(made)]
    gone += [name for name in files if not any((ROOT / part / name).exists() for part in PARTS)]
    assert gone == []


def test_the_page_of_variables_has_each_of_them():
    page = (ROOT / "docs/reference/environment.md").read_text("utf-8")
    read = {
        name
        for path in [*SOURCES, *(ROOT / "docs").glob("*.py")]
        for name in re.findall(r"[\"'`](SCOPECAST_[A-Z_]+|FIJI_HOME|JAVA_HOME|M2_REPO)[\"'`]", path.read_text("utf-8"))
    }
    named = set(re.findall(r"`(SCOPECAST_[A-Z_]+|FIJI_HOME|JAVA_HOME|M2_REPO)`", page))
    assert read == named


def messages() -> str:
    """Return all texts of the product, a line each; what is filled in is left open."""
    nodes = (node for path in SOURCES for node in ast.walk(ast.parse(path.read_text("utf-8"))))
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def quoted(page: str) -> list[str]:
    """Return the texts that a page quotes: what is in double quotes, or code, in a block quote."""
    return [
        text
        for line in re.findall(r"^> (.*)", page, re.MULTILINE)
        for pair in re.findall(r"\"([^\"]+)\"|`([^`]+)`", line)
        for text in pair
        if text
    ]


def unknown(page: str, known: str) -> list[str]:
    """Return the parts of quoted texts, between the "…" that stand for what is filled in, that no text has."""
    parts = [part.strip() for text in quoted(page) for part in text.split("…")]
    return [part for part in parts if part and part not in known]


def test_every_message_that_is_explained_exists():
    page = (ROOT / "docs/howto/trouble.md").read_text("utf-8")
    assert len(quoted(page)) > 5
    assert unknown(page, messages()) == []


def test_a_message_that_does_not_exist_is_found():
    assert unknown('> "source lost"; "the … source is tired"\n\n"not quoted"', "source lost") == [
        "the",
        "source is tired",
    ]


def test_the_packages_of_debian_are_those_of_the_setup():
    setup = re.search(r'^debian_packages="(.*?)"', (ROOT / ".ci/setup").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert setup is not None
    wanted = {choice.split("|")[-1] for choice in setup[1].split()}
    page = (ROOT / "docs/install.md").read_text("utf-8")
    named = {word for line in re.findall(r"apt-get install ((?:.*\\\n)*.*)", page) for word in line.split()}
    assert wanted <= named
