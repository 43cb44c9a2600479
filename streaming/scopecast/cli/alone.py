"""Commands of which one at a time makes sense."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import filelock

from scopecast.errors import ScopecastError
from scopecast.rundir.directory import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["alone"]


@contextmanager
def alone(name: str, otherwise: str) -> Iterator[None]:
    """See to it that no other process of this user is in such a block, for as long as this one is.

    Parameters
    ----------
    name
        What it is about.
    otherwise
        What to tell the user if there is another one.

    Raises
    ------
    ScopecastError
        If there is; its text is `otherwise`.
    """
    lock = RunDirectory().launch_lock(re.sub("[^A-Za-z0-9.-]", "_", name)[:80])
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise ScopecastError(otherwise) from None
    try:
        yield
    finally:
        lock.release()
