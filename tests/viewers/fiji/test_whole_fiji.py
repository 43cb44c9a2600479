"""A whole Fiji (ImageJ2, legacy, SciJava): what its scripts and its menus do beside a live image.

``WHOLE_FIJI`` names its folder. Nothing is downloaded: the SciJava repository has it, Maven Central has not.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from children import wait_until
from receivers import stamped
from scopecast import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

WHOLE = os.environ.get("WHOLE_FIJI", "")
pytestmark = [
    pytest.mark.timeout(280),
    pytest.mark.skipif(not WHOLE, reason="WHOLE_FIJI names no folder with a whole Fiji"),
]
SHAPE = (64, 48)

#: The viewer's process, which evaluates what it is sent, a line each.
PROGRAM = """
import json, sys, threading, time
from scopecast_viewers.fiji.awt import java
from scopecast_viewers.fiji.display import FijiDisplay
from scopecast_viewers.receiver import Receiver

display = FijiDisplay()

def images():
    return list(display.gallery)

def imp():
    return images()[-1].imp

def service(name):
    return java("ij.IJ").runPlugIn("org.scijava.Context", "").service(java(name))

def dataset():
    return service("org.scijava.convert.ConvertService").convert(imp(), java("net.imagej.Dataset"))

def extents(data):
    return [int(data.dimension(n)) for n in range(data.numDimensions())]

def head(data, *place):
    at = data.getImgPlus().randomAccess()
    for n, where in enumerate(place):
        at.setPosition(where, n + 2)
    values = []
    for x in range(8):
        at.setPosition(x, 0)
        values.append(int(at.get().getRealDouble()))
    return values

def run_script(text):
    module = service("org.scijava.script.ScriptService").run("try.bsh", text, True, []).get()
    return {str(key): str(value) for key, value in module.getOutputs().items()}

def menus(of):
    bar = java("ij.Menus").getMenuBar()
    (menu,) = [bar.getMenu(n) for n in range(bar.getMenuCount()) if str(bar.getMenu(n).getLabel()) == of]
    return [str(menu.getItem(n).getLabel()) for n in range(menu.getItemCount())]

def answer():
    for line in sys.stdin:
        try:
            found = eval(json.loads(line), globals())
        except Exception as error:
            found = f"{type(error).__name__}: {error}"
        print("ANSWER " + json.dumps(found, default=str), flush=True)

threading.Thread(target=answer, daemon=True).start()
with Receiver(display) as receiver:
    display.run(receiver)
print("ANSWER " + json.dumps("ended in order"), flush=True)
"""


class WholeFiji:
    """The process of a viewer in a whole Fiji."""

    def __init__(self, folder: Path, home: Path) -> None:
        self._errors = (home / "errors").open("w+")
        environment = {
            **os.environ,
            "FIJI_HOME": str(folder),
            "SCOPECAST_JAVA_OPTIONS": f"-Duser.home={home}",
            "SCOPECAST_SCIJAVA_MAVEN": "",
            "M2_REPO": str(home / "none"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.process.stdout:  # what Fiji itself prints goes there, too
            if line.startswith("ANSWER "):
                self._answers.put(line.removeprefix("ANSWER "))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps("display.quit()") + "\n")
            self.process.stdin.flush()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._errors):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def ask(self, expression: str) -> Any:
        """Return what an expression is there."""
        self.process.stdin.write(json.dumps(expression) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> Any:
        try:
            return json.loads(self._answers.get(timeout=60))
        except queue.Empty:
            raise AssertionError(f"the viewer does not answer:\n{self.errors}") from None

    def until(self, expression: str, wanted: Any = True) -> None:
        wait_until(lambda: self.ask(expression) == wanted, f"{expression} is {wanted}, not {self.ask(expression)}", 30)

    @property
    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def publisher(self) -> Publisher:
        publisher = Publisher("fiji", policy="every", launch=False, budget=8 * 2**20)
        publisher.open(SHAPE, "uint16", wait=120)
        wait_until(lambda: any(row.attached for row in publisher.stats()), "attached", 120)
        return publisher


@pytest.fixture(scope="module")
def fiji(shared_runtime: Path, screen: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeFiji]:
    with WholeFiji(Path(WHOLE), tmp_path_factory.mktemp("home")) as made:
        yield made


def frame(publisher: Publisher, t: int) -> None:
    publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})


def header(t: int) -> list[int]:
    return [int(value) for value in stamped(t, 0, 0, SHAPE)[0, :8]]


def test_a_script_gets_the_image_as_it_is_now(fiji):
    """`#@ Dataset`, and the conversion that `ij.py.from_java` begins with: Fiji keeps the first for ever."""
    count = "#@ Dataset data\n#@output long n\nn = data.dimension(2);"
    for run in range(2):
        with fiji.publisher() as publisher:
            for t in range(3):
                frame(publisher, 10 * run + t)
            assert publisher.flush(60)
            first = 10 * run
            fiji.until("int(imp().getNFrames()) == 3 and imp() == java('ij.WindowManager').getCurrentImage()")
            assert fiji.ask("extents(dataset())") == [48, 64, 3]
            assert fiji.ask(f"run_script({count!r})")["n"] == "3"
            for grown in (5, 6):
                for t in range(int(grown == 6) * 5 or 3, grown):
                    frame(publisher, first + t)
                assert publisher.flush(60)
                fiji.until(f"int(imp().getNFrames()) == {grown}")
                fiji.until("extents(dataset())", [48, 64, grown])
                assert fiji.ask(f"head(dataset(), {grown - 1})") == header(first + grown - 1)
                assert fiji.ask(f"run_script({count!r})")["n"] == str(grown)


def test_a_script_gets_what_has_come_in_the_place_of_what_it_has_seen(fiji):
    """The image need not grow: there may have been no frame yet where the script has looked."""
    with fiji.publisher() as publisher:
        for t in (20, 22):
            frame(publisher, t)
        assert publisher.flush(60)
        fiji.until("int(imp().getNFrames()) == 3")
        assert fiji.ask("head(dataset(), 1)") == [0] * 8
        frame(publisher, 21)
        assert publisher.flush(60)
        fiji.until("head(dataset(), 1)", header(21))


def test_the_menu_is_there_after_the_menus_were_made_anew(fiji):
    fiji.until("'scopecast' in menus('Plugins')")
    for _ in range(2):
        fiji.ask("java('ij.IJ').doCommand('Refresh Menus')")
        fiji.until("menus('Plugins').count('scopecast')", 1)
    assert fiji.ask("display.menu.menu.getItemCount() > 3")


def test_the_heap_and_the_java_are_the_folders(fiji):
    """As far as it has them: see `heap_setting` and `find_java`."""
    from scopecast_viewers.fiji.folder import heap_setting
    from scopecast_viewers.fiji.javahome import find_java

    wanted = heap_setting(Path(WHOLE))
    if wanted is not None:
        assert fiji.ask("int(java('java.lang.Runtime').getRuntime().maxMemory())") >= wanted * 0.9
    home = fiji.ask("str(java('java.lang.System').getProperty('java.home'))")
    assert Path(home).resolve() == find_java(Path(WHOLE)).home.resolve()


def test_quitting_while_frames_come_leaves_no_traceback(fiji):
    """The last one: it ends the viewer."""
    with fiji.publisher() as publisher:
        stop = threading.Event()

        def publish() -> None:
            t = 0
            while not stop.is_set():
                frame(publisher, t)
                t += 1
                time.sleep(0)

        feeder = threading.Thread(target=publish)
        feeder.start()
        try:
            fiji.until("int(imp().getNFrames()) > 20")
            fiji.ask("java('ij.IJ').getInstance().quit()")
            assert fiji.answer() == "ended in order"
            assert fiji.process.wait(60) == 0
        finally:
            stop.set()
            feeder.join()
        said = fiji.errors
        assert "Traceback" not in said
        assert "Exception" not in said
        assert publisher.stats().balanced
