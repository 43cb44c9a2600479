"""The run directory: who may use it, who is alive, and what is cleaned after the dead."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pytest

from scopecast import files as opened
from scopecast.errors import RuntimeDirectoryError, SharedMemoryError
from scopecast.memory.segment import Segment
from scopecast.rundir import directory as runs
from scopecast.rundir.directory import Entry, RunDirectory, display_names, new_token

if TYPE_CHECKING:
    from collections.abc import Iterator

SHM = Path("/dev/shm")
NOBODY = 65534
EXISTS = ".+" if sys.platform == "win32" else "File exists"  # in the system's words
as_root = pytest.mark.needs("a user to switch to")
on_linux = pytest.mark.needs("/dev/shm")


@pytest.fixture
def directory(runtime_dir: Path) -> RunDirectory:
    return RunDirectory()


@pytest.fixture
def segment_name() -> Iterator[str]:
    """A name with no segment yet; what is there in the end is removed."""
    name = f"test_{new_token()}_0"
    yield name
    (SHM / name).unlink(missing_ok=True)


def token_of(name: str) -> str:
    return name.split("_")[1]


def write_entry(directory: RunDirectory, token: str, **fields: Any) -> None:
    """Forge what a member says of itself."""
    entry = {"token": token, "role": "publisher", "kind": "headless", **fields}
    directory.file(token, "json").write_text(json.dumps(entry))


def files(directory: RunDirectory) -> set[str]:
    return {path.name for path in directory.path.iterdir()}


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A child that has printed a line, in which it says that it is where the test wants it."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.kill()


MEMBER = (
    "import sys; from scopecast.rundir.directory import RunDirectory; from scopecast.memory.segment import Segment\n"
    "member = RunDirectory().join('publisher', 'headless', token=sys.argv[1])\n"
    "member.entry.segments = [f'test_{member.token}_0']; member.write()\n"
    "segment = Segment.create(f'test_{member.token}_0', 4096)\n"
    "member.directory.socket_path(member.token).touch()\n"
)


# ---- the directory itself ----------------------------------------------------------------------------------------


@pytest.mark.needs("file modes")
def test_it_is_made_for_this_user_alone(tmp_path: Path):
    before = os.umask(0)
    try:
        made = RunDirectory(tmp_path / "a" / "run")
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700


def test_the_environment_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SCOPECAST_RUNTIME_DIR", str(tmp_path / "named"))
    assert RunDirectory().path == tmp_path / "named"


@pytest.mark.needs("file modes")
def test_without_any_environment_it_is_the_platforms_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SCOPECAST_RUNTIME_DIR")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = RunDirectory()
    assert made.path.name == "scopecast" or "scopecast" in made.path.parts
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o700


@pytest.mark.fault("H11")
@pytest.mark.needs("links")
def test_a_link_is_refused(tmp_path: Path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(RuntimeDirectoryError, match=r"is not a directory .or a link to one.*SCOPECAST_RUNTIME_DIR"):
        RunDirectory(tmp_path / "link")


@pytest.mark.fault("H11")
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o701, 0o750], ids=oct)
@pytest.mark.needs("file modes")
def test_a_directory_that_is_open_to_others_is_refused(tmp_path: Path, mode: int):
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(mode)
    with pytest.raises(RuntimeDirectoryError, match=f"is open to others .mode {mode:o}; 'chmod 700' it"):
        RunDirectory(tmp_path / "run")


@pytest.mark.fault("H11")
@as_root
def test_another_users_directory_is_refused(tmp_path: Path):
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", NOBODY, NOBODY)
    with pytest.raises(RuntimeDirectoryError, match=f"belongs to the user {NOBODY}"):
        RunDirectory(tmp_path / "run")


@pytest.mark.fault("H11")
def test_a_file_in_its_place_is_refused(tmp_path: Path):
    (tmp_path / "run").touch()
    with pytest.raises(RuntimeDirectoryError, match=rf"can't be created: {EXISTS}; set SCOPECAST_RUNTIME_DIR"):
        RunDirectory(tmp_path / "run")


# ---- sockets -----------------------------------------------------------------------------------------------------


def test_a_socket_lies_beside_the_other_files(directory: RunDirectory):
    assert directory.socket_path("abcdefgh") == directory.path / "abcdefgh.sock"


@pytest.mark.needs("unix sockets")
def test_a_path_too_long_for_a_socket_leads_to_a_shorter_private_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    short = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    deep = RunDirectory(tmp_path / ("d" * 100))
    path = deep.socket_path("abcdefgh")
    assert len(os.fsencode(path)) <= 103
    assert path.parent.parent == short
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    with deep.join("publisher", "headless", token="abcdefgh"):
        path.touch()
    assert not path.exists(), "a member removes its socket there too"
    path.parent.chmod(0o755)
    with pytest.raises(RuntimeDirectoryError, match="is open to others"):
        deep.socket_path("abcdefgh")
    shutil.rmtree(short)


@pytest.mark.parametrize("excess", [0, 1], ids=["just fits", "one too long"])
@pytest.mark.needs("unix sockets")
def test_the_limit_is_that_of_the_operating_system(tmp_path_factory: pytest.TempPathFactory, excess: int):
    base = Path(tempfile.mkdtemp(prefix="sc-", dir="/tmp"))
    length = 103 - len(os.fsencode(base)) - len("//abcdefgh.sock") + excess
    made = RunDirectory(base / ("d" * length))
    beside = made.path / "abcdefgh.sock"
    assert len(os.fsencode(beside)) == 103 + excess
    assert (made.socket_path("abcdefgh") == beside) is (excess == 0)
    shutil.rmtree(base)


# ---- members -----------------------------------------------------------------------------------------------------


def test_a_member_is_alive_until_it_is_closed_and_leaves_no_file(directory: RunDirectory):
    member = directory.join("publisher", "headless", title="camera", host="pymmcore")
    assert directory.alive(member.token)
    (entry,) = directory.living()
    assert (entry.role, entry.kind, entry.title, entry.host) == ("publisher", "headless", "camera", "pymmcore")
    assert (entry.pid, entry.state) == (os.getpid(), "starting")
    directory.socket_path(member.token).touch()
    member.close()
    assert files(directory) == set()
    assert not directory.alive(member.token)
    member.close()
    member.write()
    assert files(directory) == set(), "what is closed writes nothing any more"


def test_entries_are_told_apart_by_role_and_kind_in_order_of_their_start(directory: RunDirectory):
    for number, (token, role, kind) in enumerate(
        [("cccccccc", "receiver", "napari"), ("bbbbbbbb", "publisher", "napari"), ("aaaaaaaa", "publisher", "fiji")]
    ):
        write_entry(directory, token, role=role, kind=kind, created=float(number))
    assert [entry.token for entry in directory.entries()] == ["cccccccc", "bbbbbbbb", "aaaaaaaa"]
    assert [entry.token for entry in directory.entries("publisher")] == ["bbbbbbbb", "aaaaaaaa"]
    assert [entry.token for entry in directory.entries("publisher", "fiji")] == ["aaaaaaaa"]
    assert directory.living() == []


GARBAGE = {
    "empty": b"",
    "no JSON": b"{",
    "not UTF-8": b"\xff\xfe",
    "a list": b"[]",
    "no role": b'{"token": "abcdefgh"}',
    "another role": b'{"token": "abcdefgh", "role": "spy", "kind": "napari"}',
    "another's token": b'{"token": "bbbbbbbb", "role": "publisher", "kind": "napari"}',
    "deep": b"[" * 100_000,
    "deep inside": b'{"x": ' + b"[" * 100_000,
    "text that is not UTF-8": b'{"token": "\xff\xff\xff\xff", "role": "publisher", "kind": "napari"}',
}


@pytest.mark.fault("H5")
@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_no_entry_and_is_cleaned(directory: RunDirectory, content: bytes):
    directory.file("abcdefgh", "json").write_bytes(content)
    assert directory.entries() == []
    assert directory.clean().segments == []
    assert files(directory) == set()


def test_a_token_is_what_the_name_of_a_segment_takes():
    assert {len(new_token()) for _ in range(100)} == {8}
    assert len({new_token() for _ in range(100)}) == 100
    assert set("".join(new_token() for _ in range(1000))) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_a_token_that_is_taken_is_not_given_twice(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    with directory.join("publisher", "headless") as member:
        acquire = filelock.FileLock.acquire
        monkeypatch.setattr(filelock.FileLock, "acquire", lambda lock, timeout: acquire(lock, timeout=0))
        with pytest.raises(filelock.Timeout):
            directory.join("publisher", "headless", token=member.token)
        assert directory.alive(member.token)


# ---- life and death ----------------------------------------------------------------------------------------------


@pytest.mark.fault("V2", "P1")
@pytest.mark.needs("stopped processes")
def test_who_is_killed_is_dead_and_who_is_stopped_is_alive(directory: RunDirectory, segment_name: str):
    token = token_of(segment_name)
    with process(MEMBER + "print(flush=True); input()", token) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert directory.alive(token)
        child.send_signal(signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert directory.alive(token)
        child.kill()
        child.wait(20)
        assert not directory.alive(token)
    assert directory.clean().segments == [segment_name]


@pytest.mark.needs("fork")
def test_the_dead_are_dead_although_a_grandchild_holds_their_descriptors(directory: RunDirectory, segment_name: str):
    token = token_of(segment_name)
    code = (
        MEMBER + "import os, signal\n"
        "if os.fork() == 0:\n    print(os.getpid(), flush=True); signal.pause()\n"
        "signal.pause()"
    )
    with process(code, token) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            assert directory.alive(token)
            child.kill()
            child.wait(20)
            assert not directory.alive(token)
            assert directory.clean().segments == [segment_name]
        finally:
            os.kill(grandchild, signal.SIGKILL)
    assert not (SHM / segment_name).exists()


@pytest.mark.fault("P4")
@pytest.mark.needs("fork")
def test_a_forked_child_that_closes_leaves_its_parents_entry_alone(directory: RunDirectory, segment_name: str):
    token = token_of(segment_name)
    code = MEMBER + (
        "import os\n"
        "if os.fork() == 0:\n    member.close(); os._exit(0)\n"
        "os.wait(); print(flush=True); input(); member.close(); segment.close()"
    )
    with process(code, token) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert directory.alive(token)
        assert {f"{token}.json", f"{token}.lock", f"{token}.sock"} <= files(directory)
        child.communicate("\n", timeout=20)
    assert files(directory) == set()


@pytest.mark.fault("P8")
@pytest.mark.parametrize("pid", [os.getppid(), os.getpid()], ids=["another's", "our own"])
def test_a_live_pid_with_a_free_lock_is_dead(directory: RunDirectory, segment_name: str, pid: int):
    token = token_of(segment_name)
    segment = Segment.create(segment_name, 4096)
    write_entry(directory, token, pid=pid, state="ready", segments=[segment_name])
    directory.file(token, "lock").touch()
    assert not directory.alive(token)
    assert directory.living() == []
    assert directory.clean().members == [token]
    assert not (SHM / segment_name).exists()
    segment.close()


# ---- cleaning ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("P7")
@on_linux
def test_cleaning_removes_what_the_dead_left_and_nothing_of_the_living(directory: RunDirectory, segment_name: str):
    token = token_of(segment_name)
    with process(MEMBER + "print(flush=True); input()", token) as child:
        assert child.stdout is not None
        child.stdout.readline()
        with directory.join("publisher", "headless") as living:
            mine = Segment.create(f"test_{living.token}_0", 4096)
            living.entry.segments = [mine.name]
            living.write()
            directory.socket_path(living.token).touch()
            before = files(directory)
            assert directory.clean()[:3] == ([], [], 0)
            assert files(directory) == before
            child.kill()
            child.wait(20)
            assert directory.clean()[:3] == ([token], [segment_name], 4096)
            assert files(directory) == {name for name in before if not name.startswith(token)}
            assert (SHM / mine.name).exists()
            assert not (SHM / segment_name).exists()
            assert directory.clean()[:3] == ([], [], 0)
            mine.close()


FORGED = {
    "another's token": lambda token: "test_zzzzzzzz_0",
    "a path": lambda token: f"../test_{token}_0",
    "a path inside": lambda token: f"x/../test_{token}_0",
    "a newline": lambda token: f"test_{token}_0\n",
    "no number": lambda token: f"test_{token}_",
    "token elsewhere": lambda token: f"{token}_zzzzzzzz_0",
    "empty": lambda token: "",
}


@pytest.mark.fault("H4")
@on_linux
@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_entry_unlinks_nothing_that_is_not_its_own(directory: RunDirectory, segment_name: str, forge: Any):
    token = token_of(segment_name)
    name = forge(token)
    victims = [SHM / "test_zzzzzzzz_0", SHM / f"{token}_zzzzzzzz_0", SHM / segment_name]
    for victim in victims:
        victim.touch()
    try:
        write_entry(directory, token, segments=[name])
        cleaned = directory.clean()
        assert cleaned[:3] == ([token], [], 0)
        assert all(victim.exists() for victim in victims)
    finally:
        for victim in victims:
            victim.unlink()


@pytest.mark.fault("H10")
@on_linux
@as_root
def test_another_users_segment_is_left_alone(directory: RunDirectory, segment_name: str):
    (SHM / segment_name).touch()
    os.chown(SHM / segment_name, NOBODY, NOBODY)
    write_entry(directory, token_of(segment_name), segments=[segment_name])
    assert directory.clean().segments == []
    assert (SHM / segment_name).exists()


def test_files_that_are_no_members_are_left_alone(directory: RunDirectory):
    others = {"notes.txt", "READMEEE.txt", "launch-headless.lock", "launch-n.lock", "settings1.json"}
    for name in others:
        (directory.path / name).touch()
    directory.clean()
    assert files(directory) == others


LOGS = {
    "of a viewer that is starting": (b"", 0.0, True),
    "empty, and old": (b"", runs.STARTS_S + 60, False),
    "of a viewer that crashed": (b"Traceback", runs.STARTS_S + 60, True),
    "of last week": (b"Traceback", runs.LOG_LIFETIME_S + 60, False),
}


@pytest.mark.parametrize(("content", "age", "kept"), LOGS.values(), ids=LOGS)
def test_a_log_is_kept_as_long_as_it_tells_something(directory: RunDirectory, content: bytes, age: float, kept: bool):
    log = directory.file("abcdefgh", "log")
    log.write_bytes(content)
    then = time.time() - age
    os.utime(log, (then, then))
    assert directory.clean().members == []
    assert log.exists() is kept


@pytest.mark.fault("P7")
@on_linux
def test_two_cleaners_that_race_share_the_work(directory: RunDirectory):
    names = [f"test_{new_token()}_0" for _ in range(60)]
    with directory.join("publisher", "headless") as living:
        for name in names:
            (SHM / name).write_bytes(bytes(4096))
            write_entry(directory, token_of(name), segments=[name])
        code = (
            "import json; from scopecast.rundir.directory import RunDirectory; directory = RunDirectory()\n"
            "print(flush=True); input(); print(json.dumps(directory.clean()[:3]))"
        )
        try:
            with process(code) as one, process(code) as two:
                for child in (one, two):
                    assert child.stdout is not None
                    child.stdout.readline()
                for child in (one, two):
                    assert child.stdin is not None
                    child.stdin.write("\n")
                    child.stdin.flush()
                results = [json.loads(child.communicate(timeout=30)[0]) for child in (one, two)]
                assert (one.returncode, two.returncode) == (0, 0)
        finally:
            left = [name for name in names if (SHM / name).exists()]
            for name in left:
                (SHM / name).unlink()
        assert left == []
        segments = [name for _, found, _ in results for name in found]
        assert sorted(segments) == sorted(names), "each was removed once"
        assert sum(nbytes for *_, nbytes in results) == 60 * 4096
        directory.clean()
        assert {name.split(".")[0] for name in files(directory)} == {living.token}


@pytest.mark.fault("P7")
def test_a_cleaner_and_those_who_join_do_not_harm_each_other(directory: RunDirectory):
    code = (
        "import sys; from scopecast.rundir.directory import RunDirectory; directory = RunDirectory()\n"
        "print(flush=True)\n"
        "for _ in range(150):\n"
        "    with directory.join('publisher', 'headless') as member:\n"
        "        assert directory.alive(member.token)\n"
        "        assert directory.file(member.token, 'json').exists()\n"
    )
    with process(code) as one, process(code) as two:
        while one.poll() is None or two.poll() is None:
            assert directory.clean()[:3] == ([], [], 0)
        assert (one.returncode, two.returncode) == (0, 0)
    directory.clean()
    assert files(directory) == set()


# ---- names -------------------------------------------------------------------------------------------------------


@pytest.mark.fault("P6")
@pytest.mark.parametrize(
    ("titles", "names"),
    [
        (["scope", "scope"], ["scope", "scope (2)"]),
        (["scope", "other", "scope", "scope"], ["scope", "other", "scope (2)", "scope (3)"]),
        (["scope", "scope (2)", "scope"], ["scope", "scope (2)", "scope (3)"]),
        (["", ""], ["napari", "napari (2)"]),
    ],
    ids=str,
)
def test_titles_that_are_the_same_are_numbered(titles: list[str], names: list[str]):
    entries = [
        Entry(token=f"{number}", role="publisher", kind="napari", title=title, created=float(number))
        for number, title in enumerate(titles)
    ]
    assert list(display_names(entries[::-1]).values()) == names, "in order of their start"


@pytest.mark.fault("P6")
def test_publishers_and_viewers_and_their_kinds_are_numbered_apart():
    entries = [
        Entry(token=f"{number}", role=role, kind=kind, title="scope", created=float(number))
        for number, (role, kind) in enumerate(
            [("publisher", "napari"), ("publisher", "fiji"), ("receiver", "napari"), ("receiver", "napari")]
        )
    ]
    assert list(display_names(entries).values()) == ["scope", "scope", "scope", "scope (2)"]


@pytest.mark.fault("P6")
def test_a_name_that_is_shown_stays_and_nobody_else_gets_it():
    entries = [
        Entry(token=token, role="publisher", kind="napari", title=title, created=float(number))
        for number, (token, title) in enumerate([("a", "scope"), ("b", "scope"), ("c", "scope"), ("d", "scope (2)")])
    ]
    given = display_names(entries[1:3])
    assert given == {"b": "scope", "c": "scope (2)"}
    # "a" was seen later than those that started after it, "b" has gone meanwhile.
    names = display_names([entries[0], *entries[2:]], given)
    assert names == {"c": "scope (2)", "a": "scope (3)", "d": "scope (2) (2)"}


def test_those_who_ask_at_once_whether_a_dead_one_lives_all_hear_that_it_does_not(directory: RunDirectory):
    """One who asks must not be taken for the holder by another."""
    token = new_token()
    directory.file(token, "lock").touch(0o600)
    barrier = threading.Barrier(4)
    answers: list[bool] = []

    def ask() -> None:
        asking = RunDirectory()
        barrier.wait(20)
        answers.extend(asking.alive(token) for _ in range(500))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [False] * 2000


@pytest.mark.fault("P7")
@pytest.mark.needs("removal of open files")
def test_a_cleaner_is_not_kept_away_by_those_who_ask(directory: RunDirectory):
    token = new_token()
    directory.file(token, "lock").touch(0o600)
    asked = threading.Event()
    cleaned = threading.Event()

    def ask() -> None:
        while not cleaned.is_set():
            directory.alive(token)
            asked.set()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert asked.wait(20)
        for _ in range(100):
            RunDirectory().clean()
            assert not directory.file(token, "lock").exists()
            directory.file(token, "lock").touch(0o600)
    finally:
        cleaned.set()
        for thread in threads:
            thread.join(20)


# ---- a directory that is removed under its members ---------------------------------------------------------------


@pytest.mark.fault("P12")
@pytest.mark.needs("removal of open files")
def test_after_the_directory_was_removed_a_member_enters_anew(directory: RunDirectory):
    watcher = RunDirectory()
    with directory.join("publisher", "headless") as member:
        shutil.rmtree(directory.path)
        assert watcher.alive(member.token), "nothing says that it died"
        member.write()
        assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
        assert watcher.alive(member.token)
        assert [entry.token for entry in watcher.living()] == [member.token]
        assert watcher.clean()[:3] == ([], [], 0)
    assert files(directory) == set()
    assert not RunDirectory().alive(member.token)


@pytest.mark.fault("P12")
@pytest.mark.needs("removal of open files")
def test_who_does_not_enter_anew_is_dead_after_a_while(directory: RunDirectory, monkeypatch: pytest.MonkeyPatch):
    with directory.join("publisher", "headless") as member:
        shutil.rmtree(directory.path)
        directory.path.mkdir(mode=0o700)
        assert directory.alive(member.token)
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + runs.RETURN_S + 1)
        assert not directory.alive(member.token)
        assert not directory.alive(member.token)


@pytest.mark.needs("removal of open files")
def test_one_lock_that_is_missing_is_a_death(directory: RunDirectory):
    with directory.join("publisher", "headless") as member:
        directory.file(member.token, "lock").unlink()
        assert not directory.alive(member.token)
        member.write()
        assert directory.alive(member.token)


# ---- as on Windows -----------------------------------------------------------------------------------------------


def test_the_entry_of_a_dead_member_that_a_program_looks_into_is_cleaned(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    write_entry(directory, "abcdefgh")
    monkeypatch.setattr(opened, "_BUSY_S", 60.0)
    with directory.file("abcdefgh", "json").open("rb") as scanner:
        monkeypatch.setattr("scopecast.files.time.sleep", lambda pause: scanner.close())
        assert directory.clean().members == ["abcdefgh"]
    assert files(directory) == set()


def test_a_member_writes_its_entry_while_programs_look_into_the_last_one_and_the_draft(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(opened, "_BUSY_S", 60.0)
    with directory.join("publisher", "headless") as member:
        directory.file(member.token, "new").touch()
        with directory.file(member.token, "json").open("rb") as one, directory.file(member.token, "new").open() as two:
            monkeypatch.setattr("scopecast.files.time.sleep", lambda pause: (one.close(), two.close()))
            member.entry.state = "ready"
            member.write()
        assert [entry.state for entry in directory.living()] == ["ready"]
    assert files(directory) == set()


@pytest.mark.needs("junctions")
def test_a_junction_is_no_run_directory(tmp_path: Path):
    """Who made it can have it lead elsewhere at any time, like a link."""
    _winapi = pytest.importorskip("_winapi")
    (tmp_path / "elsewhere").mkdir()
    try:
        _winapi.CreateJunction(str(tmp_path / "elsewhere"), str(tmp_path / "junction"))
    except OSError as error:
        pytest.skip(f"no junction can be made here: {error}")
    with pytest.raises(RuntimeDirectoryError, match="is a junction"):
        RunDirectory(tmp_path / "junction")


def test_many_who_ask_at_once_do_not_take_each_other_for_the_holder(directory: RunDirectory):
    directory.file("abcdefgh", "lock").touch()
    with directory.join("publisher", "headless") as member, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda n: (directory.alive("abcdefgh"), directory.alive(member.token)), range(400)))
    assert set(answers) == {(False, True)}


@pytest.mark.fault("H11")
@pytest.mark.needs("/dev/shm", "named pipes")
@pytest.mark.parametrize("lies_at", ["abcdefgh.json", "abcdefgh.lock", "segment"])
def test_a_pipe_in_the_run_directory_is_never_waited_for(lies_at: str, runtime_dir: Path):
    """Whoever opens one to read waits for a writer, which never comes."""
    directory = RunDirectory()
    forged = directory.join("publisher", "headless")
    if lies_at == "segment":
        name = f"headless_{forged.token}_0"
        os.mkfifo(f"/dev/shm/{name}")
        forged.entry.segments = [name]
        forged.entry.endpoint = f"ipc://{directory.socket_path(forged.token)}"
        forged.entry.state = "ready"
        forged.write()
    else:
        os.mkfifo(directory.path / lies_at)
    try:
        done = subprocess.run([sys.executable, "-c", ALL_GOES_ON], capture_output=True, text=True, timeout=60)
        assert done.stdout.split() == ["delivered", "1"], done.stderr
        if lies_at == "segment":
            with pytest.raises(SharedMemoryError, match="not a regular file"):
                Segment.attach(name)
    finally:
        forged.close()
        if lies_at == "segment":
            Path(f"/dev/shm/{name}").unlink()


ALL_GOES_ON = """
import numpy as np
from scopecast import Publisher
from scopecast.rundir.directory import RunDirectory
from scopecast.testing import Observer
RunDirectory().clean()
with Observer("headless") as observer, Publisher("headless", policy="every") as publisher:
    publisher.publish(np.zeros((8, 8), "uint8"), axes={"t": 0})
    publisher.flush(20)
    print("delivered", publisher.stats().frames.delivered)
"""


MESSES = {
    "a directory": lambda path: path.mkdir(),
    "a full directory": lambda path: (path.mkdir(), (path / "x").touch()),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to nowhere": lambda path: path.symlink_to(path.with_name("nowhere")),
    "a link to itself": lambda path: path.symlink_to(path),
    "a socket": lambda path: _bind(path),
    "a gigabyte": lambda path: (path.touch(), os.truncate(path, 2**30)),
    "deep": lambda path: path.write_text('{"x":' + "[" * 60_000),
    "not UTF-8": lambda path: path.write_bytes(b'{"title": "\xff\xfe"}'),
}


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


@pytest.mark.fault("H11")
@pytest.mark.needs("links", "named pipes", "unix sockets")
@pytest.mark.parametrize("suffix", ["json", "lock", "sock", "new", "log", "shut"])
def test_nothing_that_lies_there_is_taken_for_a_member_or_keeps_the_others_from_being_cleaned(
    suffix: str, directory: RunDirectory
):
    for make in MESSES.values():
        token = new_token()
        if suffix != "json":
            write_entry(directory, token, state="ready", endpoint=f"ipc://{directory.path}/x")
        make(directory.file(token, suffix))
    write_entry(directory, "abcdefg\n")
    write_entry(directory, "zzzzzzzz")  # the last to be cleaned
    assert directory.living() == []
    assert "zzzzzzzz" in directory.clean().members
    left = {name.partition(".")[0] for name in files(directory)} - {"abcdefg\n"}
    folders = {path.stem for path in directory.path.iterdir() if path.is_dir()}
    logs = {path.stem for path in directory.path.glob("*.log")}
    assert left == folders | logs
