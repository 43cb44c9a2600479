"""What every test gets: a screen, a run directory and settings of its own, and a look at what it leaves behind."""

import contextlib
import gc
import itertools
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from leftovers import Leftovers
from scopecast.demo.virtual_screen import ensure_screen
from scopecast.errors import ScreenError
from systems import skip_without

#: Of a process of the tests; a whole ImageJ, with its JVM, has less than a third.
_MOST_BYTES = 8 * 2**30

collect_ignore = ["guides"]  # test_guides.py runs these
#: Where tests keep a processor busy; and where they take minutes, but wait for windows and programs most of the time.
_BUSY = "viewers/napari/"
_LONGEST_FIRST = ("viewers/fiji/", "benchmarks/", "viewers/", "hosts/", "docs/", "faults/")
_THREAD_START = threading.Thread.start
_PRIVATE = Path(tempfile.mkdtemp(prefix="sc-tests-"))
_NO_SCREEN = pytest.StashKey[str]()

#: Variables by which a developer's machine differs from a user's: how Python writes, which Java and which Qt are taken,
#: how wide a terminal is. No process of the tests gets them; pytest itself has read its own by now.
_OF_DEVELOPERS = (
    *("PYTHON", "SCOPECAST_", "NAPARI_", "QT_", "PYMM_", "MICROMANAGER_"),
    *("JAVA_HOME", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "FIJI_HOME"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR"),
)
_OF_THE_NETWORK = ("SCOPECAST_MAVEN",)  # where jars are to be had is no matter of taste
for _name in [name for name in os.environ if name.startswith(_OF_DEVELOPERS) and name not in _OF_THE_NETWORK]:
    del os.environ[_name]
sys.dont_write_bytecode = False

# A shell starts what runs in the background with Ctrl-C ignored, and every program of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Java's second compiler pays off where the same is done for minutes. In tests it takes a quarter of ImageJ's time.
os.environ["SCOPECAST_JAVA_OPTIONS"] = "-XX:TieredStopAtLevel=1"
# Before anything imports Qt or napari: both read these once.
os.environ["QT_API"] = "pyqt6"
# pymmcore-plus would tell of frames by Qt's signals, through an event loop, once any test has made a QApplication.
os.environ["PYMM_SIGNALS_BACKEND"] = "psygnal"
os.environ["NAPARI_CONFIG"] = str(_PRIVATE / "napari.yaml")

# Other examples in each run; `ARGS=--hypothesis-profile=thorough` has many, for whoever changes what they are about.
hypothesis.settings.register_profile("dev", deadline=None, max_examples=30)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=30, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_configure() -> None:
    if sys.platform == "linux":
        import resource

        # A mistake that takes all memory fails where it is, instead of ending whatever the system chooses.
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_BYTES, hard))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files whose tests keep a processor busy take turns with files whose tests wait, the longest first.

    So processes that share the tests wait for windows and programs while others compute, and end together.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    ranks = {path: _rank(os.path.relpath(path, Path(__file__).parent).replace(os.sep, "/")) for path in files}
    busy = sorted((path for path in files if ranks[path] < 0), key=lambda path: -len(files[path]))
    waiting = sorted((path for path in files if ranks[path] >= 0), key=lambda path: ranks[path])
    turns = (path for pair in itertools.zip_longest(busy, waiting) for path in pair if path is not None)
    items[:] = [item for path in turns for item in files[path]]


def _rank(path: str) -> int:
    """Return where a file stands among those that wait; -1 if its tests keep a processor busy."""
    if path.startswith(_BUSY):
        return -1
    return next((rank for rank, part in enumerate(_LONGEST_FIRST) if path.startswith(part)), len(_LONGEST_FIRST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    skip_without(item)


def pytest_collection_finish() -> None:
    """Keep the garbage collector, which many tests call, out of what all tests have imported by now."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    shutil.rmtree(_PRIVATE, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if _NO_SCREEN in config.stash:
        terminalreporter.section("no screen")
        terminalreporter.line(
            f"{config.stash[_NO_SCREEN]}\nQt was told to work without one (QT_QPA_PLATFORM=offscreen)."
        )


@pytest.fixture(scope="session", autouse=True)
def screen(request: pytest.FixtureRequest) -> Iterator[None]:
    """A screen for the windows of all tests: the machine's, or a virtual one.

    Where there can be none, Qt works offscreen: it would otherwise abort the process at the first window.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(ensure_screen())
        except ScreenError as error:
            request.config.stash[_NO_SCREEN] = str(error)
            os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        yield


@pytest.fixture(autouse=True)
def untouched_by_hosts() -> None:
    """Undo what hosts do to the whole process when they are imported, and the command line to our logger.

    exengine puts a hook into every thread's start, which swallows what goes wrong; with it, the relay threads of
    pymmcore-plus do not start. pymmcore-plus has every logger of the process write all that it can, and napari says
    more about each frame than showing it takes.
    """
    threading.Thread.start = _THREAD_START  # type: ignore[method-assign]
    logging.getLogger().setLevel(logging.WARNING)
    ours = logging.getLogger("scopecast")
    ours.propagate = True
    ours.setLevel(logging.NOTSET)


@contextlib.contextmanager
def _private_runtime_dir() -> Iterator[Path]:
    """A new run directory as SCOPECAST_RUNTIME_DIR; short, as the path of a Unix socket has at most 103 bytes."""
    base = Path("/tmp")
    path = Path(tempfile.mkdtemp(prefix="sc-", dir=base if base.is_dir() else None))  # mode 0700
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SCOPECAST_RUNTIME_DIR", str(path))
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared_runtime() -> Iterator[Path]:
    """The run directory of a module's shared things, such as a running viewer; its module-scoped fixtures request it.

    What they leave behind fails the module's last test.
    """
    with _private_runtime_dir() as path:
        leftovers = Leftovers(path)
        yield path
        leftovers.wait_until_none()


@pytest.fixture(autouse=True)
def runtime_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The run directory of the test: the module's if the test uses `shared_runtime` in any way, otherwise its own."""
    if "shared_runtime" in request.fixturenames:
        yield request.getfixturevalue("shared_runtime")
        return
    with _private_runtime_dir() as path:
        yield path


@pytest.fixture(autouse=True)
def nothing_left(runtime_dir: Path) -> Iterator[Leftovers]:
    """Fail a test that leaves shared memory, a process or a live socket behind; what was there before is not its fault.

    As an autouse fixture it is set up first and torn down last: the test's own fixtures have cleaned up by then.
    """
    leftovers = Leftovers(runtime_dir)
    yield leftovers
    leftovers.wait_until_none()


@pytest.fixture(params=[pytest.param("ipc", marks=pytest.mark.needs("unix sockets")), "tcp"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test by each transport; for `pytest.mark.usefixtures` where the connection itself is at stake."""
    monkeypatch.setenv("SCOPECAST_TRANSPORT", request.param)
    return str(request.param)
