"""What pymmcore-plus says of a sequence and of a frame, in the terms of a stream.

Only attributes and keys are read; nothing of pymmcore-plus or useq is imported. Contracts: pymmcore-plus 0.18
``mda/events/_protocol.py`` (signals) and ``metadata/schema.py`` (``FrameMetaV1``, ``SummaryMetaV1``), useq 0.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scopecast.axes import AxisValue

__all__ = ["describe_sequence", "place_event"]


def place_event(event: Any) -> dict[str, AxisValue]:
    """Return the axes of an ``MDAEvent``.

    Parameters
    ----------
    event
        A ``useq.MDAEvent``: its ``index`` maps axes (``useq.Axis`` are strings) to integers, its ``channel`` names
        the channel.

    Returns
    -------
    dict
        E.g. ``{"t": 3, "c": "DAPI", "z": 7}``; {} for an event without an index.
    """
    axes: dict[str, AxisValue] = {
        str(getattr(name, "value", name)): int(value)
        for name, value in dict(getattr(event, "index", None) or {}).items()
    }
    channel = getattr(getattr(event, "channel", None), "config", None)
    if channel:
        axes["c"] = str(channel)[:64]
    return axes


def describe_sequence(sequence: Any, pixel_size_um: float | None = None) -> dict[str, Any]:
    """Return what is fixed about the frames of an ``MDASequence``, as arguments of ``Publisher.new_stream``.

    Parameters
    ----------
    sequence
        A ``useq.MDASequence``; or None, or one without axes, for a generator of events, of which nothing is known.
    pixel_size_um
        Size of a pixel in µm, if it is known.
    """
    about: dict[str, Any] = {}
    if pixel_size_um:
        about.update(scale=(float(pixel_size_um),) * 2, units="um")
    if not getattr(sequence, "axis_order", True):
        # pymmcore-plus's placeholder for a generator of events, which warns whoever asks it for its sizes.
        return about
    sizes = dict(getattr(sequence, "sizes", None) or {})
    if sizes:
        about["sizes"] = {str(getattr(name, "value", name)): int(size) for name, size in sizes.items() if size}
    listed = getattr(sequence, "channels", None) or ()
    # One without a name is placed by its number. One that is named twice (in two groups) is one channel here.
    channels = list(dict.fromkeys(str(channel.config)[:64] or str(at) for at, channel in enumerate(listed)))
    if channels:
        about["channels"] = channels
    step = _z_step(sequence)
    if step and pixel_size_um:
        about["steps"] = {"z": step}
    return about


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
