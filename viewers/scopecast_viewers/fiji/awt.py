"""Java's classes and its window thread, as the display uses them."""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import jpype

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["invoke_later", "java", "listener"]

logger = logging.getLogger(__name__)


@cache
def java(name: str) -> Any:
    """Return a Java class by its full name."""
    return jpype.JClass(name)


def listener(interface: str, **methods: Callable[..., Any]) -> Any:
    """Return an object of a Java interface, with Python functions as its methods; the others do nothing.

    An exception is written to the log, once for each kind; in Java, it would end what called.
    """
    every = {str(method.getName()) for method in java(interface).class_.getMethods()}
    return jpype.JProxy(interface, dict={name: _guarded(methods.get(name)) for name in every})


_said: set[str] = set()


def _guarded(method: Callable[..., Any] | None) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if method is None:
            return None
        try:
            return method(*arguments)
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            if what not in _said:
                _said.add(what)
                logger.exception("ImageJ was not brought up to date")
            return None

    return call


def invoke_later(work: Callable[[], None]) -> None:
    """Have something done on Java's window thread soon."""
    java("java.awt.EventQueue").invokeLater(listener("java.lang.Runnable", run=work))
