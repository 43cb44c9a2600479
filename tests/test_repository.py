"""The repository as a whole: doctests, examples, what is imported, what must not be in the source, and the wheel."""

import ast
import doctest
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scopecast.memory import copying

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"scopecast": ROOT / "streaming" / "scopecast", "scopecast_viewers": ROOT / "viewers" / "scopecast_viewers"}
COMPILED = (".so", ".pyd")
# What only viewers and hosts need, by import name.
HEAVY = (
    "PIL",
    "PyQt6",
    "blosc2",
    "imagecodecs",
    "exengine",
    "imageio",
    "imagej",
    "jpype",
    "napari",
    "pandas",
    "polystore",
    "pymmcore_plus",
    "pytest",
    "qtpy",
    "scipy",
    "scyjava",
    "simplejpeg",
    "superqt",
    "tifffile",
    "useq",
    "vispy",
    "watchfiles",
    "zarr",
)


def modules() -> list[str]:
    """The names of all modules of both packages, found without importing them."""
    names = []
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            names.append(".".join([package, *(part for part in parts if part != "__init__")]))
    return [name for name in names if not name.endswith(".__main__")]


def run(*command: str | Path, timeout: float = 60, **environment: str) -> str:
    """Run a command in the repository's folder; return what it printed, and fail with it if it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, f"{command} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout


@pytest.mark.parametrize("name", modules())
def test_doctests(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in SOURCES:
            raise
        pytest.skip(f"{name} needs {error.name}, which is not installed")
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


def test_the_producer_imports_nothing_heavy() -> None:
    code = f"import sys, scopecast; heavy = set({HEAVY}) & set(sys.modules); assert not heavy, heavy"
    run(sys.executable, "-c", code)


def test_importing_the_producer_brings_little_beside_its_dependencies() -> None:
    """What `import scopecast` adds to `import numpy, zmq` is named here, so that nothing slow joins unseen."""
    code = """if True:
        import sys, numpy, zmq
        before = set(sys.modules)
        import scopecast
        added = {name.partition(".")[0] for name in set(sys.modules) - before}
        print(*sorted(added - set(sys.stdlib_module_names)))
    """
    assert set(run(sys.executable, "-c", code).split()) <= {
        *("scopecast", "msgspec", "numpy", "typing_extensions"),  # numpy: more of its own modules
    }
    not_yet = ("asyncio", "multiprocessing.shared_memory", "packaging", "rich", "typer", "unittest", "urllib.request")
    run(
        sys.executable,
        "-c",
        f"import sys, scopecast; early = set({not_yet}) & set(sys.modules); assert not early, early",
    )


def test_the_processes_of_the_tests_have_a_users_environment(tmp_path: Path) -> None:
    code = "import sys; sys.path[:0] = ['tests', 'tests/support']; import conftest, os; print(*os.environ)"
    leftovers = {"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "JAVA_HOME", "SCOPECAST_FIJI", "QT_QPA_PLATFORM"}
    mirror = {"SCOPECAST_MAVEN": "https://mirror.example"}
    kept = run(sys.executable, "-c", code, TMPDIR=str(tmp_path), **dict.fromkeys(leftovers, "1"), **mirror).split()
    assert not leftovers.intersection(kept)
    assert {"PATH", "SCOPECAST_MAVEN"} <= set(kept)


def unsafe(source: str) -> Iterator[str]:
    """What in a module could run code that a peer, a file or a message brings along."""
    modules = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
    calls = {"eval", "exec", "recv_pyobj", "send_pyobj", "recv_serialized", "literal_eval"}
    if not re.search(rf"\b({'|'.join((*modules, *calls, 'allow_pickle'))})\b", source):  # to parse all takes seconds
        return
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"{node.lineno}: import {it.name}" for it in names if it.name.partition(".")[0] in modules)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in modules:
                yield f"{node.lineno}: from {module} import …"
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in calls:
                yield f"{node.lineno}: {name}(…)"
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and not value.value
            ):
                yield f"{value.lineno}: allow_pickle"


@pytest.mark.fault("H6")
@pytest.mark.parametrize("folder", SOURCES.values(), ids=SOURCES.keys())
def test_nothing_received_can_run_code(folder: Path) -> None:
    found = [f"{path}:{what}" for path in folder.rglob("*.py") for what in unsafe(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("import pickle", 1),
        ("import numpy, pickle as p", 1),
        ("from cloudpickle.core import loads", 1),
        ("x = socket.recv_pyobj()", 1),
        ("dtype = eval(text)", 1),
        ("np.load(path, allow_pickle=True)", 1),
        ("np.load(path, allow_pickle=trusted)", 1),
        ("np.load(path, allow_pickle=False)", 0),
        ("from host import PicklableBackend", 0),
        ("from . import wire", 0),
    ],
)
def test_the_look_for_unsafe_code_finds_it(source: str, count: int) -> None:
    assert len(list(unsafe(source))) == count


def test_no_file_names_a_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode != 0:
        pytest.skip(f"git can't list the files: {listed.stderr.decode(errors='replace')}")
    needles = [f"/{folder}/".encode() for folder in ("work", "root")]  # put together here, so that this file has none
    found = []
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" in content[:8192]:
            continue  # an image or other binary file
        found += [f"{name}: {needle.decode()}" for needle in needles if needle in content]
    assert found == []


def test_every_python_that_the_package_names_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = {text.rpartition(" ")[2] for text in project["classifiers"] if re.search(r":: 3\.\d+$", text)}
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/test.yml").read_text("utf-8"))
    assert matrix is not None
    assert named <= set(re.findall(r"[\d.]+", matrix[1]))


def test_the_manual_on_read_the_docs_gets_the_packages_of_the_setup() -> None:
    setup = re.search(r'^debian_packages="(.*?)"', (ROOT / ".ci/setup").read_text("utf-8"), re.MULTILINE | re.DOTALL)
    listed = re.search(r"apt_packages:.*\n((?: +- .*\n)+)", (ROOT / ".readthedocs.yaml").read_text("utf-8"))
    assert setup is not None
    assert listed is not None
    names = set(re.findall(r"- (\S+)", listed[1]))
    choices = [set(choice.split("|")) for choice in setup[1].split()]
    assert [choice for choice in choices if not choice & names] == []
    assert names <= set.union(*choices)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    (path,) = folder.glob("scopecast-*.whl")
    return path


def test_the_wheel_has_every_file_of_both_packages(wheel: Path) -> None:
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in SOURCES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in COMPILED
    }
    packed = files_of(wheel)
    compiled = {name for name in packed if Path(name).suffix in COMPILED}
    assert packed - compiled == expected
    modules = ("scopecast/memory/_copying", "scopecast/remote/_companding")
    assert compiled <= {f"{module}{suffix}" for module in modules for suffix in (".abi3.so", ".pyd")}
    assert len(compiled) in (0, len(modules))
    assert wheel.name.split("-")[2:4] == (["cp311", "abi3"] if compiled else ["py3", "none"])


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_without_a_compiler_the_wheel_is_for_every_machine(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    missing = {**os.environ, "CC": str(tmp_path / "no-compiler")}
    done = subprocess.run(build, cwd=ROOT, env=missing, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    if copying.is_for(platform.machine()):
        assert "large frames will be copied by numpy" in done.stdout + done.stderr
    (path,) = tmp_path.glob("scopecast-*-py3-none-any.whl")
    assert not [name for name in files_of(path) if Path(name).suffix in COMPILED]


def test_the_source_distribution_has_all_that_make_test_needs(tmp_path: Path) -> None:
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path)
    (path,) = tmp_path.glob("scopecast-*.tar.gz")
    with tarfile.open(path) as archive:
        packed = {name.partition("/")[2]: archive.getmember(name) for name in archive.getnames()}
    needed = {"Makefile", "constraints.txt", "pyproject.toml", "README.md", ".ci/setup", ".ci/run", "tests/conftest.py"}
    needed |= {".ci/windows", ".ci/windows-demo.py", ".ci/aarch64"}
    needed |= {path.relative_to(ROOT).as_posix() for path in (ROOT / ".github").rglob("*") if path.is_file()}
    needed |= {".pre-commit-config.yaml", ".readthedocs.yaml", "CITATION.cff", "SECURITY.md"}
    for folder in ("streaming", "viewers", "tests", "examples"):
        needed |= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py")}
        needed |= {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.c")}
    assert needed <= packed.keys()
    assert not [name for name in packed if name.endswith(".so")], "what is compiled is made where it is installed"
    assert packed[".ci/setup"].mode & 0o100, "the set-up is to be run"


def test_the_wheel_works_with_its_base_dependencies_alone(wheel: Path, tmp_path: Path) -> None:
    """The environment has the wheel and what it requires without extras, linked from here: no network is needed."""
    venv.create(tmp_path, with_pip=False, symlinks=True)
    python = tmp_path / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site_packages = Path(run(python, "-c", code).strip())
    with zipfile.ZipFile(wheel) as archive:
        metadata = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        required = importlib.metadata.PathDistribution(zipfile.Path(archive, str(Path(metadata).parent) + "/")).requires
    for distribution in closure(required or []):
        link(distribution, site_packages)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-index", "--no-deps", wheel)
    run(*pip, "check")

    code = f"""if True:
        import importlib.util, sys
        import scopecast, scopecast_viewers
        assert scopecast.__file__.startswith(sys.prefix), scopecast.__file__
        heavy = [name for name in {HEAVY} if importlib.util.find_spec(name)]
        assert not heavy, heavy
    """
    run(python, "-P", "-c", code)
    assert (tmp_path / "bin" / "scopecast").exists()


def closure(requirements: list[str]) -> list[importlib.metadata.Distribution]:
    """The installed distributions that meet the requirements and, in turn, theirs; without extras of the first."""
    found: dict[str, importlib.metadata.Distribution] = {}
    todo = [(Requirement(text), "") for text in requirements]
    while todo:
        requirement, extra = todo.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        key = f"{canonicalize_name(requirement.name)}{sorted(requirement.extras)}"
        if key in found:
            continue
        found[key] = importlib.metadata.distribution(requirement.name)
        for text in found[key].requires or []:
            todo += [(Requirement(text), each) for each in ["", *requirement.extras]]
    return list(found.values())


def link(distribution: importlib.metadata.Distribution, site_packages: Path) -> None:
    """Make the files of an installed distribution importable from another environment."""
    home = Path(str(distribution.locate_file("")))
    for top in {path.parts[0] for path in distribution.files or [] if path.parts[0] not in ("..", "__pycache__")}:
        target = site_packages / top
        if not target.exists():
            target.symlink_to(home / top)
