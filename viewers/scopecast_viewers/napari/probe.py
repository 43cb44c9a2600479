"""Try Qt and OpenGL, step by step: ``python -m scopecast_viewers.napari.probe`` prints a line of JSON after each.

A process of its own, as a missing library ends it with abort(), and a driver may crash it or hang. Whoever runs it sees
by the last line how far it came; see `scopecast.doctor`.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import sys
from typing import Any

_GL_VENDOR, _GL_RENDERER, _GL_VERSION = 0x1F00, 0x1F01, 0x1F02


def _tell(step: str, **found: Any) -> None:
    sys.stdout.write(json.dumps({"step": step, **found}) + "\n")
    sys.stdout.flush()


def _imports() -> dict[str, str]:
    """Import every binding that is installed; return what each failed with, which qtpy does not tell, or ``""``."""
    found = {}
    for name in ("PyQt6", "PySide6", "PyQt5", "PySide2"):
        if importlib.util.find_spec(name) is not None:
            try:
                importlib.import_module(f"{name}.QtGui")
                found[name] = ""
            except Exception as error:  # noqa: BLE001 - as in main
                found[name] = f"{type(error).__name__}: {error}"
    return found


def main() -> None:
    """Import the binding, connect to the screen, make an OpenGL context."""
    try:
        import qtpy
        from qtpy.QtCore import QLibraryInfo
        from qtpy.QtGui import QGuiApplication, QOffscreenSurface, QOpenGLContext
    except Exception as error:  # noqa: BLE001 - whatever it is, that is the finding
        _tell("failed", error=f"{type(error).__name__}: {error}", imports=_imports())
        return
    where = getattr(QLibraryInfo, "path", None) or QLibraryInfo.location
    plugins = where(QLibraryInfo.LibraryPath.PluginsPath if hasattr(QLibraryInfo, "LibraryPath") else 5)
    _tell("binding", name=qtpy.API_NAME, version=qtpy.PYQT_VERSION or qtpy.PYSIDE_VERSION, plugins=str(plugins))
    application = QGuiApplication(["scopecast"])
    size = application.primaryScreen().size() if application.primaryScreen() else None
    platform = application.platformName()
    _tell("screen", platform=platform, size=[size.width(), size.height()] if size else None)
    context, surface = QOpenGLContext(), QOffscreenSurface()
    surface.create()
    if not (context.create() and context.makeCurrent(surface)):
        _tell("opengl", error="no context can be made")
        return
    address = int(context.getProcAddress(b"glGetString") or 0)
    texts = {}
    if address:
        get_string = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_uint)(address)
        for name, number in (("vendor", _GL_VENDOR), ("renderer", _GL_RENDERER), ("version", _GL_VERSION)):
            texts[name] = (get_string(number) or b"").decode(errors="replace")
    context.doneCurrent()
    _tell("opengl", **texts)


if __name__ == "__main__":
    main()
