"""The screen that windows open on: whether there is one, and a virtual one otherwise.

Viewers need an X or Wayland server. On a machine without one (a server, a container, a test runner) `VirtualScreen`
starts Xvfb. Nothing here imports a GUI toolkit, so the producer's side can ask before it launches a viewer.

How the server ends
    `close()` terminates it; so does the garbage collector, with a ResourceWarning, and so does the interpreter's exit.
    If the process is killed, none of these runs. Therefore the server is started with ``-terminate`` (end when the last
    client has gone) and the owner holds one connection to it: the kernel closes that when the process dies, and Xvfb
    ends by itself as soon as the windows that are still open on it are closed too.

Who may connect
    The server listens on local sockets only, and wants a cookie that lies in a file of this user's (``XAUTHORITY``):
    another user of the machine can neither look at the windows nor type into them.
"""

import contextlib
import os
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from scopecast.demo.xauthority import clean_authorities, remove_authority, setup_request, write_authority
from scopecast.errors import ScreenError

__all__ = ["VirtualScreen", "ensure_screen", "has_screen"]

_SETUP_SUCCESS = b"\x01"
_LONGEST_SIDE = 32767  # pixels; coordinates are 16-bit integers in X11
_CONNECT_TIMEOUT = 2.0  # seconds; a forwarded display (ssh -X) is a TCP connection away
_END_TIMEOUT = 5.0  # seconds that Xvfb has to end before it is killed


def has_screen() -> bool:
    """Tell whether windows can be opened here.

    Returns
    -------
    bool
        On Linux: whether WAYLAND_DISPLAY is set, or DISPLAY is set and its server accepts a connection (a DISPLAY that
        outlived its server counts as none). Elsewhere: True, as the desktop is part of the system.
    """
    if sys.platform != "linux":
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    try:
        _connect(os.environ.get("DISPLAY", "")).close()
    except OSError:
        return False
    return True


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
        If Xvfb is not installed, refuses to start, or isn't up within `timeout`.
    """

    def __init__(self, size: tuple[int, int] = (1600, 1000), *, timeout: float = 20.0) -> None:
        if not all(1 <= length <= _LONGEST_SIDE for length in size):
            raise ValueError(f"a virtual screen has 1 to {_LONGEST_SIDE} pixels per side, not {size[0]} x {size[1]}")
        self.size = size
        process, self.display, connection, authority = _start(size, timeout)
        self.pid = process.pid
        environment = {name: os.environ.pop(name, None) for name in ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY")}
        os.environ.update(DISPLAY=self.display, XAUTHORITY=str(authority))
        self._finalizer = weakref.finalize(
            self, _leaked, os.getpid(), process, connection, authority, self.display, environment
        )

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return not self._finalizer.alive

    def close(self) -> None:
        """End the server and restore the environment; calling it again does nothing. Windows still open on it die."""
        detached = self._finalizer.detach()
        if detached is not None:
            _end(*detached[2])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<VirtualScreen {self.display} {self.size[0]}x{self.size[1]}{' closed' if self.closed else ''}>"


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


def _start(size: tuple[int, int], timeout: float) -> tuple[subprocess.Popen[bytes], str, socket.socket, Path]:
    """Start Xvfb; return it, the display's name, a connection that keeps the server alive, and its authority file."""
    program = shutil.which("Xvfb")
    if program is None:
        raise ScreenError(
            "There is no screen (neither DISPLAY nor WAYLAND_DISPLAY points to one), and Xvfb, which provides a "
            "virtual one, is not installed. On Debian and Ubuntu: sudo apt-get install xvfb libgl1-mesa-dri"
        )
    deadline = time.monotonic() + timeout
    clean_authorities()
    # -displayfd: the server picks a free display itself and reports its number once it accepts connections.
    size_and_depth = f"{size[0]}x{size[1]}x24"
    command = [program, "-screen", "0", size_and_depth, "-nolisten", "tcp", "+extension", "GLX", "-terminate"]
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as undo:
        authority, cookie, held = write_authority()
        undo.callback(remove_authority, authority)
        command += ["-auth", str(authority)]
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb", buffering=0) as report:
            try:
                process = subprocess.Popen(
                    [*command, "-displayfd", str(writer)],
                    pass_fds=(writer, held),  # the lock is the server's from now on: its folder is in use as it lives
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C in the terminal is for the program, not for the screen under it
                )
            finally:
                os.close(writer)
                os.close(held)
            undo.callback(_stop, process)
            number = _read_line(report, deadline)
        if number is None:
            raise ScreenError(f"Xvfb did not start within {timeout:g} s.{_tail(log)}")
        if not number.isdigit():
            raise ScreenError(f"Xvfb refused to start a screen of {size[0]} x {size[1]} pixels.{_tail(log)}")
        try:
            connection = _connect(f":{number}")
            undo.callback(connection.close)
            connection.settimeout(max(0.1, deadline - time.monotonic()))
            connection.sendall(setup_request(cookie))
            answer = connection.recv(1)
        except OSError as error:
            raise ScreenError(f"Xvfb started display :{number} but can't be reached ({error}).{_tail(log)}") from error
        if answer != _SETUP_SUCCESS:
            raise ScreenError(f"Xvfb started display :{number} but refuses a connection.{_tail(log)}")
        undo.pop_all()
    return process, f":{number}", connection, authority


def _read_line(stream: IO[bytes], deadline: float) -> str | None:
    """Read a line, or what comes before the end of the stream; None if the deadline (time.monotonic) passes first."""
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                return None
            part = stream.read(32)
            if not part:
                break
            line += part
    return line.decode("ascii", "replace").strip()


def _connect(display: str) -> socket.socket:
    """Connect to the server of an X display, such as ``:0``, ``localhost:10.0`` or ``unix:1``; OSError if none is."""
    parsed = re.fullmatch(r"(?:\w+/)?(?P<host>[^/]*):(?P<number>\d{1,5})(?:\.\d+)?", display, re.ASCII)
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


def _leaked(
    owner: int,
    process: subprocess.Popen[bytes],
    connection: socket.socket,
    authority: Path,
    display: str,
    environment: dict[str, str | None],
) -> None:
    """End a screen that was not closed, at garbage collection or exit."""
    if os.getpid() == owner:
        warnings.warn(f"the virtual screen {display} was never closed", ResourceWarning, stacklevel=2)
    _end(owner, process, connection, authority, display, environment)


def _end(
    owner: int,
    process: subprocess.Popen[bytes],
    connection: socket.socket,
    authority: Path,
    display: str,
    environment: dict[str, str | None],
) -> None:
    """End the server and put the environment back; in a forked child only let go of the connection."""
    connection.close()
    if os.getpid() != owner:
        return
    _stop(process)
    remove_authority(authority)
    restored = {name: value for name, value in environment.items() if value is not None}
    if os.environ.get("XAUTHORITY") == str(authority):  # else someone has chosen another screen in the meantime
        del os.environ["XAUTHORITY"]
        os.environ.update({name: value for name, value in restored.items() if name == "XAUTHORITY"})
    if os.environ.get("DISPLAY") == display:
        del os.environ["DISPLAY"]
        os.environ.update({name: value for name, value in restored.items() if name != "XAUTHORITY"})


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: IO[bytes]) -> str:
    """Return the server's last output, as the end of an error's text."""
    log.seek(0)
    lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return " It said: " + " / ".join(lines[-3:]) if lines else ""
