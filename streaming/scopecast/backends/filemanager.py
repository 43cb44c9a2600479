"""One interface to all backends: save, load and show by the name of one backend, or of several."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from scopecast.backends.storage import check_lengths
from scopecast.keywords import known_keywords
from scopecast.protocol import printable
from scopecast.publishing.accounts import Receipt, Skipped

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["FileManager"]

logger = logging.getLogger(__name__)


class FileManager:
    """Saves and loads with one or several backends, chosen by name.

    Several names, ``backend=["disk", "napari_stream"]``, save and show in one call. What keeps files comes first, in
    the order of the names; an error there is raised, and nothing is shown. What cannot be shown then is logged and
    listed in the receipt, and never makes the saving fail. Reading asks each of several in order.

    Parameters
    ----------
    registry
        A `BackendRegistry`, or a plain dict of backends by name.

    Attributes
    ----------
    not_shown : int
        Calls that were saved, but that a viewer's backend failed to show.

    Examples
    --------
    >>> from scopecast import BackendRegistry
    >>> files = FileManager(BackendRegistry())
    >>> files.save("0.65 um", "run/scale.txt", backend="memory")
    >>> files.load("run/scale.txt", backend="memory")
    '0.65 um'
    """

    def __init__(self, registry: Mapping[str, Any]) -> None:
        if not isinstance(registry, Mapping):
            msg = f"a registry is a BackendRegistry() or a dict of backends by name, not {type(registry).__name__}"
            raise TypeError(msg)
        self.registry = registry
        self.not_shown = 0

    # ---- writing -------------------------------------------------------------------------------------------------

    def save(self, data: Any, output_path: str | os.PathLike[str], backend: str | Sequence[str], **options: Any) -> Any:
        """Save (or show) one item.

        Parameters
        ----------
        data
            Whatever the backend takes.
        output_path
            Where it belongs.
        backend
            A name, or several.
        **options
            For the backend; each ignores what it does not know.

        Returns
        -------
        object
            What the backend returns: a `Receipt` where it shows. Of several, a dict of these by name.
        """
        return self._write(backend, "save", [output_path], data, output_path, options)

    def save_batch(
        self,
        data_list: Sequence[Any],
        output_paths: Sequence[str | os.PathLike[str]],
        backend: str | Sequence[str],
        **options: Any,
    ) -> Any:
        """Save (or show) a batch; as `save`, with a path for each item.

        Raises
        ------
        ValueError
            If the lists differ in length; no backend is given anything then.
        """
        check_lengths(data_list, output_paths)
        return self._write(backend, "save_batch", output_paths, data_list, output_paths, options)

    def _write(
        self,
        names: str | Sequence[str],
        method: str,
        paths: Sequence[str | os.PathLike[str]],
        data: Any,
        where: Any,
        options: dict[str, Any],
    ) -> Any:
        if isinstance(names, str):
            return self._writer(names, method, options)(data, where)
        methods = {name: self._writer(name, method, options) for name in _several(names)}
        keeping = [name for name in methods if _keeps(self.registry[name])]
        results = {name: methods[name](data, where) for name in keeping}
        for name in methods:
            if name in results:
                continue
            try:
                results[name] = methods[name](data, where)
            except Exception as error:  # what is saved stays saved; counted
                if not keeping:
                    raise
                self.not_shown += 1
                problem = printable(f"{type(error).__name__}: {error}")
                logger.warning("saved, but %r could not show it: %s", name, problem)
                results[name] = Receipt(skipped=tuple(Skipped(str(path), str(error)) for path in paths))
        return {name: results[name] for name in methods}

    # ---- reading -------------------------------------------------------------------------------------------------

    def load(self, file_path: str | os.PathLike[str], backend: str | Sequence[str], **options: Any) -> Any:
        """Return what was saved under a path; with several backends, from the first that has it.

        Raises
        ------
        FileNotFoundError
            If no backend has it.
        """
        if isinstance(backend, str):
            return self._method(backend, "load")(file_path, **options)
        for name in self._readable(backend):
            if self.registry[name].exists(file_path):
                return self.registry[name].load(file_path, **options)
        msg = f"none of {', '.join(backend)} has {file_path}"
        raise FileNotFoundError(msg)

    def load_batch(
        self, file_paths: Sequence[str | os.PathLike[str]], backend: str | Sequence[str], **options: Any
    ) -> list[Any]:
        """Return what was saved under several paths, in their order; see `load`."""
        if isinstance(backend, str):
            return list(self._method(backend, "load_batch")(file_paths, **options))
        return [self.load(path, backend, **options) for path in file_paths]

    def exists(self, path: str | os.PathLike[str], backend: str | Sequence[str]) -> bool:
        """Whether a backend, or any of several, has a file or a directory of this name."""
        return self._any("exists", path, backend)

    def is_file(self, path: str | os.PathLike[str], backend: str | Sequence[str]) -> bool:
        """Whether a backend, or any of several, has a file of this name."""
        return self._any("is_file", path, backend)

    def is_dir(self, path: str | os.PathLike[str], backend: str | Sequence[str]) -> bool:
        """Whether a backend, or any of several, has a directory of this name."""
        return self._any("is_dir", path, backend)

    def list_files(
        self,
        directory: str | os.PathLike[str],
        backend: str | Sequence[str],
        pattern: str | None = None,
        extensions: Iterable[str] | None = None,
        recursive: bool = False,
        **options: Any,
    ) -> list[str]:
        """Return the paths of the files in a directory, of several backends each once.

        Parameters
        ----------
        directory, backend
            Where to look.
        pattern
            That the file's name must match, such as ``"*_c1_*.tif"``.
        extensions
            One of which its name must end with.
        recursive
            Whether directories within count.
        **options
            For the backend.
        """
        wanted = {"pattern": pattern, "extensions": extensions, "recursive": recursive, **options}
        return self._joined("list_files", directory, backend, wanted)

    def list_dir(self, path: str | os.PathLike[str], backend: str | Sequence[str]) -> list[str]:
        """Return the names of what is in a directory, of several backends each once."""
        return self._joined("list_dir", path, backend, {})

    def _any(self, method: str, path: str | os.PathLike[str], names: str | Sequence[str]) -> bool:
        return any(self._method(name, method)(path) for name in self._readable(names))

    def _joined(
        self, method: str, path: str | os.PathLike[str], names: str | Sequence[str], options: dict[str, Any]
    ) -> list[str]:
        lists = (self._method(name, method)(path, **options) for name in self._readable(names))
        return list(dict.fromkeys(entry for entries in lists for entry in entries))

    def _readable(self, names: str | Sequence[str]) -> list[str]:
        """Return those of the backends that can be read; a single one is returned in any case."""
        return [names] if isinstance(names, str) else [name for name in _several(names) if _keeps(self.registry[name])]

    def _writer(self, name: str, method: str, options: dict[str, Any]) -> Callable[..., Any]:
        """Return a method of a backend with those of the options that it takes; the others are for other backends."""
        found = self._method(name, method)
        takes = getattr(self.registry[name], "save_batch", found)  # names them, where save() hands on to it
        return partial(found, **known_keywords(takes, options))

    def _method(self, name: str, method: str) -> Callable[..., Any]:
        if name not in self.registry:
            msg = f"there is no backend {name!r}; the known ones: {', '.join(sorted(self.registry)) or 'none'}"
            raise KeyError(msg)
        backend = self.registry[name]
        found = getattr(backend, method, None)
        if not callable(found):
            kind = "only reads" if _keeps(backend) else "only shows"
            msg = f"backend {name!r} ({type(backend).__name__}) {kind}: it has no {method}(); name another one"
            raise TypeError(msg)
        return found  # type: ignore[no-any-return]  # backends are of any type


def _keeps(backend: Any) -> bool:
    """Whether a backend has files; others only show them."""
    return callable(getattr(backend, "load", None))


def _several(names: Sequence[str]) -> list[str]:
    unique = list(dict.fromkeys(names))
    if not unique or not all(isinstance(name, str) for name in unique):
        msg = f"backend= takes the name of a backend or a list of names, not {names!r}"
        raise ValueError(msg)
    return unique
