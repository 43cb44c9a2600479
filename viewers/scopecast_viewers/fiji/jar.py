"""ImageJ's own jar: 2.5 MB from Maven Central, fetched once for each user and checked each time."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

import platformdirs

from scopecast.errors import ViewerStartError

__all__ = ["IMAGEJ_VERSION", "imagej_jar", "kept_jar"]

IMAGEJ_VERSION: Final = "1.54p"
_SHA256: Final = "2e1a09961dfb41cee66ddc821b2577a41a072566ce45a49bae69267099741e20"
_MAVEN: Final = "https://repo1.maven.org/maven2"
_TIMEOUT_S: Final = 20.0
_LIMIT: Final = 64 << 20


def kept_jar() -> Path | None:
    """Return the jar of plain ImageJ if it is in the user's cache; nothing is downloaded."""
    path = _place()
    with contextlib.suppress(OSError):
        if _is_right(path.read_bytes()):
            return path
    return None


def imagej_jar() -> Path:
    """Return the jar of plain ImageJ, from the user's cache if it is there; nothing is downloaded then.

    ``SCOPECAST_MAVEN`` names another server, such as an institute's mirror of Maven Central.

    Raises
    ------
    ViewerStartError
        If it is not there and can't be downloaded; the text says where to put it by hand.
    """
    if kept := kept_jar():
        return kept
    path = _place()
    server = os.environ.get("SCOPECAST_MAVEN", _MAVEN).rstrip("/")
    url = f"{server}/net/imagej/ij/{IMAGEJ_VERSION}/{path.name}"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # https, unless the user named another
            data = answer.read(_LIMIT)
        if not _is_right(data):
            msg = f"the download ({len(data)} bytes) is not ImageJ {IMAGEJ_VERSION}: its SHA-256 differs"
            raise OSError(msg)
        _write(path, data)
    except (OSError, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        msg = (
            f"ImageJ could not be downloaded from {url}: {reason}. It is needed once: try again with a network, or "
            f"download it elsewhere and put it at {path}; or use a Fiji of your own (FIJI_HOME=/path/to/Fiji.app)"
        )
        raise ViewerStartError(msg) from error
    return path


def _place() -> Path:
    return platformdirs.user_cache_path("scopecast") / f"ij-{IMAGEJ_VERSION}.jar"


def _is_right(data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == _SHA256


def _write(path: Path, data: bytes) -> None:
    """Put the file in its place as a whole: others may be doing the same at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
