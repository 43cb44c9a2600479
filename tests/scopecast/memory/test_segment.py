"""Segments: who may make, read and remove them, and what happens when memory is short."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scopecast.errors import SharedMemoryError
from scopecast.memory.segment import NAME_PATTERN, PAGE, Segment, free_bytes, own_bytes, unlink_segment
from scopecast.rundir.directory import RunDirectory, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("/dev/shm")

SHM = Path("/dev/shm")
NOBODY = 65534
as_root = pytest.mark.needs("a user to switch to")


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"test_{new_token()}_0"
    yield chosen
    (SHM / chosen).unlink(missing_ok=True)


def python(code: str, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*prefix, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# ---- making, attaching, removing ---------------------------------------------------------------------------------


def test_what_is_written_is_read_and_the_name_goes_with_the_segment(name: str):
    segment = Segment.create(name, 3 * PAGE)
    reader = Segment.attach(name)
    np.frombuffer(segment.memory, np.uint8)[:] = 7
    assert reader.size == 3 * PAGE
    assert np.all(np.frombuffer(reader.memory, np.uint8) == 7)
    reader.close()
    assert (SHM / name).exists(), "a reader must not unlink it"
    segment.close()
    assert not (SHM / name).exists()
    segment.close()
    reader.close()


@pytest.mark.fault("H9")
def test_it_is_this_users_alone_whatever_the_umask(name: str):
    before = os.umask(0)
    try:
        segment = Segment.create(name, PAGE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((SHM / name).stat().st_mode) == 0o600
    segment.close()


@pytest.mark.fault("R2")
def test_all_its_pages_are_reserved_and_zero(name: str):
    segment = Segment.create(name, 64 * PAGE)
    assert (SHM / name).stat().st_blocks * 512 >= 64 * PAGE
    assert not np.frombuffer(segment.memory, np.uint8).any()
    segment.close()


def test_a_name_that_is_taken_is_an_error_and_stays_with_its_owner(name: str):
    (SHM / name).write_bytes(b"another's")
    with pytest.raises(SharedMemoryError, match=f"cannot create the segment {name}: File exists") as caught:
        Segment.create(name, PAGE)
    assert caught.value.errno == errno.EEXIST
    assert (SHM / name).read_bytes() == b"another's"


def test_a_segment_that_is_not_there(name: str):
    with pytest.raises(SharedMemoryError, match=f"cannot open the segment {name}") as caught:
        Segment.attach(name)
    assert caught.value.errno == errno.ENOENT
    assert not unlink_segment(name)


def test_a_segment_that_is_too_small_for_a_header(name: str):
    (SHM / name).touch(0o600)
    with pytest.raises(SharedMemoryError, match="has only 0 bytes"):
        Segment.attach(name)


@pytest.mark.fault("H10")
def test_a_link_is_not_followed(name: str, tmp_path: Path):
    target = tmp_path / "target"
    target.write_bytes(bytes(PAGE))
    target.chmod(0o600)
    (SHM / name).symlink_to(target)
    with pytest.raises(SharedMemoryError, match="cannot open"):
        Segment.attach(name)


def test_an_attached_reader_survives_the_unlink(name: str):
    segment = Segment.create(name, PAGE)
    reader = Segment.attach(name)
    pixels = np.frombuffer(segment.memory, np.uint8)
    segment.unlink()
    pixels[5] = 9
    assert reader.memory[5] == 9
    del pixels
    segment.close()
    assert reader.memory[5] == 9
    reader.close()


def test_unlinking_twice_leaves_a_successor_of_the_same_name_alone(name: str):
    first = Segment.create(name, PAGE)
    first.unlink()
    second = Segment.create(name, PAGE)
    first.unlink()
    first.close()
    assert (SHM / name).exists()
    second.close()


def test_a_forgotten_segment_is_unlinked(name: str):
    segment = Segment.create(name, PAGE)
    del segment
    assert not (SHM / name).exists()


@pytest.mark.fault("P4")
def test_a_forked_child_that_ends_leaves_the_segment_alone(name: str):
    code = (
        "import os, sys; from scopecast.memory.segment import Segment; s = Segment.create(sys.argv[1], 4096)\n"
        "if os.fork() == 0:\n    s.close(); sys.exit(0)\n"
        "assert os.wait()[1] == 0; assert os.path.exists('/dev/shm/' + sys.argv[1]); s.close()"
    )
    assert python(code, name).stderr == ""
    assert not (SHM / name).exists()


# ---- read-only ---------------------------------------------------------------------------------------------------


def test_writing_to_an_attached_segment_raises(name: str):
    segment = Segment.create(name, PAGE)
    reader = Segment.attach(name)
    assert reader.memory.readonly
    with pytest.raises(TypeError, match="read-only"):
        reader.memory[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        np.frombuffer(reader.memory, np.uint8)[0] = 1
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        np.frombuffer(reader.memory, np.uint8).flags.writeable = True
    reader.close()
    segment.close()


def test_the_map_itself_is_read_only(name: str):
    segment = Segment.create(name, PAGE)
    code = (
        "import ctypes, sys, numpy as np; from scopecast.memory.segment import Segment\n"
        "a = np.frombuffer(Segment.attach(sys.argv[1]).memory, np.uint8); print('attached', flush=True)\n"
        "ctypes.memset(a.ctypes.data, 1, 1)"
    )
    child = python(code, name)
    assert child.stdout == "attached\n"
    assert child.returncode == -11  # SIGSEGV: the kernel's answer, not Python's
    assert segment.memory[0] == 0
    segment.close()


def test_arrays_that_outlive_a_closed_segment_are_safe_to_touch(name: str):
    code = (
        "import sys, numpy as np; from scopecast.memory.segment import Segment\n"
        "s = Segment.create(sys.argv[1], 1 << 20); r = Segment.attach(sys.argv[1])\n"
        "a, b = np.frombuffer(s.memory, np.uint8), np.frombuffer(r.memory, np.uint8)\n"
        "s.close(); r.close(); del s, r; a[:] = 3; print(int(b.sum()))"
    )
    child = python(code, name)
    assert (child.returncode, child.stdout, child.stderr) == (0, f"{3 << 20}\n", "")


# ---- names -------------------------------------------------------------------------------------------------------

BAD_NAMES = {
    "parent": "../napari_abcdefgh_0",
    "dots": "..",
    "slash": "napari_abcd/fgh_0",
    "leading slash": "/napari_abcdefgh_0",
    "nul": "napari_abcdefgh_0\0",
    "newline": "napari_abcdefgh_0\n",
    "300 characters": "n" * 300,
    "long prefix": "n" * 16 + "_abcdefgh_0",
    "capital": "Napari_abcdefgh_0",
    "digit first": "1napari_abcdefgh_0",
    "token with 1": "napari_abcdefg1_0",
    "short token": "napari_abcdefg_0",
    "no number": "napari_abcdefgh_",
    "five digits": "napari_abcdefgh_12345",
    "other digits": "napari_abcdefgh_\u0663",
    "empty": "",
}


@pytest.mark.fault("H4")
@pytest.mark.parametrize("bad", BAD_NAMES.values(), ids=BAD_NAMES)
def test_names_that_are_refused(bad: str):
    with pytest.raises(ValueError, match="is not a valid segment name"):
        Segment.create(bad, PAGE)
    with pytest.raises(SharedMemoryError, match="is not the name"):
        Segment.attach(bad)
    with pytest.raises(ValueError, match="is not the name"):
        unlink_segment(bad)
    assert not [path for path in SHM.iterdir() if path.name in bad]


@pytest.mark.parametrize("good", ["napari_abcdefgh_0", "m_abcd2345_9999", "abcdefghijklmno_zzzzzzzz_1"])
def test_names_that_are_allowed(good: str):
    assert NAME_PATTERN.match(good)
    assert len(f"/{good}") <= 31  # macOS: PSHMNAMLEN


# ---- when memory is short ----------------------------------------------------------------------------------------


@pytest.mark.fault("R1")
def test_a_full_shm_names_what_is_needed_and_what_is_free(name: str, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    free = free_bytes()
    assert free is not None
    with pytest.raises(
        SharedMemoryError, match=r"needs 256 MiB of shared memory, \d+ MiB are free: .*budget"
    ) as caught:
        Segment.create(name, 256 * 2**20)
    assert caught.value.errno == errno.ENOSPC
    assert not (SHM / name).exists()


def test_nothing_is_left_where_the_reservation_is_interrupted(name: str, monkeypatch: pytest.MonkeyPatch):
    def interrupt(*_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "posix_fallocate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Segment.create(name, PAGE)
    assert not (SHM / name).exists()


def in_small_shm(code: str, mebibytes: int = 16) -> subprocess.CompletedProcess[str]:
    """Run Python where /dev/shm is a small tmpfs of its own."""
    mount = f'mount -t tmpfs -o size={mebibytes}m small /dev/shm || exit 77; exec "$@"'
    try:
        child = python(code, prefix=("unshare", "-m", "sh", "-c", mount, "sh"))
    except FileNotFoundError:
        pytest.skip("there is no unshare(1) on this machine")
    if child.returncode == 77 or "unshare" in child.stderr:
        pytest.skip("this user may not mount a tmpfs in a namespace of its own")
    return child


@pytest.mark.fault("R1")
def test_a_small_tmpfs_that_is_too_small():
    child = in_small_shm(
        "import os; from scopecast.memory.segment import Segment\n"
        "try:\n    Segment.create('test_abcdefgh_0', 32 << 20)\n"
        "except OSError as error:\n    print(error)\n"
        "print(os.listdir('/dev/shm'))"
    )
    assert child.returncode == 0, child.stderr
    assert "needs 32 MiB of shared memory, 16 MiB are free: No space left on device" in child.stdout
    assert child.stdout.endswith("[]\n")


@pytest.mark.fault("R2")
def test_a_tmpfs_that_fills_up_after_the_segment_was_made():
    child = in_small_shm(
        "import numpy as np; from scopecast.memory.segment import Segment\n"
        "segment = Segment.create('test_abcdefgh_0', 8 << 20)\n"
        "try:\n"
        "    with open('/dev/shm/rest', 'wb', buffering=0) as rest:\n"
        "        while rest.write(bytes(1 << 16)): pass\n"
        "except OSError as error:\n    print(error.strerror)\n"
        "pixels = np.frombuffer(segment.memory, np.uint8); pixels[:] = 1; print(int(pixels.sum()))\n"
    )
    assert (child.returncode, child.stdout) == (0, f"No space left on device\n{8 << 20}\n"), child.stderr


@pytest.mark.fault("R4")
def test_a_reader_without_address_space_fails_and_the_segment_stays(name: str):
    segment = Segment.create(name, 64 * 2**20)
    code = (
        "import resource, sys; from scopecast.memory.segment import Segment\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20),) * 2)\n"
        "try:\n    Segment.attach(sys.argv[1])\n"
        "except OSError as error:\n    print(type(error).__name__, error)"
    )
    child = python(code, name)
    assert child.stdout == f"SharedMemoryError [Errno 12] cannot map the segment {name}: Cannot allocate memory\n"
    assert (SHM / name).exists()
    Segment.attach(name).close()
    segment.close()


# ---- other users -------------------------------------------------------------------------------------------------


@pytest.mark.fault("H9")
@as_root
def test_another_user_can_neither_open_nor_unlink_it(name: str):
    segment = Segment.create(name, PAGE)
    code = (
        "import os, sys; from scopecast.memory.segment import Segment, unlink_segment\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "for act in (Segment.attach, unlink_segment):\n"
        "    try:\n        act(sys.argv[1]); print('done')\n"
        "    except OSError as error:\n        print(error.errno)"
    )
    child = python(code, name)
    refusals = {str(errno.EACCES), str(errno.EPERM)}
    assert len(child.stdout.split()) == 2, child.stderr
    assert set(child.stdout.split()) <= refusals
    assert (SHM / name).exists()
    segment.close()


@pytest.mark.fault("H10")
@as_root
def test_a_segment_of_another_user_is_refused(name: str):
    path = SHM / name
    path.write_bytes(bytes(PAGE))
    path.chmod(0o600)
    Segment.attach(name).close()
    os.chown(path, NOBODY, NOBODY)
    with pytest.raises(SharedMemoryError, match=f"not private to this user .owner {NOBODY}"):
        Segment.attach(name)


@pytest.mark.fault("H10")
@pytest.mark.parametrize("mode", [0o640, 0o602, 0o644, 0o666], ids=oct)
def test_a_segment_that_others_may_open_is_refused(name: str, mode: int):
    (SHM / name).write_bytes(bytes(PAGE))
    (SHM / name).chmod(mode)
    with pytest.raises(SharedMemoryError, match="not private to this user"):
        Segment.attach(name)


# ---- without the standard library's private module ---------------------------------------------------------------


def test_without_the_private_module_it_works_all_the_same(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "_posixshmem", None)
    segment = Segment.create(name, PAGE)
    assert stat.S_IMODE((SHM / name).stat().st_mode) == 0o600
    with pytest.raises(SharedMemoryError, match="File exists"):
        Segment.create(name, PAGE)
    segment.memory[0] = 5
    reader = Segment.attach(name)
    assert reader.memory[0] == 5
    with pytest.raises(TypeError, match="read-only"):
        reader.memory[0] = 1
    reader.close()
    segment.close()
    assert not (SHM / name).exists()
    assert not unlink_segment(name)


# ---- as on macOS -------------------------------------------------------------------------------------------------


@pytest.fixture
def as_on_macos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing to look at in /dev/shm, and no posix_fallocate()."""
    monkeypatch.setattr("scopecast.memory.posix._SHM_DIRECTORY", tmp_path / "none")
    monkeypatch.delattr(os, "posix_fallocate")


@pytest.mark.usefixtures("as_on_macos")
def test_without_a_view_of_dev_shm_all_is_told_by_the_segment_itself(name: str):
    assert free_bytes() is None
    assert own_bytes(name) is None
    segment = Segment.create(name, 5 * PAGE)
    assert (SHM / name).stat().st_blocks * 512 >= 5 * PAGE, "touched, where it can't be reserved"
    assert own_bytes(name) == 5 * PAGE
    segment.memory[0] = 5
    reader = Segment.attach(name)
    assert reader.memory[0] == 5
    reader.close()
    segment.close()
    assert own_bytes(name) is None
    assert not unlink_segment(name)


@pytest.mark.usefixtures("as_on_macos")
def test_without_a_view_of_dev_shm_the_dead_are_cleaned_by_what_they_have_written():
    code = (
        "import os, signal; from scopecast.rundir.directory import RunDirectory\n"
        "from scopecast.memory.segment import Segment\n"
        "member = RunDirectory().join('publisher', 'headless'); name = f'headless_{member.token}_0'\n"
        "member.entry.segments = [name]; member.write(); segment = Segment.create(name, 8192)\n"
        "print(name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    dead = python(code).stdout.strip()
    assert (SHM / dead).exists()
    assert RunDirectory().clean()[:3] == ([dead.split("_")[1]], [dead], 8192)
    assert not (SHM / dead).exists()


@as_root
@pytest.mark.usefixtures("as_on_macos")
def test_without_a_view_of_dev_shm_another_users_segment_is_left_alone(name: str):
    (SHM / name).write_bytes(bytes(PAGE))
    os.chown(SHM / name, NOBODY, NOBODY)
    assert own_bytes(name) is None
