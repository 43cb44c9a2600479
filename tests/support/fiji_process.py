"""A viewer in a Fiji folder, as a process that evaluates what a test asks of it."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Self

from children import wait_until
from scopecast import Publisher

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["SHAPE", "FijiProcess"]

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


class FijiProcess:
    """The process of a viewer in a Fiji folder, with a home of its own."""

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
