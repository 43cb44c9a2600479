"""Channels, colours, pixel sizes and times from OME-XML and ImageJ's metadata.

Schema: OME 2016-06 (``Pixels``: PhysicalSizeX, TimeIncrement; ``Channel``: Name, Color as a signed RGBA integer;
``Plane``: DeltaT, ExposureTime, PositionX; ``AcquisitionDate``). Tags are matched without their namespace, as the year
in it differs from file to file.
"""

from __future__ import annotations

import functools
import hashlib
import html
import itertools
import math
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from xml.etree import ElementTree

import numpy as np

from scopecast.images.sites import Site, as_name, as_stage, distinct_part

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CANVAS",
    "OmeImage",
    "OwnPart",
    "check_text",
    "image_texts",
    "imagej_colors",
    "listed_images",
    "micrometers",
    "own_part",
    "planes_told",
    "read_ome",
    "referred_file",
    "sites_told",
]

_MICROMETERS: Final = {
    **dict.fromkeys(
        ("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer", "micrometers", "micrometre"), 1.0
    ),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-3),
    **dict.fromkeys(("mm", "millimeter", "millimeters"), 1e3),
    **dict.fromkeys(("cm", "centimeter"), 1e4),
    **dict.fromkeys(("m", "meter"), 1e6),
    **dict.fromkeys(("å", "angstrom"), 1e-4),
    "pm": 1e-6,
}
_SECONDS: Final = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "μs": 1e-6, "us": 1e-6, "ns": 1e-9, "min": 60.0, "h": 3600.0}
_WHITE: Final = "#ffffff"
# No pattern goes on beyond the next tag of its kind: the time would grow with the square of a text without ends.
_OWN: Final = re.compile(r"<(?:\w+:)?OME\b[^<>]*?\bUUID\s*=\s*[\"']([^\"'<]+)")
_UUID: Final = re.compile(r"<(?:\w+:)?UUID\b([^<>]*)>([^<]+)<")
_FILE_NAME: Final = re.compile(r"\bFileName\s*=\s*[\"']([^\"'<]+)")
_IMAGE: Final = re.compile(r"<(?:\w+:)?Image\b")
_BLOCK: Final = re.compile(
    r"<(?:\w+:)?TiffData\b[^<>]*+(?:(?<=/)>|>[^<]*+(?:<(?!/?(?:\w+:)?TiffData\b)[^<]*+)*+</(?:\w+:)?TiffData\s*>)"
)
_PLANE: Final = re.compile(
    r"<(?:\w+:)?Plane\b([^<>]*+)(?:(?<=/)>|>[^<]*+(?:<(?!/?(?:\w+:)?Plane\b)[^<]*+)*+</(?:\w+:)?Plane\s*>)"
)
_OF_PLANE: Final = re.compile(r"\b((?:DeltaT|ExposureTime|Position[XYZ])(?:Unit)?|The[TCZ])\s*=\s*[\"']([^\"'<]*)")
_LABEL: Final = re.compile(r"<(?:\w+:)?StageLabel\b([^<>]*)>")
_OF_LABEL: Final = re.compile(r"\b(Name|[XY](?:Unit)?)\s*=\s*[\"']([^\"'<]*)")
_NAME: Final = re.compile(r"\A[^<>]*?\bName\s*=\s*[\"']([^\"'<]*)")
_REFERENCE: Final = re.compile(r"<(?:\w+:)?AnnotationRef\b[^<>]*?\bID\s*=\s*[\"']([^\"'<]+)")
#: By which key an annotation of scopecast's own files tells where on the canvas the first pixel lay: y and x in µm.
CANVAS: Final = "canvas_um"
_CANVAS: Final = re.compile(
    r"<(?:\w+:)?MapAnnotation\b[^<>]*?\bID\s*=\s*[\"']([^\"'<]+)[^<>]*+>\s*+<(?:\w+:)?Value\s*+>\s*+"
    rf"<(?:\w+:)?M\s++K\s*+=\s*+[\"']{CANVAS}[\"']\s*+>([^<]*+)<"
)
_DATE: Final = re.compile(r"<(?:\w+:)?AcquisitionDate\s*>([^<]*)<")
_REFERRED: Final = re.compile(r"<(?:\w+:)?BinaryOnly\b[^<>]*?\bMetadataFile\s*=\s*[\"']([^\"'<]+)")
#: A quarter of a million planes have a text of this size. It is searched, in seconds; what becomes a tree, several
#: times over, has no planes, and blocks for little more than the pages that are there.
_MOST_LETTERS: Final = 1 << 26
_MOST_TAGS: Final = 1 << 20
_MOST_BLOCKS: Final = 10_000
#: Planes of an image that are asked where the stage was, until one says it.
_MOST_LOOKED_AT: Final = 1_000


@dataclass(frozen=True, kw_only=True)
class OmeImage:
    """One ``Image`` of an OME-XML text.

    Attributes
    ----------
    name
        Its name.
    channels, colors, scale, units, steps
        As given in the file; `scopecast.images.about.About` checks them.
    shape, planes
        Pixels (y, x) of a plane, and the number of planes along c, z and t together.
    listed
        How many of them the file is said to hold.
    """

    name: str = ""
    channels: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    scale: tuple[float, float] = (1.0, 1.0)
    units: str = "pixel"
    steps: dict[str, float] = field(default_factory=dict)
    shape: tuple[int, int] = (0, 0)
    planes: int = 0
    listed: int = 0


def micrometers(unit: object) -> float:
    r"""Return the micrometres in a unit of length; 0 for anything else.

    >>> micrometers("nm"), micrometers("\\u00B5m"), micrometers("pixel")
    (0.001, 1.0, 0.0)
    """
    return _MICROMETERS.get(str(unit or "").strip().lower(), 0.0)


def read_ome(xml: str) -> list[OmeImage]:
    """Read the images of an OME-XML text, without their planes; [] if it can't be parsed.

    Parameters
    ----------
    xml
        The text.
    """
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, RecursionError):
        return []
    return [_read_image(image) for image in root if _tag(image) == "Image"]


def image_texts(xml: str) -> list[str]:
    """Return the part of an OME-XML text that is about each image; see `planes_told`."""
    return _IMAGE.split(xml)[1:]


def listed_images(images: list[str]) -> list[str]:
    """Return those of `image_texts` of which a file has planes."""
    return [part for part in images if _BLOCK.search(part)]


@functools.lru_cache(maxsize=1)  # the files of a set, which are read one after the other, all have the same text
def planes_told(image: str) -> dict[tuple[int, int, int], dict[str, float]]:
    """Return when, where and how the planes of an image were recorded, by (t, c, z).

    Returns
    -------
    dict
        As far as it is said: ``elapsed_s`` since the start of the acquisition, ``clock_s`` since 1970, ``exposure_ms``,
        and ``x_um``, ``y_um``, ``z_um`` of the stage. Not to be changed.

    Examples
    --------
    >>> plane = '<Plane TheT="1" TheC="0" TheZ="2" DeltaT="500" DeltaTUnit="ms"/>'
    >>> planes_told(*image_texts(f"<Image><Pixels>{plane}</Pixels></Image>"))
    {(1, 0, 2): {'elapsed_s': 0.5}}
    """
    began = _since_1970(match[1].strip()) if (match := _DATE.search(image)) else None
    planes: dict[tuple[int, int, int], dict[str, float]] = {}
    for plane in _PLANE.finditer(image):
        about = dict(_OF_PLANE.findall(plane[1]))
        where = [about.get(name, "0") for name in ("TheT", "TheC", "TheZ")]
        if all(number.isdecimal() and len(number) < 10 for number in where) and (said := _said_of(about)):
            if began is not None and "elapsed_s" in said:
                said["clock_s"] = began + said["elapsed_s"]
            t, c, z = map(int, where)
            planes[t, c, z] = said
    return planes


@functools.lru_cache(maxsize=1)
def sites_told(images: tuple[str, ...]) -> tuple[Site, ...]:
    """Return where each image was taken, and what its position is called.

    The first plane that says it counts; then the ``StageLabel``. An image without one is called by what tells its name
    from those of the others.

    Parameters
    ----------
    images
        As from `image_texts`.

    Examples
    --------
    >>> plane = '<Plane TheC="0" PositionX="1" PositionXUnit="mm" PositionY="-20" PositionYUnit="µm"/>'
    >>> sites_told((f' Name="run A1"><Pixels>{plane}</Pixels>', ' Name="run A2"><StageLabel Name="left"/>'))
    (Site(stage=(1000.0, -20.0), name='A1', corner=None), Site(stage=None, name='left', corner=None))
    """
    named = distinct_part([html.unescape(match[1]) if (match := _NAME.search(image)) else "" for image in images])
    corners = dict(_CANVAS.findall(images[-1])) if images else {}  # annotations stand behind the images
    return tuple(_site_of(image, name, corners) for image, name in zip(images, named, strict=True))


def _site_of(image: str, name: str, corners: Mapping[str, str]) -> Site:
    stage = None
    for plane in itertools.islice(_PLANE.finditer(image), _MOST_LOOKED_AT):
        said = _said_of(dict(_OF_PLANE.findall(plane[1])))
        if (stage := as_stage(said.get("x_um"), said.get("y_um"))) is not None:
            break
    if (match := _LABEL.search(image)) is not None:
        label = dict(_OF_LABEL.findall(match[1]))
        name = html.unescape(label.get("Name", "")) or name
        factors = [micrometers(_unit(label, axis, "")) if axis in label else 0.0 for axis in "XY"]
        if stage is None and all(factors):
            stage = as_stage(_number(label["X"]) * factors[0], _number(label["Y"]) * factors[1])
    told = [corners[each] for each in _REFERENCE.findall(image) if each in corners] if corners else []
    numbers = [_number(text) for text in told[0].split()] if told else []
    corner = as_stage(numbers[0], numbers[1]) if len(numbers) == 2 else None
    return Site(stage, as_name(name), corner)


def _said_of(plane: Mapping[str, str]) -> dict[str, float]:
    """Return time, exposure and stage position of a plane, by its attributes."""
    factors = {
        "DeltaT": ("elapsed_s", _SECONDS.get(_unit(plane, "DeltaT", "s"), 0.0)),
        "ExposureTime": ("exposure_ms", 1e3 * _SECONDS.get(_unit(plane, "ExposureTime", "s"), 0.0)),
    }
    for axis in "XYZ":
        # A stage position without a unit is in one that OME calls "reference frame", which nobody knows.
        factors[f"Position{axis}"] = (f"{axis.lower()}_um", micrometers(_unit(plane, f"Position{axis}", "")))
    numbers = {name: _number(plane[key]) * factor for key, (name, factor) in factors.items() if factor and key in plane}
    return {name: number for name, number in numbers.items() if math.isfinite(number)}


def _unit(plane: Mapping[str, str], name: str, default: str) -> str:
    return html.unescape(plane.get(f"{name}Unit", default))


def _since_1970(text: str) -> float | None:
    """Return a date and time of ISO 8601 in seconds; one without a zone is of this machine's clock."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def check_text(xml: str) -> None:
    """Raise ValueError for an OME-XML text that is not to be read: it takes too much memory, or has entities."""
    if len(xml) > _MOST_LETTERS:
        raise ValueError(f"its OME-XML has {len(xml) / 2**20:.0f} MiB, more than is read")
    if "<!DOCTYPE" in xml or "<!ENTITY" in xml:  # no OME-XML has any, and a few of them can expand to gigabytes
        raise ValueError("its OME-XML has entities of its own")


def referred_file(xml: str) -> str:
    """Return the name of the file that has the OME-XML of this one, as in Micro-Manager's sets; "" for none."""
    match = _REFERRED.search(xml)
    return re.split(r"[/\\]", match[1])[-1] if match else ""  # a name may lead out of the folder


class OwnPart(NamedTuple):
    """What an OME-XML text says about the file that it is in.

    Attributes
    ----------
    xml
        The text, without the blocks of other files, and without its planes: see `planes_told`.
    recording
        Identifies the set of files that this one belongs to; ``""`` if it belongs to none.
    image, images
        The index in the set of the image that its planes belong to, and the number of images in the set.
    member
        Which of the set's files it is.
    """

    xml: str
    recording: str = ""
    image: int = 0
    images: int = 1
    member: str = ""


def own_part(xml: str, file_name: str, pages: int, *, referred: bool = False) -> OwnPart:
    """Return what an OME-XML text says about its own file.

    Each file of a set lists the planes of all files, and a reader that follows the list opens any file of such a name.

    Parameters
    ----------
    xml
        The text.
    file_name
        The name of the file that it is about.
    referred
        Whether the text is in another file of the set, to which this one refers.
    pages
        The number of pages in the file; a block that claims more planes is limited to one more.

    Raises
    ------
    ValueError
        If the text can't be parsed, or is too large for that.
    """
    xml = _PLANE.sub("", xml)
    named = set(_UUID.findall(xml))
    files = sorted({uuid for _, uuid in named})
    own = match[1] if not referred and (match := _OWN.search(xml)) else ""
    if not own:
        names = ((_FILE_NAME.search(inside), uuid) for inside, uuid in named)
        own = next((uuid for name, uuid in names if name and name[1].lower() == file_name.lower()), "")
    if referred and not own:
        raise ValueError("the file that it refers to does not list it")
    recording, image, images = "", 0, 1
    if len(files) > 1 and own:
        # Only the blocks of this file are parsed: otherwise the time would grow with the square of the number of files.
        listed = listed_images(image_texts(xml))
        images = len(listed)
        image = next((at for at, part in enumerate(listed) if f">{own}<" in part), 0)
        recording = hashlib.sha256("\n".join(files).encode(errors="replace")).hexdigest()
        mine = f">{own}<"
    else:
        mine = ""
    kept = itertools.count()
    xml = _BLOCK.sub(lambda it: it[0] if mine in it[0] and next(kept) < _MOST_BLOCKS + 2 * pages else "", xml)
    if (tags := xml.count("<")) > _MOST_TAGS + 8 * pages:
        raise ValueError(f"its OME-XML has {tags} tags, more than is read")
    return OwnPart(_without_others(xml, own, file_name, pages), recording, image, images, own)


def _without_others(xml: str, own: str, file_name: str, pages: int) -> str:
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, RecursionError) as error:
        raise ValueError(f"its OME-XML is damaged: {error}") from error
    changed = bool(own) and root.get("UUID") != own
    if changed:
        root.set("UUID", own)
    for pixels in (child for image in root if _tag(image) == "Image" for child in image if _tag(child) == "Pixels"):
        for block in [child for child in pixels if _tag(child) == "TiffData"]:
            uuid = next((child for child in block if _tag(child) == "UUID"), None)
            name = "" if uuid is None else uuid.get("FileName", "")
            if uuid is not None and uuid.text != own and (own or name.lower() != file_name.lower()):
                pixels.remove(block)
                changed = True
            elif len(count := block.get("PlaneCount", "")) > 9 or (_whole(count) or 0) > pages + 1:
                block.set("PlaneCount", str(pages + 1))
                changed = True
    return ElementTree.tostring(root, encoding="unicode") if changed else xml


def _read_image(image: ElementTree.Element) -> OmeImage:
    name = image.get("Name", "")
    pixels = next((child for child in image if _tag(child) == "Pixels"), None)
    if pixels is None:
        return OmeImage(name=name)
    sizes = [_length(pixels, axis) for axis in "YXZ"]
    made: dict[str, Any] = {"name": name}
    made["shape"] = (_extent(pixels, "Y"), _extent(pixels, "X"))
    made["planes"] = math.prod(max(1, _extent(pixels, axis)) for axis in "CZT")
    made["listed"] = sum(_listed(child, made["planes"]) for child in pixels if _tag(child) == "TiffData")
    steps: dict[str, float] = {}
    if sizes[0] and sizes[1]:
        made.update(scale=(sizes[0], sizes[1]), units="um")
    if sizes[2]:
        steps["z"] = sizes[2]
    if interval := _number(pixels.get("TimeIncrement")) * _SECONDS.get(pixels.get("TimeIncrementUnit", "s"), 0.0):
        steps["t"] = interval
    channels = [child for child in pixels if _tag(child) == "Channel"]
    if any(channel.get("Name") for channel in channels):
        made["channels"] = tuple(channel.get("Name", "") for channel in channels)
    colors = [_color(channel.get("Color")) for channel in channels]
    # Writers that know no colours make every channel white.
    if any(color not in ("", _WHITE) for color in colors):
        made["colors"] = tuple(colors)
    return OmeImage(**made, steps=steps)


def _tag(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _number(text: str | None) -> float:
    """Return the text as a number; 0 if it is empty or None, NaN if it is not a number."""
    try:
        return float(text or 0.0)
    except ValueError:
        return math.nan


def _extent(pixels: ElementTree.Element, axis: str) -> int:
    """Return the number of pixels or planes along an axis; 0 if it is not a valid number."""
    return _whole(pixels.get(f"Size{axis}", "")) or 0


def _whole(text: str) -> int | None:
    """Return the text as a whole number from 0, in all forms that tifffile takes for one; None if it is none.

    >>> _whole("7"), _whole(" 1_000"), _whole("-1"), _whole("9" * 400)
    (7, 1000, None, None)
    """
    try:
        number = int(text) if len(text) < 40 else -1
    except ValueError:
        return None
    return number if number >= 0 else None


def _listed(block: ElementTree.Element, planes: int) -> int:
    """Return how many planes a ``TiffData`` is about: as many as it says, or the one page that it names, or all."""
    count = _whole(block.get("PlaneCount", ""))
    return count if count is not None else 1 if block.get("IFD") else planes


def _length(pixels: ElementTree.Element, axis: str) -> float:
    """Return a physical size in µm; 0 if there is none."""
    size = _number(pixels.get(f"PhysicalSize{axis}"))
    return size * micrometers(pixels.get(f"PhysicalSize{axis}Unit", "µm"))


def _color(text: str | None) -> str:
    """Return a colour as ``#rrggbb``; OME stores it as a signed integer of red, green, blue and opacity.

    >>> _color("16711935"), _color("-16776961"), _color(None)
    ('#00ff00', '#ff0000', '')
    """
    try:
        value = int(text or "") & 0xFFFFFFFF
    except ValueError:
        return ""
    return f"#{value >> 8:06x}"


def imagej_colors(luts: Any, count: int) -> tuple[str, ...]:
    """Return the colours of ImageJ's lookup tables; "" for tables that are not a ramp from black to one colour.

    Parameters
    ----------
    luts
        ImageJ's metadata "LUTs": arrays of shape (3, 256), uint8.
    count
        The number of channels.
    """
    colors: list[str] = []
    for lut in list(luts if luts is not None else ())[:count]:
        table = np.asarray(lut)
        if table.shape != (3, 256):
            colors.append("")
            continue
        ramp = np.outer(table[:, -1].astype(float), np.linspace(0, 1, 256))
        plain = np.abs(table - ramp).max() <= 2
        colors.append("#{:02x}{:02x}{:02x}".format(*table[:, -1]) if plain else "")
    return tuple(colors) if any(color not in ("", _WHITE) for color in colors) else ()
