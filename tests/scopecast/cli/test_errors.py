"""Errors of the command line: one line with the cause and the fix, and the exit code."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from typer.testing import CliRunner

from scopecast.cli import main as cli
from scopecast.doctor import Finding, diagnose
from scopecast.doctor.finding import run_bounded

COMMAND = [sys.executable, "-P", "-m", "scopecast"]
HEADLESS = ["demo", "--viewer", "headless", "--size", "64"]
MISUSED, FAILED = 2, 1


def run(*arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command; variables that are None are not set for it."""
    merged = {name: value for name, value in {**os.environ, **environment}.items() if value is not None}
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, env=merged)


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        pytest.param(
            ["vewers"], MISUSED, r"no such command 'vewers'.*[Dd]id you mean 'viewers'.*scopecast --help", id="command"
        ),
        pytest.param(["--bogus"], MISUSED, r"no such option: --bogus.*see scopecast --help", id="option"),
        pytest.param(["viewers", "--jsno"], MISUSED, r"no such option: --jsno .*--json", id="option of a command"),
        pytest.param(["viewers", "x"], MISUSED, r"unexpected extra argument.*\(x\)", id="argument"),
        pytest.param(["demo", "--size"], MISUSED, r"'--size' requires an argument", id="no value"),
        pytest.param(
            ["demo", "-t", "many"], MISUSED, r"invalid value for '--timepoints' / '-t': .*integer", id="number"
        ),
        pytest.param(["doctor", "--fix"], MISUSED, r"no such option: --fix.*see scopecast doctor --help", id="doctor"),
        pytest.param(["clean", "--every"], MISUSED, r"no such option: --every", id="clean"),
        pytest.param(["viewers", "--json=2"], MISUSED, r"--json", id="flag with a value"),
        pytest.param(
            ["demo", "--viewer", "imagej"], MISUSED, r"no viewer 'imagej' here; use napari or headless", id="viewer"
        ),
        pytest.param(["show", "a.tif", "--fiji", "F.app"], MISUSED, r"--fiji .* add --viewer fiji", id="fiji"),
        pytest.param(
            [*HEADLESS, "--size", "9x9x9"], MISUSED, r"'9x9x9' is not a size; write 2048 or 640x480", id="size"
        ),
        pytest.param([*HEADLESS, "--size", "-5"], MISUSED, r"'-5' is not a size", id="negative size"),
        pytest.param([*HEADLESS, "--size", "1e3"], MISUSED, r"'1e3' is not a size", id="size with an exponent"),
        pytest.param([*HEADLESS, "--size", "9" * 30], MISUSED, r"16 to 16384 pixels per side", id="huge size"),
        pytest.param([*HEADLESS, "--exposure", "nan"], MISUSED, r"the exposure is 0.1 to 10000 ms", id="no exposure"),
        pytest.param(
            [*HEADLESS, "--interval", "inf"], MISUSED, r"the interval is not negative .*at most a day", id="interval"
        ),
        pytest.param([*HEADLESS, "--z-step", "nan"], MISUSED, r"the z step is positive", id="z step"),
        pytest.param(
            [*HEADLESS, "--json", "/"], MISUSED, r"/ can't be written: it is a folder; name a file in it", id="folder"
        ),
        pytest.param([*HEADLESS, "--json", "/no/a.json"], MISUSED, r"no folder /no; create it", id="no folder"),
        pytest.param(["bench", "--json", "/no/a.json"], MISUSED, r"there is no folder /no", id="bench, no folder"),
        pytest.param([*HEADLESS, "-c", "GFP"], MISUSED, r"no channel 'GFP'; its channels are Cy5, DAPI", id="channel"),
        pytest.param(["show", "a.tif", "--scale", "0"], MISUSED, r"--scale is the size of a pixel in µm", id="scale"),
        pytest.param(["show", "a.tif", "--scale", "1,2,3"], MISUSED, r"0\.65,0\.5 \(y,x\); not 1,2,3", id="sides"),
        pytest.param(["show", "a.tif", "--scale", "nan"], MISUSED, r"--scale is the size", id="scale that is none"),
        pytest.param(["show", "a.tif", "--dims", "tt"], MISUSED, r"dims 'tt' are not the names", id="dims"),
        pytest.param(["show", "a.tif", "--dims", "(t)"], MISUSED, r"for file names is a pattern", id="dims, a pattern"),
        pytest.param(["show", "a.tif", "--pattern", "tzyx"], MISUSED, r"'tzyx' has no named groups", id="pattern"),
        pytest.param(["show", "a.tif", "--timeout", "0"], MISUSED, r"'--timeout'.*0\.1", id="timeout"),
        pytest.param(["watch", "/no"], MISUSED, r"there is no folder /no", id="watch, no folder"),
        pytest.param(["watch", "/", "--viewer", "x"], MISUSED, r"there is no viewer 'x' here", id="watch, viewer"),
        pytest.param(["watch", "/", "--z-step", "-1"], MISUSED, r"--z-step is a length in µm", id="watch, z step"),
        pytest.param(["replay", "/no"], MISUSED, r"there is no file or folder /no", id="replay, nothing"),
        pytest.param(["replay", "/", "--fps", "0"], MISUSED, r"--fps is a number of frames", id="replay, fps"),
        pytest.param(["replay", "/", "--speed", "fast"], MISUSED, r"'fast' is not a valid speed", id="replay, speed"),
        pytest.param(["open", "headless"], MISUSED, r"no window to open; use napari or fiji", id="open, no window"),
        pytest.param(["open", "naprai"], MISUSED, r"there is no viewer 'naprai' here", id="open, viewer"),
    ],
)
def test_what_is_wrong_is_a_line_with_the_fix(arguments: list[str], code: int, line: str):
    done = CliRunner().invoke(cli.app, arguments, prog_name="scopecast")
    assert (done.exit_code, done.stdout) == (code, "")
    (only,) = done.stderr.splitlines()
    assert re.search(rf"\Ascopecast: .*{line}", only), only


@pytest.mark.parametrize("command", [["viewers"], ["clean"], HEADLESS])
def test_a_foreign_run_directory(command: list[str], runtime_dir: Path, monkeypatch: pytest.MonkeyPatch):
    (runtime_dir / "shared").mkdir(mode=0o777)
    (runtime_dir / "shared").chmod(0o777)
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(runtime_dir / "shared"))
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == FAILED
    line = next(line for line in done.stderr.splitlines() if line.startswith("scopecast: "))
    assert line == (
        f"scopecast: the run directory {runtime_dir / 'shared'} is open to others (mode 777; 'chmod 700' it); "
        f"set SCOPECAST_RUNTIME_DIR to a directory of yours"
    )
    assert "Traceback" not in done.stderr


def test_no_screen_and_nothing_to_make_one():
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
    done = run("demo", "--size", "64", "-t", "1", DISPLAY=None, WAYLAND_DISPLAY=None, PATH="/nowhere")
    assert done.returncode == FAILED
    assert "Xvfb, which provides a virtual one, is not installed" in done.stderr.splitlines()[-1]
    assert "apt-get install xvfb" in done.stderr.splitlines()[-1]


def test_a_viewer_that_can_not_start_is_told_with_qts_own_reason():
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
    pytest.importorskip("PyQt6", reason="needs a window")
    done = run("demo", "--size", "64", "-t", "1", QT_QPA_PLATFORM="nonsense")
    assert done.returncode == FAILED
    assert 'Could not find the Qt platform plugin "nonsense"' in done.stderr.splitlines()[-1]
    assert "`scopecast doctor` looks for what is missing" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("place", ["before", "after"])
def test_debug_shows_the_traceback_wherever_it_stands(place: str):
    command = [*HEADLESS, "--size", "big"]
    done = run(*(["--debug", *command] if place == "before" else [*command, "--debug"]))
    assert done.returncode == MISUSED
    assert "Traceback" in done.stderr
    assert "is not a size" in done.stderr.splitlines()[-1]


def test_json_to_standard_output_is_all_that_is_there():
    pytest.importorskip("pymmcore_plus", reason="needs the extra 'pymmcore'")
    done = run(*HEADLESS, "-t", "1", "-c", "DAPI", "--interval", "0", "-z", "2", "--json", "-")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["published"] == 2
    assert "delivered" in done.stderr, "the table"
    assert not Path("-").exists()


# ---- where the output goes -------------------------------------------------------------------------------------------


# stdout or stderr, which the command has as descriptor `number`, are gone in one of these ways. Closed is that of the
# interpreter, too, before it starts.
GONE = {
    "closed": "os.close(number)",  # >&-
    "left": "reader, writer = os.pipe(); os.close(reader); os.dup2(writer, number)",  # | true
    "full": "os.dup2(os.open('/dev/full', os.O_WRONLY), number)",  # > /dev/full
}
PRINTING = {
    "help": ["--help"],
    "version": ["--version"],
    "help of a command": ["show", "--help"],
    "table": ["viewers"],
    "json": ["viewers", "--json"],
    "clean": ["clean", "--json"],
    "doctor, json": ["doctor", "--json"],
    "demo": [*HEADLESS, "-t", "1", "-c", "DAPI", "--interval", "0"],
}


#: A program that has imported all there is to import, and forks into each command that it is told.
FORKING = """
import functools, json, os, sys
from scopecast.cli import doctor
from scopecast.cli.main import main
from scopecast.demo import microscope
from scopecast.doctor import Finding, diagnose

def quick():
    yield Finding("quick", "ok", "one is like another")

doctor.diagnose = functools.partial(diagnose, (quick,))
for line in sys.stdin:
    arguments, lose, outputs, environment = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, path in zip((1, 2), outputs):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    exec(lose)
    os.environ.update(environment)
    sys.argv = ["scopecast", *arguments]
    main()
"""


@pytest.fixture(scope="module")
def forking() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-c", FORKING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate(timeout=60)


class Without(Protocol):
    """Runs a command without some of its streams."""

    def __call__(self, how: str, *numbers: int, arguments: list[str]) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def run_without(forking: subprocess.Popen[str], tmp_path: Path, runtime_dir: Path) -> Without:
    outputs = [tmp_path / "stdout", tmp_path / "stderr"]
    environment = {"SCOPECAST_RUNTIME_DIR": str(runtime_dir)}

    def run(how: str, *numbers: int, arguments: list[str]) -> subprocess.CompletedProcess[str]:
        if how == "full" and not Path("/dev/full").exists():
            pytest.skip("needs /dev/full")
        lose = f"for number in {numbers}: {GONE[how]}"
        if how == "closed":
            code = f"import os, sys\n{lose}\nos.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
            command = [sys.executable, "-c", code, *COMMAND[1:], *arguments]
            return subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert forking.stdin is not None
        assert forking.stdout is not None
        json.dump((arguments, lose, list(map(str, outputs)), environment), forking.stdin)
        print(file=forking.stdin, flush=True)
        code = int(forking.stdout.readline())
        return subprocess.CompletedProcess(arguments, code, *(path.read_text() for path in outputs))

    return run


def complaints(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What is on stderr, without the bar of an acquisition."""
    return [line for line in done.stderr.splitlines() if line.strip() and not line.startswith("acquiring")]


@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_a_reader_that_leaves_is_no_error(run_without: Without, arguments: list[str]):
    """As in `scopecast viewers | head`; the exit code is that of others who are told so by SIGPIPE."""
    done = run_without("left", 1, arguments=arguments)
    assert (done.returncode, complaints(done)) == (128 + signal.SIGPIPE, [])


@pytest.mark.parametrize("arguments", PRINTING.values(), ids=PRINTING)
def test_a_full_disk_is_named(run_without: Without, arguments: list[str]):
    done = run_without("full", 1, arguments=arguments)
    line = "scopecast: the output can't be written: No space left on device; free some space, or write elsewhere"
    assert (done.returncode, complaints(done)) == (FAILED, [line])


@pytest.mark.parametrize("how", ["left", "full"])
def test_what_is_printed_later_is_not_written_either(how: str):
    """Much is written in many pieces: only the first that fails is told."""
    code = f"""if True:
        import os, sys
        from scopecast.cli.output import guard_streams
        number = 1
        {GONE[how]}
        guard_streams()
        ended = []
        for _ in range(3):
            try:
                print("x" * 100_000, flush=True)
            except SystemExit as error:
                ended.append(error.code)
        sys.exit(ended != [{128 + signal.SIGPIPE if how == "left" else FAILED}])
    """
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (0, how == "full")


@pytest.mark.parametrize(
    ("name", "how"), [("json", "closed"), ("json", "left"), ("json", "full"), ("demo", "closed"), ("demo", "full")]
)
def test_without_stderr_a_command_does_its_work(run_without: Without, name: str, how: str):
    done = run_without(how, 2, arguments=PRINTING[name])
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "how", "code"),
    [
        ("json", "closed", 0),
        ("json", "left", 128 + signal.SIGPIPE),
        ("json", "full", FAILED),
        ("demo", "left", 128 + signal.SIGPIPE),
    ],
)
def test_neither_stdout_nor_stderr(run_without: Without, name: str, how: str, code: int):
    done = run_without(how, 1, 2, arguments=PRINTING[name])
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


@pytest.mark.parametrize("how", GONE)
def test_a_mistake_keeps_its_exit_code_without_stderr(run_without: Without, how: str):
    assert run_without(how, 2, arguments=["viewers", "--jsno"]).returncode == MISUSED


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------


def interrupt() -> None:
    """Press Ctrl-C; on Linux the handler has run when this returns."""
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_the_doctor_in_the_middle_of_its_checks(monkeypatch: pytest.MonkeyPatch):
    done: list[str] = []

    def first() -> Iterator[Finding]:
        yield Finding("first", "ok", "done before")
        done.append("first")

    def interrupted() -> Iterator[Finding]:
        yield Finding("interrupted", "ok", "begun")
        interrupt()
        done.append("what came after Ctrl-C")

    def last() -> Iterator[Finding]:
        done.append("last")
        yield Finding("last", "ok", "not to be done")

    checks = (first, interrupted, last)
    monkeypatch.setattr("scopecast.cli.doctor.diagnose", functools.partial(diagnose, checks))
    before = signal.getsignal(signal.SIGINT)
    result = CliRunner().invoke(cli.app, ["doctor", "--json"])
    assert (result.exit_code, done) == (130, ["first"])
    assert (result.stdout, result.stderr.splitlines()[-1]) == ("", "interrupted")
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_while_the_doctor_starts_a_program_leaves_none(monkeypatch: pytest.MonkeyPatch):
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        """Is interrupted when its process exists, and before anyone has got hold of it."""

        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[call-overload]
            started.append(self)
            interrupt()

    def probe() -> Iterator[Finding]:
        run_bounded([sys.executable, "-c", "import time; time.sleep(600)"], 300)
        yield Finding("probe", "ok", "not to be told")

    monkeypatch.setattr("scopecast.cli.doctor.diagnose", functools.partial(diagnose, (probe,)))
    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Interrupted)
        result = CliRunner().invoke(cli.app, ["doctor"])
    (process,) = started
    assert process.returncode == -signal.SIGKILL, "it was ended, and waited for"
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (130, "interrupted")


def test_an_interrupted_check_ends_at_once_and_leaves_no_process(runtime_dir: Path):
    program, library = runtime_dir / "bin" / "java", runtime_dir / "lib" / "server" / "libjvm.so"
    program.parent.mkdir()
    library.parent.mkdir(parents=True)
    library.touch()
    # A Java that never answers, and says that it was asked.
    program.write_text(f"#!/bin/sh\n: > {runtime_dir}/asked\nexec sleep 600\n")
    program.chmod(0o755)
    code = (
        "import functools, scopecast.cli.main, scopecast.cli.doctor as command; from scopecast.doctor import java\n"
        "command.diagnose = functools.partial(command.diagnose, (java.java,))\n"  # others take their time
        "scopecast.cli.main.app(['doctor'])"
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAVA_HOME": str(runtime_dir)},
    )
    with process:
        deadline = time.monotonic() + 60
        while not (runtime_dir / "asked").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=15)  # the check itself would have taken 20 s
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert errors.splitlines()[-1] == "interrupted"
