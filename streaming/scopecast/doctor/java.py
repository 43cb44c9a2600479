"""Java, which ImageJ and Fiji run on, and ImageJ itself: opened as the viewer opens it."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopecast.demo.virtual_screen import VirtualScreen, has_screen
from scopecast.doctor.finding import Finding, run_bounded
from scopecast.doctor.libraries import install_line, missing_libraries
from scopecast.errors import ScreenError
from scopecast.publishing.launch import known_viewers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.doctor.finding import Ended

__all__ = ["imagej", "java"]

#: The viewer's own choice and start, in a process of its own.
PROBE = [sys.executable, "-P", "-m", "scopecast_viewers.fiji.probe"]
#: Seconds that the choice of a Java has, and the opening of ImageJ; a Fiji needs 5 to 12.
JAVA_S = 60.0
OPEN_S = 120.0
_INSTALL = "pip install 'scopecast[fiji]'"


def _wanted() -> bool:
    """Whether the ImageJ viewer is installed."""
    return "fiji" in known_viewers() and importlib.util.find_spec("jpype") is not None


def java() -> Iterator[Finding]:
    """Look which Java the viewer would run on, how old it is, and whether it has AWT, which windows need."""
    if not _wanted():
        yield Finding("Java", "absent", "not checked: only ImageJ and Fiji need Java", _INSTALL)
        return
    ended = run_bounded([*PROBE, "--java"], JAVA_S)
    steps = {value.get("step"): value for value in ended.values()}
    found = steps.get("java")
    if found is None:
        if "choice" in steps or "failed" not in steps:  # else the choice of ImageJ has failed, which `imagej` tells
            yield _failed("Java", steps, ended)
        return
    yield _windows(found)


def _windows(found: dict[str, Any]) -> Finding:
    name, passed = str(found["name"]), [str(each) for each in found["passed"]]
    if sys.platform == "linux":
        # libjvm and libjava are found by the JVM itself, which ldd knows nothing of.
        missing = [
            library
            for library in missing_libraries(Path(found["library"]).parent.parent / "libawt_xawt.so")
            if not library.startswith(("libjvm", "libjava", "libawt"))
        ]
        if missing:
            message = f"{name}: its windows need {', '.join(missing)}, which this system lacks"
            return Finding("Java", "broken", message, install_line(missing))
        name += ", with windows (AWT)"
    if passed:
        return Finding("Java", "warning", "; ".join((name, *passed)), "optional: replace the Java that is not used")
    return Finding("Java", "ok", name)


def imagej(timeout: float = OPEN_S) -> Iterator[Finding]:
    """Open the ImageJ that the viewer would, out of sight where there is Xvfb.

    Parameters
    ----------
    timeout
        Seconds until it is killed.
    """
    if not _wanted():
        yield Finding("ImageJ", "absent", "the ImageJ viewer is not installed", _INSTALL)
        return
    with contextlib.ExitStack() as stack:
        if shutil.which("Xvfb"):
            with contextlib.suppress(ScreenError):
                stack.enter_context(VirtualScreen())
        seen = has_screen()
        ended = run_bounded([*PROBE, *(() if seen else ("--java",))], timeout)
    steps = {value.get("step"): value for value in ended.values()}
    if ended.code is None:
        message = f"{_name(steps)} did not open within {timeout:g} s and was killed"
        yield Finding(
            "ImageJ", "broken", message, "start it by itself, and see whether a dialog is waiting for an answer"
        )
    elif opened := steps.get("open"):
        name = f"{_name(steps)} opens ({opened['version']})"
        if notes := opened["notes"]:
            yield Finding("ImageJ", "warning", "; ".join((name, *notes)), "fix it, or ignore this if you do not use it")
        else:
            yield Finding("ImageJ", "ok", name)
    elif "failed" in steps or "java" not in steps:
        if "java" in steps or "choice" not in steps:  # else `java` tells it
            yield _failed("ImageJ", steps, ended)
    elif not seen:
        message = f"{_name(steps)} was not opened: there is no screen"
        yield Finding("ImageJ", "absent", message, "xvfb-run -a scopecast doctor")
    elif steps["choice"]["kind"] == "endpoint":
        yield Finding("ImageJ", "absent", f"{_name(steps)} is downloaded by PyImageJ, and was not opened")
    elif ended.code == 0:
        message = "its jar (2.5 MB) has not been downloaded yet: the first start fetches it from Maven Central"
        yield Finding("ImageJ", "warning", message, "start it once with a network connection: scopecast open fiji")
    else:
        yield _failed("ImageJ", steps, ended)


def _name(steps: dict[Any, dict[str, Any]]) -> str:
    return str(steps["choice"]["name"]) if "choice" in steps else "ImageJ"


def _failed(check: str, steps: dict[Any, dict[str, Any]], ended: Ended) -> Finding:
    """Report why the viewer would not start: its own message, or the last output of a process that ended otherwise."""
    if "failed" in steps:
        said = " ".join(str(steps["failed"]["error"]).split())
    else:
        # A Java that can't start ends the process, and says why on stdout.
        words = [line.strip() for line in f"{ended.output}\n{ended.errors}".splitlines()]
        lines = [line for line in words if line and not line.startswith("{")]
        said = f"{_name(steps)} can't be started: {lines[-1][:200] if lines else 'no output'}"
    problem, _, fix = said.rpartition("; ")
    return Finding(check, "broken", problem or said, fix if problem else f"{_INSTALL} again, or see the viewer's log")
