"""The ImageJ viewer as a process of its own: started by a backend, killed, stopped, quit, and what can be missing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from children import stop, wait_until
from launched import ending_viewers
from receivers import stamped, viewer_process
from scopecast import FijiStreamingBackend, Publisher

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (64, 48)
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(autouse=True)
def preferences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep ImageJ's preferences out of the home of whoever runs the tests."""
    monkeypatch.setenv("SCOPECAST_JAVA_OPTIONS", f"{os.environ['SCOPECAST_JAVA_OPTIONS']} -Duser.home={tmp_path}")


@pytest.mark.fault("V1", "V2")
def test_a_killed_and_a_stopped_imagej_cost_the_producer_nothing():
    """V1, V2 with a real JVM: noticed, their leases freed; one that comes back is served again."""
    with (
        viewer_process("fiji", timeout=120) as killed,
        viewer_process("fiji", timeout=120) as stopped,
        Publisher("fiji", policy="latest") as publisher,
    ):
        publisher.open(SHAPE, "uint16")
        wait_until(lambda: sum(row.attached for row in publisher.stats()) == 2, "both attached", 60)
        stop(stopped.pid)
        os.kill(killed.pid, signal.SIGKILL)
        for t in range(200):
            publisher.publish(stamped(t, 0, 0, SHAPE), axes={"t": t})
        wait_until(lambda: not any(row.attached for row in publisher.stats()), "both were given up", 60)
        assert publisher.flush(0)
        assert publisher.stats().balanced
        os.kill(stopped.pid, signal.SIGCONT)
        wait_until(lambda: any(row.attached and row.token == stopped.token for row in publisher.stats()), "back", 60)
        publisher.publish(stamped(200, 0, 0, SHAPE), axes={"t": 200})
        assert publisher.flush(30)
        (back,) = [row for row in publisher.stats() if row.attached]
        assert back.frames.delivered >= 1
        assert publisher.stats().balanced


@pytest.mark.fault("V6")
@pytest.mark.parametrize(
    ("environment", "said"),
    [
        pytest.param({"JAVA_HOME": "/nowhere/java"}, "JAVA_HOME=/nowhere/java is not a Java", id="no Java"),
        pytest.param({"fiji": "/nowhere/Fiji.app"}, "is neither a folder nor a Maven endpoint", id="no Fiji"),
        pytest.param({"FIJI_HOME": "/usr"}, "there is no ImageJ in this folder", id="not a Fiji"),
        pytest.param(
            {"SCOPECAST_MAVEN": "http://127.0.0.1:9", "XDG_CACHE_HOME": "{tmp}"},
            "ImageJ could not be downloaded from http://127.0.0.1:9/net/imagej/ij",
            id="no network",
        ),
        pytest.param({"SCOPECAST_JAVA_OPTIONS": "-Xmx1k"}, "Too small maximum heap", id="Java fails"),
    ],
)
def test_what_is_missing_is_said_once_and_the_producer_goes_on(environment, said, tmp_path, monkeypatch, caplog):
    """V6: no Java, no Fiji where one was named, no network for the jar."""
    variables = dict(environment)
    fiji = variables.pop("fiji", None)  # what the backend is told
    for name, value in variables.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    with FijiStreamingBackend(title="alone", timeout=60, fiji=fiji) as live:
        receipt = live.save_batch([np.zeros(SHAPE, "uint16")] * 3, [f"a_t{t}.tif" for t in range(3)])
        assert len(receipt.skipped) == 3
        assert live.stats().balanced
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings[0] == "scopecast: starting fiji, and waiting for it"
    assert len(warnings) == 2
    assert said in warnings[1]
    assert "Traceback" not in warnings[1]


def test_the_newest_frame_before_the_window_was_up_is_the_first_on_its_screen(tmp_path: Path):
    with ending_viewers(), Publisher("fiji", launch=True) as publisher:
        for t in range(20):
            frame = np.zeros((128, 128), "uint16")
            bright = frame[:, :64] if t == 19 else frame[:64]
            bright[:] = 40_000
            publisher.publish(frame, axes={"t": t})
        wait_until(lambda: any(row.attached and row.painted for row in publisher.stats()), "it is painted", 120)
        (row,) = publisher.stats()
        assert (row.frames.published, row.frames.delivered) == (1, 1)

        def is_shown() -> bool:
            """Whether the left half is bright; of the other frames it is the upper one."""
            publisher.capture(tmp_path / "window.png", timeout=60)
            white = np.asarray(Image.open(tmp_path / "window.png").convert("L")) == 255
            width, height = ((white.sum(axis=axis) > 100).sum() for axis in (0, 1))  # icons have some white, too
            return bool(abs(height - 2 * width) < 0.02 * height)

        wait_until(is_shown, "its picture is on the screen", 30)  # the window may still be laid out


def test_quitting_imagej_says_goodbye(tmp_path: Path):
    """The user's File > Quit, by a macro that ImageJ runs at its start."""
    program = (
        "import sys\n"
        "from scopecast_viewers.fiji.display import FijiDisplay\n"
        "from scopecast_viewers.receiver import Receiver\n"
        "import threading\n"
        "display = FijiDisplay()\n"
        "def quit_when_asked():\n"
        "    sys.stdin.readline()\n"
        "    from scopecast_viewers.fiji.awt import java\n"
        "    java('ij.IJ').getInstance().quit()\n"
        "threading.Thread(target=quit_when_asked, daemon=True).start()\n"
        "with Receiver(display) as receiver:\n"
        "    display.run(receiver)\n"
        "print('ended in order', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        with Publisher("fiji", policy="every") as publisher:
            publisher.open(SHAPE, "uint16", wait=60)
            wait_until(lambda: any(row.attached for row in publisher.stats()), "attached", 60)
            publisher.publish(stamped(0, 0, 0, SHAPE), axes={"t": 0})
            assert publisher.flush(30)
            process.stdin.write("quit\n")
            process.stdin.flush()
            wait_until(lambda: not any(row.attached for row in publisher.stats()), "it has left", 60)
            publisher.publish(stamped(1, 0, 0, SHAPE), axes={"t": 1})
            assert publisher.stats().balanced
            assert process.stdout.read().strip() == "ended in order"
            assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdin.close()
        process.stdout.close()


def test_a_python_that_ends_is_left_alone_by_the_threads_of_java():
    """The window thread still ticks, and Java's collector has just found thousands of Python's objects."""
    program = (
        "import os, threading\n"
        "from scopecast_viewers.fiji.jvm import Choice, start\n"
        "start(Choice('plain'), 64 << 20)\n"
        "from scopecast_viewers.fiji.awt import java, listener\n"
        "ticked = threading.Event()\n"
        "tick = listener('java.awt.event.ActionListener', actionPerformed=lambda _: ticked.set())\n"
        "java('javax.swing.Timer')(1, tick).start()\n"
        "assert ticked.wait(30)\n"
        "known = java('java.util.ArrayList')()\n"
        "for _ in range(5000):\n"
        "    known.add(listener('java.lang.Runnable', run=lambda: None))\n"
        "known.clear()\n"
        "java('java.lang.System').gc()\n"
        "print('ends', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ends\n", "")


def test_what_a_call_into_python_needs_is_not_freed_while_it_goes_on():
    """At the end of Python, JPype's stop frees all that Java holds of it: a call that has begun would find nothing."""
    program = (
        "import threading, time, weakref\n"
        "from scopecast_viewers.fiji.jvm import Choice, start\n"
        "start(Choice('plain'), 64 << 20)\n"
        "from scopecast_viewers.fiji.awt import invoke_later, java, listener\n"
        "order, begun = [], threading.Event()\n"
        "class Function:\n"
        "    def __call__(self): pass\n"
        "function, known = Function(), java('java.util.ArrayList')()\n"
        "weakref.finalize(function, order.append, 'freed')\n"
        "known.add(listener('java.lang.Runnable', run=function))\n"
        "del function\n"
        "invoke_later(lambda: (begun.set(), time.sleep(1.0), order.append('called')))\n"
        "assert begun.wait(30)\n"
        "java('scopecast.Farewell').say(60_000)\n"
        "print(*order, flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "called freed\n", "")


def test_java_handles_its_own_segmentation_faults_to_the_end_where_python_has_a_handler_too():
    """Python (``-X faulthandler``, ``-X dev``) and pytest disable theirs at their end, while Java's threads run on."""
    program = (
        "import faulthandler, time\n"
        "from scopecast_viewers.fiji.jvm import Choice, start\n"
        "start(Choice('plain'), 64 << 20)\n"
        "from scopecast_viewers.fiji.awt import java\n"
        "java('ij.macro.MacroRunner')('for (i = 0; i < 1e9; i++) { s = \"\"; s = s + i; }')\n"
        "deadline = time.monotonic() + 2\n"
        "faulthandler.disable()\n"
        "while time.monotonic() < deadline:\n"
        "    java('java.lang.System').gc()  # which stops Java's threads\n"
        "print('ends', flush=True)\n"
    )
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "ends\n", "")
