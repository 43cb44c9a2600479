"""The run directory: who is alive, under which token, with which segments; and cleaning up after crashed programs.

Every publisher and every receiver has files named by its token: ``token.lock`` (held for life), ``token.json`` (what it
is, first as an intent, then ready), ``token.sock`` (a publisher's endpoint) and ``token.log`` (a launched viewer's
output). Whether one is alive is told by its lock, which the kernel frees with the process; never by its pid, which
another process may have by now.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, NamedTuple, Self

import filelock
import msgspec
import platformdirs
import psutil
from msgspec import Meta

from scopecast.errors import RuntimeDirectoryError
from scopecast.files import insist, is_locked, open_shared, remove
from scopecast.memory.ring import RingReader
from scopecast.memory.segment import NAME_PATTERN, free_bytes, own_bytes, unlink_segment
from scopecast.protocol import (
    MAX_PATH,
    MAX_TITLE,
    PROTOCOL,
    U32,
    Kind,
    Label,
    Title,
    Token,
    clock_ns,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = [
    "ROLES",
    "Cleaned",
    "Entry",
    "Format",
    "Leftover",
    "Member",
    "Rescue",
    "Rescued",
    "RunDirectory",
    "display_names",
    "new_token",
]

ENVIRONMENT = "SCOPECAST_RUNTIME_DIR"
#: sockaddr_un holds 108 bytes on Linux, 104 on macOS, the final zero included.
MAX_SOCKET_PATH = 103
LOG_LIFETIME_S = 86_400.0
#: A viewer's log is there, and empty, before the viewer itself is: it has this long to start.
STARTS_S = 240.0
#: After the directory was removed under its members (logind, at logout), they have this long to enter again.
RETURN_S = 5.0
#: The frames of a publisher that was killed are kept so long after that was noticed, unless a viewer has them.
KEEP_S = 600.0
#: So many bytes of them at most, those of the last that died first; and at most a fifth of the shared memory that there
#: is left, so that no program lacks it.
MAX_KEPT_BYTES = 512 * 2**20
_KEPT_SHARE = 4
_KEEP: Final = ("keep", "keeping", "kept")
_RESCUE: Final = ("asking", "rescue", "rescuing", "telling", "rescued")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
MAX_ENTRY_BYTES = 64 * 1024
#: Until the year 3000, which is as far as Windows can tell the time.
_Moment = Annotated[float, Meta(ge=0, le=32_503_680_000)]
#: Of this machine only.
_Endpoint = Annotated[str, Meta(pattern=r"\A(?:(?s:ipc://.+)|tcp://127\.0\.0\.1:[0-9]{1,5})?\Z", max_length=MAX_PATH)]
_SegmentName = Annotated[str, Meta(max_length=30)]
Role = Literal["publisher", "receiver", "subscriber", "recorder", "relay"]
#: What each is called where people read it.
ROLES: Final[dict[Role, str]] = {
    "receiver": "viewer",
    "publisher": "publisher",
    "subscriber": "subscriber",
    "recorder": "recorder",
    "relay": "relay",
}
_TOKEN = re.compile(r"\A[a-z2-7]{8}\Z")


def new_token() -> str:
    """Return eight random letters and digits (40 bits), which name a publisher or a receiver."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(8))


class Entry(msgspec.Struct, kw_only=True):
    """What a publisher or a receiver says about itself in its ``token.json``.

    Attributes
    ----------
    token
        Its token; the file is named by the same.
    role
        Whether it publishes, is a viewer (receiver), a program that looks at the frames (subscriber), one that writes
        them to files (recorder), or one that sends them to other machines (relay).
    kind
        The kind of viewer: ``"napari"``, ``"fiji"``, … A publisher serves viewers of one kind, and subscribers,
        recorders and relays, whose own is ``"*"``.
    title
        What it calls itself.
    host
        The software that it runs in; of a recorder, the time that it keeps in memory (``"30s"``), or ``""``.
    pid
        Its process; for information only.
    created
        When that was started, in seconds since 1970; for information only.
    state
        ``"starting"`` is an intent, ``"ready"`` means that it can be reached, ``"leaving"`` that it is about to end;
        ``"choosing"`` is a viewer that attaches only where its user says so: nobody is to rely on it.
    endpoint
        The ZeroMQ endpoint of a publisher or a relay; others have none.
    key
        Its public CURVE key in Z85, which guards a tcp endpoint; ``""`` where it has none.
    segments
        Names of the shared memory segments that it has, or is about to make.
    protocol
        The version of the protocol that it speaks; 0 where it does not say so.
    origin
        Of a publisher that shows what is published on another machine: the token of the publisher there; else ``""``.
    """

    token: Token
    role: Role
    kind: Kind
    title: Title = ""
    host: Title = ""
    pid: U32 = 0
    created: _Moment = 0.0
    state: Literal["starting", "ready", "choosing", "leaving"] = "starting"
    endpoint: _Endpoint = ""
    key: Label = ""
    segments: Annotated[list[_SegmentName], Meta(max_length=64)] = []
    protocol: U32 = 0
    origin: Annotated[str, Meta(pattern=r"\A(?:[a-z2-7]{8})?\Z")] = ""

    def __post_init__(self) -> None:
        self.title, self.host = printable(self.title, MAX_TITLE), printable(self.host, MAX_TITLE)
        self.key = printable(self.key)


_decode_entry = msgspec.json.Decoder(Entry).decode


def _read_entry(path: Path) -> Entry | None:
    """Return a member's entry; None if it has just gone, or can't be understood."""
    try:
        entry = _decode_entry(insist(lambda: _read_regular(path)))
    # Deep nesting raises RecursionError, text that is not UTF-8 UnicodeDecodeError; neither is a DecodeError.
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return entry if entry.token == path.stem and _TOKEN.match(entry.token) else None


def _read_regular(path: Path) -> bytes:
    """Read a small file without ever waiting, as for who writes into a pipe.

    Raises
    ------
    OSError
        If it is not a regular file, or too large to be an entry.
    """
    descriptor = open_shared(path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_ENTRY_BYTES:
            raise OSError(errno.EINVAL, "not an entry", str(path))
        return os.read(descriptor, MAX_ENTRY_BYTES)
    finally:
        os.close(descriptor)


def _write_in_one_step(target: Path, draft: Path, data: bytes) -> None:
    """Write a file for this user alone, which nobody sees half written."""
    insist(lambda: draft.touch(0o600))
    insist(lambda: draft.write_bytes(data))
    insist(lambda: draft.replace(target))


def _add_line(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, f"{text}\n".encode())
    finally:
        os.close(descriptor)


class Cleaned(NamedTuple):
    """What `RunDirectory.clean` removed.

    Attributes
    ----------
    members
        Tokens of the dead.
    segments
        Names of their shared memory segments.
    bytes
        How much shared memory that was.
    kept
        The frames of publishers that were killed, which are kept for a while.
    """

    members: list[str]
    segments: list[str]
    bytes: int
    kept: tuple[Leftover, ...] = ()


#: How the name of a file of a run ends.
Format = Literal[".ome.tiff", ".ome.zarr"]


class Rescue(msgspec.Struct):
    """What `scopecast recover` asks a viewer for: files of what it has of programs that were killed.

    Attributes
    ----------
    folder
        Where the files go.
    form
        The end of their names, which tells the format: ``".ome.tiff"`` or ``".ome.zarr"``.
    name
        Of this request; the answer has the same.
    """

    folder: Annotated[str, Meta(max_length=MAX_PATH)]
    form: Format
    name: Label = ""


class Rescued(msgspec.Struct):
    """The answer of the viewer.

    Attributes
    ----------
    written
        A line for each run that is in its files.
    problems
        A line for each that could not be written.
    publishers
        The tokens of the programs of which it has frames.
    name
        Of the request.
    """

    written: list[str] = []
    problems: list[str] = []
    publishers: list[Token] = []
    name: Label = ""


class Leftover(NamedTuple):
    """The ring of a publisher that was killed, with its last frames.

    Attributes
    ----------
    entry
        What the publisher said about itself.
    segment
        The name of its ring.
    bytes
        The size of that.
    newest
        When the newest frame was published, in seconds since 1970.
    until
        How long it is kept at most, in seconds since 1970.
    is_new
        Whether it was not noticed before.
    """

    entry: Entry
    segment: str
    bytes: int
    newest: float
    until: float
    is_new: bool

    def __str__(self) -> str:
        """Say whose frames they are, how long they are kept, and how to get them."""
        clock = time.strftime("%H:%M", time.localtime(self.until))
        name = self.entry.title or f"a publisher for {self.entry.kind}"
        how = "'scopecast recover FOLDER' saves them"
        return f"the last frames of {name}, which has crashed or was killed, are kept until {clock}: {how}"


def runtime_path() -> Path:
    """Return where the run directory is by default; nothing is made."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    with warnings.catch_warnings():  # without XDG_RUNTIME_DIR platformdirs warns, and falls back below /tmp
        warnings.simplefilter("ignore")
        return platformdirs.user_runtime_path("scopecast", appauthor=False)  # %LOCALAPPDATA%\\Temp\\scopecast


def short_path() -> Path:
    """Return where sockets are whose path would be too long in the run directory; nothing is made."""
    folder = Path(tempfile.gettempdir())
    if sys.platform == "win32":
        return folder / "scopecast"  # the folder is the user's own
    return folder / f"scopecast-{os.getuid()}"


def objection(path: Path) -> str | None:
    """Return why the directory `path` is not safe to use (``"belongs to the user 7"``), or None.

    Raises
    ------
    OSError
        If there is none, or it can't be looked at.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return "is not a directory (or a link to one)"
    if sys.platform == "win32":
        if status.st_reparse_tag == stat.IO_REPARSE_TAG_MOUNT_POINT:
            return "is a junction, which leads elsewhere"
        return None  # it lies in the user's profile, whose access list keeps others out; a mode says nothing there
    if status.st_uid != os.getuid():
        return f"belongs to the user {status.st_uid}"
    if status.st_mode & 0o077:
        return f"is open to others (mode {stat.S_IMODE(status.st_mode):o}; 'chmod 700' it)"
    return None


def _private_directory(path: Path) -> Path:
    """Make the directory `path` for this user alone, or refuse it."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = objection(path)
    except OSError as error:
        msg = f"the run directory {path} can't be created: {error.strerror}; set {ENVIRONMENT} to a directory of yours"
        raise RuntimeDirectoryError(error.errno, msg) from error
    if problem:
        msg = f"the run directory {path} {problem}; set {ENVIRONMENT} to a directory of yours"
        raise RuntimeDirectoryError(1, msg)
    return path


class RunDirectory:
    """The directory where publishers and receivers of one user find each other.

    Parameters
    ----------
    path
        Where it is; by default ``$SCOPECAST_RUNTIME_DIR``, or the platform's place for such files. Made with mode 0700
        if it is not there.

    Raises
    ------
    RuntimeDirectoryError
        If it is a link, another user's, or open to others: anyone who can write there could inject frames.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = _private_directory(runtime_path() if path is None else path)
        self._identity = self._identify()
        self._removed_at: float | None = None  # by time.monotonic()

    def _identify(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0)
        return (status.st_dev, status.st_ino)

    @property
    def changed_ns(self) -> int:
        """When a file of it was made, replaced or removed, in nanoseconds since 1970; 0 while there is no directory."""
        try:
            return self.path.stat().st_mtime_ns
        except OSError:
            return 0

    def file(self, token: str, suffix: str) -> Path:
        """Return the path of a member's file, such as ``file(token, "log")``."""
        return self.path / f"{token}.{suffix}"

    def socket_path(self, token: str) -> Path:
        """Return where a publisher's socket lies; in a shorter directory where the path would be too long for one."""
        path = self.file(token, "sock")
        if sys.platform == "win32" or len(os.fsencode(path)) <= MAX_SOCKET_PATH:
            return path
        return _private_directory(short_path()) / path.name

    def join(
        self,
        role: Role,
        kind: str,
        *,
        token: str = "",
        title: str = "",
        host: str = "",
        key: str = "",
        origin: str = "",
    ) -> Member:
        """Enter a new member, with its lock held and its intent written.

        Parameters
        ----------
        role
            ``"publisher"``, ``"receiver"``, ``"subscriber"``, ``"recorder"`` or ``"relay"``.
        kind
            The kind of viewer.
        token
            Its token; a new one by default.
        title, host
            What it calls itself, and the software that it runs in.
        key
            Its public CURVE key, where it has one.
        origin
            The token of the publisher on another machine whose frames it publishes.
        """
        entry = Entry(
            token=token or new_token(),
            role=role,
            kind=kind,
            title=title,
            host=host,
            key=key,
            pid=os.getpid(),
            created=psutil.Process().create_time(),
            protocol=PROTOCOL,
            origin=origin,
        )
        return Member(self, entry)

    def entries(self, role: str | None = None, kind: str | None = None) -> list[Entry]:
        """Return all entries, of live and of crashed members, in the order in which they started.

        Raises
        ------
        OSError
            If the directory can't be read, as without a descriptor; where there is none, there are no entries.
        """
        found = []
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - pathlib's glob() hides errors, from Python 3.13 on
        except FileNotFoundError:
            names = []
        # Another process may remove or replace one at any moment; what does not parse belongs to nobody we know.
        for name in names:
            entry = _read_entry(self.path / name) if len(name) == 13 and name.endswith(".json") else None
            if entry is not None and role in (None, entry.role) and kind in (None, entry.kind):
                found.append(entry)
        return sorted(found, key=lambda entry: (entry.created, entry.token))

    def alive(self, token: str) -> bool:
        """Whether the member's lock is held.

        Where the whole directory was removed, all locks went with it, and that says nothing of their holders: they are
        taken to be alive for the seconds that they need to notice, and to enter again (see `Member.write`).
        """
        path = self.file(token, "lock")
        if not os.path.lexists(path):
            return self._was_removed()
        if (held := _is_held(path)) is not None:
            return held
        probe = filelock.FileLock(path, thread_local=False)
        try:
            probe.acquire(timeout=0)
        except (filelock.Timeout, OSError):
            return True
        probe.release()
        return False

    def _was_removed(self) -> bool:
        """Whether the directory was removed just now; another may be in its place already."""
        if (identity := self._identify()) == self._identity:
            return False
        now = time.monotonic()
        if self._removed_at is None or not self.path.is_dir():  # while there is none, nobody can enter again
            self._removed_at = now
        if now - self._removed_at < RETURN_S:
            return True
        self._identity, self._removed_at = identity, None
        return False

    def living(self, role: str | None = None, kind: str | None = None) -> list[Entry]:
        """Return the entries of the members that are alive."""
        return [entry for entry in self.entries(role, kind) if self.alive(entry.token)]

    def keepers(self, entries: Iterable[Entry] | None = None) -> tuple[Entry, ...]:
        """Return those of all entries that are of recorders which keep the last seconds in memory."""
        found = self.entries() if entries is None else entries
        return tuple(each for each in found if each.role == "recorder" and each.host and self.alive(each.token))

    def ask_to_keep(self) -> int:
        """Ask the recorders that keep the last seconds to write them. Return how many there are."""
        asked, now = 0, clock_ns()
        for recorder in self.keepers():
            with suppress(OSError):  # it ends just now
                _add_line(self.file(recorder.token, "keep"), str(now))
                asked += 1
        return asked

    def asked_to_keep(self, token: str) -> int | None:
        """Return when a recorder has been asked to first, since this was called last, by `clock_ns`; None if not."""
        path = self.file(token, "keep")
        if not path.exists():
            return None
        now = clock_ns()
        try:
            asked = [int(line) for line in insist(lambda: _read_regular(path)).split()]
        except (OSError, ValueError):  # it is just being written
            asked = []
        remove(path)
        return min([now, *(moment for moment in asked if moment > 0)])

    def tell_kept(self, recorder: str, told: Sequence[tuple[int, str]]) -> None:
        """Tell who has asked a recorder to keep something what it has written; numbered, the last few."""
        with suppress(OSError):  # they are no more than told
            _write_in_one_step(self.file(recorder, "kept"), self.file(recorder, "keeping"), msgspec.json.encode(told))

    def kept(self, recorder: str) -> list[tuple[int, str]]:
        """Return what a recorder has told last of what it has written; see `tell_kept`."""
        path = self.file(recorder, "kept")
        try:
            return msgspec.json.decode(insist(lambda: _read_regular(path)), type=list[tuple[int, str]])
        except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return []

    def ask_to_rescue(self, viewer: str, asked: Rescue) -> None:
        """Ask a viewer to write what it has of programs that were killed; see `rescued`."""
        for suffix in ("rescued", "rescuing"):
            with suppress(OSError):
                remove(self.file(viewer, suffix))
        _write_in_one_step(self.file(viewer, "rescue"), self.file(viewer, "asking"), msgspec.json.encode(asked))

    def asked_to_rescue(self, viewer: str) -> Rescue | None:
        """Return what a viewer has been asked for since this was called last."""
        path = self.file(viewer, "rescue")
        if not path.exists():
            return None
        try:
            asked = msgspec.json.decode(insist(lambda: _read_regular(path)), type=Rescue)
        except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            asked = None
        remove(path)
        return asked

    def tell_of_rescue(self, viewer: str, rescued: Rescued) -> None:
        """Tell who has asked a viewer what it has written."""
        _write_in_one_step(self.file(viewer, "rescued"), self.file(viewer, "telling"), msgspec.json.encode(rescued))

    def rescued(self, viewer: str, name: str) -> Rescued | None:
        """Return what a viewer has written that was asked by this name; None as long as it has not told."""
        path = self.file(viewer, "rescued")
        try:
            found = msgspec.json.decode(insist(path.read_bytes), type=Rescued)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        if found.name != name:  # it has answered somebody who had given up
            return None
        remove(path)
        return found

    def work_on_rescue(self, viewer: str) -> None:
        """Tell who has asked a viewer that it is writing; to be called again and again."""
        with suppress(OSError):
            self.file(viewer, "rescuing").touch(0o600)

    def worked_on_rescue(self, viewer: str) -> int:
        """Return when a viewer told so last, in nanoseconds since 1970; 0 if it has not."""
        try:
            return self.file(viewer, "rescuing").stat().st_mtime_ns
        except OSError:
            return 0

    def launch_lock(self, kind: str) -> filelock.BaseFileLock:
        """Return the lock under which viewers of a kind are started, so that eight backends start one."""
        return filelock.FileLock(self.path / f"launch-{kind}.lock", thread_local=False)

    def clean(self, *, everything: bool = False) -> Cleaned:
        """Remove leftovers of crashed programs: segments, sockets and files; never those of live members.

        The last frames of a publisher that was killed are kept for ten minutes from when this is called first, where no
        viewer has them and memory is left; `everything` removes them, too.
        """
        cleaned = Cleaned([], [], 0)
        tokens = {path.stem for path in self.path.glob("????????.*") if _TOKEN.match(path.stem)}
        kept = {} if everything else {leftover.entry.token: leftover for leftover in self._to_keep()}
        freed = 0
        for token in sorted(tokens - kept.keys()):
            with self.hold(token) as held:
                if held:
                    freed += self._bury(token, cleaned)
        for leftover in kept.values():
            with suppress(OSError):  # it is there already
                self._marked(leftover.entry.token).touch(0o600, exist_ok=False)
        return cleaned._replace(bytes=freed, kept=tuple(kept.values()))

    def leftovers(self) -> list[Leftover]:
        """Return the rings of publishers that were killed and have frames, the newest first."""
        if sys.platform == "win32":  # where a mapping goes with the process
            return []
        dead = (entry for entry in self.entries("publisher") if not self.alive(entry.token))
        return sorted(filter(None, map(self._leftover, dead)), key=lambda each: -each.newest)

    def _leftover(self, entry: Entry) -> Leftover | None:
        for name in entry.segments:
            if not _belongs(name, entry.token) or own_bytes(name) is None:
                continue
            with suppress(OSError), RingReader(name, entry.token, None) as ring:
                if not ring.newest_ns:
                    continue
                newest = time.time() - (clock_ns() - ring.newest_ns) / 1e9
                try:
                    noticed, is_new = self._marked(entry.token).stat().st_mtime, False
                except OSError:
                    noticed, is_new = time.time(), True
                return Leftover(entry, name, ring.layout.size, newest, noticed + KEEP_S, is_new)
        return None

    def _marked(self, token: str) -> Path:
        """Return the file that tells when a publisher's death was noticed."""
        return self.file(token, "dead")

    def _to_keep(self) -> Iterator[Leftover]:
        if not (leftovers := self.leftovers()):
            return
        viewers = [entry for entry in self.living("receiver") if entry.state == "ready"]
        room, now = MAX_KEPT_BYTES, time.time()
        if (free := free_bytes()) is not None:
            room = min(room, (free + sum(each.bytes for each in leftovers)) // (_KEPT_SHARE + 1))
        for each in leftovers:
            seen = any(viewer.kind == each.entry.kind and viewer.created < each.newest for viewer in viewers)
            copied = each.entry.origin  # from another machine, which has it still
            if not seen and not copied and now < each.until and each.bytes <= room:
                room -= each.bytes
                yield each

    @contextmanager
    def hold(self, token: str) -> Iterator[bool]:
        """Hold what a crashed member has left, so that no other removes it or looks at it; tell whether it is held.

        Afterwards its lock is gone, and what is left without one is a crashed member's still.
        """
        lock = self._take(token)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                _give_up(lock)

    def bury(self, token: str) -> None:
        """Remove what a crashed member has left; to be called while it is held."""
        self._bury(token, Cleaned([], [], 0))

    def _take(self, token: str) -> filelock.BaseFileLock | None:
        """Return a crashed member's lock, held; None if the member is alive, or another process is cleaning up."""
        path = self.file(token, "lock")
        lock = filelock.FileLock(path, thread_local=False)
        try:
            if not _is_regular(path):
                remove(path)
            lock.acquire(timeout=0)
        except (filelock.Timeout, OSError):
            if self.alive(token):
                return None
            try:  # someone was asking whether it lives, which takes a moment
                lock.acquire(timeout=1.0, poll_interval=0.001)
            except (filelock.Timeout, OSError):
                return None
        return lock

    def _bury(self, token: str, cleaned: Cleaned) -> int:
        freed = 0
        entry = _read_entry(self.file(token, "json"))
        for name in entry.segments if entry else ():
            if _belongs(name, token):
                with suppress(OSError):
                    size = own_bytes(name)
                    if size is not None and unlink_segment(name):
                        cleaned.segments.append(name)
                        freed += size
        for suffix in ("sock", "json", "new", "dead", *_KEEP, *_RESCUE):
            with suppress(OSError):  # a directory, which nobody of ours has made
                remove(self.file(token, suffix))
        with suppress(OSError, RuntimeDirectoryError):
            remove(self.socket_path(token))
            remove(self.socket_path(token).with_suffix(".shut"))
        log = self.file(token, "log")
        with suppress(OSError):
            # The log of a viewer that crashed is kept for a day: it is all that tells why.
            status = log.stat()
            if time.time() - status.st_mtime > (LOG_LIFETIME_S if status.st_size else STARTS_S):
                remove(log)
        if entry is not None:
            cleaned.members.append(token)
        return freed


def _belongs(segment: str, token: str) -> bool:
    """Whether a segment of that name is one of this member's."""
    return NAME_PATTERN.match(segment) is not None and segment.split("_")[-2] == token


def _is_regular(path: Path) -> bool:
    """Whether there is a file of ours: no link, no pipe, no directory."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _is_held(path: Path) -> bool | None:
    """Whether a lock is held; None where only taking it can tell (file systems without shared locks)."""
    if not _is_regular(path):
        return False
    try:
        descriptor = insist(lambda: open_shared(path))
    except FileNotFoundError:
        return False
    except OSError:  # no descriptor to be had: nothing speaks for its death
        return True
    try:
        return is_locked(descriptor)
    finally:
        os.close(descriptor)


def _give_up(lock: filelock.BaseFileLock) -> None:
    """Free a lock, and remove its file."""
    path = Path(lock.lock_file)
    if sys.platform == "win32":
        # What is open can't be removed there; nor can it once another holds the lock.
        lock.release()
        with suppress(OSError):
            remove(path)
        return
    # Unlinked while it is held: whoever opened it meanwhile finds that its inode has gone, and retries.
    with suppress(OSError):
        path.unlink(missing_ok=True)
    lock.release()


def display_names(entries: Iterable[Entry], given: Mapping[str, str] = {}) -> dict[str, str]:
    """Return a name for each token; several of one title are told apart: ``"name"``, ``"name (2)"``.

    Publishers and receivers are numbered apart, those of different kinds too, in order of their start. Who has no title
    goes by its kind.

    Parameters
    ----------
    entries
        The members to be named.
    given
        Names that are shown already, by token: a member keeps its own, and no other gets it.

    Examples
    --------
    >>> first, second = (Entry(token=t, role="publisher", kind="napari", title="scope") for t in ("a", "b"))
    >>> display_names([first, second])
    {'a': 'scope', 'b': 'scope (2)'}
    >>> display_names([second], {"b": "scope (2)"})
    {'b': 'scope (2)'}
    """
    members = sorted(entries, key=lambda entry: (entry.created, entry.token))
    # A title that is "scope (2)" by itself keeps that name.
    titles: dict[tuple[str, str], set[str]] = {}
    for entry in members:
        titles.setdefault((entry.role, entry.kind), set()).add(entry.title)
    names = {entry.token: given[entry.token] for entry in members if entry.token in given}
    used: dict[tuple[str, str], set[str]] = {}
    for entry in members:
        if entry.token in names:
            continue
        group = entry.role, entry.kind
        taken = used.setdefault(group, set(given.values()))
        title = entry.title or entry.kind
        name, number = title, 1
        while name in taken or (number > 1 and name in titles[group]):
            number += 1
            name = f"{title} ({number})"
        taken.add(name)
        names[entry.token] = name
    return names


class Member:
    """A publisher or a receiver while it lives: the holder of its lock and its entry.

    A context manager; `close` removes its files.
    """

    def __init__(self, directory: RunDirectory, entry: Entry) -> None:
        self.directory = directory
        self.entry = entry
        self._pid = os.getpid()
        self._writing = threading.Lock()
        self._lock: filelock.BaseFileLock | None = self._acquire()
        self.write()

    def _acquire(self) -> filelock.BaseFileLock:
        lock = filelock.FileLock(self.directory.file(self.token, "lock"), thread_local=False, mode=0o600)
        lock.acquire(timeout=5)
        return lock

    @property
    def token(self) -> str:
        """The token that names its files."""
        return self.entry.token

    @property
    def removed(self) -> bool:
        """Whether another has removed its files; `write` makes them again."""
        return any(not os.path.lexists(self.directory.file(self.token, suffix)) for suffix in ("lock", "json"))

    def write(self) -> None:
        """Write the entry, in one step; after `close` nothing.

        If the directory was removed by another (logind, at logout), it is made again, and the lock taken in it.
        """
        with self._writing:
            if self._lock is None:
                return
            if not self.directory.file(self.token, "lock").exists():
                _private_directory(self.directory.path)
                gone, self._lock = self._lock, self._acquire()
                gone.release()
            self._write()

    def _write(self) -> None:
        target, draft = (self.directory.file(self.token, suffix) for suffix in ("json", "new"))
        _write_in_one_step(target, draft, msgspec.json.format(msgspec.json.encode(self.entry)))

    def close(self) -> None:
        """Remove the member's files and free its lock. Idempotent; does nothing in a forked child."""
        if os.getpid() != self._pid:  # before the lock, which a thread of the parent's may hold for ever here
            return
        with self._writing:
            lock, self._lock = self._lock, None
        if lock is None:
            return
        for path in (self.directory.file(self.token, suffix) for suffix in ("json", "new", *_KEEP, *_RESCUE)):
            with suppress(OSError):
                remove(path)
        if self.entry.role in ("publisher", "relay"):
            with suppress(OSError, RuntimeDirectoryError):
                remove(self.directory.socket_path(self.token))
                remove(self.directory.socket_path(self.token).with_suffix(".shut"))
        _give_up(lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
