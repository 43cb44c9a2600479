"""What pymmcore-plus says of a sequence and of a frame, in the terms of a stream.

Only attributes and keys are read; nothing of pymmcore-plus or useq is imported. Contracts: pymmcore-plus 0.18
``mda/events/_protocol.py`` (signals) and ``metadata/schema.py`` (``FrameMetaV1``, ``SummaryMetaV1``), useq 0.9.
"""

from __future__ import annotations

import itertools
import math
from collections import UserDict
from typing import TYPE_CHECKING, Any

import numpy as np

from scopecast.frames.axes import short_label, spell_axis
from scopecast.frames.stage import corner_of_frame, usable_affine
from scopecast.frames.streams import MAX_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from scopecast.frames.axes import AxisValue

__all__ = [
    "ChannelNames",
    "announced_plane",
    "corner_on_sensor",
    "corner_on_stage",
    "describe_sequence",
    "elapsed_ms",
    "pixel_affine",
    "pixel_size",
    "place_event",
    "recorded_with",
]

_MOST_NAMES = 64

# ---- frames ----------------------------------------------------------------------------------------------------------


class ChannelNames:
    """The names of a run's channels, each different from the others.

    Micro-Manager's groups may have presets of the same name, and a sequence may have one channel twice, with another
    exposure, say. The first is called by its name, the others by their group or number, too.
    """

    def __init__(self) -> None:
        self._labels: dict[tuple[Any, ...], str] = {}
        self._taken: set[str] = set()
        self._repeated: dict[tuple[Any, ...], list[int]] = {}  # the places in the sequence of what it has twice
        self._seen: dict[tuple[Any, ...], dict[object, int]] = {}  # the indices that events without a sequence have

    def listed(self, sequence: Any) -> list[str]:
        """Return the channels of a ``useq.MDASequence``, in order; one without a name is called by its number."""
        places: dict[tuple[Any, ...], list[int]] = {}
        names = []
        for at, channel in enumerate(getattr(sequence, "channels", None) or ()):
            key = (getattr(channel, "group", None), channel.config)
            same = places.setdefault(key, [])
            same.append(at)
            names.append(self._label(*key, len(same) - 1) if channel.config else self._free(str(at)))
        self._repeated = {key: same for key, same in places.items() if len(same) > 1}
        return names

    def of(self, event: Any, index: object = None) -> str:
        """Return what the channel of a ``useq.MDAEvent`` with an index is called; "" where it has none."""
        channel = getattr(event, "channel", None)
        config = getattr(channel, "config", None)
        if not config:
            return ""
        key = (getattr(channel, "group", None), config)
        nth = 0
        if same := self._repeated.get(key):
            nth = same.index(index) if index in same else 0
        elif getattr(event, "sequence", None) is None and index is not None:
            seen = self._seen.setdefault(key, {})
            nth = seen.setdefault(index, len(seen))
        return self._labels.get((*key, nth)) or self._label(*key, nth)

    def _label(self, group: Any, config: Any, nth: int) -> str:
        key = (group, config, nth)
        if key not in self._labels:
            names = (f"{config} ({nth + 1})",) if nth else (str(config), f"{config} ({group})")
            self._labels[key] = self._free(*names)
        return self._labels[key]

    def _free(self, *names: str) -> str:
        """Return a label that no other channel has: one of some names, or the last of them with a number."""
        numbered = (f"{names[-1]} ({number})" for number in itertools.count(2))
        for name in itertools.chain(names, numbered):
            if (label := short_label(name)) not in self._taken:
                self._taken.add(label)
                return label
        raise AssertionError  # numbers don't end


def place_event(event: Any, metadata: Any = None, channels: ChannelNames | None = None) -> dict[str, AxisValue]:
    """Return the axes of an ``MDAEvent``.

    Parameters
    ----------
    event
        A ``useq.MDAEvent``: its ``index`` maps axes (``useq.Axis`` are strings) to integers, its ``channel`` names
        the channel.
    metadata
        The ``FrameMetaV1``, which names the camera where there are several.
    channels
        What the channels of the run are called; by default each as the event has it.

    Returns
    -------
    dict
        E.g. ``{"t": 3, "c": "DAPI", "z": 7}``; {} for an event without an index.
    """
    axes: dict[str, AxisValue] = {}
    # This runs for each frame. useq's index is a UserDict, whose own items() take longer than all that is done here.
    index = getattr(event, "index", None)
    for name, value in (index.data if isinstance(index, UserDict) else index or {}).items():
        axes[_plain_names.get(name) or _plain_name(name)] = int(value)
    if label := (channels or ChannelNames()).of(event, axes.get("c")):
        axes["c"] = label
    if "cam" in axes and isinstance(metadata, dict) and metadata.get("camera_device"):
        axes["cam"] = short_label(str(metadata["camera_device"]))
    return axes


_plain_names: dict[Any, str] = {}


def _plain_name(axis: Any) -> str:
    """Return the name of an axis as a plain str, cached; useq's names are members of an enumeration."""
    name = spell_axis(str(getattr(axis, "value", axis)))
    if len(_plain_names) < _MOST_NAMES:
        _plain_names[axis] = name
    return name


def corner_on_stage(
    axes: Mapping[str, AxisValue],
    event: Any,
    metadata: Any,
    plane_shape: Sequence[int],
    affine: Sequence[float] | None = None,
) -> tuple[float, ...]:
    """Return where a frame of a position or grid belongs on the canvas.

    Parameters
    ----------
    axes
        As from `place_event`; without a position (``p``) or grid (``g``), frames are not placed.
    event, metadata
        The ``MDAEvent`` and ``FrameMetaV1``. The position that was asked for counts, the same at every time point; one
        that was read with the frame only where none was asked for.
    plane_shape
        (y, x, …) of the frame, in pixels.
    affine
        As from `pixel_affine`.

    Returns
    -------
    tuple of float
        Position (y, x) of the middle of the frame's first pixel in µm, y downwards; () where it is not known.

    Notes
    -----
    See `scopecast.frames.stage.corner_of_frame`.
    """
    if "p" not in axes and "g" not in axes:
        return ()
    size = pixel_size(metadata)
    stage = _stage_position(event, metadata)
    if size is None or stage is None or len(plane_shape) < 2:
        return ()
    return corner_of_frame(stage, (size, size), plane_shape, affine)


def corner_on_sensor(metadata: Any) -> tuple[int, int] | None:
    """Return where the region of the sensor that is read begins, of which frames are.

    Parameters
    ----------
    metadata
        The ``FrameMetaV1``, whose ``camera_metadata`` are Micro-Manager's tags of the image; or the ``SummaryMetaV1``.

    Returns
    -------
    tuple of int or None
        The first pixel (y, x), counted in pixels of the frame, binned ones if so; None where it is not known.
    """
    if not isinstance(metadata, dict):
        return None
    tags, infos = metadata.get("camera_metadata"), metadata.get("image_infos")
    if infos and "roi" not in infos[0]:  # pymmcore-plus leaves out a region that is the whole sensor
        return 0, 0
    try:
        x, y = infos[0]["roi"][:2] if infos else (tags[f"ROI-{axis}-start"] for axis in "XY")  # type: ignore[index]
        return int(y), int(x)
    except (KeyError, TypeError, ValueError):  # not every camera's images have such tags
        return None


def _stage_position(event: Any, metadata: Any) -> tuple[float, float] | None:
    """Return the stage's x and y in µm."""
    x, y = getattr(event, "x_pos", None), getattr(event, "y_pos", None)
    if type(x) is type(y) is float and math.isfinite(x + y):  # nearly every event's
        return x, y
    read = metadata.get("position") if isinstance(metadata, dict) else None
    places = [getattr(event, f"{axis}_pos", None) for axis in "xy"]
    known = [read.get(axis) for axis in "xy"] if None in places and isinstance(read, dict) else places
    x, y = map(_finite, known)
    return None if x is None or y is None else (x, y)


def recorded_with(event: Any, metadata: Any) -> dict[str, float | str] | None:
    """Return what viewers tell of a frame beside its place.

    Parameters
    ----------
    event, metadata
        The ``MDAEvent`` and ``FrameMetaV1``. What was read counts; what was asked for only where nothing was read.

    Returns
    -------
    dict or None
        ``elapsed_s`` since the run began, ``exposure_ms``, the stage's ``x_um``, ``y_um`` and ``z_um``, and the name of
        the ``position``, as far as they are known; None if nothing is.
    """
    read = metadata if isinstance(metadata, dict) else {}
    position = read.get("position")
    stage = position if isinstance(position, dict) else {}
    found = {"exposure_ms": (read.get("exposure_ms"), getattr(event, "exposure", None))}
    found.update({f"{axis}_um": (stage.get(axis), getattr(event, f"{axis}_pos", None)) for axis in "xyz"})
    elapsed = elapsed_ms(read)
    recorded: dict[str, float | str] = {} if elapsed is None else {"elapsed_s": elapsed / 1000}
    for name, values in found.items():
        if value := [number for number in map(_finite, values) if number is not None]:
            recorded[name] = value[0]
    if position := getattr(event, "pos_name", None):
        recorded["position"] = str(position)
    return recorded or None


def pixel_size(metadata: Any) -> float | None:
    """Return the pixel size in µm that a frame's or a sequence's metadata names."""
    if not isinstance(metadata, dict):
        return None
    size = metadata.get("pixel_size_um")
    if size is None:
        infos: Sequence[dict[str, Any]] = metadata.get("image_infos") or ({},)
        size = infos[0].get("pixel_size_um")
    number = _finite(size)
    return number if number and number > 0 else None


def _finite(value: object) -> float | None:
    """Return a finite number of whoever wrote the metadata; None for anything else."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # an int of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def elapsed_ms(metadata: Any) -> float | None:
    """Return the milliseconds from the beginning of its run that a frame's metadata name; None where they name none."""
    return _finite(metadata.get("runner_time_ms")) if isinstance(metadata, dict) else None


def pixel_affine(metadata: Any) -> tuple[float, ...] | None:
    """Return the affine from pixels to µm of the stage that a sequence's summary has, or live mode says.

    Returns
    -------
    tuple of float or None
        (a, b, tx, d, e, ty), as ``CMMCore.getPixelSizeAffine`` gives it. None where it is not set, or cannot be
        inverted.
    """
    if not isinstance(metadata, dict):
        return None
    about: dict[str, Any] = (metadata.get("image_infos") or ({},))[0]
    affine = about.get("pixel_size_affine") or metadata.get("pixel_size_affine")
    return usable_affine(affine, pixel_size(metadata))


# ---- sequences -------------------------------------------------------------------------------------------------------


def announced_plane(metadata: Any) -> tuple[tuple[int, ...], str]:
    """Return the shape and dtype of the frames to come, from pymmcore-plus's summary; ((), "") where it has none."""
    infos = metadata.get("image_infos") if isinstance(metadata, dict) else None
    if not infos:
        return (), ""
    shape = tuple(int(extent) for extent in infos[0].get("plane_shape") or ())
    return shape, str(np.dtype(infos[0].get("dtype") or "uint16"))


def describe_sequence(
    sequence: Any, pixel_size_um: float | None = None, channels: ChannelNames | None = None
) -> dict[str, Any]:
    """Return what is fixed about the frames of an ``MDASequence``, as arguments of ``Publisher.new_stream``.

    Parameters
    ----------
    sequence
        A ``useq.MDASequence``; or None, or one without axes, for a generator of events, of which nothing is known.
    pixel_size_um
        Size of a pixel in µm, if it is known; 0 (what ``CMMCore.getPixelSizeUm`` is without a calibration) is not.
    channels
        What the channels of the run are called; it learns those of the sequence.
    """
    about: dict[str, Any] = {}
    if pixel_size_um:
        about.update(scale=(float(pixel_size_um),) * 2, units="um")
    if not getattr(sequence, "axis_order", True):
        # pymmcore-plus's placeholder for a generator of events, which warns when asked for its sizes.
        return about
    sizes = dict(getattr(sequence, "sizes", None) or {})
    if sizes:
        about["sizes"] = {_plain_name(name): int(size) for name, size in sizes.items() if size}
    if listed := (channels or ChannelNames()).listed(sequence):
        about["channels"] = listed
    # A plan of many wells is made into positions as they are asked for.
    places = itertools.islice(getattr(sequence, "stage_positions", None) or (), MAX_LABELS)
    names = [short_label(str(getattr(place, "name", None) or "")) for place in places]
    if any(names):
        about["positions"] = names
    steps = {"t": _interval(sequence), "z": _z_step(sequence) if pixel_size_um else None}
    if any(steps.values()):
        about["steps"] = {axis: step for axis, step in steps.items() if step}
    return about


def _interval(sequence: Any) -> float | None:
    """Return the seconds between the time points of a sequence; None where they differ, or are not planned."""
    plan = getattr(sequence, "time_plan", None)
    phases = getattr(plan, "phases", None) or (plan,)
    if len(phases) != 1:
        return None
    interval = getattr(phases[0], "interval", None)
    seconds: Any = interval.total_seconds() if interval is not None and hasattr(interval, "total_seconds") else interval
    return float(seconds) if isinstance(seconds, int | float) and 0 < seconds < math.inf else None


def _z_step(sequence: Any) -> float | None:
    """Return the distance between the planes of a sequence's z plan, in µm."""
    plan = getattr(sequence, "z_plan", None)
    step = getattr(plan, "step", None)
    if isinstance(step, int | float) and step:
        return abs(float(step))
    try:
        positions = [float(z) for z in plan or ()]
    except TypeError:
        return None
    return abs(positions[1] - positions[0]) or None if len(positions) > 1 else None
