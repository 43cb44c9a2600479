"""Whether a window could open: what DISPLAY and WAYLAND_DISPLAY name may have ended, or never have been there."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

__all__ = ["connect_to_x", "wayland_answers", "why_no_screen", "x_answers"]

_CONNECT_TIMEOUT = 2.0  # seconds; a forwarded display (ssh -X) is a TCP connection away


def why_no_screen() -> str:
    """Return why no window can open here, and what to do about it; ``""`` if one can."""
    if not sys.platform.startswith("linux"):
        return ""  # the desktop is part of the system
    wayland, display = os.environ.get("WAYLAND_DISPLAY", ""), os.environ.get("DISPLAY", "")
    if (wayland and wayland_answers(wayland)) or (display and x_answers(display)):
        return ""
    named = {"WAYLAND_DISPLAY": wayland, "DISPLAY": display}
    if dead := [f"{name} is {value}" for name, value in named.items() if value]:
        return f"there is no screen ({' and '.join(dead)}, where nothing answers); log in again, or use xvfb-run"
    return "there is no screen (neither DISPLAY nor WAYLAND_DISPLAY is set); log in with ssh -X, or use xvfb-run"


def x_answers(display: str) -> bool:
    """Whether an X server accepts connections at a display, such as ``:0``."""
    try:
        connect_to_x(display).close()
    except OSError:
        return False
    return True


def wayland_answers(name: str) -> bool:
    """Whether a compositor accepts connections at a Wayland display, such as ``wayland-0``."""
    if sys.platform == "win32":
        return False
    path = Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/none")) / name  # an absolute name stays as it is
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_CONNECT_TIMEOUT)
        try:
            client.connect(os.fspath(path))
        except OSError:
            return False
    return True


def connect_to_x(display: str) -> socket.socket:
    """Connect to the server of an X display, such as ``:0``, ``localhost:10.0`` or ``unix:1``; OSError if none is."""
    parsed = re.fullmatch(r"(?:\w+/)?(?P<host>[^/]*):(?P<number>\d{1,10})(?:\.\d+)?", display, re.ASCII)
    if parsed is None:
        raise OSError(f"{display!r} is not the name of an X display")
    number = int(parsed["number"])
    if parsed["host"] not in ("", "unix"):
        host = parsed["host"].strip("[]")
        try:
            return socket.create_connection((host, 6000 + number), _CONNECT_TIMEOUT)
        except (OverflowError, UnicodeError) as error:  # a port past 65535; a host name that can't be one
            raise OSError(f"{display!r} is not the name of an X display") from error
    if sys.platform == "win32":
        raise OSError("Windows has no local X displays")
    path = f"/tmp/.X11-unix/X{number}"
    # The abstract name comes first, as in Xlib: a server that may not create the directory has only that one.
    for address in (f"\0{path}", path):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_CONNECT_TIMEOUT)
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure
