"""Files of the user's configuration that are for this user alone: keys, and who is admitted."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import filelock
import msgspec
import platformdirs

from scopecast.errors import ScopecastError
from scopecast.files import insist, open_shared
from scopecast.rundir.directory import objection

if TYPE_CHECKING:
    from scopecast.protocol import Label

__all__ = ["PrivateFile"]

ENVIRONMENT: Final = "SCOPECAST_CONFIG"
_MOST_BYTES: Final = 2**20

T = TypeVar("T", bound=msgspec.Struct)


def _folder() -> Path:
    """Return the folder of such files, and make it.

    Raises
    ------
    ScopecastError
        If it can't be made, or others may look into it.
    """
    named = os.environ.get(ENVIRONMENT)
    path = (Path(named) if named else platformdirs.user_config_path("scopecast", appauthor=False)) / "remote"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = objection(path) or _replaceable(path)
    except OSError as error:
        problem = f"can't be used: {error.strerror}"
    if problem:
        raise ScopecastError(f"the folder of keys {path} {problem}; or set {ENVIRONMENT} to a folder of yours")
    return path


def _replaceable(path: Path) -> str | None:
    """Return why others can put another folder in the place of one, or None."""
    status = path.parent.stat()
    if sys.platform == "win32" or (status.st_mode & stat.S_ISVTX):
        return None
    if status.st_uid not in (os.getuid(), 0):
        return f"lies in {path.parent}, which belongs to the user {status.st_uid}"
    if status.st_mode & 0o002:
        return f"lies in {path.parent}, where anybody can write (mode {stat.S_IMODE(status.st_mode):o})"
    return None


class PrivateFile:
    """A file of JSON that only this user may read, and that nobody sees half written.

    Parameters
    ----------
    name
        What it is called, without the ending.

    Raises
    ------
    ScopecastError
        If its folder is not private.
    """

    def __init__(self, name: Label) -> None:
        self.path = _folder() / f"{name}.json"

    @property
    def lock(self) -> filelock.BaseFileLock:
        """A lock for who reads the file in order to change it."""
        return filelock.FileLock(self.path.with_suffix(".lock"), mode=0o600)

    @property
    def state(self) -> tuple[int, int]:
        """What changes with each `write`; zeros while there is no file."""
        try:
            status = self.path.stat()
        except OSError:
            return 0, 0
        return status.st_ino, status.st_mtime_ns

    def read(self, kind: type[T]) -> T:
        """Return what is in it; what `kind` is without arguments, if there is no file.

        Raises
        ------
        ScopecastError
            If it is not a file of this user alone, or does not hold such a thing.
        """
        try:
            descriptor = insist(lambda: open_shared(self.path))
        except FileNotFoundError:
            return kind()
        try:
            status = os.fstat(descriptor)
            self._check(status)
            return msgspec.json.decode(os.read(descriptor, _MOST_BYTES), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # What is wrong is told by its place, which has no secrets.
            raise ScopecastError(f"{self.path} is damaged: {error}; restore it, or remove it and begin anew") from error
        finally:
            os.close(descriptor)

    def _check(self, status: os.stat_result) -> None:
        problem = ""
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            problem = "is not a file of ours: remove it"
        elif sys.platform != "win32" and status.st_uid != os.getuid():
            problem = f"belongs to the user {status.st_uid}: remove it"
        elif sys.platform != "win32" and status.st_mode & 0o077:
            problem = (
                f"is open to others (mode {stat.S_IMODE(status.st_mode):o}): 'chmod 600' it, if nobody has used it"
            )
        if problem:
            raise ScopecastError(f"{self.path} {problem}")

    def write(self, value: msgspec.Struct) -> None:
        """Put something in the place of what is in it.

        Raises
        ------
        OSError
            If it can't be written; what was in it stays.
        """
        descriptor, name = tempfile.mkstemp(prefix=f"{self.path.stem}-", dir=self.path.parent)  # mode 0600
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(value)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            insist(lambda: draft.replace(self.path))
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
