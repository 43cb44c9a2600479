"""Which line of a program's log tells why it ended."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scopecast.errors import ViewerStartError
from scopecast.publishing import launch
from scopecast.publishing.causes import cause_in
from scopecast.publishing.launch import Launch, find_or_start_viewer
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-01-31 12:00:00,123"
INFO = f"{AT} INFO OpenGL.platform.ctypesloader: Failed to load library ( 'libOpenGL.so.0' ): no such file"
WARNING = f"{AT} WARNING scopecast_viewers.fiji.jvm: this process may end with an error: java.lang.NoClassDefFoundError"
TRACEBACK = """Traceback (most recent call last):
  File "viewer.py", line 3, in <module>
    import absent
           ^^^^^^
ModuleNotFoundError: No module named 'absent'"""
LOGS = {
    "nothing": ("", ""),
    "blank": ("\n  \n", ""),
    "a word": ("starting", "starting"),
    "only information": (f"{AT} INFO scopecast_viewers: ready soon", "ready soon"),
    "information after a word": (f"giving up\n{INFO}", "giving up"),
    "traceback": (TRACEBACK, "ModuleNotFoundError: No module named 'absent'"),
    "traceback, then information": (f"{TRACEBACK}\n{INFO}\n{INFO}", "ModuleNotFoundError: No module named 'absent'"),
    "traceback between information": (f"{INFO}\n{TRACEBACK}\n{INFO}", "ModuleNotFoundError: No module named 'absent'"),
    "traceback, then a warning": (f"{TRACEBACK}\n{WARNING}", "ModuleNotFoundError: No module named 'absent'"),
    "traceback far above": ("\n".join([TRACEBACK, *[INFO] * 40]), "ModuleNotFoundError: No module named 'absent'"),
    "an exception of several lines": (
        "Traceback (most recent call last):\n  File …\nqtpy.QtBindingsNotFoundError: No Qt bindings could be found\nx",
        "qtpy.QtBindingsNotFoundError: No Qt bindings could be found",
    ),
    "an exception that is not called an error": (
        f"Traceback (most recent call last):\n  File …\n\nzmq.Again\n{INFO}",
        "zmq.Again",
    ),
    "no text": (f"Traceback (most recent call last):\n  File …\nAssertionError\n{INFO}", "AssertionError"),
    "chained": (
        f"{TRACEBACK}\n\nThe above exception was the direct cause of the following exception:\n\n"
        f"Traceback (most recent call last):\n  File …\nRuntimeError: napari has no Qt\n{INFO}",
        "RuntimeError: napari has no Qt",
    ),
    "logged exception": (f"{AT} ERROR napari: a plugin failed\n{TRACEBACK}\n{INFO}", TRACEBACK.splitlines()[-1]),
    "error": (f"{INFO}\n{AT} ERROR scopecast_viewers.napari: no OpenGL context\n{INFO}", "no OpenGL context"),
    "critical": (f"{AT} CRITICAL vispy: the canvas is lost\n{WARNING}", "the canvas is lost"),
    "the last of two errors": (f"{AT} ERROR a: first\n{AT} ERROR a: second\n{INFO}", "second"),
    "error in another format": (f"ERROR:root:no screen\n{INFO}", "ERROR:root:no screen"),
    "error in brackets": (f"[ERROR] no screen\nbye\n{INFO}", "[ERROR] no screen"),
    "warning": (f"{WARNING}\n{INFO}", "this process may end with an error: java.lang.NoClassDefFoundError"),
    "a viewer's own words": (f"scopecast: ImageJ could not be started: no libXi\n{WARNING}\n{INFO}", None),
    "arguments": ("usage: x [-h]\npython -m scopecast_viewers: error: no viewer 'x'", "no viewer 'x'"),
    "a thread of Java": (
        'Exception in thread "AWT-Shutdown" java.lang.UnsatisfiedLinkError: libawt_xawt.so: libXtst.so.6: no file'
        f"\n\tat java.base/java.lang.ClassLoader.load(Native Method)\n{INFO}",
        "java.lang.UnsatisfiedLinkError: libawt_xawt.so: libXtst.so.6: no file",
    ),
    "Java's chain": (
        'Exception in thread "main" java.lang.ExceptionInInitializerError\n\tat ij.ImageJ.<clinit>(ImageJ.java:79)\n'
        f"Caused by: java.awt.HeadlessException: No X11 DISPLAY\n\tat java.desktop/java.awt\n\t... 9 more\n{INFO}",
        "java.awt.HeadlessException: No X11 DISPLAY",
    ),
    "no Java machine": (
        "Error occurred during initialization of VM\nCould not reserve enough space for object heap\n",
        "Could not reserve enough space for object heap",
    ),
    "Qt's platform": (
        "qt.qpa.plugin: From 6.5.0, xcb-cursor0 or libxcb-cursor0 is needed to load the Qt xcb platform plugin.\n"
        'qt.qpa.plugin: Could not load the Qt platform plugin "xcb" in "" even though it was found.\n'
        "This application failed to start because no Qt platform plugin could be initialized.\n\n"
        f"Available platform plugins are: eglfs, xcb, offscreen.\n\nFatal Python error: Aborted\n{INFO}",
        'qt.qpa.plugin: Could not load the Qt platform plugin "xcb" in "" even though it was found.',
    ),
    "Qt's platform, as vispy logs it": (
        f'WARNING: Could not find the Qt platform plugin "no" in ""\n'
        f'{AT} WARNING vispy: Could not find the Qt platform plugin "no" in ""\n'
        "WARNING: This application failed to start because no Qt platform plugin could be initialized",
        'Could not find the Qt platform plugin "no" in ""',
    ),
    "a crash": ("Fatal Python error: Segmentation fault\n\nThread 0x0001\n  File …", None),
    "a loader": ("python: error while loading shared libraries: libz.so.1: cannot open\nbye", None),
}


@pytest.mark.parametrize(("log", "cause"), LOGS.values(), ids=LOGS)
def test_the_cause_in_a_log(log: str, cause: str | None):
    if cause is None:  # the first line
        cause = log.splitlines()[0].removeprefix("scopecast: ")
    assert cause_in(log) == cause


def test_a_real_traceback():
    code = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise OSError('no') from error"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert cause_in(f"{done.stderr}{INFO}\n") == "OSError: no"


# ---- where it is told ------------------------------------------------------------------------------------------------


def end_with(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have a shell's script started instead of a viewer."""
    popen = launch.subprocess.Popen
    monkeypatch.setattr(launch.subprocess, "Popen", lambda _, **options: popen(["sh", "-c", script], **options))


@pytest.mark.needs("a shell")
def test_the_cause_is_told_first_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, runtime_dir: Path, caplog: pytest.LogCaptureFixture
):
    log = runtime_dir / "told"
    log.write_text("\n".join([TRACEBACK, *[INFO] * 20, ""]))
    end_with(monkeypatch, f"cat {log}; exit 1")
    monkeypatch.setattr(launch, "ATTEMPTS", 1)
    monkeypatch.setenv("DISPLAY", os.environ.get("DISPLAY", ":0"))
    started = Launch(RunDirectory(), "headless")
    started.run()
    cause = "the headless viewer ended at once (exit code 1): ModuleNotFoundError: No module named 'absent'"
    assert started.problem == f"{cause} (tried 1 times)"
    (record,) = [each for each in caplog.records if each.levelname == "WARNING"]
    first, *log_lines = record.getMessage().splitlines()
    assert first.endswith(cause)
    assert {line.strip() for line in log_lines} == {INFO}


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exit 4", "(exit code 4)"),
        ("kill -KILL $$", "(signal SIGKILL)"),
        (
            "echo 'qt.qpa.xcb: could not connect to display :7'; kill -ABRT $$",
            "(signal SIGABRT): qt.qpa.xcb: could not",
        ),
    ],
)
@pytest.mark.needs("a shell")
def test_how_it_ended(monkeypatch: pytest.MonkeyPatch, script: str, told: str):
    end_with(monkeypatch, script)
    with pytest.raises(ViewerStartError) as caught:
        find_or_start_viewer(RunDirectory(), "headless", timeout=60)
    assert str(caught.value).startswith(f"the headless viewer ended at once {told}")
