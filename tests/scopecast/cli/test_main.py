"""The command line: what it prints, its exit codes, and what it leaves behind."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

import scopecast
from receivers import Viewer, viewer_process
from scopecast import Publisher
from scopecast.cli import main as cli
from scopecast.rundir.directory import RunDirectory

COMMAND = [sys.executable, "-P", "-m", "scopecast"]
SMALL = ["--viewer", "headless", "--size", "64x48", "-t", "2", "-c", "DAPI,Cy5", "-z", "2", "--interval", "0"]
needs_core = pytest.mark.skipif(
    not importlib.util.find_spec("pymmcore_plus"), reason="needs pymmcore-plus, the extra 'pymmcore'"
)

# A publisher that is killed: what it leaves is for `clean`.
KILLED = """
import sys, time
from scopecast import Publisher
publisher = Publisher("headless", title="killed")
publisher.open((64, 64), wait=10)
print("open", flush=True)
time.sleep(60)
"""


def run(*arguments: str) -> Any:
    return CliRunner().invoke(cli.app, list(arguments), catch_exceptions=True)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=60)


def until(condition: Callable[[], Any], timeout: float = 30.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
    return found


def viewers_below(process: subprocess.Popen[Any]) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if "scopecast_viewers" in child.cmdline()]


def test_the_version():
    result = run("--version")
    assert (result.exit_code, result.output) == (0, f"scopecast {scopecast.__version__}\n")


def test_help_is_what_comes_without_arguments():
    result = run()
    assert all(name in result.output for name in ("demo", "viewers", "clean", "bench"))


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(["--viewer", "fijj"], "no viewer 'fijj' here; use", id="unknown viewer"),
        pytest.param([*SMALL, "--size", "big"], "--size 'big' is not a size; write 2048 or 640x480", id="size"),
        pytest.param([*SMALL, "--size", "64x"], "--size '64x' is not a size", id="half a size"),
        pytest.param([*SMALL, "--size", "4"], "16 to 16384 pixels per side, not 4x4", id="small"),
        pytest.param([*SMALL, "-t", "0"], "at least one time point", id="no time points"),
        pytest.param([*SMALL, "-c", ","], "at least one time point, one channel", id="no channels"),
        pytest.param([*SMALL, "--interval", "-1"], "the interval is not negative", id="interval"),
        pytest.param([*SMALL, "--screenshot", "a.png"], "headless viewer has no window", id="no window"),
        pytest.param([*SMALL, "--json", "/nowhere/a.json"], "there is no folder /nowhere", id="no folder"),
    ],
)
def test_an_error_is_one_line_with_the_fix(arguments: list[str], text: str):
    result = run("demo", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("scopecast: ")
    assert text in result.stderr
    assert len(result.stderr.splitlines()) == 1


@needs_core
@pytest.mark.parametrize(
    ("channels", "text"),
    [
        pytest.param("DAPI,GFP", "no channel 'GFP'; its channels are Cy5, DAPI, FITC, Rhodamine", id="unknown"),
        pytest.param("DAPI,DAPI", "a channel is named twice", id="twice"),
    ],
)
def test_channels_are_checked_before_a_viewer_is_started(channels: str, text: str, runtime_dir: Path):
    done = command("demo", *SMALL, "-c", channels)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(runtime_dir.glob("launch-*"))


def test_debug_shows_where_an_error_came_from():
    done = command("--debug", "demo", "--viewer", "fijj")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_a_missing_extra_is_named_with_what_installs_it(monkeypatch: pytest.MonkeyPatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mm_test_adapters" else found(name))
    result = run("demo", *SMALL)
    assert result.exit_code == 1
    assert "needs mm_test_adapters" in result.stderr
    assert "pip install 'scopecast[pymmcore]'" in result.stderr


def test_an_open_run_directory_is_refused_in_a_line(runtime_dir: Path):
    runtime_dir.chmod(0o755)
    result = run("viewers")
    assert result.exit_code == 1
    assert "chmod 700" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_viewer_that_ends_at_once_is_told_with_the_cause(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any, **__: Any) -> Any:
        raise scopecast.ViewerStartError("the napari viewer ended at once (exit code 1): no Qt\n    Traceback\n    bye")

    monkeypatch.setattr(cli, "prepare", fail)
    result = run("demo")
    assert result.exit_code == 1
    hint = "`scopecast doctor` looks for what is missing"
    assert result.stderr == f"scopecast: the napari viewer ended at once (exit code 1): no Qt; {hint}\n"


def test_a_mistake_of_ours_says_so(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: Any) -> Any:
        raise KeyError("x")

    monkeypatch.setattr(cli, "prepare", fail)
    result = run("demo")
    assert result.exit_code == 1
    assert "KeyError: 'x' (this should not happen; --debug shows where)" in result.stderr


# ---- viewers and clean -----------------------------------------------------------------------------------------------


def test_nobody_runs():
    assert "Nothing is running" in run("viewers").output
    assert json.loads(run("viewers", "--json").stdout) == []


def test_viewers_lists_publishers_and_receivers():
    with Viewer(title="the [bold] viewer") as viewer, scopecast.Publisher("headless", title="camera") as publisher:
        publisher.open((64, 64), "uint16", wait=10)
        listed = {entry["title"]: entry for entry in json.loads(run("viewers", "--json").stdout)}
        assert set(listed) == {"the [bold] viewer", "camera"}
        assert listed["the [bold] viewer"]["role"] == "receiver"
        assert listed["the [bold] viewer"]["token"] == viewer.token
        assert listed["camera"]["role"] == "publisher"
        assert listed["camera"]["pid"] == os.getpid()
        assert listed["camera"]["segment_bytes"] == publisher.stats().segment_bytes
        table = " ".join(run("viewers").output.split())
        assert "headless" in table
        assert "camera" in table


@pytest.mark.fault("P6")
def test_viewers_tells_two_programs_of_one_title_apart():
    with Publisher("headless", title="scope") as one, Publisher("headless", title="scope") as two:
        for publisher in (one, two):
            publisher.open((64, 48), wait=10)
        listed = json.loads(run("viewers", "--json").stdout)
        assert [(entry["title"], entry["name"]) for entry in listed] == [("scope", "scope"), ("scope", "scope (2)")]
        assert "scope (2)" in run("viewers").output


def test_clean_removes_what_the_dead_left():
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        (entry,) = RunDirectory().living("publisher")
        assert json.loads(run("clean", "--json").stdout)["members"] == []  # it lives
        process.kill()
    (segment,) = entry.segments
    cleaned = json.loads(run("clean", "--json").stdout)
    assert cleaned["members"] == [entry.token]
    assert cleaned["segments"] == [segment]
    assert cleaned["bytes"] > 2**20
    assert "There was nothing to clean up" in run("clean").output


def test_clean_says_what_it_removed(monkeypatch: pytest.MonkeyPatch):
    removed = scopecast.rundir.directory.Cleaned(["abcdefgh"], ["headless_abcdefgh_0"], 64 * 2**20)
    monkeypatch.setattr(RunDirectory, "clean", lambda self, everything: removed)
    lines = run("clean").output.splitlines()
    assert lines[0] == "Removed the leftovers of 1 crashed program: abcdefgh"
    assert "headless_abcdefgh_0" in lines[1]
    assert lines[2] == "Freed 64 MiB of shared memory."


# ---- bench -----------------------------------------------------------------------------------------------------------


def test_bench_passes_its_option_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    called: list[Any] = []
    monkeypatch.setattr("scopecast.cli.bench.run", lambda *arguments: called.append(arguments))
    assert run("bench", "--json", str(tmp_path / "figures.json")).exit_code == 0
    assert called == [(tmp_path / "figures.json",)]


# ---- demo ------------------------------------------------------------------------------------------------------------


def check_figures(figures: dict[str, Any], frames: int) -> None:
    fates = ("delivered", "superseded", "dropped", "skipped", "in_flight")
    assert figures["published"] == sum(figures[fate] for fate in fates) == frames
    assert figures["delivered"] > 0
    assert figures["in_flight"] == 0
    assert figures["fps"] > 0
    assert all(0 < figures[name]["p50"] <= figures[name]["p99"] for name in ("publish_ms", "memcpy_ms"))


@needs_core
def test_the_demo_gives_figures_that_add_up_and_ends_its_viewer(tmp_path: Path):
    done = command("demo", *SMALL, "--json", tmp_path / "figures.json")
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    check_figures(figures, frames=8)
    assert set(figures) == {
        *("published", "delivered", "superseded", "dropped", "skipped", "in_flight", "painted"),
        *("publish_ms", "memcpy_ms", "age_ms", "fps"),
    }
    assert "8 frames of 64x48 uint16" in done.stdout
    assert "delivered" in done.stdout
    assert RunDirectory().living() == []


@needs_core
def test_the_demo_uses_a_viewer_that_runs_and_leaves_it(tmp_path: Path):
    with viewer_process() as viewer:
        done = command("demo", *SMALL, "--no-keep", "--json", tmp_path / "figures.json")
        assert done.returncode == 0, done.stderr
        check_figures(json.loads((tmp_path / "figures.json").read_text()), frames=8)
        assert [entry.token for entry in RunDirectory().living()] == [viewer.token]
        assert viewer.process.poll() is None


@needs_core
def test_a_viewer_that_is_kept_outlives_the_demo():
    done = command("demo", *SMALL, "--keep")
    assert done.returncode == 0, done.stderr
    (viewer,) = RunDirectory().living("receiver")
    psutil.Process(viewer.pid).terminate()


@needs_core
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["while the viewer starts", "while frames come"])
def test_an_interrupted_demo_leaves_nothing_behind(when: str, kind: signal.Signals, runtime_dir: Path):
    process = subprocess.Popen(
        [*COMMAND, "demo", *SMALL, "-t", "1000", "--interval", "0.2", "--keep"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        if when == "while the viewer starts":
            until(lambda: viewers_below(process))
        else:
            until(lambda: [entry for entry in RunDirectory().living("publisher") if entry.state == "ready"])
        process.send_signal(kind)
        printed, _ = process.communicate(timeout=30)
    assert process.returncode == 128 + kind, printed
    assert "Traceback" not in printed
    assert not list(runtime_dir.glob("*.json"))
    assert not list(runtime_dir.glob("*.sock"))
