"""Can windows be opened: the screen, Qt, OpenGL."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scopecast.demo.virtual_screen import has_screen
from scopecast.doctor.finding import Finding, run_bounded
from scopecast.doctor.libraries import install_line, missing_libraries, named_in
from scopecast.publishing.causes import cause_in
from scopecast.publishing.screen import wayland_answers, x_answers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scopecast.doctor.finding import Ended, State

__all__ = ["screen", "windows"]

PROBE = [sys.executable, "-P", "-m", "scopecast_viewers.napari.probe"]
#: Seconds that Qt and the driver have; they need less than one.
PROBE_S = 20.0
_UNSEEN = ("offscreen", "minimal", "vnc")
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer", "swiftshader")
_OLDEST_GL = (2, 1)  # what napari's canvas (vispy) needs
_CHOOSE = "pip install pyqt6 (or another binding that napari knows)"


def screen() -> Iterator[Finding]:
    """Look whether there is a screen, or could be a virtual one."""
    if sys.platform != "linux":
        yield Finding("screen", "ok", "the desktop is part of this system")
        return
    display, wayland = os.environ.get("DISPLAY", ""), os.environ.get("WAYLAND_DISPLAY", "")
    bad: State = "broken" if _has("napari") else "warning"
    if wayland and not wayland_answers(wayland):
        message = f"WAYLAND_DISPLAY is {wayland}, but no compositor answers there: windows cannot open"
        yield Finding("screen", bad, message, "unset WAYLAND_DISPLAY, or log in to the desktop again")
    elif wayland:
        yield Finding("screen", "ok", f"Wayland, {wayland}")
    elif display and x_answers(display):
        yield Finding("screen", "ok", f"X, {display}")
    elif display:
        message = f"DISPLAY is {display}, but no X server answers there: windows cannot open"
        yield Finding("screen", bad, message, "unset DISPLAY, or log in again (ssh -X sets a new one)")
    elif shutil.which("Xvfb"):
        message = "none (neither DISPLAY nor WAYLAND_DISPLAY is set); Xvfb is installed, and `scopecast demo` uses it"
        yield Finding("screen", "warning", message, "run your program under xvfb-run -a, or on a desktop")
    else:
        message = "none (neither DISPLAY nor WAYLAND_DISPLAY is set), and no Xvfb to provide a virtual one"
        yield Finding("screen", "warning", message, "sudo apt-get install xvfb libgl1-mesa-dri")
    if (platform := os.environ.get("QT_QPA_PLATFORM", "")).split(":")[0] in _UNSEEN:
        message = f"QT_QPA_PLATFORM is {platform}: Qt's windows are not shown on any screen"
        yield Finding("screen", "warning", message, "unset QT_QPA_PLATFORM")


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def windows(timeout: float = PROBE_S) -> Iterator[Finding]:
    """Try Qt and OpenGL in a process of its own, which may crash or hang.

    Parameters
    ----------
    timeout
        Seconds until it is killed.
    """
    if not _has("napari"):
        yield Finding("Qt", "absent", "not needed: napari is not installed here")
        return
    if not _has("qtpy"):
        yield Finding("Qt", "broken", "napari is installed, but qtpy, which it needs, is not", _CHOOSE)
        return
    seen = has_screen()
    # Without a screen Qt would abort; the binding and its libraries can be looked at in any case.
    ended = run_bounded(PROBE, timeout, {} if seen else {"QT_QPA_PLATFORM": "offscreen"})
    steps = {value.get("step"): value for value in ended.values()}
    if failed := steps.get("failed"):
        yield _no_binding(str(failed["error"]), failed["imports"])
        return
    if "binding" not in steps:
        yield Finding("Qt", "broken", f"importing Qt {_how(ended, timeout)}", "pip install --force-reinstall pyqt6")
        return
    binding = steps["binding"]
    name = f"{binding['name'].replace('pyqt', 'PyQt').replace('pyside', 'PySide')} {binding['version']}"
    plugin = _platform_plugin(Path(binding["plugins"]))
    if plugin is not None and (missing := missing_libraries(plugin)):
        message = f"{name}: its plug-in {plugin.name} needs {', '.join(missing)}, which this system lacks"
        yield Finding("Qt", "broken", message, install_line(missing))
        return
    if not seen:
        yield Finding("Qt", "ok", f"{name}; its libraries are installed")
        yield Finding("OpenGL", "absent", "not checked: there is no screen", "xvfb-run -a scopecast doctor")
        return
    if "screen" not in steps:
        fix = "unset QT_QPA_PLATFORM" if os.environ.get("QT_QPA_PLATFORM") else "see the finding about the screen"
        yield Finding("Qt", "broken", f"{name} can't open a window: it {_how(ended, timeout)}", fix)
        return
    yield Finding("Qt", "ok", f"{name} on {steps['screen']['platform']}")
    yield _opengl(steps.get("opengl"), ended, timeout)


def _no_binding(error: str, imports: dict[str, str]) -> Finding:
    """Tell why napari finds no Qt: `imports` has what importing each installed binding failed with."""
    asked = os.environ.get("QT_API", "")
    working = [name for name, failure in imports.items() if not failure]
    if asked and (working or not imports):
        message = f"QT_API is {asked}, but that binding is not installed"
        return Finding("Qt", "broken", message, f"unset QT_API, so that {working[0]} is used" if working else _CHOOSE)
    if not imports:
        return Finding("Qt", "broken", "napari is installed, but no Qt binding for its window", _CHOOSE)
    failures = [f"{name}: {failure}" for name, failure in imports.items() if failure] or [error]
    if missing := named_in(" ".join(failures)):
        message = f"{next(iter(imports))} can't be imported: {', '.join(missing)} is missing on this system"
        return Finding("Qt", "broken", message, install_line(missing))
    return Finding("Qt", "broken", f"Qt can't be imported: {failures[0]}", "pip install --force-reinstall pyqt6")


def _platform_plugin(plugins: Path) -> Path | None:
    """Return the file of the plug-in that connects Qt to the screen."""
    if sys.platform != "linux":
        return None
    chosen = os.environ.get("QT_QPA_PLATFORM", "").split(":")[0]
    name = chosen or ("wayland" if os.environ.get("WAYLAND_DISPLAY") else "xcb")
    folders = [plugins / "platforms"]
    if elsewhere := os.environ.get("QT_QPA_PLATFORM_PLUGIN_PATH"):
        folders.insert(0, Path(elsewhere))
    return next((path for folder in folders if (path := folder / f"libq{name}.so").is_file()), None)


def _opengl(found: dict[str, Any] | None, ended: Ended, timeout: float) -> Finding:
    driver = "install the graphics card's driver (without one: sudo apt-get install libgl1-mesa-dri)"
    if found is None:
        message = f"creating an OpenGL context {_how(ended, timeout)}: napari's window will do the same"
        return Finding("OpenGL", "broken", message, f"{driver}, or LIBGL_ALWAYS_SOFTWARE=1")
    if "error" in found or not found.get("version"):
        return Finding("OpenGL", "broken", "no OpenGL context can be created: napari's canvas stays empty", driver)
    renderer, version = str(found["renderer"]), str(found["version"])
    described = f"{renderer}, OpenGL {version.split()[0]}"
    if _number(version) < _OLDEST_GL:
        return Finding("OpenGL", "broken", f"{described} is too old: napari needs 2.1", driver)
    if any(name in renderer.lower() for name in _SOFTWARE):
        if Path("/dev/dri").is_dir() and not os.environ.get("LIBGL_ALWAYS_SOFTWARE"):
            message = f"software rendering ({described}) although there is a graphics card: windows paint slowly"
            return Finding("OpenGL", "warning", message, driver)
        return Finding("OpenGL", "ok", f"software rendering ({described})")
    return Finding("OpenGL", "ok", f"hardware ({described})")


def _number(version: str) -> tuple[int, ...]:
    """Return major and minor of ``glGetString(GL_VERSION)``, such as ``"OpenGL ES 3.2 Mesa"``; (0,) if it has none."""
    for word in version.split():
        if word[:1].isdigit():
            return tuple(int(part) for part in word.split(".")[:2] if part.isdigit())
    return (0,)


def _how(ended: Ended, timeout: float) -> str:
    """Say how a process ended that should have gone on, with the last that it said."""
    said = cause_in(ended.errors)
    if ended.code is None:
        text = f"hung (killed after {timeout:g} s)"
    elif ended.code < 0:
        text = f"crashed ({signal.Signals(-ended.code).name})"
    else:
        text = f"ended (exit code {ended.code})"
    return f"{text}: {said[:200]}" if said else text
