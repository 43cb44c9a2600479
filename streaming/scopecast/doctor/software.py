"""What is installed: its versions against those that are supported, and whether it is there twice."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

import scopecast
from scopecast.doctor.finding import Finding
from scopecast.publishing.launch import known_viewers

# `packaging` is imported where it is used: all commands import this module, and few of them need that.
if TYPE_CHECKING:
    from collections.abc import Iterator

    from packaging.requirements import Requirement

__all__ = ["duplicates", "messaging", "plugin", "versions", "viewers"]


def versions() -> Iterator[Finding]:
    """Compare what is installed with what scopecast requires, by itself and with each of its extras."""
    from packaging.specifiers import SpecifierSet

    try:
        metadata = importlib.metadata.metadata("scopecast")
    except importlib.metadata.PackageNotFoundError:
        message = (
            f"scopecast {scopecast.__version__} runs from {Path(scopecast.__file__).parent} without being installed"
        )
        yield Finding("versions", "warning", message, "pip install scopecast")
        return
    supported = str(metadata.json.get("requires_python", ""))
    python = ".".join(map(str, sys.version_info[:3]))
    if SpecifierSet(supported).contains(python, prereleases=True):
        yield Finding("versions", "ok", f"Python {python}, scopecast {scopecast.__version__}")
    else:
        yield Finding("versions", "broken", f"Python {python}; scopecast needs {supported}", "use another Python")
    if metadata["Version"] != scopecast.__version__:
        message = f"scopecast {scopecast.__version__} is running, but pip lists it as {metadata['Version']}"
        yield Finding("versions", "warning", message, "pip install --force-reinstall scopecast")
    base, extras = _requirements()
    yield from _compare(base, "")
    for extra, requirements in extras.items():
        yield from _compare(requirements, extra)


def _requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Return what scopecast itself requires, and what its extras do; of those that hold here."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    distribution = importlib.metadata.distribution("scopecast")
    parsed = [Requirement(text) for text in distribution.requires or []]
    base = [it for it in parsed if it.marker is None or it.marker.evaluate({"extra": ""})]
    extras: dict[str, list[Requirement]] = {}
    for extra in distribution.metadata.get_all("Provides-Extra") or []:
        mine = [it for it in parsed if it not in base and it.marker and it.marker.evaluate({"extra": extra})]
        # [all] names the others, and what it has beside them is said there.
        mine = [it for it in mine if canonicalize_name(it.name) != "scopecast"]
        if mine and extra != "all":
            extras[extra] = mine
    return base, extras


def _compare(requirements: list[Requirement], extra: str) -> Iterator[Finding]:
    """Yield what is missing or has another version, and a line for all the rest."""
    there: list[str] = []
    missing: list[str] = []
    for requirement in requirements:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if requirement.specifier.contains(version, prereleases=True):
            there.append(f"{requirement.name} {version}")
        else:
            message = f"{requirement.name} is {version}; scopecast works with {requirement.specifier}"
            yield Finding("versions", "broken", message, f"pip install '{requirement.name}{requirement.specifier}'")
    what = f"[{extra}]" if extra else "always needed"
    install = f"pip install 'scopecast{f'[{extra}]' if extra else ''}'"
    if missing and not extra:
        yield Finding("versions", "broken", f"{', '.join(missing)} is missing, which scopecast needs", install)
    elif missing and not there:
        yield Finding("versions", "absent", f"{what}: not installed ({', '.join(missing)})", install)
    elif missing:
        message = f"{what} is installed in part: {', '.join(missing)} is missing"
        yield Finding("versions", "warning", message, install)
    if there:
        yield Finding("versions", "ok", f"{what}: {', '.join(there)}")


def messaging() -> Iterator[Finding]:
    """Look what libzmq can do."""
    version = zmq.zmq_version()
    lacking = [name for name in (("ipc",) if sys.platform != "win32" else ("curve",)) if not zmq.has(name)]
    if lacking:
        message = f"libzmq {version} was built without {', '.join(lacking)}"
        yield Finding("versions", "broken", message, "pip install --force-reinstall pyzmq")
    else:
        curve = "with" if zmq.has("curve") else "without"
        yield Finding("versions", "ok", f"libzmq {version}, {curve} encryption (CURVE)")


def viewers() -> Iterator[Finding]:
    """Look which kinds of viewers are installed, and whether what they need is."""
    needs = {"napari": "napari", "fiji": "jpype"}
    kinds = known_viewers()
    lacking = {kind: module for kind, module in needs.items() if kind in kinds and not importlib.util.find_spec(module)}
    usable = sorted(kinds - set(lacking))
    if not kinds:
        message = "scopecast has no viewer: its entry points are not installed"
        yield Finding("viewers", "broken", message, "pip install --force-reinstall scopecast")
        return
    yield Finding("viewers", "ok", f"installed: {', '.join(usable) or 'none'}")
    for kind, module in sorted(lacking.items()):
        fix = "pip install 'scopecast[napari]' pyqt6" if kind == "napari" else f"pip install 'scopecast[{kind}]'"
        yield Finding("viewers", "absent", f"{kind} can't be opened here: {module} is not installed", fix)


def plugin() -> Iterator[Finding]:
    """Look whether napari finds the plug-in of scopecast."""
    from packaging.utils import canonicalize_name

    if importlib.util.find_spec("napari") is None:
        return
    manifests = [
        entry
        for entry in importlib.metadata.entry_points(group="napari.manifest")
        if entry.dist is not None and canonicalize_name(entry.dist.name) == "scopecast"
    ]
    reinstall = "pip install --force-reinstall scopecast"
    if not manifests:
        yield Finding("napari plugin", "warning", "napari can't find scopecast's: it has no manifest", reinstall)
        return
    for entry in manifests:
        package, _, name = entry.value.partition(":")
        spec = importlib.util.find_spec(package)
        folders = (spec.submodule_search_locations or []) if spec else []
        if any((Path(folder) / name).is_file() for folder in folders):
            yield Finding("napari plugin", "ok", f"napari finds it ({entry.value})")
        else:
            yield Finding("napari plugin", "broken", f"its manifest {entry.value} is not there", reinstall)


def duplicates() -> Iterator[Finding]:
    """Look for a second scopecast: on Python's path, or as the command that the shell finds."""
    homes = []
    for distribution in importlib.metadata.distributions(name="scopecast"):
        home = str(distribution.locate_file("").resolve())  # type: ignore[attr-defined]
        if home not in homes:
            homes.append(home)
    running = Path(scopecast.__file__).resolve().parent
    if len(homes) > 1:
        message = f"it is installed twice: {' and '.join(homes)}; the one that runs is {running}"
        yield Finding("installation", "warning", message, "pip uninstall scopecast (twice), and install it once")
    others = [path for path in _commands() if path.parent.resolve() != Path(sys.executable).parent.resolve()]
    if others and others[0] == _commands()[0]:
        message = f"the command `scopecast` belongs to another installation: {others[0]}; this one is {running}"
        yield Finding("installation", "warning", message, f"{sys.executable} -m scopecast …, or fix PATH")
    elif len(homes) <= 1:
        yield Finding("installation", "ok", str(running))


def _commands() -> list[Path]:
    """Return all commands of that name on the shell's path, the one that it runs first."""
    name = "scopecast.exe" if sys.platform == "win32" else "scopecast"
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    return [folder / name for folder in folders if os.access(folder / name, os.X_OK)]
