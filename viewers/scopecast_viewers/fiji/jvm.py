"""Chooses the ImageJ to run, and starts Java with it.

Three kinds of ImageJ are known, and what shows the frames uses only the classes ``ij.*``, which all of them have:

- plain ImageJ, the default: one jar, see `scopecast_viewers.fiji.jar`;
- the user's own Fiji, a folder: by PyImageJ where its classes can be had (`scopecast_viewers.fiji.pyimagej`), otherwise
  by JPype alone;
- anything that PyImageJ can fetch from Maven, such as ``sc.fiji:fiji``.

Which Java that is, `scopecast_viewers.fiji.javahome` says.
"""

from __future__ import annotations

import atexit
import faulthandler
import importlib.util
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from scopecast.errors import ViewerStartError
from scopecast_viewers.fiji.folder import find_fiji, heap_setting, jars_of
from scopecast_viewers.fiji.imagej2 import watch_commands
from scopecast_viewers.fiji.jar import IMAGEJ_VERSION, imagej_jar
from scopecast_viewers.fiji.javahome import find_java
from scopecast_viewers.fiji.pyimagej import gateway, missing_jars

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scopecast_viewers.fiji.javahome import Java

__all__ = ["Choice", "choose", "heap_bytes", "java_for", "start"]

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
    """Return which ImageJ the user wants: ``SCOPECAST_FIJI`` (a path or an endpoint), ``FIJI_HOME``, or plain ImageJ.

    Raises
    ------
    ViewerStartError
        If it is a path without a Fiji, or neither a path nor an endpoint.

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
    path = Path(wanted).expanduser()
    try:
        is_there = path.exists()
    except OSError:  # it is, where this user may not look; what can't be read is told below
        is_there = True
    if is_there:
        try:
            return Choice("folder", str(find_fiji(path)))
        except ViewerStartError as error:
            raise ViewerStartError(f"{variable}={wanted}: {error}") from error
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
    for module in ("jpype", *(("imagej",) if choice.kind == "endpoint" else ())):
        if importlib.util.find_spec(module) is None:
            raise ViewerStartError(f"the ImageJ viewer needs {module}; install it with: pip install 'scopecast[fiji]'")
    java = java_for(choice)
    for note in java.passed:
        logger.warning("%s", note)
    os.environ["JAVA_HOME"] = str(java.home)  # for PyImageJ, and for what ImageJ starts
    # Java stops its threads, and finds null references, by segmentation faults that it handles itself. Whoever disables
    # faulthandler later, as Python's end and pytest do, would put the handler of before Java in its place.
    faulthandler.disable()
    began = time.monotonic()
    try:
        window = _START[choice.kind](choice, java, heap_bytes(budget))
    except ViewerStartError:
        raise
    except Exception as error:
        # What Java, JPype, jgo and PyImageJ raise has no common base.
        msg = f"{choice} could not be started on {java}: {type(error).__name__}: {error}"
        raise ViewerStartError(msg) from error
    logger.info("%s opened in %.1f s on %s", choice, time.monotonic() - began, java)
    return window


def java_for(choice: Choice) -> Java:
    """Return the Java that a kind of ImageJ runs on here.

    Raises
    ------
    ViewerStartError
        If there is none.
    """
    return find_java(Path(choice.what) if choice.kind == "folder" else None)


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


def _start_plain(choice: Choice, java: Java, heap: int) -> Any:
    jar = imagej_jar()  # before Java, which can't be ended again
    _start_java(java, _options(heap), [jar])
    import jpype

    imagej = jpype.JClass("ij.ImageJ")
    return imagej(imagej.EMBEDDED)


def _start_folder(choice: Choice, java: Java, heap: int) -> Any:
    fiji = Path(choice.what)
    jars, damaged = jars_of(fiji)
    for jar, problem in damaged.items():
        logger.warning("%s can't be read (%s): its content is missing", jar, problem)
    beside = missing_jars(jars)
    options = [
        *_options(max(heap, heap_setting(fiji) or 0)),
        # What Fiji's own launcher says.
        "--add-opens=java.base/java.lang=ALL-UNNAMED",
        "-Dscijava.context.strict=false",
        "-Dpython.cachedir.skip=true",
        *(f"-D{name}.dir={fiji}" for name in ("plugins", "imagej", "ij", "fiji")),
    ]
    _start_java(java, options, [*jars, *(beside or ())])
    import jpype

    made = None if beside is None else _by_pyimagej(choice)
    logger.info("%s is opened by %s", choice, "JPype alone" if made is None else "PyImageJ")
    try:
        if made is None:
            made = jpype.JClass("net.imagej.ImageJ")()
        return _window_of(choice, made)
    except (TypeError, jpype.JException) as error:  # a class is not there, or needs one that is not
        cause = ", ".join(f"{jar.relative_to(fiji)} is {problem}" for jar, problem in damaged.items())
        msg = f"{choice} can't be opened: {error}; {cause or 'it is not a complete Fiji'}; unpack Fiji again"
        raise ViewerStartError(msg) from error


def _by_pyimagej(choice: Choice) -> Any:
    try:
        return gateway()
    except Exception as error:  # noqa: BLE001 - what Java, JPype and PyImageJ raise has no common base; said, and done without
        logger.warning("PyImageJ does not work with %s, which is opened without it: %s", choice, error)
        return None


def _start_endpoint(choice: Choice, java: Java, heap: int) -> Any:
    import imagej
    import scyjava

    # "always", the default, downloads a Java whatever JAVA_HOME says; PyImageJ 1.8 can't do with "never".
    scyjava.config.set_java_constraints(fetch="auto")
    scyjava.config.add_options(_options(heap))
    scyjava.config.add_classpath(str(CLASSES))
    mode = "interactive:force" if sys.platform == "darwin" else "interactive"
    made = imagej.init(choice.what, mode=mode)
    atexit.unregister(scyjava.shutdown_jvm)  # it would wait for every thread of Java's
    _let_go_at_exit()
    return _window_of(choice, made)


_START: Final = {"plain": _start_plain, "folder": _start_folder, "endpoint": _start_endpoint}


def _start_java(java: Java, options: list[str], jars: list[Path]) -> None:
    import jpype

    path = [str(each) for each in (*jars, CLASSES)]
    jpype.startJVM(str(java.library), *options, classpath=path, convertStrings=False)
    _let_go_at_exit()


def _window_of(choice: Choice, made: Any) -> Any:
    """Show the window of an ImageJ2 gateway, and return it."""
    from scopecast_viewers.fiji.awt import java as class_of
    from scopecast_viewers.fiji.awt import listener

    ij = class_of("ij.IJ")
    if ij.getInstance() is None or not ij.getInstance().isVisible():
        made.ui().showUI()
    deadline = time.monotonic() + _WINDOW_S
    while ij.getInstance() is None:
        if time.monotonic() > deadline:
            raise ViewerStartError(f"{choice} has opened no window within {_WINDOW_S:.0f} s")
        time.sleep(0.05)  # ImageJ2 opens its window in a thread of its own, and tells nobody
    window = ij.getInstance()
    # ImageJ2 tells it to end the process, in the middle of a frame; this viewer ends when the window is closed. On the
    # window thread, after what opens the window there.
    stay = listener("java.lang.Runnable", run=lambda: window.exitWhenQuitting(False))
    class_of("java.awt.EventQueue").invokeAndWait(stay)
    watch_commands(made)
    return window


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
    except jpype.JVMNotRunning:  # something in Java ends the process
        return
    except jpype.JException as error:
        logger.warning("this process may end with an error, as Java can't be kept out of its shutdown: %s", error)
