"""A Fiji on this machine: where its folder is, which jars it has, and how much memory it was given."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING, Final

import psutil

from scopecast.errors import ViewerStartError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["find_fiji", "heap_setting", "jars_of"]

#: What archives unpack to: those of today, and the older ones.
_NAMES: Final = ("Fiji", "Fiji.app")
_UNITS: Final = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def find_fiji(path: Path) -> Path:
    """Return the folder of the Fiji that a path means.

    Parameters
    ----------
    path
        The folder, the one that an archive was unpacked in, the launcher, or something inside of a macOS bundle.

    Returns
    -------
    Path
        The folder that has ``jars`` in it, absolute.

    Raises
    ------
    ViewerStartError
        If there is no Fiji; the text says what there is instead.
    """
    path = path.absolute()
    try:
        if found := next(filter(_has_jars, _around(path)), None):
            return found.resolve()
        raise ViewerStartError(_what_it_is(path))
    except OSError as error:
        msg = f"{error.filename} can't be read ({error.strerror}); ask for permission to read it, or unpack your own"
        raise ViewerStartError(msg) from error


def _around(path: Path) -> Iterator[Path]:
    yield path
    yield from (path / name for name in _NAMES)
    # A launcher lies in the folder, or in the bundle in it: Fiji/Fiji.app/Contents/MacOS/fiji-macos.
    inside = not path.is_dir() or path.name in ("Contents", "MacOS") or path.suffix == ".app"
    yield from path.parents[:4] if inside else ()


def _has_jars(folder: Path) -> bool:
    jars = folder / "jars"
    return jars.is_dir() and any(each.suffix == ".jar" for each in jars.iterdir())  # glob hides what it may not read


def _what_it_is(path: Path) -> str:
    if not path.is_dir():
        return "there is no Fiji around this file; name the folder that has a folder 'jars' in it, or Fiji's launcher"
    entries = sorted(each.name for each in path.iterdir())
    if "ij.jar" in entries:
        return (
            "this is an ImageJ 1 (ij.jar, and no folder 'jars'); name a Fiji, or leave it out for the plain ImageJ "
            "that scopecast brings"
        )
    if not entries:
        return "there is no ImageJ in this folder: it is empty; unpack Fiji into it"
    return "there is no ImageJ in this folder; name the one that has a folder 'jars' in it"


def jars_of(fiji: Path) -> tuple[list[Path], dict[Path, str]]:
    """Return the jars of a Fiji in the order in which classes are looked for, and those that can't be read.

    Java passes over the latter without a word.

    Returns
    -------
    jars : list of Path
        Those in ``jars``, then those in ``plugins``.
    damaged : dict
        What is wrong with each of the others.
    """
    jars: list[Path] = []
    damaged: dict[Path, str] = {}
    for folder in ("jars", "plugins"):
        for jar in sorted((fiji / folder).rglob("*.jar")):
            try:
                with jar.open("rb") as file:
                    whole = zipfile.is_zipfile(file)
            except OSError as error:
                damaged[jar] = error.strerror or str(error)
                continue
            if whole:
                jars.append(jar)
            else:
                damaged[jar] = "damaged, or not downloaded completely"
    return jars, damaged


def heap_setting(fiji: Path) -> int | None:
    """Return the bytes that the user has allowed this Fiji's heap, or None if nothing is written down.

    It is in ``config/jaunch/fiji.cfg`` (``max-heap = 75%``), or, of an older Fiji, in ``ImageJ.cfg``
    (``maxheap.mb = 4096``, or a command line with ``-Xmx4096m``).
    """
    for path in (*sorted((fiji / "config" / "jaunch").glob("*.cfg")), fiji / "ImageJ.cfg"):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if found := re.search(r"^\s*max-heap\s*=\s*['\"]?(\d+)\s*([kmgt%]?)", text, re.MULTILINE | re.IGNORECASE):
            amount, unit = int(found[1]), found[2].lower()
            return psutil.virtual_memory().total * amount // 100 if unit == "%" else amount * _UNITS.get(unit, 1)
        if found := re.search(r"^\s*maxheap\.mb\s*=\s*(\d+)", text, re.MULTILINE):
            return int(found[1]) << 20
        if found := re.search(r"-Xmx(\d+)([kmgt]?)", text, re.IGNORECASE):
            return int(found[1]) * _UNITS.get(found[2].lower(), 1)
    return None
