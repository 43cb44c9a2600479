"""The registry of backends: a class that names its ``_backend_type`` is found under that name."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

__all__ = ["BackendRegistry", "register_backend"]

_classes: dict[str, type] = {}


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
        msg = f"{cls.__qualname__}._backend_type is {name!r}; it is the name to find the backend under, a text"
        raise ValueError(msg)
    known = _classes.get(name)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        msg = (
            f"two backends are called {name!r}: {known.__module__}.{known.__qualname__} and "
            f"{cls.__module__}.{cls.__qualname__}; give one of them another _backend_type"
        )
        raise ValueError(msg)
    _classes[name] = cls


class BackendRegistry(MutableMapping[str, Any]):
    """The backends by name: made without arguments when they are first asked for, or put in by hand.

    Examples
    --------
    >>> registry = BackendRegistry()
    >>> "napari_stream" in registry
    True
    """

    def __init__(self) -> None:
        self._instances: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._instances:
            if name not in _classes:
                msg = f"there is no backend {name!r}; there are {', '.join(sorted(self)) or 'none'}"
                raise KeyError(msg)
            cls = _classes[name]
            try:
                self._instances[name] = cls()
            except TypeError as error:
                msg = f'{cls.__qualname__} needs arguments ({error}); make it yourself: registry["{name}"] = …'
                raise TypeError(msg) from error
        return self._instances[name]

    def __setitem__(self, name: str, backend: Any) -> None:
        self._instances[name] = backend

    def __delitem__(self, name: str) -> None:
        del self._instances[name]

    def __contains__(self, name: object) -> bool:
        return name in self._instances or name in _classes

    def __iter__(self) -> Iterator[str]:
        return iter({**_classes, **self._instances})

    def __len__(self) -> int:
        return len({**_classes, **self._instances})
