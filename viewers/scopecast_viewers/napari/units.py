"""Where streams lie on the one canvas of a napari viewer, whatever units they are in: all lengths are in micrometres.

napari has one unit for all layers of a viewer, and its sliders count steps of the finest layer: 65 nm given in metres
beside 0.65 µm would be ten million times finer.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import pint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scopecast_viewers.receiving.live import LiveStream

__all__ = ["canvas_spacing", "canvas_unit", "corner_on_canvas", "pixel_on_canvas"]

logger = logging.getLogger(__name__)


@lru_cache(maxsize=256)
def _canvas_unit(unit: str) -> tuple[str, float]:
    """Return the unit of the canvas for a unit, and how many of it that is.

    >>> _canvas_unit("nm"), _canvas_unit("pixel"), _canvas_unit("no such unit")
    (('um', 0.001), ('pixel', 1.0), ('pixel', 1.0))
    """
    if unit in ("", "pixel"):
        return "pixel", 1.0
    try:
        one = pint.application_registry.Quantity(1.0, unit)
        two = one * 2  # which degrees Celsius can't be, and neither can napari's canvas be in them
        if two.is_compatible_with("um"):
            return "um", float(f"{one.to('um').magnitude:.12g}")  # not 1000000.0000000001
    except Exception:  # noqa: BLE001 - pint raises many kinds for what it can't read
        logger.info("napari does not know the unit %r; the pixels are shown without one", unit)
        return "pixel", 1.0
    return unit, 1.0


def canvas_unit(stream: LiveStream) -> str:
    """Return the unit in which a stream lies on the canvas: ``"um"`` for all lengths."""
    return _canvas_unit(stream.about.units)[0]


def pixel_on_canvas(stream: LiveStream) -> tuple[float, float]:
    """Return the size (y, x) of a pixel on the canvas, in `canvas_unit`."""
    _, factor = _canvas_unit(stream.about.units)
    y, x = stream.pixel
    return y * factor, x * factor


def canvas_spacing(stream: LiveStream) -> dict[str, float]:
    """Return the distance of the planes along each axis, in `canvas_unit`; 1 where there is none."""
    _, factor = _canvas_unit(stream.about.units)
    given = {name for name, step in zip(stream.about.axes, stream.about.steps, strict=True) if step and name != "t"}
    return {name: step * factor if name in given else step for name, step in stream.spacing.items()}


def corner_on_canvas(stream: LiveStream, translate: Sequence[float]) -> tuple[float, ...]:
    """Return where a frame lies whose ``translate`` this is, (y, x) in `canvas_unit`; () if it does not say."""
    _, factor = _canvas_unit(stream.about.units)
    return tuple(at * factor for at in translate) if len(translate) == 2 else ()
