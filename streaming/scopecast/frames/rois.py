"""Regions of interest of ImageJ: from objects, bytes, ``.roi`` files and ``.roi.zip`` archives, within limits.

The bytes are passed on as they are, so that ImageJ reads exactly what was written; only a viewer that draws them itself
has to understand them (``pip install scopecast[rois]``). An archive is not trusted: it can claim, and hold, a thousand
times its own size. The names in it name regions and are never paths.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scopecast.frames.documents import MAX_DOCUMENT_BYTES, MAX_ROI_BYTES, MAX_ROIS, Rois
from scopecast.protocol import printable

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator, Sequence

__all__ = ["is_roi_path", "read_rois", "rois_document"]

_MAGIC: Final = b"Iout"
_MIN_BYTES: Final = 64
_MAX_NAME: Final = 200
#: An archive with more bytes than this can't hold what fits a document, even if nothing in it is compressed.
_MAX_ARCHIVE: Final = MAX_DOCUMENT_BYTES + MAX_ROIS * 1024


ROI_EXTENSIONS: Final = (".roi", ".roi.zip")
"""What files with regions of interest of ImageJ end with, in lower case; those that are named may be a plain .zip."""


def is_roi_path(path: str) -> bool:
    """Whether a path names regions of interest, by its extension.

    >>> is_roi_path("run/cells.ROI.zip"), is_roi_path("cells.zip")
    (True, False)
    """
    return path.lower().endswith(ROI_EXTENSIONS)


def rois_document(data: Any, fixed: list[str], names: Sequence[str] = ()) -> Rois:
    """Return regions of interest as a document.

    Parameters
    ----------
    data
        One or a list of: objects with ``tobytes()`` (roifile's ``ImagejRoi``), bytes, paths of ``.roi`` files or
        ``.roi.zip`` archives.
    fixed
        The axes at which they are.
    names
        A name for each, in place of those that they have.

    Raises
    ------
    ValueError, TypeError
        If something is no region of interest, or beyond a limit; the text says which.
    OSError
        If a file can't be read.
    """
    found = list(_regions(data))
    if len(found) > MAX_ROIS:
        raise ValueError(f"{len(found)} regions of interest are too many: at most {MAX_ROIS}; publish them in parts")
    if len(names) and len(names) != len(found):
        raise ValueError(f"{len(names)} names for {len(found)} regions of interest: give one for each")
    said = [printable(str(name))[:_MAX_NAME] for name in names] or [name for name, _ in found]
    return Rois(fixed, [item for _, item in found], said)


def _regions(data: Any) -> Iterator[tuple[str, bytes]]:
    if isinstance(data, str | os.PathLike):
        yield from read_rois(data)
    elif isinstance(data, bytes | bytearray | memoryview):
        yield "", _checked(bytes(data), "what was given")
    elif callable(tobytes := getattr(data, "tobytes", None)) and hasattr(data, "roitype"):
        name = printable(str(getattr(data, "name", "") or ""))[:_MAX_NAME]
        yield name, _checked(tobytes(), f"the region {name!r}")
    elif isinstance(data, list | tuple):
        for item in data:
            yield from _regions(item)
    else:
        raise TypeError(
            f"{type(data).__name__} is not a region of interest: pass roifile's ImagejRoi, the bytes of a .roi file, "
            f"a path to .roi or .roi.zip, or a list of these"
        )


def _checked(data: bytes, what: str) -> bytes:
    if len(data) > MAX_ROI_BYTES:
        raise ValueError(
            f"a region of interest of more than {MAX_ROI_BYTES // 1024} KiB: {what}; simplify it, in ImageJ with "
            f"Edit > Selection > Interpolate"
        )
    if len(data) < _MIN_BYTES or data[:4] != _MAGIC:
        raise ValueError(f"not an ImageJ region of interest: {what} has {len(data)} bytes that begin with {data[:4]!r}")
    return data


def read_rois(path: str | os.PathLike[str], called: str | None = None) -> list[tuple[str, bytes]]:
    """Read the regions of interest of a file, each as its name and its bytes.

    Parameters
    ----------
    path
        A ``.roi`` file, or a ``.zip`` archive of them; what else is in that is passed over.
    called
        What errors call it; by default the path.

    Raises
    ------
    ValueError
        If it is none, or beyond a limit (10,000 regions of 64 KiB each).
    OSError
        If it can't be read.
    """
    file_name = os.fspath(path)
    name = file_name if called is None else called
    if not file_name.lower().endswith(".zip"):
        with Path(file_name).open("rb") as file:
            return [(_plain(file_name), _checked(file.read(MAX_ROI_BYTES + 1), name))]
    if (size := Path(file_name).stat().st_size) > _MAX_ARCHIVE:
        raise ValueError(
            f"{name} has {size / 2**20:.0f} MiB: archives of at most {_MAX_ARCHIVE / 2**20:.0f} MiB are read"
        )
    import zipfile

    try:
        with zipfile.ZipFile(file_name) as archive:
            files = [entry for entry in archive.infolist() if not entry.is_dir()]
            # Like ImageJ, which passes over what others put beside the regions: polystore its metadata, for example.
            entries = [entry for entry in files if Path(entry.filename).suffix.lower() in (".roi", "")]
            if files and not entries:
                raise ValueError(f"not an ImageJ region of interest: {files[0].filename[:80]!r} in {name}")
            if len(entries) > MAX_ROIS:
                raise ValueError(f"{name} has {len(entries)} entries: at most {MAX_ROIS} regions of interest are read")
            if (total := sum(entry.file_size for entry in entries)) > MAX_DOCUMENT_BYTES:
                raise ValueError(
                    f"{name} unpacks to {total / 2**20:.0f} MiB: at most {MAX_DOCUMENT_BYTES / 2**20:.0f} MiB are read"
                )
            return [(_plain(entry.filename), _read(archive, entry, name)) for entry in entries]
    # What a damaged archive raises; RuntimeError is that of an encrypted one.
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{name} is not an archive of regions of interest: {error}") from error


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: str) -> bytes:
    what = f"{entry.filename[:80]!r} in {path}"
    if entry.file_size > MAX_ROI_BYTES:
        return _checked(bytes(MAX_ROI_BYTES + 1), what)  # raises
    with archive.open(entry) as file:
        # Whatever size it claims to have: no more than this is ever unpacked.
        return _checked(file.read(MAX_ROI_BYTES + 1), what)


def _plain(name: str) -> str:
    """Return the name of a region from that of its file, wherever that lies."""
    last = re.split(r"[/\\]", name)[-1]
    return printable(last[: -len(".roi")] if last.lower().endswith(".roi") else last)[:_MAX_NAME]
