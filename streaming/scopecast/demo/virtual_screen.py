"""The screen that windows open on: whether there is one, and a virtual one otherwise.

Viewers need an X or Wayland server. On a machine without one (a server, a container, a test runner) `VirtualScreen`
starts Xvfb, by xvfbwrapper. Nothing here imports a GUI toolkit, so the producer's side can ask before it launches a
viewer.

How the server ends
    `close()` ends it. If the process is killed, nothing runs. Therefore the server is started with ``-terminate`` (end
    when the last client has gone) and the owner holds one connection to it: the kernel closes that when the process
    dies, and Xvfb ends by itself as soon as the windows that are still open on it are closed too.

Who may connect
    The server listens on local sockets only, and wants a cookie that this user's processes alone can read
    (``XAUTHORITY``): another user of the machine can neither look at the windows nor type into them. The file has no
    name and lies in memory, so that nothing is left of it.
"""

import contextlib
import os
import secrets
import shutil
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Self

from scopecast.errors import ScreenError
from scopecast.publishing.screen import connect_to_x, why_no_screen

__all__ = ["VirtualScreen", "ensure_screen", "has_screen"]

_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY")
_SETUP_SUCCESS = b"\x01"
_COOKIE_NAME = b"MIT-MAGIC-COOKIE-1"
_ANY_DISPLAY = 0xFFFF  # FamilyWild of Xauth.h: the display has no number yet
_LONGEST_SIDE = 32767  # pixels; coordinates are 16-bit integers in X11


def has_screen() -> bool:
    """Tell whether windows can be opened here.

    Returns
    -------
    bool
        On Linux: whether a compositor answers at WAYLAND_DISPLAY, or a server at DISPLAY (one that has outlived its
        server counts as none). Elsewhere: True, as the desktop is part of the system.
    """
    return not why_no_screen()


class VirtualScreen:
    """A private Xvfb server, which is ``DISPLAY`` while it is open.

    While it is open, ``os.environ["DISPLAY"]`` names it, ``XAUTHORITY`` its cookie, ``WAYLAND_DISPLAY`` is unset, so
    that windows of this process and of the processes it starts open there. `close()` restores them. Screens nest like
    any context managers.

    Parameters
    ----------
    size : tuple of int
        Width and height in pixels, 1 to 32767 each; the depth is 24 bits.
    timeout : float
        Seconds that the server has to come up.

    Attributes
    ----------
    display : str
        The name of the display, such as ``":1"``.
    size : tuple of int
        Width and height in pixels.
    pid : int
        The process id of the server.

    Raises
    ------
    ValueError
        If `size` is none that an X server can have.
    ScreenError
        If Xvfb or xvfbwrapper is not installed, or Xvfb isn't up within `timeout`.
    """

    def __init__(self, size: tuple[int, int] = (1600, 1000), *, timeout: float = 20.0) -> None:
        if not all(1 <= length <= _LONGEST_SIDE for length in size):
            raise ValueError(f"a virtual screen has 1 to {_LONGEST_SIDE} pixels per side, not {size[0]} x {size[1]}")
        if shutil.which("Xvfb") is None:
            raise ScreenError(
                "There is no screen (neither DISPLAY nor WAYLAND_DISPLAY points to one), and Xvfb, which provides a "
                "virtual one, is not installed. On Debian and Ubuntu: sudo apt-get install xvfb libgl1-mesa-dri"
            )
        try:
            from xvfbwrapper import Xvfb
        except (ImportError, OSError) as error:  # OSError: as it says on Windows
            raise ScreenError(f"A virtual screen needs xvfbwrapper: pip install xvfbwrapper ({error})") from error
        self.size = size
        self._owner = os.getpid()
        with contextlib.ExitStack() as undo:
            authority, cookie = _write_authority()
            undo.callback(os.close, authority)
            path = f"/proc/{self._owner}/fd/{authority}"
            # Its own lock files would lie in TMPDIR; in /tmp Xvfb takes them over, and removes them when it ends.
            server = Xvfb(
                *size,
                tempdir="/tmp",
                timeout=timeout,
                environ=dict(os.environ),
                extra_args=["-nolisten", "tcp", "+extension", "GLX", "-terminate", "-auth", path],
            )
            undo.callback(server.stop)
            try:
                with _apart_from_the_terminal():
                    server.start()
                self.display, self.pid = f":{server.new_display}", server.proc.pid
                connection = undo.enter_context(connect_to_x(self.display))
                connection.settimeout(timeout)
                connection.sendall(_setup_request(cookie))
                if connection.recv(1) != _SETUP_SUCCESS:
                    raise ConnectionError("it refuses a connection")
            except (RuntimeError, OSError) as error:
                command = " ".join(["Xvfb", *server.extra_xvfb_args[:3]])
                raise ScreenError(
                    f"Xvfb did not come up within {timeout:g} s: {error}. To see why, run: {command} :99"
                ) from error
            ours = {"DISPLAY": self.display, "XAUTHORITY": path}
            undo.callback(_restore, {name: os.environ.pop(name, None) for name in _VARIABLES}, ours)
            os.environ.update(ours)
            self._resources = undo.pop_all()

    def close(self) -> None:
        """End the server and restore the environment; calling it again does nothing. Windows still open on it die."""
        if os.getpid() == self._owner:  # a forked child leaves it alone
            self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def ensure_screen(size: tuple[int, int] = (1600, 1000)) -> Iterator[bool]:
    """Make sure that windows can be opened: start a virtual screen if there is none.

    Parameters
    ----------
    size : tuple of int
        Width and height in pixels of the virtual screen.

    Yields
    ------
    bool
        True if a virtual screen was started; it ends with the context.

    Raises
    ------
    ScreenError
        If there is no screen and Xvfb can't be started.
    """
    if has_screen():
        yield False
        return
    with VirtualScreen(size):
        yield True


def _write_authority() -> tuple[int, bytes]:
    """Write a new cookie, in the format of Xau (X11's ``Xauth.h``), to a file in memory; return both."""
    if sys.platform != "linux":
        raise ScreenError("A virtual screen is for Linux: elsewhere the desktop is part of the system.")
    cookie = secrets.token_bytes(16)
    record = struct.pack(">H", _ANY_DISPLAY)
    for field in (b"", b"", _COOKIE_NAME, cookie):  # address, number of the display, kind of the cookie, the cookie
        record += struct.pack(">H", len(field)) + field
    authority = os.memfd_create("Xauthority")
    os.write(authority, record)
    return authority, cookie


def _setup_request(cookie: bytes) -> bytes:
    r"""Return the first message of an X11 client (protocol 11.0, section 8: connection setup).

    >>> _setup_request(bytes(16))[:2]
    b'l\x00'
    """
    head = struct.pack("<BxHHHHxx", ord("l"), 11, 0, len(_COOKIE_NAME), len(cookie))
    return head + _COOKIE_NAME + bytes(-len(_COOKIE_NAME) % 4) + cookie


@contextlib.contextmanager
def _apart_from_the_terminal() -> Iterator[None]:
    """Have processes that are started here not see Ctrl-C: it is for the program, not for the screen under it."""
    if sys.platform == "win32":
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTSTP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _restore(before: dict[str, str | None], ours: dict[str, str]) -> None:
    """Put the environment back; what someone has chosen in the meantime stays."""
    for name, value in before.items():
        if os.environ.get(name) == ours.get(name):
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
