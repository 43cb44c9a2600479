"""Shared libraries that are missing, and the Debian packages that provide them."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

from scopecast.doctor.finding import run_bounded

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["PACKAGES", "install_line", "missing_libraries", "named_in"]

#: Debian's and Ubuntu's package of each library that Qt, OpenGL and AWT load.
PACKAGES: Final = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libGLX.so.0": "libglx0",
    "libOpenGL.so.0": "libopengl0",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libX11.so.6": "libx11-6",
    "libXext.so.6": "libxext6",
    "libXi.so.6": "libxi6",
    "libXrender.so.1": "libxrender1",
    "libXtst.so.6": "libxtst6",
    "libasound.so.2": "libasound2",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xinerama.so.0": "libxcb-xinerama0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libxcb.so.1": "libxcb1",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxkbcommon.so.0": "libxkbcommon0",
}


def missing_libraries(path: Path) -> list[str]:
    """Return the names of the libraries that a library or program needs and the system lacks.

    Asks ``ldd``, which loads nothing of it; where there is none, nothing is known to be missing.
    """
    if not shutil.which("ldd"):
        return []
    try:
        asked = run_bounded(["ldd", str(path)], timeout=20.0, environment={"LC_ALL": "C"})
    except OSError:
        return []
    return sorted(set(re.findall(r"^\s*(\S+) => not found", asked.output, re.MULTILINE)))


def named_in(text: str) -> list[str]:
    """Return the libraries whose absence an error's text tells of.

    >>> named_in("ImportError: libEGL.so.1: cannot open shared object file: No such file or directory")
    ['libEGL.so.1']
    """
    return re.findall(r"(lib[\w.+-]+?\.so[.\d]*): cannot open shared object file", text)


def install_line(libraries: Iterable[str]) -> str:
    """Return the command that installs libraries on Debian and Ubuntu.

    >>> install_line(["libEGL.so.1", "libxcb-cursor.so.0"])
    'sudo apt-get install libegl1 libxcb-cursor0'
    """
    names = list(libraries)
    packages = sorted({PACKAGES[name] for name in names if name in PACKAGES})
    parts = [f"sudo apt-get install {' '.join(packages)}"] if packages else []
    parts += [
        f"install the package that provides {name} (apt-file search {name})" for name in names if name not in PACKAGES
    ]
    return "; ".join(parts)
