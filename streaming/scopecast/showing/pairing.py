"""Which image the regions of interest of a file belong to, by the names of the files."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - the doctests use it
from typing import TYPE_CHECKING, Final, NamedTuple

from scopecast.errors import FileError
from scopecast.frames.axes import axes_from_path, short_label
from scopecast.frames.rois import ROI_EXTENSIONS
from scopecast.images.base import extension_of
from scopecast.images.open import EXTENSIONS
from scopecast.protocol import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scopecast.frames.axes import AxisValue
    from scopecast.frames.streams import FrameStream

__all__ = ["Home", "ShownImages", "has_regions", "pair_up"]

_MOST_NAMES: Final = 100_000


def has_regions(path: Path) -> bool:
    """Whether a file that the user names holds regions of interest: ImageJ's own name for several is RoiSet.zip.

    >>> has_regions(Path("cells.ROI")), has_regions(Path("RoiSet.zip")), has_regions(Path("cells.tif"))
    (True, True, False)
    """
    return extension_of(path) in (*ROI_EXTENSIONS, ".zip")


def _stem(path: Path) -> str:
    """Return a name without its extension.

    >>> _stem(Path("a.ome.tif")), _stem(Path("a.roi.zip"))
    ('a', 'a')
    """
    name = path.name[: len(path.name) - len(extension_of(path))]
    return name[:-4] if name.lower().endswith(".ome") else name


def pair_up(files: Iterable[Path]) -> list[Path]:
    """Return files with the regions after their image: the one of the same name, or else the one before them.

    >>> [str(path) for path in pair_up(map(Path, ["a.roi", "set.zip", "a.tif", "b.tif"]))]
    ['a.tif', 'a.roi', 'b.tif', 'set.zip']
    """
    files = list(files)
    images = [path for path in files if not has_regions(path)]
    homes = {key: path for path in images for key in _keys(path)}
    ordered: list[Path] = []
    behind: dict[Path, list[Path]] = {}
    first: list[Path] = []
    for path in files:
        if not has_regions(path):
            ordered.append(path)
            continue
        home = homes.get((path.absolute().parent, _stem(path))) or (ordered[-1] if ordered else None)
        (behind.setdefault(home, []) if home else first).append(path)
    return [each for path in ordered for each in (path, *behind.get(path, ()))] + first


def _keys(path: Path) -> tuple[tuple[Path, str], tuple[Path, str]]:
    """Return what regions may be called that belong to an image: ``a.roi`` and ``a.tif.roi``."""
    folder = path.absolute().parent
    return (folder, _stem(path)), (folder, path.name)


class Home(NamedTuple):
    """What regions belong to.

    Attributes
    ----------
    axes
        Where they are fixed; they are seen at all positions of other axes.
    stream
        The stream of their image.
    name
        What tells them from other regions of the same stream.
    """

    axes: dict[str, AxisValue]
    stream: FrameStream
    name: str


class _Shown(NamedTuple):
    path: Path
    axes: Mapping[str, AxisValue]
    stream: FrameStream | None  # None where nothing more can be added to it


class ShownImages:
    """The image files that are shown, and where, so that regions of interest find theirs."""

    def __init__(self) -> None:
        self._by_name: dict[tuple[Path, str], _Shown] = {}
        self._folders: dict[tuple[Path, FrameStream], AxisValue] = {}  # a folder's place in a stream
        self._last: _Shown | None = None
        self._named: dict[tuple[FrameStream, tuple[tuple[str, AxisValue], ...]], Path] = {}

    def note(self, path: Path, axes: Mapping[str, AxisValue], stream: FrameStream) -> None:
        """Take note of an image file that is shown at some axes of a stream."""
        self._last = shown = _Shown(path, dict(axes), stream)
        self._remember(shown)
        if "folder" in axes:
            self._folders[path.absolute().parent, stream] = axes["folder"]

    def miss(self, path: Path) -> None:
        """Take note of an image file that can't be shown: its regions belong to no other."""
        self._remember(_Shown(path, {}, None))

    def _remember(self, shown: _Shown) -> None:
        self._by_name.update(dict.fromkeys(_keys(shown.path), shown))
        while len(self._by_name) > _MOST_NAMES:  # a folder is watched for weeks
            del self._by_name[next(iter(self._by_name))]

    def forget(self) -> None:
        """Take note that nothing more can be added to the streams so far."""
        self._by_name = {key: shown._replace(stream=None) for key, shown in self._by_name.items()}
        self._folders.clear()
        self._named.clear()
        self._last = None

    def awaits(self, path: Path) -> bool:
        """Whether an image of the same name lies beside a file of regions, and is not shown."""
        folder, stem = path.absolute().parent, _stem(path)
        if (folder, stem) in self._by_name:
            return False
        beside = (folder / f"{stem}{extension}" for extension in ("", *EXTENSIONS))
        return any(image.is_file() and extension_of(image) in EXTENSIONS for image in beside)

    def home_of(self, path: Path, pattern: str | None) -> Home | None:
        """Return what the regions of a file belong to; None before any image is shown.

        It is the image of the same name. Else the stack of files in which the name of the regions has a place, as that
        of ``img_t003.roi`` beside ``img_t003_c1.tif``. Else the image, or the stack, that was shown last.

        Raises
        ------
        FileError
            If their image is not shown, or nothing more can be added to it.
        """
        folder, stem = path.absolute().parent, _stem(path)
        shown = self._by_name.get((folder, stem))
        if shown is not None and shown.stream is None:
            raise FileError(
                f"its image, {shown.path.name}, is not shown, or was shown too long ago: show both together"
            )
        if shown is not None and shown.stream is not None:
            axes = dict(shown.axes)
            place = (shown.stream, tuple(sorted(axes.items())))
            mine = self._named.setdefault(place, path) == path
            return Home(axes, shown.stream, "" if mine else short_label(printable(path.name), keep_end=True))
        last = self._last
        if last is None or last.stream is None:
            return None
        axes = {}
        if set(last.axes) == {"file"}:  # the images of this stream have nothing to do with each other
            axes = dict(last.axes)
        else:
            named = axes_from_path(printable(path.name), pattern)
            # A name tells a channel as other names do, which a file's own channels are not called by.
            known = set(last.stream.axes) - (set() if "c" in last.axes else {"c"})
            axes = named if set(named) <= known else {}
            if (at := self._folders.get((folder, last.stream))) is not None:
                axes["folder"] = at
        return Home(axes, last.stream, short_label(printable(stem), keep_end=True))
