"""Storage by name: what a backend is, and the registry of those that there are.

A backend is a class that names its ``_backend_type``; that registers it. It keeps files (`StorageBackend`), has some
that it cannot change (`ReadOnlyBackend`), or shows them (`scopecast.StreamingBackend`, which has no `load`).
"""

from __future__ import annotations

import os
import posixpath
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, MutableMapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from importlib.metadata import EntryPoint

__all__ = [
    "BackendRegistry",
    "ReadOnlyBackend",
    "StorageBackend",
    "check_lengths",
    "list_below",
    "posix_name",
    "register_backend",
]

_classes: dict[str, type] = {}
_ENTRY_POINTS = "scopecast.backends"


def register_backend(cls: type) -> None:
    """Register a backend class under the ``_backend_type`` in its own body; without one, do nothing.

    A subclass that only inherits the name is not registered, so that it does not take its parent's place. The same
    class, defined again (a re-run notebook cell, a reloaded module), takes the place of its former self.

    Raises
    ------
    ValueError
        If a class of another module or name has the name already.
    """
    name = cls.__dict__.get("_backend_type")
    if name is None:
        return
    if not isinstance(name, str) or not name:
        msg = (
            f"{cls.__qualname__}._backend_type is {name!r}; it must be a str: the name that the backend is found under"
        )
        raise ValueError(msg)
    known = _classes.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        msg = (
            f"two backends are called {name!r}: {known.__module__}.{known.__qualname__} and "
            f"{cls.__module__}.{cls.__qualname__}; give one of them another _backend_type"
        )
        raise ValueError(msg)
    _classes[name] = cls


# ---- what a backend is -----------------------------------------------------------------------------------------------


class _Readable(ABC):
    """What every backend with files can do; a subclass implements `load`, `exists` and `list_files`."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        register_backend(cls)

    @abstractmethod
    def load(self, file_path: str | os.PathLike[str], **options: Any) -> Any:
        """Return what was saved under a path; raise FileNotFoundError where there is nothing."""

    @abstractmethod
    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file or a directory of this name."""

    @abstractmethod
    def list_files(self, directory: str | os.PathLike[str], **options: Any) -> list[str]:
        """Return the paths of the files in a directory, as `load` takes them.

        Hosts pass `pattern` (such as ``"*_c1_*.tif"``), `extensions` (such as ``{".tif"}``) and `recursive`.
        """

    def load_batch(self, file_paths: Sequence[str | os.PathLike[str]], **options: Any) -> list[Any]:
        """Return what was saved under several paths, in their order."""
        return [self.load(path, **options) for path in file_paths]

    def is_file(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a file of this name."""
        return self.exists(path) and not self.is_dir(path)

    def is_dir(self, path: str | os.PathLike[str]) -> bool:
        """Whether there is a directory of this name."""
        try:
            return bool(self.list_files(path, recursive=True))
        except (FileNotFoundError, NotADirectoryError):  # as a store may say what is no directory
            return False

    def list_dir(self, path: str | os.PathLike[str]) -> list[str]:
        """Return the names of what is in a directory, files and directories."""
        top = posix_name(path)
        below = (posixpath.relpath(posix_name(file), top) for file in self.list_files(path, recursive=True))
        return list(dict.fromkeys(name.partition("/")[0] for name in below))


class ReadOnlyBackend(_Readable):
    """A backend whose files can only be read: a web server, an archive. See `StorageBackend`."""


class StorageBackend(_Readable):
    """A backend that keeps what it is given under a path.

    A subclass gives `save`, `load`, `exists` and `list_files`; the other methods are built on these; override them
    where the store can do better. A class whose own body names a ``_backend_type`` is found in every `BackendRegistry`.

    Examples
    --------
    >>> class Notes(StorageBackend):
    ...     def __init__(self):
    ...         self.files = {}
    ...     def save(self, data, file_path, **options):
    ...         self.files[str(file_path)] = str(data)
    ...     def load(self, file_path, **options):
    ...         return self.files[str(file_path)]
    ...     def exists(self, path):
    ...         return str(path) in self.files or self.is_dir(path)
    ...     def list_files(self, directory, **options):
    ...         return list_below(self.files, directory, **options)
    >>> notes = Notes()
    >>> notes.save_batch(["one", "two"], ["run/a.txt", "run/old/b.txt"])
    >>> notes.list_dir("run"), notes.is_dir("run"), notes.is_file("run/a.txt")
    (['a.txt', 'old'], True, True)
    """

    @abstractmethod
    def save(self, data: Any, file_path: str | os.PathLike[str], **options: Any) -> Any:
        """Store data under a path, replacing what was there; unknown options are ignored."""

    def save_batch(self, data_list: Sequence[Any], file_paths: Sequence[str | os.PathLike[str]], **options: Any) -> Any:
        """Store several items, each under its path.

        Raises
        ------
        ValueError
            If the lists differ in length; nothing is saved then.
        """
        check_lengths(data_list, file_paths)
        for data, path in zip(data_list, file_paths, strict=True):
            self.save(data, path, **options)


def check_lengths(data_list: Sequence[Any], file_paths: Sequence[Any]) -> None:
    """Raise ValueError unless a batch has one path for each item."""
    if len(data_list) != len(file_paths):
        msg = f"{len(data_list)} items, but {len(file_paths)} paths; a batch needs one path for each item"
        raise ValueError(msg)


def posix_name(path: str | os.PathLike[str]) -> str:
    """Return a path as a store without directories names it: normalised, with ``/``."""
    return posixpath.normpath(os.fspath(path).replace("\\", "/"))


def list_below(
    paths: Iterable[str],
    directory: str | os.PathLike[str],
    *,
    pattern: str | None = None,
    extensions: Iterable[str] | None = None,
    recursive: bool = False,
    **_: Any,
) -> list[str]:
    """Return those of the paths that lie in a directory; for the `list_files` of a store without directories.

    Parameters
    ----------
    paths
        All that there are, with ``/`` between their parts.
    directory
        ``""`` or ``"."`` is the topmost.
    pattern
        That the file's name must match, such as ``"*_c1_*.tif"``.
    extensions
        One of which its name must end with, in any case; compound ones such as ``".roi.zip"`` too.
    recursive
        Whether directories within count.

    Examples
    --------
    >>> list_below(["a/1.tif", "a/b/2.TIF", "c/3.tif", "a/4.csv"], "a", extensions={".tif"}, recursive=True)
    ['a/1.tif', 'a/b/2.TIF']
    """
    top = posix_name(directory)
    endings = None if extensions is None else tuple(ending.lower() for ending in extensions)
    found = []
    for path in paths:
        parent, name = posixpath.split(posix_name(path))
        inside = parent == ("" if top == "." else top)
        if recursive:
            inside = inside or top == "." or parent.startswith(f"{top.rstrip('/')}/")
        if inside and fnmatchcase(name, pattern or "*") and (endings is None or name.lower().endswith(endings)):
            found.append(path)
    return sorted(found)


# ---- the registry ----------------------------------------------------------------------------------------------------


class BackendRegistry(MutableMapping[str, Any]):
    """The backends by name: created without arguments when first used, or put in by hand.

    Classes of packages that name them under the entry point ``scopecast.backends`` are found too. As a context manager,
    it closes at the end the backends that it has made.

    Examples
    --------
    >>> registry = BackendRegistry()
    >>> "napari_stream" in registry
    True
    """

    def __init__(self) -> None:
        self._instances: dict[str, Any] = {}
        self._made: list[Any] = []
        self._lock = threading.Lock()

    def __getitem__(self, name: str) -> Any:
        with self._lock:
            if name not in self._instances:
                self._instances[name] = self._make(name)
            return self._instances[name]

    def _make(self, name: str) -> Any:
        if name not in _classes and name in (plugins := _plugins()):
            register_backend(plugins[name].load())
        if name not in _classes:
            msg = f"there is no backend {name!r}; the known ones: {', '.join(sorted(self)) or 'none'}"
            raise KeyError(msg)
        import inspect

        cls = _classes[name]
        needed = [
            parameter.name
            for parameter in inspect.signature(cls).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        ]
        if needed:
            msg = (
                f"{cls.__qualname__} can't be made without arguments ({', '.join(needed)}); make it yourself: "
                f'registry["{name}"] = {cls.__qualname__}({", ".join(needed)})'
            )
            raise TypeError(msg)
        made = cls()
        self._made.append(made)
        return made

    def __setitem__(self, name: str, backend: Any) -> None:
        self._instances[name] = backend

    def __delitem__(self, name: str) -> None:
        del self._instances[name]

    def __contains__(self, name: object) -> bool:
        return name in self._instances or name in _classes or name in _plugins()

    def __iter__(self) -> Iterator[str]:
        return iter({**_classes, **_plugins(), **self._instances})

    def __len__(self) -> int:
        return len({**_classes, **_plugins(), **self._instances})

    def close(self) -> None:
        """Close the backends that the registry created, if they can be closed. Idempotent."""
        while self._made:
            made = self._made.pop()
            self._instances = {name: backend for name, backend in self._instances.items() if backend is not made}
            if callable(close := getattr(made, "close", None)):
                close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _plugins() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # half of what importing scopecast took

    return {point.name: point for point in entry_points(group=_ENTRY_POINTS)}
