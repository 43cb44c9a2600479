"""Environment variables that choose a viewer."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["imagej_variables"]


def imagej_variables(fiji: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the variables by which a viewer that is started is a certain ImageJ.

    Parameters
    ----------
    fiji
        The folder of a Fiji (or its launcher), a Maven endpoint, or ``"imagej"`` for plain ImageJ. None leaves it to
        what the variables are now. The viewer says what is wrong with it.

    Examples
    --------
    >>> imagej_variables("sc.fiji:fiji"), imagej_variables(None)
    ({'SCOPECAST_FIJI': 'sc.fiji:fiji'}, {})
    """
    if fiji is None or not os.fspath(fiji):
        return {}
    path = Path(fiji).expanduser()
    return {"SCOPECAST_FIJI": str(path.absolute()) if _is_there(path) else os.fspath(fiji)}


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # in a folder that this user may not look into; the viewer says so
        return True
