"""The look at what a test leaves behind finds it, and only it."""

import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import closing
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import psutil
import pytest

from children import wait_until
from leftovers import Leftovers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /dev/shm and /proc")

SLEEP = [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]


def found(left: Leftovers) -> list[str]:
    """What is left, without segments that other tests may be making now, which nobody maps for a moment."""
    return [line for line in left.found() if "/dev/shm/" not in line or "/dev/shm/left" in line.lower()]


def test_nothing_by_default(nothing_left: Leftovers) -> None:
    assert found(nothing_left) == []


def test_a_segment(nothing_left: Leftovers) -> None:
    name = "left_abcdefgh_1"
    segment = SharedMemory(name, create=True, size=16)
    try:
        wait_until(lambda: found(nothing_left) == [f"the segment /dev/shm/{name}"])  # Python's tracker may be starting
    finally:
        segment.close()
        segment.unlink()


def test_a_segment_that_nobody_maps(nothing_left: Leftovers) -> None:
    path = Path("/dev/shm/left_abcdefgh_2")
    path.touch()
    try:
        assert found(nothing_left) == [f"the segment {path}"]
    finally:
        path.unlink()


def test_not_the_segment_of_another_program(nothing_left: Leftovers) -> None:
    code = (
        "from multiprocessing.shared_memory import SharedMemory as S; s = S('left_abcdefgh_3', create=True, size=16);"
        "print(flush=True); input(); s.close(); s.unlink()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        nothing_left.processes = list  # type: ignore[method-assign]  # as if it were unrelated
        try:
            assert found(nothing_left) == []
        finally:
            del nothing_left.processes
            other.communicate(b"\n", timeout=20)


def test_not_a_file_with_another_name(nothing_left: Leftovers) -> None:
    path = Path("/dev/shm/Left-over")
    path.touch()
    try:
        assert found(nothing_left) == []
    finally:
        path.unlink()


def test_a_child_which_is_killed_in_the_end(nothing_left: Leftovers) -> None:
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with pytest.raises(AssertionError, match=f"the process {child.pid}: .*sleep"):
            nothing_left.wait_until_none(timeout=0)
    assert child.returncode != 0


def test_a_child_that_nobody_waits_for(nothing_left: Leftovers) -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert found(nothing_left) == [f"the process {child}: a zombie, which nobody has waited for"]
    finally:
        os.waitpid(child, 0)


def test_a_detached_process_with_the_run_directory(nothing_left: Leftovers) -> None:
    code = f"import subprocess; print(subprocess.Popen({SLEEP}, stdout=-3, start_new_session=True).pid)"
    pid = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, timeout=20).stdout.split()[0])
    detached = psutil.Process(pid)
    try:
        assert psutil.Process() not in detached.parents()
        assert [line for line in found(nothing_left) if f"the process {pid}:" in line]
    finally:
        detached.kill()


def test_a_live_socket_but_not_a_dead_one(nothing_left: Leftovers, runtime_dir: Path) -> None:
    path = runtime_dir / "token.sock"
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(path))
        server.listen()
        assert found(nothing_left) == [f"the live socket {path}"]
    assert path.exists()
    assert found(nothing_left) == []


def test_not_the_helpers_of_multiprocessing(nothing_left: Leftovers) -> None:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=print)
    process.start()
    process.join()
    process.close()
    nothing_left.wait_until_none()


def test_the_run_directory_is_private_and_short(runtime_dir: Path) -> None:
    assert os.environ["SCOPECAST_RUNTIME_DIR"] == str(runtime_dir)
    assert runtime_dir.stat().st_mode & 0o777 == 0o700
    assert len(os.fsencode(runtime_dir / f"{'x' * 64}.sock")) <= 103


class TestSharedRuntime:
    @pytest.fixture
    def viewer(self, shared_runtime: Path) -> Path:
        return shared_runtime

    def test_is_the_run_directory_of_those_who_use_it(self, viewer: Path, runtime_dir: Path) -> None:
        assert viewer == runtime_dir
        assert os.environ["SCOPECAST_RUNTIME_DIR"] == str(viewer)

    def test_is_not_that_of_the_others(self, runtime_dir: Path, request: pytest.FixtureRequest) -> None:
        assert runtime_dir != request.getfixturevalue("shared_runtime")


def test_not_the_segment_that_a_neighbouring_test_is_about_to_clean_away(nothing_left: Leftovers) -> None:
    path, neighbour = Path("/dev/shm/left_abcdefgh_4"), Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    try:
        path.touch()
        assert found(nothing_left) == [f"the segment {path}"]
        (neighbour / "abcdefgh.json").touch()
        assert found(nothing_left) == []
    finally:
        path.unlink()
        shutil.rmtree(neighbour)
