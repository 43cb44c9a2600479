"""That the benchmark measures all it promises, and leaves nothing behind; how fast anything is, it does not test."""

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import __main__ as everything
from benchmarks import beside, demo_run, documentation
from scopecast.benchmarks import report
from scopecast.benchmarks.figures import Row, Timing, median, spread, timed
from scopecast.benchmarks.processes import ENVIRONMENT, private_run_directory
from scopecast.cli import bench
from scopecast.demo.options import Options
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.remote.quality import LADDER
from scopecast.rundir.directory import RunDirectory

TESTS = Path(__file__).resolve().parents[1]
FIELDS = {"figure", "frame", "mode", "p50_ms", "p99_ms", "per_s", "memcpy_p50_ms", "ratio"}
MODES = ("viewer absent", "viewer healthy", "viewer stopped", "viewer killed", "producer's Python busy")
PEERS = ("pyzmq", "imagezmq", "polystore 0.6.3 save_batch", "polystore 0.6.3 without its sleep")


#: What users need not have.
LACKED = ("benchmarks", "imagezmq", "polystore", "pandas", "napari", "jpype", "pymmcore_plus", "tifffile", "pytest")
#: `scopecast bench`, which measures a part of what `make bench` does, as next to nothing.
USERS = f"""
import pathlib, sys
for name in {LACKED}:
    sys.modules[name] = None  # to import it fails, as where it is not installed
from scopecast.benchmarks.figures import SMALL, Effort
from scopecast.cli import bench
effort = Effort(rounds=1, starts=1, loop=2, paced=2, large=2, small=2, growth=20, sides=(SMALL,))
bench.run(pathlib.Path(sys.argv[1]), effort)
"""


@pytest.fixture(scope="module")
def of_users(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, object]], str]:
    """The figures of `scopecast bench` where nothing is installed that only `make bench` needs, and what it prints."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    command = [sys.executable, "-P", "-c", USERS, str(path)]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


@pytest.fixture(scope="module")
def figures(
    of_users: tuple[list[dict[str, object]], str], tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, object]]:
    """Those of `make bench`: its own parts, beside those that it shares with `scopecast bench`."""
    path = tmp_path_factory.mktemp("bench") / "figures.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))  # as `make bench` has it, for the programs
        rows = everything.run(path, quick=True, parts=[part for part in everything.PARTS if part not in bench.PARTS])
    found = json.loads(path.read_text())
    assert len(found) == len(rows)
    return [*of_users[0], *found]


@pytest.mark.timeout(300)
def test_every_row_has_the_promised_fields_and_finite_figures(figures: list[dict[str, object]]) -> None:
    for row in figures:
        assert row.keys() >= FIELDS
        assert row["figure"]
        assert re.fullmatch(r"(\d+x\d+)?", row["frame"]), row
        for value in row.values():
            assert not isinstance(value, float) or math.isfinite(value)
        for name in ("p50_ms", "per_s", "memcpy_p50_ms", "ratio"):
            assert row[name] is None or row[name] >= 0, row


@pytest.mark.timeout(300)
def test_all_figures_are_there(figures: list[dict[str, object]]) -> None:
    found = {(row["figure"], row["mode"]): row for row in figures if row["frame"] == "512x512"}
    for pace in ("loop", "200/s"):
        for mode in MODES:
            row = found["publish()", f"{pace}, {mode}"]
            assert row["ratio"] > 0
            assert row["target"], mode
    assert found["reserve() + commit", "loop, viewer healthy"]["p50_ms"] > 0
    for pace in ("50/s", "100/s"):
        assert found["first frames", f"{pace}, not shown at the start, viewer healthy"]["p50_ms"] is not None
    sustained = {mode: row for (figure, mode), row in found.items() if figure == "sustained"}
    assert sustained["scopecast, policy every"]["met"] is True  # nothing lost
    for peer in PEERS:
        (row,) = (row for mode, row in sustained.items() if mode.startswith(peer))
        assert row["per_s"] > 0
        assert row["ratio"] > 0
    for pace in ("200/s", "50/s"):
        assert found["latency", f"{pace}, publish() to the viewer's array"]["p50_ms"] > 0
    assert found["shared memory", "one publisher"]["met"] is True
    for quality in LADDER:
        for way in ("encode", "decode"):
            assert found["codecs", f"{quality.name}, {way}"]["p50_ms"] > 0


@pytest.mark.timeout(300)
def test_memory_and_the_window_are_there(figures: list[dict[str, object]]) -> None:
    growth = [row for row in figures if row["figure"] == "memory growth"]
    assert [row["mode"].split(",")[0] for row in growth] == ["producer", "viewer"]
    window = [row for row in figures if row["figure"] == "napari window"]
    assert window
    assert all(row["p50_ms"] is not None or "not measured" in row["note"] for row in window)


@pytest.mark.timeout(300)
def test_ndv_shows_an_acquisition_and_tells_how_old_its_frames_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    with ensure_screen():
        seen = beside.see("ndv", 64, 3, 4)
    assert 0 < seen.pictures <= 36
    assert 0 < seen.p50_ms <= seen.p99_ms
    assert seen.seconds > 0


def test_the_demo_is_run_as_make_demo_does_it() -> None:
    figures = demo_run.run(Options(viewer="headless", width=64, height=64, timepoints=2, interval=0.1))
    assert figures.published == 30


def test_documentation_is_not_written_from_a_quick_run() -> None:
    with pytest.raises(ValueError, match="quick run"):
        everything.run(quick=True, write_docs=True)


def test_figures_replace_the_former_ones_in_the_page(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{documentation.BEGIN}\nold figures\n{documentation.END}\n\nAfter\n")
    row = Row(figure="publish()", frame="512x512", mode="loop", p50_ms=0.5, p99_ms=1.5, target="p50 ≤ 1", met=True)
    for _ in range(2):
        documentation.write_documentation(page, [row], "make bench")
        text = page.read_text()
        assert text.startswith(f"# Before\n\n{documentation.BEGIN}\n")
        assert text.endswith(f"{documentation.END}\n\nAfter\n")
        assert "old figures" not in text
        assert text.count("| 512x512, loop | 0.500 / 1.50 |") == 1
        assert "1 targets reached, 0 missed" in text


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing of ours\n")
    with pytest.raises(ValueError, match="no place for the figures"):
        documentation.write_documentation(page, [], "make bench")
    assert page.read_text() == "nothing of ours\n"


def test_the_page_of_this_checkout_has_a_place_for_the_figures() -> None:
    text = documentation.PAGE.read_text(encoding="utf-8")
    assert text.index(documentation.BEGIN) < text.index(documentation.END)


def test_the_machine_is_described_without_naming_it() -> None:
    described = " ".join(report.machine(documentation.PACKAGES).values())
    assert os.uname().nodename not in described.split()
    assert str(Path.home()) not in described


def test_timings_are_medians_of_rounds_in_milliseconds() -> None:
    assert spread([1_000_000, 2_000_000, 3_000_000]).p50 == 2.0
    assert median([Timing(1.0, 9.0), Timing(3.0, 2.0), Timing(2.0, 4.0)]) == Timing(2.0, 4.0)


def test_a_pace_is_kept() -> None:
    calls = []
    begin = time.perf_counter()
    timed(calls.append, 5, rate=50.0)
    assert calls == [0, 1, 2, 3, 4]
    assert time.perf_counter() - begin >= 4 / 50.0


def test_the_run_directory_is_private_and_goes(runtime_dir: Path) -> None:
    with private_run_directory() as directory:
        assert os.environ[ENVIRONMENT] == str(directory.path)
        assert directory.path != runtime_dir
    assert not directory.path.exists()
    assert os.environ[ENVIRONMENT] == str(runtime_dir)


def publishing(folder: Path) -> bool:
    """Whether the benchmark that has its files in `folder` has opened a publisher."""
    paths = [path for path in folder.glob("sc-bench-*") if path.is_dir()]
    return any(entry.state == "ready" for path in paths for entry in RunDirectory(path).entries("publisher"))


@pytest.mark.parametrize("part", ["publish", "sustained"])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, part: str) -> None:
    """Interrupt the benchmark while its processes run; what they leave is looked for by the fixture `nothing_left`."""
    code = f"from scopecast.cli import bench; bench.run(parts=[bench.{part}])"
    environment = dict(os.environ, TMPDIR=str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not publishing(tmp_path) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
            assert process.returncode in (1, 130, -signal.SIGINT)
            assert errors.rstrip().endswith("KeyboardInterrupt"), errors
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    assert not list(tmp_path.glob("sc-*"))


def test_what_users_run_needs_nothing_that_they_lack(of_users: tuple[list[dict[str, object]], str]) -> None:
    rows, printed = of_users
    names = {row["figure"] for row in rows}
    assert names == {"import", "publish()", "subscribe()", "sustained", "shared memory", "memory growth"}
    assert "512x512, loop, viewer killed" in printed
